"""One value of a setting: read as the type that its field declares, and checked against its range.

Text is read as that type (`"16"` for a whole number), an empty word as none, and a value of another kind or out of range
is an error that says what the field takes. No torch here.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import types
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, Union, get_args, get_origin

from pellucid.errors import SettingsError
from pellucid.untrusted import shown, whole

MOST = 2**64  # no count or seed reaches it; more would overflow wherever it is used
LONGEST = 10**40  # a message does not repeat longer whole numbers


class Typed(str):
    """A value typed after `--set name=`: only in such a value does a comma separate the items of a list."""


MOST_LISTED, FEW_LISTED = 24, 6  # names that a hint lists: all of so few, or so few of many


def nearest(name: str, known: list[str]) -> str:
    """A hint that names the closest known word, or lists them all; of many, those that are least unlike.

    >>> nearest("gtp", ["gpt", "bert"]), nearest("x", ["gpt", "bert"])
    ("did you mean 'gpt'?", 'known: bert, gpt')
    """
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    if close:
        return f"did you mean {close[0]!r}?"
    if len(known) <= MOST_LISTED:
        return "known: " + ", ".join(sorted(known))
    few = sorted(difflib.get_close_matches(name, known, n=FEW_LISTED, cutoff=0.0))
    return f"of the {len(known)} that are known, the nearest are {', '.join(few)}"


def check_keywords(given: Iterable[str], known: Iterable[str], elsewhere: Mapping[str, str]) -> None:
    """Raise SettingsError for a keyword that is not known, naming what is meant; `elsewhere` has names of other libraries.

    >>> check_keywords(["max_tokens"], ["max_new_tokens"], {"max_tokens": "max_new_tokens"})
    Traceback (most recent call last):
    ...
    pellucid.errors.SettingsError: there is no keyword max_tokens
      try:   here it is called max_new_tokens
    """
    names = list(known)
    for name in given:
        if name not in names:
            there = elsewhere.get(name)
            hint = nearest(name, names) if there is None else f"here it is called {there}"
            raise SettingsError(f"there is no keyword {name}", hint=hint)


def is_none(value: Any) -> bool:
    """Whether a value, or the word typed for it, stands for nothing."""
    return value is None or (isinstance(value, str) and value.lower() in ("none", "null"))


def check_range(value: Any, field: dataclasses.Field, key: str, source: str, before: Mapping[str, Any]) -> None:
    """Raise SettingsError for a number outside the range of its field."""
    low, high, above = (field.metadata.get(end) for end in ("low", "high", "above"))
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return
    if isinstance(value, int) and abs(value) >= MOST:
        hint = "give a smaller number"
        raise SettingsError(f"{key} must lie below {MOST:,}", found=f"{value:,}", where=source, hint=hint)
    if low is high is above is None:
        return
    hint = say_range(field, key, before)
    if above is not None and not value > above:
        raise SettingsError(f"{key} must be above {_figure(above)}", found=str(value), where=source, hint=hint)
    if low is not None and not value >= low:  # written so that NaN fails too
        raise SettingsError(f"{key} must be at least {_figure(low)}", found=str(value), where=source, hint=hint)
    if high is not None and not value <= high:
        raise SettingsError(f"{key} must be at most {_figure(high)}", found=str(value), where=source, hint=hint)
    if not math.isfinite(value):
        raise SettingsError(f"{key} must be a finite number", found=str(value)[:80], where=source, hint=hint)


def say_range(field: dataclasses.Field, key: str, before: Mapping[str, Any] = MappingProxyType({})) -> str:
    """The hint for a number out of range: what to give, and the value that holds without it (from a layer `before`)."""
    low, high, above = (
        None if field.metadata.get(end) is None else _figure(field.metadata[end]) for end in ("low", "high", "above")
    )
    if low is high is above is None:
        return ""
    if above is not None:
        allowed = f"give a number above {above}" if high is None else f"give a number above {above}, at most {high}"
    elif low is not None:
        allowed = f"give a number of {low} or more" if high is None else f"give a number from {low} to {high}"
    else:
        allowed = f"give a number of {high} or less"
    without = before.get(key, field.default)
    if without is dataclasses.MISSING:
        return allowed
    return f"{allowed}, or leave {key} out" + ("" if without is None else f": then it is {without}")


def _figure(number: float) -> str:
    """A bound as a person writes it.

    >>> _figure(1e6), _figure(0), _figure(0.9999)
    ('1,000,000', '0', '0.9999')
    """
    return f"{int(number):,}" if number == int(number) else f"{number:g}"


def convert(value: Any, hint: Any, key: str, source: str) -> Any:
    """A value of a layer as the type that its field declares; text is read as that type.

    A text given for a list is one item, commas and all; only text that was `Typed` is split at its commas.
    """
    kind = "str" if isinstance(value, str) else type(value).__name__
    failure = SettingsError(f"{key} wants {describe_type(hint)}", found=f"{shown(value)} ({kind})", where=source)
    origin, args = get_origin(hint), get_args(hint)
    if hint is Any:
        return value
    if origin in (Union, types.UnionType):
        is_word = any(value in get_args(option) for option in args if get_origin(option) is Literal)
        if is_none(value) and type(None) in args and not is_word:
            return None
        for option in (a for a in args if a is not type(None)):
            try:
                return convert(value, option, key, source)
            except SettingsError:
                continue
        raise failure
    if origin is Literal:
        match = next((a for a in args if a == value or str(a) == value), None)
        if match is None:
            failure.hint = nearest(str(value), [str(a) for a in args])
            raise failure
        return match
    if origin is tuple:
        return tuple(convert(item, args[0], key, source) for item in _items(value, failure))
    return _convert_scalar(value, hint, failure)


def _items(value: Any, failure: SettingsError) -> list[Any]:
    """The items of a list."""
    if isinstance(value, Typed):
        items = value.split(",") if value else []
        if "" in items:
            failure.hint = (
                "a comma parts the items, and none may be empty; a text with a comma in it needs its own flag"
            )
            raise failure
        return items
    if isinstance(value, str):
        return [value]
    if not isinstance(value, (list, tuple)):
        raise failure
    return list(value)


def _convert_scalar(value: Any, hint: Any, failure: SettingsError) -> Any:
    if hint is bool:
        if isinstance(value, bool):
            return value
        words = {
            "true": True,
            "yes": True,
            "on": True,
            "1": True,
            "false": False,
            "no": False,
            "off": False,
            "0": False,
        }
        if isinstance(value, str) and value.lower() in words:
            return words[value.lower()]
        raise failure
    if isinstance(value, bool) and hint in (int, float):
        raise failure
    try:
        if hint is int and isinstance(value, (str, int)):
            return whole(int(value.replace("_", "")) if isinstance(value, str) else value, low=-LONGEST, high=LONGEST)
        if hint is float and isinstance(value, (str, int, float)):
            return float(value)
        if hint is Path and isinstance(value, (str, Path)) and "\0" not in str(value):
            return Path(value)
        if hint is str and isinstance(value, str):
            return str(value)
    except (ValueError, OverflowError):
        raise failure from None
    raise failure


def describe_type(hint: Any) -> str:
    """A type in a person's words.

    >>> describe_type(int | None)
    'a whole number or none'
    """
    origin, args = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return " or ".join(describe_type(a) for a in args)
    if origin is Literal:
        return "one of " + ", ".join(str(a) for a in args)
    if origin is tuple:
        return f"a list, each {describe_type(args[0])}"
    names = {
        int: "a whole number",
        float: "a number",
        bool: "true or false",
        str: "text",
        Path: "a path",
        type(None): "none",
    }
    return names.get(hint, str(hint))
