"""XLNet and transformers' compute the same, from the same files, in both directions.

Random weights of odd sizes, rows of unequal lengths: with padding at the beginning there, as XLNet pads, and at the end here.
The content stream and the query stream, with segments and without, with memories of earlier segments: logits, loss and every
gradient in float32 to 1e-4. transformers makes its sines in float32 whatever the type; with those alone in float64, everything
agrees in float64 to 1e-9.
"""

from __future__ import annotations

import json

import pytest
import torch
import transformers
from saved import gradients_as_saved
from scrambled import scramble
from torch.nn import functional as F

from pellucid.engine.runners.build import build_runner
from pellucid.errors import ModelError
from pellucid.model.build import build
from pellucid.model.context import Context, ReadingOrder
from pellucid.model.segment_memory import SegmentMemory
from pellucid.planning.config import ModelConfig
from pellucid.planning.parts.attention import AttentionConfig
from pellucid.planning.parts.embedding import HeadConfig
from pellucid.planning.parts.feed_forward import FeedForwardConfig
from pellucid.planning.parts.norm import NormConfig
from pellucid.planning.parts.position import RelativeSines
from pellucid.planning.parts.streams import Streams
from pellucid.store.checkpoint import load_checkpoint, load_model, save_checkpoint
from pellucid.store.names.family import to_ours
from pellucid.store.names.registry import read_config

PAD, WIDTH, LENGTHS = 5, 13, (13, 8)
SIZES = {"vocab_size": 37, "d_model": 24, "d_inner": 44, "n_layer": 3, "n_head": 3, "pad_token_id": PAD}
FOREIGN = {
    "xlnet": lambda: transformers.XLNetConfig(**SIZES),
    "clamped-untied-relu": lambda: transformers.XLNetConfig(
        **SIZES, clamp_len=4, tie_word_embeddings=False, ff_activation="relu", mem_len=7
    ),
    "one-head-gelu-tanh": lambda: transformers.XLNetConfig(
        **{**SIZES, "n_head": 1, "n_layer": 2}, ff_activation="gelu_new", layer_norm_eps=1e-5, mem_len=None
    ),
}
OURS = ModelConfig(
    vocab_size=37, context_length=29, n_layers=2, n_heads=3, n_kv_heads=3, head_dim=8, d_model=24, d_ff=31, causal=False,
    dropout=0.1, position=RelativeSines(farthest=6), streams=Streams(memory=5),
    attention=AttentionConfig(qk_norm=False), feed_forward=FeedForwardConfig(kind="gelu", bias=True),
    norm=NormConfig(kind="layer", eps=1e-12, placement="after"), head=HeadConfig(bias=True),
)  # fmt: skip
GENERATOR = torch.Generator().manual_seed(5)
IDS_BT = torch.randint(6, 37, (2, WIDTH), generator=GENERATOR)
SEGMENTS_BT = (torch.arange(WIDTH) > 5).long().expand(2, -1)
# Ranks of the places that are predicted; the others are read. The places in the order of their turns.
RANKS_BT = torch.tensor([[0, 2, 0, 0, 4, 0, 0, 1, 0, 3, 0, 0, 0], [0, 4, 0, 3, 0, 0, 1, 2, 0, 0, 0, 0, 0]])
PLACES_BP = torch.tensor([[7, 1, 9, 4], [6, 7, 3, 1]])
CASES = ["content", "content-segments", "order", "order-segments"]


def moved(rows_BT: torch.Tensor, fill: int) -> torch.Tensor:
    """The rows, each cut to its length, with padding before it."""
    out = torch.full_like(rows_BT, fill)
    for row, length in enumerate(LENGTHS):
        out[row, WIDTH - length :] = rows_BT[row, :length]
    return out


def permuted(ranks_BT: torch.Tensor, places_BP: torch.Tensor) -> dict[str, torch.Tensor]:
    """The order in transformers' words: who does not see whom, and the asked places one-hot."""
    later = (ranks_BT[:, None, :] >= ranks_BT[:, :, None]) & (ranks_BT[:, None, :] > 0)
    return {"perm_mask": later.float(), "target_mapping": F.one_hot(places_BP, ranks_BT.size(1)).float()}


def theirs_of(theirs, case: str) -> torch.Tensor:
    """Their logits: at the asked places, or of every real token."""
    asked = {"token_type_ids": moved(SEGMENTS_BT, 0)} if "segments" in case else {}
    if "order" in case:
        before_B1 = WIDTH - torch.tensor(LENGTHS)[:, None]
        asked |= permuted(moved(RANKS_BT, 0), PLACES_BP + before_B1)
        asked = {key: x.to(theirs.dtype) if x.is_floating_point() else x for key, x in asked.items()}
    seen_BT = moved(torch.ones_like(IDS_BT), 0).to(theirs.dtype)
    logits = theirs(moved(IDS_BT, PAD), attention_mask=seen_BT, **asked).logits
    if "order" in case:
        return logits.flatten(0, 1)
    return torch.cat([logits[row, WIDTH - length :] for row, length in enumerate(LENGTHS)])


def ours_of(ours, case: str) -> torch.Tensor:
    order = ReadingOrder(ranks_BT=RANKS_BT, places_BP=PLACES_BP) if "order" in case else None
    segments_BT = SEGMENTS_BT if "segments" in case else None
    logits = ours(IDS_BT, Context(lengths=LENGTHS, order=order, segments_BT=segments_BT)).logits_BTV
    if order is not None:
        return logits.flatten(0, 1)
    return torch.cat([logits[row, :length] for row, length in enumerate(LENGTHS)])


def assert_same(ours, theirs, case: str, tolerance: float) -> None:
    """Logits, loss and every gradient; gradients are compared under our names."""
    ours.eval(), theirs.eval()
    found = ours_of(ours, case), theirs_of(theirs, case)
    torch.testing.assert_close(*found, rtol=tolerance, atol=tolerance)
    losses = [F.cross_entropy(logits_NV, torch.arange(len(logits_NV)) + 7) for logits_NV in found]
    torch.testing.assert_close(*losses, rtol=tolerance, atol=tolerance)
    for loss in losses:
        loss.backward()
    family, config = read_config(theirs.config.to_dict(), "memory")
    gradients = to_ours(family, config, gradients_as_saved(theirs), "memory")
    for name, parameter in ours.named_parameters():
        used = ("order" in case or name != "question") and ("segments" in case or "attention.segment" not in name)
        mine = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        torch.testing.assert_close(
            mine, gradients[name], rtol=tolerance, atol=tolerance, msg=lambda m, n=name: f"{n}: {m}"
        )
        assert (mine.abs().max() > 0) == used, name


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", FOREIGN)
def test_their_directory_loads_here_and_computes_the_same(name, case, tmp_path):
    theirs = transformers.XLNetLMHeadModel(FOREIGN[name]())
    scramble(theirs)
    theirs.save_pretrained(tmp_path)
    assert_same(load_model(load_checkpoint(tmp_path)), theirs, case, 1e-4)


@pytest.fixture
def sines_in_float64(monkeypatch):
    """transformers' sines, in float64: the only thing that it lowers."""
    kind = transformers.models.xlnet.modeling_xlnet.XLNetModel

    def sines(self, qlen, klen, bsz=None, device=None):
        distance = torch.arange(klen, -qlen, -1, dtype=torch.float64)
        if self.clamp_len > 0:
            distance = distance.clamp(-self.clamp_len, self.clamp_len)
        angle = torch.outer(distance, 10000 ** (-torch.arange(0, self.d_model, 2, dtype=torch.float64) / self.d_model))
        return torch.cat([angle.sin(), angle.cos()], -1)[:, None].expand(-1, bsz, -1)

    monkeypatch.setattr(kind, "relative_positional_encoding", sines)


@pytest.mark.usefixtures("sines_in_float64")
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", FOREIGN)
def test_in_float64_to_nine_places(name, case, tmp_path):
    theirs = transformers.XLNetLMHeadModel(FOREIGN[name]()).double()
    scramble(theirs)
    theirs.save_pretrained(tmp_path)
    assert_same(load_model(load_checkpoint(tmp_path)), theirs, case, 1e-9)


@pytest.mark.parametrize("name", FOREIGN)
def test_segment_by_segment_with_what_was_read_before(name, tmp_path):
    """Three segments of a text; the last is asked for three of its tokens. The memory is what transformers gives back."""
    theirs = transformers.XLNetLMHeadModel(FOREIGN[name]()).eval()
    scramble(theirs)
    theirs.save_pretrained(tmp_path)
    ours = load_model(load_checkpoint(tmp_path)).eval()
    memory, mems = ours.new_memory(), None
    for end in (5, 9, 13):
        ids_BT = IDS_BT[:, max(0, end - 4) : end]
        order = ReadingOrder(
            ranks_BT=torch.tensor([[1, 0, 3, 2], [0, 2, 1, 3]]), places_BP=torch.tensor([[0, 3, 2], [2, 1, 3]])
        )
        last = {"order": order} if end == 13 else {}
        words = permuted(order.ranks_BT, order.places_BP) if end == 13 else {}
        segments_BT = torch.ones_like(ids_BT) if end == 9 else None
        told = theirs(ids_BT, mems=mems, use_mems=True, token_type_ids=segments_BT, **words)
        found = ours(ids_BT, Context(earlier=memory, segments_BT=segments_BT, **last)).logits_BTV
        torch.testing.assert_close(found, told.logits, rtol=1e-4, atol=1e-4)
        mems = told.mems
        assert memory.length == len(mems[0]) > 0
        for held, mem in zip(memory.held, mems, strict=True):
            torch.testing.assert_close(held, mem.transpose(0, 1), rtol=1e-4, atol=1e-4)
    again = SegmentMemory(held=[mem.transpose(0, 1) for mem in mems])
    told = theirs(IDS_BT, mems=mems).logits
    torch.testing.assert_close(ours(IDS_BT, Context(earlier=again)).logits_BTV, told, rtol=1e-4, atol=1e-4)


def test_our_directory_loads_there_and_computes_the_same(tmp_path):
    ours = build(OURS, seed=1)
    scramble(ours)
    save_checkpoint(tmp_path / "model", config=OURS, weights=ours.state_dict(), tokenizer=None, info={})
    theirs, report = transformers.XLNetLMHeadModel.from_pretrained(tmp_path / "model", output_loading_info=True)
    assert theirs.config.model_type == "xlnet" and not any(report.values()), report
    assert_same(ours, theirs, "order-segments", 1e-4)
    assert load_checkpoint(tmp_path / "model").config == OURS


def test_the_next_token_is_what_their_generation_writes(tmp_path):
    theirs = transformers.XLNetLMHeadModel(FOREIGN["xlnet"]()).eval()
    scramble(theirs)
    theirs.save_pretrained(tmp_path)
    prompt = IDS_BT[:1, :6]
    written = theirs.generate(
        prompt, max_new_tokens=5, do_sample=False, use_mems=False, eos_token_id=None, pad_token_id=PAD
    )
    runner = build_runner(load_model(load_checkpoint(tmp_path)))
    sequence = runner.start(prompt[0].tolist(), max_length=20)
    for _ in range(5):
        sequence.extend([int(runner.read([sequence])[0].argmax())])
    assert sequence.ids == written[0].tolist()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("attn_type", "uni"), ("bi_data", True), ("untie_r", False), ("reuse_len", 4), ("d_head", 7), ("n_token", 9),
        ("clamp_len", 2.5), ("clamp_len", -2), ("mem_len", -1), ("ff_activation", "mish"), ("unheard_of", 3),
    ],
)  # fmt: skip
def test_what_is_not_built_is_an_error_that_names_the_key(key, value):
    values = {**transformers.XLNetConfig(**SIZES).to_dict(), key: value}
    with pytest.raises(ModelError, match=key):
        read_config(values, "config.json")


def test_every_key_of_their_configuration_is_known():
    """All fields of XLNetConfig at their defaults, and the keys of the published xlnet-base-cased and xlnet-large-cased."""
    read_config(json.loads(transformers.XLNetConfig().to_json_string(use_diff=False)), "config.json")
    published = {
        "architectures": ["XLNetLMHeadModel"], "attn_type": "bi", "bi_data": False, "bos_token_id": 1, "clamp_len": -1,
        "d_head": 64, "d_inner": 3072, "d_model": 768, "dropout": 0.1, "end_n_top": 5, "eos_token_id": 2,
        "ff_activation": "gelu", "initializer_range": 0.02, "layer_norm_eps": 1e-12, "mem_len": None, "model_type": "xlnet",
        "n_head": 12, "n_layer": 12, "pad_token_id": 5, "reuse_len": None, "same_length": False, "start_n_top": 5,
        "summary_activation": "tanh", "summary_last_dropout": 0.1, "summary_type": "last", "summary_use_proj": True,
        "task_specific_params": {"text-generation": {"do_sample": True, "max_length": 250}}, "untie_r": True,
        "vocab_size": 32000,
    }  # fmt: skip
    _, config = read_config(published, "config.json")
    assert (config.n_layers, config.d_model, config.context_length, config.tied_head) == (12, 768, 512, True)
