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
# Letters that have a capital and a small form, as deepseek-llm lists them: a listed letter is one piece with its neighbours,
# one that Unicode got later is not. Source: the expressions of `deepseek-llm` in llama.cpp's llama-vocab.cpp.
PAIRED_LETTERS = (
    "A-Za-z\xb5\xc0-\xd6\xd8-\xf6\xf8-\u01ba\u01bc-\u01bf\u01c4-\u0293\u0295-\u02af\u0370-\u0373\u0376\u0377"
    "\u037b-\u037d\u037f\u0386\u0388-\u038a\u038c\u038e-\u03a1\u03a3-\u03f5\u03f7-\u0481\u048a-\u052f"
    "\u0531-\u0556\u10a0-\u10c5\u13a0-\u13f5\u13f8-\u13fd\u1c90-\u1cba\u1cbd-\u1cbf\u1d00-\u1d2b\u1d6b-\u1d77"
    "\u1d79-\u1d9a\u1e00-\u1f15\u1f18-\u1f1d\u1f20-\u1f45\u1f48-\u1f4d\u1f50-\u1f57\u1f59\u1f5b\u1f5d"
    "\u1f5f-\u1f7d\u1f80-\u1fb4\u1fb6-\u1fbc\u1fbe\u1fc2-\u1fc4\u1fc6-\u1fcc\u1fd0-\u1fd3\u1fd6-\u1fdb"
    "\u1fe0-\u1fec\u1ff2-\u1ff4\u1ff6-\u1ffc\u2102\u2107\u210a-\u2113\u2115\u2119-\u211d\u2124\u2126\u2128"
    "\u212a-\u212d\u212f-\u2134\u2139\u213c-\u213f\u2145-\u2149\u214e\u2183\u2184\u2c00-\u2c7b\u2c7e-\u2ce4"
    "\u2ceb-\u2cee\u2cf2\u2cf3\ua640-\ua66d\ua680-\ua69b\ua722-\ua76f\ua771-\ua787\ua78b-\ua78e\uab70-\uabbf"
    "\ufb00-\ufb06\ufb13-\ufb17\uff21-\uff3a\uff41-\uff5a\U00010400-\U0001044f\U000104b0-\U000104d3"
    "\U000104d8-\U000104fb\U00010c80-\U00010cb2\U00010cc0-\U00010cf2\U000118a0-\U000118df\U0001e900-\U0001e943"
)
DEEPSEEK_RUNS = "[一-龥\u0800-\u4e00\uac00-\ud7ff]+"
DEEPSEEK_SIGNS = r"!-/:-~" + "\uff01-\uff0f\uff1a-\uff5e\u2018-\u201f\u3000-\u3002"
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
        (r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", DEEPSEEK_RUNS, DIGIT),
    ),
    PreTokenizer(
        "deepseek-llm",
        (r"[\r\n]", rf"\s?[{PAIRED_LETTERS}]+", rf"\s?[{DEEPSEEK_SIGNS}]+", r"\s+$", DEEPSEEK_RUNS, r"\p{N}+"),
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
