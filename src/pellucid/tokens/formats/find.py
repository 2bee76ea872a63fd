"""Which file is a tokenizer, and of which form: told by its name, and where a name has two meanings by its first line.

In a directory the first of these that is there:

    tokenizer.json                          what everything here is kept as
    tokenizer.model, spiece.model, …        SentencePiece, or a rank file under the same name (Llama 3)
    vocab.json + merges.txt                 byte-level BPE (OpenAI's own names: encoder.json + vocab.bpe)
    vocab.txt                               WordPiece
    *.tiktoken                              a rank file, the only one

`tokenizer_config.json` beside any of them says which tokens have roles.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pellucid.errors import TokenizerError
from pellucid.tokens.formats.canonical import TokenizerFiles
from pellucid.tokens.formats.merges import NAMES as PAIRS
from pellucid.tokens.formats.merges import read_merges
from pellucid.tokens.formats.sentencepiece import read_sentencepiece
from pellucid.tokens.formats.tiktoken import SIDECAR, SUFFIX, read_tiktoken
from pellucid.tokens.formats.vocab_txt import read_vocab_txt
from pellucid.tokens.layout import CONFIG_FILE, TOKENIZER_FILE
from pellucid.untrusted import Json, parse_object, read_bytes

MODEL_NAMES = ("tokenizer.model", "spiece.model", "sentencepiece.bpe.model", "spm.model")
VOCAB_TXT = "vocab.txt"
NAMED = (TOKENIZER_FILE, *MODEL_NAMES, *(name for name, _ in PAIRS), VOCAB_TXT)  # in the order in which they are taken
RANK_LINE = re.compile(rb"[A-Za-z0-9+/]+={0,2} [0-9]+\r?\n")


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """What a form may leave open, chosen by hand; None: not chosen."""

    pattern: str | None = None  # a name from patterns.py
    lowercase: bool | None = None


def find_tokenizer(path: Path) -> Path | None:
    """The file that is, or begins, the tokenizer at a path; None where there is none."""
    if not path.is_dir():
        return path if path.is_file() else None
    named = next((path / name for name in NAMED if (path / name).is_file()), None)
    ranks = sorted(path.glob(f"*{SUFFIX}"))
    return named or (ranks[0] if len(ranks) == 1 else None)


def read_tokenizer(file: Path, chosen: Chosen) -> TokenizerFiles:
    """The tokenizer of a file, in the canonical form. Raises TokenizerError for a form that is not known."""
    beside = file.parent / CONFIG_FILE
    config_text = _text(beside) if beside.is_file() else None
    config: Mapping[str, Json] = parse_object(config_text) if config_text is not None else {}
    pair = next(((start, names) for names in PAIRS if (start := _start(file.name, names)) is not None), None)
    if pair is not None:
        start, names = pair
        vocab, merges = (_text(file.parent / f"{start}{name}") for name in names)
        pattern = chosen.pattern or ("gpt2" if names == PAIRS[1] else None)
        return read_merges(vocab, merges, config, pattern=pattern, config_text=config_text)
    if file.name.endswith(VOCAB_TXT):
        return read_vocab_txt(_text(file), config, lowercase=chosen.lowercase)
    if file.suffix == ".json":
        return TokenizerFiles(json=_text(file), config=config_text)
    data = read_bytes(file)
    if file.suffix == SUFFIX or RANK_LINE.match(data):
        sidecar = file.with_name(file.name + SIDECAR)
        return read_tiktoken(data, _text(sidecar) if sidecar.is_file() else None, pattern=chosen.pattern)
    if file.suffix == ".model":
        found = read_sentencepiece(data)
        return TokenizerFiles(json=found.json, config=config_text or found.config)
    raise TokenizerError(
        "no form of a tokenizer has such a name", found=file.name,
        hint="known: tokenizer.json, *.model, *.tiktoken, vocab.json with merges.txt, vocab.txt",
    )  # fmt: skip


def _start(name: str, pair: tuple[str, str]) -> str | None:
    """What stands before one of two names that belong together, None where it is neither."""
    return next((name.removesuffix(end) for end in pair if name.endswith(end)), None)


def _text(file: Path) -> str:
    return read_bytes(file).decode("utf-8")
