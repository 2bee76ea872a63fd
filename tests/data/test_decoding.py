from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pellucid.data.decoding import BLOCK_BYTES, TextDecoder, byte_blocks, text_blocks
from pellucid.errors import DecodingError, InputError
from pellucid.events import NULL, MemoryRecorder

TEXTS = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\ufeff\x00"))


@given(st.binary(), st.integers(4, 20))
def test_blocks_join_to_the_bytes(data: bytes, size: int) -> None:
    blocks = list(byte_blocks(io.BytesIO(data), size))
    assert b"".join(blocks) == data
    assert all(0 < len(block) <= size for block in blocks)


@given(TEXTS, st.integers(4, 20))
def test_no_block_ends_inside_a_character(text: str, size: int) -> None:
    blocks = byte_blocks(io.BytesIO(text.encode()), size)
    assert "".join(block.decode("utf-8") for block in blocks) == text


@given(TEXTS, st.binary(max_size=4).filter(lambda bad: b"\x00" not in bad), TEXTS, st.integers(4, 20))
def test_broken_bytes_are_found_where_they_are(before: str, bad: bytes, after: str, size: int) -> None:
    data = b"." + before.encode() + bad + after.encode()
    decoder = TextDecoder("x", "strict", NULL)
    try:
        expected = data.decode("utf-8")
    except UnicodeDecodeError as error:
        with pytest.raises(DecodingError, match="not UTF-8") as caught:
            [decoder.decode(block) for block in byte_blocks(io.BytesIO(data), size)]
        assert f"byte offset {error.start:,} " in caught.value.found
    else:
        assert "".join(decoder.decode(block) for block in byte_blocks(io.BytesIO(data), size)) == expected


def test_replacing_counts_only_what_was_broken() -> None:
    recorder = MemoryRecorder()
    data = "kept \ufffd and ".encode() + b"\xff broken \xe4\xbd"
    decoder = TextDecoder("x.txt", "replace", recorder)
    assert list(text_blocks(io.BytesIO(data), decoder)) == ["kept \ufffd and \ufffd broken \ufffd"]
    assert [event.data["count"] for event in recorder.events] == [2]


def test_offset_counts_from_the_start_of_a_file_with_a_mark() -> None:
    with pytest.raises(DecodingError) as caught:
        TextDecoder("x.txt", "strict", NULL).decode(b"\xef\xbb\xbfabc\xff")
    assert "byte offset 6 " in caught.value.found


def test_mark_is_removed_only_at_the_start_and_reported() -> None:
    recorder = MemoryRecorder()
    data = ("\ufeffa" + "b" * BLOCK_BYTES + "\ufeff").encode()
    text = "".join(text_blocks(io.BytesIO(data), TextDecoder("x.txt", "strict", recorder)))
    assert text == "a" + "b" * BLOCK_BYTES + "\ufeff"
    assert recorder.names() == ["data.mark_removed"]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32"])
def test_other_marks_are_named(encoding: str) -> None:
    with pytest.raises(DecodingError, match=encoding.upper()):
        TextDecoder("x.txt", "replace", NULL).decode("hello".encode(encoding))


def test_zero_bytes_at_the_start_are_no_text() -> None:
    with pytest.raises(InputError, match="not a text file"):
        TextDecoder("x.txt", "strict", NULL).decode("hello".encode("utf-16-le"))


def test_long_lines_are_cut_at_words_and_paragraphs_are_preferred() -> None:
    assert list(byte_blocks(io.BytesIO(b"one two three"), 10)) == [b"one two ", b"three"]
    assert list(byte_blocks(io.BytesIO(b"aaaaa\n\nb\nc d e"), 10)) == [b"aaaaa\n\n", b"b\nc d e"]
