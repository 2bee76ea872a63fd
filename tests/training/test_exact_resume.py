"""A run killed at any moment and continued equals the run that nobody touched: weights, optimizer, metrics, to the bit.

The process is killed by SIGKILL at the n-th system call that changes the disk, for n over the whole run: before and
after every write, in the middle of saving, between a rename and the next. Each child is a fork of this process, which
has torch loaded but has never started a thread.
"""

from __future__ import annotations

import os
import resource
import shutil
import signal
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from pellucid.data.prepare import open_prepared
from pellucid.errors import NoSpaceError, ResumeError
from pellucid.events import MemoryRecorder
from pellucid.store.checkpoint import load_checkpoint, load_training
from pellucid.store.run import Run
from pellucid.training.metrics import without_wall_clock
from pellucid.training.recipes.pretrain import pretrain

pytestmark = [
    pytest.mark.usefixtures("quick"),
    pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork, which this system does not have"),
    # torch warns that a forked child of a process with threads may hang; this process has started none of torch's.
    pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning"),
]
CALLS = ("mkdir", "open", "write", "fsync", "replace", "ftruncate", "unlink", "rmdir")
CHANGES = {"steps": 6, "model": {"dropout": 0.2}, "batch": {"tokens": 256, "micro_rows": 8}}


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


def result(out: Path) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor], dict, list[dict]]:
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


@pytest.fixture
def book(tmp_path: Path, prose) -> Path:
    path = tmp_path / "book.txt"
    path.write_text(prose(700), encoding="utf-8")  # enough for a validation part; 6 steps read it more than once
    return path


@pytest.fixture
def whole(book: Path, tmp_path: Path, task) -> Path:
    """A run that nobody touched."""
    out = tmp_path / "whole"
    assert in_child(lambda: pretrain(task(book, out, **CHANGES)) and None) == 0
    return out


def test_the_run_is_one_worth_comparing(whole: Path) -> None:
    """It evaluates, reads its text more than once and accumulates: what a resume could get wrong is in it."""
    rows = result(whole)[3]
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


def test_killed_at_every_write_and_continued(whole: Path, book: Path, tmp_path: Path, task) -> None:
    def count_calls() -> None:
        counts: list[int] = []
        changing_calls(counts.append)
        pretrain(task(book, tmp_path / "counted", **CHANGES))
        (tmp_path / "count").write_text(str(len(counts)))

    assert in_child(count_calls) == 0
    total = int((tmp_path / "count").read_text())
    assert total > 150
    killed = 0
    for number in [*range(1, total + 1, 5), total]:
        out = tmp_path / "killed"
        shutil.rmtree(out, ignore_errors=True)

        def die_at(count: int, at: int = number) -> None:
            if count == at:
                os.kill(os.getpid(), signal.SIGKILL)

        def run_until_killed(out: Path = out, die=die_at) -> None:
            changing_calls(die)
            pretrain(task(book, out, **CHANGES))

        killed += in_child(run_until_killed) == -signal.SIGKILL
        assert in_child(lambda out=out: pretrain(task(book, out, **CHANGES)) and None) == 0, f"killed at {number}"
        assert_equal_to_the_bit(whole, out)
        leftovers = [path for path in out.rglob("*") if path.name.startswith((".tmp-", ".old-"))]
        assert not leftovers, f"killed at {number}: {leftovers}"
    assert killed > total // 5 - 2


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
