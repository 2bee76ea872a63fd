from __future__ import annotations

import json
import subprocess
import sys

import pytest

from pellucid.errors import ModelError
from pellucid.model.build import build
from pellucid.planning.params import count_parameters
from pellucid.planning.presets import PRESETS, preset
from pellucid.store.checkpoint import save_checkpoint
from pellucid.training import measure


def words(text: str) -> list[list[str]]:
    return [line.split() for line in text.splitlines()]


def test_gpt3_as_published(run):
    code, out, _ = run("plan", "gpt3")
    assert code == 0
    assert "token_embedding         617,558,016  = vocab_size × d_model" in out
    assert "= 50,257 × 12,288" in out
    positions = next(line.split(maxsplit=2) for line in out.splitlines() if line.startswith("position_embedding"))
    assert positions[1] == "25,165,824" and positions[2].endswith("= 2,048 × 12,288")
    assert ["total", "174,604,259,328"] in words(out)


def test_gpt3_for_machines(run):
    drawn = json.loads(run("plan", "gpt3", "--json").out)
    parts = {part["name"]: part["value"] for part in drawn["parameters"]["parts"]}
    assert (parts["token_embedding"], parts["position_embedding"]) == (617_558_016, 25_165_824)
    assert drawn["parameters"]["total"] == 174_604_259_328
    assert drawn["time"]["machine"] == drawn["machine"]["name"] == "h100"  # a default that is named


def test_four_lines_say_first_what_a_plan_comes_to(run):
    parameters, memory, compute, time = run("plan", "gpt3").out.splitlines()[:4]
    assert parameters == "parameters  174,604,259,328 (gpt3)"
    assert memory == "memory      3.58 TB to train, 359 GB to use; neither fits in the 80.0 GB of h100"
    assert compute.split()[1] == "1,061,884,993,536" and "3.71e+24 for 3,492,085,186,560 tokens, 20 per" in compute
    assert time.startswith("time        297 years on one NVIDIA H100 SXM (h100)") and "--machine this" in time
    small = run("plan", "gpt2").out.splitlines()
    assert "both fit in the 80.0 GB of h100" in small[1]


def test_planning_a_preset_loads_no_torch():
    code = "import sys; from pellucid.cli.app import root; root.main(['plan', 'gpt3', '--machine', 'a100'], standalone_mode=False)"
    script = f"{code}\nassert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)


def test_an_unknown_preset_names_the_nearest(run):
    code, out, err = run("plan", "gtp3")
    assert (code, out) == (2, "") and "did you mean 'gpt3'?" in err
    assert json.loads(run("plan", "gtp3", "--json").err)["try"] == "did you mean 'gpt3'?"


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("gpt2", "--depth", 3),
        ("gpt2", "--machine", "a1000"),
        ("gpt2", "--set", "n_layer=3"),
        ("gpt2", "--context-length", 4096),
        ("gpt2", "--rows", 0),
        ("--depth", 0),
        ("--depth", 3, "--vocab-size", 0),
    ],
)
def test_what_cannot_be_planned_is_an_error_of_settings(run, arguments):
    code, out, err = run("plan", *arguments)
    assert (code, out) == (2, "") and err.startswith("error: ")


@pytest.mark.parametrize("tokens", ["0", "nan", "inf", "-3", "many"])
def test_a_number_of_tokens_is_one_that_can_be(run, tokens):
    code, out, err = run("plan", "gpt2", f"--tokens={tokens}")
    assert (code, out) == (2, "") and "--tokens" in err


def test_axes_that_do_not_fit_together_are_refused(run):
    code, _, err = run("plan", "gpt2", "--set", "n_kv_heads=5", "--json")
    assert code == 3 and json.loads(err)["error"] == ModelError.__name__


def test_an_axis_may_be_overridden(run):
    drawn = json.loads(run("plan", "gpt2", "--set", "n_layers=6", "--vocab-size", 100, "--json").out)
    assert (drawn["config"]["n_layers"], drawn["config"]["vocab_size"]) == (6, 100)
    assert drawn["config"]["d_model"] == preset("gpt2").d_model


def test_one_dial_says_why(run):
    code, out, _ = run("plan", "--depth", 4, "--vocab-size", 1000, "--context-length", 64, "--set", "d_ff=512")
    assert code == 0 and "\ndepth 4: n_layers 4, d_model 256" in out
    assert "the dial" in out
    assert ["d_ff", "512", "as", "asked"] in words(out) and ["vocab_size", "1,000", "as", "asked"] in words(out)
    drawn = json.loads(run("plan", "--depth", 4, "--vocab-size", 1000, "--context-length", 64, "--json").out)
    reasons = {reason["field"]: (reason["value"], reason["why"]) for reason in drawn["reasons"]}
    assert reasons["n_layers"] == (4, "the dial") and reasons["vocab_size"] == (1000, "as asked")
    assert (drawn["config"]["context_length"], drawn["training_memory"]["total"] > 0) == (64, True)


def test_the_list_holds_every_preset_with_its_size(run):
    listed = {row[0]: row[1] for row in words(run("plan", "--list").out) if len(row) > 1}
    assert {name: listed[name] for name in PRESETS} == {
        name: f"{count_parameters(config).total:,}" for name, config in PRESETS.items()
    }
    known = json.loads(run("plan", "--list", "--json").out)
    assert [entry["name"] for entry in known["presets"]] == list(PRESETS)
    assert "a100" in [entry["name"] for entry in known["machines"]]


def test_time_and_memory_on_a_named_machine(run):
    code, out, _ = run("plan", "gpt3", "--machine", "a100", "--tokens", "300e9")
    assert code == 0
    assert "300,000,000,000 × 1,061,884,993,536 / 124,800,000,000,000" in out
    assert "3.58 TB to train, 359 GB to use; neither fits in the 80.0 GB of a100" in out
    drawn = json.loads(run("plan", "gpt2", "--machine", "a100", "--json").out)
    assert drawn["machine"]["fits"] == {"training": True, "inference": True}
    assert drawn["time"]["tokens"] == 20 * drawn["parameters"]["total"]


@pytest.fixture
def at_a_known_rate(monkeypatch):
    rates = measure.Rates(training_flops_per_second=2e9, determinism_cost=0.1)
    monkeypatch.setattr(measure, "measure_training", lambda device, dtype, *, deterministic: rates)
    monkeypatch.setattr(measure, "measure_read_bandwidth", lambda: 1e10)


def test_this_machine_is_measured(run, at_a_known_rate):
    drawn = json.loads(run("plan", "micro", "--machine", "this", "--device", "cpu", "--tokens", 1000, "--json").out)
    flops = drawn["flops"]["training"]
    assert drawn["time"]["seconds"] == pytest.approx(1000 * flops / 2e9)
    assert drawn["time"]["most_tokens_per_second"] == pytest.approx(1e10 / (2 * drawn["parameters"]["total"]))


def test_a_model_on_disk_is_planned_as_it_is(run, tmp_path):
    config = preset("micro")
    directory = tmp_path / "model"
    save_checkpoint(directory, config=config, weights=build(config, seed=0).state_dict(), tokenizer=None, info={})
    for path in (directory, directory / "config.json"):
        drawn = json.loads(run("plan", path, "--json").out)
        assert drawn["config"] == json.loads(run("plan", "micro", "--json").out)["config"]
    assert run("plan", tmp_path).code == 4
    (directory / "config.json").write_text("{")
    assert run("plan", directory / "config.json").code == 4
