"""Snapshots: the weights of a run at steps 0, 1, 2, 4, 8 …, so that its learning can be looked at afterwards.

Every run keeps them, in bf16, within a budget of bytes. A resumed run neither reads nor needs them.
"""

from __future__ import annotations

from collections.abc import Mapping

from pellucid.errors import NoSpaceError
from pellucid.events import Event, Recorder
from pellucid.planning.config import ModelConfig
from pellucid.store.metrics import best_evaluation
from pellucid.store.run import Run
from pellucid.store.snapshots import forget_snapshots, list_snapshots, remove_snapshot, save_snapshot
from pellucid.tokens.tokenizer import Tokenizer
from pellucid.training.loop import Trainer
from pellucid.training.moments import early_steps, thin_out
from pellucid.untrusted import Json

MOST_BYTES = 10**9
MOST_CHECKPOINTS = 4  # in their bytes: snapshots stay small beside the checkpoints that a resume needs
FILES_BYTES, TENSOR_BYTES = 5_000, 150  # of a directory's small files, and of each tensor's entry in the header


class Snapshots:
    """The snapshots that one process takes of its run."""

    def __init__(
        self,
        run: Run,
        trainer: Trainer,
        config: ModelConfig,
        tokenizer: Tokenizer,
        info: Mapping[str, Json],
        *,
        steps: int,
        max_bytes: int | None,
        recorder: Recorder,
    ) -> None:
        """`max_bytes=None` is the default budget; snapshots of an earlier process after this step are removed."""
        self.run, self.trainer, self.config, self.tokenizer, self.info = run, trainer, config, tokenizer, info
        self.recorder = recorder
        self.most = self._affordable(max_bytes)
        forget_snapshots(run.path, after_step=trainer.step)
        self.due: set[int] = set()
        self.resize(steps)

    def _affordable(self, max_bytes: int | None) -> int:
        """The number of snapshots that fit into the budget."""
        arena, optimizer = self.trainer.arena, self.trainer.optimizer
        small = sum(len(text.encode()) for text in self.tokenizer.files().values()) + FILES_BYTES
        one = 2 * len(arena.master) + TENSOR_BYTES * len(list(arena.named(arena.master))) + small
        checkpoint = 4 * (len(arena.master) + len(optimizer.first) + len(optimizer.second)) + small
        budget = min(MOST_BYTES, MOST_CHECKPOINTS * checkpoint) if max_bytes is None else max_bytes
        most = budget // one
        if not most and max_bytes != 0:
            message = f"no snapshots: one takes {one:,} bytes, and saving.snapshot_bytes is {budget:,}"
            self.recorder.record(Event(name="training.no_snapshots", message=message, data={"bytes_each": one}))
        return most

    def resize(self, steps: int) -> None:
        """Choose the steps to keep for a run of this length, and remove snapshots that no longer fit."""
        kept = {saved.step: saved for saved in list_snapshots(self.run.path)}
        due = {step for step in early_steps(steps) if step >= self.trainer.step}
        best = best_evaluation(self.run.read_metrics())
        always = [0] if best is None else [0, best["step"]]
        chosen = thin_out(sorted(due | kept.keys()), self.most, always=always)
        self.due = {step for step in chosen if step not in kept}
        removed = [step for step in kept if step not in chosen]
        for step in removed:
            remove_snapshot(kept[step])
        left_out = sorted((due - set(chosen)) | set(removed))
        if left_out and self.most:
            message = f"snapshots: {self.most} fit into the budget; not kept: {', '.join(map(str, left_out))}"
            data = {"most": self.most, "left_out": left_out, "removed": removed}
            self.recorder.record(Event(name="training.snapshots_thinned", message=message, data=data))

    def look(self, step: int, elapsed_seconds: float) -> None:
        """Keep the weights, if this step is due."""
        if step not in self.due:
            return
        weights = self.trainer.arena.saved_weights(self.trainer.model)
        try:
            save_snapshot(
                self.run.path, step, config=self.config, weights=weights, tokenizer=self.tokenizer, info=self.info
            )
        except NoSpaceError as error:  # a snapshot is only for looking at: a failure is no reason to end a run
            message = f"no snapshots from step {step} on: {error.what} ({error.found})"
            self.recorder.record(
                Event(name="training.no_snapshots", message=message, data={"step": step}, level="warning")
            )
            self.due = set()
        self.due.discard(step)

    def close(self) -> None:
        """Nothing is left to do."""
