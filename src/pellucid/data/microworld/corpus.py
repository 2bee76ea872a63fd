"""The microworld as a data set: documents for training, and held-out stories for evaluation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import count as count_from

from pellucid.data.microworld.splits import check_split
from pellucid.data.microworld.story import Story, document, story
from pellucid.errors import InputError


def documents(
    seed: int,
    *,
    level: int,
    count: int | None = None,
    num_bytes: int | None = None,
    languages: Sequence[str] = ("en", "zh"),
    split: str = "train",
) -> Iterator[str]:
    """Yield documents in alternating languages, until there are `count`, or at least `num_bytes` UTF-8 bytes.

    Raises: InputError unless exactly one of count and num_bytes is given, and at least one language.

    >>> english, chinese = documents(0, level=1, count=2)
    >>> english.isascii(), chinese.isascii()
    (True, False)
    """
    if (count is None) == (num_bytes is None) or not languages:
        raise InputError(
            "say how many stories to tell, and in which languages",
            found=f"count={count}, num_bytes={num_bytes}, languages={list(languages)}",
            hint="give either count or num_bytes",
        )
    written = 0
    for index in count_from():
        if index == count or (num_bytes is not None and written >= num_bytes):
            return
        text = document(seed, index, level=level, language=languages[index % len(languages)], split=split)
        if num_bytes is not None:
            written += len(text.encode())
        yield text


def held_out(seed: int, *, level: int, split: str, count: int, language: str) -> Iterator[Story]:
    """Yield stories that training never sees, for evaluation.

    Raises: InputError for the split "train", which is not held out.

    >>> [tale.split for tale in held_out(0, level=1, split="lengths", count=2, language="zh")]
    ['lengths', 'lengths']
    """
    if check_split(split) == "train":
        raise InputError("stories of the split train are not held out", found=split, hint="held_out, combinations, …")
    for index in range(count):
        yield story(seed, index, level=level, language=language, split=split)
