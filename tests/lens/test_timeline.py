"""The time machine on a real, tiny run: every step's numbers are those of that step's model."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from pellucid.data.loader import DocumentLoader, Loader, Pool
from pellucid.data.prepare import open_prepared
from pellucid.errors import RequestError
from pellucid.events import MemoryRecorder
from pellucid.lens.dispatch import Dispatch, open_lens
from pellucid.lens.timeline import draw_curve, list_exam, principal_plane
from pellucid.model.recording import record
from pellucid.settings import Layer, resolve
from pellucid.store.checkpoint import load_checkpoint, load_model
from pellucid.store.envelope import Quantized
from pellucid.store.probes import pack_probe, save_probe
from pellucid.training import make_plan
from pellucid.training.measure import Rates
from pellucid.training.probe import see
from pellucid.training.recipes import pretrain as recipe
from pellucid.training.recipes.pretrain import Pretraining, pretrain
from pellucid.training.settings import TrainSettings

PROBES = ["the cat sat", "小猫在"]
SETTINGS = {
    "threads": 1, "device": "cpu", "precision": "fp32", "steps": 6, "compile": "off", "tokenizer": {"vocab_size": 300},
    "model": {"n_layers": 2, "d_model": 16, "n_heads": 2, "n_kv_heads": 1, "head_dim": 8, "d_ff": 24,
              "context_length": 16, "depth": 1},
    "batch": {"tokens": 64}, "evaluation": {"every_steps": 2}, "saving": {"keep_last": 9},
    "probe": {"texts": PROBES, "seconds_share": 1.0},
}  # fmt: skip


def train_tiny(text: Path, out: Path, settings: dict) -> Path:
    """A run of six updates on this text, its exam's answers made up."""
    rates = Rates(training_flops_per_second=1e10, determinism_cost=0.0)
    threads = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(make_plan, "measure_training", lambda *args, **options: rates)
        patch.setattr(recipe, "draw_loss", lambda run: None)
        shares = iter([0.25, 0.5, 0.875])
        task = Pretraining(
            text=text,
            out=out,
            resolved=resolve(TrainSettings, Layer("test", settings)),
            exam=lambda model, tokenizer: {"zh": next(shares), "rhymes": 1 / 3},
        )
        pretrain(task, recorder=MemoryRecorder())
    torch.use_deterministic_algorithms(False)
    torch.set_num_threads(threads)
    return out


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("timeline")
    words = ["the", "cat", "sat", "on", "a", "mat", "小猫", "在", "花园", "里", "."]
    text = " ".join(words[(7 * i + i * i // 5) % len(words)] for i in range(900))
    (home / "book.txt").write_text(text, encoding="utf-8")
    return train_tiny(home / "book.txt", home / "run", SETTINGS)


@pytest.fixture(scope="module")
def dispatch(run: Path) -> Dispatch:
    return open_lens(run, text="the cat 小猫")


def model_at(run: Path, step: int):
    """The checkpoint of a step, or its snapshot, computed with in fp32 as the lens does."""
    places = (run / folder / f"step-{step:06d}" for folder in ("checkpoints", "snapshots"))
    directory = next(place for place in places if place.is_dir())
    return load_model(load_checkpoint(directory), dtype=torch.float32).eval()


def test_the_curve_names_what_was_saved_and_seen(dispatch: Dispatch) -> None:
    value = dispatch.answer("timeline", {}).value
    assert (
        value["checkpoints"] == [0, 1, 2, 4, 6]
        and value["probes"] == [0, 1, 2, 3, 4, 5, 6]
        and value["texts"] == PROBES
    )
    assert [point["step"] for point in value["curve"]] == [1, 2, 3, 4, 5, 6]
    assert [point["step"] for point in value["curve"] if point["val"] is not None] == [2, 4, 6]
    rows = dispatch.run.read_metrics()
    assert [point["train"] for point in value["curve"]] == [row["loss"] for row in rows if row["kind"] == "train"]


def test_the_exam_is_that_of_metrics_jsonl_part_by_part(run: Path, dispatch: Dispatch) -> None:
    exam = dispatch.answer("timeline", {}).value["exam"]
    assert exam["parts"] == ["zh", "rhymes"]
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    written = [(row["step"], [row["exam_zh"], row["exam_rhymes"]]) for row in rows if row["kind"] == "eval"]
    assert [(row["step"], row["shares"]) for row in exam["rows"]] == written
    assert written == [(2, [0.25, 1 / 3]), (4, [0.5, 1 / 3]), (6, [0.875, 1 / 3])]


def test_what_was_not_asked_is_no_part_of_the_exam() -> None:
    assert list_exam([{"kind": "train", "step": 1, "loss": 3.0}, {"kind": "eval", "step": 1, "loss": 3.0}]) == {
        "parts": [],
        "rows": [],
    }
    rows = [
        {"kind": "eval", "step": 1, "loss": 3.0, "exam_en": None, "exam_zh": 0.5},
        {"kind": "eval", "step": 2, "loss": 3.0},
        {"kind": "eval", "step": 3, "loss": None, "exam_en": 0.25},
    ]
    told = [{"step": 1, "shares": [0.5, None]}, {"step": 3, "shares": [None, 0.25]}]
    assert list_exam(rows) == {"parts": ["zh", "en"], "rows": told}


@given(steps=st.integers(1, 900), most=st.integers(1, 50), every=st.integers(1, 300))
def test_a_drawn_curve_keeps_the_mean_and_every_evaluation(steps: int, most: int, every: int) -> None:
    train = [{"kind": "train", "step": step, "loss": math.sin(step) + 2} for step in range(1, steps + 1)]
    valid = [{"kind": "eval", "step": step, "loss": 1.0 / step} for step in range(every, steps + 1, every)]
    points = draw_curve([*train, *valid], most=most)
    assert len(points) <= most + len(valid) and sum(point["updates"] for point in points) == steps
    mean = sum(point["train"] * point["updates"] for point in points) / steps
    assert mean == pytest.approx(sum(row["loss"] for row in train) / steps)
    assert {point["step"]: point["val"] for point in points if point["val"] is not None} == {
        row["step"]: row["loss"] for row in valid
    }


def test_a_curve_passes_over_losses_that_were_not_finite() -> None:
    rows = [{"kind": "train", "step": 1, "loss": None}, {"kind": "train", "step": 2, "loss": 3.0}]
    assert draw_curve(rows) == [{"step": 2, "train": 3.0, "updates": 1, "val": None}]


@pytest.mark.parametrize("step", [0, 1, 2, 6])
@pytest.mark.parametrize("position", [None, 1])
def test_the_prompt_at_a_checkpoint_is_read_by_that_checkpoint(
    run: Path, dispatch: Dispatch, step: int, position
) -> None:
    at = {"node": 0, "checkpoint": step}
    answer = dispatch.answer("timeline.at", {"at": at, "layer": 1, "head": 1, "position": position} if position else
                         {"at": at, "layer": 1, "head": 1})  # fmt: skip
    model, row = model_at(run, step), torch.tensor(dispatch.ids(0))
    with torch.no_grad():
        taps = record(model, row[None])
    logits_TV = taps["logits"][0]
    place = len(row) - 1 if position is None else position
    np.testing.assert_allclose(answer.arrays["logits"], logits_TV[place], rtol=1e-5, atol=1e-6)
    weights = taps["blocks.1.attention.weights"][0, 1]
    np.testing.assert_allclose(answer.arrays["weights"], weights, rtol=1e-5, atol=1e-6)
    surprise_T = F.cross_entropy(logits_TV[:-1], row[1:], reduction="none")
    np.testing.assert_allclose(answer.arrays["surprise"], surprise_T, rtol=1e-4, atol=1e-6)
    value = answer.value
    assert value["step"] == step and value["loss"] == pytest.approx(surprise_T.mean().item(), rel=1e-5)
    chances = logits_TV[place].double().softmax(-1)
    assert value["top"][0]["p"] == pytest.approx(chances.max().item(), rel=1e-5)
    assert [bar["p"] for bar in value["top"]] == sorted((bar["p"] for bar in value["top"]), reverse=True)


def test_a_probe_says_what_the_model_of_its_step_says(run: Path, dispatch: Dispatch) -> None:
    answer = dispatch.answer("timeline.at", {"at": {"checkpoint": 4}, "text": 1, "layer": 1, "head": 0})
    model, ids = model_at(run, 4), [token["id"] for token in answer.value["tokens"]]
    assert dispatch.tokenizer.decode(ids[1:]) == PROBES[1]
    with torch.no_grad():
        taps = record(model, torch.tensor([ids]))
    logits_TV = taps["logits"][0]
    np.testing.assert_allclose(answer.arrays["logits"], logits_TV[-1], rtol=1e-4, atol=1e-5)
    weights = answer.arrays["weights"]
    assert isinstance(weights, Quantized)
    expected = taps["blocks.1.attention.weights"][0, 0].numpy()
    np.testing.assert_allclose(weights.restore(), expected, atol=weights.scale)


@pytest.mark.parametrize(("text", "steps"), [(None, [0, 1, 2, 4, 6]), (0, [0, 1, 2, 3, 4, 5, 6])])
def test_when_a_token_was_learned(dispatch: Dispatch, text: int | None, steps: list[int]) -> None:
    given_text = {} if text is None else {"text": text}
    top = dispatch.answer("timeline.at", {"at": {}, **given_text}).value["top"][0]
    value = dispatch.answer("timeline.learned", {"at": {}, "id": top["id"], "share": 0.01, **given_text}).value
    assert [row["step"] for row in value["rows"]] == steps
    assert value["rows"][-1]["p"] == pytest.approx(top["p"], rel=1e-9) and value["rows"][-1]["rank"] == 1
    leading = [row["step"] for row in value["rows"] if row["rank"] == 1]
    above = [row["step"] for row in value["rows"] if row["p"] >= 0.01]
    assert value["first_leading"] == leading[0] and value["first_above"] == (above[0] if above else None)


def test_the_map_of_every_step_lies_on_one_plane(run: Path, dispatch: Dispatch) -> None:
    newest = dispatch.answer("timeline.map", {"at": {}})
    older = dispatch.answer("timeline.map", {"at": {"checkpoint": 2}})
    plane_DP = principal_plane(F.normalize(model_at(run, 6).embed.weight.detach().double()).numpy())
    for step, answer in ((6, newest), (2, older)):
        rows = F.normalize(model_at(run, step).embed.weight.detach()).numpy()[answer.arrays["ids"]]
        np.testing.assert_allclose(answer.arrays["xy"], rows @ plane_DP, rtol=1e-5, atol=1e-5)
        share = np.square(rows @ plane_DP).sum() / np.square(rows).sum()
        assert answer.value["explained"] == pytest.approx(share, rel=1e-5) and 0 < share < 1
        assert set(dispatch.ids(0)) <= set(answer.arrays["ids"].tolist())
    seen = dispatch.answer("timeline.map", {"at": {"checkpoint": 6}, "text": 0})
    known = dict(zip(newest.arrays["ids"].tolist(), newest.arrays["xy"].tolist(), strict=True))
    for id, xy in zip(seen.arrays["ids"].tolist(), seen.arrays["xy"].tolist(), strict=True):
        assert xy == pytest.approx(known[id], abs=1e-5)


def test_the_plane_is_the_one_of_most_spread() -> None:
    rows = np.random.default_rng(0).normal(size=(60, 7)) * np.array([1, 5, 1, 1, 3, 1, 1])
    plane_DP = principal_plane(rows)
    _, _, right = np.linalg.svd(rows - rows.mean(0))
    np.testing.assert_allclose(np.abs(plane_DP.T @ right[:2].T), np.eye(2), atol=1e-9)


@pytest.mark.parametrize(
    "wrong", [{"layer": 2}, {"head": -1}, {"position": 99}, {"text": 2}, {"at": {"checkpoint": 3}}]
)
def test_a_moment_that_was_not_kept_says_so(dispatch: Dispatch, wrong: dict) -> None:
    with pytest.raises(RequestError):
        dispatch.answer("timeline.at", {"at": {}, **wrong})


def test_a_token_that_is_none_is_refused(dispatch: Dispatch) -> None:
    with pytest.raises(RequestError):
        dispatch.answer("timeline.learned", {"at": {}, "id": 10_000})


def test_a_model_of_no_run_has_no_timeline_but_the_present(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run / "checkpoints" / "step-000006", tmp_path / "alone")
    alone = open_lens(tmp_path / "alone", text="the cat")
    value = alone.answer("timeline", {}).value
    assert value["run"] is None and value["exam"] == {"parts": [], "rows": []}
    assert alone.answer("timeline.at", {"at": {}}).value["step"] == 6
    assert len(alone.answer("timeline.learned", {"at": {}, "id": 5}).value["rows"]) == 1
    assert alone.answer("training_step.rows", {}).value["rows"] == []
    assert alone.answer("training_step", {"at": {}}).value["compared"] == {}
    with pytest.raises(RequestError, match="kept no probes"):
        alone.answer("timeline.at", {"at": {}, "text": 0})
    with pytest.raises(RequestError, match="training text"):
        alone.answer("training_step", {"at": {}, "row": 0})


def test_rows_that_were_sorted_by_length_are_found_again(tmp_path: Path) -> None:
    rows = [json.dumps({"text": "the cat sat " * (1 + 7 * i % 11)}) for i in range(90)]
    (tmp_path / "rows.jsonl").write_text("\n".join(rows), encoding="utf-8")
    sorted_rows = {"data": {"rows": "documents"}, "batch": {"rows": 4, "pool": 3}}
    model = {**SETTINGS["model"], "context_length": 64}
    run = train_tiny(tmp_path / "rows.jsonl", tmp_path / "run", {**SETTINGS, **sorted_rows, "model": model})
    dispatch = open_lens(run, text="the cat")
    loader = DocumentLoader(open_prepared(run / "data").train, 64, seed=1337, pool=Pool(rows=4, updates=3))
    lines = map(json.loads, (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines())
    read = [line for line in lines if line["kind"] == "train"]
    assert [line["tokens"] for line in read] == [loader.rows(4 * step, 4).ids_BS[:, 1:].numel() for step in range(6)]
    for step in (2, 4):
        batch, shown = (
            loader.rows(4 * step, 4),
            dispatch.answer("training_step.rows", {"checkpoint": step}).value["rows"],
        )
        lengths = (batch.weights_BS[:, 1:] > 0).sum(1).tolist()
        texts = [dispatch.tokenizer.decode(batch.ids_BS[i, : n + 1].tolist()) for i, n in enumerate(lengths)]
        assert [row["text"] for row in shown] == texts


def test_the_rows_of_a_step_are_those_that_the_run_read_next(run: Path, dispatch: Dispatch) -> None:
    rows = dispatch.answer("training_step.rows", {"checkpoint": 2}).value["rows"]
    batch = Loader(open_prepared(run / "data").train, context_length=16, seed=1337).rows(2 * 4, 4)
    assert [row["text"] for row in rows] == [dispatch.tokenizer.decode(ids) for ids in batch.ids_BS.tolist()]
    value = dispatch.answer("training_step", {"at": {"checkpoint": 2}, "row": 1}).value
    assert [token["fed"]["id"] for token in value["tokens"]] == batch.ids_BS[1, :-1].tolist()
    assert [token["target"]["id"] for token in value["tokens"]] == batch.ids_BS[1, 1:].tolist()
    losses = [token["loss_before"] for token in value["tokens"] if token["counts"]]
    model = model_at(run, 2)
    logits_TV = model(batch.ids_BS[1:2, :-1]).logits_BTV[0]
    by_hand = F.cross_entropy(logits_TV, batch.ids_BS[1, 1:], reduction="none") * batch.weights_BS[1, 1:]
    assert sum(losses) == pytest.approx(by_hand.sum().item(), rel=1e-5)
    assert value["compared"]["matrices"] == "muon" and value["compared"]["rows"] == 4


def test_a_run_that_broke_can_still_be_looked_at(run: Path, tmp_path: Path) -> None:
    """Weights that are not finite cannot be kept in bytes; the probe is shown as it is."""
    broken = tmp_path / "broken"
    shutil.copytree(run, broken)
    dispatch = open_lens(broken)
    ids = list(dispatch.tokenizer.encode("the cat").ids)
    model = model_at(run, 6)
    with torch.no_grad():
        model.blocks[0].attention.query.weight.fill_(math.nan)
    arrays = {f"0.{name}": array for name, array in see(model, ids).items()}
    save_probe(broken, 6, pack_probe(6, [{"text": "the cat", "ids": ids}], arrays))
    answer = dispatch.answer("timeline.at", {"at": {"checkpoint": 6}, "text": 0})
    assert np.isnan(answer.arrays["weights"]).any()
