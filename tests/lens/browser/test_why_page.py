"""Vectors and reasons as a person sees them: every figure read off the screen is the dispatch's own."""

from __future__ import annotations

import numpy as np
import pytest

from pellucid.store.envelope import arrays_of

AT = {"node": 0, "checkpoint": None}
PANELS = {"text", "vectors", "logitLens", "attention", "feedForward", "chances", "draw", "loop", "why", "training"}


def open_panel(lens, page, key: str, **address: object):
    """The page at a place, with one panel open and the others closed."""
    place = "".join(f"&{name}={value}" for name, value in address.items())
    page.goto(f"{lens.url}#language=en&mode=lab&closed={','.join(sorted(PANELS - {key}))}{place}")
    panel = page.locator(f"[data-panel={key}]")
    panel.scroll_into_view_if_needed()
    return panel


def number(text: str) -> float:
    return float(text.replace("−", "-").rstrip(" %"))


def part(panel, title: str):
    """A part of the panel by the beginning of its heading."""
    return panel.locator("section.stack").filter(has=panel.page.get_by_role("heading", name=title)).last


def test_the_row_is_read_cell_by_cell(lens, page) -> None:
    panel = open_panel(lens, page, "vectors", token=3)
    row = part(panel, "The row of")
    row.locator("canvas").wait_for()
    embed_D = dict(arrays_of(lens.ask("vectors", at=AT, position=3)))["embed"]
    slider = row.get_by_role("slider")
    slider.focus()
    for dimension in range(4):
        assert number(row.locator(".value .num").inner_text()) == pytest.approx(embed_D[dimension], rel=1e-3)
        page.keyboard.press("ArrowRight")


def test_the_map_finds_tokens_and_their_neighbours(lens, page) -> None:
    panel = open_panel(lens, page, "vectors", token=3)
    places = part(panel, "A map of the vocabulary")
    places.get_by_placeholder("Search for a token").fill("cat")
    found = places.get_by_role("button", name="·cat", exact=True).first
    found.click()
    labels = lens.ask("labels").value["labels"]
    near = lens.ask("neighbours", id=labels.index("·cat"), checkpoint=None).value["neighbours"]
    places.get_by_role("heading", name="Nearest to “·cat”").wait_for()
    rows = places.locator("ol li")
    assert rows.count() == len(near)
    for row, one in zip(rows.all(), near, strict=True):
        assert row.locator("button").first.inner_text().strip() == one["label"].strip()
        assert number(row.locator(".num").inner_text()) == pytest.approx(one["cosine"], abs=6e-4)
    places.get_by_role("button", name="3D").click()
    places.get_by_text("These 3 axes hold").wait_for()


def test_turned_pairs_pass_their_check(lens, page) -> None:
    panel = open_panel(lens, page, "vectors", token=3, layer=1, head=2)
    hands = part(panel, "Pairs as turning hands")
    hands.get_by_text("blocks.1.attention.query[2,3]").first.wait_for()
    assert hands.locator("figure").count() == 4  # pairs of a head of width 8
    assert "✓" in hands.inner_text()


def test_a_head_taken_out_moves_the_chances(lens, page) -> None:
    panel = open_panel(lens, page, "why", layer=1, head=2)
    ablate = part(panel, "Take a part out")
    rows = ablate.locator("table").first.locator("tbody tr")
    rows.first.wait_for()
    told = lens.ask("why.ablate", at=AT, kind="head", layer=1, index=2, how="zero").value
    assert rows.count() == len(told["rows"]) + 1  # and one for all others
    for row, one in zip(rows.all(), told["rows"]):
        before, after = (number(text) for text in row.locator(".num").all_inner_texts())
        assert before == pytest.approx(100 * one["before"], rel=0.06)
        assert after == pytest.approx(100 * one["after"], rel=0.06)


def test_tokens_carry_their_share_and_the_row_shows_it(lens, page) -> None:
    panel = open_panel(lens, page, "why")
    tokens = part(panel, "Which tokens")
    chips = tokens.locator("ol.chips li")
    chips.first.wait_for()
    scores = lens.ask("why.occlude", at=AT).value["scores"]
    assert chips.count() == len(scores)
    for chip, score in zip(chips.all(), scores, strict=True):
        assert number(chip.locator(".num").inner_text()) == pytest.approx(-score, rel=0.06, abs=1e-4)
    tokens.get_by_role("checkbox").check()
    strongest = int(np.argmax(np.abs(scores)))
    chip = page.locator(f"section.bar [data-position='{strongest}']")
    assert "rgb(" in (chip.get_attribute("style") or "")
    assert "not an explanation" in panel.inner_text()


def test_parts_add_up_on_screen(lens, page) -> None:
    panel = open_panel(lens, page, "why")
    parts = part(panel, "Which parts wrote it?")
    parts.locator(".chart .num").first.wait_for()
    figures = [number(text) for text in parts.locator(".chart .num").all_inner_texts()]
    total = lens.ask("why.contrast", at=AT).value["total"]
    assert sum(figures) == pytest.approx(total, abs=0.01 * len(figures))


def test_a_second_text_is_taken_over_cell_by_cell(lens, page) -> None:
    panel = open_panel(lens, page, "why")
    patch = part(panel, "Take over from a second text")
    patch.get_by_role("textbox", name="Second text").fill("你好, the mat sat")
    patch.get_by_role("button", name="Compare").click()
    grid = patch.locator("table").first
    grid.locator("button").first.wait_for()
    answer = lens.ask("why.sweep", at=AT, text="你好, the mat sat", site="residual")
    effects = dict(arrays_of(answer))["effects"]
    assert grid.locator("tbody tr").count() == len(effects) == 4
    corner = grid.locator("tbody tr").last.locator("button").last
    assert number(corner.get_attribute("aria-label").rpartition(": ")[2]) == pytest.approx(effects[-1, -1], abs=0.006)
    corner.click()
    result = patch.locator("table").nth(1).locator("tbody tr").first
    result.wait_for()
    _, after = (number(text) for text in result.locator(".num").all_inner_texts())
    assert after == pytest.approx(number(result.locator("td").last.inner_text()), rel=0.06)  # the second text's own
