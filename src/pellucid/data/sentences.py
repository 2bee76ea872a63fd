"""Where sentences begin in a row of tokens: after a mark that ends one, or on a new line.

It is a rule of thumb: “Mr. Smith” is cut in two. Where it matters, both sides of a comparison are cut by the same rule.

Axes: T tokens of a row.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from pellucid.data.whole_words import num_bytes, spell

END = re.compile(r"""[.!?…]+["'”’)\]]*(?=\s)|[。！？]+[”’」』）]*|\n+""")


def sentences_begin(ids_T: np.ndarray, token_bytes: Sequence[bytes]) -> np.ndarray:
    """Whether a token is the first of a sentence, bool [T]; `token_bytes` spell each id.

    >>> spelled = (b"Hi", b".", b" Where", b" to", b"?")
    >>> sentences_begin(np.array([0, 1, 2, 3, 4]), spelled).tolist()
    [True, False, True, False, False]
    """
    text, first_byte_T = spell(ids_T, token_bytes)
    starts = [0, *(num_bytes(text[: end.end()]) for end in END.finditer(text))]
    return np.isin(first_byte_T, starts)
