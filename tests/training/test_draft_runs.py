"""Whole runs of a draft: it learns from a finished run's own tokens, goes on to the bit, refuses, and changes no text."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import pellucid
from pellucid.errors import InputError, ResumeError, SettingsError
from pellucid.evaluate.objective import objective_of
from pellucid.events import MemoryRecorder
from pellucid.settings import Layer, Resolved, resolve
from pellucid.store.checkpoint import load_checkpoint
from pellucid.store.metrics import evaluations
from pellucid.store.run import Run
from pellucid.training.metrics import without_wall_clock
from pellucid.training.recipes.pretrain import Pretraining, pretrain
from pellucid.training.settings import TrainSettings
from pellucid.training.teacher import how_it_was_read

pytestmark = pytest.mark.usefixtures("quick")
Make = Callable[..., Pretraining]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("drafts")


@pytest.fixture(scope="module")
def learned(folder: Path, prose, task, make_quick) -> Path:
    """A finished run on a text of documents."""
    text = folder / "texts"
    text.mkdir()
    for number in range(12):
        (text / f"{number}.txt").write_text(prose(60, seed=number), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        make_quick(patch)
        pretrain(task(text, folder / "run", steps=40, data={"rows": "documents"}, evaluation={"every_steps": 40}))
    return folder / "run"


def make_draft(
    learned: Path, out: Path, text: Path | None = None, start_from: Path | None = None, **said: Any
) -> Pretraining:
    """The task of a draft with few steps; what is said is said as on the command line."""
    usual = {
        "threads": 1,
        "device": "cpu",
        "steps": 6,
        "batch": {"rows": 4, "micro_rows": 2},
        "evaluation": {"every_steps": 3},
    }
    resolved: Resolved[TrainSettings] = resolve(
        TrainSettings, how_it_was_read(learned), Layer("test", {**usual, **said})
    )
    return Pretraining(text=text, out=out, resolved=resolved, draft_of=learned, start_from=start_from)


@pytest.fixture(scope="module")
def draft(learned: Path, folder: Path, make_quick) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        make_quick(patch)
        pretrain(make_draft(learned, folder / "draft"))
    return folder / "draft"


def test_a_draft_is_small_and_says_whose_it_is(learned: Path, draft: Path) -> None:
    small, large = (load_checkpoint(Run.open(path).latest().directory) for path in (draft, learned))
    assert (small.config.n_layers, small.config.n_heads, small.config.d_model) == (2, 2, 16), "one group of two heads"
    assert small.config.context_length == large.config.context_length
    assert small.tokenizer.sha256 == large.tokenizer.sha256
    told = small.info["draft_of"]
    assert told["step"] == 40 and told["weights_sha256"] == large.info["files"]["model.safetensors"]
    assert small.info["lineage"] == [], "no weight comes from there"
    assert Run.open(draft).part("settings")["data.rows"] == "documents", "as its model's text was read"


def test_it_reads_the_tokens_of_its_model(learned: Path, draft: Path) -> None:
    assert not (draft / "data").exists()
    assert Run.open(draft).part("data") == Run.open(learned).part("data")


def test_it_comes_nearer_to_its_model(draft: Path) -> None:
    first, last = evaluations(Run.open(draft).read_metrics())
    assert first["objective"] == "distilled" and first["loss"] > last["loss"]
    assert 0 < first["agreement"] < last["agreement"] < 1 and "perplexity" not in last


def test_afterwards_it_is_a_model_of_the_next_token(draft: Path) -> None:
    checkpoint = load_checkpoint(Run.open(draft).latest().directory)
    assert objective_of(checkpoint, checkpoint.tokenizer).name == "causal"
    assert pellucid.load(draft).score("the cat sat")


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_text_is_equal_with_and_without(learned: Path, draft: Path, temperature: float) -> None:
    lm, guesser = pellucid.load(learned), pellucid.load(draft)
    asked = {"temperature": temperature, "seed": 3, "max_new_tokens": 12}
    plain, ahead = lm.complete("the", **asked), lm.complete("the", draft=guesser, **asked)
    assert (ahead.ids, ahead.logprobs) == (plain.ids, plain.logprobs)


def test_a_draft_that_stopped_goes_on_to_the_same_bits(learned: Path, draft: Path, tmp_path: Path) -> None:
    shutil.copytree(draft, tmp_path / "again")
    run = Run.open(tmp_path / "again")
    run.use(run.checkpoints()[0])
    shutil.rmtree(run.checkpoints()[-1].directory)
    assert pretrain(make_draft(learned, tmp_path / "again")).step == 6
    weights, wanted = (load_checkpoint(Run.open(path).latest().directory).weights for path in (run.path, draft))
    assert all(torch.equal(weights[name], wanted[name]) for name in wanted)
    again, once = (list(map(without_wall_clock, Run.open(path).read_metrics())) for path in (run.path, draft))
    assert again == once


def test_going_on_needs_the_same_model(learned: Path, draft: Path, tmp_path: Path) -> None:
    shutil.copytree(draft, tmp_path / "draft")
    run = Run.open(tmp_path / "draft")
    run.update_identity({**run.identity, "draft_of": {**run.part("draft_of"), "step": 20}})
    with pytest.raises(ResumeError, match="not the one it began with") as caught:
        pretrain(make_draft(learned, tmp_path / "draft"))
    assert caught.value.found == "that of step 20 then, of step 40 now"


def test_sizes_can_be_set(learned: Path, tmp_path: Path) -> None:
    recorder = MemoryRecorder()
    asked = {"n_layers": 2, "d_ff": 40, "context_length": 8}
    pretrain(make_draft(learned, tmp_path / "draft", steps=1, model=asked), recorder=recorder)
    config = load_checkpoint(Run.open(tmp_path / "draft").latest().directory).config
    assert (config.n_layers, config.d_ff, config.context_length, config.d_model) == (2, 40, 8, 16)
    [plan] = [event for event in recorder.events if event.name == "training.plan"]
    assert not {"n_layers", "d_ff"} & {reason["field"] for reason in plan.data["reasons"]}


def test_tokens_that_are_gone_are_made_from_a_text(learned: Path, folder: Path, tmp_path: Path) -> None:
    shutil.copytree(learned, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "data")
    with pytest.raises(InputError, match="not at hand") as caught:
        pretrain(make_draft(tmp_path / "run", tmp_path / "draft"))
    assert caught.value.hint == f"give a text: pellucid train TEXT --draft-of {tmp_path / 'run'} --out …"
    assert not (tmp_path / "draft").exists(), "nothing is left behind"
    pretrain(make_draft(tmp_path / "run", tmp_path / "draft", text=folder / "texts", steps=1))
    assert Run.open(tmp_path / "draft").part("data")["text"] == Run.open(learned).part("data")["text"]


def test_a_model_of_no_run_needs_a_text(learned: Path, tmp_path: Path) -> None:
    shutil.copytree(Run.open(learned).latest().directory, tmp_path / "alone")
    with pytest.raises(InputError, match="not at hand") as caught:
        pretrain(make_draft(tmp_path / "alone", tmp_path / "draft"))
    assert caught.value.found == "a model that belongs to no run"


@pytest.mark.parametrize(
    ("said", "found"),
    [
        ({"tokenizer": {"kind": "char"}}, "tokenizer.kind"),
        ({"model": {"preset": "tiny-gpt2"}}, "model.preset"),
        ({"model": {"depth": 2, "d_model": 32}}, "model.depth"),
        ({"model": {"norm": "layer"}}, "model.norm.kind"),
        ({"objective": "masked", "model": {"causal": False}}, "model.causal, objective.kind"),
        ({"data": {"valid_fraction": 0.2}}, "data.valid_fraction"),
        ({"compile": "on"}, "compile=on"),
        ({"model": {"context_length": 99}}, "model.context_length=99, and that of the model is 16"),
        ({"start_from": Path("x")}, "--draft-of and --from x"),
    ],
)
def test_what_makes_no_sense_of_a_draft_is_refused(
    learned: Path, tmp_path: Path, said: dict[str, Any], found: str
) -> None:
    with pytest.raises(SettingsError) as caught:
        pretrain(make_draft(learned, tmp_path / "draft", **said))
    assert caught.value.found == found and caught.value.hint
    assert not (tmp_path / "draft").exists(), "nothing is left behind"


def test_only_what_writes_has_a_draft(folder: Path, task, tmp_path: Path, learned: Path) -> None:
    pretrain(task(folder / "texts", tmp_path / "masked", steps=1, objective="masked"))
    with pytest.raises(SettingsError, match="does not predict it") as caught:
        pretrain(make_draft(tmp_path / "masked", tmp_path / "draft"))
    assert caught.value.found == "objective=causal, causal=False" and not (tmp_path / "draft").exists()


def test_from_python(learned: Path, tmp_path: Path) -> None:
    lm = pellucid.train(None, tmp_path / "draft", draft_of=learned, steps=1, threads=1, device="cpu")
    assert lm.checkpoint.info["draft_of"]["step"] == 40
    with pytest.raises(SettingsError, match="text is not a path"):
        pellucid.train(None, tmp_path / "other", steps=1)
