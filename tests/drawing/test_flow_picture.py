from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest

from pellucid.drawing.flow import Branch, Column, FlowBox, FlowChart, FlowLook, Repeat, retold, texts
from pellucid.drawing.flow_picture import (
    BETWEEN,
    MARGIN,
    WIDTH,
    Area,
    FlowWords,
    Line,
    Paper,
    Placed,
    draw_flow,
    paper_of,
    place,
)
from pellucid.words.wrapping import wrap

NORM = FlowBox(title="norm", look=FlowLook.NORM)
READER = FlowBox(title="cross", lines=("12 heads",), look=FlowLook.MIX, reads_beside=True)
ONE = Column(
    title="left", start="ids", parts=(NORM, Repeat(title="6 blocks", branches=(Branch(boxes=(NORM,)),))), end="out"
)
TWO = Column(
    title="right", start="ids", parts=(Repeat(title="6 blocks", branches=(Branch(boxes=(NORM, READER), after=(NORM,)),)),),
    end="scores",
)  # fmt: skip
BESIDE = FlowChart(title="$x: both", columns=(ONE, TWO), notes=("a note 注释",))


def words_of(svg: bytes) -> tuple[str, ...]:
    texts = ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")
    return tuple("".join(text.itertext()) for text in texts)


def line_to(placed: Placed, end: str) -> list[Line]:
    return [mark for mark in placed.marks if isinstance(mark, Line) and mark.end == end]


def test_equal_flows_give_equal_files_as_narrow_as_a_telephone_whose_words_are_words(tmp_path):
    one, two = (
        [path.read_bytes() for path in draw_flow(BESIDE, fold=wrap, path_without_suffix=tmp_path / name)]
        for name in "ab"
    )
    assert one == two and one[1].startswith(b"\x89PNG")
    assert re.search(rb'width="360pt"', one[0])
    assert words_of(one[0]) == place(BESIDE, fold=wrap, paper=paper_of(BESIDE)).words


@pytest.mark.parametrize("flow", [BESIDE, FlowChart(title="one", columns=(ONE,))])
def test_every_word_is_there_once_and_nothing_leaves_the_picture(flow):
    placed = place(flow, fold=wrap, paper=paper_of(flow))
    said = [text for text in texts(flow) if len(flow.columns) == 2 or text != "left"]
    assert sorted(placed.words) == sorted(said)
    for mark in placed.marks:
        if isinstance(mark, Area):
            assert mark.left >= MARGIN and mark.left + mark.width <= WIDTH - MARGIN + 1e-9
            assert 0 < mark.top < mark.top + mark.height < placed.height
        elif isinstance(mark, FlowWords):
            assert MARGIN <= mark.left < WIDTH and 0 < mark.top < placed.height


def test_a_branch_ends_in_a_sum_and_a_reader_has_an_arrow_from_the_end_beside_it():
    placed = place(BESIDE, fold=wrap, paper=paper_of(BESIDE))
    sums = line_to(placed, "sum")
    assert len(sums) == 2  # one branch in each column
    assert all(line.corners[-1][1] == line.corners[-2][1] and line.corners[-1][0] < line.corners[0][0] for line in sums)
    across = [line for line in line_to(placed, "arrow") if line.corners[0][0] < WIDTH / 2 < line.corners[-1][0]]
    out, cross = (
        next(mark for mark in placed.marks if isinstance(mark, FlowWords) and mark.text == text)
        for text in ("out", "cross")
    )
    assert len(across) == 1
    assert across[0].corners[0][1] == pytest.approx(out.top + placed.size * 0.66)
    assert across[0].corners[-1][1] == pytest.approx(cross.top + placed.size * 0.66)


def test_columns_one_above_the_other_are_joined_on_their_left():
    paper = Paper(width=200.0, size=9.0, stacked=True)
    placed = place(BESIDE, fold=wrap, paper=paper)
    boxes = [mark for mark in placed.marks if isinstance(mark, Area)]
    assert {mark.left for mark in boxes if mark.look is None} == {MARGIN + BETWEEN}
    assert all(mark.left + mark.width <= paper.width - MARGIN + 1e-9 for mark in boxes)
    place_of = {mark.text: mark for mark in placed.marks if isinstance(mark, FlowWords)}
    [across] = [line for line in line_to(placed, "arrow") if len(line.corners) == 4]
    assert place_of["left"].top < place_of["out"].top < place_of["right"].top < place_of["cross"].top
    assert across.corners[0][0] < place_of["out"].left and across.corners[1][0] == MARGIN + BETWEEN / 2
    assert across.corners[-1][1] == pytest.approx(place_of["cross"].top + placed.size * 0.66)
    assert max(mark.top for mark in boxes) < placed.height and sorted(placed.words) == sorted(texts(BESIDE))


def test_long_words_are_broken_and_make_their_box_higher():
    long = FlowBox(title="norm", lines=("word " * 40,), look=FlowLook.NORM)
    flow = FlowChart(title="t", columns=(Column(title="", start="ids", parts=(long,), end="out"),))
    placed = place(flow, fold=wrap, paper=paper_of(flow))
    [box] = [mark for mark in placed.marks if isinstance(mark, Area)]
    inside = [
        mark for mark in placed.marks if isinstance(mark, FlowWords) and box.top < mark.top < box.top + box.height
    ]
    assert len(inside) >= 4 and " ".join(mark.text for mark in inside).split() == ["norm", *["word"] * 40]


def test_a_flow_can_be_told_in_other_words():
    told = retold(BESIDE, lambda text: f"<{text}>")
    assert [*texts(told)] == [f"<{text}>" for text in texts(BESIDE)]
    assert told.columns[1].parts[0].branches[0].boxes[1].reads_beside
