"""Opening the bulk encoder of a vocabulary: its merges and tokens as numbers."""

from __future__ import annotations

from pellucid.events import Recorder
from pellucid.tokens.byte_characters import BYTE_CHARACTERS, CHARACTER_BYTES
from pellucid.tokens.fast.compile import CACHE
from pellucid.tokens.fast.encode import Encoder
from pellucid.tokens.fast.telling import telling_of_compilation
from pellucid.tokens.vocabulary import Vocabulary

ENCODING = "encoding"  # the name under which these loops are remembered as compiled


def is_ready() -> bool:
    """Whether the loops are compiled already."""
    return CACHE.has(ENCODING)


def open_encoder(vocabulary: Vocabulary, *, recorder: Recorder, num_threads: int | None = None) -> Encoder:
    """The encoder of a byte-level BPE with a listed pattern. Events: `tokens.compiling`, `tokens.compiled`.

    A byte that no token spells (`vocabulary.unspelled`) must not occur in a text.
    """
    assert vocabulary.pattern is not None
    ids, specials = vocabulary.ids, vocabulary.specials
    merges = [
        (ids[left], ids[right], ids[left + right])
        for left, right in vocabulary.merges
        if left not in specials and right not in specials and left + right not in specials
    ]
    whole = {}
    if vocabulary.ignores_merges:
        spelled = (token for token in ids if all(character in CHARACTER_BYTES for character in token))
        whole = {bytes(CHARACTER_BYTES[character] for character in token): ids[token] for token in spelled}
    byte_ids = [ids.get(character, 0) for character in BYTE_CHARACTERS]
    with telling_of_compilation(ENCODING, recorder):
        encoder = Encoder(vocabulary.pattern, byte_ids=byte_ids, merges=merges, whole=whole, num_threads=num_threads)
        encoder.encode(["to be, or not to be", "a" * 100])
    return encoder
