"""The settings of a training run. No torch here.

A value of None means "derived": the plan of the run says which value was chosen and why.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from pellucid.data.objectives.settings import CausalSettings, ObjectiveSettings
from pellucid.data.settings import MOST_POOL, DataSettings
from pellucid.planning.axis_names import FLAT, dotted
from pellucid.planning.config import MOST_LAYERS, ModelConfig
from pellucid.planning.parts.position import MOST_POSITIONS
from pellucid.settings import Named, nested, partly, setting
from pellucid.tokens.settings import TokenizerSettings


@dataclass(frozen=True, kw_only=True)
class ModelSettings(partly(ModelConfig, without=("vocab_size",))):  # type: ignore[misc, explicit-any]  # a class that is made
    """The model to train: a preset, or one dial (depth), or neither; any axis of `ModelConfig` may be overridden."""

    preset: str | None = setting(None, "a named shape, for example gpt2 or tiny-gpt2 (see `pellucid plan --list`)")
    depth: int | None = setting(
        None, "one dial: blocks; width, heads and the rest are derived from it", low=1, high=MOST_LAYERS
    )
    context_length: int | None = setting(None, "positions the model can hold, in tokens", low=2, high=MOST_POSITIONS)
    causal: bool | None = setting(
        None,
        "a position sees only itself and earlier ones (derived: as the objective needs it, or as the preset has it)",
    )

    flat_names: ClassVar[tuple[str, ...]] = tuple(FLAT)

    @classmethod
    def translate(cls, axes: Mapping[str, object]) -> Mapping[str, object]:
        """Put axes with flat names into their groups; None stands for an axis that was not set."""
        unsaid = {FLAT.get(name, name): None for name, value in axes.items() if value is None}
        said = {name: value for name, value in axes.items() if value is not None}
        return nested(dotted(said) | unsaid)


@dataclass(frozen=True, kw_only=True)
class OptimizerSettings(Named):
    """The optimizer; learning rates are per update, before the schedule."""

    matrices: Literal["muon", "adamw"] = setting("muon", "what changes the matrices inside the blocks")
    muon_rate: float = setting(0.02, "learning rate of those matrices under muon", low=0)
    adamw_rate: float = setting(0.001, "learning rate of those matrices under adamw", low=0)
    embedding_rate: float = setting(0.3, "learning rate of a token embedding that is only looked up (AdamW)", low=0)
    tied_rate: float = setting(
        0.01, "learning rate of an embedding that is also the head, and of positions (AdamW)", low=0
    )
    head_rate: float = setting(0.01, "learning rate of an output head of its own (AdamW)", low=0)
    vector_rate: float = setting(0.01, "learning rate of norms and biases (AdamW)", low=0)
    momentum: float = setting(0.9, "Muon's momentum", low=0, high=0.9999)
    beta1: float = setting(0.8, "AdamW: decay of the mean gradient", low=0, high=0.9999)
    beta2: float = setting(0.95, "AdamW: decay of the mean squared gradient", low=0, high=0.99999)
    epsilon: float = setting(1e-10, "AdamW: added to the root", low=0)
    weight_decay: float = setting(0.0, "cautious decoupled weight decay of matrices", low=0)
    clip_norm: float | None = setting(None, "largest norm of the whole gradient", low=0)


@dataclass(frozen=True, kw_only=True)
class ScheduleSettings(Named):
    """The learning-rate schedule: linear warmup, constant, linear cooldown."""

    warmup_share: float = setting(0.02, "share of the steps over which the rate rises from zero", low=0, high=1)
    cooldown_share: float = setting(0.6, "share of the steps, at the end, over which it falls", low=0, high=1)
    final_share: float = setting(0.03, "the rate at the last step, as a share of the full rate", low=0, high=1)


@dataclass(frozen=True, kw_only=True)
class BatchSettings(Named):
    """The batch size, and its micro-batches (gradient accumulation)."""

    tokens: int | None = setting(None, "tokens per update; rows = tokens / context", low=1)
    rows: int | None = setting(None, "instead of tokens: rows per update", low=1)
    micro_rows: int | None = setting(None, "rows computed at once; several micro-batches make one update", low=1)
    pool: int | None = setting(
        None,
        "with data.rows=documents: updates whose rows are sorted by length together, so that little is padding; such steps"
        " are not compiled (none: rows as they come)",
        low=2,
        high=MOST_POOL,
    )


@dataclass(frozen=True, kw_only=True)
class EvaluationSettings(Named):
    """Validation during training, and early stopping (`patience`)."""

    every_steps: int | None = setting(None, "steps between evaluations (derived: about 10 in a run)", low=1)
    max_share: float = setting(0.02, "largest share of the run's tokens that one evaluation may read", low=0, high=1)
    patience: int | None = setting(None, "stop after this many evaluations without a better loss (none: never)", low=1)


@dataclass(frozen=True, kw_only=True)
class SavingSettings(Named):
    """When checkpoints are written and which are kept."""

    every_steps: int | None = setting(None, "steps between checkpoints (none: before each evaluation)", low=1)
    keep_last: int = setting(2, "newest checkpoints that stay", low=1)
    keep_every: int | None = setting(None, "checkpoints at multiples of so many steps stay too", low=1)
    keep_best: bool = setting(True, "the checkpoint with the lowest validation loss stays too")
    snapshot_bytes: int | None = setting(
        None,
        "most that early models, kept to be looked at, may take (none: 1 GB or four checkpoints; 0: keep none)",
        low=0,
    )


@dataclass(frozen=True, kw_only=True)
class ProbeSettings(Named):
    """Texts that are recorded while the model trains, so that its training can be looked at afterwards."""

    texts: tuple[str, ...] = setting((), "texts to look at; none: nothing is looked at, and nothing is spent")
    every_steps: int | None = setting(
        None, "steps between looks (derived: doubling at first, then 40 evenly spread)", low=1
    )
    seconds_share: float = setting(
        0.02, "largest share of the run's time that the looks may take; 1: no limit", low=0, high=1
    )
    max_bytes: int = setting(64_000_000, "most that the looks of one run may take on the disk, in bytes", low=0)


@dataclass(frozen=True, kw_only=True)
class TrainSettings(Named):
    """One training run."""

    seed: int = setting(1337, "the number all randomness is drawn from", low=0)
    device: str = setting("auto", "auto, cpu, cuda, cuda:1 or mps")
    threads: int | None = setting(None, "CPU threads (derived: the cores this process may use)", low=1)
    precision: Literal["auto", "bf16", "fp32"] = setting(
        "auto", "what the model computes in; master weights are always fp32"
    )
    compile: Literal["auto", "on", "off"] = setting(
        "auto", "torch.compile, where its step agrees with the eager one; auto decides by arithmetic whether it pays"
    )
    deterministic: bool = setting(True, "only algorithms that give the same bits each time")
    tensorboard: bool = setting(False, "also write the metrics for TensorBoard (an extra)")
    steps: int | None = setting(None, "updates (derived from the text and the time)", low=1)
    epochs: float | None = setting(None, "instead of steps: times through the training text", above=0, high=1e6)
    minutes: float | None = setting(
        None, "instead of steps: how long, by the clock: the run is shortened to meet it", above=0, high=1e6
    )
    tokenizer: TokenizerSettings = setting(TokenizerSettings(), "")
    model: ModelSettings = setting(ModelSettings(), "")
    data: DataSettings = setting(DataSettings(), "")
    objective: ObjectiveSettings = setting(
        CausalSettings(), "what the model learns to predict: the next token (causal), or hidden tokens (masked)"
    )
    batch: BatchSettings = setting(BatchSettings(), "")
    optimizer: OptimizerSettings = setting(OptimizerSettings(), "")
    schedule: ScheduleSettings = setting(ScheduleSettings(), "")
    evaluation: EvaluationSettings = setting(EvaluationSettings(), "")
    saving: SavingSettings = setting(SavingSettings(), "")
    probe: ProbeSettings = setting(ProbeSettings(), "")
