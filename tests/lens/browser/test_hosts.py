"""The other two hosts: a frame in a notebook's saved page, and the widget with Python behind its messages."""

from __future__ import annotations

import base64
import html
from pathlib import Path
from typing import Any

import pytest

from pellucid.lens.answer import At
from pellucid.lens.dispatch import open_lens
from pellucid.lens.page import program
from pellucid.lens.page.widget import reply

TEXT = "the cat 你好"
ANYWIDGET = """
async ({ program }) => {
  const { default: widget } = await import(URL.createObjectURL(new Blob([program], { type: "text/javascript" })));
  const listeners = [];
  const bytes = (text) => new DataView(Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer);
  window.receive = (content, buffers) => listeners.forEach((listen) => listen(content, buffers.map(bytes)));
  const model = { send: (content) => window.toPython(content), on: (event, listen) => listeners.push(listen), off() {},
                  get() {}, set() {}, save_changes() {} };
  window.leave = widget.render({ model, el: document.getElementById("cell") });
}
"""  # what anywidget does in a notebook, with Playwright's binding in the place of the kernel's socket


class Sender:
    """Stands for the widget on Python's side: keeps what is sent to the page."""

    def __init__(self) -> None:
        self.sent: list[tuple[dict[str, Any], list[bytes]]] = []

    def send(self, content: dict[str, Any], buffers: list[bytes] | None = None) -> None:
        self.sent.append((content, buffers or []))


def test_the_widget_draws_and_steps_with_python_behind_it(run: Path, page) -> None:
    dispatch = open_lens(run, text=TEXT)

    def to_python(source: dict[str, Any], content: dict[str, Any]) -> None:
        sender = Sender()
        reply(sender, dispatch, content)  # type: ignore[arg-type]
        [(answer, buffers)] = sender.sent
        coded = [base64.b64encode(buffer).decode("ascii") for buffer in buffers]
        source["page"].evaluate("([content, buffers]) => receive(content, buffers)", [answer, coded])

    page.expose_binding("toPython", to_python)
    page.goto("data:text/html,<meta charset=utf-8><div id=cell></div>")
    page.evaluate(ANYWIDGET, {"program": program.find_program().read_text(encoding="utf-8")})
    chips = page.locator("section.bar [data-position]")
    chips.first.wait_for()
    before = chips.count()
    assert before == len(dispatch.ids(dispatch.tree.current))
    page.get_by_role("button", name="Next token").click()
    page.locator(f"section.bar [data-position='{before}']").wait_for()
    assert len(dispatch.ids(dispatch.tree.current)) == before + 1
    page.evaluate("leave()")
    assert page.locator("#cell").inner_html() == ""


def test_a_notebook_that_was_saved_shows_the_trace_without_a_kernel(run: Path, page, tmp_path: Path) -> None:
    dispatch = open_lens(run, text=TEXT)
    cell = dispatch.trace(At(node=dispatch.tree.current))._repr_html_()
    path = tmp_path / "notebook.html"
    words = html.escape("notebook")
    path.write_text(f"<!doctype html><meta charset='utf-8'><title>{words}</title>{cell}", encoding="utf-8")
    page.context.set_offline(True)
    page.goto(path.as_uri())
    inside = page.frame_locator("iframe")
    inside.locator("section.bar [data-position]").first.wait_for()
    assert inside.locator("section.bar [data-position]").count() == len(dispatch.ids(dispatch.tree.current))
    box = page.locator("iframe").bounding_box()
    assert box is not None and 320 < box["height"] <= 900 and box["width"] > 1200


@pytest.mark.parametrize("word", ["localStorage", "sessionStorage"])
def test_a_page_that_may_not_remember_still_opens(lens, page, word: str) -> None:
    page.add_init_script(f"Object.defineProperty(window, '{word}', {{ get() {{ throw new Error('denied') }} }})")
    page.goto(f"{lens.url}#mode=learn")
    page.locator("section.bar [data-position]").first.wait_for()
