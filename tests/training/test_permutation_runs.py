"""Whole runs of a model of two streams: it learns, resumes, is measured, continues a text, and refuses what does not fit."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

import pytest
import torch

import pellucid
from pellucid.data.document import Document
from pellucid.data.objectives.settings import MaskedSettings, PermutationSettings
from pellucid.engine.any_order import fill_in_order, score_in_order
from pellucid.errors import EngineError, ModelError, NotShownError, RequestError, SettingsError
from pellucid.evaluate.asked_model import AskedModel
from pellucid.evaluate.likelihood import Likelihood, measure_text, token_logprobs
from pellucid.evaluate.objective import check_can_learn, objective_of, sight_of
from pellucid.lens.shows import EVERY, check_shown
from pellucid.model.build import build
from pellucid.planning.presets import preset
from pellucid.store.metrics import evaluations
from pellucid.store.run import LATEST, Run
from pellucid.training.metrics import without_wall_clock
from pellucid.training.recipes.pretrain import pretrain

pytestmark = pytest.mark.usefixtures("quick")
ASKED = {"objective": {"kind": "permutation", "one_in": 3}}
SHAPE = {"d_ff": 32, "d_model": 24, "n_heads": 3, "n_kv_heads": 3, "head_dim": 8}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A text in which every word is followed by the same one, and what a model learned of it."""
    path = tmp_path_factory.mktemp("order")
    words = ["north", "east", "south", "west", "up", "down", "left", "right"]
    (path / "round.txt").write_text(" ".join(words * 150), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def learned(folder: Path, task, make_quick) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        make_quick(patch)
        pretrain(
            task(
                folder / "round.txt", folder / "run", **ASKED, steps=50, batch={"tokens": 256, "micro_rows": 8},
                model={**SHAPE, "n_layers": 2, "context_length": 16, "depth": 1, "norm": {"placement": "after"}},
                evaluation={"every_steps": 30}, tokenizer={"kind": "bpe", "vocab_size": 300},
            )
        )  # fmt: skip
    return folder / "run"


def test_the_loss_falls_and_the_files_name_the_objective(learned: Path) -> None:
    run = Run.open(learned)
    losses = [row["loss"] for row in run.read_metrics() if row["kind"] == "train"]
    assert sum(losses[-5:]) < 0.5 * sum(losses[:5])
    last = evaluations(run.read_metrics())[-1]
    assert last["objective"] == "permutation" and last["accuracy"] > 0.5
    assert not last.keys() & {"perplexity", "bits_per_byte"}, "only a part of the text is predicted"
    checkpoint = pellucid.load(learned).checkpoint
    assert checkpoint.info["objective"] == {"kind": "permutation", "one_in": 3}
    config = checkpoint.config
    assert (config.streams.memory, config.position.kind, config.causal) == (0, "relative_sines", False)
    reasons = {reason["field"]: reason["why"] for reason in run.part("plan")["reasons"]}
    assert "places in any order" in reasons["streams"]


def test_a_text_is_measured_by_its_own_objective(learned: Path, folder: Path) -> None:
    lm = pellucid.load(learned)
    document = Document(text=(folder / "round.txt").read_text(encoding="utf-8"), origin="round")
    own = objective_of(lm.checkpoint, lm.tokenizer)
    measured = measure_text(lm.model, lm.tokenizer, [document], objective=own)
    assert measured.loss < 0.7 * math.log(lm.config.vocab_size) and not isinstance(measured, Likelihood)


def test_it_continues_a_text_and_tells_how_likely_one_is(learned: Path) -> None:
    """The scores are those of generation: each token given all before it, seen from both sides."""
    lm = pellucid.load(learned)
    answer = lm.complete("north east south west", temperature=0, max_new_tokens=6)
    assert len(answer.ids) == 6
    prompt = lm.tokenizer.encode_prompt("north east south west")
    score = lm.score([*prompt, *answer.ids])
    assert score.logprobs[-6:] == pytest.approx(answer.logprobs, abs=1e-5)
    whole = lm.score(lm.tokenizer.encode_prompt("north east south west up down left right " * 3))
    assert len(whole.logprobs) > 16, "more than the context holds is read in windows"
    with pytest.raises(RequestError, match="this model has two"):
        lm.complete("north", explain=True)
    with pytest.raises(RequestError, match="it sees the whole row"):
        token_logprobs(lm.model, lm.tokenizer, "north east")


def test_a_run_that_goes_on_draws_the_same_orders(folder: Path, tmp_path: Path, task) -> None:
    pretrain(task(folder / "round.txt", tmp_path / "whole", **ASKED, saving={"keep_last": 9}))
    shutil.copytree(tmp_path / "whole", tmp_path / "cut")
    shutil.rmtree(tmp_path / "cut" / "checkpoints" / "step-000006")
    (tmp_path / "cut" / LATEST).write_text("step-000004\n", encoding="utf-8")
    pretrain(task(folder / "round.txt", tmp_path / "cut", **ASKED, saving={"keep_last": 9}))
    whole, cut = (Run.open(tmp_path / name) for name in ("whole", "cut"))
    assert [*map(without_wall_clock, cut.read_metrics())] == [*map(without_wall_clock, whole.read_metrics())]


def test_a_preset_is_trained_and_written_for_others(folder: Path, tmp_path: Path, task) -> None:
    model = {"preset": "xlnet", "n_layers": 1, "context_length": 16, "d_ff": 40, "depth": None}
    small = {"d_model": 24, "n_heads": 3, "n_kv_heads": 3, "head_dim": 8, "dropout": 0.1}
    pretrain(task(folder / "round.txt", tmp_path / "run", objective="permutation", model={**model, **small}, steps=2))
    described = (next((tmp_path / "run" / "checkpoints").iterdir()) / "config.json").read_text(encoding="utf-8")
    assert '"model_type": "xlnet"' in described and '"attn_type": "bi"' in described


@pytest.mark.parametrize(
    ("changes", "found", "hint"),
    [
        ({"objective": "permutation", "model": {"preset": "tiny-gpt2"}}, "objective=permutation, causal=True", "xlnet"),
        ({"objective": "permutation", "model": {"causal": False, "streams": None, "position": "rotary"}}, "causal=False", "xlnet"),
        ({"objective": "causal", "model": {"preset": "xlnet"}}, "a model of two streams", "objective"),
        ({"objective": "masked", "model": {"preset": "xlnet"}}, "a model of two streams", "objective"),
        ({"objective": "permutation", "compile": "on"}, "objective=permutation, compile=on", "compile=on"),
    ],
)  # fmt: skip
def test_an_objective_and_an_architecture_that_do_not_fit_are_refused(
    changes: dict, found: str, hint: str, tmp_path: Path, task
) -> None:
    with pytest.raises(SettingsError) as caught:
        pretrain(task(tmp_path / "no.txt", tmp_path / "run", **changes))
    assert found in caught.value.found and hint in caught.value.hint


def test_what_was_not_made_for_two_streams_refuses_them_in_a_line(learned: Path, tmp_path: Path) -> None:
    lm = pellucid.load(learned)
    with pytest.raises(NotShownError, match=r"found: position=relative_sines.*streams.memory=0"):
        check_shown(lm.config, EVERY)
    with pytest.raises(NotShownError, match=r"streams.memory=0"):
        pellucid.trace(lm, "north")
    with pytest.raises(EngineError, match=r"the loops do not know position=relative_sines.*streams.memory=0"):
        pellucid.load(learned, engine=pellucid.EngineSettings(kernels="on"))
    with pytest.raises(ModelError, match=r"position=relative_sines|streams.memory=0"):
        lm.save(tmp_path / "model.gguf")


def test_what_a_batch_says_reaches_the_model() -> None:
    """Padding is not seen; a row with fewer asked places repeats a place, which changes nothing for the others."""
    config = preset("xlnet").revise(vocab_size=20, context_length=8, n_layers=1, d_model=16, head_dim=4, d_ff=24)
    asked = AskedModel(model=build(config, seed=1).eval())
    ids_BT, ranks_BT = torch.tensor([[1, 2, 3, 4], [5, 6, 0, 0]]), torch.tensor([[0, 1, 0, 2], [1, 0, 0, 0]])
    places_BP, lengths_B = torch.tensor([[1, 3], [0, 0]]), torch.tensor([4, 2])
    together = asked(ids_BT, ranks_BT=ranks_BT, places_BP=places_BP, lengths_B=lengths_B).logits_BTV
    alone = asked(ids_BT[1:, :2], ranks_BT=ranks_BT[1:, :2], places_BP=places_BP[1:, :1]).logits_BTV
    assert torch.allclose(together[1, :1], alone[0], atol=1e-6)
    assert sight_of(config) == "any order"
    check_can_learn(PermutationSettings(), config)
    with pytest.raises(SettingsError, match="a model of one stream and one text") as caught:
        check_can_learn(MaskedSettings(), config)
    assert "causal=false" not in caught.value.hint  # it has two streams either way


# -- any order ---------------------------------------------------------------------------------------------------------


def test_places_are_filled_in_any_order(learned: Path) -> None:
    """The sum of the log-probabilities is that of the places together; the text from both sides is found again."""
    lm = pellucid.load(learned)
    ids = lm.tokenizer.encode("north east south west up down left right").ids[:16]
    places = [len(ids) - 2, 1, 3]
    found = fill_in_order(lm.model, ids, places)
    assert [one.place for one in found] == places
    filled = list(ids)
    for one in found:
        filled[one.place] = one.id
    scored = score_in_order(lm.model, filled, places)
    assert [one.logprob for one in scored] == pytest.approx([one.logprob for one in found], abs=1e-5)
    backwards = score_in_order(lm.model, filled, places[::-1])
    assert backwards[0].logprob != pytest.approx(scored[-1].logprob, abs=1e-6), "it is predicted from fewer"
    assert sum(one.id == ids[one.place] for one in found) >= 2


def test_places_that_cannot_be_asked_for_are_refused(learned: Path) -> None:
    lm = pellucid.load(learned)
    for places, says in (
        ([], "no place"),
        ([1, 1], "twice"),
        ([9], "places of the text"),
        ([-1], "places of the text"),
    ):
        with pytest.raises(RequestError, match=says):
            score_in_order(lm.model, [1, 2, 3], places)
    with pytest.raises(RequestError, match="one stream"):
        score_in_order(build(preset("tiny"), seed=1), [1, 2, 3], [1])
