"""Training: the same merges as the readable algorithm, deterministic, bounded, and every shrinking told."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pellucid.errors import SettingsError, TokenizerError
from pellucid.events import MemoryRecorder
from pellucid.settings import Layer, resolve
from pellucid.tokens import plain
from pellucid.tokens import tokenizer as tokenizer_module
from pellucid.tokens.byte_characters import BYTE_CHARACTERS
from pellucid.tokens.choose import choose_tokenizer, train_tokenizer
from pellucid.tokens.layout import special_names
from pellucid.tokens.patterns import PATTERNS, pattern_name, segments
from pellucid.tokens.settings import TokenizerSettings
from pellucid.tokens.tokenizer import Tokenizer
from pellucid.tokens.train import train_bpe, train_characters, train_unigram, train_wordpiece, train_words

WORDS = st.lists(st.text("abcé", min_size=1, max_size=8), min_size=1, max_size=30)
MIXED = st.text(st.sampled_from("ab ',中文，。\n\r\t 12x!"), max_size=60)


def spell(data: bytes) -> str:
    """Bytes as the byte-level layout writes them."""
    return "".join(BYTE_CHARACTERS[byte] for byte in data)


@settings(max_examples=60)
@given(words=WORDS, size=st.integers(258, 290))
def test_merges_equal_the_readable_algorithm(words: list[str], size: int) -> None:
    trained = train_bpe(words, size, specials="none")  # a word of letters is one piece
    expected = plain.train(Counter(word.encode() for word in words), size - 258)
    assert trained.vocabulary.merges[: len(expected)] == tuple((spell(a), spell(b)) for a, b in expected)
    assert trained.vocab_size <= size


@settings(max_examples=60)
@given(words=WORDS, probe=st.text("abcé", max_size=20))
def test_encoding_equals_the_readable_algorithm(words: list[str], probe: str) -> None:
    trained = train_bpe(words, 280, specials="none")
    ranks = {pair: rank for rank, pair in reversed(list(enumerate(trained.vocabulary.merges)))}
    expected = plain.encode(list(spell(probe.encode())), ranks)
    assert [trained.vocabulary.ids[symbol] for symbol in expected] == list(trained.encode(probe).ids)


def test_the_textbook_example() -> None:
    """Wikipedia's "aaabdaaabac": aa, then the tie of a+b and aa+a, as every byte pair encoding shows it."""
    assert plain.train({b"aaabdaaabac": 1}, 3)[0] == (b"a", b"a")
    assert plain.encode(list("aaabdaaabac"), {("a", "a"): 0, ("aa", "a"): 1, ("aaa", "b"): 2}) == [
        *("aaab", "d", "aaab", "a", "c")
    ]


def test_tokens_have_their_ids_in_the_order_of_merges(bpe: Tokenizer) -> None:
    joined = dict.fromkeys(left + right for left, right in bpe.vocabulary.merges)
    assert [bpe.vocabulary.ids[token] for token in joined] == list(range(256, bpe.vocab_size - len(bpe.specials)))


def test_training_is_deterministic_and_does_not_depend_on_the_order_of_texts(page: str) -> None:
    lines = page.splitlines(keepends=True) * 4
    assert train_bpe(lines, 380).sha256 == train_bpe(lines, 380).sha256 == train_bpe(reversed(lines), 380).sha256
    assert train_characters(lines).sha256 == train_characters(reversed(lines)).sha256


def test_chinese_tokens_are_short_and_keep_clear_of_punctuation() -> None:
    tokenizer = train_bpe(["，天下大势分久必合，合久必分。"] * 50, 400)
    texts = [tokenizer.token_text(i) for i in range(256, tokenizer.vocab_size - len(tokenizer.specials))]
    assert any(len(text) == 4 for text in texts if "<" not in text)
    assert all(len(text) <= 4 for text in texts if "<" not in text)
    assert not any("，" in text and len(text) > 1 for text in texts if "<" not in text)
    unlimited = train_bpe(["，天下大势分久必合，合久必分。"] * 50, 400, max_han=0)
    assert "，天下大势分久必合" in [
        unlimited.token_text(i) for i in range(256, unlimited.vocab_size - len(unlimited.specials))
    ]


@pytest.mark.parametrize(
    ("max_token_bytes", "tokens", "why"),
    [
        (1, [], "no other part of the text of at most 1 byte is frequent enough"),
        (2, ["ab", "cd", "ef"], "no other part of the text of at most 2 bytes is frequent enough"),
        (3, ["ab", "cd", "ef"], "no other part of the text of at most 3 bytes is frequent enough"),
        (4, ["ab", "cd", "ef", "abcd"], "no other part of the text of at most 4 bytes is frequent enough"),
        (5, ["ab", "cd", "ef", "abcd"], "no other part of the text of at most 5 bytes is frequent enough"),
        (6, ["ab", "cd", "ef", "abcd", "abcdef"], "no other part of the text of at most 6 bytes is frequent enough"),
        (64, ["ab", "cd", "ef", "abcd", "abcdef"], "no other part of the text is frequent enough"),
    ],
)
def test_the_longest_token_has_as_many_bytes_as_asked(max_token_bytes: int, tokens: list[str], why: str) -> None:
    recorder = MemoryRecorder()
    asked = {"max_token_bytes": max_token_bytes, "specials": "none", "recorder": recorder}
    tokenizer = train_bpe(["abcdef\nabcdef\nabcdef"], 300, **asked)  # type: ignore[arg-type]
    found = [tokenizer.token_text(i) for i in range(256, tokenizer.vocab_size - len(tokenizer.specials))]
    assert found == tokens
    assert recorder.events[-1].message == f"vocabulary 300 -> {258 + len(tokens)}: {why}"


def test_no_token_is_longer_than_asked() -> None:
    texts = ["=" * 200 + "\n" + "x" * 200] * 3
    longest = [max(map(len, train_bpe(texts, 400, max_token_bytes=m).vocabulary.token_bytes)) for m in (4, 16, 1000)]
    assert longest[0] == 4 and longest[1] == 16 < longest[2]


@pytest.mark.parametrize("text", ["a", "中", "ab", "\n", "\0"])
def test_the_smallest_texts_work_and_the_smaller_vocabulary_is_told(text: str) -> None:
    recorder = MemoryRecorder()
    tokenizer = train_bpe([text], 512, recorder=recorder)
    assert tokenizer.vocab_size == 256 + len(special_names("standard"))
    assert tokenizer.decode(tokenizer.encode(text).ids) == text
    assert recorder.names() == ["tokens.vocabulary_small"]


def test_a_vocabulary_that_fills_up_is_exactly_as_asked(page: str) -> None:
    recorder = MemoryRecorder()
    assert train_bpe([page] * 3, 300, recorder=recorder).vocab_size == 300
    assert recorder.events == []


@pytest.mark.parametrize("train", [train_bpe, lambda texts, size: train_characters(texts, vocab_size=size)])
def test_impossible_requests_are_refused(train) -> None:
    with pytest.raises(TokenizerError, match="at least 280 tokens: 256 bytes and 24 special tokens"):
        train(["text"], 279)
    with pytest.raises(TokenizerError, match="no text"):
        train([], 300)
    with pytest.raises(TokenizerError, match="no text"):
        train(["", ""], 300)
    with pytest.raises(TokenizerError, match=r"U\+DC00 at character 1"):
        train(["fine", "a\udc00"], 300)


def test_unknown_pattern_and_sample_size_are_refused() -> None:
    with pytest.raises(TokenizerError, match="known: qwen2, llama3"):
        train_bpe(["text"], 300, pattern="gpt9")
    with pytest.raises(TokenizerError, match="sample_bytes must lie between"):
        train_bpe(["text"], 300, sample_bytes=(1 << 40) + 1)


def test_an_error_in_the_texts_passes_through_unchanged() -> None:
    def texts() -> Iterator[str]:
        yield "fine"
        raise LookupError("the ninth file")

    with pytest.raises(LookupError, match="the ninth file"):
        train_bpe(texts(), 300)


def test_a_large_text_is_thinned_evenly_when_its_size_is_known() -> None:
    texts = [word * 10_000 for word in ("red ", "green ", "blue ", "white ", "black ", "brown ", "gold ", "pink ")]
    total, recorder = sum(map(len, texts)) // 4, MemoryRecorder()
    tokenizer = train_bpe(texts, 320, sample_bytes=total, total_bytes=total * 4, recorder=recorder)
    sampled = next(event for event in recorder.events if event.name == "tokens.sampled")
    assert 0.7 * total <= sampled.data["used_bytes"] <= total
    assert {b" red", b" blue", b" brown", b" pink"} <= set(tokenizer.vocabulary.token_bytes)


def test_without_a_known_size_training_reads_no_further_than_the_limit() -> None:
    read = []

    def texts() -> Iterator[str]:
        for number in range(1000):
            read.append(number)
            yield "some words here " * 100

    recorder = MemoryRecorder()
    train_bpe(texts(), 300, sample_bytes=10_000, recorder=recorder)
    assert "tokens.sampled" in recorder.names()
    assert len(read) == 7


def test_rare_characters_fall_to_bytes_and_it_is_told() -> None:
    recorder = MemoryRecorder()
    tokenizer = train_characters(["aaabbc中"], vocab_size=260, specials="none", recorder=recorder)
    assert [tokenizer.token_text(i) for i in tokenizer.encode("ab").ids] == ["a", "b"]
    assert list(tokenizer.encode("c中").ids) == list("c中".encode())
    assert recorder.events[0].data == {"dropped": 2, "share": 2 / 7, "vocab_size": 260}


def test_every_character_of_the_text_is_one_token(characters: Tokenizer, page: str) -> None:
    assert len(characters.encode(page)) == len(page)
    assert characters.vocab_size == 256 + len(set(page)) + len(special_names("standard"))


@pytest.mark.parametrize("name", PATTERNS)
@settings(max_examples=80)
@given(text=MIXED, size=st.integers(1, 5))
def test_cutting_a_text_into_segments_changes_no_id(name: str, text: str, size: int) -> None:
    tokenizer = trained_with(name)
    parts = list(segments(text, size))
    assert "".join(parts) == text
    assert [piece for part in parts for piece in pieces_of(tokenizer, part)] == pieces_of(tokenizer, text)
    assert tokenizer.vocabulary.pattern == name == pattern_name(PATTERNS[name])


def test_a_text_without_a_place_to_cut_stays_whole() -> None:
    assert list(segments("中" * 50, 5)) == ["中" * 50]
    assert list(segments("", 5)) == [""]


@pytest.mark.parametrize(("name", "pieces"), [("qwen2", "1|2|3|4"), ("llama3", "123|4"), ("gpt2", "1234")])
def test_patterns_cut_numbers_as_their_models_do(name: str, pieces: str) -> None:
    assert "|".join(pieces_of(trained_with(name), "1234")) == pieces


@pytest.mark.parametrize(
    ("num_bytes", "size"), [(2, 512), (511_999, 512), (512_000, 1024), (1_115_394, 2048), (10**9, 8192)]
)
def test_the_ladder_of_sizes(num_bytes: int, size: int) -> None:
    recorder = MemoryRecorder()
    chosen = choose_tokenizer(num_bytes, TokenizerSettings(), recorder=recorder)
    assert (chosen.kind, chosen.vocab_size) == ("bpe", size)
    assert recorder.names() == ["tokens.chosen"]


def test_what_a_person_sets_is_taken_as_it_is() -> None:
    recorder = MemoryRecorder()
    explicit = TokenizerSettings(kind="bpe", vocab_size=999)
    assert choose_tokenizer(10, explicit, recorder=recorder) == explicit
    assert choose_tokenizer(10, TokenizerSettings(kind="char"), recorder=recorder).vocab_size is None
    assert recorder.events == []


def test_training_by_settings(page: str) -> None:
    assert train_tokenizer([page], 400, TokenizerSettings(kind="char")).kind == "char"
    plain_settings = TokenizerSettings(vocab_size=270, specials="none")
    assert list(train_tokenizer([page], 400, plain_settings).specials) == ["<bos>", "<eos>"]
    by_settings = train_tokenizer([page], len(page.encode()), TokenizerSettings(vocab_size=290, pattern="gpt2"))
    assert by_settings.sha256 == train_bpe([page], 290, pattern="gpt2").sha256


def test_settings_check_their_ranges() -> None:
    with pytest.raises(SettingsError, match="vocab_size must be at least 4"):  # of whole words; each kind has its own
        resolve(TokenizerSettings, Layer("command line", {"vocab_size": "3"}))
    with pytest.raises(TokenizerError, match="at least 258 tokens: 256 bytes and 2 special tokens"):
        train_tokenizer(["a"], 1, TokenizerSettings(vocab_size=257, specials="none"))


_TRAINED: dict[str, Tokenizer] = {}


def trained_with(name: str) -> Tokenizer:
    corpus = "ab 12 'x'! ab,ab\n\n中文，中文。a\r\n  b  12 " * 5
    return _TRAINED.setdefault(name, train_bpe([corpus], 330, pattern=name))


def pieces_of(tokenizer: Tokenizer, text: str) -> list[str]:
    return [text[piece.offsets[0][0] : piece.offsets[-1][1]] for piece in tokenizer.encode_pieces(text)]


def test_segments_are_what_the_fast_path_uses(bpe: Tokenizer, page: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    def spy(text: str, size: int) -> Iterator[str]:
        seen.append(size)
        return segments(text, size)

    monkeypatch.setattr(tokenizer_module, "segments", spy)
    bpe.encode_ids([page])
    assert seen == [tokenizer_module.SEGMENT]


@pytest.mark.parametrize("size", [3, (1 << 22) + 1, 10**12])
def test_a_vocabulary_that_no_model_has_is_refused(size: int) -> None:
    with pytest.raises(TokenizerError) as caught:
        train_bpe(["a text"], size)
    assert "ask for" in caught.value.hint
    with pytest.raises(SettingsError, match="vocab_size must be at"):
        resolve(TokenizerSettings, Layer("command line", {"vocab_size": str(size)}))


@pytest.mark.parametrize(
    ("train", "least"), [(train_bpe, 258), (train_unigram, 258), (train_wordpiece, 8), (train_words, 4)]
)
def test_each_kind_says_its_smallest_vocabulary(train: Callable[..., Tokenizer], least: int) -> None:
    with pytest.raises(TokenizerError, match=f"at least {least} tokens"):
        train(["a text"], least - 1, specials="none")
    assert train(["a a a"], least, specials="none").vocab_size <= least
