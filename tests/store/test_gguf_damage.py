"""A thousand damaged GGUF files: each one loads or ends in one clear error, in little time and memory."""

from __future__ import annotations

import random
import struct
import tracemalloc
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from damaged import gguf_places
from gguf_files import rewritten

from pellucid.errors import CorruptFileError, ModelError, StoreError, TokenizerError
from pellucid.planning.config import ModelConfig
from pellucid.planning.params import parameter_shapes
from pellucid.store.gguf import load_gguf, save_gguf
from pellucid.store.gguf_header import read_header
from pellucid.store.names.gguf_rotary import FREQUENCIES
from pellucid.store.quantize import BY_NAME
from pellucid.tokens.train import train_bpe

NUM_MUTATIONS = 1000
MOST_BYTES = 8_000_000  # the files have about 40,000 and 160,000
ODD = (0, 1, 7, 2**8, 2**16, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**63 - 1, 2**63, 2**64 - 1)


CONFIG = ModelConfig.from_axes(
    vocab_size=262, context_length=16, n_layers=1, n_heads=2, n_kv_heads=1, head_dim=8, d_model=16, d_ff=32, qk_norm=False,
)  # fmt: skip
PACKED = CONFIG.revise(d_model=256, rope_scaling="llama3", rope_factor=8.0, rope_original_context=40)
FORMS = ("Q4_K", "Q6_K", "Q5_K", "Q3_K", "Q2_K", "IQ4_XS", "IQ4_NL")  # of the matrices whose rows are whole blocks


def plain(path: Path, config: ModelConfig) -> bytes:
    tokenizer = train_bpe(["the cat sat. 猫坐着。 " * 9], 262, specials="none")
    weights = {name: torch.ones(shape) for name, shape in parameter_shapes(config).items()}
    save_gguf(path, config=config, weights=weights, tokenizer=tokenizer, number_format="f32", name="whole")
    return path.read_bytes()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return plain(tmp_path_factory.mktemp("damage") / "whole.gguf", CONFIG)


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A file of quantised blocks, with the tensor of a llama3 scaling."""
    folder, draw, forms = tmp_path_factory.mktemp("packed"), np.random.default_rng(3), cycle(FORMS)
    plain(folder / "whole.gguf", PACKED)
    tensors = {}
    for tensor in gguf.GGUFReader(folder / "whole.gguf").tensors:
        if tensor.data.ndim == 2 and tensor.data.shape[1] % 256 == 0:
            form = next(forms)
            row = BY_NAME[form].num_bytes(tensor.data.shape[1])
            tensors[tensor.name] = draw.integers(0, 60, (tensor.data.shape[0], row), dtype=np.uint8), form
    assert {form for _, form in tensors.values()} >= {*FORMS[:6]}
    return rewritten(folder / "whole.gguf", folder / "packed.gguf", tensors=tensors).read_bytes()


def mutations(data: bytes, path: Path) -> Iterator[bytes]:
    draw, fields = random.Random(11), gguf_places(path)
    header_bytes = min(tensor.offset for tensor in read_header(path).tensors.values())
    for number in range(NUM_MUTATIONS):
        damaged, kind = bytearray(data), number % 5
        at, width = draw.choice(fields)
        if kind == 0:  # a count, length, type or offset that is absurd
            damaged[at : at + width] = (draw.choice(ODD) % (1 << 8 * width)).to_bytes(width, "little")
        elif kind == 1:  # or wrong by a little
            value = int.from_bytes(damaged[at : at + width], "little") + draw.choice((-8, -1, 1, 8))
            damaged[at : at + width] = (value % (1 << 8 * width)).to_bytes(width, "little")
        elif kind == 2:
            del damaged[draw.randrange(len(damaged)) :]
        elif kind == 3:
            damaged[draw.randrange(header_bytes)] ^= 1 << draw.randrange(8)
        else:
            start = draw.randrange(header_bytes)
            damaged[start : start + draw.randrange(1, 9)] = draw.randbytes(draw.randrange(9))
        yield bytes(damaged)


@pytest.mark.parametrize("file", ["whole", "packed"])
def test_a_thousand_damaged_files_each_load_or_say_what_is_wrong(
    file: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    data: bytes = request.getfixturevalue(file)
    path, refused, kinds = tmp_path / "damaged.gguf", 0, set()
    path.write_bytes(data)
    damaged_files = list(mutations(data, path))
    dict(load_gguf(path).weights)  # whatever is loaded once is loaded before memory is watched
    tracemalloc.start()
    for damaged in damaged_files:
        path.write_bytes(damaged)
        tracemalloc.reset_peak()
        try:
            dict(load_gguf(path).weights)
        except (StoreError, ModelError, TokenizerError) as error:
            refused += 1
            kinds.add(error.what)
            assert error.what and (error.where or error.found)
        assert tracemalloc.get_traced_memory()[1] < MOST_BYTES
    tracemalloc.stop()
    assert refused > NUM_MUTATIONS // 2 and len(kinds) > 40, "the mutations must reach many checks"


def test_damaged_blocks_and_divisors_load_or_say_what_is_wrong(packed: bytes, tmp_path: Path) -> None:
    """Damage behind the header: bytes of a block are numbers where its scale is one, and divisors of frequencies are compared."""
    path, draw, refused = tmp_path / "damaged.gguf", random.Random(4), 0
    path.write_bytes(packed)
    tensors = read_header(path).tensors.values()
    for number in range(200):
        damaged, tensor = bytearray(packed), draw.choice([t for t in tensors if number % 2 == (t.name == FREQUENCIES)])
        for _ in range(8):
            damaged[tensor.offset + draw.randrange(tensor.num_bytes)] = draw.randrange(256)
        path.write_bytes(damaged)
        try:
            weights = dict(load_gguf(path).weights)
            assert weights.keys() == parameter_shapes(PACKED).keys()
        except (StoreError, ModelError) as error:
            refused += 1
            told = FREQUENCIES in error.what or FREQUENCIES in error.found
            assert told if tensor.name == FREQUENCIES else "scales are no numbers" in error.what
    assert refused > 80


@pytest.mark.parametrize(
    ("at", "value", "message"),
    [
        (0, b"GGML", "not a GGUF file"),
        (4, struct.pack(">I", 3), "version"),
        (8, struct.pack("<Q", 2**60), "number of tensors is larger than the file can hold"),
        (16, struct.pack("<Q", 2**60), "number of values is larger than the file can hold"),
        (24, struct.pack("<Q", 2**63), "name reaches beyond the end"),
    ],
)
def test_the_first_words_are_checked(whole: bytes, tmp_path: Path, at: int, value: bytes, message: str) -> None:
    path = tmp_path / "x.gguf"
    path.write_bytes(whole[:at] + value + whole[at + len(value) :])
    with pytest.raises(CorruptFileError, match=message):
        read_header(path)


def test_every_truncation_of_the_header_is_an_error(whole: bytes, tmp_path: Path) -> None:
    path = tmp_path / "x.gguf"
    for length in (*range(1, 200), *range(200, len(whole), 997), len(whole) - 33):
        path.write_bytes(whole[:length])
        with pytest.raises(StoreError):
            read_header(path)


def test_a_norm_read_as_half_precision_is_found_by_what_lies_behind_it(tmp_path: Path) -> None:
    """Six numbers in fp32 take 24 bytes and in half precision 12, and both are filled up to 32: the layout looks the same."""
    path = tmp_path / "small.gguf"
    whole = plain(path, CONFIG.revise(head_dim=6, qk_norm=True))
    name = b"blk.0.attn_q_norm.weight"
    at = whole.index(name) + len(name) + 4 + 8  # behind the number of axes and the axis
    assert whole[at : at + 4] == struct.pack("<I", gguf.GGMLQuantizationType.F32)
    path.write_bytes(whole[:at] + struct.pack("<I", gguf.GGMLQuantizationType.F16) + whole[at + 4 :])
    with pytest.raises(CorruptFileError, match="numbers between two tensors"):
        read_header(path)
