"""The choice of a model's runner: compiled loops where they can run, else torch."""

from __future__ import annotations

import importlib.util

import torch

from pellucid.engine.runners.query_runner import QueryRunner
from pellucid.engine.runners.runner import Runner
from pellucid.engine.runners.torch_runner import TorchRunner
from pellucid.engine.settings import EngineSettings
from pellucid.errors import EngineError
from pellucid.events import NULL, Event, Recorder
from pellucid.model.decoder import Decoder
from pellucid.planning.axes import ANY, SIZES, TRAINING, Axes, misfits

PLAIN = EngineSettings()
# What the compiled loops can compute; everything else runs in torch.
LOOPS_KNOW: Axes = {
    **SIZES,
    **TRAINING,
    "position.kind": ("none", "learned", "sinusoidal", "rotary"),
    "position.theta": ANY,
    "position.window_theta": ANY,
    "position.skipped": ANY,
    "position.first": ANY,
    "position.halves": (False, True),
    "position.scaling.kind": ("none", "linear", "llama3", "yarn"),
    "position.scaling.factor": ANY,
    "position.scaling.low_frequency": ANY,
    "position.scaling.high_frequency": ANY,
    "position.scaling.original_context": ANY,
    "position.scaling.attention_factor": ANY,
    "attention.qk_norm": (False, True),
    "attention.qkv_bias": (False, True),
    "attention.output_bias": (False, True),
    "attention.scale": ANY,
    "attention.softcap": ANY,
    "attention.window.size": ANY,
    "attention.window.layers": ANY,
    "feed_forward.kind": ("gelu", "gelu_tanh", "relu", "silu", "relu2", "swiglu", "geglu", "geglu_tanh"),
    "feed_forward.bias": (False, True),
    "feed_forward.experts.count": ANY,
    "feed_forward.experts.active": ANY,
    "feed_forward.experts.width": ANY,
    "feed_forward.experts.normalised": (False, True),
    "feed_forward.experts.layers": ANY,
    "feed_forward.experts.balance": ANY,
    "norm.kind": ("layer", "layer_no_bias", "rms"),
    "norm.eps": ANY,
    "norm.placement": ("before", "around"),
    "norm.one_plus": (False, True),
    "embedding.scaled": (False, True),
    "head.bias": (False, True),
    "head.softcap": ANY,
    "tied_head": (False, True),
    "causal": (True,),
}
WIDEST_HEAD = 512
OWN_FORMAT = {torch.float32: "fp32", torch.bfloat16: "bf16"}


def build_runner(model: Decoder, settings: EngineSettings = PLAIN, *, recorder: Recorder = NULL) -> Runner:
    """The fastest runner that these settings allow for this model on this machine.

    Compiled loops on a CPU, torch elsewhere, and for a model of two streams always. Raises EngineError when `kernels` is
    "on", or a number format was asked for, and the loops cannot run here.
    """
    obstacle = find_obstacle(model)
    wanted = settings.weights
    if settings.kernels != "off" and not obstacle:
        from pellucid.engine.runners.kernel_runner import build_kernel_runner  # Numba is optional

        weights = OWN_FORMAT.get(model.dtype, "fp32") if wanted == "auto" else wanted
        return build_kernel_runner(model, weights, num_threads=torch.get_num_threads(), recorder=recorder)
    own = OWN_FORMAT.get(model.dtype)
    if settings.kernels == "on" or wanted not in ("auto", own):
        raise EngineError(
            "the compiled loops cannot run this model here" if obstacle else "only compiled loops convert weights",
            found=obstacle or f"kernels={settings.kernels}, weights={wanted}",
            hint="leave kernels and weights at auto: torch then runs the model in the format it was loaded in",
        )
    continues = model.config.causal or model.config.streams is not None  # the loops are for nothing else
    if obstacle and settings.kernels == "auto" and continues:
        message = f"torch runs the model: {obstacle}"
        recorder.record(Event(name="engine.torch_path", message=message, data={"reason": obstacle}))
    return QueryRunner(model) if model.config.streams else TorchRunner(model)


def find_obstacle(model: Decoder) -> str:
    """Why the compiled loops cannot run a model; empty when they can."""
    device = model.device
    if device.type != "cpu":
        return f"the model is on {device}, the loops are for a CPU"
    if importlib.util.find_spec("numba") is None:
        return "Numba is not installed"
    if beyond := misfits(model.config, LOOPS_KNOW):
        return f"the loops do not know {', '.join(beyond)}"
    return "" if model.config.head_dim <= WIDEST_HEAD else f"head_dim={model.config.head_dim} is above {WIDEST_HEAD}"
