"""New tokens per second beside llama.cpp, transformers and CTranslate2, and beside what the memory allows.

    python benchmarks/decode.py --peers-python ENV/bin/python [--shape 1m|17m|134m | --model DIR] [--only PART …]

    types         each number format against its counterpart: 128 tokens read, then new ones; the bare runner and `generate`
    batch         4 and 8 prompts of unequal length at once, against one
    context       after 128, 1,024, 4,096 and 16,384 tokens, against (bytes of weights and cache) / bandwidth
    account       `generate` with the account of every token, against without
    speculation   speculative decoding by prompt lookup in a repetitive text, against none; random weights do not go on
                  with the text, so the promise is judged only with a trained model (--model)
    start         seconds from the start of `pellucid generate` to its first text, when all is compiled
    memory        peak memory of a fresh process, minus its weights and its cache

For llama.cpp its own predicted-per-second counts, which includes its (greedy) sampling. Where the two are compared,
ours is `generate`, which includes sampling too.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from itertools import takewhile
from typing import Any

from contest import TYPES, Engine, Floor, Setup, engines, finish, in_turn, measure_machine, parse, prepare
from start import PELLUCID, seconds_to_first_byte

Result = tuple[dict[str, Any], list[Floor]]

PROMPT_TOKENS = 128
LARGEST = "134m"
CONTEXTS = (128, 1024, 4096, 16_384)
BATCH_FLOORS = {4: 2.5, 8: 4.0}
LLAMA_CPP_FLOORS = {
    "134m": {"fp32": 1.15, "bf16": 1.5, "int8": 1.8, "int4": 3.0},
    "17m": {"bf16": 1.2},
    "1m": {"fp32": 0.5},
}
TRANSFORMERS_FLOORS = {"134m": {"bf16": 5.0}, "17m": {"bf16": 5.0}, "1m": {"fp32": 5.0}}
BANDWIDTH_FLOORS = {"134m": {"fp32": 0.85, "bf16": 0.85, "int8": 0.75}}
CTRANSLATE2_TYPES = {"fp32": "float32", "int8": "int8"}
INT4_OVER_INT8, PREDICTED, ACCOUNT, FIRST_TOKEN_SECONDS, MORE_BYTES, COPYING = 1.3, 0.9, 0.10, 3.0, 400e6, 2.0
COPIED = "The river ran past the mill, the mill ground the corn, and the corn became the bread of the whole valley. "


def measure_types(setup: Setup, given: argparse.Namespace) -> Result:
    """Measure every number format against the same format of the other engines."""
    report, floors = {}, []
    for weights in given.types:
        part, promises = measure_type(setup, weights, given.tokens, given.shape)
        report[weights] = part
        floors += promises
    return report, floors


def measure_type(setup: Setup, weights: str, num_tokens: int, shape: str) -> Result:
    """Measure one number format."""
    ours = {"pellucid": setup.ours(weights)}
    if weights == "int4":
        ours["pellucid int8"] = setup.ours("int8")
    theirs = opponents(setup, weights) if setup.peers_python else {}
    asked = {"ids": setup.prompt(PROMPT_TOKENS), "num_tokens": num_tokens}
    before = measure_machine(setup.threads)["read_bytes_per_second"]
    with engines(ours | theirs) as started:
        facts = started["pellucid"].ask("facts")
        turns = {name: started[name].rate("generate", **asked) for name in ours}
        turns |= {f"{name}, runner": started[name].rate("decode", **asked) for name in ours}
        turns |= {name: started[name].rate("decode", **asked) for name in theirs}
        rates = in_turn(turns, setup.rounds)
        same = count_same(started, asked["ids"])
    bandwidth = max(before, measure_machine(setup.threads)["read_bytes_per_second"])
    read = facts["weight_bytes_per_token"] * rates["pellucid, runner"]
    report = {**facts, "tokens_per_second": rates, "times": ratios(rates), "share_of_bandwidth": read / bandwidth}
    report["first_tokens_equal"] = same
    return report, type_floors(weights, shape, rates, read / bandwidth)


def count_same(started: dict[str, Engine], ids: list[int], num_tokens: int = 16) -> dict[str, int]:
    """How many of the first greedy tokens each engine shares with ours: all in fp32, if the weights are the same."""
    answers = {name: engine.ask("greedy", ids=ids, num_tokens=num_tokens)["ids"] for name, engine in started.items()}
    pairs = {name: zip(answer, answers["pellucid"], strict=True) for name, answer in answers.items()}
    return {name: sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], both)) for name, both in pairs.items()}


def opponents(setup: Setup, weights: str) -> dict[str, list[str]]:
    """The commands of the other engines that have this number format."""
    commands = {"llama.cpp": setup.llama_cpp(TYPES[weights])}
    if weights in ("fp32", "bf16"):
        commands["transformers"] = setup.transformers(weights)
    if weights in CTRANSLATE2_TYPES:
        commands["ctranslate2"] = setup.ctranslate2(CTRANSLATE2_TYPES[weights])
    return commands


def ratios(rates: dict[str, float]) -> dict[str, float]:
    """How many times faster `generate` is than each other engine."""
    return {name: round(rates["pellucid"] / rate, 3) for name, rate in rates.items() if name != "pellucid"}


def type_floors(weights: str, shape: str, rates: dict[str, float], share: float) -> list[Floor]:
    """The promises for this format and this size."""
    floors = []
    for name, table in (("llama.cpp", LLAMA_CPP_FLOORS), ("transformers", TRANSFORMERS_FLOORS)):
        if name in rates and weights in table.get(shape, {}):
            floor = table[shape][weights]
            floors.append(Floor(what=f"{weights}, times {name}", measured=rates["pellucid"] / rates[name], floor=floor))
    if weights in BANDWIDTH_FLOORS.get(shape, {}):
        floor = BANDWIDTH_FLOORS[shape][weights]
        floors.append(Floor(what=f"{weights}, share of the read bandwidth", measured=share, floor=floor))
    if weights == "int4":
        ratio = rates["pellucid"] / rates["pellucid int8"]
        floors.append(Floor(what="int4, times our int8", measured=ratio, floor=INT4_OVER_INT8))
    return floors


def measure_batch(setup: Setup, given: argparse.Namespace) -> Result:
    """Measure several prompts at once, with the bare runner."""
    prompt = setup.prompt(PROMPT_TOKENS)
    with engines({"pellucid": setup.ours("bf16")}) as started:
        runner = started["pellucid"]
        turns = {
            f"batch {batch}": runner.rate("decode", ids=prompt, num_tokens=given.tokens, batch=batch)
            for batch in (1, *BATCH_FLOORS)
        }
        rates = in_turn(turns, setup.rounds)
    one = rates["batch 1"]
    floors = [
        Floor(what=f"bf16, {batch} prompts, times one", measured=rates[f"batch {batch}"] / one, floor=floor)
        for batch, floor in BATCH_FLOORS.items()
    ]
    return {"tokens_per_second": rates}, floors


def measure_context(setup: Setup, given: argparse.Namespace) -> Result:
    """Measure longer and longer contexts against the prediction from bytes; llama.cpp's curve beside ours."""
    commands = {"pellucid": setup.ours("bf16")}
    if setup.peers_python:
        commands["llama.cpp"] = setup.llama_cpp("BF16", context=max(given.contexts) + given.tokens + PROMPT_TOKENS)
    report, floors = {}, []
    for length in given.contexts:
        bandwidth = measure_machine(setup.threads)["read_bytes_per_second"]
        asked = {"ids": setup.prompt(length), "num_tokens": given.tokens}
        with engines(commands) as started:  # a new process, so that nothing of the last length stays in memory
            turns = {f"{name}, after {length}": engine.rate("decode", **asked) for name, engine in started.items()}
            facts, rates = started["pellucid"].ask("facts"), in_turn(turns, setup.rounds)
        positions = length + given.tokens / 2
        predicted = bandwidth / (facts["weight_bytes_per_token"] + positions * facts["cache_bytes_per_position"])
        measured = rates[f"pellucid, after {length}"]
        report[length] = {"tokens_per_second": rates, "predicted": predicted, "share": measured / predicted}
        if length == 4096:
            floors.append(Floor(what="after 4096, share of predicted", measured=measured / predicted, floor=PREDICTED))
    return report, floors


def measure_account(setup: Setup, given: argparse.Namespace) -> Result:
    """Measure the cost of the account of every token."""
    asked = {"ids": setup.prompt(PROMPT_TOKENS), "num_tokens": given.tokens}
    with engines({"pellucid": setup.ours("bf16")}) as started:
        turns = {
            f"account {word}": started["pellucid"].rate("generate", explain=explain, **asked)
            for word, explain in (("off", False), ("on", True))
        }
        rates = in_turn(turns, setup.rounds)
    cost = rates["account off"] / rates["account on"] - 1
    return {"tokens_per_second": rates}, [Floor(what="cost of the account", measured=cost, floor=ACCOUNT, at_most=True)]


def measure_speculation(setup: Setup, given: argparse.Namespace) -> Result:
    """Measure a repetitive text with and without prompt lookup."""
    with engines({"pellucid": setup.ours("bf16")}) as started:
        runner: Engine = started["pellucid"]
        asked = {"text": COPIED * 4, "num_tokens": given.tokens}
        turns = {word: runner.rate("copy", lookup=word == "lookup", **asked) for word in ("plain", "lookup")}
        rates = in_turn(turns, setup.rounds)
        acceptance = runner.ask("copy", lookup=True, **asked)["acceptance"]
    ratio = rates["lookup"] / rates["plain"]
    floors = [Floor(what="copying, lookup times plain", measured=ratio, floor=COPYING)] if given.model else []
    return {"tokens_per_second": rates, "times": ratio, "share_of_guesses_accepted": acceptance}, floors


def measure_start(setup: Setup, given: argparse.Namespace) -> Result:
    """Time fresh processes; the first one may compile and is not counted."""
    command = [*PELLUCID, "generate", str(setup.models["bf16"]), "a", "--temperature", "0", "--max-new-tokens", "16"]
    times = [seconds_to_first_byte(command) for _ in range(3)]
    seconds = min(times[1:])
    floor = Floor(
        what="second start, seconds to the first token", measured=seconds, floor=FIRST_TOKEN_SECONDS, at_most=True
    )
    return {"seconds": times}, [floor]


def measure_memory(setup: Setup, given: argparse.Namespace) -> Result:
    """Peak memory of a process that has loaded a model, read a prompt and generated."""
    report, floors = {}, []
    for weights in given.types:
        with engines({"pellucid": setup.ours(weights)}) as started:
            runner = started["pellucid"]
            facts = runner.ask("facts")
            runner.ask("generate", ids=setup.prompt(PROMPT_TOKENS), num_tokens=given.tokens)
            peak = runner.ask("memory")["bytes"]
        cache = (PROMPT_TOKENS + given.tokens + 1) * facts["cache_bytes_per_position"]
        more = peak - facts["model_bytes"] - cache
        report[weights] = {"peak_bytes": peak, "model_bytes": facts["model_bytes"], "cache_bytes": cache}
        what = f"{weights}, MB over weights and cache"
        floors.append(Floor(what=what, measured=more / 1e6, floor=MORE_BYTES / 1e6, at_most=True))
    return report, floors


PARTS: dict[str, Callable[[Setup, argparse.Namespace], Result]] = {
    "types": measure_types,
    "batch": measure_batch,
    "context": measure_context,
    "account": measure_account,
    "speculation": measure_speculation,
    "start": measure_start,
    "memory": measure_memory,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", nargs="+", choices=tuple(PARTS), default=tuple(PARTS))
    parser.add_argument("--types", nargs="+", choices=tuple(TYPES), default=tuple(TYPES))
    parser.add_argument("--tokens", type=int, default=128, help="new tokens of one measurement")
    parser.add_argument("--contexts", nargs="+", type=int, default=CONTEXTS)
    given = parse(parser)
    setup = prepare(given)
    report: dict[str, Any] = {"shape": setup.shape, "threads": setup.threads, "machine": measure_machine(setup.threads)}
    floors = []
    for name in given.only:
        report[name], promises = PARTS[name](setup, given)
        if name == "types" or given.shape == LARGEST:  # all other promises are about a model of that size
            floors += promises
    finish(report, floors)


if __name__ == "__main__":
    main()
