"""The translation catalogue: every sentence of the command line, page and server in Chinese, in the files of `zh/`.

    help     verbs, their help and options, and click's own words
    events   by the event's name, then its sentences
    errors   what happened, what was found, where, what to try
    screen   tables and closing words of the verbs

The other rooms do not know the catalogue. Their code has English sentences, each written once; these are the keys here
(decision 0016). A sentence that is not in the catalogue stays English; a test reports such sentences.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.resources import files
from typing import Literal

from pellucid.words.sentence import Sentence

Language = Literal["en", "zh"]
Section = Literal["help", "events", "errors", "screen"]
SECTIONS: tuple[Section, ...] = ("help", "events", "errors", "screen")


@cache
def entries(section: Section) -> Mapping[str, str]:
    """The sentences of a section, English -> Chinese; the keys of events begin with the event's name and a space."""
    read = json.loads((files("pellucid.words") / "zh" / f"{section}.json").read_text(encoding="utf-8"))
    if section != "events":
        return read
    return {f"{name} {english}": chinese for name, told in read.items() for english, chinese in told.items()}


def say(language: Language, section: Section, sentence: str) -> str:
    """Translate a sentence of the code; it stays English where the catalogue does not have it.

    >>> say("zh", "errors", "the file is empty")
    '文件是空的'
    """
    return sentence if language == "en" else _say(section, "", sentence)


def say_event(language: Language, name: str, message: str) -> str:
    """Translate an event's sentence."""
    return message if language == "en" else _say("events", f"{name} ", message)


def _say(section: Section, scope: str, sentence: str) -> str:
    _, told = _read(section, scope, sentence)
    return sentence if told is None else told


def _read(section: Section, scope: str, sentence: str) -> tuple[int, str | None]:
    """The best translation as (number of characters outside gaps, Chinese); (0, None) if no sentence matches.

    A sentence may match in several ways, because a gap can also match the sentence after it (`give a number from {low}
    to {high}` and `, or leave {key} out`). The right match knows both sentences, so it has more characters outside
    gaps.
    """
    told = entries(section).get(scope + sentence)
    if told is not None and "{" not in told:
        return len(sentence), told
    best: tuple[int, str | None] = (0, None)
    for english, chinese in _with_gaps(section):
        fields = english.fields(scope + sentence)
        if fields is None:
            continue
        said = {name: _read(section, scope, fields[name]) for name in chinese.said}
        weight = english.weight - len(scope) + sum(known for known, _ in said.values())
        if best[1] is None or weight > best[0]:
            inner = {name: words for name, (_, words) in said.items() if words is not None}
            best = weight, chinese.fill({**fields, **inner})
    return best


@cache
def _with_gaps(section: Section) -> tuple[tuple[Sentence, Sentence], ...]:
    """The sentences with gaps, in the order they are tried: first those that begin with text, then by most text."""
    return tuple(sorted(_pairs(section), key=lambda pair: (not pair[0].parts[0][0], -pair[0].weight)))


def _pairs(section: Section) -> Iterator[tuple[Sentence, Sentence]]:
    for english, chinese in entries(section).items():
        if "{" in english:
            yield Sentence(english), Sentence(chinese)
