"""Learning merges with compiled loops: text -> pieces and counts -> integer symbols -> merges -> byte characters."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from pellucid.events import NULL, Recorder
from pellucid.tokens.byte_characters import BYTE_CHARACTERS, NUM_BYTES
from pellucid.tokens.fast.compile import CACHE
from pellucid.tokens.fast.count import PieceCounter, PieceCounts
from pellucid.tokens.fast.merge import MergeLoop, Merges
from pellucid.tokens.fast.telling import telling_of_compilation
from pellucid.tokens.merge_limits import LEAST_COUNT, Limits, tell_cut, tell_forgotten
from pellucid.tokens.progress import merging
from pellucid.tokens.symbol_words import SymbolWords

TRAINING = "training"  # the name under which these loops are remembered as compiled
ALPHABET = sorted(range(NUM_BYTES), key=lambda byte: ord(BYTE_CHARACTERS[byte]))  # the order that breaks ties
SYMBOLS = np.argsort(ALPHABET).astype(np.int32)  # byte -> its place in it


def is_ready() -> bool:
    """Whether the loops are compiled already."""
    return CACHE.has(TRAINING)


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
    tell_cut(pieces.num_cut, recorder)
    tell_forgotten(pieces.num_forgotten, len(pieces.counts), recorder)
    return pieces


def merge_symbols(
    words: SymbolWords, *, most_new: int, least_count: int, recorder: Recorder = NULL
) -> list[tuple[int, int]]:
    """The merges of words of symbols by the compiled loop: it is a `symbol_words.LearnMerges`."""
    loop = MergeLoop(words, most_new=most_new, least_count=least_count)
    return [(left, right) for left, right in _run(loop, most_new, recorder).pairs.tolist()]


def compile_loops(recorder: Recorder) -> None:
    """Compile what training needs, or load it from disk."""
    with telling_of_compilation(TRAINING, recorder):
        counter = PieceCounter("qwen2", num_threads=1)
        counter.feed("to be or not to be " * 9)
        pieces = counter.finish()
        MergeLoop(_as_symbols(pieces), most_new=9, room=1).run()  # where room must be made


def _learn(pieces: PieceCounts, limits: Limits, recorder: Recorder) -> list[tuple[str, str]]:
    wanted = limits.num_tokens - NUM_BYTES
    loop = MergeLoop(_as_symbols(pieces), most_new=wanted, least_count=LEAST_COUNT, longest=limits.max_token_bytes)
    return _spelled(_run(loop, wanted, recorder))


def _as_symbols(pieces: PieceCounts) -> SymbolWords:
    return SymbolWords(symbols=SYMBOLS[pieces.text], starts=pieces.starts, counts=pieces.counts, num_symbols=NUM_BYTES)


def _run(loop: MergeLoop, wanted: int, recorder: Recorder) -> Merges:
    recorder.record(merging(0, wanted))
    for num in loop.steps():
        recorder.record(merging(num, wanted))
    return loop.learned()


def _spelled(merges: Merges) -> list[tuple[str, str]]:
    """Pairs of symbols as pairs of tokens in byte characters."""
    tokens = [BYTE_CHARACTERS[byte] for byte in ALPHABET]
    for left, right in merges.pairs.tolist():
        tokens.append(tokens[left] + tokens[right])
    return [(tokens[left], tokens[right]) for left, right in merges.pairs.tolist()]
