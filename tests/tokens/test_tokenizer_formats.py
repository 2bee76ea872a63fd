"""Files made by others: read when they are whole, refused with a TokenizerError when they are not."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import decoders, models, normalizers, pre_tokenizers

from pellucid.errors import TokenizerError
from pellucid.tokens.byte_characters import BYTE_CHARACTERS, BYTE_TOKENS
from pellucid.tokens.layout import as_text, config_json
from pellucid.tokens.models import bpe, character
from pellucid.tokens.tokenizer import Tokenizer
from pellucid.tokens.train import train_characters


def gpt2_like() -> str:
    """The layout of GPT-2: byte-level with the built-in expression, one special token that begins and ends."""
    vocab = {character: place for place, character in enumerate((*BYTE_CHARACTERS, "he", "Ġt", "Ġthe"))}
    engine = tokenizers.Tokenizer(models.BPE(vocab=vocab, merges=[("h", "e"), ("Ġ", "t"), ("Ġt", "he")]))
    engine.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    engine.decoder = decoders.ByteLevel()
    engine.add_special_tokens(["<|endoftext|>"])
    return engine.to_str()


def qwen_like() -> str:
    """The layout of Qwen 3: a normaliser, special tokens, and added tokens that are not special."""
    document = json.loads(as_text(bpe.layout([("h", "e")], "qwen2", ["<bos>", "<eos>"])))
    document["normalizer"] = {"type": "NFC"}
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": False}
    document["added_tokens"].append({"id": 259, "content": "<think>", **flags})
    return json.dumps(document)


def llama2_like() -> str:
    """The layout of Llama 2: SentencePiece BPE with spaces as ▁, a space put before the text, and byte fallback."""
    tokens = ("<unk>", "<s>", "</s>", *BYTE_TOKENS, "▁", "h", "e", "▁h", "▁he", "中")
    engine = tokenizers.Tokenizer(
        models.BPE(
            vocab={token: place for place, token in enumerate(tokens)},
            merges=[("▁", "h"), ("▁h", "e")],
            unk_token="<unk>",
            byte_fallback=True,
            fuse_unk=True,
        )
    )
    engine.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    engine.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    engine.add_special_tokens(["<unk>", "<s>", "</s>"])
    return engine.to_str()


TEXTS = ("hehe the 中文 é😀", " the", "a  b\n\nthe ", "𠮷<s>")


@pytest.mark.parametrize("make", [gpt2_like, qwen_like, llama2_like])
def test_foreign_layouts_encode_and_decode_as_their_engine_does(make: Callable[[], str]) -> None:
    tokenizer = Tokenizer.from_json(make())
    reference = tokenizers.Tokenizer.from_str(make())
    reference.encode_special_tokens = True
    assert tokenizer.kind == "bpe"
    for text in TEXTS:
        ids = reference.encode(text, add_special_tokens=False).ids
        assert list(tokenizer.encode(text).ids) == tokenizer.encode_ids([text])[0].tolist() == ids
        assert tokenizer.decode(ids) == reference.decode(ids) == text
        stream = tokenizer.stream()
        assert "".join(map(stream.push, ids)) + stream.flush() == text


def test_each_layout_tells_its_boundaries_and_pattern() -> None:
    gpt2, qwen, llama = (Tokenizer.from_json(make()) for make in (gpt2_like, qwen_like, llama2_like))
    assert (gpt2.bos_id, gpt2.eos_id, gpt2.vocabulary.pattern) == (259, 259, "gpt2")
    assert (llama.bos_id, llama.eos_id, llama.vocabulary.pattern) == (1, 2, None)
    assert qwen.vocabulary.pattern is None
    assert [gpt2.token_bytes(258), llama.token_bytes(263), llama.token_bytes(0xE4 + 3)] == [b" the", b" he", b"\xe4"]


def test_added_tokens_that_are_not_special_are_text() -> None:
    qwen = Tokenizer.from_json(qwen_like())
    assert 259 in qwen.encode("a<think>b").ids
    assert qwen.decode(qwen.encode("a<think>b").ids) == "a<think>b"
    assert "<think>" not in qwen.specials


def test_truncation_and_padding_of_a_file_are_not_applied() -> None:
    engine = tokenizers.Tokenizer.from_str(gpt2_like())
    engine.enable_truncation(2)
    engine.enable_padding(length=9)
    assert len(Tokenizer.from_json(engine.to_str()).encode("hello")) == 4


def test_the_config_beside_the_file_names_the_boundaries(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text(gpt2_like(), encoding="utf-8")
    config = {"bos_token": None, "eos_token": {"content": "<|endoftext|>"}, "chat_template": "{{ x }}"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    tokenizer = Tokenizer.load(tmp_path)
    assert (tokenizer.bos_id, tokenizer.eos_id) == (None, 259)
    assert json.loads(tokenizer.files()["tokenizer_config.json"]) == config


@pytest.mark.parametrize("config", ["", "[]", '{"eos_token": "the"}', '{"eos_token": 3}', '{"bos_token": {}, "a": [}'])
def test_a_broken_config_is_refused(config: str) -> None:
    with pytest.raises(TokenizerError, match="config"):
        Tokenizer.from_json(gpt2_like(), config)


@pytest.mark.parametrize("name", ["tokenizer_config.json", "special_tokens_map.json"])
@pytest.mark.parametrize("content", [b'{"pad_token": "<p', b"[]", b"null", b"3", b'{"a": "\xff"}', b""])
def test_a_damaged_file_beside_a_tokenizer_is_the_one_that_is_named(tmp_path: Path, name: str, content: bytes) -> None:
    train_characters(["ab"]).save(tmp_path)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(TokenizerError) as caught:
        Tokenizer.load(tmp_path)
    assert caught.value.where == str(tmp_path / name) and name in caught.value.what and caught.value.hint


def test_a_missing_file_and_a_file_of_other_bytes_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(TokenizerError, match=r"looked for: tokenizer\.json, .*\n  where: .+\n  try:"):
        Tokenizer.load(tmp_path)
    (tmp_path / "tokenizer.json").write_bytes(b"\xff\xfe{}")
    with pytest.raises(TokenizerError, match=r"where: .*tokenizer\.json"):
        Tokenizer.load(tmp_path)


def broken(change: Callable[[dict], object], make: Callable[[], str] = gpt2_like) -> str:
    document = json.loads(make())
    change(document)
    return json.dumps(document)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not valid JSON"),
        ("[" * 100_000, "not valid JSON"),
        ("[]", "not a JSON object"),
        ("{}", "it has no model"),
        ('{"model": 1}', "model is not a JSON object"),
        (broken(lambda d: d["model"].update(type="Trigram")), "of an unknown kind"),
        (broken(lambda d: d["model"].update(type="Unigram")), "vocab is not a list"),
        (broken(lambda d: d["model"].update(type="WordPiece")), "unknown token is not among"),
        (broken(lambda d: d["model"].update(type="WordLevel")), "unknown token is not among"),
        (broken(lambda d: d["model"]["vocab"].update(a=66)), "same id"),
        (broken(lambda d: d["model"]["vocab"].update(a=4_000_000_000)), "in range"),
        (broken(lambda d: d["model"]["vocab"].update(a=-1)), "in range"),
        (broken(lambda d: d["model"]["vocab"].pop("Ġ")), "does not exist|cannot spell"),
        (broken(lambda d: d["model"]["vocab"].pop("!")), "cannot spell every text"),
        (broken(lambda d: d["model"].update(merges=["h e l"])), "not a pair"),
        (broken(lambda d: d["model"].update(merges=["x y"])), "does not exist"),
        (broken(lambda d: d["model"].update(dropout=0.1)), "at random"),
        (broken(lambda d: d["added_tokens"][0].update(id=300)), "does not follow"),
        (broken(lambda d: d["added_tokens"][0].update(content="")), "has no text"),
        (broken(lambda d: d.update(decoder=None)), "neither byte-level nor byte-fallback"),
        (broken(lambda d: d.update(pre_tokenizer={"type": "Nonsense"})), "not known to be good"),
        (broken(lambda d: d["model"]["vocab"].pop("<0x41>"), llama2_like), "cannot spell every text"),
    ],
)
def test_each_kind_of_broken_file_is_refused_with_its_reason(text: str, message: str) -> None:
    with pytest.raises(TokenizerError, match=message):
        Tokenizer.from_json(text)


JUNK = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**40), 2**40), st.text(max_size=4), st.just([]), st.just({}), st.just([[]])
)


@settings(max_examples=150, deadline=None)  # some are tried in a child process
@given(data=st.data())
def test_no_mutated_file_escapes_as_another_error(data: st.DataObject) -> None:
    make = data.draw(
        st.sampled_from(
            [gpt2_like, llama2_like, qwen_like, lambda: as_text(character.layout("ab", ["<bos>", "<eos>"]))]
        )
    )
    document = json.loads(make())
    node, junk = document, data.draw(JUNK)
    while True:
        keys = list(range(len(node))) if isinstance(node, list) else list(node)
        key = data.draw(st.sampled_from(keys))
        if isinstance(node[key], (dict, list)) and node[key] and data.draw(st.booleans()):
            node = node[key]
            continue
        node[key] = junk
        break
    survives_or_refuses(json.dumps(document))


@settings(max_examples=50, deadline=None)
@given(cut=st.integers(0, 6000), insert=st.text(max_size=3))
def test_no_damaged_text_escapes_as_another_error(cut: int, insert: str) -> None:
    text = gpt2_like()
    survives_or_refuses(text[:cut] + insert)
    survives_or_refuses(text[:cut] + insert + text[cut + 1 :])


def survives_or_refuses(text: str) -> None:
    try:
        tokenizer = Tokenizer.from_json(text)
        assert isinstance(tokenizer.decode(tokenizer.encode("the 中 <s>").ids), str)
    except TokenizerError as error:
        assert error.what  # anything else, a panic of the engine included, fails the test


def test_the_config_tells_transformers_to_leave_text_alone() -> None:
    assert json.loads(config_json({"bos": "<bos>", "eos": None})) == {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<bos>",
        "eos_token": None,
        "clean_up_tokenization_spaces": False,
    }
