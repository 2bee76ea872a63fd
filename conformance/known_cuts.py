"""Do the well-known vocabularies still cut two words as the lesson `token-worth` says?

    python conformance/known_cuts.py --data DATA

DATA has the vocabulary files of `pellucid.lessons.known_cuts`, each under its `file` name. They are cut by the libraries
that they were made for: tiktoken (it checks the hashes of OpenAI's files itself) and sentencepiece. BERT's two are cut by
the longest match, which is written out below. Prints a line for each vocabulary, and exits with 1 when one differs.
`--print` prints the facts as they would be recorded.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import sentencepiece
import tiktoken
from tiktoken.load import data_gym_to_mergeable_bpe_ranks, load_tiktoken_bpe
from tiktoken_ext import openai_public

from pellucid.lessons.known_cuts import KNOWN_CUTS, TEXTS, KnownCut
from pellucid.tokens.byte_characters import CHARACTER_BYTES
from pellucid.tokens.labels import label_of_bytes


@dataclass(frozen=True, kw_only=True)
class Judge:
    """A vocabulary as its own library runs it."""

    size: int
    cut: Callable[[str], list[str]]


def gpt2(data: Path, file: str) -> Judge:
    """GPT-2's merges, run by tiktoken."""
    ranks = data_gym_to_mergeable_bpe_ranks(str(data / file), str(data / "gpt2_encoder.json"))
    return by_ranks(ranks, openai_public.r50k_pat_str)


def published(data: Path, file: str) -> Judge:
    """A rank file of OpenAI's, with the expression and the hash that tiktoken knows for it."""

    def load_here(url: str, expected_hash: str | None = None) -> dict[bytes, int]:
        return load_tiktoken_bpe(str(data / url.rsplit("/", 1)[1]), expected_hash)

    openai_public.load_tiktoken_bpe = load_here
    described = openai_public.ENCODING_CONSTRUCTORS[Path(file).stem]()
    return by_ranks(described["mergeable_ranks"], described["pat_str"])


def byte_level_json(data: Path, file: str) -> Judge:
    """A byte-level BPE in a tokenizer.json whose ids are ranks, run by tiktoken."""
    document = json.loads((data / file).read_text(encoding="utf-8"))
    vocab = document["model"]["vocab"].items()
    ranks = {bytes(CHARACTER_BYTES[sign] for sign in token): token_id for token, token_id in vocab}
    return by_ranks(ranks, document["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"])


def by_ranks(ranks: dict[bytes, int], expression: str) -> Judge:
    encoding = tiktoken.Encoding("judge", pat_str=expression, mergeable_ranks=ranks, special_tokens={})

    def cut(text: str) -> list[str]:
        return [label_of_bytes(encoding.decode_single_token_bytes(i)) for i in encoding.encode_ordinary(text)]

    return Judge(size=len(ranks), cut=cut)


def sentencepiece_model(data: Path, file: str) -> Judge:
    """A SentencePiece model, run by sentencepiece; ▁ is how it writes a space."""
    model = sentencepiece.SentencePieceProcessor(model_file=str(data / file))
    return Judge(
        size=model.vocab_size(),
        cut=lambda text: [piece.replace("▁", "·") for piece in model.encode(text, out_type=str)],
    )


def longest_match(data: Path, file: str) -> Judge:
    """BERT's WordPiece on plain words: each Chinese character is a word, and the longest token that fits comes first."""
    vocab = set((data / file).read_text(encoding="utf-8").rstrip("\n").split("\n"))

    def cut(text: str) -> list[str]:
        words = [text] if text.isascii() else list(text)
        return [piece for word in words for piece in cut_word(word)]

    def cut_word(word: str) -> list[str]:
        pieces: list[str] = []
        start = 0
        while start < len(word):
            mark = "##" if start else ""
            ends = (end for end in range(len(word), start, -1) if mark + word[start:end] in vocab)
            if (end := next(ends, None)) is None:
                return ["[UNK]"]
            pieces.append(mark + word[start:end])
            start = end
        return pieces

    return Judge(size=len(vocab), cut=cut)


JUDGES = {
    "gpt2_vocab.bpe": gpt2,
    "cl100k_base.tiktoken": published,
    "o200k_base.tiktoken": published,
    "qwen3_tokenizer.json": byte_level_json,
    "llama2_tokenizer.model": sentencepiece_model,
    "bert_base_uncased_vocab.txt": longest_match,
    "bert_base_chinese_vocab.txt": longest_match,
}


def check(fact: KnownCut, data: Path) -> list[str]:
    """What differs between a recorded fact and the file, in words."""
    path = data / fact.file
    if not path.is_file():
        return [f"{fact.file} is not in {data}"]
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    if sha256 != fact.sha256:
        return [f"another file: its hash is {sha256}"]
    judge = JUDGES[fact.file](data, fact.file)
    if judge.size != fact.size:
        return [f"{judge.size:,} tokens, recorded {fact.size:,}"]
    found = {text: tuple(judge.cut(text)) for text in TEXTS}
    return [f"{text}: {found[text]}, recorded {fact.cuts[text]}" for text in TEXTS if found[text] != fact.cuts[text]]


def print_facts(data: Path) -> None:
    """Print file, hash and cuts of every vocabulary."""
    for file, open_judge in JUDGES.items():
        judge = open_judge(data, file)
        cuts = {text: judge.cut(text) for text in TEXTS}
        sha256 = hashlib.sha256((data / file).read_bytes()).hexdigest()
        print(json.dumps({"file": file, "sha256": sha256, "size": judge.size, "cuts": cuts}, ensure_ascii=False))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--print", action="store_true", dest="printed")
    arguments = parser.parse_args()
    if arguments.printed:
        print_facts(arguments.data)
        return
    failed = False
    for fact in KNOWN_CUTS:
        faults = check(fact, arguments.data)
        failed = failed or bool(faults)
        print(f"{'differs' if faults else 'equal':8} {fact.vocabulary:20} {'; '.join(faults)}".rstrip())
    sys.exit(failed)


if __name__ == "__main__":
    main()
