"""UTF-8, both ways: the bytes of a text, and the text of ids that arrive one at a time.

There: Python's texts may hold halves of surrogate pairs (`"\\ud83d"`), which come from broken files and broken JSON. They
are no characters, no UTF-8 can hold them, and an engine would drop or replace them without a word: they are refused here.

Back: a Chinese character is three bytes and may be three tokens. The bytes of each id go through Python's incremental
UTF-8 decoder, which holds back an unfinished character until its last byte arrives: exact, and constant time per token.
What comes out, put together with the last `flush`, is what decoding all ids at once gives; bytes that cannot be UTF-8
become U+FFFD. This is not a guess from decoded prefixes.
"""

from __future__ import annotations

import codecs
from typing import Protocol

from pellucid.errors import TokenizerError


def text_bytes(text: str, *, before: int = 0, where: str = "") -> bytes:
    """The bytes of a text.

    `before`: how many characters stood before it in the whole of which it is a part; `where`: what it comes from, in words.
    Raises TokenizerError for half of a surrogate pair, with its place.

    >>> text_bytes("é")
    b'\\xc3\\xa9'
    """
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise TokenizerError(
            "the text holds half of a surrogate pair, which is not a character",
            found=f"U+{ord(text[error.start]):04X} at character {before + error.start}",
            where=where,
            hint="decode the bytes that the text came from as UTF-8",
        ) from None


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
