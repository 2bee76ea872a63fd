"""In which order the sampler's stages act: a list of names, and the lists of four other engines.

The same numbers in another order are another distribution. With temperature 2 and top-p 0.9, llama.cpp and mlx cut
the nucleus of the model's own distribution and flatten what is left; vLLM and transformers flatten first, which lets
more tokens into the nucleus. And the same penalty means four things, because each engine counts other tokens. So an
`Order` holds both: the stages from first to last, and which ids the penalties look back on.

A named order is a promise to give that engine's distribution, so it holds only stages that engine has; asking for
another is an error. Masks (allow, ban, minimum tokens) are the exception: they forbid tokens before anything else is
decided, which every engine does in some way. This file is data: no arithmetic, no torch.

Source: each engine's own chain: llama.cpp `common/sampling.cpp`, vLLM `v1/sample/sampler.py`, transformers
`generation/utils.py`, mlx-lm `sample_utils.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Scope = Literal["prompt", "output", "both"]


@dataclass(frozen=True)
class Lookback:
    """Which ids of a sequence a penalty looks back on: the prompt, the output or both, and of those the last `window`."""

    scope: Scope
    window: int | None = None  # tokens; None: all

    def __str__(self) -> str:
        return self.scope if self.window is None else f"{self.scope}, last {self.window}"


@dataclass(frozen=True, kw_only=True)
class Order:
    """The stages from first to last, and the ids that penalties count."""

    stages: tuple[str, ...]
    repetition: Lookback  # of the repetition penalty
    counts: Lookback  # of the frequency and the presence penalty


MASKS = ("allow", "ban", "min_new_tokens")
PROHIBITIONS = (*MASKS, "no_repeat_ngram")  # what must not be chosen, however likely

ORDERS: dict[str, Order] = {
    "pellucid": Order(
        stages=(
            *(*MASKS, "logit_bias", "no_repeat_ngram", "repetition", "frequency", "presence", "dry"),
            *("temperature", "top_n_sigma", "top_k", "top_p", "min_p", "typical", "epsilon", "eta"),
            *("xtc", "mirostat"),
        ),
        repetition=Lookback("both"),
        counts=Lookback("output"),
    ),
    "llama.cpp": Order(
        stages=(
            *(*MASKS, "logit_bias", "repetition", "frequency", "presence", "dry"),
            *("top_n_sigma", "top_k", "typical", "top_p", "min_p", "xtc", "temperature"),
        ),
        repetition=Lookback("both", 64),
        counts=Lookback("both", 64),
    ),
    "vllm": Order(
        stages=(
            *(*MASKS, "logit_bias", "repetition", "frequency", "presence"),
            *("temperature", "min_p", "top_k", "top_p"),
        ),
        repetition=Lookback("both"),
        counts=Lookback("output"),
    ),
    "hf": Order(
        stages=(
            *("logit_bias", "repetition", "no_repeat_ngram", *MASKS),
            *("temperature", "top_k", "top_p", "min_p", "typical", "epsilon", "eta"),
        ),
        repetition=Lookback("both"),
        counts=Lookback("both"),
    ),
    "mlx": Order(
        stages=(
            *(*MASKS, "logit_bias", "repetition", "presence", "frequency"),
            *("top_p", "min_p", "xtc", "top_k", "temperature"),
        ),
        repetition=Lookback("both", 20),
        counts=Lookback("both", 20),
    ),
}

STAGES = ORDERS["pellucid"].stages  # every stage there is

# With mirostat llama.cpp leaves out all its other stages.
LLAMA_CPP_MIROSTAT = Order(
    stages=(*MASKS, "logit_bias", "temperature", "mirostat"),
    repetition=Lookback("both", 64),
    counts=Lookback("both", 64),
)
