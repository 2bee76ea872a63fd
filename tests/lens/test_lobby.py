"""The lobby: what it lists, what it opens, and what it refuses while nothing is open."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from pellucid.errors import RequestError
from pellucid.lens.answer import Answer
from pellucid.lens.page.lobby import Lobby
from pellucid.model.build import build
from pellucid.planning.config import ModelConfig
from pellucid.planning.params import count_parameters
from pellucid.store.run import Run
from pellucid.tokens.train import train_bpe

CONFIG = ModelConfig(
    vocab_size=258, context_length=8, n_layers=1, n_heads=2, n_kv_heads=1, head_dim=4, d_model=8, d_ff=16
)


class Named:
    """Stands for a dispatch: says which run it is of."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def answer(self, method: str, params: dict[str, Any]) -> Answer:
        return Answer({"model": {"name": self.path.name}, "method": method})


@pytest.fixture
def lobby(tmp_path: Path) -> Lobby:
    """Two runs that can be opened, one that has saved nothing yet, and a folder that is no run."""
    weights = {name: parameter.detach() for name, parameter in build(CONFIG, seed=1).named_parameters()}
    for age, name in enumerate(("newer", "older")):
        run = Run.create(tmp_path / "runs" / name, {})
        for step in (5, 10):
            run.save(step, config=CONFIG, weights=weights, tokenizer=train_bpe(["a"], 258, specials="none"), info={})
        os.utime(run.path, (1_000_000 - age, 1_000_000 - age))
    Run.create(tmp_path / "runs" / "begun", {})
    (tmp_path / "runs" / "notes").mkdir()
    return Lobby(tmp_path / "runs", Named)


def test_runs_with_something_to_open_are_listed_newest_first(lobby: Lobby) -> None:
    runs = lobby.answer("about", {}).value["runs"]
    assert [one["name"] for one in runs] == ["newer", "older"]
    assert runs[0]["step"] == 10 and runs[0]["parameters"] == count_parameters(CONFIG).total
    assert runs[0]["context_length"] == 8 and runs[0]["tokenizer"] == "bpe"


def test_a_listed_run_is_opened_and_then_asked(lobby: Lobby) -> None:
    [_, older] = lobby.runs()
    opened = lobby.answer("open", {"path": older["path"]}).value
    assert opened["model"] == {"name": "older"} and [one["name"] for one in opened["runs"]] == ["newer", "older"]
    assert lobby.answer("record", {}).value["method"] == "record"


@pytest.mark.parametrize("path", ["/etc", "notes", None, "../runs/newer"])
def test_the_page_does_not_roam_the_disk(lobby: Lobby, path: str | None) -> None:
    with pytest.raises(RequestError, match="not in the list"):
        lobby.answer("open", {"path": path})


def test_questions_wait_for_a_model(lobby: Lobby) -> None:
    assert lobby.answer("about", {}).value["model"] is None
    with pytest.raises(RequestError, match="no model is open"):
        lobby.answer("record", {"at": {}})


def test_a_folder_that_is_not_there_lists_nothing_and_says_how_to_train(tmp_path: Path) -> None:
    value = Lobby(tmp_path / "none", Named).answer("about", {}).value
    assert value["runs"] == [] and value["train"] == "pellucid quickstart"
