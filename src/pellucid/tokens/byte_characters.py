"""The table that writes every byte as one printable character, and the names of single bytes.

Byte-level tokenizers see a text as bytes but store tokens as text: a space is `Ġ`, a line feed is `Ċ`, the first byte of
汉 is `æ`. That is why such a vocabulary looks garbled in an editor. Others write text as text and name the bytes that
have no token of their own: `<0xE6>`.

Source: Radford et al. 2019, "Language Models are Unsupervised Multitask Learners" (the byte table).
"""

from __future__ import annotations

NUM_BYTES = 256


def _byte_characters() -> tuple[str, ...]:
    printable = {*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)}
    others = iter(range(NUM_BYTES, 2 * NUM_BYTES))
    return tuple(chr(byte) if byte in printable else chr(next(others)) for byte in range(NUM_BYTES))


BYTE_CHARACTERS = _byte_characters()
"""The printable character that stands for each byte."""

CHARACTER_BYTES = {character: byte for byte, character in enumerate(BYTE_CHARACTERS)}
BYTE_TOKENS = tuple(f"<0x{byte:02X}>" for byte in range(NUM_BYTES))
