"""A file of prompts, answered into a file of answers, many side by side; after a break it goes on where it was.

    {"prompt": "Once upon", "max_new_tokens": 20}                          one line of the prompts
    {"number": 0, "prompt": "Once upon", "texts": [{"text": " a time", …}], "asked": "5f0c…"}      its answer

A line of the prompts holds a prompt, as text or as ids, and any knob of the sampler that is its own. Answers stand in
the order of the prompts, a line each. `asked` is the hash of all that an answer follows from: model, tokenizer, prompt
and settings. Going on, the answers that are there are compared with it: a file of other answers is never added to.

All lines are read and checked before the first is answered. What fails later (a stage that leaves no token) is the
answer of that prompt alone, under `error`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from pellucid.counts import counted
from pellucid.engine.choices import Choices
from pellucid.engine.generate import prepare, settle_seed
from pellucid.engine.request import Request, check_request
from pellucid.engine.runners.runner import Runner
from pellucid.engine.scheduler import Scheduler
from pellucid.engine.settings import SchedulerSettings
from pellucid.errors import InputError, PellucidError, RecordError, StoreError
from pellucid.events import NULL, Event, Recorder
from pellucid.files import append_line, replace_file
from pellucid.settings import to_dict
from pellucid.tokens.prompt import Prompt
from pellucid.tokens.tokenizer import Tokenizer
from pellucid.untrusted import parse_object

PLAIN = SchedulerSettings()


@dataclass(frozen=True, kw_only=True)
class PromptLine:
    """One line of a file of prompts: where it stands, the prompt, and the knobs of its own."""

    where: str
    prompt: Prompt
    knobs: Mapping[str, object]


@dataclass(frozen=True, kw_only=True)
class Answered:
    """What was done to a file of prompts."""

    num_prompts: int
    num_there: int  # of these, answered before
    num_failed: int  # of these, ended by an error of their own


def read_prompt_lines(path: Path) -> list[PromptLine]:
    """The prompts of a file of JSON lines. Raises InputError for a line that is none, or a file without any."""
    found = []
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise InputError("the prompts cannot be read", found=error.strerror or str(error), where=str(path)) from error
    for number, line in enumerate(lines, start=1):
        if line.strip():
            found.append(_read_line(line, f"{path}, line {number}"))
    if not found:
        raise InputError("there are no prompts", where=str(path), hint='a line for each: {"prompt": "Once upon"}')
    return found


def _read_line(line: bytes, where: str) -> PromptLine:
    try:
        values = parse_object(line)
    except ValueError as error:
        raise RecordError(
            "the line is no JSON object", found=str(error), where=where, hint='write it as {"prompt": "Once upon"}'
        ) from error
    prompt = values.pop("prompt", None)
    is_ids = isinstance(prompt, list) and all(type(one) is int for one in prompt)
    if not isinstance(prompt, str) and not is_ids:
        raise RecordError(
            "the line has no prompt",
            found=", ".join(values) or "nothing",
            where=where,
            hint='"prompt" is a text, or a list of ids',
        )
    return PromptLine(where=where, prompt=prompt, knobs=values)  # type: ignore[arg-type]  # a text or whole numbers


def answer_file(
    runner: Runner,
    tokenizer: Tokenizer,
    lines: Sequence[PromptLine],
    out: Path,
    *,
    request_of: Callable[[PromptLine], Request],
    model_sha256: str,
    settings: SchedulerSettings = PLAIN,
    recorder: Recorder = NULL,
) -> Answered:
    """Answer prompts into a file, or go on with it. `request_of` makes the request of a line.

    Raises the errors of a line with its place; StoreError for a file of other answers.
    """
    requests = []
    for line in lines:
        try:
            requests.append(request_of(line))
            check_request(runner.config, requests[-1])
        except PellucidError as error:
            error.where = f"{line.where}; {error.where}" if error.where else line.where
            raise
    marks = [_mark(request, model_sha256, tokenizer) for request in requests]
    if not out.exists():
        replace_file(out, b"")  # before the work, so that its result has a place
    there = read_answers(out, marks)
    if there:
        message = f"{counted(len(there), 'answer')} of {len(marks)} are there already"
        recorder.record(Event(name="engine.answers_there", message=message, data={"there": len(there)}))
    num_failed = sum("error" in answer for answer in there)
    own = runner.set_aside(None)
    for number, answer in _answers(own, tokenizer, requests, len(there), settings, recorder):
        record = {"number": number, "prompt": lines[number].prompt, **answer, "asked": marks[number]}
        append_line(out, json.dumps(record, ensure_ascii=False))
        num_failed += "error" in answer
    return Answered(num_prompts=len(lines), num_there=len(there), num_failed=num_failed)


def read_answers(out: Path, marks: Sequence[str]) -> list[Mapping[str, object]]:
    """The answers that a file holds already; a last line that was cut short is taken out.

    Raises StoreError when they are not the answers to these requests, in their order.
    """
    data = out.read_bytes()
    whole = data[: data.rfind(b"\n") + 1]
    if len(whole) < len(data):
        replace_file(out, whole)
    found: list[Mapping[str, object]] = []
    for number, line in enumerate(whole.splitlines()):
        try:
            values = parse_object(line)
        except ValueError:
            values = {}
        if number >= len(marks) or (values.get("number"), values.get("asked")) != (number, marks[number]):
            raise StoreError(
                "the file holds answers to other prompts, of another model or with other settings",
                found=f"line {number + 1} was not asked like this",
                where=str(out),
                hint="write to a new file, or ask as before to go on with this one",
            )
        found.append(values)
    return found


def _answers(
    runner: Runner,
    tokenizer: Tokenizer,
    requests: Sequence[Request],
    first: int,
    settings: SchedulerSettings,
    recorder: Recorder,
) -> Iterator[tuple[int, Mapping[str, object]]]:
    """The answers from a number on, in order. Twice as many are begun as run, so that nobody's place stays empty."""
    scheduler, jobs, done = Scheduler(runner, settings, recorder=recorder), dict[int, Choices](), first
    next_number = first
    while done < len(requests):
        while next_number < len(requests) and len(jobs) < 2 * settings.max_running:
            request = requests[next_number]
            settled = replace(request, sampling=settle_seed(request.sampling))  # the answer tells its seed
            jobs[next_number] = Choices(prepare(runner, tokenizer, settled, recorder=recorder))
            scheduler.add(jobs[next_number])
            next_number += 1
        scheduler.step()
        while (job := jobs.get(done)) is not None and (job.is_over or job.error is not None):
            yield done, _answer(jobs.pop(done))
            done += 1
            progress = {"label": "answering", "done": done, "total": len(requests)}
            message = f"{done} of {counted(len(requests), 'prompt')} answered"
            recorder.record(Event(name="engine.progress", message=message, data=progress))


def _answer(job: Choices) -> Mapping[str, object]:
    try:
        return {"texts": [asdict(completion) for completion in job.complete()]}
    except Exception as error:  # a caller's stage may raise anything; the others go on
        return {"error": str(error)}


def _mark(request: Request, model_sha256: str, tokenizer: Tokenizer) -> str:
    """The hash of all that an answer follows from."""
    asked = {
        "model": model_sha256,
        "tokenizer": tokenizer.sha256,
        "prompt_ids": list(request.prompt_ids),
        "source_ids": None if request.source_ids is None else list(request.source_ids),
        "sampling": to_dict(request.sampling),
        "constraint": None if request.constraint is None else to_dict(request.constraint),
        "num_choices": request.num_choices,
    }
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:16]
