r"""Learning the merges of byte-pair encoding from text: with compiled loops, or by Hugging Face's trainer.

    a stream of texts -> pieces and how often each occurs -> merges, the most frequent pair first

Both ways give the same merges. The loops (`fast/count.py`, `fast/merge.py`) are some times faster, count in 64 bits and
take O(n log n) time whatever the text, but they have to be compiled once on each machine. So a small text is left to the
trainer, unless it holds a run without any place to cut: on those the trainer takes quadratic time.

A piece of more than `LONGEST` bytes is cut before it is counted, on both ways: no vocabulary has tokens as long.
"""

from __future__ import annotations

import importlib.util
import json
import re
from collections.abc import Iterable, Iterator
from itertools import chain

import tokenizers
from tokenizers import models, pre_tokenizers, trainers

from pellucid.events import NULL, Event, Recorder
from pellucid.tokens.byte_characters import BYTE_CHARACTERS, NUM_BYTES
from pellucid.tokens.merge_limits import LEAST_COUNT, LONGEST, Limits
from pellucid.tokens.patterns import PATTERNS
from pellucid.tokens.progress import merging
from pellucid.tokens.utf8 import text_bytes

LONG_RUN = re.compile(
    rf"\S{{{LONGEST // 4}}}|\s{{{LONGEST // 4}}}"
)  # where a longer piece could be: four bytes a character
ENDLESS_BLOCK = 1 << 14  # characters of a text in which there was no place to cut
# On a busy machine the trainer took 0.3 to 1.5 s for a megabyte, English the least; the loops a third to a tenth of that, after
# half a second for loading them, or 15 to 40 where they had to be compiled.
WORTH_STARTING, WORTH_COMPILING = 1 << 20, 6_000_000  # bytes of text


def learn_merges(texts: Iterable[str], limits: Limits, *, recorder: Recorder = NULL) -> list[tuple[str, str]]:
    """The merges of some texts in order, each token spelled in byte characters.

    Events: `tokens.training_slowly` where the loops cannot run, `tokens.progress`, and those of `fast.training.learn_by_loops`.

    >>> learn_merges(["low low low"], Limits(num_tokens=258, pattern="qwen2"))
    [('l', 'o'), ('lo', 'w')]
    """
    if obstacle := find_obstacle():
        message = f"Hugging Face's trainer learns the merges, which takes longer: {obstacle}"
        recorder.record(Event(name="tokens.training_slowly", message=message, data={"reason": obstacle}))
        return _learn_slowly(texts, limits, recorder)
    texts, is_worth_it = weigh(texts)
    if is_worth_it:
        from pellucid.tokens.fast.training import learn_by_loops  # Numba is optional

        return learn_by_loops(texts, limits, recorder=recorder)
    return _learn_slowly(texts, limits, recorder)


def weigh(texts: Iterable[str]) -> tuple[Iterable[str], bool]:
    """The same texts, and whether they are enough for compiled loops, or hold a run on which the engine takes too long."""
    texts = iter(texts)
    first: list[str] = []
    size = 0
    for text in texts:
        first.append(text)
        size += len(text_bytes(text))
        if len(text) > ENDLESS_BLOCK or size >= WORTH_STARTING:
            from pellucid.tokens.fast.training import is_ready  # Numba is optional

            if len(text) > ENDLESS_BLOCK or size >= WORTH_COMPILING or is_ready():
                return chain(first, texts), True
    return first, False


def find_obstacle() -> str:
    """Why compiled loops cannot run here; empty when they can."""
    return "" if importlib.util.find_spec("numba") else "Numba is not installed"


def _learn_slowly(texts: Iterable[str], limits: Limits, recorder: Recorder) -> list[tuple[str, str]]:
    """By the trainer, which says nothing while it learns: so a long wait is announced by a progress of none."""
    texts = list(texts)
    if sum(map(len, texts)) >= WORTH_STARTING:
        recorder.record(merging(0, limits.num_tokens - NUM_BYTES))
    return learn_by_engine(texts, limits)


def learn_by_engine(texts: Iterable[str], limits: Limits) -> list[tuple[str, str]]:
    """The same by Hugging Face's trainer: the slow twin, which also counts in 31 bits."""
    texts = list(texts)
    cutter = cutter_of(limits.pattern, limits.max_han)
    engine = tokenizers.Tokenizer(models.BPE())
    if any(_has_long_piece(text, cutter) for text in texts):  # then the trainer gets pieces: cut and spelled here
        texts = [" ".join(_spelled_pieces(text, cutter)) for text in texts]
        engine.pre_tokenizer = pre_tokenizers.Split(" ", "removed")
    else:
        spell = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        engine.pre_tokenizer = pre_tokenizers.Sequence([cutter, spell])
    trainer = trainers.BpeTrainer(
        vocab_size=limits.num_tokens if limits.max_token_bytes > 1 else NUM_BYTES,  # its limit lets every pair through
        min_frequency=LEAST_COUNT,
        initial_alphabet=list(BYTE_CHARACTERS),
        max_token_length=limits.max_token_bytes + 1,  # what it is given is one too long
        show_progress=False,
    )
    engine.train_from_iterator(texts, trainer)
    return [(left, right) for left, right in json.loads(engine.to_str())["model"]["merges"]]


def cutter_of(pattern: str, max_han: int) -> pre_tokenizers.PreTokenizer:
    """What cuts a text into pieces for training: the pattern, then runs of more than `max_han` Chinese characters."""
    steps = [_split(PATTERNS[pattern])]
    if max_han:
        steps.append(_split(rf"\p{{Han}}{{1,{max_han}}}"))
    return pre_tokenizers.Sequence(steps)


def _split(expression: str) -> pre_tokenizers.PreTokenizer:
    return pre_tokenizers.Split(tokenizers.Regex(expression), "isolated")


def _has_long_piece(text: str, cutter: pre_tokenizers.PreTokenizer) -> bool:
    """Whether some piece is longer than `LONGEST` bytes."""
    found = cutter.pre_tokenize_str(text) if LONG_RUN.search(text) else ()
    return any(len(piece.encode("utf-8")) > LONGEST for piece, _ in found)


def _spelled_pieces(text: str, cutter: pre_tokenizers.PreTokenizer) -> Iterator[str]:
    """The pieces of a text in byte characters, the long ones in parts of as many whole characters as fit."""
    for piece, _ in cutter.pre_tokenize_str(text):
        for part in cut(piece.encode("utf-8")):
            yield "".join(BYTE_CHARACTERS[byte] for byte in part)


def cut(data: bytes) -> Iterator[bytes]:
    """A piece in parts of as many whole characters as fit into `LONGEST` bytes."""
    start = 0
    while start < len(data):
        stop = start + LONGEST
        while stop < len(data) and data[stop] & 0xC0 == 0x80:  # inside of a character
            stop -= 1
        yield data[start:stop]
        start = stop
