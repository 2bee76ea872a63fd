"""SentencePiece's `.model` files: pieces with scores and types, and how a text is rewritten before it is cut.

    normaliser      replacements of a table, spaces at the ends and runs of spaces removed, a space in front, spaces as ▁
    BPE             two neighbours are joined when together they are a piece, the best score first
    Unigram         the way to cut the text whose scores sum to the most
    types           normal; unknown and control (no text becomes them); user-defined (always one token); byte (what has no
                    piece is spelled in them); unused

The merges of a BPE are not in the file; they are all the ways of joining two pieces to a third, in the order of the
scores. A user-defined piece of a BPE is cut out of the text first; in a Unigram it has a score that no other way to cut
the text can reach, which is how SentencePiece itself does it.

The file is a Protocol Buffers message and is read by `protobuf.py`; neither `protobuf` nor `sentencepiece` is needed.

Source: Kudo & Richardson 2018, "SentencePiece"; field numbers of `sentencepiece_model.proto`.
"""

from __future__ import annotations

import base64
import math
import re
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pellucid.errors import TokenizerError
from pellucid.tokens import layout
from pellucid.tokens.byte_characters import BYTE_TOKENS
from pellucid.tokens.formats.canonical import (
    TokenizerFiles,
    canonical,
    steps,
)
from pellucid.tokens.formats.protobuf import BYTES, FIXED32, VARINT, fields
from pellucid.tokens.losses import EDGE_SPACES, PLAIN_SPACE, SPACE_RUNS
from pellucid.tokens.models import bpe
from pellucid.tokens.vocabulary import METASPACE, MOST_TOKENS, check_id
from pellucid.untrusted import shown

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6
KINDS: Mapping[int, Literal["unigram", "bpe"]] = {1: "unigram", 2: "bpe"}
PIECE, TRAINER, NORMALIZER, DENORMALIZER = 1, 2, 3, 5  # fields of the model
MODEL_TYPE, SPACE_AFTER, BYTE_FALLBACK, BOS_ID, EOS_ID = 3, 24, 35, 41, 42  # of what the trainer was told
TABLE, SPACE_FIRST, FEWER_SPACES, METASPACES = 2, 3, 4, 5  # of the normaliser
HINT = "give a SentencePiece model (often tokenizer.model or spiece.model)"
MOST_MERGED, MERGED_PER_CHARACTER = 1 << 20, 16  # characters of all merges; vocabularies in use have some 3 for each
MOST_STEPS = 1 << 28  # squares of the pieces' lengths, all together


@dataclass(frozen=True, kw_only=True)
class SentencePieceModel:
    """What a `.model` says, or a GGUF file of the same kind."""

    kind: Literal["unigram", "bpe"]
    pieces: Sequence[str]
    scores: Sequence[float]
    types: Sequence[int]  # NORMAL, UNKNOWN, …
    byte_fallback: bool
    table: bytes = b""  # replacements, see charsmap.py
    space_first: bool = True  # a space is put in front of the text
    fewer_spaces: bool = True  # spaces at the ends and runs of spaces are removed
    bos_id: int | None = None
    eos_id: int | None = None


def read_sentencepiece(data: bytes) -> TokenizerFiles:
    """A tokenizer from the bytes of a `.model`. Raises TokenizerError for what is none, and for a kind without a reader."""
    model = read_model(data)
    names = (model.pieces[i] if i is not None else None for i in (model.bos_id, model.eos_id))
    bos, eos = names
    return canonical(model_document(model), bos=bos, eos=eos)


def read_model(data: bytes) -> SentencePieceModel:
    """The values of a `.model`, checked one by one."""
    try:
        parts = _Message(data)
        trainer, normalizer = _Message(parts.last(TRAINER, b"")), _Message(parts.last(NORMALIZER, b""))
        pieces = [_Message(piece) for piece in parts.every(PIECE)]
        _refuse(trainer, parts, normalizer)
        types = [piece.number(3, NORMAL) for piece in pieces]
        model = SentencePieceModel(
            kind=KINDS[trainer.number(MODEL_TYPE, 1)],
            pieces=[piece.text(1) for piece in pieces],
            scores=[piece.float(2) for piece in pieces],
            types=types,
            byte_fallback=bool(trainer.number(BYTE_FALLBACK, 0)),
            table=normalizer.last(TABLE, b""),
            space_first=bool(normalizer.number(SPACE_FIRST, 1)),
            fewer_spaces=bool(normalizer.number(FEWER_SPACES, 1)),
            bos_id=_control(trainer.number(BOS_ID, 1), types),
            eos_id=_control(trainer.number(EOS_ID, 2), types),
        )
    except ValueError as error:
        raise TokenizerError("the file is not a SentencePiece model", found=shown(error), hint=HINT) from None
    check_pieces(model)
    return model


def model_document(model: SentencePieceModel) -> dict[str, Any]:
    """The `tokenizer.json` of a SentencePiece model."""
    hidden = [i for i, kind in enumerate(model.types) if kind in (UNKNOWN, CONTROL, UNUSED)]
    build = _unigram if model.kind == "unigram" else _bpe
    return layout.document(
        build(model),
        specials={model.pieces[i]: i for i in hidden},
        normalizer=normalizer(model),
        pre_tokenizer=steps("pretokenizers", *(_cuts(model) if model.kind == "bpe" else ())),
        decoder=decoder(model),
    )


def normalizer(model: SentencePieceModel) -> dict[str, Any] | None:
    """The steps that rewrite a text before it is cut."""
    return steps("normalizers", *_normalizers(model))


def decoder(model: SentencePieceModel) -> dict[str, Any]:
    """The steps from tokens back to text."""
    to_space = {"type": "Replace", "pattern": {"String": METASPACE}, "content": " "}
    fallback = [{"type": "ByteFallback"}] if model.byte_fallback else []
    strip = [{"type": "Strip", "content": " ", "start": 1, "stop": 0}] if model.space_first else []
    return {"type": "Sequence", "decoders": [to_space, *fallback, {"type": "Fuse"}, *strip]}


def score_merges(ids: Mapping[str, int], scores: Sequence[float]) -> Iterator[list[str]]:
    """Every way of joining two tokens to a third, best score first; equal scores in the order of the ids.

    Raises TokenizerError when their number says that the tokens were made to be many, not to be read.
    """
    known = {token: token for token in ids}  # one string for each spelling, however often it is named
    order = sorted((token for token in ids if len(token) > 1), key=lambda token: (-scores[ids[token]], ids[token]))
    left = MOST_MERGED + MERGED_PER_CHARACTER * sum(map(len, ids))
    for token in order:
        splits = ((known.get(token[:cut]), known.get(token[cut:])) for cut in range(1, len(token)))
        pairs = [(one, other) for one, other in splits if one is not None and other is not None]
        left -= len(pairs) * len(token)
        if left < 0:
            raise TokenizerError("the tokens of the file can be joined in too many ways", found=shown(token[:40]))
        yield from map(list, sorted(pairs, key=lambda pair: (ids[pair[0]], ids[pair[1]])))


def _normalizers(model: SentencePieceModel) -> Iterator[dict[str, Any]]:
    if model.table:
        yield {"type": "Precompiled", "precompiled_charsmap": base64.b64encode(model.table).decode("ascii")}
    if model.fewer_spaces:
        yield {"type": "Replace", "pattern": EDGE_SPACES, "content": ""}
        yield {"type": "Replace", "pattern": SPACE_RUNS, "content": " "}
    if model.space_first:
        yield {"type": "Prepend", "prepend": METASPACE}
    yield {"type": "Replace", "pattern": PLAIN_SPACE, "content": METASPACE}


def _unigram(model: SentencePieceModel) -> dict[str, Any]:
    best = max([s for s, kind in zip(model.scores, model.types, strict=True) if kind == NORMAL], default=0.0)
    scores = [
        len(piece.encode("utf-8")) * max(best, 0.0) - 0.1 if kind == USER_DEFINED else score
        for piece, score, kind in zip(model.pieces, model.scores, model.types, strict=True)
    ]
    return {
        "type": "Unigram",
        "unk_id": model.types.index(UNKNOWN),
        "vocab": [list(pair) for pair in zip(model.pieces, scores, strict=True)],
        "byte_fallback": model.byte_fallback,
    }


def _bpe(model: SentencePieceModel) -> dict[str, Any]:
    vocab = {piece: i for i, piece in enumerate(model.pieces)}
    joined = _joined(model)
    own = [piece for piece, i in vocab.items() if model.types[i] == USER_DEFINED]
    if own:
        _check_reached(joined, model.scores)
    merges = score_merges(joined, model.scores)
    unknown = model.pieces[model.types.index(UNKNOWN)]
    return bpe.model(
        vocab, merges, unk_token=unknown, fuse_unk=True, byte_fallback=model.byte_fallback, ignore_merges=bool(own)
    )


def _cuts(model: SentencePieceModel) -> Iterator[dict[str, Any]]:
    """Cut user-defined pieces out of the text, the longest first.

    Each is then taken whole. So would be six characters between two of them that spell a byte (`<0x41>`), which are cut
    once more where joining leaves a border anyway.
    """
    own = [piece for piece, kind in zip(model.pieces, model.types, strict=True) if kind == USER_DEFINED]
    if not own:
        return
    yield layout.split("|".join(map(re.escape, sorted(own, key=len, reverse=True))))
    if model.byte_fallback:
        joined = _joined(model)
        firsts = {len(_join(token, joined, model.scores)[0]) for token in BYTE_TOKENS}
        if firsts != {1}:
            raise TokenizerError("the file has user-defined pieces, and pieces that begin like the name of a byte")
        yield layout.split(r"\A<(?=0x[0-9A-F]{2}>\z)")


def _joined(model: SentencePieceModel) -> dict[str, int]:
    return {piece: i for i, piece in enumerate(model.pieces) if model.types[i] == NORMAL}


def _check_reached(ids: Mapping[str, int], scores: Sequence[float]) -> None:
    """A piece cut out of the text is taken whole (`ignore_merges`): that must change nothing for all others."""
    if sum(len(piece) ** 2 for piece in ids) > MOST_STEPS:
        raise TokenizerError("the pieces of the file are too long for their number", found=f"{len(ids):,} pieces")
    for piece in ids:
        if len(_join(piece, ids, scores)) > 1:
            raise TokenizerError(
                "the file has user-defined pieces and a piece that joining never makes", found=shown(piece),
                hint="use the tokenizer.json of this model",
            )  # fmt: skip


def _join(text: str, ids: Mapping[str, int], scores: Sequence[float]) -> list[str]:
    """What joining makes of the characters of a text."""
    parts = list(text)
    while sums := [(-scores[ids[s]], i) for i in range(len(parts) - 1) if (s := parts[i] + parts[i + 1]) in ids]:
        _, i = min(sums)
        parts[i : i + 2] = [parts[i] + parts[i + 1]]
    return parts


def check_pieces(model: SentencePieceModel) -> None:
    """Raise TokenizerError for pieces that SentencePiece itself would refuse."""
    if not 0 < len(model.pieces) <= MOST_TOKENS or model.types.count(UNKNOWN) != 1:
        found = f"{len(model.pieces):,} pieces, {model.types.count(UNKNOWN)} of them unknown"
        raise TokenizerError("a SentencePiece model has pieces, and one for the unknown", found=found, hint=HINT)
    if len(set(model.pieces)) < len(model.pieces) or "" in model.pieces:
        raise TokenizerError("two pieces of the model are spelled the same way, or one is empty", hint=HINT)
    for piece, kind, score in zip(model.pieces, model.types, model.scores, strict=True):
        check_id(piece, 0)
        if not NORMAL <= kind <= BYTE or not math.isfinite(score):
            raise TokenizerError("a piece has no type or no score", found=f"{piece!r}: {kind}, {score}", hint=HINT)
        if (kind == BYTE) != (piece in BYTE_TOKENS and model.byte_fallback) and (kind == BYTE or model.byte_fallback):
            raise TokenizerError("a piece is named like a byte and is none, or the other way", found=shown(piece))
    if model.byte_fallback and model.types.count(BYTE) != len(BYTE_TOKENS):
        raise TokenizerError("some bytes have no piece", found=f"{model.types.count(BYTE)} of 256", hint=HINT)


def _refuse(trainer: _Message, parts: _Message, normalizer: _Message) -> None:
    """Raise ValueError for what a model may say and this does not do."""
    kind = trainer.number(MODEL_TYPE, 1)
    if kind not in KINDS:
        raise ValueError(f"a model of the type {kind}: 1 (Unigram) and 2 (BPE) are known")
    if trainer.number(SPACE_AFTER, 0):
        raise ValueError("a space is put behind the text (treat_whitespace_as_suffix)")
    if not normalizer.number(METASPACES, 1):
        raise ValueError("spaces stay spaces (escape_whitespaces)")
    if _Message(parts.last(DENORMALIZER, b"")).last(TABLE, b""):
        raise ValueError("text is rewritten after decoding (denormalizer_spec)")


def _control(token_id: int, types: Sequence[int]) -> int | None:
    return token_id if 0 <= token_id < len(types) and types[token_id] == CONTROL else None


class _Message:
    """The fields of a message by number, each asked for by the type that the schema gives it."""

    def __init__(self, data: bytes) -> None:
        self.found: dict[tuple[int, int], list[Any]] = {}
        for number, wire, value in fields(data):
            self.found.setdefault((number, wire), []).append(value)

    def every(self, number: int) -> list[bytes]:
        return self.found.get((number, BYTES), [])

    def last(self, number: int, default: bytes) -> bytes:
        return self.found.get((number, BYTES), [default])[-1]

    def text(self, number: int) -> str:
        return self.last(number, b"").decode("utf-8")

    def number(self, number: int, default: int) -> int:
        value: int = self.found.get((number, VARINT), [default])[-1]
        return value - (1 << 64) if value >= 1 << 63 else value

    def float(self, number: int) -> float:
        value: float = struct.unpack("<f", self.found.get((number, FIXED32), [bytes(4)])[-1])[0]
        return value
