"""Quantised blocks: unpacked to the bits that the format's own library finds, which is the readable twin here."""

from __future__ import annotations

import gguf
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pellucid.errors import StoreError
from pellucid.store.blocks import BLOCKS, NUMBERS_AT_ONCE, unpack_blocks
from pellucid.store.quantize import BY_NAME, FORMATS, dequantize

ONE, HALF, TWO = (np.array([x], dtype="<f2").view(np.uint8).tolist() for x in (1.0, 0.5, 2.0))


def library(raw: np.ndarray, name: str) -> np.ndarray:
    with np.errstate(all="ignore"):  # random scales may be infinite
        return gguf.dequantize(raw, gguf.GGMLQuantizationType[name])


def assert_same_bits(found: np.ndarray, expected: np.ndarray) -> None:
    known = ~np.isnan(expected)
    assert found.shape == expected.shape and found.dtype == expected.dtype == np.float32
    np.testing.assert_array_equal(np.isnan(found), ~known)
    np.testing.assert_array_equal(found[known].view(np.uint32), expected[known].view(np.uint32))


def random_rows(name: str, rows: int, blocks: int) -> np.ndarray:
    draw = np.random.default_rng(rows * 1_000 + blocks)
    return draw.integers(0, 256, (rows, blocks * BLOCKS[name].layout.itemsize), dtype=np.uint8)


def test_the_types_that_files_have_are_unpacked_here() -> None:
    common = ("Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_NL", "IQ4_XS")
    assert set(BLOCKS) == {*common}


@pytest.mark.parametrize("name", BLOCKS)
def test_a_block_has_the_size_that_the_library_gives_it(name: str) -> None:
    numbers, num_bytes = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[name]]
    assert (BLOCKS[name].count, BLOCKS[name].layout.itemsize) == (numbers, num_bytes)
    assert BY_NAME[name].num_bytes(3 * numbers) == 3 * num_bytes


@pytest.mark.parametrize("name", BLOCKS)
@settings(max_examples=60)
@given(data=st.data())
def test_any_bytes_become_the_numbers_that_the_library_finds(name: str, data: st.DataObject) -> None:
    size = BLOCKS[name].layout.itemsize
    count = data.draw(st.integers(1, 3))
    raw = np.frombuffer(data.draw(st.binary(min_size=count * size, max_size=count * size)), np.uint8)[None]
    assert_same_bits(dequantize(raw, BY_NAME[name]).numpy(), library(raw, name))


@pytest.mark.parametrize("name", BLOCKS)
def test_thousands_of_random_blocks_in_rows(name: str) -> None:
    """More numbers than are unpacked at a time, and rows of more than one block."""
    raw = random_rows(name, 37, 3 * NUMBERS_AT_ONCE // (37 * BLOCKS[name].count) + 1)
    assert_same_bits(dequantize(raw, BY_NAME[name]).numpy(), library(raw, name))


@pytest.mark.parametrize("name", BLOCKS)
def test_some_rows_alone_are_those_rows_of_all(name: str) -> None:
    raw = random_rows(name, 9, 2)
    whole = dequantize(raw, BY_NAME[name])
    assert_same_bits(dequantize(raw[3:5], BY_NAME[name]).numpy(), whole[3:5].numpy())
    assert dequantize(raw[:0], BY_NAME[name]).shape == (0, whole.shape[1])


def test_scales_of_twelve_bytes_are_cut_as_their_struct_says() -> None:
    """Q4_K by hand: groups 0 and 4 have the scales 3 and 0b110010, the offsets 5 and 0b010111."""
    scales = [3 | 0b11 << 6, 0, 0, 0, 5 | 0b01 << 6, 0, 0, 0, 0b0010 | 0b0111 << 4, 0, 0, 0]
    q = [0] * 128
    q[0], q[64] = 0x9A, 0x0F
    x = unpack_blocks(np.array([*ONE, *HALF, *scales, *q], dtype=np.uint8), "Q4_K")
    assert x[:2].tolist() == [3 * 10 - 0.5 * 5, -0.5 * 5]
    assert x[32] == 0 and x[128] == 50 * 15 - 0.5 * 23


def test_six_bits_are_put_together_from_two_places() -> None:
    """Q6_K by hand: number 0 is 5 with the upper bits 00, number 64 is 10 with the upper bits 10."""
    low, high, scales = [0x0A << 4 | 5, *[0] * 127], [0b11_10_01_00, *[0] * 63], [254, 0, 0, 0, 3, *[0] * 11]
    x = unpack_blocks(np.array([*low, *high, *scales, *HALF], dtype=np.uint8), "Q6_K")
    assert (x[0], x[64]) == (0.5 * -2 * (5 - 32), 0.5 * 3 * (10 + 32 - 32))


def test_points_and_offsets_by_hand() -> None:
    iq4 = unpack_blocks(np.array([*TWO, 0x8F, *[0] * 15], dtype=np.uint8), "IQ4_NL")
    assert (iq4[0], iq4[1], iq4[16]) == (2 * 113, 2 * -127, 2 * 1)
    q4_1 = unpack_blocks(np.array([*HALF, *TWO, 0x3C, *[0] * 15], dtype=np.uint8), "Q4_1")
    assert (q4_1[0], q4_1[1], q4_1[16]) == (0.5 * 12 + 2, 2, 0.5 * 3 + 2)


def test_damaged_scales_give_numbers_that_are_none_and_no_warning() -> None:
    infinite = np.array([0x00, 0x7C, *[0] * 32], dtype=np.uint8)
    assert dequantize(infinite, BY_NAME["Q8_0"]).isnan().all()


def test_every_format_of_the_library_is_read_or_refused() -> None:
    """Refused are whole numbers, double precision, and blocks of activations or of formats that the library only names."""
    refused = set()
    for form in FORMATS.values():
        try:
            assert dequantize(np.zeros((2, form.block_bytes * 2), np.uint8), form).shape == (2, form.block * 2)
        except StoreError:
            refused.add(form.name)
    assert refused == {"I8", "I16", "I32", "I64", "F64", "Q8_1", "Q8_K", "Q1_0"}


@pytest.mark.parametrize("name", ["Q8_1", "Q8_K"])
def test_formats_of_activations_are_refused_by_name(name: str) -> None:
    with pytest.raises(StoreError, match=f"weights in the format {name} cannot be read"):
        dequantize(np.zeros((1, BY_NAME[name].block_bytes), dtype=np.uint8), BY_NAME[name])


def test_rare_formats_are_unpacked_by_the_library() -> None:
    raw = np.random.default_rng(2).integers(0, 120, (3, BY_NAME["IQ2_XXS"].block_bytes), dtype=np.uint8)
    assert_same_bits(dequantize(raw, BY_NAME["IQ2_XXS"]).numpy(), library(raw, "IQ2_XXS"))
