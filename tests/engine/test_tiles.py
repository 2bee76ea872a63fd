"""Products through tiles: their written order, the code that is emitted, and how they are chosen or given up.

Where the processor has tiles they are compared with their slow twin; elsewhere that is skipped. The room's tests of exactness
use whatever arithmetic the processor has.

Axes: M rows of activations · N outputs · K inputs.
"""

from __future__ import annotations

from functools import partial

import llvmlite.binding as llvm
import numpy as np
import pytest
from kernel_models import make
from llvmlite import ir
from numba import types

from pellucid.engine.runners import kernel_runner
from pellucid.engine.runners.kernel_runner import build_kernel_runner
from pellucid.engine.runners.kernels.arithmetic import BF16_TILES, DOT, find_arithmetics
from pellucid.engine.runners.kernels.emit import Product, emit_dot_block
from pellucid.engine.runners.kernels.launch import tiles_agree
from pellucid.engine.runners.kernels.tile_order import TRIALS, fused, make_trial, multiply_in_order, rounded, widened
from pellucid.engine.runners.kernels.tiles import emit_begin, emit_grouped_block, emit_tile_block, emit_turned
from pellucid.events import MemoryRecorder
from pellucid.processor import TILES, Processor, find_processor

STORED = [np.uint16(0), np.int8(0), np.uint8(0)]
TINY = 2.0**-126
HAS_TILES = BF16_TILES in find_arithmetics("bf16", find_processor())


@pytest.mark.skipif(not HAS_TILES, reason="this processor has no tile instructions, or the system does not permit them")
@pytest.mark.parametrize("kind", STORED, ids=["bf16", "int8", "int4"])
def test_this_processor_adds_in_the_written_order(kind):
    assert tiles_agree((kind, kind))


def one_by_one(w_K: np.ndarray, x_K: np.ndarray) -> float:
    """One sum in plain numbers, as the manual of the processor states it, for inputs that need no flushing."""
    total = np.float32(0)
    for start in range(0, len(w_K), 32):
        even, odd = np.float32(0), np.float32(0)
        for k in range(start, min(start + 32, len(w_K)), 2):
            even = np.float32(float(even) + float(w_K[k]) * float(x_K[k]))
            if k + 1 < len(w_K):
                odd = np.float32(float(odd) + float(w_K[k + 1]) * float(x_K[k + 1]))
        total = total + (even + odd)
    return float(total)


def test_the_twin_adds_as_one_would_by_hand():
    random = np.random.default_rng(4)
    w_NK, x_MK = (widened(random.integers(0x3E00, 0x4100, (3, 83)).astype(np.uint16)) for _ in range(2))
    expected = [[one_by_one(w_K, x_K) for w_K in w_NK] for x_K in x_MK]
    assert multiply_in_order(w_NK, x_MK).tolist() == expected
    assert multiply_in_order(w_NK, x_MK)[1, 2] != np.float32(w_NK[2] @ x_MK[1]), "another order gives other bits"


def test_what_is_too_small_for_the_normal_form_is_nothing():
    one, tiny, below = (np.array([[number]], np.float32) for number in (1, TINY, TINY / 2))
    assert multiply_in_order(tiny, one)[0, 0] == TINY
    assert multiply_in_order(below, one)[0, 0] == 0 and multiply_in_order(tiny, one / 2)[0, 0] == 0
    edge = TINY * np.array([1 - 2.0**-25, 1 - 2.0**-24, -(1 - 2.0**-24)])  # rounded up to it, or lost
    assert rounded(edge).tolist() == [TINY, 0, 0] and np.signbit(rounded(edge)).tolist() == [False, False, True]


def test_a_scaled_group_is_rounded_once():
    """1 + 2⁻²⁴ + 2⁻⁶⁰ lies above the middle of two numbers; float64 would take it for the middle, and then for 1."""
    a, b, c = np.array([2.0**-30]), np.array([2.0**-30 + 2.0**6]), np.array([1.0])
    assert float(np.float32(a * b + c)[0]) == 1 and fused(a, b, c).tolist() == [1 + 2.0**-23]
    assert fused(-a, b, -c).tolist() == [-1 - 2.0**-23] and fused(a, np.array([2.0**6]), c).tolist() == [1]


def test_a_group_of_int4_is_summed_before_its_scale_counts():
    w_NK, x_MK = np.full((1, 64), 7, np.float32), np.ones((1, 64), np.float32)
    assert multiply_in_order(w_NK, x_MK, np.array([[0.5, -0.25]], np.float32)).tolist() == [[7 * 32 * 0.25]]


def test_a_trial_would_notice_another_order():
    """More than half of its numbers change when the inputs are added from the last to the first."""
    trial = make_trial(np.uint16(0), **TRIALS[1])
    w_NK, x_MK = widened(trial.kept[0]), widened(trial.x_MK)[trial.row :, : trial.kept[0].shape[1]]
    assert np.isfinite(trial.expected_MN).all() and trial.expected_MN.shape == (40, 21)
    assert (multiply_in_order(w_NK[:, ::-1], x_MK[:, ::-1]) != trial.expected_MN).mean() > 0.5


def assembly(emit, num_values: int, triple: str, cpu: str, features: str = "") -> str:
    """What LLVM makes, for a processor of any kind, of the code that `emit` writes around so many addresses."""
    module = ir.Module()
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), [ir.IntType(64)] * num_values), "block")
    builder = ir.IRBuilder(function.append_basic_block())
    emit(builder, *function.args)
    builder.ret_void()
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    machine = llvm.Target.from_triple(triple).create_target_machine(cpu=cpu, features=features)
    return machine.emit_assembly(llvm.parse_assembly(str(module)))


@pytest.mark.parametrize(
    ("emit", "num_values", "expected"),
    [
        (emit_begin, 0, {"ldtilecfg": 1}),
        (partial(emit_tile_block, 2, 2), 9, {"tileloadd": 8, "tdpbf16ps": 4, "tilestored": 4}),
        (partial(emit_tile_block, 1, 1), 9, {"tileloadd": 3, "tdpbf16ps": 1, "tilestored": 1}),
        (emit_grouped_block, 8, {"tilezero": 4, "tileloadd": 8, "tdpbf16ps": 4, "tilestored": 4, "vfmadd": 64}),
        (emit_turned, 5, {"vmovdqu16": 16}),
    ],
    ids=["begin", "2 x 2", "1 x 1", "int4", "turned"],
)
def test_tiles_are_compiled_for_a_processor_that_has_them(emit, num_values, expected):
    lines = assembly(emit, num_values, "x86_64-unknown-linux-gnu", "sapphirerapids").splitlines()
    counts = {name: sum(line.strip().startswith(name) for line in lines) for name in expected}
    assert counts == expected


def emit_dots(activation: types.Type, builder: ir.IRBuilder, *values: ir.Value) -> None:
    """Four outputs of two rows, from bf16 weights."""
    names = ("w", "w_row", "scales", "scale_row", "x", "x_row", "k", "y")
    place = dict(zip(names, values, strict=True))
    for name, kind in (("w", ir.IntType(8)), ("x", ir.IntType(16) if activation == types.uint16 else ir.FloatType())):
        place[name] = builder.inttoptr(place[name], kind.as_pointer())
    sums = emit_dot_block(builder, Product(types.uint16, activation), 4, 2, place, fetches=False)
    for n, total in enumerate(sums):
        builder.store(
            total,
            builder.inttoptr(builder.add(place["y"], ir.Constant(ir.IntType(64), 4 * n)), ir.FloatType().as_pointer()),
        )


@pytest.mark.parametrize(
    ("activation", "triple", "cpu", "instruction"),
    [
        (types.float32, "x86_64-unknown-linux-gnu", "haswell", "vfmadd231ps"),
        (types.float32, "aarch64-unknown-linux-gnu", "neoverse-n1", "fmla"),
        (types.float32, "arm64-apple-macosx", "apple-m1", "fmla"),
        (types.uint16, "x86_64-unknown-linux-gnu", "znver4", "vdpbf16ps"),
    ],
)
def test_blocks_are_compiled_for_processors_of_every_kind(activation, triple, cpu, instruction):
    assert assembly(partial(emit_dots, activation), 8, triple, cpu).count(instruction) >= 8


AMX = Processor(name="sapphirerapids", features=DOT | TILES, refusal="", key="")


@pytest.mark.parametrize(
    ("processor", "agree", "arithmetic", "said"),
    [
        (AMX, True, "bf16 tiles", []),
        (AMX, False, "bf16 dot", ["engine.tiles_differ"]),
        (Processor(name="", features=DOT, refusal="No", key=""), True, "bf16 dot", ["engine.tiles_refused"]),
        (Processor(name="", features=frozenset(), refusal="", key=""), True, "fp32 fma", []),
    ],
    ids=["tiles", "another order", "refused", "plain"],
)
def test_what_is_not_used_is_said(monkeypatch, processor, agree, arithmetic, said):
    memory = MemoryRecorder()
    monkeypatch.setattr(kernel_runner, "find_processor", lambda: processor)
    monkeypatch.setattr(kernel_runner, "tiles_agree", lambda kinds: agree)
    monkeypatch.setattr(kernel_runner, "compile_loops", lambda runner, recorder: None)
    runner = build_kernel_runner(make(), "int8", num_threads=1, recorder=memory)
    assert (runner.arithmetic, memory.names()) == (arithmetic, said)
    assert runner.name == f"kernels, int8 weights, {arithmetic} products, 1 thread"
    memory = MemoryRecorder()  # which does not concern weights that are multiplied in fp32
    assert build_kernel_runner(make(), "fp32", num_threads=1, recorder=memory).arithmetic == "fp32 fma"
    assert memory.names() == []
