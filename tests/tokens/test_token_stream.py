"""Streaming: never half a character, and together exactly what decoding at once gives."""

from __future__ import annotations

from hypothesis import given
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
