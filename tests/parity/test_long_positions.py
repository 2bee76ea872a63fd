"""Positions far beyond those first trained on: with every way of slowing rotations down, the same as transformers.

A few tokens at positions up to 8,191, whose angles are what differs: logits in float32 to 1e-4, at once and through a
cache. Blocks with a window count places, and see every one of these tokens.
"""

from __future__ import annotations

import pytest
import torch
import transformers
from foreign_decoders import LLAMA_LIKE
from scrambled import scramble

from pellucid.model.context import Context
from pellucid.store.checkpoint import load_checkpoint, load_model

CONTEXT_LENGTH, ORIGINAL = 8192, 512
LONG = {**LLAMA_LIKE, "max_position_embeddings": CONTEXT_LENGTH, "head_dim": 16}
BASE = {"rope_theta": 500.0, "factor": 16.0}
YARN = {**BASE, "rope_type": "yarn", "original_max_position_embeddings": ORIGINAL}
LLAMA3 = {
    **BASE, "rope_type": "llama3", "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": ORIGINAL,
}  # fmt: skip
MODELS = {
    "unscaled": lambda: transformers.LlamaConfig(**LONG),
    "linear": lambda: transformers.LlamaConfig(**LONG, rope_parameters={**BASE, "rope_type": "linear"}),
    "llama3": lambda: transformers.LlamaConfig(**LONG, rope_parameters=LLAMA3),
    "yarn": lambda: transformers.LlamaConfig(**LONG, rope_parameters=YARN),
    "yarn-other-ends-and-factor": lambda: transformers.Qwen3Config(
        **LONG, rope_parameters={**YARN, "beta_fast": 8.0, "beta_slow": 2.0, "attention_factor": 1.3}
    ),
    "two-bases-one-slowed": lambda: transformers.Gemma3TextConfig(
        **LONG, sliding_window=64, layer_types=["sliding_attention", "full_attention", "sliding_attention"],
        rope_parameters={
            "full_attention": {**BASE, "rope_type": "linear"},
            "sliding_attention": {"rope_type": "default", "rope_theta": 77.0},
        },
    ),
    "some-not-rotated": lambda: transformers.SmolLM3Config(
        **LONG, no_rope_layers=[1, 0, 1], pad_token_id=None, rope_parameters=YARN
    ),
}  # fmt: skip
POSITIONS_BT = torch.tensor(
    [[0, 1, 511, 512, 4095, 4096, 5000, 8190, 8191], [3, 700, 701, 702, 2048, 4097, 6000, 6001, 7777]]
)
IDS_BT = torch.randint(0, 37, (2, 9), generator=torch.Generator().manual_seed(7))


@pytest.mark.parametrize("name", MODELS)
def test_far_positions_are_those_of_transformers(name, tmp_path):
    theirs = transformers.AutoModelForCausalLM.from_config(MODELS[name]()).eval()
    scramble(theirs)
    theirs.save_pretrained(tmp_path)
    ours = load_model(load_checkpoint(tmp_path)).eval()
    with torch.inference_mode():
        seen_BT = torch.ones_like(IDS_BT)  # said: else transformers takes a leap in positions for another document
        expected_BTV = theirs(IDS_BT, attention_mask=seen_BT, position_ids=POSITIONS_BT).logits
        near_BTV = theirs(IDS_BT, attention_mask=seen_BT).logits
        found_BTV = ours(IDS_BT, Context(positions_BT=POSITIONS_BT)).logits_BTV
        cache = ours.new_cache(9, batch_size=2)
        steps = [
            ours(IDS_BT[:, t:end], Context(cache=cache, positions_BT=POSITIONS_BT[:, t:end])).logits_BTV
            for t, end in ((0, 5), (5, 6), (6, 9))
        ]
    assert (near_BTV - expected_BTV).abs().max() > 0.1  # the positions matter to these weights
    torch.testing.assert_close(found_BTV, expected_BTV, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(torch.cat(steps, 1), expected_BTV, rtol=1e-4, atol=1e-4)
