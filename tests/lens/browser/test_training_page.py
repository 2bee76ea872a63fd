"""The panel Training, done by a browser and compared with what Python answers."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
import torch

from pellucid.lens.desk import open_desk
from pellucid.store.checkpoint import load_checkpoint, load_model
from pellucid.store.probes import pack_probe, save_probe
from pellucid.training.probe import see

OTHERS = "text,vectors,tower,attention,feedForward,chances,draw,loop,why,takeAway"


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


def test_one_step_under_glass_shows_the_steps_numbers(lens, page) -> None:
    panel = open_panel(page, lens.url)
    told = lens.ask("glass", at={"checkpoint": 20}, learning_rate=0.01, rule="sgd").value
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
    adamw = lens.ask("glass", at={"checkpoint": 20}, learning_rate=0.001, rule="adamw").value
    page.wait_for_function(
        "after => Math.abs(Number(document.querySelectorAll('p.loss .num')[1].innerText) - after) < 2e-3 * Math.abs(after)",
        arg=adamw["loss"]["after"],
    )


def test_a_weight_of_the_matrix_can_be_read(lens, page) -> None:
    panel = open_panel(page, lens.url)
    name = "blocks.1.attention.query.weight"
    panel.get_by_label("Matrix").select_option(name)
    told = lens.ask("glass", at={"checkpoint": 20}, learning_rate=0.01, rule="sgd", matrix=name)
    cells = panel.locator(f'td[title^="{name}["]')
    cells.first.wait_for()
    panel.get_by_role("button", name="after", exact=True).click()
    row, column = told.value["matrix"]["rows"][3], told.value["matrix"]["columns"][5]
    shown = panel.locator(f'td[title^="{name}[{row}, {column}] = "]').get_attribute("title").split(" = ")[1]
    assert float(shown) == pytest.approx(float(told.arrays["matrix.after"][3, 5]), rel=1e-6)


def test_probes_are_stops_of_their_own(run: Path, tmp_path: Path, open_lens, chromium, page) -> None:
    probed = tmp_path / "runs" / "probed"
    shutil.copytree(run, probed)
    desk = open_desk(probed)
    ids = [*desk.tokenizer.encode("the cat sat").ids]
    for step in (10, 20):
        model = load_model(load_checkpoint(probed / "checkpoints" / f"step-{step:06d}")).eval()
        arrays = {f"0.{name}": array for name, array in see(model, ids).items()}
        save_probe(probed, step, pack_probe(step, [{"text": "the cat sat", "ids": ids}], arrays))
    lens = open_lens(probed, "--prompt", "the mat", folder=tmp_path)
    panel = open_panel(page, lens.url)
    panel.get_by_role("button", name=re.compile("the cat sat.*seen 2 times")).click()
    panel.get_by_role("heading", name="Next token after “·sat”").wait_for()
    newer, older = (lens.ask("timeline.at", at={"checkpoint": step}, text=0, layer=0, head=0) for step in (20, 10))
    panel.get_by_role("columnheader", name="step 10").first.wait_for()
    check_bars(panel, newer, older)
