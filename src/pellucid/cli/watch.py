"""Watching a run: its settings and plan as tables, its steps as one progress bar, everything else as lines.

It is a Recorder: it knows events by name and nothing else of the rooms that send them. When the output is not a
terminal there is no bar, only a line now and then.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from pellucid.cli.common import is_terminal
from pellucid.cli.screen import harmless, open_console, say
from pellucid.events import Event
from pellucid.settings import DEFAULT, Resolved

PLAIN_SECONDS = 5.0  # between lines when no bar is drawn


class Watch:
    """Prints a run's events on standard error; `quiet` keeps only warnings, `why` gives each figure of the plan its reason."""

    def __init__(self, *, quiet: bool, why: bool = False) -> None:
        self.why = why
        self.quiet, self.bar = quiet, NoBar() if quiet else (Bar() if is_terminal() else Lines())
        self.views: dict[str, Callable[[Mapping[str, Any]], None]] = {
            "training.progress": self.bar.step,
            "data.progress": self.bar.prepare,
            "training.plan": self._plan,
        }

    def __enter__(self) -> Watch:
        return self

    def __exit__(self, *exception: object) -> None:
        self.bar.close()

    def record(self, event: Event) -> None:
        if event.name in self.views:
            self.views[event.name](event.data)
        elif not self.quiet or event.level == "warning":
            mark = "!" if event.level == "warning" else "·"
            self.say(f"{mark} {event.message}")

    def say(self, text: str) -> None:
        """One line, above the bar."""
        self.bar.say(text)

    def settings(self, resolved: Resolved) -> None:
        """The settings that somebody chose, with who chose them; the defaults are in run.json."""
        if self.quiet:
            return
        chosen = [(key, value, source) for key, value, source in resolved.rows() if source != DEFAULT]
        defaults = sum(source == DEFAULT for _, _, source in resolved.rows())
        for key, value, source in chosen:
            self.say(f"· {key} = {value}  ({source})")
        self.say(f"· {defaults} other settings at their defaults (all of them, with sources, in run.json)")

    def _plan(self, plan: Mapping[str, Any]) -> None:
        if self.quiet:
            return
        rows = plan["table" if self.why else "summary"]
        name_width = max(len(name) for name, *_ in rows)
        value_width = max(len(value) for _, value, *_ in rows) if self.why else 0
        for name, value, *reason in rows:
            self.say(f"  {name:<{name_width}}  {value:<{value_width}}  {''.join(reason)}".rstrip())
        if not self.why:
            self.say("  (each figure with its reason: --why, or run.json)")


class NoBar:
    """Shows no progress."""

    def step(self, data: Mapping[str, Any]) -> None:
        pass

    def prepare(self, data: Mapping[str, Any]) -> None:
        pass

    def say(self, text: str) -> None:
        say(text, err=True)

    def close(self) -> None:
        pass


class Lines(NoBar):
    """Shows progress as a plain line every few seconds."""

    def __init__(self) -> None:
        self.next_line = time.monotonic() + PLAIN_SECONDS

    def step(self, data: Mapping[str, Any]) -> None:
        last = data["step"] == data["steps"]
        if last or time.monotonic() >= self.next_line:
            self.next_line = time.monotonic() + PLAIN_SECONDS
            self.say(f"step {data['step']}/{data['steps']}  {describe(data)}")

    def prepare(self, data: Mapping[str, Any]) -> None:
        if time.monotonic() >= self.next_line:
            self.next_line = time.monotonic() + PLAIN_SECONDS
            self.say(f"tokens: {data['characters_done'] / data['characters_total']:.0%}")


class Bar(NoBar):
    """Shows progress as one redrawn bar."""

    def __init__(self) -> None:
        from rich.progress import BarColumn, Progress, TextColumn

        self.console = open_console(stderr=True)
        self.progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            TextColumn("{task.completed}/{task.total}  {task.fields[text]}", markup=False),
            console=self.console,
            transient=True,
        )
        self.tasks: dict[str, Any] = {}

    def step(self, data: Mapping[str, Any]) -> None:
        self._show("training", data["step"], data["steps"], describe(data))

    def prepare(self, data: Mapping[str, Any]) -> None:
        self._show("tokens", data["characters_done"], data["characters_total"], "characters")

    def _show(self, name: str, done: int, total: int, text: str) -> None:
        if name not in self.tasks:
            self.progress.start()
            self.tasks[name] = self.progress.add_task(name, total=total, text=text)
        self.progress.update(self.tasks[name], completed=done, total=total, text=text)

    def say(self, text: str) -> None:
        self.console.print(harmless(text), soft_wrap=True)

    def close(self) -> None:
        self.progress.stop()


def describe(data: Mapping[str, Any]) -> str:
    """Loss, speed, time left and memory of a run, in one line.

    >>> describe({"loss": 2.5, "tokens_per_second": 41234.5, "eta_seconds": 75.2, "memory_bytes": 812e6})
    'loss 2.5000 · 41,234 tokens/s · 1:15 left · 812 MB'
    """
    minutes, seconds = divmod(int(data["eta_seconds"]), 60)
    rate, memory = int(data["tokens_per_second"]), data["memory_bytes"] / 1e6
    return f"loss {data['loss']:.4f} · {rate:,} tokens/s · {minutes}:{seconds:02d} left · {memory:,.0f} MB"
