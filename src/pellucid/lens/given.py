"""What a model is given of a prompt: the ids of its row and, where it has an encoder, those of the source.

    predicts what follows     <bos> text                       and it writes on
    sees both sides           [CLS] text [SEP]                 a hidden token is written by its name: "The [MASK] is in the box."
    reads a source            <bos> text <eos>  |  <start>     the text is the source; what the decoder writes begins with <start>

The row is the one that `fill`, `embed` and `generate` run: the engine says what stands around a text (`framing`) and what
becomes of its masks (`masked_text`). Ids are taken as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pellucid.engine.masked_text import (
    MaskedText,
    cut_text,
    mask_name,
    read_gaps,
    read_masks,
    read_whole,
    ways_to_write,
)
from pellucid.planning.config import ModelConfig
from pellucid.tokens.framing import Frame
from pellucid.tokens.prompt import Prompt, decoder_start, read_prompt
from pellucid.tokens.tokenizer import Tokenizer


@dataclass(frozen=True, kw_only=True)
class PromptReader:
    """How a model is given prompts: its tokenizer, its axes, and what stands around a text.

    >>> from pellucid.tokens.train import train_characters
    >>> signs = train_characters(["ab"])
    >>> reader = PromptReader(
    ...     tokenizer=signs, config=ModelConfig(causal=False), frame=Frame((signs.bos_id,), (signs.eos_id,))
    ... )
    >>> [signs.token_text(token_id) for token_id in reader.give("ab")]
    ['<bos>', 'a', 'b', '<eos>']
    """

    tokenizer: Tokenizer
    config: ModelConfig
    frame: Frame

    def give(self, prompt: Prompt) -> tuple[int, ...]:
        """All ids that a prompt becomes: the source first, where there is one, then the row."""
        ids = self.read(prompt).ids if isinstance(prompt, str) else tuple(read_prompt(prompt, self.tokenizer))
        return ids if self.config.encoder is None else (*ids, decoder_start(self.tokenizer))

    def read(self, text: str) -> MaskedText:
        """A text as the model reads it: with its masks where it fills them in, by the token or by sentinels."""
        if not self.config.causal:
            return read_masks(text, self.tokenizer, self.frame)
        if self.config.encoder is not None and self.tokenizer.roles.get("sentinel"):
            return read_gaps(text, self.tokenizer, self.frame)
        return read_whole(text, self.tokenizer, self.frame)

    def text_at(self, text: str, place: int) -> tuple[str, int] | None:
        """The text that the token at a place of the row was cut out of, and the token's place in that text alone.

        None for a token that no text was cut into: a special one, a hidden one, or one that the model wrote.
        """
        if self.config.encoder is not None:  # the row is what the decoder writes
            return None
        return self.read(text).piece_at(place)


def masked_places(ids: Sequence[int], tokenizer: Tokenizer) -> list[int]:
    """Where a token is hidden in a row."""
    return [place for place, token_id in enumerate(ids) if token_id == tokenizer.roles.first("mask")]


def spell(ids: Sequence[int], tokenizer: Tokenizer, *, masks: bool) -> bytes:
    """The bytes that ids stand for; where masks are read, also the names of hidden tokens and of sentinels."""
    named = {tokenizer.roles.first("mask"), *tokenizer.roles.get("sentinel", ())} if masks else set()
    parts: list[bytes] = []
    text: list[int] = []
    for token_id in ids:
        if token_id in named:
            parts += [tokenizer.decode_bytes(text), tokenizer.token_text(token_id).encode()]
            text = []
        else:
            text.append(token_id)
    return b"".join([*parts, tokenizer.decode_bytes(text)])


def without_spaces_at_masks(text: str, tokenizer: Tokenizer) -> str:
    """A text to compare with another: a mask may have taken the spaces beside it, and be written in several ways."""
    parts, _ = cut_text(text, None, *ways_to_write(tokenizer))
    return (mask_name(tokenizer) or "").join(part.strip() for part in parts) if len(parts) > 1 else text
