"""Pellucid: the language model you can see through.

    import pellucid
    lm = pellucid.load("runs/book")
    print(lm.complete("Once upon", max_new_tokens=40, seed=1).text)

Names are bound when first used, so that `import pellucid` loads no torch.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_HOMES = {
    "load": "pellucid.api",
    "train": "pellucid.api",
    "plan": "pellucid.api",
    "trace": "pellucid.api",
    "LanguageModel": "pellucid.api",
    "Tokenizer": "pellucid.tokens.tokenizer",
    "ModelConfig": "pellucid.planning.config",
    "TrainSettings": "pellucid.training.settings",
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
