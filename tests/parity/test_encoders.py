"""Encoders and transformers' compute the same, from the same files, in both directions.

Random weights of odd sizes; rows of unequal lengths with padding on either side there, and at the end here. Every logit of
a real token, the loss over some of them, and every gradient: in float32 to 1e-4, and in float64 to 1e-9 where transformers
stays in float64.
"""

from __future__ import annotations

import pytest
import torch
import transformers
from saved import gradients_as_saved
from scrambled import scramble
from torch.nn import functional as F

from pellucid.model.build import build
from pellucid.model.context import Context
from pellucid.planning.config import ModelConfig
from pellucid.planning.parts.attention import AttentionConfig, SlidingWindow
from pellucid.planning.parts.embedding import EmbeddingConfig, HeadConfig, HeadTransform
from pellucid.planning.parts.feed_forward import FeedForwardConfig
from pellucid.planning.parts.norm import NormConfig
from pellucid.planning.parts.position import Learned, Rotary
from pellucid.store.checkpoint import load_checkpoint, load_model, save_checkpoint
from pellucid.store.names.family import to_ours
from pellucid.store.names.registry import read_config

PAD = 1
SIZES = {"vocab_size": 37, "hidden_size": 24, "intermediate_size": 44, "num_hidden_layers": 3, "num_attention_heads": 3}
NO_IDS = {"bos_token_id": None, "eos_token_id": None}
MODERN = {
    **SIZES, **NO_IDS, "cls_token_id": None, "sep_token_id": None, "pad_token_id": PAD, "max_position_embeddings": 19,
}  # fmt: skip
FOREIGN = {
    "bert": lambda: transformers.BertConfig(**SIZES, max_position_embeddings=19, pad_token_id=PAD),
    "bert-gelu-tanh-three-segments": lambda: transformers.BertConfig(
        **SIZES, max_position_embeddings=23, pad_token_id=PAD, hidden_act="gelu_new", type_vocab_size=3, layer_norm_eps=1e-5
    ),
    "roberta": lambda: transformers.RobertaConfig(**SIZES, max_position_embeddings=21, pad_token_id=PAD, **NO_IDS),
    "roberta-relu-one-segment": lambda: transformers.RobertaConfig(
        **SIZES, max_position_embeddings=24, pad_token_id=PAD, hidden_act="relu", type_vocab_size=1, **NO_IDS
    ),
    "xlm-roberta": lambda: transformers.XLMRobertaConfig(**SIZES, max_position_embeddings=21, pad_token_id=PAD, **NO_IDS),
    "camembert": lambda: transformers.CamembertConfig(**SIZES, max_position_embeddings=21, pad_token_id=PAD, **NO_IDS),
    "modernbert": lambda: transformers.ModernBertConfig(**MODERN, local_attention=6),
    "modernbert-biases": lambda: transformers.ModernBertConfig(
        **MODERN, local_attention=4, norm_bias=True, attention_bias=True, mlp_bias=True, classifier_bias=True,
        decoder_bias=False, global_attn_every_n_layers=2,
        rope_parameters={
            "full_attention": {"rope_type": "default", "rope_theta": 500.0},
            "sliding_attention": {"rope_type": "default", "rope_theta": 50.0},
        },
    ),
}  # fmt: skip
SPELLINGS = ("xlm-roberta", "camembert")  # RoBERTa by other names
STAYS_IN_FLOAT64 = [name for name in FOREIGN if not name.startswith(("modern", *SPELLINGS))]
BERT_LIKE = {
    "vocab_size": 37, "context_length": 19, "n_layers": 2, "n_heads": 3, "n_kv_heads": 3, "head_dim": 8, "d_model": 24, "d_ff": 31,
    "causal": False, "dropout": 0.1,
}  # fmt: skip
BIASED = AttentionConfig(qk_norm=False, qkv_bias=True, output_bias=True)
OURS = {
    "bert": ModelConfig(
        **BERT_LIKE,
        position=Learned(),
        embedding=EmbeddingConfig(segments=2, norm=True),
        attention=BIASED,
        feed_forward=FeedForwardConfig(kind="gelu", bias=True),
        norm=NormConfig(kind="layer", eps=1e-12, placement="after"),
        head=HeadConfig(bias=True, transform=HeadTransform()),
    ),
    "roberta": ModelConfig(
        **BERT_LIKE,
        position=Learned(first=2),
        embedding=EmbeddingConfig(segments=1, norm=True),
        attention=BIASED,
        feed_forward=FeedForwardConfig(kind="gelu", bias=True),
        norm=NormConfig(kind="layer", eps=1e-5, placement="after"),
        head=HeadConfig(bias=True, transform=HeadTransform()),
    ),
    "modernbert": ModelConfig(
        **BERT_LIKE,
        position=Rotary(theta=900.0, window_theta=90.0),
        embedding=EmbeddingConfig(norm=True),
        attention=AttentionConfig(qk_norm=False, window=SlidingWindow(size=3, layers=(1,), both_sides=True)),
        feed_forward=FeedForwardConfig(kind="geglu"),
        norm=NormConfig(kind="layer_no_bias", eps=1e-5, first=False),
        head=HeadConfig(bias=True, transform=HeadTransform(bias=False)),
    ),
}
LENGTHS = (17, 9)
IDS_BT = torch.randint(2, 37, (2, 17), generator=torch.Generator().manual_seed(5))
SEGMENTS_BT = (torch.arange(17) > 6).long().expand(2, -1)


def places(side: str, width: int = 17) -> list[slice]:
    """Where the real tokens of each row stand."""
    return [slice(0, length) if side == "right" else slice(width - length, width) for length in LENGTHS]


def padded(rows_BT: torch.Tensor, side: str, fill: int) -> torch.Tensor:
    """The rows, each cut to its length, with padding on one side."""
    out = torch.full_like(rows_BT, fill)
    for row, (place, length) in enumerate(zip(places(side), LENGTHS, strict=True)):
        out[row, place] = rows_BT[row, :length]
    return out


def real(rows: torch.Tensor, side: str) -> torch.Tensor:
    """What stands at the real places, one row after the other."""
    return torch.cat([rows[row, place] for row, place in enumerate(places(side))])


def masked_loss(logits_NV: torch.Tensor) -> torch.Tensor:
    """The mean surprise at every third real token."""
    return F.cross_entropy(logits_NV[::3], real(IDS_BT, "right")[::3])


def logits_of(ours, theirs, config: ModelConfig, side: str) -> tuple[torch.Tensor, torch.Tensor]:
    """The logits of the real tokens by both."""
    num_segments, first = config.embedding.segments, getattr(config.position, "first", 0)
    kinds = {"token_type_ids": padded(SEGMENTS_BT, side, 0)} if num_segments > 1 else {}
    if side == "left" and not first:  # RoBERTa counts from the first real token by itself
        kinds["position_ids"] = padded(torch.arange(17).expand(2, -1), side, 0)
    attention_BT = padded(torch.ones_like(IDS_BT), side, 0)
    theirs_NV = real(theirs(padded(IDS_BT, side, PAD), attention_mask=attention_BT, **kinds).logits, side)
    context = Context(lengths=LENGTHS, segments_BT=padded(SEGMENTS_BT, "right", 0) if num_segments > 1 else None)
    return real(ours(padded(IDS_BT, "right", PAD), context).logits_BTV, "right"), theirs_NV


def assert_same(ours, theirs, side: str, tolerance: float) -> None:
    """Logits, loss and every gradient; gradients are compared under our names."""
    ours.eval(), theirs.eval()
    family, config = read_config(theirs.config.to_dict(), "memory")
    ours_NV, theirs_NV = logits_of(ours, theirs, config, side)
    torch.testing.assert_close(ours_NV, theirs_NV, rtol=tolerance, atol=tolerance)
    losses = masked_loss(ours_NV), masked_loss(theirs_NV)
    torch.testing.assert_close(*losses, rtol=tolerance, atol=tolerance)
    for loss in losses:
        loss.backward()
    gradients = to_ours(family, config, gradients_as_saved(theirs), "memory")
    for name, parameter in ours.named_parameters():
        torch.testing.assert_close(
            parameter.grad, gradients[name], rtol=tolerance, atol=tolerance, msg=lambda m, n=name: f"{n}: {m}"
        )
        assert parameter.grad.abs().max() > 0, name


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("name", FOREIGN)
def test_their_directory_loads_here_and_computes_the_same(name, side, tmp_path):
    theirs = transformers.AutoModelForMaskedLM.from_config(FOREIGN[name](), attn_implementation="eager")
    scramble(theirs)
    theirs.save_pretrained(tmp_path)
    assert_same(load_model(load_checkpoint(tmp_path)), theirs, side, 1e-4)


@pytest.mark.parametrize("name", STAYS_IN_FLOAT64)
def test_in_float64_to_nine_places(name, tmp_path):
    theirs = transformers.AutoModelForMaskedLM.from_config(FOREIGN[name](), attn_implementation="eager").double()
    scramble(theirs)
    theirs.save_pretrained(tmp_path)
    assert_same(load_model(load_checkpoint(tmp_path)), theirs, "right", 1e-9)


@pytest.mark.parametrize("name", OURS)
def test_our_directory_loads_there_and_computes_the_same(name, tmp_path):
    ours = build(OURS[name], seed=1)
    scramble(ours)
    save_checkpoint(tmp_path / "model", config=OURS[name], weights=ours.state_dict(), tokenizer=None, info={})
    theirs, report = transformers.AutoModelForMaskedLM.from_pretrained(
        tmp_path / "model", output_loading_info=True, attn_implementation="eager"
    )
    assert theirs.config.model_type == name and not any(report.values()), report
    assert_same(ours, theirs, "right", 1e-4)
    assert load_checkpoint(tmp_path / "model").config == OURS[name]
