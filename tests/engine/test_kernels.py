"""The compiled loops: equal to torch's model, and to the bit the same whatever else is read with them.

Axes: T positions · V vocabulary.
"""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numba
import numpy as np
import pytest
import torch
from kernel_models import ODD, SHAPES, make, same_bits, some_ids

import pellucid
from pellucid.compiled import stopping_between_passes
from pellucid.engine.runners.build import build_runner
from pellucid.engine.runners.kernel_runner import KernelRunner, build_kernel_runner
from pellucid.engine.runners.kernels import product
from pellucid.engine.runners.kernels.compile import CACHE, kernel
from pellucid.engine.runners.kernels.functions import exp32, gelu, gelu_tanh, tanh32
from pellucid.engine.runners.kernels.lanes import dot_1x1, get, put
from pellucid.engine.runners.kernels.launch import compile_forward
from pellucid.engine.runners.kernels.pack import pack
from pellucid.engine.runners.torch_runner import TorchRunner
from pellucid.engine.settings import EngineSettings
from pellucid.errors import ContextError, EngineError, RequestError
from pellucid.events import MemoryRecorder
from pellucid.model import position
from pellucid.model.build import build
from pellucid.model.context import Context
from pellucid.model.experts import Routing
from pellucid.planning.config import ModelConfig

FP32 = product.FP32


@pytest.mark.parametrize("axes", SHAPES.values(), ids=SHAPES)
def test_every_shape_equals_the_torch_model(axes):
    model, ids = make(**axes), some_ids(300)  # more than one page of the cache
    fast, slow = build_runner(model), TorchRunner(model)
    assert isinstance(fast, KernelRunner)
    found = fast.score(fast.start(ids, max_length=300))
    expected = slow.score(slow.start(ids, max_length=300))
    assert np.abs(found - expected).max() < 1e-4


def test_a_step_reads_the_weights_of_the_chosen_experts_alone():
    """Whoever read another expert, were it to count it with a share of 0, would have NaN."""
    model, routing = make(**SHAPES["mixture"]), Routing()
    model(torch.tensor([[7]]), Context(tap=routing))
    runner = build_kernel_runner(model, "fp32", num_threads=2)
    before = runner.read([runner.start([7], max_length=9)])
    for block, chosen in zip(model.blocks, routing.chosen, strict=True):
        idle = sorted({*range(5)} - {*chosen.flatten().tolist()})
        assert len(idle) == 3
        for stack in (block.mlp.gate, block.mlp.up, block.mlp.down):
            stack.data[idle] = torch.nan  # a view: the runner reads the same memory
    after = runner.read([runner.start([7], max_length=9)])
    assert same_bits(before, after) and np.isfinite(after).all()


def test_of_equal_shares_the_experts_with_the_lowest_numbers_are_chosen():
    model = make(**SHAPES["mixture"])
    for block in model.blocks:
        block.mlp.router.weight.data.zero_()
        block.mlp.up.data[2:] = torch.nan
    runner = build_kernel_runner(model, "fp32", num_threads=1)
    assert np.isfinite(runner.score(runner.start(some_ids(9), max_length=9))).all()


def test_the_bytes_of_a_step_are_those_of_the_active_experts():
    """Mixtral's shape in small: two of eight experts, of three matrices each."""
    axes = {"d_model": 32, "head_dim": 8, "n_heads": 4, "n_kv_heads": 2, "n_layers": 3, "vocab_size": 100}
    mixture = {"feed_forward": {"experts": {"count": 8, "active": 2, "width": 48}}}
    attention, router, active, head = 2 * 32 * 32 + 2 * 32 * 16, 8 * 32, 2 * 3 * 32 * 48, 100 * 32
    model = make(**axes, **mixture)
    assert pack(model, "fp32").num_step_bytes == 4 * (3 * (attention + router + active) + head)
    assert pack(model.bfloat16(), "bf16").num_step_bytes == 2 * (3 * (attention + router + active) + head)


def test_truncated_and_forked_sequences_go_on_as_if_nothing_had_been():
    model, ids = make(), some_ids(280)
    runner = build_runner(model)
    whole_TV = runner.score(runner.start(ids, max_length=300))
    sequence = runner.start(ids[:270], max_length=300)
    runner.read([sequence])
    sequence.extend([1, 2, 3])
    runner.score(sequence)
    fork = sequence.fork()
    sequence.truncate(250)
    sequence.extend(ids[250:])
    assert same_bits(runner.score(sequence), whole_TV[250:])
    fork.truncate(270)
    fork.extend(ids[270:])
    assert same_bits(runner.score(fork), whole_TV[270:])


def test_torch_itself_does_not_keep_the_bits():
    """The check can fail: torch orders its sums by the number of rows, which is why the loops exist."""
    model = build(
        ModelConfig.from_axes(**{**ODD, "d_model": 512, "d_ff": 1024, "head_dim": 64, "vocab_size": 4000}), seed=1
    )
    runner, ids = TorchRunner(model), some_ids(200)
    whole_TV = runner.score(runner.start(ids, max_length=200))
    steps = runner.start(ids[:100], max_length=200)
    rows = [runner.read([steps])[0]]
    for token in ids[100:120]:
        steps.extend([token])
        rows.append(runner.read([steps])[0])
    assert not same_bits(whole_TV[99:120], np.stack(rows))


@kernel
def one_dot(kind, x_kind, w, x, y, count):
    dot_1x1(kind, x_kind, w, 0, 0, 0, x, 0, y, 0, count)


def in_the_written_order(w_K: np.ndarray, x_K: np.ndarray) -> np.float32:
    """Sixteen lanes, each adding its products in the order of k; then j with j+8, j+4, j+2, j+1."""
    lanes, pad = np.zeros(16), -w_K.size % 16
    for w, x in zip(np.pad(w_K, (0, pad)).reshape(-1, 16), np.pad(x_K, (0, pad)).reshape(-1, 16), strict=True):
        # Products of fp32 numbers are exact in fp64, so one rounding to fp32 is that of a fused multiply-add.
        lanes = (lanes + w.astype(np.float64) * x).astype(np.float32).astype(np.float64)
    while lanes.size > 1:
        half = lanes.size // 2
        lanes = (lanes[:half] + lanes[half:]).astype(np.float32).astype(np.float64)
    return np.float32(lanes[0])


@pytest.mark.parametrize("count", [1, 15, 16, 83, 768])
@pytest.mark.parametrize("dtype", [np.float32, np.uint16, np.int8])
def test_a_sum_has_the_written_order(dtype, count):
    """The fp32 products of every format against the order spelt out in numpy, to the bit."""
    random, y = np.random.default_rng(count), np.zeros(1, np.float32)
    for _ in range(20):
        x = random.standard_normal(count).astype(np.float32)
        wide = random.standard_normal(count).astype(np.float32)
        if dtype == np.uint16:
            stored = (wide.view(np.uint32) >> 16).astype(np.uint16)
            wide = (stored.astype(np.uint32) << 16).view(np.float32)
        elif dtype == np.int8:
            stored = np.rint(wide * 40).clip(-127, 127).astype(np.int8)
            wide = stored.astype(np.float32)
        else:
            stored = wide
        one_dot(dtype(0), FP32, stored.ctypes.data, x.ctypes.data, y.ctypes.data, count)
        assert y[0].view(np.uint32) == in_the_written_order(wide, x).view(np.uint32)


@kernel
def apply_all(which, x, y, count):
    for i in range(count):
        value = get(FP32, x, i)
        if which == 0:
            put(FP32, y, i, exp32(value))
        elif which == 1:
            put(FP32, y, i, gelu(value))
        elif which == 2:
            put(FP32, y, i, tanh32(value))
        else:
            put(FP32, y, i, gelu_tanh(value))


def applied(which: int, x: np.ndarray) -> np.ndarray:
    y = np.empty_like(x)
    apply_all(which, x.ctypes.data, y.ctypes.data, x.size)
    return y


def test_exp_is_within_two_units_in_the_last_place():
    x = np.linspace(-87, 88, 1_000_003, dtype=np.float32)
    exact = np.exp(x.astype(np.float64))
    assert (np.abs(applied(0, x) - exact) <= 2 * np.spacing(exact.astype(np.float32))).all()
    edges = np.array([-np.inf, -1e30, -87.5, 0, 1e30], np.float32)
    assert applied(0, edges)[:4].tolist() == [0, 0, 0, 1] and np.isfinite(applied(0, edges)).all()


def test_activations_equal_torch():
    x = np.linspace(-12, 12, 10_001, dtype=np.float32)
    for which, approximate in ((1, "none"), (3, "tanh")):
        exact = torch.nn.functional.gelu(torch.from_numpy(x).double(), approximate=approximate).numpy()
        assert np.abs(applied(which, x) - exact).max() < 2e-6


def test_a_hyperbolic_tangent_is_near_and_never_beyond_one():
    x = np.linspace(-12, 12, 10_001, dtype=np.float32)
    assert np.abs(applied(2, x) - np.tanh(x.astype(np.float64))).max() < 2e-7
    assert applied(2, np.array([-1e30, -100, 0, 100, 1e30], np.float32)).tolist() == [-1, -1, 0, 1, 1]


def test_scores_stay_below_the_cap():
    model = make(head={"softcap": 2.0})
    model.embed.weight.data *= 50
    runner = build_kernel_runner(model, "fp32", num_threads=1)
    logits = runner.score(runner.start(some_ids(9), max_length=9))
    assert 1.99 < np.abs(logits).max() <= 2


@kernel
def narrowed(kind, x, y, count):
    for i in range(count):
        put(kind, y, i, get(FP32, x, i))


def test_bf16_rounds_as_torch_does():
    bits = np.random.default_rng(3).integers(0, 2**32, 100_000, dtype=np.uint32)
    x = np.concatenate([bits.view(np.float32), np.array([np.nan, np.inf, -np.inf, 0.0, -0.0], np.float32)])
    y = np.empty(x.size, np.uint16)
    narrowed(np.uint16(0), x.ctypes.data, y.ctypes.data, x.size)
    expected = torch.from_numpy(x).bfloat16()
    number = ~np.isnan(x)
    assert np.array_equal(y[number], expected.view(torch.int16).numpy().view(np.uint16)[number])
    assert torch.from_numpy(y.view(np.int16)).view(torch.bfloat16).isnan().numpy()[~number].all()


def test_weights_are_not_copied():
    for dtype, weights in ((torch.float32, "fp32"), (torch.bfloat16, "bf16")):
        model = make(dtype)
        packed = pack(model, weights)
        held = {array.ctypes.data for array in packed.kept}
        assert {block.mlp.up.weight.data_ptr() for block in model.blocks} <= held


@pytest.mark.parametrize("axes", ["qwen3", "sinusoidal", "two bases"])
def test_tables_of_positions_grow_under_the_loops(axes, monkeypatch):
    ids = some_ids(300)
    whole = build_kernel_runner(make(**SHAPES[axes]), "fp32", num_threads=1)
    monkeypatch.setattr(position, "FIRST_ROWS", 16)
    grown = build_kernel_runner(make(**SHAPES[axes]), "fp32", num_threads=1)
    for length in (10, 17, 300):
        rows = [runner.score(runner.start(ids[:length], max_length=300)) for runner in (whole, grown)]
        assert same_bits(*rows)


def test_a_second_process_compiles_nothing_and_torch_keeps_its_threads(tmp_path):
    script = (
        "import sys, numba, numba.core.event as event, numpy as np, torch\n"
        "torch.set_num_threads(1)\n"
        "count = []\n"
        "class Listener(event.Listener):\n"
        "    def on_start(self, e): count.append(e.data['dispatcher'].py_func.__name__)\n"
        "    def on_end(self, e): pass\n"
        "event.register('numba:compile', Listener())\n"
        "from pellucid.engine.runners.kernels.launch import compile_forward, is_compiled\n"
        "kinds = tuple(np.float32(0) for _ in range(5))\n"
        "known = is_compiled(kinds)\n"
        "if known: compile_forward(kinds)\n"
        "print(known, sum(name in ('forward', 'run', 'work') for name in count), torch.get_num_threads())\n"
        "numba.njit(lambda x: x)(1)\n"
        "print(count[-1])\n"  # whatever is compiled is counted
    )

    compile_forward(tuple(FP32 for _ in range(5)))  # the first process is this one
    command = [sys.executable, "-W", "error", "-c", script]
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(CACHE.directory.parents[1])}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.split() == ["True", "0", "1", "<lambda>"]
    copy = tmp_path / "elsewhere"  # as another environment has it, installed at another time
    shutil.copytree(
        Path(pellucid.__file__).parent, copy / "pellucid", ignore=shutil.ignore_patterns("page", "__pycache__")
    )
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, env={**environment, "PYTHONPATH": str(copy)}, cwd=copy
    )
    assert done.stdout.split() == ["True", "0", "1", "<lambda>"], "a copy of the program compiles nothing either"


def compiling_with(**names: str) -> list[str]:
    """In a process with these variables: what a loop gives that is not kept, whether the model's are known, the folder, what is said."""
    script = (
        "import numpy as np\n"
        "from pellucid.engine.runners.kernels.compile import CACHE, kernel\n"
        "from pellucid.engine.runners.kernels.launch import is_compiled\n"
        "from pellucid.engine.runners.kernel_runner import _about_to_compile\n"
        "given = kernel(lambda x: x + x)(np.float32(2)) if CACHE.directory is None else ''\n"
        "event = _about_to_compile('fp32')\n"
        "print(given, is_compiled(tuple(np.float32(0) for _ in range(5))))\n"
        "print(CACHE.directory, event.level, event.message, sep='\\n')\n"
    )
    known = {name: value for name, value in os.environ.items() if name not in ("NUMBA_CACHE_DIR", "XDG_CACHE_HOME")}
    command = [sys.executable, "-W", "error", "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, env={**known, **names})
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_where_nothing_can_be_kept_loops_run_and_the_reason_and_the_variable_are_said(tmp_path):
    (tmp_path / "file").write_text("in the way of a folder")
    nowhere = {"HOME": str(tmp_path / "file"), "XDG_CACHE_HOME": str(tmp_path / "file")}
    ran, directory, level, message = compiling_with(**nowhere)
    assert (ran, directory, level) == ("4.0 False", "None", "warning")
    assert "at every call" in message and str(tmp_path / "file") in message and "NUMBA_CACHE_DIR" in message
    assert "once on this machine" not in message
    ran, directory, level, message = compiling_with(**nowhere, NUMBA_CACHE_DIR=str(tmp_path / "mine"))
    assert ran == " False", "in a new folder nothing is known"
    assert directory.startswith(str(tmp_path / "mine")) and level == "info" and "once on this machine" in message
    assert not list(tmp_path.glob("mine/kernels/*/tmp*"))


def decode_in_a_child(runner, queue) -> None:
    try:
        runner.read([runner.start([1], max_length=4)])
    except EngineError as error:
        queue.put(str(error))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")  # the fork is what is tested
def test_a_forked_child_is_told_instead_of_waiting_for_ever():
    runner = build_runner(make())
    runner.read([runner.start([1], max_length=4)])
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=decode_in_a_child, args=(runner, queue))
    child.start()
    assert "forked" in queue.get(timeout=60)
    child.join()


def test_torch_serves_where_the_loops_cannot_and_says_so_once():
    model, memory = make(norm={"kind": "layer", "placement": "after"}), MemoryRecorder()
    assert isinstance(build_runner(model, recorder=memory), TorchRunner)
    assert [event.name for event in memory.events] == ["engine.torch_path"]
    with pytest.raises(EngineError, match="after"):
        build_runner(model, EngineSettings(kernels="on"))
    encoder, memory = make(causal=False), MemoryRecorder()  # it continues no text: the loops are for nothing else
    assert isinstance(build_runner(encoder, recorder=memory), TorchRunner) and not memory.events
    with pytest.raises(EngineError, match="causal=False"):
        build_runner(encoder, EngineSettings(kernels="on"))
    with pytest.raises(EngineError, match="convert"):
        build_runner(make(), EngineSettings(kernels="off", weights="int8"))
    assert isinstance(build_runner(make(), EngineSettings(kernels="off")), TorchRunner)


def test_nothing_is_read_outside_the_tables():
    runner = build_runner(make(context_length=8))
    for bad in (-1, ODD["vocab_size"]):
        with pytest.raises(RequestError, match="id"):
            runner.read([runner.start([1, bad], max_length=8)])
    with pytest.raises(ContextError, match="full"):
        runner.read([runner.start([1] * 9, max_length=20)])


def test_the_first_compilation_is_announced(monkeypatch, tmp_path):
    memory = MemoryRecorder()
    monkeypatch.setattr("pellucid.engine.runners.kernel_runner.is_compiled", lambda kinds: False)
    build_kernel_runner(make(), "fp32", num_threads=1, recorder=memory)
    assert [event.name for event in memory.events] == ["engine.compiling", "engine.compiled"]


@pytest.fixture
def hears_ctrl_c():
    """Python's own handler, also where a shell started the tests behind it, deaf to Ctrl-C."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.skipif(os.name == "nt", reason="a process of Windows cannot be sent Ctrl-C alone")
def test_ctrl_c_stops_the_compiler_between_its_passes_wherever_it_arrives(hears_ctrl_c):
    """In the end of an object, as in a callback of LLVM, Python would print and forget it."""

    class Ends:
        def __del__(self):
            os.kill(os.getpid(), signal.SIGINT)

    reached = []
    with pytest.raises(KeyboardInterrupt), stopping_between_passes():
        Ends()
        reached.append("after the signal")
    assert reached and signal.getsignal(signal.SIGINT) is signal.default_int_handler

    @numba.njit
    def plus_one(number):
        return number + 1

    with pytest.raises(KeyboardInterrupt), stopping_between_passes():
        Ends()
        plus_one(1)
        reached.append("after the compiler")
    assert len(reached) == 1 and plus_one(1) == 2  # nothing half done was left behind


@pytest.mark.skipif(os.name == "nt", reason="a process of Windows cannot be sent Ctrl-C alone")
def test_ctrl_c_while_loops_are_compiled_ends_the_process_in_one_line(tmp_path):
    script = (
        "import signal\n"
        "import numpy as np\n"
        "from pellucid.cli import app\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a shell may start what runs behind it deaf to it
        "from pellucid.engine.runners.kernels.launch import compile_forward\n"
        "def compile_now(*arguments, **options):\n"
        "    print('compiling', flush=True)\n"
        "    compile_forward(tuple(np.float32(0) for _ in range(5)))\n"
        "app.root.main = compile_now\n"
        "app.main(['doctor'])\n"
    )
    command, env = [sys.executable, "-c", script], {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env) as process:
        assert process.stdout.readline() == "compiling\n"
        time.sleep(1)
        process.send_signal(signal.SIGINT)
        said = process.communicate(timeout=120)[1]
    assert process.returncode == 130 and said.strip() == "stopped."
