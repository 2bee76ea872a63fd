"""Small `tokenizer.json` documents of the kinds beside BPE."""

from __future__ import annotations

import json
from typing import Any

from pellucid.tokens import layout
from pellucid.tokens.byte_characters import BYTE_CHARACTERS, BYTE_TOKENS
from pellucid.tokens.models import bpe
from pellucid.tokens.tokenizer import Tokenizer

ENDS = ("<bos>", "<eos>")
BERT = {
    "type": "BertNormalizer",
    "clean_text": True,
    "handle_chinese_chars": True,
    "strip_accents": None,
    "lowercase": True,
}
METASPACE = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True}


def wordpiece(*more: str) -> dict[str, Any]:
    tokens = ["[UNK]", "un", "##happi", "##ness", "apple", "我", "想", ",", *more]
    model = {
        "type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##", "max_input_chars_per_word": 100,
        "vocab": {token: i for i, token in enumerate(tokens)},
    }  # fmt: skip
    decoder = {"type": "WordPiece", "prefix": "##", "cleanup": True}
    steps = {"type": "BertPreTokenizer"}
    return layout.document(
        model, specials=layout.numbered(ENDS, len(tokens)), normalizer=BERT, pre_tokenizer=steps, decoder=decoder
    )


def unigram(**changes: Any) -> dict[str, Any]:
    """T5's layout: special tokens stand in the list."""
    scores = {
        "<pad>": 0.0,
        "</s>": 0.0,
        "<unk>": 0.0,
        "▁": -2.0,
        "▁the": -1.0,
        "t": -4.0,
        "h": -4.0,
        "e": -4.0,
        "中": -5.0,
    }
    model = {"type": "Unigram", "unk_id": 2, "vocab": [list(one) for one in scores.items()], "byte_fallback": False}
    made = layout.document(
        model | changes,
        pre_tokenizer=METASPACE,
        decoder=METASPACE,
        specials=layout.numbered(["<pad>", "</s>", "<unk>"], 0),
    )
    return made


def words() -> dict[str, Any]:
    vocab = {"<unk>": 0, "the": 1, "Ġthe": 2, "Ġcat": 3}
    model = {"type": "WordLevel", "vocab": vocab, "unk_token": "<unk>"}
    steps = layout.byte_level_pieces("qwen2")
    return layout.document(
        model, specials=layout.numbered(ENDS, len(vocab)), pre_tokenizer=steps, decoder=layout.BYTE_LEVEL
    )


def byte_unigram() -> dict[str, Any]:
    scores = {**dict.fromkeys(BYTE_CHARACTERS, -9.0), "Ġthe": -1.0, "the": -1.5}
    model = {"type": "Unigram", "unk_id": None, "vocab": [list(one) for one in scores.items()], "byte_fallback": False}
    steps = layout.byte_level_pieces("qwen2")
    return layout.document(
        model, specials=layout.numbered(ENDS, len(scores)), pre_tokenizer=steps, decoder=layout.BYTE_LEVEL
    )


def load(document: dict[str, Any]) -> Tokenizer:
    return Tokenizer.from_json(json.dumps(document))


def llama_bpe() -> dict[str, Any]:
    """Llama 2's layout: a space is ▁, one is put in front, and what has no token is spelled by byte tokens."""
    tokens = ["<unk>", *BYTE_TOKENS, "▁", "a", "b", "t", "h", "e", "中", "th", "the", "▁the", "▁a"]
    merges = [["t", "h"], ["th", "e"], ["▁", "the"], ["▁", "a"]]
    model = bpe.model(
        {token: place for place, token in enumerate(tokens)},
        merges,
        byte_fallback=True,
        unk_token="<unk>",
        fuse_unk=True,
    )
    space = {"String": " "}
    prefix = [{"type": "Prepend", "prepend": "▁"}, {"type": "Replace", "pattern": space, "content": "▁"}]
    back = {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}
    strip = {"type": "Strip", "content": " ", "start": 1, "stop": 0}
    made = layout.document(
        model,
        specials={"<unk>": 0},
        normalizer={"type": "Sequence", "normalizers": prefix},
        pre_tokenizer=None,
        decoder={"type": "Sequence", "decoders": [back, {"type": "ByteFallback"}, {"type": "Fuse"}, strip]},
    )
    return made


def fallback_unigram() -> dict[str, Any]:
    """A Unigram of SentencePiece with byte fallback, which rewrites the text first (NFKC)."""
    scores = {"<unk>": 0.0, **dict.fromkeys(BYTE_TOKENS, -9.0)}
    scores |= {"▁": -2.0, "▁the": -1.0, "t": -4.0, "h": -4.0, "e": -4.0, "中": -5.0, "fi": -3.0, "1": -4.0, "2": -4.0}
    model = {"type": "Unigram", "unk_id": 0, "vocab": [list(one) for one in scores.items()], "byte_fallback": True}
    decoders = [{"type": "ByteFallback"}, {"type": "Fuse"}, METASPACE]
    return layout.document(
        model,
        normalizer={"type": "NFKC"},
        pre_tokenizer=METASPACE,
        decoder={"type": "Sequence", "decoders": decoders},
        specials={"<unk>": 0},
    )
