"""The page on models of other families: hidden tokens, experts and sources as a person sees them, and nothing drawn as it is not."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from lens_families import classifier, family

from pellucid.lens.dispatch import Dispatch
from pellucid.lens.page import program
from pellucid.lens.page.server import Server, build_app, open_door


@contextmanager
def served(lens: Dispatch) -> Iterator[str]:
    """The address of a lens in memory, served in a thread."""
    opened, door = threading.Event(), open_door()
    server = Server(build_app(lens, door, page=program.BUILT), opened.set)
    server.force_exit = True
    thread = threading.Thread(target=server.run, kwargs={"sockets": [door.socket]}, daemon=True)
    thread.start()
    assert opened.wait(20)
    yield door.url
    server.should_exit = True
    thread.join(20)
    door.socket.close()


def at_of(lens: Dispatch) -> dict[str, Any]:
    return {"node": lens.branches.start, "checkpoint": None}


@pytest.mark.parametrize(("language", "width"), [("en", 1200), ("zh", 390)])
def test_a_model_that_sees_both_sides_is_shown_as_such(page, settle, language, width) -> None:
    lens = family("bert")
    with served(lens) as url:
        page.set_viewport_size({"width": width, "height": 900})
        page.goto(f"{url}#language={language}&mode=lab")
        settle(page)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert not page.locator(".error").count()
        text = page.locator("body").inner_text()
        assert not re.search(r"\[[a-z]\w*\.[\w.]+\]", text)  # a text that the catalogue lacks
        refused = page.locator("[role=note]").all_inner_texts()
        assert len(refused) == 1 and {"en": "from both sides", "zh": "前后两边"}[language] in refused[0]
        why = page.locator("[data-panel=why]").inner_text()
        assert {"en": "Each gate of its activation", "zh": "激活函数的每个门"}[language] in why
        selected = page.locator("section.bar [aria-selected=true]")
        place = lens.answer("record", {"at": at_of(lens)}).value["predicted"]
        assert selected.get_attribute("data-position") == str(place)
        attention = page.locator("[data-panel=attention]")
        assert {"en": "Every token sees every other", "zh": "没有掩码"}[language] in attention.inner_text()
        for word in {"en": ("Next token", "next token after"), "zh": ("下一个词元：",)}[language]:
            assert word not in text


def test_experts_are_a_table_of_where_each_token_went(page, settle) -> None:
    lens = family("mixtral")
    told = lens.answer("experts", {"at": at_of(lens), "layer": 1})
    with served(lens) as url:
        page.goto(f"{url}#language=en&mode=lab&layer=1")
        panel = page.locator("[data-panel=feedForward]")
        panel.scroll_into_view_if_needed()
        panel.locator("tbody td").first.wait_for()
        rows = panel.locator("section > .scroll tbody tr").all()
        assert len(rows) == len(lens.ids(lens.branches.start))
        for token, row in enumerate(rows):
            cells = row.locator("td").all_inner_texts()
            for place, cell in enumerate(cells):
                number, share = re.fullmatch(r"expert (\d+)\s+([\d.]+) %", cell.strip()).groups()
                assert int(number) == told.arrays["chosen"][token, place]
                assert float(share) == pytest.approx(100 * told.arrays["counts"][token, place], abs=0.06)


def test_an_output_looks_at_its_source(page, settle) -> None:
    lens = family("t5")
    source, ids = lens.source(lens.branches.start), lens.ids(lens.branches.start)
    with served(lens) as url:
        page.goto(f"{url}#language=en&mode=lab")
        settle(page)
        assert not page.locator(".error").count()
        panel = page.locator("[data-panel=attention]")
        panel.scroll_into_view_if_needed()
        panel.get_by_role("button", name="output → source").click()
        panel.get_by_text("sees the whole source").wait_for()
        panel.locator(".columns span").nth(len(source) - 1).wait_for()
        assert panel.locator(".columns span").count() == len(source)
        assert panel.locator(".rows span").count() == len(ids)
        panel.get_by_role("button", name="source → source").click()
        panel.get_by_text("layer 0 (0 to 2)").wait_for()  # its encoder has a layer more
        page.wait_for_function(
            "n => document.querySelectorAll('[data-panel=attention] .rows span').length === n", arg=len(source)
        )


@pytest.mark.parametrize(("name", "language", "width"), [("t5", "en", 1200), ("t5", "zh", 390), ("bert", "en", 390)])
def test_the_drawing_of_the_model_opens_by_key_and_fits(page, name, language, width) -> None:
    lens = family(name)
    told = lens.answer("diagram", {}).value[language]
    with served(lens) as url:
        page.set_viewport_size({"width": width, "height": 900})
        page.goto(f"{url}#language={language}&mode=lab")
        button = page.get_by_role("button", name={"en": "Drawing", "zh": "结构图"}[language])
        button.focus()
        page.keyboard.press("Enter")
        dialog = page.get_by_role("dialog")
        drawing = dialog.locator("svg")
        drawing.wait_for()
        layout = told["layouts"][0 if width > 1000 else -1]
        words = [mark["text"] for mark in layout["marks"] if mark["kind"] == "flowwords"]
        assert drawing.locator("text").all_text_contents() == words
        assert dialog.evaluate("one => one.scrollWidth <= one.clientWidth")
        outside = drawing.evaluate(OUTSIDE)
        assert not outside, outside
        heard = dialog.locator(".hidden").inner_text()
        assert all(step["title"] in heard for column in told["columns"] for step in column["steps"])
        page.keyboard.press("Escape")
        dialog.wait_for(state="hidden")
        assert button.evaluate("one => one === document.activeElement")


OUTSIDE = """svg => {
  const boxes = [...svg.querySelectorAll("rect")].map(box => box.getBBox());
  const around = (text, box) => text.x >= box.x && text.x < box.x + box.width && text.y > box.y && text.y < box.y + box.height;
  return [...svg.querySelectorAll("text")].filter(one => {
    const text = one.getBBox(), end = text.x + text.width;
    return end > svg.viewBox.baseVal.width || boxes.some(box => around(text, box) && end > box.x + box.width);
  }).map(one => one.textContent);
}"""  # the words that are wider than their box


def test_a_model_without_scores_shows_the_rest(page, settle) -> None:
    with served(classifier()) as url:
        page.goto(f"{url}#language=en&mode=lab")
        settle(page)
        assert not page.locator(".error").count()
        refused = page.locator("[role=note]").all_inner_texts()
        assert refused and all("scores no tokens" in line or "both sides" in line for line in refused)
        panel = page.locator("[data-panel=attention]")
        panel.scroll_into_view_if_needed()
        assert panel.locator("canvas, svg").count() and not panel.locator("[role=note]").count()
