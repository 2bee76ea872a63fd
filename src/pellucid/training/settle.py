"""Decide, before the first step, whether a run's steps are compiled and for which processor; the plan keeps it."""

from __future__ import annotations

import dataclasses
import math

from pellucid.errors import SettingsError
from pellucid.events import Event
from pellucid.training.compiler import default_march, other_marches
from pellucid.training.loop import Trainer
from pellucid.training.plan import COMPILE_SAVING, RunPlan
from pellucid.training.run import OpenRun


def settle_step(opened: OpenRun, trainer: Trainer, plan: RunPlan) -> RunPlan:
    """The plan with the `march` whose compiled step agreed with the eager one, or without a compiled step.

    It is chosen before the first checkpoint and kept in the plan; a resumed run checks only that `march` again. Raises
    SettingsError when compilation was asked for and does not work at all.
    """
    run, recorder, wanted = opened.run, opened.recorder, opened.settings.compile == "on"
    if not plan.compiled:
        if wanted and run.latest() is not None:
            message = "not compiled: this run began with eager steps and goes on with them"
            recorder.record(Event(name="training.eager", message=message))
        return dataclasses.replace(plan, march=None)
    assert trainer.compiled is not None, "the plan says so"
    is_open, march = run.latest() is None, plan.march or default_march()
    saving = math.inf if wanted else COMPILE_SAVING * plan.estimated_seconds
    fault = trainer.settle(march=march, others=other_marches(march) if is_open else (), seconds=saving)
    settled = dataclasses.replace(plan, compiled=not fault, march=None if fault else trainer.compiled.march)
    if fault and wanted and is_open and not trainer.compiled.answered:
        raise SettingsError("torch.compile does not work here", found=fault, hint="leave --set compile=auto")
    if fault:
        level = "warning" if wanted or not is_open else "info"
        recorder.record(
            Event(name="training.eager", message=f"not compiled: {fault}", data={"reason": fault}, level=level)
        )
    if is_open:
        run.update_identity({**run.identity, "plan": settled.to_dict()})
    return settled
