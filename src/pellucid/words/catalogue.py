"""Every sentence that the counters say to a person in Chinese: the one catalogue, in `zh/`, a file for each kind.

    help     verbs, their help and options, and click's own words
    events   by the event's name, then its sentences
    errors   what happened, what was found, where, what to try
    screen   tables and closing words of the verbs

Rooms know nothing of it. They speak English, in sentences that stand once in the code; those are the keys here
(decision 0016). A sentence that is not in the catalogue is said in English; tests find such sentences before a person does.
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
    """The sentences of a section, English -> Chinese; those of an event begin with its name and a blank."""
    read = json.loads((files("pellucid.words") / "zh" / f"{section}.json").read_text(encoding="utf-8"))
    if section != "events":
        return read
    return {f"{name} {english}": chinese for name, told in read.items() for english, chinese in told.items()}


def say(language: Language, section: Section, sentence: str) -> str:
    """A sentence of the code in a language; in English, where the catalogue does not know it.

    >>> say("zh", "errors", "the file is empty")
    '文件是空的'
    """
    return sentence if language == "en" else _say(section, "", sentence)


def say_event(language: Language, name: str, message: str) -> str:
    """An event's sentence in a language."""
    return message if language == "en" else _say("events", f"{name} ", message)


def _say(section: Section, scope: str, sentence: str) -> str:
    _, told = _read(section, scope, sentence)
    return sentence if told is None else told


def _read(section: Section, scope: str, sentence: str) -> tuple[int, str | None]:
    """(how many characters are ours, the Chinese), of several readings the one that knows most; (0, None) for none.

    A gap may swallow the sentence that follows it (`give a number from {low} to {high}` and `, or leave {key} out`): the
    reading that knows both sentences has more characters of ours than the one that takes the second for a number.
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
    """The sentences with gaps; of two that know as much, the one that begins with words of its own comes first."""
    return tuple(sorted(_pairs(section), key=lambda pair: (not pair[0].parts[0][0], -pair[0].weight)))


def _pairs(section: Section) -> Iterator[tuple[Sentence, Sentence]]:
    for english, chinese in entries(section).items():
        if "{" in english:
            yield Sentence(english), Sentence(chinese)
