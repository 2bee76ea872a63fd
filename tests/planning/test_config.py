"""A model's axes: what does not fit together is refused when the drawing is made."""

from __future__ import annotations

import copy
import dataclasses
import pickle

import pytest

import pellucid
from pellucid.errors import ModelError, SettingsError
from pellucid.planning.axis_names import FLAT
from pellucid.planning.config import ModelConfig
from pellucid.planning.parts.attention import SlidingWindow
from pellucid.planning.parts.norm import NormConfig
from pellucid.planning.parts.position import Rotary


@pytest.mark.parametrize(
    ("axes", "words"),
    [
        ({"sliding_window": 4, "causal": False}, "a causal model looks back, any other to both sides"),
        ({"sliding_window": 4, "sliding_layers": ()}, "must name blocks"),
        ({"sliding_window": 4, "sliding_layers": (4,)}, "must name blocks"),
        ({"sliding_window": 4, "sliding_layers": (-1,)}, "must name blocks"),
        ({"sliding_window": 4, "sliding_layers": (1, 0)}, "must name blocks"),
        ({"sliding_window": 4, "sliding_layers": (1, 1)}, "must name blocks"),
    ],
)
def test_windows_that_no_model_can_have_are_refused(axes, words):
    with pytest.raises(ModelError, match=words):
        ModelConfig.from_axes(n_layers=4, **axes)


def test_layers_of_a_window_need_its_size() -> None:
    with pytest.raises(SettingsError, match=r"attention.window.size must be given"):
        ModelConfig.from_axes(sliding_layers=(0,))


@pytest.mark.parametrize("axes", [{"norm": "rms"}, {"position": "rotary"}, {"attention": None}])
def test_a_group_is_not_a_word(axes) -> None:
    with pytest.raises(ModelError, match="is a group of axes"):
        ModelConfig(**axes)


@pytest.mark.parametrize(("name", "path"), FLAT.items())
def test_the_constructor_says_where_an_axis_of_a_group_is(name: str, path: str) -> None:
    if name in ("position", "norm", "feed_forward"):  # the name of the group too
        with pytest.raises(ModelError, match="from_axes"):
            ModelConfig(**{name: "rms"})
        return
    with pytest.raises(SettingsError, match=f"there is no keyword {name}") as caught:
        ModelConfig(**{name: 1})
    group, member = path.partition(".")[0], path.rpartition(".")[2]
    said = caught.value.hint
    assert f"called {group}=" in said and f"({member}=…)" in said and f"ModelConfig.from_axes({name}=…)" in said


@pytest.mark.parametrize(
    ("cls", "wrong", "hint"),
    [
        (
            ModelConfig,
            "rope_theta",
            "here it is called position=Rotary(theta=…); ModelConfig.from_axes(rope_theta=…) takes it too",
        ),
        (ModelConfig, "n_layer", "did you mean 'n_layers'?"),
        (Rotary, "thetta", "did you mean 'theta'?"),
        (SlidingWindow, "sise", "did you mean 'size'?"),
        (NormConfig, "epsilon", "did you mean 'eps'?"),
        (pellucid.TrainSettings, "step", "did you mean 'steps'?"),
        (pellucid.SamplingSettings, "max_tokens", "here it is called max_new_tokens"),
        (pellucid.BeamSettings, "beam_width", "here it is called num_beams"),
        (pellucid.EngineSettings, "kernel", "did you mean 'kernels'?"),
        (pellucid.ConstraintSettings, "schema", "did you mean 'json_schema'?"),
    ],
)
def test_settings_made_by_hand_name_the_keyword_that_is_meant(cls: type, wrong: str, hint: str) -> None:
    with pytest.raises(SettingsError) as caught:
        cls(**{wrong: 1})
    assert (caught.value.what, caught.value.hint) == (f"there is no keyword {wrong}", hint)


def test_a_config_is_copied_replaced_and_pickled_as_any_dataclass() -> None:
    config = ModelConfig(n_layers=3)
    assert copy.deepcopy(config) == pickle.loads(pickle.dumps(config)) == dataclasses.replace(config) == config


def test_every_block_has_its_own_window():
    assert [ModelConfig(n_layers=3).window_at(layer) for layer in range(3)] == [None, None, None]
    assert [ModelConfig.from_axes(n_layers=3, sliding_window=5).window_at(layer) for layer in range(3)] == [5, 5, 5]
    mixed = ModelConfig.from_axes(n_layers=3, sliding_window=5, sliding_layers=(0, 2))
    assert [mixed.window_at(layer) for layer in range(3)] == [5, None, 5]
