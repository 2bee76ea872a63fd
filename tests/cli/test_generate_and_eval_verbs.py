"""`pellucid generate` and `pellucid eval` as a person, a pipe or a program uses them."""

from __future__ import annotations

import json
import math
import shutil

import pytest
import torch
from click.testing import CliRunner, Result

from pellucid.api import load
from pellucid.cli.app import root
from pellucid.errors import ContextError, RequestError, SamplingError, SettingsError


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
    # The seed is drawn: without a least length one run in a hundred ends before the fourth token.
    asked = ("--json", "--max-new-tokens", "4", "--set", "min_new_tokens=4", "--temperature", "0.5")
    printed = run("generate", directory, "猫", *asked)
    found = json.loads(printed.stdout)
    again = json.loads(run("generate", directory, "猫", *asked, "--seed", str(found["seed"])).stdout)
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
    for word in ("token 2", "token 3", "ids 1×2", "ids 1×1", "blocks.*", "logits", "top-k 3", "entropy", "u = "):
        assert word in printed
    assert printed.endswith(run("generate", directory, "the", *knobs).stdout)
    accounts = json.loads(run("generate", directory, "the", "--explain", "--json", *knobs).stdout)["accounts"]
    assert [account["position"] for account in accounts] == [2, 3]
    left = [candidate["logprobs"][-1] for candidate in accounts[0]["candidates"]]
    assert sum(math.exp(logprob) for logprob in left if logprob is not None) == pytest.approx(1)


def test_every_flag_and_setting_reaches_the_sampler(directory):
    printed = run("generate", directory, "the", "--seed", "5", "--min-p", "0.01", "--top-k", "9", "--temperature", "2",
                  "--set", "order=llama.cpp", "--set", "repetition_penalty=1.2", "--set", "stop_ids=3,4",
                  "--max-new-tokens", "2")  # fmt: skip
    assert "· model → repetition 1.2 (both, last 64) → top-k 9 → min-p 0.01 → temperature 2 → draw" in printed.stderr
    assert 'order="llama.cpp" (command line)' in printed.stderr
    assert "stop_ids=[3, 4] (command line)" in printed.stderr


def test_prompt_log_probabilities(directory):
    found = json.loads(
        run("generate", directory, "the 猫", "--json", "--prompt-logprobs", "--max-new-tokens", "1").stdout
    )
    lm = load(directory, device="cpu")
    ids = lm.tokenizer.encode_prompt("the 猫")
    assert [token["id"] for token in found["prompt_logprobs"]] == ids
    told = [token["logprob"] for token in found["prompt_logprobs"][1:]]
    with torch.inference_mode():
        expected = lm.model(torch.tensor([ids])).logits_BTV[0].log_softmax(-1)
    assert told == pytest.approx([float(expected[i, token]) for i, token in enumerate(ids[1:])], abs=1e-4)
    table = run("generate", directory, "the 猫", "--prompt-logprobs", "--max-new-tokens", "1").stdout
    assert f"{told[0]:.3f}" in table and "bits per token" in table


def test_several_texts_from_one_seed(directory):
    knobs = ("--seed", "5", "--max-new-tokens", "5", "--json")
    three = json.loads(run("generate", directory, "the", "-n", "3", *knobs).stdout)["choices"]
    assert len({choice["text"] for choice in three}) > 1
    alone = json.loads(run("generate", directory, "the", *knobs).stdout)
    assert three[0]["ids"] == alone["ids"]
    printed = run("generate", directory, "the", "-n", "3", *knobs[:-1]).stdout
    assert all(f"[{number}] {choice['text']}" in printed for number, choice in enumerate(three))


def test_a_trace_replays_and_a_changed_one_does_not(directory, tmp_path):
    path = tmp_path / "trace.json"
    knobs = ("--seed", "5", "--top-k", "9", "--max-new-tokens", "6")
    first = run("generate", directory, "the", *knobs, "--save-trace", str(path))
    again = run("generate", directory, "--replay", str(path))
    assert again.stdout == first.stdout
    assert "· equal to the trace: 6 tokens" in again.stderr
    document = json.loads(path.read_text(encoding="utf-8"))
    assert len(document["steps"][0]["stages"]) == 2
    document["steps"][1]["id"] += 1
    path.write_text(json.dumps(document), encoding="utf-8")
    with pytest.raises(RequestError, match="new token 2 differs"):
        run("generate", directory, "--replay", str(path))
    with pytest.raises(SettingsError, match="from the trace"):
        run("generate", directory, "--replay", str(path), "--top-k", "3")
    with pytest.raises(SettingsError, match="from the trace"):
        run("generate", directory, "the", "--replay", str(path))


@pytest.mark.parametrize("guess", [("--lookup", "4"), ("--draft", None)])
def test_guessing_ahead_changes_no_text(directory, guess):
    guess = tuple(directory if part is None else part for part in guess)
    knobs = ("--seed", "5", "--max-new-tokens", "12")
    ahead = run("generate", directory, "the cat the cat", *knobs, *guess)
    assert ahead.stdout == run("generate", directory, "the cat the cat", *knobs).stdout
    assert "accepted: " in ahead.stderr


def test_a_form_holds_the_answer(directory, tmp_path):
    pytest.importorskip("llguidance", reason="constraints are an extra")
    printed = run("generate", directory, "the", "--choice", "yes", "--choice", "猫", "--seed", "2",
                  "--save-trace", str(tmp_path / "t.json"))  # fmt: skip
    assert printed.stdout.strip() in ("yes", "猫")
    assert run("generate", directory, "--replay", str(tmp_path / "t.json")).stdout == printed.stdout


def test_a_window_slides_when_asked(directory):
    knobs = ("--seed", "5", "--set", "on_full=slide", "--max-new-tokens", "40", "--set", "ban=257")
    printed = run("generate", directory, "the", *knobs)
    assert "the context is full" in printed.stderr
    with pytest.raises(RequestError, match="may never end"):
        run("generate", directory, "the", "--set", "on_full=slide")


def test_generation_config_is_shown_or_applied(directory, tmp_path):
    copy = shutil.copytree(directory, tmp_path / "copy")
    suggestion = {"do_sample": True, "temperature": 0.5, "top_k": 7, "num_beams": 3}
    (copy / "generation_config.json").write_text(json.dumps(suggestion))
    info = json.loads((copy / "pellucid.json").read_text(encoding="utf-8"))
    del info["files"]["generation_config.json"]
    (copy / "pellucid.json").write_text(json.dumps(info))
    knobs = ("the", "--seed", "1", "--max-new-tokens", "2")
    shown = run("generate", str(copy), *knobs).stderr
    assert "suggests temperature=0.5, top_k=7 (shown, not applied)" in shown and "model → draw" in shown
    applied = run("generate", str(copy), *knobs, "--generation-config", "apply", "--top-k", "3").stderr
    assert "temperature=0.5 (generation_config.json), top_k=3 (command line)" in applied
    assert "model → temperature 0.5 → top-k 3 → draw" in applied
    assert "not applied: num_beams" in applied
    (copy / "generation_config.json").write_text('{"top_k": "many"}')
    assert "suggests what cannot be" in run("generate", str(copy), *knobs).stderr
    with pytest.raises(SamplingError):
        run("generate", str(copy), *knobs, "--generation-config", "apply")


def test_flags_that_contradict_each_other(directory):
    with pytest.raises(SettingsError, match="several texts"):
        run("generate", directory, "x", "-n", "2", "--explain")
    with pytest.raises(SettingsError, match="guess"):
        run("generate", directory, "x", "--draft", directory, "--lookup", "2")
    with pytest.raises(SettingsError, match="temperatur"):
        run("generate", directory, "x", "--set", "temperatur=1")


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
