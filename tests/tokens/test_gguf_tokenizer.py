"""GGUF tokenizers: what goes out comes back, and SentencePiece's kind against the algorithm it is defined by."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizer_documents import byte_unigram, load, unigram, words

from pellucid.errors import TokenizerError
from pellucid.events import MemoryRecorder
from pellucid.tokens.byte_characters import BYTE_TOKENS
from pellucid.tokens.formats.gguf import (
    BYTE,
    CONTROL,
    NORMAL,
    UNKNOWN,
    UNUSED,
    USER_DEFINED,
    tokenizer_from_values,
    tokenizer_to_values,
)
from pellucid.tokens.formats.pre_tokenizers import BY_NAME, PRE_TOKENIZERS, find_pre_tokenizer, pre_tokenizer_json
from pellucid.tokens.tokenizer import Tokenizer
from pellucid.tokens.train import train_bpe, train_characters

CORPUS = ["The cat sat on 12 mats, didn't it? 小猫坐在垫子上，你好。 low lower lowest"] * 9
JOINED = ["▁t", "he", "▁the", "th", "at", "cat", "the", "▁c", "▁cat", "小猫", "▁▁", "hat"]  # the best score first
PIECES = [*"▁theca猫小", *JOINED]
SCORES = {piece: -float(rank) for rank, piece in enumerate(JOINED)}
TEXTS = st.text(st.sampled_from("the ca小猫é😀 \n▁")) | st.text()


def sentencepiece_values(**changed: Any) -> dict[str, Any]:
    """A small vocabulary of the kind `llama`."""
    tokens = ["<unk>", "<s>", "</s>", *BYTE_TOKENS, *PIECES]
    kinds = [UNKNOWN, CONTROL, CONTROL, *[BYTE] * len(BYTE_TOKENS), *[NORMAL] * len(PIECES)]
    scores = [float(SCORES.get(token, -100)) for token in tokens]
    values = {
        "model": "llama", "tokens": tokens, "token_type": np.array(kinds, dtype=np.int32),
        "scores": np.array(scores, dtype=np.float32), **changed,
    }  # fmt: skip
    return {f"tokenizer.ggml.{name}": value for name, value in values.items()}


def sentencepiece(text: str, *, space_first: bool = True) -> list[str]:
    """SentencePiece's BPE as it is defined: join the neighbours whose sum has the best score, the leftmost of equals."""
    symbols = list((" " + text if space_first and text else text).replace(" ", "▁"))
    known = set(PIECES)
    while joinable := [i for i in range(len(symbols) - 1) if symbols[i] + symbols[i + 1] in known]:
        best = max(joinable, key=lambda i: (SCORES.get(symbols[i] + symbols[i + 1], -100), -i))
        symbols[best : best + 2] = [symbols[best] + symbols[best + 1]]
    return [piece for s in symbols for piece in ([s] if s in known else [BYTE_TOKENS[b] for b in s.encode()])]


@settings(deadline=None)
@given(TEXTS)
@pytest.mark.parametrize("space_first", [True, False])
def test_sentencepiece_ids_are_those_of_its_definition(space_first: bool, text: str) -> None:
    values = sentencepiece_values(add_space_prefix=space_first)
    tokenizer = TOKENIZERS[space_first]
    tokens = values["tokenizer.ggml.tokens"]
    assert [tokens[i] for i in tokenizer.encode(text).ids] == sentencepiece(text, space_first=space_first)
    if "▁" not in text:  # SentencePiece cannot tell this character from a space
        assert tokenizer.decode(tokenizer.encode(text).ids) == text


TOKENIZERS = {flag: tokenizer_from_values(sentencepiece_values(add_space_prefix=flag)) for flag in (True, False)}
OURS: dict[str, Tokenizer] = {
    **{name: train_bpe(CORPUS, 300, pattern=name) for name in ("qwen2", "llama3", "gpt2")},
    "characters": train_characters(CORPUS),
    "sentencepiece": TOKENIZERS[True],
    "sentencepiece without a space": TOKENIZERS[False],
}
BACK = {name: tokenizer_from_values(tokenizer_to_values(one, one.vocab_size)) for name, one in OURS.items()}


@settings(deadline=None)
@given(TEXTS)
@pytest.mark.parametrize("name", OURS)
def test_a_tokenizer_written_and_read_gives_the_same_ids(name: str, text: str) -> None:
    ours, back = OURS[name], BACK[name]
    if name == "characters" and "▁" in text:  # SentencePiece's kind reads it as a space
        return
    assert back.encode(text).ids == ours.encode(text).ids
    assert back.decode(back.encode(text).ids) == ours.decode(ours.encode(text).ids)


@pytest.mark.parametrize("name", OURS)
def test_special_tokens_keep_their_ids(name: str) -> None:
    ours, back = OURS[name], BACK[name]
    assert (back.bos_id, back.eos_id, back.vocab_size) == (ours.bos_id, ours.eos_id, ours.vocab_size)
    assert back.specials == ours.specials


def test_text_never_becomes_a_control_token() -> None:
    for tokenizer in (*OURS.values(), *BACK.values()):
        for name in tokenizer.specials:
            ids = tokenizer.encode(f"a{name}b").ids
            assert not set(ids) & set(tokenizer.specials.values())


def test_each_pattern_has_a_name_that_llama_cpp_knows() -> None:
    names = {name: tokenizer_to_values(one, 400).get("tokenizer.ggml.pre") for name, one in OURS.items()}
    # llama.cpp's own llama-bpe takes whole tokens without merging; smaug-bpe cuts the same way and does not.
    assert names == {
        "qwen2": "qwen2", "llama3": "smaug-bpe", "gpt2": "gpt-2", "characters": "default", "sentencepiece": "default",
        "sentencepiece without a space": "default",
    }  # fmt: skip


@pytest.mark.parametrize("pre", PRE_TOKENIZERS, ids=lambda pre: pre.name)
def test_every_way_of_cutting_is_found_again(pre: Any) -> None:
    assert find_pre_tokenizer(pre_tokenizer_json(pre), ignores_merges=pre.ignores_merges) is pre
    assert all(BY_NAME[alias] is pre for alias in pre.aliases)


@pytest.mark.parametrize(
    ("node", "found"),
    [
        ({"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}, "gpt-2"),
        ({"type": "Sequence", "pretokenizers": [
            {"type": "Digits", "individual_digits": True}, {"type": "ByteLevel", "use_regex": True}]}, "smollm"),
        ({"type": "ByteLevel", "add_prefix_space": True}, None),
        ({"type": "Whitespace"}, None),
        (None, None),
    ],
)  # fmt: skip
def test_the_spellings_of_published_files_are_recognised(node: dict | None, found: str | None) -> None:
    pre = find_pre_tokenizer(node, ignores_merges=False)
    assert (pre.name if pre else None) == found


def test_rows_without_a_token_are_written_as_unused() -> None:
    ours = OURS["qwen2"]
    values = tokenizer_to_values(ours, ours.vocab_size + 3)
    assert values["tokenizer.ggml.tokens"][-1] == f"[PAD{ours.vocab_size + 2}]"
    assert values["tokenizer.ggml.token_type"].tolist()[-3:] == [UNUSED] * 3
    back = tokenizer_from_values(values)
    assert back.vocab_size == ours.vocab_size
    assert back.encode("[PAD301]").ids == ours.encode("[PAD301]").ids


def test_a_template_and_ordinary_added_tokens_survive() -> None:
    document = json.loads(OURS["qwen2"].json)
    document["added_tokens"].append(document["added_tokens"][-1] | {"id": 300, "content": "<think>", "special": False})
    config = json.loads(OURS["qwen2"].config) | {"chat_template": "{{ x }}"}
    ours = Tokenizer.from_json(json.dumps(document), json.dumps(config))
    values = tokenizer_to_values(ours, 301)
    assert values["tokenizer.ggml.token_type"][300] == USER_DEFINED
    back = tokenizer_from_values(values)
    assert back.encode("a<think>b").ids == ours.encode("a<think>b").ids and 300 in back.encode("a<think>b").ids
    assert json.loads(back.config)["chat_template"] == "{{ x }}"


def test_a_file_may_say_that_texts_have_no_beginning() -> None:
    assert tokenizer_from_values(sentencepiece_values(add_bos_token=False)).bos_id is None
    assert tokenizer_from_values(sentencepiece_values()).bos_id == 1
    silent = tokenizer_to_values(OURS["qwen2"], 300)
    del silent["tokenizer.ggml.add_bos_token"]
    assert tokenizer_from_values(silent).bos_id is None  # what llama.cpp assumes of byte-level files


def test_composing_characters_is_said_and_other_normalisers_are_refused() -> None:
    document = json.loads(OURS["qwen2"].json)
    recorder = MemoryRecorder()
    tokenizer_to_values(
        Tokenizer.from_json(json.dumps(document | {"normalizer": {"type": "NFC"}})), 300, recorder=recorder
    )
    assert recorder.names() == ["tokens.gguf_no_normalizer"]
    with pytest.raises(TokenizerError, match="no way of cutting"):
        tokenizer_to_values(Tokenizer.from_json(json.dumps(document | {"normalizer": {"type": "NFKC"}})), 300)


def test_a_character_tokenizer_that_has_the_space_mark_is_refused() -> None:
    with pytest.raises(TokenizerError, match="writes a space as"):
        tokenizer_to_values(train_characters(["a▁b c"]), 300)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"model": "rwkv"}, "kind of tokenizer"),
        ({"model": None}, "kind of tokenizer"),
        ({"tokens": None}, "has no tokenizer.ggml.tokens"),
        ({"tokens": ["a"] * 280, "token_type": None, "scores": np.zeros(280)}, "spelled the same way"),
        ({"scores": np.zeros(3)}, "does not have a number for each"),
        ({"token_type": np.zeros(3)}, "does not have a number for each"),
        ({"bos_token_id": 279}, "bos_token_id is not the id"),
        ({"eos_token_id": 1.5}, "eos_token_id is not the id"),
        ({"model": "gpt2"}, "cuts its text in a way"),
        ({"model": "gpt2", "pre": "qwen2"}, "has no tokenizer.ggml.merges"),
        ({"model": "gpt2", "pre": "qwen2", "merges": ["th e"]}, "cannot spell"),
    ],
)
def test_values_that_make_no_tokenizer_are_refused(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(TokenizerError, match=message):
        tokenizer_from_values(sentencepiece_values(**changed))


def test_a_vocabulary_without_some_control_characters_refuses_them_when_they_come() -> None:
    """SmolLM2's has no token for 21 bytes; a text with one of them must not lose it silently."""
    document = json.loads(OURS["qwen2"].json)
    rare = "ĄĆ"  # how bytes 4 and 6 are spelled
    vocab = {token: i for token, i in document["model"]["vocab"].items() if token not in rare} | OURS["qwen2"].specials
    tokenizer = Tokenizer.from_json(json.dumps(document | {"model": document["model"] | {"vocab": vocab}}))
    assert tokenizer.encode("the cat").ids == OURS["qwen2"].encode("the cat").ids
    for refused in (tokenizer.encode, lambda text: tokenizer.encode_ids([text]), tokenizer.encode_pieces):
        with pytest.raises(TokenizerError, match="no token for a byte") as error:
            refused("ab\x06")
        assert error.value.found == "byte 0x06, at byte 2"


# --- where the file does not say: what llama.cpp does ---


@pytest.mark.parametrize("name", BY_NAME)
@pytest.mark.parametrize("said", [None, True, False])
def test_where_a_file_is_silent_a_text_begins_as_llama_cpp_begins_it(name: str, said: bool | None) -> None:
    values = {**tokenizer_to_values(OURS["llama3"], OURS["llama3"].vocab_size), "tokenizer.ggml.pre": name}
    del values["tokenizer.ggml.add_bos_token"]
    if said is not None:
        values["tokenizer.ggml.add_bos_token"] = said
    llama3 = ("llama-bpe", "llama3", "llama-v3", "falcon3", "pixtral", "falcon-h1", "midm-2.0", "lfm2", "jina-v5-nano")
    begins = name in (*llama3, "tekken") if said is None else said
    assert (tokenizer_from_values(values).bos_id is not None) == begins


def test_ends_of_turns_and_messages_end_a_text() -> None:
    tokens = sentencepiece_values()["tokenizer.ggml.tokens"]
    cat, hat = tokens.index("cat"), tokens.index("hat")
    tokenizer = tokenizer_from_values(sentencepiece_values(eot_token_id=cat, eom_token_id=hat))
    assert tokenizer.end_ids == {tokenizer.eos_id, cat, hat}
    assert {cat, hat} <= set(tokenizer.specials.values())  # no text becomes one
    with pytest.raises(TokenizerError, match="eot_token_id"):
        tokenizer_from_values(sentencepiece_values(eot_token_id=len(tokens)))


def test_ends_that_are_known_by_their_spelling() -> None:
    values = tokenizer_to_values(OURS["qwen2"], OURS["qwen2"].vocab_size + 3)
    tokens, kinds = values["tokenizer.ggml.tokens"], values["tokenizer.ggml.token_type"]
    for place, (name, kind) in enumerate((("<|end|>", CONTROL), ("<|eot_id|>", USER_DEFINED), ("</s>", NORMAL))):
        tokens[place - 3], kinds[place - 3] = name, kind
    tokenizer = tokenizer_from_values(values)
    assert tokenizer.end_ids == {*OURS["qwen2"].end_ids, len(tokens) - 3, len(tokens) - 2}


def test_text_that_spells_an_end_stays_text_whatever_the_file_calls_it() -> None:
    """Phi-3's file calls </s> a token of its own; as in llama.cpp a text that spells it is no end."""
    values = sentencepiece_values()
    values["tokenizer.ggml.token_type"][2] = USER_DEFINED
    values["tokenizer.ggml.eos_token_id"] = 0xFFFFFFFF
    tokenizer = tokenizer_from_values(values)
    assert 2 in tokenizer.end_ids and 2 not in tokenizer.encode("a</s>").ids


@pytest.mark.parametrize("make", [unigram, words, byte_unigram], ids=lambda make: make.__name__)
def test_a_kind_that_the_file_cannot_hold_is_refused(make: Callable[[], dict[str, Any]]) -> None:
    """Written as a BPE without merges it would be read without an error, and give other ids."""
    tokenizer = load(make())
    with pytest.raises(TokenizerError, match="cannot be written as GGUF"):
        tokenizer_to_values(tokenizer, tokenizer.vocab_size)
