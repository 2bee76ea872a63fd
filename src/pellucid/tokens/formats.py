"""The `tokenizer.json` and `tokenizer_config.json` that describe a tokenizer to every other program.

Two layouts are written here. Byte-level BPE: the text is cut into pieces, each byte is shown as one printable
character (GPT-2's table), and merges join them; ids 0-255 are the bytes, then tokens in the order of their merges.
Characters: each character of the training text is a token, and all others are spelled by the 256 byte tokens `<0x00>`
to `<0xFF>`. In both, the special tokens come last. There is no normaliser, no added space and no post-processor: what
goes in comes out.

Source: Radford et al. 2019, "Language Models are Unsupervised Multitask Learners" (the byte table).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

from pellucid.tokens.patterns import PATTERNS

BOS, EOS = "<bos>", "<eos>"
NUM_BYTES = 256
SMALLEST = NUM_BYTES + 2  # every byte, and the two special tokens
TOKENIZER_FILE, CONFIG_FILE = "tokenizer.json", "tokenizer_config.json"


def _byte_characters() -> tuple[str, ...]:
    printable = {*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)}
    others = iter(range(NUM_BYTES, 2 * NUM_BYTES))
    return tuple(chr(byte) if byte in printable else chr(next(others)) for byte in range(NUM_BYTES))


BYTE_CHARACTERS = _byte_characters()
"""The printable character that stands for each byte: a space is `Ġ`, a line feed is `Ċ`."""

CHARACTER_BYTES = {character: byte for byte, character in enumerate(BYTE_CHARACTERS)}
BYTE_TOKENS = tuple(f"<0x{byte:02X}>" for byte in range(NUM_BYTES))


def byte_level_json(merges: Sequence[tuple[str, str]], pattern: str) -> str:
    """The `tokenizer.json` of a byte-level BPE with these merges, spelled in byte characters.

    >>> json.loads(byte_level_json([("a", "b")], "qwen2"))["model"]["vocab"]["ab"]
    256
    """
    return _text(byte_level_document(merges, pattern))


def byte_level_document(merges: Sequence[tuple[str, str]], pattern: str) -> dict:
    """The same as a value, before it is text."""
    tokens = dict.fromkeys((*BYTE_CHARACTERS, *(left + right for left, right in merges)))
    split = {"type": "Split", "pattern": {"Regex": PATTERNS[pattern]}, "behavior": "Isolated", "invert": False}
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}
    return _document(
        tokens,
        merges=merges,
        byte_fallback=False,
        pre_tokenizer={"type": "Sequence", "pretokenizers": [split, byte_level]},
        decoder=byte_level,
    )


def character_json(characters: Iterable[str]) -> str:
    """The `tokenizer.json` of a tokenizer with one token per character and 256 byte tokens for all others.

    >>> json.loads(character_json("ab"))["model"]["vocab"]["b"]
    257
    """
    return _text(character_document(characters))


def character_document(characters: Iterable[str]) -> dict:
    """The same as a value, before it is text."""
    return _document(
        dict.fromkeys((*BYTE_TOKENS, *characters)),
        merges=(),
        byte_fallback=True,
        pre_tokenizer=None,
        decoder={"type": "Sequence", "decoders": [{"type": "ByteFallback"}, {"type": "Fuse"}]},
    )


def config_json(bos: str | None, eos: str | None) -> str:
    """The `tokenizer_config.json` that makes `AutoTokenizer` treat the text exactly as we do."""
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": bos,
        "eos_token": eos,
        "clean_up_tokenization_spaces": False,
    }
    return json.dumps(config, ensure_ascii=False, indent=2) + "\n"


def _document(
    tokens: Iterable[str],
    *,
    merges: Sequence[tuple[str, str]],
    byte_fallback: bool,
    pre_tokenizer: dict | None,
    decoder: dict,
) -> dict:
    vocab = {token: token_id for token_id, token in enumerate(tokens)}
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    specials = [{"id": len(vocab) + place, "content": name, **flags} for place, name in enumerate((BOS, EOS))]
    model = {
        "type": "BPE",
        "dropout": None,
        "unk_token": None,
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": False,
        "byte_fallback": byte_fallback,
        "ignore_merges": False,
        "vocab": vocab,
        "merges": [list(pair) for pair in merges],
    }
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": specials,
        "normalizer": None,
        "pre_tokenizer": pre_tokenizer,
        "post_processor": None,
        "decoder": decoder,
        "model": model,
    }


def _text(document: dict) -> str:
    return json.dumps(document, ensure_ascii=False, indent=1) + "\n"
