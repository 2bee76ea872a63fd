"""The names of activation functions in a config.json."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain

from pellucid.planning.parts.feed_forward import FeedForwardKind
from pellucid.store.names.fields import Fields

Names = Mapping[FeedForwardKind, tuple[str, ...]]  # the first name of each is the one written

NAMES: Names = {
    "gelu": ("gelu",),
    "gelu_tanh": ("gelu_new", "gelu_pytorch_tanh"),
    "relu": ("relu",),
    "silu": ("silu", "swish"),
    "relu2": ("relu2",),
}


def read_activation(fields: Fields, key: str, default: str) -> FeedForwardKind:
    """The kind of a feed-forward without a gate by the name of its activation. Raises ModelError for an unknown one."""
    name = fields.word(key, default)
    for kind, names in NAMES.items():
        if name in names:
            return kind
    raise fields.unsupported(key, name, *chain.from_iterable(NAMES.values()))
