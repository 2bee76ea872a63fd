"""How well a tokenizer fits a text: characters and bytes per token, script by script, and the tokens worth a look.

    characters per token = characters of the text / tokens it became

Higher is shorter for the model to read, at the price of a larger vocabulary. The numbers are counts over the given
texts, not estimates; a text in another style gives others.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from pellucid.tokens.tokenizer import Tokenizer

HAN = ((0x2E80, 0x2FDF), (0x3005, 0x3007), (0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x3FFFF))
SCRIPTS = ("LATIN", "CYRILLIC", "GREEK", "ARABIC", "HEBREW", "HIRAGANA", "KATAKANA", "HANGUL", "THAI", "DEVANAGARI")
NUM_LONGEST = 20


@dataclass(frozen=True, kw_only=True)
class ScriptCount:
    """One script's share: its characters, their bytes in UTF-8, and the tokens that begin with it."""

    characters: int
    bytes: int
    tokens: int

    @property
    def bytes_per_token(self) -> float:
        """Bytes of this script for each token that begins with it; infinite if it only ever continues a token."""
        return self.bytes / self.tokens if self.tokens else float("inf")


@dataclass(frozen=True, kw_only=True)
class Fit:
    """What a tokenizer made of some texts."""

    characters: int
    bytes: int
    tokens: int
    scripts: dict[str, ScriptCount]  # the largest first
    longest: tuple[tuple[str, int], ...]  # (text of a token, times it occurs), by characters
    used: int  # different tokens that occur
    vocab_size: int

    @property
    def characters_per_token(self) -> float:
        """Characters for each token; 0 for an empty text."""
        return self.characters / self.tokens if self.tokens else 0.0

    @property
    def bytes_per_token(self) -> float:
        """Bytes for each token; 0 for an empty text."""
        return self.bytes / self.tokens if self.tokens else 0.0


def measure_fit(tokenizer: Tokenizer, texts: Iterable[str]) -> Fit:
    """Count characters, bytes and tokens over some texts.

    >>> from pellucid.tokens.train import train_characters
    >>> measure_fit(train_characters(["中文 ok"]), ["中文 ok"]).characters_per_token
    1.0
    """
    characters: Counter[str] = Counter()
    sizes: Counter[str] = Counter()
    begun: Counter[str] = Counter()
    uses: Counter[int] = Counter()
    for text in texts:
        encoding = tokenizer.encode(text)
        uses.update(encoding.ids)
        begun.update(script_of(text[start]) for start, end in encoding.offsets if start < end)
        for character, count in Counter(text).items():
            script = script_of(character)
            characters[script] += count
            sizes[script] += count * len(character.encode("utf-8"))
    ordered = sorted(characters, key=lambda script: (-sizes[script], script))
    return Fit(
        characters=characters.total(),
        bytes=sizes.total(),
        tokens=uses.total(),
        scripts={s: ScriptCount(characters=characters[s], bytes=sizes[s], tokens=begun[s]) for s in ordered},
        longest=_longest(tokenizer, uses),
        used=len(uses),
        vocab_size=tokenizer.vocab_size,
    )


@lru_cache(maxsize=1 << 16)
def script_of(character: str) -> str:
    """A character's script: han, latin, …, or digit, space, punctuation, other.

    >>> [script_of(character) for character in "中a7，"]
    ['han', 'latin', 'digit', 'punctuation']
    """
    if any(low <= ord(character) <= high for low, high in HAN):
        return "han"
    if character.isspace():
        return "space"
    category = unicodedata.category(character)[0]
    if category == "L":
        name = unicodedata.name(character, "")
        return next((script.lower() for script in SCRIPTS if script in name), "other")
    return {"N": "digit", "P": "punctuation"}.get(category, "other")


def _longest(tokenizer: Tokenizer, uses: Counter[int]) -> tuple[tuple[str, int], ...]:
    by_length = sorted(uses, key=lambda i: (-len(tokenizer.token_bytes(i).decode("utf-8", "ignore")), -uses[i], i))
    return tuple((tokenizer.token_text(token_id), uses[token_id]) for token_id in by_length[:NUM_LONGEST])
