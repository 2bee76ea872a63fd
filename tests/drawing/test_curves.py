from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pellucid.drawing.curves import LABEL_GAP, draw_curves, spread
from pellucid.errors import InputError

SERIES = {"right": [(0, 3.0), (1, 2.0), (2, 1.5)], "wrong": [(0, 3.0), (1, 2.2), (2, 1.6)]}
LABELS = {"title": "loss", "x_label": "step", "y_label": "nats"}


def test_equal_curves_give_equal_files(tmp_path):
    first, second = (
        [path.read_bytes() for path in draw_curves(SERIES, **LABELS, path_without_suffix=tmp_path / name / "loss")]
        for name in ("a", "b")
    )
    assert first == second
    assert first[0].startswith(b"<?xml") and first[1].startswith(b"\x89PNG")


def test_both_files_are_named_after_the_path(tmp_path):
    paths = draw_curves(SERIES, **LABELS, path_without_suffix=tmp_path / "step-0.5")
    assert [path.name for path in paths] == ["step-0.5.svg", "step-0.5.png"]


def test_a_dot_a_level_line_and_a_hole_can_be_drawn(tmp_path):
    series = {"dot": [(1.0, 1.0)], "level": [(0, 1.0), (2, 1.0)], "hole": [(0, 1.0), (1, math.nan), (2, math.inf)]}
    assert all(path.stat().st_size for path in draw_curves(series, **LABELS, path_without_suffix=tmp_path / "x"))


@pytest.mark.parametrize("series", [{}, {"empty": []}, {"broken": [(0, math.nan)]}])
def test_nothing_to_draw_is_an_error(tmp_path, series):
    with pytest.raises(InputError):
        draw_curves(series, **LABELS, path_without_suffix=tmp_path / "x")


@given(st.lists(st.floats(0, 1), max_size=9).map(sorted))
def test_names_never_overlap_and_keep_their_order(places):
    moved = spread(places, LABEL_GAP)
    assert all(after - before >= LABEL_GAP - 1e-9 for before, after in pairwise(moved))
    assert all(new >= old for new, old in zip(moved, places, strict=True))
