"""Probes: what a run looked at while it trained, within its budgets, and without changing what it learned."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from pellucid.cli.common import Common
from pellucid.cli.train import settings_of
from pellucid.errors import CorruptFileError, SettingsError
from pellucid.events import MemoryRecorder
from pellucid.store.checkpoint import load_checkpoint, load_model
from pellucid.store.probes import list_probes, load_probe
from pellucid.store.run import Run
from pellucid.training import probe as probing
from pellucid.training.metrics import without_wall_clock
from pellucid.training.moments import due_steps, thin_out
from pellucid.training.probe import Probes, see
from pellucid.training.recipes.pretrain import pretrain
from pellucid.training.settings import ProbeSettings

pytestmark = pytest.mark.usefixtures("quick")
TEXTS = ["the cat sat", "小猫在花园里"]
GENEROUS = {"texts": TEXTS, "seconds_share": 1.0}


@pytest.fixture
def book(tmp_path: Path, prose) -> Path:
    path = tmp_path / "book.txt"
    path.write_text(prose(900), encoding="utf-8")
    return path


@given(steps=st.integers(1, 100_000), every=st.none() | st.integers(1, 5000))
def test_a_run_is_looked_at_from_before_its_first_step_to_after_its_last(steps: int, every: int | None) -> None:
    due = due_steps(steps, every=every)
    assert due[0] == 0 and due[-1] == steps and due == sorted(set(due))
    if every is None:
        assert len(due) <= 60 and due[1] == 1


@given(count=st.integers(1, 80), most=st.integers(-3, 90))
def test_thinning_keeps_the_ends_and_never_more_than_fit(count: int, most: int) -> None:
    steps = list(range(count))
    kept = thin_out(steps, most)
    assert len(kept) == min(count, max(0, most)) and kept == sorted(set(kept)) and set(kept) <= set(steps)
    if len(kept) > 1:
        assert kept[0] == 0 and kept[-1] == count - 1


def test_a_probe_holds_what_the_model_said_at_its_step(book: Path, tmp_path: Path, task) -> None:
    finished = pretrain(task(book, tmp_path / "run", precision="fp32", probe=GENEROUS))
    saved = list_probes(tmp_path / "run")
    assert [one.step for one in saved] == [0, 1, 2, 3, 4, 5, 6]
    probe, model = load_probe(saved[-1]), load_model(load_checkpoint(finished.checkpoint)).eval()
    assert [text["text"] for text in probe.value["texts"]] == TEXTS
    for number, text in enumerate(probe.value["texts"]):
        row = torch.tensor(text["ids"])
        with torch.no_grad():
            logits_TV = model(row[None]).logits_BTV[0]
        surprise_T = F.cross_entropy(logits_TV[:-1], row[1:], reduction="none")
        np.testing.assert_allclose(probe.arrays[f"{number}.logits"], logits_TV[-1], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(probe.arrays[f"{number}.surprise"], surprise_T, rtol=1e-4, atol=1e-5)
        np.testing.assert_array_equal(probe.arrays[f"{number}.guess"], logits_TV.argmax(-1))
        np.testing.assert_array_equal(probe.arrays[f"{number}.embed"], model.embed.weight[row].detach())
        weights = probe.arrays[f"{number}.weights"]
        assert weights.stored.shape == (2, 2, len(row), len(row))
        np.testing.assert_allclose(weights.restore().sum(-1), 1.0, atol=len(row) * weights.scale)
    assert not np.array_equal(load_probe(saved[0]).arrays["0.logits"], probe.arrays["0.logits"])


def test_looking_changes_nothing_that_is_learned(book: Path, tmp_path: Path, task) -> None:
    dropout = {"n_layers": 2, "d_model": 16, "n_heads": 2, "n_kv_heads": 1, "head_dim": 8, "d_ff": 24, "dropout": 0.2}
    for name, probe in (("plain", {}), ("seen", GENEROUS)):
        pretrain(task(book, tmp_path / name, model=dropout, probe=probe))
    plain, seen = (Run.open(tmp_path / name) for name in ("plain", "seen"))
    rows = [[without_wall_clock(row) for row in run.read_metrics()] for run in (plain, seen)]
    assert rows[0] == rows[1] and list_probes(plain.path) == [] and list_probes(seen.path)
    weights = [load_checkpoint(run.latest().directory).weights for run in (plain, seen)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_a_run_without_probes_never_looks(book: Path, tmp_path: Path, task, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probing, "see", lambda *args: pytest.fail("looked"))
    pretrain(task(book, tmp_path / "run"))
    assert not (tmp_path / "run" / "probes").exists()


def test_a_run_that_goes_on_sees_what_an_uninterrupted_one_saw(book: Path, tmp_path: Path, task) -> None:
    pretrain(task(book, tmp_path / "whole", steps=6, schedule={"cooldown_share": 0}, probe=GENEROUS))
    pretrain(task(book, tmp_path / "cut", steps=4, schedule={"cooldown_share": 0}, probe=GENEROUS))
    longer = task(book, tmp_path / "cut", steps=6, schedule={"cooldown_share": 0}, probe=GENEROUS)
    run = Run.open(tmp_path / "cut")
    run.use(next(one for one in run.checkpoints() if one.step == 2))  # steps 3 and 4 are forgotten, and seen again
    pretrain(type(longer)(text=longer.text, out=longer.out, resolved=longer.resolved, extend=True))
    whole, cut = list_probes(tmp_path / "whole"), list_probes(tmp_path / "cut")
    assert [one.step for one in whole] == [one.step for one in cut] == list(range(7))
    assert all(a.path.read_bytes() == b.path.read_bytes() for a, b in zip(whole, cut, strict=True))


class Clock:
    """Every look takes one second."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 0.5
        return self.now - self.now % 1


def opened(tmp_path: Path, model, settings: ProbeSettings, recorder: MemoryRecorder, **changes) -> Probes:
    class Letters:
        def encode_prompt(self, text: str) -> list[int]:
            return [ord(letter) % 20 for letter in text]

    options = {"start": 0, "steps": 100, "estimated_seconds": 100.0, "recorder": recorder, "clock": Clock()}
    return Probes(tmp_path, model, Letters(), settings, **(options | changes))


@pytest.fixture
def model():
    from pellucid.model.build import build
    from pellucid.planning.config import ModelConfig

    config = ModelConfig(
        vocab_size=23, context_length=12, n_layers=2, n_heads=4, n_kv_heads=2, head_dim=6, d_model=20, d_ff=31
    )
    return build(config, seed=0)


def test_looks_stay_within_their_share_of_the_time(tmp_path: Path, model) -> None:
    recorder = MemoryRecorder()
    probes = opened(tmp_path, model, ProbeSettings(texts=("hello",), seconds_share=0.1, every_steps=2), recorder)
    for step in range(101):  # each step takes a second of training, each look a second more
        probes.look(step, step + probes.seconds)
    probes.close()
    [event] = [event for event in recorder.events if event.name == "training.probed"]
    assert 0.05 < event.data["share"] <= 0.1
    assert len(event.data["kept"]) + len(event.data["skipped"]) == 51 and event.data["skipped"]
    assert [saved.step for saved in list_probes(tmp_path)] == event.data["kept"]
    assert max(event.data["kept"]) > 80, "nothing was left for the end of the run"


def test_looks_stay_within_their_bytes(tmp_path: Path, model) -> None:
    one = opened(tmp_path / "one", model, ProbeSettings(texts=("hello",), seconds_share=1.0), MemoryRecorder())
    (tmp_path / "one").mkdir()
    one.look(0, 0.0)
    recorder, cap = MemoryRecorder(), 5 * one.num_bytes + 100
    (tmp_path / "run").mkdir()
    settings = ProbeSettings(texts=("hello",), seconds_share=1.0, max_bytes=cap)
    probes = opened(tmp_path / "run", model, settings, recorder, clock=lambda: 0.0)
    for step in range(101):
        probes.look(step, float(step))
    saved = list_probes(tmp_path / "run")
    assert len(saved) == 5 and saved[0].step == 0 and saved[-1].step == 100
    assert sum(file.num_bytes for file in saved) <= cap
    [event] = [event for event in recorder.events if event.name == "training.probes_thinned"]
    assert event.data["fitting"] == 5 and event.data["due"] > 5


@pytest.mark.parametrize("settings", [{"max_bytes": 10}, {"seconds_share": 0.0}, {"estimated_seconds": 4.0}])
def test_no_budget_means_no_files(tmp_path: Path, model, settings: dict) -> None:
    """Nor does a run of four seconds, of which two hundredths are less than a look is taken to cost."""
    estimated = settings.pop("estimated_seconds", 100.0)
    probe = ProbeSettings(texts=("hello",), **settings)
    probes = opened(tmp_path, model, probe, MemoryRecorder(), estimated_seconds=estimated)
    probes.look(0, 0.0)
    assert list_probes(tmp_path) == [] and probes.kept == []


@pytest.mark.parametrize("text", ["a", "a text that the model cannot hold"])
def test_a_text_that_cannot_be_a_probe_is_refused_before_training(tmp_path: Path, model, text: str) -> None:
    with pytest.raises(SettingsError, match="cannot be a probe"):
        opened(tmp_path, model, ProbeSettings(texts=(text,)), MemoryRecorder())


def test_half_precision_numbers_are_kept_exactly(model) -> None:
    model = model.to(torch.bfloat16)
    assert (see(model, [1, 2, 3])["embed"] == model.embed.weight[[1, 2, 3]].float().detach().numpy()).all()


def test_a_later_format_is_refused(tmp_path: Path, model) -> None:
    probes = opened(tmp_path, model, ProbeSettings(texts=("hello",), seconds_share=1.0), MemoryRecorder())
    probes.look(0, 0.0)
    [saved] = list_probes(tmp_path)
    saved.path.write_bytes(saved.path.read_bytes().replace(b'"format":1', b'"format":7'))
    with pytest.raises(CorruptFileError):
        load_probe(saved)


def test_the_flag_may_be_repeated_and_texts_keep_their_commas() -> None:
    common = Common(device="auto", threads=None, seed=None, as_json=False)
    probe = settings_of(common, None, (), {"probe": ("one, two", "three")}).settings.probe
    assert probe.texts == ("one, two", "three")
    assert settings_of(common, None, (), {"probe": ()}).settings.probe.texts == ()


def test_checkpoints_may_be_kept_at_regular_steps_for_later_comparison(book: Path, tmp_path: Path, task) -> None:
    saving = {"every_steps": 1, "keep_last": 1, "keep_every": 2, "keep_best": False}
    pretrain(task(book, tmp_path / "run", steps=5, saving=saving))
    assert [saved.step for saved in Run.open(tmp_path / "run").checkpoints()] == [2, 4, 5]
