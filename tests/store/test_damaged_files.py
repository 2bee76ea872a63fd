"""A small share of `conformance/damage.py`: damaged files of every family end in one error of ours or in the model described."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from damaged import DIRECTORIES, FILES, specimens
from gguf_files import config_of, rewritten, written

from pellucid.errors import CorruptFileError
from pellucid.planning.config import ModelConfig
from pellucid.store.checkpoint import check_one_format
from pellucid.store.gguf import load_gguf

NUM_DAMAGED = 12


def test_no_damaged_file_of_any_family_opens_as_something_else(tmp_path: Path) -> None:
    """Other numbers without a word are the worst of all; then errors that are not ours."""
    tallies = {name: specimen.open_all(NUM_DAMAGED) for name, specimen in specimens(tmp_path)}
    assert len(tallies) == 2 * len(DIRECTORIES) + len(FILES)
    assert not {name: tally.wrong or tally.escaped for name, tally in tallies.items() if tally.wrong or tally.escaped}
    assert all(tally.refused > NUM_DAMAGED // 3 for tally in tallies.values())
    assert not any(tally.another for name, tally in tallies.items() if name.endswith("model.safetensors"))


def test_float16_beside_bfloat16_is_a_damaged_header() -> None:
    one, other = torch.ones(2, dtype=torch.float16), torch.ones(2, dtype=torch.bfloat16)
    check_one_format({"a": one, "b": one, "c": torch.ones(2)}, "here")
    with pytest.raises(CorruptFileError, match="mistaken for one another") as error:
        check_one_format({"a": one, "b": other, "c": torch.ones(2)}, "here")
    assert error.value.found == "a is float16, b is bfloat16"


def wide() -> ModelConfig:
    return config_of("llama", d_model=256, d_ff=256, head_dim=64)


@pytest.mark.parametrize(("form", "taken_for", "file_type"), [("Q4_0", "Q4_K", 2), ("Q5_0", "Q5_K", 8), ("Q4_0", "IQ4_NL", 2),
                                                              ("IQ4_NL", "Q4_0", 25)])  # fmt: skip
def test_blocks_of_another_type_that_take_the_same_room_are_told(
    tmp_path: Path, form: str, taken_for: str, file_type: int
) -> None:
    written(tmp_path / "m.gguf", wide())
    numbers = np.random.default_rng(1).standard_normal((300, 256), dtype=np.float32)
    kinds = gguf.GGMLQuantizationType
    packed = gguf.quantize(numbers, kinds["Q4_0" if form == "IQ4_NL" else form])  # the library unpacks IQ4_NL alone
    told = {"general__file_type": file_type}
    right = rewritten(
        tmp_path / "m.gguf", tmp_path / "right.gguf", tensors={"token_embd.weight": (packed, form)}, **told
    )
    assert dict(load_gguf(right).weights)
    wrong = rewritten(
        tmp_path / "m.gguf", tmp_path / "wrong.gguf", tensors={"token_embd.weight": (packed, taken_for)}, **told
    )
    with pytest.raises(CorruptFileError, match=r"scales are no numbers|another number format"):
        dict(load_gguf(wrong).weights)
