"""How verbs show a token: by its label, as `tokenizer show` and the lens do, and in words where it is no text of its own."""

from __future__ import annotations

from collections.abc import Iterable

from pellucid.cli.language import tell, words
from pellucid.tokens.browse import kind_of, label_of
from pellucid.tokens.labels import MARKS
from pellucid.tokens.tokenizer import Tokenizer

SPACE = MARKS[" "]


def token_cell(tokenizer: Tokenizer, token_id: int) -> str:
    """A token in a table: its text with white space made visible, and what it is if that is not plain.

    >>> from pellucid.tokens.train import train_bpe
    >>> letters = train_bpe(["a"], 258, specials="none")
    >>> [token_cell(letters, token_id) for token_id in letters.encode("a 你").ids[:3]]
    ['a', '· (white space)', 'E4 (part of a character)']
    """
    label, kind = label_of(tokenizer, token_id), kind_of(tokenizer, token_id)
    if kind == "byte":
        return f"{label} ({words('part of a character')})"
    if kind == "special":
        return f"{label} ({words('special token')})"
    return f"{label} ({words('white space')})" if not label.strip("".join(MARKS.values())) else label


def tell_marks(cells: Iterable[str]) -> None:
    """Say what the dot in some labels is."""
    if any(SPACE in cell for cell in cells):
        tell("· in a token, · is a space", err=True)
