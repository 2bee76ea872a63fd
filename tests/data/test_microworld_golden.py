"""The same text on every Python and system: the hash of the first documents, and the draws they are made from.

A change here is a change of the data set: give it a new VERSION, and say in the change log what differs.
"""

from __future__ import annotations

import hashlib

import pytest

from pellucid.data.microworld.corpus import documents
from pellucid.data.microworld.story import VERSION
from pellucid.keyed_random import Draws

COUNT = 300
GOLDEN = {
    (0, "en", "train"): "4385e9a0537dde0a53bc492d6be695f6",
    (0, "zh", "train"): "c4a87539000547f8b12290a8844cbe26",
    (0, "en", "held_out"): "257efe7bb00c735c1aa69c6f335fa237",
    (0, "zh", "held_out"): "df7f456a13635119e15151f965063d72",
    (0, "en", "lengths"): "feb59831c8369c14f13f4af3f621d759",
    (0, "zh", "lengths"): "41906a606ae3a3e3253bcf41e9c379a1",
    (1, "en", "train"): "09a9b55d1b2ee28181dd3307ad7216b7",
    (1, "en", "held_out"): "64cc6370d0c236314b3d36d87d41d278",
    (1, "en", "combinations"): "007a159b2c016dbcbc72bbf25d4b3c86",
    (1, "en", "paraphrases"): "82f00d87130d0ade19b654d83cddf4ab",
    (1, "en", "lengths"): "24cba2559cd421edc918b47656e8ada5",
    (1, "zh", "train"): "f8e4bd236f58b3e6963875e694dfd53c",
    (1, "zh", "held_out"): "b78b6c47d2c153c43291b96b79765e5c",
    (1, "zh", "combinations"): "3f30342e32a887b05e79d0bff25d92c9",
    (1, "zh", "paraphrases"): "88d1363fa05beaeac5f4239f2a840c6e",
    (1, "zh", "lengths"): "d1904af463b522f229b804cc3d41e3b9",
    (2, "en", "train"): "2e7ba0c24390d76b0ba6d3d1344a46f6",
    (2, "zh", "train"): "c57d06ba6ac4d13c68e19d431ba3a513",
    (3, "en", "train"): "58d5e4210867ba3a72fda5e7f63f0307",
    (3, "zh", "train"): "f52ec2f762e5353387d95583c26107e1",
    (4, "en", "train"): "a00a7b3eee3a3cff9500044942f7ae27",
    (4, "zh", "train"): "debc3b7b0398c12c608459502bfacdc7",
}


def test_version() -> None:
    assert VERSION == "microworld-1"


@pytest.mark.parametrize(("level", "language", "split"), GOLDEN)
def test_the_first_documents_are_these(level: int, language: str, split: str) -> None:
    count = COUNT if split == "train" else 30
    text = "\f".join(documents(0, level=level, count=count, languages=(language,), split=split))
    assert hashlib.sha256(text.encode()).hexdigest()[:32] == GOLDEN[level, language, split]


def test_draws_are_the_published_ones() -> None:
    """SHAKE-128 of "key#0": its last 32-bit word comes first; worked out here once more with whole numbers only."""
    digest = hashlib.shake_128(b"key#0").digest(384)
    words = [int.from_bytes(digest[i : i + 4], "little") for i in range(0, 384, 4)]
    draws = Draws("key")
    assert [draws.below(1000) for _ in range(96)] == [word * 1000 // 2**32 for word in reversed(words)]
    following = hashlib.shake_128(b"key#1").digest(384)
    assert draws.below(2**32) == int.from_bytes(following[-4:], "little")


def test_draws_are_even() -> None:
    draws = Draws("evenness")
    counts = [0] * 7
    for _ in range(14_000):
        counts[draws.below(7)] += 1
    chi_square = sum((count - 2000) ** 2 / 2000 for count in counts)
    assert chi_square < 22.5  # 6 degrees of freedom: one sequence in a thousand would exceed it
