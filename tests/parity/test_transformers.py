"""Our model and transformers' compute the same, from the same files, in both directions.

Random weights of odd sizes: every logit and every gradient in float32 to 1e-4, and both programs read what the other
wrote.
"""

from __future__ import annotations

import json

import pytest
import torch
import transformers
from foreign_decoders import FOREIGN, LLAMA_LIKE
from saved import gradients_as_saved
from scrambled import scramble
from torch.nn import functional as F

from pellucid.events import MemoryRecorder
from pellucid.model.build import build
from pellucid.planning.config import ModelConfig
from pellucid.store.checkpoint import load_checkpoint, load_model, save_checkpoint
from pellucid.store.names.family import to_ours
from pellucid.store.names.registry import read_config
from pellucid.tokens.train import train_bpe, train_characters

TOLERANCE = 1e-4
OURS = {
    "gpt2": ModelConfig.from_axes(
        vocab_size=37, context_length=19, n_layers=2, n_heads=3, n_kv_heads=3, head_dim=8, d_model=24, d_ff=31,
        position="learned", norm="layer", norm_eps=1e-5, feed_forward="gelu_tanh", qk_norm=False,
        qkv_bias=True, output_bias=True, mlp_bias=True, init="gpt2",
    ),
    "llama": ModelConfig.from_axes(
        vocab_size=37, context_length=19, n_layers=2, n_heads=6, n_kv_heads=2, head_dim=10, d_model=24, d_ff=31,
        qk_norm=False, tied_head=False, rope_theta=500.0,
    ),
    "qwen2": ModelConfig.from_axes(
        vocab_size=37, context_length=19, n_layers=2, n_heads=6, n_kv_heads=2, head_dim=4, d_model=24, d_ff=31,
        qk_norm=False, qkv_bias=True,
    ),
    "qwen3": ModelConfig(
        vocab_size=37, context_length=19, n_layers=2, n_heads=4, n_kv_heads=2, head_dim=14, d_model=22, d_ff=31,
        dropout=0.1,
    ),
    "qwen3-window-llama3": ModelConfig.from_axes(
        vocab_size=37, context_length=19, n_layers=2, n_heads=4, n_kv_heads=2, head_dim=16, d_model=22, d_ff=31,
        sliding_window=6, rope_scaling="llama3", rope_factor=4.0, rope_original_context=8,
    ),
    "qwen3-first-layer-local": ModelConfig.from_axes(
        vocab_size=37, context_length=19, n_layers=3, n_heads=4, n_kv_heads=2, head_dim=14, d_model=22, d_ff=31,
        sliding_window=4, sliding_layers=(0,),
    ),
    "llama-yarn": ModelConfig.from_axes(
        vocab_size=37, context_length=19, n_layers=2, n_heads=4, n_kv_heads=2, head_dim=16, d_model=24, d_ff=31,
        qk_norm=False, tied_head=False, rope_scaling="yarn", rope_factor=4.0, rope_original_context=64, rope_theta=50.0,
        rope_high_frequency=2.0, rope_low_frequency=0.5, rope_attention_factor=1.2,
    ),
}  # fmt: skip
IDS_BT = torch.randint(0, 37, (2, 19), generator=torch.Generator().manual_seed(5))


def loss(logits_BTV: torch.Tensor) -> torch.Tensor:
    return F.cross_entropy(logits_BTV[:, :-1].flatten(0, 1), IDS_BT[:, 1:].flatten())


def assert_same(ours: torch.nn.Module, theirs: torch.nn.Module) -> None:
    """Logits, loss and every gradient; gradients are compared under our names."""
    ours.eval(), theirs.eval()
    ours_BTV, theirs_BTV = ours(IDS_BT).logits_BTV, theirs(IDS_BT).logits
    torch.testing.assert_close(ours_BTV, theirs_BTV, rtol=TOLERANCE, atol=TOLERANCE)
    loss(ours_BTV).backward()
    loss(theirs_BTV).backward()
    family, config = read_config(theirs.config.to_dict(), "memory")
    gradients = to_ours(family, config, gradients_as_saved(theirs), "memory")
    assert gradients.keys() == dict(ours.named_parameters()).keys()
    for name, parameter in ours.named_parameters():
        torch.testing.assert_close(
            parameter.grad, gradients[name], rtol=TOLERANCE, atol=TOLERANCE, msg=lambda m, n=name: f"{n}: {m}"
        )
        assert parameter.grad.abs().max() > 0, name


@pytest.mark.parametrize("name", FOREIGN)
def test_their_directory_loads_here_and_computes_the_same(name, tmp_path):
    theirs = transformers.AutoModelForCausalLM.from_config(FOREIGN[name]())
    scramble(theirs)
    theirs.save_pretrained(tmp_path)
    checkpoint = load_checkpoint(tmp_path)
    assert checkpoint.info == {} and checkpoint.tokenizer is None
    assert_same(load_model(checkpoint), theirs)


@pytest.mark.parametrize("name", OURS)
def test_our_directory_loads_there_and_computes_the_same(name, tmp_path):
    ours, events = build(OURS[name], seed=1), MemoryRecorder()
    scramble(ours)
    save_checkpoint(
        tmp_path / "model", config=OURS[name], weights=ours.state_dict(), tokenizer=None, info={}, recorder=events
    )
    theirs, report = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "model", output_loading_info=True)
    assert theirs.config.model_type == name.partition("-")[0] and events.names() == []
    assert not any(report.values()), report
    assert theirs.dtype == torch.float32
    assert_same(ours, theirs)


@pytest.mark.parametrize("name", OURS)
def test_a_directory_of_the_older_kind_still_loads_there(name, tmp_path):
    """Readers before transformers 5 know `rope_theta` and `torch_dtype` only."""
    ours = build(OURS[name], seed=1)
    save_checkpoint(tmp_path / "model", config=OURS[name], weights=ours.state_dict(), tokenizer=None, info={})
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    older = {key: value for key, value in config.items() if key not in ("rope_parameters", "dtype")}
    assert read_config(older, "memory") == read_config(config, "memory")


def test_sharded_weights_load(tmp_path):
    theirs = transformers.AutoModelForCausalLM.from_config(FOREIGN["qwen3"]())
    theirs.save_pretrained(tmp_path, max_shard_size="10KB")
    assert not (tmp_path / "model.safetensors").exists()
    assert_same(load_model(load_checkpoint(tmp_path)), theirs)


@pytest.mark.parametrize("name", ["gpt2", "qwen3"])
def test_files_saved_without_the_head_have_shorter_names(name, tmp_path):
    theirs = transformers.AutoModelForCausalLM.from_config(FOREIGN[name]())
    theirs.base_model.save_pretrained(tmp_path)
    assert_same(load_model(load_checkpoint(tmp_path)), theirs)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_weights_keep_their_format_both_ways(dtype, tmp_path):
    theirs = transformers.AutoModelForCausalLM.from_config(FOREIGN["llama"]()).to(dtype)
    theirs.save_pretrained(tmp_path / "theirs")
    checkpoint = load_checkpoint(tmp_path / "theirs")
    assert checkpoint.dtype == dtype and load_model(checkpoint).embed.weight.dtype == dtype
    save_checkpoint(tmp_path / "ours", config=checkpoint.config, weights=checkpoint.weights, tokenizer=None, info={})
    again = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "ours")
    assert again.dtype == dtype
    for name, tensor in theirs.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor), name


@pytest.mark.parametrize("train", [train_characters, lambda texts: train_bpe(texts, 300)])
def test_their_tokenizer_reads_our_directory_and_gives_the_same_ids(train, tmp_path):
    text = "In the beginning was the word; 起初有字。 <eos> 12 tabs\tand  spaces"
    tokenizer = train([text] * 3)
    config = ModelConfig(
        vocab_size=tokenizer.vocab_size, context_length=8, n_layers=1, n_heads=2, n_kv_heads=1, head_dim=4, d_model=8, d_ff=8
    )  # fmt: skip
    weights = build(config, seed=0).state_dict()
    save_checkpoint(tmp_path / "model", config=config, weights=weights, tokenizer=tokenizer, info={})
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / "model")
    plain = text.replace("<eos>", "<end>")  # there, text may become a control token; here it may not
    assert tuple(theirs(plain, add_special_tokens=False)["input_ids"]) == tokenizer.encode(plain).ids
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    ends = [tokenizer.eos_id, tokenizer.roles.first("turn_end")]
    assert (model.config.bos_token_id, model.config.eos_token_id) == (tokenizer.bos_id, ends)
    assert (model.config.pad_token_id, theirs.pad_token_id) == (tokenizer.roles.first("pad"),) * 2
    assert model.generation_config.do_sample and model.generation_config.eos_token_id == ends
    assert load_checkpoint(tmp_path / "model").tokenizer.encode(text) == tokenizer.encode(text)


@pytest.mark.parametrize("num_layers", [3, 28, 30])
@pytest.mark.parametrize("said", [{}, {"max_window_layers": 0}, {"max_window_layers": 2}, {"max_window_layers": 40}])
def test_layers_with_a_window_are_those_of_transformers_also_where_a_file_is_silent(
    num_layers: int, said: dict
) -> None:
    values = {**LLAMA_LIKE, "num_hidden_layers": num_layers, "use_sliding_window": True, "sliding_window": 5, **said}
    theirs = transformers.Qwen3Config(**values).layer_types
    _, ours = read_config({**values, "model_type": "qwen3", "tie_word_embeddings": False}, "config.json")
    assert [ours.window_at(layer) is not None for layer in range(num_layers)] == [
        t == "sliding_attention" for t in theirs
    ]
