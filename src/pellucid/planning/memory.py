"""Memory: how many bytes a model needs for training and for inference, part by part.

Training holds, all at once: float32 weights and, where the processor multiplies bfloat16, a copy in it to compute
with; the gradients in the type computed in, and their float32 sums; the optimizer's state; and the activations: what
the forward pass must keep until the backward pass has used it. The activation lines list what torch's autograd saves
for this model run eagerly, tensor by tensor; a test runs the built model and finds the same bytes. They grow with
`rows` (per micro-batch: accumulated steps cost no more memory), and the weights of the batched attention core with the
square of the context.

*Not* counted: Python and torch themselves (about 250 MB), temporaries of the backward pass (the measured peak of
a step lay at most 5 % above the total), the optimizer's scratch space (which lives while no activations do). A compiled
step recomputes some of what is listed, so the lines are then too high. Use holds the weights, the KV cache (a key and a
value vector per key/value head, layer and position) and the logits of one position per row.

Source: Korthikanti et al. 2022 §4.1 (activations); Shazeer 2019 (the cache).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from pellucid.errors import SettingsError
from pellucid.planning.config import ModelConfig
from pellucid.planning.formula import Breakdown, Term, evaluate, sizes, term
from pellucid.planning.layout import lay_out
from pellucid.planning.params import block_matrices, count_parameters, parameter_shapes
from pellucid.planning.parts.attention import AttentionCore

ComputeType = Literal["float32", "bfloat16"]
WeightType = Literal["float32", "bfloat16", "int8"]
Optimizer = Literal["adamw", "muon"]

# Above this, the weights that the batched core stores (T x S per head and row) cost more time than they save.
# Measured in float32 on a Zen 3 (AVX2), in bfloat16 on a Zen 5 (AVX-512): docs/log.md.
BATCHED_CONTEXT_LIMIT: Mapping[ComputeType, int] = {"float32": 128, "bfloat16": 512}
BYTES = {"float32": 4, "bfloat16": 2, "int8": 1}

Line = tuple[str, str]  # name, formula


@dataclass(frozen=True, kw_only=True)
class MemoryPlan(Breakdown):
    """Bytes by part, for one purpose (`training` or `inference`) and one shape of batch."""

    unit: str = "bytes"
    purpose: str
    rows: int
    context_length: int

    @property
    def per_row(self) -> int:
        """Bytes that each row of the batch adds."""
        return sum(line.value for line in self.terms if "rows" in line.formula.split()) // self.rows

    @property
    def fixed(self) -> int:
        """Bytes that do not depend on the batch: weights, gradients, optimizer."""
        return self.total - self.per_row * self.rows


STATE_OF_A_PLACE = "n_layers x d_model x cache_bytes"  # what a memory of earlier segments holds
KV_CACHE = "rows x context_length x 2 x n_layers x d_kv x cache_bytes"


def core_on_cpu(config: ModelConfig, compute_type: ComputeType, *, learns: bool) -> AttentionCore:
    """The faster attention core on a processor: batched products for short contexts, and for what torch's fused kernel lacks.

    The fused kernel cannot bend scores. Where weights are dropped, or what is added to scores is learned, torch computes
    the same products without fusing them.
    """
    drops = learns and config.dropout > 0
    adds_learned = config.position.kind in ("relative", "relative_sines")
    plain = config.attention.softcap is not None or drops or adds_learned
    return "batched" if plain or config.context_length <= BATCHED_CONTEXT_LIMIT[compute_type] else "fused"


def estimate_training_memory(
    config: ModelConfig,
    *,
    rows: int,
    context_length: int | None = None,
    optimizer: Optimizer = "adamw",
    compute_type: ComputeType = "float32",
    attention: AttentionCore | None = None,
) -> MemoryPlan:
    """Bytes held at the worst moment of a training step on micro-batches of `rows` x `context_length` tokens.

    `attention` is the core that the model is built with; None means the one that it chooses for itself on a CPU.

    >>> from pellucid.planning.presets import preset
    >>> plan = estimate_training_memory(preset("gpt2"), rows=1, attention="batched")
    >>> plan["weights"], plan["optimizer"], plan["attention_weights"]
    (497759232, 995518464, 603979776)
    """
    symbols = _symbols(config, rows, context_length) | {"compute_bytes": BYTES[compute_type]}
    core = attention or core_on_cpu(config, compute_type, learns=True)
    lines = [
        *_state_lines(optimizer, compute_type),
        ("ids_and_targets", "rows x context_length x 2 x 8"),
        *_activation_lines(config, core),
        ("log_probabilities", "rows x context_length x 4 x vocab_size"),
        ("logit_gradients", "rows x context_length x 2 x 4 x vocab_size"),  # before and after the softmax
    ]
    return MemoryPlan(
        terms=tuple(term(name, formula, symbols) for name, formula in lines),
        purpose="training",
        rows=rows,
        context_length=symbols["context_length"],
    )


def estimate_inference_memory(
    config: ModelConfig,
    *,
    rows: int = 1,
    context_length: int | None = None,
    weight_type: WeightType = "float32",
    cache_type: ComputeType = "float32",
) -> MemoryPlan:
    """Bytes held while `rows` texts of `context_length` tokens are continued.

    >>> from pellucid.planning.presets import preset
    >>> plan = estimate_inference_memory(preset("llama3-8b"), weight_type="bfloat16", cache_type="bfloat16")
    >>> plan["weights"], plan["kv_cache"]
    (16060522496, 1073741824)
    """
    symbols = _symbols(config, rows, context_length) | {"cache_bytes": BYTES[cache_type]}
    lines = [
        ("weights", _weight_formula(weight_type)),
        ("segment_memory", f"rows x n_held x {STATE_OF_A_PLACE}") if config.streams else ("kv_cache", KV_CACHE),
        *([("cross_kv_cache", KV_CACHE)] if config.encoder else []),  # of the source, which may be as long
        ("logits", "rows x 4 x vocab_size"),
    ]
    return MemoryPlan(
        terms=tuple(term(name, formula, symbols) for name, formula in lines),
        purpose="inference",
        rows=rows,
        context_length=symbols["context_length"],
    )


def estimate_weights(config: ModelConfig, weight_type: WeightType) -> Term:
    """Bytes of the weights alone; int8 keeps one float32 scale per matrix row, and vectors in float32.

    >>> from pellucid.planning.presets import preset
    >>> [estimate_weights(preset("gpt2"), kind).value for kind in ("float32", "bfloat16", "int8")]
    [497759232, 248879616, 125340740]
    """
    return term(f"weights_{weight_type}", _weight_formula(weight_type), _symbols(config, 1, None))


def estimate_kv_cache(config: ModelConfig, cache_type: ComputeType = "bfloat16") -> Term:
    """Bytes that each token of context adds to the cache; of two streams, each token of an earlier segment to its memory.

    >>> from pellucid.planning.presets import preset
    >>> estimate_kv_cache(preset("llama3-8b")).value
    131072
    """
    symbols = sizes(config) | {"cache_bytes": BYTES[cache_type]}
    if config.streams is not None:
        return term("segment_memory_per_token", STATE_OF_A_PLACE, symbols)
    return term("kv_cache_per_token", "2 x n_layers x d_kv x cache_bytes", symbols)


def _symbols(config: ModelConfig, rows: int, context_length: int | None) -> dict[str, int]:
    if rows < 1:
        raise SettingsError("a batch has at least one row", found=f"rows={rows}", hint="give rows of 1 or more")
    matrices = [shape for shape in parameter_shapes(config).values() if len(shape) > 1]  # those of experts lie stacked
    return sizes(config, context_length) | {
        "rows": rows,
        "parameters": count_parameters(config).total,
        "block_matrix_weights": sum(evaluate(formula, sizes(config)) for _, formula in block_matrices(config)),
        "matrix_weights": sum(math.prod(shape) for shape in matrices),
        "matrix_rows": sum(math.prod(shape[:-1]) for shape in matrices),
    }


def _weight_formula(weight_type: WeightType) -> str:
    if weight_type == "int8":
        return "matrix_weights + 4 x matrix_rows + 4 x (parameters - matrix_weights)"
    return f"{BYTES[weight_type]} x parameters"


def _state_lines(optimizer: Optimizer, compute_type: ComputeType) -> Iterator[Line]:
    """Weights, gradients and optimizer state. AdamW keeps two averages of each weight, Muon one of each block matrix."""
    yield "weights", "4 x parameters"
    if compute_type != "float32":
        yield "compute_copies", "compute_bytes x parameters"
    yield "gradients", "compute_bytes x parameters"
    if compute_type != "float32":
        yield "gradient_sums", "4 x parameters"
    if optimizer == "muon":
        yield "optimizer", "4 x block_matrix_weights + 8 x (parameters - block_matrix_weights)"
    else:
        yield "optimizer", "8 x parameters"


def _activation_lines(config: ModelConfig, core: AttentionCore) -> Iterator[Line]:
    """What autograd keeps from the forward pass."""
    for line, times in lay_out(config, core).kept():
        yield line.name, f"rows x context_length x {times} x {line.formula}"
