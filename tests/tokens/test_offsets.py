"""Offsets: each token says which characters and which bytes of the text, as it was given, it stands for."""

from __future__ import annotations

import dataclasses
from itertools import pairwise
from unicodedata import normalize

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizer_documents import fallback_unigram, llama_bpe, load, wordpiece

from pellucid.tokens.charsmap import Charsmap
from pellucid.tokens.encoding import Encoding, find_byte_offsets
from pellucid.tokens.tokenizer import Tokenizer

PARTS = (
    *(
        "a",
        "B",
        " ",
        "  ",
        "the ",
        "It was",
        "中",
        "道可道",
        "，",
        "\n",
        "\r\n",
        "\0",
        "\t",
        "\u0301",
        "e\u0301",
        "é",
        "ﬁ",
    ),
    *(
        "½",
        "ｆ",
        "İ",
        "ǅ",
        "ß",
        "𠮷",
        "\U0002a6df",
        "👨\u200d👩\u200d👧",
        "🇨🇳",
        "👍🏽",
        "▁",
        "<0x41>",
        "<eos>",
        "\u3000",
        "\u200b",
    ),
)
HOSTILE = st.lists(st.sampled_from(PARTS) | st.characters(exclude_categories=["Cs"]), max_size=12).map("".join)


@settings(deadline=None)
@given(text=HOSTILE)
def test_the_bytes_of_an_exact_tokenizer_cover_the_text_without_gap_or_overlap(
    every_kind: Tokenizer, text: str
) -> None:
    if not every_kind.exact:
        return
    encoding, data = every_kind.encode(text), text.encode()
    ends = [0, *(end for _, end in encoding.byte_offsets)]
    assert [start for start, _ in encoding.byte_offsets] == ends[:-1] and ends[-1] == len(data)
    assert [data[a:b] for a, b in encoding.byte_offsets] == [every_kind.token_bytes(i) for i in encoding.ids]
    if text:
        assert (encoding.offsets[0][0], encoding.offsets[-1][1]) == (0, len(text))
    parted = pairwise(encoding.offsets)
    assert all(start in (end, end - 1) for (_, end), (start, _) in parted)  # one character at most is shared


@settings(deadline=None)
@given(text=HOSTILE)
def test_the_spans_of_every_kind_lie_in_the_text_as_it_was_given(every_kind: Tokenizer, text: str) -> None:
    encoding = every_kind.encode(text)
    places = [len(text[:place].encode()) for place in range(len(text) + 1)]
    assert len(encoding.ids) == len(encoding.offsets) == len(encoding.byte_offsets)
    for (start, end), (first, last) in zip(encoding.offsets, encoding.byte_offsets, strict=True):
        assert 0 <= start <= end <= len(text)
        assert places[start] <= first <= last <= places[end]
    pieces = every_kind.encode_pieces(text)
    assert tuple(span for piece in pieces for span in piece.byte_offsets) == encoding.byte_offsets


@settings(deadline=None)
@given(text=HOSTILE)
def test_what_wordpiece_lowercases_is_named_as_it_stands_in_the_text(text: str) -> None:
    tokenizer = load(wordpiece("##ppi", "the", "it", "was", "b"))
    encoding = tokenizer.encode(text)
    for token_id, span in zip(encoding.ids, encoding.byte_offsets, strict=True):
        if token_id != tokenizer.vocabulary.unknown_id:
            meant = tokenizer.token_bytes(token_id).decode().strip()
            plain = normalize("NFD", text.encode()[slice(*span)].decode()).lower()
            assert meant in plain


@pytest.mark.parametrize(
    ("document", "text", "offsets", "byte_offsets"),
    [
        (llama_bpe(), "中é", [(0, 1), (0, 1), (1, 2), (1, 2)], [(0, 0), (0, 3), (3, 4), (4, 5)]),
        (llama_bpe(), "  a", [(0, 1), (0, 1), (1, 3)], [(0, 0), (0, 1), (1, 3)]),
        (fallback_unigram(), "ﬁ 1", [(0, 1), (0, 1), (1, 2), (2, 3)], [(0, 3), (0, 3), (3, 4), (4, 5)]),
        (fallback_unigram(), "½", [(0, 1)] * 6, [(0, 2)] * 6),  # ▁, 1, three bytes of ⁄, 2
        (wordpiece(), "ÀPPLE 想Apple", [(0, 5), (6, 7), (7, 12)], [(0, 6), (7, 10), (10, 15)]),
    ],
    ids=["a space put in front", "spaces", "a ligature", "a fraction", "lowercase"],
)
def test_spans_of_texts_that_are_rewritten(document, text, offsets, byte_offsets) -> None:
    encoding = load(document).encode(text)
    assert (list(encoding.offsets), list(encoding.byte_offsets)) == (offsets, byte_offsets)


def test_spans_behind_a_table_of_replacements() -> None:
    tokenizer = load(fallback_unigram())
    engine = dataclasses.replace(tokenizer._engine, charsmap=Charsmap({"㍑": "the", "e\u0301": "é"}))  # type: ignore[type-var]
    encoding = dataclasses.replace(tokenizer, _engine=engine).encode("㍑e\u0301 中")
    assert [tokenizer.token_text(i) for i in encoding.ids] == [" the", "<0xC3>", "<0xA9>", " ", "中"]
    assert encoding.offsets == ((0, 1), (1, 3), (1, 3), (3, 4), (4, 5))
    assert encoding.byte_offsets == ((0, 3), (3, 6), (3, 6), (6, 7), (7, 10))


def test_a_token_may_end_inside_of_a_character() -> None:
    """Byte-level BPE: a space with the first byte of a character, then its other two."""
    spans = [(0, 2), (1, 2), (2, 3)]
    assert find_byte_offsets(" 中b", spans, [b" \xe4", b"\xb8\xad", b"b"]) == ((0, 2), (2, 4), (4, 5))
    assert find_byte_offsets("", [], []) == ()
    assert Encoding((), (), ()) == Encoding(ids=(), offsets=(), byte_offsets=())
