"""Streaming: never half a character, and together exactly what decoding at once gives."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from pellucid.tokens.tokenizer import Tokenizer

TEXT = st.text(st.sampled_from("a 中文𠮷😀é\u0301\u200d\n"), max_size=12)


@given(data=st.data())
def test_pushes_and_flush_equal_decode_for_any_ids(tokenizer: Tokenizer, data: st.DataObject) -> None:
    ids = data.draw(st.lists(st.integers(0, tokenizer.vocab_size - 1) | st.integers(0x80, 0xFF), max_size=30))
    stream = tokenizer.stream()
    assert "".join(map(stream.push, ids)) + stream.flush() == tokenizer.decode(ids)


@given(text=TEXT)
def test_every_prefix_is_shown_as_whole_characters(tokenizer: Tokenizer, text: str) -> None:
    ids = tokenizer.encode(text).ids
    stream, shown = tokenizer.stream(), ""
    for count, token_id in enumerate(ids, start=1):
        shown += stream.push(token_id)
        assert text.startswith(shown)
        so_far = tokenizer.decode_bytes(ids[:count])
        assert shown == so_far.decode("utf-8", errors="ignore")
    assert shown == text
    assert stream.flush() == ""


@given(text=TEXT, cut=st.integers(0, 40))
def test_cut_anywhere_the_rest_is_flushed_as_replacement(tokenizer: Tokenizer, text: str, cut: int) -> None:
    ids = tokenizer.encode(text).ids[:cut]
    stream = tokenizer.stream()
    assert "".join(map(stream.push, ids)) + stream.flush() == tokenizer.decode(ids)


def test_special_tokens_are_silent_and_do_not_break_a_character(bpe: Tokenizer) -> None:
    stream = bpe.stream()
    assert [stream.push(i) for i in (0xE4, bpe.eos_id, 0xB8, 0xAD)] == ["", "", "", "中"]


@settings(deadline=None)
@given(text=TEXT | st.text())
def test_the_ids_of_a_text_come_out_of_a_stream_as_they_do_at_once(every_kind: Tokenizer, text: str) -> None:
    """Whatever a kind puts in front, joins or loses: a space before the first word, `##`, bytes, unknown characters."""
    ids = every_kind.encode(text).ids
    stream = every_kind.stream()
    assert "".join(map(stream.push, ids)) + stream.flush() == every_kind.decode(ids)


@settings(deadline=None)
@given(data=st.data())
def test_any_ids_of_any_kind_come_out_of_a_stream_as_they_do_at_once(
    every_kind: Tokenizer, data: st.DataObject
) -> None:
    ids = data.draw(st.lists(st.integers(0, every_kind.vocab_size - 1), max_size=30))
    stream = every_kind.stream()
    assert "".join(map(stream.push, ids)) + stream.flush() == every_kind.decode(ids)


@settings(deadline=None)
@given(text=TEXT | st.text(), cut=st.integers(0, 40))
def test_a_prefix_of_any_kind_is_what_the_stream_has_shown_and_holds_back(
    every_kind: Tokenizer, text: str, cut: int
) -> None:
    ids = every_kind.encode(text).ids[:cut]
    stream = every_kind.stream()
    shown = "".join(map(stream.push, ids))
    assert every_kind.decode(ids).startswith(shown)
    assert shown + stream.flush() == every_kind.decode(ids)
