"""`pellucid plan --draw`: the drawing in a terminal, in a pipe, as a picture and as JSON."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from rich.cells import cell_len

from pellucid.cli.flow_text import write_flow
from pellucid.drawing.flow import retold, texts
from pellucid.planning.diagram import draw_diagram
from pellucid.planning.presets import preset
from pellucid.words.catalogue import say

SMALL = """\
micro: a decoder

up to 32 token ids
   │
┌──┴────────────────────────────────────┐
│ embedding                             │
│ 258 tokens, each 16 wide              │
└──┬────────────────────────────────────┘
╔══╧══ 1 block ═════════════════════════╗
║  ├──┐                                 ║
║  │ ┌┴───────────────────────────────┐ ║
║  │ │ self-attention                 │ ║
║  │ │ 2 heads of 8                   │ ║
║  │ │ they share 1 key/value head    │ ║
║  │ │ RMSNorm on each query and key  │ ║
║  │ │ sees itself and all before     │ ║
║  │ │ queries and keys rotated, base │ ║
║  │ │ 10,000                         │ ║
║  │ │ scores q · k / √8              │ ║
║  │ └┬───────────────────────────────┘ ║
║  +◄─┘                                 ║
║ ┌┴──────────────────────────────────┐ ║
║ │ LayerNorm                         │ ║
║ └┬──────────────────────────────────┘ ║
║  ├──┐                                 ║
║  │ ┌┴───────────────────────────────┐ ║
║  │ │ feed-forward                   │ ║
║  │ │ activation ReLU²               │ ║
║  │ │ 16 → 32 → 16                   │ ║
║  │ └┬───────────────────────────────┘ ║
║  +◄─┘                                 ║
║ ┌┴──────────────────────────────────┐ ║
║ │ LayerNorm                         │ ║
║ └┬──────────────────────────────────┘ ║
╚══╤════════════════════════════════════╝
┌──┴────────────────────────────────────┐
│ head                                  │
│ the embedding's table again           │
└──┬────────────────────────────────────┘
   ▼
a score for each of 258 tokens

norms: 1e-06 is added to the variance
weights start: zero_projections
"""
AXES = ("n_layers=1", "norm=layer", "norm.placement=after", "feed_forward=relu2")


@pytest.fixture
def narrow(monkeypatch):
    monkeypatch.setenv("COLUMNS", "41")


def test_what_is_set_is_what_is_drawn(run, narrow):
    code, out, _ = run("plan", "micro", "--draw", *(word for axis in AXES for word in ("--set", axis)))
    assert (code, out) == (0, SMALL)


def columns(lines: list[str], signs: str) -> set[int]:
    """The columns of a terminal in which one of these signs stands."""
    return {cell_len(line[:place]) for line in lines for place, sign in enumerate(line) if sign in signs}


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("width", [20, 41, 71, 80, 200])
@pytest.mark.parametrize("name", ["t5-small", "modernbert-base"])
def test_every_line_fits_and_every_frame_closes(name, width, language):
    flow = retold(draw_diagram(preset(name), name), lambda text: say(language, "screen", text))
    lines = [*write_flow(flow, width)]
    assert max(map(cell_len, lines)) <= max(width, 30)
    assert columns(lines, "║╝╚") <= columns(lines, "╔╗") and columns(lines, "┘└") <= columns(lines, "┐┌")
    told = "".join(lines).replace(" ", "")
    for text in {*texts(flow)} - {column.title for column in flow.columns}:  # those only stand where there are two
        assert text.replace(" ", "")[:8] in told


def test_an_encoder_beside_a_decoder_has_an_arrow_to_what_reads_it():
    lines = [*write_flow(draw_diagram(preset("t5-small"), "t5-small"), 80)]
    [reading] = [line for line in lines if "cross-attention" in line]
    [end] = [line for line in lines if line.startswith("what it makes of the source")]
    assert "┌───╫──│►│ cross-attention" in reading and end[28:38] == "─" * 10 and "┘" in end
    place = reading.index("┌───╫")
    assert end.index("┘") == place
    assert all(line[place] == "│" for line in lines[lines.index(reading) + 1 : lines.index(end)])
    stacked = [*write_flow(draw_diagram(preset("t5-small"), "t5-small"), 60)]
    assert stacked.index("encoder") < stacked.index("decoder")


def test_a_picture_is_written_beside_the_text_and_its_words_are_the_language_asked_for(run, tmp_path):
    code, out, err = run("plan", "--depth", 1, "--draw", "--out", tmp_path, "--lang", "zh")
    assert code == 0 and "自注意力" in out and err.count("depth-1.") == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["depth-1.png", "depth-1.svg"]
    written = (tmp_path / "depth-1.svg").read_text(encoding="utf-8")
    assert ">自注意力<" in written or ">self-attention<" in written  # English where no font here has Chinese letters


def test_a_program_gets_the_description(run):
    drawn = json.loads(run("plan", "gpt2", "--draw", "--json").out)
    [column] = drawn["columns"]
    assert [part["title"] for part in column["parts"]] == ["embedding", "12 blocks", "LayerNorm", "head"]
    assert column["parts"][1]["branches"][0]["boxes"][1]["look"] == "mix"


def test_a_place_for_the_drawing_needs_a_drawing(run, tmp_path):
    code, out, err = run("plan", "gpt2", "--out", tmp_path)
    assert (code, out) == (2, "") and "add --draw" in err
    file = tmp_path / "file"
    file.write_text("")
    assert run("plan", "gpt2", "--draw", "--out", file).code == 4


def test_drawing_a_preset_loads_no_torch():
    code = "import sys; from pellucid.cli.app import root; root.main(['plan', 't5-small', '--draw'], standalone_mode=False)"
    script = f"{code}\nassert 'torch' not in sys.modules and 'matplotlib' not in sys.modules"
    subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, cwd=Path(__file__).parent)
