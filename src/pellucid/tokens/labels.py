"""Labels for the bytes of a token: readable text, and hexadecimal where the bytes are only a part of a character.

The replacement character U+FFFD is never shown.
"""

from __future__ import annotations

import unicodedata

MARKS = {" ": "·", "\n": "↵", "\t": "⇥", "\r": "␍"}


def label_of_bytes(data: bytes) -> str:
    r"""A short label: the text with white space made visible, other bytes in hexadecimal.

    >>> label_of_bytes(b" hi\n"), label_of_bytes(b"a\xe4\xbd"), label_of_bytes(b"\x00")
    ('·hi↵', 'a E4 BD', '00')
    """
    text = data.decode("utf-8", errors="surrogateescape")
    return " ".join("".join(map(_sign, text)).split())


def _sign(character: str) -> str:
    if 0xDC80 <= ord(character) <= 0xDCFF:  # a byte that is no part of a whole character
        return f" {ord(character) - 0xDC00:02X} "
    if character in MARKS:
        return MARKS[character]
    hidden = unicodedata.category(character) in ("Cc", "Zl", "Zp")
    return f" {ord(character):02X} " if hidden else character


def readable(data: bytes) -> str:
    """Bytes as text; bytes that are not part of a whole character are written as `<0xE4>`.

    >>> readable("中".encode()), readable("中".encode()[:2])
    ('中', '<0xE4><0xB8>')
    """
    text = data.decode("utf-8", errors="surrogateescape")
    return "".join(f"<0x{ord(c) - 0xDC00:02X}>" if 0xDC80 <= ord(c) <= 0xDCFF else c for c in text)


def is_text(data: bytes) -> bool:
    r"""Whether bytes are whole characters.

    >>> is_text("中".encode()), is_text(b"\xe4\xb8")
    (True, False)
    """
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True
