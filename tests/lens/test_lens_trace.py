"""Traces: saved and read again to the bit, as a picture, as a page, from Python and from the command line."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest

import pellucid
from pellucid.cli.app import main
from pellucid.errors import CorruptFileError, InputError, PellucidError, RequestError, StoreError
from pellucid.lens import trace as traces
from pellucid.lens.page import program
from pellucid.lens.trace import load_trace
from pellucid.model.build import build
from pellucid.planning.config import ModelConfig
from pellucid.store.checkpoint import save_checkpoint
from pellucid.store.envelope import decode
from pellucid.tokens.train import train_bpe

CONFIG = ModelConfig(
    vocab_size=300, context_length=32, n_layers=2, n_heads=4, n_kv_heads=2, head_dim=8, d_model=32, d_ff=48, init="gpt2"
)
TEXT = "hello $5 你好 </script>"


@pytest.fixture(scope="module")
def model_path(tmp_path_factory):
    path = tmp_path_factory.mktemp("models") / "small"
    tokenizer = train_bpe(["hello world, 你好世界。hello there, 你好 " * 20], 300)
    save_checkpoint(path, config=CONFIG, weights=build(CONFIG, seed=3).state_dict(), tokenizer=tokenizer, info={})
    return path


@pytest.fixture(scope="module")
def trace(model_path):
    return pellucid.trace(pellucid.load(model_path), TEXT)


@pytest.fixture
def built(tmp_path, monkeypatch):
    """A page that is built, as far as a file that holds it can tell."""
    path = tmp_path / "lens.js"
    path.write_text("const a=()=>{},b=()=>{};\nexport{a as mount,b as recordingHost};\n", encoding="utf-8")
    monkeypatch.setattr(program, "BUILT", path)


def test_it_begins_as_generation_would(trace, model_path) -> None:
    lm = pellucid.load(model_path)
    assert trace.ids == (lm.tokenizer.bos_id, *lm.tokenizer.encode(TEXT).ids)
    assert trace.header["text"] == TEXT and trace.axes["n_heads"] == 4
    greedy = lm.complete(TEXT, temperature=0, max_new_tokens=1)
    assert trace.header["next"][0]["id"] == greedy.ids[0]


def test_ids_are_taken_as_they_are(trace, model_path) -> None:
    lm = pellucid.load(model_path)
    ids = [104, 101, 108, 108, 111]  # letters, where the tokenizer would take the whole word
    assert pellucid.trace(lm, ids).ids == tuple(ids)
    np.testing.assert_array_equal(pellucid.trace(lm, trace.ids)["logits"], trace["logits"])


def test_a_notebook_gets_a_live_page_too(model_path, built) -> None:
    pytest.importorskip("anywidget", reason="the extra `notebook` is not installed")
    widget = pellucid.load(model_path).lens(TEXT)
    sent: list[tuple[dict, list[bytes]]] = []
    widget.send = lambda content, buffers=None: sent.append((content, buffers))
    widget._handle_custom_msg({"id": 7, "method": "record", "params": {"at": {}}}, [])
    [(content, [envelope])] = sent
    assert content == {"id": 7} and decode(envelope).value["text"] == TEXT


@pytest.mark.parametrize("suffix", [".plens", ".npz", ".json"])
def test_files_give_back_every_bit(trace, tmp_path, suffix) -> None:
    again = load_trace(trace.save(tmp_path / f"trace{suffix}"))
    assert json.loads(json.dumps(again.header)) == json.loads(json.dumps(trace.header))
    assert list(again.arrays) == list(trace.arrays)
    for name in trace.arrays:
        assert again[name].dtype == np.float32
        np.testing.assert_array_equal(again[name], trace[name])


@pytest.mark.parametrize("suffix, start", [(".png", b"\x89PNG"), (".svg", b"<?xml")])
def test_pictures(trace, tmp_path, suffix, start) -> None:
    picture = trace.save(tmp_path / f"picture{suffix}").read_bytes()
    assert picture.startswith(start)
    if suffix == ".svg":
        assert "hello" in picture.decode("utf-8") and "attention, layer 1" in picture.decode("utf-8")


def test_the_page_in_one_file_holds_the_trace(trace, tmp_path, built) -> None:
    page = trace.save(tmp_path / "trace.html").read_text(encoding="utf-8")
    recording = json.loads(page.split('id="recording">')[1].split("</script>")[0])
    asked = {key.partition("{")[0] for key in recording["answers"]}
    assert {"about", "tree", "record", "labels", "card"} <= asked
    assert "http" not in page.replace("http-equiv", "").replace("http://www.w3.org", "")


def test_a_notebook_gets_a_frame_without_a_server(trace, built) -> None:
    shown = trace._repr_html_()
    assert shown.startswith("<iframe srcdoc=") and "http://" not in shown
    assert len(repr(trace)) < 100


def test_show_opens_a_browser(trace, built, monkeypatch) -> None:
    opened: list[str] = []
    monkeypatch.setattr(traces.webbrowser, "open", opened.append)
    monkeypatch.setitem(sys.modules, "IPython.display", None)
    monkeypatch.delitem(sys.modules, "IPython.display")
    trace.show()
    assert opened[0].startswith("file:///") and opened[0].endswith(".html")


def test_a_page_that_is_not_built_is_told_so(trace, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(program, "BUILT", tmp_path / "nothing.js")
    with pytest.raises(PellucidError, match="not built"):
        trace.save(tmp_path / "trace.html")


def test_a_trace_from_a_file_has_no_page_and_says_so(trace, tmp_path) -> None:
    again = load_trace(trace.save(tmp_path / "trace.plens"))
    with pytest.raises(RequestError, match="read from a file"):
        again.save(tmp_path / "again.html")
    assert again.save(tmp_path / "again.svg").is_file()


def test_wrong_names_are_told_what_is_wrong(trace, tmp_path, monkeypatch) -> None:
    with pytest.raises(RequestError, match="not written like this"):
        trace.save(tmp_path / "trace.pdf")
    with pytest.raises(RequestError, match="no array") as error:
        trace["blocks.1.attention.weight"]
    assert "blocks.1.attention.weights" in error.value.hint
    monkeypatch.setattr(traces, "MOST_JSON", 1000)
    with pytest.raises(RequestError, match="too large for JSON"):
        trace.save(tmp_path / "trace.json")


@pytest.mark.parametrize("suffix", traces.SUFFIXES)
def test_a_place_that_cannot_be_written_is_told(trace, tmp_path, built, suffix) -> None:
    with pytest.raises(StoreError, match="cannot write"):
        trace.save(tmp_path / "nowhere" / f"trace{suffix}")


@pytest.mark.parametrize("name", ["a.plens", "a.npz", "a.json", "a.txt"])
def test_files_that_are_no_trace_are_refused(tmp_path, name) -> None:
    with pytest.raises(InputError):
        load_trace(tmp_path / name)
    (tmp_path / name).write_text('{"header": {}, "arrays": {}}', encoding="utf-8")
    with pytest.raises(CorruptFileError):
        load_trace(tmp_path / name)


def test_the_verb_writes_files_and_tells_of_them(model_path, tmp_path, capsys) -> None:
    files = [str(tmp_path / "t.npz"), str(tmp_path / "t.svg")]
    with pytest.raises(SystemExit) as done:
        main(["trace", str(model_path), TEXT, "--save", files[0], "--save", files[1], "--json", "--device", "cpu"])
    assert done.value.code == 0
    told = json.loads(capsys.readouterr().out)
    assert told["files"] == files and told["header"]["text"] == TEXT
    assert load_trace(files[0]).ids == tuple(chip["id"] for chip in told["header"]["tokens"])


def test_the_verb_sums_up_what_there_is(model_path, capsys) -> None:
    with pytest.raises(SystemExit):
        main(["trace", str(model_path), TEXT, "--device", "cpu"])
    shown = capsys.readouterr().out
    assert "[<bos>]" in shown and "check rows: holds" in shown and "blocks.0.attention.weights" in shown


def test_a_text_beyond_the_context_is_told_so(model_path, capsys) -> None:
    with pytest.raises(SystemExit) as done:
        main(["trace", str(model_path), "hello " * 99])
    assert done.value.code == 5 and "context" in capsys.readouterr().err
