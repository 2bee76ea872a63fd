"""The shape of everything between ids and logits, worked out from the drawings alone.

A runner that calls the torch model and one that calls compiled loops compute the same parts in the same order, so the
shapes are a fact of the model and not of who runs it. Nothing is run here, and nothing is observed: a test holds this
table equal to what the built model really puts out. Parts that pass on what they are given (dropout outside training,
positions that add nothing) are left out.

Axes: T new positions · S all positions attended to (those of the cache and the new) · D width · H query heads ·
G key/value heads · K head width · F feed-forward width · V vocabulary. The leading 1 is the batch.
"""

from __future__ import annotations

from functools import lru_cache

from pellucid.planning.config import ModelConfig

Shape = tuple[str, tuple[int, ...]]  # a part of the model, under its name in the built one, and what it puts out


@lru_cache(maxsize=4096)  # every step of a generation asks, and those of a second generation ask the same
def part_shapes(config: ModelConfig, *, num_new: int, num_all: int) -> tuple[Shape, ...]:
    """What each part puts out when `num_new` ids are read and `num_all` attended to, in the order of computation.

    All blocks have the same shapes, so one stands for all under the name `blocks.*`. Only the last position is scored.

    >>> shapes = part_shapes(ModelConfig(vocab_size=100, d_model=32), num_new=3, num_all=5)
    >>> shapes[0], shapes[-1]
    (('ids', (1, 3)), ('head', (1, 1, 100)))
    """
    stream = (1, num_new, config.d_model)
    added = [("position", stream)] if config.position.kind in ("learned", "sinusoidal") else []
    block = [*_attention(config, num_new, num_all), *_feed_forward(config, num_new), ("", stream)]
    return (
        ("ids", (1, num_new)),
        ("embed", stream),
        *added,
        *((f"blocks.*.{name}".removesuffix("."), shape) for name, shape in block),
        ("final_norm", stream),
        ("head", (1, 1, config.vocab_size)),
    )


def _attention(config: ModelConfig, num_new: int, num_all: int) -> list[Shape]:
    stream, heads, kv_heads = (1, num_new, config.d_model), config.n_heads, config.n_kv_heads
    queries, keys = (1, heads, num_new, config.head_dim), (1, kv_heads, num_new, config.head_dim)
    return [
        ("attention_norm", stream),
        ("attention.query", (1, num_new, config.d_attention)),
        *([("attention.query_norm", queries)] if config.attention.qk_norm else []),
        ("attention.key", (1, num_new, config.d_kv)),
        *([("attention.key_norm", keys)] if config.attention.qk_norm else []),
        ("attention.value", (1, num_new, config.d_kv)),
        ("attention.core keys", (1, kv_heads, num_all, config.head_dim)),
        ("attention.core", queries),
        ("attention.output", stream),
        ("attention", stream),
    ]


def _feed_forward(config: ModelConfig, num_new: int) -> list[Shape]:
    stream, wide = (1, num_new, config.d_model), (1, num_new, config.d_ff)
    first = ("mlp.gate", "mlp.activation", "mlp.up") if config.feed_forward.gated else ("mlp.up", "mlp.activation")
    return [("mlp_norm", stream), *((name, wide) for name in first), ("mlp.down", stream), ("mlp", stream)]
