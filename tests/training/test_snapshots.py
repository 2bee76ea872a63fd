"""Early moments are kept for every run, within their budget, and change nothing."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pellucid.api import load
from pellucid.errors import NoSpaceError
from pellucid.events import MemoryRecorder
from pellucid.store.checkpoint import load_checkpoint
from pellucid.store.run import Run
from pellucid.store.saved import SavedStep
from pellucid.store.snapshots import list_snapshots
from pellucid.training import snapshots
from pellucid.training.metrics import without_wall_clock
from pellucid.training.moments import early_steps, thin_out
from pellucid.training.recipes.pretrain import pretrain

pytestmark = pytest.mark.usefixtures("quick")


@pytest.fixture
def book(tmp_path: Path, prose) -> Path:
    path = tmp_path / "book.txt"
    path.write_text(prose(900), encoding="utf-8")
    return path


def count_bytes(saved: SavedStep) -> int:
    return sum(path.stat().st_size for path in saved.directory.rglob("*") if path.is_file())


def steps_of(out: Path) -> list[int]:
    return [saved.step for saved in list_snapshots(out)]


@given(steps=st.integers(1, 10**6), most=st.integers(2, 30), best=st.integers(0, 10**6))
def test_thinning_is_even_in_the_logarithm_and_keeps_what_must_stay(steps: int, most: int, best: int) -> None:
    due = sorted({*early_steps(steps), *([best] if best <= steps else [])})
    kept = thin_out(due, most, always=[0, best])
    assert len(kept) == min(len(due), most) or (most == 2 and len(kept) == 3)
    assert kept[0] == 0 and kept[-1] == due[-1] and (best in kept or best > steps)
    if len(due) > most >= 5:
        early = [step for step in kept if step**2 <= kept[-1]]
        assert 0.25 <= len(early) / len(kept) <= 0.85, "neither half of the run is left out"


def test_the_beginning_is_kept_by_default_in_half_the_bytes(book: Path, tmp_path: Path, task) -> None:
    finished = pretrain(task(book, tmp_path / "run", steps=9))
    assert steps_of(tmp_path / "run") == [0, 1, 2, 4, 8]
    first, last = (load_checkpoint(saved.directory) for saved in (list_snapshots(tmp_path / "run")[0], finished.best))
    assert first.dtype == torch.bfloat16 and first.info["step"] == 0 and first.info["recipe"] == "pretrain"
    assert first.tokenizer.sha256 == last.tokenizer.sha256
    assert not (tmp_path / "run" / "snapshots" / "step-000000" / "training").exists()
    assert load(tmp_path / "run" / "snapshots" / "step-000001", device="cpu").complete("the", max_new_tokens=2, seed=1)


def test_a_snapshot_is_the_checkpoint_of_its_step_in_bf16(book: Path, tmp_path: Path, task) -> None:
    pretrain(task(book, tmp_path / "run", steps=4, saving={"every_steps": 1, "keep_last": 9}))
    for one in Run.open(tmp_path / "run").checkpoints():
        if one.step in (1, 2, 4):
            early = load_checkpoint(tmp_path / "run" / "snapshots" / one.directory.name)
            exact = load_checkpoint(one.directory)
            assert all(torch.equal(early.weights[name], exact.weights[name].bfloat16()) for name in exact.weights)


def test_keeping_them_changes_nothing_that_is_learned(book: Path, tmp_path: Path, task) -> None:
    for name, num_bytes in (("kept", None), ("none", 0)):
        pretrain(task(book, tmp_path / name, saving={"snapshot_bytes": num_bytes}))
    assert steps_of(tmp_path / "kept") == [0, 1, 2, 4] and steps_of(tmp_path / "none") == []
    runs = [Run.open(tmp_path / name) for name in ("kept", "none")]
    rows = [[without_wall_clock(row) for row in run.read_metrics()] for run in runs]
    weights = [load_checkpoint(run.latest().directory).weights for run in runs]
    assert rows[0] == rows[1] and all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_the_budget_is_kept_and_step_0_and_the_best_stay(book: Path, tmp_path: Path, task) -> None:
    pretrain(task(book, tmp_path / "free", steps=40))
    one = max(map(count_bytes, list_snapshots(tmp_path / "free")))
    budget, heard = 3 * one + 20_000, MemoryRecorder()
    pretrain(task(book, tmp_path / "run", steps=40, saving={"snapshot_bytes": budget}), recorder=heard)
    assert steps_of(tmp_path / "run")[::2] == [0, 32] and len(steps_of(tmp_path / "run")) == 3
    assert sum(map(count_bytes, list_snapshots(tmp_path / "run"))) <= budget
    [event] = [event for event in heard.events if event.name == "training.snapshots_thinned"]
    assert set(event.data["left_out"]) | set(steps_of(tmp_path / "run")) == {0, 1, 2, 4, 8, 16, 32}


def test_a_longer_run_makes_room_for_its_later_moments(book: Path, tmp_path: Path, task) -> None:
    pretrain(task(book, tmp_path / "free", steps=1))
    budget = 3 * max(map(count_bytes, list_snapshots(tmp_path / "free"))) + 20_000
    saving = {"snapshot_bytes": budget}
    pretrain(task(book, tmp_path / "run", steps=4, saving=saving))
    before = steps_of(tmp_path / "run")
    longer = dataclasses.replace(task(book, tmp_path / "run", steps=64, saving=saving), extend=True)
    pretrain(longer)
    after = steps_of(tmp_path / "run")
    assert len(before) == len(after) == 3 and after[0] == 0 and after[-1] == 64


def test_no_room_for_one_is_said(book: Path, tmp_path: Path, task) -> None:
    heard = MemoryRecorder()
    pretrain(task(book, tmp_path / "run", saving={"snapshot_bytes": 100}), recorder=heard)
    assert steps_of(tmp_path / "run") == [] and "training.no_snapshots" in heard.names()


def test_the_default_budget_is_four_checkpoints_or_a_gigabyte(book: Path, tmp_path: Path, task, monkeypatch) -> None:
    seen: list[snapshots.Snapshots] = []
    honest = snapshots.Snapshots.resize
    monkeypatch.setattr(snapshots.Snapshots, "resize", lambda self, steps: (seen.append(self), honest(self, steps))[1])
    pretrain(task(book, tmp_path / "run"))
    checkpoint = count_bytes(Run.open(tmp_path / "run").latest())
    one = count_bytes(list_snapshots(tmp_path / "run")[0])
    assert 0.5 * 4 * checkpoint <= seen[0].most * one <= 4 * checkpoint
    monkeypatch.setattr(snapshots, "MOST_BYTES", 2 * one + 20_000)
    pretrain(task(book, tmp_path / "small"))
    assert len(steps_of(tmp_path / "small")) == 2


def test_a_run_that_goes_on_takes_them_again(book: Path, tmp_path: Path, task) -> None:
    """What was kept after the checkpoint, and what a killed writer left, is cleared away and made anew."""
    pretrain(task(book, tmp_path / "run", steps=8, saving={"keep_last": 9}))
    whole = {
        saved.step: (saved.directory / "model.safetensors").read_bytes() for saved in list_snapshots(tmp_path / "run")
    }
    run = Run.open(tmp_path / "run")
    run.use(next(one for one in run.checkpoints() if one.step == 2))
    (tmp_path / "run" / "snapshots" / ".tmp-step-000004-77").mkdir()
    (tmp_path / "run" / "snapshots" / "step-000004" / "config.json").write_text("{}")
    pretrain(task(book, tmp_path / "run", steps=8, saving={"keep_last": 9}))
    assert {
        saved.step: (saved.directory / "model.safetensors").read_bytes() for saved in list_snapshots(run.path)
    } == whole
    assert not list((tmp_path / "run" / "snapshots").glob(".*"))


def test_a_disk_without_room_for_them_does_not_end_the_run(book: Path, tmp_path: Path, task, monkeypatch) -> None:
    def full(*args, **options) -> None:
        raise NoSpaceError("no room to write model.safetensors", found="the system says: no space left")

    heard = MemoryRecorder()
    monkeypatch.setattr(snapshots, "save_snapshot", full)
    assert pretrain(task(book, tmp_path / "run"), recorder=heard).step == 6
    [event] = [event for event in heard.events if event.name == "training.no_snapshots"]
    assert event.level == "warning" and "from step 0 on" in event.message
