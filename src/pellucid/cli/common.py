"""Code shared by the verbs: the common flags, output for people or as JSON, and the printing of events."""

from __future__ import annotations

import importlib
import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pellucid.cli.language import lang_option, say_event, tell, words
from pellucid.cli.screen import HARMFUL, say
from pellucid.cli.watch import FETCHING, Lines, Watch
from pellucid.counts import counted
from pellucid.data.decoding import LineEnds
from pellucid.errors import DecodingError
from pellucid.events import Event, Recorder, Without
from pellucid.settings import setting_names
from pellucid.tokens.read_roles import NO_END

if TYPE_CHECKING:  # they load torch, which help does without
    from pellucid.engine.settings import EngineSettings
    from pellucid.language_model import LanguageModel
    from pellucid.store.checkpoint import Checkpoint

MOST_THREADS = 4096  # more than any machine has cores
ESCAPES = {"\\n": "a line end", "\\t": "a tab", "\\r": "a carriage return"}


@dataclass(frozen=True, kw_only=True)
class Common:
    """The flags that every verb takes."""

    device: str
    threads: int | None
    as_json: bool
    seed: int | None = None  # None too where nothing is drawn
    pattern: str | None = None  # None too where no model is opened


def common_options(function: Callable) -> Callable:
    """Decorator: add --device --threads --json --lang; all but the last arrive as `common: Common`.

    A verb that draws random numbers has `seed_option` too, above this one, and one that opens a model `pattern_option`.
    """

    @lang_option
    @click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1 or mps")
    @click.option(
        "--threads", type=click.IntRange(1, MOST_THREADS), help="CPU threads (default: the cores this process may use)"
    )
    @click.option("--json", "as_json", is_flag=True, help="print JSON for machines")
    def wrapped(
        device: str,
        threads: int | None,
        as_json: bool,
        seed: int | None = None,
        pattern: str | None = None,
        **options: Any,
    ) -> Any:
        common = Common(device=device, threads=threads, seed=seed, pattern=pattern, as_json=as_json)
        return function(common=common, **options)

    wrapped.__name__, wrapped.__doc__ = function.__name__, function.__doc__
    wrapped.__click_params__ = wrapped.__click_params__ + getattr(function, "__click_params__", [])  # type: ignore[attr-defined]
    return wrapped


seed_option = click.option(
    "--seed",
    type=click.IntRange(min=0),
    help="the number all randomness is drawn from (unset: 1337 in training, else drawn and printed)",
)


pattern_option = click.option(
    "--pattern",
    metavar="NAME",
    help="where a text is cut, if a .gguf file does not say: gpt2, qwen2, llama3, cl100k, o200k, …",
)


class PlacePath(click.Path):
    """The path of a file or directory. An empty path, as an unset shell variable gives, is an error."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value == "":
            self.fail(words("the path is empty", err=True), param, ctx)
        return super().convert(value, param, ctx)


PLACE = PlacePath(path_type=Path)


class SetOption(click.Option):
    """The option --set of a verb; it holds the names of its settings classes and imports them only when needed."""

    def __init__(self, *names: Any, settings: str, **attributes: Any) -> None:
        super().__init__(*names, **attributes)
        self.settings = settings

    def known(self) -> list[str]:
        """The dotted names of all settings."""
        module, name = self.settings.split(":")
        return list(setting_names(getattr(importlib.import_module(module), name)))


def set_option(settings: str, meaning: str, *, metavar: str = "NAME=VALUE") -> Callable:
    """Decorator: add --set for a dataclass of settings, named as `module:Class` because some are slow to import."""
    return click.option(
        "--set", "assignments", cls=SetOption, settings=settings, multiple=True, metavar=metavar, help=meaning
    )


json_option = click.option("--json", "as_json", is_flag=True, help="print JSON for machines")
field_option = click.option(
    "--field", default="text", show_default=True, help="the field of .jsonl and .parquet rows that holds the text"
)
errors_option = click.option(
    "--errors",
    type=click.Choice(["strict", "replace"]),
    default="strict",
    show_default=True,
    help="broken bytes and rows without text: stop, or replace, leave out, and count",
)
encoding_option = click.option(
    "--encoding",
    default=None,
    metavar="NAME",
    help="how bytes become text, for example gb18030 [default: UTF-8, or what the text's beginning shows]",
)
newlines_option = click.option(
    "--newlines", type=click.Choice(["lf", "keep"]), help="read CRLF and lone CR as LF, or keep them"
)


def as_json(value: Any, *, indent: int | None = None) -> str:
    """A value as JSON with readable non-ASCII text; terminal control characters and lone surrogates are escaped."""
    text = json.dumps(value, ensure_ascii=False, indent=indent)
    return HARMFUL.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def print_json(value: Any) -> None:
    """Print one JSON document on standard output."""
    click.echo(as_json(value, indent=2))


def read_standard_input() -> str:
    """Read all of standard input, unchanged; DecodingError where it is not UTF-8."""
    try:
        return sys.stdin.buffer.read().decode("utf-8")
    except UnicodeDecodeError as error:
        found = f"byte 0x{error.object[error.start]:02X} at offset {error.start:,}"
        hint = "translate it first: iconv -f ENCODING -t UTF-8"
        raise DecodingError("the text is not UTF-8", found=found, where="standard input", hint=hint) from None


def tell_blank(count: int, place: str) -> None:
    """Say that blank lines are left out of a file, or of standard input ("-")."""
    where = "standard input" if place == "-" else place
    message = f"left out of {where}: {counted(count, 'blank line')}"
    Terminal().record(Event(name="cli.blank_lines", message=message, data={"count": count}))


def as_trained(prompt: str, checkpoint: Checkpoint) -> str:
    """The prompt with the line ends of the model's training text; a change is reported."""
    if "\r" not in prompt or checkpoint.newlines == "keep":
        return prompt
    ends = LineEnds()
    text = "".join(ends.unify([prompt]))
    count = ends.num_crlf + ends.num_cr
    message = f"read as LF, as in the training text: {counted(count, 'line end')} of the prompt (CRLF or lone CR)"
    Terminal().record(Event(name="cli.prompt_line_ends", message=message, data={"count": count}))
    return text


def warn_of_escapes(stops: Iterable[str]) -> None:
    """Warn about a stop text with a typed escape such as `\\n`: the shell does not turn it into a line end."""
    for stop in stops:
        for escape, meaning in ESCAPES.items():
            if escape in stop:
                letter = escape[1]
                message = f"--stop '{stop}' looks for two characters, a backslash and {letter}, and not for {meaning}:"
                message += f" for that write $'{escape}' in bash and zsh, \"`{letter}\" in PowerShell"
                data = {"stop": stop, "escape": escape}
                Terminal().record(Event(name="cli.stop_escape", message=message, data=data, level="warning"))


def typed(*words: str | Path) -> str:
    """A command line for this computer's shell: texts and paths with spaces or special characters are quoted.

    >>> print(typed("pellucid", "generate", Path("my runs/a"), "Who's there?"))
    pellucid generate 'my runs/a' 'Who'"'"'s there?'
    """
    safe = [f"./{word}" if isinstance(word, Path) and str(word).startswith("-") else str(word) for word in words]
    safe[0] = program() if safe[0] == "pellucid" else safe[0]
    return subprocess.list2cmdline(safe) if os.name == "nt" else shlex.join(safe)


def program() -> str:
    """How to call this program: by its name if the shell finds this program under it, else by its path.

    In a clone whose `.venv` is not activated, that is `.venv/bin/pellucid`.
    """
    called, found = Path(sys.argv[0]), shutil.which("pellucid")
    if called.stem != "pellucid" or not called.is_file() or (found and Path(found).resolve() == called.resolve()):
        return "pellucid"
    here = os.path.relpath(called)
    return str(called.resolve()) if here.startswith("..") else here


class Terminal:
    """A recorder that prints each event as one line on standard error, apart from the results.

    Of the ticks of bars it shows a download's alone, as a line now and then: that may take hours.
    """

    @cached_property
    def watch(self) -> Watch:
        """What draws a download."""
        return Watch(quiet=False, bar=Lines())

    def record(self, event: Event) -> None:
        if event.name == FETCHING:
            self.watch.record(event)
        elif not event.name.endswith(".progress"):  # a bar's ticks: `Watch` draws them
            say(say_event(event), err=True)


def tell_opening(run: object, *, quiet: bool = False) -> None:
    """Report that a model is being opened, because this takes seconds."""
    if not quiet:
        tell(f"· opening {run} …", err=True)


def open_reader(run: str, common: Common) -> LanguageModel:
    """Open a model that reads whole texts: torch reads them, so no compiled loops are made ready.

    What is missing for writing is not told.
    """
    from pellucid.engine.settings import EngineSettings

    return open_model(run, common, EngineSettings(kernels="off"), recorder=Without(Terminal(), NO_END))


def open_model(
    run: str, common: Common, engine: EngineSettings | None = None, *, recorder: Recorder | None = None
) -> LanguageModel:
    """Open the language model of a run, with the number of threads that was asked for."""
    from pellucid.api import load
    from pellucid.model.device import use_threads
    from pellucid.planning.machine import inspect_machine

    use_threads(common.threads, inspect_machine())
    return load(run, device=common.device, engine=engine, pattern=common.pattern, recorder=recorder or Terminal())
