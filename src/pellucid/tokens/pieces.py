"""The pieces of a text and how often each occurs, counted with compiled loops or by the engine: the same either way.

Small texts are left to the engine, so that nothing is compiled for them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from pellucid.events import NULL, Event, Recorder
from pellucid.tokens.merge_limits import LONGEST
from pellucid.tokens.merges import cut, cutter_of, find_obstacle, weigh
from pellucid.tokens.models.wordpiece import LearnMerges

WORTH_MERGING = 50_000  # characters of different words: fewer are joined by the readable loop in a moment


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
        return _count_by_engine(texts, pattern, max_han)
    texts, is_worth_it = weigh(texts)
    if is_worth_it:
        from pellucid.tokens.fast.training import count  # Numba is optional

        return dict(count(texts, pattern, max_han=max_han, recorder=recorder))
    return _count_by_engine(texts, pattern, max_han)


def find_merger(num_characters: int, *, recorder: Recorder = NULL) -> LearnMerges | None:
    """What joins the symbols of words that have so many characters in all: compiled loops, or None, the readable loop."""
    if num_characters < WORTH_MERGING or find_obstacle():
        return None
    from pellucid.tokens.fast.training import compile_loops, merge_symbols

    compile_loops(recorder)
    return merge_symbols


def _count_by_engine(texts: Iterable[str], pattern: str, max_han: int) -> dict[bytes, int]:
    cutter = cutter_of(pattern, max_han)
    counts: Counter[bytes] = Counter()
    for text in texts:
        for piece, _ in cutter.pre_tokenize_str(text):
            data = piece.encode("utf-8")
            counts.update([data] if len(data) <= LONGEST else cut(data))
    return dict(counts)
