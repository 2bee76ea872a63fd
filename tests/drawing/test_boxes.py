from __future__ import annotations

import re

import pytest

from pellucid.drawing.boxes import MOST_COLUMNS, MOST_ROWS, Box, BoxLook, Panel, draw_boxes
from pellucid.errors import InputError

LEGEND = {look: look.value for look in BoxLook}


def panel(columns: int, title: str = "") -> Panel:
    signs = (Box(start=i, end=i + 1, level=0, text="a", look=BoxLook.SIGN) for i in range(columns))
    whole = Box(start=0, end=columns, level=1, text="$x 人\U0010fffd", note="1,024", look=BoxLook.RESULT)
    return Panel(title=title, boxes=(*signs, whole))


def draw(path, panels):
    return [one.read_bytes() for one in draw_boxes(panels, title="t", legend=LEGEND, path_without_suffix=path)]


def test_equal_boxes_give_equal_files_as_narrow_as_a_telephone(tmp_path):
    panels = [panel(12, "one"), panel(3), panel(4), panel(1)]
    first, second = (draw(tmp_path / name, panels) for name in ("a", "b"))
    assert first == second and first[1].startswith(b"\x89PNG")
    width, height = re.search(rb'width="([\d.]+)pt" height="([\d.]+)pt"', first[0]).groups()
    assert float(width) == pytest.approx(12 * 0.42 * 72)  # columns of 0.42 inches
    assert float(height) == pytest.approx(
        (0.9 + 2 * (0.34 + 2 * 0.36)) * 72
    )  # the three short panels stand side by side


def test_only_looks_that_occur_are_in_the_legend(tmp_path):
    drawn = draw(tmp_path / "x", [panel(2)])[0]
    assert b"<!-- sign -->" in drawn and b"<!-- rival -->" not in drawn


@pytest.mark.parametrize("panels", [[], [panel(12)] * (MOST_ROWS + 1), [panel(MOST_COLUMNS + 1)]])
def test_nothing_and_too_much_are_errors(tmp_path, panels):
    with pytest.raises(InputError):
        draw(tmp_path / "x", panels)
    assert not list(tmp_path.iterdir())
