"""The forms a tokenizer comes in: each read, written where it is written, and refused where it is damaged."""

from __future__ import annotations

import base64
import json
import runpy
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pellucid.errors import TokenizerError
from pellucid.events import MemoryRecorder
from pellucid.store.tokenizer_files import load_tokenizer, save_tokenizer
from pellucid.tokens import layout
from pellucid.tokens.byte_characters import BYTE_TOKENS
from pellucid.tokens.charsmap import Charsmap, read_charsmap
from pellucid.tokens.formats.find import find_tokenizer
from pellucid.tokens.formats.protobuf import fields
from pellucid.tokens.formats.sentencepiece import (
    BYTE,
    CONTROL,
    NORMAL,
    UNKNOWN,
    UNUSED,
    USER_DEFINED,
    read_model,
    read_sentencepiece,
)
from pellucid.tokens.formats.tiktoken import PUBLISHED, find_merges, read_ranks, read_tiktoken
from pellucid.tokens.formats.vocab_txt import read_vocab_txt
from pellucid.tokens.tokenizer import Tokenizer
from pellucid.tokens.train import train_bpe, train_characters

CORPUS = ["The cat sat on 12 mats, didn't it? 小猫坐在垫子上，你好。 low lower lowest\n\n  x"] * 9
TEXTS = st.text(st.sampled_from("the ca小猫é😀 \n▁<0x41>'s\u0301")) | st.text()
PATTERNS = ("qwen2", "llama3", "gpt2", "cl100k", "o200k")


def cut_by(pattern: str) -> Tokenizer:
    """A trained tokenizer with another pattern: not every one is trained with."""
    document = json.loads(train_bpe(CORPUS, 300, pattern="qwen2").json)
    return Tokenizer.from_json(json.dumps({**document, "pre_tokenizer": layout.byte_level_pieces(pattern)}))


OURS = {name: cut_by(name) for name in PATTERNS}


# --- tiktoken ---


def ranks(*tokens: bytes) -> bytes:
    """A rank file of the bytes and some tokens."""
    every = [bytes([byte]) for byte in range(256)] + list(tokens)
    return b"".join(b"%s %d\n" % (base64.b64encode(token), i) for i, token in enumerate(every))


def by_rank(piece: bytes, known: dict[bytes, int]) -> list[int]:
    """What tiktoken does with one piece: a whole token, or the neighbours with the lowest rank joined until none is left."""
    if piece in known:
        return [known[piece]]
    parts = [piece[i : i + 1] for i in range(len(piece))]
    while joinable := [
        (known[parts[i] + parts[i + 1]], i) for i in range(len(parts) - 1) if parts[i] + parts[i + 1] in known
    ]:
        _, i = min(joinable)
        parts[i : i + 2] = [parts[i] + parts[i + 1]]
    return [known[part] for part in parts]


@settings(deadline=None)
@given(st.text(st.sampled_from("abcdé"), max_size=12))
def test_ranks_give_the_ids_that_joining_by_rank_gives(text: str) -> None:
    known = read_ranks(RANKS)
    assert list(BY_RANK.encode(text).ids) == (by_rank(text.encode(), known) if text else [])


RANKS = ranks(b"ab", b"cd", b"abc", b"dd", b"abcd", "dé".encode(), b"bcdab")  # the last is reached by no join
BY_RANK = Tokenizer.from_json(read_tiktoken(RANKS, pattern="gpt2").json)


def test_a_token_that_no_join_makes_is_used_for_a_piece_that_is_nothing_else() -> None:
    merges, unreached = find_merges(read_ranks(RANKS))
    assert unreached == ["dé".encode(), b"bcdab"] and (b"ab", b"cd") in merges
    whole = read_ranks(RANKS)[b"bcdab"]
    assert BY_RANK.encode("bcdab").ids == (whole,) and whole not in BY_RANK.encode("bcdaba").ids


@pytest.mark.parametrize("name", PATTERNS)
def test_a_trained_tokenizer_comes_back_from_ranks_as_the_same_file(tmp_path: Path, name: str) -> None:
    written = save_tokenizer(OURS[name], tmp_path, "tiktoken")
    assert [path.name for path in written] == [
        "tokenizer.tiktoken.json",
        "tokenizer_config.json",
        "tokenizer.tiktoken",
    ]
    back = load_tokenizer(tmp_path)
    assert (back.vocabulary.merges, back.specials) == (OURS[name].vocabulary.merges, OURS[name].specials)
    again = save_tokenizer(back, tmp_path / "again", "tiktoken")
    assert [path.read_bytes() for path in again] == [path.read_bytes() for path in written]


def test_the_pattern_of_ranks_is_known_by_hash_or_said_or_asked_for(tmp_path: Path) -> None:
    assert {known.pattern for known in PUBLISHED.values()} == {"gpt2", "cl100k", "o200k"}
    file = tmp_path / "mine.tiktoken"
    file.write_bytes(ranks(b"ab"))
    with pytest.raises(TokenizerError, match="does not say where") as error:
        Tokenizer.load(file)
    assert "--pattern" in error.value.hint
    assert Tokenizer.load(tmp_path, pattern="o200k").vocabulary.pattern == "o200k"
    beside = file.with_name("mine.tiktoken.json")
    beside.write_text(json.dumps({"pat_str": "(a|b)*", "special_tokens": {}}))
    with pytest.raises(TokenizerError, match="not listed"):
        Tokenizer.load(file)
    possessive = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s"
    beside.write_text(json.dumps({"pat_str": possessive, "special_tokens": {"<|endoftext|>": 300}}))
    loaded = Tokenizer.load(file)
    assert (loaded.vocabulary.pattern, loaded.eos_id, loaded.vocab_size) == ("gpt2", 300, 301)


@pytest.mark.parametrize(
    "data",
    [b"", b"YQ== 1\nYQ== 2\n", b"YQ== 1\nYg== 1\n", b"YQ==\n", b"YQ== -1\n", b"Y! 1\n", b"YQ== 99999999999\n", b" 1\n"],
)
def test_what_is_no_rank_file_is_refused(data: bytes) -> None:
    with pytest.raises(TokenizerError):
        read_ranks(data)


def test_tiktoken_is_refused_what_it_would_run_otherwise(tmp_path: Path) -> None:
    for tokenizer in (
        train_characters(CORPUS),
        Tokenizer.from_json(read_vocab_txt("[UNK]\na\n", {}, lowercase=True).json),
    ):
        with pytest.raises(TokenizerError, match="another kind"):
            save_tokenizer(tokenizer, tmp_path, "tiktoken")
    document = json.loads(OURS["gpt2"].json)
    document["model"]["merges"].reverse()
    with pytest.raises(TokenizerError, match="another order"):
        save_tokenizer(Tokenizer.from_json(json.dumps(document)), tmp_path, "tiktoken")
    assert not list(tmp_path.iterdir())


def test_what_ranks_cannot_say_is_told(tmp_path: Path) -> None:
    document, recorder = json.loads(OURS["qwen2"].json), MemoryRecorder()
    document["normalizer"] = {"type": "NFC"}
    document["added_tokens"].append({**document["added_tokens"][0], "id": 300, "content": "<think>", "special": False})
    save_tokenizer(Tokenizer.from_json(json.dumps(document)), tmp_path, "tiktoken", recorder=recorder)
    assert recorder.names() == ["tokens.tiktoken_no_normalizer", "tokens.tiktoken_no_added"]


# --- vocab.json and merges.txt, vocab.txt, GGUF ---


def test_merges_come_back_with_their_special_tokens(tmp_path: Path) -> None:
    for name in ("gpt2", "llama3"):
        save_tokenizer(OURS[name], tmp_path / name, "merges.txt")
        back = Tokenizer.load(tmp_path / name)
        assert (back.vocabulary.merges, back.specials) == (OURS[name].vocabulary.merges, OURS[name].specials)
        assert (back.bos_id, back.eos_id) == (OURS[name].bos_id, OURS[name].eos_id)
    (tmp_path / "llama3" / "tokenizer_config.json").unlink()
    with pytest.raises(TokenizerError, match="does not say where"):
        Tokenizer.load(tmp_path / "llama3")
    (tmp_path / "gpt2" / "merges.txt").write_text("#version: 0.2\na b c\n")
    with pytest.raises(TokenizerError, match="two tokens"):
        Tokenizer.load(tmp_path / "gpt2")


def test_merges_that_would_lose_a_normalizer_are_refused(tmp_path: Path) -> None:
    composed = {**json.loads(OURS["llama3"].json), "normalizer": {"type": "NFC"}}
    with pytest.raises(TokenizerError, match="characters are rewritten first") as error:
        save_tokenizer(Tokenizer.from_json(json.dumps(composed)), tmp_path, "merges.txt")
    assert "--to tokenizer.json" in error.value.hint and not list(tmp_path.iterdir())


def test_a_space_in_front_is_said_to_be_lost(tmp_path: Path) -> None:
    save_tokenizer(OURS["gpt2"], tmp_path, "merges.txt")
    config = json.loads((tmp_path / "tokenizer_config.json").read_text())
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config | {"add_prefix_space": True}))
    spaced = Tokenizer.load(tmp_path)
    assert spaced.encode("low").ids == OURS["gpt2"].encode(" low").ids
    assert spaced.losses == ("a space is put in front of the text",)


def test_bert_is_asked_about_its_capitals(tmp_path: Path) -> None:
    lines = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "un", "##happi", "##ness", "中", "Cat", "cat"]
    (tmp_path / "vocab.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    with pytest.raises(TokenizerError, match="capitals"):
        Tokenizer.load(tmp_path)
    small, kept = (Tokenizer.load(tmp_path, lowercase=flag) for flag in (True, False))
    assert small.encode("Unhappiness 中Cat[CLS]").ids[:5] == (5, 6, 7, 8, 10) and kept.encode("Cat").ids == (9,)
    assert 2 not in small.encode("[CLS]").ids and set(small.specials) == set(lines[:5])
    save_tokenizer(small, tmp_path / "again", "vocab.txt")
    assert Tokenizer.load(tmp_path / "again").json == small.json  # the config says it now


def test_gguf_vocabularies_come_back(tmp_path: Path) -> None:
    for name in ("gpt2", "qwen2", "llama3", "o200k"):
        [file] = save_tokenizer(OURS[name], tmp_path, "gguf")
        back = load_tokenizer(file)
        assert (back.vocabulary.merges, back.specials) == (OURS[name].vocabulary.merges, OURS[name].specials)
    assert load_tokenizer(file, pattern="qwen2").vocabulary.pattern == "qwen2"
    with pytest.raises(TokenizerError, match="knows no way of cutting"):
        save_tokenizer(OURS["cl100k"], tmp_path, "gguf")


def test_a_directory_holds_one_tokenizer_by_a_written_order(tmp_path: Path) -> None:
    for name in ("x.tiktoken", "vocab.txt", "vocab.json", "spiece.model", "tokenizer.json"):  # the last come first
        (tmp_path / name).touch()
        found = find_tokenizer(tmp_path)
        assert found is not None and found.name == name
    (tmp_path / "notes.md").write_text("x")
    with pytest.raises(TokenizerError, match="no form of a tokenizer"):
        Tokenizer.load(tmp_path / "notes.md")


# --- SentencePiece ---


def field(number: int, value: int | bytes | float) -> bytes:
    """One field of a message, as a library would write it."""
    if isinstance(value, bytes):
        return varint(number << 3 | 2) + varint(len(value)) + value
    if isinstance(value, float):
        return varint(number << 3 | 5) + struct.pack("<f", value)
    return varint(number << 3) + varint(value)


def varint(value: int) -> bytes:
    parts = []
    while value > 127:
        parts.append(value & 127 | 128)
        value >>= 7
    return bytes([*parts, value])


PIECES = [
    ("<unk>", 0.0, UNKNOWN),
    ("<s>", 0.0, CONTROL),
    ("</s>", 0.0, CONTROL),
    ("<sep>", 0.0, USER_DEFINED),
    ("old", -1.0, UNUSED),
]
WORDS = ["abc", "bc", "▁ab", "ab", "▁a", "▁", "a", "b", "c", "<"]  # the best score first


def model(
    kind: int, *, fallback: bool = True, normalizer: bytes = b"", trainer: bytes = b"", more: bytes = b""
) -> bytes:
    """A small `.model`: type 1 is Unigram, 2 is BPE."""
    pieces = PIECES + ([(token, 0.0, BYTE) for token in BYTE_TOKENS] if fallback else [])
    pieces += [(word, -float(i + 2), NORMAL) for i, word in enumerate(WORDS)]
    entries = b"".join(
        field(1, field(1, text.encode()) + field(2, score) + field(3, sort)) for text, score, sort in pieces
    )
    return entries + field(2, field(3, kind) + field(35, int(fallback)) + trainer) + field(3, normalizer) + more


def pieces_of(tokenizer: Tokenizer, text: str) -> list[str]:
    names = {i: token for token, i in {**tokenizer.vocabulary.ids, **tokenizer.vocabulary.added}.items()}
    return [names[i] for i in tokenizer.encode(text).ids]


def loaded(data: bytes) -> Tokenizer:
    files = read_sentencepiece(data)
    return Tokenizer.from_json(files.json, files.config)


UNIGRAM, BPE = loaded(model(1)), loaded(model(2))


@pytest.mark.parametrize("tokenizer", [UNIGRAM, BPE], ids=["unigram", "bpe"])
def test_text_that_spells_a_byte_or_a_control_piece_stays_text(tokenizer: Tokenizer) -> None:
    """The engine's own Unigram takes `<0x41>` for one byte; so would a BPE that looks up whole pieces."""
    spelled = ["<", *(BYTE_TOKENS[byte] for byte in b"0x41>")]
    assert pieces_of(tokenizer, "<0x41>")[-6:] == spelled
    assert pieces_of(tokenizer, "a<sep><0x41><sep>") == ["▁a", "<sep>", *spelled, "<sep>"]
    assert "<s>" not in pieces_of(tokenizer, "<s>") and pieces_of(tokenizer, "old") == [
        "▁",
        *(BYTE_TOKENS[b] for b in b"old"),
    ]
    assert (tokenizer.bos_id, tokenizer.eos_id) == (1, 2)


@settings(deadline=None)
@given(TEXTS)
@pytest.mark.parametrize("tokenizer", [UNIGRAM, BPE], ids=["unigram", "bpe"])
def test_byte_fallback_spells_every_text(tokenizer: Tokenizer, text: str) -> None:
    kept = " ".join(text.split(" ")) if "▁" not in text else ""
    squeezed = " ".join(part for part in kept.split(" ") if part)  # spaces at the ends and runs of spaces go
    encoding = tokenizer.encode(kept)
    assert tokenizer.decode(encoding.ids) == squeezed
    assert [ids.tolist() for ids in tokenizer.encode_ids([kept])] == [list(encoding.ids)]
    assert all(0 <= start <= end <= len(kept) for start, end in encoding.offsets)
    assert tokenizer.count_unknown(encoding.ids) == 0


def test_unknown_text_is_the_unknown_piece_where_there_are_no_bytes() -> None:
    tokenizer = loaded(model(1, fallback=False))
    assert pieces_of(tokenizer, "a??b") == ["▁a", "<unk>", "b"] and not tokenizer.exact


def test_what_is_done_to_spaces_is_what_the_model_says() -> None:
    bare = loaded(model(2, normalizer=field(3, 0) + field(4, 0)))
    assert pieces_of(bare, " a  b") == ["▁a", "▁", "▁", "b"]
    assert pieces_of(BPE, "  a  b ▁") == ["▁a", "▁", "b"] and pieces_of(BPE, "   ") == []


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "pieces"),
        (b"\xff\xff", "not a SentencePiece model"),
        (model(1)[:-3], "not a SentencePiece model"),
        (model(3), "type 3"),
        (model(1, trainer=field(24, 1)), "behind the text"),
        (model(1, normalizer=field(5, 0)), "spaces stay"),
        (model(1, more=field(1, field(1, b"a"))), "spelled the same way"),
        (model(1, more=field(1, field(1, b"zz") + field(2, float("nan")))), "no type or no score"),
        (model(1, more=field(1, field(1, b"zz") + field(3, 9))), "no type or no score"),
        (model(1, normalizer=field(2, b"\x08\0\0\0abcd")), "table of replacements"),
    ],
)
def test_what_is_no_model_or_another_is_refused(data: bytes, why: str) -> None:
    with pytest.raises(TokenizerError) as error:
        loaded(data)
    assert why in str(error.value)


@settings(deadline=None, max_examples=300)
@given(st.data())
def test_damage_ends_in_one_clear_error(data: st.DataObject) -> None:
    whole = bytearray(model(data.draw(st.sampled_from([1, 2]))))
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(whole[: data.draw(st.integers(0, len(whole)))])
    for damaged in (bytes(whole), cut):
        try:
            read_sentencepiece(damaged)
        except TokenizerError:
            continue


@given(st.binary(max_size=200))
def test_the_wire_format_is_read_or_refused(data: bytes) -> None:
    try:
        assert all(number > 0 for number, _, _ in fields(data))
    except ValueError:
        return


def test_scores_and_ids_of_a_model_are_kept() -> None:
    read = read_model(model(1))
    assert (read.kind, read.bos_id, read.byte_fallback, len(read.pieces)) == (
        "unigram",
        1,
        True,
        256 + len(PIECES) + len(WORDS),
    )
    assert read.scores[-1] == -float(len(WORDS) + 1)


# --- the table of replacements ---


@given(
    st.dictionaries(st.text("abé\u0301", min_size=1, max_size=3), st.text("xyz", max_size=3), max_size=6),
    st.text("abécx\u0301"),
)
def test_the_longest_entry_is_replaced_and_every_character_has_its_origin(entries: dict[str, str], text: str) -> None:
    plain, at = "", 0
    while at < len(text):
        length = max((n for n in (1, 2, 3) if text[at : at + n] in entries and at + n <= len(text)), default=0)
        plain += entries[text[at : at + length]] if length else text[at]
        at += length or 1
    table = Charsmap(entries)
    rewritten = table.rewrite(text)
    assert rewritten.text == table.apply(text) == plain
    assert len(rewritten.starts) == len(rewritten.ends) == len(plain)
    assert rewritten.starts == sorted(rewritten.starts) and all(
        0 <= s < e for s, e in zip(rewritten.starts, rewritten.ends, strict=True)
    )


@given(st.binary(max_size=300))
def test_a_damaged_table_is_refused(blob: bytes) -> None:
    reading: Callable[[], object] = lambda: read_charsmap(len(blob[4:]).to_bytes(4, "little") + blob[4:])  # noqa: E731
    try:
        reading()
    except TokenizerError:
        return


# --- the strings of the conformance check, as far as they can be judged without other programs ---


def hostile(count: int) -> list[str]:
    """Strings of `conformance/strings.py`."""
    file = Path(__file__).parents[2] / "conformance" / "strings.py"
    module = runpy.run_path(str(file))
    return list(module["strings"](count, 3, ["the", " cat", "猫"], longest=300))


def test_hostile_strings_survive_every_form(tmp_path: Path) -> None:
    texts = hostile(400)
    for name in ("gpt2", "o200k"):
        for form in ("tiktoken", "gguf", "merges.txt"):
            save_tokenizer(OURS[name], tmp_path / name / form, form)
            file = tmp_path / name / form
            back = load_tokenizer(next(file.glob("*.gguf"), file), pattern=name)
            for text in texts:
                assert back.encode(text).ids == OURS[name].encode(text).ids
                assert back.decode(back.encode(text).ids) == text


def test_hostile_strings_lose_in_a_sentencepiece_model_what_it_says_it_loses() -> None:
    bare = [loaded(model(kind, normalizer=field(3, 0) + field(4, 0))) for kind in (1, 2)]
    for text in hostile(400):
        for tokenizer in bare:
            assert tokenizer.losses == ("a ▁ in the text comes back as a space",)
            assert tokenizer.decode(tokenizer.encode(text).ids) == text.replace("▁", " ")
            assert tokenizer.encode_ids([text])[0].tolist() == list(tokenizer.encode(text).ids)
