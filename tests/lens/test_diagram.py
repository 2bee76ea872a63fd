"""The drawing of the model on the page: the words of `pellucid plan --draw`, placed for narrow and wide pages."""

from __future__ import annotations

import re
import zlib
from functools import partial

import pytest
from lens_families import FAMILIES, TOKENIZER, family, models_of
from scrambled import scrambled

from pellucid.drawing.flow import retold, texts
from pellucid.lens.diagram import NARROW, WIDE
from pellucid.lens.dispatch import Dispatch
from pellucid.planning.diagram import draw_diagram
from pellucid.planning.presets import preset
from pellucid.store.envelope import encode
from pellucid.words.catalogue import say

MOST_BYTES = 8_000  # of the answer, compressed: a page in a file holds it


def two_streams() -> Dispatch:
    """XLNet, of which the panels show nothing else."""
    sizes = {
        "n_layers": 2,
        "d_model": 24,
        "n_heads": 4,
        "n_kv_heads": 4,
        "head_dim": 6,
        "d_ff": 31,
        "context_length": 48,
    }
    config = preset("xlnet-base").revise(vocab_size=TOKENIZER.vocab_size + 2, **sizes)
    return Dispatch(models_of(scrambled(config), TOKENIZER))


@pytest.mark.parametrize("name", [*FAMILIES, "xlnet"])
def test_the_page_has_every_word_of_the_drawing_and_a_place_for_it(name) -> None:
    lens = two_streams() if name == "xlnet" else family(name)
    answer = lens.answer("diagram", {})
    flow = draw_diagram(lens.config, "scrambled")
    for language in ("en", "zh"):
        told = answer.value[language]
        said = [*texts(retold(flow, partial(say, language, "screen")))]
        titles = [column["title"] for column in told["columns"]]
        heard = [
            told["title"],
            *titles,
            *(word for column in told["columns"] for word in walk(column["steps"])),
            *told["notes"],
        ]
        assert sorted(heard) == sorted(said)
        assert [layout["width"] for layout in told["layouts"]] == ([WIDE] if len(flow.columns) > 1 else []) + [NARROW]
        for layout in told["layouts"]:
            written = "".join(mark["text"] for mark in layout["marks"] if mark["kind"] == "flowwords")
            shown = [text for text in said if len(flow.columns) > 1 or text not in titles]
            assert sorted(re.sub(r"\s", "", written)) == sorted(re.sub(r"\s", "", "".join(shown)))
            for mark in layout["marks"]:
                if mark["kind"] == "area":
                    assert mark["left"] >= 0 and mark["left"] + mark["width"] <= layout["width"]
                    assert mark["top"] >= 0 and mark["top"] + mark["height"] <= layout["height"]
    assert len(re.findall("[\u4e00-\u9fff]", str(answer.value["zh"]["columns"]))) > 50
    assert len(zlib.compress(encode(answer), 9)) < MOST_BYTES


def walk(steps: list[dict]) -> list[str]:
    """Titles and lines in their order; a branch has no title of its own."""
    return [
        word
        for step in steps
        for word in ([step["title"]] if step["title"] else []) + step["lines"] + walk(step["steps"])
    ]


def test_a_branch_stands_within_its_block_and_a_norm_behind_the_sum_after_it() -> None:
    columns = family("bert").answer("diagram", {}).value["en"]["columns"]
    blocks = next(step for step in columns[0]["steps"] if step["title"] == "2 blocks")
    assert [step["title"] for step in blocks["steps"]] == [None, "LayerNorm", None, "LayerNorm"]
    assert [step["title"] for step in blocks["steps"][0]["steps"]] == ["self-attention"]
