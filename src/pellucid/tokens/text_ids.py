"""Which ids of a tokenizer stand for text."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pellucid.tokens.tokenizer import Tokenizer


def text_ids(tokenizer: Tokenizer) -> NDArray[np.bool_]:
    """Which ids of a tokenizer stand for text, [V]: not the special ones, the unknown one, or those without a token."""
    is_text_V = np.array([bool(spelled) for spelled in tokenizer.vocabulary.token_bytes])
    is_text_V[[*tokenizer.specials.values()]] = False
    if tokenizer.vocabulary.unknown_id is not None:
        is_text_V[tokenizer.vocabulary.unknown_id] = False
    return is_text_V
