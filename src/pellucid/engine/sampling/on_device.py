"""Choosing from rows of logits where they were computed: only ids and log-probabilities leave the accelerator.

    vocabulary, temperature, top-k, top-p, min-p in any order  →  u in [0, 1) falls into one segment  →  token

u is drawn on the host, so it is the sampler's to the bit. The stages compare and divide numbers of float32, which gives
the same bits everywhere; exp does not. A share of the probability computed here is within `BOUND` of that which the
sampler computes: so where u, or the share of a top-p, lies further than that from the border of a segment, the sampler
would choose the same token. Where it does not, where a chain has other stages, or a row holds what must be
refused, the row goes to the host, and the sampler itself decides. Log-probabilities are within 1e-5 of the sampler's.

All rows of a block are computed with, whoever asks, so that the shape of the work, and with it bits, depend on no other text.

Axes: B rows of a block · V vocabulary.
"""

from __future__ import annotations

from collections import abc
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from pellucid.engine.sampling import masks, truncation
from pellucid.engine.sampling.builders import RowStage
from pellucid.engine.sampling.distribution import BLOCK
from pellucid.engine.sampling.rows import RowAsk
from pellucid.engine.sampling.sampler import Choice, Sampler
from pellucid.events import NULL, Event, Recorder

# The sampler's weights are of float32, each off by 3 units in the last place at most: ε = 3 · 2⁻²³. Here they are of float64,
# and sums are on both sides. A share A / (A + B) is then off by 2 ε · A · B / (A + B)², at most ε / 2 = 1.8e-7.
BOUND = 2.0**-22


class RowBlock:
    """Rows of logits side by side on a device, in float32: those of one pass."""

    def __init__(self, logits_BV: Tensor, recorder: Recorder = NULL, told: set[str] | None = None) -> None:
        """`told`: the chains for which it was already said that the host chooses."""
        self.logits_BV, self.recorder, self.told = logits_BV, recorder, set() if told is None else told

    def choose(self, asked: Mapping[int, RowAsk]) -> dict[int, Choice]:
        """The choices from some rows, by their number; those that the sampler itself must decide are left out."""
        chains: dict[tuple[object, ...], dict[int, RowAsk]] = {}
        for row, ask in asked.items():
            kinds = None if ask.keep_rows else find_kinds(ask.sampler)
            if kinds is not None:
                chains.setdefault(kinds, {})[row] = ask
            elif not ask.keep_rows:
                self._tell(ask.sampler.chain)
        found: dict[int, Choice] = {}
        for alike in chains.values():
            found |= choose_alike(self.logits_BV, alike)
        return found

    def _tell(self, chain: str) -> None:
        """Say once for each chain that its rows leave the device."""
        if chain not in self.told:
            self.told.add(chain)
            message = f"the device does not know every stage of this chain, so the processor chooses: {chain}"
            self.recorder.record(Event(name="engine.chosen_on_host", message=message, data={"chain": chain}))


class DeviceRow:
    """One row of a block; NumPy reads it as an array [V], and only then does it leave the device."""

    def __init__(self, block: RowBlock, row: int) -> None:
        self.block, self.row = block, row

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self.block.logits_BV[self.row].cpu().numpy()

    def choose_among(self, asked: abc.Sequence[RowAsk]) -> list[Choice | None]:
        """The choice of each row that was asked for; None where the sampler itself must decide."""
        found: list[Choice | None] = [None] * len(asked)
        blocks: dict[int, dict[int, int]] = {}  # a block and a row of it -> the place among those asked
        held = {id(ask.logits_V.block): ask.logits_V.block for ask in asked if isinstance(ask.logits_V, DeviceRow)}
        for place, ask in enumerate(asked):
            if isinstance(ask.logits_V, DeviceRow):
                blocks.setdefault(id(ask.logits_V.block), {})[ask.logits_V.row] = place
        for number, places in blocks.items():
            choices = held[number].choose({row: asked[place] for row, place in places.items()})
            for row, choice in choices.items():
                found[places[row]] = choice
        return found


class DeviceRows(Sequence[DeviceRow]):
    """Rows of one pass or several, in the order in which they were asked for; NumPy reads them as an array [N, V]."""

    def __init__(self, rows: abc.Sequence[DeviceRow]) -> None:
        self.rows = tuple(rows)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, place: Any) -> Any:
        return DeviceRows(self.rows[place]) if isinstance(place, slice) else self.rows[place]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        blocks = {id(row.block): row.block for row in self.rows}
        picked = [
            block.logits_BV[
                torch.tensor([row.row for row in self.rows if row.block is block], device=block.logits_BV.device)
            ]
            for block in blocks.values()
        ]
        fetched = {number: iter(rows_NV.cpu().numpy()) for number, rows_NV in zip(blocks, picked, strict=True)}
        return np.stack([next(fetched[id(row.block)]) for row in self.rows])


def find_kinds(sampler: Sampler) -> tuple[object, ...] | None:
    """What the stages of a chain do, in order; None where one of them is not known here.

    >>> from pellucid.engine.sampling.settings import SamplingSettings
    >>> sampler = Sampler(SamplingSettings(top_k=2, seed=1), num_logits=9, num_known=8)
    >>> [kind.__name__ for kind in find_kinds(sampler)]
    ['apply_vocabulary', 'apply_top_k']
    """
    kinds = [stage.function if isinstance(stage, RowStage) else None for stage in sampler.stages]
    if any(kind not in STAGES for kind in kinds):
        return None
    ends_greedily = kinds[-1:] == [truncation.apply_greedy]
    return tuple(kinds) if ends_greedily == (sampler.seed is None) else None


def choose_alike(logits_BV: Tensor, asked: Mapping[int, RowAsk]) -> dict[int, Choice]:
    """Choose from some rows of a block by chains that differ in their numbers alone."""
    chains = {row: [stage for stage in ask.sampler.stages if isinstance(stage, RowStage)] for row, ask in asked.items()}
    x_BV, sure_B = logits_BV, logits_BV.amax(1).isfinite()
    for place, stage in enumerate(next(iter(chains.values()))):
        function, read = STAGES[stage.function]
        x_BV, is_sure_B = function(
            x_BV, _spread(logits_BV, {row: read(*chain[place].arguments) for row, chain in chains.items()})
        )
        sure_B = sure_B & is_sure_B & x_BV.amax(1).isfinite()
    draws = {row: ask.sampler.number(ask.ids) for row, ask in asked.items()}
    us = {row: u for row, u in draws.items() if u is not None}
    id_B, processed_B, is_sure_B = draw_each(x_BV, _spread(logits_BV, us)) if us else take_highest(x_BV)
    told_B4 = torch.stack(
        [id_B.double(), log_share(logits_BV, id_B), processed_B, (sure_B & is_sure_B).double()], dim=1
    )
    told = told_B4.cpu().tolist()
    return {row: Choice(int(told[row][0]), told[row][1], told[row][2], u) for row, u in draws.items() if told[row][3]}


def _spread(logits_BV: Tensor, numbers: Mapping[int, float]) -> Tensor:
    """A number for every row, [B, 1] in float64; rows that nobody asked for get one of the others'."""
    spread_B = np.full(len(logits_BV), next(iter(numbers.values())))
    spread_B[list(numbers)] = list(numbers.values())
    return torch.from_numpy(spread_B).to(logits_BV.device)[:, None]


def weigh(x_BV: Tensor) -> Tensor:
    """exp(l - max), in float64; the difference in float32, as the sampler has it."""
    return (x_BV - x_BV.amax(1, keepdim=True)).double().exp()


def log_share(x_BV: Tensor, id_B: Tensor) -> Tensor:
    """log softmax of one token of each row, in nats."""
    own_B = x_BV.gather(1, id_B[:, None])[:, 0]
    return (own_B.double() - x_BV.amax(1).double()) - weigh(x_BV).sum(1).log()


def take_highest(x_BV: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The first of the highest logits of each row, the log of its share (0: nothing else is left), and that this is sure."""
    id_B = x_BV.argmax(1)
    return id_B, torch.zeros_like(id_B, dtype=torch.float64), torch.ones_like(id_B, dtype=torch.bool)


def draw_each(x_BV: Tensor, u_B1: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The token of each row whose segment holds u, the log of its share, and whether u is far enough from its borders."""
    id_B1, apart_B1 = locate_share(weigh(x_BV), u_B1)
    id_B = id_B1[:, 0]
    return id_B, log_share(x_BV, id_B), (apart_B1 > BOUND)[:, 0]


def locate_share(weights_BV: Tensor, share_B1: Tensor) -> tuple[Tensor, Tensor]:
    """Where the running sum of each row passes a share of the whole, and how far that lies from the next border.

    Blocks are summed first, as in `distribution.locate`, and running sums are products with a triangle: torch's own are
    not deterministic on CUDA.

    >>> weights_BV = torch.tensor([[0.5, 0.0, 0.25, 0.25]], dtype=torch.float64)
    >>> [round(found.item(), 3) for found in locate_share(weights_BV, torch.tensor([[0.6]], dtype=torch.float64))]
    [2, 0.1]
    """
    num_rows, num_weights = weights_BV.shape
    padded_BNK = F.pad(weights_BV, (0, -num_weights % BLOCK)).view(num_rows, -1, BLOCK)
    ends_BN = padded_BNK.sum(2) @ _triangle(padded_BNK.size(1), padded_BNK)
    whole_B1 = ends_BN[:, -1:]
    target_B1 = share_B1 * whole_B1
    block_B1, start_B1, _ = _first_above(ends_BN, torch.zeros_like(target_B1), target_B1)
    inside_BK = padded_BNK.gather(1, block_B1[..., None].expand(-1, -1, BLOCK))[:, 0]
    within_B1, start_B1, end_B1 = _first_above(start_B1 + inside_BK @ _triangle(BLOCK, padded_BNK), start_B1, target_B1)
    place_B1 = (block_B1 * BLOCK + within_B1).clamp(max=num_weights - 1)
    apart_B1 = torch.minimum(end_B1 - target_B1, target_B1 - start_B1) / whole_B1
    return place_B1, apart_B1


def _first_above(ends_BN: Tensor, before_B1: Tensor, target_B1: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The first of some running sums above a target (else the last), the one before it, and itself."""
    place_B1 = (ends_BN <= target_B1).sum(1, keepdim=True).clamp(max=ends_BN.size(1) - 1)
    start_B1 = torch.where(place_B1 > 0, ends_BN.gather(1, (place_B1 - 1).clamp(min=0)), before_B1)
    return place_B1, start_B1, ends_BN.gather(1, place_B1)


def _triangle(size: int, like: Tensor) -> Tensor:
    """Ones on and above the diagonal: a row times this is its running sums."""
    return torch.ones(size, size, dtype=like.dtype, device=like.device).triu()


def _all_sure(x_BV: Tensor) -> Tensor:
    return torch.ones(len(x_BV), dtype=torch.bool, device=x_BV.device)


def _greedy(x_BV: Tensor, none_B1: Tensor) -> tuple[Tensor, Tensor]:
    return x_BV, _all_sure(x_BV)  # `take_highest` follows


def _vocabulary(x_BV: Tensor, num_known_B1: Tensor) -> tuple[Tensor, Tensor]:
    unknown_BV = torch.arange(x_BV.size(1), device=x_BV.device) >= num_known_B1
    return x_BV.masked_fill(unknown_BV, -torch.inf), _all_sure(x_BV)


def _temperature(x_BV: Tensor, divisor_B1: Tensor) -> tuple[Tensor, Tensor]:
    return (x_BV - x_BV.amax(1, keepdim=True)) / divisor_B1.float(), _all_sure(x_BV)


def _top_k(x_BV: Tensor, k_B1: Tensor) -> tuple[Tensor, Tensor]:
    ordered_BV = x_BV.sort(1, descending=True).values
    return _keep_highest(x_BV, ordered_BV, k_B1.long().clamp(max=x_BV.size(1))), _all_sure(x_BV)


def _top_p(x_BV: Tensor, top_p_B1: Tensor) -> tuple[Tensor, Tensor]:
    ordered_BV = x_BV.sort(1, descending=True).values
    last_B1, apart_B1 = locate_share(weigh(ordered_BV), top_p_B1)
    return _keep_highest(x_BV, ordered_BV, last_B1 + 1), (apart_B1 > BOUND)[:, 0]


def _min_p(x_BV: Tensor, log_share_B1: Tensor) -> tuple[Tensor, Tensor]:
    threshold_B1 = x_BV.amax(1, keepdim=True) + log_share_B1.float()
    return x_BV.masked_fill(x_BV < threshold_B1, -torch.inf), _all_sure(x_BV)


def _keep_highest(x_BV: Tensor, ordered_BV: Tensor, count_B1: Tensor) -> Tensor:
    """Keep so many of the highest logits of each row; of equal ones those with the lowest ids."""
    threshold_B1 = ordered_BV.gather(1, count_B1 - 1)
    above_BV, equal_BV = x_BV > threshold_B1, x_BV == threshold_B1
    left_B1 = count_B1 - above_BV.sum(1, keepdim=True)
    return x_BV.masked_fill(~(above_BV | (equal_BV & (equal_BV.cumsum(1) <= left_B1))), -torch.inf)


DeviceStage = Callable[
    [Tensor, Tensor], tuple[Tensor, Tensor]
]  # rows and a number for each; new rows, and which are sure
STAGES: Mapping[
    Any, tuple[DeviceStage, Callable[..., float]]
] = {  # by the sampler's own function, with how its number is read
    masks.apply_vocabulary: (_vocabulary, float),
    truncation.apply_greedy: (_greedy, lambda: 0.0),
    truncation.apply_temperature: (_temperature, truncation.divisor),
    truncation.apply_top_k: (_top_k, float),
    truncation.apply_top_p: (_top_p, float),
    truncation.apply_min_p: (_min_p, truncation.log_share),
}
