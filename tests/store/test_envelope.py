"""Envelopes come back as they were sent, and damaged ones are refused."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_from

from pellucid.errors import CorruptFileError
from pellucid.store.envelope import DTYPES, PREFIX, Envelope, Quantized, arrays_of, decode, encode, to_8_bits, to_json

shapes = arrays_from.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5)
arrays = st.sampled_from(list(DTYPES.values())).flatmap(lambda dtype: arrays_from.arrays(dtype, shapes))
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


@given(value=values, named=st.dictionaries(st.text(max_size=8), arrays, max_size=4))
def test_what_is_sent_arrives(value, named) -> None:
    envelope = decode(encode(Envelope(value, named)))
    assert envelope.value == value
    assert list(envelope.arrays) == list(named)
    for name, array in named.items():
        assert envelope.arrays[name].dtype == array.dtype and envelope.arrays[name].shape == array.shape
        assert envelope.arrays[name].tobytes() == array.tobytes()


@given(named=st.dictionaries(st.text(max_size=8), arrays, min_size=1, max_size=4))
def test_every_array_lies_at_a_multiple_of_eight(named) -> None:
    data = encode(Envelope("你", named))
    _, _, length = PREFIX.unpack_from(data)
    header = json.loads(data[PREFIX.size : PREFIX.size + length].decode("utf-8"))
    assert (PREFIX.size + length) % 8 == 0
    assert all(entry["offset"] % 8 == 0 for entry in header["arrays"].values())


finite = arrays_from.arrays(np.float32, arrays_from.array_shapes(), elements=st.floats(-1e6, 1e6, width=32))


@given(array=finite)
def test_bytes_are_at_most_half_a_scale_off(array) -> None:
    packed = decode(encode(Envelope(None, {"x": to_8_bits(array)}))).arrays["x"]
    assert isinstance(packed, Quantized)
    error = np.abs(packed.restore().astype(np.float64) - array)
    assert error.max() <= packed.scale / 2 + 1e-6 * np.abs(array).max()
    low, high = packed.restore().min(), packed.restore().max()
    assert low == pytest.approx(array.min(), rel=1e-6) and high == pytest.approx(array.max(), rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("array", [np.array([0.0, -np.inf]), np.array([np.nan]), np.zeros((0, 3))])
def test_what_bytes_cannot_hold_stays_exact(array) -> None:
    assert to_8_bits(array) is array


def test_a_weight_of_zero_stays_zero() -> None:
    weights = np.array([[1.0, 0.0], [0.3, 0.7]], dtype=np.float32)
    assert dict(arrays_of(Envelope(None, {"w": to_8_bits(weights)})))["w"][0, 1] == 0


def test_nan_and_infinity_are_null_in_json() -> None:
    told = to_json({"a": [math.nan, math.inf, np.float32(0.5), np.int64(7)], "b": np.array([1.0, -np.inf])})
    assert json.loads(told) == {"a": [None, None, 0.5, 7], "b": [1.0, None]}


def test_kinds_that_do_not_travel_are_an_error() -> None:
    with pytest.raises(TypeError, match="complex"):
        encode(Envelope(None, {"x": np.zeros(3, dtype=np.complex64)}))


WHOLE = encode(Envelope({"name": "a"}, {"x": np.arange(6, dtype=np.float32).reshape(2, 3)}))


@given(length=st.integers(0, len(WHOLE) - 8))
def test_a_part_of_an_envelope_is_refused(length) -> None:
    with pytest.raises(CorruptFileError):
        decode(WHOLE[:length])


def with_header(change) -> bytes:
    start = PREFIX.size + PREFIX.unpack_from(WHOLE)[2]
    header = json.loads(WHOLE[PREFIX.size : start])
    change(header["arrays"]["x"])
    text = json.dumps(header).encode()
    return PREFIX.pack(b"PLENS\0", 1, len(text)) + text + WHOLE[start:]


@pytest.mark.parametrize(
    "fault",
    [{"dtype": "c8"}, {"shape": [2, 300]}, {"shape": [-2, -3]}, {"offset": -8}, {"offset": 1 << 40}, {"shape": "2"},
     {"shape": [1e300]}, {"shape": [True, 6]}, {"shape": [2**70]}, {"shape": [1] * 40}, {"shape": None}, {"length": 10**30},
     {"offset": True}, {"offset": 0.5}, {"scale": "x", "zero": 0}, {"scale": float("nan"), "zero": 0}, {"dtype": []}],
    ids=str,
)  # fmt: skip
def test_arrays_that_are_not_there_are_refused(fault) -> None:
    with pytest.raises(CorruptFileError):
        decode(with_header(lambda entry: entry.update(fault)))


def test_a_later_version_is_refused_with_advice() -> None:
    with pytest.raises(CorruptFileError, match="version") as error:
        decode(WHOLE[:6] + b"\x02\0" + WHOLE[8:])
    assert "update" in error.value.hint
