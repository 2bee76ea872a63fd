"""The lobby: a list of runs to choose from, before the lens opens one of them.

    about {}        -> the lens's own answer (or one without a model) with "runs": what can be opened
    open  {path}    -> opens one of those; every other question then goes to its lens

Only a listed run can be opened: the page cannot open other paths on the disk.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from threading import Lock
from typing import Any

from pellucid import __version__
from pellucid.errors import PellucidError, RequestError
from pellucid.lens.answer import Answer
from pellucid.lens.fields import check_values
from pellucid.lens.page.program import Answerer
from pellucid.planning.params import count_parameters
from pellucid.store.checkpoint import load_checkpoint
from pellucid.store.run import Run, is_run

LANGUAGES = ["en", "zh"]
TRAIN = "pellucid quickstart"


class Lobby:
    """Lists the runs under `folder`, newest first, and opens the one that is chosen."""

    def __init__(self, folder: Path, open_lens: Callable[[Path], Answerer]) -> None:
        self.folder, self.open_lens = folder, open_lens
        self.dispatch: Answerer | None = None
        self._lock = Lock()

    def answer(self, method: str, params: dict[str, Any]) -> Answer:
        """Answer a question, here or by the open lens. Raises RequestError while no model is open."""
        check_values(params)
        if method == "open":
            return self.open(params.get("path"))
        if method == "about":
            return self.about()
        if self.dispatch is None:
            raise RequestError("no model is open", found=method[:80], hint="choose one of the runs")
        return self.dispatch.answer(method, params)

    def about(self) -> Answer:
        """The lens's own `about`, and the runs that can be opened."""
        nothing = {"model": None, "checkpoints": [], "languages": LANGUAGES, "version": __version__}
        value = self.dispatch.answer("about", {}).value if self.dispatch else nothing
        return Answer({**value, "runs": self.runs(), "folder": str(self.folder.resolve()), "train": TRAIN})

    def runs(self) -> list[dict[str, Any]]:
        """The runs that can be opened, the one that was changed last first."""
        found = [path for path in self.folder.glob("*") if is_run(path)] if self.folder.is_dir() else []
        told = [describe_run(path) for path in sorted(found, key=lambda path: path.stat().st_mtime, reverse=True)]
        return [one for one in told if one is not None]

    def open(self, path: Any) -> Answer:
        """Open a listed run. Raises RequestError for another path, and what loading it raises."""
        if path not in [one["path"] for one in self.runs()]:
            raise RequestError(
                "this run is not in the list",
                found=str(path)[:200],
                where=str(self.folder),
                hint="`about` lists the runs",
            )
        with self._lock:
            self.dispatch = self.open_lens(Path(path))
        return self.about()


def describe_run(path: Path) -> dict[str, Any] | None:
    """One run for the list: step and size of the checkpoint that would open. None when no checkpoint can be read."""
    try:
        saved = Run.open(path).meant()
        checkpoint = load_checkpoint(saved.directory) if saved else None
    except PellucidError:  # a run that is being written, or damaged: opening it by name says what is wrong
        return None
    if saved is None or checkpoint is None:
        return None
    return {
        "path": str(path),
        "name": path.name,
        "step": saved.step,
        "parameters": count_parameters(checkpoint.config).total,
        "tokenizer": checkpoint.tokenizer.kind if checkpoint.tokenizer else None,
        "context_length": checkpoint.config.context_length,
    }
