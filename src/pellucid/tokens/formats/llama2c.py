"""The tokenizer of llama2.c (`tokenizer.bin`): the pieces of a SentencePiece BPE, each with its score.

    u32 bytes of the longest piece · for each piece: f32 score · u32 length · its bytes, in UTF-8

A space stands for SentencePiece's ▁. The file does not say what a piece is for, so that follows from its place: the
first three are the unknown, <s> and </s> (the last two with line ends around them, which text cannot have in one piece),
the next 256 the bytes.

Source: `tokenizer.py` (what writes it) and `run.c` (what reads it) of https://github.com/karpathy/llama2.c.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator

from pellucid.errors import TokenizerError
from pellucid.tokens.byte_characters import BYTE_TOKENS
from pellucid.tokens.formats.canonical import TokenizerFiles, canonical
from pellucid.tokens.formats.sentencepiece import (
    BYTE,
    CONTROL,
    NORMAL,
    UNKNOWN,
    SentencePieceModel,
    check_pieces,
    model_document,
)
from pellucid.tokens.vocabulary import METASPACE, MOST_TOKENS
from pellucid.untrusted import shown

FIRST = ("<unk>", "<s>", "</s>")  # the ids 0, 1, 2
HEAD, ENTRY = struct.Struct("<I"), struct.Struct("<fI")
HINT = "give the tokenizer.bin (or tok512.bin) that belongs to the model"


def read_llama2c(data: bytes) -> TokenizerFiles:
    """A tokenizer from the bytes of a `tokenizer.bin`. Raises TokenizerError for what is none."""
    try:
        entries = list(_entries(data))
        spelled = [piece.decode("utf-8") for _, piece in entries]
    except (ValueError, struct.error) as error:
        raise TokenizerError("the file is not a tokenizer of llama2.c", found=shown(error), hint=HINT) from None
    if [piece.strip("\n") for piece in spelled[:3]] != list(FIRST) or spelled[3:259] != list(BYTE_TOKENS):
        what = "a tokenizer of llama2.c begins with <unk>, <s>, </s> and the 256 bytes"
        raise TokenizerError(what, found=shown(spelled[:4]), hint=HINT)
    plain = [piece.replace(" ", METASPACE) for piece in spelled[259:]]
    model = SentencePieceModel(
        kind="bpe", pieces=[*FIRST, *BYTE_TOKENS, *plain], scores=[score for score, _ in entries],
        types=[UNKNOWN, CONTROL, CONTROL, *[BYTE] * len(BYTE_TOKENS), *[NORMAL] * len(plain)],
        byte_fallback=True, fewer_spaces=False,
    )  # fmt: skip
    check_pieces(model)
    return canonical(model_document(model), bos=FIRST[1], eos=FIRST[2])


def _entries(data: bytes) -> Iterator[tuple[float, bytes]]:
    """Score and bytes of each piece. Raises ValueError or struct.error where the file ends inside one."""
    HEAD.unpack_from(data)  # nothing here needs to know the longest
    at, count = HEAD.size, 0
    while at < len(data):
        score, length = ENTRY.unpack_from(data, at)
        at += ENTRY.size
        count += 1
        if length > len(data) - at or count > MOST_TOKENS or not math.isfinite(score):
            raise ValueError(f"piece {count - 1}: {length:,} bytes, score {score:g}, {len(data) - at:,} bytes left")
        yield score, data[at : at + length]
        at += length
