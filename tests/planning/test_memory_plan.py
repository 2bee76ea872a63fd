"""Memory: activations to the byte against autograd, state against the trainer, caches against published figures."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pellucid.errors import ModelError, SettingsError
from pellucid.model.context import Context, ReadingOrder
from pellucid.model.decoder import Decoder
from pellucid.model.two_streams import TwoStreams
from pellucid.planning.config import ModelConfig
from pellucid.planning.memory import (
    estimate_inference_memory,
    estimate_kv_cache,
    estimate_training_memory,
    estimate_weights,
)
from pellucid.planning.parts.feed_forward import Experts, FeedForwardConfig
from pellucid.planning.presets import preset

BASE = ModelConfig(
    vocab_size=50, context_length=40, n_layers=3, n_heads=4, n_kv_heads=2, head_dim=6, d_model=21, d_ff=33
)
GPT2 = BASE.revise(
    position="learned", norm="layer", feed_forward="gelu_tanh", qk_norm=False, qkv_bias=True, mlp_bias=True
)
STATE = ("weights", "compute_copies", "gradients", "gradient_sums", "optimizer", "logit_gradients")
ROWS = 3


def saved_bytes(config: ModelConfig, dtype: torch.dtype, order: ReadingOrder | None = None) -> int:
    """Bytes that autograd keeps for the backward pass of the built model, each storage once, weights left out."""
    model = (TwoStreams if order else Decoder)(config).to(dtype)
    own = {t.untyped_storage().data_ptr() for t in (*model.parameters(), *model.buffers())}
    kept: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage
        return tensor

    ids_BT = torch.zeros(ROWS, config.context_length, dtype=torch.long)
    num_targets = ids_BT.numel() if order is None else order.places_BP.numel()
    targets_N = torch.ones(num_targets, dtype=torch.long)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.uniform_(-0.1, 0.1, generator=torch.Generator().manual_seed(0))
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        logits_NV = model(ids_BT, Context(order=order, training=True)).logits_BTV.flatten(0, 1)
        torch.nn.functional.cross_entropy(logits_NV.float(), targets_N, reduction="none")
    return sum(storage.nbytes() for storage in kept.values())


def planned_bytes(config: ModelConfig, compute_type: str) -> int:
    plan = estimate_training_memory(config, rows=ROWS, compute_type=compute_type)  # type: ignore[arg-type]
    return sum(line.value for line in plan.terms if line.name not in STATE)


@pytest.mark.parametrize("compute_type", ["float32", "bfloat16"])
@pytest.mark.parametrize(
    "config",
    [
        BASE,
        GPT2,
        BASE.revise(feed_forward="relu2", n_kv_heads=4, dropout=0.1),
        BASE.revise(feed_forward="geglu"),
        BASE.revise(position="none", tied_head=False, qk_norm=False, causal=False),
    ],
    ids=["qwen3", "gpt2", "relu2-dropout", "geglu", "no-positions"],
)
def test_activations_are_what_autograd_keeps(config: ModelConfig, compute_type: str) -> None:
    # torch 2.13 keeps one scalar (the total weight of the loss) beside the planned tensors.
    assert abs(planned_bytes(config, compute_type) - saved_bytes(config, getattr(torch, compute_type))) <= 8


@pytest.mark.parametrize("compute_type", ["float32", "bfloat16"])
@pytest.mark.parametrize("axes", [{}, {"qk_norm": False}, {"dropout": 0.1}], ids=["qwen3", "llama", "dropout"])
def test_fused_attention_is_planned_at_most_a_little_too_high(axes: dict, compute_type: str) -> None:
    config = BASE.revise(context_length=520, n_layers=1, **axes)
    ratio = planned_bytes(config, compute_type) / saved_bytes(config, getattr(torch, compute_type))
    assert 0.99 < ratio < 1.1


STREAMS = BASE.revise(d_model=22, n_layers=2, position={"kind": "relative_sines"}, streams={"memory": 0}, causal=False)


@pytest.mark.parametrize(
    ("axes", "compute_type"),
    [({"norm.placement": "after", "n_kv_heads": 4, "qk_norm": False}, "bfloat16"), ({"dropout": 0.1}, "float32")],
)
def test_two_streams_keep_at_most_what_is_planned(axes: dict, compute_type: str) -> None:
    """With every place asked for: nearly all that is planned; as training asks, for a sixth of them, less."""
    config = STREAMS.revise(**axes)
    all_BP = torch.arange(config.context_length).expand(ROWS, -1)
    saved = [
        saved_bytes(config, getattr(torch, compute_type), ReadingOrder(ranks_BT=all_BP, places_BP=all_BP[:, ::one_in]))
        for one_in in (1, 6)
    ]
    assert 1 < planned_bytes(config, compute_type) / saved[0] < 1.05 and saved[1] < 0.7 * saved[0]


def test_state_of_adamw_and_muon() -> None:
    """AdamW on 124,439,808 float32 weights: 16 bytes each. Muon needs 4 fewer for each weight of a block matrix."""
    gpt2 = preset("gpt2")
    adamw = estimate_training_memory(gpt2, rows=1)
    muon = estimate_training_memory(gpt2, rows=1, optimizer="muon")
    assert adamw["weights"] + adamw["gradients"] + adamw["optimizer"] == 16 * 124_439_808
    assert adamw["optimizer"] - muon["optimizer"] == 4 * 12 * 12 * 768 * 768


def test_kv_cache_figures() -> None:
    assert estimate_kv_cache(preset("llama3-8b")).value == 128 * 1024  # 128 KiB per token in bfloat16
    assert estimate_kv_cache(preset("gpt3")).value == 4_718_592
    plan = estimate_inference_memory(preset("llama3-8b"), cache_type="bfloat16")
    assert plan["kv_cache"] == 2**30  # one GiB for its 8,192 tokens


def test_int8_weights_lie_between_one_and_two_bytes() -> None:
    total = estimate_weights(preset("gpt2"), "bfloat16").value // 2
    assert total < estimate_weights(preset("gpt2"), "int8").value < 1.02 * total


@given(rows=st.integers(1, 64), more=st.integers(1, 64), context=st.integers(1, 256))
def test_rows_add_equal_shares(rows: int, more: int, context: int) -> None:
    one = estimate_training_memory(preset("tiny"), rows=rows, context_length=context)
    two = estimate_training_memory(preset("tiny"), rows=rows + more, context_length=context)
    assert one.total == one.fixed + rows * one.per_row
    assert (two.fixed, two.per_row) == (one.fixed, one.per_row)


@given(context=st.integers(1, 255))
def test_longer_rows_need_more(context: int) -> None:
    plans = [estimate_training_memory(preset("tiny"), rows=2, context_length=n).total for n in (context, context + 1)]
    assert plans[0] < plans[1]


def test_no_rows_is_an_error() -> None:
    with pytest.raises(SettingsError):
        estimate_training_memory(preset("tiny"), rows=0)


def test_an_encoder_s_output_is_cached_beside_the_text() -> None:
    """A decoder with an encoder keeps keys and values of the source too: as many again, at the same length."""
    plan = estimate_inference_memory(preset("t5-small"), cache_type="bfloat16")
    assert plan["cross_kv_cache"] == plan["kv_cache"] == 512 * 2 * 6 * 512 * 2


def test_two_streams_have_a_memory_and_no_cache() -> None:
    """States of earlier segments, one for each block and place: as many as it is made to keep, or one whole segment."""
    base = preset("xlnet-base")
    assert estimate_inference_memory(base, cache_type="bfloat16")["segment_memory"] == 512 * 12 * 768 * 2
    short = estimate_inference_memory(base.revise(streams={"memory": 100}))
    assert short["segment_memory"] == 100 * 12 * 768 * 4 and "kv_cache" not in {line.name for line in short.terms}
    assert estimate_kv_cache(base).value == 12 * 768 * 2


def test_experts_with_biases_are_refused_and_no_bias_is_dropped_in_silence() -> None:
    with pytest.raises(ModelError, match="experts have no biases"):
        FeedForwardConfig(bias=True, experts=Experts(count=2, active=1, width=4))
