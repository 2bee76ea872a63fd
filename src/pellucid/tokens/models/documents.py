"""What the `tokenizer.json` of every kind has in common: its frame, special tokens, and the steps that kinds share."""

from __future__ import annotations

from collections.abc import Mapping

BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}
HAN = r"\p{Han}"


def split_by(pattern: str) -> dict[str, object]:
    """The step that cuts a text before and after every match of a regular expression, and keeps all of it."""
    return {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}


def document(
    *,
    model: Mapping[str, object],
    specials: Mapping[str, int],
    pre_tokenizer: Mapping[str, object],
    decoder: Mapping[str, object],
    normalizer: Mapping[str, object] | None = None,
    post_processor: Mapping[str, object] | None = None,
) -> dict[str, object]:
    """A whole `tokenizer.json` as a value. `specials`: special token -> id."""
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": token_id, "content": name, **flags} for name, token_id in specials.items()],
        "normalizer": normalizer,
        "pre_tokenizer": pre_tokenizer,
        "post_processor": post_processor,
        "decoder": decoder,
        "model": model,
    }
