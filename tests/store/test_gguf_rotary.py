"""Stretched rotary wavelengths in a GGUF file: the tensor of a llama3 scaling is read as the scaling that made it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gguf_files import config_of, rewritten, weights_of, written

from pellucid.errors import CorruptFileError, ModelError, WeightsError
from pellucid.model.position import build_rotation
from pellucid.store.gguf import load_gguf, save_gguf
from pellucid.store.gguf_header import read_header
from pellucid.store.names.gguf_keys import GgufKeys
from pellucid.store.names.gguf_rotary import FREQUENCIES, LLAMA_ROTARY
from pellucid.tokens.train import train_bpe

PUBLISHED = {  # base, head width, factor: the context before stretching is 8,192 in all
    "Llama 3.1 8B": (500_000.0, 128, 8.0),
    "Llama 3.2 1B": (500_000.0, 64, 32.0),
    "Llama 3.2 3B": (500_000.0, 128, 32.0),
}


def divisors(theta: float, head_dim: int, factor: float, context: int, number: type = np.float64) -> np.ndarray:
    """What llama.cpp's converter writes, by wavelengths as it does it, in the precision of `number`."""
    found = []
    for i in range(0, head_dim, 2):
        wavelength = number(2 * math.pi) / number(1 / np.float32(theta) ** np.float32(i / head_dim))
        if wavelength < context / 4:
            found.append(1.0)
        elif wavelength > context:
            found.append(factor)
        else:
            smooth = (number(context) / wavelength - number(1)) / number(3)
            found.append(float(1 / ((1 - smooth) / number(factor) + smooth)))
    return np.array(found, dtype=np.float32)


def read(tensor: np.ndarray, theta: float, head_dim: int, **values: Any) -> dict[str, Any]:
    """The axes of the scaling that a tensor stands for."""
    keys = {f"llama.{name.replace('__', '.')}": value for name, value in values.items()}
    gguf_keys = GgufKeys("llama", {"llama.rope.freq_base": theta, **keys}, "m.gguf", {FREQUENCIES: tensor})
    axes = LLAMA_ROTARY.read(gguf_keys, {"head_dim": head_dim})
    return {name.removeprefix("position.scaling."): value for name, value in axes.items() if "scaling" in name}


@pytest.mark.parametrize("number", [np.float32, np.float64])
@pytest.mark.parametrize("name", PUBLISHED)
def test_the_scaling_of_published_models_is_found(name: str, number: type) -> None:
    theta, head_dim, factor = PUBLISHED[name]
    found = read(divisors(theta, head_dim, factor, 8192, number), theta, head_dim)
    bounds = {"low_frequency": 1.0, "high_frequency": 4.0}
    assert found == {"kind": "llama3", "factor": factor, "original_context": 8192, **bounds}


@pytest.mark.parametrize("context", [2048, 4096, 5000, 16_384, 131_072])
@pytest.mark.parametrize("number", [np.float32, np.float64])
def test_another_context_before_stretching_follows_from_the_pairs(context: int, number: type) -> None:
    found = read(divisors(500_000.0, 128, 16.0, context, number), 500_000.0, 128)
    assert (found["factor"], found["original_context"]) == (16.0, context)


def test_a_context_that_the_file_names_is_believed_where_it_fits() -> None:
    tensor, name = divisors(1e6, 16, 8.0, 32_768), "rope__scaling__original_context_length"
    assert not ((tensor > 1) & (tensor < 8)).any(), (
        "no pair lies between, so several contexts give the same frequencies"
    )
    assert read(tensor, 1e6, 16, **{name: 32_768})["original_context"] == 32_768
    found = read(tensor, 1e6, 16)["original_context"]
    np.testing.assert_array_equal(divisors(1e6, 16, 8.0, found), tensor)
    assert read(divisors(500_000.0, 128, 8.0, 8192), 500_000.0, 128, **{name: 4096})["original_context"] == 8192


def test_one_divisor_for_all_pairs_is_a_linear_scaling_or_none() -> None:
    assert read(np.ones(32, dtype=np.float32), 10_000.0, 64) == {}
    assert read(np.full(32, 2.5, dtype=np.float32), 10_000.0, 64) == {"kind": "linear", "factor": 2.5}


@pytest.mark.parametrize("pair", [0, 33, 34, 60])
@pytest.mark.parametrize("wrong", [1.0001, 1.1])
def test_a_pair_that_fits_no_scaling_is_refused(pair: int, wrong: float) -> None:
    tensor = divisors(500_000.0, 128, 8.0, 8192)
    tensor[pair] *= wrong
    with pytest.raises(ModelError, match="in a way that is not known here") as refused:
        read(tensor, 500_000.0, 128)
    assert "divides frequency" in refused.value.found and "a llama3 scaling by" in refused.value.found


@pytest.mark.parametrize(
    "tensor",
    [np.ones(31), np.full(32, np.nan), np.full(32, np.inf), np.full(32, 0.5), np.full(32, -1.0), np.zeros(32)],
    ids=["too few", "not a number", "infinite", "faster", "negative", "zero"],
)
def test_what_is_no_list_of_divisors_is_a_damaged_file(tensor: np.ndarray) -> None:
    with pytest.raises(CorruptFileError, match="is not 32 numbers of at least 1"):
        read(tensor.astype(np.float32), 10_000.0, 64)


@pytest.mark.parametrize("theta", [0.5, 0.0, -1.0])
def test_a_base_below_1_is_a_damaged_file(theta: float) -> None:
    with pytest.raises(CorruptFileError, match="freq_base is below 1"):
        read(divisors(10_000.0, 64, 8.0, 8192), theta, 64)


def test_a_file_that_stretches_twice_is_refused() -> None:
    with pytest.raises(ModelError, match="stretches its rotary wavelengths twice"):
        read(np.ones(32, dtype=np.float32), 1e4, 64, rope__scaling__type="linear", rope__scaling__factor=2.0)
    with pytest.raises(ModelError, match=r"rope\.scaling\.factor=2\.0"):
        read(np.ones(32, dtype=np.float32), 1e4, 64, rope__scaling__factor=2.0)


def test_a_model_turns_by_the_frequencies_of_its_file(tmp_path: Path) -> None:
    config = config_of("llama", rope_theta=500_000.0, head_dim=32, d_model=128)
    written(tmp_path / "plain.gguf", config)
    tensor = divisors(500_000.0, 32, 8.0, 8192)
    path = rewritten(tmp_path / "plain.gguf", tmp_path / "m.gguf", tensors={FREQUENCIES: (tensor, "F32")})
    read_back = load_gguf(path).config
    _, sine = build_rotation(read_back, read_back.rotation_at(0)).rows(1, 2)
    expected = 500_000.0 ** -(np.arange(16) / 16) / tensor.astype(np.float64)
    np.testing.assert_allclose(sine[0, 16:].double().asin()[1:].numpy(), expected[1:], rtol=1e-6)
    assert read_back.revise(rope_scaling="none") == config.revise(init=read_back.init)


def test_what_is_written_is_what_the_converter_writes(tmp_path: Path) -> None:
    config = config_of("llama-llama3", rope_theta=10_000.0)
    written(tmp_path / "m.gguf", config)
    header = read_header(tmp_path / "m.gguf")
    tensor, data = header.tensors[FREQUENCIES], (tmp_path / "m.gguf").read_bytes()
    found = np.frombuffer(data, "<f4", 8, tensor.offset)
    np.testing.assert_allclose(found, divisors(10_000.0, 16, 8.0, 40), rtol=1e-6)
    assert tensor.shape == (8,) and "llama.rope.scaling.type" not in header.values


def test_a_scaling_that_the_tensor_cannot_say_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no place for these"):
        written(tmp_path / "m.gguf", config_of("llama-llama3", rope_high_frequency=8.0))
    with pytest.raises(ModelError, match="cannot say how these few frequencies are stretched"):
        written(tmp_path / "m.gguf", config_of("llama-llama3", rope_original_context=1 << 20))
    with pytest.raises(ModelError, match="no GGUF architecture"):
        written(tmp_path / "m.gguf", config_of("qwen3", rope_scaling="llama3"))
    assert list(tmp_path.iterdir()) == []


def test_bf16_stays_bf16_beside_a_tensor_that_is_no_weight(tmp_path: Path) -> None:
    config = config_of("llama-llama3")
    rounded = {name: weight.bfloat16().float() for name, weight in weights_of(config).items()}
    tokenizer = train_bpe(["the cat sat. " * 9], config.vocab_size)
    save_gguf(tmp_path / "m.gguf", config=config, weights=rounded, tokenizer=tokenizer, number_format="bf16", name="x")
    assert load_gguf(tmp_path / "m.gguf").dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("shape", "tensor", "error", "message"),
    [
        ("llama", (np.ones(8, dtype=np.float16), "F16"), CorruptFileError, "rope_freqs.weight is not a vector of float32"),
        ("llama", (np.ones((2, 4), dtype=np.float32), "F32"), CorruptFileError, "is not a vector of float32"),
        ("llama", (np.ones(9, dtype=np.float32), "F32"), CorruptFileError, "is not 8 numbers of at least 1"),
        ("qwen3", (np.ones(8, dtype=np.float32), "F32"), WeightsError, "left over: rope_freqs.weight"),
    ],
)  # fmt: skip
def test_a_tensor_of_another_kind_is_refused(
    tmp_path: Path, shape: str, tensor: tuple[np.ndarray, str], error: type[Exception], message: str
) -> None:
    written(tmp_path / "plain.gguf", config_of(shape))
    with pytest.raises(error, match=message):
        load_gguf(rewritten(tmp_path / "plain.gguf", tmp_path / "m.gguf", tensors={FREQUENCIES: tensor}))
