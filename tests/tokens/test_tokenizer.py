"""Text to ids and back: exact for every text, special tokens only by id, the same ids as transformers."""

from __future__ import annotations

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer

from pellucid.errors import TokenizerError
from pellucid.tokens import tokenizer as tokenizer_module
from pellucid.tokens.layout import special_names
from pellucid.tokens.tokenizer import Tokenizer

UNICODE = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
LIKELY = st.text(st.sampled_from("ab '.,中文，。\n\r\t 1<>boes0x4é😀"), max_size=60)


def test_hard_texts_come_back_exactly(tokenizer: Tokenizer, hard_text: str) -> None:
    encoding = tokenizer.encode(hard_text)
    assert tokenizer.decode(encoding.ids) == hard_text
    assert tokenizer.decode_bytes(encoding.ids) == hard_text.encode("utf-8")


@given(text=UNICODE | LIKELY)
def test_every_text_comes_back_exactly(tokenizer: Tokenizer, text: str) -> None:
    assert tokenizer.decode(tokenizer.encode(text).ids) == text


@given(text=UNICODE | LIKELY)
def test_fast_path_gives_the_same_ids(tokenizer: Tokenizer, text: str) -> None:
    [ids] = tokenizer.encode_ids([text])
    assert ids.dtype == np.uint32
    assert tuple(ids.tolist()) == tokenizer.encode(text).ids


@given(texts=st.lists(LIKELY, max_size=8))
def test_fast_path_keeps_texts_apart_however_it_groups_them(bpe: Tokenizer, texts: list[str]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tokenizer_module, "SEGMENT", 3)
        patch.setattr(tokenizer_module, "GROUP", 10)
        rows = [tuple(row.tolist()) for row in bpe.encode_ids(texts)]
    assert rows == [bpe.encode(text).ids for text in texts]


@given(text=UNICODE | LIKELY)
def test_offsets_cover_the_text_in_order(tokenizer: Tokenizer, text: str) -> None:
    encoding = tokenizer.encode(text)
    covered = {place for start, end in encoding.offsets for place in range(start, end)}
    assert covered == set(range(len(text)))
    assert list(encoding.offsets) == sorted(encoding.offsets)
    assert len(encoding.offsets) == len(encoding.ids) == len(encoding)


def test_offsets_name_the_characters_of_each_token(bpe: Tokenizer, page: str) -> None:
    encoding = bpe.encode(page)
    for token_id, (start, end) in zip(encoding.ids, encoding.offsets, strict=True):
        assert bpe.token_bytes(token_id) in page[start:end].encode("utf-8")


def test_all_bytes_have_the_first_ids(tokenizer: Tokenizer) -> None:
    assert [tokenizer.token_bytes(byte) for byte in range(256)] == [bytes([byte]) for byte in range(256)]


@given(data=st.binary(max_size=40))
def test_any_bytes_can_be_decoded(tokenizer: Tokenizer, data: bytes) -> None:
    assert tokenizer.decode_bytes(data) == data
    assert tokenizer.decode(data) == data.decode("utf-8", errors="replace")


def test_specials_come_last_and_are_placed_by_id_only(tokenizer: Tokenizer) -> None:
    names = special_names("standard")
    assert dict(tokenizer.specials) == {name: tokenizer.vocab_size - len(names) + n for n, name in enumerate(names)}
    assert (tokenizer.bos_id, tokenizer.eos_id) == tuple(tokenizer.specials.values())[:2]
    ids = [tokenizer.bos_id, *tokenizer.encode("a<eos>").ids, tokenizer.eos_id]
    assert tokenizer.decode(ids) == "a<eos>"
    assert tokenizer.decode(ids, show_special=True) == "<bos>a<eos><eos>"
    assert tokenizer.token_bytes(tokenizer.eos_id) == b""
    assert tokenizer.token_text(tokenizer.eos_id) == "<eos>"


@pytest.mark.parametrize("spelling", ["<bos>", "<eos>", "x<eos>", "<eos>\n<bos>", " <bos> "])
def test_text_never_becomes_a_control_token(tokenizer: Tokenizer, spelling: str, tmp_path: Path) -> None:
    tokenizer.save(tmp_path)
    AutoTokenizer.from_pretrained(tmp_path).save_pretrained(tmp_path / "again")
    copies = [tokenizer, Tokenizer.load(tmp_path), Tokenizer.load(tmp_path / "again"), copy.deepcopy(tokenizer)]
    for candidate in [*copies, pickle.loads(pickle.dumps(tokenizer))]:
        ids = {*candidate.encode(spelling).ids, *candidate.encode_ids([spelling, spelling])[1].tolist()}
        assert not ids & set(candidate.specials.values())
        assert candidate.decode(candidate.encode(spelling).ids) == spelling


def test_transformers_gives_the_same_ids_and_text(tokenizer: Tokenizer, page: str, tmp_path: Path) -> None:
    tokenizer.save(tmp_path)
    reference = AutoTokenizer.from_pretrained(tmp_path)
    assert (reference.bos_token_id, reference.eos_token_id) == (tokenizer.bos_id, tokenizer.eos_id)
    assert len(reference) == tokenizer.vocab_size
    for text in (page, page.upper(), "Hello , world 's ! 我们 走 吧 ， 好 ？", "naïve 😀 <0x41>"):
        encoding = tokenizer.encode(text)
        assert reference(text, add_special_tokens=False).input_ids == list(encoding.ids)
        assert reference(text, add_special_tokens=True).input_ids == tokenizer.encode_prompt(text)
        assert reference.decode(encoding.ids) == text


def test_transformers_agrees_on_hard_texts(tokenizer: Tokenizer, hard_text: str, tmp_path: Path) -> None:
    tokenizer.save(tmp_path)
    reference = AutoTokenizer.from_pretrained(tmp_path)
    ids = reference(hard_text, split_special_tokens=True).input_ids
    assert ids == [tokenizer.bos_id, *tokenizer.encode(hard_text).ids]


def test_lone_surrogate_is_refused_with_its_place(tokenizer: Tokenizer) -> None:
    for encode in (tokenizer.encode, tokenizer.encode_pieces, lambda text: tokenizer.encode_ids([text])):
        with pytest.raises(TokenizerError, match=r"U\+D83D at character 2"):
            encode("ab\ud83dc")


@pytest.mark.parametrize("wrong", [-1, 10**6])
def test_id_outside_the_vocabulary_is_refused(tokenizer: Tokenizer, wrong: int) -> None:
    for use in (
        tokenizer.token_bytes,
        tokenizer.token_text,
        lambda i: tokenizer.decode([0, i]),
        tokenizer.stream().push,
    ):
        with pytest.raises(TokenizerError, match="the ids run from 0 to"):
            use(wrong)


def test_token_text_shows_partial_characters_as_hexadecimal(bpe: Tokenizer) -> None:
    assert bpe.token_text(0xE4) == "<0xE4>"
    assert bpe.token_text(ord("A")) == "A"


def test_saved_file_is_the_file_that_was_read(tokenizer: Tokenizer, tmp_path: Path) -> None:
    tokenizer.save(tmp_path)
    again = Tokenizer.load(tmp_path / "tokenizer.json")
    assert again.files() == tokenizer.files()
    assert again.sha256 == tokenizer.sha256
    assert (again.kind, again.vocab_size, again.bos_id) == (tokenizer.kind, tokenizer.vocab_size, tokenizer.bos_id)


def test_it_cannot_be_changed(tokenizer: Tokenizer) -> None:
    with pytest.raises(AttributeError):
        tokenizer.json = ""  # type: ignore[misc]
    with pytest.raises(TypeError):
        tokenizer.specials["<x>"] = 3  # type: ignore[index]


def test_threads_share_one_tokenizer(tokenizer: Tokenizer, page: str) -> None:
    expected = tokenizer.encode(page).ids
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(lambda _: tokenizer.encode(page).ids, range(64))) == {expected}


@pytest.mark.parametrize("run", ["a", " ", "中", "\n", "^", "7", "'s", "\u0301", "\t a"])
def test_long_runs_come_back(tokenizer: Tokenizer, run: str) -> None:
    text = run * (100_000 // len(run))
    [ids] = tokenizer.encode_ids([text])
    assert tuple(ids.tolist()) == tokenizer.encode(text).ids
    assert tokenizer.decode(ids) == text
