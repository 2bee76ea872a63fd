"""Which file is a tokenizer, and of which form: told by its name, and where a name has two meanings by its first line.

In a directory the first of these that is there:

    tokenizer.json                          what everything here is kept as
    tokenizer.model, spiece.model, …        SentencePiece, or a rank file under the same name (Llama 3)
    vocab.json + merges.txt                 byte-level BPE (OpenAI's own names: encoder.json + vocab.bpe)
    vocab.txt                               WordPiece
    *.tiktoken                              a rank file, the only one
    *.gguf                                  a GGUF file, the only one: `store` reads it

`tokenizer_config.json` beside any of them says which tokens have roles, `added_tokens.json` which are added. A `.bin` of
llama2.c is read where its name is given.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from pellucid.errors import TokenizerError
from pellucid.tokens.formats.added_tokens import ADDED_FILE, with_added_tokens
from pellucid.tokens.formats.canonical import TokenizerFiles, with_config
from pellucid.tokens.formats.llama2c import read_llama2c
from pellucid.tokens.formats.merges import NAMES as PAIRS
from pellucid.tokens.formats.merges import read_merges
from pellucid.tokens.formats.sentencepiece import read_sentencepiece
from pellucid.tokens.formats.tiktoken import SIDECAR, SUFFIX, read_tiktoken
from pellucid.tokens.formats.vocab_txt import read_vocab_txt
from pellucid.tokens.layout import CONFIG_FILE, MAP_FILE, TOKENIZER_FILE
from pellucid.untrusted import Json, parse_object, read_bytes, shown

MODEL_NAMES = ("tokenizer.model", "spiece.model", "sentencepiece.bpe.model", "spm.model")
VOCAB_TXT = "vocab.txt"
GGUF = ".gguf"
GGUF_MAGIC = b"GGUF"  # how such a file begins, whatever its name
NAMED = (TOKENIZER_FILE, *MODEL_NAMES, *(name for name, _ in PAIRS), VOCAB_TXT)  # in the order in which they are taken
ONLY = (SUFFIX, GGUF)  # of these endings a directory may hold one file, under any name
PIECES = {".model": read_sentencepiece, ".bin": read_llama2c}  # SentencePiece's own, and llama2.c's list of the same
LINE_BYTES = 4096  # more than the line of any token takes
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
    named = (path / name for name in NAMED if (path / name).is_file())
    alone = (found[0] for ending in ONLY if len(found := _ending(path, ending)) == 1)
    return next(chain(named, alone), None)


def describe_search(path: Path) -> str:
    """What is looked for at a path where no tokenizer was found, for a person to read.

    >>> describe_search(Path("no such place"))
    'looked for: no such place'
    """
    if not path.is_dir():
        return f"looked for: {path}"
    several = next((ending for ending in ONLY if len(_ending(path, ending)) > 1), None)
    if several:
        return f"there are several {several} files: name the one that is meant"
    return f"looked for: {', '.join(NAMED)}, one *{SUFFIX}, one *{GGUF}"


def is_gguf(path: Path) -> bool:
    """Whether a path is meant as a GGUF file: by its name, or by its first four bytes."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return path.suffix == GGUF or file.read(len(GGUF_MAGIC)) == GGUF_MAGIC


def _ending(directory: Path, ending: str) -> list[Path]:
    return sorted(file for file in directory.glob(f"*{ending}") if file.is_file())


def read_tokenizer(file: Path, chosen: Chosen) -> TokenizerFiles:
    """The tokenizer of a file, in the canonical form.

    Raises TokenizerError for a form that is not known, and for a choice that the form does not leave open.
    """
    pair = next(((start, names) for names in PAIRS if (start := _start(file.name, names)) is not None), None)
    is_list = file.name.endswith(VOCAB_TXT)
    if is_gguf(file):
        raise TokenizerError(
            "a GGUF file is read with its model", found=file.name,
            hint="pellucid.load(FILE).tokenizer, or `pellucid tokenizer convert FILE --out DIR`",
        )  # fmt: skip
    config_text, config = read_beside(file, CONFIG_FILE)
    is_ranks = pair is None and not is_list and file.suffix != ".json" and _is_ranks(file)
    _check_open(file, chosen, pattern=pair is not None or is_ranks, lowercase=is_list)
    if is_ranks:
        sidecar = file.with_name(file.name + SIDECAR)
        text = read_text(sidecar) if sidecar.is_file() else None
        return with_config(read_tiktoken(read_bytes(file), text, pattern=chosen.pattern), config)
    if pair is not None:
        start, names = pair
        vocab, merges = (read_text(file.parent / f"{start}{name}") for name in names)
        pattern = chosen.pattern or ("gpt2" if names == PAIRS[1] else None)
        found = read_merges(vocab, merges, config, pattern=pattern, config_text=config_text)
    elif is_list:
        found = read_vocab_txt(read_text(file), config, lowercase=chosen.lowercase)
    elif file.suffix == ".json":
        return TokenizerFiles(json=read_text(file), config=config_text)
    elif file.suffix in PIECES:
        model = PIECES[file.suffix](read_bytes(file))
        found = TokenizerFiles(json=model.json, config=config_text or model.config)
    else:
        raise TokenizerError(
            "no form of a tokenizer has such a name", found=file.name,
            hint="known: tokenizer.json, *.model, *.tiktoken, vocab.json with merges.txt, vocab.txt, *.gguf, llama2.c's *.bin",
        )  # fmt: skip
    _, listed = read_beside(file, ADDED_FILE)
    return with_added_tokens(found, listed, config, read_beside(file, MAP_FILE)[1]) if listed else found


def read_beside(file: Path, name: str) -> tuple[str | None, Mapping[str, Json]]:
    """The text and the values of a JSON file beside another; None and nothing where it is not there.

    Raises TokenizerError for one that cannot be read, and names that file.
    """
    beside = file.parent / name
    if not beside.is_file():
        return None, {}
    try:
        text = read_bytes(beside).decode()
        return text, parse_object(text)
    except ValueError as error:
        raise TokenizerError(
            f"{beside.name} cannot be read",
            found=shown(error),
            where=str(beside),
            hint="copy it again from where the model comes from",
        ) from None


def _check_open(file: Path, chosen: Chosen, *, pattern: bool, lowercase: bool) -> None:
    """Raise TokenizerError where a person chose what a file says itself: the choice would change nothing."""
    if chosen.pattern is not None and not pattern:
        raise TokenizerError(
            "this file says itself where a text is cut, so no pattern is chosen", found=f"--pattern {chosen.pattern}",
            hint="leave it out; rank files, vocab.json with merges.txt and GGUF files take one",
        )  # fmt: skip
    if chosen.lowercase is not None and not lowercase:
        raise TokenizerError(
            "only a vocab.txt leaves open whether capitals become small letters", found=file.name,
            hint="leave --lowercase and --no-lowercase out",
        )  # fmt: skip


def _is_ranks(file: Path) -> bool:
    """Whether a file holds tiktoken's ranks, by its ending or by its first line."""
    if file.suffix == SUFFIX:
        return True
    with file.open("rb") as opened:
        return RANK_LINE.match(opened.read(LINE_BYTES)) is not None


def _start(name: str, pair: tuple[str, str]) -> str | None:
    """What stands before one of two names that belong together, None where it is neither."""
    return next((name.removesuffix(end) for end in pair if name.endswith(end)), None)


def read_text(file: Path) -> str:
    """The text of a file. Raises TokenizerError for one that is not UTF-8."""
    try:
        return read_bytes(file).decode("utf-8")
    except UnicodeDecodeError as error:
        raise TokenizerError(
            f"{file.name} is not a text in UTF-8", found=shown(error),
            hint="a SentencePiece model is read under the name tokenizer.model",
        ) from None  # fmt: skip
