"""How fast raw text becomes token shards, and in how much memory, beside Hugging Face tokenizers alone.

    python benchmarks/prepare.py --data BOOK.txt … [--megabytes 1000] [--form jsonl|txt]

Text of the given size is made by recombining sentences of the given files with 5 % of the words changed, so that no
side profits from a cache of words. It is then prepared (read, counted, split, encoded, hashed, written, checked for
duplicates) in its own process, whose peak resident memory the operating system reports. The same is done with a tenth
of the size, to show whether memory grows. The peer is `tokenizers`, called directly on the same texts with the same
tokenizer file: `encode_batch_fast` on batches of the same size, ids kept for one batch, nothing written.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from pellucid.tokens.train import train_bpe

SENTENCE = re.compile(r"[^.!?。！？\n]+[.!?。！？\n]*")
WORD = re.compile(r"[A-Za-z]+|[\u4e00-\u9fff]")
MUTATED = 0.05
SENTENCES_PER_DOCUMENT = 20

OURS = """
import sys
from pathlib import Path
from pellucid.data.prepare import prepare
from pellucid.data.source import open_source
from pellucid.tokens.tokenizer import Tokenizer
prepare(open_source(sys.argv[1]), Tokenizer.load(Path(sys.argv[2])), Path(sys.argv[3]))
"""

PEER = """
import sys
import tokenizers
from pellucid.data.source import open_source
engine = tokenizers.Tokenizer.from_file(sys.argv[2] + "/tokenizer.json")
batch, size = [], 0
for document in open_source(sys.argv[1]).documents():
    batch.append(document.text)
    size += len(document.text)
    if size >= 1 << 20:
        ids = [encoding.ids for encoding in engine.encode_batch_fast(batch, add_special_tokens=False)]
        batch, size = [], 0
engine.encode_batch_fast(batch, add_special_tokens=False)
"""


def recombined(sentences: list[str], seed: int) -> Iterator[str]:
    """Documents of random sentences; one word in twenty has one letter changed."""
    numbers = random.Random(seed)
    letters = "abcdefghijklmnopqrstuvwxyz"

    def mutate(match: re.Match) -> str:
        if numbers.random() >= MUTATED:
            return match[0]
        if not match[0].isascii():
            return chr(numbers.randrange(0x4E00, 0x9FA5))
        at = numbers.randrange(len(match[0]))
        return match[0][:at] + numbers.choice(letters) + match[0][at + 1 :]

    while True:
        yield WORD.sub(mutate, " ".join(numbers.choices(sentences, k=SENTENCES_PER_DOCUMENT)))


def make_text(sentences: list[str], path: Path, num_bytes: int) -> int:
    """Write about `num_bytes` of text; returns the exact number of UTF-8 bytes of text."""
    written = 0
    with path.open("w", encoding="utf-8", newline="") as stream:
        for text in recombined(sentences, seed=0):
            stream.write(
                json.dumps({"text": text}, ensure_ascii=False) + "\n" if path.suffix == ".jsonl" else text + "\n\n"
            )
            written += len(text.encode())
            if written >= num_bytes:
                return written
    return written


def make_inputs(data: list[Path], folder: Path, vocab_size: int, form: str, sizes: dict[str, int]) -> None:
    """Train the tokenizer and write one text of each size into `folder`."""
    texts = [path.read_text(encoding="utf-8") for path in data]
    train_bpe(texts, vocab_size).save(folder / "tokenizer")
    sentences = [sentence for text in texts for sentence in SENTENCE.findall(text) if sentence.strip()]
    for name, num_bytes in sizes.items():
        (folder / name).mkdir()
        written = make_text(sentences, folder / name / f"text.{form}", num_bytes)
        (folder / name / "num_bytes").write_text(str(written))


def measure(program: str, *arguments: Path) -> dict[str, float]:
    """Wall and CPU seconds and peak resident megabytes of a Python program in its own process."""
    begin = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-c", program, *map(str, arguments)])
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"the measured program failed with exit code {process.returncode}")
    seconds = time.perf_counter() - begin
    return {
        "seconds": seconds,
        "cpu_seconds": usage.ru_utime + usage.ru_stime,
        "peak_megabytes": usage.ru_maxrss * 1024 / 1e6,
    }


def run(folder: Path, form: str, tokenizer: Path) -> dict[str, object]:
    text = folder / f"text.{form}"
    megabytes = int((folder / "num_bytes").read_text()) / 1e6
    ours = measure(OURS, text, tokenizer, folder / "prepared")
    peer = measure(PEER, text, tokenizer)
    return {
        "text_megabytes": round(megabytes, 1),
        "megabytes_per_second": round(megabytes / ours["seconds"], 2),
        "peak_megabytes": round(ours["peak_megabytes"], 1),
        "speed_over_tokenizers": round(peer["seconds"] / ours["seconds"], 3),
        "speed_over_tokenizers_by_cpu_time": round(peer["cpu_seconds"] / ours["cpu_seconds"], 3),
        "pellucid": {name: round(value, 2) for name, value in ours.items()},
        "tokenizers": {name: round(value, 2) for name, value in peer.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", nargs="+", type=Path, required=True, help="UTF-8 text files to take sentences from")
    parser.add_argument("--megabytes", type=float, default=1000)
    parser.add_argument("--form", choices=("jsonl", "txt"), default="jsonl", help="rows, or one long text")
    parser.add_argument("--vocab-size", type=int, default=8192)
    given = parser.parse_args()
    sizes = {"small": int(given.megabytes * 1e5), "large": int(given.megabytes * 1e6)}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        # In a process of its own: a child's peak memory, as Linux reports it, begins at its parent's.
        arguments = (given.data, folder, given.vocab_size, given.form, sizes)
        maker = multiprocessing.get_context("spawn").Process(target=make_inputs, args=arguments)
        maker.start()
        maker.join()
        if maker.exitcode:
            raise SystemExit("the text could not be made")
        runs = {size: run(folder / size, given.form, folder / "tokenizer") for size in sizes}
    growth = round(runs["large"]["peak_megabytes"] - runs["small"]["peak_megabytes"], 1)
    print(json.dumps({"cores": os.cpu_count(), "form": given.form, **runs, "growth_megabytes": growth}, indent=2))


if __name__ == "__main__":
    main()
