"""Quickstart at a size of seconds: stories, tokenizer, model, exam; recorded, repeated, refused."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from pellucid.data.microworld.corpus import documents
from pellucid.data.microworld.story import story
from pellucid.errors import ResumeError
from pellucid.events import MemoryRecorder
from pellucid.planning.config import ModelConfig
from pellucid.planning.flops import count_flops
from pellucid.tokens.train import train_bpe
from pellucid.training.measure import Rates
from pellucid.training.recipes import quickstart as recipe
from pellucid.training.recipes.quickstart import LADDERS, SPLITS, Ladder, Outcome, QuickstartSize, Start, quickstart

TINY = QuickstartSize(
    name="small", least_flops_per_second=0.0, n_layers=2, d_model=32, n_heads=2, d_ff=48, steps=24, rows=20
)


def make_tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    rates = Rates(training_flops_per_second=1e11, determinism_cost=0.0)
    monkeypatch.setattr(recipe, "measure_training", lambda *args, **options: rates)
    monkeypatch.setattr(recipe, "LADDERS", {level: Ladder(vocabulary=1024, sizes=(TINY,)) for level in LADDERS})
    monkeypatch.setattr(recipe, "EXAM_QUESTIONS", 4)


@pytest.fixture
def tiny_ladder(monkeypatch: pytest.MonkeyPatch, quick: None) -> None:
    make_tiny(monkeypatch)


def metrics(out: Path) -> list[str]:
    return (out / "metrics.jsonl").read_text(encoding="utf-8").splitlines()


def run(out: Path, **options: object):
    recorder = options.pop("recorder", MemoryRecorder())
    return quickstart(out, start=Start(device="cpu", threads=1, **options), num_questions=6, recorder=recorder)


@dataclass(frozen=True, kw_only=True)
class Done:
    """A quickstart that has ended: its directory is only read."""

    out: Path
    outcome: Outcome
    heard: MemoryRecorder


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Done:
    out, heard = tmp_path_factory.mktemp("quickstart") / "run", MemoryRecorder()
    threads = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patched:
        make_tiny(patched)
        outcome = run(out, recorder=heard)
    torch.set_num_threads(threads)
    return Done(out=out, outcome=outcome, heard=heard)


def test_it_leaves_stories_a_model_and_an_exam(done: Done) -> None:
    out, outcome = done.out, done.outcome
    assert outcome.finished.step == 24 and outcome.size == "small"
    stories = (out / "stories.jsonl").read_text(encoding="utf-8")
    rows = [json.loads(line)["text"] for line in stories.splitlines()]
    assert any("Where is" in row for row in rows) and any("在哪" in row for row in rows)
    assert set(outcome.score.totals) == set(SPLITS)
    for split in SPLITS:
        row = outcome.score.totals[split]
        assert row.count >= 6 and 0 <= row.low < row.high <= 1 and row.low - 1e-9 <= row.accuracy <= row.high + 1e-9
    assert {sample.story.language for sample in outcome.answers} == {"en", "zh"}
    assert len(outcome.continuations) == 2
    exam = json.loads((out / "exam.json").read_text(encoding="utf-8"))
    assert exam["controls"] and exam["rows"]
    choice = json.loads((out / "quickstart.json").read_text(encoding="utf-8"))
    assert choice["size"] == "small" and choice["flops_per_second"] == 1e11
    assert "quickstart.size" in done.heard.names()


@pytest.mark.usefixtures("tiny_ladder")
def test_the_same_call_goes_on_and_another_is_refused(done: Done, tmp_path: Path) -> None:
    shutil.copytree(done.out, tmp_path / "run")
    again = run(tmp_path / "run")
    assert again.finished.step == done.outcome.finished.step
    assert again.score.rows == done.outcome.score.rows and again.continuations == done.outcome.continuations
    with pytest.raises(ResumeError, match="another quickstart") as refused:
        run(tmp_path / "run", seed=2, precision="fp32")
    assert "seed: 1337 there, 2 now; precision: auto there, fp32 now" in str(refused.value)


def test_a_story_has_a_row_and_is_read_once(done: Done) -> None:
    [rows] = [event.data for event in done.heard.events if event.name == "data.rows"]
    assert rows["rows"] >= TINY.steps * TINY.rows and rows["cut"] == 0 and rows["padding_share"] < 0.2
    tokens = [json.loads(line)["tokens"] for line in metrics(done.out) if '"train"' in line]
    [plan] = [event.data for event in done.heard.events if event.name == "training.plan"]
    assert plan["row_length"] * TINY.rows == pytest.approx(sum(tokens) / len(tokens), rel=0.05), "the mean, as planned"
    assert all(number % TINY.rows == 0 for number in tokens)
    assert len(set(tokens)) > 1 and max(tokens) <= rows["positions"] * TINY.rows, "a batch ends with its longest row"


def test_answers_count_the_more_the_rarer_their_kind_of_question(done: Done) -> None:
    weighed: dict[tuple[str, int], set[float]] = {}
    for index, line in enumerate((done.out / "stories.jsonl").read_text(encoding="utf-8").splitlines()):
        row, told = json.loads(line), story(1337, index, level=0, language=("en", "zh")[index % 2])
        assert row["text"] == told.text
        spans = {(start, stop): weight for start, stop, weight in row["weights"]}
        for question, place in zip(told.questions, told.answer_places, strict=True):
            weighed.setdefault((question.kind, question.hops), set()).add(spans.pop(place, 1.0))
        assert not spans, "only answers have weights"
    weights = {kind: one for kind, (one,) in weighed.items()}  # one for each kind, in both languages
    assert max(weights, key=weights.get) == ("where_thing", 0) and 5 < weights["where_thing", 0] < 9
    assert weights["where_person", 1] == min(weights.values()) == 1


def test_the_exam_of_each_language_is_a_curve_of_the_run(done: Done) -> None:
    asked = [json.loads(line) for line in metrics(done.out) if '"eval"' in line]
    assert len(asked) == recipe.EVALUATIONS
    assert all(0 <= row[f"exam_{language}"] <= 1 for row in asked for language in ("en", "zh"))
    assert (done.out / "exam.svg").is_file() and (done.out / "exam.png").is_file()


@pytest.mark.usefixtures("tiny_ladder")
def test_levels_are_kept_apart(tmp_path: Path) -> None:
    assert run(tmp_path / "run", level=1).score.level == 1
    with pytest.raises(ResumeError, match="another quickstart"):
        run(tmp_path / "run", level=0)


@pytest.mark.usefixtures("tiny_ladder")
def test_one_begun_by_an_earlier_version_is_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    old = {"size": "medium", "seed": 1337, "world": "microworld-1", "flops_per_second": 1e11}
    (tmp_path / "run" / "quickstart.json").write_text(json.dumps(old))
    with pytest.raises(ResumeError, match="another quickstart"):
        run(tmp_path / "run")


@pytest.mark.parametrize("level", sorted(LADDERS))
def test_the_ladder_takes_every_machine_and_grows(level: int) -> None:
    sizes = LADDERS[level].sizes
    assert sizes[-1].least_flops_per_second == 0
    thresholds = [size.least_flops_per_second for size in sizes]
    work = [size.steps * size.rows * size.n_layers * size.d_model**2 for size in sizes]
    assert thresholds == sorted(thresholds, reverse=True) and work == sorted(work, reverse=True)
    assert len({size.name for size in sizes}) == len(sizes)


@pytest.mark.parametrize("level", sorted(LADDERS))
def test_every_chinese_character_is_one_token_also_in_wordings_never_seen(level: int) -> None:
    """A verb or a name that falls together with its neighbours is another token each time, and nothing is learned of it."""
    texts = list(documents(1, level=level, count=4000))
    tokenizer = train_bpe(texts, LADDERS[level].vocabulary, max_han=recipe.MOST_HAN)
    told = [story(2, index, level=level, language="zh", split="paraphrases").tale for index in range(60)]
    assert any("捡了起来" in tale for tale in told) or level == 1
    for tale in told:
        pieces = [tokenizer.token_text(token) for token in tokenizer.encode(tale).ids]
        assert pieces == list(tale)


@pytest.mark.parametrize(("level", "minutes"), [(0, 3), (1, 10)])
def test_a_rung_is_for_machines_that_train_it_in_time(level: int, minutes: float) -> None:
    for size in LADDERS[level].sizes[:-1]:
        shape = recipe.settings_of(size, Start(level=level))["model"]
        axes = {name: value for name, value in shape.items() if name != "depth"}
        config = ModelConfig.from_axes(n_layers=size.n_layers, vocab_size=LADDERS[level].vocabulary, **axes)
        work = count_flops(config).training * size.steps * size.rows * recipe.ROW
        assert work / size.least_flops_per_second <= 1.1 * 60 * minutes
