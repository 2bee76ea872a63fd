"""The one form in which a tokenizer is kept here, whatever form it came in: the text of a `tokenizer.json` and its config.

Each file beside this one knows one form and turns plain values into this.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pellucid.errors import TokenizerError
from pellucid.tokens.layout import as_text, config_json
from pellucid.tokens.patterns import PATTERNS


@dataclass(frozen=True, kw_only=True)
class TokenizerFiles:
    """What `Tokenizer.from_json` takes."""

    json: str  # of a tokenizer.json
    config: (
        str | None
    )  # of a tokenizer_config.json; None: nothing is said, and <bos> and <eos> are known by their names


def canonical(document: Mapping[str, Any], *, bos: str | None, eos: str | None) -> TokenizerFiles:
    """The files of a document, and of a config that names two special tokens."""
    return TokenizerFiles(json=as_text(document), config=config_json({"bos": bos, "eos": eos}))


def steps(children: str, *nodes: Mapping[str, Any]) -> dict[str, Any] | None:
    """Steps of a section, one after the other; None for none."""
    return {"type": "Sequence", children: list(nodes)} if nodes else None


def check_pattern(pattern: str | None) -> str:
    """A pattern that was chosen. Raises TokenizerError when none was, or one that is not listed."""
    if pattern is None:
        raise TokenizerError(
            "the file does not say where its tokenizer cuts a text",
            hint="choose it: --pattern gpt2, qwen2, llama3, cl100k or o200k",
        )
    if pattern not in PATTERNS:
        raise TokenizerError("no such pattern", found=pattern, hint="known: " + ", ".join(PATTERNS))
    return pattern
