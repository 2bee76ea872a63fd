"""The inside of the model as a person looks at it: the logit lens, attention and feed-forward, beside the dispatch's own numbers."""

from __future__ import annotations

import re

import numpy as np
import pytest

from pellucid.store.envelope import arrays_of

AT = {"node": 0, "checkpoint": None}
PANELS = {"text", "vectors", "logitLens", "attention", "feedForward", "chances", "draw", "loop", "why", "training"}


def open_panel(lens, page, key: str, **address: object):
    """The page at a place, with one panel of the inside open and the others closed."""
    place = "".join(f"&{name}={value}" for name, value in address.items())
    others = ",".join(sorted(PANELS - {key}))
    page.goto(f"{lens.url}#language=en&mode=lab&closed={others}{place}")
    panel = page.locator(f"[data-panel={key}]")
    panel.scroll_into_view_if_needed(timeout=60_000)  # a busy machine may be slow to make the page
    return panel


def arrays(lens, method: str, **params: object) -> dict[str, np.ndarray]:
    return dict(arrays_of(lens.ask(method, at=AT, **params)))


def shown_number(text: str) -> float:
    return float(text.replace("−", "-").replace("∞", "inf").rstrip(" %"))


def test_the_logit_lens_shows_the_readings_of_every_row(lens, page) -> None:
    panel = open_panel(lens, page, "logitLens", token=2)
    panel.locator("td.cell button").first.wait_for()
    answer = lens.ask("logit_lens", at=AT, count=40)
    read = dict(arrays_of(answer))
    rows = panel.locator("tbody tr")
    assert rows.count() == len(answer.value["rows"]) == 7
    top = rows.first.locator("td.cell")  # the last row stands on top
    for column in (0, 2, answer.value["count"] - 1):
        label, figure = top.nth(column).locator("span").all_inner_texts()
        assert label.strip() == answer.value["labels"][str(read["top"][-1, column])].strip()
        assert shown_number(figure) == pytest.approx(100 * read["chance"][-1, column], rel=0.06)
    panel.get_by_label("Show").select_option("next_rank")
    assert top.nth(2).locator(".figure").inner_text() == f"#{int(read['next_rank'][-1, 2])}"
    assert "equals the model's logits" in panel.inner_text()


def test_the_logit_lens_is_walked_by_arrow_keys(lens, page) -> None:
    panel = open_panel(lens, page, "logitLens", token=2)
    chosen = panel.locator("td.cell button[aria-pressed=true]")
    chosen.focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowRight")
    panel.get_by_role("heading", name=re.compile("2 · after attention")).wait_for()
    assert page.locator("section.bar [aria-selected=true]").get_attribute("data-position") == "3"
    assert "layer=2" in page.url


def test_a_second_sentence_grows_apart(lens, page) -> None:
    panel = open_panel(lens, page, "logitLens")
    panel.get_by_role("textbox", name="a second sentence").fill("the mat sat")
    panel.get_by_role("button", name="Compare").click()
    panel.locator("svg circle").first.wait_for()
    assert panel.locator("svg circle").count() == 7
    apart = panel.get_by_text(re.compile(r"Cosine .* at the input"))
    last = len(lens.ask("record", at=AT).value["tokens"]) - 1
    other = lens.ask("tokens", text="the mat sat").value["chips"]
    ids = [chip["id"] for chip in other]
    mine = lens.ask("record", at=AT).value["tokens"][last]["id"]
    position = len(ids) - 1 - ids[::-1].index(mine) if mine in ids else len(ids) - 1
    found = arrays(lens, "logit_lens.apart", text="the mat sat", position=last, other_position=position)
    first = re.search(r"Cosine (\S+) at the input", apart.inner_text())[1]
    assert shown_number(first) == pytest.approx(float(found["cosine"][0]), abs=0.006)


def test_the_mask_is_a_score_and_the_weight_follows(lens, page) -> None:
    panel = open_panel(lens, page, "attention", token=3, layer=1, head=2)
    readout = panel.locator("figcaption")
    panel.get_by_text("mask", exact=True).click()
    cells = panel.get_by_role("group", name=re.compile("head 2 of layer 1"))
    cells.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")  # from the key before the query to the one after it
    panel.get_by_text("−∞ (masked)").first.wait_for()
    panel.get_by_text("comes later than").wait_for()
    found = arrays(lens, "attention.row", layer=1, head=2, query=3)
    assert np.isneginf(found["score"][4]) and found["weight"][4] == 0
    page.keyboard.press("ArrowLeft")
    panel.get_by_text("softmax", exact=True).click()
    readout.get_by_text(re.compile("%")).wait_for()
    assert shown_number(readout.locator(".num").inner_text()) == pytest.approx(float(found["weight"][3]), rel=1e-3)


def test_heads_are_drawn_in_the_groups_that_share_a_key(lens, page) -> None:
    panel = open_panel(lens, page, "attention")
    panel.locator(".group").first.wait_for()
    groups = [group.locator("button").count() for group in panel.locator(".group").all()]
    assert groups == [2, 2]
    page.keyboard.press("4")
    assert panel.locator(".group button").nth(3).get_attribute("aria-pressed") == "true"


def test_a_head_writes_its_mix_through_the_output_matrix(lens, page) -> None:
    panel = open_panel(lens, page, "attention", token=3, layer=1, head=0)
    panel.get_by_text("W_O", exact=True).click()
    found = lens.ask("attention.row", at=AT, layer=1, head=0, query=3).value
    written = panel.get_by_text("what the head writes").locator(".num")
    assert shown_number(written.inner_text()) == pytest.approx(found["output_norm"], rel=1e-3)


def test_a_neuron_tells_what_it_pushes_and_can_be_switched_off(lens, page) -> None:
    panel = open_panel(lens, page, "feedForward", token=3, layer=1)
    strongest = lens.ask("neurons", at=AT, layer=1, position=3, count=10, by="value").value["top"][0]
    panel.get_by_role("heading", name=f"Neuron {strongest['index']} of layer 1").wait_for()
    neuron = lens.ask("neuron", at=AT, layer=1, index=strongest["index"], position=3, count=8).value
    labels = panel.locator("section.card .label").all_inner_texts()
    assert [label.strip() for label in labels[:8]] == [end["label"].strip() for end in neuron["promotes"]]
    panel.get_by_role("switch").check()
    panel.get_by_text("The prediction after the last token").first.wait_for()
    assert panel.get_by_role("alert").count() == 0
