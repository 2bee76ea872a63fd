"""The results of a generation: one `Step` per token while it runs, one `Completion` when it has ended."""

from __future__ import annotations

from dataclasses import dataclass

from pellucid.engine.account import Account
from pellucid.engine.stop import FinishReason


@dataclass(frozen=True, kw_only=True)
class Step:
    """One generated token and the text that it made visible.

    `text` may be empty (half a character, or the beginning of what may become a stop string) and may hold characters
    of earlier tokens; all texts joined are the answer.
    """

    text: str
    id: int
    position: int  # of this token in the sequence; the prompt starts at 0
    logprob: float  # nats, under the model's own distribution, before temperature and cuts
    finish_reason: FinishReason | None  # set on the last step
    account: Account | None = None  # how the token came about, when asked for
    choice: int = 0  # the number of its text among those that the request asks for


@dataclass(frozen=True, kw_only=True)
class Completion:
    """A finished generation.

    `ids` are all tokens drawn, the closing <eos>, stop token or stop string included; `text` ends before those.
    """

    text: str
    ids: tuple[int, ...]
    logprobs: tuple[float, ...]  # nats, one per id
    finish_reason: FinishReason
    seed: int | None  # None when nothing was drawn (temperature 0)
    num_prompt_tokens: (
        int  # what the first new token continues; beside an encoder, the token that its decoder begins with
    )
    num_source_tokens: int = 0  # what the encoder read; 0 without one
