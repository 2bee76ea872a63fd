"""Forward and backward of every family beside transformers' module of the same shape and weights.

    python benchmarks/families.py                        every family, at about 30M parameters
    python benchmarks/families.py --only bert t5         these alone
    python benchmarks/families.py --eager                without compiling either side (minutes instead of an hour)

transformers makes the module with random weights and writes it; Pellucid reads that directory. First both are asked in
fp32 for the same logits: a benchmark of two different functions would say nothing. Then the sides take turns in one process,
on the same ids, in the same number format: logits, the mean cross-entropy of them, its gradient by every weight. Each
side is measured eager and compiled (`torch.compile`), and the ratio is that of the faster ones. Dropout is off.

The number format is bf16 where the processor multiplies it, else fp32; `--dtype` says otherwise.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor, nn
from torch.nn import functional as F

from pellucid.model.context import Context
from pellucid.model.device import choose_dtype, read_dtype, use_threads
from pellucid.planning.machine import inspect_machine
from pellucid.store.checkpoint import load_checkpoint, load_model
from pellucid.training.measure import seconds_of

CPU = torch.device("cpu")
FLOOR = 1.2  # promised: transformers' seconds / ours, each at its faster way
ROWS, LENGTH, VOCAB = 4, 256, 8192
AGREES = 1e-3  # of the largest logit: beyond, the two sides are not the same function
SIZES = {"vocab_size": VOCAB, "hidden_size": 512, "num_hidden_layers": 8, "num_attention_heads": 8}
NO_IDS = {"bos_token_id": None, "eos_token_id": None, "pad_token_id": None}
GATED = {**SIZES, **NO_IDS, "intermediate_size": 1376, "max_position_embeddings": LENGTH}
GROUPED = {**GATED, "num_key_value_heads": 4}
NARROW = {"head_dim": 64, "query_pre_attn_scalar": 64, "sliding_window": 128}
PLAIN = {**SIZES, "intermediate_size": 2048, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
EXPERTS = {**GROUPED, "num_hidden_layers": 4}


@dataclass(frozen=True, kw_only=True)
class Family:
    """A module of transformers, and how it is asked."""

    config: Callable[[], Any]
    auto: type = transformers.AutoModelForCausalLM
    reads_source: bool = False


def encoder(config: Callable[[], Any]) -> Family:
    return Family(config=config, auto=transformers.AutoModelForMaskedLM)


def encoder_decoder(config: Callable[[], Any]) -> Family:
    return Family(config=config, auto=transformers.AutoModelForSeq2SeqLM, reads_source=True)


FAMILIES = {
    "gpt2": Family(
        config=lambda: transformers.GPT2Config(
            vocab_size=VOCAB, n_embd=512, n_layer=8, n_head=8, n_positions=LENGTH, resid_pdrop=0.0, embd_pdrop=0.0,
            attn_pdrop=0.0, **NO_IDS,
        )
    ),
    "llama": Family(config=lambda: transformers.LlamaConfig(**GROUPED)),
    "mistral": Family(config=lambda: transformers.MistralConfig(**GROUPED, sliding_window=128)),
    "qwen2": Family(config=lambda: transformers.Qwen2Config(**GROUPED)),
    "qwen3": Family(config=lambda: transformers.Qwen3Config(**GROUPED, head_dim=64)),
    "gemma2": Family(config=lambda: transformers.Gemma2Config(**GROUPED, **NARROW)),
    "gemma3": Family(config=lambda: transformers.Gemma3TextConfig(**GROUPED, **NARROW)),
    "smollm3": Family(config=lambda: transformers.SmolLM3Config(**GROUPED)),
    "mixtral": Family(
        config=lambda: transformers.MixtralConfig(
            **{**EXPERTS, "intermediate_size": 512}, num_local_experts=8, num_experts_per_tok=2
        )
    ),
    "qwen3-moe": Family(
        config=lambda: transformers.Qwen3MoeConfig(
            **EXPERTS, num_experts=16, num_experts_per_tok=4, moe_intermediate_size=256, head_dim=64  # type: ignore[call-arg]
        )
    ),
    "bert": encoder(lambda: transformers.BertConfig(**PLAIN, max_position_embeddings=LENGTH)),
    "roberta": encoder(
        lambda: transformers.RobertaConfig(**PLAIN, max_position_embeddings=LENGTH + 2, pad_token_id=1)
    ),
    "modernbert": encoder(
        lambda: transformers.ModernBertConfig(
            **{**GATED, **dict.fromkeys(("pad_token_id", "cls_token_id", "sep_token_id"), 0)}
        )
    ),
    "t5": encoder_decoder(
        lambda: transformers.T5Config(
            vocab_size=VOCAB, d_model=512, d_kv=64, d_ff=2048, num_layers=4, num_heads=8, dropout_rate=0.0, pad_token_id=0
        )
    ),
    "marian": encoder_decoder(
        lambda: transformers.MarianConfig(
            vocab_size=VOCAB, d_model=512, encoder_layers=4, decoder_layers=4, encoder_attention_heads=8,
            decoder_attention_heads=8, encoder_ffn_dim=2048, decoder_ffn_dim=2048, max_position_embeddings=LENGTH,
            dropout=0.0, pad_token_id=VOCAB - 1, decoder_start_token_id=VOCAB - 1,
        )
    ),
    "xlnet": Family(
        config=lambda: transformers.XLNetConfig(
            vocab_size=VOCAB, d_model=512, n_layer=8, n_head=8, d_inner=2048, dropout=0.0, mem_len=None
        ),
        auto=transformers.XLNetLMHeadModel,
    ),
}  # fmt: skip


def both(family: Family, folder: Path) -> tuple[nn.Module, nn.Module]:
    """Our model and theirs, with the same weights."""
    auto: Any = family.auto
    config = family.config()
    theirs = auto.from_config(config) if hasattr(auto, "from_config") else auto(config)
    theirs.save_pretrained(folder)
    return load_model(load_checkpoint(folder)), theirs


def ask_ours(family: Family, model: Any, ids_BT: Tensor) -> Tensor:
    """Our logits; an encoder reads the same ids that the decoder does."""
    if not family.reads_source:
        return model(ids_BT, Context()).logits_BTV
    return model(ids_BT, Context(memory=model.encode(ids_BT, Context()))).logits_BTV


def ask_theirs(family: Family, model: Any, ids_BT: Tensor) -> Tensor:
    """Their logits."""
    more = {"decoder_input_ids": ids_BT} if family.reads_source else {}
    return model(ids_BT, use_cache=False, **more).logits if not is_encoder(family) else model(ids_BT).logits


def is_encoder(family: Family) -> bool:
    return family.auto is transformers.AutoModelForMaskedLM


def check_equal(family: Family, ours: nn.Module, theirs: nn.Module, ids_BT: Tensor) -> None:
    """Stop where the two sides do not compute the same."""
    with torch.no_grad():
        mine, other = ask_ours(family, ours, ids_BT), ask_theirs(family, theirs, ids_BT)
    distance = ((mine - other).abs().max() / other.abs().max()).item()
    if distance > AGREES:
        raise SystemExit(f"the sides are not the same function: their logits differ by {distance:.1e} of the largest")


def step_of(
    ask: Callable[..., Tensor], family: Family, model: nn.Module, ids_BT: Tensor, compiled: bool
) -> Callable[[], None]:
    """Forward and backward of one side."""

    def loss() -> Tensor:
        return F.cross_entropy(ask(family, model, ids_BT).flatten(0, 1).float(), ids_BT.flatten())

    compute = torch.compile(loss) if compiled else loss

    def step() -> None:
        model.zero_grad(set_to_none=True)
        compute().backward()

    return step


def measure(name: str, family: Family, given: argparse.Namespace, dtype: torch.dtype) -> dict[str, Any]:
    """Median seconds of each side and way, and the ratio of the faster ones."""
    torch.manual_seed(0)
    torch._dynamo.reset()
    with tempfile.TemporaryDirectory() as folder:
        ours, theirs = both(family, Path(folder))
    ids_BT = torch.randint(2, VOCAB - 1, (given.rows, LENGTH))
    check_equal(family, ours.eval(), theirs.eval(), ids_BT)
    sides = {"pellucid": (ask_ours, ours), "transformers": (ask_theirs, theirs)}
    steps = {
        f"{side} {'compiled' if compiled else 'eager'}": step_of(ask, family, model.to(dtype).train(), ids_BT, compiled)
        for compiled in ((False,) if given.eager else (False, True))
        for side, (ask, model) in sides.items()
    }
    for step in steps.values():
        step()
        step()
    seconds: dict[str, list[float]] = {side: [] for side in steps}
    for _ in range(given.rounds):
        for side, step in steps.items():
            seconds[side].append(seconds_of(step, CPU))
    medians = {side: statistics.median(some) for side, some in seconds.items()}
    fastest = {side: min(value for way, value in medians.items() if way.startswith(side)) for side in sides}
    return {
        "family": name,
        "parameters": sum(parameter.numel() for parameter in ours.parameters()),
        "milliseconds": {way: round(1000 * value, 1) for way, value in medians.items()},
        "ratio": round(fastest["transformers"] / fastest["pellucid"], 2),
        "floor": FLOOR,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", nargs="+", choices=FAMILIES, default=list(FAMILIES))
    parser.add_argument("--eager", action="store_true", help="compile neither side")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--rows", type=int, default=ROWS, help=f"of {LENGTH} ids")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--dtype", help="fp32 or bf16 (none: bf16 where the processor multiplies it)")
    given = parser.parse_args()
    machine = inspect_machine()
    use_threads(given.threads, machine)
    dtype = choose_dtype("auto", CPU, machine) if given.dtype is None else read_dtype(given.dtype)
    print(
        json.dumps({"processor": machine.processor, "threads": torch.get_num_threads(), "dtype": str(dtype)}),
        flush=True,
    )
    for name in given.only:
        print(json.dumps(measure(name, FAMILIES[name], given, dtype)), flush=True)


if __name__ == "__main__":
    main()
