"""The sentences of the lessons, from the catalogues that the page reads too. No torch."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

SECTION = "learn"
AROUND_QUOTES = re.compile(" (?=“)|(?<=”) ")  # Chinese has no spaces there


@cache
def catalogue(language: str) -> dict[str, Any]:
    """The whole catalogue of a language, `en` or `zh`."""
    return json.loads((files("pellucid.lens") / "words" / f"{language}.json").read_text(encoding="utf-8"))


def say(language: str, key: str, figures: Mapping[str, str] | None = None) -> str:
    """A text of the lessons with its gaps filled.

    >>> say("en", "lesson", {"number": "3"})
    'Lesson 3'
    """
    entry: Any = catalogue(language)[SECTION]
    for part in key.split("."):
        entry = entry[part]
    return re.sub(r"\{(\w+)\}", lambda place: (figures or {}).get(place[1], place[0]), entry)


def say_line(language: str, lesson: str, line: Mapping[str, Any]) -> str:
    """A sentence of one lesson with its figures, as the lens sends it (`Line.to_dict`); texts and tokens are quoted."""
    quoted = {name: "“{}”" if one["form"] == "text" else "{}" for name, one in line["figures"].items()}
    figures = {name: quoted[name].format(one["shown"]) for name, one in line["figures"].items()}
    told = say(language, f"{lesson}.{line['key']}", figures)
    return AROUND_QUOTES.sub("", told) if language == "zh" else told


def myths(language: str, lesson: str) -> list[tuple[str, str]]:
    """Common misunderstandings, and what is right."""
    return [(myth["said"], myth["true"]) for myth in catalogue(language)[SECTION][lesson]["myths"].values()]
