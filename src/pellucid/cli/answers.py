"""The answers to a file of prompts: `pellucid generate RUN --prompts FILE.jsonl --out FILE.jsonl`."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from pellucid.cli.common import as_trained, print_json
from pellucid.cli.language import tell, words
from pellucid.cli.watch import Watch
from pellucid.counts import counted
from pellucid.errors import EngineError

if TYPE_CHECKING:  # they load torch, which help does without
    from pellucid.engine.prompt_file import PromptLine
    from pellucid.engine.request import Request
    from pellucid.engine.sampling.settings import SamplingSettings
    from pellucid.language_model import LanguageModel
    from pellucid.settings import Resolved


def write_answers(
    lm: LanguageModel,
    prompts: Path,
    out: Path,
    asked: Request,
    resolved: Resolved[SamplingSettings],
    *,
    as_json: bool,
) -> None:
    """Answer a file of prompts. Of `asked` everything counts but its prompt; a line may have knobs of its own."""
    from pellucid.engine.prompt_file import answer_file, read_prompt_lines
    from pellucid.engine.transcript import hash_model

    def request_of(line: PromptLine) -> Request:
        prompt_ids, source_ids = _read(lm, line)
        sampling = _with_knobs(resolved, line.knobs)
        return dataclasses.replace(asked, prompt_ids=prompt_ids, source_ids=source_ids, sampling=sampling)

    lines = read_prompt_lines(prompts)
    tell(f"· runner: {lm.runner.name}", err=True)
    with Watch(quiet=as_json) as watch:
        done = answer_file(
            lm.runner,
            lm.tokenizer,
            lines,
            out,
            request_of=request_of,
            model_sha256=hash_model(lm.model),
            recorder=watch,
        )
    if as_json:
        print_json({**dataclasses.asdict(done), "out": str(out)})
    else:
        tell(f"· {counted(done.num_prompts, 'prompt')} answered: {out}", err=True)
    if done.num_failed:
        raise EngineError(
            "some prompts have no answer",
            found=words(counted(done.num_failed, "prompt"), err=True),
            where=str(out),
            hint='each such line says why, under "error"',
        )


def _read(lm: LanguageModel, line: PromptLine) -> tuple[list[int], list[int] | None]:
    """The ids of a line, as this model reads them."""
    from pellucid.engine.generate import sides
    from pellucid.language_model import check_source
    from pellucid.tokens.prompt import read_prompt

    text = as_trained(line.prompt, lm.checkpoint) if isinstance(line.prompt, str) else line.prompt
    check_source(lm.config, text)
    prompt_ids, source_ids = sides(
        lm.config, lm.tokenizer, read_prompt(text, lm.tokenizer, whole=lm.config.encoder is not None)
    )
    return list(prompt_ids), None if source_ids is None else list(source_ids)


def _with_knobs(resolved: Resolved[SamplingSettings], knobs: Mapping[str, object]) -> SamplingSettings:
    """The settings of the command line with the knobs of a line."""
    from pellucid.engine.sampling.settings import SamplingSettings
    from pellucid.settings import Layer, resolve, to_dict

    if not knobs:
        return resolved.settings
    return resolve(
        SamplingSettings, Layer("command line", to_dict(resolved.settings)), Layer("prompts", knobs)
    ).settings
