"""Gemma in a GGUF file: what a file leaves to its reader (scales, caps, bases), and norms that lie there with one added."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from gguf_files import config_of, rewritten, written

from pellucid.errors import CorruptFileError, ModelError, WeightsError
from pellucid.store.convert import convert
from pellucid.store.gguf import load_gguf
from pellucid.store.gguf_header import read_header
from pellucid.store.names.gguf_gemma import scores
from pellucid.store.names.gguf_keys import GgufKeys
from pellucid.store.names.gguf_windows import windows

GEMMA2, GEMMA3 = scores(layers_of_27b=46, caps=(50.0, 30.0)), scores(layers_of_27b=62, caps=None)
SIZES = {"d_model": 4608, "n_heads": 32, "head_dim": 128, "n_layers": 46}


def read(aspect: Any, sizes: dict[str, int], **values: Any) -> dict[str, Any]:
    keys = {f"a.{name.replace('__', '.')}": value for name, value in values.items()}
    return aspect.read(GgufKeys("a", keys, "m.gguf", {}), sizes)


def test_the_largest_models_scale_by_the_width_of_a_head_that_they_do_not_have() -> None:
    assert read(GEMMA2, SIZES)["attention.scale"] == 144**-0.5
    assert read(GEMMA2, {**SIZES, "n_layers": 42})["attention.scale"] == 128**-0.5
    assert read(GEMMA3, SIZES)["attention.scale"] == 128**-0.5
    assert read(GEMMA3, {**SIZES, "n_layers": 62})["attention.scale"] == 144**-0.5


def test_gemma_2_has_caps_that_no_file_has_to_say_and_gemma_3_none() -> None:
    caps = ("attention.softcap", "head.softcap")
    assert [read(GEMMA2, SIZES)[cap] for cap in caps] == [50.0, 30.0]
    said = read(GEMMA2, SIZES, attn_logit_softcapping=20.0, final_logit_softcapping=10.0)
    assert [said[cap] for cap in caps] == [20.0, 10.0]
    assert [read(GEMMA3, SIZES)[cap] for cap in caps] == [None, None]
    assert [read(GEMMA3, SIZES, final_logit_softcapping=9.0)[cap] for cap in caps] == [None, 9.0]


def test_layers_with_a_window_have_a_base_of_their_own() -> None:
    aspect = windows(period=6, size=0, base=10_000.0)
    assert read(aspect, {"n_layers": 6}, attention__sliding_window=512)["position.window_theta"] == 10_000.0
    told = {"attention__sliding_window": 512, "rope__freq_base_swa": 777.0}
    assert read(aspect, {"n_layers": 6}, **told)["position.window_theta"] == 777.0
    assert read(aspect, {"n_layers": 6}, rope__freq_base_swa=777.0) == {}, "no layer has a window"


@pytest.mark.parametrize("shape", ["gemma2", "gemma3"])
def test_a_scale_that_no_file_can_say_is_not_written(tmp_path: Path, shape: str) -> None:
    with pytest.raises(ModelError, match="no place for this scale of scores"):
        written(tmp_path / "m.gguf", config_of(shape, **{"attention.scale": 0.2}))


@pytest.mark.parametrize(
    ("shape", "changes", "error", "message"),
    [
        ("gemma2", {"gemma2__attn_logit_softcapping": 0.0}, CorruptFileError, "softcap"),
        ("gemma2", {"gemma2__rope__freq_base_swa": 777.0}, ModelError, "meaning is not known"),
        ("gemma3", {"gemma3__attn_logit_softcapping": 50.0}, ModelError, "meaning is not known"),
        ("gemma3", {"gemma3__rope__freq_base_swa": "low"}, CorruptFileError, "freq_base_swa"),
        ("gemma3", {"drop": "blk.1.post_ffw_norm.weight"}, WeightsError, "blk.1.post_ffw_norm.weight"),
    ],
)
def test_what_does_not_fit_is_refused(
    tmp_path: Path, shape: str, changes: dict[str, Any], error: type[Exception], message: str
) -> None:
    written(tmp_path / "m.gguf", config_of(shape))
    with pytest.raises(error) as refused:
        load_gguf(rewritten(tmp_path / "m.gguf", tmp_path / "changed.gguf", **changes))
    assert message in str(refused.value)


def test_a_weight_comes_back_from_the_sum_in_the_file(tmp_path: Path) -> None:
    """Weights of bfloat16, as published: 1 + what is read is the sum to the bit; what the sum had kept of w is w."""
    even, halved = torch.linspace(-150, 150, 40), 2.0 ** -torch.arange(24)
    weights = torch.cat((even, halved * 1.5)).bfloat16().float()
    sums = (1 + weights).numpy()
    written(tmp_path / "m.gguf", config_of("gemma2"))
    file = rewritten(tmp_path / "m.gguf", tmp_path / "sums.gguf", tensors={"output_norm.weight": (sums, "F32")})
    back = load_gguf(file).weights["final_norm.weight"]
    assert torch.equal(1 + back, torch.from_numpy(sums))
    kept = weights.abs() >= 2.0**-15  # eight bits below one have room in the sum
    assert kept.sum() == 56 and torch.equal(back[kept], weights[kept])


def test_a_file_of_gemma_becomes_a_directory_of_gemma(tmp_path: Path) -> None:
    """Its norms are 1 + weight on both sides, so other programs know the directory as what it is."""
    written(tmp_path / "m.gguf", config_of("gemma3"))
    header = read_header(tmp_path / "m.gguf")
    assert (
        header.values["gemma3.rope.freq_base_swa"] == 10_000.0 and header.values["gemma3.attention.sliding_window"] == 4
    )
    convert(load_gguf(tmp_path / "m.gguf"), tmp_path / "hf", to="hf", number_format="f32")
    assert '"model_type": "gemma3_text"' in (tmp_path / "hf" / "config.json").read_text()
