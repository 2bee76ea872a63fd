"""Bulk encoding: the engine's ids, on any number of threads, and not used where one of them differs."""

from __future__ import annotations

import json
import random
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pellucid.errors import TokenizerError
from pellucid.events import MemoryRecorder
from pellucid.tokens import bulk as bulk_module
from pellucid.tokens.fast import encode as encode_module
from pellucid.tokens.fast.encode import Encoder
from pellucid.tokens.fast.opening import open_encoder
from pellucid.tokens.patterns import PATTERNS
from pellucid.tokens.tokenizer import Tokenizer
from pellucid.tokens.train import train_bpe

WORDS = [
    "the",
    " cat",
    " sat",
    " didn't",
    "人工智能",
    "，它",
    "\r\n",
    "  ",
    "\n\n",
    "1234",
    "é",
    "👩\u200d👧",
    "!?",
    "aaaa",
    "\0",
    " ",
]


@pytest.fixture(scope="module")
def open_trained(page: str) -> Callable[[str], Tokenizer]:
    return lambda pattern: train_bpe([page * 3 + "aaaa aaaaaaaa " * 9], 420, pattern=pattern)


def all_ids(tokenizer: Tokenizer, text: str) -> list[int]:
    return list(tokenizer.encode(text).ids)


def encoder_of(tokenizer: Tokenizer, num_threads: int = 2) -> Encoder:
    return open_encoder(tokenizer.vocabulary, recorder=MemoryRecorder(), num_threads=num_threads)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_ids_equal_the_engines(pattern: str, open_trained: Callable[[str], Tokenizer]) -> None:
    tokenizer, numbers = open_trained(pattern), random.Random(0)
    encoder = encoder_of(tokenizer)
    texts = ["".join(numbers.choices(WORDS, k=numbers.randint(0, 60))) for _ in range(1_500)]
    for text, ids in zip(texts, encoder.encode(texts), strict=True):
        assert ids.dtype == np.uint32 and ids.tolist() == all_ids(tokenizer, text), repr(text)


@settings(max_examples=200, deadline=None)
@given(text=st.text(max_size=200))
def test_ids_equal_the_engines_on_any_text(text: str, bpe: Tokenizer) -> None:
    assert ENCODERS.setdefault("bpe", encoder_of(bpe)).encode([text])[0].tolist() == all_ids(bpe, text)


ENCODERS: dict[str, Encoder] = {}


@pytest.mark.parametrize("unit", ["a", " ", "\n", "中", "ab", "!", "0"])
def test_long_pieces_are_merged_by_the_heap(unit: str, bpe: Tokenizer) -> None:
    encoder = encoder_of(bpe)
    texts = [unit * length for length in (*range(40, 60), 1_000, 30_000)]
    assert [ids.tolist() for ids in encoder.encode(texts)] == [all_ids(bpe, text) for text in texts]


def test_segments_groups_and_threads_change_nothing(bpe: Tokenizer, page: str, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [page * 20, "", "a", "b" * 5_000, page.replace(" ", ""), "", "，。\n" * 900, page * 3]
    expected = [all_ids(bpe, text) for text in texts]
    for segment, group, num_threads in ((1, 1, 1), (7, 100, 2), (50, 1 << 20, 3), (1 << 20, 1 << 20, 8)):
        monkeypatch.setattr(encode_module, "SEGMENT", segment)
        monkeypatch.setattr(encode_module, "GROUP", group)
        assert [ids.tolist() for ids in encoder_of(bpe, num_threads).encode(texts)] == expected
    assert encoder_of(bpe).encode([]) == []


def test_a_full_cache_takes_the_place_of_old_pieces(bpe: Tokenizer) -> None:
    numbers = random.Random(2)
    text = " ".join("".join(numbers.choices("abcdefgh中国", k=numbers.randint(1, 10))) for _ in range(60_000))
    assert encoder_of(bpe).encode([text])[0].tolist() == all_ids(bpe, text)


def test_a_piece_that_is_a_token_needs_no_merges_where_the_file_says_so(page: str) -> None:
    """Llama 3's way: a token that no merges lead to is found as a whole piece."""
    document = json.loads(train_bpe([page], 300).json)
    document["model"]["ignore_merges"] = True
    vocab = document["model"]["vocab"]
    end = max(vocab.values()) + 1
    vocab |= {"strawberry": end, "Ġstrawberry": end + 1}
    for token in document["added_tokens"]:
        token["id"] += 2
    tokenizer = Tokenizer.from_json(json.dumps(document))
    text = "strawberry strawberry strawberrys"
    ids = encoder_of(tokenizer).encode([text])[0].tolist()
    assert ids == all_ids(tokenizer, text) and ids[:2] == [end, end + 1]


def test_a_long_text_is_encoded_by_the_loops(bpe: Tokenizer, page: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fresh, texts, recorder = Tokenizer.from_json(bpe.json, bpe.config), [page * 3, "short"], MemoryRecorder()
    expected = [all_ids(bpe, text) for text in texts]
    assert [ids.tolist() for ids in fresh.encode_ids(texts)] == expected
    assert fresh._bulk._encoder is None  # not worth it yet
    monkeypatch.setattr(bulk_module, "WORTH_STARTING", 100)
    monkeypatch.setattr(bulk_module, "WORTH_COMPILING", 100)
    assert [ids.tolist() for ids in fresh.encode_ids(texts, recorder=recorder)] == expected
    assert fresh._bulk._encoder is not None and "tokens.encoding_slowly" not in recorder.names()
    with pytest.raises(TokenizerError, match="surrogate"):
        fresh.encode_ids(["a\udc00"])


@pytest.mark.parametrize("fault", ["numba", "ids"])
def test_loops_that_cannot_run_or_differ_are_not_used_and_it_is_said(
    fault: str, bpe: Tokenizer, page: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fresh, recorder = Tokenizer.from_json(bpe.json, bpe.config), MemoryRecorder()
    monkeypatch.setattr(bulk_module, "WORTH_STARTING", 1)
    monkeypatch.setattr(bulk_module, "WORTH_COMPILING", 1)
    if fault == "numba":
        monkeypatch.setattr(bulk_module.importlib.util, "find_spec", lambda name: None)
    else:
        monkeypatch.setattr(Encoder, "encode", lambda self, texts: [np.zeros(1, np.uint32) for _ in texts])
    for _ in range(2):
        assert fresh.encode_ids([page], recorder=recorder)[0].tolist() == all_ids(bpe, page)
    assert recorder.names() == ["tokens.encoding_slowly"]  # once
    assert ("Numba is not installed" if fault == "numba" else "other ids for") in recorder.events[0].message


def test_a_vocabulary_of_another_kind_is_left_to_the_engine(characters: Tokenizer, page: str, monkeypatch) -> None:
    monkeypatch.setattr(bulk_module, "WORTH_STARTING", 1)
    assert characters._bulk.encode([page], recorder=MemoryRecorder()) is None
