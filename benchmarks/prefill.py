"""Prompt tokens per second beside llama.cpp, transformers and CTranslate2, and beside the processor's own products.

    python benchmarks/prefill.py --peers-python ENV/bin/python [--shape 1m|17m|134m | --model DIR] [--tokens 512]

A prompt is read into an empty KV cache, up to the logits after its last token. Pellucid is measured in fp32 and bf16.
llama.cpp is measured in three types by its own prompt-per-second; the fastest counts. The
others are measured in their usual types. The promises are about 512 tokens and the shape of 134M.
"""

from __future__ import annotations

import argparse
from typing import Any

from contest import Floor, Setup, engines, finish, in_turn, measure_machine, parse, prepare
from pellucid.engine.bench import prompt_flops

LLAMA_CPP_TYPES = ("F32", "BF16", "Q8_0")
FLOORS = (2.0, 1.0)  # times llama.cpp's best type, times transformers, both at bf16


def commands(setup: Setup) -> dict[str, list[str]]:
    """The commands of all engines that read the prompt."""
    sides = {f"pellucid {weights}": setup.ours(weights) for weights in ("bf16", "fp32")}
    if setup.peers_python:
        sides |= {f"llama.cpp {kind}": setup.llama_cpp(kind) for kind in LLAMA_CPP_TYPES}
        sides |= {f"transformers {kind}": setup.transformers(kind) for kind in ("fp32", "bf16")}
        sides["ctranslate2 float32"] = setup.ctranslate2("float32")
    return sides


def floors_of(rates: dict[str, float]) -> list[Floor]:
    """The promises against the engines that were measured."""
    best = max((rate for name, rate in rates.items() if name.startswith("llama.cpp")), default=None)
    if best is None:
        return []
    ours, (over_llama_cpp, over_transformers) = rates["pellucid bf16"], FLOORS
    return [
        Floor(what="bf16, times llama.cpp's best type", measured=ours / best, floor=over_llama_cpp),
        Floor(what="bf16, times transformers", measured=ours / rates["transformers bf16"], floor=over_transformers),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--tokens", type=int, default=512)
    given = parse(parser)
    setup = prepare(given)
    machine = measure_machine(setup.threads)
    with engines(commands(setup)) as started:
        asked = {"ids": setup.prompt(given.tokens)}
        rates = in_turn({name: engine.rate("prefill", **asked) for name, engine in started.items()}, setup.rounds)
    again = measure_machine(setup.threads)
    machine = {name: max(value, again[name]) for name, value in machine.items()}
    flops = prompt_flops(setup.config, given.tokens) / given.tokens
    shares = {
        name: rate * flops / machine["bf16_flops_per_second" if "bf16" in name else "fp32_flops_per_second"]
        for name, rate in rates.items()
        if name.startswith("pellucid")
    }
    report: dict[str, Any] = {
        "shape": setup.shape, "threads": setup.threads, "tokens": given.tokens, "machine": machine,
        "flops_per_token": flops, "tokens_per_second": rates, "share_of_product_peak": shares,
    }  # fmt: skip
    finish(report, floors_of(rates) if given.shape == "134m" and given.tokens == 512 else [])


if __name__ == "__main__":
    main()
