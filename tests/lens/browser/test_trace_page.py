"""The page that `trace.save("x.html")` writes answers every panel as it opens, from the file alone."""

from __future__ import annotations

from pathlib import Path

import pytest

import pellucid

WATCH = """
window.missed = [];
const parse = JSON.parse;
const watched = (answers) => new Proxy(answers, { get: (all, key) => (key in all || missed.push(key), all[key]) });
JSON.parse = (text) => { const value = parse(text); if (value?.answers) value.answers = watched(value.answers); return value; };
"""  # notes the questions that the recording has no answer to
TEXT = "你好, the cat </script> sat"


@pytest.fixture(scope="module")
def recorded(run: Path, tmp_path_factory, chromium) -> Path:
    return pellucid.trace(pellucid.load(run, device="cpu"), TEXT).save(tmp_path_factory.mktemp("pages") / "trace.html")


def test_no_panel_asks_what_the_file_does_not_hold(recorded: Path, browser, settle) -> None:
    context = browser.new_context(offline=True, viewport={"width": 1280, "height": 900})
    page = context.new_page()
    sent: list[str] = []
    page.on("request", lambda request: sent.append(request.url))
    page.add_init_script(WATCH)
    page.goto(recorded.as_uri())
    for moves in ("", "2", "ArrowUp ArrowUp 3"):  # as it opens, at another head, at another layer too
        for key in moves.split():
            page.keyboard.press(key)
        settle(page)
        assert not page.get_by_role("alert").count(), "\n".join(page.evaluate("missed"))
        assert "\ufffd" not in page.inner_text("body")
    page.get_by_role("button", name="Drawing").click()
    page.locator("dialog[open] svg text").first.wait_for()
    context.close()
    assert all(url.startswith(("file:", "data:", "blob:")) for url in sent)
