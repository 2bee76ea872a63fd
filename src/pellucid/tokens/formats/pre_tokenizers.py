"""The pre-tokenizers (ways of cutting a text into pieces) that GGUF files name, and what each name means.

A GGUF file holds no expression, only a name (`tokenizer.ggml.pre`), and llama.cpp knows what it stands for. This is the
part of that list whose meaning is certain here; a name outside it is refused, because a text cut at other places
becomes other ids, and a model that reads those answers almost right. Several expressions act one after the other, each
inside the pieces of the one before.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pellucid.tokens.patterns import PATTERNS

DIGIT = r"\p{N}"


@dataclass(frozen=True)
class PreTokenizer:
    """One way of cutting: the name it is written under, its expressions, and other names for the same."""

    name: str
    expressions: tuple[str, ...]
    ignores_merges: bool = False  # a piece that is itself a token needs no merges
    aliases: tuple[str, ...] = ()
    adds_bos: bool = False  # where the file does not say, a text begins with <bos>


PRE_TOKENIZERS = (
    PreTokenizer(
        "gpt-2", (PATTERNS["gpt2"],),
        aliases=("phi-2", "mpt", "olmo", "jais", "jina-es", "jina-de", "jina-v1-en", "jina-v2-es", "jina-v2-de", "gigachat",
                 "trillion", "granite-docling"),
    ),
    PreTokenizer("qwen2", (PATTERNS["qwen2"],), aliases=("deepseek-r1-qwen", "stablelm2", "hunyuan", "megrez")),
    PreTokenizer(
        "llama-bpe", (PATTERNS["llama3"],), ignores_merges=True, aliases=("llama3", "llama-v3", "falcon3", "pixtral"),
        adds_bos=True,
    ),
    PreTokenizer("smaug-bpe", (PATTERNS["llama3"],), aliases=("dbrx",)),
    PreTokenizer(
        "smollm", (DIGIT, PATTERNS["gpt2"]),
        aliases=("starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b"),
    ),
)  # fmt: skip
BY_NAME = {name: one for one in PRE_TOKENIZERS for name in (one.name, *one.aliases)}


def pre_tokenizer_json(pre: PreTokenizer) -> dict[str, Any]:
    """The `pre_tokenizer` of a `tokenizer.json` that cuts this way and then writes bytes as characters.

    >>> [step["type"] for step in pre_tokenizer_json(BY_NAME["smollm"])["pretokenizers"]]
    ['Split', 'Split', 'ByteLevel']
    """
    splits = [
        {"type": "Split", "pattern": {"Regex": expression}, "behavior": "Isolated", "invert": False}
        for expression in pre.expressions
    ]
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}
    return {"type": "Sequence", "pretokenizers": [*splits, byte_level]}


def find_pre_tokenizer(node: Mapping[str, Any] | None, *, ignores_merges: bool) -> PreTokenizer | None:
    """The listed way that a `tokenizer.json`'s `pre_tokenizer` describes, or None.

    >>> find_pre_tokenizer(pre_tokenizer_json(BY_NAME["dbrx"]), ignores_merges=False).name
    'smaug-bpe'
    """
    expressions = cutting_expressions(node)
    found = (one for one in PRE_TOKENIZERS if (one.expressions, one.ignores_merges) == (expressions, ignores_merges))
    return next(found, None)


def cutting_expressions(node: Mapping[str, Any] | None) -> tuple[str | None, ...]:
    """The expressions that cut a text one after the other; None stands for a step that cuts in another way.

    >>> cutting_expressions({"type": "ByteLevel"}) == (PATTERNS["gpt2"],)
    True
    """
    return tuple(_expressions(node or {}))


def _expressions(node: Mapping[str, Any]) -> Iterator[str | None]:
    """The expressions of a node in order; None for a step that cuts in another way."""
    kind, pattern = node.get("type"), node.get("pattern")
    if kind == "Sequence":
        for child in node.get("pretokenizers", ()):
            yield from _expressions(child)
    elif kind == "ByteLevel":
        if node.get("add_prefix_space"):
            yield None
        if node.get("use_regex", True):
            yield PATTERNS["gpt2"]
    elif kind == "Digits":
        yield DIGIT if node.get("individual_digits") else None
    elif (
        kind == "Split" and node.get("behavior") == "Isolated" and not node.get("invert") and isinstance(pattern, dict)
    ):
        yield pattern.get("Regex")
    else:
        yield None
