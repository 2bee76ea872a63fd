"""What was written by the program before its rooms were rebuilt still opens, generates and goes on: to the bit, on the
processor that made it, and else as near as another processor's sums come."""

from __future__ import annotations

import importlib.util
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import pellucid
from pellucid.lens.trace import load_trace
from pellucid.settings import load_toml, resolve
from pellucid.store.run import Run
from pellucid.training.recipes.pretrain import pretrain
from pellucid.training.settings import TrainSettings

FOLDER = Path(__file__).parent
EXPECTED = json.loads((FOLDER / "expected.json").read_text(encoding="utf-8"))
TEXTS = {"stream": "stream.txt", "documents": "documents.jsonl"}


@pytest.fixture(scope="module")
def make() -> Any:
    """The script that made them."""
    spec = importlib.util.spec_from_file_location("golden_make", FOLDER / "make.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(params=TEXTS)
def old(request, tmp_path: Path, monkeypatch) -> Iterator[tuple[str, Path]]:
    """A copy of a run, and its name."""
    before = torch.get_num_threads()
    shutil.copytree(FOLDER / request.param, tmp_path / request.param)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    yield request.param, tmp_path / request.param
    torch.set_num_threads(before)
    torch.use_deterministic_algorithms(False)


def test_an_old_run_opens_and_generates(old) -> None:
    name, path = old
    expected = EXPECTED[name]
    said = pellucid.load(path).complete(expected["prompt"], temperature=0, max_new_tokens=12)
    assert (list(said.ids), said.text) == (expected["ids"], expected["text"])


def test_an_old_run_goes_on_to_the_bit(old, make) -> None:
    name, path = old
    expected, run = EXPECTED[name], Run.open(path)
    assert run.latest().step == expected["cut_at"]
    finished = pretrain(make.task_of(name, FOLDER / TEXTS[name], path))
    assert finished.step == 10
    losses = [row["loss"] for row in run.read_metrics() if row["kind"] == "train"]
    digest, weights = make.weights_of(run)
    state = json.loads((finished.checkpoint / "training" / "state.json").read_text())
    if state["fingerprint"] == expected["fingerprint"]:
        assert losses == expected["losses"] and digest == expected["weights_sha256"]
    assert np.allclose(losses, expected["losses"], rtol=1e-4)
    assert weights.keys() == expected["weights"].keys()
    for tensor, (mean, size) in weights.items():
        assert np.allclose((mean, size), expected["weights"][tensor], rtol=1e-3, atol=1e-4), tensor


def test_an_old_trace_holds_what_a_new_one_does(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    old = load_trace(FOLDER / "look.plens")
    lm = pellucid.load(FOLDER / "stream")
    new = pellucid.trace(lm, EXPECTED["stream"]["prompt"])
    assert old.ids == new.ids == tuple(lm.tokenizer.encode_prompt(EXPECTED["stream"]["prompt"]))
    assert old.arrays.keys() == new.arrays.keys()
    for name, array in old.arrays.items():
        assert np.allclose(array, new.arrays[name], rtol=1e-4, atol=1e-5), name


def test_an_old_recipe_means_the_same(make) -> None:
    task = make.task_of("stream", FOLDER / "stream.txt", Path("nowhere"))
    assert resolve(TrainSettings, load_toml(FOLDER / "recipe.toml")).settings == task.resolved.settings
