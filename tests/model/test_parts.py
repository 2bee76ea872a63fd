"""The small parts against definitions written another way."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from torch.nn import functional as F

from pellucid.errors import RequestError
from pellucid.model.core import (
    BatchedCore,
    CoreChoice,
    ExplicitCore,
    LoweredMask,
    Scoring,
    SdpaCore,
)
from pellucid.model.feed_forward import build_activation
from pellucid.model.mask import Causal, Everything, Window
from pellucid.model.norm import RmsNorm
from pellucid.model.position import Rotation, SegmentTable, SinusoidalPosition
from pellucid.model.rows import Rows
from pellucid.model.tap import no_tap
from pellucid.planning.config import ModelConfig
from pellucid.planning.memory import BATCHED_CONTEXT_LIMIT
from pellucid.planning.parts.attention import AttentionConfig
from pellucid.planning.parts.position import Relative

PLAIN = Scoring(scale=6**-0.5)  # of heads as wide as here


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def by_hand(q, k, v, sees) -> torch.Tensor:
    """Attention one query at a time, as the formula reads."""
    B, H, T, K = q.shape
    y = torch.zeros_like(q)
    for b in range(B):
        for h in range(H):
            g = h * k.size(1) // H
            for t in range(T):
                allowed = [s for s in range(k.size(2)) if sees(t, s)]
                exponents = [math.exp(float(q[b, h, t] @ k[b, g, s]) / math.sqrt(K)) for s in allowed]
                y[b, h, t] = sum(e / sum(exponents) * v[b, g, s] for e, s in zip(exponents, allowed, strict=True))
    return y


def lowered(core, q, k, mask) -> LoweredMask:
    """A mask for the last queries of some keys."""
    num_new, num_all = q.size(2), k.size(2)
    rows = Rows.of(torch.zeros(len(q), num_new), starts=[num_all - num_new] * len(q))
    return core.lower(mask, rows, n_heads=q.size(1), n_kv_heads=k.size(1), dtype=q.dtype)


@pytest.mark.parametrize("core", [ExplicitCore, BatchedCore, SdpaCore])
@pytest.mark.parametrize(("num_new", "offset", "window"), [(6, 0, 1), (6, 0, 3), (3, 4, 2), (1, 6, 4), (4, 0, 9)])
def test_no_core_looks_further_back_than_its_window(core, num_new, offset, window):
    S = num_new + offset
    q, k, v = random(2, 4, num_new, 6), random(2, 2, S, 6, seed=1), random(2, 2, S, 6, seed=2)
    expected = by_hand(q, k, v, lambda t, s: t + offset - window < s <= t + offset)
    torch.testing.assert_close(
        core()(q, k, v, lowered(core(), q, k, Causal() & Window(size=window)), scoring=PLAIN), expected
    )


@pytest.mark.parametrize("core", [ExplicitCore, BatchedCore, SdpaCore])
@pytest.mark.parametrize(("heads", "kv_heads"), [(4, 4), (4, 2), (6, 2), (3, 1)])
@pytest.mark.parametrize(("num_new", "offset", "causal"), [(5, 0, True), (5, 0, False), (3, 4, True), (1, 6, True)])
def test_every_core_is_the_formula(core, heads, kv_heads, num_new, offset, causal):
    S = num_new + offset
    q, k, v = random(2, heads, num_new, 6), random(2, kv_heads, S, 6, seed=1), random(2, kv_heads, S, 6, seed=2)
    expected = by_hand(q, k, v, lambda t, s: not causal or s <= t + offset)
    torch.testing.assert_close(
        core()(q, k, v, lowered(core(), q, k, Causal() if causal else Everything()), scoring=PLAIN), expected
    )


@pytest.mark.parametrize("core", [BatchedCore, SdpaCore])
def test_every_core_has_the_gradients_of_the_explicit_one(core):
    inputs = [random(2, 4, 5, 6), random(2, 2, 5, 6, seed=1), random(2, 2, 5, 6, seed=2)]

    def gradients(kind):
        leaves = [tensor.clone().requires_grad_() for tensor in inputs]
        return torch.autograd.grad(
            kind()(*leaves, lowered(kind(), *leaves[:2], Causal()), scoring=PLAIN).square().sum(), leaves
        )

    for one, two in zip(gradients(core), gradients(ExplicitCore), strict=True):
        torch.testing.assert_close(one, two)


@pytest.mark.parametrize("core", [BatchedCore, SdpaCore])
def test_cores_take_keys_that_are_slices_of_a_cache(core):
    q, store_k, store_v = random(2, 4, 1, 6), random(2, 2, 9, 6, seed=1), random(2, 2, 9, 6, seed=2)
    k, v = store_k[:, :, :7], store_v[:, :, :7]
    torch.testing.assert_close(
        core()(q, k, v, LoweredMask(), scoring=PLAIN),
        ExplicitCore()(q, k.contiguous(), v.contiguous(), LoweredMask(), scoring=PLAIN),
    )


@pytest.mark.parametrize("core", [ExplicitCore, BatchedCore, SdpaCore])
def test_dropped_weights_keep_their_mean(core):
    q, k, v = (random(1, 2, 3, 4, seed=seed) for seed in range(3))
    torch.manual_seed(0)
    mean = torch.stack([core()(q, k, v, LoweredMask(), scoring=PLAIN, dropout=0.25) for _ in range(4000)]).mean(0)
    torch.testing.assert_close(mean, core()(q, k, v, LoweredMask(), scoring=PLAIN), rtol=0.05, atol=0.05)


def test_short_contexts_on_a_cpu_take_the_batched_core():
    cpu, cuda, mps = map(torch.device, ("cpu", "cuda", "mps"))

    def choose(config, device, dtype=torch.float32, learns=True):
        return CoreChoice.of(config)(device, dtype, learns=learns)

    short, long = (ModelConfig(context_length=BATCHED_CONTEXT_LIMIT["float32"] + more) for more in (0, 1))
    assert choose(short, cpu) == BatchedCore() and choose(long, cpu) == SdpaCore()
    assert choose(long, cpu, dtype=torch.bfloat16) == BatchedCore()
    assert choose(short, cuda) == choose(short, mps) == SdpaCore()
    bent = dataclasses.replace(long, attention=AttentionConfig(softcap=50.0))
    assert choose(bent, cpu) == choose(bent, cuda) == BatchedCore()  # the fused kernel cannot bend scores
    dropping = dataclasses.replace(long, dropout=0.1)  # nor drop weights on a CPU
    assert choose(dropping, cpu) == BatchedCore() and choose(dropping, cpu, learns=False) == SdpaCore()
    assert choose(dataclasses.replace(long, position=Relative()), cpu) == BatchedCore()


@pytest.mark.parametrize("mask", [Causal(), Everything()])
def test_scores_may_have_another_scale_and_a_soft_cap(mask):
    """Both cores that can bend are the formula: softmax(c · tanh(s · q·k / c))."""
    q, k, v = random(2, 4, 5, 6), random(2, 2, 5, 6, seed=1), random(2, 2, 5, 6, seed=2)
    scoring = Scoring(scale=0.7, softcap=1.5)
    wide_k, wide_v = k.repeat_interleave(2, 1), v.repeat_interleave(2, 1)
    scores = 1.5 * torch.tanh(0.7 * torch.einsum("bhtk,bhsk->bhts", q, wide_k) / 1.5)
    if mask == Causal():
        scores = scores.masked_fill(torch.ones(5, 5).triu(1).bool(), -math.inf)
    expected = torch.einsum("bhts,bhsk->bhtk", scores.softmax(-1), wide_v)
    for core in (ExplicitCore(), BatchedCore()):
        torch.testing.assert_close(core(q, k, v, lowered(core, q, k, mask), scoring=scoring), expected)
    with pytest.raises(AssertionError):
        SdpaCore()(q, k, v, LoweredMask(), scoring=scoring)


def turn(rotation, q, k, position):
    """Queries and keys that begin at this position, turned to theirs."""
    return rotation(slice(position, position + q.size(2)), q.dtype)(q, k, no_tap)


def test_rotation_is_multiplication_by_a_complex_number():
    rotation, x = Rotation(9, 8, 100.0).double(), random(1, 2, 4, 8)
    turned, _ = turn(rotation, x, x, 3)
    pairs = torch.complex(x[..., :4], x[..., 4:])
    angles = torch.arange(3, 7, dtype=torch.float64)[:, None] * 100.0 ** (-torch.arange(4, dtype=torch.float64) / 4)
    expected = pairs * torch.polar(torch.ones_like(angles), angles)
    torch.testing.assert_close(turned, torch.cat((expected.real, expected.imag), -1), rtol=1e-6, atol=1e-6)


def test_rotated_products_depend_on_distance_only():
    rotation = Rotation(40, 8, 10_000.0)
    q, k = random(1, 1, 1, 8).float(), random(1, 1, 1, 8, seed=1).float()
    products = [float((turn(rotation, q, q, t + 5)[0] * turn(rotation, k, k, t)[1]).sum()) for t in range(30)]
    assert max(products) - min(products) < 1e-4
    assert abs(products[0] - float((turn(rotation, q, q, 9)[0] * turn(rotation, k, k, 0)[1]).sum())) > 1e-3


def test_sinusoids_are_the_paper_s():
    table = SinusoidalPosition(7, 5).table_TD
    assert table.shape == (7, 5)
    for t in range(7):
        for i in range(5):
            angle = t / 10_000 ** ((i - i % 2) / 5)
            assert float(table[t, i]) == pytest.approx(math.cos(angle) if i % 2 else math.sin(angle), abs=1e-6)


def test_rms_norm_is_its_formula():
    norm, x = RmsNorm(6, eps=1e-3).double(), random(3, 6)
    with torch.no_grad():
        norm.weight.copy_(random(6, seed=1))
    expected = torch.stack([row / math.sqrt(float(row @ row) / 6 + 1e-3) for row in x]) * norm.weight
    torch.testing.assert_close(norm(x), expected)


def test_activations_are_their_formulas():
    x = torch.linspace(-4, 4, 81, dtype=torch.float64)
    gaussian = torch.tensor([0.5 * (1 + math.erf(v / math.sqrt(2))) for v in x.tolist()], dtype=torch.float64)
    torch.testing.assert_close(build_activation("gelu")(x), x * gaussian)
    tanh = torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))
    torch.testing.assert_close(build_activation("gelu_tanh")(x), 0.5 * x * (1 + tanh))
    torch.testing.assert_close(build_activation("relu2")(x), x.clamp(min=0) ** 2)
    torch.testing.assert_close(build_activation("swiglu")(x), x * F.sigmoid(x))
    torch.testing.assert_close(build_activation("geglu")(x), x * gaussian)


@pytest.mark.parametrize("segment", [-1, 2])
def test_a_segment_that_a_model_does_not_have_is_refused(segment: int) -> None:
    """A negative one would be read from the end of the table, without a word."""
    table = SegmentTable(2, 4)
    with pytest.raises(
        RequestError, match=rf"segments from {min(0, segment)} to {max(0, segment)}\n  try:   .* from 0 to 1"
    ):
        table(torch.zeros(1, 2, 4), torch.tensor([[0, segment]]), no_tap)
