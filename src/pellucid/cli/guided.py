"""The guided lessons of `pellucid learn`: a question about the reader's own model, whose answer the model checks.

In a terminal the program asks for the answer; in a pipe, or with `--answer`, it does not.
"""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pellucid.cli.common import Common, Terminal, print_json, tell_opening
from pellucid.cli.language import tell, words
from pellucid.cli.lesson_page import describe, show, show_title

if TYPE_CHECKING:  # they load torch, which help does without
    from pellucid.lessons.contents import Lesson
    from pellucid.lessons.guided import Checked, Guided
    from pellucid.lessons.page import Language


def guide(
    lesson: Lesson, common: Common, language: Language, model: Path | None, prompt: str | None, answer: str | None
) -> None:
    """Print the lesson, then check the answer that was given, or ask for one."""
    tell_opening(lesson.name, quiet=common.as_json)
    from pellucid.events import NULL
    from pellucid.lessons.guided import open_guided
    from pellucid.model.device import choose_device, use_threads
    from pellucid.planning.machine import inspect_machine

    use_threads(common.threads, inspect_machine())
    device, recorder = str(choose_device(common.device)), NULL if common.as_json else Terminal()
    guided = open_guided(lesson.name, model, prompt, language=language, device=device, recorder=recorder)
    if common.as_json:
        print_json(to_dict(guided, lesson, language, answer))
        return

    show_title(lesson, language)
    show(guided.page, language, drawn=False)
    if answer is not None:
        close(guided.check(answer), language)
    elif sys.stdin.isatty() and sys.stdout.isatty():
        converse(guided, language)
    else:
        given = {"--model": model, "--prompt": prompt}
        flags = " ".join(f"{flag} {shlex.quote(str(value))}" for flag, value in given.items() if value is not None)
        tell(f"answer with:  {f'pellucid learn {lesson.name} {flags}'.rstrip()} --answer NUMBER")
        if guided.choices:
            tell(f"NUMBER is one of 1 to {len(guided.choices)}")


def converse(guided: Guided, language: Language) -> None:
    """Ask until the answer is right; after an empty answer, show it."""
    from pellucid.errors import RequestError
    from pellucid.lens.lessons.words import say

    while given := click.prompt(
        f"{say(language, 'answer')} ({say(language, 'enter')})", default="", show_default=False
    ):
        try:
            checked = guided.check(given)
        except RequestError as error:
            what, hint = (words(part, err=True, section="errors") for part in (error.what, error.hint))
            click.echo(f"! {what}: {hint}", err=True)
            continue
        if checked.right:
            close(checked, language)
            return
        click.echo(say(language, "wrong"))
    close(guided.check("1" if guided.choices else "0"), language, told=False)


def close(checked: Checked, language: Language, *, told: bool = True) -> None:
    """Print the reply to an answer; `told` is false when the reader asked to see the answer."""
    from pellucid.lens.lessons.words import say

    if told:
        click.secho(say(language, "right" if checked.right else "wrong"), bold=True)
    if not (told and checked.right):
        click.echo(say(language, "shown", {"answer": checked.answer}))
    click.echo()
    show(checked.page, language, drawn=False)


def to_dict(guided: Guided, lesson: Lesson, language: Language, answer: str | None) -> dict[str, Any]:
    """The lesson as JSON; `checked` is null when no answer was given."""

    checked = None if answer is None else guided.check(answer)
    found = checked and {"right": checked.right, "answer": checked.answer, "sections": checked.page.to_dict(language)}
    return {
        **describe(lesson, language),
        "text": guided.text,
        "kind_of_answer": guided.task["kind"],
        "choices": list(guided.choices),
        "sections": guided.page.to_dict(language),
        "checked": found,
    }
