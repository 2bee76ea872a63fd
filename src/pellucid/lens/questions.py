"""The questions that a recording must answer in advance: those that the page asks about one text, most important first.

A page saved in a file has no model behind it. The list has the questions of every panel as it opens, then the same for
every layer, head and position that a reader may select. Questions that follow only from a change (interventions, new
texts) are left to the live page; the saved page says so. A test opens a recording in a browser and checks that this
list is equal to what the panels ask.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

from pellucid.lens.answer import At
from pellucid.lens.attention import Side, steps_of
from pellucid.lens.lessons import ask as lessons
from pellucid.lens.page.html import Question
from pellucid.lens.state import LensState
from pellucid.planning.params import count_parameters

MOST = 4_000  # questions; a file is full before that, but asking takes time too
MOST_READING = 2e10  # parameters times tokens that are read for one kind of reason: some seconds
NUM_TOGETHER = 3  # neighbours whose likeness over training is drawn beside a token's
NUM_NEURONS = 3  # of a layer that can be opened


def list_questions(lens: LensState, at: At) -> Iterator[Question]:
    """Every question of the page about the text of one node. Some depend on answers, so the lens is asked for those."""
    return islice(_list_all(lens, at), MOST)


def _list_all(lens: LensState, at: At) -> Iterator[Question]:
    place = {"node": at.node, "checkpoint": at.checkpoint}
    last = len(lens.ids(at.node)) - 1
    yield from [("about", {}), ("tree", {}), ("record", {"at": place}), ("labels", {}), ("diagram", {})]
    yield from _of_position(lens, place, last, last)
    for layer in range(lens.config.n_layers):
        yield from _of_layer(lens, place, layer, last)
    for side, layers in _sides(lens)[1:]:
        for layer in range(layers):
            yield from _of_heads(lens, place, layer, last, side)
    yield from _of_reasons(lens, place, last, last)
    yield from _of_training(lens, place)
    yield from lessons.list_questions(lens, place)
    for position in reversed(range(last)):
        yield from _of_position(lens, place, position, last)
        if lens.config.causal and _affords(lens, (last + 1) ** 2, last + 1):  # each leaves out every token once
            yield from _of_reasons(lens, place, position, last)
    yield from _of_cells(lens, place, last)
    for position in reversed(range(last)):
        for layer in range(lens.config.n_layers):
            yield from _of_layer(lens, place, layer, position)


def _of_position(lens: LensState, place: dict[str, Any], position: int, last: int) -> Iterator[Question]:
    """The questions about the selected token, independent of the layer."""
    token, checkpoint = lens.ids(place["node"])[position], place["checkpoint"]
    yield "replay", {"at": place, "position": position}
    yield "card", {"id": token}
    yield "vectors", {"at": place, "position": position}
    usual = lens.trace(At(node=place["node"], checkpoint=checkpoint)).header["predicted"]
    asked = {} if position == (last if usual is None else usual) else {"position": position}
    yield "logits", {"at": place, **asked}
    yield "draws", {"seed": 0, "position": position + 1, "count": 1}
    yield "draws", {"seed": 0, "position": position + 1, "count": 1000}
    yield "tokens", {"text": lens.tokenizer.decode(lens.ids(place["node"])[: position + 1])}
    if position == last:
        yield "logit_lens", {"at": place, "count": 40}
        yield "map", {"method": "pca", "dims": 2, "checkpoint": checkpoint}
        ways = len({lens.config.rotation_at(layer) for layer in range(lens.config.n_layers)})
        for layer in range(lens.config.n_layers if ways > 1 else 1):
            yield "vectors.positions", {"checkpoint": checkpoint, "count": 64} | ({"layer": layer} if ways > 1 else {})
    rows = (2 if lens.config.encoder is None else 3) * lens.config.n_layers
    yield "logit_lens.cell", {"at": place, "row": rows, "position": position, "count": 8}
    near = ("neighbours", {"id": token, "checkpoint": checkpoint})
    yield near
    found = [neighbour["id"] for neighbour in lens.answer(*near).value["neighbours"][:NUM_TOGETHER]]
    yield "map.training", {"words": [token, *found]}


def _of_layer(lens: LensState, place: dict[str, Any], layer: int, position: int) -> Iterator[Question]:
    """The questions about the selected token in one layer."""
    here = {"at": place, "layer": layer}
    if lens.config.has_experts(layer):
        yield "experts", here
    else:
        by_value = ("neurons", {**here, "position": position, "count": 10, "by": "value"})
        yield by_value
        for neuron in lens.answer(*by_value).value["top"][:NUM_NEURONS]:
            yield "neuron", {**here, "index": neuron["index"], "position": position, "count": 8}
    yield from _of_heads(lens, place, layer, position)
    for head in range(lens.config.n_heads):
        yield "vectors.hands", {**here, "head": head, "position": position, "part": "query"}


def _sides(lens: LensState) -> list[tuple[Side, int]]:
    """The kinds of heads, each with its number of layers; the page opens on the first."""
    config = lens.config
    if config.encoder is None:
        return [("self", config.n_layers)]
    return [("self", config.n_layers), ("cross", config.n_layers), ("encoder", config.encoder.n_layers)]


def _of_heads(
    lens: LensState, place: dict[str, Any], layer: int, position: int, side: Side = "self"
) -> Iterator[Question]:
    """The questions about all heads of a layer, and about the selected token in them."""
    here = {"at": place, "layer": layer} | ({} if side == "self" else {"side": side})
    yield "attention", {**here, "at": {**place, "precision": "byte"}}
    query = position if side != "encoder" else len(lens.source(place["node"])) - 1
    keys = len(lens.ids(place["node"]) if side == "self" else lens.source(place["node"]))
    for head in range(lens.config.n_heads):
        yield "attention.matrix", {**here, "head": head, "step": "weight"}
        yield "attention.row", {**here, "head": head, "query": query}
        yield "attention.cell", {**here, "head": head, "query": query, "key": min(max(0, query - 1), keys - 1)}


def _of_cells(lens: LensState, place: dict[str, Any], query: int) -> Iterator[Question]:
    """The questions about every step and every cell of a query's attention rows."""
    heads = [(layer, head) for layer in range(lens.config.n_layers) for head in range(lens.config.n_heads)]
    for layer, head in heads:
        for step in reversed(steps_of(lens.config)[:-1]):  # the last is asked first
            yield "attention.matrix", {"at": place, "layer": layer, "head": head, "step": step}
    for layer, head in heads:
        for key in reversed(range(query + 1 if lens.config.causal else len(lens.ids(place["node"])))):
            yield "attention.cell", {"at": place, "layer": layer, "head": head, "query": query, "key": key}


def _of_reasons(lens: LensState, place: dict[str, Any], position: int, last: int) -> Iterator[Question]:
    """The questions of the panel "Why" about the prediction after one token."""
    of = {"at": place} if position == last else {"at": place, "predict_after": position}
    yield from [("why", of), ("why.occlude", of), ("why.contrast", of), ("why.gradient", of)]
    heads = [(layer, head) for layer in range(lens.config.n_layers) for head in range(lens.config.n_heads)]
    every = position == last and _affords(lens, len(heads), last + 1)
    if every:
        yield "why.heads", of
        yield "why.gradient", {**of, "method": "integrated", "baseline": "mean", "steps": 64}
    for layer, head in heads if every else heads[:1]:
        yield "why.ablate", {**of, "kind": "head", "layer": layer, "index": head, "how": "zero"}


def _affords(lens: LensState, readings: int, num_tokens: int) -> bool:
    """Whether reading so many tokens so many times takes little enough time for a file."""
    return readings * num_tokens * count_parameters(lens.config).total < MOST_READING


def _of_training(lens: LensState, place: dict[str, Any]) -> Iterator[Question]:
    """The questions about the run: its loss curve, this text at every checkpoint, one training step in detail."""
    node = place["node"]
    steps: list[int | None] = [*reversed(lens.checkpoints)] or [None]  # None: the one state there is
    yield "timeline", {}
    likeliest = lens.trace(At(node=node)).header["next"]
    if lens.run is not None and likeliest:
        yield "timeline.learned", {"at": {"node": node}, "id": likeliest[0]["id"]}
    newest = steps[0]
    yield "training_step.rows", {"checkpoint": newest}
    yield "training_step", {"at": {"node": node, "checkpoint": newest}, "learning_rate": 0.01, "rule": "sgd"}
    for step in steps:
        yield "timeline.map", {"at": {"node": node, "checkpoint": step}}
    for step in steps:
        for layer in range(lens.config.n_layers):
            for head in range(lens.config.n_heads):
                yield "timeline.at", {"at": {"node": node, "checkpoint": step}, "layer": layer, "head": head}
