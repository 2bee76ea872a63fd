"""The values of a GGUF file that describe its tokenizer: how they are called, and each looked up and checked.

Source: the key names are those of llama.cpp.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from pellucid.counts import counted
from pellucid.errors import TokenizerError
from pellucid.tokens.roles import Role
from pellucid.tokens.vocabulary import MOST_TOKEN_CHARACTERS
from pellucid.untrusted import shown, whole

PREFIX = "tokenizer.ggml."
BYTE_LEVEL, SENTENCEPIECE, UNIGRAM, GEMMA, WORDPIECE = "gpt2", "llama", "t5", "gemma4", "bert"
ASSUMED = {  # what llama.cpp assumes where a file does not say, of a vocabulary that has it
    SENTENCEPIECE: {"bos": 1, "eos": 2}, UNIGRAM: {"eos": 1}, WORDPIECE: {"cls": 101, "seperator": 102},
}  # fmt: skip
KEYS: Mapping[str, Role] = {  # how llama.cpp calls the roles; "seperator" is its spelling
    "bos": "bos", "eos": "eos", "eot": "turn_end", "eom": "message_end", "unknown": "unk", "seperator": "sep",
    "padding": "pad", "cls": "cls", "mask": "mask", "fim_pre": "fim_prefix", "fim_suf": "fim_suffix",
    "fim_mid": "fim_middle", "fim_pad": "fim_pad", "fim_rep": "fim_repo", "fim_sep": "fim_separator",
}  # fmt: skip
NONE = 0xFFFFFFFF  # the id of a token that a file says it has not


def texts(values: Mapping[str, Any], name: str, *, least: int = 1) -> list[str]:
    """A list of texts. Raises TokenizerError where there is none, or less than `least` of them, or one far too long."""
    found = values.get(f"{PREFIX}{name}")
    if not isinstance(found, list) or len(found) < least or not all(isinstance(text, str) for text in found):
        raise TokenizerError(f"the file has no {PREFIX}{name}", found=type(found).__name__)
    longest = max(found, key=len, default="")
    if len(longest) > 2 * MOST_TOKEN_CHARACTERS:  # a merge is two tokens
        what = f"an entry of {PREFIX}{name} is longer than any in use"
        raise TokenizerError(what, found=f"{counted(len(longest), 'character')}: {longest[:40]!r} …")
    return found


def flag(values: Mapping[str, Any], name: str, default: bool) -> bool:
    """True or false. Raises TokenizerError for anything else."""
    found = values.get(f"{PREFIX}{name}", default)
    if not isinstance(found, bool):
        raise TokenizerError(f"{PREFIX}{name} is neither true nor false", found=shown(found))
    return found


def numbers(values: Mapping[str, Any], name: str, count: int, default: float | None = None) -> list[Any]:
    """A number for each token. Raises TokenizerError where some are missing and there is no default."""
    found = values.get(f"{PREFIX}{name}")
    if found is None and default is not None:
        return [default] * count
    if not isinstance(found, np.ndarray) or len(found) != count or not np.isfinite(found).all():
        raise TokenizerError(f"{PREFIX}{name} does not have a number for each of the {count:,} tokens")
    return found.tolist()


def special_id(values: Mapping[str, Any], name: str, count: int, kind: str) -> int | None:
    """The id of a special token, as the file or llama.cpp's habit says; None for none. Raises TokenizerError for what is no id."""
    assumed = ASSUMED.get(kind, {}).get(name)
    found = values.get(f"{PREFIX}{name}_token_id", assumed if assumed is not None and assumed < count else None)
    if found is None or (isinstance(found, int) and found == NONE):  # both mean: none
        return None
    try:
        return whole(found, high=count - 1)
    except ValueError as error:
        raise TokenizerError(f"{PREFIX}{name}_token_id is not the id of a token", found=shown(error)) from None


def role_id(values: Mapping[str, Any], name: str, usual: int, count: int) -> int:
    """The id of a token that a WordPiece always has. Raises TokenizerError for what is no id."""
    try:
        return whole(values.get(f"{PREFIX}{name}_token_id", usual), high=count - 1)
    except ValueError as error:
        raise TokenizerError(f"{PREFIX}{name}_token_id is not the id of a token", found=shown(error)) from None
