"""The bytes of a text, UTF-8: the one place where a text that has none is refused.

Python's texts may hold halves of surrogate pairs (`"\\ud83d"`), which come from broken files and broken JSON. They are no
characters, no UTF-8 can hold them, and an engine would drop or replace them without a word.
"""

from __future__ import annotations

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
