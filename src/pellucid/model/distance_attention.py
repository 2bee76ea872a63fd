"""Attention whose scores know the distance and the segment, for each of two streams.

    score[t, s] = scale · ( (q_t + u) · k_s  +  (q_t + v) · r[t - s]  +  (q_t + w) · e[same segment, or another] )

    r[d] = R · (sin(d f), cos(d f))           one projection R a block; f: the frequencies of sinusoidal positions

u, v, w and e are learned for each head: what a query asks of every content, every distance and every segment. Positions
enter nowhere else, so the model has no longest row. The products (q + v) · r are computed for all distances that occur, one
column each, and then each row is shifted to its place: the first place is farthest from those before it. `shift` does this for
a span of places without a copy; `pick` is its slow twin, and serves queries at single places.

The content stream makes keys and values (of a memory of earlier segments too). The query stream reads the same ones.

Axes: B batch · T new places · P asked places · S all places · D width · H heads · G key/value heads · K head width · R = S + T
distances, from the farthest back (the last is one more than occurs: `shift` needs the room).
Source: Dai et al. 2019, "Transformer-XL", §3.3 and appendix B; Yang et al. 2019, "XLNet", §2.3 to §2.5.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from pellucid.model.attention import Attention
from pellucid.model.context import Pass, ReadingOrder
from pellucid.model.mask import Mask
from pellucid.model.segment_memory import SegmentMemory
from pellucid.model.tap import within
from pellucid.planning.config import ModelConfig

Content = tuple[Tensor, Tensor, Tensor]  # keys, values, and keys of distances, of one block


@dataclass(frozen=True, kw_only=True, eq=False)
class Stream(Pass):
    """What all blocks share for one of the two streams."""

    mask: Mask
    sines_RD: Tensor  # of every distance that occurs
    columns_BPS: Tensor | None  # where among the distances each score finds its own; None: a span, shifted
    other_BPS: Tensor | None  # whether a query and a key lie in different segments; None: segments are not told
    earlier: SegmentMemory | None
    order: ReadingOrder | None
    contents: dict[int, Content] = field(default_factory=dict)  # of each block; the content stream fills it


class DistanceAttention(Attention):
    """Multi-head attention by content, distance and segment."""

    def __init__(self, config: ModelConfig, layer: int, *, path: str = "blocks") -> None:
        super().__init__(config, layer, path=path)
        width = config.d_attention
        self.n_heads, self.n_kv_heads = config.n_heads, config.n_kv_heads
        self.distance = nn.Linear(config.d_model, width, bias=False)
        self.content_bias = nn.Parameter(torch.empty(width))
        self.distance_bias = nn.Parameter(torch.empty(width))
        self.segment_bias = nn.Parameter(torch.empty(width))
        self.segments = nn.Parameter(torch.empty(2, width))  # the same, another

    def forward(self, x_BTD: Tensor, this_pass: Pass) -> Tensor:
        assert isinstance(this_pass, Stream), "a model of two streams opens its own passes"
        tap = within(this_pass.tap, f"{self.path}.attention")
        q_BHTK = tap("query", self.query_norm(self.split_heads(self.query(x_BTD))))
        if self.layer not in this_pass.contents:
            this_pass.contents[self.layer] = self.read_content(x_BTD, this_pass)
        k_BGSK, v_BGSK, r_HRK = this_pass.contents[self.layer]
        added_BHTS = tap("relative", self.score_relative(q_BHTK, r_HRK, this_pass))
        core = this_pass.core
        mask = core.lower(
            this_pass.mask, this_pass.rows, n_heads=self.n_heads, n_kv_heads=self.n_kv_heads, dtype=added_BHTS.dtype,
            added_BHTS=added_BHTS,
        )  # fmt: skip
        q_BHTK = q_BHTK + self.by_head(self.content_bias)
        dropout = self.dropout_share if this_pass.training else 0.0
        y_BHTK = core(q_BHTK, k_BGSK, v_BGSK, mask, scoring=self.scoring, dropout=dropout, tap=tap)
        return tap("output", self.output(tap("mix", y_BHTK).transpose(1, 2).flatten(2)))

    def read_content(self, x_BTD: Tensor, stream: Stream) -> Content:
        """Keys and values of all places, [B, G, S, K] each, and keys of all distances, [H, R, K]."""
        tap = within(stream.tap, f"{self.path}.attention")
        seen_BSD = x_BTD if stream.earlier is None else stream.earlier.update(self.layer, x_BTD)
        k_BGSK = tap("key", self.key_norm(self.split_heads(self.key(seen_BSD))))
        v_BGSK = tap("value", self.split_heads(self.value(seen_BSD)))
        return k_BGSK, v_BGSK, self.split_heads(self.distance(stream.sines_RD)[None])[0]

    def score_relative(self, q_BHTK: Tensor, r_HRK: Tensor, stream: Stream) -> Tensor:
        """What the distance and the segment add to the scores, [B, H, T, S]."""
        scale = self.scoring.scale  # of the queries: they are fewer than the scores
        by_distance_BHTR = (q_BHTK + self.by_head(self.distance_bias)) * scale @ r_HRK.mT
        if stream.columns_BPS is None:
            added_BHTS = shift(by_distance_BHTR)
        else:
            added_BHTS = pick(by_distance_BHTR, stream.columns_BPS)
        if stream.other_BPS is None:
            return added_BHTS
        e_H2K = self.segments.unflatten(-1, (self.n_heads, -1)).transpose(0, 1)
        by_segment_BHT2 = (q_BHTK + self.by_head(self.segment_bias)) * scale @ e_H2K.mT
        same_BHT1, other_BHT1 = by_segment_BHT2.split(1, dim=-1)
        return added_BHTS + torch.where(stream.other_BPS[:, None], other_BHT1, same_BHT1)

    def by_head(self, bias_N: Tensor) -> Tensor:
        """A bias of all heads, [H, 1, K]."""
        return bias_N.unflatten(0, (self.n_heads, 1, -1))


def shift(x_BHTR: Tensor) -> Tensor:
    """Each row moved to the left, so that its first score stands first: row t begins T - 1 - t columns later.

    >>> shift(torch.tensor([[2, 1, 0, -1, -2], [2, 1, 0, -1, -2]])).tolist()  # the distances from the last two of three places
    [[1, 0, -1], [2, 1, 0]]
    """
    num_new, num_distances = x_BHTR.shape[-2:]
    # With all rows in one line, a step of R - 1 goes down a row and one column back.
    line = x_BHTR.flatten(-2)[..., num_new - 1 : num_new - 1 + num_new * (num_distances - 1)]
    return line.unflatten(-1, (num_new, num_distances - 1))[..., : num_distances - num_new]


def pick(x_BHPR: Tensor, columns_BPS: Tensor) -> Tensor:
    """The column of each score, one by one: `x[..., p, columns[p, s]]`."""
    shape = (*x_BHPR.shape[:-1], columns_BPS.size(-1))
    return x_BHPR.gather(-1, columns_BPS[:, None].expand(shape))


def columns_of(places_BP: Tensor, num_new: int, num_all: int) -> Tensor:
    """Where among the distances of a pass those from some places stand, [B, P, S]; a place is counted from the first new one.

    >>> columns_of(torch.tensor([[1, 0]]), 2, 3).tolist()  # of the distances 2, 1, 0, -1, -2
    [[[0, 1, 2], [1, 2, 3]]]
    """
    return num_new - 1 - places_BP[..., None] + torch.arange(num_all, device=places_BP.device)


def distance_sines(num_new: int, num_all: int, width: int, farthest: int | None) -> Tensor:
    """Sines, then cosines, of every distance from a new place to any place, farthest back first, [R, D], in float64.

    >>> distance_sines(1, 2, 2, None).round(decimals=4).tolist()
    [[0.8415, 0.5403], [0.0, 1.0], [-0.8415, 0.5403]]
    """
    distance_R = torch.arange(num_all - 1, -num_new - 1, -1, dtype=torch.float64)
    if farthest is not None:
        distance_R = distance_R.clamp(-farthest, farthest)
    frequency = 10_000.0 ** (-torch.arange(0, width, 2, dtype=torch.float64) / width)
    angle = distance_R[:, None] * frequency
    return torch.cat((angle.sin(), angle.cos()), -1)
