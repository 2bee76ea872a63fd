"""Attention's numbers against a slow one written out from the weights alone, a head and a pair of positions at a time."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from plain_exit import read_parts, stream_size

from pellucid.errors import RequestError
from pellucid.lens.answer import At
from pellucid.lens.attention import METHODS
from pellucid.lens.readout import read_rows
from pellucid.store.envelope import Quantized

AT = At(node=0)
LAYER = 1


def ask(dispatch, method, **params):
    return METHODS[method](dispatch, at=AT, layer=LAYER, **params)


def by_hand(dispatch, head):
    """Query, key and value rows of one head, from the recorded input of its attention, in float64 complex arithmetic."""
    model = dispatch.model(None)
    config, attention = model.config, model.blocks[LAYER].attention
    x_TD = torch.tensor(dispatch.trace(AT).arrays[f"blocks.{LAYER}.attention_norm"]).double()

    def project(linear, number):
        rows = slice(number * config.head_dim, (number + 1) * config.head_dim)
        bias = 0 if linear.bias is None else linear.bias[rows].double()
        return x_TD @ linear.weight[rows].double().T + bias

    def place(row_TK, norm):
        if config.attention.qk_norm:
            row_TK = row_TK / (row_TK.square().mean(-1, keepdim=True) + config.norm.eps).sqrt() * norm.weight.double()
        if config.position.kind != "rotary":
            return row_TK
        half = config.head_dim // 2
        turn_P = config.position.theta ** (-torch.arange(half).double() / half)
        angle_TP = torch.arange(len(row_TK)).double()[:, None] * turn_P
        turned = torch.complex(row_TK[:, :half], row_TK[:, half:]) * torch.polar(torch.ones_like(angle_TP), angle_TP)
        return torch.cat([turned.real, turned.imag], -1)

    kv_head = head // (config.n_heads // config.n_kv_heads)
    with torch.no_grad():
        q_TK = place(project(attention.query, head), attention.query_norm)
        k_SK = place(project(attention.key, kv_head), attention.key_norm)
        return q_TK, k_SK, project(attention.value, kv_head)


def may_look(config, query, key):
    if not config.causal:
        return True
    return key <= query and ((window := config.window_at(0)) is None or query - key < window)


@pytest.mark.parametrize("head", range(4))
def test_every_cell_is_the_product_of_its_query_and_key(dispatch, head):
    config = dispatch.model(None).config
    q_TK, k_SK, _ = by_hand(dispatch, head)
    for query, key in ((0, 0), (4, 1), (5, 5), (1, 4), (5, 0)):
        cell = ask(dispatch, "attention.cell", head=head, query=query, key=key)
        dot = float(q_TK[query] @ k_SK[key])
        assert cell.value["dot"] == pytest.approx(dot, rel=1e-4, abs=1e-4)
        assert cell.value["scaled"] == pytest.approx(dot / math.sqrt(config.head_dim), rel=1e-4, abs=1e-4)
        assert float(cell.arrays["products"].sum()) == pytest.approx(cell.value["dot"], rel=1e-4, abs=1e-4)
        assert cell.value["masked"] is not may_look(config, query, key)
        assert cell.value["weight"] == pytest.approx(cell.value["exp"] / cell.value["exp_sum"], abs=1e-6)
        if cell.value["masked"]:
            assert cell.value["score"] is None and cell.value["weight"] == 0
            assert cell.value["mask"] == ("later" if key > query else "window")
        else:
            assert cell.value["score"] == pytest.approx(cell.value["scaled"], rel=1e-4, abs=1e-4)


@pytest.mark.parametrize("head", range(4))
def test_a_row_goes_from_scores_to_weights_to_the_mix(dispatch, head):
    config = dispatch.model(None).config
    q_TK, k_SK, v_SK = by_hand(dispatch, head)
    for query in range(len(q_TK)):
        row = ask(dispatch, "attention.row", head=head, query=query)
        allowed = [key for key in range(len(k_SK)) if may_look(config, query, key)]
        exps = {key: math.exp(float(q_TK[query] @ k_SK[key]) / math.sqrt(config.head_dim)) for key in allowed}
        weights = [exps.get(key, 0.0) / sum(exps.values()) for key in range(len(k_SK))]
        np.testing.assert_allclose(row.arrays["weight"], weights, atol=1e-4)
        np.testing.assert_allclose(row.arrays["exp"] / row.value["exp_sum"], weights, atol=1e-4)
        np.testing.assert_allclose(row.arrays["mix"], torch.tensor(weights).double() @ v_SK, atol=1e-3)
        assert row.value["weight_sum"] == pytest.approx(1, abs=1e-6)
        assert np.isneginf(row.arrays["score"]).sum() == len(k_SK) - len(allowed)
        assert np.isfinite(row.arrays["dot"]).all()  # the mask comes after: every dot is a number


def test_the_heads_shares_are_what_attention_writes(dispatch):
    model = dispatch.model(None)
    shares = [
        ask(dispatch, "attention.row", head=head, query=3).arrays["output"] for head in range(model.config.n_heads)
    ]
    bias = model.blocks[LAYER].attention.output.bias
    total_D = sum(shares) + (0 if bias is None else bias.detach().numpy())
    np.testing.assert_allclose(total_D, dispatch.trace(AT).arrays[f"blocks.{LAYER}.attention.output"][3], atol=1e-4)


def test_what_heads_write_is_their_share_of_the_logits(dispatch):
    """In the last layer: all heads' direct parts, and those of the rest of the stream, are the logits."""
    model, arrays, query = dispatch.model(None), dispatch.trace(AT).arrays, 4
    stream_D = arrays[f"blocks.{LAYER}.output"][query]
    shares = [ask(dispatch, "attention.row", head=head, query=query).arrays["output"] for head in range(4)]
    size = stream_size(model, stream_D[None])
    total_V = read_parts(model, (stream_D - sum(shares))[None])[0] / size
    total_V += read_rows(model, stream_D[None])[0] - read_parts(model, stream_D[None])[0] / size  # the norm's bias
    for head in range(4):
        told = ask(dispatch, "attention.writes", head=head, query=query, count=model.config.vocab_size).value
        for token in told["promotes"]:
            total_V[token["id"]] += token["direct"]
        assert [token["id"] for token in told["suppresses"]][:3] == [t["id"] for t in told["promotes"]][:-4:-1]
    np.testing.assert_allclose(total_V, read_rows(model, stream_D[None])[0], atol=1e-3)


def test_the_steps_of_a_matrix_follow_from_one_another(dispatch):
    dot, scaled, score, weight = (
        ask(dispatch, "attention.matrix", head=2, step=step).arrays["matrix"]
        for step in ("dot", "scaled", "score", "weight")
    )
    np.testing.assert_allclose(scaled, dot / math.sqrt(dispatch.model(None).config.head_dim), rtol=1e-5)
    seen = np.isfinite(score)
    np.testing.assert_allclose(score[seen], scaled[seen], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(weight.sum(-1), 1, atol=1e-6)
    assert (weight[~seen] == 0).all()


def test_rotation_turns_and_keeps_the_length(dispatch):
    cell = ask(dispatch, "attention.cell", head=1, query=4, key=2)
    before, after = cell.arrays["query"], cell.arrays["query_rotated"]
    assert np.linalg.norm(before) == pytest.approx(np.linalg.norm(after), rel=1e-5)
    if not cell.value["rotary"]:
        assert cell.arrays["angle"].size == 0
        np.testing.assert_array_equal(before, after)
        return
    half = len(before) // 2
    turned = (before[:half] + 1j * before[half:]) * np.exp(1j * cell.arrays["angle"][0])
    np.testing.assert_allclose(after, np.concatenate([turned.real, turned.imag]), atol=1e-5)
    assert cell.arrays["angle"][1, 0] == pytest.approx(2)  # the fastest pair turns one radian a position


def test_heads_are_told_with_their_groups(dispatch):
    model = dispatch.model(None)
    answer = ask(dispatch, "attention")
    groups = answer.value["groups"]
    assert (
        sorted(head for group in groups for head in group) == list(range(model.config.n_heads))
        and len(groups) == model.config.n_kv_heads
    )
    for number, group in enumerate(groups):
        assert {ask(dispatch, "attention.row", head=head, query=1).value["kv_head"] for head in group} == {number}
    weights_HTS = answer.arrays["weights"]
    for weights_TS, habit in zip(weights_HTS, answer.value["habits"], strict=True):
        assert habit["first"] == pytest.approx(float(np.mean([row[0] for row in weights_TS])), rel=1e-5)
        far = [sum(w * abs(q - k) for k, w in enumerate(row)) for q, row in enumerate(weights_TS)]
        assert habit["distance"] == pytest.approx(float(np.mean(far)), rel=1e-4)
        bits = [-sum(w * math.log2(w) for w in row.tolist() if w) for row in weights_TS]
        assert habit["entropy_bits"] == pytest.approx(float(np.mean(bits)), rel=1e-4)


def test_bytes_are_close_and_say_so(dispatch):
    rough = METHODS["attention"](dispatch, at=At(node=0, precision="byte"), layer=LAYER).arrays["weights"]
    assert isinstance(rough, Quantized)
    np.testing.assert_allclose(rough.restore(), ask(dispatch, "attention").arrays["weights"], atol=0.51 * rough.scale)


def test_places_that_are_not_there_are_refused(dispatch):
    with pytest.raises(RequestError, match="head is out of range"):
        dispatch.answer("attention.cell", {"layer": LAYER, "head": 4, "query": 0, "key": 0})
    with pytest.raises(RequestError, match="layer is out of range"):
        dispatch.answer("attention", {"layer": 9})
