"""What is asked of a model: a prompt, how it is to be continued, and what is wanted beside the text.

A request holds what is known when it comes in; a `Generation` holds what happens to it later. A script, the command
line and a server all make this one type. What a model cannot do is refused here, before anything is read.
"""

from __future__ import annotations

from collections import abc
from dataclasses import dataclass

from pellucid.counts import counted
from pellucid.engine.constraints.settings import ConstraintSettings
from pellucid.engine.runners.runner import Runner
from pellucid.engine.runners.torch_runner import check_source
from pellucid.engine.sampling.settings import SamplingSettings
from pellucid.engine.sampling.stage import Stage
from pellucid.engine.settings import SpeculationSettings
from pellucid.errors import ContextError, RequestError
from pellucid.planning.config import ModelConfig

PLAIN = SamplingSettings()


@dataclass(frozen=True, kw_only=True)
class Request:
    """One prompt and how to continue it. Only the prompt must be given: the rest leaves the model as it is.

    >>> Request(prompt_ids=(1, 2)).sampling == SamplingSettings()
    True
    """

    prompt_ids: abc.Sequence[int]  # what the model reads first; beside an encoder, what its decoder begins with
    source_ids: abc.Sequence[int] | None = None  # what the encoder reads, where the model has one
    sampling: SamplingSettings = PLAIN
    constraint: ConstraintSettings | None = None  # the form of the answer; None: any
    stages: abc.Sequence[Stage] = ()  # a caller's own, which act before those of the settings and of the constraint
    num_choices: int = 1  # texts from one seed
    speculation: SpeculationSettings | None = None  # guess ahead: the same text, sooner
    draft: Runner | None = None  # the smaller model that guesses; None: the text so far does
    explain: bool = False  # each step carries the account of its choice


def check_request(config: ModelConfig, request: Request) -> None:
    """Refuse what this model cannot do: the prompt, the tokens that end the text, a text without an end."""
    sampling = request.sampling
    if sampling.on_full == "stop":
        check_prompt(config, request.prompt_ids)
    else:
        check_ids(config, request.prompt_ids)
    if sampling.on_full == "slide" and sampling.max_new_tokens is None:
        raise RequestError(
            "a text that slides through the context may never end",
            found="on_full=slide without max_new_tokens",
            hint="say how many tokens are wanted at most: max_new_tokens",
        )
    if request.explain and config.streams is not None:
        raise RequestError(
            "the account of a step walks through one stream, and this model has two",
            hint="leave explain out: steps have their log-probabilities all the same",
        )
    check_stop_ids(config, sampling.stop_ids)
    check_source(config, request.source_ids)


def check_prompt(config: ModelConfig, prompt_ids: abc.Sequence[int]) -> None:
    """Refuse a prompt that this model cannot continue."""
    check_ids(config, prompt_ids)
    if len(prompt_ids) >= config.context_length:
        raise ContextError(
            "the prompt leaves no room for a new token",
            found=counted(len(prompt_ids), "token"),
            where=f"context_length={config.context_length}",
            hint=f"shorten the prompt to {config.context_length - 1} tokens or fewer, or let the window slide over it "
            "(on_full=slide)",
        )


def check_stop_ids(config: ModelConfig, stop_ids: abc.Sequence[int]) -> None:
    """Refuse stop tokens that this model can never write."""
    unknown = [token_id for token_id in stop_ids if not 0 <= token_id < config.vocab_size]
    if unknown:
        raise RequestError(
            "stop_ids names a token that the model does not have",
            found=str(unknown[0]),
            where=f"vocab_size={config.vocab_size}",
        )


def check_ids(config: ModelConfig, prompt_ids: abc.Sequence[int]) -> None:
    """Refuse ids that this model cannot continue, whatever their number."""
    check_writes(config)
    check_known(config, prompt_ids)


def check_writes(config: ModelConfig) -> None:
    """Refuse a model that continues no text, whatever the prompt."""
    if not config.causal and config.streams is None:
        raise RequestError(
            "this model sees the whole row at once: it cannot continue a text",
            found="causal=False",
            hint="pellucid fill (the words behind a mask) or pellucid embed (a vector for each text)",
        )
    if not config.head.tokens:
        raise RequestError(
            "this model scores no tokens: it cannot continue a text",
            found="head.tokens=False",
            hint="pellucid embed (a vector for each text) or pellucid classify (its labels)",
        )


def check_known(config: ModelConfig, prompt_ids: abc.Sequence[int]) -> None:
    """Refuse ids that this model cannot read: none, and those that it does not have."""
    if not len(prompt_ids):
        hint = "ids are read as they are: give at least one; a text begins with <bos> where the tokenizer has one"
        raise RequestError("the prompt is empty", hint=hint)
    if not 0 <= min(prompt_ids) <= max(prompt_ids) < config.vocab_size:
        raise RequestError(
            "the prompt names a token that the model does not have",
            found=f"ids from {min(prompt_ids)} to {max(prompt_ids)}",
            where=f"vocab_size={config.vocab_size}",
            hint="encode the prompt with the model's own tokenizer",
        )
