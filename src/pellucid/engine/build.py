"""Which runner a model gets."""

from __future__ import annotations

import importlib.util

import torch

from pellucid.engine.runner import Runner
from pellucid.engine.settings import EngineSettings
from pellucid.engine.torch_runner import TorchRunner
from pellucid.errors import EngineError
from pellucid.events import NULL, Event, Recorder
from pellucid.model.decoder import Decoder

PLAIN = EngineSettings()
OWN_FORMAT = {torch.float32: "fp32", torch.bfloat16: "bf16"}


def build_runner(model: Decoder, settings: EngineSettings = PLAIN, *, recorder: Recorder = NULL) -> Runner:
    """The fastest runner that these settings allow for this model on this machine.

    Compiled loops on a CPU, torch elsewhere. Raises EngineError when `kernels` is "on", or a number format was asked
    for, and the loops cannot run here.
    """
    obstacle = find_obstacle(model)
    wanted = settings.weights
    if settings.kernels != "off" and not obstacle:
        from pellucid.engine.kernel_runner import build_kernel_runner  # Numba is optional

        weights = OWN_FORMAT.get(model.embed.weight.dtype, "fp32") if wanted == "auto" else wanted
        return build_kernel_runner(model, weights, num_threads=torch.get_num_threads(), recorder=recorder)
    own = OWN_FORMAT.get(model.embed.weight.dtype)
    if settings.kernels == "on" or wanted not in ("auto", own):
        raise EngineError(
            "the compiled loops cannot run this model here" if obstacle else "only compiled loops convert weights",
            found=obstacle or f"kernels={settings.kernels}, weights={wanted}",
            hint="leave kernels and weights at auto: torch then runs the model in the format it was loaded in",
        )
    if obstacle and settings.kernels == "auto":
        message = f"torch runs the model: {obstacle}"
        recorder.record(Event(name="engine.torch_path", message=message, data={"reason": obstacle}))
    return TorchRunner(model)


def find_obstacle(model: Decoder) -> str:
    """Why the compiled loops cannot run a model; empty when they can."""
    device = model.embed.weight.device
    if device.type != "cpu":
        return f"the model is on {device}, the loops are for a CPU"
    if importlib.util.find_spec("numba") is None:
        return "Numba is not installed"
    if not model.config.causal:
        return "the model sees the whole row at once"
    return "" if model.config.head_dim <= 512 else f"head_dim={model.config.head_dim} is above 512"
