"""Small vocabularies, hostile strings, and the ids that other people's tokenizers give: the record that the tests look up.

    python conformance/record.py --peer PYTHON --write tests/helpers/judged.json
    python conformance/record.py --peer PYTHON --check tests/helpers/judged.json

PYTHON has the judges. The first makes the record anew: vocabularies that sentencepiece and we train on one page. The
second asks the judges again about the vocabularies and strings in the record, prints a line for each, and exits with 1
when one gives other ids than are recorded. A string that a judge is known to read otherwise (`causes.py`) has no ids.
"""

from __future__ import annotations

import argparse
import base64
import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from carrier import write_carrier
from causes import BERT, LLAMA_CPP, NONE, SCORES, Case, Cause, Difference, explain
from peer import Peer
from strings import strings

from pellucid.tokens.patterns import PATTERNS
from pellucid.tokens.train import train_bpe

TESTS = Path(__file__).parents[1] / "tests" / "helpers"
sys.path.insert(0, str(TESTS))
from judged import CASE, gguf_values, open_judged  # noqa: E402  (as the tests open them)

SEED, COUNT, LONGEST = 20_261_127, 80, 30
PAGE = [
    "It was the best of times, it was the worst of times; it's 1859 and we'll see 12345 lights. The naïve café!\n",
    "话说天下大势，分久必合，合久必分。周末七国分争，并入于秦。人工智能，你好，世界。汉字\r\n",
    "def f(x):\n    return x + 1  # the 100 and 1,000,000\n\n\tif (a < b) { c++; }\n",
] * 40
WORDS = (
    "the",
    "cat",
    "un",
    "##happi",
    "##ness",
    "straw",
    "##berry",
    "don",
    "hello",
    "world",
    "##s",
    "##σ",
    "##ς",
    "人",
    "工",
    "中",
    "文",
    "你",
    "好",
)
CROSSING = (  # what some ways of cutting keep together and others part: every beginning of these is a token too
    "1234567", " 1234", "x12", "'S", "'RE", "don't", "e\u0301x", "!\n\n", ".\r\n", " \n", "  \n", "\n\n\n", "\n  ", "\t\t", "。\n", "，中", "中文字", " 中", "?a",
    "(a", " (", " !", "!!", "_in", "+=", "$a", "½½", "\u0301a", "aB", "ABc", "/\n", "か\u3099", "中a", "٣٣", "\u3000中", "㐀㐀", "éé", "🇨🇳", "ⴀⴀ", "\u200da",
)  # fmt: skip
GGUF_NAMES = ("gpt-2", "qwen2", "qwen35", "llama-bpe", "smaug-bpe", "smollm", "falcon", "deepseek-coder", "deepseek-llm", "deepseek-v3", "gpt-4o", "tekken")  # fmt: skip


def make_files(peer: Peer) -> dict[str, str]:
    """The vocabularies: ranks that are trained here, two models that sentencepiece trains, a list of words."""
    trained = train_bpe(PAGE, 380, pattern="gpt2", specials="none")
    tokens = dict.fromkeys(trained.vocabulary.token_bytes[: -len(trained.specials)])  # those come last
    tokens |= {data[:end]: None for data in map(str.encode, CROSSING) for end in range(2, len(data) + 1)}
    ranks = "".join(f"{base64.b64encode(token).decode()} {i}\n" for i, token in enumerate(tokens))
    plain = {
        "normalization_rule_name": "identity",
        "byte_fallback": True,
        "character_coverage": 0.98,
        "vocab_size": 340,
    }
    with tempfile.TemporaryDirectory() as directory:
        models = {kind: Path(directory) / kind for kind in ("unigram", "bpe")}
        for kind, file in models.items():
            question = {"judge": "train", "options": {"model_type": kind, **plain}, "files": {"model": str(file)}}
            peer.ask(question, [line for text in PAGE for line in text.splitlines()])
        spelled = {kind: base64.b64encode(file.read_bytes()).decode() for kind, file in models.items()}
    signs = [chr(code) for code in range(0x21, 0x7F) if not "A" <= chr(code) <= "Z"]
    inner = [f"##{sign}" for sign in signs if sign.isalnum()]
    listed = dict.fromkeys(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *signs, *"éßσςΣA，。", *inner, *WORDS])
    return {"ranks": ranks, **spelled, "vocab.txt": "".join(f"{token}\n" for token in listed)}


def names() -> list[str]:
    """Every vocabulary by its judge and what the judge is told."""
    return [
        *(f"tiktoken: {pattern}" for pattern in PATTERNS),
        *(f"sentencepiece: {kind}" for kind in ("unigram", "bpe")),
        *(f"bert: {case}" for case in ("lower case", "case kept")),
        *(f"llama.cpp: {name}" for name in GGUF_NAMES),
    ]


def ask_judge(name: str, files: dict[str, str], texts: list[str], peer: Peer) -> list[list[int]]:
    """The judge's ids."""
    judge, _, told = name.partition(": ")
    with tempfile.TemporaryDirectory() as directory:
        file, beside = Path(directory) / "file", Path(directory) / "beside.json"
        question: dict[str, Any] = {"judge": judge, "files": {"ranks": str(file), "sidecar": str(beside)}}
        if judge == "tiktoken":
            file.write_text(files["ranks"])
            beside.write_text(json.dumps({"name": told, "pat_str": PATTERNS[told], "special_tokens": {}}))
        elif judge == "sentencepiece":
            file.write_bytes(base64.b64decode(files[told]))
            question["files"] = {"model": str(file)}
        elif judge == "bert":
            file.write_text(files["vocab.txt"], encoding="utf-8")
            question |= {"lowercase": CASE[told], "files": {"vocab": str(file)}}
        else:
            tokenizer = open_judged("tiktoken: qwen2", files)
            write_carrier(file, gguf_values(tokenizer, told), tokenizer.vocab_size)
            question["files"] = {"model": str(file)}
        return peer.ask(question, texts)


CAUSES: dict[str, tuple[Cause, ...]] = {"tiktoken": NONE, "sentencepiece": SCORES, "bert": BERT, "llama.cpp": LLAMA_CPP}


def make(peer: Peer) -> dict[str, Any]:
    """The record. Raises RuntimeError where we differ from a judge, and no known cause explains it."""
    files = make_files(peer)
    texts = list(dict.fromkeys([*CROSSING, *strings(COUNT, SEED, (*CROSSING, *WORDS), longest=LONGEST)]))
    ids: dict[str, list[str | None]] = {}
    for name in names():
        theirs = ask_judge(name, files, texts, peer)
        tokenizer = open_judged(name, files)
        ours = [list(tokenizer.encode(text).ids) for text in texts]
        different = [Difference(*one) for one in zip(texts, theirs, ours, strict=True) if one[1] != one[2]]
        case = Case(
            different=different, ask=lambda asked, name=name: ask_judge(name, files, asked, peer), tokenizer=tokenizer
        )
        explained, left = explain(case, CAUSES[name.partition(":")[0]])
        if left:
            raise RuntimeError(f"{name}: {left[0]}")
        print(f"{name}: {len(texts) - len(different)} strings, left out: {explained or 'none'}", flush=True)
        known = {one.text for one in different}
        ids[name] = [None if text in known else written(one) for text, one in zip(texts, theirs, strict=True)]
    return {"files": files, "texts": texts, "ids": ids}


def written(ids: list[int]) -> str:
    """Ids as the record has them."""
    return " ".join(map(str, ids))


def check(record: dict[str, Any], peer: Peer) -> Iterator[str]:
    """The vocabularies to which a judge gives other ids than are recorded."""
    for name, ids in record["ids"].items():
        pairs = zip(record["texts"], ask_judge(name, record["files"], record["texts"], peer), ids, strict=True)
        wrong = [text for text, now, then in pairs if then is not None and written(now) != then]
        print(
            f"{'differs' if wrong else 'equal':8} {name}, {len(ids) - ids.count(None)} strings {wrong or ''}".rstrip(),
            flush=True,
        )
        if wrong:
            yield name


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", required=True, help="a Python that has the judges")
    parser.add_argument("--write", type=Path, help="make the record anew")
    parser.add_argument("--check", type=Path, help="ask the judges again")
    arguments = parser.parse_args()
    peer = Peer(arguments.peer)
    if arguments.write:
        arguments.write.write_text(json.dumps(make(peer), indent=1) + "\n", encoding="utf-8")
    if arguments.check:
        sys.exit(1 if list(check(json.loads(arguments.check.read_text(encoding="utf-8")), peer)) else 0)


if __name__ == "__main__":
    main()
