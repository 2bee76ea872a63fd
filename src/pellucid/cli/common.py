"""What the verbs share: the common flags, printing for people or machines, and listening to events."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from pellucid.events import Event


@dataclass(frozen=True, kw_only=True)
class Common:
    """The flags that every verb takes."""

    device: str
    threads: int | None
    seed: int | None
    as_json: bool


def common_options(function: Callable) -> Callable:
    """Add --device --threads --seed --json; the function receives them as `common: Common`."""

    @click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1 or mps")
    @click.option("--threads", type=click.IntRange(min=1), help="CPU threads (default: the cores this process may use)")
    @click.option(
        "--seed",
        type=click.IntRange(min=0),
        help="the number all randomness is drawn from (drawn and printed when unset)",
    )
    @click.option("--json", "as_json", is_flag=True, help="print JSON for machines")
    def wrapped(device: str, threads: int | None, seed: int | None, as_json: bool, **options: Any) -> Any:
        return function(common=Common(device=device, threads=threads, seed=seed, as_json=as_json), **options)

    wrapped.__name__, wrapped.__doc__ = function.__name__, function.__doc__
    wrapped.__click_params__ = wrapped.__click_params__ + getattr(function, "__click_params__", [])  # type: ignore[attr-defined]
    return wrapped


set_option = click.option(
    "--set",
    "assignments",
    multiple=True,
    metavar="NAME=VALUE",
    help="any other setting, for example --set optimizer.rate=0.01",
)


def print_json(value: Any) -> None:
    """One JSON document on standard output, readable in any language."""
    click.echo(json.dumps(value, ensure_ascii=False, indent=2))


def typed(*words: str | Path) -> str:
    """A command as it is to be typed into a shell: texts and paths with spaces or signs are quoted.

    >>> print(typed("pellucid", "generate", Path("my runs/a"), "Who's there?"))
    pellucid generate 'my runs/a' 'Who'"'"'s there?'
    """
    safe = [f"./{word}" if isinstance(word, Path) and str(word).startswith("-") else str(word) for word in words]
    return subprocess.list2cmdline(safe) if os.name == "nt" else shlex.join(safe)


class Terminal:
    """Listens to events and prints each as one line on standard error, out of the way of results."""

    def record(self, event: Event) -> None:
        mark = "!" if event.level == "warning" else "·"
        click.echo(f"{mark} {event.message}", err=True)


def is_terminal() -> bool:
    """Whether a person watches (else: plain lines, no redrawing)."""
    return sys.stderr.isatty()
