"""Known causes of differences between tokenizers: which strings each explains.

A cause is no excuse by itself: it has to be checked on the string. Most name single characters on which two tables of
Unicode, of different years, do not agree; the two are asked for each such character alone.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Collection
from dataclasses import dataclass

from tokenizers import normalizers

from pellucid.tokens.tokenizer import Tokenizer

Ask = Callable[[list[str]], list[list[int]]]
NEIGHBOURS = (
    ("a", "a"),
    ("1", "1"),
    ("!", "!"),
    (" ", " "),
    ("中", "中"),
    ("\n", "\n"),
    ("a", ""),
    ("", "a"),
    ("!", "a"),
    ("a", "!"),
)


@dataclass(frozen=True)
class Cause:
    """A cause by its name, and which of some strings it explains."""

    name: str
    explains: Callable[[Collection[str], Ask, Tokenizer], set[str]]


def _characters(texts: Collection[str], ask: Ask, tokenizer: Tokenizer) -> set[str]:
    """The strings with a character that between plain neighbours becomes other ids, and that agree without it."""
    characters = sorted(set("".join(texts)))
    probes = [before + c + after for c in characters for before, after in NEIGHBOURS]
    theirs, ours = ask(probes), tokenizer.encode_ids(probes)
    guilty = {
        characters[place // len(NEIGHBOURS)]
        for place, (one, other) in enumerate(zip(theirs, ours, strict=True))
        if one != other.tolist()
    }
    guilty |= {c for c in characters if unicodedata.category(c) == "Cn"}  # of no year that this Python knows
    bare = {text: "".join(c for c in text if c not in guilty) for text in texts if guilty & set(text)}
    if not bare:
        return set()
    theirs, ours = ask(list(bare.values())), tokenizer.encode_ids(list(bare.values()))
    return {text for text, one, other in zip(bare, theirs, ours, strict=True) if one == other.tolist()}


def _composed(texts: Collection[str], _: Ask, __: Tokenizer) -> set[str]:
    return {text for text in texts if unicodedata.normalize("NFC", text) != text}


def _final_sigma(texts: Collection[str], _: Ask, __: Tokenizer) -> set[str]:
    return {text for text in texts if "Σ" in text}


def _tied(texts: Collection[str], ask: Ask, tokenizer: Tokenizer) -> set[str]:
    """SentencePiece adds scores in 32 bits: two cuts whose scores are equal, or almost, may change places."""
    score = {
        i: tokenizer.vocabulary.scores[token]
        for token, i in tokenizer.vocabulary.ids.items()
        if tokenizer.vocabulary.scores
    }
    unknown, asked = tokenizer.vocabulary.unknown_id, list(texts)
    if not score:
        return set()
    found = set()
    for text, theirs in zip(asked, ask(asked), strict=True):
        ours = list(tokenizer.encode(text).ids)
        sums = [sum(score.get(i, 0.0) for i in ids) for ids in (theirs, ours)]
        if theirs.count(unknown) == ours.count(unknown) and abs(sums[0] - sums[1]) <= 1e-6 * max(map(abs, sums)):
            found.add(text)
    return found


def _called_control(texts: Collection[str], _: Ask, tokenizer: Tokenizer) -> set[str]:
    """llama.cpp knows names of control tokens, and takes them for such whatever the file says."""
    ordinary = tokenizer.vocabulary.added.keys() - tokenizer.specials.keys()
    return {text for text in texts if any(name in text for name in ordinary)}


def _after_user_defined(texts: Collection[str], _: Ask, tokenizer: Tokenizer) -> set[str]:
    own = ("<sep>", "lit", "[CLS]")
    return {
        text for text in texts
        if any(unicodedata.combining(after[0]) for piece in own for after in text.split(piece)[1:] if after)
    }  # fmt: skip


def _composes_otherwise(texts: Collection[str], _: Ask, __: Tokenizer) -> set[str]:
    """The engine's tables and Python's are of different years, and put marks into different orders."""
    return {text for text in texts if unicodedata.normalize("NFC", text) != normalizers.NFC().normalize_str(text)}


def _long_word(texts: Collection[str], _: Ask, tokenizer: Tokenizer) -> set[str]:
    if tokenizer.kind != "wordpiece":
        return set()
    return {text for text in texts if any(len(unicodedata.normalize("NFD", word)) > 100 for word in text.split())}


NONE: tuple[Cause, ...] = ()
TABLES = Cause("a character that one of the two tables of Unicode does not know, or has in another class", _characters)
BERT = (
    TABLES,
    Cause("composed first (NFC) by transformers' Python, not by BERT's own code nor here", _composed),
    Cause("Σ at the end of a word becomes ς in Python, σ in BERT's C++ and Rust", _final_sigma),
)
USER_DEFINED = (
    Cause("two cuts with the same score, which SentencePiece adds up in 32 bits", _tied),
    Cause("a combining mark behind a user-defined piece, which tokenizer.json cannot keep apart", _after_user_defined),
)
NORMALIZED = (Cause("marks are put in order (NFC) by tables of different years", _composes_otherwise),)
LLAMA_CPP = (
    Cause(
        "text that spells a token which the file calls ordinary and llama.cpp, by its name, a control token",
        _called_control,
    ),
    Cause("a word of more than 100 characters, unknown to BERT, which llama.cpp cuts all the same", _long_word),
    TABLES,
)
