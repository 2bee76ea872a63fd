"""What a model is given of a prompt: the ids of its row and, where it has an encoder, those of the source.

    predicts what follows     <bos> text                       and it writes on
    sees both sides           <bos> text <eos>                 a hidden token is written by its name: "The [MASK] is in the box."
    reads a source            <bos> text <eos>  |  <start>     the text is the source; what the decoder writes begins with <start>

Names are those of the tokenizer's own tokens; a mark that it lacks is left out. Ids are taken as they are.
"""

from __future__ import annotations

from collections.abc import Sequence

from pellucid.planning.config import ModelConfig
from pellucid.tokens.prompt import Prompt, decoder_start, read_prompt
from pellucid.tokens.tokenizer import Tokenizer


def give(prompt: Prompt, tokenizer: Tokenizer, config: ModelConfig) -> tuple[int, ...]:
    """All ids that a prompt becomes: the source first, where there is one, then the row.

    >>> from pellucid.tokens.train import train_characters
    >>> signs = train_characters(["ab"])
    >>> [signs.token_text(token_id) for token_id in give("ab", signs, ModelConfig(causal=False))]
    ['<bos>', 'a', 'b', '<eos>']
    """
    if not config.causal and isinstance(prompt, str):
        return tuple(_whole(prompt, tokenizer, config))
    if config.encoder is None:
        return tuple(read_prompt(prompt, tokenizer))
    return (*read_prompt(prompt, tokenizer, whole=True), decoder_start(tokenizer))


def masked_places(ids: Sequence[int], tokenizer: Tokenizer) -> list[int]:
    """Where a token is hidden in a row."""
    return [place for place, token_id in enumerate(ids) if token_id == tokenizer.roles.first("mask")]


def spell(ids: Sequence[int], tokenizer: Tokenizer, *, masks: bool) -> bytes:
    """The bytes that ids stand for, hidden tokens by their name where a model fills them in."""
    mask_id, name = tokenizer.roles.first("mask"), mask_name(tokenizer) or ""
    parts: list[list[int]] = [[]]
    for token_id in ids:
        if masks and token_id == mask_id:
            parts.append([])
        else:
            parts[-1].append(token_id)
    return name.encode().join(tokenizer.decode_bytes(part) for part in parts)


def text_at(text: str, place: int, tokenizer: Tokenizer, config: ModelConfig) -> tuple[str, int] | None:
    """The text that the token at a place of the row was cut out of, and the token's place in that text alone.

    None for a token that no text was cut into: a special one, a hidden one, or one that the model wrote.
    """
    if config.encoder is not None:  # the row is what the decoder writes
        return None
    place -= len(tokenizer.encode_prompt("")) if config.causal else len(_begin(tokenizer))
    for piece in _pieces(text, tokenizer, config):
        length = len(tokenizer.encode(piece).ids)
        if 0 <= place < length:
            return piece, place
        place -= length + 1  # the hidden token behind it
    return None


def _pieces(text: str, tokenizer: Tokenizer, config: ModelConfig) -> list[str]:
    """The parts of a text between hidden tokens."""
    name = mask_name(tokenizer)
    return text.split(name) if name and not config.causal else [text]


def _begin(tokenizer: Tokenizer) -> list[int]:
    begin = _first(tokenizer, tokenizer.bos_id, "cls")
    return [] if begin is None else [begin]


def _whole(text: str, tokenizer: Tokenizer, config: ModelConfig) -> list[int]:
    """<bos> text <eos>, with the ids of hidden tokens where the model fills them in."""
    mask_id, ids = tokenizer.roles.first("mask"), _begin(tokenizer)
    for place, piece in enumerate(_pieces(text, tokenizer, config)):
        ids += [mask_id] * (place > 0) if mask_id is not None else []
        ids += tokenizer.encode(piece).ids
    end = _first(tokenizer, tokenizer.eos_id, "sep")
    return ids if end is None else [*ids, end]


def mask_name(tokenizer: Tokenizer) -> str | None:
    """How the token that hides others is written; None where there is none."""
    mask_id = tokenizer.roles.first("mask")
    return None if mask_id is None else tokenizer.token_text(mask_id)


def _first(tokenizer: Tokenizer, own: int | None, role: str) -> int | None:
    return tokenizer.roles.first(role) if own is None else own  # type: ignore[arg-type]
