"""The compiled training step (`torch.compile`): it is used only after it has agreed with the eager one here.

A compiled step takes about a third less time. Before its first use in each shape it is compared with the eager step
(see `agreement`), because each shape is compiled to a new program. Where it is wrong, it is compiled again for an
earlier processor. Where that does not help, the step stays eager.
"""

from __future__ import annotations

import itertools
import logging
import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from pellucid.data.batch import Batch
from pellucid.errors import DoesNotFitError, EngineError
from pellucid.events import NULL, Event, Recorder
from pellucid.model.experts import Mixture
from pellucid.planning.machine import inspect_machine
from pellucid.planning.report import describe_bytes
from pellucid.training.agreement import BYTES_PER_WEIGHT, ComputeLoss, find_disagreement
from pellucid.training.arena import Arena
from pellucid.training.compiler import MARCH_VARIABLE, can_run, default_march, use_cache_of
from pellucid.training.repeatable import NATIVE, tell_compiler


def compile_with_torch(eager: ComputeLoss, march: str, recorder: Recorder) -> ComputeLoss:
    """A step that torch compiles at its first call, for the processor that `march` names."""
    use_cache_of(march, recorder)
    logging.getLogger("torch").setLevel(logging.ERROR)  # a missing compiler is a result here, not an error
    tell_compiler()
    if march == default_march():
        return torch.compile(eager, dynamic=False)
    torch.compiler.reset()  # it would reuse code that it compiled for another processor
    options: dict[str, Any] = {"cpp.march": None if march == NATIVE else march}
    return torch.compile(eager, dynamic=False, options=options)


def leave_experts_out(model: nn.Module) -> None:
    """Keep what experts compute out of the programs that torch compiles: they run as they are, between them.

    How many tokens an expert is sent changes from step to step, and each program is made for one shape.
    """
    for module in model.modules():
        if isinstance(module, Mixture):
            module.__dict__["mix"] = torch.compiler.disable(module.mix)


Form = tuple[type[Batch], tuple[torch.Size, ...]]


class CompiledStep:
    """Replaces the eager step: compiled in the shapes in which the two agree, eager in all others."""

    def __init__(
        self,
        model: nn.Module,
        arena: Arena,
        eager: ComputeLoss,
        *,
        compile_for: Callable[[ComputeLoss, str, Recorder], ComputeLoss] | None = None,
        recorder: Recorder = NULL,
    ) -> None:
        """`compile_for` makes a compiled step from the eager one and a `march`; by default it is torch's compiler."""
        self.model, self.arena, self.eager, self.recorder = model, arena, eager, recorder
        self.compile_for = compile_for or compile_with_torch
        leave_experts_out(model)
        self.march = default_march()
        self.answered = False  # whether a compiled step gave any answer, right or wrong
        self._compiled: ComputeLoss | None = None
        self._steps: dict[Form, ComputeLoss] = {}

    def __call__(self, batch: Batch) -> Tensor:
        if _form(batch) not in self._steps and (fault := self.find_fault(batch)):
            self._steps[_form(batch)] = self.eager
            message = f"steps of {_size(batch)} are not compiled: {fault}"
            self.recorder.record(Event(name="training.eager", message=message, data={"reason": fault}, level="warning"))
        return self._steps[_form(batch)](batch)

    def settle(self, given: Batch, *, march: str, others: Sequence[str] = (), seconds: float = math.inf) -> str:
        """Find a `march` whose step agrees with the eager one in this shape; return "", or the last one's fault.

        The `others` are tried in turn while another try, as long as the last, fits into `seconds`. None is tried when
        the compiler cannot even compile for the processor that it runs on.
        """
        begun, fault = time.monotonic(), ""
        for target, following in itertools.pairwise((march, *others, None)):
            tried, self.march, self._compiled = time.monotonic(), str(target), None
            fault = self.find_fault(given)
            now = time.monotonic()
            nothing_compiles = not self.answered and target == NATIVE
            if not fault or following is None or nothing_compiles or (now - begun) + (now - tried) > seconds:
                break
            message = f"{fault}: compiling for {following} instead"
            data = {"march": target, "reason": fault}
            self.recorder.record(Event(name="training.disagrees", message=message, data=data, level="warning"))
        return fault

    def find_fault(self, given: Batch) -> str:
        """Describe the compiled step's fault in this shape; without one (""), it is used in this shape from now on."""
        message = f"compiling the step for {_size(given)} (for {self.march}; this may take a minute)"
        self.recorder.record(Event(name="training.compiling", message=message, data={"march": self.march}))
        try:
            self._check_processor()
            self._check_memory()
            if self._compiled is None:
                self._compiled = self.compile_for(self.eager, self.march, self.recorder)
            wrong = find_disagreement(self._noted, self.eager, self.model, self.arena, given)
        except Exception as error:  # of whatever kind: a compiler, its files and its processes fail in many ways
            return _telling_line(error)
        if wrong:
            return f"compiled for {self.march}, {wrong}"
        message = f"compiled for {self.march}: the loss and all gradients agree with the eager step's"
        self.recorder.record(Event(name="training.compiled", message=message, data={"march": self.march}))
        self._steps[_form(given)] = self._compiled
        return ""

    def _noted(self, batch: Batch) -> Tensor:
        """Run the compiled step while it is on trial."""
        assert self._compiled is not None
        loss = self._compiled(batch)
        self.answered = True
        return loss

    def _check_processor(self) -> None:
        """Raise EngineError when code for the chosen processor could crash this process."""
        if self.arena.device.type == "cpu" and not can_run(self.march):
            raise EngineError(
                f"it is not known that this processor can run code for {self.march} (if it can: {MARCH_VARIABLE}={self.march})"
            )

    def _check_memory(self) -> None:
        """Raise DoesNotFitError when the comparison needs more memory than is free (it needs more than a step does)."""
        needed, free = BYTES_PER_WEIGHT * len(self.arena.master), inspect_machine().memory_available_bytes
        if self.arena.device.type == "cpu" and needed > free:
            raise DoesNotFitError(
                f"comparing it with the eager step needs {describe_bytes(needed)}, {describe_bytes(free)} are free"
            )


def _form(batch: Batch) -> Form:
    """What a program is compiled for: the kind of a batch, and the shape of each of its tensors."""
    return type(batch), tuple(tensor.shape for tensor in vars(batch).values())


def _telling_line(error: Exception) -> str:
    """The most informative line of a message that may hold a whole command and its output."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return next((line for line in lines if "error:" in line), lines[0])


def _size(given: Batch) -> str:
    return f"{given.ids_BT.shape[0]} x {given.ids_BT.shape[1]} tokens"
