"""Which instructions may be used: the processor's, less what two variables or the system withhold."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pellucid import processor
from pellucid.engine.runners.kernels.arithmetic import BF16_DOT, BF16_TILES, DOT, FP32_FMA, find_arithmetics
from pellucid.processor import TILES, Processor, find_processor

ELSEWHERE = """
import numpy as np
from kernel_models import make, same_bits, some_ids
from pellucid.engine.runners.kernel_runner import KernelRunner, build_kernel_runner
from pellucid.processor import find_processor

ids = some_ids(40)
fast = build_kernel_runner(make(), "bf16", num_threads=2)
alone = KernelRunner(fast.packed, num_threads=1, arithmetic=fast.arithmetic)
prompt_TV = fast.score(fast.start(ids, max_length=40))
steps = alone.start(ids[:30], max_length=40)
rows = [alone.read([steps])[0]]
for token in ids[30:]:
    steps.extend([token])
    rows.append(alone.read([steps])[0])
print(find_processor().name, len(find_processor().features), fast.arithmetic, same_bits(prompt_TV[29:], np.stack(rows)), sep=",")
print(np.isfinite(prompt_TV).all() and prompt_TV.std() > 0)
"""


@pytest.mark.skipif("avx512f" not in find_processor().features, reason="here every test runs the loops of haswell")
def test_on_another_processor_a_prompt_and_its_steps_have_the_same_bits():
    """Of a processor that is named nothing is taken for granted: fp32 on plain vectors, also where this one can do more."""
    paths = os.pathsep.join([str(Path(__file__).parent / "helpers"), *sys.path])
    child = {**os.environ, "NUMBA_CPU_NAME": "haswell", "PYTHONPATH": paths}
    done = subprocess.run([sys.executable, "-c", ELSEWHERE], capture_output=True, text=True, env=child)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["haswell,0,fp32", "fma,True", "True"]


@pytest.mark.parametrize(
    ("name", "given", "expected"),
    [
        ("znver5", None, {"avx2", *DOT}),  # Numba found it, and nobody named another
        ("haswell", None, set()),
        ("haswell", "+avx2,+amx-tile,-avx512f", {"avx2"}),
        ("znver5", "", set()),
    ],
    ids=["the host", "another", "another and its features", "none"],
)
def test_the_variables_of_numba_are_obeyed(monkeypatch, name, given, expected):
    """What is named and not there is not used either."""
    has = {"avx2", *DOT}
    flags = ",".join(f"+{one}" for one in sorted(has)) if given is None else given
    monkeypatch.setattr(processor, "compiled_for", lambda: ("x86_64", name, flags))
    monkeypatch.setattr(processor, "host_features", lambda: has)
    monkeypatch.setattr(processor.llvm, "get_host_cpu_name", lambda: "znver5")
    monkeypatch.setattr(processor.numba.config, "CPU_FEATURES", given)
    found = find_processor()
    assert (found.name, found.features) == (name, expected)
    monkeypatch.setattr(processor, "compiled_for", lambda: ("x86_64", name, f"{flags},+more"))
    assert find_processor().key != found.key, "code that is kept for one is not for another"


@pytest.mark.parametrize("answer", ["", "Operation not permitted"])
def test_tiles_need_the_permission_of_the_system(monkeypatch, answer):
    has = DOT | TILES | {"avx2"}
    monkeypatch.setattr(processor, "host_features", lambda: has)
    monkeypatch.setattr(processor, "allowed", lambda **_: has)
    monkeypatch.setattr(processor, "ask_for_tiles", lambda: answer)
    found = find_processor()
    assert (found.features, found.refusal) == (has - TILES if answer else has, answer)
    expected = [BF16_DOT, FP32_FMA] if answer else [BF16_TILES, BF16_DOT, FP32_FMA]
    assert find_arithmetics("int4", found) == expected and find_arithmetics("fp32", found) == [FP32_FMA]


def test_who_has_no_tiles_does_not_ask(monkeypatch):
    monkeypatch.setattr(processor, "host_features", lambda: DOT)
    monkeypatch.setattr(processor, "ask_for_tiles", lambda: pytest.fail("nobody should ask"))
    assert find_processor().refusal == ""


def test_tiles_without_the_dot_product_are_not_used():
    """They are filled by its instructions."""
    odd = Processor(name="odd", features=TILES, refusal="", key="")
    assert find_arithmetics("bf16", odd) == [FP32_FMA]
