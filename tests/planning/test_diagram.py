"""The drawing of a model tells the whole of it: two models that differ have drawings that differ."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from changed import CHANGES, changed, meaning
from hypothesis import given, settings
from hypothesis import strategies as st

from pellucid.drawing.flow import FlowBox, Repeat, texts
from pellucid.errors import ModelError
from pellucid.planning.config import ModelConfig
from pellucid.planning.diagram import draw_diagram
from pellucid.planning.presets import PRESETS, preset
from pellucid.settings import flatten, setting, setting_names

FAMILIES = (  # one preset of each
    "gpt2", "llama3-8b", "mistral-7b", "mixtral-8x7b", "qwen3-0.6b", "gemma2-2b", "gemma3-270m", "smollm3-3b", "bert-base",
    "roberta-base", "modernbert-base", "transformer-base", "t5-small", "xlnet-base",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class LaterConfig(ModelConfig):
    """As `ModelConfig` may be one day."""

    experts: int = setting(0, "feed-forwards to choose from")


def drawn(config: ModelConfig) -> list[str]:
    return [*texts(draw_diagram(config, "x"))]


def boxes(config: ModelConfig, column: int = 0) -> list[list[str]]:
    """The titles of what stands on the stream; of blocks, those of each branch and `+`, then those behind it."""
    found: list[list[str]] = []
    for part in draw_diagram(config, "x").columns[column].parts:
        if isinstance(part, FlowBox):
            found.append([part.title])
        else:
            for branch in part.branches:
                found.append([*(box.title for box in branch.boxes), "+", *(box.title for box in branch.after)])
    return found


def lines(config: ModelConfig, title: str, column: int = 0) -> tuple[str, ...]:
    """The lines of the first box of that name."""
    for part in draw_diagram(config, "x").columns[column].parts:
        inside = [box for branch in part.branches for box in branch.boxes] if isinstance(part, Repeat) else [part]
        for box in inside:
            if box.title == title:
                return box.lines
    raise AssertionError(f"no box {title}")


def test_every_axis_that_there_is_has_other_values_to_try() -> None:
    assert {*CHANGES} >= {*setting_names(ModelConfig), *(axis for one in PRESETS.values() for axis, _ in flatten(one))}


@pytest.mark.parametrize("axis", CHANGES)
def test_an_axis_that_changes_a_model_changes_its_drawing(axis: str) -> None:
    """In every family that may have it; and some family may."""
    noticed = 0
    for config in map(preset, FAMILIES):
        for other in changed(config, axis):
            if meaning(other) != meaning(config):
                noticed += 1
                assert drawn(other) != drawn(config), (axis, config, other)
    assert noticed


@settings(max_examples=40)
@given(st.data())
def test_of_models_with_any_axes_no_two_have_one_drawing(data: st.DataObject) -> None:
    config = data.draw(st.sampled_from([ModelConfig.from_axes(n_layers=5), *PRESETS.values()]))
    for axis in data.draw(st.lists(st.sampled_from([*CHANGES]), max_size=8)):
        config = data.draw(st.sampled_from([config, *changed(config, axis)]))
    axis = data.draw(st.sampled_from([*CHANGES]))
    for other in changed(config, axis):
        assert (drawn(other) == drawn(config)) == (meaning(other) == meaning(config)), (axis, config, other)


def test_a_model_with_an_axis_that_is_not_drawn_is_refused() -> None:
    with pytest.raises(ModelError, match="does not know this axis") as caught:
        draw_diagram(LaterConfig(experts=4), "later")
    assert "experts=4" in str(caught.value)


def test_norms_stand_where_the_model_has_them() -> None:
    norm, attention, forward = "RMSNorm", "self-attention", "feed-forward"
    config = ModelConfig()
    ends = [[norm], ["head"]]
    assert boxes(config) == [["embedding"], [norm, attention, "+"], [norm, forward, "+"], *ends]
    around = [["embedding"], [norm, attention, norm, "+"], [norm, forward, norm, "+"], *ends]
    assert boxes(config.revise(**{"norm.placement": "around"})) == around
    after = [["embedding"], [attention, "+", norm], [forward, "+", norm], ["head"]]
    assert boxes(config.revise(**{"norm.placement": "after"})) == after


def test_a_decoder_beside_an_encoder_reads_it_between_its_own_two_branches() -> None:
    flow, norm = draw_diagram(preset("t5-small"), "t5-small"), "RMSNorm"
    assert [column.title for column in flow.columns] == ["encoder", "decoder"]
    assert boxes(preset("t5-small")) == [
        ["embedding"],
        [norm, "self-attention", "+"],
        [norm, "feed-forward", "+"],
        [norm],
    ]
    assert boxes(preset("t5-small"), 1)[2] == [norm, "cross-attention", "+"]
    reading = [
        box.title for part in flow.columns[1].parts if isinstance(part, Repeat)
        for branch in part.branches for box in branch.boxes if box.reads_beside
    ]  # fmt: skip
    assert reading == ["cross-attention"]
    assert "sees the whole row" in lines(preset("t5-small"), "self-attention")
    assert "sees itself and all before" in lines(preset("t5-small"), "self-attention", 1)


def test_queries_pass_through_the_blocks_of_the_content_and_read_it() -> None:
    flow, attention, forward = draw_diagram(preset("xlnet-base"), "x"), "self-attention", "feed-forward"
    assert [column.title for column in flow.columns] == ["content", "queries"]
    both = [[attention, "+", "LayerNorm"], [forward, "+", "LayerNorm"]]
    assert boxes(preset("xlnet-base")) == [["embedding"], *both]
    assert boxes(preset("xlnet-base"), 1) == [["question"], *both, ["head"]]
    content, asked = (lines(preset("xlnet-base"), attention, column) for column in (0, 1))
    assert "sees itself and what is known before it" in content and "sees what is known before it" in asked
    assert asked[0] == "reads keys and values of the content"


def test_what_is_read_off_a_whole_row_is_drawn_with_its_labels() -> None:
    beside = "beside the stream: a vector for the whole row"
    labelled = preset("bert-base").revise(**{"pooler.labels": ("good", "bad"), "pooler.pairs": True})
    assert lines(labelled, beside) == (
        "the first token's vector",
        "activation tanh",
        "768 → 768",
        "with biases",
        "two scores: whether the second part follows the first",
        "scores for 2 labels: good, bad",
    )
    vectors = ModelConfig.from_axes(head={"tokens": False})
    assert boxes(vectors)[-1] == ["RMSNorm"] and draw_diagram(vectors, "x").columns[0].end == "a vector for each token"


def test_what_differs_from_block_to_block_is_told_with_its_blocks() -> None:
    assert lines(preset("gemma2-2b"), "self-attention")[2:4] == (
        "blocks 0, 2, …, 24: sees itself and 4,095 before",
        "blocks 1, 3, …, 25: sees itself and all before",
    )
    assert lines(preset("modernbert-base"), "self-attention")[1:5] == (
        "blocks 0, 3, …, 21: sees the whole row",
        "all blocks but 0, 3, …, 21: sees 64 to each side",
        "blocks 0, 3, …, 21: queries and keys rotated, base 160,000",
        "all blocks but 0, 3, …, 21: queries and keys rotated, base 10,000",
    )
    assert "blocks 3, 7, …, 35: queries and keys are not rotated" in lines(preset("smollm3-3b"), "self-attention")
    some = ModelConfig.from_axes(
        n_layers=3,
        feed_forward={"kind": "relu", "experts": {"count": 4, "active": 2, "width": 9, "layers": (1,)}},
    )
    assert lines(some, "experts in some blocks, feed-forward in others") == (
        "activation ReLU",
        "blocks 0, 2: 128 → 384 → 128",
        "block 1: a router sends each token to 2 of 4 experts",
        "block 1: their shares sum to 1",
        "block 1: 128 → 9 → 128",
    )


def test_the_figures_of_a_drawing_are_those_of_the_model() -> None:
    assert lines(preset("gpt2"), "embedding") == (
        "50,257 tokens, each 768 wide",
        "+ a learned vector for each of 1,024 places",
    )
    assert lines(preset("qwen3-30b-a3b"), "experts") == (
        "gate SwiGLU",
        "a router sends each token to 8 of 128 experts",
        "their shares sum to 1",
        "2,048 → 768 → 2,048",
    )
    assert lines(preset("llama3-8b"), "head") == ("a table of its own, 128,256 × 4,096",)
