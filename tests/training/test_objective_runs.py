"""Whole runs by objectives that are not causal: they learn, resume, say what they measure, and refuse what does not fit."""

from __future__ import annotations

import dataclasses
import json
import math
import shutil
import sys
from pathlib import Path

import pytest
import torch

from pellucid.data.document import Document
from pellucid.data.objectives.settings import CausalSettings, MaskedSettings
from pellucid.errors import CorruptFileError, MissingExtraError, ResumeError, SettingsError, TokenizerError
from pellucid.evaluate.asked_model import AskedModel
from pellucid.evaluate.likelihood import Likelihood, measure_text
from pellucid.evaluate.objective import objective_of
from pellucid.events import MemoryRecorder
from pellucid.model.build import build
from pellucid.planning.config import ModelConfig
from pellucid.store.checkpoint import load_checkpoint, load_model
from pellucid.store.metrics import evaluations
from pellucid.store.run import LATEST, Run
from pellucid.training.metrics import without_wall_clock
from pellucid.training.recipes.pretrain import pretrain

pytestmark = pytest.mark.usefixtures("quick")
MASKED = {"kind": "masked", "share": 0.3}
ROWS = {"rows": 24, "micro_rows": 24, "tokens": None}
SMALL = {"n_layers": 2, "n_heads": 2, "n_kv_heads": 1, "d_ff": 48, "context_length": 20, "depth": None}


@pytest.fixture
def book(tmp_path: Path, prose) -> Path:
    path = tmp_path / "book.txt"
    path.write_text(prose(900), encoding="utf-8")
    return path


def test_the_loss_falls_and_is_told_under_its_own_name(book: Path, tmp_path: Path, task) -> None:
    heard = MemoryRecorder()
    finished = pretrain(
        task(book, tmp_path / "run", objective=MASKED, steps=60, batch={"tokens": 256, "micro_rows": 8}), recorder=heard
    )
    rows = Run.open(tmp_path / "run").read_metrics()
    losses = [row["loss"] for row in rows if row["kind"] == "train"]
    assert sum(losses[-10:]) / 10 < 0.8 * sum(losses[:5]) / 5
    last = evaluations(rows)[-1]
    assert last["objective"] == "masked" and 0 < last["accuracy"] < 1 and last["loss"] < evaluations(rows)[0]["loss"]
    assert not last.keys() & {"perplexity", "bits_per_byte"}, "the loss is not the likelihood of the text"
    told = [event.message for event in heard.events if event.name == "training.evaluated"]
    assert "validation loss of the objective masked" in told[-1] and "accuracy" in told[-1]
    assert "perplexity" not in told[-1]
    assert finished.objective == "masked"


def test_the_model_sees_both_sides_and_its_files_name_the_objective(book: Path, tmp_path: Path, task) -> None:
    finished = pretrain(task(book, tmp_path / "run", objective=MASKED))
    checkpoint = load_checkpoint(finished.checkpoint)
    assert not checkpoint.config.causal and checkpoint.info["objective"]["share"] == 0.3
    objective = objective_of(checkpoint, checkpoint.tokenizer)
    assert objective.name == "masked" and objective.settings == MaskedSettings(share=0.3)
    reasons = {reason["field"]: reason["why"] for reason in Run.open(tmp_path / "run").part("plan")["reasons"]}
    assert reasons["causal"] == "the objective predicts from both sides"


def test_a_causal_run_stays_what_it_was(book: Path, tmp_path: Path, task) -> None:
    checkpoint = load_checkpoint(pretrain(task(book, tmp_path / "run")).checkpoint)
    assert checkpoint.config.causal and checkpoint.info["objective"] == {"kind": "causal"}
    assert isinstance(CausalSettings(), type(task(book, tmp_path / "x").settings.objective))


def test_a_run_that_goes_on_hides_the_same_tokens(book: Path, tmp_path: Path, task) -> None:
    pretrain(task(book, tmp_path / "whole", objective=MASKED, saving={"keep_last": 9}))
    shutil.copytree(tmp_path / "whole", tmp_path / "cut")
    shutil.rmtree(tmp_path / "cut" / "checkpoints" / "step-000006")
    (tmp_path / "cut" / LATEST).write_text("step-000004\n", encoding="utf-8")
    pretrain(task(book, tmp_path / "cut", objective=MASKED, saving={"keep_last": 9}))
    whole, cut = (Run.open(tmp_path / name) for name in ("whole", "cut"))
    assert [*map(without_wall_clock, cut.read_metrics())] == [*map(without_wall_clock, whole.read_metrics())]
    left, right = (load_checkpoint(run.latest().directory).weights for run in (whole, cut))
    assert all(torch.equal(left[name], right[name]) for name in left)


def test_another_objective_is_another_run(book: Path, tmp_path: Path, task) -> None:
    pretrain(task(book, tmp_path / "run"))
    with pytest.raises(ResumeError) as caught:
        pretrain(task(book, tmp_path / "run", objective="masked"))
    assert "objective.kind: causal there, masked now" in caught.value.found


def test_who_cuts_chinese_words_is_settled_once(
    book: Path, tmp_path: Path, task, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = {"kind": "masked", "whole_words": "auto"}
    heard = MemoryRecorder()
    pretrain(task(book, tmp_path / "run", objective=asked), recorder=heard)
    assert Run.open(tmp_path / "run").part("objective")["whole_words"] == "rjieba"
    assert "data.whole_words" in heard.names()
    monkeypatch.setitem(sys.modules, "rjieba", None)
    with pytest.raises(MissingExtraError):  # and not runs of characters in the rest of the run
        pretrain(task(book, tmp_path / "run", objective=asked))
    checkpoint = load_checkpoint(pretrain(task(book, tmp_path / "other", objective=asked)).checkpoint)
    assert checkpoint.info["objective"]["whole_words"] == "runs"


@pytest.mark.parametrize(
    ("objective", "model", "found", "hint"),
    [
        ("masked", {"preset": "tiny-gpt2"}, "objective=masked, causal=True", "model.causal=false"),
        ("masked", {"causal": True}, "objective=masked, causal=True", "model.causal=false"),
        ("causal", {"causal": False}, "objective=causal, causal=False", "objective=masked"),
    ],
)
def test_an_objective_that_does_not_fit_the_model_is_refused_before_any_text_is_read(
    objective: str, model: dict, found: str, hint: str, tmp_path: Path, task
) -> None:
    with pytest.raises(SettingsError) as caught:
        pretrain(task(tmp_path / "no.txt", tmp_path / "run", objective=objective, model=model))
    assert caught.value.found == found and hint in caught.value.hint
    assert not (tmp_path / "run").exists()


def test_weights_of_a_causal_model_cannot_learn_a_masked_objective(book: Path, tmp_path: Path, task) -> None:
    finished = pretrain(task(book, tmp_path / "parent"))
    shape = ("n_layers", "d_model", "n_heads", "n_kv_heads", "head_dim", "d_ff", "context_length", "depth")
    model = dict.fromkeys(shape)
    asked = task(book, tmp_path / "run", objective="masked", model=model)
    with pytest.raises(SettingsError) as caught:
        pretrain(dataclasses.replace(asked, start_from=finished.checkpoint))
    assert caught.value.found == "objective=masked, causal=True"


def test_a_tokenizer_without_a_mask_is_refused(book: Path, tmp_path: Path, task) -> None:
    with pytest.raises(TokenizerError) as caught:
        pretrain(task(book, tmp_path / "run", objective="masked", tokenizer={"specials": "none"}))
    assert "role mask" in caught.value.found and not (tmp_path / "run" / "data").exists()


def test_padding_is_not_seen(book: Path, tmp_path: Path, task) -> None:
    """A short row gives the same scores beside a long one as alone."""
    torch.manual_seed(0)
    config = ModelConfig(
        vocab_size=20, context_length=8, n_layers=2, n_heads=2, n_kv_heads=1, head_dim=8, d_model=16, d_ff=24,
        causal=False, init="gpt2",
    )  # fmt: skip
    asked = AskedModel(model=build(config, seed=1))
    together = asked(torch.tensor([[1, 2, 3, 4, 5], [6, 7, 0, 0, 0]]), lengths_B=torch.tensor([5, 2])).logits_BTV
    alone = asked(torch.tensor([[6, 7]])).logits_BTV
    assert torch.allclose(together[1, :2], alone[0], atol=1e-6)
    assert not torch.allclose(asked(torch.tensor([[6, 7, 0, 0, 0]])).logits_BTV[0, :2], alone[0], atol=1e-3)


def test_documents_of_several_lengths_are_learned(tmp_path: Path, task, prose) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps({"text": prose(n, seed=n)}) + "\n" for n in range(2, 40)), encoding="utf-8")
    finished = pretrain(task(path, tmp_path / "run", objective=MASKED, data={"rows": "documents"}))
    rows = evaluations(Run.open(tmp_path / "run").read_metrics())
    assert finished.step == 6 and all(math.isfinite(row["loss"]) for row in rows)


def test_a_text_is_measured_by_the_model_s_own_objective(book: Path, tmp_path: Path, task) -> None:
    for name, objective, kind in (("masked", MASKED, False), ("causal", "causal", True)):
        checkpoint = load_checkpoint(pretrain(task(book, tmp_path / name, objective=objective)).checkpoint)
        document = Document(text=book.read_text(encoding="utf-8"), origin="book")
        own = objective_of(checkpoint, checkpoint.tokenizer)
        measured = measure_text(load_model(checkpoint), checkpoint.tokenizer, [document], objective=own)
        assert isinstance(measured, Likelihood) == kind and measured.to_dict().keys() >= {"loss", "nats", "num_tokens"}


def test_an_objective_that_is_not_known_in_a_file_is_said(book: Path, tmp_path: Path, task) -> None:
    checkpoint = load_checkpoint(pretrain(task(book, tmp_path / "run")).checkpoint)
    damaged = dataclasses.replace(checkpoint, info={**checkpoint.info, "objective": {"kind": "unheard"}})
    with pytest.raises(CorruptFileError, match="trained by"):
        objective_of(damaged, checkpoint.tokenizer)


# -- hidden spans: an encoder and a decoder ---------------------------------------------------------------------------

SPANS = {"objective": {"kind": "spans", "share": 0.3}, "tokenizer": {"vocab_size": 400, "specials": "sentinels"}}


def test_spans_are_learned_by_an_encoder_and_a_decoder(book: Path, tmp_path: Path, task) -> None:
    finished = pretrain(task(book, tmp_path / "run", **SPANS, steps=40, batch={"tokens": 256, "micro_rows": 8}))
    run = Run.open(tmp_path / "run")
    losses = [row["loss"] for row in run.read_metrics() if row["kind"] == "train"]
    assert sum(losses[-5:]) < 0.7 * sum(losses[:5])
    last = evaluations(run.read_metrics())[-1]
    assert last["objective"] == "spans" and not last.keys() & {"perplexity", "bits_per_byte"}
    checkpoint = load_checkpoint(finished.checkpoint)
    assert checkpoint.config.encoder.n_layers == checkpoint.config.n_layers == 2 and finished.objective == "spans"
    reasons = {reason["field"]: reason["why"] for reason in run.part("plan")["reasons"]}
    assert "the objective reads a source" in reasons["encoder"]
    document = Document(text=book.read_text(encoding="utf-8"), origin="book")
    own = objective_of(checkpoint, checkpoint.tokenizer)
    measured = measure_text(load_model(checkpoint), checkpoint.tokenizer, [document], objective=own)
    assert measured.loss < losses[0] and not isinstance(measured, Likelihood)


def test_a_run_of_spans_that_goes_on_hides_the_same(book: Path, tmp_path: Path, task) -> None:
    pretrain(task(book, tmp_path / "whole", **SPANS, saving={"keep_last": 9}))
    shutil.copytree(tmp_path / "whole", tmp_path / "cut")
    shutil.rmtree(tmp_path / "cut" / "checkpoints" / "step-000006")
    (tmp_path / "cut" / LATEST).write_text("step-000004\n", encoding="utf-8")
    pretrain(task(book, tmp_path / "cut", **SPANS, saving={"keep_last": 9}))
    whole, cut = (Run.open(tmp_path / name) for name in ("whole", "cut"))
    assert [*map(without_wall_clock, cut.read_metrics())] == [*map(without_wall_clock, whole.read_metrics())]


def test_the_padding_of_a_source_is_not_seen() -> None:
    config = ModelConfig.from_axes(
        vocab_size=20, context_length=8, n_layers=1, n_heads=2, n_kv_heads=1, head_dim=8, d_model=16, d_ff=24,
        init="gpt2", encoder={"n_layers": 1},
    )  # fmt: skip
    asked = AskedModel(model=build(config, seed=1))
    ids_BT, source_BS = torch.tensor([[1, 2, 3], [1, 2, 3]]), torch.tensor([[4, 5, 6, 7], [8, 9, 0, 0]])
    together = asked(ids_BT, source_BS=source_BS, source_lengths_B=torch.tensor([4, 2])).logits_BTV
    alone = asked(ids_BT[1:], source_BS=source_BS[1:, :2], source_lengths_B=torch.tensor([2])).logits_BTV
    assert torch.allclose(together[1], alone[0], atol=1e-6)
    other = asked(ids_BT, source_BS=source_BS, source_lengths_B=torch.tensor([4, 3])).logits_BTV
    assert not torch.allclose(other[1], alone[0], atol=1e-4)
    empty = asked(ids_BT, source_BS=source_BS, source_lengths_B=torch.tensor([4, 0])).logits_BTV
    assert empty.isfinite().all(), "a row that fills up a batch has no source"


@pytest.mark.parametrize(
    ("changes", "found", "hint"),
    [
        (
            {"objective": "spans", "model": {"preset": "tiny-gpt2"}},
            "objective=spans, causal=True",
            "model.encoder.n_layers",
        ),
        (
            {"objective": "spans", "model": {"causal": False, "encoder": None}},
            "objective=spans, causal=False",
            "encoder",
        ),
        (
            {"objective": "masked", "model": {"causal": True, "encoder": {"n_layers": 1}}},
            "a model with an encoder",
            "causal",
        ),
        ({"objective": "spans", "compile": "on"}, "objective=spans, compile=on", "compile=on"),
    ],
)
def test_hidden_spans_need_an_encoder(changes: dict, found: str, hint: str, tmp_path: Path, task) -> None:
    with pytest.raises(SettingsError) as caught:
        pretrain(task(tmp_path / "no.txt", tmp_path / "run", **changes))
    assert found in caught.value.found and hint in caught.value.hint


def test_hidden_spans_need_sentinels(book: Path, tmp_path: Path, task) -> None:
    with pytest.raises(TokenizerError) as caught:
        pretrain(task(book, tmp_path / "run", objective="spans"))
    assert "sentinel" in caught.value.found and "specials=sentinels" in caught.value.hint


# -- pairs of texts ---------------------------------------------------------------------------------------------------

PAIRS = {"objective": "seq2seq", "data": {"rows": "pairs", "source": "1", "field": "2"}, "tokenizer": {"kind": "word"}}
ENGLISH = {"one": "一", "two": "二", "three": "三", "cats": "猫", "dogs": "狗", "sit": "坐", "run": "跑"}


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    """Three words and their translation, word by word."""
    path = tmp_path / "pairs.tsv"
    lines = [
        (f"{a} {b} {c}", " ".join(ENGLISH[word] for word in (a, b, c)))
        for _ in range(6)
        for a in ("one", "two", "three")
        for b in ("cats", "dogs")
        for c in ("sit", "run")
    ]
    path.write_text("".join(f"{source}\t{target}\n" for source, target in lines), encoding="utf-8")
    return path


def test_pairs_are_learned_and_resumed(pairs: Path, tmp_path: Path, task) -> None:
    heard = MemoryRecorder()
    asked = {**PAIRS, "steps": 40, "batch": ROWS, "saving": {"keep_last": 99, "every_steps": 10}}
    finished = pretrain(task(pairs, tmp_path / "whole", **asked), recorder=heard)
    run = Run.open(tmp_path / "whole")
    losses = [row["loss"] for row in run.read_metrics() if row["kind"] == "train"]
    assert sum(event.name == "training.saved" for event in heard.events) > 2
    assert sum(event.name == "store.own_format" for event in heard.events) == 1, "how a model is stored is said once"
    assert sum(losses[-5:]) < 0.5 * sum(losses[:5])
    assert any("one pair to a row: 72 rows" in event.message for event in heard.events)
    assert load_checkpoint(finished.checkpoint).info["objective"] == {"kind": "seq2seq"}
    assert run.part("plan")["epochs"] == pytest.approx(40 * 24 / 72)

    shutil.copytree(tmp_path / "whole", tmp_path / "cut")
    for saved in (tmp_path / "cut" / "checkpoints").iterdir():
        if int(saved.name.removeprefix("step-")) > 20:
            shutil.rmtree(saved)
    (tmp_path / "cut" / LATEST).write_text("step-000020\n", encoding="utf-8")
    pretrain(task(pairs, tmp_path / "cut", **asked))
    rows = [[*map(without_wall_clock, Run.open(tmp_path / name).read_metrics())] for name in ("whole", "cut")]
    assert rows[0] == rows[1]


def test_a_pair_is_translated_by_a_model_that_has_learned_it(pairs: Path, tmp_path: Path, task) -> None:
    """Greedily, token by token: what training asked for is what the model says."""
    asked = {**PAIRS, "steps": 80, "batch": {**ROWS, "pool": 2}, "model": {**SMALL, "d_model": 32, "head_dim": 16}}
    checkpoint = load_checkpoint(pretrain(task(pairs, tmp_path / "run", **asked)).checkpoint)
    model, tokenizer = AskedModel(model=load_model(checkpoint)), checkpoint.tokenizer
    source = [tokenizer.bos_id, *tokenizer.encode("two dogs run").ids, tokenizer.eos_id]
    told = [tokenizer.roles.first("pad")]
    while told[-1] != tokenizer.eos_id and len(told) < 8:
        source_BS, lengths_B = torch.tensor([source]), torch.tensor([len(source)])
        logits_BTV = model(torch.tensor([told]), source_BS=source_BS, source_lengths_B=lengths_B).logits_BTV
        told.append(int(logits_BTV[0, -1].argmax()))
    assert tokenizer.decode(told) == "二 狗 跑"


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"objective": "seq2seq"}, "objective=seq2seq, data.rows=stream"),
        ({"data": {"rows": "pairs", "source": "1"}}, "objective=causal, data.rows=pairs"),
        ({"objective": "seq2seq", "data": {"rows": "pairs"}}, "data.rows=pairs, data.source=None"),
        ({"data": {"source": "1"}}, "data.rows=stream, data.source=1"),
        ({**PAIRS, "data": {**PAIRS["data"], "weights": "w"}}, "data.weights=w"),
    ],
)
def test_pairs_and_their_objective_belong_together(changes: dict, found: str, tmp_path: Path, task) -> None:
    with pytest.raises(SettingsError) as caught:
        pretrain(task(tmp_path / "no.tsv", tmp_path / "run", **changes))
    assert caught.value.found == found
