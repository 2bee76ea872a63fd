"""Whole runs by BERT's two objectives: both parts are measured, a run goes on to the bit, what does not fit is refused."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import pytest
import torch

import pellucid
from pellucid.data.batch import TokenRows
from pellucid.data.document import Document
from pellucid.data.loader import LoaderWithOthers
from pellucid.data.objectives.next_sentence import FOLLOWS, NextSentenceObjective
from pellucid.data.objectives.settings import MaskedSettings
from pellucid.data.writer import write_shards
from pellucid.engine.next_sentence import chances_to_follow
from pellucid.errors import ContextError, InputError, RequestError, SettingsError
from pellucid.evaluate.asked_model import AskedModel
from pellucid.evaluate.likelihood import Likelihood, measure_text
from pellucid.evaluate.objective import objective_of
from pellucid.events import MemoryRecorder
from pellucid.model.build import build
from pellucid.model.context import Context
from pellucid.planning.config import ModelConfig
from pellucid.store.checkpoint import load_checkpoint, load_training
from pellucid.store.metrics import evaluations
from pellucid.store.run import LATEST, Run
from pellucid.tokens.train import train_characters
from pellucid.training.loop import Pace, Trainer, train
from pellucid.training.metrics import without_wall_clock
from pellucid.training.recipes.pretrain import pretrain
from pellucid.training.settings import OptimizerSettings, ScheduleSettings

pytestmark = pytest.mark.usefixtures("quick")
ASKED = {"objective": "next_sentence", "data": {"rows": "documents", "valid_fraction": 0.2}}
SHAPE = {"n_layers": 2, "d_ff": 32, "d_model": 24, "n_heads": 3, "n_kv_heads": 3, "head_dim": 8, "context_length": 24}
BERT = {**SHAPE, "depth": None, "preset": "bert-base", "pooler": {"pairs": True}, "dropout": 0.1}
TEXTS = [
    f"{thing} {a}. {thing} {b}. " * (1 + (a == b)) for thing in ("tea", "sun", "hat") for a in "abcde" for b in "abcde"
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Texts that speak of one thing each."""
    path = tmp_path_factory.mktemp("pairs")
    (path / "texts.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def learned(folder: Path, task, make_quick) -> tuple[Path, MemoryRecorder]:
    heard = MemoryRecorder()
    with pytest.MonkeyPatch.context() as patch:
        make_quick(patch)
        asked = task(
            folder / "texts.jsonl", folder / "run", **ASKED, steps=20, batch={"tokens": None, "rows": 12, "micro_rows": 6},
            model={**SHAPE, "depth": 1}, evaluation={"every_steps": 10, "max_share": 1.0}, tokenizer={"vocab_size": 300},
        )  # fmt: skip
        pretrain(asked, recorder=heard)
    return folder / "run", heard


def test_both_parts_are_measured(learned: tuple[Path, MemoryRecorder]) -> None:
    path, heard = learned
    run = Run.open(path)
    losses = [row["loss"] for row in run.read_metrics() if row["kind"] == "train"]
    assert sum(losses[-5:]) < 0.7 * sum(losses[:5])
    first, *_, last = evaluations(run.read_metrics())
    assert last["objective"] == "next_sentence" and last["loss"] < first["loss"] and 0 < last["accuracy"] < 1
    assert 0.1 < last["next_sentence_loss"] < 1.5 and 0.2 < last["next_sentence_accuracy"] < 0.9
    assert losses[-1] > last["loss"], "training tells the sum of both losses, validation each by itself"
    assert not last.keys() & {"perplexity", "bits_per_byte"}
    told = [event.message for event in heard.events if event.name == "training.evaluated"]
    assert "validation loss of the objective next_sentence" in told[-1] and "next_sentence_accuracy" in told[-1]
    assert any("in half of the rows the second part is another document's" in event.message for event in heard.events)
    config = load_checkpoint(run.latest().directory).config
    assert (config.causal, config.embedding.segments, config.pooler.pairs) == (False, 2, True)
    reasons = {reason["field"]: reason["why"] for reason in run.part("plan")["reasons"]}
    assert "whether the second part of a row follows" in reasons["pooler"]


def test_its_files_say_how_it_is_measured_and_how_a_text_is_framed(learned: tuple[Path, MemoryRecorder]) -> None:
    lm = pellucid.load(learned[0])
    own = objective_of(lm.checkpoint, lm.tokenizer)
    assert own.name == "next_sentence" and own.masked.settings == MaskedSettings(kind="next_sentence")
    documents = [Document(text=text, origin=str(place)) for place, text in enumerate(TEXTS)]
    measured = measure_text(lm.model, lm.tokenizer, documents, objective=own, kind="documents")
    assert measured.means.keys() == {"accuracy", "next_sentence_loss", "next_sentence_accuracy"}
    assert not isinstance(measured, Likelihood)
    filled = lm.fill("tea [MASK]. tea tea.", mask="[MASK]")
    assert len(filled.blanks) == 1


def test_a_run_that_goes_on_draws_the_same_others_and_hides_the_same(folder: Path, tmp_path: Path, task) -> None:
    """With dropout, micro-batches and sorted rows, over more than one epoch; other programs read it as BERT's."""
    asked = {**ASKED, "model": BERT, "steps": 6, "batch": {"tokens": None, "rows": 12, "micro_rows": 6, "pool": 2}}
    asked |= {"saving": {"keep_last": 9}, "tokenizer": {"vocab_size": 300}, "evaluation": {"max_share": 1.0}}
    pretrain(task(folder / "texts.jsonl", tmp_path / "whole", **asked))
    shutil.copytree(tmp_path / "whole", tmp_path / "cut")
    shutil.rmtree(tmp_path / "cut" / "checkpoints" / "step-000006")
    (tmp_path / "cut" / LATEST).write_text("step-000004\n", encoding="utf-8")
    pretrain(task(folder / "texts.jsonl", tmp_path / "cut", **asked))
    whole, cut = (Run.open(tmp_path / name) for name in ("whole", "cut"))
    assert whole.part("plan")["epochs"] > 1
    assert [*map(without_wall_clock, cut.read_metrics())] == [*map(without_wall_clock, whole.read_metrics())]
    for read in (lambda path: load_checkpoint(path).weights, lambda path: load_training(path).tensors):
        left, right = (read(run.latest().directory) for run in (whole, cut))
        assert left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)
    told = json.loads((whole.latest().directory / "config.json").read_text(encoding="utf-8"))
    assert (told["model_type"], told["architectures"]) == ("bert", ["BertForPreTraining"])
    assert load_checkpoint(whole.latest().directory).config.pooler.pairs


class Fixed:
    """The same rows in every update."""

    def __init__(self, loader: LoaderWithOthers) -> None:
        self.loader = loader

    def rows(self, start: int, count: int) -> TokenRows:
        return self.loader.rows(0, count)


def test_answers_are_learned_by_heart(tmp_path: Path) -> None:
    """The gradient reaches whatever tells the rows apart: sixteen pairs that come again and again."""
    signs = train_characters(TEXTS, specials="standard")
    shards = write_shards([Document(text=text, origin=text) for text in TEXTS], signs, tmp_path / "tokens")
    config = ModelConfig.from_axes(
        **{**SHAPE, "n_layers": 1}, vocab_size=signs.vocab_size, causal=False, embedding={"segments": 2}, pooler={"pairs": True},
    )  # fmt: skip
    trainer = Trainer(
        build(config, seed=1), Fixed(LoaderWithOthers(shards, 24, seed=1)), Pace(steps=40, rows=16, micro_rows=8),
        objective=NextSentenceObjective.of(MaskedSettings(kind="next_sentence"), signs), optimizer=OptimizerSettings(),
        schedule=ScheduleSettings(), seed=1, compute_dtype=torch.float32,
    )  # fmt: skip
    train(trainer, until=40, after_step=lambda report: True)
    batch = trainer.objective.batch(trainer.source.rows(0, 16), trainer.key)
    assert batch.pairs_B.all() and 4 < int(batch.answers_B.sum()) < 12
    measured = trainer.objective.measure(AskedModel(model=trainer.model), batch)
    assert measured["next_sentence_accuracy"].min() == 1 and measured["next_sentence_loss"].max() < 0.1


def test_segments_and_the_pair_head_are_asked_for_by_name() -> None:
    config = ModelConfig.from_axes(
        vocab_size=20, context_length=8, n_layers=1, n_heads=2, n_kv_heads=1, head_dim=8, d_model=16, d_ff=24,
        init="gpt2", causal=False, embedding={"segments": 2}, pooler={"pairs": True},
    )  # fmt: skip
    asked = AskedModel(model=build(config, seed=1))
    ids_BT, lengths_B = torch.tensor([[1, 2, 3, 4, 5], [6, 7, 8, 0, 0]]), torch.tensor([5, 3])
    segments_BT = torch.tensor([[0, 0, 1, 1, 1], [0, 1, 1, 0, 0]])
    together = asked(ids_BT, segments_BT=segments_BT, lengths_B=lengths_B)
    alone = asked(ids_BT[1:, :3], segments_BT=segments_BT[1:, :3])
    assert torch.allclose(together.pair_logits_B2[1], alone.pair_logits_B2[0], atol=1e-6), "padding is not seen"
    unparted = asked(ids_BT, lengths_B=lengths_B)
    assert not torch.allclose(unparted.pair_logits_B2, together.pair_logits_B2, atol=1e-4)
    without = AskedModel(model=build(dataclasses.replace(config, pooler=None), seed=1))
    with pytest.raises(RequestError, match="whether two parts of a row belong together"):
        _ = without(ids_BT, segments_BT=segments_BT).pair_logits_B2
    assert FOLLOWS == 0, "as in BERT's files"


@pytest.mark.parametrize(
    ("changes", "found", "hint"),
    [
        ({"model": {"preset": "tiny-gpt2"}}, "objective=next_sentence, causal=True", "model.causal=false"),
        ({"model": {"preset": "bert-base"}}, "embedding.segments=2, pooler.pairs=False", "model.pooler.pairs=true"),
        ({"model": {"preset": "roberta-base", "pooler": {"pairs": True}}}, "embedding.segments=1, pooler.pairs=True", "model.embedding.segments=2"),
        ({"model": {"embedding": {"segments": 0}}}, "embedding.segments=0, pooler.pairs=True", "objective=masked"),
        ({"model": {"preset": "xlnet"}}, "a model of two streams", "objective"),
        ({"data": {"rows": "stream"}}, "objective=next_sentence, data.rows=stream", "data.rows=documents"),
        ({"data": {"rows": "pairs", "source": "1"}}, "objective=next_sentence, data.rows=pairs", "data.rows=documents"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_before_any_text_is_read(
    changes: dict, found: str, hint: str, tmp_path: Path, task
) -> None:
    with pytest.raises(SettingsError) as caught:
        pretrain(task(tmp_path / "no.txt", tmp_path / "run", **{**ASKED, **changes}))
    assert found in caught.value.found and hint in caught.value.hint
    assert not (tmp_path / "run").exists()


def test_a_text_of_one_document_and_weights_without_a_pair_head_are_refused(folder: Path, tmp_path: Path, task) -> None:
    (tmp_path / "one.txt").write_text("tea tea. sun sun. " * 40, encoding="utf-8")
    with pytest.raises(InputError, match="no other text"):
        pretrain(task(tmp_path / "one.txt", tmp_path / "run", **ASKED, tokenizer={"vocab_size": 300}))
    (tmp_path / "few.jsonl").write_text(
        "".join(json.dumps({"text": text}) + "\n" for text in TEXTS[:6]), encoding="utf-8"
    )
    held_out = {"rows": "documents", "valid_file": tmp_path / "one.txt"}
    with pytest.raises(InputError, match="no other text") as caught:
        pretrain(task(tmp_path / "few.jsonl", tmp_path / "held", objective="next_sentence", data=held_out))
    assert caught.value.where.endswith("valid")
    assert not [*(tmp_path / "held" / "checkpoints").iterdir()], "it is said before the first step"
    masked = {"objective": "masked", "data": {"rows": "documents"}, "tokenizer": {"vocab_size": 300}, "steps": 1}
    parent = pretrain(task(folder / "texts.jsonl", tmp_path / "parent", **masked)).checkpoint
    asked = task(folder / "texts.jsonl", tmp_path / "child", **ASKED, model=dict.fromkeys([*SHAPE, "depth"]))
    with pytest.raises(SettingsError, match="a head that scores whether they follow"):
        pretrain(dataclasses.replace(asked, start_from=parent))


def test_two_texts_are_asked_whether_one_follows_the_other(learned: tuple[Path, MemoryRecorder]) -> None:
    """As a training row of the same two parts has it, each alone and beside a longer one."""
    lm = pellucid.load(learned[0])
    pairs = [("tea a.", " tea b."), ("tea a. tea a.", " sun e. sun e.")]
    found = chances_to_follow(lm.model, lm.tokenizer, lm.checkpoint, pairs)
    cls, sep = (lm.tokenizer.roles.first(name) for name in ("cls", "sep"))
    for (first, second), chance in zip(pairs, found.tolist(), strict=True):
        parts = [[cls, *lm.tokenizer.encode(first).ids, sep], [*lm.tokenizer.encode(second).ids, sep]]
        segments = [[0] * len(parts[0]) + [1] * len(parts[1])]
        output = lm.model(torch.tensor([parts[0] + parts[1]]), Context(segments_BT=torch.tensor(segments)))
        assert chance == pytest.approx(output.pair_logits_B2.softmax(-1)[0, FOLLOWS].item(), abs=1e-6)


@pytest.mark.parametrize(
    ("pairs", "error", "says"),
    [
        ([], RequestError, "no text to read"),
        ([("tea a.", "")], RequestError, "pair 1"),
        ([("a", "b"), ("tea a. " * 9, "b")], ContextError, "in pair 2"),
    ],
)
def test_pairs_that_cannot_be_asked_are_refused(
    learned: tuple[Path, MemoryRecorder], pairs: list, error: type, says: str
) -> None:
    lm = pellucid.load(learned[0])
    with pytest.raises(error, match=says):
        chances_to_follow(lm.model, lm.tokenizer, lm.checkpoint, pairs)
    with pytest.raises(RequestError, match="no pair head"):
        chances_to_follow(build(ModelConfig(causal=False), seed=1), lm.tokenizer, lm.checkpoint, pairs)
