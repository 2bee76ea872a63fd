"""The lessons in a real browser: eight questions answered by doing, in both languages, by keyboard, on a phone."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import pellucid
from pellucid.lens.dispatch import open_lens
from pellucid.lens.lessons.contents import PATH
from pellucid.lens.lessons.words import say

AXE = Path(__file__).parents[3] / "web" / "node_modules" / "axe-core" / "axe.min.js"
ASK_AXE = (
    "rules => axe.run({include: ['.learn'], exclude: ['[data-panel]']}, "  # panels: test_page
    "{resultTypes: ['violations'], ...(rules && {runOnly: rules})})"
)
OF_COLOURS = ["color-contrast", "link-in-text-block"]  # of axe's rules, those that another theme can break
MISSING = re.compile(r"\[\w+(\.[\w-]+)+\]|\{\w+\}|\ufffd")
TEXT = "the cat sat on the mat. 小猫坐在花园里"
KEYS = [entry.key for entry in PATH]


@pytest.fixture
def lens(run: Path, serving):
    with serving(run, TEXT) as lens:
        yield lens


def open_learn(page, lens, lesson: str, language: str = "en") -> None:
    page.goto(f"{lens.url}#mode=learn&language={language}&lesson={lesson}")
    page.locator("form fieldset, form input[type=number]").first.wait_for()


def answer(page, lens, key: str, *, wrong: bool = False) -> None:
    """Give an answer as a person would: a choice, or a number that is written."""
    right = lens.ask("lesson.check", lesson=key, answer=0).value["answer"]
    page.locator("form fieldset, form input[type=number]").first.wait_for()
    choices = page.locator("form fieldset input")
    if choices.count():
        choices.nth((int(right) + wrong) % choices.count()).check()
    else:
        page.locator("form input[type=number]").fill(str(2 * right + 5 if wrong else right))
    page.get_by_role("button", name="Check", exact=True).click()


def test_all_lessons_by_space_answered_by_doing_and_remembered(lens, page) -> None:
    open_learn(page, lens, KEYS[0])
    for number, key in enumerate(KEYS, start=1):
        page.get_by_role("heading", name=say("en", f"{key}.title"), level=2).wait_for()
        answer(page, lens, key)
        page.locator("form .right").wait_for()
        page.get_by_text(f"{number} of 8 answered").wait_for()
        assert not MISSING.search(page.inner_text("main"))
        page.locator("[data-lesson-title]").focus()
        page.keyboard.press(" ")
    page.get_by_text(say("en", "finished")).wait_for()
    page.reload()
    page.get_by_text("8 of 8 answered").wait_for()
    assert page.locator("[aria-current=step]").inner_text().startswith("8")
    page.get_by_role("button", name=say("en", "again")).click()
    page.get_by_text("0 of 8 answered").wait_for()


def test_a_wrong_answer_is_no_answer_and_the_right_one_can_be_shown(lens, page) -> None:
    open_learn(page, lens, "training")
    answer(page, lens, "training", wrong=True)
    page.locator("form .wrong").wait_for()
    assert not page.locator("form .said").count()
    page.get_by_role("button", name=say("en", "show")).click()
    page.locator("form .said").wait_for()
    page.get_by_text("0 of 8 answered").wait_for()


def test_another_text_on_the_row_leaves_the_lesson_where_it_was(lens, page) -> None:
    open_learn(page, lens, "window")
    asked = page.locator("form .ask").inner_text()
    page.locator("form button", has_text="Put").click()
    page.get_by_role("note").wait_for()
    assert page.locator("form .ask").inner_text() == asked
    page.get_by_role("button", name=say("en", "back")).click()
    page.get_by_role("note").wait_for(state="detached")


def test_a_text_too_short_offers_a_sentence(run: Path, serving, page) -> None:
    with serving(run, "a") as lens:
        page.goto(f"{lens.url}#mode=learn&language=en&lesson=heads")
        page.get_by_role("button", name=re.compile("Use this sentence")).click()
        page.locator("form fieldset").wait_for()


def test_a_browser_that_keeps_nothing_still_counts(lens, page) -> None:
    page.add_init_script("Object.defineProperty(window, 'localStorage', {get() { throw new Error('forbidden') }})")
    open_learn(page, lens, "token")
    answer(page, lens, "token")
    page.get_by_text("1 of 8 answered").wait_for()


@pytest.mark.parametrize(("language", "theme", "rules"), [("en", "light", None), ("zh", "dark", OF_COLOURS)])
def test_every_lesson_on_a_phone_has_its_words_and_nothing_serious_for_axe(
    lens, page, settle, language, theme, rules
) -> None:
    if not AXE.is_file():
        pytest.skip("axe-core is not installed (cd web && npm ci)")
    page.set_viewport_size({"width": 360, "height": 740})
    page.emulate_media(color_scheme=theme)
    for key in KEYS:  # one page, whose address goes from lesson to lesson
        open_learn(page, lens, key, language)
        if key == KEYS[0]:
            page.evaluate(AXE.read_text(encoding="utf-8"))
        page.get_by_role("heading", name=say(language, f"{key}.title"), level=2).wait_for()
        settle(page)
        assert not MISSING.search(page.inner_text("main"))
        assert page.evaluate("document.documentElement.scrollWidth") == 360, key
        found = page.evaluate(ASK_AXE, rules)["violations"]
        grave = [one for one in found if one["impact"] in ("serious", "critical")]
        assert not grave, [(key, one["id"], [node["target"] for node in one["nodes"]]) for one in grave]


def test_a_recording_tells_the_lessons_and_knows_the_right_answers(
    run: Path, tmp_path: Path, browser, chromium
) -> None:
    lm = pellucid.load(run, device="cpu")
    place = pellucid.trace(lm, TEXT).save(tmp_path / "trace.html")
    dispatch = open_lens(run, text=TEXT)
    context = browser.new_context(offline=True, locale="en-GB")
    page = context.new_page()
    for key in KEYS:
        page.goto(f"{place.as_uri()}#mode=learn&language=en&lesson={key}")
        page.locator("form fieldset, form input[type=number]").first.wait_for()
        right = dispatch.answer("lesson.check", {"lesson": key, "answer": 0}).value["answer"]
        choices = page.locator("form fieldset input")
        if choices.count():
            choices.nth(int(right)).check()
        else:
            page.locator("form input[type=number]").fill(str(round(right, 1)))
        page.get_by_role("button", name="Check", exact=True).click()
        page.locator("form .right").wait_for()
    context.close()
