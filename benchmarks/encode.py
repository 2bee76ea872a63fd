"""Sentences to vectors on this machine, beside sentence-transformers and CTranslate2.

    python benchmarks/encode.py --model MINILM --text FILE --peers-python ENV/bin/python [--type fp32]

`MINILM` is a directory of sentence-transformers (all-MiniLM-L6-v2), `FILE` has a sentence a line; the first 1,000 are read.
Each engine is a process with the same threads and the same number type. They take turns on the same sentences, each
sorts them by length, and each begins with text and ends with one vector of length 1 for each: tokenizing counts. The
vectors are compared first (in fp32 to 1e-5 of sentence-transformers'), so that all do the same work.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

import contest
import pellucid
from pellucid.planning.machine import inspect_machine

SENTENCES = 1000
SHOWN = 16  # vectors that are compared
FLOORS = {"sentence-transformers": 1.5, "ctranslate2": 1.0}
AGREES = {"fp32": 1e-5, "bf16": 2e-2, "int8": 5e-2}


class Pellucid:
    """Our side, behind the protocol of `peers.py`."""

    def __init__(self, model: str, kind: str) -> None:
        self.lm = pellucid.load(model, device="cpu", dtype=kind)

    def encode(self, texts: list[str]) -> dict[str, Any]:
        started = time.perf_counter()
        vectors_ND = self.lm.embed(texts).vectors
        return {"rate": len(texts) / (time.perf_counter() - started), "vectors": vectors_ND[:SHOWN].tolist()}


def serve(given: argparse.Namespace) -> None:
    """Be our engine: answer one request a line."""
    torch.set_num_threads(given.threads)
    engine = Pellucid(str(given.model), given.type)
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        print(json.dumps(engine.encode(json.loads(line)["texts"])), flush=True)


def commands(given: argparse.Namespace) -> dict[str, list[str]]:
    """How each engine is started."""
    same = ["--type", given.type, "--threads", str(given.threads)]
    ours = [sys.executable, __file__, "--serve", "--model", str(given.model), *same]
    peers = [str(given.peers_python), str(contest.HERE / "peers.py")]
    theirs = {name: [*peers, f"{name}-encoder", str(given.model), *same] for name in FLOORS if name in given.peers}
    return {"pellucid": ours, **theirs}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", type=Path, required=True, help="a directory of sentence-transformers")
    parser.add_argument("--text", type=Path, help="a sentence a line")
    parser.add_argument("--peers-python", type=Path, help="python of the peers' environment")
    parser.add_argument("--peers", nargs="+", choices=FLOORS, default=list(FLOORS))
    parser.add_argument("--type", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve:
        return serve(given)
    if given.text is None or given.peers_python is None:
        parser.error("--text and --peers-python are needed")
    lines = [line for line in given.text.read_text(encoding="utf-8").splitlines() if line.strip()]
    texts = lines[:SENTENCES]
    with contest.engines(commands(given)) as engines:
        shown = {name: np.array(engine.ask("encode", texts=texts)["vectors"]) for name, engine in engines.items()}
        apart = {name: float(np.abs(vectors - shown["pellucid"]).max()) for name, vectors in shown.items()}
        rates = contest.in_turn({name: one.rate("encode", texts=texts) for name, one in engines.items()}, given.rounds)
    if (worst := max(apart.values())) > AGREES[given.type]:
        raise SystemExit(f"the engines do not give the same vectors: {worst:.1e} apart")
    report = {
        "processor": inspect_machine().processor,
        "threads": given.threads,
        "type": given.type,
        "sentences": len(texts),
        "sentences_per_second": {name: round(rate, 1) for name, rate in rates.items()},
        "vectors_apart": apart,
    }
    floors = [
        contest.Floor(what=f"{name}, {given.type}", measured=rates["pellucid"] / rates[name], floor=FLOORS[name])
        for name in given.peers
    ]
    contest.finish(report, floors)


if __name__ == "__main__":
    main()
