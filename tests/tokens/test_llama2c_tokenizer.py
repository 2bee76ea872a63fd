"""llama2.c's tokenizer file: the ids that its program gives, and files that are none."""

from __future__ import annotations

import struct
from itertools import pairwise
from pathlib import Path

import pytest
from llama2c_files import PIECES, tokenizer_file

from pellucid.errors import TokenizerError
from pellucid.tokens.formats.llama2c import read_llama2c
from pellucid.tokens.tokenizer import Tokenizer

TEXTS = (
    "the cat sat on the mat", "", " ", "  two  spaces ", "The cat was\nin a hat.", "猫 and 犬", "é è e\u0301", "TTTThehehe",
    "<s></s><unk>", "<0x41>", "\ta\tb", "in the end it wasn't", "😀", "▁the", "a" * 40,
)  # fmt: skip


def program_ids(text: str) -> list[int]:
    """`encode` of `run.c`: one id for each character or its bytes, then the best pair until there is none."""
    ids = {piece: i for i, piece in enumerate(PIECES)}
    found = [ids[" "]] if text else []
    for character in text:
        found += [ids[character]] if character in ids else [byte + 3 for byte in character.encode()]
    while True:
        joined = [ids.get(PIECES[a] + PIECES[b]) for a, b in pairwise(found)]
        scored = [(259.0 - i, -place) for place, i in enumerate(joined) if i is not None and i > 258]
        if not scored:
            return found
        place = -max(scored)[1]
        found[place : place + 2] = [joined[place]]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    path = tmp_path_factory.mktemp("llama2c") / "tokenizer.bin"
    path.write_bytes(tokenizer_file())
    return Tokenizer.load(path)


@pytest.mark.parametrize("text", [text for text in TEXTS if "▁" not in text])
def test_ids_are_the_programs(tokenizer: Tokenizer, text: str) -> None:
    assert list(tokenizer.encode(text).ids) == program_ids(text)


@pytest.mark.parametrize("text", [text for text in TEXTS if "▁" not in text])
def test_decoding_gives_the_text_back(tokenizer: Tokenizer, text: str) -> None:
    assert tokenizer.decode(tokenizer.encode(text).ids) == text


def test_what_begins_and_ends_a_text(tokenizer: Tokenizer) -> None:
    assert (tokenizer.kind, tokenizer.vocab_size) == ("bpe", len(PIECES))
    assert (tokenizer.bos_id, tokenizer.eos_id) == (1, 2)
    assert tokenizer.specials == {"<unk>": 0, "<s>": 1, "</s>": 2}
    assert not {0, 1, 2} & {*tokenizer.encode("<s></s><unk>").ids}, "text never becomes a control token"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not a tokenizer of llama2.c"),
        (b"\1\0", "not a tokenizer of llama2.c"),
        (tokenizer_file()[:-1], "not a tokenizer of llama2.c"),
        (tokenizer_file() + b"\0\0\0", "not a tokenizer of llama2.c"),
        (tokenizer_file()[:-3] + b"\xff\xff\xff", "not a tokenizer of llama2.c"),
        (struct.pack("<I", 7) + struct.pack("<fI", float("nan"), 1) + b"a", "not a tokenizer of llama2.c"),
        (struct.pack("<I", 7) + struct.pack("<fI", 0.0, 2**32 - 1) + b"a", "not a tokenizer of llama2.c"),
        (struct.pack("<I", 7), "begins with <unk>"),
        (tokenizer_file(PIECES[:200]), "begins with <unk>"),
        (tokenizer_file(("<s>", *PIECES[1:])), "begins with <unk>"),
        (tokenizer_file((*PIECES, "the", "the")), "spelled the same way"),
        (tokenizer_file((*PIECES, "")), "spelled the same way"),
        (tokenizer_file((*PIECES, "<0x41>")), "named like a byte|spelled the same way"),
    ],
)  # fmt: skip
def test_what_is_none_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(TokenizerError, match=message):
        read_llama2c(data)


def test_a_refusal_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "tok9.bin").write_bytes(b"no")
    with pytest.raises(TokenizerError) as refused:
        Tokenizer.load(tmp_path / "tok9.bin")
    assert refused.value.where == str(tmp_path / "tok9.bin") and "tokenizer.bin" in refused.value.hint
