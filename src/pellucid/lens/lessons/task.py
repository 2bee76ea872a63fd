"""The result of a lesson: figures for its sentences, a question with its answer, and sentences for afterwards.

All words are in the message catalogues. Here are only their keys and the figures for their gaps. So the page and the
terminal say the same in both languages, and every figure keeps the name of the tensor it was read from.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

Form = Literal["text", "count", "number", "percent"]
Figures: TypeAlias = "Mapping[str, Figure]"


@dataclass(frozen=True)
class Figure:
    """One figure of a sentence: a number or a piece of text, and the tensor it was read from.

    >>> Figure(0.5, "percent", digits=1).shown, Figure(49152, "count").shown
    ('50.0 %', '49,152')
    """

    value: float | int | str
    form: Form = "number"
    digits: int = 3
    address: str = ""  # "embed[5,0]": empty where the figure is no single number of a tensor

    @property
    def shown(self) -> str:
        """The figure as a person reads it."""
        if isinstance(self.value, str):
            return self.value
        if self.form == "count":
            return f"{self.value:,}"
        if self.form == "percent":
            return f"{100 * self.value:.{self.digits}f} %"
        return f"{self.value:.{self.digits}f}".replace("-", "−")

    def to_dict(self) -> dict[str, Any]:
        """The figure for the page, which shows the same text and keeps the number behind it."""
        return {
            "value": self.value,
            "form": self.form,
            "digits": self.digits,
            "shown": self.shown,
            "address": self.address,
        }


def count(value: int, address: str = "") -> Figure:
    """A whole number."""
    return Figure(int(value), "count", address=address)


def number(value: float, digits: int = 3, address: str = "") -> Figure:
    """A number with decimal places."""
    return Figure(float(value), digits=digits, address=address)


def percent(value: float, digits: int = 1, address: str = "") -> Figure:
    """A share, given between 0 and 1."""
    return Figure(float(value), "percent", digits=digits, address=address)


def text(value: str) -> Figure:
    """A piece of the reader's own text, or a token."""
    return Figure(value, "text")


@dataclass(frozen=True)
class TaskLine:
    """A sentence of the catalogue (its key inside the lesson's section) with its figures."""

    key: str
    figures: Figures = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        return {"key": self.key, "figures": {name: figure.to_dict() for name, figure in self.figures.items()}}


@dataclass(frozen=True, kw_only=True)
class LessonTask:
    """A lesson on one text: its sentences, the selection in the panel, the question, and the right answer.

    `answer` is the index of the right choice, or a number where there are no choices.
    """

    say: tuple[TaskLine, ...]
    ask: TaskLine
    answer: float
    choices: tuple[Figure, ...] = ()
    tolerance: float = 0.0
    select: Mapping[str, Any] = field(default_factory=dict)  # token, layer, head, temperature, top_p …
    try_text: str | None = None  # a text to put on the row of tokens while answering
    code: str = ""  # Python that finds the answer

    def is_right(self, answer: float) -> bool:
        """Whether an answer is right; a number may be off by the tolerance."""
        return abs(answer - self.answer) <= self.tolerance

    def to_dict(self) -> dict[str, Any]:
        """The lesson for the page, without its answer."""
        return {
            "say": [line.to_dict() for line in self.say],
            "ask": self.ask.to_dict(),
            "kind": "choice" if self.choices else "number",
            "choices": [choice.to_dict() for choice in self.choices],
            "select": dict(self.select),
            "try": self.try_text,
            "code": self.code,
        }
