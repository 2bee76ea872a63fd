"""Our side of the contests: this project's engine behind the protocol of `peers.py`.

    python ours.py DIR --weights fp32|bf16|int8|int4 --threads N [--kernels auto|on|off]

Beside `prefill`, `decode`, `greedy` and `memory` (described there) it answers

    decode with "batch": b       b prompts of unequal length at once; the tokens of all count
    generate with "explain"      tokens per second of the whole `generate`, with or without the account
    serve                        also the share of the time outside the model, and the bytes of keys and values
    copy with "lookup"           the same after a given text, with or without prompt lookup
    facts                        the runner's name, the bytes read for each token

`decode` is the bare runner; `generate` is the public function. The model is loaded in the number format it runs in
(int8 and int4 from bf16).
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from typing import Any

import torch

from pellucid.engine import bench
from pellucid.engine.bench_requests import measure_requests
from pellucid.engine.generate import generate
from pellucid.engine.request import Request
from pellucid.engine.runners.build import build_runner
from pellucid.engine.sampling.settings import SamplingSettings
from pellucid.engine.settings import EngineSettings, SpeculationSettings
from pellucid.store.checkpoint import load_checkpoint, load_model

Answer = dict[str, Any]


class Pellucid:
    """One runner on one model."""

    def __init__(self, given: argparse.Namespace) -> None:
        torch.set_num_threads(given.threads)
        checkpoint = load_checkpoint(given.model)
        dtype = torch.float32 if given.weights == "fp32" else torch.bfloat16
        settings = EngineSettings(kernels=given.kernels, weights=given.weights)
        if checkpoint.tokenizer is None:
            raise SystemExit(f"{given.model} has no tokenizer, and generate spells what it writes")
        self.weights, self.tokenizer = given.weights, checkpoint.tokenizer
        self.runner = build_runner(load_model(checkpoint, dtype=dtype).eval(), settings)
        self.read: dict[tuple[int, int], Any] = {}

    def prefill(self, ids: list[int]) -> Answer:
        return {"rate": bench.measure_prefill(self.runner, ids).tokens_per_second}

    def decode(self, ids: list[int], num_tokens: int, batch: int = 1) -> Answer:
        place = (len(ids), batch)
        if place not in self.read:  # a long prompt is read once for all rounds
            prompts = [ids[row:] for row in range(batch)]
            self.read[place] = bench.read_prompts(self.runner, prompts, room=num_tokens)
        return {"rate": bench.measure_decode(self.runner, self.read[place], num_tokens).tokens_per_second}

    def generate(self, ids: list[int], num_tokens: int, explain: bool = False) -> Answer:
        pace = bench.measure_generate(self.runner, self.tokenizer, ids, num_tokens, explain=explain)
        return {"rate": pace.tokens_per_second}

    def greedy(self, ids: list[int], num_tokens: int) -> Answer:
        sampling = SamplingSettings(temperature=0, max_new_tokens=num_tokens, min_new_tokens=num_tokens)
        request = Request(prompt_ids=ids, sampling=sampling)
        return {"ids": [step.id for step in generate(self.runner, self.tokenizer, request)]}

    def copy(self, text: str, num_tokens: int, lookup: bool) -> Answer:
        ids = self.tokenizer.encode_prompt(text)
        sampling = SamplingSettings(temperature=0, max_new_tokens=num_tokens + 1, min_new_tokens=num_tokens + 1)
        speculation = SpeculationSettings() if lookup else None
        text_of = generate(
            self.runner, self.tokenizer, Request(prompt_ids=ids, sampling=sampling, speculation=speculation)
        )
        times = [time.perf_counter() for _ in text_of]
        acceptance = 0.0 if text_of.guesser is None else text_of.guesser.stats.acceptance
        return {"rate": (len(times) - 1) / (times[-1] - times[0]), "acceptance": acceptance}

    def serve(self, prompts: list[list[int]], num_tokens: int, arrivals: list[float] | None = None) -> Answer:
        sampling = SamplingSettings(temperature=0, max_new_tokens=num_tokens, min_new_tokens=num_tokens)
        requests = [Request(prompt_ids=ids, sampling=sampling) for ids in prompts]
        served = measure_requests(self.runner, self.tokenizer, requests, arrivals=arrivals)
        return {
            "rate": served.tokens_per_second,
            "first": served.first,
            "gaps": served.gaps,
            "outside": served.outside,
            "cache_bytes": served.cache_bytes,
        }

    def memory(self) -> Answer:
        return {"bytes": bench.peak_memory_bytes()}

    def facts(self) -> Answer:
        config = self.runner.config
        return {
            "runner": self.runner.name,
            "exact": self.runner.exact,
            "model_bytes": bench.model_bytes(config, self.weights),
            "weight_bytes_per_token": bench.weight_bytes_per_token(config, self.weights),
            "cache_bytes_per_position": bench.cache_bytes_per_position(config, self.weights),
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("model")
    parser.add_argument("--weights", choices=tuple(bench.BITS), default="bf16")
    parser.add_argument("--kernels", choices=("auto", "on", "off"), default="auto")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    engine = Pellucid(parser.parse_args())
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        print(json.dumps(getattr(engine, request.pop("task"))(**request)), flush=True)


if __name__ == "__main__":
    main()
