"""What a person does with the page, done by a browser."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from pellucid.lens.dispatch import Dispatch, open_lens
from pellucid.store.envelope import arrays_of

AXE = Path(__file__).parents[3] / "web" / "node_modules" / "axe-core" / "axe.min.js"
MISSING_WORD = re.compile(r"\[\w+(\.\w+)+\]")


def body(page) -> str:
    return page.inner_text("body")


def test_type_step_undo(empty, page, chips) -> None:
    page.goto(empty.url)
    box = page.get_by_role("textbox", name="Your text")
    box.fill("你好 the cat")
    box.press("Enter")
    before = chips(page)
    ids = [int(text.rsplit(" ", 1)[1]) for text in before]
    assert ids == [chip["id"] for chip in empty.ask("record", at={"node": 0}).value["tokens"]]
    page.get_by_role("button", name="Next token").click()
    page.locator(f"section.bar [data-position='{len(before)}']").wait_for()
    after = chips(page)
    tree = empty.ask("tree").value
    assert after[:-1] == before and after[-1].endswith(f" {tree['nodes'][-1]['token']['id']}")
    page.get_by_role("button", name="Undo").click()
    page.locator(f"section.bar [data-position='{len(before)}']").wait_for(state="detached")
    assert chips(page) == before


def test_the_lobby_lists_runs_and_opens_one_till_ctrl_c_ends_it_with_one_line(
    run: Path, open_lens, chromium, page, chips
) -> None:
    lens = open_lens(folder=run.parents[1])
    page.goto(lens.url)
    page.get_by_role("button", name=re.compile("small")).click()
    page.get_by_role("textbox", name="Your text").fill("the cat")
    page.keyboard.press("Enter")
    assert len(chips(page)) == len(lens.ask("tokens", text="the cat").value["chips"]) + 1  # <bos>
    said = lens.close()
    assert lens.process.returncode == 0 and said.strip().splitlines()[-1] == "the lens is closed."
    assert "Traceback" not in said


def test_without_runs_the_lobby_says_how_to_make_one(tmp_path: Path, open_lens, chromium, page) -> None:
    page.goto(open_lens(folder=tmp_path).url)
    page.get_by_text("pellucid quickstart").wait_for()


def test_every_panel_draws_and_every_word_is_there_in_both_languages(drawn, settle) -> None:
    panels = drawn.locator("[data-panel]").count()
    for language, sign in (("en", "Next token"), ("zh-CN", "下一个词元")):
        assert drawn.evaluate("document.documentElement.lang") == language
        text = body(drawn)
        assert sign in text and not MISSING_WORD.search(text)
        assert drawn.get_by_role("alert").count() == 0, drawn.get_by_role("alert").all_inner_texts()
        assert "\ufffd" not in text
        drawn.locator("body").press("l")
        settle(drawn)
    assert drawn.locator("[data-panel]").count() == panels


def test_split_characters_stand_under_brackets_and_tokens_are_only_text(lens, page, chips) -> None:
    page.goto(lens.url)
    labels = chips(page)
    assert any("</" in label for label in labels) and not any("\ufffd" in label for label in labels)
    shown = page.locator("section.bar").inner_text()
    assert "👩\u200d👩\u200d👧" in shown and "\ufffd" not in shown
    assert page.locator("section.bar script").count() == 0


def test_a_reload_and_a_second_tab_show_the_same(fresh, page, chips) -> None:
    page.goto(fresh.url)
    chips(page)
    for key, place in (("ArrowUp", "layer=1"), ("2", "head=1")):
        page.locator("body").press(key)
        page.wait_for_function("place => location.hash.includes(place)", arg=place)
    length = len(chips(page))
    for position in (length, length + 1):
        page.locator("body").press(" ")
        page.locator(f"section.bar [data-position='{position}']").wait_for()
    page.locator("body").press("ArrowLeft")
    page.locator(f"section.bar [data-position='{length}'][aria-selected=true]").wait_for()
    page.wait_for_function("position => location.hash.includes(`token=${position}`)", arg=length)
    before, address = chips(page), page.url
    chosen = page.locator("section.bar [aria-selected=true]").get_attribute("data-position")
    page.reload()
    assert chips(page) == before and page.url == address
    assert page.locator("section.bar [aria-selected=true]").get_attribute("data-position") == chosen
    second = page.context.new_page()
    second.goto(address)
    assert chips(second) == before
    second.get_by_role("button", name="Next token").click()
    second.locator(f"section.bar [data-position='{len(before)}']").wait_for()
    page.reload()
    assert chips(page) == before  # the first tab's own place is kept
    second.close()


def test_by_keyboard_alone(fresh, page, chips) -> None:
    page.goto(fresh.url)
    before = chips(page)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className").startswith("skip")
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "panels"
    page.keyboard.press("Space")
    page.locator(f"section.bar [data-position='{len(before)}']").wait_for()
    page.keyboard.press("ArrowLeft")
    assert page.locator("section.bar [aria-selected=true]").get_attribute("data-position") == str(len(before) - 1)
    page.keyboard.press("ArrowUp")
    assert "layer=1" in page.url
    page.keyboard.press("3")
    assert "head=2" in page.url
    page.keyboard.press("?")
    assert page.locator("dialog[open]").count() == 1
    page.keyboard.press("Escape")
    assert page.locator("dialog[open]").count() == 0
    page.keyboard.press("l")
    assert page.evaluate("document.documentElement.lang") == "zh-CN"


OF_COLOURS = ["color-contrast", "link-in-text-block"]  # of axe's rules, those that another theme can break


@pytest.mark.parametrize(("theme", "rules"), [("dark", OF_COLOURS), ("light", None)])
def test_axe_finds_nothing_serious(drawn, settle, theme: str, rules: list[str] | None) -> None:
    if not AXE.is_file():
        pytest.skip("axe-core is not installed (cd web && npm ci)")
    drawn.emulate_media(color_scheme=theme)
    settle(drawn)
    drawn.evaluate(AXE.read_text(encoding="utf-8"))
    found = drawn.evaluate("rules => axe.run({resultTypes: ['violations'], ...(rules && {runOnly: rules})})", rules)
    assert found["passes"], "axe has looked at something"
    grave = [
        (one["id"], node["target"], node["failureSummary"])
        for one in found["violations"]
        if one["impact"] in ("serious", "critical")
        for node in one["nodes"]
    ]
    assert not grave, "\n".join(map(str, grave[:20]))


def test_a_phone_shows_the_page_without_scrolling_sideways_in_both_languages(lens, page, settle) -> None:
    page.set_viewport_size({"width": 360, "height": 740})
    page.goto(lens.url)
    for language in ("en", "zh-CN"):
        settle(page)
        assert page.evaluate("document.documentElement.lang") == language
        wide = page.evaluate(
            "[document.documentElement.scrollWidth, [...document.querySelectorAll('[data-panel]')]"
            ".filter(p => p.scrollWidth > innerWidth).map(p => p.dataset.panel)]"
        )
        assert wide == [360, []]
        page.locator("body").press("l")


def test_numbers_on_screen_are_the_tensors_they_name(lens, run: Path, drawn) -> None:
    dispatch = open_lens(run, text=lens.ask("record", at={"node": 0}).value["text"])
    seen = 0
    for address, shown in drawn.locator("button.num").evaluate_all("all => all.map(e => [e.title, e.innerText])"):
        found = re.fullmatch(r"([\w.]+)\[([\d,\s]+)\]", address)
        value = exact_value(dispatch, found[1], tuple(map(int, found[2].split(",")))) if found else None
        if value is None:
            continue
        seen += 1
        assert_shown(shown, value, address)
    assert seen >= 20


def exact_value(dispatch: Dispatch, name: str, index: tuple[int, ...]) -> float | None:
    """The number at an address, from a dispatch of this test's own; None for an address that names no recorded tensor."""
    header = dispatch.answer("record", {"at": {"node": 0}}).value
    if name not in header["arrays"]:
        return None
    [(_, array)] = arrays_of(dispatch.answer("array", {"at": {"node": 0}, "name": name}))
    return float(np.asarray(array)[index])


def assert_shown(shown: str, value: float, address: str) -> None:
    """A shown number is the tensor's, rounded to the digits that are shown."""
    about, text = shown.startswith("≈"), shown.replace("≈", "").replace("−", "-").replace("\u202f", "").strip()
    if text in ("-∞", "–"):
        assert not np.isfinite(value), (address, shown, value)
        return
    factor = 0.01 if text.endswith("%") else 1.0
    bare = text.rstrip(" %")
    if bare.startswith(("<", ">")):
        return
    number = float(bare) * factor
    mantissa = bare.split("e")[0]
    last = 10.0 ** (-len(mantissa.partition(".")[2]) + (int(bare.split("e")[1]) if "e" in bare else 0)) * factor
    assert abs(number - value) <= (0.6 * last) + (0.005 if about else 0), (address, shown, value)


def test_a_prompt_beyond_the_context_is_refused_before_it_is_sent(empty, page) -> None:
    page.goto(empty.url)
    page.get_by_role("textbox", name="Your text").fill("cat " * 200)
    page.locator(".over").wait_for()
    assert page.get_by_role("button", name="Look inside").is_disabled()


def test_a_killed_server_is_told_and_asked_again(run: Path, open_lens, page, chips) -> None:
    lens = open_lens(run, "--prompt", "the cat", folder=run.parents[1])
    page.goto(lens.url)
    chips(page)
    lens.process.kill()
    lens.process.wait(10)
    page.get_by_role("button", name="Next token").click()
    alert = page.get_by_role("alert").first
    alert.wait_for()
    assert "does not answer" in alert.inner_text() and "pellucid lens" in alert.inner_text()


def test_one_offline_page_of_what_is_on_screen(drawn, browser, settle, tmp_path: Path, chips) -> None:
    shown = chips(drawn)
    with drawn.expect_download() as downloading:
        drawn.get_by_role("button", name="Save as HTML").click()
    path = tmp_path / downloading.value.suggested_filename
    downloading.value.save_as(path)
    assert path.suffix == ".html" and path.stat().st_size < 10_000_000
    offline = browser.new_context(offline=True, viewport={"width": 1280, "height": 900}, locale="en-GB")
    asked: list[str] = []
    copy = offline.new_page()
    copy.on("request", lambda request: asked.append(request.url))
    copy.goto(path.as_uri())
    settle(copy)
    assert chips(copy) == shown
    assert copy.get_by_role("alert").count() == 0, copy.get_by_role("alert").all_inner_texts()
    assert all(url.startswith(("file:", "data:", "blob:")) for url in asked)
    assert copy.get_by_role("button", name="A recorded page writes no new tokens").is_disabled()
    offline.close()


def test_charts_are_saved_as_svg_and_png(drawn, tmp_path: Path) -> None:
    drawn.get_by_role("button", name="Look again").click()
    for kind, head in (("SVG", b"<?xml"), ("PNG", b"\x89PNG")):
        with drawn.expect_download() as downloading:
            drawn.get_by_role("button", name=re.compile(f" as {kind}$")).first.click()
        path = tmp_path / downloading.value.suggested_filename
        downloading.value.save_as(path)
        assert path.read_bytes().startswith(head) and path.stat().st_size > 500


@pytest.mark.parametrize("kind", ["plens", "npz", "json"])
def test_the_trace_is_saved(drawn, tmp_path: Path, kind: str) -> None:
    with drawn.expect_download() as downloading:
        drawn.get_by_role("button", name=re.compile(rf"^\.{kind}")).click()
    path = tmp_path / downloading.value.suggested_filename
    downloading.value.save_as(path)
    assert path.suffix == f".{kind}" and path.stat().st_size > 10_000


def test_another_token_at_a_past_place_forks_the_text(fresh, page, settle, chips) -> None:
    page.goto(fresh.url)
    before = len(chips(page))
    for length in (before, before + 1):
        page.get_by_role("button", name="Next token").click()
        page.locator(f"section.bar [data-position='{length}']").wait_for()
    page.locator(f"section.bar [data-position='{before}']").click()
    settle(page)
    drawn = fresh.ask("tree").value["nodes"][1]["token"]["id"]
    other = next(bar for bar in fresh.ask("record", at={"node": 0}).value["next"] if bar["id"] != drawn)
    page.locator("[data-panel=loop]").get_by_role("button", name=other["label"], exact=True).click()
    page.locator(f"section.bar [data-position='{before + 1}']").wait_for(state="detached")
    nodes = fresh.ask("tree").value["nodes"]
    assert [node["parent"] for node in nodes] == [None, 0, 1, 0]
    assert (nodes[3]["made_by"], nodes[3]["token"]["id"]) == ("chosen", other["id"])
    assert len(chips(page)) == before + 1
