"""The account of a step: its figures must add up, and asking for it must change nothing."""

from __future__ import annotations

import math

import pytest

from pellucid.engine.generate import encode_prompt, generate
from pellucid.engine.settings import SamplingSettings
from pellucid.engine.torch_runner import TorchRunner

SETTINGS = SamplingSettings(temperature=0.8, top_k=20, top_p=0.9, seed=3, max_new_tokens=6)


@pytest.fixture
def steps(merged_tokenizer, tiny_model):
    model = tiny_model(merged_tokenizer.vocab_size, sharpness=15)
    return list(
        generate(TorchRunner(model), merged_tokenizer, encode_prompt(merged_tokenizer, "hello"), SETTINGS, explain=True)
    )


def test_no_account_unless_asked(merged_tokenizer, tiny_model):
    model = tiny_model(merged_tokenizer.vocab_size)
    assert all(step.account is None for step in generate(TorchRunner(model), merged_tokenizer, [0], SETTINGS))


def test_stages_are_told_in_their_order(steps, merged_tokenizer):
    for step in steps:
        assert [stage.name for stage in step.account.stages] == ["model", "temperature 0.8", "top-k 20", "top-p 0.9"]
        model, heat, top_k, top_p = step.account.stages
        assert [model.mass_kept, heat.mass_kept] == pytest.approx([1, 1])
        assert model.num_kept == heat.num_kept == merged_tokenizer.vocab_size
        assert top_k.num_kept == 20
        assert top_p.num_kept <= 20
        assert top_p.mass_kept >= 0.9
        assert heat.entropy_bits < model.entropy_bits  # below 1 a temperature sharpens


def test_probabilities_add_up(merged_tokenizer, tiny_model):
    """Shown in full, every column sums to one, and each stage's share kept is the sum of what went in and stayed."""
    model = tiny_model(merged_tokenizer.vocab_size, sharpness=15)
    settings = SamplingSettings(temperature=0.8, top_k=5, top_p=0.9, seed=3, max_new_tokens=3)
    for step in generate(TorchRunner(model), merged_tokenizer, [0], settings, explain=True):
        account = step.account
        assert sum(candidate.probabilities[-1] for candidate in account.candidates) == pytest.approx(1)
        before, after = ([c.probabilities[i] for c in account.candidates] for i in (1, 2))
        kept = sum(b for b, a in zip(before, after, strict=True) if a > 0)
        assert account.stages[2].mass_kept == pytest.approx(kept)


def test_the_draw_lies_in_the_segment_of_the_choice(steps):
    for step in steps:
        account = step.account
        start, end = account.segment
        assert start <= account.u < end
        chosen = next(candidate for candidate in account.candidates if candidate.id == step.id)
        assert end - start == pytest.approx(chosen.probabilities[-1])
        assert math.log(chosen.probabilities[0]) == pytest.approx(step.logprob)
        assert (account.id, account.text) == (step.id, chosen.text)


def test_shapes_lead_from_ids_to_logits(steps, merged_tokenizer):
    first, second = (step.account.shapes for step in steps[:2])
    prompt_length = steps[0].position
    assert first[0] == ("ids", (1, prompt_length))
    assert first[-1] == ("head", (1, 1, merged_tokenizer.vocab_size))  # only the last position is scored
    assert second[0] == ("ids", (1, 1))
    assert dict(second)["blocks.*.attention.core keys"] == (1, 2, prompt_length + 1, 8)
    assert dict(second)["blocks.*"] == dict(second)["final_norm"] == (1, 1, 32)


def test_greedy_has_no_draw(merged_tokenizer, tiny_model):
    model = tiny_model(merged_tokenizer.vocab_size)
    step = next(generate(TorchRunner(model), merged_tokenizer, [0], SamplingSettings(temperature=0), explain=True))
    assert step.account.u is None
    assert step.account.segment == (0.0, 1.0)
    assert step.account.stages[-1].name == "greedy"
    assert step.account.stages[-1].num_kept == 1
    assert step.account.stages[-1].entropy_bits == 0.0
