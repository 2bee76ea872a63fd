"""The few things that a person's script calls: load a model, train one, plan one, use one.

lm = pellucid.load("runs/book")
for step in lm.generate("Once upon", temperature=0.8, max_new_tokens=40):
    print(step.text, end="")
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pellucid.errors import TokenizerError
from pellucid.events import NULL, Recorder
from pellucid.planning.config import ModelConfig
from pellucid.planning.params import count_parameters
from pellucid.planning.presets import preset
from pellucid.planning.report import Plan
from pellucid.planning.report import plan as plan_model
from pellucid.settings import Layer, load_toml, resolve
from pellucid.tokens.tokenizer import Tokenizer

if TYPE_CHECKING:  # torch is loaded by the functions that need it: planning a model must not wait for it
    from pellucid.engine.beam import Hypothesis
    from pellucid.engine.constraints.settings import ConstraintSettings
    from pellucid.engine.generate import Generation
    from pellucid.engine.request import Request
    from pellucid.engine.runners.runner import Runner
    from pellucid.engine.sampling.stage import Stage
    from pellucid.engine.settings import EngineSettings
    from pellucid.engine.step import Completion, Step
    from pellucid.lens.dispatch import Dispatch
    from pellucid.lens.trace import Trace
    from pellucid.model.decoder import Decoder
    from pellucid.store.checkpoint import Checkpoint


@dataclass(frozen=True, kw_only=True, repr=False)
class LanguageModel:
    """A model with its tokenizer, ready to continue text. `model` is a plain torch module, `runner` what reads it."""

    model: Decoder
    tokenizer: Tokenizer
    checkpoint: Checkpoint
    runner: Runner

    def __repr__(self) -> str:
        """One line: where it is from, how large it is, what reads it; `lm.model` shows its parts."""
        size, weight = count_parameters(self.config).total, self.model.embed.weight
        number_format = str(weight.dtype).removeprefix("torch.")
        where = f"{number_format} on {weight.device}, read by {self.runner.name}"
        return f"LanguageModel({str(self.checkpoint.directory)!r}, {size:,} parameters, {self.tokenizer!r}, {where})"

    @property
    def config(self) -> ModelConfig:
        """The model's shape."""
        return self.model.config

    def start(self, request: Request, *, recorder: Recorder = NULL) -> Generation:
        """Begin what a request asks for; an iterator of steps. Raises what `pellucid.engine.generate` raises."""
        from pellucid.engine.generate import generate

        return generate(self.runner, self.tokenizer, request, recorder=recorder)

    def request(
        self,
        prompt: str,
        *,
        constraint: ConstraintSettings | None = None,
        stages: Sequence[Stage] = (),
        num_choices: int = 1,
        lookup: int | None = None,
        draft: LanguageModel | None = None,
        explain: bool = False,
        **sampling: Any,
    ) -> Request:
        """A prompt and how to continue it, in keywords; `sampling` are the fields of `SamplingSettings`.

        `constraint` is the form that the answer must have, `stages` are sampler stages of your own, which act first.
        `lookup` guesses up to so many tokens ahead from what came before, `draft` with a smaller model: the same text,
        sooner. `explain` gives each step the account of its choice.

        Raises SettingsError for an unknown keyword, SamplingError for values out of range.
        """
        from pellucid.engine.request import Request
        from pellucid.engine.sampling.settings import SamplingSettings
        from pellucid.engine.settings import SpeculationSettings

        return Request(
            prompt_ids=self.tokenizer.encode_prompt(prompt),
            sampling=resolve(SamplingSettings, Layer("call", sampling)).settings,
            constraint=constraint,
            stages=stages,
            num_choices=num_choices,
            speculation=None if lookup is None else SpeculationSettings(max_tokens=lookup),
            draft=None if draft is None else draft.runner,
            explain=explain,
        )

    def generate(self, prompt: str, *, recorder: Recorder = NULL, **asked: Any) -> Generation:
        """Continue a text token by token; `asked` are the keywords of `request`, `SamplingSettings` among them.

        Raises SamplingError for values out of range, ContextError for a prompt that fills the context.
        """
        return self.start(self.request(prompt, **asked), recorder=recorder)

    def complete(self, prompt: str, *, recorder: Recorder = NULL, **asked: Any) -> Completion:
        """Continue a text to its end; the answer with its ids, log-probabilities and why it ended."""
        from pellucid.engine.generate import complete

        return complete(self.runner, self.tokenizer, self.request(prompt, **asked), recorder=recorder)

    def choices(
        self, prompt: str, *, num_choices: int, recorder: Recorder = NULL, **asked: Any
    ) -> tuple[Completion, ...]:
        """Continue a text several times from one seed, to the ends; choice 0 is the text that `complete` gives."""
        from pellucid.engine.choices import complete_choices

        return complete_choices(self.generate(prompt, num_choices=num_choices, recorder=recorder, **asked))

    def suggested(self) -> dict[str, Any]:
        """The sampling settings that the model's generation_config.json suggests: `lm.complete(text, **lm.suggested())`.

        Raises SamplingError for a suggestion that cannot be.
        """
        from pellucid.engine.sampling.generation_config import suggest

        return suggest(self.checkpoint.generation, self.tokenizer.end_ids)[0]

    def save_trace(self, path: Path | str, steps: Sequence[Step], request: Request) -> None:
        """Write down all that led to a finished text, so that `replay` makes it again and compares.

        `steps` are all of a generation with `explain=True`, `request` is that generation's own, its seed known.
        """
        from pellucid.engine.transcript import build_transcript, hash_model, save_transcript

        save_transcript(
            build_transcript(steps, request, self.tokenizer, model_sha256=hash_model(self.model)), Path(path)
        )

    def replay(self, path: Path | str, *, recorder: Recorder = NULL) -> Iterator[Step]:
        """Generate the text of a trace again, token by token.

        Raises CorruptFileError for a file that is no trace, RequestError when the model is another one, and at the
        first token that is not the trace's.
        """
        from pellucid.engine.transcript import check_origin, follow, hash_model, load_transcript

        transcript = load_transcript(Path(path))
        check_origin(transcript, model_sha256=hash_model(self.model), tokenizer=self.tokenizer)
        return follow(transcript, self.start(transcript.request, recorder=recorder))

    def search(self, prompt: str, *, recorder: Recorder = NULL, **beams: Any) -> tuple[Hypothesis, ...]:
        """The likeliest continuations that a beam search finds, best first; `beams` are the fields of `BeamSettings`."""
        from pellucid.engine.beam import BeamSettings, search

        settings = resolve(BeamSettings, Layer("call", beams)).settings
        return search(self.runner, self.tokenizer, self.tokenizer.encode_prompt(prompt), settings, recorder=recorder)

    def lens(self, text: str) -> Any:
        """The lens on a text, live in a notebook: show it as the last line of a cell.

        Raises MissingExtraError without the extra `notebook`; `pellucid.trace(lm, text)` needs none.
        """
        from pellucid.lens.page.widget import make_widget

        dispatch = _dispatch(self)
        dispatch.branches.plant(text)
        return make_widget(dispatch)


def load(
    path: Path | str, *, device: str = "auto", engine: EngineSettings | None = None, recorder: Recorder = NULL
) -> LanguageModel:
    """A language model from a run, a checkpoint, a Hugging Face directory or a .gguf file; `engine` says how to run it.

    Of a run it is the best on validation text (`runs/book/latest` is the last), and `recorder` hears which.

    Raises StoreError (and its kinds) for files that are missing or damaged, TokenizerError when there is no tokenizer.
    """
    from pellucid.engine.runners.build import build_runner
    from pellucid.engine.settings import EngineSettings
    from pellucid.model.device import choose_device
    from pellucid.store.checkpoint import load_model
    from pellucid.store.open import open_checkpoint

    checkpoint = open_checkpoint(path, recorder=recorder)
    if checkpoint.tokenizer is None:
        raise TokenizerError(
            "this model has no tokenizer", where=str(checkpoint.directory), hint="put its tokenizer.json beside it"
        )
    model = load_model(checkpoint, device=choose_device(device)).eval()
    runner = build_runner(model, engine or EngineSettings(), recorder=recorder)
    return LanguageModel(model=model, tokenizer=checkpoint.tokenizer, checkpoint=checkpoint, runner=runner)


def trace(lm: LanguageModel, text: str | Sequence[int]) -> Trace:
    """Every number between a text and the next token: arrays by name, a page to look at them, files to keep.

    A text begins as for `generate`, <bos> first where the tokenizer has one; ids are taken as they are. Raises
    ContextError for more than the model's context holds, RequestError for ids that the model does not have.
    """
    from pellucid.lens.answer import At

    dispatch = _dispatch(lm)
    if isinstance(text, str):
        dispatch.branches.plant(text)
    else:
        dispatch.tree.plant(text)
    return dispatch.trace(At())


def _dispatch(lm: LanguageModel) -> Dispatch:
    from pellucid.lens.dispatch import Dispatch
    from pellucid.lens.models import Models, Opened, run_of

    opened = Opened(model=lm.model, runner=lm.runner, checkpoint=lm.checkpoint)
    return Dispatch(Models(opened, run=run_of(lm.checkpoint.directory)))


def train(
    text: Path | str,
    out: Path | str,
    *,
    recipe: Path | str | None = None,
    start_from: Path | str | None = None,
    extend: bool = False,
    recorder: Recorder = NULL,
    **settings: Any,
) -> LanguageModel:
    """Train a model on a text (or go on where the run in `out` stopped) and return it.

    `settings` are the fields of `TrainSettings`, groups as dictionaries: `train("book.txt", "runs/book",
    steps=200, model={"depth": 4})`. Raises InputError, SettingsError and the kinds of TrainingError.
    """
    from pellucid.training.recipes.pretrain import Pretraining, pretrain
    from pellucid.training.settings import TrainSettings

    layers = [load_toml(Path(recipe))] if recipe else []
    resolved = resolve(TrainSettings, *layers, Layer("call", settings))
    parent = Path(start_from) if start_from else None
    task = Pretraining(text=text, out=Path(out), resolved=resolved, start_from=parent, extend=extend)
    pretrain(task, recorder=recorder)
    return load(out, device=resolved.settings.device)


def plan(model: str | ModelConfig, **options: Any) -> Plan:
    """What a model would cost, by preset name or config; `options` are those of `planning.report.plan`.

    >>> plan("gpt3").parameters.total
    174604259328
    """
    config = preset(model) if isinstance(model, str) else model
    return plan_model(config, name=model if isinstance(model, str) else "", **options)
