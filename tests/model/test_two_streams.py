"""Two streams against the paper's formulas, worked place by place; what each place sees; the memory; what is refused."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scrambled import scramble
from torch.nn import functional as F

from pellucid.errors import ContextError, ModelError, RequestError
from pellucid.model.build import build
from pellucid.model.context import Context, ReadingOrder
from pellucid.model.core import BatchedCore, ExplicitCore
from pellucid.model.distance_attention import columns_of, distance_sines, pick, shift
from pellucid.model.mask import Causal
from pellucid.planning.config import EncoderConfig, ModelConfig
from pellucid.planning.parts.attention import AttentionConfig, SlidingWindow
from pellucid.planning.parts.embedding import EmbeddingConfig
from pellucid.planning.parts.feed_forward import Experts, FeedForwardConfig
from pellucid.planning.parts.norm import NormConfig
from pellucid.planning.parts.position import RelativeSines, Rotary
from pellucid.planning.parts.streams import Streams

SIZES = {
    "vocab_size": 23, "context_length": 12, "n_layers": 2, "n_heads": 3, "n_kv_heads": 3, "head_dim": 4, "d_model": 12,
    "d_ff": 14, "init": "gpt2", "causal": False,
}  # fmt: skip
CONFIG = ModelConfig(
    **SIZES, position=RelativeSines(farthest=5), streams=Streams(memory=4), attention=AttentionConfig(qk_norm=False),
    feed_forward=FeedForwardConfig(kind="gelu", bias=True), norm=NormConfig(kind="layer", placement="after"),
)  # fmt: skip
T = 9
IDS_BT = torch.randint(0, 23, (2, T), generator=torch.Generator().manual_seed(2))
RANKS_BT = torch.tensor([[0, 3, 1, 0, 2, 5, 0, 4, 0], [2, 0, 0, 1, 0, 0, 0, 0, 3]])
PLACES_BP = torch.tensor([[2, 4, 1], [3, 0, 8]])
SEGMENTS_BT = (torch.arange(T) > 4).long().expand(2, -1)
ORDER = ReadingOrder(ranks_BT=RANKS_BT, places_BP=PLACES_BP)


def built(config: ModelConfig = CONFIG):
    model = build(config, seed=1, dtype=torch.float64).eval()
    scramble(model)
    return model


# -- the relative shift ------------------------------------------------------------------------------------------------


@given(num_new=st.integers(1, 7), num_held=st.integers(0, 5), seed=st.integers(0, 99))
def test_the_shift_is_the_column_of_each_score_picked_one_by_one(num_new: int, num_held: int, seed: int) -> None:
    num_all = num_new + num_held
    x_BHTR = torch.randn(2, 3, num_new, num_all + num_new, generator=torch.Generator().manual_seed(seed))
    columns_BTS = columns_of(torch.arange(num_new).expand(2, -1), num_new, num_all)
    assert torch.equal(shift(x_BHTR), pick(x_BHTR, columns_BTS))


@given(num_new=st.integers(1, 6), num_held=st.integers(0, 5))
def test_what_is_shifted_is_the_distance(num_new: int, num_held: int) -> None:
    """Of a table that holds the distances themselves, row t begins at t's distance from the first place."""
    num_all = num_new + num_held
    distance_R = torch.arange(num_all - 1, -num_new - 1, -1)
    shifted = shift(distance_R.expand(num_new, -1))
    assert shifted.tolist() == [[num_held + t - s for s in range(num_all)] for t in range(num_new)]


def test_sines_by_hand() -> None:
    """Width 4: frequencies 1 and 1/100; distances 2 to -2, of which those count as 1 and -1."""
    found = distance_sines(2, 3, 4, farthest=1)
    wanted = [[math.sin(d), math.sin(d / 100), math.cos(d), math.cos(d / 100)] for d in (1, 1, 0, -1, -1)]
    torch.testing.assert_close(found, torch.tensor(wanted, dtype=torch.float64), rtol=0, atol=1e-15)


# -- the formulas of the paper -----------------------------------------------------------------------------------------


def plain_attention(weights: dict, prefix: str, x_D, seen_SD, t: int, sees, segments_S, config: ModelConfig):
    """One place's attention: `t` is where it stands among all that is seen, `sees` which of those it may look at."""
    H, K, D = config.n_heads, config.head_dim, config.d_model
    get = lambda name: weights[f"{prefix}.{name}"]  # noqa: E731
    q_HK = (get("query.weight") @ x_D).view(H, K)
    u, v, w = (get(f"{name}_bias").view(H, K) for name in ("content", "distance", "segment"))
    e_2HK = get("segments").view(2, H, K)
    mixed_HK = torch.zeros(H, K, dtype=x_D.dtype)
    for h in range(H):
        scores, values = [], []
        for s in (s for s in range(len(seen_SD)) if sees(s)):
            k = (get("key.weight") @ seen_SD[s]).view(H, K)[h]
            distance = max(-config.position.farthest, min(config.position.farthest, t - s))
            angles = [distance / 10_000 ** (2 * i / D) for i in range(D // 2)]
            sines = torch.tensor([*map(math.sin, angles), *map(math.cos, angles)], dtype=x_D.dtype)
            r = (get("distance.weight") @ sines).view(H, K)[h]
            score = (q_HK[h] + u[h]) @ k + (q_HK[h] + v[h]) @ r
            if segments_S is not None:
                score = score + (q_HK[h] + w[h]) @ e_2HK[int(segments_S[t] != segments_S[s])][h]
            scores.append(score / math.sqrt(K))
            values.append((get("value.weight") @ seen_SD[s]).view(H, K)[h])
        if scores:
            mixed_HK[h] = torch.stack(scores).softmax(0) @ torch.stack(values)
    return get("output.weight") @ mixed_HK.flatten()


def plain_block(weights: dict, layer: int, x_D, attended_D):
    def norm(x, name):
        centred = x - x.mean()
        scale = 1 / torch.sqrt((centred**2).mean() + CONFIG.norm.eps)
        return centred * scale * weights[f"{name}.weight"] + weights[f"{name}.bias"]

    path = f"blocks.{layer}"
    x_D = norm(x_D + attended_D, f"{path}.attention_output_norm")
    up = weights[f"{path}.mlp.up.weight"] @ x_D + weights[f"{path}.mlp.up.bias"]
    activated = up * 0.5 * (1 + torch.erf(up / math.sqrt(2)))
    down = weights[f"{path}.mlp.down.weight"] @ activated + weights[f"{path}.mlp.down.bias"]
    return norm(x_D + down, f"{path}.mlp_output_norm")


def plain_scores(model, row: int, held: list, *, segments: bool) -> torch.Tensor:
    """The scores of the asked places of one row, [P, V], by the definition: one place after the other."""
    weights, ranks = dict(model.named_parameters()), RANKS_BT[row].tolist()
    num_held = len(held[0])
    segments_S = [0] * num_held + SEGMENTS_BT[row].tolist() if segments else None
    content = [weights["embed.weight"][token] for token in IDS_BT[row]]
    asked = [(num_held + place, ranks[place], weights["question"]) for place in PLACES_BP[row].tolist()]

    def rank_of(s: int) -> int:
        return -1 if s < num_held else ranks[s - num_held]

    for layer in range(CONFIG.n_layers):
        seen, name = [*held[layer], *content], f"blocks.{layer}.attention"
        more = []
        for t, rank, g_D in asked:
            found = plain_attention(
                weights, name, g_D, seen, t, lambda s, rank=rank: rank_of(s) < rank, segments_S, CONFIG
            )
            more.append((t, rank, plain_block(weights, layer, g_D, found)))
        later = []
        for t, h_D in enumerate(content):
            found = plain_attention(
                weights, name, h_D, seen, num_held + t, lambda s, t=t: rank_of(s) <= ranks[t], segments_S, CONFIG
            )
            later.append(plain_block(weights, layer, h_D, found))
        content, asked = later, more
    return torch.stack([weights["embed.weight"] @ g_D for _, _, g_D in asked])


@pytest.mark.parametrize("core", [ExplicitCore(), BatchedCore()])
@pytest.mark.parametrize(("segments", "num_held"), [(False, 0), (True, 3)])
def test_the_formulas_of_the_paper_place_by_place(core, segments: bool, num_held: int) -> None:
    model, generator = built(), torch.Generator().manual_seed(9)
    memory = model.new_memory()
    memory.held = [torch.randn(2, num_held, 12, generator=generator, dtype=torch.float64) for _ in range(2)]
    held = [*memory.held]
    told = {"order": ORDER, "segments_BT": SEGMENTS_BT if segments else None, "earlier": memory if num_held else None}
    with torch.no_grad():
        found_BPV = model(IDS_BT, Context(core=core, **told)).logits_BTV
        for row in range(2):
            wanted_PV = plain_scores(model, row, [states[row] for states in held], segments=segments)
            torch.testing.assert_close(found_BPV[row], wanted_PV, rtol=1e-9, atol=1e-9)


# -- who sees whom -----------------------------------------------------------------------------------------------------


def test_a_prediction_depends_on_exactly_what_is_known_before_it() -> None:
    """By the gradient at the embedding of every place: a place of the same or a later rank has none, its own neither."""
    model = built()
    for row in range(2):
        order = ReadingOrder(ranks_BT=RANKS_BT[row : row + 1], places_BP=PLACES_BP[row : row + 1])
        for index, place in enumerate(PLACES_BP[row].tolist()):
            taps = KeptGradients()
            model(IDS_BT[row : row + 1], Context(order=order, tap=taps)).logits_BTV[0, index].square().sum().backward()
            seen_T = taps["embed"].grad[0].abs().amax(-1) > 0
            assert seen_T.tolist() == (RANKS_BT[row] < RANKS_BT[row, place]).tolist()


class KeptGradients(dict):
    """A tap that keeps every tensor, and the gradient that reaches it."""

    def __call__(self, name: str, x: torch.Tensor) -> torch.Tensor:
        x.retain_grad()
        self[name] = x
        return x


def test_padding_is_not_seen_and_a_place_that_sees_nothing_is_scored_all_the_same() -> None:
    model = built()
    order = ReadingOrder(ranks_BT=RANKS_BT.clamp(max=4), places_BP=torch.tensor([[2, 4], [3, 0]]))
    together = model(IDS_BT, Context(order=order, lengths=[9, 5])).logits_BTV
    alone = ReadingOrder(ranks_BT=order.ranks_BT[1:, :5], places_BP=order.places_BP[1:])
    torch.testing.assert_close(together[1:], model(IDS_BT[1:, :5], Context(order=alone)).logits_BTV)
    blind = ReadingOrder(ranks_BT=torch.zeros(2, T, dtype=torch.long), places_BP=PLACES_BP)
    assert model(IDS_BT, Context(order=blind)).logits_BTV.isfinite().all()


def test_only_the_distance_counts_and_not_where_a_row_begins() -> None:
    model = built()
    lengths = Context(lengths=[9, 4])
    rolled = torch.stack([IDS_BT[0], torch.cat([IDS_BT[0, :4], IDS_BT[0, :5]])])
    found = model(rolled, lengths).logits_BTV
    torch.testing.assert_close(found[1, :4], model(IDS_BT[:1, :4]).logits_BTV[0])


# -- a memory of earlier segments --------------------------------------------------------------------------------------


def test_one_block_with_a_memory_is_the_whole_row_at_once() -> None:
    """What a first block is given does not depend on what follows: so segments read in turn, by a mask that looks back, agree."""
    model = built(
        ModelConfig(**{**SIZES, "n_layers": 1, "context_length": 20}, position=RelativeSines(), streams=Streams())
    )
    memory = model.new_memory()
    parts = [
        model(IDS_BT[:, a:b], Context(earlier=memory, mask=Causal())).logits_BTV for a, b in ((0, 4), (4, 5), (5, 9))
    ]
    whole = model(IDS_BT, Context(mask=Causal())).logits_BTV
    torch.testing.assert_close(torch.cat(parts, 1), whole, rtol=1e-9, atol=1e-9)
    assert memory.length == T


def test_a_memory_keeps_the_last_states_without_their_gradient() -> None:
    model = built()
    memory = model.new_memory()
    for _ in range(3):
        model(IDS_BT[:, :3], Context(earlier=memory))
    assert memory.length == 4 and not any(states.requires_grad for states in memory.held)
    with_it = model(IDS_BT, Context(earlier=memory)).logits_BTV
    assert (with_it - model(IDS_BT).logits_BTV).abs().max() > 1e-3


# -- what is refused ---------------------------------------------------------------------------------------------------

ONE_STREAM = ModelConfig(**{**SIZES, "causal": True})


@pytest.mark.parametrize(
    ("config", "context", "says"),
    [
        (ONE_STREAM, {"order": ORDER}, "this model has one stream"),
        (CONFIG, {"cache": "some"}, "reads whole rows"),
        (CONFIG, {"positions_BT": RANKS_BT}, "reads whole rows"),
        (CONFIG, {"earlier": "new", "lengths": [9, 5]}, "padding cannot be held"),
        (CONFIG, {"segments_BT": SEGMENTS_BT[:, :4]}, "each id belongs to one segment"),
        (CONFIG, {"order": ReadingOrder(ranks_BT=RANKS_BT[:, :4], places_BP=PLACES_BP)}, "a rank for each id"),
        (CONFIG, {"order": ReadingOrder(ranks_BT=RANKS_BT, places_BP=PLACES_BP[:, :0])}, "a rank for each id"),
        (CONFIG, {"order": ReadingOrder(ranks_BT=RANKS_BT, places_BP=PLACES_BP + 3)}, "places of its rows"),
        (CONFIG, {"order": ReadingOrder(ranks_BT=RANKS_BT - 1, places_BP=PLACES_BP)}, "ranks from 0"),
    ],
)
def test_a_context_of_another_kind_is_refused(config: ModelConfig, context: dict, says: str) -> None:
    model = built(config)
    if context.get("earlier"):
        context = {**context, "earlier": model.new_memory()}
    with pytest.raises(RequestError, match=says):
        model(IDS_BT, Context(**context))


def test_rows_of_another_size_and_segments_that_are_too_long_are_refused() -> None:
    model = built()
    memory = model.new_memory()
    model(IDS_BT, Context(earlier=memory))
    with pytest.raises(RequestError, match="2 rows held, 1 rows of ids"):
        model(IDS_BT[:1], Context(earlier=memory))
    with pytest.raises(
        ContextError, match=r"13 tokens\n  where: context_length=12\n  try:   read it as several segments"
    ):
        model(torch.zeros(1, 13, dtype=torch.long))
    with pytest.raises(RequestError, match="an order says itself which places are scored"):
        model(IDS_BT, Context(order=ORDER), last_only=True)


@pytest.mark.parametrize(
    "axes",
    [
        {"position": Rotary()},
        {"streams": None},
        {"causal": True},
        {"d_model": 13},
        {"encoder": EncoderConfig(n_layers=1)},
        {"attention": AttentionConfig(window=SlidingWindow(size=3, both_sides=True))},
        {"attention": AttentionConfig(softcap=3.0)},
        {"feed_forward": FeedForwardConfig(experts=Experts(count=2, active=1, width=4))},
        {"embedding": EmbeddingConfig(segments=2)},
        {"embedding": EmbeddingConfig(norm=True)},
    ],
)
def test_axes_that_do_not_go_together_are_refused(axes: dict) -> None:
    with pytest.raises(ModelError, match=r"two streams|encoder"):
        ModelConfig(**{**SIZES, "position": RelativeSines(), "streams": Streams(), **axes})


def test_logits_of_the_plain_pass_are_the_content_s() -> None:
    """Without an order every place sees every place, itself too: what is scored is what it is known as."""
    model = built()
    seen = ReadingOrder(ranks_BT=torch.zeros_like(RANKS_BT), places_BP=PLACES_BP)
    assert model(IDS_BT).logits_BTV.shape == (2, T, 23)
    hidden = model.hidden(IDS_BT, Context())
    torch.testing.assert_close(F.linear(hidden, model.embed.weight), model(IDS_BT).logits_BTV)
    assert model(IDS_BT, Context(order=seen)).logits_BTV.shape == (2, 3, 23)
