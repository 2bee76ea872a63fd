"""Validate the fields (params) of a question before it is answered; anything not listed here is refused.

    any value     numbers are finite and no larger than JavaScript holds exactly; texts are Unicode, of limited length;
                  nesting is limited to the depth that the page itself uses
    name          must be a parameter of the question's function, and must be given where it is required
    kind          must be the type of that parameter: a whole number, a text, one of some words
    range         follows from the name: a layer is a layer of this model in every question, a count is 1 or more

What depends on the text (whether a position has a token) is checked by the question's own function.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from functools import cache
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from pellucid.errors import RequestError
from pellucid.lens.answer import Answer, At
from pellucid.planning.config import ModelConfig
from pellucid.setting_values import nearest

Method = Callable[..., Answer]

DEEPEST = 12  # lists and objects in each other; the page's own deepest question has six
MOST_VALUES = 200_000  # in one question
MOST_CHARACTERS = 50_000  # of one text: about 12,000 tokens
LARGEST = 2**53 - 1  # the largest whole number that a page holds exactly
WHOLE_FILES = ("content",)  # texts that are a file of the page's own; the size of a question bounds them
FINITE, PAIRS = "give a finite number", "write the character as one, or as both halves"
SHOWN = 80  # characters of a wrong value that are told


def check_values(params: Any) -> None:
    """Raise RequestError for a value that is invalid in any question, and name it with the reason.

    >>> check_values({"at": {"node": 0}, "words": [1, 2]})
    >>> check_values({"rate": float("inf")})
    Traceback (most recent call last):
    ...
    pellucid.errors.RequestError: this number is no finite number
      found: rate=inf
      try:   give a finite number
    """
    if not isinstance(params, dict):
        raise RequestError("params are a JSON object", found=type(params).__name__, hint='for example {"layer": 0}')
    waiting: list[tuple[str, Any, int]] = [("params", params, 0)]
    seen = 0
    while waiting:
        name, value, depth = waiting.pop()
        seen += 1
        if depth > DEEPEST or seen > MOST_VALUES:
            found = f"more than {DEEPEST} levels" if depth > DEEPEST else f"more than {MOST_VALUES:,} values"
            raise RequestError("this question holds too much", found=found, hint="ask several questions")
        _check_value(name, value)
        if isinstance(value, dict):
            waiting += [("a name", key, depth) for key in value]
            waiting += [(str(key), inner, depth + 1) for key, inner in value.items()]
        elif isinstance(value, list):
            waiting += [(name, inner, depth + 1) for inner in value]


def _check_value(name: str, value: Any) -> None:
    match value:
        case None | bool() | dict() | list():
            return
        case int() if abs(value) > LARGEST:
            raise RequestError("this number is too large", found=_short(name), hint=f"at most {LARGEST:,}")
        case float() if not math.isfinite(value):
            raise RequestError("this number is no finite number", found=f"{_short(name)}={value}", hint=FINITE)
        case str() if len(value) > MOST_CHARACTERS and name not in WHOLE_FILES:
            found = f"{_short(name)}: {len(value):,} characters"
            raise RequestError("this text is too long", found=found, hint=f"at most {MOST_CHARACTERS:,} characters")
        case str() if not is_unicode(value):
            raise RequestError(
                "this text is no Unicode: half of a pair stands alone in it", found=_short(name), hint=PAIRS
            )
        case int() | float() | str():
            return
        case _:
            found = f"{_short(name)}: {type(value).__name__}"
            raise RequestError("this is no value of a question", found=found, hint="give what JSON can hold")


def is_unicode(text: str) -> bool:
    r"""Whether a text can be written as UTF-8: a lone surrogate, which JSON can spell, cannot.

    >>> is_unicode("👩"), is_unicode("\ud83d")
    (True, False)
    """
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def read_fields(config: ModelConfig, method: str, function: Method, params: Mapping[str, Any]) -> dict[str, Any]:
    """The params of a question as arguments. Raises RequestError, naming the unknown, missing or wrong param."""
    check_values(params)
    wanted, kinds = _signature(function)
    for name in params:
        if name not in wanted:
            raise RequestError(
                f"{method} takes no {_short(name)!r}",
                hint=nearest(name[:SHOWN], list(wanted)) if wanted else "leave it out",
            )
    read: dict[str, Any] = {}
    for name, parameter in wanted.items():
        if name == "at":
            read[name] = At.of(params.get(name, {}))
        elif name in params:
            read[name] = params[name]
            check_field(config, f"{method}: {name}", kinds[name], read[name])
        elif parameter.default is inspect.Parameter.empty:
            found = f"given: {_short(', '.join(params) or 'nothing')}"
            raise RequestError(f"{method} needs {name!r}", found=found, hint=f"add {name!r} to the params")
    return read


@cache
def _signature(function: Method) -> tuple[dict[str, inspect.Parameter], dict[str, Any]]:
    """The fields of a question (all parameters but the state), and the kind of each."""
    wanted = dict(list(inspect.signature(function).parameters.items())[1:])
    return wanted, get_type_hints(function, localns={"LensState": object, "At": At})


def check_field(config: ModelConfig, where: str, kind: Any, value: Any) -> None:
    """Check that a value has the kind that the function declares and the range that belongs to its name.

    >>> from pellucid.planning.presets import preset
    >>> check_field(preset("gpt2"), "attention: layer", int, 12)
    Traceback (most recent call last):
    ...
    pellucid.errors.RequestError: attention: layer is out of range
      found: 12
      try:   0 to 11
    """
    kinds = get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)
    if not any(_is_of(one, value) for one in kinds):
        raise RequestError(
            f"{where} is not of the kind {_say(kinds)}", found=_short(repr(value)), hint="give one, or leave it out"
        )
    if isinstance(value, int) and not isinstance(value, bool) and float not in kinds:
        name = where.rpartition(" ")[2]
        least, most = LEAST.get(name, 0), MOST[name](config) if name in MOST else LARGEST
        if not least <= value <= most:
            raise RequestError(f"{where} is out of range", found=str(value), hint=f"{least} to {most:,}")


def _is_of(kind: Any, value: Any) -> bool:
    if get_origin(kind) is Literal:
        return value in get_args(kind)
    kind = get_origin(kind) or kind
    if kind in (int, float) and isinstance(value, bool):
        return False
    return isinstance(value, (int, float)) if kind is float else isinstance(value, kind)


def _say(kinds: tuple[Any, ...]) -> str:
    """Kinds in words: int, None, "value" or "written"."""
    words = [repr(one) for kind in kinds if get_origin(kind) is Literal for one in get_args(kind)]
    return " | ".join(
        [
            getattr(kind, "__name__", str(kind)).replace("NoneType", "None")
            for kind in kinds
            if get_origin(kind) is not Literal
        ]
        + words
    )


def _short(text: str) -> str:
    return text if len(text) <= SHOWN else text[: SHOWN - 1] + "…"


def _last_id(config: ModelConfig) -> int:
    return config.vocab_size - 1


def _last_position(config: ModelConfig) -> int:
    return config.context_length - 1


LEAST = {"count": 1, "steps": 1, "beams": 1, "length": 1, "dims": 2}  # of whole numbers; all others begin at 0
MOST: dict[str, Callable[[ModelConfig], int]] = {  # of whole numbers by their names; a count is a count of something
    "id": _last_id,
    "against": _last_id,
    "replacement": _last_id,
    "layer": lambda config: max(config.n_layers, config.encoder.n_layers if config.encoder else 0) - 1,
    "head": lambda config: config.n_heads - 1,
    "query": _last_position,
    "key": _last_position,
    "predict_after": _last_position,
    "source_position": _last_position,
    "other_position": _last_position,
    "position": lambda config: config.context_length,  # the position after the last token can be drawn too
    "row": lambda config: max(3 * config.n_layers, 1_000),  # a row of the logit lens, or a row of the run's batch
    "count": lambda config: 100_000,
    "dims": lambda config: 3,
    "beams": lambda config: 16,
    "length": lambda config: 256,
    "steps": lambda config: 512,
}
