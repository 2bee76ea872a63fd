"""WordPiece: trained as the readable algorithm does, and cut as the engine and transformers' Python code cut."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from unicodedata import category, normalize, ucd_3_2_0

import pytest
import tokenizers
import transformers
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import normalizers
from transformers.models.bert.tokenization_bert_legacy import BertTokenizerLegacy

from pellucid.errors import TokenizerError
from pellucid.events import MemoryRecorder
from pellucid.tokens import plain
from pellucid.tokens.models import wordpiece
from pellucid.tokens.models.wordpiece_words import count_words

WORDS = st.dictionaries(st.text("abcé中", min_size=1, max_size=8), st.integers(2, 40), min_size=1, max_size=12)


def is_old(character: str) -> bool:
    """Whether a character is what it was in Unicode 3.2: Python and the engine follow different versions."""
    return category(character) == ucd_3_2_0.category(character) != "Cn"


OLD = st.characters(exclude_categories=["Cs"]).filter(is_old)
TEXTS = st.text(st.one_of(st.sampled_from("the of and The天下大势 ，。e\u0301ÉßİΣ👨‍👩‍👧‍👦\n\t 19𠮷"), OLD), max_size=40)
SETTINGS = [{"lowercase": True, "strip_accents": None}, {"lowercase": False, "strip_accents": False}]


@settings(max_examples=100)
@given(words=WORDS, num_merges=st.integers(0, 20))
def test_training_equals_the_readable_algorithm(words: dict[str, int], num_merges: int) -> None:
    expected = plain.train_wordpiece(words, num_merges)
    assert wordpiece.train(words, 5 + len(expected)) == [*wordpiece.SPECIALS, *expected]


def test_neither_order_nor_rare_characters_change_the_rest(page: str) -> None:
    words = count_words([page] * 3, lowercase=True, strip_accents=None)
    trained = wordpiece.train(words, 130)
    assert len(trained) == 130 and len(set(trained)) == 130
    assert wordpiece.train(dict(reversed(words.items())), 130) == trained
    assert wordpiece.train({**words, "the\U0001f600": 1}, 130) == trained


def test_characters_that_do_not_fit_are_told() -> None:
    recorder = MemoryRecorder()
    words = {"ab": 9, "中": 5, "国": 1, "x" * 101: 7}
    assert wordpiece.train(words, 10, recorder=recorder)[5:] == ["a", "b", "中", "##b", "ab"]
    told = [(event.name, event.data.get("dropped")) for event in recorder.events]
    assert told == [("tokens.words_left_out", None), ("tokens.characters_dropped", 1)]
    assert wordpiece.train(words, 99)[5:] == ["a", "b", "中", "##b", "ab", "国"]  # there is room
    assert wordpiece.train({"ab": 9, "中": 5}, 7)[5:] == ["a"]
    with pytest.raises(TokenizerError, match="5 special tokens and one character"):
        wordpiece.train({"a": 1}, 5)


@pytest.fixture(scope="module", params=SETTINGS, ids=["lowercase", "cased"])
def options(request: pytest.FixtureRequest) -> dict[str, bool | None]:
    return request.param


@pytest.fixture(scope="module")
def vocabulary(page: str, options) -> list[str]:
    words = count_words([page, "e\u0301É 👨👩"] * 3, **options)
    return wordpiece.train(words, 260)


@pytest.fixture(scope="module")
def engine(vocabulary: list[str], options) -> tokenizers.Tokenizer:
    engine = tokenizers.Tokenizer.from_str(json.dumps(wordpiece.layout(vocabulary, **options)))
    engine.encode_special_tokens = True
    return engine


@settings(max_examples=200)
@given(text=TEXTS)
def test_the_engine_gives_the_tokens_of_the_readable_algorithm(engine, vocabulary, text: str) -> None:
    words = engine.pre_tokenizer.pre_tokenize_str(engine.normalizer.normalize_str(text))
    expected = [token for word, _ in words for token in plain.encode_wordpiece(word, vocabulary)]
    assert engine.encode(text, add_special_tokens=False).tokens == expected


@pytest.fixture(scope="module")
def python_bert(vocabulary, options, tmp_path_factory: pytest.TempPathFactory) -> BertTokenizerLegacy:
    file = tmp_path_factory.mktemp("bert") / "vocab.txt"
    file.write_text("".join(token + "\n" for token in vocabulary), encoding="utf-8")
    return BertTokenizerLegacy(
        str(file), do_lower_case=options["lowercase"], strip_accents=options["strip_accents"], never_split=[]
    )


CLEAN = normalizers.BertNormalizer(clean_text=True, handle_chinese_chars=True, strip_accents=False, lowercase=False)


@example(text="e\x1f\u0301")
@settings(max_examples=200)
@given(text=TEXTS)
def test_transformers_python_code_gives_the_same_tokens(engine, python_bert, text: str) -> None:
    """It composes characters (NFC) where it has cleaned the text, as neither the original BERT nor the engine does."""
    composed = normalize("NFC", CLEAN.normalize_str(text))
    assert python_bert.tokenize(text) == engine.encode(composed, add_special_tokens=False).tokens


def test_transformers_loads_the_document(vocabulary, options, tmp_path: Path, page: str) -> None:
    document = wordpiece.layout(vocabulary, **options)
    (tmp_path / "tokenizer.json").write_text(json.dumps(document), encoding="utf-8")
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(wordpiece.config(**options)), encoding="utf-8")
    loaded = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert isinstance(loaded, transformers.BertTokenizerFast)
    ids = tokenizers.Tokenizer.from_str(json.dumps(document)).encode(page).ids
    assert loaded(page)["input_ids"] == ids
    assert (ids[0], ids[-1]) == (vocabulary.index("[CLS]"), vocabulary.index("[SEP]"))


@given(word=st.text("abcde", max_size=12))
def test_an_explanation_ends_where_the_tokens_do(word: str) -> None:
    ids = {token: place for place, token in enumerate(["a", "ab", "abc", "b", "##b", "##bc", "##c", "##d", "##da"])}
    explanation = wordpiece.explain(word, ids)
    assert "".join(word[match.start : match.end] for match in explanation.matches) == word[: explanation.reached]
    if explanation.reached == len(word):
        assert explanation.tokens == tuple(match.token for match in explanation.matches)
    else:
        assert explanation.tokens == ("[UNK]",)
    assert not explanation.is_too_long


def test_a_word_of_more_than_100_characters_is_not_tried() -> None:
    explanation = wordpiece.explain("a" * 101, {"a": 0, "##a": 1})
    assert (explanation.is_too_long, explanation.matches, explanation.tokens) == (True, (), ("[UNK]",))


@given(text=TEXTS)
def test_words_are_counted_as_if_the_text_were_cut_whole(engine, options, text: str) -> None:
    words = engine.pre_tokenizer.pre_tokenize_str(engine.normalizer.normalize_str(text))
    assert count_words([text], **options) == Counter(word for word, _ in words)


def test_a_text_without_spaces_is_refused_with_what_to_try() -> None:
    with pytest.raises(TokenizerError) as caught:
        wordpiece.train({"a" * 101: 2}, 300)
    assert (
        caught.value.what
        == "WordPiece learns nothing from words of more than 100 characters, and the text has no others"
    )
    assert caught.value.found == "2 words"
    assert caught.value.hint == "bpe, unigram and char need no spaces: take one of these kinds"


def test_words_that_are_too_long_to_learn_from_are_told() -> None:
    recorder = MemoryRecorder()
    assert wordpiece.train({"a" * 101: 2, "bc": 1}, 300, recorder=recorder)[5:] == ["b", "c", "##c"]
    assert [event.message for event in recorder.events] == ["2 words of more than 100 characters will be unknown"]


def test_characters_without_room_are_told_whatever_their_share() -> None:
    recorder = MemoryRecorder()
    wordpiece.train({"a": 2, **dict.fromkeys("bcdefgh", 1)}, 6, recorder=recorder)
    assert recorder.events[-1].message == (
        "7 characters (77.78% of the text) found no room in the vocabulary, and will be unknown"
    )


def test_words_are_counted_as_berts_normaliser_leaves_them() -> None:
    counts = count_words(["Don't 天下\u0000天"], lowercase=False, strip_accents=False)
    assert counts == Counter({"天": 2, "Don": 1, "'": 1, "t": 1, "下": 1})
