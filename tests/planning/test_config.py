"""A model's axes: what does not fit together is refused when the drawing is made."""

from __future__ import annotations

import pytest

from pellucid.errors import ModelError, SettingsError
from pellucid.planning.config import ModelConfig


@pytest.mark.parametrize(
    ("axes", "words"),
    [
        ({"sliding_window": 4, "causal": False}, "needs a causal model"),
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


def test_every_block_has_its_own_window():
    assert [ModelConfig(n_layers=3).window_at(layer) for layer in range(3)] == [None, None, None]
    assert [ModelConfig.from_axes(n_layers=3, sliding_window=5).window_at(layer) for layer in range(3)] == [5, 5, 5]
    mixed = ModelConfig.from_axes(n_layers=3, sliding_window=5, sliding_layers=(0, 2))
    assert [mixed.window_at(layer) for layer in range(3)] == [5, None, 5]
