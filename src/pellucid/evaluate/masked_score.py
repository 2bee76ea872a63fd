"""How likely a masked model finds each token of a text, given all the others: each is hidden in turn (pseudo-log-likelihood).

    row      [CLS] the cat ran [SEP]
    asked    [CLS] [MASK] cat ran [SEP]    ln p(the  | cat ran)
             [CLS] the [MASK] ran [SEP]    ln p(cat  | the ran)
             [CLS] the cat [MASK] [SEP]    ln p(ran  | the cat)

Their sum ranks texts under one model. It is no likelihood of the text: the factors of that are each given only those before.

Axes: B rows of a batch · T positions · V vocabulary.
Source: Salazar et al. 2020, "Masked Language Model Scoring", equation 2.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from pellucid.counts import counted
from pellucid.engine.masked_text import mask_id_of
from pellucid.engine.request import check_known
from pellucid.engine.text_rows import MOST_TOKENS
from pellucid.errors import ContextError, RequestError
from pellucid.evaluate.score import Score, check_scores, count_bytes
from pellucid.model.context import Context
from pellucid.model.decoder import Decoder
from pellucid.model.device import inference
from pellucid.tokens.tokenizer import Tokenizer


def score_masked(model: Decoder, tokenizer: Tokenizer, ids: Sequence[int]) -> Score:
    """The log-probability of each token of text, given all other ids of the row; marks such as [CLS] are read, not scored.

    Raises RequestError for a row without text or with ids that the model does not have, TokenizerError for a tokenizer
    without a mask token, ContextError for a row that is too long: it cannot be read in parts, which would see less.
    """
    check_scores(model.config)
    check_known(model.config, ids)
    mask_id = mask_id_of(tokenizer)
    marks = {*tokenizer.specials.values()} - {tokenizer.vocabulary.unknown_id}  # an unknown word is text, and is scored
    places = [place for place, token_id in enumerate(ids) if token_id not in marks]
    if not places:
        raise RequestError("there is nothing to predict", found="no token of text", hint="give a text")
    if len(ids) > model.config.context_length:
        raise ContextError(
            "the text is longer than the model's context",
            found=counted(len(ids), "token"),
            where=f"context_length={model.config.context_length}",
            hint="score it in parts",
        )
    rows = max(1, MOST_TOKENS // len(ids))
    batches = [places[start : start + rows] for start in range(0, len(places), rows)]
    logprobs = [value for batch in batches for value in _hidden_in_turn(model, ids, batch, mask_id)]
    scored = tuple(ids[place] for place in places)
    num_bytes = count_bytes(tokenizer, scored)
    return Score(ids=scored, logprobs=tuple(logprobs), num_bytes=num_bytes, is_likelihood=False)


def _hidden_in_turn(model: Decoder, ids: Sequence[int], places: Sequence[int], mask_id: int) -> list[float]:
    """The log-probability of the token at each place, in a row of its own in which only that place is hidden."""
    row_B, place_B = torch.arange(len(places), device=model.device), torch.tensor(places, device=model.device)
    with inference():
        ids_BT = torch.tensor([list(ids)] * len(places), device=model.device)
        hidden_B = ids_BT[row_B, place_B]
        ids_BT[row_B, place_B] = mask_id
        x_BD = model.hidden(ids_BT, Context())[row_B, place_B]
        logprobs_BV = model.score(x_BD[None])[0].cpu().double().log_softmax(-1)  # not every accelerator has float64
        return logprobs_BV[row_B.cpu(), hidden_B.cpu()].tolist()
