"""Random and hostile strings for comparing tokenizers: the same seed gives the same strings.

atoms       what tokenizers have failed on: emoji sequences, combining marks, both Unicode forms of a letter, NUL, line
            ends of every kind, full-width forms, rare ideographs, digits, contractions, ladders of spaces, code
characters  any assigned or unassigned code point, alone or beside others of its block
tokens      tokens of the vocabulary itself, in any order
lookalikes  text that spells special tokens, bytes, or the mark of a space
runs        one atom again and again
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

ATOMS = (
    *"aeioué nEZ019", "the", " the", "The", "THE", "Hello", " world", "unhappiness", "strawberry", " don't", "'s", "'S", "'ll", "'LL", "’s", "'ſ",
    "I'm", "we'VE", "naïve", "Straße", "İstanbul", "ΣΊΣΥΦΟΣ", "ﬁ", "ǅ", "K", "Å", "é", "e\u0301", "e\u0301\u0302", "n\u0303", "가", "\u1100\u1161",
    "\u1100\u1161\u11a8", "ำน\u0e49", "क्षि", "ക്ഷ", "ﷺ", "اَلْعَرَبِيَّةُ", "עִבְרִית", "привет", "日本語", "カタカナ", "ｶﾀｶﾅ", "が", "か\u3099", "한국어",
    "中", "文", "人工智能", "你好，世界。", "，", "。", "「」", "…", "——", "汉字", "漢字", "㐀", "𠀀", "𠮷", "𪚥", "〇", "豈", "ＡＢＣ", "１２３", "！", "　",
    "1", "12", "1234567", "3.14", "1,000", "½", "²", "①", "٣", "Ⅷ", "१२", "𝟘", "𝐀", "0x1F", "😀", "👍🏽", "👩‍👩‍👧", "🏳️‍🌈", "🇨🇳", "🇨", "❤️", "☺", "\u200d", "\ufe0f",
    " ", "  ", "   ", "    ", "\t", "\t\t", "\n", "\n\n", "\r\n", "\r", " \n", "\n ", " \r\n ", "\u00a0", "\u2003", "\u2028", "\u2029", "\u0085", "\u000b",
    "\u000c", "\u200b", "\u2060", "\ufeff", "\u180e", "\u1680", "\u202f", "\0", "\x01", "\x1b[0m", "\x7f", "\x9f", "\xad", "\ufffd", "\uffff", "\ue000", "\U000f0000",
    "\U0010ffff", "\u0378", "\u0301", "\u0327\u0301", "\u20dd", "!", "?!", "...", "--", "_", "__init__", "$", "€", "+=", "<=", "==>", "//", "/*", "*/", "#", "`",
    "^", "~", "|", "(", ")", "[x]", "{}", '"', "'", "\\n", "\\", "def f(x):\n    return x\n", "if(a<b){c++;}", "<br/>", "http://a.b/c?d=e&f", "a@b.c", "x_1",
    "camelCase", "ALLCAPS", "iPhone", "C++", "don't", "rock'n'roll", "o'clock",
)  # fmt: skip
LOOKALIKES = (
    "<s>", "</s>", "<unk>", "<pad>", "<mask>", "<bos>", "<eos>", "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|endofprompt|>", "<|fim_prefix|>", "[UNK]",
    "[CLS]", "[SEP]", "[MASK]", "[PAD]", "<0x41>", "<0x0A>", "<0xE4>", "<0x", "▁", "▁▁", "▁the", "##", "##s", "Ġ", "Ċ", "<|endoftext", "|>", "<extra_id_0>",
)  # fmt: skip
BLOCKS = (
    (0x20, 0x7F), (0x00, 0x20), (0x80, 0x250), (0x250, 0x370), (0x370, 0x600), (0x600, 0x900), (0x900, 0xE00), (0xE00, 0x1200),
    (0x1200, 0x2000), (0x2000, 0x2C00), (0x2C00, 0x3100), (0x3100, 0x4E00), (0x4E00, 0xA000), (0xA000, 0xD800), (0xE000, 0xFB00),
    (0xFB00, 0x10000), (0x10000, 0x12000), (0x1D000, 0x1F000), (0x1F000, 0x20000), (0x20000, 0x32000), (0xE0000, 0xE0200), (0x20, 0x110000),
)  # fmt: skip
LONGEST_RUN = 2_000  # characters, about


def strings(count: int, seed: int, tokens: Sequence[str] = (), *, longest: int = LONGEST_RUN) -> Iterator[str]:
    """`count` strings; `tokens` are those of the vocabulary that is looked at.

    >>> list(strings(3, 7)) == list(strings(3, 7))
    True
    """
    draw = random.Random(seed)
    for _ in range(count):
        kind = draw.random()
        if kind < 0.02:
            atom = draw.choice(ATOMS + LOOKALIKES)
            yield draw.choice(ATOMS) + atom * max(1, draw.randrange(longest) // len(atom)) + draw.choice(ATOMS)
        elif kind < 0.30 or (kind < 0.55 and not tokens):
            yield "".join(_character(draw) for _ in range(draw.randrange(1, 16)))
        elif kind < 0.55:
            yield "".join(draw.choice(tokens) for _ in range(draw.randrange(1, 12)))
        elif kind < 0.75:
            yield "".join(draw.choice(draw.choice((ATOMS, LOOKALIKES))) for _ in range(draw.randrange(1, 12)))
        else:
            yield "".join(draw.choice(ATOMS) for _ in range(draw.randrange(0, 16)))


def _character(draw: random.Random) -> str:
    if draw.random() < 0.2:
        return draw.choice(ATOMS)
    code = draw.randrange(*draw.choice(BLOCKS))
    return chr(code) if not 0xD800 <= code < 0xE000 else "\ufffd"
