"""The result of a lesson: a page of sections, in English and Chinese, with its numbers as numbers.

A page knows nothing of terminals or files. The caller prints it, writes it as JSON or draws its charts, so a test reads
the same figures that a person sees.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

Language = Literal["en", "zh"]
Value: TypeAlias = "float | tuple[Value, ...]"  # a number, a row of numbers, rows of rows


@dataclass(frozen=True)
class Bilingual:
    """The same words in both languages.

    >>> Bilingual("a row", "一行").say("zh")
    '一行'
    """

    en: str
    zh: str

    def say(self, language: Language) -> str:
        """The words in one of the two languages."""
        return self.zh if language == "zh" else self.en

    def __add__(self, other: Bilingual) -> Bilingual:
        return Bilingual(self.en + other.en, self.zh + other.zh)


QUESTION = Bilingual("Question", "问题")
SETUP = Bilingual("What was done", "怎么做的")
FINDING = Bilingual("What to see in it", "从中看到什么")


@dataclass(frozen=True, kw_only=True)
class Paragraph:
    """A few sentences under a heading."""

    heading: Bilingual
    text: Bilingual

    def to_dict(self, language: Language) -> dict[str, Any]:
        return {"section": "paragraph", "heading": self.heading.say(language), "text": self.text.say(language)}


@dataclass(frozen=True, kw_only=True)
class Formula:
    """A formula: what the lesson computes, in symbols."""

    text: str

    def to_dict(self, language: Language) -> dict[str, Any]:
        return {"section": "formula", "text": self.text}


@dataclass(frozen=True, kw_only=True)
class Working:
    """One step of a calculation; `name` is also the variable that the page's code gives this value."""

    name: str
    formula: str
    meaning: Bilingual
    value: Value
    digits: int = 3  # decimal places shown

    def to_dict(self, language: Language) -> dict[str, Any]:
        return {
            "name": self.name,
            "formula": self.formula,
            "meaning": self.meaning.say(language),
            "value": self.value,
            "shown": format_value(self.value, self.digits),
        }


@dataclass(frozen=True, kw_only=True)
class Workings:
    """A calculation step by step."""

    steps: tuple[Working, ...]

    def to_dict(self, language: Language) -> dict[str, Any]:
        return {"section": "workings", "steps": [step.to_dict(language) for step in self.steps]}


@dataclass(frozen=True, kw_only=True)
class Code:
    """Python that repeats the calculation with the standard library alone, and the functions that do it in Pellucid."""

    text: str
    functions: tuple[str, ...]

    def to_dict(self, language: Language) -> dict[str, Any]:
        return {"section": "code", "text": self.text, "functions": list(self.functions)}


@dataclass(frozen=True, kw_only=True)
class LessonTable:
    """Measured figures in rows; the first column names the row."""

    caption: Bilingual
    columns: tuple[Bilingual, ...]
    rows: tuple[tuple[Bilingual | float | int, ...], ...]
    digits: int = 3  # decimal places of the fractions

    def to_dict(self, language: Language) -> dict[str, Any]:
        return {
            "section": "table",
            "caption": self.caption.say(language),
            "columns": [column.say(language) for column in self.columns],
            "rows": [
                [cell.say(language) if isinstance(cell, Bilingual) else cell for cell in row] for row in self.rows
            ],
        }

    def shown(self, language: Language) -> list[list[str]]:
        """The rows as text."""
        return [[self._show(cell, language) for cell in row] for row in self.rows]

    def _show(self, cell: Bilingual | float | int, language: Language) -> str:
        if isinstance(cell, Bilingual):
            return cell.say(language)
        return f"{cell:,}" if isinstance(cell, int) else f"{cell:.{self.digits}f}"


@dataclass(frozen=True, kw_only=True)
class Chart:
    """Curves to draw, with the name of their file. The words are English: a machine may lack fonts for others."""

    name: str
    title: str
    x_label: str
    y_label: str
    series: Mapping[str, Sequence[tuple[float, float]]]

    def to_dict(self, language: Language) -> dict[str, Any]:
        series = {name: [list(point) for point in points] for name, points in self.series.items()}
        labels = {"title": self.title, "x_label": self.x_label, "y_label": self.y_label}
        return {"section": "chart", "name": self.name, **labels, "series": series}


@dataclass(frozen=True, kw_only=True)
class BarChart:
    """Bars to draw, with the name of their file: one for each series in each group."""

    name: str
    title: Bilingual
    x_label: Bilingual
    groups: tuple[Bilingual, ...]
    series: Mapping[Bilingual, Sequence[float | None]]  # None: no bar

    def to_dict(self, language: Language) -> dict[str, Any]:
        series = {name.say(language): list(values) for name, values in self.series.items()}
        groups = [group.say(language) for group in self.groups]
        labels = {"title": self.title.say(language), "x_label": self.x_label.say(language)}
        return {"section": "bars", "name": self.name, **labels, "groups": groups, "series": series}


Section: TypeAlias = Paragraph | Formula | Workings | Code | LessonTable | Chart | BarChart


@dataclass(frozen=True)
class LessonPage:
    """One lesson with all its results."""

    sections: tuple[Section, ...]

    def of(self, kind: type) -> list[Any]:
        """The sections of one kind, in order."""
        return [section for section in self.sections if isinstance(section, kind)]

    def to_dict(self, language: Language) -> list[dict[str, Any]]:
        """The page as JSON, its words in one language."""
        return [section.to_dict(language) for section in self.sections]


def format_value(value: Value, digits: int) -> str:
    """Format numbers for people: a row on one line, a matrix as one line per row, an empty line between matrices.

    >>> print(format_value(((0.5, 1.0), (-0.25, 0.0)), 2))
     0.50  1.00
    -0.25  0.00
    """
    sign = " " if _has_minus(value) else "-"  # a format's "-": room for a sign only where there is one
    return _format(value, f"{sign}.{digits}f")


def _format(value: Value, spec: str) -> str:
    if not isinstance(value, tuple):
        return format(value, spec)
    between = ("  ", "\n", "\n\n")[_depth(value) - 1]
    return between.join(_format(part, spec) for part in value)


def _depth(value: Value) -> int:
    return 1 + _depth(value[0]) if isinstance(value, tuple) else 0


def _has_minus(value: Value) -> bool:
    return any(map(_has_minus, value)) if isinstance(value, tuple) else value < 0
