"""The `tokenizer.json` and `tokenizer_config.json` that describe a tokenizer to every other program.

Each kind lays out its own model (`models/`); what all share is here. The special tokens come last. There is no
normaliser, no added space and no post-processor unless a kind needs one: what goes in comes out.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

from pellucid.tokens.byte_characters import NUM_BYTES
from pellucid.tokens.patterns import PATTERNS

BOS, EOS = "<bos>", "<eos>"
SPECIALS = (BOS, EOS)
SMALLEST = NUM_BYTES + len(SPECIALS)  # every byte, and the special tokens
TOKENIZER_FILE, CONFIG_FILE = "tokenizer.json", "tokenizer_config.json"
NOTHING: Mapping[str, int] = MappingProxyType({})
BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}
FLAGS = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}


def document(
    model: Mapping[str, Any],
    *,
    specials: Mapping[str, int],
    ordinary: Mapping[str, int] = NOTHING,
    normalizer: Mapping[str, Any] | None = None,
    pre_tokenizer: Mapping[str, Any] | None,
    post_processor: Mapping[str, Any] | None = None,
    decoder: Mapping[str, Any],
) -> dict[str, Any]:
    """A whole document around a model.

    `specials`: special token -> id. `ordinary`: tokens beside the model's own that text may spell.
    """
    added = sorted({**ordinary, **specials}.items(), key=lambda one: one[1])
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {"id": token_id, "content": name, **FLAGS, "special": name in specials} for name, token_id in added
        ],
        "normalizer": normalizer,
        "pre_tokenizer": pre_tokenizer,
        "post_processor": post_processor,
        "decoder": decoder,
        "model": model,
    }


def numbered(names: Iterable[str], first: int) -> dict[str, int]:
    """Special tokens with the ids from `first` on: behind the tokens of the model."""
    return {name: first + place for place, name in enumerate(names)}


def split(expression: str) -> dict[str, Any]:
    """The step that cuts a text where an expression matches, and keeps every character."""
    return {"type": "Split", "pattern": {"Regex": expression}, "behavior": "Isolated", "invert": False}


def byte_level_pieces(pattern: str, *more: str) -> dict[str, Any]:
    """The steps that cut a text by a named pattern (and by more expressions), then write bytes as characters."""
    steps = [split(PATTERNS[pattern]), *map(split, more), BYTE_LEVEL]
    return {"type": "Sequence", "pretokenizers": steps}


def config_json(bos: str | None, eos: str | None) -> str:
    """The `tokenizer_config.json` that makes `AutoTokenizer` treat the text exactly as we do."""
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": bos,
        "eos_token": eos,
        "clean_up_tokenization_spaces": False,
    }
    return json.dumps(config, ensure_ascii=False, indent=2) + "\n"


def as_text(node: Mapping[str, Any]) -> str:
    """A document as the text of its file."""
    return json.dumps(node, ensure_ascii=False, indent=1) + "\n"
