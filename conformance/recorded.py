"""What tiktoken's own tests use: strings for every judge, and recorded ids and offsets, for which no judge is run.

Facts, from tests/test_encoding.py and tests/test_offsets.py of openai/tiktoken 0.14.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pellucid.tokens.tokenizer import Tokenizer

FILES = {"GPT-2": "gpt2_encoder.json", "cl100k_base": "cl100k_base.tiktoken", "o200k_base": "o200k_base.tiktoken"}
ZEROS = (
    (15,), (405,), (830,), (2388,), (20483,), (10535,), (24598,), (8269,), (10535, 830), (8269, 405), (8269, 830), (8269, 2388),
    (8269, 20483), (8269, 10535), (8269, 24598), (25645,), (8269, 10535, 830),
)  # fmt: skip
IDS: dict[str, dict[str, tuple[int, ...]]] = {
    "GPT-2": {"hello world": (31373, 995), **{"0" * (count + 1): ids for count, ids in enumerate(ZEROS)}},
    "cl100k_base": {
        "hello world": (15339, 1917), "rer": (38149,), "'rer": (2351, 81), "today\n ": (31213, 198, 220), "today\n \n": (31213, 27907),
        "today\n  \n": (31213, 14211), " \x850": (220, 126, 227, 15), "👍": (9468, 239, 235),
    },
}  # fmt: skip
BEFORE_END = {"GPT-2": (31373, 220, 50256), "cl100k_base": (15339, 220, 100257)}  # "hello ", and then <|endoftext|>
HALF_CHARACTER = (62085, b" \xec\x8b\xa4\xed")  # a token of cl100k_base that ends within a character
OFFSETS = {  # where each token of cl100k_base begins, in characters
    "hello world": (0, 5),
    "我非常渴望与人工智能一起工作": (0, 1, 2, 3, 3, 4, 4, 5, 6, 7, 8, 8, 9, 10, 11, 12, 13),
    "நடிகர் சூர்யா": (0, 0, 1, 1, 2, 3, 4, 4, 5, 6, 7, 8, 8, 9, 9, 10, 11, 12, 12),
    " Ġ除": (0, 1),
}
ROUND = ("", "hello", "hello ", "hello  ", " hello", " hello ", " hello  ", "请考试我的软件！12345")
SPELLED = (
    "hello <|endoftext|>", "hello world<|endoftext|> green cow", "<|endoftext|> hello <|fim_prefix|>",
    "<|endoftext|> hello <|fim_prefix|> there <|fim_middle|>",
)  # fmt: skip
REPEATED = ("^", "0", "a", "'s", " ", "\n")  # 10,000 times, with a space before and a line end behind
LONGEST = 1_000_000  # times x


def published(longest: int) -> Iterator[str]:
    """The strings, none of them twice; of those that repeat themselves at most `longest` characters.

    >>> max(map(len, published(400)))
    402
    """
    recorded = {text: None for texts in (*IDS.values(), OFFSETS) for text in texts}
    yield from {**recorded, **dict.fromkeys((*ROUND, *SPELLED))}
    yield from _repeated(longest)


def missed(data: Path) -> Iterator[str]:
    """What tiktoken's tests record and we do not give. `data`: the folder of the files of the vocabularies."""
    tokenizers = {name: Tokenizer.load(data / file) for name, file in FILES.items()}
    for name, pairs in IDS.items():
        tokenizer, end = tokenizers[name], BEFORE_END[name]
        yield from (f"{name}: {text!r}" for text, ids in pairs.items() if tokenizer.encode(text).ids != ids)
        if (*tokenizer.encode("hello ").ids, tokenizer.specials["<|endoftext|>"]) != end:
            yield f"{name}: <|endoftext|>"
    cl100k = tokenizers["cl100k_base"]
    for text, places in OFFSETS.items():
        if tuple(start for start, _ in cl100k.encode(text).offsets) != places:
            yield f"cl100k_base: offsets of {text!r}"
    if cl100k.vocabulary.token_bytes[HALF_CHARACTER[0]] != HALF_CHARACTER[1]:
        yield f"cl100k_base: {HALF_CHARACTER}"
    for name, tokenizer in tokenizers.items():
        texts = [*published(10_000), "x" * LONGEST]
        yield from (f"{name}: {text[:20]!r}" for text in texts if tokenizer.decode(tokenizer.encode(text).ids) != text)


def _repeated(longest: int) -> Iterator[str]:
    for atom in REPEATED:
        text = atom * min(10_000, longest // len(atom))
        yield from (before + text + after for before, after in (("", ""), (" ", ""), (" ", "\n")))
