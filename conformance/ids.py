"""Do other people's tokenizers give our ids? A table: vocabulary, strings, differences, our engine, the judge.

    python conformance/ids.py --data DATA --vocabularies FOLDER --peer PYTHON [--count 100000] [--write docs/tokenizers.md]

DATA has `tokenizers/`, `text/` and `chinese/`; FOLDER has llama.cpp's models/ggml-vocab-* files; PYTHON has tiktoken,
sentencepiece, transformers before version 5, and xllamacpp. The judge of a row is never the library that our own path
runs on. Every string on which the two differ is counted; those that a known cause explains are counted again under it
(`causes.py`). A row is written as soon as it is there, in the place of the older one; `--judge` and `--only` run some.
Exits with 1 when a difference is left.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path

import causes
import tokenizers as engine
from causes import Case, Difference, explain
from peer import Peer
from recorded import missed, published
from rows import Row, every_row
from strings import LONGEST_RUN, strings

from pellucid.tokens.bulk import WORTH_COMPILING, WORTH_STARTING

SEED = 20_260_616
ENGINE = f"tokenizers {engine.__version__}"
PACKAGES = {"tiktoken": "tiktoken", "sentencepiece": "sentencepiece", "bert": "transformers", "llama.cpp": "xllamacpp"}
MARKS = ("<!-- table: begin -->", "<!-- table: end -->")
HEADS = ("vocabulary", "kind", "strings", "differences", "engine", "judge", "why")


@dataclass(frozen=True, kw_only=True)
class Found:
    """What came of a row."""

    row: Row
    version: str  # of the judge
    num_strings: int
    num_different: int
    explained: Mapping[str, int] = field(default_factory=dict)
    left: Sequence[Difference] = ()

    def cells(self) -> list[str]:
        """The row of the table."""
        why = [f"{count:,} {cause}" for cause, count in self.explained.items()]
        unexplained = [f"{len(self.left):,} not explained"] if self.left else []
        engine = "compiled loops" if self.row.tokenizer._bulk._encoder else ENGINE  # what has carried `encode_ids`
        return [self.row.name, self.row.tokenizer.kind, f"{self.num_strings:,}", f"{self.num_different:,}", engine,
                f"{self.row.judge} ({self.version})", "; ".join(why + unexplained)]  # fmt: skip


def compare(row: Row, peer: Peer, count: int) -> Found:
    """Compare ids on `count` strings."""
    texts = list(islice(_strings(row, count), count))
    for size in (WORTH_STARTING, WORTH_COMPILING):  # so much text that the compiled loops are worth their start
        if not row.tokenizer._bulk._settled:
            row.tokenizer.encode_ids(["a " * (size // 2)])
    ours = [ids.tolist() for ids in row.tokenizer.encode_ids(texts)]
    for text, ids in islice(zip(texts, ours, strict=True), 0, None, 50):
        assert list(row.tokenizer.encode(text).ids) == ids, f"encode and encode_ids differ on {text!r}"
    pairs = zip(texts, peer.ask(row.question, texts), ours, strict=True)
    different = [Difference(text, theirs, mine) for text, theirs, mine in pairs if theirs != mine]
    case = Case(different=different, ask=lambda asked: peer.ask(row.question, asked), tokenizer=row.tokenizer)
    explained, left = explain(case, row.causes)
    package = PACKAGES[row.question["judge"]]
    version = f"{package} {peer.ask({'judge': 'versions'}, [package])[0]}"
    return Found(row=row, version=version, num_strings=len(texts), num_different=len(different), explained=explained,
                 left=left)  # fmt: skip


def _strings(row: Row, count: int) -> Iterator[str]:
    """Those of tiktoken's tests and then random ones; a text with a byte that the vocabulary lacks is refused here, and left out."""
    vocabulary = row.tokenizer.vocabulary
    tokens = [text for data in vocabulary.token_bytes if (text := data.decode("utf-8", errors="ignore"))]
    drawn = strings(2 * count, SEED, tokens, longest=min(row.longest, LONGEST_RUN))
    for text in chain(published(row.longest), drawn):
        if not set(vocabulary.unspelled).intersection(text.encode("utf-8")):
            yield text


def write_rows(page: Path, found: Sequence[Found], *, whole: bool) -> None:
    """Put rows where the page has its marks; `whole`: no others are kept. Under them what each cause means."""
    before, _, rest = page.read_text(encoding="utf-8").partition(MARKS[0])
    inside, _, after = rest.partition(MARKS[1])
    old = [line for line in inside.splitlines() if line.startswith("| ")][1 + 1 :]
    rows = {} if whole else {line.split(" | ")[0]: line for line in old}
    for one in found:
        rows[f"| {one.row.name}"] = f"| {' | '.join(one.cells())} |"
    table = [f"| {' | '.join(cells)} |" for cells in (HEADS, ["---"] * len(HEADS))] + list(rows.values())
    text = "\n".join([*table, "", *_legend(list(rows.values()))])
    page.write_text(f"{before}{MARKS[0]}\n{text}\n{MARKS[1]}{after}", encoding="utf-8")


def _legend(rows: Sequence[str]) -> Iterator[str]:
    """A line for each cause that a row names."""
    reasons = " ".join(row.rsplit(" | ", 1)[1] for row in rows)
    every = chain(causes.NORMALIZED, causes.SCORES, causes.BERT, causes.LLAMA_CPP, causes.LLAMA_CPP_BERT)
    for name, means in {cause.name: cause.means for cause in every}.items():
        if f" {name}" in f" {reasons}":
            yield f"- *{name}*: {means}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--vocabularies", type=Path, required=True)
    parser.add_argument("--peer", required=True, help="a Python that has the judges")
    parser.add_argument("--count", type=int, default=100_000, help="strings for each vocabulary")
    parser.add_argument("--judge", choices=list(PACKAGES), help="only the rows of one")
    parser.add_argument("--only", nargs="+", default=[""], help="only the rows whose name has one of these texts")
    parser.add_argument("--write", type=Path, help="a page with the marks of the table")
    arguments = parser.parse_args()
    peer, found = Peer(arguments.peer), []
    faults = []
    if arguments.judge in (None, "tiktoken"):
        faults = list(missed(arguments.data / "tokenizers"))
        print(f"tiktoken's own tests: {faults or 'all ids, offsets and round trips met'}", flush=True)
    with tempfile.TemporaryDirectory() as directory:
        parts = every_row(arguments.data, arguments.vocabularies, Path(directory), peer, arguments.only)
        rows = (row for judge, part in parts.items() if arguments.judge in (None, judge) for row in part())
        for row in (row for row in rows if any(part in row.name for part in arguments.only)):
            start = time.perf_counter()
            found.append(compare(row, peer, arguments.count))
            print(" | ".join(found[-1].cells()), f"({time.perf_counter() - start:.0f} s)", flush=True)
            for one in sorted(found[-1].left, key=lambda one: len(one.text))[:5]:
                print(f"    {one.text[:80]!a}: {one.theirs[:12]} there, {one.ours[:12]} here")
            if arguments.write:
                write_rows(arguments.write, found, whole=False)
    if arguments.write and not arguments.judge and arguments.only == [""]:
        write_rows(arguments.write, found, whole=True)
    sys.exit(1 if faults or any(one.left for one in found) else 0)


if __name__ == "__main__":
    main()
