"""Text generation (autoregressive decoding): a request becomes a `Generation`, which gives one token after the other.

    read what is new; then, until it ends: logits -> stages -> draw -> token -> read that token

The cache keeps the keys and values of all positions read, so that each new token costs one position. `advance` is the
one step of every loop: it reads what is new in several generations at once, and each then chooses by itself. A single
text, several choices from one seed and a batch of requests all use it. `simple` is the same loop without a cache or a
stream; a test holds the two equal.

Axes: B generations · V vocabulary.
"""

from __future__ import annotations

import copy
import dataclasses
import secrets
import time
from collections import abc

import numpy as np
from numpy.typing import NDArray

from pellucid.counts import counted
from pellucid.engine.account import Account, PromptToken, ReadCost, build_account, score_prompt
from pellucid.engine.constraints.constrain import build_constraint
from pellucid.engine.request import Request
from pellucid.engine.runners.runner import Runner
from pellucid.engine.runners.sequence import Sequence
from pellucid.engine.runners.torch_runner import with_source
from pellucid.engine.sampling.sampler import Choice, Sampler, build_sampler
from pellucid.engine.sampling.settings import SamplingSettings
from pellucid.engine.sampling.stage import Stage
from pellucid.engine.settings import SpeculationSettings
from pellucid.engine.speculative import SpeculativeRunner, build_speculative, speculated
from pellucid.engine.step import Completion, Step
from pellucid.engine.stop import FinishReason, StopCondition
from pellucid.engine.window import ContextWindow
from pellucid.errors import ContextError, RequestError
from pellucid.events import NULL, Event, Recorder
from pellucid.planning.config import ModelConfig
from pellucid.tokens.prompt import decoder_start
from pellucid.tokens.tokenizer import Tokenizer


def generate(runner: Runner, tokenizer: Tokenizer, request: Request, *, recorder: Recorder = NULL) -> Generation:
    """Begin to continue a prompt; iterate over the result to get each token as soon as it is chosen.

    Raises ContextError when the prompt leaves no room, RequestError when it is empty or names an unknown id, or when
    nothing would ever end the text; SamplingError for what the settings or the constraint cannot be; all at the call,
    not at the first step.
    """
    check_request(runner.config, request)
    sampling = settle_seed(request.sampling, recorder)
    stages = tuple(request.stages)
    if request.constraint is not None:
        stages += (build_constraint(request.constraint, tokenizer, recorder=recorder),)
    draft = request.draft
    if runner.config.encoder is not None or request.source_ids is not None:
        runner = with_source(runner, request.source_ids)
        draft = draft if draft is None or draft.config.encoder is None else with_source(draft, request.source_ids)
    if request.speculation is not None or draft is not None:
        ahead = request.speculation or SpeculationSettings()
        runner = build_speculative(runner, tokenizer, sampling, ahead, draft=draft, extra=stages)
    settled = dataclasses.replace(request, sampling=sampling)
    return Generation(runner, tokenizer, settled, stages=stages, recorder=recorder)


def sides(
    config: ModelConfig, tokenizer: Tokenizer, ids: abc.Sequence[int]
) -> tuple[abc.Sequence[int], abc.Sequence[int] | None]:
    """The `prompt_ids` and `source_ids` of a request for what a person gave.

    Beside an encoder that is the source, and the decoder begins with a token of its own.
    """
    return (ids, None) if config.encoder is None else ((decoder_start(tokenizer),), ids)


def complete(runner: Runner, tokenizer: Tokenizer, request: Request, *, recorder: Recorder = NULL) -> Completion:
    """Continue a prompt to its end."""
    return generate(runner, tokenizer, request, recorder=recorder).complete()


class Generation:
    """A request in progress: its text so far, how much of it is read, how it chooses, when it ends.

    It is an iterator of steps. `advance` takes a step of several generations together; they do not affect each other.
    `request` is the one asked for, with its seed drawn.
    """

    def __init__(
        self,
        runner: Runner,
        tokenizer: Tokenizer,
        request: Request,
        *,
        stages: abc.Sequence[Stage],
        recorder: Recorder,
    ) -> None:
        """Made by `generate`, which checks the request; `stages` are the caller's and the constraint's."""
        self.runner, self.tokenizer, self.request, self.recorder = runner, tokenizer, request, recorder
        self.stages = stages
        sampling, context_length, num_prompt = request.sampling, runner.config.context_length, len(request.prompt_ids)
        slides = sampling.on_full == "slide"
        self.window = ContextWindow(context_length=context_length, keep_first=sampling.keep_first) if slides else None
        self.room = None if slides else context_length - num_prompt
        most = min(n for n in (self.room, sampling.max_new_tokens) if n is not None)
        self.max_length = num_prompt + most if self.window is None else min(num_prompt + most, context_length)
        self.ids, self.num_prompt, self.num_gone = list(request.prompt_ids), num_prompt, 0
        self.sequence = self._start()  # what the runner sees
        self.finish_reason: FinishReason | None = None
        self._take_number(0)

    @property
    def chain(self) -> str:
        """The stages that every row passes through, in one line."""
        return self.sampler.chain

    @property
    def num_source(self) -> int:
        """How many tokens the encoder read; 0 without one."""
        return len(self.request.source_ids or ())

    def __iter__(self) -> Generation:
        return self

    def __next__(self) -> Step:
        if self.finish_reason is not None:
            raise StopIteration
        return advance((self,))[0]

    def choose(self, logits_V: NDArray[np.float32], cost: ReadCost | None = None) -> Step:
        """Choose the next token from the row after the last id; given the `cost` of that row, with its account."""
        position, started = len(self.ids), time.perf_counter()
        choice = self.sampler.choose(logits_V, self.ids, self.num_prompt, keep_rows=cost is not None)
        account = None if cost is None else self._account(choice, cost, time.perf_counter() - started)
        text, reason = self.ending.push(choice.id)
        self.finish_reason = reason
        if reason is None:
            self._extend(choice.id)
        return Step(
            text=text, id=choice.id, position=position, logprob=choice.logprob, finish_reason=reason, account=account
        )

    def fork(self, number: int) -> Generation:
        """Another choice from the same seed, `number` of them; before the first token, so that the prompt is shared."""
        assert len(self.ids) == self.num_prompt, "choices part at the end of the prompt"
        twin = copy.copy(self)
        twin.ids, twin.sequence = list(self.ids), self.sequence.fork()
        twin._take_number(number)
        return twin

    def complete(self) -> Completion:
        """Go on to the end; the text as a whole."""
        steps = list(self)
        self.report()
        return self.collect(steps)

    def collect(self, steps: abc.Sequence[Step]) -> Completion:
        """All steps of this text as its completion."""
        reason = steps[-1].finish_reason
        assert reason is not None, "the generation has not ended"
        return Completion(
            text="".join(step.text for step in steps),
            ids=tuple(step.id for step in steps),
            logprobs=tuple(step.logprob for step in steps),
            finish_reason=reason,
            seed=self.request.sampling.seed,
            num_prompt_tokens=len(self.request.prompt_ids),
            num_source_tokens=self.num_source,
        )

    def score_prompt(self) -> list[PromptToken]:
        """How likely the model found each token of the prompt."""
        return score_prompt(self.runner, self.tokenizer, self.request.prompt_ids)

    def report(self) -> None:
        """Tell what guessing ahead brought so far, if there is any."""
        if isinstance(self.runner, SpeculativeRunner):
            self.recorder.record(speculated(self.runner.stats))

    def _take_number(self, number: int) -> None:
        """Set up what belongs to this choice alone: its draws, and its stop condition."""
        sampling = self.request.sampling
        self.number = number  # among several choices from one seed
        self.sampler: Sampler = build_sampler(
            self.runner.config, self.tokenizer, sampling, extra=self.stages, choice=number
        )
        self.ending = StopCondition(
            self.tokenizer,
            sampling.stop,
            max_new_tokens=sampling.max_new_tokens,
            room=self.room,
            stop_ids=sampling.stop_ids,
        )

    def _extend(self, token_id: int) -> None:
        self.ids.append(token_id)
        if self.window is not None and self.window.num_gone(len(self.ids)) > self.num_gone:
            self.sequence = self._start()
        else:
            self.sequence.extend((token_id,))

    def _start(self) -> Sequence:
        """A sequence of all that is visible, none of it read."""
        if self.window is None:
            return self.runner.start(self.ids, max_length=self.max_length)
        self.num_gone = self.window.num_gone(len(self.ids))
        if self.num_gone:
            self.recorder.record(self.window.slid(len(self.ids)))
        return self.runner.start(self.window.visible(self.ids), max_length=self.max_length)

    def _account(self, choice: Choice, cost: ReadCost, seconds: float) -> Account:
        return build_account(
            choice,
            self.sampler.stages,
            self.tokenizer,
            config=self.runner.config,
            position=len(self.ids),
            reading=cost,
            choose_seconds=seconds,
        )


def advance(generations: abc.Sequence[Generation]) -> list[Step]:
    """One token more for each of some unfinished generations of one runner, in their order.

    What is new in all of them is read at once: whole prompts and single tokens side by side. With an exact runner no
    bit of a step depends on which others are there.
    """
    runner, sequences = generations[0].runner, [generation.sequence for generation in generations]
    lengths, started = [sequence.cache.length for sequence in sequences], time.perf_counter()
    rows_BV = runner.read(sequences)
    seconds = time.perf_counter() - started
    steps = []
    for generation, logits_V, length in zip(generations, rows_BV, lengths, strict=True):
        cost = None
        if generation.request.explain:
            is_first = len(generation.ids) == generation.num_prompt  # the encoder read its source just before
            cost = ReadCost(
                runner=runner.name,
                exact=runner.exact,
                num_reused=length,
                num_computed=generation.sequence.cache.length - length,
                seconds=seconds,
                num_source=generation.num_source,
                num_encoded=generation.num_source if is_first else 0,
            )
        steps.append(generation.choose(logits_V, cost))
    return steps


def settle_seed(settings: SamplingSettings, recorder: Recorder = NULL) -> SamplingSettings:
    """The settings with a known seed: drawn and reported when none was given, None when nothing will be drawn."""
    if settings.greedy:
        return dataclasses.replace(settings, seed=None)
    if settings.seed is not None:
        return settings
    seed = secrets.randbelow(2**32)
    recorder.record(
        Event(
            name="engine.seed_drawn",
            message=f"seed {seed} (drawn; give it again for the same text)",
            data={"seed": seed},
        )
    )
    return dataclasses.replace(settings, seed=seed)


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
