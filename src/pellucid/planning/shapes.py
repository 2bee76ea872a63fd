"""The shape of everything between ids and logits, worked out from the drawings alone.

A runner that calls the torch model and one that calls compiled loops compute the same parts in the same order, so the
shapes are a fact of the model and not of who runs it. Each part says its own steps. Nothing is run here, and nothing is
observed: a test holds this table equal to what the built model really puts out. Parts that pass on what they are given (dropout outside training,
positions that add nothing) are left out.

Axes: T new positions · S all positions attended to (those of the cache and the new) · D width · H query heads ·
G key/value heads · K head width · F feed-forward width · V vocabulary. The leading 1 is the batch.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

from pellucid.planning.config import ModelConfig
from pellucid.planning.formula import sizes
from pellucid.planning.layout import lay_out
from pellucid.planning.parts.description import Part

Shape = tuple[str, tuple[int, ...]]  # a part of the model, under its name in the built one, and what it puts out


@lru_cache(maxsize=4096)  # every step of a generation asks, and those of a second generation ask the same
def part_shapes(config: ModelConfig, *, num_new: int, num_all: int) -> tuple[Shape, ...]:
    """What each part puts out when `num_new` ids are read and `num_all` attended to, in the order of computation.

    All blocks have the same shapes, so one stands for all under the name `blocks.*`. Only the last position is scored.

    >>> shapes = part_shapes(ModelConfig(vocab_size=100, d_model=32), num_new=3, num_all=5)
    >>> shapes[0], shapes[-1]
    (('ids', (1, 3)), ('head', (1, 1, 100)))
    """
    layout = lay_out(config)
    symbols = sizes(config) | {"new": num_new, "all": num_all, "last": 1}

    def walk(parts: tuple[Part, ...], path: str = "") -> Iterator[Shape]:
        for step in (step for part in parts for step in part.steps):
            yield f"{path}{step.name}".removesuffix("."), (1, *(symbols[axis] for axis in step.axes))

    return (*walk(layout.first), *walk(layout.block, "blocks.*."), *walk(layout.last))
