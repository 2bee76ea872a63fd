"""Do other people's tokenizers give our ids? A table: vocabulary, strings, differences, our engine, the judge.

    python conformance/ids.py --data DATA --vocabularies FOLDER --peer PYTHON [--count 100000] [--write docs/tokenizers.md]

DATA has `tokenizers/` and `text/`; FOLDER has llama.cpp's models/ggml-vocab-* files; PYTHON has tiktoken, sentencepiece,
transformers before version 5, and xllamacpp. The judge of a row is never the library that our own path runs on. Every
string on which the two differ is counted; those that a known cause explains are counted again under that cause. Exits
with 1 when one is left.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import tokenizers as engine
from carrier import write_carrier
from causes import BERT, LLAMA_CPP, NONE, NORMALIZED, USER_DEFINED, Cause
from recorded import EMPTY_AND_ROUND, RECORDED, REPEATED
from strings import strings

from pellucid.errors import TokenizerError
from pellucid.store.gguf_header import read_header
from pellucid.store.tokenizer_files import save_tokenizer
from pellucid.tokens.formats.gguf import tokenizer_from_values, tokenizer_to_values
from pellucid.tokens.tokenizer import Tokenizer

HERE = Path(__file__).parent
SEED = 20_260_616
ENGINE = f"tokenizers {engine.__version__}"
UNNAMED = {"aquila": "gpt2", "gpt-neox": "gpt2"}  # files without a way of cutting: chosen by hand, as a person would
MARKS = ("<!-- table: begin -->", "<!-- table: end -->")
TRAINED = {
    "unigram, nmt_nfkc": {"model_type": "unigram"},
    "unigram, bytes, user-defined": {"model_type": "unigram", "byte_fallback": True, "user_defined_symbols": ["<sep>", "lit", "[CLS]"]},
    "unigram, identity, no space first": {"model_type": "unigram", "normalization_rule_name": "identity",
                                          "add_dummy_prefix": False, "remove_extra_whitespaces": False},
    "bpe, bytes, nmt_nfkc": {"model_type": "bpe", "byte_fallback": True},
    "bpe, bytes, user-defined": {"model_type": "bpe", "byte_fallback": True, "normalization_rule_name": "identity",
                                 "user_defined_symbols": ["<sep>", "lit", "[CLS]"]},
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Row:
    """One vocabulary before one judge."""

    name: str
    tokenizer: Tokenizer
    judge: str
    question: Mapping[str, Any]
    causes: Sequence[Cause] = NONE
    longest: int = 2_000  # characters of a run: llama.cpp's expressions recurse, and end the process on longer ones


@dataclass(frozen=True, kw_only=True)
class Found:
    """What came of a row."""

    row: Row
    num_strings: int
    num_different: int
    explained: Mapping[str, int] = field(default_factory=dict)
    left: Sequence[tuple[str, list[int], list[int]]] = ()  # text, the judge's ids, ours

    def cells(self) -> list[str]:
        """The row of the table."""
        why = "; ".join(f"{count}: {cause}" for cause, count in self.explained.items())
        unexplained = f"{len(self.left)}: not explained" if self.left else ""
        engine = "compiled loops" if self.row.tokenizer._bulk._encoder else ENGINE  # what has carried `encode_ids`
        return [self.row.name, self.row.tokenizer.kind, f"{self.num_strings:,}", f"{self.num_different:,}", engine,
                self.row.judge, "; ".join(filter(None, (why, unexplained)))]  # fmt: skip


@dataclass(frozen=True)
class Peer:
    """The judges' own Python environment."""

    python: str

    def ask(self, question: Mapping[str, Any], texts: Sequence[str]) -> Any:
        """The answers to texts."""
        with tempfile.TemporaryDirectory() as directory:
            asked, answered = Path(directory) / "question.json", Path(directory) / "answer.json"
            asked.write_text(json.dumps({**question, "texts": list(texts)}), encoding="utf-8")
            command = [self.python, str(HERE / "judges.py"), str(asked), str(answered)]
            ran = subprocess.run(command, capture_output=True, text=True, timeout=7200)
            if ran.returncode or not answered.is_file():
                raise RuntimeError(f"{question['judge']} fails: {ran.stderr[-800:]}")
            return json.loads(answered.read_text(encoding="utf-8"))


def compare(row: Row, peer: Peer, count: int) -> Found:
    """Compare ids on `count` strings."""
    tokens = [text for data in row.tokenizer.vocabulary.token_bytes if (text := data.decode("utf-8", errors="ignore"))]
    missing = row.tokenizer.vocabulary.unspelled  # we refuse a text with such a byte, others drop it
    drawn = strings(count, SEED, tokens, longest=row.longest)
    texts = [text for text in drawn if not missing or not set(missing) & set(text.encode("utf-8"))]
    if row.tokenizer.vocabulary.pattern:
        row.tokenizer.encode_ids(["a " * (1 << 25)])  # so much text that the compiled loops are worth their start
    ours = [ids.tolist() for ids in row.tokenizer.encode_ids(texts)]
    for text, ids in islice(zip(texts, ours, strict=True), 0, None, 50):
        assert list(row.tokenizer.encode(text).ids) == ids, f"encode and encode_ids differ on {text!r}"
    theirs = peer.ask(row.question, texts)
    different = [(text, one, other) for text, one, other in zip(texts, theirs, ours, strict=True) if one != other]
    known: Counter[str] = Counter()
    left = different
    for cause in row.causes:
        found = {text for text, _, _ in left}
        mine = cause.explains(found, lambda asked: peer.ask(row.question, asked), row.tokenizer) if found else set()
        known[cause.name] += sum(text in mine for text, _, _ in left)
        left = [one for one in left if one[0] not in mine]
    explained = {name: number for name, number in known.items() if number}
    return Found(row=row, num_strings=len(texts), num_different=len(different), explained=explained, left=left)


def ranks(data: Path, folder: Path) -> Iterator[Row]:
    """GPT-2 and OpenAI's encodings from their own files; Qwen3 and minimind as ranks that were written here."""
    gpt2 = {"vocab": str(data / "gpt2_encoder.json"), "merges": str(data / "gpt2_vocab.bpe")}
    tokenizer = Tokenizer.load(data / "gpt2_encoder.json")
    yield Row(name="GPT-2 (encoder.json, vocab.bpe)", tokenizer=tokenizer, judge="tiktoken",
              question={"judge": "tiktoken", "published": "gpt2", "files": gpt2})  # fmt: skip
    for name in ("cl100k_base", "o200k_base"):
        file = data / f"{name}.tiktoken"
        yield Row(name=f"{name} (.tiktoken)", tokenizer=Tokenizer.load(file), judge="tiktoken",
                  question={"judge": "tiktoken", "published": name, "files": {"ranks": str(file)}})  # fmt: skip
    for name, form in (("qwen3", "NFC"), ("minimind", None)):
        tokenizer = Tokenizer.load(data / f"{name}_tokenizer.json")
        written, ordinary = folder / name, sorted(tokenizer.vocabulary.added.keys() - tokenizer.specials.keys())
        save_tokenizer(tokenizer, written, "tiktoken")
        files = {"ranks": str(written / "tokenizer.tiktoken"), "sidecar": str(written / "tokenizer.tiktoken.json")}
        yield Row(name=f"{name} (tokenizer.json, written as .tiktoken)", tokenizer=tokenizer, judge="tiktoken",
                  question={"judge": "tiktoken", "files": files, "added": ordinary, "form": form},
                  causes=NORMALIZED if form else NONE)  # fmt: skip


def sentencepiece(data: Path, folder: Path, peer: Peer) -> Iterator[Row]:
    """Llama 2's model, and models that sentencepiece trains now."""
    models = {"Llama 2": data / "tokenizers" / "llama2_tokenizer.model"}
    lines = [
        line
        for file in sorted((data / "text").glob("*.txt"))[:4]
        for line in file.read_text(errors="replace")[:200_000].splitlines()
    ]
    lines += [
        line
        for file in sorted((data / "chinese").glob("*.txt"))[:2]
        for line in file.read_text(errors="replace")[:100_000].splitlines()
    ]
    for name, options in TRAINED.items():
        models[name] = folder / f"{len(models)}.model"
        peer.ask({"judge": "train", "options": {"vocab_size": 6_000, "character_coverage": 0.99, **options},
                  "files": {"model": str(models[name])}}, lines)  # fmt: skip
    for name, file in models.items():
        yield Row(name=f"{name} (.model)", tokenizer=Tokenizer.load(file), judge="sentencepiece", causes=USER_DEFINED,
                  question={"judge": "sentencepiece", "files": {"model": str(file)}})  # fmt: skip


def wordpiece(data: Path) -> Iterator[Row]:
    """Two BERTs, with and without capitals."""
    for name in ("bert_base_uncased", "bert_base_chinese"):
        for lowercase in (True, False):
            file = data / f"{name}_vocab.txt"
            yield Row(name=f"{name} (vocab.txt), {'lower case' if lowercase else 'case kept'}", causes=BERT,
                      tokenizer=Tokenizer.load(file, lowercase=lowercase), judge="transformers' BertTokenizer, in Python",
                      question={"judge": "bert", "lowercase": lowercase, "files": {"vocab": str(file)}})  # fmt: skip


def gguf(vocabularies: Path, data: Path, folder: Path) -> Iterator[Row]:
    """llama.cpp's own vocabularies, each inside a small model; and some that were written here."""
    for file in sorted(vocabularies.glob("*.gguf")):
        name, values = file.stem.removeprefix("ggml-vocab-"), read_header(file).values
        try:
            tokenizer = tokenizer_from_values(values, pattern=UNNAMED.get(name))
        except TokenizerError as refusal:
            print(f"{name}: refused, not guessed at: {refusal.what}: {refusal.found}")
            continue
        pre = {"tokenizer.ggml.pre": "gpt-2"} if name in UNNAMED else {}
        yield _carried(f"{name} (GGUF)", tokenizer, {**values, **pre}, folder / f"{name}.gguf")
    for name, source in (
        ("GPT-2", "gpt2_encoder.json"),
        ("Llama 2", "llama2_tokenizer.model"),
        ("minimind", "minimind_tokenizer.json"),
    ):
        tokenizer = Tokenizer.load(data / source)
        values = tokenizer_to_values(tokenizer, tokenizer.vocab_size)
        yield _carried(f"{name} (written as GGUF)", tokenizer, values, folder / f"{source}.gguf")


def _carried(name: str, tokenizer: Tokenizer, values: Mapping[str, Any], file: Path) -> Row:
    write_carrier(file, values, tokenizer.vocab_size)
    return Row(name=name, tokenizer=tokenizer, judge="llama.cpp", causes=LLAMA_CPP, longest=400,
               question={"judge": "llama.cpp", "files": {"model": str(file)}})  # fmt: skip


def recorded(data: Path) -> Iterator[str]:
    """The pairs of tiktoken's own tests that we do not meet."""
    files = {"GPT-2": "gpt2_encoder.json", "cl100k_base": "cl100k_base.tiktoken"}
    for name, pairs in RECORDED.items():
        tokenizer = Tokenizer.load(data / files[name])
        yield from (f"{name}: {text!r}" for text, ids in pairs.items() if tokenizer.encode(text).ids != ids)
        texts = [
            *EMPTY_AND_ROUND,
            *(f"{before}{atom * 10_000}{after}" for atom in REPEATED for before in ("", " ") for after in ("", "\n")),
        ]
        yield from (f"{name}: {text[:20]!r}" for text in texts if tokenizer.decode(tokenizer.encode(text).ids) != text)


def table(found: Sequence[Found]) -> str:
    """The rows in Markdown."""
    heads = ["vocabulary", "kind", "strings", "differences", "engine", "judge", "why"]
    lines = [heads, ["---"] * len(heads), *(one.cells() for one in found)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def write_table(path: Path, text: str) -> None:
    """Put the table where the page has its marks."""
    before, _, rest = path.read_text(encoding="utf-8").partition(MARKS[0])
    _, _, after = rest.partition(MARKS[1])
    path.write_text(f"{before}{MARKS[0]}\n{text}\n{MARKS[1]}{after}", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--vocabularies", type=Path, required=True)
    parser.add_argument("--peer", required=True, help="a Python that has the judges")
    parser.add_argument("--count", type=int, default=100_000, help="strings for each vocabulary")
    parser.add_argument(
        "--judge", choices=["tiktoken", "sentencepiece", "bert", "llama.cpp"], help="only the rows of one"
    )
    parser.add_argument("--write", type=Path, help="a page with the marks of the table")
    arguments = parser.parse_args()
    peer, found = Peer(arguments.peer), []
    missed = list(recorded(arguments.data / "tokenizers"))
    print(f"tiktoken's own tests: {missed or 'all pairs and round trips met'}", flush=True)
    with tempfile.TemporaryDirectory() as directory:
        folder, data = Path(directory), arguments.data / "tokenizers"
        parts: dict[str, Callable[[], Iterator[Row]]] = {
            "tiktoken": lambda: ranks(data, folder), "sentencepiece": lambda: sentencepiece(arguments.data, folder, peer),
            "bert": lambda: wordpiece(data), "llama.cpp": lambda: gguf(arguments.vocabularies, data, folder),
        }  # fmt: skip
        for row in (row for judge, rows in parts.items() if arguments.judge in (None, judge) for row in rows()):
            start = time.perf_counter()
            found.append(compare(row, peer, arguments.count))
            print(" | ".join(found[-1].cells()), f"({time.perf_counter() - start:.0f} s)", flush=True)
            for text, theirs, ours in sorted(found[-1].left, key=lambda one: len(one[0]))[:5]:
                print(f"    {text[:80]!a}: {theirs[:12]} there, {ours[:12]} here")
    if arguments.write:
        write_table(arguments.write, table(found))
    sys.exit(1 if missed or any(one.left for one in found) else 0)


if __name__ == "__main__":
    main()
