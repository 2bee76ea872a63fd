"""A text with masks as the ids that a model reads: cut at its masks, a token placed by its id for each, the frame around it.

    text                                    The [MASK] ran.
    an encoder                              [CLS] the [MASK] ran . [SEP]
    an encoder beside a decoder             The <extra_id_0> ran. </s>         a sentinel of its own for each mask

The mask in TEXT is recognised only because it is asked for here: the text is cut there, and the token is placed by its id.
All other text is text, whatever it spells. A mask takes the spaces beside it for its own where the tokenizer's file says so,
and those before it where words are tokens with their space.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pellucid.counts import counted
from pellucid.errors import RequestError, TokenizerError
from pellucid.tokens.document import read_document
from pellucid.tokens.framing import Frame
from pellucid.tokens.roles import NAMES
from pellucid.tokens.tokenizer import Tokenizer

WRITTEN = ("[MASK]", "<mask>")  # how a person writes a mask
WITH_SPACE = ("bpe", "unigram")  # kinds whose tokens hold the space before their word


@dataclass(frozen=True, kw_only=True)
class MaskedText:
    """A text cut at its masks, and its ids."""

    parts: tuple[str, ...]  # one more than there are masks
    read: tuple[str, ...]  # the same without the spaces that a mask takes for its own
    ids: tuple[int, ...]
    places: tuple[int, ...]  # where the masks stand among the ids
    frame: Frame

    @property
    def bare_ids(self) -> tuple[int, ...]:
        """The ids without those around them."""
        return self.ids[len(self.frame.before) : len(self.ids) - len(self.frame.after)]

    def piece_at(self, place: int) -> tuple[str, int] | None:
        """The part of the text that the token at a place was cut out of, and the token's place in that part alone.

        None for a token that no text was cut into: a mask, or one of the frame.
        """
        starts = (len(self.frame.before), *(mask + 1 for mask in self.places))
        ends = (*self.places, len(self.ids) - len(self.frame.after))
        found = (
            (piece, place - start)
            for piece, start, end in zip(self.read, starts, ends, strict=True)
            if start <= place < end
        )
        return next(found, None)


def mask_id_of(tokenizer: Tokenizer) -> int:
    """The token that hides others. Raises TokenizerError where there is none."""
    mask_id = tokenizer.roles.first("mask")
    if mask_id is None:
        raise TokenizerError(
            "this tokenizer has no mask token",
            found=f"{tokenizer.kind}, {tokenizer.vocab_size:,} tokens, none with the role mask",
            hint="a model that fills blanks has learned one: give a model that was trained with --set objective=masked",
        )
    return mask_id


def mask_name(tokenizer: Tokenizer) -> str | None:
    """How the token that hides others is written; None where there is none."""
    mask_id = tokenizer.roles.first("mask")
    return None if mask_id is None else tokenizer.token_text(mask_id)


def cut_text(text: str, mask: str | None, *names: str) -> tuple[list[str], tuple[str, ...]]:
    """The text between its masks, and how those may be written: as `mask`, else by one of the names or the usual ones.

    >>> cut_text("The [MASK] ran.", None)[0]
    ['The ', ' ran.']

    Raises RequestError for a mask that is written as nothing: it would stand everywhere.
    """
    if mask == "":
        raise RequestError(
            "a mask must be written somehow, and this one is empty",
            found='--mask ""',
            hint='name it as it stands in the text, for example --mask "___", or leave --mask out',
        )
    written = (mask,) if mask else tuple(dict.fromkeys((*names, *WRITTEN)))
    return re.split("|".join(map(re.escape, written)), text), written


def ways_to_write(tokenizer: Tokenizer) -> tuple[str, ...]:
    """How a mask may be written for this tokenizer: its own name first."""
    name = mask_name(tokenizer)
    return (*(() if name is None else (name,)), *NAMES["mask"])


def read_whole(text: str, tokenizer: Tokenizer, frame: Frame) -> MaskedText:
    """A text without masks, whatever it spells."""
    ids = tuple(frame.around(tokenizer.encode(text).ids))
    return MaskedText(parts=(text,), read=(text,), ids=ids, places=(), frame=frame)


def read_masks(
    text: str, tokenizer: Tokenizer, frame: Frame, mask: str | None = None, *, stand_in: int | None = None
) -> MaskedText:
    """A text as an encoder reads it; `mask` is how masks are written in it, `stand_in` what stands there without a mask token.

    Without either, the text is read whole.
    """
    mask_id = tokenizer.roles.first("mask")
    mask_id = stand_in if mask_id is None else mask_id
    if mask_id is None:
        return read_whole(text, tokenizer, frame)
    parts, written = cut_text(text, mask, *ways_to_write(tokenizer))
    taken = _spaces_taken(tokenizer, mask_name(tokenizer) or written[0])
    return _placed(parts, [mask_id] * (len(parts) - 1), tokenizer, frame, taken)


def read_gaps(text: str, tokenizer: Tokenizer, frame: Frame, mask: str | None = None) -> MaskedText:
    """A text as an encoder beside a decoder reads it, with a sentinel for each mask.

    Raises TokenizerError for a tokenizer without sentinels, or with too few.
    """
    parts, _ = cut_text(text, mask)
    return _placed(
        parts, _sentinels(tokenizer, len(parts) - 1), tokenizer, frame, (" ", "")
    )  # a gap takes the space before its first word


def _sentinels(tokenizer: Tokenizer, num_masks: int) -> Sequence[int]:
    """The sentinels that stand for the masks."""
    sentinels = tokenizer.roles.get("sentinel", ())
    if num_masks and not sentinels:
        raise TokenizerError(
            "this model has no tokens that stand for a gap (sentinels), so it has not learned to fill one",
            found=f"{tokenizer.kind}, {tokenizer.vocab_size:,} tokens, none with the role sentinel",
            hint="pellucid generate, which writes about a whole text, or train a model with --set objective=spans"
            " --set tokenizer.specials=sentinels",
        )
    if len(sentinels) < num_masks:
        raise TokenizerError(
            "each mask needs a sentinel of its own",
            found=f"{counted(num_masks, 'mask')}, {counted(len(sentinels), 'sentinel')}",
            hint="fill fewer masks at a time",
        )
    return sentinels[:num_masks]


def _placed(
    parts: Sequence[str],
    hidden: Sequence[int],
    tokenizer: Tokenizer,
    frame: Frame,
    taken: tuple[str | None, str | None],
) -> MaskedText:
    """The ids of the parts, with a hidden token between two; `taken`: what it takes on its left and on its right (None: all spaces)."""
    left, right = taken
    last = len(parts) - 1
    read = [part.lstrip(right) if number else part for number, part in enumerate(parts)]
    read = [part.rstrip(left) if number < last else part for number, part in enumerate(read)]
    ids, places = list(frame.before), list[int]()
    for number, part in enumerate(read):
        if number:
            places.append(len(ids))
            ids.append(hidden[number - 1])
        ids += tokenizer.encode(part).ids
    return MaskedText(parts=tuple(parts), read=tuple(read), ids=(*ids, *frame.after), places=tuple(places), frame=frame)


def _spaces_taken(tokenizer: Tokenizer, name: str) -> tuple[str | None, str | None]:
    """What the mask token takes on its left, and on its right: all white space (None), spaces, or nothing.

    A file may say so; else where words are tokens with their space, the mask stands for both.
    """
    entries = read_document(tokenizer.json).get("added_tokens")
    entry: Mapping[str, object] = next((entry for entry in entries or () if entry.get("content") == name), {})
    left = None if entry.get("lstrip") else " " if tokenizer.kind in WITH_SPACE else ""
    return left, None if entry.get("rstrip") else ""
