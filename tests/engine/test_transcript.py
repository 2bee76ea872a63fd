"""A trace says how a text came about, and replays to the same text or says where it parts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from pellucid.engine.constraints.settings import ConstraintSettings
from pellucid.engine.generate import generate
from pellucid.engine.request import Request
from pellucid.engine.runners.torch_runner import TorchRunner
from pellucid.engine.sampling.settings import SamplingSettings
from pellucid.engine.transcript import (
    Transcript,
    build_transcript,
    check_origin,
    follow,
    hash_model,
    load_transcript,
    save_transcript,
)
from pellucid.errors import CorruptFileError, PellucidError, RequestError

SETTINGS = SamplingSettings(
    temperature=0.8,
    top_k=30,
    order="mlx",
    seed=3,
    max_new_tokens=7,
    stop=("\n",),
    stop_ids=(4,),
    logit_bias=("9:-1.5",),
)


@pytest.fixture
def model(merged_tokenizer, tiny_model):
    return tiny_model(merged_tokenizer.vocab_size, sharpness=15)


@pytest.fixture
def trace(model, merged_tokenizer) -> Transcript:
    request = Request(prompt_ids=[0, 7], sampling=SETTINGS, explain=True)
    steps = generate(TorchRunner(model), merged_tokenizer, request)
    return build_transcript(steps, request, merged_tokenizer, model_sha256=hash_model(model))


def replayed(trace: Transcript, model, tokenizer):
    return follow(trace, generate(TorchRunner(model), tokenizer, trace.request))


def test_it_comes_back_from_the_disk_and_replays(trace, model, merged_tokenizer, tmp_path):
    save_transcript(trace, tmp_path / "a.json")
    found = load_transcript(tmp_path / "a.json")
    assert found == json_of(trace)
    assert found.request == Request(prompt_ids=(0, 7), sampling=SETTINGS)
    check_origin(found, model_sha256=hash_model(model), tokenizer=merged_tokenizer)
    steps = list(replayed(found, model, merged_tokenizer))
    assert [step.id for step in steps] == [told["id"] for told in found.steps]
    assert steps[-1].finish_reason == found.finish_reason


def json_of(trace: Transcript) -> Transcript:
    """The trace with the lists that JSON makes of tuples."""
    values = json.loads(json.dumps(vars(trace)))
    return Transcript(**{**values, "prompt_ids": tuple(values["prompt_ids"]), "steps": tuple(values["steps"])})


def test_every_step_holds_its_account(trace):
    for position, told in enumerate(trace.steps, 2):
        assert told["position"] == position
        assert 0 <= told["segment"][0] <= told["u"] < told["segment"][1] <= 1
        assert told["stages"][0]["name"] == "model"
        assert told["logprob"] < 0


def test_the_first_line_says_what_it_is(trace, tmp_path):
    save_transcript(trace, tmp_path / "a.json")
    document = json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))
    assert list(document)[:2] == ["format", "version"]
    assert (document["format"], document["version"]) == ("pellucid-trace", 1)


def test_another_text_is_told_apart(trace, model, merged_tokenizer):
    for number in (0, 3, len(trace.steps) - 1):
        changed = [dict(step) for step in trace.steps]
        changed[number]["id"] += 1
        other = Transcript(**{**vars(trace), "steps": tuple(changed)})
        steps = replayed(other, model, merged_tokenizer)
        assert [next(steps).id for _ in range(number)] == [step["id"] for step in trace.steps[:number]]
        with pytest.raises(RequestError, match=f"new token {number + 1} differs"):
            next(steps)


def test_a_text_of_another_length_is_told_apart(trace, model, merged_tokenizer):
    longer = Transcript(**{**vars(trace), "steps": (*trace.steps, trace.steps[-1])})
    with pytest.raises(RequestError, match="an end"):
        list(replayed(longer, model, merged_tokenizer))
    shorter = Transcript(**{**vars(trace), "steps": trace.steps[:-1]})
    with pytest.raises(RequestError, match="no more"):
        list(replayed(shorter, model, merged_tokenizer))


def test_another_model_or_tokenizer_is_refused(trace, tiny_model, merged_tokenizer, byte_tokenizer, model):
    other = hash_model(tiny_model(merged_tokenizer.vocab_size, sharpness=15, seed=1))
    with pytest.raises(RequestError, match="another model"):
        check_origin(trace, model_sha256=other, tokenizer=merged_tokenizer)
    with pytest.raises(RequestError, match="another tokenizer"):
        check_origin(trace, model_sha256=hash_model(model), tokenizer=byte_tokenizer)


def test_the_hash_of_a_model_is_of_all_that_matters(tiny_model):
    first = hash_model(tiny_model(40))
    assert hash_model(tiny_model(40, dropout=0.5)) == first  # matters in training only
    assert hash_model(tiny_model(40, rope_theta=500.0)) != first
    assert hash_model(tiny_model(40).to(torch.bfloat16)) != first
    touched = tiny_model(40)
    with torch.no_grad():
        touched.blocks[1].mlp.down.weight[3, 5] += 1e-3
    assert hash_model(touched) != first


def test_a_constraint_is_kept(trace):
    form = ConstraintSettings(choices=("yes", "不"))
    kept = Transcript(**{**vars(trace), "constraint": json.loads(json.dumps(vars(form)))})
    assert kept.request.constraint == form


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "other"}, "not a trace"),
        ({"version": 2}, "another version"),
        ({"steps": []}, "damaged"),
        ({"steps": 3}, "steps"),
        ({"steps": [{"text": "a"}]}, "without its id"),
        ({"prompt_ids": [0, "7"]}, "without its id"),
        ({"prompt_ids": None}, "prompt_ids"),
        ({"exact": "yes"}, "exact"),
        ({"model_sha256": None}, "model_sha256"),
    ],
)
def test_files_that_are_no_traces(trace, tmp_path, change, message):
    path = tmp_path / "a.json"
    save_transcript(trace, path)
    path.write_text(json.dumps({**json.loads(path.read_text(encoding="utf-8")), **change}), encoding="utf-8")
    with pytest.raises(CorruptFileError, match=message):
        load_transcript(path)


def test_files_that_are_no_json(tmp_path: Path):
    (tmp_path / "a.json").write_bytes(b"\xff\x00{")
    with pytest.raises(CorruptFileError):
        load_transcript(tmp_path / "a.json")
    with pytest.raises(PellucidError):
        load_transcript(tmp_path / "none.json")
