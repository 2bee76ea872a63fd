"""How fast text becomes ids, how fast a tokenizer is trained, and how both grow on text made to be slow.

    python benchmarks/tokenization.py --data DIR [--only encode|train|growth] [--megabytes 7 1000] [--rounds 5]

DIR holds `tokenizers/cl100k_base.tiktoken`, English in `text/*.txt` and Chinese in `chinese/*.txt`. The peers are installed
by whoever runs this (`pip install tiktoken rustbpe`); one that is absent is said to be.

    encode    cl100k, two threads, ids as NumPy arrays, text not seen before: ours, tiktoken, and `tokenizers` alone. The
              text recombines sentences with one word in twenty changed, so that no cache of words flatters anybody.
    train     a byte-level BPE of 8,192 tokens: ours and rustbpe, each in a process of its own with its peak memory, on
              megabytes of lines that are drawn at random (seeded) from all of DIR's text. Two ratios: the training alone,
              and the whole program with its start. Below 100 MB three rounds in turns, and medians.
    growth    seconds to train on and to encode 1, 2 and 4 MB of DNA, one letter, spaces, one Chinese character, base64 and
              minified JavaScript, each as a single line.
"""

from __future__ import annotations

import argparse
import base64
import importlib.util
import json
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice, pairwise
from pathlib import Path

import numpy as np
import tokenizers
from tokenizers import models, pre_tokenizers

from pellucid.events import NULL
from pellucid.tokens.byte_characters import BYTE_CHARACTERS
from pellucid.tokens.fast.encode import Encoder
from pellucid.tokens.fast.training import learn_by_loops
from pellucid.tokens.merge_limits import Limits
from pellucid.tokens.patterns import PATTERNS, segments
from prepare import SENTENCE, measure, recombined

THREADS = 2
VOCAB_SIZE = 8_192
ENCODED_MEGABYTES = 16
OF_TIKTOKEN = (
    r"""'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$|\s*[\r\n]|"""
    r"""\s+(?!\S)|\s"""
)

BLOCKS = """
import sys, time
from pathlib import Path
def blocks(path):
    with open(path, encoding="utf-8", newline="") as stream:
        while block := "".join(stream.readlines(1 << 16)):
            yield block
"""
SAYS = """
Path(sys.argv[1]).with_suffix(".seconds").write_text(str(time.perf_counter() - begin))
"""
OURS = (
    BLOCKS
    + """
from pellucid.tokens.train import train_bpe
size = Path(sys.argv[1]).stat().st_size
begin = time.perf_counter()
tokenizer = train_bpe(blocks(sys.argv[1]), int(sys.argv[2]), sample_bytes=size, total_bytes=size)
assert tokenizer.vocab_size == int(sys.argv[2])
"""
    + SAYS
)
RUSTBPE = (
    BLOCKS
    + """
import rustbpe
begin = time.perf_counter()
tokenizer = rustbpe.Tokenizer()
tokenizer.train_from_iterator(blocks(sys.argv[1]), int(sys.argv[2]) - 2, pattern=sys.argv[3])
"""
    + SAYS
)


def read_ranks(path: Path) -> dict[bytes, int]:
    lines = (line.split() for line in path.read_bytes().splitlines())
    return {base64.b64decode(token): int(rank) for token, rank in lines}


def find_merges(ranks: dict[bytes, int]) -> list[tuple[bytes, bytes]]:
    """The two tokens that each token is made of, in the order of ranks."""
    merges = []
    for token, rank in sorted(ranks.items(), key=lambda item: item[1]):
        parts = [token[place : place + 1] for place in range(len(token))]
        while len(parts) > 2:
            found = [ranks.get(left + right, rank) for left, right in pairwise(parts)]
            best = found.index(min(found))
            parts[best : best + 2] = [parts[best] + parts[best + 1]]
        if len(parts) == 2:
            merges.append((parts[0], parts[1]))
    return merges


def open_engines(ranks: dict[bytes, int]) -> dict[str, Callable[[list[str]], list[np.ndarray]]]:
    """Each engine as one function: texts -> ids."""
    merges = find_merges(ranks)
    numbers = [(ranks[left], ranks[right], ranks[left + right]) for left, right in merges]
    byte_ids = [ranks[bytes([byte])] for byte in range(256)]
    ours = Encoder("cl100k", byte_ids=byte_ids, merges=numbers, num_threads=THREADS)
    engines = {"pellucid": ours.encode}

    def spell(token: bytes) -> str:
        return "".join(BYTE_CHARACTERS[byte] for byte in token)

    vocab = {spell(token): rank for token, rank in ranks.items()}
    bare = tokenizers.Tokenizer(models.BPE(vocab, [(spell(left), spell(right)) for left, right in merges]))
    split = pre_tokenizers.Split(tokenizers.Regex(PATTERNS["cl100k"]), "isolated")
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    bare.pre_tokenizer = pre_tokenizers.Sequence([split, byte_level])
    engines["tokenizers"] = lambda texts: [np.array(one.ids, np.uint32) for one in bare.encode_batch_fast(texts)]
    if importlib.util.find_spec("tiktoken"):
        import tiktoken

        coder = tiktoken.Encoding("cl100k", pat_str=OF_TIKTOKEN, mergeable_ranks=ranks, special_tokens={})
        pool = ThreadPoolExecutor(THREADS)
        encode = coder.encode_to_numpy
        engines["tiktoken"] = lambda texts: list(pool.map(lambda text: encode(text, disallowed_special=()), texts))
    return engines


def measure_encoding(data: Path, rounds: int) -> dict[str, object]:
    engines = open_engines(read_ranks(data / "tokenizers" / "cl100k_base.tiktoken"))
    report: dict[str, object] = {"absent": sorted({"tiktoken"} - engines.keys())}
    for language, folder in (("english", "text"), ("chinese", "chinese")):
        texts = [path.read_text(encoding="utf-8") for path in sorted((data / folder).glob("*.txt"))]
        sentences = [sentence for text in texts for sentence in SENTENCE.findall(text) if sentence.strip()]
        seconds: dict[str, list[float]] = {name: [] for name in engines}
        for turn in range(rounds + 1):  # the first round is not counted: it compiles and loads
            documents, size = [], 0
            for document in recombined(sentences, seed=turn):
                documents.append(document)
                size += len(document.encode())
                if size >= ENCODED_MEGABYTES * 1e6:
                    break
            answers = {}
            for name, encode in engines.items():
                begin = time.perf_counter()
                answers[name] = encode(documents)
                seconds[name].append((time.perf_counter() - begin) / size * 1e6)
            for name, ids in answers.items():
                same = all(np.array_equal(one, other) for one, other in zip(ids, answers["pellucid"], strict=True))
                if not same:
                    raise SystemExit(f"{name} gives other ids in {language}")
        median = {name: statistics.median(times[1:]) for name, times in seconds.items()}
        report[language] = {
            "megabytes_per_second": {name: round(1 / one, 1) for name, one in median.items()},
            "speed_over": {
                name: round(statistics.median(b / a for a, b in zip(seconds["pellucid"][1:], times[1:])), 2)
                for name, times in seconds.items()
                if name != "pellucid"
            },
        }
    return report


def measure_training(data: Path, megabytes: list[int]) -> dict[str, object]:
    report: dict[str, object] = {}
    has_peer = importlib.util.find_spec("rustbpe") is not None
    texts = [path.read_text(encoding="utf-8") for path in sorted(data.glob("*/*.txt"))]
    lines = {"english and chinese": [line for text in texts for line in text.splitlines(keepends=True)]}
    lines["english"] = [line for line in lines["english and chinese"] if line.isascii()]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "text.txt"
        for name, found in lines.items():
            for size in megabytes:
                write_lines(found, path, size * 1_000_000)
                rounds = 3 if size < 100 else 1
                programs = {"pellucid": (OURS, path, str(VOCAB_SIZE))}
                if has_peer:
                    programs["rustbpe"] = (RUSTBPE, path, str(VOCAB_SIZE), PATTERNS["qwen2"])
                runs = [{who: train_once(*program) for who, program in programs.items()} for _ in range(rounds)]
                row: dict[str, object] = {who: middle([run[who] for run in runs]) for who in programs}
                if has_peer:
                    for key in ("training_seconds", "seconds"):
                        ratios = [run["rustbpe"][key] / run["pellucid"][key] for run in runs]
                        row[f"{key}_of_rustbpe_over_ours"] = round(statistics.median(ratios), 2)
                report[f"{name}, {size} MB"] = row
    return report | ({} if has_peer else {"absent": ["rustbpe"]})


def train_once(program: str, path: Path, *arguments: str) -> dict[str, float]:
    """What one training takes: the whole program, its start included, and the training alone as the program says it."""
    measured = measure(program, path, *arguments)
    return {**measured, "training_seconds": float(path.with_suffix(".seconds").read_text())}


def middle(runs: list[dict[str, float]]) -> dict[str, float]:
    """The median of each figure."""
    return {key: round(statistics.median(run[key] for run in runs), 2) for key in runs[0]}


def write_lines(lines: list[str], path: Path, num_bytes: int) -> None:
    """Lines drawn at random until there are so many bytes."""
    numbers, written = random.Random(0), 0
    with path.open("w", encoding="utf-8", newline="") as stream:
        while written < num_bytes:
            block = "".join(numbers.choices(lines, k=2_000))
            stream.write(block)
            written += len(block.encode())


def hostile(size: int) -> Iterator[tuple[str, str]]:
    """Texts of about `size` bytes without a place to cut."""
    numbers = random.Random(0)
    yield "dna", "".join(numbers.choices("ACGT", k=size))
    yield "one letter", "a" * size
    yield "spaces", " " * size
    yield "one Chinese character", "汉" * (size // 3)
    yield "base64", base64.b64encode(numbers.randbytes(size * 3 // 4)).decode()
    names = ["".join(numbers.choices("abcdefghijk", k=numbers.randint(1, 3))) for _ in range(500)]
    code = (f"function({a}){{return {b}.{c}({a},{numbers.randrange(999)})||{d}}};" for a, b, c, d in iter(lambda: numbers.choices(names, k=4), None))  # fmt: skip
    yield "minified JavaScript", "".join(islice(code, size // 42))


def measure_growth() -> dict[str, object]:
    limits = Limits(num_tokens=VOCAB_SIZE - 2, pattern="qwen2")
    report: dict[str, dict[str, list[float]]] = {}
    learn_by_loops(["to be"], limits, recorder=NULL)
    for megabytes in (1, 2, 4):
        for name, text in hostile(megabytes * 1_000_000):
            row = report.setdefault(name, {"train_seconds": [], "encode_seconds": []})
            begin = time.perf_counter()
            merges = learn_by_loops(segments(text, 1 << 12), limits)
            row["train_seconds"].append(round(time.perf_counter() - begin, 3))
            tokens = list(dict.fromkeys([*BYTE_CHARACTERS, *(left + right for left, right in merges)]))
            ids = {token: number for number, token in enumerate(tokens)}
            numbers = [(ids[left], ids[right], ids[left + right]) for left, right in merges]
            encoder = Encoder("qwen2", byte_ids=range(256), merges=numbers)
            encoder.encode(["to be"])
            begin = time.perf_counter()
            encoder.encode([text])
            row["encode_seconds"].append(round(time.perf_counter() - begin, 3))
    return {"megabytes": [1, 2, 4], **report}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--only", choices=("encode", "train", "growth"))
    parser.add_argument("--megabytes", type=int, nargs="+", default=[7, 1000])
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    report: dict[str, object] = {}
    if given.only in (None, "encode"):
        report["encode"] = measure_encoding(given.data, given.rounds)
    if given.only in (None, "train"):
        report["train"] = measure_training(given.data, given.megabytes)
    if given.only in (None, "growth"):
        report["growth"] = measure_growth()
    print(json.dumps(report, indent=2, ensure_ascii=False))


if __name__ == "__main__":
    main()
