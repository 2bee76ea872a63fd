"""Interventions: ablation, occlusion and activation patching: change one thing, run again, compare predictions.

    ablate    remove a head, a neuron, a whole attention or feed-forward
    occlude   leave a token out of the text, or replace it by another
    patch     replace the activation at one site by the one that the model computes for a second text
    sweep     the same for every head, or for every layer and position, one after the other

The measure is the prediction after the last token (of a model that sees both sides: of a hidden one): log p(A), or with a second token B the difference log p(A) - log
p(B). Effects are after - before, in nats. Each is an experiment with this model on this text: it says what the part
does here, not what it is for. It is *not* a reading of attention weights, which say where a head looked and not what
the answer depended on.

Axes: B batch · T positions · V vocabulary · L layers · H query heads.
Source: Zeiler & Fergus 2014 (occlusion); Vig et al. 2020 and Meng et al. 2022 (patching); Jain & Wallace 2019
(attention is not explanation).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from pellucid.errors import RequestError
from pellucid.lens.reader import SourceReader
from pellucid.lens.sites import Site, changing, find_site, watching
from pellucid.model.context import Context
from pellucid.model.device import inference
from pellucid.model.protocol import Model
from pellucid.model.tap import Tap, no_tap
from pellucid.planning.params import count_parameters

NOTE = "Attention weights say where a head looked, not what the answer depended on: attention is not an explanation."
How = Literal["zero", "mean"]
SweepKind = Literal["residual", "attention", "mlp"]
LARGEST_WORK = 4e12  # floating-point operations that one question may cost: about half a minute on two cores


@dataclass(frozen=True, kw_only=True)
class Target:
    """The measured quantity of a prediction: log p of a token, or its lead over another, in nats.

    >>> Target(id=1, against=0).read(torch.tensor([[0.0, 2.0, 5.0]])).tolist()
    [2.0]
    """

    id: int
    against: int | None = None

    def read(self, logits_BV: Tensor) -> Tensor:
        """The target's value for each row, [B]. A difference of log-probabilities is a difference of logits."""
        if self.against is None:
            return logits_BV.log_softmax(-1)[:, self.id]
        return logits_BV[:, self.id] - logits_BV[:, self.against]


def predict(model: Model, ids_BT: Tensor, tap: Tap = no_tap) -> Tensor:
    """The logits after the last token of each row, [B, V] float32; the tap may change activations in the pass."""
    with inference():
        return model(ids_BT, Context(tap=tap), last_only=True).logits_BTV[:, -1].float()


def row(model: Model, ids: Sequence[int]) -> Tensor:
    """The ids as a batch of one on the model's device. Raises RequestError when there are none."""
    if not ids:
        raise RequestError("there is no token to read", hint="give a text of at least one token")
    return torch.tensor([list(ids)], device=model.device)


def asked_of(model: Model) -> int | None:
    """The place whose prediction is asked; None: that after the last token."""
    return model.place if isinstance(model, SourceReader) else None


def ablate(model: Model, ids: Sequence[int], site: Site, how: How = "zero") -> Tensor:
    """Ablation: the next-token logits [V] when the activation at a site is replaced at every position.

    zero   by zero
    mean   by its mean over this text's positions: what the part always writes stays, what it writes for one position in
           particular is gone
    """
    empty = torch.zeros_like if how == "zero" else lambda x_BTN: x_BTN.mean(1, keepdim=True).expand_as(x_BTN)
    return predict(model, row(model, ids), changing(site, empty))[0]


def ablate_heads(model: Model, ids: Sequence[int], target: Target) -> Tensor:
    """The effect of setting each head to zero, one at a time: [L, H] in nats."""
    config, ids_BT = model.config, row(model, ids)
    afford(model, config.n_layers * config.n_heads * len(ids))
    before = target.read(predict(model, ids_BT))
    # Row h of the batch runs without head h.
    kept_BH11 = (1 - torch.eye(config.n_heads, device=ids_BT.device))[:, :, None, None]
    effects = []
    for layer in range(config.n_layers):
        site = Site(name=f"blocks.{layer}.attention.mix")
        without_own = changing(site, lambda mix_BHTK: mix_BHTK * kept_BH11.to(mix_BHTK.dtype))
        logits_BV = predict(model, ids_BT.expand(config.n_heads, -1), without_own)
        effects.append(target.read(logits_BV) - before)
    return torch.stack(effects)


def occlude(model: Model, ids: Sequence[int], target: Target, replacement: int | None = None) -> Tensor:
    """Occlusion: the effect of removing each token: [T] in nats, NaN where the text would become empty.

    replacement=None   the token is left out, so all later tokens move forward by one position
    replacement=id     that token replaces it, and no token moves

    NaN also for the hidden token itself, where that is what is predicted.
    """
    num_ids, asked = len(ids), asked_of(model)
    afford(model, num_ids * num_ids)
    before = target.read(predict(model, row(model, ids)))
    effects_T = torch.full((num_ids,), torch.nan, device=before.device)
    if replacement is None and num_ids == 1:
        return effects_T
    middle = () if replacement is None else (replacement,)
    variants = [[*ids[:place], *middle, *ids[place + 1 :]] for place in range(num_ids)]
    rows, first = torch.tensor(variants, device=model.device), 0 if asked is None else asked
    earlier = model.moved(-1) if isinstance(model, SourceReader) and replacement is None else model
    for reads, places in ((earlier, slice(0, first)), (model, slice(first + (asked is not None), num_ids))):
        # Rows in slices, so that a long text does not need T² positions at once.
        parts = rows[places].split(max(1, 4096 // num_ids)) if len(rows[places]) else ()
        after = [target.read(predict(reads, part)) for part in parts]
        effects_T[places] = torch.cat([*after, before[:0]]) - before
    return effects_T


@dataclass(frozen=True, kw_only=True)
class Patched:
    """The three predictions of a patch, [V] each: of the text, of the text with the patch, of the second text."""

    before: Tensor
    after: Tensor
    source: Tensor


def patch(
    model: Model,
    ids: Sequence[int],
    source_ids: Sequence[int],
    site: Site,
    places: Sequence[tuple[int, int]],
    *,
    second: Model | None = None,
) -> Patched:
    """Activation patching: run `ids` with activations of `source_ids` at one site; `places` are (to, from) positions.

    `second` reads the second text, where that is asked about another place or reads another source.
    Raises RequestError for a position that a text does not have.
    """
    to, taken = [place[0] for place in places], [place[1] for place in places]
    for name, size, wanted in (("text", len(ids), to), ("second text", len(source_ids), taken)):
        if any(not -size <= place < size for place in wanted):
            raise RequestError(f"the {name} has no such position", found=str(wanted), hint=f"it has {size} tokens")
    seen: list[Tensor] = []
    source = predict(second or model, row(model, source_ids), watching(site, seen))[0]

    def put(x_BTN: Tensor) -> Tensor:
        copy = x_BTN.clone()
        copy[:, to] = seen[0][:, taken]
        return copy

    before = predict(model, row(model, ids))[0]
    return Patched(before=before, after=predict(model, row(model, ids), changing(site, put))[0], source=source)


def sweep(
    model: Model,
    ids: Sequence[int],
    source_ids: Sequence[int],
    target: Target,
    kind: SweepKind,
    *,
    second: Model | None = None,
) -> Tensor:
    """The effect of patching each layer at each position alone: [L, T] in nats ("residual": [1+L, T], the input first).

    Positions are matched from the end (the last with the last); NaN where the second text has no partner. `second` reads
    the second text, as in `patch`.
    """
    num_ids, shared = len(ids), min(len(ids), len(source_ids))
    sites = [find_site(model, kind, layer) for layer in range(model.config.n_layers)]
    sites = [find_site(model, "input"), *sites] if kind == "residual" else sites
    afford(model, len(sites) * shared * num_ids)
    before, source_BT = target.read(predict(model, row(model, ids))), row(model, source_ids)
    ids_NT, each = row(model, ids).expand(shared, -1), torch.arange(shared)
    effects = torch.full((len(sites), num_ids), torch.nan)
    for site, effect_T in zip(sites, effects, strict=True):
        seen: list[Tensor] = []
        predict(second or model, source_BT, watching(site, seen))

        def put(x_NTD: Tensor, source_TD: Tensor = seen[0][0]) -> Tensor:
            """Row i of the batch takes over one position: the i-th of those that have a partner."""
            copy = x_NTD.clone()
            copy[each, num_ids - shared + each] = source_TD[-shared:]
            return copy

        effect_T[-shared:] = target.read(predict(model, ids_NT, changing(site, put))) - before
    return effects


def afford(model: Model, num_tokens: int) -> None:
    """Raise RequestError when the model would take too long to read so many tokens."""
    work = 2 * count_parameters(model.config).total * num_tokens
    if work > LARGEST_WORK:
        raise RequestError(
            "this question would take too long",
            found=f"{num_tokens:,} tokens to read, about {work:.1e} operations",
            where=f"the lens answers up to {LARGEST_WORK:.0e}",
            hint="ask it of a shorter text",
        )
