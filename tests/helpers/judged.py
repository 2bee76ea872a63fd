"""The vocabularies of `judged.json`: small ones, to which other people's tokenizers have given ids of hostile strings.

`conformance/record.py` makes the file, and `make conformance` asks the judges again. A vocabulary is named after its
judge and what the judge was told: the pattern, the kind of model, whether capitals stay, the name in a GGUF file.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from pathlib import Path

from pellucid.tokens.formats.gguf import tokenizer_from_values, tokenizer_to_values
from pellucid.tokens.formats.pre_tokenizers import BY_NAME
from pellucid.tokens.formats.sentencepiece import read_sentencepiece
from pellucid.tokens.formats.tiktoken import read_tiktoken
from pellucid.tokens.formats.vocab_txt import read_vocab_txt
from pellucid.tokens.tokenizer import Tokenizer

RECORD = Path(__file__).with_name("judged.json")
CASE = {"lower case": True, "case kept": False}


def open_judged(name: str, files: Mapping[str, str]) -> Tokenizer:
    """The tokenizer of a vocabulary, read from the files in the record."""
    judge, _, told = name.partition(": ")
    if judge == "sentencepiece":
        read = read_sentencepiece(base64.b64decode(files[told]))
    elif judge == "bert":
        read = read_vocab_txt(files["vocab.txt"], {}, lowercase=CASE[told])
    else:
        read = read_tiktoken(files["ranks"].encode(), pattern=told if judge == "tiktoken" else "qwen2")
    tokenizer = Tokenizer.from_json(read.json, read.config)
    return tokenizer_from_values(gguf_values(tokenizer, told)) if judge == "llama.cpp" else tokenizer


def gguf_values(tokenizer: Tokenizer, name: str) -> dict[str, object]:
    """The values of a GGUF file with the tokens and merges of a tokenizer, and this way of cutting."""
    assert name in BY_NAME
    return {**tokenizer_to_values(tokenizer, tokenizer.vocab_size), "tokenizer.ggml.pre": name}


def read_record() -> dict:
    """The files, the strings, and the ids by vocabulary: one list for each string, or null."""
    return json.loads(RECORD.read_text(encoding="utf-8"))
