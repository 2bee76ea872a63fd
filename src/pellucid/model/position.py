"""Position encodings: how the position of a token enters the model.

    none        not at all; a causal model can still tell order from what each position is allowed to see
    learned     one trained vector per position, added to the embedding
    sinusoidal  p[t, 2i] = sin(t / 10000^(2i/D)), p[t, 2i+1] = cos(…), added to the embedding (or: all sines first)
    rotary      (RoPE) each query and key is rotated, pair by pair, by the angle t · theta^(-2i/K): their product then
                depends only on the distance between them
    relative    a learned number for each head and distance, added to the scores
    relative_sines  sines of the distance, compared with the query: in `model.distance_attention`

The kinds enter in three places: an addition acts on the embedding, a rotation on queries and keys, a relative position on
the scores. A kind that does not use one of them has the identity there. Positions are looked up once per pass: as one span of a table where all rows of
the batch have the same positions, else row by row.

Axes: B batch · T positions · D width · H heads · G key/value heads · K head width.
Source: Vaswani et al. 2017 §3.5 (sinusoidal), Su et al. 2021 eq. 34 (rotary; the half-split pairing that Llama uses).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Self, TypeAlias

import torch
from torch import Tensor, nn

from pellucid.errors import ModelError, RequestError
from pellucid.model.tap import Tap
from pellucid.planning.config import ModelConfig
from pellucid.planning.parts.position import Relative, Rotary

Positions: TypeAlias = slice | Tensor  # the same span for every row of the batch, or [B, T]

FIRST_ROWS = 4_096  # positions that have a row of a table from the start; others get theirs when they are used


class NoAddition(nn.Module):
    """Leaves the embedding as it is."""

    def forward(self, x_BTD: Tensor, positions: Positions, tap: Tap) -> Tensor:
        return x_BTD


class LearnedPosition(nn.Module):
    """Adds a trained vector for each absolute position; `first` rows of the table stand before that of position 0."""

    def __init__(self, context_length: int, d_model: int, first: int = 0) -> None:
        super().__init__()
        self.weight, self.first = nn.Parameter(torch.empty(first + context_length, d_model)), first

    def added(self, positions: Positions) -> Tensor:
        """The vectors of these positions, [B or 1, T, D]."""
        return look_up(self.weight[self.first :], positions)

    def forward(self, x_BTD: Tensor, positions: Positions, tap: Tap) -> Tensor:
        return x_BTD + tap("position", self.added(positions))


class SegmentTable(nn.Module):
    """Adds a trained vector for the part of the row that a token belongs to (BERT: first text, second text)."""

    def __init__(self, num_segments: int, d_model: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(num_segments, d_model))

    def forward(self, x_BTD: Tensor, segments_BT: Tensor | None, tap: Tap) -> Tensor:
        if segments_BT is not None and not torch.compiler.is_compiling():
            self._check(segments_BT)
        added = self.weight[:1] if segments_BT is None else self.weight[segments_BT]
        return x_BTD + tap("segment", added.expand_as(x_BTD))

    def _check(self, segments_BT: Tensor) -> None:
        """Raise RequestError for segments that the table does not have; a negative one would be read from its end."""
        low, high, count = int(segments_BT.min()), int(segments_BT.max()), self.weight.size(0)
        if not 0 <= low <= high < count:
            raise RequestError(
                "a token belongs to a part of the row that this model does not have",
                found=f"segments from {low} to {high}",
                hint=f"number the parts from 0 to {count - 1}",
            )


class NoSegments(nn.Module):
    """Leaves the embedding as it is. Raises RequestError for segments that are given all the same."""

    def forward(self, x_BTD: Tensor, segments_BT: Tensor | None, tap: Tap) -> Tensor:
        if segments_BT is not None:
            raise RequestError(
                "this model does not tell the parts of a row apart", found="segments_BT", hint="leave them out"
            )
        return x_BTD


class PositionTable(nn.Module):
    """Buffers with a row for each position, which grow as positions are used.

    A model may be made for a million positions; a row that is never used takes no memory. Each row is computed alone,
    so a table that grew holds the same bits as one that was made whole. In a finer number format it is made anew: a
    float64 model turns by float64 angles.
    """

    names: ClassVar[tuple[str, ...]]  # of the buffers

    def __init__(self, context_length: int, width: int) -> None:
        super().__init__()
        self.context_length, self.num_rows = context_length, min(context_length, FIRST_ROWS)
        for name in self.names:
            self.register_buffer(name, torch.empty(self.num_rows, width), persistent=False)

    def rows(self, start: int, stop: int) -> tuple[Tensor, ...]:
        """The rows [start, stop) of each buffer."""
        raise NotImplementedError

    @property
    def dtype(self) -> torch.dtype:
        """The number format of the table: the model's."""
        table: Tensor = getattr(self, self.names[0])
        return table.dtype

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Called by torch for `to(…)` and `double()`."""
        before = self.dtype
        super()._apply(fn, recurse)
        if torch.finfo(self.dtype).eps < torch.finfo(before).eps:
            self.reset_buffers()
        return self

    def reset_buffers(self) -> None:
        """Fill the buffers, if they have memory; `model.build` calls this again when it has given some."""
        buffers = [getattr(self, name) for name in self.names]
        if buffers[0].is_meta:
            return
        with buffers[0].device:
            for buffer, rows in zip(buffers, self.rows(0, self.num_rows), strict=True):
                buffer.copy_(rows)

    def reserve(self, num_positions: int) -> None:
        """Grow the table to at least `num_positions` rows."""
        have = self.num_rows
        if num_positions <= have:
            return
        assert num_positions <= self.context_length, "the decoder refuses longer rows"
        wanted = min(max(num_positions, 2 * have), self.context_length)
        # Whoever looks first may only read (inference mode); the rows must serve a training step as well.
        with torch.inference_mode(False), torch.no_grad(), getattr(self, self.names[0]).device:
            for name, more in zip(self.names, self.rows(have, wanted), strict=True):
                buffer = getattr(self, name)
                setattr(self, name, torch.cat([buffer[:have], more.to(buffer)]))
        self.num_rows = wanted  # last: another thread that comes between makes the same rows again


class SinusoidalPosition(PositionTable):
    """Adds sines and cosines of growing wavelength to the embedding; nothing is trained."""

    names = ("table_TD",)
    table_TD: Tensor

    def __init__(self, context_length: int, d_model: int, *, halves: bool = False) -> None:
        """`halves`: all sines come first, then all cosines; else they alternate, as in the paper."""
        super().__init__(context_length, d_model)
        self.d_model, self.halves = d_model, halves
        self.reset_buffers()

    def rows(self, start: int, stop: int) -> tuple[Tensor, ...]:
        t_T1 = torch.arange(start, stop, dtype=torch.float64)[:, None]
        coordinate_D, num_sines = torch.arange(self.d_model), (self.d_model + 1) // 2
        pair_D = coordinate_D % num_sines if self.halves else coordinate_D // 2
        is_sine_D = coordinate_D < num_sines if self.halves else coordinate_D % 2 == 0
        angle_TD = t_T1 * 10_000.0 ** (-2 * pair_D.double() / self.d_model)
        return (torch.where(is_sine_D, angle_TD.sin(), angle_TD.cos()),)

    def added(self, positions: Positions) -> Tensor:
        """The vectors of these positions, [B or 1, T, D]; missing rows of a span are made."""
        if isinstance(positions, slice):
            self.reserve(positions.stop)
        return look_up(self.table_TD, positions)

    def forward(self, x_BTD: Tensor, positions: Positions, tap: Tap) -> Tensor:
        return x_BTD + tap("position", self.added(positions).to(x_BTD.dtype))


class NoTurn:
    """Leaves queries and keys as they are."""

    def __call__(self, q_BHTK: Tensor, k_BGTK: Tensor, tap: Tap) -> tuple[Tensor, Tensor]:
        return q_BHTK, k_BGTK


@dataclass(frozen=True, eq=False)
class Turn:
    """The rotation of queries and keys to the positions of one pass."""

    cos: Tensor  # [1 or B, 1, T, K]
    sin: Tensor  # its first half is negative: x1 cos - x2 sin, x2 cos + x1 sin

    def __call__(self, q_BHTK: Tensor, k_BGTK: Tensor, tap: Tap) -> tuple[Tensor, Tensor]:
        cos, sin = self.cos.to(q_BHTK.dtype), self.sin.to(q_BHTK.dtype)
        return tap("query_rotated", rotate(q_BHTK, cos, sin)), tap("key_rotated", rotate(k_BGTK, cos, sin))


AnyTurn: TypeAlias = Turn | NoTurn


class NoRotation(nn.Module):
    """No rotary positions: queries and keys stay as they are."""

    def forward(self, positions: Positions, dtype: torch.dtype) -> NoTurn:
        return NoTurn()


class Rotation(PositionTable):
    """Rotary positions (RoPE): rotates each pair (i, i + K/2) of a query or key, further for each later position."""

    names = ("cos_TK", "sin_TK")
    cos_TK: Tensor
    sin_TK: Tensor

    def __init__(
        self,
        context_length: int,
        head_dim: int,
        theta: float,
        stretch: Callable[[Tensor], Tensor] = lambda f: f,
        factor: float = 1.0,
    ) -> None:
        """`stretch` changes the frequencies (radians per position) into those for a longer context.

        Queries and keys are also multiplied by `factor`.
        """
        super().__init__(context_length, head_dim)
        self.head_dim, self.theta = head_dim, theta
        self.stretch, self.factor = stretch, factor
        self.reset_buffers()

    def rows(self, start: int, stop: int) -> tuple[Tensor, ...]:
        # A float32 model has float32 angles, as those that were trained elsewhere had.
        dtype = torch.promote_types(self.dtype, torch.float32)
        pair = torch.arange(0, self.head_dim, 2, dtype=dtype) / self.head_dim
        # 1 / theta**pair, not theta**-pair: they differ in the last bit, which at position 40,000 is a visible angle.
        frequency = self.stretch(1.0 / self.theta**pair)
        angle_TK = torch.arange(start, stop, dtype=dtype)[:, None] * frequency
        cos_TK = angle_TK.cos().repeat(1, 2) * self.factor
        return cos_TK, torch.cat((-angle_TK.sin(), angle_TK.sin()), -1) * self.factor

    def forward(self, positions: Positions, dtype: torch.dtype) -> Turn:
        """The rotation to these positions, in this number format."""
        cos, sin = (look_up(table, positions)[:, None].to(dtype) for table in (self.cos_TK, self.sin_TK))
        return Turn(cos, sin)


def look_up(table_TN: Tensor, positions: Positions) -> Tensor:
    """The rows of a table for some positions, [1, T, N] for a span and [B, T, N] for single ones."""
    return table_TN[positions][None] if isinstance(positions, slice) else table_TN[positions]


def rotate(x_BHTK: Tensor, cos_TK: Tensor, sin_TK: Tensor) -> Tensor:
    """Turn the pairs of the last axis by the given angles."""
    swapped = torch.roll(x_BHTK, x_BHTK.size(-1) // 2, -1)
    return x_BHTK * cos_TK + swapped * sin_TK


def stretch_frequencies(frequency: Tensor, rotary: Rotary, head_dim: int) -> Tensor:
    """Rotary frequencies (radians a position) slowed down for contexts longer than those first trained on.

    linear    all by the factor
    llama3    slow ones (few turns within the original context) by the factor, fast ones not at all, a blend between
    yarn      the same, but the blend runs evenly over the pairs, from a whole pair to a whole pair

    Source: Chen et al. 2023 (linear); Llama Team 2024, "The Llama 3 Herd of Models", and its published code (llama3);
    Peng et al. 2023, "YaRN", §3.2 (yarn), its ends rounded as in the authors' code.
    """
    scaling = rotary.scaling
    if scaling.kind == "none":
        return frequency
    if scaling.kind == "linear":
        return frequency / scaling.factor
    low, high = scaling.low_frequency, scaling.high_frequency
    if scaling.kind == "llama3":
        turns = scaling.original_context * frequency / (2 * math.pi)
        kept = ((turns - low) / (high - low)).clamp(0, 1)
    else:
        first, last = (_pair_of_turns(turns, scaling.original_context, rotary.theta, head_dim) for turns in (high, low))
        first, last = max(math.floor(first), 0), min(math.ceil(last), head_dim - 1)
        pair = torch.arange(len(frequency), dtype=frequency.dtype)
        kept = 1 - ((pair - first) / (max(last - first, 0.001))).clamp(0, 1)
    return (1 - kept) * frequency / scaling.factor + kept * frequency


def _pair_of_turns(turns: float, original_context: int, theta: float, head_dim: int) -> float:
    """The pair (a fraction, as pairs are counted) that makes this many turns within the original context."""
    wavelength = original_context / (turns * 2 * math.pi)
    return head_dim / 2 * math.log(wavelength) / math.log(theta)


AnyAddition: TypeAlias = LearnedPosition | SinusoidalPosition | NoAddition
AnyRotation: TypeAlias = Rotation | NoRotation
AnyRelative: TypeAlias = "RelativePosition | NoRelative"
AnySegments: TypeAlias = SegmentTable | NoSegments


def build_addition(config: ModelConfig) -> AnyAddition:
    """The module that adds positions to the embedding. Raises ModelError for a kind that has no line here."""
    position = config.position
    if position.kind == "learned":
        return LearnedPosition(config.context_length, config.d_model, position.first)
    if position.kind == "sinusoidal":
        return SinusoidalPosition(config.context_length, config.d_model, halves=position.halves)
    if position.kind in ("none", "rotary", "relative", "relative_sines"):
        return NoAddition()
    raise ModelError("torch has no line for this kind of position", found=config.position.kind)


def build_segments(config: ModelConfig) -> AnySegments:
    """The module that adds a vector for the part of the row."""
    num_segments = config.embedding.segments
    return SegmentTable(num_segments, config.d_model) if num_segments else NoSegments()


class RelativePosition(nn.Module):
    """A learned number for each head and distance, added to the scores (T5).

    A causal model tells `buckets` distances back apart, any other half as many in each direction: one by one up to half
    of those, then in steps that grow with the distance, and everything from `farthest` on as one.

    >>> RelativePosition(Relative(buckets=8, farthest=20), 1, causal=True).bucket(torch.tensor([0, -1, -3, -4, -9, -99])).tolist()
    [0, 1, 3, 4, 6, 7]
    """

    def __init__(self, axes: Relative, n_heads: int, *, causal: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(axes.buckets, n_heads))
        self.axes, self.causal = axes, causal

    def bucket(self, distance: Tensor) -> Tensor:
        """The number of the bucket of each distance, counted from the query: keys before it are negative."""
        each = self.axes.buckets if self.causal else self.axes.buckets // 2
        ahead = torch.zeros_like(distance) if self.causal else (distance > 0).long() * each
        far = (-distance).clamp(min=0) if self.causal else distance.abs()
        near = each // 2
        steps = (far.clamp(min=1).float() / near).log() / math.log(self.axes.farthest / near) * (each - near)
        return ahead + torch.where(far < near, far, (near + steps.long()).clamp(max=each - 1))

    def forward(self, t_BT1: Tensor, s_S: Tensor) -> Tensor:
        """What is added to the scores, [B or 1, H, T, S]."""
        added_BTSH: Tensor = self.weight[self.bucket(s_S - t_BT1)]
        return added_BTSH.permute(0, 3, 1, 2)


class NoRelative(nn.Module):
    """Adds nothing to the scores."""

    def forward(self, t_BT1: Tensor, s_S: Tensor) -> None:
        return None


def build_relative(config: ModelConfig, *, causal: bool) -> AnyRelative:
    """What is added to the scores for the distance."""
    axes = config.position
    return RelativePosition(axes, config.n_heads, causal=causal) if axes.kind == "relative" else NoRelative()


class Rotations(nn.Module):
    """The rotations of a model: one for each way in which its blocks rotate, most models have one."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.by_layer = tuple(config.rotation_at(layer) for layer in range(config.n_layers))
        self.kinds = tuple(dict.fromkeys(self.by_layer))
        self.modules_of_kinds = nn.ModuleList(build_rotation(config, kind) for kind in self.kinds)

    def at(self, layer: int) -> AnyRotation:
        """That of one block."""
        found: AnyRotation = self.modules_of_kinds[self.kinds.index(self.by_layer[layer])]  # type: ignore[assignment]
        return found

    def forward(self, positions: Positions, dtype: torch.dtype) -> Mapping[Rotary | None, AnyTurn]:
        """The turn to these positions, by the way in which a block rotates."""
        modules = zip(self.kinds, self.modules_of_kinds, strict=True)
        return {kind: module(positions, dtype) for kind, module in modules}


def build_rotation(config: ModelConfig, rotary: Rotary | None) -> AnyRotation:
    """The module that rotates queries and keys in that way; None: not at all."""
    if rotary is None:
        return NoRotation()
    stretch = partial(stretch_frequencies, rotary=rotary, head_dim=config.head_dim)
    factor = rotary.scaling.attention_factor if rotary.scaling.kind == "yarn" else 1.0
    return Rotation(config.context_length, config.head_dim, rotary.theta, stretch, factor)
