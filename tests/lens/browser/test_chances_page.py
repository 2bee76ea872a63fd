"""Chances, the draw and the loop, done by a browser and compared with Python's own sampler."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest
from command import call, undone

OTHERS = "text,vectors,logitLens,attention,feedForward,why,training,takeAway"


def open_panels(page, url: str, sampling: dict, *, closed: str = OTHERS) -> None:
    page.goto(f"{url}#language=en&closed={closed}&sampling={json.dumps(sampling)}")
    for key in ("chances", "draw", "loop"):
        if key not in closed:
            page.locator(f'[data-panel="{key}"]').scroll_into_view_if_needed()
            page.locator(f'[data-panel="{key}"] button').nth(1).wait_for()


def columns(page) -> list[list[str]]:
    """The last column of the table of chances: label and chance of each row."""
    page.locator('[data-panel="chances"] tbody tr').first.wait_for()
    rows = page.locator('[data-panel="chances"] tbody tr').all()
    return [[row.locator("th").inner_text().split("\n")[0], row.locator("td").last.inner_text()] for row in rows]


def in_percent(shown: str) -> float:
    return float(re.sub(r"[<>%\s]", "", shown)) / 100


def check_columns(page, lens, node: int, sampling: dict) -> None:
    told = lens.ask("chances", at={"node": node}, sampling={**sampling, "seed": 0}, count=40).value
    chances = {candidate["label"]: candidate["p"][-1] for candidate in told["candidates"]}
    shown = columns(page)
    assert len(shown) == 13 and "all other" in shown[-1][0]
    for label, chance in shown[:-1]:
        if chance.strip() and "<" not in chance:
            assert in_percent(chance) == pytest.approx(chances[label], rel=0.06) or chances[label] == 0
    assert sum(chances[label] for label, _ in shown[:-1]) + in_percent(shown[-1][1].replace("–", "0")) == pytest.approx(
        1, abs=0.01
    )


def test_the_columns_are_pythons_and_follow_the_knobs(lens, page) -> None:
    open_panels(page, lens.url, {"temperature": 0.7, "top_k": 9}, closed=f"{OTHERS},draw,loop")
    check_columns(page, lens, 0, {"temperature": 0.7, "top_k": 9})
    page.get_by_role("spinbutton", name="temperature").fill("2.5")
    page.get_by_role("spinbutton", name="temperature").press("Enter")
    page.get_by_role("spinbutton", name="top-p").fill("0.8")
    page.get_by_role("spinbutton", name="top-p").press("Enter")
    page.get_by_text("÷ 2.5").wait_for()
    check_columns(page, lens, 0, {"temperature": 2.5, "top_k": 9, "top_p": 0.8})
    page.get_by_role("button", name="Move top-p up").click()
    page.get_by_role("button", name="Move top-p up").click()
    heads = page.locator('[data-panel="chances"] th.stage').all_inner_texts()
    assert heads == ["model", "top-p 0.8", "÷ 2.5", "top-k 9"]
    order = json.loads(re.search(r"sampling=([^&]+)", page.evaluate("decodeURIComponent(location.hash)"))[1])["order"]
    check_columns(page, lens, 0, {"temperature": 2.5, "top_k": 9, "top_p": 0.8, "order": order})


def test_lines_are_dragged_by_keyboard(lens, page) -> None:
    open_panels(page, lens.url, {"top_p": 0.5}, closed=f"{OTHERS},draw,loop")
    line = page.get_by_role("slider", name=re.compile("^top-p: the sum"))
    line.focus()
    line.press("ArrowUp")
    page.get_by_text("p = 0.51").wait_for()
    line = page.get_by_role("slider", name=re.compile("^top-k: how many"))
    line.focus()
    line.press("Home")
    page.get_by_text("k = 1", exact=True).wait_for()
    assert "top_k" in page.evaluate("decodeURIComponent(location.hash)")


def test_the_draw_is_what_the_step_takes_and_the_command_line_repeats(fresh, run: Path, page) -> None:
    sampling = {"temperature": 1.6, "top_k": 100, "min_p": 0.001, "seed": 11}
    open_panels(page, fresh.url, sampling, closed=f"{OTHERS},chances")
    panel = page.locator('[data-panel="draw"]')
    panel.locator(".verdict").wait_for()
    said = re.search("falls on “(.*)”, whose", panel.locator(".verdict").inner_text())[1]
    command = shlex.split(panel.locator("code").inner_text())
    assert command[:2] == ["pellucid", "generate"] and command[2] == str(run)
    with undone():
        done = call(*command[1:], "--json")
    panel.get_by_role("button", name=f"Append “{said}”").click()
    page.locator("section.bar [data-position='2']").wait_for()
    node = fresh.ask("tree").value["nodes"][-1]
    assert json.loads(done.out)["ids"] == node["ids"] and node["token"]["label"] == said
    assert (node["made_by"], node["seed"]) == ("drawn", 11)


def test_redraw_takes_the_next_seed_and_u_can_be_set_by_hand(fresh, page) -> None:
    open_panels(page, fresh.url, {"temperature": 3, "seed": 5}, closed=f"{OTHERS},chances")
    panel = page.locator('[data-panel="draw"]')
    panel.locator(".verdict").wait_for()
    page.locator("section.bar").press("r")
    panel.get_by_text(re.compile("from seed 6 ")).wait_for()
    u = fresh.ask("draws", seed=6, position=len(fresh.ask("path", node=0).value["chips"])).arrays["u"][0]
    assert float(panel.get_by_role("spinbutton", name="u").input_value()) == pytest.approx(float(u), abs=1e-12)
    mark = panel.get_by_role("slider").first
    mark.focus()
    mark.press("ArrowRight")
    panel.get_by_text(re.compile("u was set by hand")).wait_for()
    panel.get_by_role("button", name=re.compile("^Append")).click()
    page.locator("section.bar [data-position='2']").wait_for()
    assert fresh.ask("tree").value["nodes"][-1]["made_by"] == "chosen"


def test_a_thousand_draws_are_counted(lens, page) -> None:
    open_panels(page, lens.url, {"top_k": 6, "seed": 3}, closed=f"{OTHERS},chances,loop")
    panel = page.locator('[data-panel="draw"]')
    panel.get_by_role("button", name="Draw 1,000 times").click()
    panel.get_by_text(re.compile("degrees of freedom")).wait_for()
    counts = [int(text) for text in panel.locator(".bars .count:not(.soft)").all_inner_texts()]
    assert sum(counts) == 1000 and len(counts) <= 6


def test_at_temperature_0_nothing_is_drawn(lens, page) -> None:
    open_panels(page, lens.url, {"temperature": 0}, closed=f"{OTHERS},loop")
    told = lens.ask("chances", at={"node": 0}, sampling={"temperature": 0}).value["candidates"][0]
    page.locator('[data-panel="draw"]').get_by_text(f"“{told['label']}”").wait_for()
    assert columns(page)[0] == [told["label"], "100.0 %"]


def test_fork_compare_search_and_a_reload_loses_nothing(fresh, page) -> None:
    open_panels(page, fresh.url, {"seed": 2}, closed=f"{OTHERS},chances,draw")
    panel = page.locator('[data-panel="loop"]')
    panel.get_by_role("button", name="× 10").click()
    page.locator("section.bar [data-position='11']").wait_for()
    first = fresh.ask("tree").value
    assert [(node["reused"] > 0, node["computed"]) for node in first["nodes"][2:11]] == [(True, 1)] * 9
    page.locator("section.bar [data-position='5']").click()
    panel.get_by_text("token 6", exact=False).wait_for()
    panel.locator("ul button.token[aria-pressed=false]").first.click()
    page.locator("section.bar [data-position='6']").wait_for(state="detached")
    forked = fresh.ask("tree").value
    assert len(forked["nodes"]) == 12 and forked["nodes"][-1]["made_by"] == "chosen"
    assert fresh.ask("path", node=11).value["nodes"][-2] == fresh.ask("path", node=10).value["nodes"][4]
    panel.get_by_role("button", name="Beam search").click()
    panel.locator(".node.beam").nth(3).wait_for()
    assert panel.locator(".side").count() == 2
    nodes = panel.locator(".node").count()
    page.reload()
    panel.scroll_into_view_if_needed()
    panel.locator(".node").nth(nodes - 1).wait_for()
    assert panel.locator(".node").count() == nodes == len(fresh.ask("tree").value["nodes"])


def test_branches_are_saved_and_opened(fresh, page, tmp_path: Path) -> None:
    open_panels(page, fresh.url, {"seed": 2}, closed=f"{OTHERS},chances,draw")
    panel = page.locator('[data-panel="loop"]')
    panel.get_by_role("button", name="× 10").click()
    page.locator("section.bar [data-position='11']").wait_for()
    with page.expect_download() as download:
        panel.get_by_role("button", name="Save branches").click()
    download.value.save_as(tmp_path / "branches.json")
    before = fresh.ask("tree").value["nodes"]
    panel.get_by_role("button", name="× 10").click()  # ten more, which the file does not have
    panel.locator("[data-node='20']").wait_for()
    panel.locator("input[type=file]").set_input_files(tmp_path / "branches.json")
    panel.locator("[data-node='20']").wait_for(state="detached")
    assert fresh.ask("tree").value["nodes"] == before


def test_a_text_that_has_ended_says_why(fresh, page) -> None:
    open_panels(page, fresh.url, {"seed": 2}, closed=f"{OTHERS},chances,draw")
    panel = page.locator('[data-panel="loop"]')
    panel.get_by_role("button", name="Until it stops").click()
    panel.get_by_text(re.compile("The text has ended")).wait_for()
    assert panel.get_by_role("button", name="Step").is_disabled()
    stop = fresh.ask("tree").value["nodes"][-1]["stop"]
    assert stop in ("eos", "context")
