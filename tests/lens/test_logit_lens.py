"""The logit lens against models that really end where a row of it stands."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
from plain_exit import read_parts, stream_size
from torch import nn

from pellucid.errors import RequestError
from pellucid.lens.answer import At
from pellucid.lens.logit_lens import METHODS, OPERATIONS_PER_ANSWER, count_affordable

AT = At(node=0)
TEXT = "abcabd"


class Silence(nn.Module):
    """Writes nothing into the stream."""

    def forward(self, x, *rest):
        return torch.zeros_like(x)


def ask(dispatch, method, **params):
    return METHODS[method](dispatch, at=AT, **params)


def model_that_ends_at(model, row):
    """A model whose last row is `row` of the readings: later sub-layers write nothing."""
    cut = copy.deepcopy(model)
    for layer, block in enumerate(cut.blocks):
        block.attention = block.attention if row > 2 * layer else Silence()
        block.mlp = block.mlp if row > 2 * layer + 1 else Silence()
    return cut


def test_each_row_reads_as_the_model_that_ends_there(dispatch):
    answer, ids = ask(dispatch, "logit_lens"), torch.tensor([dispatch.ids(0)])
    for row in range(len(answer.value["rows"])):
        with torch.no_grad():
            chances_TV = model_that_ends_at(dispatch.model(None), row)(ids).logits_BTV[0].softmax(-1)
        np.testing.assert_array_equal(answer.arrays["top"][row], chances_TV.argmax(-1))
        np.testing.assert_allclose(answer.arrays["chance"][row], chances_TV.max(-1).values, rtol=2e-4)


def test_the_last_row_is_the_models_answer(dispatch):
    answer = ask(dispatch, "logit_lens")
    assert answer.value["check"]["ok"] and answer.value["check"]["value"] < 1e-4
    np.testing.assert_allclose(answer.arrays["divergence_bits"][-1], 0, atol=1e-5)


def test_measures_are_what_they_say(dispatch):
    answer, ids = ask(dispatch, "logit_lens"), dispatch.ids(0)
    with torch.no_grad():
        chances_TV = dispatch.model(None)(torch.tensor([ids])).logits_BTV[0].double().softmax(-1)
    entropy_T = -(chances_TV * chances_TV.log2()).sum(-1)
    np.testing.assert_allclose(answer.arrays["entropy_bits"][-1], entropy_T, rtol=1e-4)
    if dispatch.model(None).config.causal:
        following = [float(chances_TV[t, ids[t + 1]]) for t in range(len(ids) - 1)]
        np.testing.assert_allclose(answer.arrays["next_chance"][-1, :-1], following, rtol=1e-4)
        ranks = [int((chances_TV[t] > chances_TV[t, ids[t + 1]]).sum()) + 1 for t in range(len(ids) - 1)]
        np.testing.assert_array_equal(answer.arrays["next_rank"][-1, :-1], ranks)
        assert math.isnan(answer.arrays["next_rank"][0, -1])  # what follows the last token is not known
    else:
        assert np.isnan(answer.arrays["next_rank"]).all() and answer.value["next"] is None


def test_divergence_is_measured_from_the_models_answer(dispatch):
    answer, ids = ask(dispatch, "logit_lens"), torch.tensor([dispatch.ids(0)])
    with torch.no_grad():
        last_TV = dispatch.model(None)(ids).logits_BTV[0].double().log_softmax(-1)
        first_TV = model_that_ends_at(dispatch.model(None), 0)(ids).logits_BTV[0].double().log_softmax(-1)
    bits_T = (last_TV.exp() * (last_TV - first_TV)).sum(-1) / math.log(2)
    np.testing.assert_allclose(answer.arrays["divergence_bits"][0], bits_T, rtol=1e-3)


def test_norms_are_lengths_of_the_streams(dispatch):
    answer = ask(dispatch, "logit_lens")
    start_D = dispatch.model(None).embed.weight[dispatch.ids(0)[0]].detach()
    if dispatch.model(None).config.position.kind == "rotary":
        assert answer.arrays["norms"][0, 0] == pytest.approx(float(start_D.norm()), rel=1e-5)
    last_D = dispatch.trace(AT).arrays[answer.value["rows"][-1]["name"]][-1]
    assert answer.arrays["norms"][-1, -1] == pytest.approx(float(np.linalg.norm(last_D)), rel=1e-5)
    assert [row["place"] for row in answer.value["rows"]][1:3] == ["middle", "output"]


def test_a_window_of_positions_says_the_same_as_the_whole(dispatch):
    whole, part = ask(dispatch, "logit_lens"), ask(dispatch, "logit_lens", first=2, count=3)
    assert (part.value["first"], part.value["count"]) == (2, 3)
    for name in ("top", "chance", "entropy_bits", "next_rank"):
        np.testing.assert_allclose(part.arrays[name], whole.arrays[name][:, 2:5], rtol=1e-5)
    with pytest.raises(RequestError, match="first is out of range"):
        ask(dispatch, "logit_lens", first=100)


def test_large_vocabularies_are_read_a_few_positions_at_a_time(dispatch):
    model = dispatch.model(None)
    spent = 2 * 5 * model.config.d_model * model.config.vocab_size * count_affordable(model, 5)
    assert OPERATIONS_PER_ANSWER / 2 < spent <= OPERATIONS_PER_ANSWER


def test_a_cell_says_what_its_sublayer_added(dispatch):
    cell, below = (
        ask(dispatch, "logit_lens.cell", row=3, position=2, count=4),
        ask(dispatch, "logit_lens.cell", row=2, position=2, count=99999),
    )
    before = {candidate["id"]: candidate["logit"] for candidate in below.value["candidates"]}
    for candidate in cell.value["candidates"]:
        assert candidate["change"] == pytest.approx(candidate["logit"] - before[candidate["id"]], abs=1e-4)
    assert sum(candidate["p"] for candidate in below.value["candidates"]) == pytest.approx(1, abs=1e-4)
    assert ask(dispatch, "logit_lens.cell", row=0, position=0).value["candidates"][0]["change"] is None


def test_the_same_sentence_never_grows_apart(dispatch):
    same = ask(dispatch, "logit_lens.apart", text=TEXT, position=2, other_position=2)
    np.testing.assert_allclose(same.arrays["distance"], 0, atol=1e-5)
    np.testing.assert_allclose(same.arrays["cosine"], 1, atol=1e-6)


def test_the_same_word_elsewhere_starts_as_one_vector_and_grows_apart(dispatch):
    apart = ask(dispatch, "logit_lens.apart", text="b" + TEXT[1:], position=2, other_position=2)
    assert apart.arrays["distance"][0] == 0
    assert (apart.arrays["distance"][1:] > 1e-3).all()
    with pytest.raises(RequestError, match="no token"):
        ask(dispatch, "logit_lens.apart", text="", position=0, other_position=0)


def test_the_parts_of_the_stream_add_up_to_the_logits(dispatch):
    """embedding + what each sub-layer writes, each read alone, over the stream's size, and the norm's bias: all of it."""
    model, arrays = dispatch.model(None), dispatch.trace(AT).arrays
    names = [row["name"] for row in ask(dispatch, "logit_lens").value["rows"]]
    streams_RD = np.stack([arrays[name][-1] for name in names])
    parts_RD = np.concatenate([streams_RD[:1], np.diff(streams_RD, axis=0)])
    total_V = read_parts(model, parts_RD).sum(0) / stream_size(model, streams_RD[-1:])
    bias = getattr(model.final_norm, "bias", None)
    if bias is not None:
        total_V += (model.head.weight if not model.config.tied_head else model.embed.weight) @ bias.detach()
    np.testing.assert_allclose(total_V.detach(), arrays["logits"][-1], atol=2e-4)
