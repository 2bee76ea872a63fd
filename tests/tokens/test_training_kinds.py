"""Every kind is trained from text: the same bytes each time, room for roles, and what it may lose is said."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pellucid.events import MemoryRecorder
from pellucid.settings import Layer, resolve
from pellucid.tokens import merges
from pellucid.tokens.choose import train_tokenizer
from pellucid.tokens.pieces import count_pieces
from pellucid.tokens.settings import TokenizerSettings
from pellucid.tokens.tokenizer import Tokenizer

KINDS = ("bpe", "unigram", "wordpiece", "word", "char")
TEXT = (
    "The cat sat on the mat, and the dog sat by the cat. 人工智能是计算机科学的一个分支，人工智能企图了解智能的实质。\n"
    * 30
)
HOSTILE = st.text(st.sampled_from("the cat 人工智能，。\n\r\t é😀x0𠮷 "), max_size=60)


def train(kind: str, **more: object) -> Tokenizer:
    given = {"kind": kind, **({} if kind == "char" else {"vocab_size": 340}), **more}
    return train_tokenizer([TEXT], len(TEXT.encode()), resolve(TokenizerSettings, Layer("test", given)).settings)


@pytest.fixture(scope="module", params=KINDS)
def trained(request: pytest.FixtureRequest) -> Tokenizer:
    return train(request.param)


def test_a_kind_is_what_was_asked_for_with_room_for_all_roles(trained: Tokenizer) -> None:
    for role in ("bos", "eos", "pad", "mask", "cls", "sep", "turn_start", "turn_end"):
        assert trained.roles.first(role) is not None, role  # type: ignore[arg-type]
    assert len(trained.roles["spare"]) == 16
    assert trained.kind == "char" or trained.vocab_size <= 340
    assert (trained.vocabulary.unknown_id is not None) == (trained.kind in ("word", "wordpiece"))


def test_training_again_gives_the_same_bytes(trained: Tokenizer) -> None:
    again = train(trained.kind)
    assert (again.json, again.config) == (trained.json, trained.config)


@given(text=HOSTILE)
@settings(deadline=None, max_examples=50)
def test_an_exact_kind_gives_every_text_back_and_the_others_count_what_is_lost(trained: Tokenizer, text: str) -> None:
    ids = trained.encode(text).ids
    if trained.exact:
        assert trained.decode(ids) == text and trained.count_unknown(ids) == 0
    elif trained.kind == "word" and not trained.count_unknown(ids):
        assert trained.decode(ids) == text


def test_a_saved_tokenizer_is_the_same(trained: Tokenizer, tmp_path) -> None:
    trained.save(tmp_path)
    back = Tokenizer.load(tmp_path)
    assert back.encode(TEXT[:200]) == trained.encode(TEXT[:200]) and dict(back.roles) == dict(trained.roles)


def test_what_is_written_here_is_not_tried_when_it_is_read(trained: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[str] = []
    monkeypatch.setattr("pellucid.tokens.engine.was_tried", lambda stamp: False)
    monkeypatch.setattr("pellucid.tokens.engine.remember_trial", lambda stamp: None)
    monkeypatch.setattr("pellucid.tokens.engine._try", lambda text, vocabulary: tried.append(vocabulary.kind))
    document = json.loads(trained.json)
    Tokenizer.from_json(json.dumps(document), trained.config)
    assert tried == []
    document["normalizer"] = {"type": "NFC"}
    Tokenizer.from_json(json.dumps(document), trained.config)
    assert tried == [trained.kind if trained.kind != "char" else "bpe"]


def test_lowercase_is_a_choice_of_wordpiece() -> None:
    small, large = train("wordpiece", lowercase=True), train("wordpiece")
    assert small.encode("THE").ids == small.encode("the").ids and small.count_unknown(small.encode("THE").ids) == 0
    assert large.count_unknown(large.encode("THE").ids) == 1


@pytest.mark.parametrize("kind", ["unigram", "wordpiece", "word"])
def test_a_text_of_little_variety_ends_early_with_one_line(kind: str) -> None:
    recorder = MemoryRecorder()
    asked = resolve(TokenizerSettings, Layer("test", {"kind": kind, "vocab_size": 4_096})).settings
    tokenizer = train_tokenizer(["aaaa aaaa"] * 9, 90, asked, recorder=recorder)
    assert tokenizer.vocab_size < 4_096 and recorder.names().count("tokens.vocabulary_small") == 1


@pytest.mark.parametrize("max_han", [0, 1, 4])
def test_the_loops_and_the_engine_count_the_same_pieces(max_han: int, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("numba")
    text = TEXT + "汉" * 5_000 + " " + "a" * 5_000
    fast = count_pieces([text, "x" * (merges.ENDLESS_BLOCK + 1)], "qwen2", max_han=max_han)
    monkeypatch.setattr("pellucid.tokens.pieces.find_obstacle", lambda: "Numba is not installed")
    recorder = MemoryRecorder()
    slow = count_pieces([text, "x" * (merges.ENDLESS_BLOCK + 1)], "qwen2", max_han=max_han, recorder=recorder)
    assert fast == slow and recorder.names() == ["tokens.counting_slowly", "tokens.pieces_cut"]


def test_wordpiece_is_the_same_by_the_compiled_merge_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("numba")
    readable = train("wordpiece")
    monkeypatch.setattr("pellucid.tokens.pieces.WORTH_STARTING", 0)
    monkeypatch.setattr("pellucid.tokens.pieces.WORTH_COMPILING", 0)
    assert train("wordpiece").json == readable.json


def test_transformers_reads_what_was_trained(trained: Tokenizer, tmp_path) -> None:
    transformers = pytest.importorskip("transformers")
    trained.save(tmp_path)
    theirs = transformers.AutoTokenizer.from_pretrained(str(tmp_path))
    for text in ("The cat sat on the mat.", "人工智能 the dog", "unknown words? 龘"):
        assert theirs(text, add_special_tokens=False)["input_ids"] == list(trained.encode(text).ids)
    assert theirs.pad_token_id == trained.roles.first("pad") and theirs.mask_token_id == trained.roles.first("mask")
    assert json.loads(trained.config)["eos_token"] == theirs.eos_token
