"""A run killed at any moment and continued equals the run that nobody touched: weights, optimizer, metrics, to the bit.

A kill leaves the disk as it was between two system calls that change it: before or after a write, in the middle of
saving, between a rename and the next. Every such state of a whole run is continued from; some are also reached by a
real SIGKILL. Each child is a fork of this process, which has torch loaded but has never started a thread.

The run has a time budget, and a clock that goes on with the updates alone: its length is changed twice on the way.
"""

from __future__ import annotations

import os
import pickle
import resource
import shutil
import signal
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.fx.experimental.symbolic_shapes  # torch imports it in the middle of a run: once here, not in every child

from pellucid.data.prepare import open_prepared
from pellucid.errors import NoSpaceError, ResumeError
from pellucid.events import MemoryRecorder
from pellucid.store.checkpoint import load_checkpoint, load_training
from pellucid.store.run import Run
from pellucid.store.snapshots import list_snapshots
from pellucid.training import make_plan, session
from pellucid.training import run as run_room
from pellucid.training.loop import Trainer
from pellucid.training.metrics import without_wall_clock
from pellucid.training.recipes.pretrain import pretrain

pytestmark = [
    pytest.mark.usefixtures("quick", "clock"),
    pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork, which this system does not have"),
    # torch warns that a forked child of a process with threads may hang; this process has started none of torch's.
    pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning"),
]
CALLS = ("mkdir", "open", "write", "fsync", "replace", "ftruncate", "unlink", "rmdir")
CHANGES = {
    "steps": 12,
    "minutes": 1,
    "model": {"dropout": 0.2},
    "batch": {"tokens": 256, "micro_rows": 8},
    "saving": {"snapshot_bytes": 85_000},  # two of four early moments: each more adds dozens of states to go on from
}
LENGTHS = [(4, 12, 7), (5, 7, 6)]  # what the clock makes of it


class Clock:
    """A clock that only updates move: six seconds each, later twelve."""

    def __init__(self, slow: float = 1.0) -> None:
        self.now, self.slow = 0.0, slow

    def __call__(self) -> float:
        return self.now

    def update(self, honest: Callable[[Trainer], object]) -> Callable[[Trainer], object]:
        def timed(trainer: Trainer) -> object:
            self.now += self.slow * (6.0 if trainer.step < 3 else 12.0)
            return honest(trainer)

        return timed


def set_clock(patch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    for module in (session, make_plan, run_room):
        patch.setattr(module, "monotonic", clock)
    patch.setattr(Trainer, "update", clock.update(Trainer.update))
    return clock


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return set_clock(monkeypatch)


def changing_calls(call: Callable[[int], None]) -> None:
    """Replace the calls through which files change by ones that first report their number."""
    count = 0
    for name in CALLS:
        honest = getattr(os, name)

        def wrapped(*arguments, _honest=honest, _name=name, **options):
            nonlocal count
            if _name != "open" or (len(arguments) > 1 and arguments[1] & (os.O_WRONLY | os.O_RDWR)):
                count += 1
                call(count)
            return _honest(*arguments, **options)

        setattr(os, name, wrapped)


def in_child(work: Callable[[], None]) -> int:
    """Run `work` in a forked child; its exit status (negative: the signal that ended it)."""
    pid = os.fork()
    if pid == 0:
        try:
            work()
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status)


Result = tuple[dict[str, torch.Tensor], dict[str, torch.Tensor], dict, list[dict]]


def result(out: Path) -> Result:
    run = Run.open(out)
    saved = run.latest()
    assert saved is not None
    training = load_training(saved.directory)
    rows = [without_wall_clock(row) for row in run.read_metrics()]
    return dict(load_checkpoint(saved.directory).weights), dict(training.tensors), dict(training.state), rows


def assert_equal_to_the_bit(left: Path, right: Path) -> None:
    weights, tensors, state, rows = result(left)
    other_weights, other_tensors, other_state, other_rows = result(right)
    assert weights.keys() == other_weights.keys() and tensors.keys() == other_tensors.keys()
    for name, tensor in {**weights, **tensors}.items():
        assert torch.equal(tensor, {**other_weights, **other_tensors}[name]), name
    assert state == other_state
    assert rows == other_rows
    assert Run.open(left).read_lengths() == Run.open(right).read_lengths()
    assert snapshots_of(left) == snapshots_of(right)


def snapshots_of(out: Path) -> dict[int, bytes]:
    return {one.step: (one.directory / "model.safetensors").read_bytes() for one in list_snapshots(out)}


@pytest.fixture(scope="module")
def book(tmp_path_factory: pytest.TempPathFactory, prose) -> Path:
    path = tmp_path_factory.mktemp("text") / "book.txt"
    path.write_text(prose(700), encoding="utf-8")  # enough for a validation part; 6 steps read it more than once
    return path


@pytest.fixture(scope="module")
def whole(book: Path, tmp_path_factory: pytest.TempPathFactory, task, make_quick) -> Path:
    """A run that nobody touched; the tests only read it."""
    out = tmp_path_factory.mktemp("untouched") / "whole"
    with pytest.MonkeyPatch.context() as patch:
        make_quick(patch)
        set_clock(patch)
        assert in_child(lambda: pretrain(task(book, out, **CHANGES)) and None) == 0
    return out


def test_the_run_is_one_worth_comparing(whole: Path) -> None:
    """It evaluates, reads its text more than once, accumulates and is shortened: what a resume could get wrong is in it."""
    rows = result(whole)[3]
    assert [(line["step"], line["old"], line["new"]) for line in Run.open(whole).read_lengths()] == LENGTHS
    assert list(snapshots_of(whole)) == [0, 4]
    assert [row["step"] for row in rows if row["kind"] == "eval"] == [2, 4, 6]
    tokens = sum(row["tokens"] for row in rows if row["kind"] == "train")
    assert tokens > 1.2 * open_prepared(whole / "data").train.num_tokens


def test_two_untouched_runs_are_equal(whole: Path, book: Path, tmp_path: Path, task) -> None:
    assert in_child(lambda: pretrain(task(book, tmp_path / "again", **CHANGES)) and None) == 0
    assert_equal_to_the_bit(whole, tmp_path / "again")


def test_the_comparison_can_fail(whole: Path, book: Path, tmp_path: Path, task) -> None:
    other = {**CHANGES, "seed": 2}
    assert in_child(lambda: pretrain(task(book, tmp_path / "other", **other)) and None) == 0
    with pytest.raises(AssertionError):
        assert_equal_to_the_bit(whole, tmp_path / "other")


def test_another_clock_changes_nothing_once_the_lengths_are_on_record(
    whole: Path, book: Path, tmp_path: Path, task, clock: Clock
) -> None:
    """The lines say what happened: on a machine of another speed, from the start or from the middle, they are replayed."""
    for name, slow in (("faster", 0.01), ("slower", 50.0)):
        (tmp_path / name).mkdir()
        shutil.copy(whole / "lengths.jsonl", tmp_path / name)

        def at_another_speed(name: str = name, slow: float = slow) -> None:
            clock.slow = slow
            pretrain(task(book, tmp_path / name, **CHANGES))

        assert in_child(at_another_speed) == 0
        assert_equal_to_the_bit(whole, tmp_path / name)

    def killed_before_update(number: int) -> None:
        honest = Trainer.update
        Trainer.update = lambda self: os.kill(os.getpid(), signal.SIGKILL) if self.step == number else honest(self)
        pretrain(task(book, tmp_path / "cut", **CHANGES))

    assert in_child(lambda: killed_before_update(5)) == -signal.SIGKILL
    run = Run.open(tmp_path / "cut")
    assert len(run.read_lengths()) == 2 and run.latest().step == 4, (
        "both lines were there before the step they are about"
    )

    def go_on_slowly() -> None:
        clock.slow = 50.0
        pretrain(task(book, tmp_path / "cut", **CHANGES))

    assert in_child(go_on_slowly) == 0
    assert_equal_to_the_bit(whole, tmp_path / "cut")


def assert_continues_to(whole: Path, book: Path, out: Path, task, cut: str) -> None:
    """Start the run in `out` once more; it ends as the whole one did and leaves nothing half-written behind."""
    pretrain(task(book, out, **CHANGES))
    try:
        assert_equal_to_the_bit(whole, out)
        leftovers = [path for path in out.rglob("*") if path.name.startswith((".tmp-", ".old-"))]
        assert not leftovers, leftovers
    except AssertionError as error:
        raise AssertionError(f"not as the whole run: {cut}") from error


def content(folder: Path) -> dict[str, bytes | None]:
    """What is in a folder: the bytes of every file, None for every folder in it."""
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


def told_apart(files: dict[str, bytes | None]) -> dict[str, bytes | bool | int | None]:
    """What tells states apart: of a file under a temporary name, whether anything is in it.

    The first checkpoint is written by the same lines as the later ones: of the folders that follow it, under a temporary
    name, only whether nothing, something or everything is in them.
    """
    told: dict[str, bytes | bool | int | None] = {}
    later = any(name.startswith("checkpoints/step-") for name in files)
    for name, data in files.items():
        parts = Path(name).parts
        if not any(part.startswith(".tmp-") for part in parts):
            told[name] = data
        elif not (later and parts[0] in ("checkpoints", "snapshots")):
            told[name] = None if data is None else bool(data)
        else:
            folder, holds = "/".join(parts[:2]), 2 if data and parts[-1] == "pellucid.json" else int(len(parts) > 2)
            told[folder] = max(holds, told.get(folder) or 0)
    return told


def write_content(folder: Path, files: dict[str, bytes | None]) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for name, data in sorted(files.items()):
        (folder / name).mkdir() if data is None else (folder / name).write_bytes(data)


def test_continued_from_every_state_the_disk_was_in(whole: Path, book: Path, tmp_path: Path, task) -> None:
    """A kill leaves the files as they were between two calls: every such state is kept, and continued from.

    States that are the same, as before and after an fsync, are continued from once. So are those in which a file under a
    temporary name is written further: missing, empty, begun and whole are told apart, not each length between.
    """
    out, kept = tmp_path / "cut", tmp_path / "states"
    kept.mkdir()

    def run_and_keep() -> None:
        states: list[dict[str, bytes | None]] = []

        def keep(count: int) -> None:
            state = content(out) if out.is_dir() else {}
            if not states or told_apart(state) != told_apart(states[-1]):
                states.append(state)

        changing_calls(keep)
        pretrain(task(book, out, **CHANGES))
        (kept / "states.pickle").write_bytes(pickle.dumps((states, content(out))))

    assert in_child(run_and_keep) == 0
    states, last = pickle.loads((kept / "states.pickle").read_bytes())
    assert len(states) > 60
    states.append(last)

    def go_on() -> None:
        os.fsync = lambda descriptor: None  # this machine keeps its power: only the order of the calls is tested
        for number, state in enumerate(states):
            write_content(out, state)
            assert_continues_to(whole, book, out, task, f"state {number} of {len(states)}")

    assert in_child(go_on) == 0


def test_killed_while_running_and_continued(whole: Path, book: Path, tmp_path: Path, task) -> None:
    """The same with a real SIGKILL, at calls spread over the run: no lock or handle outlives the process."""

    def count_calls() -> None:
        counts: list[int] = []
        changing_calls(counts.append)
        pretrain(task(book, tmp_path / "counted", **CHANGES))
        (tmp_path / "count").write_text(str(len(counts)))

    assert in_child(count_calls) == 0
    total = int((tmp_path / "count").read_text())
    assert total > 150
    for number in range(1, total + 1, total // 5):
        out = tmp_path / "killed"
        shutil.rmtree(out, ignore_errors=True)

        def die_at(count: int, at: int = number) -> None:
            if count == at:
                os.kill(os.getpid(), signal.SIGKILL)

        def run_until_killed(out: Path = out, die=die_at) -> None:
            changing_calls(die)
            pretrain(task(book, out, **CHANGES))

        assert in_child(run_until_killed) == -signal.SIGKILL
        cut = f"killed at {number} of {total}"
        assert in_child(lambda out=out, cut=cut: assert_continues_to(whole, book, out, task, cut)) == 0


def test_a_skipped_batch_is_skipped_again_after_a_resume(book: Path, tmp_path: Path, task) -> None:
    """The batch that broke is recorded with the checkpoint, so the continued run stands at the same place in the text."""
    from pellucid.training import loop

    def run(out: Path, stop_after: int | None) -> None:
        honest = loop.Trainer._gradients

        def gradients(self, batch):
            loss, norm = honest(self, batch)
            broken = self.step == 2 and not self.skipped
            return (float("nan") if broken else loss), norm

        loop.Trainer._gradients = gradients
        if stop_after is not None:
            honest_update = loop.Trainer.update

            def update(self):
                if self.step == stop_after:
                    os.kill(os.getpid(), signal.SIGKILL)
                return honest_update(self)

            loop.Trainer.update = update
        pretrain(task(book, out, **CHANGES))

    assert in_child(lambda: run(tmp_path / "whole", None)) == 0
    assert in_child(lambda: run(tmp_path / "cut", 5)) == -signal.SIGKILL
    assert in_child(lambda: run(tmp_path / "cut", None)) == 0
    assert result(tmp_path / "cut")[2]["skipped"] == [2]
    assert_equal_to_the_bit(tmp_path / "whole", tmp_path / "cut")


def test_a_full_disk_while_saving_loses_nothing_older(book: Path, tmp_path: Path, task) -> None:
    out = tmp_path / "run"

    def run_out_of_room() -> None:
        """Checkpoints up to step 2 fit, then no file may grow beyond a few hundred bytes."""
        from pellucid.training.session import Session

        honest = Session.save

        def save(self):
            if self.trainer.step > 2:
                signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
                resource.setrlimit(resource.RLIMIT_FSIZE, (600, 600))
            honest(self)

        Session.save = save
        try:
            pretrain(task(book, out, **CHANGES))
        except NoSpaceError as error:
            assert "nothing that was saved before" in error.hint
            os._exit(9)

    assert in_child(run_out_of_room) == 9
    saved = Run.open(out).latest()
    assert saved is not None and saved.step == 2
    assert load_checkpoint(saved.directory).info["step"] == 2
    assert in_child(lambda: pretrain(task(book, out, **CHANGES)) and None) == 0


def test_another_set_up_goes_on_and_says_so_or_is_refused(book: Path, tmp_path: Path, task) -> None:
    import dataclasses

    def stop_early() -> None:
        from pellucid.training.session import Session

        honest = Session._after_step
        Session._after_step = lambda self, report: honest(self, report) and report.step < 4
        pretrain(task(book, tmp_path / "run", **CHANGES))

    assert in_child(stop_early) == 0
    now = task(book, tmp_path / "run", **{**CHANGES, "precision": "fp32", "deterministic": False})
    with pytest.raises(ResumeError, match="cannot go on to the bit") as caught:
        pretrain(dataclasses.replace(now, require_exact=True))
    assert "deterministic: True then, False now" in caught.value.found
    recorder = MemoryRecorder()
    assert pretrain(now, recorder=recorder).step == 6
    assert "training.other_fingerprint" in recorder.names()
