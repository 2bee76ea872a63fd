"""`pellucid bench` on a tiny model; the machine's limits are given, so that shares can be checked."""

from __future__ import annotations

import json

import pytest
import torch

from pellucid.model.build import build
from pellucid.planning.config import ModelConfig
from pellucid.planning.flops import count_flops
from pellucid.store.checkpoint import save_checkpoint
from pellucid.tokens.train import train_bpe
from pellucid.training import measure

SMALL = ("--device", "cpu", "--threads", "1", "--rounds", "1")
PRODUCT, BANDWIDTH = {torch.float32: 2e11, torch.bfloat16: 8e11}, 5e10


@pytest.fixture(autouse=True)
def known_limits(monkeypatch):
    monkeypatch.setattr(measure, "measure_product", lambda device, dtype, size=0: PRODUCT[dtype])
    monkeypatch.setattr(measure, "measure_read_bandwidth", lambda num_bytes: BANDWIDTH)


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    tokenizer = train_bpe(["the cat sat. 猫坐着。 " * 9], 280, specials="none")
    config = ModelConfig(
        vocab_size=tokenizer.vocab_size, context_length=48, n_layers=2, n_heads=2, n_kv_heads=1, head_dim=8,
        d_model=16, d_ff=24, init="gpt2",
    )  # fmt: skip
    path = tmp_path_factory.mktemp("bench") / "model"
    weights = dict(build(config, seed=0).named_parameters())
    save_checkpoint(path, config=config, weights=weights, tokenizer=tokenizer, info={})
    return path


def test_everything_for_machines(run, directory):
    lengths = ("--prompt-tokens", "30", "--context", "10", "--new-tokens", "4")
    code, out, _ = run("bench", directory, "--json", *lengths, *SMALL)
    found = json.loads(out)
    assert code == 0 and found["tokens"] == {"prefill": 30, "context": 10, "new": 4} and found["threads"] == 1
    num_weights = sum(p.numel() for p in build(config_of(directory), seed=0).parameters())
    cache = 2 * 2 * 8 * 4  # keys and values, two layers, one head of eight, float32
    assert found["memory_bytes"]["weights"] == num_weights * 4
    assert found["memory_bytes"]["cache"] == 14 * cache
    assert found["memory_bytes"]["peak"] > found["memory_bytes"]["weights"]
    prefill, decode = found["rates"]["prefill"], found["rates"]["decode"]
    flops = count_flops(config_of(directory), context_length=30)
    assert prefill["cost_per_token"] == pytest.approx(flops.forward - flops["head"] * 29 / 30)  # one row of logits
    assert decode["cost_per_token"] == num_weights * 4 + 12 * cache == found["rates"]["generate"]["cost_per_token"]
    for rate, limit in (
        (prefill, PRODUCT[torch.float32]),
        (decode, BANDWIDTH),
        (found["rates"]["generate"], BANDWIDTH),
    ):
        assert rate["tokens_per_second"] > 0 and rate["limit_per_second"] == limit
        assert rate["share"] == pytest.approx(rate["tokens_per_second"] * rate["cost_per_token"] / limit)


def config_of(directory) -> ModelConfig:
    return ModelConfig.from_axes(**json.loads((directory / "pellucid.json").read_text())["config"])


def test_everything_for_people(run, directory):
    code, out, err = run("bench", directory, "--prompt-tokens", "8", "--context", "8", "--new-tokens", "4", *SMALL)
    assert code == 0 and "measuring" in err
    for words in (
        "read a prompt of 8 tokens",
        "write 4 tokens after 8",
        "50.0 GB/s",
        "200.0 GFLOP/s",
        "keys and values",
    ):
        assert words in out
    assert out.count("%") == 3


def test_lengths_that_do_not_fit_are_cut_and_told(run, directory):
    code, out, err = run("bench", directory, "--json", "--new-tokens", "8", *SMALL)
    assert code == 0 and json.loads(out)["tokens"] == {"prefill": 48, "context": 39, "new": 8}
    assert "the model's context is 48 tokens: 48 are read, 39 precede new ones" in err


@pytest.mark.parametrize(
    ("flags", "complaint"),
    [
        (("--new-tokens", "47"), "leave no room"),
        (("--set", "wieghts=int8"), "did you mean 'weights'?"),
        (("--set", "kernels=perhaps"), "kernels"),
        (("--rounds", "0"), "--rounds"),
    ],
)
def test_bad_requests_are_refused_before_anything_is_measured(run, directory, flags, complaint):
    code, out, err = run("bench", directory, *SMALL, *flags)
    assert code == 2 and complaint in err and not out


def test_many_requests_at_once(run, directory):
    code, out, _ = run("bench", directory, "--json", "--requests", "5", "--prompt", "20", "--tokens", "4", *SMALL)
    found = json.loads(out)
    assert code == 0 and found["load"] == {"requests": 5, "prompt": 20, "tokens": 4}
    assert found["memory_bytes"]["cache"] == 5 * 256 * 2 * 2 * 16 * 4  # a page each: two layers, one head padded to 16
    assert found["tokens_per_second"] > 0 and 0 < found["outside_the_model"] < 1
    assert found["seconds"]["first"]["median"] <= found["seconds"]["first"]["worst"]
    config = config_of(directory)
    num_weights = sum(p.numel() for p in build(config, seed=0).parameters())
    step = (num_weights + 5 * 22 * 2 * 2 * 8) * 4 / BANDWIDTH
    flops = 5 * count_flops(config, context_length=44).forward / PRODUCT[torch.float32]
    assert found["while_all_write"]["limit"] == pytest.approx(5 / max(step, flops))


def test_requests_that_do_not_fit_are_refused(run, directory):
    code, _, err = run("bench", directory, "--requests", "2", "--prompt", "40", "--tokens", "20", *SMALL)
    assert code != 0 and "do not fit into the model's context" in err


def test_requests_that_just_fit_are_measured(run, directory):
    code, out, _ = run("bench", directory, "--json", "--requests", "2", "--prompt", "44", "--tokens", "4", *SMALL)
    assert code == 0 and json.loads(out)["while_all_write"]["limit"] > 0
