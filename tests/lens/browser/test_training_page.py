"""The panel Training, done by a browser and compared with what Python answers."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
import torch

from pellucid.lens.answer import At
from pellucid.lens.dispatch import open_lens as open_dispatch
from pellucid.lens.page.html import write_html
from pellucid.lens.questions import list_questions
from pellucid.store.checkpoint import load_checkpoint, load_model
from pellucid.store.probes import pack_probe, save_probe
from pellucid.training.probe import see

OTHERS = "text,vectors,logitLens,attention,feedForward,chances,draw,loop,why,takeAway"


def open_panel(page, url: str):
    page.goto(f"{url}#language=en&closed={OTHERS}")
    panel = page.locator('[data-panel="training"]')
    panel.scroll_into_view_if_needed()
    panel.locator("table.bars").first.wait_for()
    return panel


def in_percent(shown: str) -> float:
    return float(re.sub(r"[<>≈%\s]", "", shown)) / 100


def bars_of(panel, which: int = 0) -> dict[str, list[str]]:
    """label -> the chances of one table of bars, as they are written."""
    rows = panel.locator("table.bars").nth(which).locator("tbody tr").all()
    return {row.locator(".label").inner_text(): row.locator("td:not(.wide)").all_inner_texts() for row in rows}


def check_bars(panel, told, then) -> None:
    chances = [torch.tensor(one.arrays["logits"]).double().softmax(-1) for one in (told, then) if one is not None]
    shown = bars_of(panel)
    assert set(shown) >= {top["label"] for top in told.value["top"]}
    for top in told.value["top"]:
        texts = shown[top["label"]]
        assert len(texts) == len(chances)
        for text, chances_V in zip(texts, chances, strict=True):
            if "<" not in text:
                assert in_percent(text) == pytest.approx(chances_V[top["id"]].item(), rel=0.06)


def test_the_curve_is_a_slider_over_the_checkpoints(lens, page) -> None:
    panel = open_panel(page, lens.url)
    slider = panel.get_by_role("slider", name="Step of the run")
    newer, older = (lens.ask("timeline.at", at={"checkpoint": step}, layer=0, head=0) for step in (20, 10))
    panel.get_by_role("columnheader", name="step 10").first.wait_for()
    assert slider.get_attribute("aria-valuetext") == "step 20"
    check_bars(panel, newer, older)
    slider.focus()
    page.keyboard.press("ArrowLeft")
    panel.get_by_role("columnheader", name="step 20").first.wait_for(state="detached")
    assert slider.get_attribute("aria-valuetext") == "step 10"
    check_bars(panel, older, None)
    losses = panel.locator("ol .chip + .small").all_inner_texts()
    for text, nats in zip(losses[1:], older.arrays["surprise"].tolist(), strict=True):
        assert float(text.replace("−", "-").replace("e-", "e-")) == pytest.approx(nats, rel=0.01)


def test_a_pinned_step_stays_for_comparison(lens, page) -> None:
    panel = open_panel(page, lens.url)
    panel.get_by_role("slider", name="Step of the run").focus()
    page.keyboard.press("Home")
    panel.get_by_role("button", name="Pin this step").click()
    page.keyboard.press("Tab")
    panel.get_by_role("slider", name="Step of the run").focus()
    page.keyboard.press("End")
    panel.get_by_role("button", name="Pinned: step 10").wait_for()
    panel.get_by_role("columnheader", name="step 20").first.wait_for()
    newer, older = (lens.ask("timeline.at", at={"checkpoint": step}, layer=0, head=0) for step in (20, 10))
    check_bars(panel, newer, older)


def test_one_step_in_full_shows_the_steps_numbers(lens, page) -> None:
    panel = open_panel(page, lens.url)
    told = lens.ask("training_step", at={"checkpoint": 20}, learning_rate=0.01, rule="sgd").value
    loss = panel.locator("p.loss .num")
    loss.first.wait_for()
    assert [float(text) for text in loss.all_inner_texts()] == pytest.approx(
        [told["loss"]["before"], told["loss"]["after"]], rel=1e-3
    )
    rows = panel.get_by_role("region", name="Loss at each token").locator("tbody tr").all()
    assert len(rows) == len(told["tokens"])
    for row, token in zip(rows, told["tokens"], strict=True):
        assert token["target"]["label"] in row.locator("td").nth(1).inner_text()
        shown = float(row.locator("td").nth(3).inner_text().strip("()"))
        assert shown == pytest.approx(token["loss_before"], rel=0.01)
    panel.get_by_role("button", name="AdamW, first update").click()
    adamw = lens.ask("training_step", at={"checkpoint": 20}, learning_rate=0.001, rule="adamw").value
    page.wait_for_function(
        "after => Math.abs(Number(document.querySelectorAll('p.loss .num')[1].innerText) - after) < 2e-3 * Math.abs(after)",
        arg=adamw["loss"]["after"],
    )


def test_a_weight_of_the_matrix_can_be_read(lens, page) -> None:
    panel = open_panel(page, lens.url)
    name = "blocks.1.attention.query.weight"
    panel.get_by_label("Matrix").select_option(name)
    told = lens.ask("training_step", at={"checkpoint": 20}, learning_rate=0.01, rule="sgd", matrix=name)
    cells = panel.locator(f'td[title^="{name}["]')
    cells.first.wait_for()
    panel.get_by_role("button", name="after", exact=True).click()
    row, column = told.value["matrix"]["rows"][3], told.value["matrix"]["columns"][5]
    shown = panel.locator(f'td[title^="{name}[{row}, {column}] = "]').get_attribute("title").split(" = ")[1]
    assert float(shown) == pytest.approx(float(told.arrays["matrix.after"][3, 5]), rel=1e-6)


def test_probes_are_stops_of_their_own(run: Path, tmp_path: Path, serving, page) -> None:
    probed = tmp_path / "runs" / "probed"
    shutil.copytree(run, probed)
    dispatch = open_dispatch(probed)
    ids = [*dispatch.tokenizer.encode("the cat sat").ids]
    for step in (10, 20):
        model = load_model(load_checkpoint(probed / "checkpoints" / f"step-{step:06d}")).eval()
        arrays = {f"0.{name}": array for name, array in see(model, ids).items()}
        save_probe(probed, step, pack_probe(step, [{"text": "the cat sat", "ids": ids}], arrays))
    with serving(probed, "the mat") as lens:
        panel = open_panel(page, lens.url)
        panel.get_by_role("button", name=re.compile("the cat sat.*seen 2 times")).click()
        panel.get_by_role("heading", name="Next token after “·sat”").wait_for()
        newer, older = (lens.ask("timeline.at", at={"checkpoint": step}, text=0, layer=0, head=0) for step in (20, 10))
        panel.get_by_role("columnheader", name="step 10").first.wait_for()
        check_bars(panel, newer, older)


SCORES = {5: {"exam_en": 0.25, "exam_zh": 0.5}, 15: {"exam_en": 0.4, "exam_zh": 0.95}}


@pytest.fixture
def examined(run: Path, tmp_path: Path) -> Path:
    """A run whose model was asked at steps 5 and 15; steps 10 and 20 can be looked at."""
    examined = tmp_path / "runs" / "examined"
    shutil.copytree(run, examined)
    for step, shares in SCORES.items():
        with (examined / "metrics.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps({"kind": "eval", "step": step, "loss": 5.0, **shares}) + "\n")
    return examined


def check_exam(page) -> None:
    """The curve by language in an open page, at both steps that can be looked at."""
    panel = page.locator('[data-panel="training"]')
    title = "Share of questions answered right, by language"
    chart = panel.get_by_role("img", name=title)
    assert chart.locator("text.name").all_text_contents() == ["English", "Chinese"]
    assert chart.locator("g circle title").all_text_contents() == [
        "step 5: English 25.0 %", "step 15: English 40.0 %", "step 5: Chinese 50.0 %", "step 15: Chinese 95.0 %"
    ]  # fmt: skip
    loss, slider = panel.get_by_role("img", name="Loss of the run"), panel.get_by_role("slider", name="Step of the run")
    for key, told in (
        ("Home", "Asked at step 5: English 25.0 % · Chinese 50.0 %"),
        ("End", "Asked at step 15: English 40.0 % · Chinese 95.0 %"),
    ):
        slider.focus()
        page.keyboard.press(key)
        panel.get_by_text(told).wait_for()
        marks = [float(drawn.locator("circle.now").get_attribute("cx")) for drawn in (loss, chart)]
        assert marks[0] == marks[1], "both charts have one axis"
    panel.locator("summary", has_text=title).click()
    table = panel.get_by_role("region", name=title).locator("tbody tr")
    table.nth(len(SCORES) - 1).wait_for()
    rows = table.all()
    assert [[float(cell) for cell in row.locator("td").all_inner_texts()] for row in rows] == [
        [step, *shares.values()] for step, shares in SCORES.items()
    ]


def test_the_exam_is_a_curve_by_language_over_the_steps(examined: Path, serving, page) -> None:
    with serving(examined, "the mat") as lens:
        panel = open_panel(page, lens.url)
        check_exam(page)
        chart = panel.get_by_role("img", name="Share of questions answered right")
        box = chart.bounding_box()
        chart.click(position={"x": box["width"] / 2, "y": box["height"] / 2})
        panel.get_by_text("Asked at step 5").wait_for()
        page.set_viewport_size({"width": 390, "height": 800})
        for name in chart.locator("text.name").all():
            drawn, around = name.bounding_box(), chart.bounding_box()
            assert drawn["x"] + drawn["width"] <= around["x"] + around["width"], "no name is cut off"


def test_a_page_in_a_file_shows_the_exam_too(examined: Path, chromium, page, tmp_path: Path) -> None:
    dispatch = open_dispatch(examined, text="the mat")
    shown = {"about", "tree", "record", "labels", "timeline", "timeline.at"}
    questions = [(method, params) for method, params in list_questions(dispatch, At()) if method in shown]
    write_html(dispatch, questions, tmp_path / "page.html")
    open_panel(page, (tmp_path / "page.html").as_uri())
    check_exam(page)


def test_a_run_that_was_not_asked_shows_no_exam(lens, page) -> None:
    panel = open_panel(page, lens.url)
    assert panel.get_by_role("img", name="Loss of the run").is_visible()
    assert "questions answered" not in panel.inner_text() and panel.locator("text.name").count() == 0
