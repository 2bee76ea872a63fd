"""A model with its tokenizer, and what a person asks of it: continue a text, score one, keep it, look inside.

What reads a text whole (`fill`, `embed`, `classify`) lies in `whole_texts`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar, Unpack, cast, overload

from pellucid.arguments import SAMPLING, SEARCH, check_has, check_kind, check_path
from pellucid.engine.keywords import (
    BeamKeywords,
    ChoiceKeywords,
    Draft,
    RequestKeywords,
    SamplingKeywords,
    SchedulerKeywords,
)
from pellucid.errors import RequestError
from pellucid.events import NULL, Recorder
from pellucid.planning.config import ModelConfig
from pellucid.setting_values import check_keywords
from pellucid.settings import Layer, resolve, setting_names
from pellucid.tokens.prompt import Prompt, Prompts, read_prompt, read_prompts
from pellucid.tokens.tokenizer import Tokenizer
from pellucid.whole_texts import WholeTexts

if TYPE_CHECKING:  # torch is loaded by the functions that need it: planning a model must not wait for it
    from pellucid.engine.beam import Hypothesis
    from pellucid.engine.constraints.settings import ConstraintSettings
    from pellucid.engine.generate import Generation
    from pellucid.engine.request import Request
    from pellucid.engine.runners.runner import Runner
    from pellucid.engine.sampling.settings import SamplingSettings
    from pellucid.engine.sampling.stage import Stage
    from pellucid.engine.service import Service
    from pellucid.engine.step import Completion, Step
    from pellucid.engine.transcript import Replayed, Transcript
    from pellucid.evaluate.score import Score
    from pellucid.lens.dispatch import Dispatch
    from pellucid.model.decoder import Decoder
    from pellucid.store.checkpoint import Checkpoint
    from pellucid.store.gguf import Quantization

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True, repr=False)
class LanguageModel(WholeTexts):
    """A model with its tokenizer, ready to continue text. `model` is a torch module, `runner` computes its logits."""

    model: Decoder
    tokenizer: Tokenizer
    checkpoint: Checkpoint
    runner: Runner

    def __repr__(self) -> str:
        """One line: where it is from, how large it is, what reads it; `lm.model` shows its parts."""
        model, size = self.model, f"{self.model.num_parameters:,} parameters"
        where = f"{str(model.dtype).removeprefix('torch.')} on {model.device}, read by {self.runner.name}"
        return f"LanguageModel({str(self.checkpoint.directory)!r}, {size}, {self.tokenizer!r}, {where})"

    @property
    def config(self) -> ModelConfig:
        """The model's shape."""
        return self.model.config

    def start(self, request: Request, *, recorder: Recorder = NULL) -> Generation:
        """Begin a generation, which is an iterator of steps. Raises what `pellucid.engine.generate` raises."""
        from pellucid.engine.generate import generate

        return generate(self.runner, self.tokenizer, request, recorder=recorder)

    def finish(self, generation: Generation) -> tuple[Completion, ...]:
        """All the texts that a request asks for, from its generation: one, or its choices, to their ends.

        Raises SamplingError when all of several choices would be the same text (temperature 0).
        """
        from pellucid.engine.choices import Choices

        several = generation.request.num_choices != 1
        return Choices(generation).complete() if several else (generation.complete(),)

    def request(
        self,
        prompt: Prompt = "",
        *,
        constraint: ConstraintSettings | None = None,
        stages: Sequence[Stage] = (),
        num_choices: int = 1,
        lookup: int | None = None,
        draft: Draft | None = None,
        explain: bool = False,
        **sampling: Unpack[SamplingKeywords],
    ) -> Request:
        """One prompt and how to continue it, in keywords; `sampling` are the fields of `SamplingSettings`.

        A prompt is text, or ids, which are read as they are; a model with an encoder reads it as its source, and writes
        about it. `constraint` is the form that the answer must have,
        `stages` are sampler stages of your own, which act before those of the settings. `lookup` guesses up to so many
        tokens ahead from what came before, `draft` with a smaller model: the same text, sooner. `explain` gives each
        step the account of its choice.

        Raises SettingsError for an unknown keyword, SamplingError for values out of range, RequestError for what is no
        prompt, or several.
        """
        from pellucid.engine.constraints.settings import ConstraintSettings
        from pellucid.engine.generate import sides
        from pellucid.engine.request import Request
        from pellucid.engine.settings import SpeculationSettings

        if constraint is not None:
            check_kind(constraint, ConstraintSettings, "constraint=pellucid.ConstraintSettings(regex=…)")
        check_kind(explain, bool, "explain=True")
        check_kind(0 if lookup is None else lookup, int, "lookup=3")
        check_has(draft, "runner", "draft=pellucid.load(path)")
        for stage in stages if isinstance(stages, Sequence) else (stages,):
            check_has(stage, "apply", "stages=(…,), each with a name and apply(logits_V, history)")
        prompt_ids, source_ids = sides(self.config, self.tokenizer, self._read(prompt))
        return Request(
            prompt_ids=prompt_ids,
            source_ids=source_ids,
            sampling=_read_sampling(sampling),
            constraint=constraint,
            stages=stages,
            num_choices=num_choices,
            speculation=None if lookup is None else SpeculationSettings(max_tokens=lookup),
            draft=None if draft is None else draft.runner,
            explain=explain,
        )

    def generate(
        self, prompt: Prompt = "", *, recorder: Recorder = NULL, **asked: Unpack[ChoiceKeywords]
    ) -> Generation:
        """Continue one prompt token by token; `asked` are the keywords of `request`, the sampler's knobs among them.

        A list of prompts is refused: steps of several texts in one stream would not say whose they are; `complete`
        takes it.

        Raises SamplingError for values out of range, ContextError for a prompt that fills the context.
        """
        check_keywords(asked, ChoiceKeywords.__annotations__, SAMPLING)  # num_choices: this is one text
        return self.start(self.request(prompt, **asked), recorder=recorder)

    @overload
    def complete(
        self, prompt: Prompt = "", *, recorder: Recorder = NULL, **asked: Unpack[ChoiceKeywords]
    ) -> Completion: ...
    @overload
    def complete(
        self, prompt: Prompts, *, recorder: Recorder = NULL, **asked: Unpack[ChoiceKeywords]
    ) -> list[Completion]: ...
    def complete(
        self, prompt: Prompt | Prompts = "", *, recorder: Recorder = NULL, **asked: Unpack[ChoiceKeywords]
    ) -> Completion | list[Completion]:
        """Continue a prompt to its end; the answer with its ids, log-probabilities and why it ended.

        `asked` are the keywords of `request`. A list of prompts is answered side by side and gives a list of answers,
        each the same as if it had been asked for alone.
        """
        from pellucid.engine.generate import prepare
        from pellucid.engine.scheduler import run_together

        check_keywords(asked, ChoiceKeywords.__annotations__, SAMPLING)  # num_choices: this is one text
        rows = self._rows(prompt)
        if rows is None:
            return self.generate(cast("Prompt", prompt), recorder=recorder, **asked).complete()
        runner = self.runner.set_aside(None)
        texts = [prepare(runner, self.tokenizer, self.request(ids, **asked), recorder=recorder) for ids in rows]
        run_together(runner, texts)
        return [text.complete() for text in texts]

    @overload
    def choices(
        self, prompt: Prompt = "", *, num_choices: int, recorder: Recorder = NULL, **asked: Unpack[ChoiceKeywords]
    ) -> tuple[Completion, ...]: ...
    @overload
    def choices(
        self, prompt: Prompts, *, num_choices: int, recorder: Recorder = NULL, **asked: Unpack[ChoiceKeywords]
    ) -> list[tuple[Completion, ...]]: ...
    def choices(
        self,
        prompt: Prompt | Prompts = "",
        *,
        num_choices: int | None = None,
        recorder: Recorder = NULL,
        **asked: Unpack[ChoiceKeywords],
    ) -> tuple[Completion, ...] | list[tuple[Completion, ...]]:
        """Continue a prompt several times from one seed, to the ends; choice 0 is the text that `complete` gives.

        `asked` are the keywords of `request`. A list of prompts gives a list, the choices of each prompt together.
        """
        check_keywords(asked, RequestKeywords.__annotations__, SAMPLING)  # n=3, before num_choices is missed
        if num_choices is None:
            raise RequestError("num_choices must be given", hint="num_choices=3")
        check_kind(num_choices, int, "num_choices=3")
        from pellucid.engine.choices import Choices
        from pellucid.engine.generate import prepare
        from pellucid.engine.scheduler import run_together

        rows, runner = self._rows(prompt), self.runner.set_aside(None)
        prompts: Sequence[Prompt] = [cast("Prompt", prompt)] if rows is None else rows
        requests = [self.request(one, num_choices=num_choices, **asked) for one in prompts]
        texts = [Choices(prepare(runner, self.tokenizer, request, recorder=recorder)) for request in requests]
        run_together(runner, texts)
        found = [text.complete() for text in texts]
        return found[0] if rows is None else found

    def service(
        self, *, memory_bytes: int | None = None, recorder: Recorder = NULL, **asked: Unpack[SchedulerKeywords]
    ) -> Service:
        """Answer requests side by side in a thread of its own, until it is closed; `submit` is safe from any thread.

        `memory_bytes` is what keys and values may take (None: a quarter of the memory that is free now); `asked` are the
        fields of `SchedulerSettings`.

            with lm.service() as service:
                for step in service.submit(lm.request("Once upon")): print(step.text, end="")
        """
        from pellucid.engine.service import Service
        from pellucid.engine.settings import SchedulerSettings

        check_keywords(asked, setting_names(SchedulerSettings), {})
        check_kind(0 if memory_bytes is None else memory_bytes, int, "memory_bytes=4 * 2**30")
        settings = resolve(SchedulerSettings, Layer("call", asked)).settings
        return Service(self.runner, self.tokenizer, settings, memory_bytes=memory_bytes, recorder=recorder)

    def suggested(self) -> SamplingKeywords:
        """The sampling settings that the model's generation_config.json suggests: `lm.complete(text, **lm.suggested())`.

        Raises SamplingError for a suggestion that cannot be.
        """
        from pellucid.engine.sampling.generation_config import suggest

        return suggest(self.checkpoint.generation, self.tokenizer.end_ids)[0]

    def save_trace(self, path: Path | str, steps: Sequence[Step], request: Request) -> None:
        """Write down all that led to a finished text, so that `replay` makes it again and compares.

        `steps` are all of a generation with `explain=True`, `request` is that generation's own, its seed known.
        """
        from pellucid.engine.transcript import build_transcript, check_finished, hash_model, save_transcript

        check_finished(steps, request)
        transcript = build_transcript(steps, request, self.tokenizer, model_sha256=hash_model(self.model))
        save_transcript(transcript, Path(path))

    def replay(
        self,
        trace: Path | str | Transcript,
        *,
        lookup: int | None = None,
        draft: Draft | None = None,
        explain: bool = False,
        recorder: Recorder = NULL,
    ) -> Replayed:
        """Generate the text of a trace again, token by token; the trace says how, the keywords are those of `request`.

        Raises CorruptFileError for a file that is no trace, RequestError when the model is another one, and at the
        first token that is not the trace's.
        """
        from pellucid.engine.transcript import Replayed, Transcript, check_origin, hash_model, load_transcript

        transcript = trace if isinstance(trace, Transcript) else load_transcript(Path(trace))
        check_origin(transcript, model_sha256=hash_model(self.model), tokenizer=self.tokenizer)
        asked, told = (
            self.request(transcript.prompt_ids, lookup=lookup, draft=draft, explain=explain),
            transcript.request,
        )
        request = replace(asked, sampling=told.sampling, constraint=told.constraint)
        return Replayed(transcript, self.start(request, recorder=recorder))

    @overload
    def search(
        self, prompt: Prompt = "", *, recorder: Recorder = NULL, **beams: Unpack[BeamKeywords]
    ) -> tuple[Hypothesis, ...]: ...
    @overload
    def search(
        self, prompt: Prompts, *, recorder: Recorder = NULL, **beams: Unpack[BeamKeywords]
    ) -> list[tuple[Hypothesis, ...]]: ...
    def search(
        self, prompt: Prompt | Prompts = "", *, recorder: Recorder = NULL, **beams: Unpack[BeamKeywords]
    ) -> tuple[Hypothesis, ...] | list[tuple[Hypothesis, ...]]:
        """The likeliest continuations that a beam search finds, best first; `beams` are the fields of `BeamSettings`.

        A list of prompts gives a list, what was found for each prompt together.
        """
        from pellucid.engine.beam import BeamSettings, Search
        from pellucid.engine.generate import sides
        from pellucid.engine.scheduler import run_together

        check_keywords(beams, setting_names(BeamSettings), SEARCH)
        settings = resolve(BeamSettings, Layer("call", beams)).settings
        rows, runner = self._rows(prompt), self.runner.set_aside(None)
        searches = []
        for ids in [self._read(cast("Prompt", prompt))] if rows is None else rows:
            prompt_ids, source_ids = sides(self.config, self.tokenizer, ids)
            one = Search(runner, self.tokenizer, prompt_ids, settings, source_ids=source_ids, recorder=recorder)
            searches.append(one)
        run_together(runner, searches)
        found = [one.best() for one in searches]
        return found[0] if rows is None else found

    @overload
    def score(self, prompt: Prompt, *, source: Prompt | None = None) -> Score: ...
    @overload
    def score(self, prompt: Prompts, *, source: Prompt | None = None) -> list[Score]: ...
    def score(self, prompt: Prompt | Prompts, *, source: Prompt | None = None) -> Score | list[Score]:
        """How likely the model finds a text, or ids: the log-probability of each token after those before it.

        A text begins after <bos>, as for `generate`; the first id is given and not predicted. A list gives a list. A
        model with an encoder scores a target, with its end, given its `source`. A masked model tells each token given
        all the others: what adds up ranks texts, and is no likelihood.

        Raises RequestError for fewer than two ids, for a source where there is no encoder, and the other way round.
        """
        from pellucid.engine.runners.torch_runner import with_source
        from pellucid.evaluate.masked_score import score_masked
        from pellucid.evaluate.score import as_target, score_ids

        check_targets(prompt, source)
        runner = with_source(self.runner, None if source is None else self._read(source))
        if self.config.is_encoder:
            frame, texts = self.checkpoint.frame(self.tokenizer), prompt if isinstance(prompt, list) else [prompt]
            rows = [frame.around(self.tokenizer.encode(one).ids) if isinstance(one, str) else one for one in texts]
            given = rows if isinstance(prompt, list) else rows[0]
            return self._each(given, lambda ids: score_masked(self.model, self.tokenizer, ids))
        target = self.config.encoder is not None
        return self._each(
            prompt, lambda ids: score_ids(runner, self.tokenizer, as_target(self.tokenizer, ids) if target else ids)
        )

    def save(self, path: Path | str, *, quantize: Quantization | None = None, recorder: Recorder = NULL) -> Path:
        """Write the model as it is now: a Hugging Face directory, or a GGUF file where the name ends in .gguf.

        `quantize` is the number format of its matrices, in the words of `pellucid convert`: f32, f16, bf16, and q8_0 in
        a GGUF file; left out, they are stored as the model holds them. Returns the path.

        Raises StoreError (and its kinds) when something is there already or it cannot be written, SettingsError for a
        number format that cannot be stored there.
        """
        from pellucid.store.convert import convert, stored_format, target_of

        weights = {name: parameter.detach() for name, parameter in self.model.named_parameters()}
        dtype = self.model.dtype
        now = replace(self.checkpoint, config=self.config, weights=weights, tokenizer=self.tokenizer, dtype=dtype)
        check_path(path, "path")
        to, chosen = target_of(Path(path)), quantize or stored_format(now)
        convert(now, Path(path), to=to, number_format=chosen, recorder=recorder)
        return Path(path)

    def lens(self, text: str) -> object:
        """The lens on a text, live in a notebook: show it as the last line of a cell.

        Raises MissingExtraError without the extra `notebook`; `pellucid.trace(lm, text)` needs none.
        """
        from pellucid.lens.page.widget import make_widget

        return make_widget(dispatch_on(self, text))

    def _each(self, prompt: Prompt | Prompts, answer: Callable[[list[int]], T]) -> T | list[T]:
        """The answer to a prompt, or the list of answers to a list of them; all are read before the first is answered."""
        rows = self._rows(prompt)
        return answer(self._read(cast("Prompt", prompt))) if rows is None else [answer(ids) for ids in rows]

    def _rows(self, prompt: Prompt | Prompts) -> list[list[int]] | None:
        """The ids of each prompt of a list; None for a single prompt."""
        for one in prompt if isinstance(prompt, list) else ():
            check_source(self.config, one)
        return read_prompts(prompt, self.tokenizer, whole=self.config.encoder is not None)

    def _read(self, prompt: Prompt) -> list[int]:
        """The ids of one prompt, as this model reads it: <eos> ends the source of an encoder."""
        check_source(self.config, prompt)
        return read_prompt(prompt, self.tokenizer, whole=self.config.encoder is not None)


def check_source(config: ModelConfig, prompt: object) -> None:
    """Raise RequestError for a text without words where an encoder reads it: nothing could be written about it."""
    if config.encoder is not None and isinstance(prompt, str) and not prompt.strip():
        raise RequestError(
            "the text is empty: this model reads one with its encoder, and writes about it",
            found=repr(prompt),
            hint="give a text for it to read, such as one of the sources that it was trained on",
        )


def check_targets(prompt: object, source: object) -> None:
    """Raise RequestError for a text to score that is empty, and for several sources: each call has one."""
    for number, one in enumerate(prompt if isinstance(prompt, list) else [prompt], start=1):
        if one == "":
            raise RequestError(
                "the text to score is empty", found=f"text {number}", hint="give a text with at least one letter"
            )
    if isinstance(source, list) and any(isinstance(one, str) for one in source):
        hint = "score the targets of each source in a call of their own"
        raise RequestError("one source is wanted here", found=f"a list of {len(source)}", hint=hint)


def _read_sampling(given: SamplingKeywords) -> SamplingSettings:
    """The sampler's knobs as keywords give them."""
    from pellucid.engine.sampling.settings import SamplingSettings, spell_bias

    check_keywords(given, setting_names(SamplingSettings), SAMPLING)
    bias = given.get("logit_bias")
    spelled = {"logit_bias": spell_bias(bias)} if isinstance(bias, Mapping) else {}
    return resolve(SamplingSettings, Layer("call", {**given, **spelled})).settings


def dispatch_on(lm: LanguageModel, prompt: Prompt) -> Dispatch:
    """The lens on a prompt."""
    from pellucid.lens.dispatch import Dispatch
    from pellucid.lens.models import Models, Opened, run_of

    check_kind(lm, LanguageModel, "give what pellucid.load(path) returns")
    opened = Opened(model=lm.model, runner=lm.runner, checkpoint=lm.checkpoint)
    dispatch = Dispatch(Models(opened, run=run_of(lm.checkpoint.directory)))
    dispatch.branches.plant(prompt)
    return dispatch
