from __future__ import annotations

import dataclasses
import json

import pytest
import torch

from pellucid.cli import doctor
from pellucid.planning.machine import inspect_machine
from pellucid.training import measure
from pellucid.training.measure import CompileTrial, Rates


@pytest.fixture(autouse=True)
def known_rates(monkeypatch):
    rates = Rates(training_flops_per_second=3e11, determinism_cost=0.05)
    monkeypatch.setattr(measure, "measure_training", lambda device, dtype, *, deterministic: rates)
    monkeypatch.setattr(
        measure, "measure_product", lambda device, dtype, size=0: 5e11 if dtype == torch.float32 else 1e12
    )
    monkeypatch.setattr(measure, "measure_read_bandwidth", lambda num_bytes: 9e10)


@pytest.fixture
def machine(monkeypatch):
    """Set what the machine is found to be."""

    def become(**changes):
        found = dataclasses.replace(inspect_machine(), **changes)
        monkeypatch.setattr(doctor, "inspect_machine", lambda: found)
        return found

    return become


def test_everything_for_machines(run):
    found = json.loads(run("doctor", "--device", "cpu", "--json").out)
    assert found["machine"]["cores"] == inspect_machine().cores
    assert found["measured"] == {
        "fp32_flops_per_second": 5e11,
        "bf16_flops_per_second": 1e12,
        "read_bytes_per_second": 9e10,
        "training_flops_per_second": 3e11,
        "determinism_cost": 0.05,
    }
    assert [use["name"] for use in found["uses"]] == ["device", "computes in", "threads", "attention", "torch.compile"]
    assert all(use["what"] and use["why"] for use in found["uses"])


def test_everything_for_people(run):
    code, out, err = run("doctor", "--device", "cpu")
    assert code == 0 and "measuring" in err
    lines = [line.split() for line in out.splitlines()]
    assert ["bfloat16", "product", "1,000", "GFLOP/s"] in lines
    assert ["reading", "memory", "90.0", "GB/s"] in lines
    assert ["deterministic", "algorithms", "+5%", "time"] in lines


@pytest.mark.parametrize(("features", "dtype"), [(("avx2", "avx512_bf16"), "bfloat16"), (("avx2",), "float32")])
def test_the_number_format_follows_the_processor(run, machine, features, dtype):
    machine(features=features)
    found = json.loads(run("doctor", "--device", "cpu", "--json").out)
    assert found["uses"][1]["what"] == dtype
    assert any("float32" in problem["what"] for problem in found["problems"]) == (dtype == "float32")


def test_threads_are_the_cores_unless_asked(run, machine):
    machine(cores=1, cores_present=64)
    use = json.loads(run("doctor", "--device", "cpu", "--json").out)["uses"][2]
    assert use["what"] == "1" and "of 64" in use["why"]
    use = json.loads(run("doctor", "--device", "cpu", "--threads", 2, "--json").out)["uses"][2]
    assert (use["what"], use["why"]) == ("2", "as asked")


def test_each_problem_comes_with_a_hint(run, machine, monkeypatch):
    machine(features=("avx512_bf16",), compiler=None, memory_available_bytes=500_000_000, cores_present=2)
    monkeypatch.setattr(doctor, "processor_load", lambda: 9.5)
    problems = json.loads(run("doctor", "--device", "cpu", "--json").out)["problems"]
    told = " ".join(problem["what"] for problem in problems)
    assert "load 9.5 on 2 cores" in told and "500 MB" in told and "no C++ compiler" in told
    assert len(problems) == 3 and all(problem["hint"] for problem in problems)
    out = run("doctor", "--device", "cpu").out
    assert out.count("  try: ") == 3


def test_a_good_machine_has_no_problems(run, machine, monkeypatch):
    machine(features=("avx512_bf16",), compiler="c++", memory_available_bytes=16_000_000_000)
    monkeypatch.setattr(doctor, "processor_load", lambda: 0.1)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    assert run("doctor", "--device", "cpu").out.endswith("no problems found\n")


WRONG = "compiled for native, the gradient of embed.weight is not finite, and in the eager step it is"


@pytest.mark.parametrize(("fault", "what"), [("no compiler at all", "no"), (WRONG, "no"), ("", "for runs over 200 s")])
def test_compiling_is_tried_only_when_asked(run, machine, monkeypatch, fault, what):
    tried = []
    machine(compiler="c++")
    trial = CompileTrial(march="cascadelake", fault=fault)
    monkeypatch.setattr(measure, "try_compile", lambda device, dtype: tried.append(device.type) or trial)
    assert "not tried" in run("doctor", "--device", "cpu").out and not tried
    found = json.loads(run("doctor", "--device", "cpu", "--compile", "--json").out)
    use = found["uses"][4]
    assert use["what"] == what and tried == ["cpu"]
    assert (fault or "for cascadelake") in use["why"]
    assert any("torch.compile" in problem["what"] for problem in found["problems"]) == bool(fault)


def test_without_torch_the_doctor_says_so(run, machine):
    machine(torch=None)
    code, _, err = run("doctor")
    assert code == 7 and "torch is not installed" in err


def test_an_unknown_device_is_an_error_of_settings(run):
    assert run("doctor", "--device", "gpu").code == 2
