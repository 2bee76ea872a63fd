"""WordPiece in a GGUF file, llama.cpp's kind `bert`: a token that begins a word has a ▁, one inside of a word no mark.

In `vocab.txt` it is the other way round: a token inside of a word has ##. What is in brackets, `[CLS]`, stays as it is.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from pellucid.errors import TokenizerError
from pellucid.events import Event, Recorder
from pellucid.tokens.formats.canonical import forms_instead
from pellucid.tokens.formats.gguf_values import KEYS, NONE, PREFIX, WORDPIECE, flag, role_id
from pellucid.tokens.formats.sentencepiece import CONTROL, UNKNOWN
from pellucid.tokens.formats.vocab_txt import PREFIX as WORDPIECE_PREFIX
from pellucid.tokens.formats.vocab_txt import wordpiece_document
from pellucid.tokens.framing import frame_of_file
from pellucid.tokens.tokenizer import Tokenizer
from pellucid.tokens.vocabulary import METASPACE
from pellucid.untrusted import shown

WORDPIECE_ROLES = {"unknown": 100, "cls": 101, "seperator": 102, "padding": 0, "mask": 103}  # spelled as the files do
WORDPIECE_KEYS = tuple((name, KEYS[name]) for name in WORDPIECE_ROLES)


def read_wordpiece(values: Mapping[str, Any], vocab: Mapping[str, int], kinds: Sequence[int]) -> dict[str, Any]:
    """The kind `bert`."""
    count = len(kinds)
    roles = {
        role_id(values, name, usual, count)
        for name, usual in WORDPIECE_ROLES.items()
        if values.get(f"{PREFIX}{name}_token_id", usual if usual < count else NONE) != NONE
    }
    specials = {i for i, kind in enumerate(kinds) if kind in (UNKNOWN, CONTROL)} | roles
    unknown = role_id(values, "unknown", WORDPIECE_ROLES["unknown"], count)
    spelled = {token if i in specials else _unmark(token): i for token, i in vocab.items()}
    lowercase = flag(values, "normalizer.lowercase", True)
    if len(spelled) < len(vocab):
        raise TokenizerError("two tokens of the file are spelled the same way")
    return wordpiece_document(
        spelled,
        specials,
        unknown=next(token for token, i in spelled.items() if i == unknown),
        lowercase=lowercase,
        strip_accents=flag(values, "normalizer.strip_accents", lowercase),
    )


def wordpiece_values(
    tokenizer: Tokenizer, document: Mapping[str, Any], tokens: list[str], last: int | None, recorder: Recorder
) -> dict[str, Any]:
    """The kind `bert`; changes `tokens` to what begins a word (▁) and what goes on with it (no mark).

    `last` is the token that llama.cpp puts behind a text.
    """
    vocabulary, normalizer = tokenizer.vocabulary, document.get("normalizer") or {}
    if normalizer.get("type") != "BertNormalizer" or not normalizer.get("handle_chinese_chars"):
        raise TokenizerError(
            "llama.cpp prepares a text for WordPiece as BERT does, and this tokenizer does not",
            found=json.dumps(normalizer)[:200], hint=forms_instead(vocabulary, "gguf"),
        )  # fmt: skip
    for token, i in vocabulary.ids.items():
        tokens[i] = _mark(token)
        if _unmark(tokens[i]) != token:
            raise TokenizerError(
                f"a GGUF file marks the beginning of a word with {METASPACE}, which this token has inside",
                found=shown(token), hint=forms_instead(vocabulary, "gguf"),
            )  # fmt: skip
    if frame_of_file(tokenizer).after != (last,):
        message = "llama.cpp puts [SEP] behind every text of a WordPiece when it is asked for special tokens"
        recorder.record(Event(name="tokens.gguf_adds_sep", message=message, level="warning"))
    lowercase, accents = normalizer["lowercase"], normalizer["strip_accents"]
    missing = {f"{name}_token_id": NONE for name, role in WORDPIECE_KEYS if tokenizer.roles.first(role) is None}
    return {
        "model": WORDPIECE,
        "normalizer.lowercase": lowercase,
        "normalizer.strip_accents": lowercase if accents is None else accents,
        **missing,
    }


def _unmark(token: str) -> str:
    """A token of the kind `bert` as `vocab.txt` spells it."""
    if token.startswith(METASPACE) and len(token) > 1:
        return token.removeprefix(METASPACE)
    return token if token.startswith("[") and token.endswith("]") and len(token) > 2 else f"{WORDPIECE_PREFIX}{token}"


def _mark(token: str) -> str:
    """A token of `vocab.txt` as the kind `bert` spells it."""
    if token.startswith(WORDPIECE_PREFIX) and len(token) > len(WORDPIECE_PREFIX):
        return token.removeprefix(WORDPIECE_PREFIX)
    return token if token.startswith("[") and token.endswith("]") and len(token) > 2 else f"{METASPACE}{token}"
