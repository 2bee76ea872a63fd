"""Every tensor that a model shows on its way from ids to scores: its name, its axes, and what it is. No torch.

One list for everybody: the taps of the model (`model.recording`), the arrays of a trace (`lens.record`) and the shapes that
`generate --explain` prints. A name means the same tensor in all of them. A part that a model does not have shows nothing.

Axes: B rows · T new positions · S all positions attended to · D width · H query heads · G key/value heads · K head width ·
F feed-forward width · V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from pellucid.planning.config import ModelConfig

Shape = tuple[str, tuple[int, ...]]  # a name, and the shape of what it stands for


@dataclass(frozen=True)
class TapPoint:
    """A place where a tensor can be seen."""

    name: str
    axes: str  # one letter each
    meaning: str


BEFORE = (
    TapPoint("embed", "BTD", "the token's row of the embedding"),
    TapPoint("position", "BTD", "what is added for the position (B is 1 where all rows stand alike)"),
    TapPoint("input", "BTD", "their sum (in training after dropout): what the first block reads"),
)
# Inside `blocks.i`; attention and feed-forward write into the stream what they call `output`.
BLOCK = (
    TapPoint("attention_norm", "BTD", "the stream after the norm before attention"),
    TapPoint("attention.query", "BHTK", "by heads, after their own norm if there is one, before any rotation"),
    TapPoint("attention.key", "BGTK", "the same of the new keys"),
    TapPoint("attention.value", "BGTK", "the new values by heads"),
    TapPoint("attention.query_rotated", "BHTK", "turned to their positions"),
    TapPoint("attention.key_rotated", "BGTK", "turned to their positions"),
    TapPoint("attention.scores", "BHTS", "q · k / √K, -∞ where the query may not look (explicit core only)"),
    TapPoint("attention.weights", "BHTS", "their softmax: every row sums to 1 (explicit core only)"),
    TapPoint("attention.mix", "BHTK", "the values, mixed by the weights"),
    TapPoint("attention.output", "BTD", "what attention adds to the stream (before dropout)"),
    TapPoint("middle", "BTD", "the stream after that"),
    TapPoint("mlp_norm", "BTD", "the stream after the norm before the feed-forward"),
    TapPoint("mlp.gate", "BTF", "the gate before its activation function"),
    TapPoint("mlp.up", "BTF", "the first matrix (without a gate: before the activation function)"),
    TapPoint("mlp.hidden", "BTF", "the activations: what the last matrix reads"),
    TapPoint("mlp.output", "BTD", "what the feed-forward adds to the stream (before dropout)"),
    TapPoint("output", "BTD", "the stream after the block"),
)
AFTER = (
    TapPoint("final_norm", "BTD", "the stream after the last norm: what the head reads"),
    TapPoint("logits", "BTV", "the score of every token"),
)


def block_points(config: ModelConfig) -> tuple[TapPoint, ...]:
    """The places inside each block of a model.

    >>> [point.name for point in block_points(ModelConfig(feed_forward="gelu")) if point.name.startswith("mlp")]
    ['mlp_norm', 'mlp.up', 'mlp.hidden', 'mlp.output']
    """
    absent = set() if config.position == "rotary" else {"attention.query_rotated", "attention.key_rotated"}
    absent |= set() if config.gated else {"mlp.gate"}
    return tuple(point for point in BLOCK if point.name not in absent)


def points_before(config: ModelConfig) -> tuple[TapPoint, ...]:
    """The places before the first block of a model."""
    adds = config.position in ("learned", "sinusoidal")
    return tuple(point for point in BEFORE if adds or point.name != "position")


def tap_points(config: ModelConfig) -> Iterator[TapPoint]:
    """All places of a model by their full names, in the order of computation."""
    yield from points_before(config)
    for layer in range(config.n_layers):
        for point in block_points(config):
            yield TapPoint(f"blocks.{layer}.{point.name}", point.axes, point.meaning)
    yield from AFTER


def axis_sizes(config: ModelConfig, *, num_rows: int, num_new: int, num_all: int) -> dict[str, int]:
    """How long each axis is."""
    return {
        "B": num_rows, "T": num_new, "S": num_all, "D": config.d_model, "H": config.n_heads, "G": config.n_kv_heads,
        "K": config.head_dim, "F": config.d_ff, "V": config.vocab_size,
    }  # fmt: skip


@lru_cache(maxsize=4096)  # every step of a generation asks, and those of a second generation ask the same
def tap_shapes(config: ModelConfig, *, num_new: int, num_all: int) -> tuple[Shape, ...]:
    """What each part puts out when `num_new` ids of one row are read and `num_all` attended to, in that order.

    A runner that calls the torch model and one that calls compiled loops compute the same parts, so the shapes are a
    fact of the model and not of who runs it. All blocks have the same shapes: one stands for all under `blocks.*`. Only
    the last position is scored.

    >>> shapes = tap_shapes(ModelConfig(vocab_size=100, d_model=32), num_new=3, num_all=5)
    >>> shapes[0], shapes[-1]
    (('ids', (1, 3)), ('logits', (1, 1, 100)))
    """
    sizes = axis_sizes(config, num_rows=1, num_new=num_new, num_all=num_all)

    def shaped(points: tuple[TapPoint, ...], prefix: str = "") -> Iterator[Shape]:
        return ((f"{prefix}{point.name}", tuple(sizes[axis] for axis in point.axes)) for point in points)

    *others, (name, (*axes, _, size)) = shaped(AFTER)
    return (
        ("ids", (1, num_new)),
        *shaped(points_before(config)),
        *shaped(block_points(config), "blocks.*."),
        *others,
        (name, (*axes, 1, size)),
    )
