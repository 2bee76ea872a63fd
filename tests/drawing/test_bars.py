from __future__ import annotations

import re

import pytest

from pellucid.drawing.bars import can_write, draw_bars
from pellucid.errors import InputError

GROUPS = ["Latin letters", "Chinese characters"]
SERIES = {"one": [0.25, 1.5], "costs $5": [0.5, None]}
LABELS = {"title": "tokens", "x_label": "for each character"}


def test_equal_bars_give_equal_files_as_narrow_as_a_telephone(tmp_path):
    first, second = (
        [path.read_bytes() for path in draw_bars(GROUPS, SERIES, **LABELS, path_without_suffix=tmp_path / name)]
        for name in ("a", "b")
    )
    assert first == second and first[1].startswith(b"\x89PNG")
    assert re.search(rb'width="360pt"', first[0])


@pytest.mark.parametrize(("groups", "series"), [([], SERIES), (GROUPS, {})])
def test_nothing_to_draw_is_an_error(tmp_path, groups, series):
    with pytest.raises(InputError):
        draw_bars(groups, series, **LABELS, path_without_suffix=tmp_path / "x")


def test_letters_that_no_font_has_are_known():
    assert can_write("Latin") and not can_write("\U0010fffd")
