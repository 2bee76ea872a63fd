"""Likelihood against the sum written out token by token, and its promises about units, order and hidden state."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from pellucid.data.batch import TokenRows
from pellucid.data.document import Document
from pellucid.data.objectives.causal import CausalObjective
from pellucid.errors import InputError
from pellucid.evaluate.likelihood import Likelihood, measure_likelihood, measure_text, token_logprobs
from pellucid.model.build import build
from pellucid.model.output import Output
from pellucid.planning.config import ModelConfig

TEXTS = ("the cat sat on the mat. " * 3, "猫坐在垫子上。猫猫", "x")
DOCUMENTS = [Document(text=text, origin=f"{i}") for i, text in enumerate(TEXTS)]


def sum_naively(model, tokenizer, texts) -> tuple[float, int]:
    """One token at a time: windows of the context, side by side, over all documents; <bos> is not predicted."""
    stream = [i for text in texts for i in (tokenizer.bos_id, *tokenizer.encode(text).ids, tokenizer.eos_id)]
    size, nats, count = model.config.context_length, 0.0, 0
    for place in range(1, len(stream)):
        if stream[place] == tokenizer.bos_id:
            continue
        window_start = (place - 1) // size * size
        with torch.no_grad():
            logits_V = model(torch.tensor([stream[window_start:place]])).logits_BTV[0, -1].double()
        nats -= float(logits_V.log_softmax(-1)[stream[place]])
        count += 1
    return nats, count


@pytest.mark.parametrize("rows", [1, 3, 16])
def test_equals_the_sum_token_by_token(model, tokenizer, rows):
    measured = measure_text(model, tokenizer, DOCUMENTS, rows=rows, objective=CausalObjective())
    nats, count = sum_naively(model, tokenizer, TEXTS)
    assert measured.nats == pytest.approx(nats, rel=1e-5)
    assert measured.num_tokens == count
    assert measured.num_bytes == sum(len(text.encode()) for text in TEXTS)
    assert abs(measured.loss - math.log(tokenizer.vocab_size)) > 0.1  # the model is not indifferent


def test_an_indifferent_model_is_as_unsure_as_its_vocabulary_is_large(tokenizer):
    config = ModelConfig(
        vocab_size=tokenizer.vocab_size, context_length=8, n_layers=1, n_heads=1, n_kv_heads=1, head_dim=4, d_model=4,
        d_ff=4, tied_head=False,
    )  # fmt: skip
    measured = measure_text(build(config, seed=0), tokenizer, DOCUMENTS, objective=CausalObjective())
    assert measured.perplexity == pytest.approx(tokenizer.vocab_size)
    assert measured.bits_per_byte == pytest.approx(
        measured.num_tokens * math.log2(tokenizer.vocab_size) / measured.num_bytes
    )


def test_units():
    measured = Likelihood(nats=math.log(8) * 2, num_tokens=2, num_bytes=3)
    assert (measured.perplexity, measured.bits_per_byte) == pytest.approx((8, 2))
    assert Likelihood(nats=1e6, num_tokens=1, num_bytes=1).perplexity == math.inf
    assert measured.to_dict()["loss"] == measured.loss


def rows_of(ids_BS: torch.Tensor, weights_BT: torch.Tensor) -> TokenRows:
    """Rows of which the tokens after the first weigh so much."""
    weights_BS = F.pad(weights_BT, (1, 0))
    index_B, lengths_B = torch.arange(len(ids_BS)), torch.full((len(ids_BS),), ids_BS.size(1))
    return TokenRows(ids_BS=ids_BS, weights_BS=weights_BS, lengths_B=lengths_B, first_token_B=index_B, index_B=index_B)


def test_only_what_weighs_is_counted(model):
    ids_BS = torch.tensor([[1, 2, 3, 4], [4, 5, 6, 7]])
    weights_BT = torch.tensor([[1.0, 0.0, 1.0], [0.0, 1.0, 0.0]])
    measured = measure_likelihood(model, [rows_of(ids_BS, weights_BT)], objective=CausalObjective(), num_bytes=1)
    with torch.no_grad():
        logprobs = model(ids_BS[:, :-1]).logits_BTV.log_softmax(-1).gather(-1, ids_BS[:, 1:, None])[..., 0]
    assert measured.num_tokens == 3
    assert measured.nats == pytest.approx(-float((logprobs * weights_BT).sum()), rel=1e-6)


class NeverZero:
    """Thinks that any token may follow, but for token 0."""

    device = torch.device("cpu")

    def __call__(self, ids_BT, context):
        logits_BTV = torch.zeros(*ids_BT.shape, 5)
        logits_BTV[..., 0] = -math.inf
        return Output(logits_BTV=logits_BTV)


def test_an_impossible_target_at_padding_does_no_harm():
    def measure(*weights):
        rows = rows_of(torch.tensor([[1, 3, 0]]), torch.tensor([weights]))
        return measure_likelihood(NeverZero(), [rows], objective=CausalObjective(), num_bytes=1)

    assert measure(1.0, 0.0).nats == pytest.approx(math.log(4))
    assert measure(1.0, 1.0).nats == math.inf
    with pytest.raises(InputError, match="nothing to predict"):
        measure(0.0, 0.0)


def test_nothing_hidden_is_touched(model, tokenizer):
    model.train()
    model.blocks[0].mlp.eval()
    modes, state = [part.training for part in model.modules()], torch.random.get_rng_state()
    first = measure_text(model, tokenizer, DOCUMENTS, objective=CausalObjective())
    assert [part.training for part in model.modules()] == modes
    assert torch.equal(torch.random.get_rng_state(), state)
    assert measure_text(model, tokenizer, DOCUMENTS, objective=CausalObjective()) == first  # dropout was off
    assert all(parameter.grad is None and parameter.requires_grad for parameter in model.parameters())


def test_a_failure_restores_the_mode(model):
    model.train()
    rows = rows_of(torch.zeros(1, 100, dtype=torch.long), torch.ones(1, 99))
    with pytest.raises(Exception, match="context"):
        measure_likelihood(model, [rows], objective=CausalObjective(), num_bytes=1)
    assert model.training


def test_autocast_is_the_callers_choice(tokenizer):
    config = ModelConfig.from_axes(
        vocab_size=tokenizer.vocab_size, context_length=16, n_layers=1, n_heads=2, n_kv_heads=2, head_dim=8,
        d_model=16, d_ff=24, tied_head=False, norm="layer", qk_norm=False, init="gpt2",
    )  # fmt: skip
    model = build(config, seed=0)
    exact = measure_text(model, tokenizer, DOCUMENTS, objective=CausalObjective())
    with torch.autocast("cpu", torch.bfloat16):
        rounded = measure_text(model, tokenizer, DOCUMENTS, objective=CausalObjective())
    assert rounded.nats != exact.nats
    assert rounded.nats == pytest.approx(exact.nats, rel=0.02)


def test_watch_sees_every_batch(model, tokenizer):
    seen = []

    def watch(batches, num_batches):
        for batch in batches:
            seen.append((batch.num_rows, num_batches))
            yield batch

    measure_text(model, tokenizer, DOCUMENTS, rows=2, watch=watch, objective=CausalObjective())
    assert len(seen) == seen[0][1] > 1


def test_token_logprobs_are_the_parts_of_the_whole(model, tokenizer):
    text = TEXTS[0]
    scored = token_logprobs(model, tokenizer, text)
    assert "".join(token.text for token in scored) == text
    nats, _ = sum_naively(model, tokenizer, [text])
    assert 0 < nats + sum(token.logprob for token in scored) < 20  # what is missing is the surprise of <eos>
    whole = measure_text(model, tokenizer, [Document(text=text, origin="")], objective=CausalObjective())
    assert whole.num_tokens == len(scored) + 1
    assert all(1 <= token.rank <= tokenizer.vocab_size for token in scored)
    assert all((token.rank == 1) or token.logprob < math.log(0.5) for token in scored)


def test_one_character_is_enough_and_nothing_is_not(model, tokenizer):
    assert measure_text(model, tokenizer, [Document(text="x", origin="")], objective=CausalObjective()).num_tokens == 2
    with pytest.raises(InputError):
        measure_text(model, tokenizer, [], objective=CausalObjective())
