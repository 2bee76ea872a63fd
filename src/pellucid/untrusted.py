"""Untrusted JSON, from a file that anybody may have written, read within bounds of size, depth, type and range.

Python's own reader takes numbers of any length, NaN, infinity, the same key twice and nesting without end, and each of
them fails much later and far away from the file. Here they fail at once, as a ValueError that says which. The caller
knows what a key means, and which PellucidError a person sees.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

from pellucid.errors import CorruptFileError, PellucidError

MOST_BYTES = 64 << 20  # of one JSON file: the largest in use, a tokenizer of 262,144 tokens, has 33 MB
MOST_VALUES = 1 << 23  # in one JSON text: Python needs some 60 bytes for each, the file only two or three
MOST_DEPTH = 64  # of objects and lists inside each other
MOST_DIGITS = 40  # of a whole number; transformers writes 10^30 for "no limit"
MOST_WHOLE = 1 << 53  # beyond it a number of JSON is not exact in every reader
HALF_PAIR = re.compile(r"\\u[dD][89a-fA-F]")  # how half of a surrogate pair may be written
REQUIRED: Any = object()

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"  # what a JSON text can hold


def read_bytes(path: Path, most: int = MOST_BYTES) -> bytes:
    """The contents of a file. Raises ValueError for one of more than `most` bytes, OSError as the system does."""
    with path.open("rb") as file:
        data = file.read(most + 1)
    if len(data) > most:
        raise ValueError(f"it is larger than {most:,} bytes")
    return data


def parse_json(text: str | bytes, *, most_values: int = MOST_VALUES) -> Json:
    """The value of a JSON text.

    >>> parse_json('{"a": [1, 2.5]}')
    {'a': [1, 2.5]}
    >>> parse_json('{"a": 1, "a": 2}')
    Traceback (most recent call last):
    ...
    ValueError: the key 'a' is given twice

    Raises ValueError for what is not JSON (NaN and infinity are not), not UTF-8 or no character, a key that is given
    twice, a number of more than 40 digits, more than 64 levels of nesting, or more values than `most_values`.
    """
    text = text.decode("utf-8") if isinstance(text, bytes) else text
    if sum(map(text.count, ",[{")) > most_values:
        raise ValueError(f"more than {most_values:,} values")
    try:
        value = json.loads(
            text, object_pairs_hook=_object, parse_int=_whole, parse_float=_finite, parse_constant=_finite
        )
    except RecursionError:
        raise ValueError(TOO_DEEP) from None
    _check_depth(value)
    if HALF_PAIR.search(text):
        json.dumps(value, ensure_ascii=False).encode("utf-8")  # UnicodeEncodeError, a ValueError, for half a pair
    return value


TOO_DEEP = f"more than {MOST_DEPTH} levels of nesting"


def parse_object(text: str | bytes, *, most_values: int = MOST_VALUES) -> dict[str, Json]:
    """The object of a JSON text. Raises ValueError for what `parse_json` refuses, and for another value."""
    value = parse_json(text, most_values=most_values)
    if not isinstance(value, dict):
        raise ValueError(f"{shown(value)} is not an object")
    return value


def read_json(path: Path) -> Json:
    """The value in a JSON file. Raises CorruptFileError when it does not hold one, or cannot be read."""
    try:
        return parse_json(read_bytes(path))
    except (OSError, ValueError) as error:
        raise CorruptFileError(f"cannot read {path.name}", found=shown(error), where=str(path)) from error


def read_object(path: Path) -> dict[str, Json]:
    """The object in a JSON file. Raises CorruptFileError when it does not hold one, or cannot be read."""
    value = read_json(path)
    if not isinstance(value, dict):
        raise CorruptFileError(f"{path.name} does not hold a JSON object", found=kind_of(value), where=str(path))
    return value


def whole(value: object, *, low: int = 0, high: int = MOST_WHOLE) -> int:
    """A whole number between `low` and `high`. Raises ValueError for any other value.

    >>> whole(3), whole(3.0)
    Traceback (most recent call last):
    ...
    ValueError: 3.0 is not a whole number
    """
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError(f"{shown(value)} is not a whole number")
    if not low <= value <= high:
        raise ValueError(f"{shown(value)} does not lie between {low:,} and {high:,}")
    return value


def number(value: object, *, low: float = -math.inf, high: float = math.inf) -> float:
    """A finite number between `low` and `high`. Raises ValueError for any other value."""
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise ValueError(f"{shown(value)} is not a number")
    try:
        found = float(value)
    except OverflowError:
        found = math.inf
    if not math.isfinite(found) or not low <= found <= high:
        raise ValueError(f"{shown(value)} is not a finite number between {low:g} and {high:g}")
    return found


def word(value: object) -> str:
    """A string. Raises ValueError for any other value."""
    if not isinstance(value, str):
        raise ValueError(f"{shown(value)} is not a string")
    return value


def kind_of(value: object) -> str:
    """What a value of JSON is, for a person.

    >>> kind_of([1, 2]), kind_of(None)
    ('a list', 'nothing')
    """
    kinds = (
        (bool, "true or false"),
        (int | float, "a number"),
        (str, "a text"),
        (list, "a list"),
        (dict, "a JSON object"),
    )
    return next((told for kind, told in kinds if isinstance(value, kind)), "nothing")


def shown(value: object) -> str:
    r"""A value for a person: short, whatever it is.

    >>> try:
    ...     _ = b"caf\xe9".decode()
    ... except ValueError as error:
    ...     shown(error)
    'byte 0xE9 at byte offset 3 is not UTF-8'
    """
    if isinstance(value, UnicodeDecodeError):
        return f"byte 0x{value.object[value.start]:02X} at byte offset {value.start:,} is not UTF-8"
    if isinstance(value, int) and value.bit_length() > 64 * 4:  # Python refuses to write the longest ones
        return f"a number of {value.bit_length():,} bits"
    text = str(value) if isinstance(value, Exception) else repr(value)
    return text if len(text) <= 200 else text[:200] + " …"


class Table:
    """One JSON object, read key by key: each value has its kind and its bounds, or the file is refused."""

    def __init__(self, values: object, where: str, name: str = "") -> None:
        if not isinstance(values, Mapping):
            found = kind_of(values)
            raise CorruptFileError(f"{name or 'the file'} is not a JSON object", found=found, where=where)
        self.values, self.where, self.name = values, where, name

    def whole(self, key: str, default: Any = REQUIRED, *, low: int = 0, high: int = MOST_WHOLE) -> int:
        """A whole number; `default` also stands in for null."""
        return self._read(key, default, lambda value: whole(value, low=low, high=high))

    def number(self, key: str, default: Any = REQUIRED, *, low: float = -math.inf, high: float = math.inf) -> float:
        """A finite number."""
        return self._read(key, default, lambda value: number(value, low=low, high=high))

    def flag(self, key: str, default: Any = REQUIRED) -> bool:
        """true or false."""
        return self._read(key, default, lambda value: _kind(value, bool, "true or false"))

    def word(self, key: str, default: Any = REQUIRED) -> str:
        """A string."""
        return self._read(key, default, word)

    def table(self, key: str, default: Any = REQUIRED) -> Mapping[str, Any]:
        """An object."""
        return self._read(key, default, lambda value: _kind(value, dict, "an object"))

    def items(self, key: str, default: Any = REQUIRED) -> list[Any]:
        """A list of anything."""
        return self._read(key, default, lambda value: _kind(value, list, "a list"))

    def wholes(self, key: str, default: Any = REQUIRED) -> list[int]:
        """A list of whole numbers."""
        return self._read(key, default, lambda value: [whole(item) for item in _kind(value, list, "a list")])

    def words(self, key: str, default: Any = REQUIRED) -> list[str]:
        """A list of strings."""
        return self._read(key, default, lambda value: [word(item) for item in _kind(value, list, "a list")])

    def _read(self, key: str, default: Any, convert: Any) -> Any:
        value = self.values.get(key)
        if value is None:
            if default is REQUIRED:
                raise self.missing(key)
            return default
        try:
            return convert(value)
        except ValueError as error:
            raise self.wrong(key, error) from None

    def missing(self, key: str) -> PellucidError:
        """The error for a key that is not there."""
        return CorruptFileError(f"{self.name or 'the file'} lacks {key}", where=self.where)

    def wrong(self, key: str, why: ValueError) -> PellucidError:
        """The error for a value of another kind or beyond its bounds."""
        return CorruptFileError(f"{key} cannot be used", found=shown(why), where=self.where)


def _kind(value: object, kind: type, name: str) -> Any:
    if not isinstance(value, kind):
        raise ValueError(f"{shown(value)} is not {name}")
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        twice, _ = Counter(key for key, _ in pairs).most_common(1)[0]
        raise ValueError(f"the key {shown(twice)} is given twice")
    return values


def _whole(digits: str) -> int:
    if len(digits) > MOST_DIGITS:
        raise ValueError(f"a number of {len(digits):,} digits")
    return int(digits)


def _finite(digits: str) -> float:
    value = float(digits)  # it reads NaN and Infinity too, which are not JSON
    if not math.isfinite(value):
        raise ValueError(f"a number that is not finite: {digits[:40]}")
    return value


def _check_depth(value: Any) -> None:
    level, depth = [value], 0
    while level := [item for node in level if isinstance(node, (dict, list)) for item in _items(node)]:
        depth += 1
        if depth > MOST_DEPTH:
            raise ValueError(TOO_DEEP)


def _items(node: dict | list) -> Any:
    return node.values() if isinstance(node, dict) else node
