"""A compiled step is used only where it agrees with the eager one. No compiler is needed here: steps are handed in."""

from __future__ import annotations

import json
import math
import os
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from pellucid.data.batch import Batch
from pellucid.data.objectives.causal import Causal
from pellucid.errors import ResumeError, SettingsError
from pellucid.events import MemoryRecorder
from pellucid.model.build import build
from pellucid.planning.config import ModelConfig
from pellucid.planning.layout import optimizer_groups
from pellucid.store.checkpoint import load_checkpoint
from pellucid.store.run import Run
from pellucid.training import compiled, compiler, settle
from pellucid.training.arena import Arena
from pellucid.training.loop import Pace, Trainer
from pellucid.training.recipes import pretrain as recipe
from pellucid.training.recipes.pretrain import pretrain
from pellucid.training.settings import OptimizerSettings, ScheduleSettings

CONFIG = ModelConfig(
    vocab_size=11, context_length=7, n_layers=2, n_heads=2, n_kv_heads=1, head_dim=4, d_model=8, d_ff=12
)
BOTH = pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
BESIDE_ZEROS = "blocks.0.attention.value.weight"  # what follows it starts at zero, and so does its gradient
Spoil = Callable[[Tensor], Tensor]


def make_trainer(rows, dtype: torch.dtype, *, compiled: bool = True, micro_rows: int = 4, **options) -> Trainer:
    return Trainer(
        build(CONFIG.revise(**options.pop("config", {})), seed=3),
        rows,
        Pace(steps=20, rows=4, micro_rows=micro_rows),
        objective=Causal(),
        optimizer=OptimizerSettings(),
        schedule=ScheduleSettings(),
        seed=5,
        compute_dtype=dtype,
        compiled=compiled,
        **options,
    )


def spoiled(eager, name: str, spoil: Spoil, *, when: Callable[[Tensor], bool] = lambda ids_BT: True):
    """The eager step, but the gradient of one parameter (or the loss) comes out otherwise."""
    model = eager.__self__.model

    def step(batch: Batch) -> Tensor:
        loss = eager(batch)
        if not when(batch.ids_BT):
            return loss
        if name == "loss":
            return spoil(loss)

        def once(gradient: Tensor) -> Tensor:
            handle.remove()
            return spoil(gradient)

        handle = dict(model.named_parameters())[name].register_hook(once)
        return loss

    return step


@pytest.fixture
def compile_as(monkeypatch):
    """Hand in what compiling gives: a function of the eager step and the march; returns the marches asked for."""

    def hand_in(make) -> list[str]:
        asked: list[str] = []

        def compile_with_torch(eager, march, recorder):
            asked.append(march)
            return make(eager, march)

        monkeypatch.setattr(compiled, "compile_with_torch", compile_with_torch)
        return asked

    return hand_in


def one_entry(gradient: Tensor) -> Tensor:
    wrong = gradient.clone()
    wrong.view(-1)[1] += 0.3 * torch.linalg.vector_norm(gradient.float())
    return wrong


SPOILS: dict[str, tuple[str, Spoil]] = {
    "half again too large": (BESIDE_ZEROS, lambda gradient: gradient * 1.5),
    "of the other sign": ("blocks.1.mlp.down.weight", lambda gradient: -gradient),
    "missing": ("blocks.1.attention.key_norm.weight", torch.zeros_like),
    "one entry": ("embed.weight", one_entry),
    "NaN": ("blocks.0.attention.key_norm.weight", lambda gradient: gradient * math.nan),
    "infinite": ("final_norm.weight", lambda gradient: gradient + math.inf),
    "a wrong loss": ("loss", lambda loss: loss * 1.01),
    "a loss of NaN": ("loss", lambda loss: loss * math.nan),
}


@BOTH
@pytest.mark.parametrize("kind", SPOILS)
def test_one_wrong_answer_is_refused_by_name_and_the_run_goes_on_eagerly(kind, dtype, rows_of, compile_as) -> None:
    name, spoil = SPOILS[kind]
    compile_as(lambda eager, march: spoiled(eager, name, spoil))
    one, eager = make_trainer(rows_of(), dtype), make_trainer(rows_of(), dtype, compiled=False)
    fault = one.settle(march=None)
    assert (name if name != "loss" else "the loss") in fault
    assert one.loss == one._loss
    assert [one.update() for _ in range(3)] == [eager.update() for _ in range(3)]
    assert torch.equal(one.arena.master, eager.arena.master)


def test_in_float32_a_hundredth_is_found(rows_of, compile_as) -> None:
    compile_as(lambda eager, march: spoiled(eager, BESIDE_ZEROS, lambda gradient: gradient * 1.01))
    assert BESIDE_ZEROS in make_trainer(rows_of(), torch.float32).settle(march=None)


@BOTH
def test_a_right_step_is_used_and_nothing_of_the_run_changes(dtype, rows_of, compile_as) -> None:
    calls: list[torch.Size] = []

    def counted(eager, march):
        return lambda batch: calls.append(batch.ids_BT.shape) or eager(batch)

    compile_as(counted)
    one, eager = make_trainer(rows_of(), dtype), make_trainer(rows_of(), dtype, compiled=False)
    [one.update(), eager.update()]
    one.model.eval()
    blocks = {name: value.clone() for name, value in vars(one.arena).items() if isinstance(value, Tensor)}
    drawn = torch.get_rng_state(), random.getstate(), np.random.get_state()
    assert one.settle(march=None) == ""
    assert torch.equal(drawn[0], torch.get_rng_state()) and drawn[1] == random.getstate()
    assert np.array_equal(drawn[2][1], np.random.get_state()[1])
    assert all(torch.equal(before, getattr(one.arena, name)) for name, before in blocks.items())
    assert (one.step, one.optimizer.updates, one.skipped, one.model.training) == (1, 1, [], False)
    tried = len(calls)
    assert [one.update() for _ in range(3)] == [eager.update() for _ in range(3)]
    assert len(calls) == tried + 3 and torch.equal(one.arena.master, eager.arena.master)
    views = dict(one.arena.named(one.arena.weights))
    assert all(p.data_ptr() == views[name].data_ptr() for name, p in one.model.named_parameters())


@BOTH
def test_a_step_in_other_arithmetic_is_believed(dtype, rows_of, compile_as) -> None:
    """What a compiler may do: keep more digits between operations than torch does, and add in another order."""

    def wider(eager, march):
        def step(batch):
            return sum(eager(part.map(lambda column: column.flip(0))) for part in batch.split(batch.num_rows))

        return step

    compile_as(wider)
    assert make_trainer(rows_of(), dtype).settle(march=None) == ""


def test_a_gradient_that_is_nothing_but_rounding_refuses_no_step(rows_of, compile_as) -> None:
    """Attention does not change when all keys move alike: without rotation the gradient of their bias is exactly zero."""
    shape = {"qkv_bias": True, "position": "learned", "qk_norm": False, "norm": "layer"}

    def in_halves(eager, march):
        return lambda batch: sum(eager(half) for half in batch.split(2))

    compile_as(in_halves)
    for dtype in (torch.float32, torch.bfloat16):
        assert make_trainer(rows_of(), dtype, config=shape).settle(march=None) == ""


def test_a_new_shape_is_asked_again_and_is_eager_alone_when_it_is_wrong(rows_of, compile_as) -> None:
    recorder, asked = MemoryRecorder(), []

    def wrong_for_two_rows(eager, march):
        bad = spoiled(eager, BESIDE_ZEROS, lambda g: g * 2, when=lambda ids_BT: len(ids_BT) == 2)
        return lambda batch: asked.append(batch.num_rows) or bad(batch)

    compile_as(wrong_for_two_rows)
    one, eager = (
        make_trainer(rows_of(), torch.float32, recorder=recorder),
        make_trainer(rows_of(), torch.float32, compiled=False),
    )
    assert one.settle(march=None) == ""
    for micro_rows in (4, 2, 4, 2, 1):
        one.pace = eager.pace = Pace(steps=20, rows=4, micro_rows=micro_rows)
        assert one.update() == eager.update()
    assert torch.equal(one.arena.master, eager.arena.master)
    assert asked.count(2) == 1 and asked.count(4) == 3  # compared once each; then used, or not
    [event] = [event for event in recorder.events if event.name == "training.eager"]
    assert "2 x 7" in event.message and BESIDE_ZEROS in event.message


def test_without_settling_the_first_update_asks(rows_of, compile_as) -> None:
    compile_as(lambda eager, march: spoiled(eager, "loss", lambda loss: loss * 2))
    one, eager = make_trainer(rows_of(), torch.float32), make_trainer(rows_of(), torch.float32, compiled=False)
    assert one.update() == eager.update()


def test_all_weights_zero_hide_nothing(rows_of, compile_as) -> None:
    class Unweighted(rows_of):
        def rows(self, start, count):
            rows = super().rows(start, count)
            rows.weights_BS.zero_()
            return rows

    compile_as(lambda eager, march: spoiled(eager, BESIDE_ZEROS, lambda g: g * 2))
    assert BESIDE_ZEROS in make_trainer(Unweighted(), torch.float32).settle(march=None)


@pytest.mark.parametrize(("kind", "found"), [("half again too large", True), ("NaN", True), ("honest", False)])
def test_dropout_is_left_out_of_the_comparison(kind, found, rows_of, compile_as) -> None:
    """Masks differ between the two even from one seed; a step that is right in its own masks is believed."""
    name, spoil = SPOILS.get(kind, (BESIDE_ZEROS, lambda gradient: gradient))

    def other_masks(eager, march):
        step = spoiled(eager, name, spoil)
        return lambda batch: torch.rand(3) is not None and step(batch)

    compile_as(other_masks)
    one = make_trainer(rows_of(), torch.float32, config={"dropout": 0.2})
    assert (name in one.settle(march=None)) == found


def test_a_step_broken_with_dropout_alone_is_refused(rows_of, compile_as) -> None:
    def broken(eager, march):
        bad = spoiled(eager, BESIDE_ZEROS, lambda g: g * math.nan)
        return lambda batch: (bad if eager.__self__.model.training else eager)(batch)

    compile_as(broken)
    assert BESIDE_ZEROS in make_trainer(rows_of(), torch.float32, config={"dropout": 0.2}).settle(march=None)


def test_a_compiler_that_fails_is_a_reason_and_leaves_the_run_as_it_was(rows_of, compile_as) -> None:
    def fails(eager, march):
        def step(batch):
            torch.rand(1)
            raise RuntimeError("no C++ compiler\nand a long trace")

        return step

    asked = compile_as(fails)
    one, eager = make_trainer(rows_of(), torch.bfloat16), make_trainer(rows_of(), torch.bfloat16, compiled=False)
    assert one.settle(march="native", others=("two",)) == "no C++ compiler"
    assert asked == ["native"]  # where nothing compiles, another processor does not help
    assert one.update() == eager.update() and torch.equal(one.arena.master, eager.arena.master)


def test_a_name_that_the_compiler_does_not_know_is_passed_over(rows_of, compile_as, monkeypatch) -> None:
    def compile_one(eager, march):
        if march == "native":
            return eager
        raise RuntimeError("C++ compile error\n\nCommand:\ng++ x.cpp\n\nOutput:\ncc1plus: error: bad value 'z80'")

    compile_as(compile_one)
    monkeypatch.setenv(compiler.MARCH_VARIABLE, "z80")
    one = make_trainer(rows_of(), torch.float32)
    assert "bad value 'z80'" in one.settle(march=None)
    assert one.settle(march="z80", others=("native",)) == ""


def test_code_for_a_processor_that_this_one_may_not_be_is_never_run(rows_of, compile_as, monkeypatch) -> None:
    """A run may have been begun on another machine; instructions that are not there end the process."""
    asked = compile_as(lambda eager, march: eager)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True}, raising=False)
    monkeypatch.delenv(compiler.MARCH_VARIABLE, raising=False)
    for march in ("cascadelake", "sapphirerapids"):
        fault = make_trainer(rows_of(), torch.float32).settle(march=march)
        assert march in fault and compiler.MARCH_VARIABLE in fault
    assert asked == []
    monkeypatch.setenv(compiler.MARCH_VARIABLE, "sapphirerapids")
    assert make_trainer(rows_of(), torch.float32).settle(march="sapphirerapids") == "" and asked == ["sapphirerapids"]


def test_too_little_memory_for_the_comparison_is_a_reason(rows_of, compile_as, monkeypatch) -> None:
    compile_as(lambda eager, march: eager)
    monkeypatch.setattr(compiled, "BYTES_PER_WEIGHT", 2**60)
    assert "are free" in make_trainer(rows_of(), torch.float32).settle(march=None)


@pytest.mark.parametrize(
    ("right", "seconds", "asked"),
    [
        ({"one", "two", "three"}, math.inf, ["one"]),
        ({"two", "three"}, math.inf, ["one", "two"]),
        ({"three"}, math.inf, ["one", "two", "three"]),
        (set(), math.inf, ["one", "two", "three"]),
        ({"two"}, 0.0, ["one"]),
    ],
)
def test_other_processors_are_tried_while_it_pays(right, seconds, asked, rows_of, compile_as, monkeypatch) -> None:
    recorder = MemoryRecorder()
    tried = compile_as(lambda eager, march: eager if march in right else spoiled(eager, "loss", lambda loss: -loss))
    one = make_trainer(rows_of(), torch.float32, recorder=recorder)
    monkeypatch.setattr(compiled, "can_run", lambda march: True)
    fault = one.settle(march="one", others=("two", "three"), seconds=seconds)
    assert tried == asked and (fault == "") == (asked[-1] in right) and one.compiled.march == asked[-1]
    assert recorder.names().count("training.disagrees") == len(asked) - 1


def test_an_arena_gives_its_model_back() -> None:
    model = build(CONFIG, seed=1)
    first = Arena(model, torch.bfloat16, optimizer_groups(CONFIG))
    Arena(model, torch.float64, optimizer_groups(CONFIG))
    assert model.embed.weight.dtype == torch.float64
    first.attach(model)
    views = dict(first.named(first.weights)), dict(first.named(first.gradients))
    for name, parameter in model.named_parameters():
        assert (
            parameter.data_ptr() == views[0][name].data_ptr() and parameter.grad.data_ptr() == views[1][name].data_ptr()
        )


# The choice in a run


@pytest.fixture
def book(tmp_path: Path, prose) -> Path:
    path = tmp_path / "book.txt"
    path.write_text(prose(600), encoding="utf-8")
    return path


@pytest.fixture
def others(monkeypatch) -> None:
    monkeypatch.delenv(compiler.MARCH_VARIABLE, raising=False)
    monkeypatch.setattr(settle, "other_marches", lambda march: ("second", "third"))
    monkeypatch.setattr(compiled, "can_run", lambda march: True)


def wrong_for(*marches: str):
    return lambda eager, march: spoiled(eager, BESIDE_ZEROS, lambda g: g * 2) if march in marches else eager


def stop_after(step: int, monkeypatch) -> None:
    honest = recipe.Session._after_step
    monkeypatch.setattr(recipe.Session, "_after_step", lambda self, report: honest(self, report) and report.step < step)


def plan_of(out: Path) -> dict:
    return json.loads((out / "run.json").read_text())["plan"]


def test_the_choice_is_kept_in_the_plan_and_asked_again(book, tmp_path, task, quick, others, compile_as, monkeypatch):
    asked = compile_as(wrong_for("native"))
    with monkeypatch.context() as here:
        stop_after(3, here)
        pretrain(task(book, tmp_path / "run", compile="on"))
    assert asked == ["native", "second"]
    assert (plan_of(tmp_path / "run")["compiled"], plan_of(tmp_path / "run")["march"]) == (True, "second")
    asked.clear()
    recorder = MemoryRecorder()
    pretrain(task(book, tmp_path / "run", compile="on"), recorder=recorder)
    assert asked == ["second"] and "training.other_fingerprint" not in recorder.names()
    pretrain(task(book, tmp_path / "eager"))
    weights = [load_checkpoint(tmp_path / name / "checkpoints/step-000006").weights for name in ("run", "eager")]
    assert all(torch.equal(tensor, weights[1][name]) for name, tensor in weights[0].items())


def test_what_fails_on_going_on_is_eager_with_a_warning(book, tmp_path, task, quick, others, compile_as, monkeypatch):
    asked = compile_as(wrong_for())
    with monkeypatch.context() as here:
        stop_after(3, here)
        pretrain(task(book, tmp_path / "run", compile="on"))
    asked = compile_as(wrong_for("native"))
    with pytest.raises(ResumeError, match="to the bit") as refused:
        pretrain(recipe.Pretraining(**{**vars(task(book, tmp_path / "run", compile="on")), "require_exact": True}))
    assert "compiled: True then, False now" in refused.value.found and asked == ["native"]
    recorder = MemoryRecorder()
    assert pretrain(task(book, tmp_path / "run", compile="on"), recorder=recorder).reason == "finished"
    told = {event.name: event for event in recorder.events}
    assert BESIDE_ZEROS in told["training.eager"].message and told["training.eager"].level == "warning"
    assert told["training.other_fingerprint"].level == "warning"
    assert plan_of(tmp_path / "run")["compiled"]  # elsewhere it may be right again


def test_a_run_from_before_the_choice_was_kept_goes_on(book, tmp_path, task, quick, others, compile_as, monkeypatch):
    asked = compile_as(wrong_for())
    with monkeypatch.context() as here:
        stop_after(3, here)
        pretrain(task(book, tmp_path / "run", compile="on"))
    run = Run.open(tmp_path / "run")
    plan = {key: value for key, value in run.identity["plan"].items() if key != "march"}
    with run.lock():
        run.update_identity({**run.identity, "plan": plan})
    asked.clear()
    pretrain(recipe.Pretraining(**{**vars(task(book, tmp_path / "run", compile="on")), "require_exact": True}))
    assert asked == ["native"]


def test_compiling_can_be_switched_off_in_a_run(book, tmp_path, task, quick, others, compile_as, monkeypatch):
    asked = compile_as(wrong_for())
    with monkeypatch.context() as here:
        stop_after(3, here)
        pretrain(task(book, tmp_path / "run", compile="on"))
    asked.clear()
    recorder = MemoryRecorder()
    pretrain(task(book, tmp_path / "run", compile="off"), recorder=recorder)
    assert not asked and "training.other_fingerprint" in recorder.names()


@pytest.mark.parametrize("asked_for", ["on", "auto"])
def test_wrong_everywhere_is_eager_in_one_line(asked_for, book, tmp_path, task, quick, others, compile_as, monkeypatch):
    monkeypatch.setattr("pellucid.training.plan.COMPILE_SECONDS", 0.0)
    asked = compile_as(wrong_for("native", "second", "third"))
    recorder = MemoryRecorder()
    finished = pretrain(task(book, tmp_path / "run", compile=asked_for), recorder=recorder)
    assert finished.reason == "finished" and not plan_of(tmp_path / "run")["compiled"]
    # Without being told to, a run spends no more on other tries than compiling would have saved: here, nothing.
    assert asked == (["native", "second", "third"] if asked_for == "on" else ["native"])
    [event] = [event for event in recorder.events if event.name == "training.eager"]
    assert BESIDE_ZEROS in event.message and (event.level == "warning") == (asked_for == "on")


@pytest.mark.parametrize("asked_for", ["on", "auto"])
def test_no_compiler_at_all_is_an_error_where_one_was_asked_for(
    asked_for, book, tmp_path, task, quick, others, compile_as, monkeypatch
):
    monkeypatch.setattr("pellucid.training.plan.COMPILE_SECONDS", 0.0)

    def none(eager, march):
        raise RuntimeError("No working C++ compiler found")

    compile_as(none)
    recorder = MemoryRecorder()
    if asked_for == "on":
        with pytest.raises(SettingsError, match="does not work here"):
            pretrain(task(book, tmp_path / "run", compile="on"))
        asked_for = "auto"  # the directory can still be used
    assert pretrain(task(book, tmp_path / "run", compile=asked_for), recorder=recorder).reason == "finished"
    assert "training.eager" in recorder.names()


# Where compiled steps are kept


def test_the_folder_is_named_by_all_that_the_code_depends_on(monkeypatch) -> None:
    names = [compiler.cache_name("native"), compiler.cache_name("cascadelake")]
    for where, name, value in (
        (torch.backends.cpu, "get_cpu_capability", lambda: "AVX2 of a test"),
        (compiler, "compiler_name", lambda: "g++ 99.1"),
        (compiler, "_answer", lambda *arguments: f"taken for another {arguments[0]}"),
    ):
        with monkeypatch.context() as here:
            here.setattr(where, name, value)
            names.append(compiler.cache_name("native"))
    assert len(set(names)) == len(names) and compiler.cache_name("native") == names[0]
    assert "cascadelake" in names[1] and "avx2-of-a-test" in names[2] and "g++-99.1" in names[3]
    assert all(name == Path(name).name for name in names)


def test_the_folder_lies_where_the_environment_says(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv(compiler.CACHE_VARIABLE, str(tmp_path))
    monkeypatch.setattr(compiler, "CHOSEN_CACHE", str(tmp_path))
    folder = compiler.use_cache_of("native", MemoryRecorder())
    assert folder == tmp_path / compiler.cache_name("native") and folder.is_dir()
    assert os.environ[compiler.CACHE_VARIABLE] == str(folder)
    monkeypatch.setattr(compiler, "CHOSEN_CACHE", str(folder))  # as a child process finds it
    assert compiler.use_cache_of("native", MemoryRecorder()) == folder


def test_a_folder_that_cannot_be_written_is_named_with_the_variable_to_set(tmp_path, monkeypatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv(compiler.CACHE_VARIABLE, "")
    monkeypatch.setattr(compiler, "CHOSEN_CACHE", str(tmp_path / "file"))
    recorder = MemoryRecorder()
    folder = compiler.use_cache_of("native", recorder)
    [event] = recorder.events
    assert folder.is_dir() and str(tmp_path / "file") in event.message and compiler.CACHE_VARIABLE in event.message


def test_other_processors_are_ones_whose_instructions_are_there(monkeypatch) -> None:
    monkeypatch.setattr(compiler.platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(compiler.sys, "platform", "linux")
    haswell = dict.fromkeys(
        ["avx2", "fma3", "f16c", "bmi", "bmi2", "lzcnt", "popcnt", "sse4_1", "sse4_2", "ssse3"], True
    )
    every = haswell | dict.fromkeys(
        ["avx512_f", "avx512_bw", "avx512_cd", "avx512_dq", "avx512_vl", "avx512_vnni"], True
    )
    for has, march, expected in (
        (every, "native", ("cascadelake", "haswell")),
        (every, "cascadelake", ("haswell", "nehalem")),
        (haswell | {"avx512_f": False, "l1d_cache_size": 32768}, "native", ("haswell", "nehalem")),
        ({"sse2": True}, "native", ()),
    ):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda has=has: has, raising=False)
        assert compiler.other_marches(march) == expected
    monkeypatch.setattr(compiler.platform, "machine", lambda: "arm64")
    assert compiler.other_marches("native") == ()
