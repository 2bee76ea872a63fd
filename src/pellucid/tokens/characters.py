"""Characters to ids by looking them up in one array, for tokenizers whose every token is one character.

A text as UTF-32 is an array of code points, so its ids are `table[code_points]`: no loop, some hundred times faster
than running the tokenizer's file. Characters that the table does not hold are spelled by their UTF-8 bytes. It is only
a shortcut: a test holds it equal to the engine.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from pellucid.tokens.byte_characters import BYTE_TOKENS

LONGEST_CHARACTER = 4  # bytes of UTF-8
UNSEEN = -1


class CharacterTable:
    """The ids of single characters, and of bytes for all others.

    >>> ids = {token: place for place, token in enumerate([*BYTE_TOKENS, "a", "b"])}
    >>> CharacterTable(ids).encode("abé").tolist()
    [256, 257, 195, 169]
    """

    def __init__(self, ids: Mapping[str, int]) -> None:
        self._byte_ids = [ids[token] for token in BYTE_TOKENS]
        self._characters = {token: token_id for token, token_id in ids.items() if len(token) == 1}
        codes = [ord(character) for character in self._characters]
        self._table = np.full(max(codes, default=0) + 2, UNSEEN, dtype=np.int64)
        self._table[codes] = list(self._characters.values())

    def encode(self, text: str) -> np.ndarray:
        """The ids of a text, uint32."""
        codes = np.frombuffer(text.encode("utf-32-le"), dtype="<u4")
        ids = self._table[np.minimum(codes, len(self._table) - 1)]  # the last entry is always unseen
        return self._spell(codes) if (ids == UNSEEN).any() else ids.astype(np.uint32)

    def _spell(self, codes: np.ndarray) -> np.ndarray:
        distinct, place = np.unique(codes, return_inverse=True)
        spellings = [self._ids_of(chr(code)) for code in distinct]
        padded = np.array([ids + [0] * (LONGEST_CHARACTER - len(ids)) for ids in spellings], dtype=np.uint32)
        used = np.array([[slot < len(ids) for slot in range(LONGEST_CHARACTER)] for ids in spellings])
        return padded[place][used[place]]

    def _ids_of(self, character: str) -> list[int]:
        if character in self._characters:
            return [self._characters[character]]
        return [self._byte_ids[byte] for byte in character.encode("utf-8")]
