"""Text generation (autoregressive decoding): a request becomes a `Generation`, which gives one token after the other.

    read what is new; then, until it ends: logits -> stages -> draw -> token -> read that token

The cache keeps the keys and values of all positions read, so that each new token costs one position. A generation says
what must be read of it and chooses from the rows it is given; a `Scheduler` reads, for one generation or for many at
once. `generate` gives a single text a scheduler of its own. `simple` is the same loop without a cache or a stream; a
test holds the two equal.

Axes: N rows · V vocabulary.
"""

from __future__ import annotations

import copy
import dataclasses
import secrets
import time
from collections import abc, deque

from pellucid.engine.account import Account, PromptToken, ReadCost, build_account, score_prompt
from pellucid.engine.constraints.constrain import build_constraint
from pellucid.engine.request import Request, check_request
from pellucid.engine.runners.runner import ReadPart, Runner
from pellucid.engine.runners.sequence import Sequence
from pellucid.engine.runners.torch_runner import with_source
from pellucid.engine.sampling.rows import RowAsk
from pellucid.engine.sampling.sampler import Choice, Sampler, build_sampler
from pellucid.engine.sampling.settings import SamplingSettings
from pellucid.engine.sampling.stage import Stage
from pellucid.engine.scheduler import ALONE, RowsRead, Scheduler, Steps, Taker
from pellucid.engine.settings import SpeculationSettings
from pellucid.engine.speculative import FREE, Guesser, Price, build_guesser, speculated
from pellucid.engine.step import Completion, Step
from pellucid.engine.stop import FinishReason, StopCondition
from pellucid.engine.window import ContextWindow
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
    generation = prepare(runner, tokenizer, request, recorder=recorder)
    generation.scheduler = Scheduler(runner, ALONE, recorder=recorder)
    generation.scheduler.add(generation)
    return generation


def prepare(runner: Runner, tokenizer: Tokenizer, request: Request, *, recorder: Recorder = NULL) -> Generation:
    """The generation of a request, for a scheduler of this runner. Raises what `generate` raises."""
    check_request(runner.config, request)
    sampling = settle_seed(request.sampling, recorder)
    stages = tuple(request.stages)
    if request.constraint is not None:
        stages += (build_constraint(request.constraint, tokenizer, recorder=recorder),)
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


class Generation(Steps):
    """A request in progress: its text so far, how much of it is read, how it chooses, when it ends.

    It is an iterator of steps. `request` is the one asked for, with its seed drawn.
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
        """Made by `prepare`, which checks the request; `stages` are the caller's and the constraint's."""
        self.runner, self.tokenizer, self.request, self.recorder = runner, tokenizer, request, recorder
        self.stages = stages
        sampling, context_length, num_prompt = request.sampling, runner.config.context_length, len(request.prompt_ids)
        slides = sampling.on_full == "slide"
        self.window = ContextWindow(context_length=context_length, keep_first=sampling.keep_first) if slides else None
        self.room = None if slides else context_length - num_prompt
        most = min(n for n in (self.room, sampling.max_new_tokens) if n is not None)
        self.max_length = num_prompt + most if self.window is None else min(num_prompt + most, context_length)
        self.ids, self.num_prompt, self.num_gone = list(request.prompt_ids), num_prompt, 0
        self.sequence: Sequence | None = None  # what the runner sees; begun when it is first read
        self.num_told = 0  # positions of the sequence that earlier steps have accounted for
        self.guess: list[int] = []  # ids at the end of the sequence that are not chosen yet
        self.guesser = self._build_guesser()
        self.steps = deque[Step]()
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

    @property
    def sequences(self) -> list[Sequence]:
        """What is kept in memory of it."""
        return [] if self.sequence is None else [self.sequence]

    @property
    def is_over(self) -> bool:
        """Whether its last token is chosen."""
        return self.finish_reason is not None

    def parts(self, price: Price = FREE) -> list[ReadPart]:
        """What must be read for its next token: all that is new, and a guess that is worth its price."""
        sequence = self._begun()
        self._drop_guess()
        count = len(sequence) - sequence.cache.length
        if self.guesser is not None and count == 1 and len(self.ids) > self.num_prompt:
            self.guess = self.guesser.guess(sequence, self.max_length - len(sequence), price)
            sequence.extend(self.guess)
        return [ReadPart(sequence, count + len(self.guess), 1 + len(self.guess))]

    def take(self, readings: abc.Sequence[RowsRead]) -> list[Taker]:
        """Choose from the rows that were read."""
        (reading,) = readings
        return [self.taker(reading)]

    def taker(self, reading: RowsRead) -> Taker:
        """Choose from rows as long as each token is the one that was guessed."""
        num_guessed, num_taken = len(self.guess), 0
        for logits_V in reading.rows_NV:
            explain, started = self.request.explain, time.perf_counter()
            choice = yield RowAsk(self.sampler, logits_V, self.ids, self.num_prompt, explain)
            cost = self._cost(reading, num_guessed, num_taken) if explain else None
            self.steps.append(self._accept(choice, cost, time.perf_counter() - started))
            num_taken += 1
            if self.is_over or not self._extend(choice.id):
                break
        self._drop_guess()
        if self.guesser is not None:
            self.guesser.judge(num_guessed, num_taken - 1)
        self.num_told = 0 if self.sequence is None else self.sequence.cache.length

    def fork(self, number: int) -> Generation:
        """Another choice from the same seed, before the first token, so that the prompt is shared; `number` says which.

        All choices leave their steps in one place.
        """
        assert len(self.ids) == self.num_prompt, "choices part at the end of the prompt"
        twin = copy.copy(self)
        twin.ids, twin.guess, twin.sequence = list(self.ids), [], self._begun().fork()
        twin.guesser = self.guesser and self.guesser.fork()
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
        reader = with_source(self.runner, self.request.source_ids)
        return score_prompt(reader, self.tokenizer, self.request.prompt_ids)

    def report(self) -> None:
        """Tell what guessing ahead brought so far, if there is any."""
        if self.guesser is not None:
            self.recorder.record(speculated(self.guesser.stats))

    def _build_guesser(self) -> Guesser | None:
        request, draft = self.request, self.request.draft
        if request.speculation is None and draft is None:
            return None
        if draft is not None and draft.config.encoder is not None:
            draft = with_source(draft, request.source_ids)
        return build_guesser(
            self.tokenizer,
            request.sampling,
            request.speculation or SpeculationSettings(),
            draft=draft,
            max_length=self.max_length,
            extra=self.stages,
        )

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

    def _begun(self) -> Sequence:
        """A sequence of all that is visible, none of it read when it begins."""
        if self.sequence is not None:
            return self.sequence
        visible = self.ids
        if self.window is not None:
            self.num_gone = self.window.num_gone(len(self.ids))
            visible = self.window.visible(self.ids)
            if self.num_gone:
                self.recorder.record(self.window.slid(len(self.ids)))
        self.reader = with_source(self.runner, self.request.source_ids)
        self.sequence = self.reader.start(visible, max_length=self.max_length)
        return self.sequence

    def _accept(self, choice: Choice, cost: ReadCost | None, seconds: float) -> Step:
        """A chosen token as a step, and whether the text ends with it."""
        account = None if cost is None else self._account(choice, cost, seconds)
        text, self.finish_reason = self.ending.push(choice.id)
        return Step(
            text=text,
            id=choice.id,
            position=len(self.ids),
            logprob=choice.logprob,
            finish_reason=self.finish_reason,
            account=account,
            choice=self.number,
        )

    def _extend(self, token_id: int) -> bool:
        """Let the text grow; whether the token was guessed, so that the row after it is at hand."""
        self.ids.append(token_id)
        if self.window is not None and self.window.num_gone(len(self.ids)) > self.num_gone:
            self._slide()
            return False
        if self.guess and self.guess[0] == token_id:
            del self.guess[0]
            return True
        self._drop_guess()
        self._begun().extend((token_id,))
        return False

    def _slide(self) -> None:
        """Begin anew with what the window still shows."""
        self._drop_guess()
        if self.guesser is not None:
            self.guesser.proposer.truncate(0)
        self._begun().cache.release()
        self.sequence = None

    def _drop_guess(self) -> None:
        """Forget the ids that were read and not chosen."""
        if self.guess and self.sequence is not None:
            self.sequence.truncate(len(self.sequence) - len(self.guess))
        self.guess = []

    def _cost(self, reading: RowsRead, num_guessed: int, num_taken: int) -> ReadCost:
        """What the row of the next token cost; that of a token which was guessed counts as one position read."""
        cache = self._begun().cache
        held = cache.length - num_guessed + num_taken
        reused = max(self.num_told, getattr(cache, "num_adopted", 0)) if num_taken == 0 else held - 1
        is_first = len(self.ids) == self.num_prompt  # the encoder read its source just before
        return ReadCost(
            runner=self.runner.name,
            exact=self.runner.exact,
            num_reused=reused,
            num_computed=held - reused,
            seconds=0.0 if num_taken else reading.seconds,
            num_source=self.num_source,
            num_encoded=self.num_source if is_first else 0,
        )

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
