"""Progress display: a run's settings and plan, a progress bar for its steps, and any other work that takes long.

`Watch` is a Recorder: it knows events by name and nothing else of the code that sends them. When the output is not a
terminal, there is no bar, only a line now and then.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeVar

from pellucid.cli.language import aside, say_event, words
from pellucid.cli.screen import harmless, is_terminal, open_console, say
from pellucid.cli.tables import Side, plain_lines
from pellucid.events import Event
from pellucid.settings import DEFAULT, Resolved

T = TypeVar("T")
FIRST_SECONDS = 2.0  # without a bar, shorter work is not reported
PLAIN_SECONDS = 5.0  # between lines after that
FETCHING = "store.fetching.progress"


def watch_items(
    items: Iterable[T], total: int, label: str, *, size: Callable[[T], int] = lambda item: 1
) -> Iterator[T]:
    """Pass items on and show how many of `total` are done; `size` says how much an item counts."""
    bar, done, started = (Bar() if is_terminal() else Lines()), 0, time.monotonic()
    try:
        for item in items:
            yield item
            done += size(item)
            bar.count(label, done, total, (time.monotonic() - started) / max(done, 1) * (total - done))
    finally:
        bar.close()


def waiting(message: str, *, quiet: bool) -> AbstractContextManager[Any]:
    """Print on standard error what the program is waiting for, when the duration is unknown."""
    if quiet:
        return nullcontext()
    if not is_terminal():
        say(f"· {words(message, err=True)}", err=True)
        return nullcontext()
    return open_console(stderr=True).status(words(message, err=True))


class Watch:
    """Prints a run's events on standard error; `quiet` keeps only warnings, `why` gives each figure of the plan its reason."""

    def __init__(self, *, quiet: bool, why: bool = False, bar: NoBar | None = None) -> None:
        self.why = why
        self.quiet, self.bar = quiet, bar or (NoBar() if quiet else (Bar() if is_terminal() else Lines()))
        self.views: dict[str, Callable[[Mapping[str, Any]], None]] = {
            "training.progress": self.bar.step,
            "data.progress": self._characters,
            "engine.progress": self._count,
            "lens.progress": self._count,
            "quickstart.progress": self._count,
            FETCHING: self._count,
            "store.progress": self._count,
            "tokens.progress": self._count,
            "training.plan": self._plan,
        }
        self.began: dict[str, tuple[float, int]] = {}  # label -> when it was first heard of, and how much was done then

    def __enter__(self) -> Watch:
        return self

    def __exit__(self, *exception: object) -> None:
        self.bar.close()

    def record(self, event: Event) -> None:
        if event.name in self.views:
            self.views[event.name](event.data)
        elif not self.quiet or event.level == "warning":
            self.say(say_event(event))

    def say(self, text: str) -> None:
        """Print one line, above the bar."""
        self.bar.say(text)

    def settings(self, resolved: Resolved) -> None:
        """Print the settings that are not defaults, each with its source; the defaults are in run.json."""
        if self.quiet:
            return
        chosen = [(key, value, source) for key, value, source in resolved.rows() if source != DEFAULT]
        defaults = sum(source == DEFAULT for _, _, source in resolved.rows())
        for key, value, source in chosen:
            self.say(f"· {key} = {value} {aside(words(source, err=True), err=True)}")
        rest = f"{defaults} other settings at their defaults (all of them, with sources, in run.json)"
        self.say(f"· {words(rest, err=True)}")

    def _plan(self, plan: Mapping[str, Any]) -> None:
        if self.quiet:
            return
        rows = [[words(cell, err=True) for cell in row] for row in plan["table" if self.why else "summary"]]
        columns: dict[str, Side] = {" " * place: "left" for place in range(len(rows[0]))}  # without headings
        for line in list(plain_lines(columns, rows))[1:]:
            self.say(f"  {line}")
        if not self.why:
            self.say("  " + words("(each figure with its reason: --why, or run.json)", err=True))

    def _characters(self, data: Mapping[str, Any]) -> None:
        self._count({"label": "tokens", "done": data["characters_done"], "total": data["characters_total"], **data})

    def _count(self, data: Mapping[str, Any]) -> None:
        label, done, total = data["label"], data["done"], data["total"]
        now = time.monotonic()
        began, done_then = self.began.setdefault(label, (now, done))
        seconds_left = (now - began) / (done - done_then) * (total - done) if done > done_then else None
        self.bar.count(label, done, total, seconds_left)


class NoBar:
    """Shows no progress."""

    def step(self, data: Mapping[str, Any]) -> None:
        pass

    def count(self, label: str, done: int, total: int, seconds_left: float | None) -> None:
        pass

    def say(self, text: str) -> None:
        say(text, err=True)

    def close(self) -> None:
        pass


class Lines(NoBar):
    """Shows progress as a plain line every few seconds."""

    def __init__(self) -> None:
        self.next_line = time.monotonic() + FIRST_SECONDS

    def step(self, data: Mapping[str, Any]) -> None:
        last = data["step"] == data["steps"]
        if last or time.monotonic() >= self.next_line:
            self.next_line = time.monotonic() + PLAIN_SECONDS
            self.say(words(f"step {data['step']}/{data['steps']}", err=True) + f"  {describe(data)}")

    def count(self, label: str, done: int, total: int, seconds_left: float | None) -> None:
        if time.monotonic() >= self.next_line:
            self.next_line = time.monotonic() + PLAIN_SECONDS
            self.say(words(f"{words(label, err=True)}: {progress(done, total, seconds_left)}", err=True))


class Bar(NoBar):
    """Shows progress as one redrawn bar."""

    def __init__(self) -> None:
        from rich.progress import BarColumn, Progress, TextColumn

        self.console = open_console(stderr=True)
        self.progress = Progress(
            TextColumn("{task.description}", markup=False),  # it may name a file: `x[red]y.txt`
            BarColumn(bar_width=24),
            TextColumn("{task.fields[text]}", markup=False),
            console=self.console,
            transient=True,
        )
        self.tasks: dict[str, Any] = {}

    def step(self, data: Mapping[str, Any]) -> None:
        self._show("training", data["step"], data["steps"], f"{data['step']}/{data['steps']}  {describe(data)}")

    def count(self, label: str, done: int, total: int, seconds_left: float | None) -> None:
        self._show(label, done, total, progress(done, total, seconds_left))

    def _show(self, name: str, done: int, total: int, text: str) -> None:
        if name not in self.tasks:
            self.progress.start()
            self.tasks[name] = self.progress.add_task(words(name, err=True), total=total, text=text)
        going = done < total or name == "training"  # a finished bar gives its line to the next one
        self.progress.update(self.tasks[name], completed=done, total=total, text=text, visible=going)

    def say(self, text: str) -> None:
        self.console.print(harmless(text), soft_wrap=True)

    def close(self) -> None:
        self.progress.stop()


def describe(data: Mapping[str, Any]) -> str:
    """Loss, speed, time left and memory of a run, in one line.

    >>> describe({"loss": 2.5, "tokens_per_second": 41234.5, "eta_seconds": 75.2, "memory_bytes": 812e6})
    'loss 2.5000 · 41,234 tokens/s · 1:15 left · the program has 812 MB'
    """
    rate, memory = int(data["tokens_per_second"]), data["memory_bytes"] / 1e6
    loss, pace = words(f"loss {data['loss']:.4f}", err=True), words(f"{rate:,} tokens/s", err=True)
    held = words(f"the program has {memory:,.0f} MB", err=True)
    return f"{loss} · {pace} · {left(data['eta_seconds'])} · {held}"


def left(seconds: float) -> str:
    """The remaining time, formatted.

    >>> left(75.2), left(7384)
    ('1:15 left', '2:03:04 left')
    """
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    clock = f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
    return words(f"{clock} left", err=True)


def progress(done: int, total: int, seconds_left: float | None) -> str:
    """The share of the work that is done (at most 100 %), and the remaining time once it is known.

    >>> progress(1, 3, 75.2), progress(7, 3, None)
    ('33%  1:15 left', '100%')
    """
    share = f"{min(done, total) / max(total, 1):.0%}"
    return share if seconds_left is None else f"{share}  {left(seconds_left)}"
