"""Learning merges with compiled loops: text -> pieces and counts -> integer symbols -> merges -> byte characters."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from pellucid.counts import counted
from pellucid.events import NULL, Event, Recorder
from pellucid.tokens.byte_characters import BYTE_CHARACTERS, NUM_BYTES
from pellucid.tokens.fast.compile import is_compiled
from pellucid.tokens.fast.count import PieceCounter, PieceCounts
from pellucid.tokens.fast.merge import MergeLoop, Merges
from pellucid.tokens.fast.telling import telling_of_compilation
from pellucid.tokens.merge_limits import LEAST_COUNT, LONGEST, Limits

TRAINING = "training"  # the name under which these loops are remembered as compiled
ALPHABET = sorted(range(NUM_BYTES), key=lambda byte: ord(BYTE_CHARACTERS[byte]))  # the order that breaks ties
SYMBOLS = np.argsort(ALPHABET).astype(np.int32)  # byte -> its place in it


def is_ready() -> bool:
    """Whether the loops are compiled already."""
    return is_compiled(TRAINING)


def learn_by_loops(texts: Iterable[str], limits: Limits, *, recorder: Recorder = NULL) -> list[tuple[str, str]]:
    """The merges of some texts in order, each token spelled in byte characters.

    Events: `tokens.compiling`, `tokens.progress`, `tokens.pieces_cut`, `tokens.pieces_forgotten`.
    """
    return _learn(count(texts, limits.pattern, max_han=limits.max_han, recorder=recorder), limits, recorder)


def count(texts: Iterable[str], pattern: str, *, max_han: int, recorder: Recorder = NULL) -> PieceCounts:
    """The pieces of some texts and how often each occurs.

    Events: `tokens.compiling`, `tokens.pieces_cut`, `tokens.pieces_forgotten`.
    """
    compile_loops(recorder)
    counter = PieceCounter(pattern, max_han=max_han)
    for text in texts:
        counter.feed(text)
    pieces = counter.finish()
    _report(pieces, recorder)
    return pieces


def merge_symbols(
    symbols: NDArray[np.int32],
    starts: NDArray[np.int64],
    counts: NDArray[np.int64],
    *,
    num_symbols: int,
    most_new: int,
    least_count: int,
) -> list[tuple[int, int]]:
    """The merges of words as symbols: `models.wordpiece.LearnMerges` by the compiled loop."""
    sizes = np.ones(num_symbols, np.int64)
    loop = MergeLoop(symbols, starts, counts, sizes=sizes, most_new=most_new, least_count=least_count)
    return [(left, right) for left, right in loop.run().pairs.tolist()]


def compile_loops(recorder: Recorder) -> None:
    """Compile what training needs, or load it from disk."""
    with telling_of_compilation(TRAINING, recorder):
        counter = PieceCounter("qwen2", num_threads=1)
        counter.feed("to be or not to be " * 9)
        pieces = counter.finish()
        words, sizes = SYMBOLS[pieces.text], np.ones(NUM_BYTES, np.int64)
        MergeLoop(words, pieces.starts, pieces.counts, sizes=sizes, most_new=9, room=1).run()  # where room must be made


def _learn(pieces: PieceCounts, limits: Limits, recorder: Recorder) -> list[tuple[str, str]]:
    wanted = limits.num_tokens - NUM_BYTES
    loop = MergeLoop(
        SYMBOLS[pieces.text],
        pieces.starts,
        pieces.counts,
        sizes=np.ones(NUM_BYTES, np.int64),
        most_new=wanted,
        least_count=LEAST_COUNT,
        longest=limits.max_token_bytes,
    )
    for num in loop.steps():
        data = {"done": num, "total": wanted}
        recorder.record(Event(name="tokens.progress", message=f"{num:,} of {wanted:,} merges", data=data))
    return _spelled(loop.learned())


def _report(pieces: PieceCounts, recorder: Recorder) -> None:
    if pieces.num_cut:
        message = f"{counted(pieces.num_cut, 'piece')} of the text longer than {LONGEST:,} bytes were cut"
        data = {"cut": pieces.num_cut, "longest": LONGEST}
        recorder.record(Event(name="tokens.pieces_cut", message=message, data=data))
    if pieces.num_forgotten:
        message = f"{pieces.num_forgotten:,} occurrences of rare pieces were left out, to stay within the memory"
        data = {"forgotten": pieces.num_forgotten, "kept": len(pieces.counts)}
        recorder.record(Event(name="tokens.pieces_forgotten", message=message, data=data))


def _spelled(merges: Merges) -> list[tuple[str, str]]:
    """Pairs of symbols as pairs of tokens; of a pair that was merged twice the later one counts."""
    tokens = [BYTE_CHARACTERS[byte] for byte in ALPHABET]
    known = set(tokens)
    pairs: dict[tuple[str, str], None] = {}
    for left, right in merges.pairs.tolist():
        pair = (tokens[left], tokens[right])
        pairs.pop(pair, None)
        pairs[pair] = None
        if (token := pair[0] + pair[1]) not in known:
            known.add(token)
            tokens.append(token)
    return list(pairs)
