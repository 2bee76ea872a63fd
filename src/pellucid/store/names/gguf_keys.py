"""The values of a GGUF file that describe its model, each read by its type; what nobody read is remembered.

A key that nobody here reads may change the arithmetic (a scaled rotary base, a sliding window, experts): it is an error.
What several architectures say alike, such as rotary positions, is an `Aspect`: it reads keys into axes and writes them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from pellucid import untrusted
from pellucid.errors import CorruptFileError, ModelError
from pellucid.planning.config import ModelConfig

ABSENT = object()
MOST_WHOLE = 1 << 32

# Values of other keys under which a model computes what is computed here.
HARMLESS: dict[str, tuple[Any, ...]] = {
    "attention.causal": (True,), "attention.sliding_window": (0,), "expert_count": (0,), "expert_used_count": (0,),
    "rope.scale_linear": (1.0,), "rope.scaling.attn_factor": (1.0,), "rope.scaling.finetuned": (False, True),
}  # fmt: skip
DESCRIPTIVE = ("vocab_size", "tensor_data_layout", "rope.scaling.original_context_length")


class GgufKeys:
    """The values under an architecture's name, and the tensors that are no weights (`constants`)."""

    def __init__(
        self, architecture: str, values: Mapping[str, Any], where: str, constants: Mapping[str, np.ndarray]
    ) -> None:
        start = f"{architecture}."
        self.prefix, self.where, self.constants = start, where, constants
        self.values = {name.removeprefix(start): value for name, value in values.items() if name.startswith(start)}
        self.seen: set[str] = set()

    def whole(self, name: str, default: Any = ABSENT, *, low: int = 1) -> int:
        """A whole number of at least `low`."""
        return self._converted(name, default, lambda value: untrusted.whole(value, low=low, high=MOST_WHOLE))

    def number(self, name: str, default: Any = ABSENT) -> float:
        """A finite number."""
        return self._converted(name, default, untrusted.number)

    def word(self, name: str, default: Any = ABSENT) -> str:
        """A string."""
        value = self.get(name, default)
        if not isinstance(value, str):
            raise self.wrong(name, value)
        return value

    def require(self, name: str, *allowed: Any) -> None:
        """The key must be absent or have one of these values: with any other, the model would compute something else."""
        self.seen.add(name)
        value = self.values.get(name, allowed[0])
        if not isinstance(value, (bool, int, float, str)) or value not in allowed:
            raise ModelError(f"models with {self.prefix}{name}={str(value)[:80]} are not supported", where=self.where)

    def check_all_read(self) -> None:
        """Raise ModelError when a key is neither read nor known to be harmless."""
        for name in HARMLESS.keys() - self.seen:
            self.require(name, *HARMLESS[name])
        unknown = sorted(self.values.keys() - self.seen - {*DESCRIPTIVE})
        if unknown:
            raise ModelError(
                "the file has keys whose meaning is not known here, so the model might be computed wrongly",
                found=", ".join(f"{self.prefix}{name}" for name in unknown)[:300],
                where=self.where,
            )

    def get(self, name: str, default: Any) -> Any:
        """A value of any type; CorruptFileError where there is none and no default."""
        self.seen.add(name)
        value = self.values.get(name, default)
        if value is ABSENT:
            raise CorruptFileError(f"the file lacks {self.prefix}{name}", where=self.where)
        return value

    def wrong(self, name: str, value: Any) -> CorruptFileError:
        """The error for a value of another type or beyond its bounds."""
        return CorruptFileError(
            f"{self.prefix}{name} is not a number that can be used", found=untrusted.shown(value), where=self.where
        )

    def _converted(self, name: str, default: Any, convert: Callable[[Any], Any]) -> Any:
        value = self.get(name, default)
        try:
            return convert(value)
        except ValueError:
            raise self.wrong(name, value) from None


@dataclass(frozen=True, kw_only=True)
class Aspect:
    """Something that several architectures say of a model in the same keys."""

    read: Callable[[GgufKeys, Mapping[str, Any]], dict[str, Any]]  # the keys and the sizes -> axes, under dotted names
    write: Callable[[ModelConfig], dict[str, Any]]  # -> the keys, without the architecture's name
    constants: tuple[str, ...] = ()  # tensors of a file that hold no weights and belong to this
    write_constants: Callable[[ModelConfig], dict[str, np.ndarray]] = lambda config: {}  # those that a model needs
