"""`pellucid learn`: lessons, each with its formula, its numbers step by step and the code that repeats them.

The guided lessons of the lens ask questions, which are answered in the terminal (`guided.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pellucid.cli.common import Common, PlacePath, common_options, print_json, seed_option, tell_opening
from pellucid.cli.language import asked_language
from pellucid.cli.language import language as speaking
from pellucid.cli.lesson_page import describe, show, show_title
from pellucid.cli.tables import print_table
from pellucid.cli.tokenizer_file import open_tokenizers

if TYPE_CHECKING:  # they load torch, which help does without
    from pellucid.lessons.contents import Lesson
    from pellucid.lessons.page import Language, LessonPage
    from pellucid.lessons.settings import LessonSettings


@click.command()
@click.argument("lesson", default="")
@click.option(
    "--out", type=PlacePath(file_okay=False, path_type=Path), help="write the lesson's plots here, as SVG and PNG"
)
@click.option(
    "--text",
    type=PlacePath(path_type=Path),
    help="train on this text, not on the microworld (sampling, residual, token-worth)",
)
@click.option(
    "--tokenizer",
    "tokenizers",
    type=PlacePath(path_type=Path),
    multiple=True,
    help="measure this tokenizer (token-worth); may be given several times",
)
@click.option(
    "--model", type=PlacePath(path_type=Path), help="guided lessons: the model [default: the newest run in runs/]"
)
@click.option("--prompt", metavar="TEXT", help="guided lessons: the text to look into [default: a sample sentence]")
@click.option("--answer", metavar="NUMBER", help="guided lessons: check this answer instead of asking for one")
@click.option("--quick", is_flag=True, help="trials only: a few steps, to see that it runs")
@seed_option
@common_options
def command(common: Common, lesson: str, **options: Any) -> None:
    """Work through LESSON, by number or name; without it, list the lessons.

    Experiments and exercises are arithmetic and take no time. Trials train small models, which takes up to a minute.
    Guided lessons are told on a model of yours and ask a question that the model answers.
    """
    from pellucid.cli.guided import guide
    from pellucid.lessons.contents import find_lesson

    language = speaking() if not common.as_json else asked_language() or "en"  # programs read JSON
    if not common.as_json and asked_language() is None:  # a reader of Chinese may not know that it is there
        click.echo("· --lang en for English" if language == "zh" else "· --lang zh 换成中文", err=True)
    if not lesson:
        list_lessons(language, as_json=common.as_json)
        return
    chosen = find_lesson(lesson)
    check_options(chosen, {f"--{name.removesuffix('s')}": value for name, value in options.items()})
    if chosen.kind == "guided":
        guide(chosen, common, language, options["model"], options["prompt"], options["answer"])
    else:
        settings = read_settings(chosen, common, text=options["text"], quick=options["quick"])
        tell(chosen, common, language, settings, options["tokenizers"], options["out"])


def tell(
    lesson: Lesson,
    common: Common,
    language: Language,
    settings: LessonSettings,
    tokenizers: Sequence[Path],
    out: Path | None,
) -> None:
    """Compute a lesson and print all of it."""
    if out:
        make_directory(out)
    page = work_through(lesson, settings, tokenizers, quiet=common.as_json)
    files = draw(page, out, language) if out else []
    if common.as_json:
        plots = [str(file) for file in files]
        print_json({**describe(lesson, language), "sections": page.to_dict(language), "plots": plots})
        return
    show_title(lesson, language)
    show(page, language, drawn=bool(files))
    for file in files:
        click.echo(f"· {file}", err=True)


def list_lessons(language: Language, *, as_json: bool) -> None:
    """Print all lessons, one a line."""
    from pellucid.lessons.contents import KINDS, LESSONS

    if as_json:
        print_json([describe(lesson, language) for lesson in LESSONS])
        return
    headings = ("课", "名称", "类别", "标题") if language == "zh" else ("no", "name", "kind", "title")
    sides = ("right", "left", "left", "left")
    rows = [(str(one.number), one.name, KINDS[one.kind].say(language), one.title.say(language)) for one in LESSONS]
    print_table(dict(zip(headings, sides, strict=True)), rows)  # type: ignore[arg-type]
    click.echo(
        f"打开一课：pellucid learn {LESSONS[0].name}"
        if language == "zh"
        else f"open one: pellucid learn {LESSONS[0].name}"
    )


def check_options(lesson: Lesson, given: Mapping[str, Any]) -> None:
    """Raise an error for an option that this lesson would ignore."""
    from pellucid.errors import SettingsError

    for option, value in given.items():
        if value and option not in lesson.options:
            found = f"{option} with lesson {lesson.name}"
            raise SettingsError(f"this lesson has no use for {option}", found=found, hint="leave it out")


def make_directory(path: Path) -> None:
    """Create the folder for the plots before a model is trained, so that a wrong path does not cost a minute."""
    from pellucid.errors import InputError

    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            "the plots cannot be written there", found=error.strerror or str(error), where=str(path)
        ) from error


def read_settings(lesson: Lesson, common: Common, *, text: Path | None, quick: bool) -> LessonSettings:
    """The settings of a lesson; one that computes with a model is told how many threads it may use."""
    if lesson.kind in ("trial", "measurement"):
        tell_opening(lesson.name, quiet=common.as_json)
    from pellucid.lessons.settings import LessonSettings
    from pellucid.model.device import choose_device, use_threads
    from pellucid.planning.machine import inspect_machine

    use_threads(common.threads, inspect_machine())
    seed = LessonSettings().seed if common.seed is None else common.seed
    return LessonSettings(seed=seed, quick=quick, text=text, device=str(choose_device(common.device)))


def work_through(lesson: Lesson, settings: LessonSettings, tokenizers: Sequence[Path], *, quiet: bool) -> LessonPage:
    """Compute the lesson; a trial shows its progress while it trains."""
    from pellucid.cli.watch import Watch
    from pellucid.events import Event
    from pellucid.lessons.contents import open_lesson

    opened = open_tokenizers(tokenizers)
    with Watch(quiet=quiet) as watch:
        if lesson.kind == "trial":
            seed = settings.seed
            watch.record(Event(name="lessons.seed", message=f"seed {seed}", data={"seed": seed}))
        return open_lesson(lesson, settings, tokenizers=opened, recorder=watch)


def draw(page: LessonPage, directory: Path, language: Language) -> list[Path]:
    """Draw the page's charts as files."""
    from pellucid.cli.bar_words import drawable
    from pellucid.drawing.bars import draw_bars
    from pellucid.drawing.curves import draw_curves
    from pellucid.lessons.page import BarChart, Chart

    files: list[Path] = []
    for chart in page.of(Chart):
        labels = {"title": chart.title, "x_label": chart.x_label, "y_label": chart.y_label}
        files += draw_curves(chart.series, **labels, path_without_suffix=directory / chart.name)
    for bars in page.of(BarChart):
        said = (bars.title, bars.x_label, *bars.groups, *bars.series)
        title, x_label, *rest = drawable([one.en for one in said], [one.say(language) for one in said])
        groups, names = rest[: len(bars.groups)], rest[len(bars.groups) :]
        series = dict(zip(names, bars.series.values(), strict=True))
        files += draw_bars(groups, series, title=title, x_label=x_label, path_without_suffix=directory / bars.name)
    return files
