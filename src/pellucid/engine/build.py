"""Which runner a model gets."""

from __future__ import annotations

from pellucid.engine.runner import Runner
from pellucid.engine.settings import EngineSettings
from pellucid.engine.torch_runner import TorchRunner
from pellucid.events import NULL, Recorder
from pellucid.model.decoder import Decoder

PLAIN = EngineSettings()


def build_runner(model: Decoder, settings: EngineSettings = PLAIN, *, recorder: Recorder = NULL) -> Runner:
    """The fastest runner that these settings allow for this model on this machine."""
    return TorchRunner(model)
