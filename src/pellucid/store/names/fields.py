"""Strict reading of a config.json from outside: every key is understood, known to be harmless, or an error.

A key that nobody read may change the arithmetic (a scaled rotary base, a sliding window, a multiplier), and a model
computed without it would be almost right. So every key that is read is remembered, a list names those known to be
harmless, and any other stops the loading.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any, TypeVar

from pellucid.errors import ModelError
from pellucid.store.names.harmless import HARMLESS, NEUTRAL
from pellucid.untrusted import Table, shown

T = TypeVar("T")
MOST_SHOWN = 12  # unknown keys in one message


class Fields(Table):
    """The keys of one config.json, read by kind and within bounds; what was read is remembered.

    `tensors` are the names of the weights beside it, which say what some config.json do not (None: not known).
    """

    def __init__(self, values: Mapping[str, Any], where: str, tensors: Collection[str] | None = None) -> None:
        super().__init__(values, where, "config.json")
        self.tensors = tensors
        self.seen: set[str] = set()

    def require(self, name: str, *allowed: Any) -> None:
        """The key must be absent or have one of these values: with any other, this model would compute something else."""
        self.seen.add(name)
        if name in self.values and not any(_equal(self.values[name], one) for one in allowed):
            raise self.unsupported(name, self.values[name], *allowed)

    def require_all(self, neutral: Mapping[str, tuple[Any, ...]]) -> None:
        """`require` for each of some keys and its values."""
        for name, allowed in neutral.items():
            self.require(name, *allowed)

    def pass_over(self, *names: str) -> None:
        """These keys change no number of this family's models, whatever they say."""
        self.seen.update(names)

    def nullable(self, name: str, read: Callable[[str], T], default: T | None) -> T | None:
        """What `read` reads, `default` where the key is absent, None where a file says null: that there is none.

        >>> fields = Fields({"sliding_window": None}, "config.json")
        >>> fields.nullable("sliding_window", fields.whole, 4096), fields.nullable("other", fields.whole, 4096)
        (None, 4096)
        """
        self.seen.add(name)
        if name not in self.values:
            return default
        return None if self.values[name] is None else read(name)

    def check_all_read(self) -> None:
        """Raise ModelError when a key is neither read nor known to be harmless (see `harmless.py`)."""
        self.require_all({name: allowed for name, allowed in NEUTRAL.items() if name not in self.seen})
        unknown = sorted(set(self.values) - self.seen - HARMLESS.keys())
        if unknown:
            raise ModelError(
                "config.json has keys whose meaning is not known here, so the model might be computed wrongly",
                found=", ".join(f"{name}={shown(self.values[name])}"[:80] for name in unknown[:MOST_SHOWN]),
                where=self.where,
                hint="if a key changes nothing in the computation, delete it from config.json",
            )

    def unsupported(self, name: str, value: object, *accepted: object) -> ModelError:
        """The error for a value that asks for arithmetic which is not built here; `accepted` are those that do not."""
        values = " or ".join(shown(one) for one in accepted)
        return ModelError(
            f"models with {name}={shown(value)} are not supported", where=self.where,
            hint=f"supported: {name}={values}" if accepted else "",
        )  # fmt: skip

    def missing(self, key: str) -> ModelError:
        """The error for a key that is not there."""
        return ModelError(f"config.json lacks {key}", where=self.where)

    def wrong(self, key: str, why: ValueError) -> ModelError:
        """The error for a value of another kind or beyond its bounds."""
        return ModelError(f"config.json gives {key} a value that cannot be used", found=shown(why), where=self.where)

    def _read(self, key: str, default: Any, convert: Callable[[Any], Any]) -> Any:
        self.seen.add(key)
        return super()._read(key, default, convert)


def _equal(value: Any, allowed: Any) -> bool:
    """Whether two values are the same, true and false apart from 1 and 0."""
    return isinstance(value, bool) == isinstance(allowed, bool) and value == allowed
