from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from pellucid.errors import CorruptFileError, LockedError, ResumeError, StoreError
from pellucid.events import Event, MemoryRecorder
from pellucid.store.checkpoint import load_checkpoint
from pellucid.store.run import Run, resolve_checkpoint
from pellucid.store.snapshots import save_snapshot
from pellucid.tokens.train import train_characters


@pytest.fixture
def run(tmp_path) -> Run:
    return Run.create(tmp_path / "runs" / "book", {"settings": {"seed": 1}})


@pytest.fixture
def save(run, config, weights):
    def save(*steps: int) -> None:
        for step in steps:
            run.save(step, config=config, weights=weights, tokenizer=None, info={"recipe": "pretrain"})

    return save


def damage(directory: Path) -> None:
    with (directory / "model.safetensors").open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"\x55")


def test_a_run_is_created_once_and_opened_as_it_was(run):
    opened = Run.open(run.path)
    assert opened.identity == run.identity and opened.identity["settings"] == {"seed": 1}
    assert {"version", "created"} <= opened.identity.keys()
    with pytest.raises(ResumeError, match="already"):
        Run.create(run.path, {})
    with pytest.raises(StoreError, match="no run"):
        Run.open(run.path.parent)
    run.update_identity({**run.identity, "settings": {"seed": 1, "steps": 9}})
    assert Run.open(run.path).identity["settings"]["steps"] == 9


def test_the_latest_is_the_last_one_saved(run, save):
    assert run.latest() is None and run.checkpoints() == []
    save(100, 200)
    assert run.latest().step == 200 and (run.path / "latest").read_text() == "step-000200\n"
    assert [one.step for one in run.checkpoints()] == [100, 200]
    assert load_checkpoint(run.latest().directory).info["step"] == 200
    assert resolve_checkpoint(run.path) == run.path / "checkpoints" / "step-000200"


def test_steps_beyond_six_digits_stay_in_order(run, save):
    save(999_999, 1_000_000)
    assert [one.step for one in run.checkpoints()] == [999_999, 1_000_000]
    assert run.latest().step == 1_000_000


def test_what_is_unfinished_or_foreign_is_no_checkpoint(run, save):
    save(1)
    for name in (".tmp-step-000002-9", "step-000003", "notes"):
        (run.path / "checkpoints" / name).mkdir()
    assert [one.step for one in run.checkpoints()] == [1]


def test_a_damaged_latest_names_an_older_whole_one(run, save):
    save(1, 2, 3)
    damage(run.path / "checkpoints" / "step-000003")
    damage(run.path / "checkpoints" / "step-000002")
    for look in (run.latest, lambda: resolve_checkpoint(run.path)):
        with pytest.raises(CorruptFileError, match="latest checkpoint, step-000003, is damaged") as caught:
            look()
        assert "step-000001 is whole" in caught.value.hint
    run.use(run.checkpoints()[0])
    assert run.latest().step == 1


def test_a_vanished_latest_names_another(run, save):
    save(1, 2)
    run.prune(1, protect=(1,))
    (run.path / "latest").write_text("step-000009\n")
    with pytest.raises(CorruptFileError, match="step-000009, is gone") as caught:
        run.latest()
    assert "step-000002 is whole" in caught.value.hint


def test_retention_keeps_the_newest_the_regular_and_the_protected(run, save):
    save(*range(10, 101, 10))
    events = MemoryRecorder()
    run.prune(2, keep_every=40, protect=(30,), recorder=events)
    assert [one.step for one in run.checkpoints()] == [30, 40, 80, 90, 100]
    assert [event.data["step"] for event in events.events] == [10, 20, 50, 60, 70]
    assert all(not entry.name.startswith(".") for entry in (run.path / "checkpoints").iterdir())
    run.use(run.checkpoints()[1])
    run.prune(0)
    assert [one.step for one in run.checkpoints()] == [40]  # the latest survives everything


def test_metrics_are_lines_and_a_torn_one_is_passed_over(run):
    for step in (1, 2, 3):
        run.append_metrics({"kind": "train", "step": step, "loss": 0.1 + 0.2, "note": "一"})
    run.append_metrics({"kind": "train", "step": 4, "loss": float("nan")})
    path = run.path / "metrics.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"step": 5, "lo')
    assert [row["step"] for row in run.read_metrics()] == [1, 2, 3, 4]
    assert run.read_metrics()[0]["loss"] == 0.1 + 0.2 and run.read_metrics()[3]["loss"] is None
    with run.lock():
        assert path.read_bytes() == whole
    run.truncate_metrics(2)
    assert path.read_bytes() == b"".join(whole.splitlines(keepends=True)[:2])


def test_a_broken_line_in_the_middle_is_an_error_with_its_number(run):
    (run.path / "metrics.jsonl").write_text('{"kind": "train", "step": 1}\n{"st\n{"step": 3}\n')
    with pytest.raises(CorruptFileError, match="line 2 of"):
        run.read_metrics()


def test_a_length_is_on_the_disk_before_anything_goes_on(run, monkeypatch):
    path, synced = run.path / "lengths.jsonl", []
    honest = os.fsync
    monkeypatch.setattr(os, "fsync", lambda descriptor: (synced.append(path.read_text()), honest(descriptor))[1])
    run.append_length({"step": 3, "old": 9, "new": 5, "reason": "slow"})
    assert synced and all(json.loads(text)["new"] == 5 for text in synced), "the line was written, then forced down"
    assert run.num_steps() == 5


def test_events_become_lines(run):
    run.record(Event(name="a.b", message="hello", data={"x": 1}, level="warning"))
    line = json.loads((run.path / "events.jsonl").read_text())
    assert line == {"name": "a.b", "message": "hello", "data": {"x": 1}, "level": "warning"}


def test_the_lock_refuses_a_second_process_and_names_the_first(run):
    script = (
        "import sys; from pathlib import Path; from pellucid.errors import LockedError; from pellucid.store.run import Run\n"
        "try:\n"
        "    with Run.open(Path(sys.argv[1])).lock(): print('locked')\n"
        "except LockedError as error: print(error.found)\n"
    )
    with run.lock():
        done = subprocess.run([sys.executable, "-c", script, run.path], capture_output=True, text=True, check=True)
    assert done.stdout.startswith(f"process {os.getpid()} on ")


def test_the_lock_refuses_a_second_writer_in_the_same_process(run):
    with run.lock(), pytest.raises(LockedError), Run.open(run.path).lock():
        pass
    with run.lock():
        pass


@pytest.mark.parametrize("make", [lambda p: None, lambda p: p.mkdir(), lambda p: p.write_text("x")])
def test_a_place_without_a_model_is_described(tmp_path, make):
    make(tmp_path / "x")
    with pytest.raises(StoreError, match="no model is here") as caught:
        resolve_checkpoint(tmp_path / "x")
    assert caught.value.found in ("nothing is there", "an empty directory", "a file")


def test_a_run_without_checkpoints_says_so(run):
    with pytest.raises(StoreError, match="not saved a checkpoint yet"):
        resolve_checkpoint(run.path)


def test_best_is_the_checkpoint_with_the_lowest_validation_loss(run, save):
    save(2, 4, 6)
    with pytest.raises(StoreError, match="none is the best"):
        resolve_checkpoint(run.path / "best")
    for step, loss in ((2, 3.0), (4, 2.0), (6, None), (8, 1.0)):  # the checkpoint of step 8 was never written
        run.append_metrics({"kind": "train", "step": step, "loss": 0.1})
        run.append_metrics({"kind": "eval", "step": step, "loss": loss})
    for which, step in (("best", 4), ("latest", 6)):
        assert resolve_checkpoint(run.path / which).name == f"step-{step:06d}"
    heard = MemoryRecorder()
    assert resolve_checkpoint(run.path, recorder=heard).name == "step-000004"
    [event] = heard.events
    assert event.name == "store.checkpoint_chosen" and event.data["step"] == 4
    assert (
        "step 4" in event.message and "step 8 was better" in event.message and str(run.path / "latest") in event.message
    )
    with pytest.raises(StoreError, match="no model is here"):
        resolve_checkpoint(run.path.parent / "best")


def test_what_is_said_of_the_checkpoint_that_is_used(run, save):
    def said() -> str:
        heard = MemoryRecorder()
        resolve_checkpoint(run.path, recorder=heard)
        return heard.events[-1].message

    save(2, 4)
    assert "step 4, the last: none was tried on validation text" in said()
    run.append_metrics({"kind": "eval", "step": 4, "loss": 2.0})
    assert "step 4, the last, and the best on validation text" in said()
    run.append_metrics({"kind": "eval", "step": 2, "loss": 1.0})
    assert f"step 2, the best on validation text; the last: {run.path / 'latest'}" in said()
    run.use(run.checkpoints()[0])
    assert "step 2, the last, and the best" in said()


def test_a_damaged_best_names_the_last(run, save):
    save(2, 4)
    for step, loss in ((2, 1.0), (4, 2.0)):
        run.append_metrics({"kind": "eval", "step": step, "loss": loss})
    damage(run.path / "checkpoints" / "step-000002")
    with pytest.raises(CorruptFileError, match="best checkpoint, step-000002, is damaged") as caught:
        resolve_checkpoint(run.path)
    assert str(run.path / "latest") in caught.value.hint
    assert resolve_checkpoint(run.path / "latest").name == "step-000004"


def test_moments_are_checkpoints_and_snapshots(run, save, config, weights):
    for step in (0, 1, 4):
        save_snapshot(run.path, step, config=config, weights=weights, tokenizer=None, info={})
    save(4, 9)
    assert [one.step for one in run.moments()] == [0, 1, 4, 9]
    assert [one.directory.parent.name for one in run.moments()] == [
        "snapshots",
        "snapshots",
        "checkpoints",
        "checkpoints",
    ]
    assert [one.step for one in run.checkpoints()] == [4, 9] and run.latest().step == 9
    early = load_checkpoint(resolve_checkpoint(run.path / "snapshots" / "step-000001"))
    assert early.dtype == torch.bfloat16
    for name, weight in weights.items():
        assert torch.equal(early.weights[name], weight.to(torch.bfloat16))


def test_a_checkpoint_directory_resolves_to_itself(run, save):
    save(1)
    directory = run.latest().directory
    assert resolve_checkpoint(directory) == resolve_checkpoint(str(directory)) == directory


@pytest.fixture(scope="module")
def found_after_kills(tmp_path_factory: pytest.TempPathFactory) -> list[dict]:
    script, folder = Path(__file__).with_name("killed_save.py"), tmp_path_factory.mktemp("killed")
    done = subprocess.run([sys.executable, script, folder], capture_output=True, text=True, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills forked children")
@pytest.mark.parametrize("step", [2, 1])
def test_killed_at_every_write_the_run_goes_on(found_after_kills: list[dict], step: int) -> None:
    """`2` saves a new checkpoint, `1` replaces the one that is there; either way a whole one is found afterwards."""
    *kills, last = (found for found in found_after_kills if found["step"] == step)
    assert len(kills) > 50
    for found in kills:
        assert found["killed"] and found["whole"] and found["left over"] == [], found
        assert found["latest"] in found["checkpoints"] and found["metrics"][0] == 1
    assert not last["killed"] and last["latest"] == step and last["checkpoints"][-1] == step
    assert step == 1 or {found["latest"] for found in kills} == {1, 2}


def test_a_run_keeps_its_tokenizer(run):
    assert run.read_tokenizer() is None
    tokenizer = train_characters(["hello 你好"])
    run.save_tokenizer(tokenizer)
    assert run.read_tokenizer().files() == tokenizer.files()
    assert run.latest() is None  # a tokenizer alone is no checkpoint


@pytest.mark.parametrize(
    "text", ["", '{"settings": {"seed"', "[]", '{"settings": 3}', '{"plan": "long"}', '{"a": NaN}', '{"a": 1, "a": 2}']
)
def test_a_damaged_run_json_says_what_can_be_done_without_it(run, save, text):
    with pytest.raises(CorruptFileError) as caught:
        (run.path / "run.json").write_text(text)
        Run.open(run.path)
    assert caught.value.hint == "put back a whole run.json from a copy, or train in a new directory"
    save(1, 2)
    with pytest.raises(CorruptFileError) as caught:
        resolve_checkpoint(run.path)
    directory = caught.value.hint.rpartition(": give ")[2]
    assert load_checkpoint(resolve_checkpoint(directory)).info["step"] == 2


def test_a_part_that_run_json_lacks_is_an_error_that_says_what_to_try(run):
    run.update_identity({"recipe": "pretrain", "plan": {}})
    with pytest.raises(CorruptFileError, match="lacks settings") as caught:
        Run.open(run.path).part("settings")
    assert "from a copy" in caught.value.hint


@pytest.mark.parametrize("line", ['{"kind": "train"', "[]", '{"kind": "train", "step": "one"}', '{"step": 1}'])
def test_a_damaged_line_of_numbers_says_what_to_try(run, line):
    (run.path / "metrics.jsonl").write_text(line + "\n")
    with pytest.raises(CorruptFileError) as caught:
        run.read_metrics()
    assert "mend this line" in caught.value.hint and ":1" in caught.value.where
