"""Loss weights: how much each token counts in training, given by a person for spans of characters.

    a row of .jsonl     {"text": "Where is Anna? The garden.", "weights": [[15, 25, 3.0]]}
    its document        Span(start=15, stop=25, weight=3.0)           characters of the text
    its tokens          a token takes the largest weight of the characters that it stands for
    weights.bin         one record for each run of tokens whose weight is not 1

Text outside all spans weighs 1. Weight 0 leaves a token out of the loss, but the model still reads it. Training
multiplies the loss of each target by its weight and divides by the sum of the weights. Evaluation leaves out tokens of
weight 0 and counts all others as 1.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np

from pellucid.counts import counted
from pellucid.errors import RecordError, TokenizerError

WEIGHTS = "weights.bin"
WEIGHT = np.dtype([("start", "<u8"), ("stop", "<u8"), ("weight", "<f4")])  # tokens [start, stop) of the stream
MOST_SPANS = 100_000  # of one row
MOST_WEIGHT = 1e6


@dataclass(frozen=True, kw_only=True)
class Span:
    """The characters [start, stop) of a text, and their weight."""

    start: int
    stop: int
    weight: float


def spans_within(spans: Iterable[Span], start: int, stop: int) -> tuple[Span, ...]:
    """The parts of spans that lie in the characters [start, stop), counted from there.

    >>> spans_within([Span(start=2, stop=6, weight=3.0), Span(start=8, stop=9, weight=0.0)], 4, 8)
    (Span(start=0, stop=2, weight=3.0),)
    """
    cut = (replace(span, start=max(span.start, start) - start, stop=min(span.stop, stop) - start) for span in spans)
    return tuple(span for span in cut if span.start < span.stop)


def spans_with_line_feeds(spans: Iterable[Span], text: str) -> tuple[Span, ...]:
    """The same spans in the text in which each CRLF has become one LF."""

    def moved(place: int) -> int:
        return place - text.count("\r\n", 0, place)

    return tuple(replace(span, start=moved(span.start), stop=moved(span.stop)) for span in spans)


def read_spans(value: Any, length: int, field: str, where: str) -> tuple[Span, ...]:
    """Read the spans of a row, in order: [[first, last + 1, weight], …] for a text of `length` characters.

    Raises RecordError for anything else: another shape, a place outside the text, spans that overlap, a weight that is
    negative or not a number.

    >>> read_spans([[0, 5, 2]], 10, "weights", "rows.jsonl, line 1")
    (Span(start=0, stop=5, weight=2.0),)
    """

    def wrong(what: str, found: object) -> RecordError:
        hint = f'write "{field}": [[first character, last + 1, weight], …], counted from 0'
        return RecordError(f"{field!r} {what}", found=repr(found)[:200], where=where, hint=hint)

    if not isinstance(value, list) or len(value) > MOST_SPANS:
        raise wrong(f"is not a list of at most {MOST_SPANS:,} spans", value)
    spans = []
    for item in value:
        if not isinstance(item, list) or len(item) != 3 or any(isinstance(part, bool) for part in item):
            raise wrong("holds something that is not a span", item)
        start, stop, weight = item
        if isinstance(start, int) and isinstance(stop, int) and start > stop:
            raise wrong("has a span that ends before it begins", item)
        if not isinstance(start, int) or not isinstance(stop, int) or not 0 <= start <= stop <= length:
            raise wrong(f"names characters that are not in the text, which has {length:,}", item)
        if not isinstance(weight, (int, float)) or not is_weight(np.float64(weight)):
            raise wrong(f"holds a weight that is not a number from 0 to {MOST_WEIGHT:,.0f}", item)
        spans.append(Span(start=start, stop=stop, weight=float(weight)))
    spans.sort(key=lambda span: (span.start, span.stop))
    for before, after in pairwise(spans):
        if after.start < before.stop:
            raise wrong("holds spans that overlap", [[before.start, before.stop], [after.start, after.stop]])
    return tuple(spans)


def is_weight(value: np.ndarray | np.floating) -> np.ndarray | np.bool_:
    """Whether each number can be a weight: from 0 to MOST_WEIGHT."""
    return (value >= 0) & (value <= MOST_WEIGHT)  # false for what is not a number


def token_weights(text: str, spans: Sequence[Span], num_bytes_N: np.ndarray, where: str) -> np.ndarray:
    """The weight of each token of a text, float32 [N]; `num_bytes_N` says how many bytes of the text each token spells.

    Raises TokenizerError when the tokens do not spell the text, so that no character has a token.

    >>> token_weights("ab 你", [Span(start=3, stop=4, weight=0.0)], np.array([2, 1, 2, 1]), "").tolist()
    [1.0, 1.0, 0.0, 0.0]
    """
    num_bytes_C = [len(character.encode()) for character in text]
    ends_C = np.concatenate(([0], np.cumsum(num_bytes_C, dtype=np.int64)))
    if num_bytes_N.sum() != ends_C[-1] or (num_bytes_N == 0).any():
        raise TokenizerError(
            "weights of characters need a tokenizer whose tokens spell the text byte by byte",
            found=f"{counted(int(num_bytes_N.sum()), 'byte')} in tokens, {int(ends_C[-1]):,} in the text",
            where=where,
            hint="train a tokenizer of this program, or leave out data.weights",
        )
    weight_of_byte = np.ones(int(ends_C[-1]), np.float32)
    for span in spans:
        weight_of_byte[ends_C[span.start] : ends_C[span.stop]] = span.weight
    starts_N = np.cumsum(num_bytes_N, dtype=np.int64) - num_bytes_N
    return np.maximum.reduceat(weight_of_byte, starts_N) if len(starts_N) else np.ones(0, np.float32)


def runs_of(weights_N: np.ndarray, start: int) -> np.ndarray:
    """The runs of equal weights other than 1 as records (`WEIGHT`); the first token is at position `start`.

    >>> runs_of(np.array([1, 3, 3, 1, 0], np.float32), 10).tolist()
    [(11, 13, 3.0), (14, 15, 0.0)]
    """
    edges = np.flatnonzero(np.diff(weights_N)) + 1
    starts, stops = np.concatenate(([0], edges)), np.concatenate((edges, [len(weights_N)]))
    records = np.zeros(len(starts), WEIGHT)
    records["start"], records["stop"], records["weight"] = starts + start, stops + start, weights_N[starts]
    return records[records["weight"] != 1]


def weights_at(records: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """The weight of the token at each position, float32 of the same shape, from records in order.

    >>> weights_at(runs_of(np.array([1, 3, 3, 1], np.float32), 0), np.array([[0, 1], [2, 3]])).tolist()
    [[1.0, 3.0], [3.0, 1.0]]
    """
    if not len(records):
        return np.ones(positions.shape, np.float32)
    found = np.searchsorted(records["start"], positions, side="right") - 1
    inside = (found >= 0) & (positions < records["stop"][np.maximum(found, 0)])
    return np.where(inside, records["weight"][np.maximum(found, 0)], np.float32(1))
