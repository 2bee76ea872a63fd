"""Browse the vocabulary: search by text, bytes, pattern or id; filter; sort; one page at a time.

    search   "ing" text that a token contains (upper and lower case alike) · "#262" an id · "0xE4 BD" bytes in order ·
             "/^ [A-Z]/" a regular expression on the token's text
    filter   {"script": "HAN", "kind": "byte", "min_length": 2, "max_length": 8}, lengths in bytes; all parts optional
    sort     "id", "rank" (the merge that made it), "norm" (of its embedding row) or "length"; "-norm" is largest first

A script is the first word of a character's Unicode name, which is a good approximation but not a standard.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from pellucid.errors import RequestError
from pellucid.lens.answer import Answer
from pellucid.lens.pattern import search_texts
from pellucid.lens.state import LensState
from pellucid.lens.token_display import kind_of, label_of_bytes
from pellucid.setting_values import nearest
from pellucid.tokens.tokenizer import Tokenizer

MOST_ROWS = 1_000  # in one answer
MOST_PATTERN = 1_000  # characters of a regular expression
SCRIPTS = {"CJK": "HAN", "IDEOGRAPHIC": "HAN", "DIGIT": "NUMBER"}  # first words that stand for another name
UNNAMED = "OTHER"


@dataclass(frozen=True, kw_only=True)
class VocabularyEntry:
    """One token as an entry of the list."""

    id: int
    data: bytes
    text: str  # the readable text; bytes that are no character as <0xE4>
    label: str
    kind: str  # "text", "byte", "special"
    script: str
    rank: int | None  # None: no merge made it

    @property
    def length(self) -> int:
        """The length of the token in bytes."""
        return len(self.data)


def read_ranks(tokenizer: Tokenizer) -> dict[int, int]:
    """Token id -> the number of the merge that makes it, counted from 0 in the order in which merges were learned."""
    ids = tokenizer.vocabulary.ids
    ranks: dict[int, int] = {}
    for rank, (left, right) in enumerate(tokenizer.vocabulary.merges):
        ranks.setdefault(ids[left + right], rank)
    return ranks


def list_tokens(tokenizer: Tokenizer) -> list[VocabularyEntry]:
    """An entry for every token, in the order of ids."""
    ranks = read_ranks(tokenizer)
    return [_entry(tokenizer, token_id, ranks.get(token_id)) for token_id in range(tokenizer.vocab_size)]


def _entry(tokenizer: Tokenizer, token_id: int, rank: int | None) -> VocabularyEntry:
    data, text = tokenizer.token_bytes(token_id), tokenizer.token_text(token_id)
    kind = kind_of(data)
    return VocabularyEntry(
        id=token_id,
        data=data,
        text=text,
        label=label_of_bytes(data) if data else text,
        kind=kind,
        script=script_of(text) if kind == "text" else kind.upper(),
        rank=rank,
    )


def script_of(text: str) -> str:
    """The script of a text's first letter; without letters, the kind of its first character.

    >>> script_of(" hello"), script_of("你好"), script_of("42"), script_of("?!"), script_of(" ")
    ('LATIN', 'HAN', 'NUMBER', 'SIGN', 'SPACE')
    """
    letter = next((c for c in text if c.isalpha()), None)
    if letter is not None:
        first = unicodedata.name(letter, UNNAMED).split()[0]
        return SCRIPTS.get(first, first)
    if any(c.isdigit() for c in text):
        return "NUMBER"
    return "SPACE" if text.isspace() else "SIGN"


def find(entries: list[VocabularyEntry], search: str) -> list[VocabularyEntry]:
    """The entries that match a search. Raises RequestError for invalid bytes, ids and patterns.

    >>> entry = LessonEntry(id=7, data=b"Hi", text="Hi", label="Hi", kind="text", script="LATIN", rank=None)
    >>> [len(find([entry], search)) for search in ("", "hi", "#7", "0x69", "/^H/", "ho")]
    [1, 1, 1, 1, 1, 0]
    """
    if len(search) > 2 and search.startswith("/") and search.endswith("/"):
        return [entries[place] for place in _search(search[1:-1], [entry.text for entry in entries])]
    test = _find_test(search)
    return [entry for entry in entries if test(entry)]


def _find_test(search: str) -> Callable[[VocabularyEntry], bool]:
    if search.startswith("#") and search[1:].isdecimal():
        wanted = int(search[1:])
        return lambda entry: entry.id == wanted
    if search.lower().startswith("0x"):
        part = _bytes(search)
        return lambda entry: part in entry.data
    folded = search.casefold()
    return lambda entry: folded in entry.text.casefold()


def _bytes(search: str) -> bytes:
    try:
        return bytes.fromhex(search[2:])
    except ValueError as error:
        raise RequestError("these are no bytes", found=search, hint="two hexadecimal digits a byte: 0xE4 BD") from error


def _search(pattern: str, texts: list[str]) -> list[int]:
    if len(pattern) > MOST_PATTERN:
        found = f"{len(pattern):,} characters"
        raise RequestError("this pattern is too long", found=found, hint=f"at most {MOST_PATTERN:,}")
    try:
        return search_texts(pattern, texts)
    except ValueError as error:
        raise RequestError(
            "this is no regular expression", found=f"{pattern}: {error}", hint="search for a text instead"
        ) from error
    except (TimeoutError, MemoryError) as error:
        raise RequestError(
            "this pattern takes too long to search with",
            found=f"{pattern}: {error}",
            hint="a repetition inside a repetition, like (a*)*, can be tried in endlessly many ways: use one of the two",
        ) from error


def sift(entries: list[VocabularyEntry], conditions: Mapping[str, Any]) -> list[VocabularyEntry]:
    """Filter the entries by all conditions. Raises RequestError for an unknown condition."""
    tests: dict[str, Callable[[VocabularyEntry, Any], bool]] = {
        "script": lambda entry, value: entry.script == value,
        "kind": lambda entry, value: entry.kind == value,
        "min_length": lambda entry, value: entry.length >= value,
        "max_length": lambda entry, value: entry.length <= value,
    }
    for name, value in conditions.items():
        if name not in tests or type(value) is not (int if name.endswith("length") else str):
            raise RequestError("this is no filter", found=f"{name}={value!r}", hint=nearest(name, list(tests)))
        entries = [entry for entry in entries if tests[name](entry, value)]
    return entries


def order(entries: list[VocabularyEntry], sort: str, norms_V: np.ndarray) -> list[VocabularyEntry]:
    """The entries sorted; those without a rank come last."""
    name = sort.removeprefix("-")
    keys: dict[str, Callable[[VocabularyEntry], float]] = {
        "id": lambda entry: entry.id,
        "rank": lambda entry: np.inf if entry.rank is None else entry.rank,
        "norm": lambda entry: float(norms_V[entry.id]),
        "length": lambda entry: entry.length,
    }
    if name not in keys:
        raise RequestError("the vocabulary is not sorted by this", found=sort, hint=nearest(name, list(keys)))
    if sort == "-rank":
        return sorted(entries, key=lambda entry: (entry.rank is None, -(entry.rank or 0)))
    return sorted(entries, key=keys[name], reverse=sort.startswith("-"))


def embedding_norms(weight_VD: torch.Tensor) -> np.ndarray:
    """The length of every row of the embedding, [V]."""
    with torch.no_grad():
        return torch.linalg.vector_norm(weight_VD, dim=-1, dtype=torch.float32).cpu().numpy()


def vocabulary(
    lens: LensState,
    *,
    search: str = "",
    sort: str = "id",
    filter: dict | None = None,
    offset: int = 0,
    count: int = 100,
) -> Answer:
    """One page of the matching tokens, the number of all matches, and the scripts to choose from."""
    if count > MOST_ROWS:
        raise RequestError("so many rows are not told at once", found=str(count), hint=f"1 to {MOST_ROWS}")
    entries = lens.keep("entries", lambda: list_tokens(lens.tokenizer))
    norms_V = lens.keep("norms", lambda: embedding_norms(lens.model().embed.weight))
    scripts = lens.keep("scripts", lambda: Counter(entry.script for entry in entries).most_common())
    found = order(find(sift(entries, filter or {}), search), sort, norms_V)
    rows = [_row(entry, float(norms_V[entry.id])) for entry in found[offset : offset + count]]
    return Answer({"rows": rows, "total": len(found), "scripts": [{"script": s, "count": n} for s, n in scripts]})


def _row(entry: VocabularyEntry, norm: float) -> dict[str, Any]:
    shown = {name: getattr(entry, name) for name in ("id", "text", "label", "kind", "script", "rank", "length")}
    return shown | {"bytes": list(entry.data), "norm": norm}


METHODS = {"vocabulary": vocabulary}
