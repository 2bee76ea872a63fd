"""Safe output: no control characters on a terminal, exact UTF-8 in every pipe.

A terminal obeys control characters, and the text of a model, a file name or a row of data may contain them. So all text
for a terminal passes `harmless`. Other output is exact, and UTF-8 whatever the system's code page is. Rich draws only
through `open_console` and `cell`, which read no markup: `x[red]y.txt` is the name of a file.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
from typing import TYPE_CHECKING, Any, TextIO

import click

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

REPLACEMENT = "\ufffd"


# Control characters but tab and line feed, what turns the direction of the text around it, half characters. Nothing
# else: no other invisible character (joiners, variation selectors, marks of direction, tags) can do more than show.
HARMFUL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def harmless(text: str) -> str:
    r"""Text as a terminal may have it: a character that it would obey becomes U+FFFD, all others stay.

    A carriage return before a line feed is part of the line's end and is left out.

    >>> harmless("\u3000你好 👨\u200d👩\r\n"), harmless("one\rtwo \x1b[2J")
    ('\u3000你好 👨\u200d👩\n', 'one�two �[2J')
    """
    return HARMFUL.sub(REPLACEMENT, text.replace("\r\n", "\n"))


def quote(text: str) -> str:
    """Text between quotation marks, with visible spaces and line ends."""
    return json.dumps(text, ensure_ascii=False)


class Flow:
    """`harmless` for a text that arrives in pieces: a carriage return waits until it is known what follows it."""

    def __init__(self) -> None:
        self.held = ""

    def push(self, text: str) -> str:
        """Add text; return the part that may be shown now."""
        text = self.held + text
        self.held = "\r" if text.endswith("\r") else ""
        return harmless(text[: len(text) - len(self.held)])

    def finish(self) -> str:
        """End the text; return the part that was held back."""
        held, self.held = self.held, ""
        return harmless(held)


def say(text: str = "", *, err: bool = False, nl: bool = True) -> None:
    """Print text from any source: made harmless on a terminal, exact elsewhere."""
    shown = (sys.stderr if err else sys.stdout).isatty()
    click.echo(harmless(text) if shown else text, err=err, nl=nl)


def cell(text: str) -> Text:
    """Text for rich without markup and without control characters."""
    from rich.text import Text

    return Text(harmless(text))


def open_console(*, stderr: bool = False, **options: Any) -> Console:
    """A rich console that interprets no markup and no emoji names, and leaves a closed pipe to `app.lose_output`."""
    from rich.console import Console

    class PlainConsole(Console):
        def on_broken_pipe(self) -> None:
            raise  # rich calls this where it caught the error, and would end the program with a code of its own

    return PlainConsole(stderr=stderr, markup=False, emoji=False, highlight=False, **options)


def is_terminal() -> bool:
    """Whether standard error is a terminal (else: plain lines, no redrawing)."""
    return sys.stderr.isatty()


def open_streams() -> None:
    """Set pipes and files to UTF-8 with plain line feeds; a character that cannot be encoded is escaped, no error."""
    for name in ("stdin", "stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # closed by whoever started this: then it is empty
            mode = "r" if name == "stdin" else "w"
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115  # open to the end
        elif name != "stdin" and hasattr(stream, "reconfigure"):
            plain = {} if stream.isatty() else {"encoding": "utf-8", "newline": "\n"}
            stream.reconfigure(errors="backslashreplace", **plain)


def find_broken_stream() -> TextIO | None:
    """Find the stream (standard output or standard error) that can no longer be written."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            return stream
    return None


def abandon(stream: TextIO) -> None:
    """Discard the buffer of a broken stream, because Python would try to write it again at exit."""
    with contextlib.suppress(OSError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)
