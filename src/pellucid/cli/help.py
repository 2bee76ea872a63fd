"""Help pages and usage errors in the reader's language.

click builds its pages with a formatter and writes its errors as sentences; both are translated here. Every sentence is
looked up in `words/zh/help.json`. Chinese is wrapped by its width in columns.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

import click
from rich.cells import cell_len

from pellucid.arguments import SAMPLING
from pellucid.cli.common import SetOption
from pellucid.cli.language import lang_option, language, words
from pellucid.errors import SettingsError
from pellucid.setting_values import nearest
from pellucid.words.wrapping import wrap

EXTRA = re.compile(
    r"^(?P<help>.*?)(?:  \[(?P<extra>[^\[\]]*(?:\[[^\]]*\][^\[\]]*)*)\])?$", re.DOTALL
)  # click adds: [default: 1]
# Flags that there were, each with what to do instead.
REMOVED = dict.fromkeys(
    ("exact", "no_exact"),
    "--kernels on: the compiled loops always give the same bits whatever else runs, torch never promises it",
)
WIDEST_NAME = 30  # columns for the names of options, as click has it


class HelpPage(click.HelpFormatter):
    """A formatter for help pages: click's own in English; in Chinese each sentence is looked up."""

    err = False  # whether it goes to standard error

    @property
    def chinese(self) -> bool:
        return language(err=self.err) == "zh"

    def write_usage(self, prog: str, args: str = "", prefix: str | None = None) -> None:
        told = [_words(word, self.err) for word in args.split(" ")]
        usage = _words("Usage:", self.err)
        super().write_usage(prog, " ".join(told), usage if self.chinese else f"{usage} ")

    def write_heading(self, heading: str) -> None:
        if self.chinese:
            self.write(f"{'':>{self.current_indent}}{_words(heading, self.err)}：\n")
        else:
            super().write_heading(heading)

    def write_text(self, text: str) -> None:
        if not self.chinese:
            super().write_text(text)
            return
        paragraphs = [_words(paragraph, self.err) for paragraph in paragraphs_of(text)]
        room = max(self.width - self.current_indent, 20)
        lines = [line for told in paragraphs for line in (*wrap(told, room).splitlines(), "")][:-1]
        self.write("".join(" " * (self.current_indent if line else 0) + line + "\n" for line in lines))

    def write_dl(self, rows: Iterable[tuple[str, str]], col_max: int = WIDEST_NAME, col_spacing: int = 2) -> None:
        rows = list(rows)
        if not self.chinese:
            super().write_dl(rows, col_max, col_spacing)
            return
        first = min(max(cell_len(name) for name, _ in rows), col_max) + col_spacing
        for name, text in rows:
            lines = wrap(describe(text, self.err), max(self.width - self.current_indent - first, 10)).splitlines()
            indent, beside = " " * self.current_indent, cell_len(name) <= first - col_spacing
            self.write(indent + name + (" " * (first - cell_len(name)) + lines[0] if beside and lines else "") + "\n")
            for line in lines[1 if beside else 0 :]:
                self.write(indent + " " * first + line + "\n")


class PageContext(click.Context):
    """A click context that uses `HelpPage`."""

    formatter_class = HelpPage


def paragraphs_of(text: str) -> list[str]:
    """The paragraphs of a docstring, each on one line.

    >>> paragraphs_of("One\\n  sentence.\\n\\nAnother.")
    ['One sentence.', 'Another.']
    """
    return [" ".join(paragraph.split()) for paragraph in re.split(r"\n\s*\n", text) if paragraph.strip()]


def split_extra(text: str) -> tuple[str, list[str]]:
    """Split an option's help from the extras that click adds to it.

    >>> split_extra("rows computed at once  [default: 1; x>=1]")
    ('rows computed at once', ['default: 1', 'x>=1'])
    """
    found = EXTRA.match(text)
    assert found is not None
    return found["help"], found["extra"].split("; ") if found["extra"] else []


def describe(text: str, err: bool) -> str:
    """An option's help and click's extras, each translated."""
    told, extra = split_extra(" ".join(text.split("\n")))
    return _words(told, err) + (f"  [{'; '.join(_words(one, err) for one in extra)}]" if extra else "")


def _words(sentence: str, err: bool) -> str:
    return words(sentence, err=err, section="help")


def speak(command: click.Command) -> click.Command:
    """Give a verb and all its subcommands --lang and help in the reader's language."""
    command.context_class = PageContext
    if (
        command.help and not command.short_help
    ):  # click would cut it at a width, and nobody knows a sentence that is cut
        command.short_help = paragraphs_of(command.help)[0]
    if not any(parameter.name == "lang" for parameter in command.params):
        lang_option(command)
    for below in getattr(command, "commands", {}).values():
        speak(below)
    return command


def show_usage_error(error: click.UsageError) -> None:
    """Print how the command is used and what was wrong with it, on standard error."""
    if error.ctx is not None:
        page = HelpPage(width=error.ctx.terminal_width, max_width=error.ctx.max_content_width)
        page.err = True
        error.ctx.command.format_usage(error.ctx, page)
        click.echo(page.getvalue().rstrip("\n"), err=True)
        click.echo(_words(f"Try '{error.ctx.command_path} --help' for help.", True) + "\n", err=True)
    click.echo(_words(f"Error: {error.format_message()}", True), err=True)


def explain_option(error: click.NoSuchOption) -> SettingsError | click.NoSuchOption:
    """The error for an unknown flag; if a setting has that name, the error names the --set to use."""
    known = [name for one in _parameters(error.ctx) if isinstance(one, SetOption) for name in one.known()]
    wanted = error.option_name.lstrip("-").replace("-", "_")
    if wanted == "seed":
        what = f"there is no flag {error.option_name}"
        return SettingsError(what, found="nothing is drawn at random here", hint="leave --seed out")
    if wanted in REMOVED:
        what = f"there is no flag {error.option_name} any more"
        return SettingsError(what, found="it changed nothing", hint=REMOVED[wanted])
    called = SAMPLING.get(wanted, "") if "temperature" in known else ""  # its name in other libraries
    flags = [flag for one in _parameters(error.ctx) if one.name == called for flag in one.opts]
    if flags:
        return SettingsError(f"there is no flag {error.option_name}", hint=f"here it is called {flags[-1]}")
    wanted = called if called in known else wanted
    here = [name for name in known if name.rpartition(".")[2] == wanted]
    close = nearest_name(wanted, {name.rpartition(".")[2]: name for name in known})
    if here or (close and not error.possibilities):
        names = here or [close]
        hint = " or ".join(f"--set {name}=…" for name in names)
        return SettingsError(
            f"there is no flag {error.option_name}", where=error.ctx.command_path if error.ctx else "", hint=hint
        )
    return error


def nearest_name(wanted: str, known: Mapping[str, str]) -> str:
    """The full known name that is most similar to the wanted one; empty where none is similar.

    >>> nearest_name("repetition_penaltie", {"repetition_penalty": "sampling.repetition_penalty"})
    'sampling.repetition_penalty'
    """
    hint = nearest(wanted, list(known))
    return next((full for name, full in known.items() if repr(name) in hint), "")


def _parameters(context: click.Context | None) -> Iterable[click.Parameter]:
    return [] if context is None else context.command.params
