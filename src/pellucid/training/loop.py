"""The training loop, with gradient accumulation: each update is a pure function of the state and the step's number.

    batch = objective.batch(rows of this step, key)
    for each micro-batch:  loss = objective.loss(model, micro-batch);  gradients += d loss
    optimizer.step(share of the rate at this step)

No random state is carried from step to step: the rows come from (seed, position), what an objective draws for a row
comes from (seed, row), and dropout is reseeded for each (seed, step, micro-batch). So a run that is interrupted
anywhere and resumed repeats the same bits.

When a loss is not finite, the update is not applied: the weights stay as they were, and the batch is skipped (and
recorded, so that a resumed run skips it too). A second such batch at the same step stops the run.

Axes: B rows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, cast

import torch
from torch import Tensor

from pellucid.data.batch import Batch, TokenRows
from pellucid.data.objectives.protocol import Objective, RowKey
from pellucid.errors import NonFiniteError
from pellucid.evaluate.asked_model import AskedModel
from pellucid.events import NULL, Event, Recorder
from pellucid.keyed_random import generator_seed
from pellucid.model.decoder import Decoder
from pellucid.model.experts import Routing
from pellucid.planning.layout import optimizer_groups, rate_shares
from pellucid.planning.parts.feed_forward import Experts
from pellucid.training.agreement import ComputeLoss, has_dropout
from pellucid.training.arena import Arena
from pellucid.training.compiled import CompiledStep
from pellucid.training.optim import Optimizer
from pellucid.training.schedule import rate_share
from pellucid.training.settings import OptimizerSettings, ScheduleSettings


class RowSource(Protocol):
    """A source of rows (a loader): the same position always gives the same rows."""

    def rows(self, start: int, count: int) -> TokenRows: ...


@dataclass(frozen=True, kw_only=True)
class Pace:
    """The number of updates, and the batch size of each."""

    steps: int
    rows: int  # rows of one update
    micro_rows: int  # rows computed at once; divides `rows`


@dataclass(frozen=True, kw_only=True)
class StepReport:
    """Measurements of one update: loss, gradient norm, tokens."""

    step: int  # counted from 1: the number of updates done
    loss: float  # nats per token on the batch just learned from, before the update
    gradient_norm: float
    rate_share: float
    tokens: int  # positions seen in this update
    expert_tokens: tuple[tuple[int, ...], ...] | None = None  # of a mixture: real tokens sent to each expert, by block
    dropped_share: float | None = None  # of what its routers chose: tokens that no expert took


class Trainer:
    """A model in training: its weights, its optimizer and its position in the data."""

    def __init__(
        self,
        model: Decoder,
        source: RowSource,
        pace: Pace,
        *,
        objective: Objective[AskedModel, Batch],
        optimizer: OptimizerSettings,
        schedule: ScheduleSettings,
        seed: int,
        compute_dtype: torch.dtype,
        compiled: bool = False,
        name_rows: Callable[[Tensor], list[str]] = lambda first_token_B: [],
        recorder: Recorder = NULL,
    ) -> None:
        self.model, self.source, self.pace, self.schedule = model, source, pace, schedule
        self.has_dropout, self.experts = has_dropout(model), model.config.feed_forward.experts
        asked = AskedModel(model=model, in_training=lambda: model.training)
        self.asked = asked if objective.asks_more or self.experts else cast("AskedModel", model)  # ids alone: itself
        self.objective, self.key = objective, RowKey(seed=seed, purpose="objective")
        self.seed, self.name_rows, self.recorder = seed, name_rows, recorder
        self.arena = Arena(model, compute_dtype, optimizer_groups(model.config))
        self.optimizer = Optimizer(self.arena, optimizer, rate_shares(model.config))
        self.compiled = CompiledStep(model, self.arena, self._loss, recorder=recorder) if compiled else None
        self.loss: ComputeLoss = self.compiled or self._loss
        self.step, self.skipped = 0, list[int]()
        self.sent_LE = _nothing_sent(model).to(self.arena.device)  # to each expert in this update

    def settle(self, *, march: str | None, others: Sequence[str] = (), seconds: float = math.inf) -> str:
        """Choose the compiled or the eager step before the first update, as `CompiledStep.settle`; eager on a fault."""
        assert self.compiled is not None, "there is nothing to settle about an eager step"
        rows = self.source.rows(self._position(), self.pace.micro_rows)
        given = self.objective.batch(rows, self.key).to(self.arena.device)
        others = others if self.arena.device.type == "cpu" else ()  # on a graphics card `march` has no meaning
        fault = self.compiled.settle(given, march=march or self.compiled.march, others=others, seconds=seconds)
        if fault:
            self.loss = self._loss
        return fault

    def update(self) -> StepReport:
        """Do one update on the next batch. Raises NonFiniteError when two batches at this step have no finite loss."""
        for attempt in (1, 2):
            rows = self.source.rows(self._position(), self.pace.rows)
            batch = self.objective.batch(rows, self.key)
            loss, gradient_norm = self._gradients(batch)
            if math.isfinite(loss) and math.isfinite(gradient_norm):
                break
            self._pass_over(rows, loss, gradient_norm, attempt)
        share = rate_share(self.step, self.pace.steps, self.schedule)
        self.optimizer.step(share)
        self.step += 1
        report = StepReport(
            step=self.step, loss=loss, gradient_norm=gradient_norm, rate_share=share, tokens=batch.ids_BT.numel()
        )
        return report if self.experts is None else self._with_routing(report, batch, self.experts)

    def _position(self) -> int:
        """The number of the next row: after all rows that were learned from or skipped."""
        return (self.step + len(self.skipped)) * self.pace.rows

    def _gradients(self, batch: Batch) -> tuple[float, float]:
        """Fill the arena's sums with the gradients of one update; return the loss and the gradient norm."""
        self.model.train()
        self.arena.clear()
        self.sent_LE = torch.zeros_like(self.sent_LE)
        loss = torch.zeros((), device=self.arena.device)
        for index, micro in enumerate(self._micro_batches(batch)):
            if self.has_dropout:
                torch.manual_seed(generator_seed(self.seed, "dropout", self.step, index))
            part = self.loss(micro)
            part.backward()
            self.arena.collect()
            loss += part.detach()
        return loss.item(), torch.linalg.vector_norm(self.arena.sums).item()

    def _micro_batches(self, batch: Batch) -> Iterator[Batch]:
        """The micro-batches of a batch, one after the other, each moved to the model's device when its turn comes."""
        num = self.pace.rows // self.pace.micro_rows
        for micro in (batch,) if num == 1 else batch.split(num):
            yield micro if micro.total_weight.device == self.arena.device else micro.to(self.arena.device)

    def _loss(self, batch: Batch) -> Tensor:
        if self.experts is None:
            return self.objective.loss(self.asked, batch)
        routing = Routing()
        loss = self.objective.loss(replace(self.asked, tap=routing), batch)
        self.sent_LE = self.sent_LE + routing.counts_LE(batch.real_BT)
        share = batch.weights_BT.sum() / batch.total_weight  # of a micro-batch in its update
        uneven = routing.balance(batch.real_BT) * self.experts.balance * share
        return loss + (uneven - uneven.detach())  # the gradients know of it, the number stays nats per token

    def _with_routing(self, report: StepReport, batch: Batch, experts: Experts) -> StepReport:
        """The report, and how many tokens of the update each expert was sent, and which share of those due to some none got."""
        sent = self.sent_LE.tolist()
        due = len(sent) * experts.active * int(batch.real_BT.sum())
        dropped_share = (due - sum(map(sum, sent))) / max(1, due)
        return replace(report, expert_tokens=tuple(map(tuple, sent)), dropped_share=dropped_share)

    def _pass_over(self, rows: TokenRows, loss: float, gradient_norm: float, attempt: int) -> None:
        found = f"loss {loss}, gradient norm {gradient_norm}"
        documents = sorted(set(self.name_rows(rows.first_token_B)))
        where = f"step {self.step + 1}, documents {', '.join(documents[:8]) or 'unknown'}"
        if attempt == 2:
            self.arena.clear()
            raise NonFiniteError(
                "two batches in a row gave no finite loss",
                found=found,
                where=where,
                hint="lower the learning rates (--set optimizer.muon_rate=…), or set optimizer.clip_norm=1.0",
            )
        self.skipped.append(self.step + len(self.skipped))
        self.recorder.record(
            Event(
                name="training.batch_skipped",
                message=f"the loss is not finite ({found}) at {where}: this batch is passed over, nothing was changed",
                data={"step": self.step + 1, "first_tokens": rows.first_token_B.tolist(), "documents": documents},
                level="warning",
            )
        )


def _nothing_sent(model: Decoder) -> Tensor:
    """No token for each expert of each block that has some: int64 [L, E]."""
    config = model.config
    num_experts = config.feed_forward.experts.count if config.feed_forward.experts else 0
    return torch.zeros(sum(map(config.has_experts, range(config.n_layers))), num_experts, dtype=torch.int64)


def train(trainer: Trainer, *, until: int, after_step: Callable[[StepReport], bool]) -> None:
    """Update until step `until`, or until `after_step` (which evaluates, saves, logs) returns False to stop."""
    while trainer.step < until and after_step(trainer.update()):
        pass
