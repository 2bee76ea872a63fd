"""The transcript of a generation: all that led to a text, in one file, so that anybody can reproduce and check it.

    format, version     what kind of file this is; another version is refused, not guessed at
    model, tokenizer    their SHA-256: of the weights as they were used, of `tokenizer.json`
    runner, exact       who read the model, and whether its bits depend on the ids alone
    sampling            every setting of the sampler, the seed among them
    constraint          the form that was asked for, or null
    prompt_ids          what the model read first
    source_ids          what its encoder read, or null
    steps               for each token its id, its text and its whole account (see `account`)
    finish_reason       why it ended

It is JSON with nothing in it but values. It is not a recording of tensors, and not a log of what a run did to others:
`follow` makes the text afresh and compares.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from pellucid import __version__
from pellucid.counts import counted
from pellucid.engine.constraints.settings import ConstraintSettings
from pellucid.engine.generate import Generation
from pellucid.engine.request import Request
from pellucid.engine.sampling.settings import SamplingSettings
from pellucid.engine.step import Step
from pellucid.errors import CorruptFileError, RequestError
from pellucid.files import replace_file
from pellucid.model.decoder import Decoder
from pellucid.settings import Layer, resolve, to_dict
from pellucid.store.checkpoint import TRAINING_AXES
from pellucid.tokens.tokenizer import Tokenizer
from pellucid.untrusted import read_object

FORMAT, VERSION = "pellucid-trace", 1


@dataclass(frozen=True, kw_only=True)
class Transcript:
    """One generation and everything it was made from."""

    model_sha256: str
    tokenizer_sha256: str
    runner: str
    exact: bool
    sampling: Mapping[str, Any]
    constraint: Mapping[str, Any] | None
    prompt_ids: tuple[int, ...]
    steps: tuple[Mapping[str, Any], ...]
    finish_reason: str
    source_ids: tuple[int, ...] | None = None
    made_by: str = f"pellucid {__version__}"

    @property
    def request(self) -> Request:
        """What was asked, so that it can be asked again."""
        sampling = resolve(SamplingSettings, Layer("trace", self.sampling)).settings
        constraint = resolve(ConstraintSettings, Layer("trace", self.constraint)).settings if self.constraint else None
        return Request(prompt_ids=self.prompt_ids, source_ids=self.source_ids, sampling=sampling, constraint=constraint)


def check_finished(steps: Sequence[Step], request: Request) -> None:
    """Raise RequestError for steps or a request that no trace can be made of."""
    if not steps or any(step.account is None for step in steps):
        raise RequestError(
            "a trace is made of explained steps",
            found=f"{counted(len(steps), 'step')}, {sum(step.account is None for step in steps)} without an account",
            hint="give all steps of lm.generate(prompt, explain=True)",
        )
    if steps[-1].finish_reason is None:
        raise RequestError("the generation has not ended", hint="go through all its steps first")
    if request.sampling.seed is None and not request.sampling.greedy:
        raise RequestError(
            "the seed of this request is not known",
            hint="give generation.request, which has the seed that was drawn",
        )


def build_transcript(steps: Iterable[Step], request: Request, tokenizer: Tokenizer, *, model_sha256: str) -> Transcript:
    """Write down a finished generation whose steps carry their accounts; its request with the seed that was used."""
    steps = list(steps)
    accounts = [step.account for step in steps if step.account]
    assert len(accounts) == len(steps), "a trace is made of explained steps"
    assert steps[-1].finish_reason is not None, "the generation has not ended"
    return Transcript(
        model_sha256=model_sha256,
        tokenizer_sha256=tokenizer.sha256,
        runner=accounts[0].reading.runner,
        exact=accounts[0].reading.exact,
        sampling=to_dict(request.sampling),
        constraint=to_dict(request.constraint) if request.constraint else None,
        prompt_ids=tuple(request.prompt_ids),
        source_ids=None if request.source_ids is None else tuple(request.source_ids),
        steps=tuple({"text": s.text, **a.to_dict(), "token": a.text} for s, a in zip(steps, accounts, strict=True)),
        finish_reason=steps[-1].finish_reason,
    )


def save_transcript(transcript: Transcript, path: Path) -> None:
    """Write a trace as JSON, at once or not at all."""
    document = {"format": FORMAT, "version": VERSION, **{f.name: getattr(transcript, f.name) for f in _fields()}}
    replace_file(Path(path), json.dumps(document, ensure_ascii=False, indent=1, allow_nan=False).encode("utf-8"))


def load_transcript(path: Path) -> Transcript:
    """Read a transcript. Raises CorruptFileError for a file that is none, or one of another version."""
    document = read_object(Path(path))
    if document.get("format") != FORMAT:
        raise CorruptFileError("this file is not a trace", where=str(path), hint="make one with --save-trace FILE")
    if document.get("version") != VERSION:
        raise CorruptFileError(
            "the trace has another version", found=str(document.get("version")), where=f"{path}, expected {VERSION}"
        )
    values: dict[str, Any] = {f.name: document.get(f.name) for f in _fields()}
    fault = ", ".join(name for name, value in values.items() if not isinstance(value, KINDS[name]))
    source = values["source_ids"]
    if not fault and not all(type(i) is int for i in [*values["prompt_ids"], *(source or ()), *_ids(values["steps"])]):
        fault = "a token without its id"
    if fault or not values["steps"]:
        raise CorruptFileError("the trace is damaged", found=fault or "no steps", where=str(path))
    return Transcript(
        **{
            **values,
            "prompt_ids": tuple(values["prompt_ids"]),
            "source_ids": source and tuple(source),
            "steps": tuple(values["steps"]),
        }
    )


def check_origin(transcript: Transcript, *, model_sha256: str, tokenizer: Tokenizer) -> None:
    """Raise RequestError unless a trace was made with this model and this tokenizer."""
    for what, told, found in (
        ("model", transcript.model_sha256, model_sha256),
        ("tokenizer", transcript.tokenizer_sha256, tokenizer.sha256),
    ):
        if told != found:
            raise RequestError(
                f"the trace was made with another {what}",
                found=f"SHA-256 {found[:16]}…",
                where=f"the trace says {told[:16]}…",
                hint="replay it on the files it was made from, in the same number format",
            )


def follow(transcript: Transcript, generation: Generation) -> Iterator[Step]:
    """Pass on the steps of a new generation as long as they are those of the trace.

    Raises RequestError at the first token that is another one, or when one of the two ends before the other.
    """
    made, runner = 0, generation.runner.name
    for made, step in enumerate(generation, 1):
        told = transcript.steps[made - 1] if made <= len(transcript.steps) else None
        if told is None or told["id"] != step.id:
            raise _differ(
                transcript, made, f"token {step.id}, the trace has {told['id'] if told else 'no more'}", runner
            )
        yield step
    if made < len(transcript.steps):
        raise _differ(transcript, made + 1, f"an end, the trace has token {transcript.steps[made]['id']}", runner)


class Replayed:
    """A text that is made again from its trace: an iterator of steps, each compared with the trace's (see `follow`)."""

    def __init__(self, transcript: Transcript, generation: Generation) -> None:
        """`generation` makes the steps; its request is the trace's."""
        self.generation = generation
        self._steps = follow(transcript, generation)

    def __iter__(self) -> Replayed:
        return self

    def __next__(self) -> Step:
        return next(self._steps)


def hash_model(model: Decoder) -> str:
    """The SHA-256 of a model as it is used: its axes and every weight in its number format."""
    axes = {name: value for name, value in to_dict(model.config).items() if name not in TRAINING_AXES}
    digest = hashlib.sha256(json.dumps(axes, sort_keys=True).encode())
    for name, weight in model.state_dict().items():
        digest.update(f"\n{name} {weight.dtype} {tuple(weight.shape)}\n".encode())
        digest.update(weight.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def _differ(transcript: Transcript, number: int, found: str, runner: str) -> RequestError:
    hint = "the trace was not made by an exact runner: another number of threads or another machine may round otherwise"
    return RequestError(
        f"the text is not that of the trace: new token {number} differs",
        found=found,
        where=f"runner: {runner}; the trace: {transcript.runner}",
        hint=hint if not transcript.exact else "",
    )


def _ids(steps: Iterable[object]) -> Iterator[object]:
    return (step.get("id") if isinstance(step, Mapping) else None for step in steps)


def _fields() -> tuple[dataclasses.Field, ...]:
    return dataclasses.fields(Transcript)


KINDS: dict[str, type | tuple[type, ...]] = {
    "model_sha256": str,
    "tokenizer_sha256": str,
    "runner": str,
    "exact": bool,
    "sampling": dict,
    "constraint": (dict, type(None)),
    "prompt_ids": list,
    "source_ids": (list, type(None)),
    "steps": list,
    "finish_reason": str,
    "made_by": str,
}
