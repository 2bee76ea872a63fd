"""Streaming decoder: ids become text one at a time, and half a character is never shown.

A Chinese character is three bytes and may be three tokens. The bytes of each id go through Python's incremental UTF-8
decoder, which holds back an unfinished character until its last byte arrives: exact, and constant time per token. What
comes out, put together with the last `flush`, is what decoding all ids at once gives; bytes that cannot be UTF-8 become
U+FFFD. This is not a guess from decoded prefixes.
"""

from __future__ import annotations

import codecs
from typing import Protocol


class HasTokenBytes(Protocol):
    """Anything that knows the bytes behind an id."""

    def token_bytes(self, token_id: int) -> bytes: ...


class StreamDecoder:
    """Turns ids into text as they arrive; made by `Tokenizer.stream()`.

    >>> class Bytes:
    ...     def token_bytes(self, token_id): return bytes([token_id])
    >>> stream = StreamDecoder(Bytes())
    >>> [stream.push(byte) for byte in "中".encode()]
    ['', '', '中']
    """

    def __init__(self, tokens: HasTokenBytes, *, drop_first_space: bool = False) -> None:
        self._tokens = tokens
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._drop_space = drop_first_space

    def push(self, token_id: int) -> str:
        """The text that this id completes: empty while a character is unfinished, and for a special token."""
        data = self._tokens.token_bytes(token_id)
        if self._drop_space and data:
            data, self._drop_space = data.removeprefix(b" "), False
        return self._decoder.decode(data)

    def flush(self) -> str:
        """What an unfinished character at the end becomes (U+FFFD or nothing); the decoder is then as new inside."""
        return self._decoder.decode(b"", final=True)
