from __future__ import annotations

import json
import os

import pytest
import safetensors.torch
import torch
from hypothesis import given
from hypothesis import strategies as st

from pellucid.errors import CorruptFileError, StoreError
from pellucid.files import replace_file
from pellucid.store.tensors import DTYPES, read_tensors, serialize


def contents(tensors) -> bytes:
    size, chunks = serialize(tensors)
    data = b"".join(bytes(chunk) for chunk in chunks)
    assert len(data) == size
    return data


@st.composite
def tensors(draw):
    shape = draw(st.lists(st.integers(0, 4), max_size=3))
    tensor = torch.randint(0, 200, [*shape, 2]).to(draw(st.sampled_from(list(DTYPES))))
    return tensor[..., 0] if draw(st.booleans()) else tensor.transpose(0, -1)


@given(
    st.dictionaries(st.text(min_size=1, max_size=5).filter(lambda name: name != "__metadata__"), tensors(), max_size=5)
)
def test_the_library_reads_what_is_written(given_tensors):
    given_tensors = {name.encode("utf-8", "replace").decode(): tensor for name, tensor in given_tensors.items()}
    loaded = safetensors.torch.load(contents(given_tensors))
    assert loaded.keys() == given_tensors.keys()
    for name, tensor in given_tensors.items():
        assert loaded[name].dtype == tensor.dtype and loaded[name].shape == tensor.shape
        assert torch.equal(loaded[name], tensor)


def test_tensors_start_at_multiples_of_their_width():
    data = contents({"a": torch.ones(3, dtype=torch.uint8), "b": torch.ones(3), "c": torch.ones(1, dtype=torch.int64)})
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    assert length % 8 == 0
    assert [header[name]["data_offsets"][0] for name in ("c", "b", "a")] == [0, 8, 20]


def test_complex_numbers_are_refused():
    with pytest.raises(StoreError, match="cannot store the tensor z"):
        serialize({"z": torch.ones(2, dtype=torch.complex64)})


def test_every_truncation_is_a_corrupt_file(tmp_path):
    path = tmp_path / "model.safetensors"
    data = contents({"a": torch.ones(3, 2), "b": torch.ones(4)})
    for length in range(len(data)):
        path.write_bytes(data[:length])
        with pytest.raises(CorruptFileError):
            read_tensors(path)


def test_a_damaged_header_is_a_corrupt_file_or_another_readable_one(tmp_path, mutations):
    """Without a hash, damage that spells another valid header cannot be told: then tensors differ, and nothing crashes."""
    path, refused = tmp_path / "model.safetensors", 0
    data = contents({"a.weight": torch.ones(3, 2), "b": torch.ones(4, dtype=torch.bfloat16), "c": torch.zeros(0)})
    for damaged in mutations(data, 600):
        path.write_bytes(damaged)
        try:
            read_tensors(path)
        except CorruptFileError:
            refused += 1
    assert refused > 400


def test_a_header_that_promises_too_much_is_a_corrupt_file(tmp_path):
    path = tmp_path / "model.safetensors"
    for header in (
        {"a": {"dtype": "F32", "shape": [2**62, 2**62], "data_offsets": [0, 4]}},
        {"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 2**63]}},
        {"a": {"dtype": "F32", "shape": [1], "data_offsets": [4, 0]}},
        {"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}, "b": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}},
        {"a": {"dtype": "X9", "shape": [1], "data_offsets": [0, 4]}},
        {"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}},
        [],
    ):  # fmt: skip
        text = json.dumps(header).encode()
        path.write_bytes(len(text).to_bytes(8, "little") + text + bytes(4))
        with pytest.raises(CorruptFileError):
            read_tensors(path)
    path.write_bytes((2**63).to_bytes(8, "little") + b"{}")
    with pytest.raises(CorruptFileError):
        read_tensors(path)


@pytest.mark.skipif(os.name == "nt", reason="Windows replaces no file that is mapped")
def test_a_file_that_is_replaced_while_it_is_read_stays_the_one_that_was_opened(tmp_path):
    """Memory is given back by `release` without opening the name again: it may be another model's by then."""
    path = tmp_path / "model.safetensors"
    before, after = {"a": torch.ones(5000), "b": torch.ones(3)}, {"a": torch.zeros(5000), "b": torch.zeros(3)}
    replace_file(path, contents(before))
    opened = read_tensors(path)
    assert torch.equal(opened["a"], before["a"])
    replace_file(path, contents(after))
    opened.release()
    assert all(torch.equal(opened[name], before[name]) for name in before)
    path.unlink()
    opened.release()
    assert torch.equal(opened["a"], before["a"])
