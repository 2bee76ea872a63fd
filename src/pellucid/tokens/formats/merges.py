"""`vocab.json` and `merges.txt` (GPT-2, RoBERTa, Qwen), or under OpenAI's own names `encoder.json` and `vocab.bpe`.

    vocab.json      token -> id, in byte characters       merges.txt      on each line two tokens that are joined

Neither says which pattern cuts a text into pieces. The class in `tokenizer_config.json` does, or it is chosen by hand;
OpenAI's two files are GPT-2's. A token that is no byte and that no merge makes is never reached from text: those are the
special tokens (`<|endoftext|>`; RoBERTa's `<s>`, `<mask>` and `madeupword0000`).

Source: the files of https://github.com/openai/gpt-2.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pellucid.errors import TokenizerError
from pellucid.tokens import layout
from pellucid.tokens.byte_characters import BYTE_CHARACTERS
from pellucid.tokens.document import read_document
from pellucid.tokens.formats.canonical import (
    TokenizerFiles,
    check_pattern,
    forms_instead,
    kind_in_words,
    with_config,
)
from pellucid.tokens.formats.pre_tokenizers import cutting_expressions
from pellucid.tokens.models import bpe
from pellucid.tokens.patterns import pattern_name
from pellucid.tokens.vocabulary import Vocabulary, as_object, check_id, check_ids
from pellucid.untrusted import Json, parse_json, shown

NAMES = (("vocab.json", "merges.txt"), ("encoder.json", "vocab.bpe"))  # transformers', and OpenAI's own
HEADER = "#version"
PATTERN_KEY = "pellucid_pattern"  # in the config that is written here where no class of others stands for the pattern
CLASSES = {  # the class in tokenizer_config.json -> the pattern, and whether characters are composed (NFC)
    "GPT2Tokenizer": ("gpt2", False), "GPT2TokenizerFast": ("gpt2", False),
    "RobertaTokenizer": ("gpt2", False), "RobertaTokenizerFast": ("gpt2", False),
    "BartTokenizer": ("gpt2", False), "BartTokenizerFast": ("gpt2", False),
    "Qwen2Tokenizer": ("qwen2", True), "Qwen2TokenizerFast": ("qwen2", True),
}  # fmt: skip


def read_merges(
    vocab_text: str,
    merges_text: str,
    config: Mapping[str, Json],
    *,
    pattern: str | None = None,
    config_text: str | None = None,
) -> TokenizerFiles:
    """A tokenizer from the texts of the two files and the values of the config beside them (empty: there is none).

    `pattern`: a name from `patterns.py`, chosen by hand; it goes before the config's class. Raises TokenizerError when
    nobody says it, and for files that do not fit together.
    """
    said = config.get(PATTERN_KEY)
    chosen, composes = CLASSES.get(str(config.get("tokenizer_class")), (said if isinstance(said, str) else None, False))
    name = check_pattern(pattern or chosen)
    try:
        vocab = check_ids(as_object(parse_json(vocab_text), "vocab.json"))
    except ValueError as error:
        raise TokenizerError("the tokens are not valid JSON", found=shown(error)) from None
    merges = _merges(merges_text)
    reached = {*BYTE_CHARACTERS, *(left + right for left, right in merges)}
    specials = sorted((token for token in vocab if token not in reached), key=vocab.__getitem__)
    added = {token: (vocab[token], True) for token in specials} | _added(config)
    space_first = config.get("add_prefix_space") is True
    if space_first and name != "gpt2":
        raise TokenizerError("a space in front of the text is known for the pattern gpt2 alone", found=name)
    pieces = (
        {**layout.BYTE_LEVEL, "add_prefix_space": True, "use_regex": True}
        if space_first
        else layout.byte_level_pieces(name)
    )
    document = layout.document(
        bpe.model(vocab, merges),
        specials={token: i for token, (i, special) in added.items() if special},
        ordinary={token: i for token, (i, special) in added.items() if not special},
        normalizer={"type": "NFC"} if composes and pattern is None else None,
        pre_tokenizer=pieces,
        decoder=layout.BYTE_LEVEL,
    )
    files = TokenizerFiles(json=layout.as_text(document), config=config_text)
    return with_config(files, config) if config else files


def write_merges(vocabulary: Vocabulary, json_text: str) -> tuple[dict[str, bytes], dict[str, Json]]:
    """The two files of a byte-level BPE (special tokens are in `vocab.json` too), and what its config has to say.

    Where no class of transformers stands for the pattern, the config names the pattern, and no class.
    """
    if vocabulary.kind != "bpe" or not vocabulary.ids.keys() >= {*BYTE_CHARACTERS}:
        raise TokenizerError(
            "only a byte-level BPE is a vocab.json and a merges.txt",
            found=kind_in_words(vocabulary), hint=forms_instead(vocabulary, "merges.txt"),
        )  # fmt: skip
    document = read_document(json_text)
    pattern = pattern_name(str(next(iter(cutting_expressions(document.get("pre_tokenizer"))), "")))
    composes = document.get("normalizer") == {"type": "NFC"}
    name = next((name for name, known in CLASSES.items() if known == (pattern, composes)), None)
    if name is None and document.get("normalizer") is not None:
        raise TokenizerError(
            "a vocab.json and a merges.txt do not say that characters are rewritten first, and this tokenizer does that",
            found=shown(document["normalizer"]), hint=forms_instead(vocabulary, "merges.txt"),
        )  # fmt: skip
    tokens = dict(sorted({**vocabulary.ids, **vocabulary.added}.items(), key=lambda item: item[1]))
    lines = [f"{HEADER}: 0.2", *(f"{left} {right}" for left, right in vocabulary.merges), ""]
    text = json.dumps(tokens, ensure_ascii=False)
    files = {"vocab.json": text.encode("utf-8"), "merges.txt": "\n".join(lines).encode("utf-8")}
    added: dict[str, Json] = {
        str(i): {"content": token, **layout.FLAGS, "special": token in vocabulary.specials}
        for token, i in vocabulary.added.items()
    }
    return files, {"added_tokens_decoder": added, "tokenizer_class": name, PATTERN_KEY: None if name else pattern}


def _merges(text: str) -> list[tuple[str, str]]:
    lines = text.split("\n")  # not splitlines: a byte character may be what Python takes for the end of a line
    merges = []
    for number, line in enumerate(lines[lines[0].startswith(HEADER) :], 1):
        if not line.strip("\r"):
            continue
        parts = line.removesuffix("\r").split(" ")
        if len(parts) != 2 or not all(parts):
            raise TokenizerError("a line of the merges is not two tokens", found=f"line {number:,}: {shown(line[:80])}")
        merges.append((parts[0], parts[1]))
    return merges


def _added(config: Mapping[str, Json]) -> dict[str, tuple[int, bool]]:
    """The tokens that a config adds: content -> (id, whether it is special)."""
    entries: Any = config.get("added_tokens_decoder") or {}
    added = {}
    for key, entry in as_object(entries, "added_tokens_decoder").items():
        fields = as_object(entry, "entry of added_tokens")
        content = fields.get("content")
        if not isinstance(content, str) or not content or not key.isdecimal() or len(key) > 9:
            raise TokenizerError("an added token has no text or no id", found=shown({key: entry}))
        added[content] = (check_id(content, int(key)), fields.get("special") is True)
    return added
