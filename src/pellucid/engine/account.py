"""The account of one step: every number between the ids that went in and the token that came out.

It is read off the computation that really chose the token (the rows that `choose` kept, the shapes that passed through
the model's parts), so that asking for it cannot change the text. It is not a recording of the tensors themselves: that
is `pellucid.model.tap`.

Axes: V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from torch import Tensor, nn

from pellucid.engine.sampler import MODEL, Choice, Stage, probabilities, segment
from pellucid.model.decoder import Decoder
from pellucid.tokens.tokenizer import Tokenizer

Shape = tuple[str, tuple[int, ...]]  # a part of the model, and the shape of what it put out


@dataclass(frozen=True)
class Candidate:
    """A token that might have been chosen, and its probability under the model and after each stage."""

    id: int
    text: str
    probabilities: tuple[float, ...]


@dataclass(frozen=True)
class StageAccount:
    """What one stage left: how many tokens, which share of the probability it was given, and how open the choice is."""

    name: str
    num_kept: int
    mass_kept: float
    entropy_bits: float  # a fair choice among 2^entropy tokens is as open


@dataclass(frozen=True, kw_only=True)
class Account:
    """How one token came about; the first stage, named "model", is the distribution before any stage."""

    position: int
    shapes: tuple[Shape, ...]  # in the order of computation
    stages: tuple[StageAccount, ...]
    candidates: tuple[Candidate, ...]  # the model's likeliest, then the chosen one when it is not among them
    u: float | None  # the draw in [0, 1); None when nothing was drawn
    segment: tuple[float, float]  # the chosen token's part of [0, 1)
    id: int
    text: str


def build_account(
    choice: Choice,
    stages: Sequence[Stage],
    tokenizer: Tokenizer,
    *,
    position: int,
    shapes: Sequence[Shape] = (),
    num_candidates: int = 8,
) -> Account:
    """Write up one choice for people."""
    rows = [probabilities(logits_V) for logits_V in choice.rows]
    likeliest = np.argsort(-rows[0], kind="stable")[:num_candidates].tolist()
    shown = likeliest if choice.id in likeliest else [*likeliest, choice.id]
    names = (MODEL, *(stage.name for stage in stages))
    return Account(
        position=position,
        shapes=tuple(shapes),
        stages=tuple(
            account_stage(name, before_V, after_V)
            for name, before_V, after_V in zip(names, rows[:1] + rows, rows, strict=False)
        ),
        candidates=tuple(Candidate(i, token_label(tokenizer, i), tuple(float(p_V[i]) for p_V in rows)) for i in shown),
        u=choice.u,
        segment=segment(rows[-1], choice.id),
        id=choice.id,
        text=token_label(tokenizer, choice.id),
    )


def account_stage(name: str, before_V: np.ndarray, after_V: np.ndarray) -> StageAccount:
    """Compare the probabilities before and after a stage.

    >>> account_stage("top-k 2", np.array([0.5, 0.25, 0.25]), np.array([0.5, 0.5, 0.0]))
    StageAccount(name='top-k 2', num_kept=2, mass_kept=0.75, entropy_bits=1.0)
    """
    kept_V = after_V > 0
    p = after_V[kept_V]
    mass = min(1.0, float(before_V[kept_V].sum()))  # never above 1 by rounding
    return StageAccount(name, int(kept_V.sum()), mass, max(0.0, float(-(p * np.log2(p)).sum())))


def token_label(tokenizer: Tokenizer, token_id: int) -> str:
    """A token as people read it; an id that the tokenizer does not know is shown as a number."""
    return tokenizer.token_text(token_id) if token_id < tokenizer.vocab_size else f"#{token_id}"


@contextmanager
def record_shapes(model: Decoder) -> Iterator[list[Shape]]:
    """Collect the shapes that the model's parts put out while the block runs.

    All blocks have the same shapes, so only the first is watched, under the name `blocks.*`.
    """
    shapes: list[Shape] = []
    watched = [(name, part) for name, part in model.named_modules() if _is_watched(name, part)]
    hooks = [part.register_forward_hook(_note(shapes, name.replace("blocks.0", "blocks.*"))) for name, part in watched]
    hooks.append(model.register_forward_pre_hook(lambda model, inputs: shapes.append(("ids", tuple(inputs[0].shape)))))
    try:
        yield shapes
    finally:
        for hook in hooks:
            hook.remove()


def _is_watched(name: str, part: nn.Module) -> bool:
    outside, first = not name.startswith("blocks"), name.startswith("blocks.0")
    return bool(name) and (outside or first) and not isinstance(part, nn.Identity)


def _note(shapes: list[Shape], name: str):
    def note(part: nn.Module, inputs: tuple, output: object) -> None:
        if name.endswith(".core"):  # its keys show how many positions are attended to: those of the cache and the new
            shapes.append((f"{name} keys", tuple(inputs[1].shape)))
        if isinstance(output, Tensor):
            shapes.append((name, tuple(output.shape)))

    return note
