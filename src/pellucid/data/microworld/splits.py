"""The train/test splits of the microworld, decided by rules that hold for every seed.

    train          the stories to learn from
    held_out       other courses of events, in the same wordings
    combinations   a thing together with a person or a place that never occurs in a training story with it
    paraphrases    wordings that training never uses, although it uses all their words
    lengths        more happenings than any training story has

A rule is a hash of the item itself, not a list that was drawn once. About one in eleven of all pairs of a thing with a
person, or of a thing with a place, is kept out of training, and one in thirty-two of all courses of events. The four
other splits use only courses of events that training may not use, so none of their stories can occur in training.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args
from zlib import crc32

from pellucid.data.microworld.entities import PEOPLE, PLACES, THINGS, Happening, plain
from pellucid.errors import InputError

Split = Literal["train", "held_out", "combinations", "paraphrases", "lengths"]
SPLITS: tuple[Split, ...] = get_args(Split)
PAIRS_PER_HELD_OUT = 11
COURSES_PER_HELD_OUT = 32


def _is_rare(thing: int, partner: int) -> bool:
    return crc32(f"microworld pair {thing} {partner}".encode()) % PAIRS_PER_HELD_OUT == 0


RARE_PARTNERS: dict[int, frozenset[int]] = {
    thing: frozenset(partner for partner in (*PEOPLE, *PLACES) if _is_rare(thing, partner)) for thing in THINGS
}


def check_split(split: str) -> Split:
    """Return the split's name if it exists.

    Raises: InputError for any other name.

    >>> check_split("lengths")
    'lengths'
    """
    if split in SPLITS:
        return split
    raise InputError("there is no such split of the microworld", found=split, hint="one of " + ", ".join(SPLITS))


def is_rare_pair(thing: int, partner: int) -> bool:
    """Whether this pair is held out: no training story has this thing (in any colour) with this person or place."""
    return partner in RARE_PARTNERS.get(plain(thing), ())


def is_kept_from_training(events: Sequence[Happening]) -> bool:
    """Whether this course of events is held out of training: decided by a hash of all happenings, in order.

    >>> is_kept_from_training([Happening("move", 0, place=100)]) == is_kept_from_training([Happening("move", 0, place=100)])
    True
    """
    key = 0
    for verb, person, thing, place, other, count, day in events:
        told = (
            len(verb) + 11 * person + 1009 * thing + 1_000_003 * place + 16_777_259 * other + 131 * count + 65_537 * day
        )
        key = key * 4_294_967_311 + told
    return key % (2**61 - 1) % COURSES_PER_HELD_OUT == 0
