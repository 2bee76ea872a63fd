"""Encoder–decoders and transformers' compute the same, from the same files, in both directions.

Random weights of odd sizes, source rows of unequal lengths: every logit, the loss and every gradient in float32 to 1e-4, and
step by step through a cache.
"""

from __future__ import annotations

import json

import pytest
import torch
import transformers
from safetensors.torch import save_file
from saved import gradients_as_saved
from scrambled import scramble
from torch.nn import functional as F

from pellucid.api import load
from pellucid.errors import ModelError, RequestError
from pellucid.model.build import build
from pellucid.model.context import Context
from pellucid.planning.config import EncoderConfig, ModelConfig
from pellucid.planning.parts.attention import AttentionConfig
from pellucid.planning.parts.embedding import EmbeddingConfig, HeadConfig
from pellucid.planning.parts.feed_forward import FeedForwardConfig
from pellucid.planning.parts.norm import NormConfig
from pellucid.planning.parts.position import Relative, Sinusoidal
from pellucid.store.checkpoint import load_checkpoint, load_model, save_checkpoint
from pellucid.store.names.family import to_ours
from pellucid.store.names.registry import read_config

TOLERANCE = 1e-4
T5_LIKE = {"vocab_size": 37, "d_model": 24, "d_kv": 10, "d_ff": 44, "num_layers": 2, "num_heads": 3, "pad_token_id": 0}
MARIAN_LIKE = {
    "vocab_size": 37, "d_model": 24, "encoder_layers": 2, "encoder_attention_heads": 3, "decoder_attention_heads": 3,
    "encoder_ffn_dim": 44, "decoder_ffn_dim": 44, "max_position_embeddings": 29, "pad_token_id": 36,
    "decoder_start_token_id": 36, "attn_implementation": "eager",
}  # fmt: skip
FOREIGN = {
    "t5": lambda: transformers.T5Config(**T5_LIKE),
    "t5-uneven-few-buckets": lambda: transformers.T5Config(
        **T5_LIKE, num_decoder_layers=3, relative_attention_num_buckets=8, relative_attention_max_distance=9
    ),
    "t5-gated-unscaled": lambda: transformers.T5Config(
        **T5_LIKE, feed_forward_proj="gated-gelu", tie_word_embeddings=False
    ),
    "marian": lambda: transformers.MarianConfig(**MARIAN_LIKE, decoder_layers=2),
    "marian-scaled-silu-uneven": lambda: transformers.MarianConfig(
        **MARIAN_LIKE, decoder_layers=1, scale_embedding=True, activation_function="swish"
    ),
}
SIZES = {
    "vocab_size": 37,
    "context_length": 29,
    "n_layers": 2,
    "n_heads": 3,
    "n_kv_heads": 3,
    "d_model": 24,
    "d_ff": 31,
}
OURS = {
    "t5": ModelConfig(
        **SIZES,
        head_dim=10,
        encoder=EncoderConfig(n_layers=3),
        position=Relative(buckets=12, farthest=20),
        attention=AttentionConfig(qk_norm=False, scale=1.0),
        feed_forward=FeedForwardConfig(kind="geglu_tanh"),
        head=HeadConfig(scaled=True),
    ),
    "marian": ModelConfig(
        **SIZES,
        head_dim=8,
        encoder=EncoderConfig(n_layers=1),
        position=Sinusoidal(halves=True),
        embedding=EmbeddingConfig(scaled=True),
        attention=AttentionConfig(qk_norm=False, qkv_bias=True, output_bias=True),
        feed_forward=FeedForwardConfig(kind="relu", bias=True),
        norm=NormConfig(kind="layer", eps=1e-5, placement="after"),
        head=HeadConfig(bias=True),
    ),
}
LENGTHS = (23, 9)
GENERATOR = torch.Generator().manual_seed(5)
SOURCE_BS, TARGET_BT = (torch.randint(2, 36, (2, size), generator=GENERATOR) for size in (23, 14))
SEEN_BS = (torch.arange(23) < torch.tensor(LENGTHS)[:, None]).long()


def logits_of(ours) -> torch.Tensor:
    memory = ours.encode(SOURCE_BS, Context(lengths=LENGTHS))
    return ours(TARGET_BT, Context(memory=memory)).logits_BTV


def loss(logits_BTV: torch.Tensor) -> torch.Tensor:
    return F.cross_entropy(logits_BTV[:, :-1].flatten(0, 1), TARGET_BT[:, 1:].flatten())


def assert_same(ours, theirs) -> None:
    """Logits, loss and every gradient; gradients are compared under our names."""
    ours.eval(), theirs.eval()
    ours_BTV = logits_of(ours)
    theirs_BTV = theirs(SOURCE_BS, attention_mask=SEEN_BS, decoder_input_ids=TARGET_BT).logits
    torch.testing.assert_close(ours_BTV, theirs_BTV, rtol=TOLERANCE, atol=TOLERANCE)
    loss(ours_BTV).backward()
    loss(theirs_BTV).backward()
    family, config = read_config(theirs.config.to_dict(), "memory")
    gradients = to_ours(family, config, gradients_as_saved(theirs), "memory")
    for name, parameter in ours.named_parameters():
        if name != "head.bias":  # a constant there
            torch.testing.assert_close(
                parameter.grad, gradients[name], rtol=TOLERANCE, atol=TOLERANCE, msg=lambda m, n=name: f"{n}: {m}"
            )
        assert parameter.grad.abs().max() > 0, name


@pytest.mark.parametrize("name", FOREIGN)
def test_their_directory_loads_here_and_computes_the_same(name, tmp_path):
    theirs = transformers.AutoModelForSeq2SeqLM.from_config(FOREIGN[name]())
    fixed = {key: value.clone() for key, value in theirs.state_dict().items() if "embed_positions" in key}
    scramble(theirs)
    theirs.load_state_dict(fixed, strict=False)  # Marian's sines are constants, which no file holds
    theirs.save_pretrained(tmp_path)
    assert_same(load_model(load_checkpoint(tmp_path)), theirs)


def test_a_directory_of_mt5_computes_the_same(tmp_path):
    """Its published files have a head of their own; transformers 5 ties it, here to the same numbers, and divides by nothing."""
    theirs = transformers.MT5ForConditionalGeneration(transformers.MT5Config(**T5_LIKE))
    scramble(theirs)
    tensors = {name: tensor.clone() for name, tensor in theirs.state_dict().items()}
    save_file(tensors, tmp_path / "model.safetensors")
    config = {**json.loads(theirs.config.to_json_string()), "tie_word_embeddings": False}
    (tmp_path / "config.json").write_text(json.dumps(config))
    ours = load_model(load_checkpoint(tmp_path))
    theirs.eval(), ours.eval()
    expected = theirs(SOURCE_BS, attention_mask=SEEN_BS, decoder_input_ids=TARGET_BT).logits
    torch.testing.assert_close(logits_of(ours), expected, rtol=TOLERANCE, atol=TOLERANCE)
    (tmp_path / "config.json").write_text(json.dumps({**config, "tie_word_embeddings": True}))
    with pytest.raises(ModelError, match="tie_word_embeddings=True"):
        load_checkpoint(tmp_path)


@pytest.mark.parametrize("name", OURS)
def test_our_directory_loads_there_and_computes_the_same(name, tmp_path):
    ours = build(OURS[name], seed=1)
    scramble(ours)
    save_checkpoint(tmp_path / "model", config=OURS[name], weights=ours.state_dict(), tokenizer=None, info={})
    theirs, report = transformers.AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "model", output_loading_info=True)
    assert theirs.config.model_type == name and not any(report.values()), report
    assert_same(ours, theirs)
    assert load_checkpoint(tmp_path / "model").config == OURS[name]


@pytest.mark.parametrize("name", OURS)
def test_step_by_step_through_a_cache_is_the_whole_row_at_once(name):
    ours = build(OURS[name], seed=1).double()
    scramble(ours)
    ours.eval()
    memory, cache = ours.encode(SOURCE_BS, Context(lengths=LENGTHS)), ours.new_cache(20, batch_size=2)
    steps = [ours(TARGET_BT[:, t : t + 1], Context(memory=memory, cache=cache)).logits_BTV for t in range(14)]
    torch.testing.assert_close(torch.cat(steps, 1), logits_of(ours), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", ["t5", "marian"])
@pytest.mark.parametrize("num_beams", [1, 3])
def test_the_same_text_is_written_about_a_source(name, num_beams, tmp_path):
    """Greedily and with beams, as transformers' `generate` writes it."""
    theirs = transformers.AutoModelForSeq2SeqLM.from_config(FOREIGN[name]())
    fixed = {key: value.clone() for key, value in theirs.state_dict().items() if "embed_positions" in key}
    scramble(theirs)
    theirs.load_state_dict(fixed, strict=False)
    theirs.eval().save_pretrained(tmp_path)
    lm = load(tmp_path)
    for row, length in enumerate(LENGTHS):
        source = SOURCE_BS[row : row + 1, :length]
        settings = {
            "num_beams": num_beams,
            "max_new_tokens": 9,
            "do_sample": False,
            "eos_token_id": 1,
            "forced_eos_token_id": None,
            "decoder_start_token_id": theirs.config.pad_token_id,
        }
        told = theirs.generate(source, **settings)[0, 1:].tolist()
        found = lm.search(source[0].tolist(), num_beams=num_beams, max_new_tokens=9, stop_ids=(1,))[0]
        assert list(found.ids) == told


def test_a_pass_without_the_source_is_refused_and_one_with_too_much_as_well():
    ours = build(OURS["t5"], seed=1)
    with pytest.raises(RequestError, match="reads a memory where there is an encoder\\n  found: no memory"):
        ours(TARGET_BT)
    alone = build(ModelConfig(vocab_size=37), seed=1)
    with pytest.raises(RequestError, match="this model has no encoder"):
        alone.encode(SOURCE_BS)
    with pytest.raises(RequestError, match="found: a memory"):
        alone(TARGET_BT, Context(memory=ours.encode(SOURCE_BS)))
