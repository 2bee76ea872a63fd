"""What a trace says of itself beside its numbers, key by key: the names that files and the page know it by.

The page reads the same keys (`web/src/types.ts`). A header from a file is of a known version (`trace.SCHEMA`); its
values are taken at their word.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, TypedDict


class Chip(TypedDict):
    """One token of the row, as a person can read it."""

    id: int
    text: str
    label: str  # a few signs, white space made visible
    bytes: list[int]
    group: int  # tokens that share a character are of one group
    kind: str  # "text", "byte" when its bytes are not whole characters, "special"
    start: int  # its span in the bytes of the row
    end: int


class ChipGroup(TypedDict):
    """Neighbouring tokens that whole characters hold together."""

    tokens: list[int]  # their places in the row
    text: str | None  # None where the bytes are no text
    start: int
    end: int


class Origin(TypedDict):
    """Where a model is from."""

    name: str
    sha256: Mapping[str, str] | None  # file name -> hash; None for a model that lies in no file
    family: str | None
    checkpoint_step: int | None


class TracedModel(Origin):
    """The model that was traced: where it is from, and what a page must know to draw it."""

    parameters: int
    dtype: str
    axes: Mapping[str, object]


class SourceRow(TypedDict):
    """The source that an encoder reads, as a row of tokens."""

    text: str
    tokens: list[Chip]
    groups: list[ChipGroup]


class ArrayKind(TypedDict):
    """What one array is like."""

    shape: Sequence[int]
    dtype: str


class LikelyToken(TypedDict):
    """A token that may come next, or stand where one is hidden, and its probability."""

    id: int
    label: str
    p: float


class Check(TypedDict):
    """One thing that must hold: how far off it is, and how far it may be."""

    name: str
    value: float
    limit: float | None  # None: any
    ok: bool


class TraceHeader(TypedDict):
    """What was traced, and what was found to hold of it."""

    schema: int
    model: TracedModel
    text: str
    tokens: list[Chip]
    groups: list[ChipGroup]
    source: SourceRow | None  # of a model with an encoder
    arrays: Mapping[str, ArrayKind]
    next: list[LikelyToken]  # the likeliest first; none where nothing is predicted
    predicts: Literal["next", "hidden"]  # what follows a token, or a token that is hidden in the row
    predicted: int | None  # the position whose prediction `next` is; None: no token is hidden
    logits_from: int  # the first position whose logits were kept; as many as there are where none were
    checks: list[Check]
