"""Counts in words: "1 token", "2 tokens"."""

from __future__ import annotations


def counted(number: int, thing: str) -> str:
    """A number of things, in English: the catalogue of another language knows them by the plural.

    >>> counted(1, "document"), counted(0, "token"), counted(12_400, "further file")
    ('1 document', '0 tokens', '12,400 further files')
    """
    return f"{number:,} {thing}" if number == 1 else f"{number:,} {thing}s"
