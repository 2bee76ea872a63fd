"""The Python API: load a model, train one, plan one, trace one.

lm = pellucid.load("runs/book")
for step in lm.generate("Once upon", temperature=0.8, max_new_tokens=40):
    print(step.text, end="")

What `load` returns, and all that can be asked of it, is in `language_model`.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Never

from pellucid.arguments import LOADING, TRAINING, check_kind, check_path
from pellucid.events import NULL, Recorder
from pellucid.language_model import LanguageModel, dispatch_on
from pellucid.planning.config import ModelConfig
from pellucid.planning.machine import NamedMachine, named_machine
from pellucid.planning.memory import ComputeType, Optimizer
from pellucid.planning.presets import preset
from pellucid.planning.report import Plan
from pellucid.planning.report import plan as plan_model
from pellucid.setting_values import check_keywords
from pellucid.settings import Layer, load_toml, resolve, shallow
from pellucid.tokens.prompt import Prompt

if TYPE_CHECKING:  # torch is loaded by the functions that need it: planning a model must not wait for it
    import torch

    from pellucid.engine.settings import EngineSettings, Weights
    from pellucid.lens.trace import Trace


def load(
    path: Path | str,
    *,
    device: str | torch.device = "auto",
    dtype: str | torch.dtype = "auto",
    weights: Weights = "auto",
    engine: EngineSettings | None = None,
    pattern: str | None = None,
    recorder: Recorder = NULL,
    **unknown: Never,
) -> LanguageModel:
    """A language model from a run, a checkpoint, a Hugging Face directory, a .gguf file, or by its name.

    `dtype` is the number format that the model is held and computed in (fp32 or bf16; auto: as it is stored), `weights`
    the one that its weights have while it generates (fp32, bf16, int8, int4; auto: as `dtype`), and `engine` says
    whatever else there is to say of how it is run. Of a run it is the best on validation text (`runs/book/latest` is
    the last), and an event says which. A model without a tokenizer takes and gives ids. `pattern` chooses how the
    tokenizer of a .gguf file cuts a text (qwen2, llama3, gpt2 …) where the file does not say. A name (`hf:OWNER/NAME`,
    `hf:OWNER/NAME/FILE.gguf`, `hf:OWNER/NAME@REVISION`) is fetched where it is not here, and not asked for again.

    Raises StoreError (and its kinds) for files that are missing or damaged, SettingsError for an unknown device, number
    format or keyword, EngineError where the weights cannot have that format here.
    """
    from pellucid.engine.runners.build import build_runner
    from pellucid.engine.settings import EngineSettings
    from pellucid.model.device import choose_device, read_dtype
    from pellucid.store.checkpoint import load_model
    from pellucid.store.open import open_checkpoint, tokenizer_of

    check_keywords(unknown, ("path", "device", "dtype", "weights", "engine", "pattern", "recorder"), LOADING)
    check_path(path, "path")
    how = EngineSettings() if engine is None else engine
    check_kind(how, EngineSettings, "engine=pellucid.EngineSettings(kernels=…)")
    said = {} if weights == "auto" else {"weights": weights}
    settings = resolve(EngineSettings, Layer("engine", shallow(how)), Layer("call", said)).settings
    place, number_format = choose_device(str(device)), read_dtype(dtype)
    checkpoint = open_checkpoint(path, pattern=pattern, recorder=recorder)
    tokenizer = tokenizer_of(checkpoint, recorder=recorder)
    model = load_model(checkpoint, device=place, dtype=number_format).eval()
    runner = build_runner(model, settings, recorder=recorder)
    return LanguageModel(
        model=model, tokenizer=tokenizer, checkpoint=replace(checkpoint, tokenizer=tokenizer), runner=runner
    )


def trace(lm: LanguageModel, prompt: Prompt) -> Trace:
    """Every number between a prompt and the next token: arrays by name, a page to look at them, files to keep.

    A text begins as for `generate`, <bos> first where the tokenizer has one; ids are taken as they are. Raises
    ContextError for more than the model's context holds, RequestError for ids that the model does not have.
    """
    from pellucid.lens.answer import At

    return dispatch_on(lm, prompt).trace(At())


def train(
    text: Path | str | None,
    out: Path | str,
    *,
    recipe: Path | str | None = None,
    start_from: Path | str | None = None,
    draft_of: Path | str | None = None,
    extend: bool = False,
    recorder: Recorder = NULL,
    **settings: object,
) -> LanguageModel:
    """Train a model on a text (or go on where the run in `out` stopped) and return it.

    `settings` are the fields of `TrainSettings`, groups as dictionaries: `train("book.txt", "runs/book",
    steps=200, model={"depth": 4})`. With `draft_of` a small model is trained that guesses for that run (`draft` of
    `LanguageModel.generate`): on the run's own text where `text` is None. Raises InputError, SettingsError and the kinds
    of TrainingError.
    """
    from pellucid.training.recipes.pretrain import Pretraining, pretrain
    from pellucid.training.settings import TrainSettings
    from pellucid.training.teacher import how_it_was_read

    named = {"text": text, "out": out, "recipe": recipe, "start_from": start_from, "draft_of": draft_of}
    for name, path in named.items():
        if path is not None or name == "out" or (name == "text" and draft_of is None):
            check_path(path, name)
    check_keywords(settings.keys() & TRAINING.keys(), (), TRAINING)
    layers = [] if draft_of is None else [how_it_was_read(Path(draft_of))]
    layers += [] if recipe is None else [load_toml(Path(recipe))]
    resolved = resolve(TrainSettings, *layers, Layer("call", settings))
    task = Pretraining(
        text=text,
        out=Path(out),
        resolved=resolved,
        start_from=Path(start_from) if start_from else None,
        draft_of=Path(draft_of) if draft_of else None,
        extend=extend,
    )
    pretrain(task, recorder=recorder)
    return load(out, device=resolved.settings.device)


def plan(
    model: str | ModelConfig,
    *,
    machine: str | NamedMachine | None = None,
    rows: int = 1,
    context_length: int | None = None,
    tokens: int | None = None,
    optimizer: Optimizer = "adamw",
    compute_type: ComputeType = "bfloat16",
    **unknown: Never,
) -> Plan:
    """What a model would cost, by preset name or config, and on a named machine (such as "h100") how long it takes.

    `rows` of `context_length` tokens (None: the model's whole context) make a micro-batch, `tokens` is what it would be
    trained on (None: 20 per parameter), `compute_type` the number format it computes in.

    >>> plan("gpt3").parameters.total
    174604259328

    Raises SettingsError for an unknown preset, machine or option, RequestError for a value of another kind.
    """
    sizes = {"rows": rows, "context_length": context_length, "tokens": tokens}
    check_keywords(unknown, (*sizes, "machine", "optimizer", "compute_type"), {})
    for name, size in sizes.items():
        if size is not None:
            check_kind(size, int, f"give {name} as a whole number")
    config = preset(model) if isinstance(model, str) else model
    check_kind(config, ModelConfig, 'give the name of a preset, for example "gpt2", or a ModelConfig')
    on = named_machine(machine) if isinstance(machine, str) else machine
    if on is not None:
        check_kind(on, NamedMachine, 'give the name of a machine, for example "h100"')
    return plan_model(
        config,
        name=model if isinstance(model, str) else "",
        rows=rows,
        context_length=context_length,
        tokens=tokens,
        optimizer=optimizer,
        compute_type=compute_type,
        machine=on,
    )
