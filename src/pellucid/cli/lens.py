"""`pellucid lens`: a page on this computer that shows every number between a text and its next token."""

from __future__ import annotations

import os
import sys
import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlencode

import click

from pellucid.cli.common import Common, Terminal, common_options, pattern_option, print_json, tell_opening
from pellucid.cli.language import asked_language, tell, words
from pellucid.cli.screen import is_terminal
from pellucid.errors import SettingsError

if TYPE_CHECKING:  # it loads torch, which help does without
    from pellucid.lens.page.program import Answerer

RUNS = Path("runs")


@click.command()
@click.argument("run", default="")
@click.option("--prompt", metavar="TEXT", help="the text to look into first [default: asked for in the page]")
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="on 127.0.0.1 [default: any free one]")
@click.option("--browser/--no-browser", default=True, help="open the page in the browser [default: where there is one]")
@pattern_option
@common_options
def command(common: Common, run: str, prompt: str | None, port: int, browser: bool) -> None:
    """Open RUN in the lens: a run, a checkpoint, a Hugging Face directory or a .gguf file.

    Without RUN the page lists what lies in runs/; where nothing does, a terminal is asked whether quickstart's model may
    be trained first. The page talks to this computer alone, and only with the secret in
    its address. Ctrl-C ends it.
    """
    from pellucid.lens.page.program import find_program
    from pellucid.store.open import check_there

    if run:
        check_there(run)  # a model that is missing is told before a page that is missing
    program = find_program()
    run = run or offer_quickstart(common, prompt)
    tell_opening(run or RUNS, quiet=common.as_json)
    from pellucid.lens.page.server import open_door, serve  # these load torch, which takes a moment
    from pellucid.model.device import use_threads
    from pellucid.planning.machine import inspect_machine

    use_threads(common.threads, inspect_machine())
    answerer = open_answerer(run, prompt, common)
    door, language = open_door(port), asked_language()
    url = door.url + (f"#{urlencode({'language': language})}" if language else "")

    def announce() -> None:
        if common.as_json:
            print_json({"url": url, "port": door.port})
        else:
            tell(f"the lens is open at {url}\n(Ctrl-C ends it)")
        sys.stdout.flush()
        if browser and has_display(os.environ):
            webbrowser.open(url)

    try:
        serve(answerer, door, page=program, opened=announce)
    except KeyboardInterrupt:
        tell("the lens is closed.", err=True)
        sys.stdout.flush()
        os._exit(0)  # a question may still be at work; torch's threads abort when Python ends under them


def offer_quickstart(common: Common, prompt: str | None) -> str:
    """Train quickstart's model if runs/ is empty and a person agrees; return the run to open, empty for the list."""
    from pellucid.cli.quickstart import command as quickstart
    from pellucid.store.run import is_run

    lies_there = RUNS.is_dir() and any(is_run(path) for path in RUNS.iterdir())
    if lies_there or prompt is not None or common.as_json or not (sys.stdin.isatty() and is_terminal()):
        return ""
    question = words("Nothing lies in runs/ yet. Train quickstart's small model now (some minutes)?")
    if not click.confirm(question, default=True):
        return ""
    flags = ["--device", common.device, *(["--threads", str(common.threads)] if common.threads else [])]
    code = quickstart.main(flags, prog_name="pellucid quickstart", standalone_mode=False)
    if code:  # a signal stopped it
        raise click.exceptions.Exit(code)
    return "runs/quickstart"


def open_answerer(run: str, prompt: str | None, common: Common) -> Answerer:
    """The lens on the model, or the list of runs when no model is named."""
    from pellucid.lens.dispatch import open_lens
    from pellucid.lens.page.lobby import Lobby
    from pellucid.model.device import choose_device

    chosen = choose_device(common.device)
    if run:
        return open_lens(run, text=prompt, device=chosen, pattern=common.pattern, recorder=Terminal())
    if prompt is not None:
        raise SettingsError(
            "a prompt needs a model", found="--prompt without RUN", hint="pellucid lens RUN --prompt TEXT"
        )
    return Lobby(RUNS, lambda path: open_lens(path, device=chosen, recorder=Terminal()))


def has_display(environment: os._Environ[str] | dict[str, str]) -> bool:
    """Whether this computer can show a browser: always on Windows and macOS, elsewhere when a display is named.

    >>> has_display({"WAYLAND_DISPLAY": "wayland-0"})
    True
    """
    return sys.platform in ("win32", "darwin") or any(environment.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))
