"""The choice of a model's runner: compiled loops where they can run, else torch."""

from __future__ import annotations

import copy
import importlib.util

import torch

from pellucid.engine.runners.query_runner import QueryRunner
from pellucid.engine.runners.runner import Runner
from pellucid.engine.runners.slot_runner import SlotRunner, has_fixed_shapes
from pellucid.engine.runners.slot_trial import keeps_bits
from pellucid.engine.runners.torch_runner import TorchRunner
from pellucid.engine.settings import EngineSettings
from pellucid.engine.slots import Bank
from pellucid.errors import EngineError
from pellucid.events import NULL, Event, Recorder
from pellucid.model.decoder import Decoder
from pellucid.model.device import DTYPES, memory_of
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
NUM_SLOTS = 16  # texts that one pass steps, unless their keys and values took more than
SHARE = 4  # a quarter of an accelerator's memory


def build_runner(model: Decoder, settings: EngineSettings = PLAIN, *, recorder: Recorder = NULL) -> Runner:
    """The fastest runner that these settings allow for this model on this machine.

    Compiled loops on a CPU, torch elsewhere, and for a model of two streams always. Raises EngineError when `kernels` is
    "on", or a number format was asked for, and the loops cannot run here; when `exact` is "on" and nothing here is.
    """
    obstacle = find_obstacle(model)
    wanted = settings.weights
    if settings.kernels != "off" and not obstacle:
        from pellucid.engine.runners.kernel_runner import build_kernel_runner  # Numba is optional

        weights = OWN_FORMAT.get(model.dtype, "fp32") if wanted == "auto" else wanted
        return build_kernel_runner(model, weights, num_threads=torch.get_num_threads(), recorder=recorder)
    own, continues = OWN_FORMAT.get(model.dtype), model.config.causal or model.config.streams is not None
    formats = DTYPES if model.device.type != "cpu" and not find_shape_obstacle(model) else {}
    if settings.kernels == "on" or wanted not in ("auto", own, *formats):
        raise EngineError(
            "the compiled loops cannot run this model here" if obstacle else "only compiled loops convert weights",
            found=obstacle or f"kernels={settings.kernels}, weights={wanted}",
            hint="leave kernels and weights at auto: torch then runs the model in the format it was loaded in",
        )
    if obstacle and settings.kernels == "auto" and continues:  # the loops are for nothing else
        message = f"torch runs the model: {obstacle}"
        recorder.record(Event(name="engine.torch_path", message=message, data={"reason": obstacle}))
    return QueryRunner(model) if model.config.streams else build_torch_runner(model, settings, recorder=recorder)


def build_torch_runner(model: Decoder, settings: EngineSettings, *, recorder: Recorder = NULL) -> Runner:
    """The runner that calls the model itself: on an accelerator in slots, on a CPU so where that is asked for.

    Raises EngineError when `exact` is "on" and the model cannot be run in fixed shapes.
    """
    on_cpu, obstacle = model.device.type == "cpu", find_shape_obstacle(model)
    if settings.exact == "on" and obstacle:
        raise EngineError(
            "torch cannot run this model in fixed shapes, so bits depend on what is beside a text",
            found=obstacle,
            hint="leave exact at auto",
        )
    if not has_slots(model) or (on_cpu and settings.exact == "auto"):
        return TorchRunner(model)
    exact = settings.exact == "on" or (settings.exact == "auto" and not obstacle)
    computed = in_format(model, settings.weights)
    num_slots = settings.slots or find_slots(computed)
    runner = SlotRunner(computed, exact=exact, num_slots=num_slots, origin=model, recorder=recorder)
    if exact and not keeps_bits(runner):
        if settings.exact == "on":
            found = "two slots gave one text different bits"
            raise EngineError("fixed shapes are not exact on this device", found=found, hint="leave exact at auto")
        message = f"bits may depend on what is beside a text: two slots of {model.device} gave one text different bits"
        recorder.record(Event(name="engine.not_exact", message=message, data={"device": str(model.device)}))
        return SlotRunner(computed, exact=False, num_slots=num_slots, origin=model, recorder=recorder)
    return runner


def has_slots(model: Decoder) -> bool:
    """Whether keys and values of its texts may lie side by side: beside an encoder each text looks at a source of its own."""
    return model.config.causal and model.config.encoder is None


def find_shape_obstacle(model: Decoder) -> str:
    """Why a model cannot be run in fixed shapes; empty when it can."""
    if not has_slots(model):
        return "each text looks at a source of its own" if model.config.encoder else "it continues no text"
    return "" if has_fixed_shapes(model.config) else "an expert reads as many rows as are sent to it"


def find_slots(model: Decoder) -> int:
    """How many texts one pass steps: a function of model and device alone, since with fixed shapes bits depend on it."""
    memory = memory_of(model.device)
    slot_bytes = Bank.num_bytes(model.config, num_slots=1, dtype=model.dtype)
    return NUM_SLOTS if memory is None else max(1, min(NUM_SLOTS, memory // SHARE // slot_bytes))


def in_format(model: Decoder, wanted: str) -> Decoder:
    """The model with its weights in that format (auto: fp32 becomes bf16 where CUDA has it): itself, or a copy on its device."""
    has_bf16 = model.device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    own = OWN_FORMAT.get(model.dtype, "auto")
    settled = ("bf16" if has_bf16 and own == "fp32" else own) if wanted == "auto" else wanted
    return model if settled == own else copy.deepcopy(model).to(DTYPES[settled]).eval()


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
