"""How likely a text goes on with another, as a model with BERT's pair head says.

    ids        <cls> first <sep> second <sep>
    segments     0     0     0     1      1
    p(second follows first) = softmax(pair scores)[0]

It is *not* how likely the second text is: the head only learned to tell it from a part of some other document.

Axes: N pairs · B batch · T positions.
Source: Devlin et al. 2019, "BERT", §3.1, task 2.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from pellucid.counts import counted
from pellucid.engine.text_rows import Watch, read_in_batches, unwatched
from pellucid.errors import ContextError, RequestError, TokenizerError
from pellucid.model.context import Context
from pellucid.model.decoder import Decoder
from pellucid.store.checkpoint import Checkpoint
from pellucid.tokens.framing import Frame
from pellucid.tokens.tokenizer import Tokenizer


def chances_to_follow(
    model: Decoder,
    tokenizer: Tokenizer,
    checkpoint: Checkpoint,
    pairs: Sequence[tuple[str, str]],
    *,
    watch: Watch = unwatched,
) -> NDArray[np.float32]:
    """For each pair of texts how likely the second goes on with the first, from 0 to 1, float32 [N].

        chances_to_follow(lm.model, lm.tokenizer, lm.checkpoint, [("She got the cup.", "She put it down.")])

    Raises RequestError for a model without that head, or a text without tokens; ContextError for a pair that is too long;
    TokenizerError for a model of which nothing says what stands around a text and between two.
    """
    if model.config.pooler is None or not model.config.pooler.pairs or not model.config.embedding.segments:
        raise RequestError(
            "this model does not say whether two parts of a row belong together",
            found="no pair head, or no segments",
            hint="train one with --set objective=next_sentence, or give a BertForPreTraining",
        )
    rows = _rows(tokenizer, checkpoint.frame(tokenizer), pairs, model.config.context_length)

    def read(ids_BT: Tensor, lengths: list[int] | None) -> Tensor:
        context = Context(lengths=lengths, segments_BT=_segments(ids_BT, rows[0][-1]))
        output = model(ids_BT, context) if model.config.head.tokens else model.pooled(ids_BT, context)
        scores_B2 = output.pair_logits_B2
        assert scores_B2 is not None, "a model with this head scores pairs"
        return scores_B2.float().softmax(-1)[:, 0]

    return read_in_batches(rows, read, model.device, watch)


def _rows(tokenizer: Tokenizer, frame: Frame, pairs: Sequence[tuple[str, str]], most: int) -> list[list[int]]:
    """The ids of each pair with the marks around and between its parts."""
    if not frame.before or len(frame.after) != 1:
        found = f"{len(frame.before)} before a text, {len(frame.after)} behind it"
        raise TokenizerError("a pair of texts needs a mark before it and one behind each part", found=found)
    texts = tokenizer.encode_ids([text for pair in pairs for text in pair])
    rows: list[list[int]] = []
    for number, (first, second) in enumerate(zip(texts[::2], texts[1::2], strict=True)):
        if not len(first) or not len(second):
            raise RequestError("a text has no tokens", found=f"pair {number + 1}", hint="leave empty texts out")
        rows.append([*frame.around(first.tolist()), *second.tolist(), *frame.after])
        if len(rows[-1]) > most:
            raise ContextError(
                "a pair of texts is longer than the model reads",
                found=f"{counted(len(rows[-1]), 'token')} in pair {number + 1}",
                where=f"up to {most} tokens",
                hint="shorten its texts",
            )
    if not rows:
        raise RequestError("there is no text to read", hint="give at least one")
    return rows


def _segments(ids_BT: Tensor, sep_id: int) -> Tensor:
    """Which part each place belongs to: the mark behind the first part is the last of it; padding is whatever it is.

    >>> import torch
    >>> _segments(torch.tensor([[1, 5, 2, 6, 7, 2]]), 2).tolist()
    [[0, 0, 0, 1, 1, 1]]
    """
    is_sep_BT = (ids_BT == sep_id).long()
    return (is_sep_BT.cumsum(-1) - is_sep_BT).clamp(max=1)
