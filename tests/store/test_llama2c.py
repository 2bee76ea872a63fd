"""llama2.c's checkpoints, held against the arithmetic of its program written out plainly, and damaged in many ways."""

from __future__ import annotations

import pickle
import random
import struct
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from llama2c_files import (
    PIECES,
    Sizes,
    new_file,
    old_file,
    quantised,
    random_weights,
    tokenizer_file,
    unquantised,
    write_model,
)

import pellucid
from pellucid.errors import CorruptFileError, ModelError, PellucidError, TokenizerError, WeightsError
from pellucid.events import MemoryRecorder
from pellucid.model.build import build
from pellucid.store.checkpoint import load_model
from pellucid.store.convert import convert
from pellucid.store.gguf import load_gguf
from pellucid.store.llama2c import is_llama2c, load_llama2c
from pellucid.store.open import check_there, open_checkpoint

SIZES, IDS = Sizes(), [1, 300, 268, 12, 259, 77, 280]
GROUP = 8
NUM_MUTATIONS, MOST_BYTES = 1000, 8_000_000  # the file has about 110,000


def plain_logits(sizes: Sizes, weights: dict[str, np.ndarray], ids: list[int]) -> np.ndarray:
    """The program `run.c`, token by token in float32: the logits after each id."""
    width, shared = sizes.dim // sizes.n_heads, sizes.n_heads // sizes.n_kv_heads
    keys: list[list[np.ndarray]] = [[] for _ in range(sizes.n_layers)]
    values: list[list[np.ndarray]] = [[] for _ in range(sizes.n_layers)]
    found = []
    for position, token in enumerate(ids):
        x = weights["tok"][token].copy()
        for layer in range(sizes.n_layers):
            h = rmsnorm(x, weights["attention_norm"][layer])
            q, k, v = (weights[name][layer] @ h for name in ("wq", "wk", "wv"))
            keys[layer].append(turned(k, position, width).reshape(-1, width))
            values[layer].append(v.reshape(-1, width))
            mixed = []
            for head, query in enumerate(turned(q, position, width).reshape(-1, width)):
                scores = np.array([query @ key[head // shared] for key in keys[layer]]) / np.float32(np.sqrt(width))
                weight = np.exp(scores - scores.max())
                mixed.append(weight / weight.sum() @ np.stack([value[head // shared] for value in values[layer]]))
            x += weights["wo"][layer] @ np.concatenate(mixed)
            h = rmsnorm(x, weights["ffn_norm"][layer])
            gate, up = weights["w1"][layer] @ h, weights["w3"][layer] @ h
            x += weights["w2"][layer] @ (gate / (1 + np.exp(-gate)) * up)
        found.append(weights.get("head", weights["tok"]) @ rmsnorm(x, weights["norm"]))
    return np.stack(found)


def rmsnorm(x: np.ndarray, weight: np.ndarray) -> np.ndarray:
    return weight * (x / np.sqrt(np.mean(x * x) + np.float32(1e-5)))


def turned(x: np.ndarray, position: int, width: int) -> np.ndarray:
    """Neighbouring numbers of each head, turned by an angle."""
    pairs = x.reshape(-1, 2)
    angle = (position * 10_000.0 ** -((np.arange(0, len(x), 2) % width) / width)).astype(np.float32)
    return np.stack(
        (
            pairs[:, 0] * np.cos(angle) - pairs[:, 1] * np.sin(angle),
            pairs[:, 0] * np.sin(angle) + pairs[:, 1] * np.cos(angle),
        ),
        axis=1,
    ).reshape(-1)


def our_logits(path: Path, ids: list[int]) -> np.ndarray:
    with torch.no_grad():
        return load_model(load_llama2c(path)).eval()(torch.tensor([ids])).logits_BTV[0].numpy()


SHAPES = {
    "grouped heads": SIZES,
    "one head each": Sizes(n_kv_heads=4),
    "one key for all": Sizes(dim=24, hidden_dim=20, n_heads=3, n_kv_heads=1, n_layers=3),
    "one position": Sizes(seq_len=1),
}


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("shape", SHAPES)
def test_both_plain_versions_compute_what_the_program_computes(tmp_path: Path, shape: str, tied: bool) -> None:
    sizes = SHAPES[shape]
    weights, ids = random_weights(sizes, tied=tied), IDS[: sizes.seq_len]
    expected = plain_logits(sizes, weights, ids)
    for version, data in enumerate((old_file(sizes, weights), new_file(sizes, weights))):
        path = write_model(tmp_path / str(version), data)
        np.testing.assert_allclose(our_logits(path, ids), expected, rtol=0, atol=2e-5)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("group", [1, 8, 16, 32])
def test_groups_of_bytes_are_the_weights_times_their_scales(tmp_path: Path, group: int, tied: bool) -> None:
    weights = random_weights(SIZES, tied=tied)
    path = write_model(tmp_path, new_file(SIZES, weights, group=group))
    np.testing.assert_allclose(our_logits(path, IDS), plain_logits(SIZES, unquantised(weights, group), IDS), atol=2e-5)
    q, scale = quantised(weights["w2"], group)
    expected = (q.astype(np.float32) * scale[:, None]).reshape(weights["w2"].shape)[1]
    np.testing.assert_array_equal(load_llama2c(path).weights["blocks.1.mlp.down.weight"].numpy(), expected)


def test_a_file_is_a_language_model_with_its_tokenizer(tmp_path: Path) -> None:
    recorder = MemoryRecorder()
    path = write_model(tmp_path, old_file(SIZES, random_weights(SIZES)))
    lm = pellucid.load(path, device="cpu", recorder=recorder)
    assert lm.complete("the cat", temperature=0, max_new_tokens=5).text is not None
    assert lm.tokenizer.bos_id == 1 and lm.config.context_length == 40 and lm.config.tied_head
    assert {"store.llama2c_read", "tokens.ends"} <= {*recorder.names()}
    assert "version 0, 20 tensors" in next(e.message for e in recorder.events if e.name == "store.llama2c_read")


@pytest.mark.parametrize("end", [1, 2])
def test_a_text_ends_where_the_next_would_begin(tmp_path: Path, end: int) -> None:
    lm = pellucid.load(write_model(tmp_path, old_file(SIZES, random_weights(SIZES))), device="cpu")
    assert lm.tokenizer.end_ids == {1, 2} and lm.tokenizer.eos_id == 2
    assert lm.complete("the", temperature=0, logit_bias=(f"{end}:1000",)).finish_reason == "eos"


def test_the_tokenizer_of_that_size_goes_before_one_of_any(tmp_path: Path) -> None:
    path = write_model(tmp_path, old_file(SIZES, random_weights(SIZES)), tokenizer=f"tok{len(PIECES)}.bin")
    (tmp_path / "tokenizer.bin").write_bytes(b"another")
    assert load_llama2c(path).tokenizer.encode("the cat").ids == (263, 267)


def test_a_tokenizer_with_more_tokens_than_rows_does_not_belong(tmp_path: Path) -> None:
    sizes = Sizes(vocab_size=len(PIECES) - 1)
    with pytest.raises(TokenizerError, match="does not belong to these weights"):
        load_llama2c(write_model(tmp_path, old_file(sizes, random_weights(sizes))))


def test_without_a_tokenizer_it_takes_and_gives_ids(tmp_path: Path) -> None:
    recorder = MemoryRecorder()
    path = write_model(tmp_path, old_file(SIZES, random_weights(SIZES)), tokenizer="")
    lm = pellucid.load(path, device="cpu", recorder=recorder)
    assert "store.no_tokenizer" in recorder.names() and lm.tokenizer.end_ids == {1, 2}
    assert len(lm.complete([1, 300], temperature=0, max_new_tokens=3).ids) <= 3


def test_a_model_that_becomes_a_gguf_file_keeps_its_numbers_and_ends(tmp_path: Path) -> None:
    path = write_model(tmp_path, old_file(SIZES, random_weights(SIZES)))
    convert(load_llama2c(path), tmp_path / "m.gguf", to="gguf", number_format="f32", recorder=MemoryRecorder())
    ours, back = load_llama2c(path), load_gguf(tmp_path / "m.gguf")
    assert back.tokenizer.encode("the cat, 猫 and é!").ids == ours.tokenizer.encode("the cat, 猫 and é!").ids
    assert back.tokenizer.end_ids == {1, 2}
    for name, weight in ours.weights.items():
        torch.testing.assert_close(back.weights[name], weight, rtol=0, atol=0)


def test_it_is_known_by_its_name_or_its_first_bytes(tmp_path: Path) -> None:
    old, new = (file(SIZES, random_weights(SIZES)) for file in (old_file, new_file))
    assert is_llama2c(write_model(tmp_path, old)) and not is_llama2c(write_model(tmp_path, old, name="blob"))
    assert is_llama2c(write_model(tmp_path, new, name="blob")) and not is_llama2c(tmp_path)
    assert open_checkpoint(tmp_path / "blob").config.d_model == 32
    check_there(tmp_path / "model.bin")
    with pytest.raises(TokenizerError, match="only the tokenizer of a GGUF file"):
        open_checkpoint(tmp_path / "model.bin", pattern="gpt2")


@pytest.mark.parametrize("start", [b"PK\x03\x04" + bytes(99), b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19." + bytes(99)])
def test_a_pickle_of_the_same_ending_is_never_opened(tmp_path: Path, start: bytes) -> None:
    (tmp_path / "pytorch_model.bin").write_bytes(start)
    with pytest.raises(WeightsError, match="Python pickle, which is not opened"):
        open_checkpoint(tmp_path / "pytorch_model.bin")
    (tmp_path / "other.bin").write_bytes(pickle.dumps({"weights": [1.0] * 90}))
    with pytest.raises(CorruptFileError):
        open_checkpoint(tmp_path / "other.bin")


def changed(data: bytes, at: int, number: int) -> bytes:
    return data[:at] + struct.pack("<i", number) + data[at + 4 :]


OLD, NEW, PACKED = (
    old_file(SIZES, random_weights(SIZES)),
    new_file(SIZES, random_weights(SIZES)),
    new_file(SIZES, random_weights(SIZES), group=GROUP),
)


@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        (b"", CorruptFileError, "too short"),
        (OLD[:41], CorruptFileError, "bytes for 2 layers"),
        (OLD[:-1], CorruptFileError, "bytes instead of the"),
        (OLD + bytes(4), CorruptFileError, "bytes instead of the"),
        (changed(OLD, 0, 33), CorruptFileError, "heads do not share the width"),
        (changed(OLD, 12, 0), CorruptFileError, "heads do not share the width"),
        (changed(OLD, 12, -4), CorruptFileError, "heads do not share the width"),
        (changed(OLD, 16, 3), CorruptFileError, "n_heads must be a multiple of n_kv_heads"),
        (changed(OLD, 8, 1 << 30), CorruptFileError, "n_layers must be at most"),
        (changed(OLD, 8, 4000), CorruptFileError, "bytes for 4,000 layers"),
        (changed(OLD, 20, -(2**31)), CorruptFileError, "vocab_size must be at most"),
        (changed(OLD, 24, 0), CorruptFileError, "context_length must be at least"),
        (old_file(SIZES, random_weights(SIZES), base=500_000.0), ModelError, "rotary positions of base 10,000"),
        (changed(NEW, 4, 3), CorruptFileError, "no such version"),
        (NEW[:36] + b"\2" + NEW[37:], CorruptFileError, "no such version"),
        (NEW[:200], CorruptFileError, "bytes for 2 layers"),
        (changed(PACKED, 37, 0), CorruptFileError, "not whole groups"),
        (changed(PACKED, 37, -8), CorruptFileError, "not whole groups"),
        (changed(PACKED, 37, 7), CorruptFileError, "not whole groups"),
        (changed(PACKED, 37, 16), CorruptFileError, "bytes instead of the"),
        (new_file(SIZES, random_weights(SIZES), group=GROUP, scales_last=True), CorruptFileError, "a scale of"),
    ],
)  # fmt: skip
def test_files_that_are_something_else_are_refused(
    tmp_path: Path, data: bytes, error: type[Exception], message: str
) -> None:
    path = write_model(tmp_path, data)
    with pytest.raises(error) as refused:
        dict(load_llama2c(path).weights)
    assert message in str(refused.value) and refused.value.where == str(path)


def mutations() -> Iterator[bytes]:
    draw = random.Random(7)
    for number in range(NUM_MUTATIONS):
        damaged, kind = bytearray((OLD, NEW, PACKED)[number % 3]), number // 3 % 4
        at = draw.randrange(0, 40)
        if kind == 0:
            damaged[at : at + 4] = struct.pack("<I", draw.choice((0, 1, 2, 7, 2**16, 2**31 - 1, 2**31, 2**32 - 1)))
        elif kind == 1:
            damaged[at] ^= 1 << draw.randrange(8)
        elif kind == 2:
            del damaged[draw.randrange(len(damaged)) :]
        else:
            start = draw.randrange(len(damaged))
            damaged[start : start + draw.randrange(1, 9)] = draw.randbytes(8)
        yield bytes(damaged)


def test_a_thousand_damaged_files_each_load_or_say_what_is_wrong(tmp_path: Path) -> None:
    path, refused, kinds = write_model(tmp_path, OLD, tokenizer=""), 0, set()
    files = list(mutations())
    dict(load_llama2c(path).weights)  # whatever is loaded once is loaded before memory is watched
    tracemalloc.start()
    for data in files:
        path.write_bytes(data)
        tracemalloc.reset_peak()
        try:
            dict(load_llama2c(path).weights)
        except PellucidError as error:
            refused += 1
            kinds.add(error.what)
            assert error.what and (error.where or error.found)
        assert tracemalloc.get_traced_memory()[1] < MOST_BYTES
    tracemalloc.stop()
    assert refused > NUM_MUTATIONS // 3 and len(kinds) > 12, "the mutations must reach many checks"


def test_a_damaged_tokenizer_beside_is_one_clear_error(tmp_path: Path) -> None:
    path = write_model(tmp_path, OLD)
    whole, draw, refused = tokenizer_file(), random.Random(3), 0
    for number in range(150):
        damaged = bytearray(whole)
        if number % 3 == 0:
            del damaged[draw.randrange(len(damaged)) :]
        else:
            start = draw.randrange(len(damaged))
            damaged[start : start + draw.randrange(1, 5)] = draw.randbytes(4 if number % 3 == 1 else 2)
        (tmp_path / "tokenizer.bin").write_bytes(damaged)
        try:
            load_llama2c(path)
        except TokenizerError as error:
            refused += 1
            assert error.what and error.where
    assert refused > 75


def test_the_reader_takes_no_weights_of_a_model_of_ours(tmp_path: Path) -> None:
    """Every parameter of the model that a header describes is in the file, and no other."""
    read = load_llama2c(write_model(tmp_path, new_file(SIZES, random_weights(SIZES, tied=False))))
    assert list(read.weights) == [name for name, _ in build(read.config, seed=0).named_parameters()]
