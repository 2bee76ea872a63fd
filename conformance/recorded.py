"""Ids that tiktoken's own tests record (tests/test_encoding.py and test_offsets.py of openai/tiktoken 0.14): facts, no judge is run."""

from __future__ import annotations

ZEROS = (
    (15,), (405,), (830,), (2388,), (20483,), (10535,), (24598,), (8269,), (10535, 830), (8269, 405), (8269, 830), (8269, 2388),
    (8269, 20483), (8269, 10535), (8269, 24598), (25645,), (8269, 10535, 830),
)  # fmt: skip
RECORDED: dict[str, dict[str, tuple[int, ...]]] = {
    "GPT-2": {"hello world": (31373, 995), **{"0" * (count + 1): ids for count, ids in enumerate(ZEROS)}},
    "cl100k_base": {
        "hello world": (15339, 1917), "rer": (38149,), "'rer": (2351, 81), "today\n ": (31213, 198, 220), "today\n \n": (31213, 27907),
        "today\n  \n": (31213, 14211), " \x850": (220, 126, 227, 15), "👍": (9468, 239, 235),
    },
}  # fmt: skip
EMPTY_AND_ROUND = ("", "hello", "hello ", "hello  ", " hello", " hello ", " hello  ", "请考试我的软件！12345")
REPEATED = ("^", "0", "a", "'s", " ", "\n")  # ten thousand times, with a space before and a line end behind
