"""The shape of every tensor between ids and logits, computed from the `ModelConfig` alone.

A runner that calls the torch model and one that calls compiled loops compute the same parts in the same order, so the
shapes depend on the model and not on the runner. Each part lists its own steps. No model is run here: a test holds
these tables equal to the tensors of the built model.

Axes: T new positions · S all positions attended to (those of the cache and the new) · D width · H query heads ·
G key/value heads · K head width · F feed-forward width · V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache
from itertools import chain

from pellucid.planning.config import ModelConfig
from pellucid.planning.formula import sizes
from pellucid.planning.layout import lay_out, steps
from pellucid.planning.parts.description import Part

Shape = tuple[str, tuple[int, ...]]  # the name of a tensor that the model shows, and its shape


@lru_cache(maxsize=4096)  # every step of a generation asks, and those of a second generation ask the same
def part_shapes(
    config: ModelConfig, *, num_new: int, num_all: int, num_source: int = 0, encodes: bool = False
) -> tuple[Shape, ...]:
    """What each part puts out when `num_new` ids are read and `num_all` attended to, in the order of computation.

    What blocks have in common has the same shape in each, so one stands for all under the name `blocks.*`. Only the last position is scored.
    The leading 1 is the batch. Beside an encoder, `num_source` source positions are looked at; where it `encodes`, the
    encoder has read them for these ids, and its parts come first.

    >>> shapes = part_shapes(ModelConfig(vocab_size=100, d_model=32), num_new=3, num_all=5)
    >>> shapes[0], shapes[-1]
    (('ids', (1, 3)), ('logits', (1, 1, 100)))
    """
    layout = lay_out(config)
    symbols = sizes(config) | {"new": num_new, "all": num_all, "last": 1, "source": num_source}

    def walk(parts: Iterable[Part], path: str = "", *, of_source: bool = False) -> Iterator[Shape]:
        for step in dict.fromkeys(step for part in parts for step in part.steps):
            axes = step.of_source().axes if of_source else step.axes
            yield f"{path}{step.name}", (1, *(symbols[axis] for axis in axes))

    def walk_encoder() -> Iterator[Shape]:
        yield "encoder.ids", (1, num_source)
        yield from walk(layout.first, "encoder.", of_source=True)
        yield from walk(chain(*dict.fromkeys(layout.encoder)), "encoder.blocks.*.", of_source=True)
        yield from walk(layout.encoded, "encoder.", of_source=True)

    ids = ("ids", (1, num_new))
    text = (ids, *walk(layout.first), *walk(chain(*layout.kinds), "blocks.*."), *walk(layout.last))
    return (*walk_encoder(), *text) if encodes else text


def row_shapes(
    config: ModelConfig, *, num_tokens: int, num_scored: int, num_source: int = 0, num_asked: int = 0
) -> dict[str, tuple[int, ...]]:
    """The shape, for one row read whole, of every tensor that the model shows, by its full name and without the batch.

    >>> row_shapes(ModelConfig(n_layers=1), num_tokens=3, num_scored=1)["blocks.0.attention.weights"]
    (4, 3, 3)
    """
    symbols = sizes(config) | {"new": num_tokens, "all": num_tokens, "last": num_scored, "source": num_source}
    symbols["asked"] = num_asked
    return {step.name: tuple(symbols[axis] for axis in step.axes) for step in steps(config)}
