"""Predict places of a row in any order, by a model of two streams: each from all that is known when its turn comes.

    ids       the cat ? on the ?      places = [5, 2]: first the last word, then the third, from all the others
    known     from the beginning everything but the places; each place from its turn on

    ln p(tokens at the places | the rest) = Σ ln p(token | the rest, and the places before it in the order)

The sum is a likelihood in every order, but not the same one: a model is trained to predict in all orders, and no two of its
answers need agree. To ask for several places at once, each without the others, ask for each alone.

Axes: P asked places · V vocabulary.
Source: Yang et al. 2019, "XLNet", §2.2, equation 3.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pellucid.errors import RequestError
from pellucid.model.context import Context, ReadingOrder
from pellucid.model.device import inference
from pellucid.model.protocol import Model


@dataclass(frozen=True, kw_only=True)
class PlaceToken:
    """A token at a place of a row, and how likely it was when its turn came."""

    place: int
    id: int
    logprob: float  # nats, given all that was known then
    rank: int  # 0 for the likeliest


def score_in_order(model: Model, ids: Sequence[int], places: Sequence[int]) -> tuple[PlaceToken, ...]:
    """How likely the tokens at some places are, one after the other in this order, given all the rest.

    >>> from pellucid.model.build import build
    >>> from pellucid.planning.presets import preset
    >>> model = build(preset("xlnet").revise(vocab_size=9, n_layers=1), seed=0)
    >>> [token.place for token in score_in_order(model, [5, 6, 7, 8], [3, 1])]
    [3, 1]

    Raises RequestError for a model of one stream, and for places that a row of these ids does not have.
    """
    logprobs_PV = _ask(model, ids, places, asked=places)
    return tuple(_tell(place, ids[place], row_V) for place, row_V in zip(places, logprobs_PV, strict=True))


def alone_in_order(model: Model, ids: Sequence[int], places: Sequence[int]) -> Tensor:
    """The log-probabilities at some places, float64 [P, V], each as if the others stayed hidden.

    Raises RequestError as `score_in_order`.
    """
    others = {place: [one for one in places if one != place] for place in places}
    return torch.cat([_ask(model, ids, [place, *others[place]], asked=[place]) for place in places])


def fill_in_order(model: Model, ids: Sequence[int], places: Sequence[int]) -> tuple[PlaceToken, ...]:
    """The likeliest token for each of some places, one after the other in this order; what stands there is not read.

    >>> from pellucid.model.build import build
    >>> from pellucid.planning.presets import preset
    >>> model = build(preset("xlnet").revise(vocab_size=9, n_layers=1), seed=0)
    >>> fill_in_order(model, [5, 6, 7, 8], [3, 1]) == fill_in_order(model, [5, 0, 7, 0], [3, 1])
    True

    Raises RequestError as `score_in_order`.
    """
    filled, found = list(ids), list[PlaceToken]()
    for place in places:
        (row_V,) = _ask(model, filled, places, asked=[place])
        found.append(_tell(place, int(row_V.argmax()), row_V))
        filled[place] = found[-1].id
    return tuple(found)


def _ask(model: Model, ids: Sequence[int], places: Sequence[int], *, asked: Sequence[int]) -> Tensor:
    """The log-probabilities at the asked places, float64 [P, V], where all places become known in their order."""
    _check_places(model, ids, places)
    turns = {place: turn for turn, place in enumerate(places, start=1)}
    ranks_BT = torch.tensor([[turns.get(place, 0) for place in range(len(ids))]], device=model.device)
    order = ReadingOrder(ranks_BT=ranks_BT, places_BP=torch.tensor([[*asked]], device=model.device))
    with inference():
        ids_BT = torch.tensor([[*ids]], device=model.device)
        return model(ids_BT, Context(order=order)).logits_BTV[0].cpu().double().log_softmax(-1)


def _tell(place: int, token_id: int, logprobs_V: Tensor) -> PlaceToken:
    logprob = logprobs_V[token_id]
    return PlaceToken(place=place, id=token_id, logprob=logprob.item(), rank=int((logprobs_V > logprob).sum()))


def _check_places(model: Model, ids: Sequence[int], places: Sequence[int]) -> None:
    if not places:
        raise RequestError("no place is asked for", hint="name places of the ids, counted from 0")
    if len({*places}) < len(places):
        raise RequestError("a place is asked for twice", found=str(list(places)))
    if not 0 <= min(places) <= max(places) < len(ids):
        found = f"places {list(places)} of {len(ids)} ids"
        raise RequestError("these are no places of the text", found=found, hint="they are counted from 0")
    if not 0 <= min(ids) <= max(ids) < model.config.vocab_size:
        found, where = f"ids from {min(ids)} to {max(ids)}", f"vocab_size={model.config.vocab_size}"
        raise RequestError("the text names a token that the model does not have", found=found, where=where)
