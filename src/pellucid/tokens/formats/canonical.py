"""The one form in which a tokenizer is kept here, whatever form it came in: the text of a `tokenizer.json` and its config.

Each file beside this one knows one form and turns plain values into this.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pellucid.errors import TokenizerError
from pellucid.tokens.document import read_document
from pellucid.tokens.layout import FAST_CLASS, as_text, config_json, with_beginning
from pellucid.tokens.patterns import PATTERNS
from pellucid.tokens.read_roles import name_in
from pellucid.tokens.vocabulary import Kind, Vocabulary
from pellucid.untrusted import Json, parse_object

WRITTEN: Mapping[Kind, tuple[str, ...]] = {  # the forms in which each kind can be written
    "bpe": ("tokenizer.json", "tiktoken", "merges.txt", "gguf"),
    "char": ("tokenizer.json", "gguf"),
    "wordpiece": ("tokenizer.json", "vocab.txt", "gguf"),
    "unigram": ("tokenizer.json",),
    "word": ("tokenizer.json",),
}
OVER_CHARACTERS = ("tokenizer.json", "gguf")  # a BPE that is not byte-level


@dataclass(frozen=True, kw_only=True)
class TokenizerFiles:
    """What `Tokenizer.from_json` takes."""

    json: str  # of a tokenizer.json
    config: (
        str | None
    )  # of a tokenizer_config.json; None: nothing is said, and <bos> and <eos> are known by their names


def canonical(document: Mapping[str, Any], *, bos: str | None, eos: str | None) -> TokenizerFiles:
    """The files of a document, and of a config that names two special tokens; `bos` stands before every text."""
    begun = document if bos is None else with_beginning(document, bos)
    return TokenizerFiles(json=as_text(begun), config=config_json({"bos": bos, "eos": eos}))


def with_config(files: TokenizerFiles, config: Mapping[str, Json]) -> TokenizerFiles:
    """The same tokenizer with what the config beside its file says of roles; its <bos> stands before every text.

    The class that the config names is of the form that was read, and not of the `tokenizer.json` that is made of it.
    """
    own, document = parse_object(files.config or config_json({})), read_document(files.json)
    said = {**own, **config, "tokenizer_class": FAST_CLASS}
    begin = name_in(said.get("bos_token"))
    specials = {entry["content"] for entry in document["added_tokens"] if entry["special"]}
    begun = with_beginning(document, begin) if isinstance(begin, str) and begin in specials else document
    return TokenizerFiles(json=as_text(begun), config=json.dumps(said, ensure_ascii=False, indent=2) + "\n")


def kind_in_words(vocabulary: Vocabulary) -> str:
    """The kind of a tokenizer as a refusal says it: of a BPE, whether it joins bytes."""
    if vocabulary.kind == "bpe":
        return "bpe, byte-level" if vocabulary.is_byte_level else "bpe, not byte-level"
    return vocabulary.kind


def forms_instead(vocabulary: Vocabulary, refused: str) -> str:
    """What to try where a form was refused: the other forms in which such a tokenizer can be written."""
    forms = WRITTEN[vocabulary.kind]
    if vocabulary.kind == "bpe" and not vocabulary.is_byte_level:
        forms = OVER_CHARACTERS
    return f"such a tokenizer is written with --to {' or --to '.join(form for form in forms if form != refused)}"


def steps(children: str, *nodes: Mapping[str, Any]) -> dict[str, Any] | None:
    """Steps of a section, one after the other; None for none."""
    return {"type": "Sequence", children: list(nodes)} if nodes else None


def check_pattern(pattern: str | None) -> str:
    """A pattern that was chosen. Raises TokenizerError when none was, or one that is not listed."""
    if pattern is None:
        raise TokenizerError(
            "the file does not say where its tokenizer cuts a text",
            hint="`pellucid tokenizer convert` and the verbs that open a model take --pattern gpt2, qwen2, llama3, cl100k or o200k",
        )
    if pattern not in PATTERNS:
        raise TokenizerError("no such pattern", found=pattern, hint="known: " + ", ".join(PATTERNS))
    return pattern
