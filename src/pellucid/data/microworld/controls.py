"""Baselines (controls) for question answering: shallow rules that a model's score is compared with.

Each control has read some training stories and answers by one simple rule. A model that is no better than these has
learned nothing about the world. All controls know the kind of the question; a model does not.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import Protocol

from pellucid.data.microworld.score import normalise
from pellucid.data.microworld.story import Question, Story

_Key = tuple[str, str]  # language, kind


class Control(Protocol):
    """A baseline that answers a question about a story."""

    def answer(self, story: Story, question: Question) -> str: ...


def words_of(text: str, language: str) -> frozenset[str]:
    """The words of a text: English words, or pairs of neighbouring Chinese characters.

    >>> sorted(words_of("Where is the cup?", "en")), sorted(words_of("在哪儿？", "zh"))
    (['cup', 'is', 'the', 'where'], ['哪儿', '在哪'])
    """
    runs = re.findall(r"\w+", text.casefold())
    if language == "en":
        return frozenset(runs)
    return frozenset(run[i : i + 2] for run in runs for i in range(max(1, len(run) - 1)))


class MostFrequent:
    """Gives the most frequent answer to questions of this kind."""

    def __init__(self, stories: Iterable[Story]) -> None:
        counts: dict[_Key, Counter[str]] = defaultdict(Counter)
        for story in stories:
            for question in story.questions:
                counts[question.language, question.kind][question.answers[0]] += 1
        self._best = {key: max(sorted(found), key=found.__getitem__) for key, found in counts.items()}

    def answer(self, story: Story, question: Question) -> str:
        return self._best.get((question.language, question.kind), "")


class LastMentioned:
    """Of all answers that this kind of question had, gives the one that the story names last (or first)."""

    def __init__(self, stories: Iterable[Story], *, first: bool = False) -> None:
        self._first = first
        self._candidates: dict[_Key, set[str]] = defaultdict(set)
        for story in stories:
            for question in story.questions:
                self._candidates[question.language, question.kind].add(normalise(question.answers[0]))

    def answer(self, story: Story, question: Question) -> str:
        tale = story.tale.casefold()
        named = []
        for candidate in sorted(self._candidates[question.language, question.kind]):
            where = tale.find(candidate) if self._first else tale.rfind(candidate)
            if where >= 0:
                named.append((where, len(candidate), candidate))
        if not named:
            return ""
        return min(named)[2] if self._first else max(named)[2]


class QuestionOnly:
    """Gives the answer that the words of the question vote for; it never reads the story."""

    def __init__(self, stories: Iterable[Story]) -> None:
        self._votes: dict[tuple[_Key, str], Counter[str]] = defaultdict(Counter)
        for story in stories:
            for question in story.questions:
                for word in words_of(question.text, question.language):
                    self._votes[(question.language, question.kind), word][question.answers[0]] += 1

    def answer(self, story: Story, question: Question) -> str:
        shares: dict[str, float] = defaultdict(float)
        for word in words_of(question.text, question.language):
            votes = self._votes.get(((question.language, question.kind), word), Counter())
            for answer, count in votes.items():
                shares[answer] += count / votes.total()
        return max(sorted(shares), key=shares.__getitem__) if shares else ""


class NearestStory:
    """Nearest neighbour: gives the answer to the known question of this kind that shares most words with this one."""

    def __init__(self, stories: Iterable[Story]) -> None:
        self._known: dict[_Key, list[tuple[frozenset[str], str]]] = defaultdict(list)
        for story in stories:
            for question in story.questions:
                words = words_of(story.prompt(question), question.language)
                self._known[question.language, question.kind].append((words, question.answers[0]))

    def answer(self, story: Story, question: Question) -> str:
        words = words_of(story.prompt(question), question.language)
        known = self._known[question.language, question.kind]
        if not known:
            return ""
        return max(known, key=lambda other: len(words & other[0]) / len(words | other[0]))[1]


def fit_controls(stories: Sequence[Story]) -> dict[str, Control]:
    """Every control, by name, fitted on the same training stories.

    >>> from pellucid.data.microworld.story import story
    >>> known = [story(0, index, level=1, language="en") for index in range(20)]
    >>> sorted(fit_controls(known))
    ['first_mentioned', 'last_mentioned', 'most_frequent', 'nearest_story', 'question_only']
    """
    return {
        "most_frequent": MostFrequent(stories),
        "last_mentioned": LastMentioned(stories),
        "first_mentioned": LastMentioned(stories, first=True),
        "question_only": QuestionOnly(stories),
        "nearest_story": NearestStory(stories),
    }
