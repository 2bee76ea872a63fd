"""Fill in the blanks: what a masked model puts where a text hides tokens, each from what stands on both sides.

    text        The [MASK] is in the box.
    ids         [CLS] the [MASK] is in the box . [SEP]
    p(token | the row) at each mask = softmax(logits); the candidates are the likeliest tokens that spell text

Several masks are filled together, each as if the others stayed hidden, or one by one: the one that the model is surest of
first, then again with that token in its place. A model of two streams needs no mask token: it is asked for the place. How the
masks of a text become tokens: `masked_text`.

Axes: V vocabulary · N masks.
Source: Devlin et al. 2019 §3.1; one by one, surest first: Ghazvininejad et al. 2019 (mask-predict).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from pellucid.counts import counted
from pellucid.engine.any_order import alone_in_order
from pellucid.engine.masked_text import WITH_SPACE, WRITTEN, MaskedText, mask_id_of, mask_name, read_masks
from pellucid.errors import ContextError, RequestError
from pellucid.model.context import Context
from pellucid.model.decoder import Decoder
from pellucid.model.device import inference
from pellucid.planning.config import ModelConfig
from pellucid.tokens.framing import Frame
from pellucid.tokens.text_ids import text_ids
from pellucid.tokens.tokenizer import Tokenizer

MOST_CANDIDATES = 1000
TOP = 5  # candidates of a mask, where nobody says how many


@dataclass(frozen=True, kw_only=True)
class BlankToken:
    """A token for a mask, and how likely the model finds it there."""

    id: int
    text: str
    probability: float


@dataclass(frozen=True, kw_only=True)
class FilledSpan:
    """What a decoder wrote for a mask, any number of tokens, and how likely it found them together."""

    ids: tuple[int, ...]
    text: str
    probability: float


@dataclass(frozen=True, kw_only=True)
class Blank:
    """A mask: its candidates, the likeliest first, and when it was filled (0: first)."""

    candidates: tuple[BlankToken, ...] | tuple[FilledSpan, ...]
    turn: int


@dataclass(frozen=True, kw_only=True)
class Filled:
    """A text with its masks filled by the likeliest tokens, and what else could have stood there."""

    text: str
    blanks: tuple[Blank, ...]  # in the order of the text


def fill(
    model: Decoder, tokenizer: Tokenizer, frame: Frame, text: str, *, top: int, one_by_one: bool, mask: str | None
) -> Filled:
    """Fill the masks of a text; `mask` is how they are written in it (None: [MASK], <mask>, or the tokenizer's own name).

    Raises RequestError for a model that cannot fill, or a text without a mask; TokenizerError for a tokenizer without a
    mask token; ContextError for a text that is too long.
    """
    check_fills(model.config)
    if not 1 <= top <= MOST_CANDIDATES:
        raise RequestError(f"the candidates shown lie between 1 and {MOST_CANDIDATES:,}", found=f"{top}", hint="top=5")
    blanks = cut_at_masks(text, tokenizer, frame, mask, stand_in=None if model.config.streams is None else 0)
    if len(blanks.ids) > model.config.context_length:
        raise ContextError(
            "the text is longer than the model's context",
            found=counted(len(blanks.ids), "token"),
            where=f"context_length={model.config.context_length}",
            hint="shorten it around the mask",
        )
    is_text_V = np.zeros(model.config.vocab_size, bool)
    is_text_V[: tokenizer.vocab_size] = text_ids(tokenizer)
    if one_by_one:
        found = _one_by_one(model, tokenizer, blanks, is_text_V, top)
    else:
        rows = _probabilities(model, blanks.ids, blanks.places)
        found = [(_best(row_V, is_text_V, tokenizer, top), 0) for row_V in rows]
    chosen = [tokenizer.token_bytes(tokens[0].id).decode("utf-8", errors="replace") for tokens, _ in found]
    return Filled(
        text=joined(blanks.parts, chosen, tokenizer),
        blanks=tuple(Blank(candidates=tokens, turn=turn) for tokens, turn in found),
    )


def check_fills(config: ModelConfig) -> None:
    """Raise RequestError for a model that does not score hidden tokens from both sides."""
    if config.encoder is not None or config.causal:
        kind = "a causal model" if config.encoder is None else "an encoder beside a decoder"
        raise RequestError(
            "this model continues a text, and cannot fill a blank within one",
            found=kind,
            hint="pellucid generate, or a model that was trained with --set objective=masked",
        )
    if not config.head.tokens:
        raise RequestError(
            "this model scores no tokens, so it cannot fill a blank",
            found="an encoder without the head of a masked model",
            hint="pellucid embed, or the file of the same model that has its masked head (…ForMaskedLM)",
        )


def cut_at_masks(
    text: str, tokenizer: Tokenizer, frame: Frame, mask: str | None = None, *, stand_in: int | None = None
) -> MaskedText:
    """The ids of a text with masks, and where those stand; `stand_in`: what stands there where there is no mask token.

    Raises TokenizerError for a tokenizer without a mask token, RequestError for a text without a mask.
    """
    if stand_in is None:
        mask_id_of(tokenizer)
    found = read_masks(text, tokenizer, frame, mask, stand_in=stand_in)
    if not found.places:
        written = mask or mask_name(tokenizer) or WRITTEN[0]
        raise RequestError(
            "the text has no mask", found=f"no {written}", hint=f'write one: "The {written} is in the box."'
        )
    return found


def _one_by_one(
    model: Decoder, tokenizer: Tokenizer, blanks: MaskedText, is_text_V: NDArray[np.bool_], top: int
) -> list[tuple[tuple[BlankToken, ...], int]]:
    """Fill the mask that the model is surest of, and ask again for the rest: the candidates of each, and its turn."""
    found: dict[int, tuple[tuple[BlankToken, ...], int]] = {}
    while len(found) < len(blanks.places):
        open_places = [place for place in blanks.places if place not in found]
        rows = _probabilities(model, blanks.ids, open_places)
        best = [_best(row_V, is_text_V, tokenizer, top) for row_V in rows]
        surest = max(range(len(best)), key=lambda number: best[number][0].probability)
        place = open_places[surest]
        found[place] = best[surest], len(found)
        ids = list(blanks.ids)
        ids[place] = best[surest][0].id
        blanks = replace(blanks, ids=tuple(ids))
    return [found[place] for place in blanks.places]


def _probabilities(model: Decoder, ids: Sequence[int], places: Sequence[int]) -> NDArray[np.float32]:
    """How likely the model finds every token at some places, [N, V], each without the others."""
    if model.config.streams is not None:
        return np.exp(alone_in_order(model, ids, places).numpy())
    with inference():
        ids_BT = torch.tensor([list(ids)], device=model.device)
        x_ND = model.hidden(ids_BT, Context())[0, list(places)]
        return model.score(x_ND[None])[0].float().softmax(-1).cpu().numpy()


def _best(
    row_V: NDArray[np.float32], is_text_V: NDArray[np.bool_], tokenizer: Tokenizer, top: int
) -> tuple[BlankToken, ...]:
    """The likeliest tokens that spell text; their probabilities are the model's own, among all tokens."""
    order = np.argsort(-np.where(is_text_V, row_V, -1.0), kind="stable")[: min(top, int(is_text_V.sum()))]
    return tuple(
        BlankToken(id=int(i), text=tokenizer.token_text(int(i)), probability=float(row_V[i])) for i in order.tolist()
    )


def joined(parts: Sequence[str], chosen: Sequence[str], tokenizer: Tokenizer) -> str:
    """The text with what was chosen; the spaces of the text count, and a token that goes on a word takes the one before."""
    text = parts[0]
    for part, token in zip(parts[1:], chosen, strict=True):
        starts_word = token.startswith(" ")
        if tokenizer.kind in WITH_SPACE or not starts_word:
            text = text.rstrip(" ")
        text += (token if tokenizer.kind in WITH_SPACE and text else token.lstrip(" ")) + part
    return text


def to_dict(filled: Filled) -> Mapping[str, object]:
    """What was found, for machines."""
    return {
        "text": filled.text,
        "blanks": [
            {"turn": blank.turn, "candidates": [vars(candidate) for candidate in blank.candidates]}
            for blank in filled.blanks
        ],
    }
