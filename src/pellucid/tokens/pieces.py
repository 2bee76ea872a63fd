"""The pieces of a text and how often each occurs, counted with compiled loops or by the engine: the same either way.

Small texts are left to the engine, so that nothing is compiled for them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import partial

from pellucid.events import NULL, Event, Recorder
from pellucid.tokens import plain
from pellucid.tokens.merge_limits import LONGEST, MOST_PIECES, ROUND, tell_cut, tell_forgotten
from pellucid.tokens.merges import cut, cutter_of, find_obstacle, weigh
from pellucid.tokens.models.wordpiece import merge_plainly
from pellucid.tokens.symbol_words import LearnMerges

# Symbols that the readable loop goes through: about a million a second on a busy machine. The compiled loops start within a second,
# or within half a minute where they have to be compiled.
WORTH_STARTING, WORTH_COMPILING = 1_000_000, 30_000_000


def count_pieces(texts: Iterable[str], pattern: str, *, max_han: int, recorder: Recorder = NULL) -> Mapping[bytes, int]:
    """The different pieces of some texts, in UTF-8, and how often each occurs; a piece is at most `LONGEST` bytes.

    `max_han`: most Chinese characters in a piece, 0 for no limit. Events: `tokens.counting_slowly` where the loops
    cannot run, and those of `fast.training.count`.

    >>> count_pieces(["the cat, the 猫猫"], "qwen2", max_han=1) == {b"the": 1, b" cat": 1, b",": 1, b" the": 1, b" ": 1,
    ...     "猫".encode(): 2}
    True
    """
    obstacle = find_obstacle()
    if obstacle:
        message = f"Hugging Face's engine counts the pieces, which takes longer: {obstacle}"
        recorder.record(Event(name="tokens.counting_slowly", message=message, data={"reason": obstacle}))
        return _count_by_engine(texts, pattern, max_han, recorder)
    texts, is_worth_it = weigh(texts)
    if is_worth_it:
        from pellucid.tokens.fast.training import count  # Numba is optional

        return dict(count(texts, pattern, max_han=max_han, recorder=recorder))
    return _count_by_engine(texts, pattern, max_han, recorder)


def find_merger(num_characters: int, most_merges: int, *, recorder: Recorder = NULL) -> LearnMerges:
    """What learns at most so many merges of words with so many characters in all: compiled loops, or the readable loop.

    The readable loop goes through all symbols for each merge, so it is left to small texts, and to few merges. Events: `tokens.training_slowly` where the loops cannot run, `tokens.compiling`, `tokens.compiled`, and later, while they are joined,
    `tokens.progress`.
    """
    work = num_characters * min(most_merges, num_characters)  # a merge takes a symbol away at least
    if work < WORTH_STARTING:
        return partial(merge_plainly, recorder=recorder)
    if obstacle := find_obstacle():
        message = f"the readable loop learns the merges, which takes longer: {obstacle}"
        recorder.record(Event(name="tokens.training_slowly", message=message, data={"reason": obstacle}))
        return partial(merge_plainly, recorder=recorder)
    from pellucid.tokens.fast.training import compile_loops, is_ready, merge_symbols  # Numba is optional

    if work < WORTH_COMPILING and not is_ready():
        return partial(merge_plainly, recorder=recorder)
    compile_loops(recorder)
    return partial(merge_symbols, recorder=recorder)


def _count_by_engine(texts: Iterable[str], pattern: str, max_han: int, recorder: Recorder) -> Mapping[bytes, int]:
    """The same by Hugging Face's engine, within the same bounds."""
    cutter, num_cut = cutter_of(pattern, max_han), 0

    def blocks() -> Iterator[list[bytes]]:
        nonlocal num_cut
        for text in texts:
            whole = [piece.encode("utf-8") for piece, _ in cutter.pre_tokenize_str(text)]
            num_cut += sum(len(piece) > LONGEST for piece in whole)
            yield [part for piece in whole for part in cut(piece)]

    counts, num_forgotten = plain.count_bounded(blocks(), ROUND, MOST_PIECES)
    tell_cut(num_cut, recorder)
    tell_forgotten(num_forgotten, len(counts), recorder)
    return counts
