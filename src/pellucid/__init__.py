"""Pellucid: the language model you can see through.

    import pellucid
    lm = pellucid.load("runs/book")
    print(lm.complete("Once upon", max_new_tokens=40, seed=1).text)

Names are bound when first used, so that `import pellucid` loads no torch.
"""

from __future__ import annotations

import importlib
import os
from typing import Any

__version__ = "0.1.0"

# GNU OpenMP's threads, torch's on Linux, wait by spinning for several milliseconds. Where another program wants a core,
# they keep it from the thread that they wait for: one update took sixty times as long. Spinning a fraction of a
# millisecond, then sleeping, is as fast on an idle machine. It is read when torch is loaded, so it is said here.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")

_HOMES = {
    "load": "pellucid.api",
    "train": "pellucid.api",
    "plan": "pellucid.api",
    "trace": "pellucid.api",
    "LanguageModel": "pellucid.language_model",
    "Tokenizer": "pellucid.tokens.tokenizer",
    "ModelConfig": "pellucid.planning.config",
    "TrainSettings": "pellucid.training.settings",
    "EngineSettings": "pellucid.engine.settings",
    "SamplingSettings": "pellucid.engine.sampling.settings",
    "ConstraintSettings": "pellucid.engine.constraints.settings",
    "BeamSettings": "pellucid.engine.beam",
    "LabelSettings": "pellucid.training.label_head",
    "Step": "pellucid.engine.step",
    "Completion": "pellucid.engine.step",
    "Hypothesis": "pellucid.engine.beam",
    "Score": "pellucid.evaluate.score",
    "Plan": "pellucid.planning.report",
    "Trace": "pellucid.lens.trace",
    "load_trace": "pellucid.lens.trace",
    "Event": "pellucid.events",
    "PellucidError": "pellucid.errors",
}

__all__ = ["__version__", *_HOMES]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'pellucid' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
