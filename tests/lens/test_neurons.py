"""Neurons against finite differences and against the sum that they must add up to."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from plain_exit import read_parts, stream_size

from pellucid.errors import RequestError
from pellucid.lens.answer import At
from pellucid.lens.neurons import METHODS
from pellucid.lens.readout import read_rows

AT = At(node=0)
LAYER = 1  # the last of the fixture's models: between it and the exit lies only the final norm


def ask(dispatch, method, **params):
    return METHODS[method](dispatch, at=AT, layer=LAYER, **params)


def test_hidden_is_what_the_down_matrix_reads(dispatch):
    model = dispatch.model(None)
    mlp, arrays = model.blocks[LAYER].mlp, dispatch.trace(AT).arrays
    answer = ask(dispatch, "neurons", position=3)
    with torch.no_grad():
        written_D = mlp.down(torch.tensor(answer.arrays["hidden"]))
        normed_D = torch.tensor(arrays[f"blocks.{LAYER}.mlp_norm"][3])
        pre_F = (mlp.gate if model.config.feed_forward.gated else mlp.up)(normed_D)
    np.testing.assert_allclose(written_D, arrays[f"blocks.{LAYER}.mlp.output"][3], atol=1e-5)
    np.testing.assert_allclose(answer.arrays["pre"], pre_F, atol=1e-5)
    gate = answer.arrays["up"] if model.config.feed_forward.gated else 1
    np.testing.assert_allclose(answer.arrays["activated"] * gate, answer.arrays["hidden"], atol=1e-5)


def test_the_curve_passes_through_the_dots(dispatch):
    answer = ask(dispatch, "neurons", position=2)
    x, y = answer.arrays["curve"]
    pre_F, activated_F = answer.arrays["pre"], answer.arrays["activated"]
    assert x[0] <= pre_F.min() and pre_F.max() <= x[-1]
    np.testing.assert_allclose(np.interp(pre_F, x, y), activated_F, atol=0.02 * max(1, np.abs(y).max()))


@pytest.mark.parametrize("by", ["value", "written"])
def test_the_strongest_come_first(dispatch, by):
    answer = ask(dispatch, "neurons", position=3, count=5, by=by)
    strength_F = np.abs(answer.arrays["hidden"])
    if by == "written":
        strength_F = strength_F * np.linalg.norm(dispatch.model(None).blocks[LAYER].mlp.down.weight.detach(), axis=0)
    assert [neuron["index"] for neuron in answer.value["top"]] == np.argsort(-strength_F)[:5].tolist()


def test_direct_is_what_the_neuron_adds_to_the_logits(dispatch):
    """All neurons' direct parts, and those of everything else in the stream, are the logits."""
    model, arrays = dispatch.model(None), dispatch.trace(AT).arrays
    vocab, position = model.config.vocab_size, 4
    stream_D, rest_D = (arrays[f"blocks.{LAYER}.{place}"][position] for place in ("output", "middle"))
    if model.config.feed_forward.bias:
        rest_D = rest_D + model.blocks[LAYER].mlp.down.bias.detach().numpy()
    size = stream_size(model, stream_D[None])
    total_V = read_parts(model, rest_D[None])[0] / size
    total_V += read_rows(model, stream_D[None])[0] - read_parts(model, stream_D[None])[0] / size  # the norm's bias
    for index in range(model.config.d_ff):
        answer = ask(dispatch, "neuron", index=index, position=position, count=vocab)
        for token in answer.value["promotes"]:
            total_V[token["id"]] += token["direct"]
    np.testing.assert_allclose(total_V, read_rows(model, stream_D[None])[0], atol=1e-3)


def test_scores_are_slopes_of_the_exit(dispatch):
    """Push the stream a little along the neuron's column, its size held: logits move by score / size."""
    model, position, step = dispatch.model(None).double(), 4, 1e-6
    answer = ask(dispatch, "neuron", index=7, position=position, count=5)
    column_D = torch.tensor(answer.arrays["column"]).double()
    stream_D = torch.tensor(dispatch.trace(AT).arrays[f"blocks.{LAYER}.output"][position]).double()
    with torch.no_grad():
        size, pushed_size = stream_size_exact(model, stream_D), stream_size_exact(model, stream_D + step * column_D)
        here_V, there_V = exit_without_bias(model, stream_D), exit_without_bias(model, stream_D + step * column_D)
        slope_V = (there_V * pushed_size - here_V * size) / step / size
    for token in answer.value["promotes"] + answer.value["suppresses"]:
        assert token["score"] / answer.value["size"] == pytest.approx(float(slope_V[token["id"]]), rel=1e-3, abs=1e-4)
    model.float()


def stream_size_exact(model, x_D):
    spread_D = x_D - x_D.mean() if isinstance(model.final_norm, torch.nn.LayerNorm) else x_D
    return (spread_D.square().mean() + model.final_norm.eps).sqrt()


def exit_without_bias(model, x_D):
    bias = getattr(model.final_norm, "bias", None)
    normed_D = model.final_norm(x_D) - (0 if bias is None else bias)
    return normed_D @ (model.embed.weight if model.config.tied_head else model.head.weight).T


def test_promoted_and_suppressed_are_the_two_ends(dispatch):
    answer = ask(dispatch, "neuron", index=3, count=4)
    promoted = [token["score"] for token in answer.value["promotes"]]
    suppressed = [token["score"] for token in answer.value["suppresses"]]
    assert promoted == sorted(promoted, reverse=True) and suppressed == sorted(suppressed)
    assert promoted[-1] > suppressed[-1]
    hidden_T = dispatch.trace(AT).arrays[f"blocks.{LAYER}.mlp.hidden"][:, 3]
    np.testing.assert_array_equal(answer.arrays["hidden"], hidden_T)
    assert answer.value["position"] == len(hidden_T) - 1 and answer.value["value"] == hidden_T[-1]


def test_neurons_that_are_not_there_are_refused(dispatch):
    with pytest.raises(RequestError, match="index is out of range"):
        ask(dispatch, "neuron", index=31)
    with pytest.raises(RequestError, match="position is out of range"):
        ask(dispatch, "neurons", position=99)
