"""Print a lesson in the terminal: its title, and each kind of section of its page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from pellucid.cli.tables import print_table
from pellucid.words.wrapping import wrap

if TYPE_CHECKING:  # they load torch, which help does without
    from pellucid.lessons.contents import Lesson
    from pellucid.lessons.page import Code, Formula, Language, LessonPage, LessonTable, Paragraph, Workings


def describe(lesson: Lesson, language: Language) -> dict[str, Any]:
    """A lesson's entry in the list, as JSON."""
    return {
        "number": lesson.number,
        "name": lesson.name,
        "kind": lesson.kind,
        "title": lesson.title.say(language),
        "language": language,
    }


def show_title(lesson: Lesson, language: Language) -> None:
    """Print the lesson's title and kind."""
    from pellucid.lessons.contents import KINDS

    title = f"{lesson.number}. {lesson.title.say(language)}  [{KINDS[lesson.kind].say(language)}]"
    click.secho(title + "\n", bold=True)


def show(page: LessonPage, language: Language, *, drawn: bool) -> None:
    """Print a page for people."""
    from pellucid.lessons import page as sections

    views = {
        sections.Paragraph: show_paragraph,
        sections.Formula: show_formula,
        sections.Workings: show_workings,
        sections.Code: show_code,
        sections.LessonTable: show_table,
        sections.Chart: show_nothing if drawn else show_chart,
        sections.BarChart: show_nothing if drawn else show_chart,
    }
    for section in page.sections:
        views[type(section)](section, language)  # type: ignore[operator]


def show_paragraph(paragraph: Paragraph, language: Language) -> None:
    heading(paragraph.heading.say(language))
    click.echo(wrap(paragraph.text.say(language)) + "\n")


def show_formula(formula: Formula, language: Language) -> None:
    click.echo(f"    {formula.text}\n")


def show_workings(workings: Workings, language: Language) -> None:
    heading("一步一步" if language == "zh" else "Step by step")
    for step in workings.steps:
        shown = step.to_dict(language)
        click.echo(f"  {step.name} = {step.formula}    {shown['meaning']}")
        click.secho("\n".join(f"      {line}".rstrip() for line in shown["shown"].splitlines()) + "\n", fg="cyan")


def show_code(code: Code, language: Language) -> None:
    heading("用 Python 重算一遍" if language == "zh" else "Repeat it in Python")
    click.echo(code.text)
    label = "在 Pellucid 里：" if language == "zh" else "In Pellucid: "
    click.echo(label + ", ".join(code.functions) + "\n")


def show_table(table: LessonTable, language: Language) -> None:
    heading(table.caption.say(language))
    first, *others = [column.say(language) for column in table.columns]
    # The headings are in their language already, and some are names of files.
    print_table({first: "left"}, table.shown(language), names=others)


def show_chart(chart: Any, language: Language) -> None:
    """Print a hint to `--out`, because a terminal cannot show pictures."""
    told = "图：{}（加 --out 目录 画出来）" if language == "zh" else "plot: {} (add --out DIR to draw it)"
    title = chart.title if isinstance(chart.title, str) else chart.title.say(language)
    click.echo(told.format(title) + "\n")


def show_nothing(chart: Any, language: Language) -> None:
    """Print nothing for a chart: the names of the files are printed at the end."""


def heading(text: str) -> None:
    click.secho(text, bold=True)
