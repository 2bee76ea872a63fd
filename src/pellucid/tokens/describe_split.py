"""How a tokenizer cuts a text into pieces that no token crosses, in words."""

from __future__ import annotations

from pellucid.tokens.document import read_document
from pellucid.tokens.formats.pre_tokenizers import cutting_expressions
from pellucid.tokens.patterns import HAN, IN_WORDS, pattern_name
from pellucid.tokens.spelling import flat
from pellucid.tokens.tokenizer import Tokenizer


def describe_split(tokenizer: Tokenizer) -> str:
    """How a tokenizer splits a text, by the steps that its file has for that.

    >>> from pellucid.tokens.train import train_characters, train_words
    >>> describe_split(train_characters(["a b"]))
    'every character is a piece'
    >>> describe_split(train_words(["a b"], 300))[-29:]
    'every Chinese character alone'
    """
    if tokenizer.kind == "char":
        return "every character is a piece"
    document = read_document(tokenizer.json)
    node = document.get("pre_tokenizer")
    types = [step.get("type") for step in flat(node, "pretokenizers")]
    if types == ["BertPreTokenizer"]:
        normalizers = flat(document.get("normalizer"), "normalizers")
        if any(step.get("handle_chinese_chars") for step in normalizers):
            return "at white space, which is not kept; every sign and every Chinese character alone"
        return "at white space, which is not kept; every sign alone"
    if not types:
        return "not at all: a token may hold several words"
    if types == ["Metaspace"]:
        return "at spaces, each of which goes with the word behind it"
    first, *more = cutting_expressions(node)
    words = IN_WORDS.get(str(pattern_name(str(first))))
    if words is None or more not in ([], [HAN]):
        return f"in a way of its own: {', '.join(map(str, types))}"
    return f"{words}; every Chinese character alone" if more else words
