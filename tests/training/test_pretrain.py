"""Whole runs, tiny: text in, checkpoint out, continued, refused, stopped."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from pellucid.errors import InputError, ResumeError, SettingsError
from pellucid.events import MemoryRecorder
from pellucid.store.checkpoint import load_checkpoint, load_model
from pellucid.store.metrics import best_evaluation, evaluations
from pellucid.store.run import Run
from pellucid.training.recipes.pretrain import draw_loss, pretrain

pytestmark = pytest.mark.usefixtures("quick")


@pytest.fixture
def book(tmp_path: Path, prose) -> Path:
    path = tmp_path / "book.txt"
    path.write_text(prose(900), encoding="utf-8")
    return path


def test_a_run_leaves_everything_a_person_needs(book: Path, tmp_path: Path, task) -> None:
    recorder = MemoryRecorder()
    finished = pretrain(task(book, tmp_path / "run"), recorder=recorder)
    assert (finished.step, finished.steps, finished.reason) == (6, 6, "finished")
    run = Run.open(tmp_path / "run")
    rows = run.read_metrics()
    assert [row["step"] for row in rows if row["kind"] == "train"] == [1, 2, 3, 4, 5, 6]
    assert [row["step"] for row in evaluations(rows)] == [2, 4, 6]
    assert {"loss", "perplexity", "bits_per_byte"} <= evaluations(rows)[0].keys()
    identity = json.loads((tmp_path / "run" / "run.json").read_text(encoding="utf-8"))
    assert identity["settings"]["seed"] == 1337 and identity["sources"]["seed"] == "default"
    assert identity["sources"]["model.n_layers"] == "test"
    assert identity["plan"]["reasons"] and identity["data"]["text"]
    checkpoint = load_checkpoint(finished.checkpoint)
    assert checkpoint.info["step"] == 6 and checkpoint.info["recipe"] == "pretrain"
    assert checkpoint.tokenizer is not None and checkpoint.tokenizer.sha256 == run.read_tokenizer().sha256
    assert "training.plan" in recorder.names() and "training.fingerprint" in recorder.names()
    assert "training.progress" not in (tmp_path / "run" / "events.jsonl").read_text(encoding="utf-8")


def test_the_saved_model_is_the_trained_one(book: Path, tmp_path: Path, task) -> None:
    finished = pretrain(task(book, tmp_path / "run", precision="fp32", evaluation={"every_steps": 6}))
    saved = load_model(load_checkpoint(finished.checkpoint))
    start = load_model(load_checkpoint(pretrain(task(book, tmp_path / "one", steps=1)).checkpoint))
    assert any(not torch.equal(a, b) for a, b in zip(saved.parameters(), start.parameters(), strict=True))
    assert all(parameter.isfinite().all() for parameter in saved.parameters())


def test_the_same_command_on_a_finished_run_changes_nothing(book: Path, tmp_path: Path, task) -> None:
    pretrain(task(book, tmp_path / "run"))
    metrics = (tmp_path / "run" / "metrics.jsonl").read_bytes()
    recorder = MemoryRecorder()
    pretrain(task(book, tmp_path / "run"), recorder=recorder)
    assert (tmp_path / "run" / "metrics.jsonl").read_bytes() == metrics
    [event] = [event for event in recorder.events if event.name == "training.resumed"]
    assert event.data["finished"] and "--extend" in event.message


def test_another_setting_is_refused_by_name(book: Path, tmp_path: Path, task) -> None:
    pretrain(task(book, tmp_path / "run"))
    with pytest.raises(ResumeError) as caught:
        pretrain(task(book, tmp_path / "run", seed=1, optimizer={"muon_rate": 0.5}))
    assert "seed: 1337 there, 1 now" in caught.value.found and "optimizer.muon_rate" in caught.value.found


def test_a_setting_that_was_left_open_may_be_given_the_value_that_was_chosen(book: Path, tmp_path: Path, task) -> None:
    pretrain(task(book, tmp_path / "run"))
    plan = Run.open(tmp_path / "run").part("plan")
    config = {"norm": "rms", "norm_eps": 1e-6, "rope_theta": 10_000.0, "sliding_window": None, "tied_head": True}
    same = {
        "model": {**config, "dropout": plan["config"]["dropout"]},
        "saving": {"every_steps": plan["save_every_steps"]},
    }
    assert pretrain(task(book, tmp_path / "run", **same)).step == 6
    with pytest.raises(ResumeError) as caught:
        pretrain(task(book, tmp_path / "run", model={"norm": "layer"}, saving={"every_steps": 77}))
    assert caught.value.found == "model.norm.kind: none there, layer now; saving.every_steps: none there, 77 now"


def test_a_longer_run_needs_extend(book: Path, tmp_path: Path, task) -> None:
    import dataclasses

    pretrain(task(book, tmp_path / "run"))
    with pytest.raises(ResumeError, match="other settings") as caught:
        pretrain(task(book, tmp_path / "run", steps=9))
    assert "--extend" in caught.value.hint
    finished = pretrain(dataclasses.replace(task(book, tmp_path / "run", steps=9), extend=True))
    assert finished.step == 9
    again = pretrain(task(book, tmp_path / "run", steps=9))
    assert again.step == 9
    with pytest.raises(SettingsError, match="needs a longer run") as shorter:
        pretrain(dataclasses.replace(task(book, tmp_path / "run", steps=4), extend=True))
    assert shorter.value.found == "4 steps asked for, 9 steps done"


def test_another_text_is_refused(book: Path, tmp_path: Path, task, prose) -> None:
    pretrain(task(book, tmp_path / "run"))
    book.write_text(prose(400, seed=1), encoding="utf-8")
    with pytest.raises(ResumeError, match="not the one this run began with"):
        pretrain(task(book, tmp_path / "run"))


def test_starting_from_another_run_keeps_its_weights_and_lineage(book: Path, tmp_path: Path, task) -> None:
    import dataclasses

    parent = pretrain(task(book, tmp_path / "parent"))
    plain = {"model": dict.fromkeys(("n_layers", "d_model", "n_heads", "n_kv_heads", "head_dim", "d_ff", "context_length", "depth"))}  # fmt: skip
    slow = {f"{kind}_rate": 0.0 for kind in ("muon", "tied", "embedding", "head", "vector")}
    child_task = dataclasses.replace(
        task(book, tmp_path / "child", **plain, optimizer=slow), start_from=tmp_path / "parent"
    )
    child = load_checkpoint(pretrain(child_task).checkpoint)
    old = load_checkpoint(parent.checkpoint)
    assert all(torch.equal(child.weights[name], old.weights[name]) for name in old.weights)
    [ancestor] = child.info["lineage"]
    assert ancestor["step"] == 6 and ancestor["weights_sha256"] == old.info["files"]["model.safetensors"]
    with pytest.raises(SettingsError, match="its shape cannot be set"):
        pretrain(dataclasses.replace(task(book, tmp_path / "other"), start_from=tmp_path / "parent"))


def test_patience_stops_early_and_stays_stopped(book: Path, tmp_path: Path, task) -> None:
    still = {f"{kind}_rate": 0.0 for kind in ("muon", "tied", "embedding", "head", "vector")}
    changes = {"steps": 40, "optimizer": still, "evaluation": {"every_steps": 2, "patience": 2}}
    finished = pretrain(task(book, tmp_path / "run", **changes))
    assert finished.reason == "patience" and finished.step == 6  # best at 2, then two without anything better
    again = pretrain(task(book, tmp_path / "run", **changes))
    assert again.reason == "patience" and again.step == 6


def test_the_best_checkpoint_stays(book: Path, tmp_path: Path, task) -> None:
    wild = {"muon_rate": 3.0}
    pretrain(task(book, tmp_path / "run", steps=12, optimizer=wild, saving={"keep_last": 1}))
    run = Run.open(tmp_path / "run")
    best = best_evaluation(run.read_metrics())
    steps = [saved.step for saved in run.checkpoints()]
    assert best is not None and best["step"] in steps and 12 in steps and len(steps) <= 2


@pytest.mark.parametrize("text", ["ab", "a", "我", "hi\n", "one short line of text\n"])
def test_texts_of_a_few_characters_train(text: str, tmp_path: Path, task) -> None:
    path = tmp_path / "small.txt"
    path.write_text(text, encoding="utf-8")
    free = {"model": {"context_length": None}, "batch": {"tokens": None, "micro_rows": None}}
    finished = pretrain(task(path, tmp_path / "run", **free))
    assert finished.step == 6


def test_an_empty_file_is_an_error_and_leaves_no_lock(tmp_path: Path, task) -> None:
    path = tmp_path / "empty.txt"
    path.touch()
    with pytest.raises(InputError):
        pretrain(task(path, tmp_path / "run"))
    path.write_text("now there is text here, enough to learn something from", encoding="utf-8")
    free = {"model": {"context_length": None}, "batch": {"micro_rows": None}}
    assert pretrain(task(path, tmp_path / "run", **free)).step == 6


def test_characters_can_be_tokens(book: Path, tmp_path: Path, task) -> None:
    finished = pretrain(task(book, tmp_path / "run", tokenizer={"kind": "char", "vocab_size": None}))
    tokenizer = load_checkpoint(finished.checkpoint).tokenizer
    assert tokenizer is not None and tokenizer.kind == "char"
    assert tokenizer.decode(tokenizer.encode("小猫 zzz 🙂").ids) == "小猫 zzz 🙂"


def test_curves_are_drawn_from_the_metrics(book: Path, tmp_path: Path, task) -> None:
    pretrain(task(book, tmp_path / "run"))
    draw_loss(Run.open(tmp_path / "run"))
    assert (tmp_path / "run" / "loss.svg").read_text(encoding="utf-8").lstrip().startswith("<?xml")
    assert (tmp_path / "run" / "loss.png").read_bytes().startswith(b"\x89PNG")


def test_tensorboard_copies_the_metrics(book: Path, tmp_path: Path, task) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    pretrain(task(book, tmp_path / "run", tensorboard=True))
    board = EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    board.Reload()
    rows = [row["loss"] for row in Run.open(tmp_path / "run").read_metrics() if row["kind"] == "train"]
    assert [event.value for event in board.Scalars("train/loss")] == pytest.approx(rows)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGTERM to catch")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_says_how_to_go_on(number: signal.Signals, book: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    command = [sys.executable, "-m", "pellucid", "train", str(book), "--out", str(out), "--steps", "15000"]
    tiny = {"n_layers": 1, "d_model": 8, "n_heads": 1, "n_kv_heads": 1, "head_dim": 8, "d_ff": 8, "context_length": 8}
    settings = {f"model.{name}": value for name, value in tiny.items()} | {
        "batch.tokens": 8, "compile": "off", "threads": 1, "evaluation.every_steps": 100_000
    }  # fmt: skip
    command += [
        word for name, value in settings.items() for word in ("--set", f"{name}={value}")
    ]  # no speed is measured
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        deadline = time.monotonic() + 120
        while not (out / "metrics.jsonl").is_file() and time.monotonic() < deadline and process.poll() is None:
            time.sleep(0.1)
        process.send_signal(number)
        stdout, stderr = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == 128 + number, stderr
    assert f"stopped by {number.name}" in stdout and "repeat the same command" in stdout
    run = Run.open(out)
    saved = run.latest()
    assert saved is not None and saved.step == run.read_metrics()[-1]["step"]


def test_a_run_whose_plan_needs_no_speed_measures_none(tmp_path: Path, task, monkeypatch) -> None:
    def measure(*arguments, **options):
        raise AssertionError("the machine was measured")

    monkeypatch.setattr("pellucid.training.make_plan.measure_training", measure)
    text = tmp_path / "hello.txt"
    text.write_text("hello world\n", encoding="utf-8")
    recorder = MemoryRecorder()
    assert pretrain(task(text, tmp_path / "run", steps=10), recorder=recorder).step == 10
    assert "training.measured" not in recorder.names()
    with pytest.raises(AssertionError, match="measured"):
        pretrain(task(text, tmp_path / "long", steps=10**7))
