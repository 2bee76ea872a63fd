"""Draws the pictures of the lens's guide: every panel, in both languages, as a browser shows it on a run of your own.

    python docs/guide/draw_lens.py runs/quickstart

Needs Chromium and the extra `test` (Playwright, Pillow). The pictures have few colours so that they stay small.
"""

from __future__ import annotations

import io
import shutil
import sys
import threading
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

from pellucid.lens.answer import At
from pellucid.lens.dispatch import Dispatch, open_lens
from pellucid.lens.page.program import find_program
from pellucid.lens.page.server import Server, build_app, open_door

FOLDER = Path(__file__).parent / "images" / "lens"
TEXTS = {  # of the quickstart's world
    "en": "Mara walked into the kitchen. Mara got the rope.\nWhere is the rope now? The",
    "zh": "小梅来到了车库。小梅拿了玫瑰。\n玫瑰现在在哪里？",
}
WIDTH, HEIGHT, COLOURS, LONGEST = 940, 1000, 96, 1500
STILL = """
section.bar { position: static !important }
[data-panel] { padding-inline: 2.4rem 0.6rem; margin-inline: -2.4rem -0.6rem; border: 0 !important }
* { caret-color: transparent !important; transition: none !important }
"""  # the bar would lie over long panels, and their numbers hang into the margin


def main(run: str) -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as driver:
        browser = driver.chromium.launch(
            executable_path=shutil.which("chromium-headless-shell") or shutil.which("chromium"), args=["--no-sandbox"]
        )
        for language, text in TEXTS.items():
            dispatch, door, opened = branched(run, text), open_door(), threading.Event()
            server = Server(build_app(dispatch, door, page=find_program()), opened.set)
            thread = threading.Thread(target=server.run, kwargs={"sockets": [door.socket]}, daemon=True)
            thread.start()
            opened.wait()
            page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT}, reduced_motion="reduce")
            page.goto(f"{door.url}#language={language}")
            draw(page, language)
            page.close()
            server.should_exit = True
            thread.join()
        browser.close()


def branched(run: str, text: str) -> Dispatch:
    """A dispatch whose text has gone on in two ways, and stands at the prompt again."""
    dispatch = open_lens(run, text=text)
    dispatch.answer("step", {"node": 0, "sampling": {"seed": 0}, "count": 4})
    second = dispatch.trace(At(node=0)).header["next"][1]["id"]
    [node] = dispatch.answer("choose", {"node": 0, "id": second}).value["nodes"]
    dispatch.answer("step", {"node": node["id"], "sampling": {"seed": 1}, "count": 3})
    dispatch.answer("go", {"node": 0})
    return dispatch


def draw(page: Page, language: str) -> None:
    """Let every panel draw itself, then take its picture; then the top of the page and the lessons."""
    page.add_style_tag(content=STILL)
    page.locator("[data-panel]").first.wait_for()
    settle(page)
    for section in page.locator("[data-panel]").all():
        section.scroll_into_view_if_needed()
        section.locator(".skeleton, [aria-busy=true]").first.wait_for(state="detached")
        page.wait_for_timeout(400)
        keep(section.screenshot(), f"{section.get_attribute('data-panel')}-{language}")
    page.evaluate("scrollTo(0, 0)")
    keep(page.screenshot(clip={"x": 0, "y": 0, "width": WIDTH, "height": 620}), f"page-{language}")
    page.goto(f"{page.url}&mode=learn")
    page.reload()
    page.wait_for_timeout(3000)
    keep(page.screenshot(clip={"x": 0, "y": 0, "width": WIDTH, "height": HEIGHT}), f"learn-{language}")


def settle(page: Page) -> None:
    """Scroll until nothing is being asked any more."""
    quiet = 0
    while quiet < 3:
        for section in page.locator("[data-panel]").all():
            section.scroll_into_view_if_needed()
            page.wait_for_timeout(150)
        quiet = 0 if page.locator(".skeleton, [aria-busy=true]").count() else quiet + 1


def keep(picture: bytes, name: str) -> None:
    """Write a picture with few colours; a very long one is cut."""
    image = Image.open(io.BytesIO(picture)).convert("RGB")
    image = image.crop((0, 0, image.width, min(image.height, LONGEST)))
    image.quantize(COLOURS, dither=Image.Dither.NONE).save(FOLDER / f"{name}.png", optimize=True)


if __name__ == "__main__":
    main(sys.argv[1])
