"""Texts as rows of ids that are read whole, and those rows in batches of about the same length.

Padding costs as much as text, so rows are read in the order of their lengths; what comes out is in the order of the texts.

Axes: N texts · B batch · T positions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pellucid.counts import counted
from pellucid.errors import ContextError, RequestError
from pellucid.model.device import inference
from pellucid.tokens.framing import Frame
from pellucid.tokens.tokenizer import Tokenizer

MOST_TOKENS = 8192  # of one batch
ENOUGH = {"cpu": 256}  # tokens with which a batch may end where rows become shorter; on other devices it is filled
Ids = Sequence[int]
Watch = Callable[[Iterable[list[int]], int], Iterable[list[int]]]  # is shown the batches, and how many there are
Read = Callable[
    [Tensor, "list[int] | None"], Tensor
]  # ids [B, T] and the length of each row (None: all full) -> [B, …]


def unwatched(batches: Iterable[list[int]], num_batches: int) -> Iterable[list[int]]:
    """The batches as they are."""
    return batches


def frame_texts(
    tokenizer: Tokenizer, frame: Frame, texts: Sequence[str], *, max_tokens: int, said_by: str, cut: bool
) -> tuple[list[list[int]], int]:
    """The ids of each text with those around it, and how many texts were cut to fit.

    Raises RequestError for no text, or one without tokens; ContextError for one that is too long, unless it may be cut.
    """
    if not texts:
        raise RequestError("there is no text to read", hint="give at least one")
    rows = [row.tolist() for row in tokenizer.encode_ids(texts)]
    room = max_tokens - len(frame)
    long = [number for number, row in enumerate(rows) if len(row) > room]
    if long and (not cut or room < 1):
        raise ContextError(
            "a text is longer than the model reads",
            found=f"{counted(len(rows[long[0]]) + len(frame), 'token')} in text {long[0] + 1}; {len(long)} such in all",
            where=f"up to {max_tokens} tokens ({said_by})",
            hint="cut the texts into parts, or add --cut (cut=True in Python): the rest of such a text is not read",
        )
    framed = [frame.around(row[:room]) for row in rows]
    if empty := [number for number, row in enumerate(framed) if not row]:
        raise RequestError("a text has no tokens", found=f"text {empty[0] + 1}", hint="leave empty texts out")
    return framed, len(long)


def read_in_batches(
    rows: Sequence[Ids], read: Read, device: torch.device, watch: Watch = unwatched
) -> NDArray[np.float32]:
    """What `read` makes of each row, float32 [N, …], without gradients."""
    batches = list(_batches(rows, ENOUGH.get(device.type, MOST_TOKENS)))
    parts = [_read_batch([rows[number] for number in batch], read, device) for batch in watch(batches, len(batches))]
    order = np.argsort([number for batch in batches for number in batch])
    return np.concatenate(parts)[order]


def read_alone(rows: Sequence[Ids], read: Read, device: torch.device) -> NDArray[np.float32]:
    """The slow twin: one row at a time, without padding."""
    return np.concatenate([_read_batch([row], read, device) for row in rows])


def _batches(rows: Sequence[Ids], enough: int) -> Iterable[list[int]]:
    """The numbers of rows of about the same length, the longest first: what does not fit in memory shows at once."""
    batch: list[int] = []
    for number in sorted(range(len(rows)), key=lambda number: -len(rows[number])):
        longest = len(rows[batch[0]]) if batch else 0
        full = (len(batch) + 1) * longest > MOST_TOKENS
        if batch and (full or (len(rows[number]) < len(rows[batch[-1]]) and len(batch) * longest >= enough)):
            yield batch
            batch = []
        batch.append(number)
    if batch:
        yield batch


def _read_batch(rows: Sequence[Ids], read: Read, device: torch.device) -> NDArray[np.float32]:
    lengths, width = [len(row) for row in rows], max(len(row) for row in rows)
    with inference():
        ids_BT = torch.tensor([[*row, *[0] * (width - len(row))] for row in rows], device=device)
        return read(ids_BT, None if min(lengths) == width else lengths).float().cpu().numpy()
