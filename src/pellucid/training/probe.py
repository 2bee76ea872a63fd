"""Probes: record what the model computes for the same texts at some steps, within a budget of time and of bytes.

    due     steps chosen before the run: close together at its beginning, where most is learned, then evenly spread
            (`training.moments`, which snapshots share)
    time    spent + cost of one more < share · (time that the run will take) · (1 + progress) / 2
    bytes   the first probe shows how large one is; only as many steps stay due as fit

Half of the time may be spent at once, the rest as the run goes on. Skipped probes are counted and reported. A probe
changes nothing: it draws no random number and leaves weights and mode as they are. It reads the weights that the model
computes with.

Axes: B = 1 row · T positions · V vocabulary · D width · L layers · H heads.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from pellucid.counts import counted
from pellucid.errors import SettingsError
from pellucid.events import NULL, Event, Recorder
from pellucid.model.decoder import Decoder
from pellucid.model.device import inference
from pellucid.model.recording import record
from pellucid.store.envelope import Quantized, to_8_bits
from pellucid.store.probes import forget_probes, list_probes, pack_probe, save_probe
from pellucid.tokens.tokenizer import Tokenizer
from pellucid.training.moments import due_steps, thin_out
from pellucid.training.settings import ProbeSettings

FIRST_SECONDS = 0.05  # the assumed cost of a probe before the first one, so that very short runs have none


class Probes:
    """The probes that one process makes of its run."""

    def __init__(
        self,
        run: Path,
        model: Decoder,
        tokenizer: Tokenizer,
        settings: ProbeSettings,
        *,
        start: int,
        steps: int,
        estimated_seconds: float,
        recorder: Recorder = NULL,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        """`start` is the step that training continues from; probes of an earlier process after it are removed."""
        self.run, self.model, self.settings, self.recorder, self.clock = run, model, settings, recorder, clock
        self.start, self.steps = start, steps
        self.seconds_per_step = estimated_seconds / steps
        self.texts = {text: tokenizer.encode_prompt(text) for text in settings.texts}
        self._check_lengths()
        forget_probes(run, after_step=start)
        self.num_bytes = sum(saved.num_bytes for saved in list_probes(run))
        kept = {saved.step for saved in list_probes(run)}
        self.due = [s for s in due_steps(steps, every=settings.every_steps) if s >= start and s not in kept]
        self.seconds, self.cost, self.elapsed = 0.0, FIRST_SECONDS, 0.0
        self.kept: list[int] = []
        self.skipped: list[int] = []

    def _check_lengths(self) -> None:
        for text, ids in self.texts.items():
            if not 2 <= len(ids) <= self.model.config.context_length:
                raise SettingsError(
                    "this text cannot be a probe", found=f"{counted(len(ids), 'token')}: {text[:40]!r}", where="probe.texts",
                    hint=f"give one of 2 to {self.model.config.context_length} tokens, which is what the model holds",
                )  # fmt: skip

    def look(self, step: int, elapsed_seconds: float) -> None:
        """Probe the model, if this step is due and the budget allows it; this process has trained `elapsed_seconds`."""
        self.elapsed = elapsed_seconds
        if step not in self.due:
            return
        if not self._affordable(step, elapsed_seconds):
            self.skipped.append(step)
            return
        begun = self.clock()
        arrays: dict[str, np.ndarray | Quantized] = {}
        for number, ids in enumerate(self.texts.values()):
            arrays |= {f"{number}.{name}": array for name, array in see(self.model, ids).items()}
        texts = [{"text": text, "ids": ids} for text, ids in self.texts.items()]
        data = pack_probe(step, texts, arrays)
        if not self.kept:
            self._fit_bytes(step, len(data))
        if step in self.due:
            save_probe(self.run, step, data)
            self.num_bytes += len(data)
            self.kept.append(step)
        self.cost = self.clock() - begun
        self.seconds += self.cost

    def _affordable(self, step: int, elapsed_seconds: float) -> bool:
        if self.settings.seconds_share >= 1:
            return True
        done, planned = step - self.start, max(1, self.steps - self.start)
        per_step = elapsed_seconds / done if done else self.seconds_per_step
        allowed = self.settings.seconds_share * per_step * planned * (1 + done / planned) / 2
        return self.seconds + self.cost < allowed

    def _fit_bytes(self, step: int, num_bytes: int) -> None:
        """Keep only as many steps due as fit into the bytes, given the size of one probe."""
        due = [later for later in self.due if later >= step]
        fitting = thin_out(due, (self.settings.max_bytes - self.num_bytes) // num_bytes)
        if len(fitting) < len(due):
            message = (
                f"probes: one takes {num_bytes:,} bytes, so only {len(fitting)} of {len(due)} fit into"
                f" probe.max_bytes={self.settings.max_bytes:,}"
            )
            data = {"bytes_each": num_bytes, "due": len(due), "fitting": len(fitting)}
            self.recorder.record(Event(name="training.probes_thinned", message=message, data=data))
        self.due = fitting

    def resize(self, steps: int) -> None:
        """Adapt to a new length of the run: its new last step is due instead of the old one."""
        self.due = sorted({step for step in self.due if step < steps and step != self.steps} | {steps})
        self.steps = steps

    def close(self) -> None:
        """Report how many probes were kept and skipped, and what they cost."""
        if not self.kept and not self.skipped:
            return
        share = self.seconds / max(self.elapsed, 1e-9)
        message = f"probes: {len(self.kept)} kept ({self.num_bytes:,} bytes, {share:.2%} of the time)"
        if self.skipped:
            message += (
                f", {len(self.skipped)} passed over to stay under probe.seconds_share={self.settings.seconds_share}"
            )
        data = {
            "kept": self.kept,
            "skipped": self.skipped,
            "seconds": round(self.seconds, 3),
            "share": share,
            "bytes": self.num_bytes,
        }
        self.recorder.record(Event(name="training.probed", message=message, data=data))


def see(model: Decoder, ids: Sequence[int]) -> dict[str, np.ndarray | Quantized]:
    """The arrays of one text that a probe records, as `store.probes` describes them."""
    row = torch.tensor(ids, device=model.device)
    with inference():
        taps = record(model, row[None])
        logits_TV = taps["logits"][0].float()
        stream = [taps["input"], *(taps[f"blocks.{layer}.output"] for layer in range(model.config.n_layers))]
        layers = [taps[f"blocks.{layer}.attention.weights"][0] for layer in range(model.config.n_layers)]
        surprise_T = F.cross_entropy(logits_TV[:-1], row[1:], reduction="none")
        return {
            "logits": numbers(logits_TV[-1]),
            "surprise": numbers(surprise_T),
            "guess": logits_TV.argmax(-1).to(torch.int32).cpu().numpy(),
            "norms": numbers(torch.stack([x_BTD[0].float().norm(dim=-1) for x_BTD in stream])),
            "weights": to_8_bits(numbers(torch.stack(layers))),
            "embed": numbers(model.embed.weight[row]),
        }


def numbers(tensor: Tensor) -> np.ndarray:
    """A tensor as float32 numbers, which hold half-precision values exactly."""
    return tensor.float().cpu().numpy()
