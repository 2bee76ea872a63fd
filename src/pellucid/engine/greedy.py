"""Batched greedy decoding: prompts of equal length side by side in one cached batch, the likeliest token each time.

Prompts are grouped by their length, so no row is padded and every row is read exactly as it would be alone. For
evaluation, where thousands of answers are wanted; `generate` is for one text with all its knobs.

Axes: B rows · T new positions.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence, Set

import torch
from torch import Tensor

from pellucid.engine.request import check_prompt
from pellucid.model.context import Context
from pellucid.model.device import inference
from pellucid.model.protocol import Model

ROWS = 64  # prompts side by side: enough to keep two cores busy, few enough for their caches


def answer_greedily(
    model: Model, prompts: Sequence[Sequence[int]], *, max_new_tokens: int, end_ids: Set[int]
) -> list[list[int]]:
    """Continue each prompt with the likeliest tokens, up to and including the first of `end_ids`.

    Answers come in the order of the prompts. Each ends after `max_new_tokens`, or when the context is full. Raises the
    errors of `generate` for a prompt that cannot be continued.
    """
    by_length: dict[int, list[int]] = defaultdict(list)
    for index, prompt in enumerate(prompts):
        check_prompt(model.config, prompt)
        by_length[len(prompt)].append(index)
    answers: list[list[int]] = [[] for _ in prompts]
    ends_V = torch.zeros(model.config.vocab_size, dtype=torch.bool)
    ends_V[sorted(end_ids)] = True
    for length, indices in sorted(by_length.items()):
        num_new = min(max_new_tokens, model.config.context_length - length)
        for start in range(0, len(indices), ROWS):
            group = indices[start : start + ROWS]
            ids_BT = torch.tensor([prompts[index] for index in group])
            for index, row in zip(group, _continue(model, ids_BT, num_new, ends_V).tolist(), strict=True):
                answers[index] = _to_end(row, end_ids)
    return answers


def _continue(model: Model, ids_BT: Tensor, num_new: int, ends_V: Tensor) -> Tensor:
    """The likeliest continuations, [B, up to num_new], until every row holds an end."""
    num_rows, length = ids_BT.shape
    context = Context(cache=model.new_cache(length + num_new, batch_size=num_rows))
    ended_B = torch.zeros(num_rows, dtype=torch.bool)
    written: list[Tensor] = []
    with inference():
        while len(written) < num_new and not ended_B.all():
            logits_BTV = model(ids_BT.to(model.device), context, last_only=True).logits_BTV
            ids_BT = logits_BTV.argmax(-1).cpu()
            written.append(ids_BT)
            ended_B |= ends_V[ids_BT[:, 0]]
    return torch.cat(written, dim=1)


def _to_end(ids: list[int], end_ids: Set[int]) -> list[int]:
    return ids[: next((place + 1 for place, token_id in enumerate(ids) if token_id in end_ids), len(ids))]
