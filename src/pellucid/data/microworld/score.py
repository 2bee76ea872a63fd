"""Scores replies exactly and says how sure the score is.

    p = correct / count          interval = Wilson's, 95 %:  (p + z²/2n ± z √(p(1 - p)/n + z²/4n²)) / (1 + z²/n),  z = 1.96

A reply counts when its first line is one of the accepted answers; only white space, final punctuation and, in English,
capitals are forgiven. This is not a measure of fluency: "The garden, I think." is wrong.

Source: Wilson (1927), "Probable inference, the law of succession, and statistical inference".
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from pellucid.data.microworld.story import Question, Story

Z_95 = 1.959963984540054


def is_correct(question: Question, reply: str) -> bool:
    """Whether the first line of the reply is an accepted answer.

    >>> garden = Question("where_thing", "Where is the cup?", ("The garden.", "In the garden."), 2, (0, 1), "en")
    >>> is_correct(garden, " the garden\\nWhere is Tom? The attic."), is_correct(garden, "The garden, or not.")
    (True, False)
    """
    return normalise(reply) in {normalise(answer) for answer in question.answers}


def normalise(reply: str) -> str:
    """The first line (of what follows leading white space) without final punctuation, in lower case.

    >>> normalise("  In  the garden. "), normalise("花园。")
    ('in the garden', '花园')
    """
    lines = reply.strip().splitlines()
    return " ".join(lines[0].split()).rstrip(" .。!！").casefold() if lines else ""


@dataclass(frozen=True, kw_only=True)
class GroupScore:
    """The score of one group of questions in one split."""

    split: str
    group: str  # what the questions of this row share: "all", "kind", "hops" or "language"
    value: str  # which of them: "where_thing", "2", "zh"; "" for all
    count: int
    correct: int
    low: float  # the interval that covers the true share in 95 of 100 such samples
    high: float

    @property
    def accuracy(self) -> float:
        """Share of questions answered exactly."""
        return self.correct / self.count


def wilson(correct: int, count: int) -> tuple[float, float]:
    """The 95 % interval for a share seen as `correct` of `count` (at least one).

    >>> [round(bound, 3) for bound in wilson(90, 100)]
    [0.826, 0.945]
    """
    share, z2 = correct / count, Z_95**2
    middle = share + z2 / (2 * count)
    spread = Z_95 * math.sqrt(share * (1 - share) / count + z2 / (4 * count**2))
    return max(0.0, (middle - spread) / (1 + z2 / count)), min(1.0, (middle + spread) / (1 + z2 / count))


def score(answers: Iterable[tuple[Story, Question, str]]) -> list[GroupScore]:
    """Score replies: for each split all questions together, then by kind, by hops and by language.

    >>> from pellucid.data.microworld.story import story
    >>> tale = story(0, 0, level=1, language="en", split="held_out")
    >>> rows = score((tale, question, question.answers[0]) for question in tale.questions)
    >>> rows[0].group, rows[0].accuracy
    ('all', 1.0)
    """
    count: Counter[tuple[str, str, str]] = Counter()
    correct: Counter[tuple[str, str, str]] = Counter()
    for story, question, reply in answers:
        right = is_correct(question, reply)
        groups = {"all": "", "kind": question.kind, "hops": str(question.hops), "language": question.language}
        for group, value in groups.items():
            key = (str(story.split), group, value)
            count[key] += 1
            correct[key] += right
    order = {"all": 0, "language": 1, "kind": 2, "hops": 3}
    rows = []
    for key in sorted(count, key=lambda key: (key[0], order[key[1]], key[2])):
        low, high = wilson(correct[key], count[key])
        split, group, value = key
        rows.append(
            GroupScore(
                split=split, group=group, value=value, count=count[key], correct=correct[key], low=low, high=high
            )
        )
    return rows
