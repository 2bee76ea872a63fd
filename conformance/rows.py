"""The rows of the table: every vocabulary, and the judge that it comes before."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from carrier import write_carrier
from causes import BERT, LLAMA_CPP, LLAMA_CPP_BERT, NONE, NORMALIZED, SCORES, Cause
from peer import Peer

from pellucid.errors import TokenizerError
from pellucid.store.gguf_header import read_header
from pellucid.store.tokenizer_files import save_tokenizer
from pellucid.tokens.formats.gguf import tokenizer_from_values, tokenizer_to_values
from pellucid.tokens.tokenizer import Tokenizer

UNNAMED = {"aquila": "gpt2", "gpt-neox": "gpt2"}  # files without a way of cutting: chosen by hand, as a person would
LLAMA_CPP_LONGEST = 400  # its expressions recurse, and end the process on longer repetitions
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
    longest: int = 10_000  # characters of a text that repeats itself


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
        yield Row(name=f"{name} (.model)", tokenizer=Tokenizer.load(file), judge="sentencepiece", causes=SCORES,
                  question={"judge": "sentencepiece", "files": {"model": str(file)}})  # fmt: skip


def wordpiece(data: Path) -> Iterator[Row]:
    """Two BERTs, with and without capitals."""
    for name in ("bert_base_uncased", "bert_base_chinese"):
        for lowercase in (True, False):
            file = data / f"{name}_vocab.txt"
            yield Row(name=f"{name} (vocab.txt), {'lower case' if lowercase else 'case kept'}", causes=BERT,
                      tokenizer=Tokenizer.load(file, lowercase=lowercase), judge="transformers' BertTokenizer, in Python",
                      question={"judge": "bert", "lowercase": lowercase, "files": {"vocab": str(file)}})  # fmt: skip


def gguf(vocabularies: Path, data: Path, folder: Path, only: Sequence[str]) -> Iterator[Row]:
    """llama.cpp's own vocabularies, each inside a small model; and some that were written here. `only`: one of them in the name."""
    for file in sorted(vocabularies.glob("*.gguf")):
        name = file.stem.removeprefix("ggml-vocab-")
        if not any(part in f"{name} (GGUF)" for part in only):
            continue
        values = read_header(file).values
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
        if not any(part in f"{name} (written as GGUF)" for part in only):
            continue
        tokenizer = Tokenizer.load(data / source)
        values = tokenizer_to_values(tokenizer, tokenizer.vocab_size)
        yield _carried(f"{name} (written as GGUF)", tokenizer, values, folder / f"{source}.gguf")


def _carried(name: str, tokenizer: Tokenizer, values: Mapping[str, Any], file: Path) -> Row:
    write_carrier(file, values, tokenizer.vocab_size)
    causes = LLAMA_CPP_BERT if tokenizer.kind == "wordpiece" else LLAMA_CPP
    return Row(name=name, tokenizer=tokenizer, judge="llama.cpp", causes=causes, longest=LLAMA_CPP_LONGEST,
               question={"judge": "llama.cpp", "files": {"model": str(file)}})  # fmt: skip


def every_row(
    data: Path, vocabularies: Path, folder: Path, peer: Peer, only: Sequence[str]
) -> Mapping[str, Callable[[], Iterator[Row]]]:
    """The rows of each judge, made when they are asked for. `folder`: a place for files that are written on the way.

    `only`: parts of names; GGUF files without one are not opened, of the other rows the caller takes what fits.
    """
    files = data / "tokenizers"
    return {
        "tiktoken": lambda: ranks(files, folder),
        "sentencepiece": lambda: sentencepiece(data, folder, peer),
        "bert": lambda: wordpiece(files),
        "llama.cpp": lambda: gguf(vocabularies, files, folder, only),
    }
