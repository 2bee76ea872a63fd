"""What a draft brings: how many guesses come true, and new tokens per second with it and without.

    python benchmarks/draft.py --run RUN --draft DRAFT [--threads 1] [--texts 20] [--tokens 100]

    models        parameters of both; milliseconds of a step of each, and of reading 2, 4, 8 and 16 tokens at once
    temperature   at 0 and at 1: beginnings of held-out documents are continued with the draft and without, in turn. The
                  texts must be equal; the share of guesses that came true, tokens to a reading, tokens per second

RUN is a run on documents, with its tokens beside it. Nothing is promised: whether a draft pays is a matter of how much
cheaper than the model's its step is.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

import pellucid
from pellucid import LanguageModel
from pellucid.data.prepare import open_prepared
from pellucid.planning.params import count_parameters

AT_ONCE = (2, 4, 8, 16)
PROMPT = 16  # tokens of a document to go on from
TRIES = 40


def main() -> None:
    given = parse()
    torch.set_num_threads(given.threads)
    lm, draft = pellucid.load(given.run), pellucid.load(given.draft)
    prompts = list(beginnings(given.run, given.texts))
    lm.complete(prompts[0], draft=draft, max_new_tokens=8)  # compiled before anything is timed
    report: dict[str, Any] = {
        "runner": lm.runner.name,
        "model": measure_model(lm, prompts[0]),
        "draft": measure_model(draft, prompts[0]),
    }
    for temperature in (0.0, 1.0):
        report[f"temperature {temperature:g}"] = measure_texts(lm, draft, prompts, temperature, given.tokens)
    print(json.dumps(report, indent=1))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--draft", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--texts", type=int, default=20)
    parser.add_argument("--tokens", type=int, default=100)
    return parser.parse_args()


def beginnings(run: Path, count: int) -> Iterator[list[int]]:
    """The first tokens of documents that were held out, spread over all of them."""
    valid = open_prepared(run / "data").valid
    if valid is None:
        raise SystemExit(f"{run} held no text out")
    for number in range(count):
        start = valid.document(number * valid.num_documents // count).start
        yield valid.tokens(start, start + PROMPT).tolist()


def measure_model(lm: LanguageModel, ids: Sequence[int]) -> dict[str, Any]:
    """The parameters of a model, and the best of many tries at each number of tokens read at once, in milliseconds."""
    runner, taken = lm.runner, {}
    for rows in (1, *AT_ONCE):
        sequence = runner.start(ids, max_length=lm.config.context_length)
        runner.read([sequence])
        best = float("inf")
        for _ in range(TRIES):
            sequence.truncate(len(ids))
            sequence.extend(list(ids[:1]) * rows)
            begin = time.perf_counter()
            runner.read([sequence]) if rows == 1 else runner.score(sequence)
            best = min(best, time.perf_counter() - begin)
        taken[f"{rows} at once"] = round(1000 * best, 3)
    return {"parameters": count_parameters(lm.config).total, "milliseconds": taken}


def measure_texts(
    lm: LanguageModel, draft: LanguageModel, prompts: Sequence[list[int]], temperature: float, tokens: int
) -> dict[str, Any]:
    """Continue each prompt without the draft and with it, in turn."""
    seconds, written, guessed = {"without": 0.0, "with": 0.0}, 0, []
    for seed, ids in enumerate(prompts):
        found = {}
        for name, more in (("without", {}), ("with", {"draft": draft})):
            begin = time.perf_counter()
            generation = lm.generate(ids, temperature=temperature, seed=seed, max_new_tokens=tokens, **more)
            found[name] = generation.complete().ids
            seconds[name] += time.perf_counter() - begin
        if found["with"] != found["without"]:
            raise SystemExit(f"the texts of seed {seed} differ")
        assert generation.guesser is not None, "a draft guesses"
        guessed.append(generation.guesser.stats)
        written += len(found["with"])
    proposed, accepted = (sum(getattr(one, f"num_{name}") for one in guessed) for name in ("proposed", "accepted"))
    readings = sum(one.num_readings for one in guessed)
    return {
        "tokens": written,
        "guesses that came true": f"{accepted} of {proposed}: {accepted / max(1, proposed):.0%}",
        "tokens to a reading": round((readings + accepted) / readings, 2),
        "tokens per second": {name: round(written / taken, 1) for name, taken in seconds.items()},
    }


if __name__ == "__main__":
    main()
