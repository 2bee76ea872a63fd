"""No tokenizer.json ends the process, swallows text or lets text become a control token."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import decoders, models, pre_tokenizers, trainers

from pellucid.errors import TokenizerError
from pellucid.tokens import engine
from pellucid.tokens.byte_characters import BYTE_CHARACTERS, BYTE_TOKENS
from pellucid.tokens.engine import answer
from pellucid.tokens.expression import check_expression
from pellucid.tokens.known_good import ALLOWED
from pellucid.tokens.layout import as_text
from pellucid.tokens.models import bpe
from pellucid.tokens.patterns import PATTERNS
from pellucid.tokens.tokenizer import Tokenizer
from pellucid.tokens.train import train_bpe, train_characters

SPECIAL = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
TEXTS = ("the 中文 é😀 ", " <bos><eos>", "a  b\n\nthe", "<0x41>▁▁ Ġ", "")


@pytest.fixture(autouse=True)
def fresh_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def byte_level(**changes: Any) -> dict[str, Any]:
    return json.loads(as_text(bpe.layout([("h", "e"), ("t", "he")], "gpt2", ["<bos>", "<eos>"]))) | changes


def spaced(**changes: Any) -> dict[str, Any]:
    """The layout of Llama 2."""
    tokens = ["<unk>", "<s>", "</s>", *BYTE_TOKENS, "▁", "h", "e", "▁h", "▁he", "中"]
    added = [{"id": i, "content": tokens[i], **SPECIAL} for i in range(3)]
    return {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": added, "post_processor": None,
        "normalizer": {"type": "Sequence", "normalizers": [
            {"type": "Prepend", "prepend": "▁"}, {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]},
        "pre_tokenizer": None,
        "decoder": {"type": "Sequence", "decoders": [
            {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"},
            {"type": "Strip", "content": " ", "start": 1, "stop": 0}]},
        "model": {
            "type": "BPE", "dropout": None, "unk_token": "<unk>", "continuing_subword_prefix": None,
            "end_of_word_suffix": None, "fuse_unk": True, "byte_fallback": True, "ignore_merges": False,
            "vocab": {token: i for i, token in enumerate(tokens)}, "merges": [["▁", "h"], ["▁h", "e"]],
        },
        **changes,
    }  # fmt: skip


def load(document: dict[str, Any]) -> Tokenizer:
    return Tokenizer.from_json(json.dumps(document))


def with_model(document: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return document | {"model": document["model"] | fields}


def cut(*steps: dict[str, Any]) -> dict[str, Any]:
    byte_step = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}
    return {"type": "Sequence", "pretokenizers": [*steps, byte_step]}


def split(pattern: dict[str, str], behavior: str = "Isolated") -> dict[str, Any]:
    return {"type": "Split", "pattern": pattern, "behavior": behavior, "invert": False}


REFUSED: dict[str, dict[str, Any]] = {
    "a prefix that aborts": with_model(byte_level(), continuing_subword_prefix="x"),
    "a suffix": with_model(byte_level(), end_of_word_suffix="</w>"),
    "an empty Prepend": spaced(normalizer={"type": "Prepend", "prepend": ""}),
    "FixedLength 0": byte_level(pre_tokenizer=cut({"type": "FixedLength", "length": 0})),
    "Whitespace": byte_level(pre_tokenizer={"type": "Whitespace"}),
    "Whitespace before bytes": byte_level(pre_tokenizer=cut({"type": "Whitespace"})),
    "WhitespaceSplit": byte_level(pre_tokenizer=cut({"type": "WhitespaceSplit"})),
    "CharDelimiterSplit": byte_level(pre_tokenizer=cut({"type": "CharDelimiterSplit", "delimiter": "e"})),
    "Split that removes": byte_level(pre_tokenizer=cut(split({"String": "e"}, "Removed"))),
    "Split at nothing": byte_level(pre_tokenizer=cut(split({"String": ""}))),
    "Punctuation that removes": byte_level(pre_tokenizer=cut({"type": "Punctuation", "behavior": "Removed"})),
    "an endless expression": byte_level(pre_tokenizer=cut(split({"Regex": "((.|.)*)*x$"}))),
    "no bytes": byte_level(pre_tokenizer=None),
    "bytes twice": byte_level(pre_tokenizer=cut({"type": "ByteLevel", "add_prefix_space": False})),
    "bytes that nobody reads": spaced(pre_tokenizer=cut()),
    "Strip": byte_level(normalizer={"type": "Strip", "strip_left": True, "strip_right": True}),
    "StripAccents": byte_level(normalizer={"type": "StripAccents"}),
    "Lowercase": byte_level(normalizer={"type": "Lowercase"}),
    "Replace by nothing": byte_level(normalizer={"type": "Replace", "pattern": {"String": " "}, "content": ""}),
    "a Precompiled map": byte_level(normalizer={"type": "Precompiled", "precompiled_charsmap": "AAAA"}),
    "a first space that nobody put": spaced(normalizer={"type": "Replace", "pattern": {"String": " "}, "content": "▁"}),
    "spaces that nobody reads": byte_level(normalizer={"type": "Replace", "pattern": {"String": " "}, "content": "▁"}),
    "a decoder of another kind": byte_level(decoder={"type": "WordPiece", "prefix": "##", "cleanup": True}),
    "an unknown key": byte_level(surprise=1),
    "an unknown key of a step": byte_level(normalizer={"type": "NFC", "surprise": 1}),
    "an unknown key of the model": with_model(byte_level(), surprise=1),
    "a post-processor": byte_level(post_processor={"type": "Surprise"}),
    "a token of 120,000 characters": with_model(byte_level(), vocab={**byte_level()["model"]["vocab"], "a" * 120_000: 258}),
    "one huge id": with_model(byte_level(), vocab={**byte_level()["model"]["vocab"], "zz": 3_000_000}),
    "Sequences without end": byte_level(normalizer={"type": "Sequence", "normalizers": [
        {"type": "Sequence", "normalizers": [{"type": "Sequence", "normalizers": [{"type": "Sequence", "normalizers": [
            {"type": "Sequence", "normalizers": []}]}]}]}]}),
}  # fmt: skip


@pytest.mark.parametrize("document", REFUSED.values(), ids=REFUSED)
def test_what_is_not_known_to_be_good_is_refused(document: dict[str, Any]) -> None:
    with pytest.raises(TokenizerError) as error:
        load(document)
    assert error.value.what and (error.value.found or error.value.where)


def test_the_layouts_in_use_are_known_to_be_good() -> None:
    assert load(byte_level()).decode(load(byte_level()).encode(TEXTS[0]).ids) == TEXTS[0]
    digits = {"type": "Digits", "individual_digits": True}
    good = [
        spaced(),
        byte_level(normalizer={"type": "NFC"}),
        byte_level(pre_tokenizer=cut(digits)),
        byte_level(pre_tokenizer=cut(*(split({"Regex": expression}) for expression in PATTERNS.values()))),
        byte_level(post_processor={"type": "TemplateProcessing", "single": [], "pair": [], "special_tokens": {}}),
        spaced(normalizer=None, pre_tokenizer={
            "type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": False}),
    ]  # fmt: skip
    for document in good:
        tokenizer = load(document)
        assert tokenizer.decode(tokenizer.encode(TEXTS[0]).ids) == TEXTS[0]


# The trial


def test_a_file_that_would_abort_hang_or_eat_memory_does_so_in_the_child(monkeypatch: pytest.MonkeyPatch) -> None:
    vocabulary = train_characters(["a"]).vocabulary
    prefixed = {
        "type": "BPE",
        "continuing_subword_prefix": "x",
        "vocab": {"h": 0, "é": 1, "hé": 2},
        "merges": [["h", "é"]],
    }
    aborts = json.dumps(byte_level(model=prefixed, added_tokens=[]))
    monkeypatch.setattr(engine, "TRIAL_SECONDS", 3.0)
    with pytest.raises(TokenizerError, match="fails when it is tried"):
        engine._try(json.dumps(byte_level(pre_tokenizer={"type": "FixedLength", "length": 0})), vocabulary)
    with pytest.raises(TokenizerError, match="fails when it is tried"):
        engine._try(json.dumps(byte_level(pre_tokenizer=cut(split({"Regex": "((.|.)*)*x$"})))), vocabulary)
    with pytest.raises(TokenizerError, match="fails when it is tried"):
        engine._try(aborts, vocabulary)  # here it would end this very process


def test_our_own_files_are_not_tried_and_others_once(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[str] = []
    original = engine.try_apart
    monkeypatch.setattr(
        engine, "try_apart", lambda module, *more, **options: tried.append(module) or original(module, *more, **options)
    )
    for own in (train_bpe(["low lower lowest"] * 3, 270, specials="none"), train_characters(["abc"])):
        assert Tokenizer.from_json(own.json, own.config).json == own.json
    assert not tried
    for _ in range(3):
        load(spaced())
    assert len(tried) == 1
    load(with_model(spaced(), ignore_merges=True))
    assert len(tried) == 2


def test_the_trial_answers_what_is_wrong() -> None:
    assert answer({"document": "{}", "texts": []})
    assert answer({"document": json.dumps(byte_level()), "texts": ["a", "é"]}) == ""


# Control tokens


def reached_by_merges() -> dict[str, Any]:
    """What `BpeTrainer(special_tokens=["<bos>"])` makes of a text in which `<bos>` is written."""
    trained = tokenizers.Tokenizer(models.BPE())
    trained.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    trained.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=["<bos>", "<eos>"], initial_alphabet=list(BYTE_CHARACTERS), show_progress=False
    )
    trained.train_from_iterator(["a<bos>b <bos> the<eos>"] * 50, trainer)
    document = json.loads(trained.to_str())
    assert "<bos>" in document["model"]["vocab"] and document["added_tokens"][0]["special"]
    return document


def ordinary_and_special(content: str, document: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """A token of the model that is listed as special too."""
    vocab = document["model"]["vocab"]
    token_id = vocab.get(content, max([*vocab.values(), *(token["id"] for token in document["added_tokens"])]) + 1)
    made = with_model(document, vocab={**vocab, content: token_id}, **fields)
    others = [token for token in document["added_tokens"] if token["content"] in vocab]
    return made | {"added_tokens": [*others, {"id": token_id, "content": content, **SPECIAL}]}


REACHED: dict[str, Callable[[], dict[str, Any]]] = {
    "merges": reached_by_merges,
    "a whole piece": lambda: ordinary_and_special("the", byte_level(), ignore_merges=True),
    "a merge of ours": lambda: ordinary_and_special("the", byte_level()),
    "the space in front": lambda: ordinary_and_special("▁he", spaced()),
    "a rare byte": lambda: ordinary_and_special("<0x01>", spaced()),
    "the unknown token": lambda: with_model(spaced(), unk_token="<s>"),
}


@pytest.mark.parametrize("make", REACHED.values(), ids=REACHED)
def test_text_becomes_no_control_token_whichever_way_it_is_reached(make: Callable[[], dict[str, Any]]) -> None:
    tokenizer = load(make())
    control = set(tokenizer.specials.values())
    for text in ("a<bos>b <bos> the <eos>", "he he the", "the", *TEXTS, "\x02", *tokenizer.specials):
        for ids in (tokenizer.encode(text).ids, tokenizer.encode_ids([text])[0].tolist()):
            assert not control & set(ids)
            if "▁" not in text:  # such files cannot tell this character from a space
                assert tokenizer.decode(ids) == text


@pytest.mark.parametrize(
    ("document", "message"),
    [
        (ordinary_and_special("Ġ", byte_level()), "cannot spell every text"),
        (ordinary_and_special("<0x41>", spaced()), "cannot spell every text"),
        (byte_level(added_tokens=[{"id": 104, "content": "<eos>", **SPECIAL}]), "same id"),
        (spaced(added_tokens=[{"id": 9, "content": "</s>", **SPECIAL}]), "two ids"),
        (byte_level(added_tokens=[{"id": 258, "content": "<eos>", **SPECIAL},
                                  {"id": 258, "content": "x y", **SPECIAL, "special": False}]), "same id"),
        (byte_level(added_tokens=[{"id": 258, "content": "<eos>", **SPECIAL},
                                  {"id": 258, "content": "<eos>", **SPECIAL, "special": False}]), "given twice"),
        (byte_level(added_tokens=[{"id": 258, "content": "<eos>", **SPECIAL, "special": 1}]), "neither special"),
    ],
)  # fmt: skip
def test_files_in_which_text_would_have_to_become_one_are_refused(document: dict[str, Any], message: str) -> None:
    with pytest.raises(TokenizerError, match=message):
        load(document)


def test_what_no_token_spells_is_an_error_and_not_lost() -> None:
    tokenizer = load(ordinary_and_special("<0x01>", spaced()))
    for call in (tokenizer.encode, tokenizer.encode_pieces, lambda text: tokenizer.encode_ids([text])):
        with pytest.raises(TokenizerError, match="no token"):
            call("a\x01b")


def test_an_added_token_takes_no_space_beside_it_away() -> None:
    greedy = {"id": 260, "content": "<x>", **SPECIAL, "special": False, "lstrip": True, "rstrip": True}
    tokenizer = load(byte_level(added_tokens=[*byte_level()["added_tokens"], greedy]))
    assert tokenizer.decode(tokenizer.encode("a  <x>  b").ids) == "a  <x>  b"


# Expressions

PUBLISHED = [
    *PATTERNS.values(),
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s+",
    r"[\p{Han}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lo}&&[^\p{Han}]]*[\p{Ll}\p{Lo}&&[^\p{Han}]]+",
    r" ?[^(\s|[.,!?…。，、।۔،])]+", r"[一-龥ࠀ-一가-퟿]+", r"\s+$", r"[0-9][0-9][0-9]", r"\x41\u0042",
]  # fmt: skip


@pytest.mark.parametrize("expression", PUBLISHED)
def test_published_expressions_are_of_the_plain_kind(expression: str) -> None:
    check_expression(expression)


@pytest.mark.parametrize(
    "expression",
    ["", "(a+)+", "((.|.)*)*x$", "(a|a)*b", "(?:a?){30}", "(x+x+)+y", r"(a)\1", r"(?<n>a)\g<n>", r"\p{N}{1,3}+", "a**", "(",
     ")", "[a", "a{2,1}", "a{99999}", "*a", "a?" * 40, "a*" * 20, "(" * 30 + "a" + ")" * 30, r"(?#x)", r"(?{code})", r"\K", "a" * 9_000,
     "\\", r"\p{", "(?", "a{", "[[" * 20, r"(?(1)a|b)", r"\k<a>", r"(?~a)"],
)  # fmt: skip
def test_other_expressions_are_refused(expression: str) -> None:
    with pytest.raises(TokenizerError, match="plain kind"):
        check_expression(expression)


@settings(deadline=None)
@given(st.text(st.sampled_from("ab()[]{}|*+?\\^$,19:!<=i.pLuNx-&"), max_size=24))
def test_every_text_is_an_expression_or_refused(text: str) -> None:
    try:
        check_expression(text)
    except TokenizerError as error:
        assert error.found


# Anything at all

JUNK = st.one_of(
    st.none(), st.booleans(), st.integers(-2, 2), st.integers(-(2**70), 2**70), st.text(max_size=3), st.just([]), st.just({}),
    st.floats(), st.sampled_from(["", "é", "a" * 2_000, [[]], {"String": ""}, {"Regex": "(a*)*"}, {"type": "Sequence"}]),
)  # fmt: skip
KINDS = (
    "Strip",
    "Lowercase",
    "Nmt",
    "BertNormalizer",
    "Whitespace",
    "FixedLength",
    "UnicodeScripts",
    "CTC",
    "WordPiece",
)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_no_step_with_any_value_escapes_as_another_error(data: st.DataObject) -> None:
    section = data.draw(st.sampled_from(sorted(ALLOWED)))
    kind = data.draw(st.sampled_from([*ALLOWED[section], *KINDS]))
    fields = ALLOWED[section].get(kind, {})
    step = {"type": kind, **{name: data.draw(JUNK) for name in fields if data.draw(st.booleans())}}
    document = data.draw(st.sampled_from([byte_level, spaced]))()
    document[section] = step
    try:
        tokenizer = load(document)
    except TokenizerError as error:
        assert error.what
        return
    for text in TEXTS:
        ids = tokenizer.encode(text).ids
        assert not set(ids) & set(tokenizer.specials.values())
        assert isinstance(tokenizer.decode(ids), str)
