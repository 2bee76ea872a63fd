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
    told = entries(section).get(scope + sentence)
    if told is not None and "{" not in told:
        return told
    for english, chinese in _with_gaps(section):
        fields = english.fields(scope + sentence)
        if fields is not None:
            return chinese.fill(fields, lambda words: _say(section, scope, words))
    return sentence


@cache
def _with_gaps(section: Section) -> tuple[tuple[Sentence, Sentence], ...]:
    """The sentences with gaps, the most exact ones first: those that begin with words of their own, then the longer."""
    return tuple(sorted(_pairs(section), key=lambda pair: (not pair[0].parts[0][0], -pair[0].weight)))


def _pairs(section: Section) -> Iterator[tuple[Sentence, Sentence]]:
    for english, chinese in entries(section).items():
        if "{" in english:
            yield Sentence(english), Sentence(chinese)
