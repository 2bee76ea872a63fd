"""What somebody meets who opens the page for the first time: each was wrong once, on a screen that somebody looked at."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import pellucid

WAIT_FOR_PLACE = """key => new Promise(done => {
  const [panel, bar] = [`[data-panel=${key}]`, "section.bar"].map(one => document.querySelector(one));
  let last, same = 0;
  const look = () => {
    const off = Math.round(panel.getBoundingClientRect().top - bar.getBoundingClientRect().bottom);
    same = off === last ? same + 1 : 0;
    last = off;
    same > 20 && !document.querySelector(".skeleton:not([data-panel] ~ *)") || same > 60 ? done(off) : setTimeout(look, 50);
  };
  look();
})"""
STILL = """() => new Promise(done => {
  let last = -1, same = 0;
  const look = () => {
    same = drawn.length && drawn.length === last ? same + 1 : 0;
    last = drawn.length;
    same > 10 ? done(true) : setTimeout(look, 30);
  };
  look();
})"""


@pytest.fixture(scope="module")
def fresh(run: Path, serving):
    """A lens whose tree these tests may change, opened with a text that has characters of several tokens."""
    with serving(run, "小猫？你 👩\u200d👩\u200d👧 the cat") as lens:
        yield lens


def address(lens, text: str) -> str:
    """Where a text is looked at."""
    return f"{lens.url}#node={lens.ask('prompt', text=text).value['current']}"


@pytest.mark.parametrize(("key", "number"), [("training", 10), ("takeAway", 11)])
def test_a_jump_ends_where_it_was_meant_to(lens, page, key: str, number: int, chips) -> None:
    page.goto(lens.url)
    chips(page)
    page.locator("nav ol button").nth(number - 1).click()
    assert abs(page.evaluate(WAIT_FOR_PLACE, key)) <= 2
    assert page.locator("nav ol [aria-current]").inner_text().startswith(str(number))


def test_a_jump_on_a_phone_ends_there_too_and_lets_the_reader_go(lens, page, chips) -> None:
    page.set_viewport_size({"width": 360, "height": 740})
    page.goto(lens.url)
    chips(page)
    page.locator("nav select").select_option("training")
    assert abs(page.evaluate(WAIT_FOR_PLACE, "training")) <= 2
    page.locator("nav select").select_option("why")
    page.mouse.move(180, 500)
    page.mouse.wheel(0, 900)  # the reader moves while the page still grows: nothing holds them
    page.wait_for_timeout(200)
    assert abs(page.evaluate(WAIT_FOR_PLACE, "why")) > 50


def test_scrolling_fast_draws_nothing_without_width(lens, page, chips) -> None:
    page.goto(lens.url)
    chips(page)
    for place in (0.3, 1, 0, 0.8, 0.1, 0.5, 1, 0):  # faults fail the test (the fixture `page`)
        page.evaluate("share => scrollTo(0, share * document.body.scrollHeight)", place)
        page.wait_for_timeout(40)
    page.set_viewport_size({"width": 0, "height": 700})
    page.wait_for_timeout(300)


def test_lesson_one_counts_what_its_answer_counts_and_gives_the_row_back(lens, page, chips) -> None:
    before = lens.ask("record", at={"node": 0}).value["tokens"]
    page.goto(f"{lens.url}#mode=learn&language=en&lesson=token")
    assert "<bos>" in page.locator("form .ask").inner_text()
    page.locator("form button", has_text="Put").click()
    page.get_by_role("note").wait_for()
    right = lens.ask("lesson.check", lesson="token", answer=0).value["answer"]
    assert len(chips(page)) == right + 1  # <bos>, which the question names
    assert f"{right:g} tokens" in re.sub(r"\s+", " ", page.locator("[data-panel=text] .summary").inner_text())
    page.get_by_role("button", name="Next lesson").click()
    page.locator(f"section.bar [data-position='{len(before) - 1}']").wait_for()
    assert len(chips(page)) == len(before)


@pytest.mark.parametrize("lesson", ["token", "window"])
def test_the_lab_has_the_readers_own_text_after_an_exercise(lens, page, lesson: str, chips) -> None:
    page.goto(f"{lens.url}#mode=learn&language=en&lesson={lesson}")
    page.locator("form button", has_text="Put").wait_for()
    before = chips(page)
    page.locator("form button", has_text="Put").click()
    page.get_by_role("note").wait_for()
    assert chips(page) != before
    page.get_by_role("button", name="Lab", exact=True).click()
    page.locator(f"section.bar [data-position='{len(before) - 1}']").wait_for()
    assert chips(page) == before


def test_signs_of_full_width_stand_upright_in_the_matrix_and_others_lie(fresh, page, chips) -> None:
    page.goto(address(fresh, "坐在花园里，你好。 the cat"))
    chips(page)
    page.locator("nav ol button").nth(3).click()
    page.locator(".columns span").first.wait_for()
    told = page.locator(".columns span").evaluate_all(
        "all => all.map(e => [e.textContent, getComputedStyle(e).transform])"
    )
    upright = {text for text, transform in told if transform == "none"}
    assert any("，" in text or "。" in text for text in upright)
    assert all(re.search("[\u3000-\uffef]", text) for text in upright)
    assert not any(re.search("[\u4e00-\u9fff，。]", text) for text, transform in told if transform != "none")


@pytest.mark.parametrize("width", [360, 1280])
def test_no_token_of_the_top_row_is_cut_off(fresh, page, width: int, chips) -> None:
    page.set_viewport_size({"width": width, "height": 740})
    page.goto(fresh.url)
    chips(page)
    cut = page.evaluate("""() => {
      const box = document.querySelector("section.bar .row-box"), edge = box.getBoundingClientRect();
      const wide = [...box.querySelectorAll("[data-position], .whole")].filter(e => {
        const r = e.getBoundingClientRect();
        return e.scrollWidth > e.clientWidth + 1 || r.left < edge.left - 1 || r.right > edge.right + 1;
      });
      const chosen = box.querySelector("[aria-selected=true]"), line = (chosen.closest(".group") ?? chosen).getBoundingClientRect();
      return [box.scrollWidth > box.clientWidth, wide.map(e => e.textContent), line.top >= edge.top && line.bottom <= edge.bottom];
    }""")
    assert cut == [False, [], True]


def test_masked_cells_print_no_number(fresh, page, chips) -> None:
    page.add_init_script(
        "window.drawn = []; const own = CanvasRenderingContext2D.prototype.fillText;"
        "CanvasRenderingContext2D.prototype.fillText = function (text, ...more)"
        " { if (/^\\d\\.\\d\\d$/.test(text)) drawn.push(text); return own.call(this, text, ...more); }"
    )
    page.goto(address(fresh, "the cat sat"))
    size = len(chips(page))
    page.locator("nav ol button").nth(3).click()
    cells = page.locator("[data-panel=attention] div.cells")
    cells.wait_for()
    page.evaluate("drawn.length = 0")
    page.locator("body").press("2")  # another head: drawn anew
    page.wait_for_function(STILL)
    count = page.evaluate("drawn.length")
    assert count and count % (size * (size + 1) // 2) == 0  # every cell that may be looked at, and no other
    box = cells.bounding_box()
    page.mouse.move(box["x"] + box["width"] - 8, box["y"] + 8)  # the first token asks, the last is asked
    assert "masked" in page.locator("#attention-readout").inner_text()


def test_the_slider_stands_below_the_step_that_it_names(lens, page) -> None:
    page.goto(f"{lens.url}#closed=text,vectors,logitLens,attention,feedForward,chances,draw,loop,why,takeAway")
    panel = page.locator("[data-panel=training]")
    panel.scroll_into_view_if_needed()
    slider = panel.get_by_role("slider", name="Step of the run")
    below = """() => {
      const e = document.querySelector("[data-panel=training] input[type=range]");
      const box = e.getBoundingClientRect(), thumb = 16;
      const x = box.left + thumb / 2 + Number(e.value) * (box.width - thumb);
      const now = e.parentElement.querySelector("line.now").getBoundingClientRect();
      return Math.abs(x - (now.left + now.right) / 2) < 3;
    }"""
    slider.focus()
    for key, step in (("Home", 10), ("ArrowRight", 20), ("ArrowLeft", 10), ("End", 20)):
        page.keyboard.press(key)
        panel.locator(f"input[aria-valuetext='step {step}']").wait_for()
        page.wait_for_function(below)
    slider.evaluate("e => e.scrollIntoView({ block: 'center' })")
    box = slider.bounding_box()
    page.mouse.click(box["x"] + 0.3 * box["width"], box["y"] + box["height"] / 2)  # between two saved steps
    panel.locator("input[aria-valuetext='step 10']").wait_for()
    page.wait_for_function(below)


def test_every_picture_in_the_list_has_a_name_of_its_own_and_sentences_a_space_between_them(
    fresh, page, settle
) -> None:
    page.goto(address(fresh, "the cat sat on"))
    page.get_by_role("button", name="Next token").click()
    panel = page.locator("[data-panel=takeAway]")
    for again in ("Look again", "再找一遍"):
        settle(page)
        assert not re.findall(r"[a-z]· [A-Z]|[a-z]\.[A-Z][a-z]", page.inner_text("main"))
        panel.get_by_role("button", name=again).click()
        names = panel.locator("li .name").all_inner_texts()
        assert len(names) >= 12 and len(set(names)) == len(names)
        for name in names:
            own = name.partition(" · ")[2]
            assert re.search(r"[^\W\d_]{2}", own), name  # words, and not the numbers that happen to stand beside it
            assert own.count("(") == own.count(")"), name
        page.locator("body").press("l")


def test_a_new_browser_begins_anew_and_the_same_one_comes_back(empty, browser, page, chips) -> None:
    page.goto(empty.url)
    page.get_by_role("textbox", name="Your text").fill("the cat sat on")
    page.keyboard.press("Enter")
    mine = chips(page)
    other = browser.new_context(locale="en-GB")
    visitor = other.new_page()
    visitor.goto(empty.url)
    box = visitor.get_by_role("textbox", name="Your text")
    box.wait_for()
    assert box.input_value() == "" and visitor.locator("section.bar").count() == 0
    box.fill("another")
    visitor.keyboard.press("Enter")
    assert chips(visitor) != mine
    again = page.context.new_page()
    again.goto(empty.url)
    assert chips(again) == mine
    other.close()


def test_a_new_browser_begins_at_the_text_that_the_lens_was_opened_with(fresh, browser, page, chips) -> None:
    page.goto(fresh.url)
    begun = chips(page)
    page.get_by_role("button", name="Next token").click()
    page.locator(f"section.bar [data-position='{len(begun)}']").wait_for()
    other = browser.new_context(locale="en-GB")
    visitor = other.new_page()
    visitor.goto(fresh.url)
    assert chips(visitor) == begun
    other.close()


def test_a_recorded_page_says_what_it_cannot_do_before_it_is_tried(
    run: Path, tmp_path: Path, browser, chromium, settle, chips
) -> None:
    place = pellucid.trace(pellucid.load(run, device="cpu"), "the cat sat on").save(tmp_path / "trace.html")
    context = browser.new_context(offline=True, locale="en-GB", viewport={"width": 1280, "height": 900})
    page = context.new_page()
    page.goto(place.as_uri())
    before = chips(page)
    main = page.locator("section.bar button.primary")
    assert main.inner_text() == "A recorded page writes no new tokens"
    assert main.is_disabled() and "pellucid lens" in main.get_attribute("title")
    settle(page)
    assert page.locator("[data-panel=loop] button.primary, [data-panel=loop] button.token").count()
    for button in page.locator("[data-panel=loop] button.primary, [data-panel=loop] button.token").all():
        assert button.is_disabled(), button.inner_text()
    page.locator("body").press(" ")
    page.wait_for_timeout(300)
    assert chips(page) == before and page.get_by_role("alert").count() == 0
    page.locator("body").press("l")
    assert main.inner_text() == "录制的页面不能续写"
    context.close()
