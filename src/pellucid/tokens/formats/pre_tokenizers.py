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

from pellucid.errors import TokenizerError
from pellucid.tokens.layout import BYTE_LEVEL, split
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


# As llama.cpp cuts for gpt-4o and tekken it leaves out combining marks, because its engine has no class for capitals; here
# stands what the tokenizers themselves do. The kinds from DeepSeek and Falcon cut several times.
CJK_RUNS = "[一-龥\u3040-\u309f\u30a0-\u30ff]+"
DEEPSEEK_WORDS = (
    r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"
    r"| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN35 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
TEKKEN = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
    r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
PRE_TOKENIZERS = (
    PreTokenizer(
        "gpt-2", (PATTERNS["gpt2"],),
        aliases=("phi-2", "mpt", "olmo", "jais", "jina-es", "jina-de", "jina-v1-en", "jina-v2-es", "jina-v2-de", "gigachat",
                 "trillion", "granite-docling", "a.x-4.0", "mellum", "modern-bert", "exaone4", "roberta-bpe"),
    ),
    PreTokenizer(
        "qwen2", (PATTERNS["qwen2"],),
        aliases=("deepseek-r1-qwen", "stablelm2", "hunyuan", "megrez", "kormo", "f2llmv2", "solar-open", "grok-2"),
    ),
    PreTokenizer("qwen35", (QWEN35,)),
    PreTokenizer(
        "llama-bpe", (PATTERNS["llama3"],), ignores_merges=True, adds_bos=True,
        aliases=("llama3", "llama-v3", "falcon3", "pixtral", "falcon-h1", "midm-2.0", "lfm2", "jina-v5-nano"),
    ),
    PreTokenizer("smaug-bpe", (PATTERNS["llama3"],), aliases=("dbrx", "chatglm-bpe")),
    PreTokenizer("gpt-4o", (PATTERNS["o200k"],), aliases=("llama4",)),
    PreTokenizer("tekken", (TEKKEN,), ignores_merges=True, adds_bos=True),
    PreTokenizer(
        "smollm", (DIGIT, PATTERNS["gpt2"]),
        aliases=("starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b", "mellum2"),
    ),
    PreTokenizer("falcon", (r"[\p{P}\$\+<=>\^~\|`]+", PATTERNS["gpt2"], "[0-9][0-9][0-9]")),
    PreTokenizer(
        "deepseek-coder",
        (r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", "[一-龥\u0800-\u4e00\uac00-\ud7ff]+", DIGIT),
    ),
    PreTokenizer("deepseek-v3", (r"\p{N}{1,3}", CJK_RUNS, DEEPSEEK_WORDS), aliases=("hunyuan-dense",)),
)  # fmt: skip
BY_NAME = {name: one for one in PRE_TOKENIZERS for name in (one.name, *one.aliases)}


def chosen_pre_tokenizer(name: str) -> PreTokenizer:
    """A way of cutting that a person chose: a name of this list, or of a pattern. Raises TokenizerError for another.

    >>> chosen_pre_tokenizer("o200k").expressions == (PATTERNS["o200k"],)
    True
    """
    if name in PATTERNS:
        return PreTokenizer(name, (PATTERNS[name],))
    if name not in BY_NAME:
        known = ", ".join(dict.fromkeys((*PATTERNS, *BY_NAME)))
        raise TokenizerError("no such way of cutting a text", found=name, hint=f"known: {known}")
    return BY_NAME[name]


def pre_tokenizer_json(pre: PreTokenizer) -> dict[str, Any]:
    """The `pre_tokenizer` of a `tokenizer.json` that cuts this way and then writes bytes as characters.

    >>> [step["type"] for step in pre_tokenizer_json(BY_NAME["smollm"])["pretokenizers"]]
    ['Split', 'Split', 'ByteLevel']
    """
    return {"type": "Sequence", "pretokenizers": [*map(split, pre.expressions), BYTE_LEVEL]}


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
