"""The language of the command line: `--lang` if given, else the locale's language when the output is a terminal.

Logs, JSON and output through a pipe stay English unless `--lang` is given, because programs read them.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import zip_longest
from typing import Any

import click

from pellucid.cli.screen import say
from pellucid.events import Event
from pellucid.words import catalogue
from pellucid.words.catalogue import Language, Section

LOCALE_VARIABLES = ("LC_ALL", "LC_MESSAGES", "LANG")  # the first that is set decides, as everywhere
LANGUAGES = ("en", "zh")
_asked: list[Language] = []  # by --lang, the innermost last


def ask(language: str | None) -> None:
    """Use this language from now on; None: the locale's language."""
    _asked[:] = [] if language is None else ["zh" if language == "zh" else "en"]


def find_asked(arguments: Sequence[str]) -> str | None:
    """The language in --lang. It is read before click parses the command, so that click's errors are translated too.

    >>> find_asked(["train", "BOOK.txt", "--lang=zh"]), find_asked(["--lang", "en", "plan"]), find_asked(["plan"])
    ('zh', 'en', None)
    >>> find_asked([]), find_asked(["--lang"])
    (None, None)
    """
    found = None
    for word, following in zip_longest(arguments, arguments[1:], fillvalue=""):
        if word == "--":
            break
        value = following if word == "--lang" else word.removeprefix("--lang=") if word.startswith("--lang=") else None
        found = value if value in LANGUAGES else found
    return found


def asked_language() -> Language | None:
    """The language that `--lang` asked for, if any."""
    return _asked[-1] if _asked else None


def language(*, err: bool = False) -> Language:
    """The language of standard output, or of standard error."""
    asked = asked_language()
    if asked is not None:
        return asked
    stream = sys.stderr if err else sys.stdout
    return locale_language(os.environ) if stream.isatty() else "en"


def locale_language(environment: Mapping[str, str]) -> Language:
    """The language of the locale: Chinese for zh_*, English for all others.

    >>> locale_language({"LANG": "zh_CN.UTF-8"}), locale_language({"LC_ALL": "C", "LANG": "zh_CN.UTF-8"})
    ('zh', 'en')
    """
    name = next((name for name in LOCALE_VARIABLES if environment.get(name)), None)
    return "zh" if name is not None and environment[name].lower().startswith("zh") else "en"


def words(sentence: str, *, err: bool = False, section: Section = "screen") -> str:
    """Translate one of our sentences into the language of standard output, or of standard error."""
    spoken = language(err=err)
    return sentence if spoken == "en" else catalogue.say(spoken, section, sentence)


def listed(parts: Iterable[str], *, err: bool = False) -> str:
    """Translated parts of a sentence, one after the other, with the comma of that language."""
    return ("，" if language(err=err) == "zh" else ", ").join(parts)


def aside(part: str, *, err: bool = False) -> str:
    """A translated part of a sentence, in the brackets of that language."""
    return f"（{part}）" if language(err=err) == "zh" else f" ({part})"


def say_event(event: Event) -> str:
    """An event's sentence, translated for standard error; a warning is marked."""
    mark = "!" if event.level == "warning" else "·"
    spoken = language(err=True)
    return f"{mark} {event.message if spoken == 'en' else catalogue.say_event(spoken, event.name, event.message)}"


def tell(sentence: str = "", *, err: bool = False, nl: bool = True) -> None:
    """Print one of our sentences, translated."""
    say(words(sentence, err=err), err=err, nl=nl)


def _take(ctx: click.Context, parameter: click.Parameter, value: str | None) -> None:
    if value is not None:
        before = list(_asked)
        ask(value)
        ctx.call_on_close(lambda: _asked.__setitem__(slice(None), before))


def lang_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """Decorator: add --lang, which means the same before and after every verb."""
    option = click.option(
        "--lang",
        type=click.Choice(LANGUAGES),
        expose_value=False,
        is_eager=True,
        callback=_take,
        help="speak English or Chinese (中文) [default: what the locale says, in a terminal]",
    )
    return option(function)
