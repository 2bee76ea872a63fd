"""Masks: each against a definition that asks of one place at a time, and every core against the formula with that mask."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pellucid.errors import RequestError
from pellucid.model.core import BatchedCore, ExplicitCore, Scoring, SdpaCore, attend_in_groups, lower_to_bias
from pellucid.model.mask import (
    All,
    Causal,
    Documents,
    Everything,
    Padding,
    Permutation,
    Prefix,
    Window,
    check_mask,
    simplify,
)
from pellucid.model.rows import Rows

B = 2


@st.composite
def layouts(draw):
    """Rows with something read before, of equal or different lengths, some with padding."""
    T = draw(st.integers(1, 5))
    ragged = draw(st.booleans())
    starts = draw(st.lists(st.integers(0, 4), min_size=B, max_size=B))
    counts = draw(st.lists(st.integers(1, T), min_size=B, max_size=B))
    return Rows.of(torch.zeros(B, T), starts if ragged else starts[:1] * B, counts if draw(st.booleans()) else None)


def masks(S: int):
    """(mask, whether place t of row b may look at place s), the second in plain Python."""

    def numbers(low: int, high: int, size: int):
        return st.lists(st.lists(st.integers(low, high), min_size=size, max_size=size), min_size=B, max_size=B)

    each = [
        st.just((Everything(), lambda b, t, s: True)),
        st.just((Causal(), lambda b, t, s: s <= t)),
        st.integers(1, 6).map(lambda w: (Window(size=w), lambda b, t, s: t - s < w)),
        numbers(1, S, 1).map(lambda n: (Padding(lengths_B=torch.tensor(n)[:, 0]), lambda b, t, s: s < n[b][0])),
        numbers(0, S, 1).map(
            lambda n: (Prefix(lengths_B=torch.tensor(n)[:, 0]), lambda b, t, s: s <= t or s < n[b][0])
        ),
        numbers(0, 2, S).map(lambda n: (Documents(numbers_BS=torch.tensor(n)), lambda b, t, s: n[b][t] == n[b][s])),
        st.tuples(st.lists(st.permutations(range(S)), min_size=B, max_size=B), st.booleans()).map(permuted),
    ]
    return st.one_of(each)


def permuted(drawn):
    orders, itself = drawn  # orders[b]: the places in the order of their turns
    ranks = [[order.index(place) for place in range(len(order))] for order in orders]

    def sees(b, t, s):
        before = orders[b][: orders[b].index(t)]
        return s in before or (itself and s == t)

    return Permutation(ranks_BS=torch.tensor(ranks), itself=itself), sees


@st.composite
def cases(draw):
    rows = draw(layouts())
    drawn = draw(st.lists(masks(rows.num_all), min_size=1, max_size=3))
    mask = drawn[0][0]
    for other, _ in drawn[1:]:
        mask = mask & other
    return rows, mask, lambda b, t, s: all(sees(b, t, s) for _, sees in drawn)


def real_places(rows: Rows):
    for row, (start, count) in enumerate(zip(rows.starts, rows.counts, strict=True)):
        for column in range(count):
            yield row, column, start + column


@settings(max_examples=200, deadline=None)
@given(case=cases())
def test_a_mask_allows_what_its_definition_allows(case):
    rows, mask, sees = case
    t_BT1, s_S = rows.places_BT()[..., None], torch.arange(rows.num_all)
    for one in (mask, simplify(mask, rows)):
        allowed_BTS = one.allowed_BTS(t_BT1, s_S).expand(B, -1, -1)
        for row, column, place in real_places(rows):
            # Of what one mask hides nothing, places behind the row's own end are never real.
            ends = rows.starts[row] + rows.counts[row]
            found = allowed_BTS[row, column, :ends].tolist()
            assert found == [sees(row, place, s) for s in range(ends)]


@settings(max_examples=100, deadline=None)
@given(case=cases(), kv_heads=st.sampled_from([1, 2, 4]), seed=st.integers(0, 99))
def test_every_core_lowers_every_mask_to_the_formula(case, kv_heads, seed):
    rows, mask, _ = case
    generator = torch.Generator().manual_seed(seed)
    q, k, v = (
        torch.randn(B, heads, size, 6, generator=generator, dtype=torch.float64)
        for heads, size in ((4, rows.num_new), (kv_heads, rows.num_all), (kv_heads, rows.num_all))
    )
    allowed_BTS = mask.allowed_BTS(rows.places_BT()[..., None], torch.arange(rows.num_all)).expand(B, -1, -1)
    expected = by_hand(q, k, v, allowed_BTS)
    for core in (ExplicitCore(), BatchedCore(), SdpaCore()):
        lowered = core.lower(mask, rows, n_heads=4, n_kv_heads=kv_heads, dtype=q.dtype)
        torch.testing.assert_close(core(q, k, v, lowered, scoring=Scoring(scale=6**-0.5)), expected)
    if lowered.is_shared:  # as on CUDA, where heads share keys
        stacked = attend_in_groups(q, k, v, lowered, scoring=Scoring(scale=6**-0.5))
        torch.testing.assert_close(lowered.silence(stacked), expected)


def by_hand(q, k, v, allowed_BTS):
    """Attention one query at a time, as the formula reads; who sees nothing gathers nothing."""
    y = torch.zeros_like(q)
    for b in range(q.size(0)):
        for h in range(q.size(1)):
            g = h * k.size(1) // q.size(1)
            for t in range(q.size(2)):
                seen = allowed_BTS[b, t].nonzero().flatten().tolist()
                exponents = [math.exp(float(q[b, h, t] @ k[b, g, s]) / math.sqrt(q.size(-1))) for s in seen]
                for exponent, s in zip(exponents, seen, strict=True):
                    y[b, h, t] += exponent / sum(exponents) * v[b, g, s]
    return y


@pytest.mark.parametrize("core", [ExplicitCore(), BatchedCore(), SdpaCore()])
def test_who_sees_nothing_gathers_nothing_and_learns_nothing(core):
    rows, mask = Rows.of(torch.zeros(1, 3)), Permutation(ranks_BS=torch.tensor([[1, 0, 2]]), itself=False)
    q, k, v = (torch.randn(1, 2, 3, 4, generator=torch.Generator().manual_seed(n)).requires_grad_() for n in range(3))
    y = core(q, k, v, core.lower(mask, rows, n_heads=2, n_kv_heads=2, dtype=q.dtype), scoring=Scoring(scale=0.5))
    assert (y[:, :, 1] == 0).all() and (y[:, :, 0] == v[:, :, 1]).all()
    y.square().sum().backward()
    assert all(x.grad.isfinite().all() for x in (q, k, v)) and (q.grad[:, :, 1] == 0).all()


def test_fused_kernels_stay_fused_where_the_mask_is_plain():
    def lower(mask, num_new, start=0):
        rows = Rows.of(torch.zeros(2, num_new), starts=[start] * 2)
        return SdpaCore().lower(mask, rows, n_heads=4, n_kv_heads=2, dtype=torch.float32)

    for mask in (Causal(), Causal() & Window(size=9), Everything() & Causal()):
        plain = lower(mask, 9)
        assert plain.is_causal and plain.bias is None
    for mask, num_new, start in ((Everything(), 9, 0), (Causal(), 1, 8), (Causal() & Window(size=9), 1, 8)):
        plain = lower(mask, num_new, start)
        assert not plain.is_causal and plain.bias is None
    for mask, num_new, start in (
        (Causal(), 2, 7),
        (Causal() & Window(size=8), 9, 0),
        (Causal() & Window(size=8), 1, 8),
    ):
        biased = lower(mask, num_new, start)
        assert not biased.is_causal and biased.bias is not None and biased.bias.shape == (num_new, num_new + start)


def test_a_padded_batch_of_a_causal_model_needs_no_bias():
    rows = Rows.of(torch.zeros(2, 5), counts=[5, 3])  # padding lies behind every real id
    assert SdpaCore().lower(Causal(), rows, n_heads=2, n_kv_heads=2, dtype=torch.float32).is_causal


def test_a_conjunction_is_flat_and_simplifies_to_what_hides_something():
    mask = Causal() & Window(size=3) & Everything()
    assert mask == All(masks=(Causal(), Window(size=3), Everything()))
    assert simplify(mask, Rows.of(torch.zeros(1, 3))) == Causal()
    assert simplify(mask, Rows.of(torch.zeros(1, 1), starts=[7])) == Window(size=3)
    assert (
        simplify(mask, Rows.of(torch.zeros(2, 1), starts=[0, 2])) == Causal()
    )  # a shorter row must not see the longer's


def test_masks_of_other_rows_are_refused():
    rows = Rows.of(torch.zeros(2, 3))
    for mask in (
        Padding(lengths_B=torch.ones(3)),
        Documents(numbers_BS=torch.zeros(2, 4)),
        Prefix(lengths_B=torch.ones(1)),
    ):
        with pytest.raises(RequestError, match="made for other rows"):
            check_mask(Causal() & mask, rows)
    with pytest.raises(RequestError, match="at least one place"):
        Window(size=0)


def test_rows_of_other_counts_are_refused():
    for starts, counts in (([1], None), (None, [3, 3, 3])):
        with pytest.raises(RequestError, match="as many rows"):
            Rows.of(torch.zeros(2, 3), starts, counts)
    for counts in ([0, 3], [4, 1]):
        with pytest.raises(RequestError, match="at least one real id"):
            Rows.of(torch.zeros(2, 3), counts=counts)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_bias_is_nothing_or_everything(dtype):
    bias, blind = lower_to_bias(Causal() & Window(size=2), Rows.of(torch.zeros(1, 4)), dtype)
    assert bias.dtype == dtype and blind is None and set(bias.flatten().tolist()) == {0.0, -math.inf}
