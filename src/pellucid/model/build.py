"""Build a model from its `ModelConfig`, with freshly initialised weights or with none yet."""

from __future__ import annotations

import torch

from pellucid.model.decoder import Decoder
from pellucid.model.init import init_weights
from pellucid.model.position import PositionTable
from pellucid.model.two_streams import TwoStreams
from pellucid.planning.config import ModelConfig


def build(
    config: ModelConfig, *, seed: int, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
) -> Decoder:
    """A model with freshly initialised weights: equal seeds give equal weights on every device.

    >>> config = ModelConfig(vocab_size=10, context_length=8, n_layers=1, n_heads=2, n_kv_heads=1, head_dim=4, d_model=8, d_ff=16)
    >>> build(config, seed=1)(torch.tensor([[1, 2, 3]])).logits_BTV.shape
    torch.Size([1, 3, 10])
    """
    model = build_unfilled(config, device="cpu", dtype=torch.float32)
    init_weights(model, config, seed)
    return model.to(device=device, dtype=dtype)


def build_unfilled(config: ModelConfig, *, device: torch.device | str, dtype: torch.dtype) -> Decoder:
    """A model whose parameters are not initialised: the caller fills them. On the device "meta" they are only shapes.

    It is first made on the meta device, so that torch's own initialisation costs nothing and touches no random state.
    """
    with torch.device("meta"):
        model = TwoStreams(config) if config.streams else Decoder(config)
    model.to(dtype=dtype).to_empty(device=device)
    with torch.device(device):
        for table in (module for module in model.modules() if isinstance(module, PositionTable)):
            table.reset_buffers()
    return model
