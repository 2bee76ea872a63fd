"""Browse the vocabulary of a tokenizer: an entry for each token; search by text, bytes, pattern or id; filter; sort.

search   "ing" text that a token contains (upper and lower case alike) · "#262" an id · "0xE4 BD" bytes in order ·
         "/^ [A-Z]/" a regular expression on the token's text · with "##", "▁", "Ġ" or "Ċ" in it, the marks of files, also
         what the file writes for the token
filter   {"script": "HAN", "kind": "byte", "min_length": 2, "max_length": 8}, lengths in bytes; all parts optional
sort     "id", "rank" (the merge that made it), "score" (Unigram) or "length"; "-length" is longest first
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from pellucid.errors import RequestError
from pellucid.setting_values import nearest
from pellucid.tokens.byte_characters import BYTE_CHARACTERS
from pellucid.tokens.labels import is_text, label_of_bytes
from pellucid.tokens.plain import CONTINUES
from pellucid.tokens.scripts import script_of
from pellucid.tokens.search import search_texts
from pellucid.tokens.tokenizer import Tokenizer
from pellucid.tokens.vocabulary import METASPACE

MARKS = (CONTINUES, METASPACE, *(BYTE_CHARACTERS[byte] for byte in b" \n"))  # how files write what text does not have
MOST_PATTERN = 1_000  # characters of a regular expression

TokenKind = Literal["text", "byte", "special", "unused"]
SortKey = Callable[["VocabularyEntry"], float | None]


@dataclass(frozen=True, kw_only=True)
class VocabularyEntry:
    """One token as an entry of the list."""

    id: int
    data: bytes
    text: str  # the readable text; bytes that are no character as <0xE4>
    label: str
    kind: TokenKind  # "byte": not whole characters; "unused": an id that no token has
    script: str
    rank: int | None  # None: no merge made it
    score: float | None = None  # Unigram: its log-probability
    spelled: str = ""  # what the file writes for it: ##ing, ▁the, Ġthe

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
    """An entry for every token, in the order of ids.

    >>> from pellucid.tokens.train import train_bpe
    >>> entries = list_tokens(train_bpe(["low low low"], 260, specials="none"))
    >>> [(entry.id, entry.text, entry.rank) for entry in entries if entry.length > 1]
    [(256, 'lo', 0), (257, 'low', 1)]
    """
    vocabulary = tokenizer.vocabulary
    ranks = read_ranks(tokenizer)
    spelled = {i: token for token, i in vocabulary.ids.items()} | {i: token for token, i in vocabulary.added.items()}
    scores = {vocabulary.ids[token]: score for token, score in vocabulary.scores.items() if token in vocabulary.ids}
    return [
        _entry(tokenizer, token_id, ranks.get(token_id), scores.get(token_id), spelled.get(token_id, ""))
        for token_id in range(tokenizer.vocab_size)
    ]


def _entry(tokenizer: Tokenizer, token_id: int, rank: int | None, score: float | None, spelled: str) -> VocabularyEntry:
    data, text = tokenizer.token_bytes(token_id), tokenizer.token_text(token_id)
    kind = kind_of(tokenizer, token_id)
    return VocabularyEntry(
        id=token_id,
        data=data,
        text=text,
        label=label_of(tokenizer, token_id),
        kind=kind,
        script=script_of(text) if kind == "text" else kind.upper(),
        rank=rank,
        score=score,
        spelled=spelled,
    )


def kind_of(tokenizer: Tokenizer, token_id: int) -> TokenKind:
    """What a token is: text, bytes that are not whole characters, a special token, or an id that nothing uses.

    >>> from pellucid.tokens.train import train_bpe
    >>> tokenizer = train_bpe(["a"], 258, specials="none")
    >>> [kind_of(tokenizer, token_id) for token_id in (97, 0xE4, tokenizer.bos_id)]
    ['text', 'byte', 'special']
    """
    data = tokenizer.token_bytes(token_id)
    if not data or token_id == tokenizer.vocabulary.unknown_id:
        return "special" if tokenizer.token_text(token_id) else "unused"
    return "text" if is_text(data) else "byte"


def label_of(tokenizer: Tokenizer, token_id: int) -> str:
    """A short label for a token: its text with white space made visible, or its bytes in hexadecimal.

    >>> from pellucid.tokens.train import train_bpe
    >>> letters = train_bpe(["a"], 258, specials="none")
    >>> [label_of(letters, i) for i in letters.encode(" 你").ids]
    ['·', 'E4', 'BD', 'A0']
    """
    if kind_of(tokenizer, token_id) in ("special", "unused"):
        return tokenizer.token_text(token_id)
    return label_of_bytes(tokenizer.token_bytes(token_id))


def label_of_spelled(tokenizer: Tokenizer, token: str) -> str:
    """A short label for a token as the file spells it; a character without a token is its own label."""
    token_id = tokenizer.vocabulary.ids.get(token)
    return token if token_id is None else label_of(tokenizer, token_id)


def find(entries: Sequence[VocabularyEntry], search: str) -> list[VocabularyEntry]:
    """The entries that match a search. Raises RequestError for invalid bytes, ids and patterns.

    >>> entry = VocabularyEntry(id=7, data=b"Hi", text="Hi", label="Hi", kind="text", script="LATIN", rank=None)
    >>> [len(find([entry], search)) for search in ("", "hi", "#7", "0x69", "/^H/", "ho")]
    [1, 1, 1, 1, 1, 0]
    """
    if len(search) > 2 and search.startswith("/") and search.endswith("/"):
        places = {*_search(search[1:-1], [entry.text for entry in entries])}
        if seeks_spelling(search):
            places |= {*_search(search[1:-1], [entry.spelled for entry in entries])}
        return [entries[place] for place in sorted(places)]
    test = _find_test(search)
    return [entry for entry in entries if test(entry)]


def seeks_spelling(search: str) -> bool:
    """Whether a search has a mark that only files write: `##` inside of a word, ▁ or Ġ for a space, Ċ for a line end.

    >>> seeks_spelling("##ing"), seeks_spelling("#262")
    (True, False)
    """
    return any(mark in search for mark in MARKS)


def sought_id(search: str) -> int | None:
    """The id that a search asks for; None for another search.

    >>> sought_id("#262"), sought_id("262")
    (262, None)
    """
    return int(search[1:]) if search.startswith("#") and search[1:].isdecimal() else None


def _find_test(search: str) -> Callable[[VocabularyEntry], bool]:
    if (wanted := sought_id(search)) is not None:
        return lambda entry: entry.id == wanted
    if search.lower().startswith("0x"):
        part = _bytes(search)
        return lambda entry: part in entry.data
    folded = search.casefold()
    by_spelling = seeks_spelling(search)
    small = _small(search)
    return lambda entry: folded in entry.text.casefold() or (by_spelling and small in _small(entry.spelled))


def _small(spelled: str) -> str:
    """The spelling of a file with A to Z as small letters: a letter beyond them may stand for a byte, and ġ is not Ġ.

    >>> _small("##Ing"), _small("ĠThe")
    ('##ing', 'Ġthe')
    """
    return "".join(character.lower() if character.isascii() else character for character in spelled)


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


def sift(entries: list[VocabularyEntry], conditions: Mapping[str, object]) -> list[VocabularyEntry]:
    """Filter the entries by all conditions. Raises RequestError for an unknown condition."""
    for name, value in conditions.items():
        if name not in FILTERS or type(value) is not (int if name.endswith("length") else str):
            raise RequestError("this is no filter", found=f"{name}={value!r}", hint=nearest(name, list(FILTERS)))
        entries = [entry for entry in entries if FILTERS[name](entry, value)]
    return entries


FILTERS: Mapping[str, Callable[..., bool]] = {
    "script": lambda entry, value: entry.script == value,
    "kind": lambda entry, value: entry.kind == value,
    "min_length": lambda entry, value: entry.length >= value,
    "max_length": lambda entry, value: entry.length <= value,
}
SORTS: Mapping[str, SortKey] = {
    "id": lambda entry: entry.id,
    "rank": lambda entry: entry.rank,
    "score": lambda entry: entry.score,
    "length": lambda entry: entry.length,
}


def known_sorts(entries: Sequence[VocabularyEntry], sorts: Mapping[str, SortKey] = SORTS) -> list[str]:
    """The orders by which some token has a place: a rank is of BPE, a score of Unigram."""
    return [name for name, value in sorts.items() if any(value(entry) is not None for entry in entries)]


def check_sort(entries: Sequence[VocabularyEntry], sort: str) -> None:
    """Raise RequestError for an order that is not known, or by which no token of a vocabulary has a place."""
    name, known = sort.removeprefix("-"), known_sorts(entries)
    if name in SORTS and name not in known:
        raise RequestError(
            f"no token of this vocabulary has a {name}", found=sort, hint=f"it is sorted by {', '.join(known)}"
        )
    order([], sort)


def order(entries: Sequence[VocabularyEntry], sort: str, sorts: Mapping[str, SortKey] = SORTS) -> list[VocabularyEntry]:
    """The entries sorted, by id where they are equal; those that have no such value come last.

    Raises RequestError for a name that is not in `sorts`.
    """
    name = sort.removeprefix("-")
    if name not in sorts:
        raise RequestError("the vocabulary is not sorted by this", found=sort, hint=nearest(name, list(sorts)))
    sign = -1 if sort.startswith("-") else 1

    def place(entry: VocabularyEntry) -> float:
        value = sorts[name](entry)
        return math.inf if value is None else sign * value

    return sorted(entries, key=place)
