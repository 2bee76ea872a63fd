"""Recordings: the numbers of transformers' own models, of the plain forward pass, and of every layer opened again."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from lens_families import CLASSIFIER, FAMILIES
from scrambled import scrambled

from pellucid.errors import ContextError, RequestError
from pellucid.lens import record as recording
from pellucid.lens.record import array_shapes, record_trace
from pellucid.model.recording import record
from pellucid.planning.config import ModelConfig
from pellucid.store.checkpoint import load_checkpoint, load_model
from pellucid.tokens.train import train_bpe

TOKENIZER = train_bpe(["a"], 258, specials="none")
IDS = TOKENIZER.encode("abc 你d!").ids
LLAMA_LIKE = {
    "vocab_size": 258, "hidden_size": 24, "intermediate_size": 44, "num_hidden_layers": 3, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 19, "bos_token_id": None, "eos_token_id": None,
    "attn_implementation": "eager",
}  # fmt: skip
FOREIGN = {
    "gpt2": lambda: transformers.GPT2Config(
        vocab_size=258, n_embd=24, n_layer=3, n_head=3, n_positions=19, n_inner=31, bos_token_id=None,
        eos_token_id=None, attn_implementation="eager",
    ),
    "llama": lambda: transformers.LlamaConfig(**LLAMA_LIKE),
    "qwen3": lambda: transformers.Qwen3Config(**LLAMA_LIKE, head_dim=10, tie_word_embeddings=True),
    "qwen3-window": lambda: transformers.Qwen3Config(
        **LLAMA_LIKE, head_dim=10, use_sliding_window=True, sliding_window=4, max_window_layers=0
    ),
}  # fmt: skip
SMALL = ModelConfig(
    vocab_size=258, context_length=16, n_layers=2, n_heads=4, n_kv_heads=2, head_dim=6, d_model=20, d_ff=31
)
OURS = {
    "grouped": SMALL,
    "gpt2": SMALL.revise(
        n_kv_heads=4, position="learned", norm="layer", feed_forward="gelu_tanh", qk_norm=False, mlp_bias=True
    ),
    "sinusoidal, both ways": SMALL.revise(position="sinusoidal", causal=False, tied_head=False),
    "window, dropout": SMALL.revise(sliding_window=3, dropout=0.3, feed_forward="relu2"),
}


@pytest.fixture(params=FOREIGN, scope="module")
def pair(request, tmp_path_factory):
    """transformers' model with random weights, and ours from its files."""
    torch.manual_seed(3)
    theirs = transformers.AutoModelForCausalLM.from_config(FOREIGN[request.param]()).eval()
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape))
    directory = tmp_path_factory.mktemp(request.param)
    theirs.save_pretrained(directory)
    return theirs, load_model(load_checkpoint(directory)).eval()


def close(array, tensor) -> None:
    np.testing.assert_allclose(array, tensor.detach().numpy(), rtol=1e-4, atol=1e-4)


def test_the_stream_and_the_attention_are_transformers_own(pair) -> None:
    theirs, ours = pair
    trace = record_trace(ours, TOKENIZER, IDS)
    with torch.no_grad():
        out = theirs(torch.tensor([IDS]), output_hidden_states=True, output_attentions=True)
    close(trace["input"], out.hidden_states[0][0])
    for layer, weights in enumerate(out.attentions):
        close(trace[f"blocks.{layer}.attention.weights"], weights[0])
    for layer, stream in enumerate(out.hidden_states[1:-1]):
        close(trace[f"blocks.{layer}.output"], stream[0])
    close(trace["final_norm"], out.hidden_states[-1][0])  # theirs ends behind the last norm
    close(trace["logits"], out.logits[0])


def test_the_inner_parts_are_transformers_own(pair) -> None:
    theirs, ours = pair
    if theirs.config.model_type == "gpt2":
        names = {"attn.c_proj": "attention.output", "ln_1": "attention_norm", "ln_2": "mlp_norm", "mlp.c_fc": "mlp.up",
                 "mlp.act": "mlp.hidden", "mlp": "mlp.output"}  # fmt: skip
        root = "transformer.h"
    else:
        names = {"self_attn.o_proj": "attention.output", "input_layernorm": "attention_norm", "mlp": "mlp.output",
                 "post_attention_layernorm": "mlp_norm", "mlp.gate_proj": "mlp.gate", "mlp.up_proj": "mlp.up",
                 "self_attn.q_norm": "attention.query", "self_attn.k_norm": "attention.key"}  # fmt: skip
        root = "model.layers"
    heard: dict[str, torch.Tensor] = {}
    for name, module in theirs.named_modules():
        module.register_forward_hook(lambda m, i, output, name=name: heard.__setitem__(name, output))
    theirs(torch.tensor([IDS]))
    trace = record_trace(ours, TOKENIZER, IDS)
    compared = 0
    for layer in range(3):
        for their_name, our_name in names.items():
            if f"{root}.{layer}.{their_name}" in heard:
                tensor = heard[f"{root}.{layer}.{their_name}"][0]
                heads = our_name in ("attention.query", "attention.key")  # theirs are [T, H, K] there
                close(trace[f"blocks.{layer}.{our_name}"], tensor.transpose(0, 1) if heads else tensor)
                compared += 1
    assert compared >= 3 * 6


@pytest.mark.parametrize("name", OURS)
def test_names_and_shapes_are_those_announced(name) -> None:
    trace = record_trace(scrambled(OURS[name]), TOKENIZER, IDS)
    assert {key: list(array.shape) for key, array in trace.arrays.items()} == array_shapes(OURS[name], len(IDS))
    assert all(array.dtype == np.float32 for array in trace.arrays.values())
    assert all(check["ok"] for check in trace.header["checks"])


@pytest.mark.parametrize("kept", [True, False], ids=["kept", "opened later"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("name", OURS)
def test_a_layer_has_the_bits_of_one_whole_pass(name, dtype, kept, monkeypatch) -> None:
    monkeypatch.setattr(recording, "MOST_DETAILS", 10**6 if kept else 0)
    model = scrambled(OURS[name], dtype)
    with torch.no_grad():
        taps = record(model, torch.tensor([IDS]))
    trace = record_trace(model, TOKENIZER, IDS)
    assert list(taps) == list(trace.arrays)
    for name, tensor in taps.items():
        if name != "logits":  # scored again, from the same stream
            np.testing.assert_array_equal(trace[name], tensor[0].float().numpy())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_float32_copies_of_narrow_numbers_are_exact(dtype) -> None:
    trace = record_trace(scrambled(SMALL, dtype), TOKENIZER, IDS)
    for array in trace.arrays.values():
        narrowed = torch.from_numpy(array.copy()).to(dtype).float().numpy()
        np.testing.assert_array_equal(narrowed, array)


@pytest.mark.parametrize("name", OURS)
def test_the_parts_add_up(name) -> None:
    config = OURS[name]
    trace = record_trace(scrambled(config), TOKENIZER, IDS)
    before = trace["embed"] + (trace["position"] if "position" in trace.arrays else 0)
    np.testing.assert_allclose(trace["input"], before, atol=1e-6)
    for layer in range(config.n_layers):
        block = f"blocks.{layer}"
        before = trace["input"] if layer == 0 else trace[f"blocks.{layer - 1}.output"]
        np.testing.assert_allclose(trace[f"{block}.middle"], before + trace[f"{block}.attention.output"], atol=1e-5)
        np.testing.assert_allclose(
            trace[f"{block}.output"], trace[f"{block}.middle"] + trace[f"{block}.mlp.output"], atol=1e-5
        )
        groups = config.n_heads // config.n_kv_heads
        values = trace[f"{block}.attention.value"].repeat(groups, axis=0)
        np.testing.assert_allclose(
            trace[f"{block}.attention.mix"], trace[f"{block}.attention.weights"] @ values, atol=1e-5
        )
        np.testing.assert_allclose(trace[f"{block}.attention.weights"].sum(-1), 1, atol=1e-5)


@pytest.mark.parametrize("name", OURS)
def test_scores_are_minus_infinity_where_nothing_may_be_seen(name) -> None:
    config, T = OURS[name], len(IDS)
    scores = record_trace(scrambled(config), TOKENIZER, IDS)["blocks.1.attention.scores"]
    t, s = np.indices((T, T))
    hidden = (s > t) | (t - s >= (config.window_at(0) or T)) if config.causal else np.zeros((T, T), dtype=bool)
    assert (np.isneginf(scores) == hidden).all()


def test_turned_queries_and_keys_give_the_scores() -> None:
    trace = record_trace(scrambled(SMALL), TOKENIZER, IDS)
    q, k = trace["blocks.0.attention.query_rotated"], trace["blocks.0.attention.key_rotated"].repeat(2, axis=0)
    products, scores = q @ k.swapaxes(1, 2) / np.sqrt(6), trace["blocks.0.attention.scores"]
    np.testing.assert_allclose(products[np.isfinite(scores)], scores[np.isfinite(scores)], atol=1e-5)


def test_recording_leaves_the_model_as_it_was() -> None:
    model = scrambled(dataclasses.replace(SMALL, dropout=0.3)).train()
    trace = record_trace(model, TOKENIZER, IDS)
    again = record_trace(model, TOKENIZER, IDS)
    np.testing.assert_array_equal(trace["logits"], again["logits"])  # no dropout while recording
    assert model.training and all(part.training for part in model.modules())
    assert not any(module._forward_hooks for module in model.modules())
    assert all(parameter.grad is None and parameter.requires_grad for parameter in model.parameters())


def test_only_layers_that_fit_are_kept_and_none_changes(monkeypatch) -> None:
    monkeypatch.setattr(recording, "MOST_DETAILS", 1)
    trace = record_trace(scrambled(SMALL), TOKENIZER, IDS)
    first = trace["blocks.0.mlp.up"].copy()
    assert trace["blocks.1.mlp.up"].shape == first.shape
    assert list(trace.arrays._details) == ["blocks.1"]
    np.testing.assert_array_equal(trace["blocks.0.mlp.up"], first)


def test_what_was_forgotten_is_made_again_to_the_bit() -> None:
    trace = record_trace(scrambled(SMALL), TOKENIZER, IDS)
    before = {name: array.copy() for name, array in trace.arrays.items()}
    trace.arrays.forget()
    for name, array in before.items():
        np.testing.assert_array_equal(trace[name], array)


def test_logits_of_all_positions_only_where_they_fit(monkeypatch) -> None:
    model = scrambled(SMALL)
    whole = record_trace(model, TOKENIZER, IDS)
    monkeypatch.setattr(recording, "MOST_LOGITS", 100)
    last, asked = record_trace(model, TOKENIZER, IDS), record_trace(model, TOKENIZER, IDS, all_logits=True)
    assert whole.header["logits_from"] == 0 and last.header["logits_from"] == len(IDS) - 1
    assert last["logits"].shape == (1, 258)
    np.testing.assert_allclose(last["logits"][0], whole["logits"][-1], atol=1e-5)
    np.testing.assert_array_equal(asked["logits"], whole["logits"])


def test_the_next_tokens_are_the_softmax_of_all_logits() -> None:
    trace = record_trace(scrambled(SMALL), TOKENIZER, IDS)
    chances = torch.from_numpy(trace["logits"][-1].copy()).double().softmax(-1)
    best = chances.topk(20)
    assert [bar["id"] for bar in trace.header["next"]] == best.indices.tolist()
    np.testing.assert_allclose([bar["p"] for bar in trace.header["next"]], best.values, rtol=1e-9)


def test_rows_that_cannot_be_read_are_refused() -> None:
    model = scrambled(SMALL)
    with pytest.raises(ContextError, match="longer than the model's context"):
        record_trace(model, TOKENIZER, [1] * 17)
    with pytest.raises(RequestError, match="no token"):
        record_trace(model, TOKENIZER, [])
    with pytest.raises(RequestError, match="does not have"):
        record_trace(model, TOKENIZER, [1, 258])


def test_the_guide_names_every_array() -> None:
    guide = (Path(__file__).parents[2] / "docs" / "guide" / "trace.md").read_text(encoding="utf-8")
    told: set[str] = set()
    for row in guide.split("## The arrays")[1].split("## The checks")[0].splitlines():
        names = re.findall(r"`([\w.]+)`", row.split("|")[1]) if row.startswith("| `") else []
        told |= {name if name[0] != "." else names[0].rpartition(".")[0] + name for name in names}
    shapes = [array_shapes(config, 3, num_source=4) for config in (*OURS.values(), *FAMILIES.values(), CLASSIFIER)]
    known = {name.replace(".0.", ".i.") for found in shapes for name in found if not re.search(r"\.[1-9]\.", name)}
    of_source = {name for name in known if name.startswith("encoder.")}
    assert told - of_source == known - of_source
    assert {name.removeprefix("encoder.") for name in of_source} <= known  # told once, of both rows
