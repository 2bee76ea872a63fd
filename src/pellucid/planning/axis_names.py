"""The flat names of a model's axes: what files, recipes, `--set` and `--json` say for an axis that lies in a group.

    rope_theta  <->  position.theta

`ModelConfig` was flat once. Everything that was written then says `rope_theta`, and it is the shorter word, so both
names stay and mean the same. No torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from operator import attrgetter

from pellucid.settings import flatten, plain

FLAT = {
    "position": "position.kind",
    "rope_theta": "position.theta",
    "rope_scaling": "position.scaling.kind",
    "rope_factor": "position.scaling.factor",
    "rope_low_frequency": "position.scaling.low_frequency",
    "rope_high_frequency": "position.scaling.high_frequency",
    "rope_original_context": "position.scaling.original_context",
    "rope_attention_factor": "position.scaling.attention_factor",
    "sliding_window": "attention.window.size",
    "sliding_layers": "attention.window.layers",
    "norm": "norm.kind",
    "norm_eps": "norm.eps",
    "feed_forward": "feed_forward.kind",
    "qk_norm": "attention.qk_norm",
    "qkv_bias": "attention.qkv_bias",
    "output_bias": "attention.output_bias",
    "mlp_bias": "feed_forward.bias",
}
ROPE = [name for name in FLAT if name.startswith("rope_")]
SCALING = {  # the axes that a kind of stretching has
    "none": (),
    "linear": ("rope_factor",),
    "llama3": ("rope_factor", "rope_low_frequency", "rope_high_frequency", "rope_original_context"),
    "yarn": tuple(name for name in ROPE if name not in ("rope_theta", "rope_scaling")),
}


def dotted(axes: Mapping[str, object]) -> dict[str, object]:
    """Axes given under either name, each under its dotted name.

    In older files every model has every axis; those that mean nothing in this model are left out.

    >>> dotted({"n_layers": 2, "rope_theta": 1e6, "sliding_window": None})
    {'n_layers': 2, 'position.theta': 1000000.0, 'attention.window': None}
    """
    axes = _in_force(axes) if axes.keys() >= FLAT.keys() else axes
    found: dict[str, object] = {}
    for name, value in axes.items():
        if name == "sliding_window" and (value is None or str(value).lower() in ("none", "null")):
            found["attention.window"] = None
        elif name in FLAT and (value is None or not isinstance(value, Mapping)) and not hasattr(value, "kind"):
            found[FLAT[name]] = value
        else:
            found[name] = dict(value) if isinstance(value, Mapping) else value
    return found


def _in_force(axes: Mapping[str, object]) -> dict[str, object]:
    """The axes that mean something in a model that was written with all of them."""
    idle = (
        {*ROPE}
        if axes["position"] != "rotary"
        else {*SCALING["yarn"]} - {*SCALING.get(str(axes["rope_scaling"]), ROPE)}
    )
    if axes["sliding_window"] is None:
        idle.add("sliding_layers")
    return {name: value for name, value in axes.items() if name not in idle}


def flat(config: object) -> dict[str, object]:
    """Every axis of a model: under its flat name where it has one (None: this model has no such axis), else dotted.

    >>> from pellucid.planning.config import ModelConfig
    >>> from pellucid.planning.parts.position import Learned
    >>> axes = flat(ModelConfig(position=Learned()))
    >>> axes["position"], axes["rope_theta"], axes["qk_norm"], axes["norm.placement"]
    ('learned', None, True, 'before')
    """
    named = {*FLAT.values(), "attention.window"}
    dotted_names = {name: plain(value) for name, value in flatten(config) if name not in named}
    return dotted_names | {name: _at(config, path) for name, path in FLAT.items()}


def _at(config: object, path: str) -> object:
    try:
        return attrgetter(path)(config)
    except AttributeError:
        return None
