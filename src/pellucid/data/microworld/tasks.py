"""Pairs of texts about stories of the microworld, each with one right target: what an encoder and a decoder learn from.

    translation   a story, and what happens in it in the other language, plainly told
    answers       a story with a question, and the answer
    summary       a story, and how things stand in the end: where everybody is, and where everything is or who has it

A target is told in one wording alone and with names throughout, so that right and wrong can be told apart letter by
letter; the source keeps all its wordings and pronouns. The splits are those of the stories.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal, get_args

from pellucid.data.microworld.entities import PLACE, Happening
from pellucid.data.microworld.questions import Asked
from pellucid.data.microworld.story import happenings, story
from pellucid.data.microworld.tell import Language, teller
from pellucid.data.microworld.world import World
from pellucid.errors import InputError

Task = Literal["translation", "answers", "summary"]
TASKS: tuple[Task, ...] = get_args(Task)
SUMMARY_LEVELS = (0, 1)  # beyond, things lie in containers, have colours or are counted
OTHER: dict[Language, Language] = {"en": "zh", "zh": "en"}


@dataclass(frozen=True, kw_only=True)
class TaskPair:
    """A source and its target; `facts` are the sentences of a summary that answer a question of the story, by question."""

    source: str
    target: str
    facts: tuple[tuple[str, ...], ...] = ()


def pairs(
    task: str, seed: int, *, level: int, count: int, language: str = "en", split: str = "train"
) -> Iterator[TaskPair]:
    """The first `count` pairs of a task; `language` is that of the sources.

    Raises InputError for a task, a level, a language or a split that does not exist.

    >>> found = next(pairs("translation", 0, level=0, count=1))
    >>> found.source.isascii(), found.target.isascii()
    (True, False)
    """
    if task not in TASKS:
        raise InputError("there is no such task of the microworld", found=task, hint="one of " + ", ".join(TASKS))
    if task == "summary" and level not in SUMMARY_LEVELS:
        hint = f"levels {SUMMARY_LEVELS[0]} and {SUMMARY_LEVELS[-1]}"
        raise InputError("the end of such a story cannot be told plainly", found=f"level {level}", hint=hint)
    told = (pair for index in itertools.count() for pair in _of_story(task, seed, index, level, language, split))
    return itertools.islice(told, count)


def _of_story(task: str, seed: int, index: int, level: int, language: str, split: str) -> Iterable[TaskPair]:
    tale = story(seed, index, level=level, language=language, split=split)
    if task == "answers":
        return [TaskPair(source=tale.prompt(q), target=q.answers[0]) for q in tale.questions]
    if task == "translation":
        narrator = teller(OTHER[tale.language])
        return [TaskPair(source=tale.tale, target=narrator.between.join(narrator.plainly(tale.events)))]
    narrator, end = teller(tale.language), _End(tale.events)
    summary = [narrator.state(state) for state in map(end.state, end.parent)]
    asked = happenings(seed, index, level=level, split=split)[1]
    facts = [tuple(narrator.state(end.state(entity)) for entity in needed) for needed in map(end.needed, asked)]
    return [TaskPair(source=tale.tale, target=narrator.between.join(summary), facts=tuple(filter(None, facts)))]


class _End(World):
    """How things stand after some happenings."""

    def __init__(self, events: Iterable[Happening]) -> None:
        super().__init__()
        for verb, person, thing, place, *_ in events:
            match verb:
                case "move":
                    self.move(person, place)
                case "lie":
                    self.lie(thing, place)
                case "take":
                    self.take(person, thing)
                case "drop":
                    self.drop(person, thing)
                case _:
                    raise AssertionError(f"levels {SUMMARY_LEVELS} have no {verb}")

    def state(self, entity: int) -> Happening:
        """Where a person is; where a thing lies, or who has it."""
        parent = self.parent[entity]
        if entity < PLACE:
            return Happening("is", entity, place=parent)
        return Happening("has", parent, entity) if parent < PLACE else Happening("lies", thing=entity, place=parent)

    def needed(self, asked: Asked) -> list[int]:
        """Whose states together answer a question; none where they do not."""
        subject = asked.person if asked.kind == "where_person" else asked.thing
        if asked.kind not in ("where_person", "where_thing", "who_has") or subject not in self.parent:
            return []
        holder = self.parent[subject]
        carried = asked.kind == "where_thing" and holder < PLACE
        return [subject, *([holder] if carried and holder in self.parent else [])]
