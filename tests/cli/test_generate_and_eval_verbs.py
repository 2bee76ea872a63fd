"""`pellucid generate` and `pellucid eval` as a person, a pipe or a program uses them."""

from __future__ import annotations

import json
import math

import pytest
import torch
from click.testing import CliRunner, Result

from pellucid.api import load
from pellucid.cli.app import root
from pellucid.errors import ContextError, SamplingError
from pellucid.model.build import build
from pellucid.planning.config import ModelConfig
from pellucid.store.checkpoint import save_checkpoint
from pellucid.tokens.train import train_bpe


@pytest.fixture(scope="module")
def directory(tmp_path_factory) -> str:
    tokenizer = train_bpe(["the cat sat. 猫坐着。 " * 9], 280)
    config = ModelConfig(
        vocab_size=tokenizer.vocab_size, context_length=24, n_layers=1, n_heads=2, n_kv_heads=1, head_dim=8,
        d_model=16, d_ff=24, init="gpt2",
    )  # fmt: skip
    weights = dict(build(config, seed=0).named_parameters())
    path = tmp_path_factory.mktemp("verbs") / "model"
    save_checkpoint(path, config=config, weights=weights, tokenizer=tokenizer, info={})
    return str(path)


def run(*arguments: str, text: str | None = None) -> Result:
    found = CliRunner().invoke(root, [*arguments, "--threads", "1", "--device", "cpu"], input=text)
    if found.exception and not isinstance(found.exception, SystemExit):
        raise found.exception
    return found


def test_standard_output_is_the_answer_alone(directory):
    printed = run("generate", directory, "the", "--seed", "5")
    answer = load(directory, device="cpu").complete("the", seed=5)
    assert printed.stdout == answer.text + "\n"
    assert "seed=5 (command line)" in printed.stderr
    assert f"ended: {answer.finish_reason}; {len(answer.ids)} tokens" in printed.stderr


def test_json_holds_the_completion(directory):
    printed = run("generate", directory, "猫", "--json", "--max-new-tokens", "4", "--temperature", "0.5")
    found = json.loads(printed.stdout)
    again = json.loads(run("generate", directory, "猫", "--json", "--max-new-tokens", "4", "--temperature", "0.5",
                           "--seed", str(found["seed"])).stdout)  # fmt: skip
    assert found == again
    assert f"seed {found['seed']} (drawn" in printed.stderr
    assert found["finish_reason"] == "length" and len(found["ids"]) == len(found["logprobs"]) == 4


def test_a_prompt_from_standard_input(directory):
    piped = run("generate", directory, "-", "--seed", "3", text="the cat")
    assert piped.stdout == run("generate", directory, "the cat", "--seed", "3").stdout


def test_stop_ends_the_text(directory):
    whole = run("generate", directory, "the", "--seed", "5").stdout
    stop = next(c for c in whole if c.isprintable() and c != "\ufffd")
    printed = run("generate", directory, "the", "--seed", "5", "--stop", stop)
    assert printed.stdout == whole[: whole.index(stop)] + "\n"
    assert "ended: stop" in printed.stderr


def test_explain_shows_shapes_stages_candidates_and_draw(directory):
    knobs = ("--max-new-tokens", "2", "--top-k", "3", "--seed", "1")
    printed = run("generate", directory, "the", "--explain", *knobs).stdout
    for word in ("token 2", "token 3", "ids 1×2", "ids 1×1", "blocks.*", "head", "top-k 3", "entropy", "u = "):
        assert word in printed
    assert printed.endswith(run("generate", directory, "the", *knobs).stdout)
    accounts = json.loads(run("generate", directory, "the", "--explain", "--json", *knobs).stdout)["accounts"]
    assert [account["position"] for account in accounts] == [2, 3]
    assert sum(candidate["probabilities"][-1] for candidate in accounts[0]["candidates"]) == pytest.approx(1)


def test_requests_that_cannot_be_met(directory):
    with pytest.raises(SamplingError):
        run("generate", directory, "x", "--temperature", "nan")
    with pytest.raises(ContextError, match="context_length=24"):
        run("generate", directory, "猫坐" * 50)


def test_eval_prints_and_reports_the_same_figures(directory, tmp_path):
    (tmp_path / "a.txt").write_text("the cat sat. 猫坐着。", encoding="utf-8")
    (tmp_path / "b.jsonl").write_text('{"body": "the cat"}\n{"body": "sat"}\n', encoding="utf-8")
    texts = (str(tmp_path / "a.txt"), str(tmp_path / "b.jsonl"))
    first, second = json.loads(run("eval", directory, *texts, "--field", "body", "--json", "--surprising", "2").stdout)
    assert first["text"] == texts[0]
    assert first["num_bytes"] == len("the cat sat. 猫坐着。".encode())
    assert second["num_bytes"] == len("the catsat")
    assert first["bits_per_byte"] == pytest.approx(first["nats"] / math.log(2) / first["num_bytes"])
    assert first["surprising"][0]["logprob"] <= first["surprising"][1]["logprob"] < 0
    table = run("eval", directory, *texts, "--field", "body").stdout
    assert f"{first['loss']:.4f}" in table and f"{second['bits_per_byte']:.4f}" in table


def test_eval_reads_standard_input(directory, tmp_path):
    (tmp_path / "a.txt").write_text("the cat", encoding="utf-8")
    piped = json.loads(run("eval", directory, "-", "--json", text="the cat").stdout)
    named = json.loads(run("eval", directory, str(tmp_path / "a.txt"), "--json").stdout)
    assert piped[0]["nats"] == named[0]["nats"]


def test_threads_are_what_was_asked(directory):
    run("generate", directory, "x", "--max-new-tokens", "1", "--seed", "0")
    assert torch.get_num_threads() == 1
