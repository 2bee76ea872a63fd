"""Sliding windows in a GGUF file, and an architecture that has them as one more entry of the table."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf_files import config_of, rewritten, weights_of, written

from pellucid.errors import CorruptFileError, ModelError
from pellucid.planning.axes import ANY
from pellucid.planning.config import ModelConfig
from pellucid.planning.parts.attention import SlidingWindow
from pellucid.store.gguf import load_gguf
from pellucid.store.names import gguf as names
from pellucid.store.names.gguf_keys import GgufKeys
from pellucid.store.names.gguf_rotary import ROTARY
from pellucid.store.names.gguf_windows import windows

EVERY_SIXTH, EVERY_SECOND = windows(period=6), windows(period=2, size=4096)  # Gemma 3's, Gemma 2's


def read(aspect: names.Aspect, n_layers: int, **values: Any) -> dict[str, Any]:
    keys = {f"a.attention.{name}": value for name, value in values.items()}
    axes = aspect.read(GgufKeys("a", keys, "m.gguf", {}), {"n_layers": n_layers})
    return {name.removeprefix("attention.window."): value for name, value in axes.items()}


def test_without_a_pattern_an_architecture_has_its_own() -> None:
    assert read(EVERY_SIXTH, 8, sliding_window=512) == {"size": 512, "layers": (0, 1, 2, 3, 4, 6, 7)}
    assert read(EVERY_SIXTH, 5, sliding_window=512) == {"size": 512}, "no layer is the sixth"
    assert read(EVERY_SECOND, 4, sliding_window=1024) == {"size": 1024, "layers": (0, 2)}
    assert read(EVERY_SECOND, 4) == {"size": 4096, "layers": (0, 2)}, "an old file says nothing of the size"


def test_a_period_or_a_list_in_the_file_goes_before_it() -> None:
    period = {"sliding_window": 16, "sliding_window_pattern": 3}
    assert read(EVERY_SIXTH, 7, **period) == {"size": 16, "layers": (0, 1, 3, 4, 6)}
    assert read(EVERY_SIXTH, 3, sliding_window=16, sliding_window_pattern=0) == {"size": 16}
    assert read(EVERY_SIXTH, 3, sliding_window=16, sliding_window_pattern=1) == {}
    for kind in (np.uint8, np.int32, np.uint32):
        each = np.array([0, 1, 1, 0], dtype=kind)
        assert read(EVERY_SIXTH, 4, sliding_window=16, sliding_window_pattern=each) == {"size": 16, "layers": (1, 2)}
    assert read(EVERY_SIXTH, 2, sliding_window=16, sliding_window_pattern=np.zeros(2, np.uint8)) == {}


def test_a_window_of_no_size_is_none() -> None:
    assert read(EVERY_SIXTH, 8, sliding_window=0) == {}


@pytest.mark.parametrize(
    "values",
    [
        {}, {"sliding_window": -1}, {"sliding_window": 1.5}, {"sliding_window": "all"}, {"sliding_window": True},
        {"sliding_window": 8, "sliding_window_pattern": -1}, {"sliding_window": 8, "sliding_window_pattern": True},
        {"sliding_window": 8, "sliding_window_pattern": ["LLG"]}, {"sliding_window": 8, "sliding_window_pattern": np.ones(3, np.uint8)},
        {"sliding_window": 8, "sliding_window_pattern": np.full(4, 2)}, {"sliding_window": 8, "sliding_window_pattern": np.full(4, np.nan)},
    ],
)  # fmt: skip
def test_what_is_neither_is_a_damaged_file(values: dict[str, Any]) -> None:
    with pytest.raises(CorruptFileError, match=r"attention\.sliding_window"):
        read(EVERY_SIXTH, 4, **values)


def test_a_number_of_layers_beyond_all_models_takes_no_memory() -> None:
    assert len(read(EVERY_SIXTH, 1 << 32, sliding_window=8)["layers"]) < 5_000


@pytest.fixture
def windowed(monkeypatch: pytest.MonkeyPatch) -> names.Architecture:
    """An architecture with windows in every layer but each third, as one more entry of the table."""
    qwen3 = next(one for one in names.ARCHITECTURES if one.name == "qwen3")
    axes = {axis: values for axis, values in qwen3.family.axes.items() if axis != "attention.window"}
    family = replace(qwen3.family, axes={**axes, "attention.window.size": ANY, "attention.window.layers": ANY})
    entry = replace(qwen3, name="windowed", family=family, aspects=(ROTARY, windows(period=3)))
    monkeypatch.setattr(names, "ARCHITECTURES", (*names.ARCHITECTURES, entry))
    return entry


def mixed(layers: tuple[int, ...] | None) -> ModelConfig:
    config = config_of("qwen3", n_layers=4)
    return replace(config, attention=replace(config.attention, window=SlidingWindow(size=5, layers=layers)))


def test_a_new_architecture_is_one_entry(tmp_path: Path, windowed: names.Architecture) -> None:
    config = mixed((0, 1, 3))
    weights = written(tmp_path / "m.gguf", config)
    read_back = load_gguf(tmp_path / "m.gguf")
    assert read_back.config.attention == config.attention and read_back.config.window_at(2) is None
    assert {name: weight.sum() for name, weight in read_back.weights.items()} == {
        name: weight.sum() for name, weight in weights.items()
    }
    each = rewritten(
        tmp_path / "m.gguf",
        tmp_path / "each.gguf",
        windowed__attention__sliding_window_pattern=[False, True, True, False],
    )
    assert load_gguf(each).config.attention.window == SlidingWindow(size=5, layers=(1, 2))


def test_windows_in_other_layers_are_not_written(tmp_path: Path, windowed: names.Architecture) -> None:
    with pytest.raises(ModelError, match="no place for sliding windows in these layers"):
        written(tmp_path / "m.gguf", mixed((0, 2)))
    assert EVERY_SIXTH.write(config_of("qwen3")) == {"attention.sliding_window": 0}
    with pytest.raises(ModelError, match="no place for sliding windows"):
        EVERY_SECOND.write(config_of("qwen3"))


def test_an_architecture_without_windows_refuses_them(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no GGUF architecture computes"):
        written(tmp_path / "m.gguf", mixed((0, 1, 3)))
    written(tmp_path / "plain.gguf", config_of("qwen3"))
    for name, value in {"sliding_window": 8, "sliding_window_pattern": 6}.items():
        changed = rewritten(tmp_path / "plain.gguf", tmp_path / f"{name}.gguf", **{f"qwen3__attention__{name}": value})
        with pytest.raises(ModelError, match="sliding_window"):
            load_gguf(changed)
    assert weights_of(config_of("qwen3"))
