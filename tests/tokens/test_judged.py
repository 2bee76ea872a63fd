"""Our ids are those that tiktoken, sentencepiece, BERT in Python and llama.cpp gave: recorded, so that none is needed here.

Hostile strings (emoji, combining marks, line ends, rare ideographs, lookalikes of special tokens, runs) on small
vocabularies: every pattern, both SentencePiece models, BERT's list, every way of cutting that a GGUF file may name.
"""

from __future__ import annotations

import runpy
from pathlib import Path
from types import SimpleNamespace

import pytest
from judged import open_judged, read_record

RECORD = read_record()


@pytest.mark.parametrize("name", RECORD["ids"])
def test_our_ids_are_those_of_the_judge(name: str) -> None:
    tokenizer = open_judged(name, RECORD["files"])
    recorded = {text: ids for text, ids in zip(RECORD["texts"], RECORD["ids"][name], strict=True) if ids is not None}
    bulk = [" ".join(map(str, ids)) for ids in tokenizer.encode_ids(list(recorded))]
    one_by_one = [" ".join(map(str, tokenizer.encode(text).ids)) for text in recorded]
    assert len(recorded) >= 90 and bulk == one_by_one == list(recorded.values())


def test_the_ways_of_cutting_are_told_apart() -> None:
    """A pattern in another's place would give other ids: the strings reach what they differ in."""
    ids = RECORD["ids"]
    same = [
        ("llama.cpp: gpt-2", "tiktoken: gpt2"),
        ("llama.cpp: qwen2", "tiktoken: qwen2"),
        ("llama.cpp: smaug-bpe", "tiktoken: llama3"),
    ]
    assert all(ids[one] == ids[other] for one, other in same)
    cuts = [name for name in ids if name.startswith("llama.cpp") or name in ("tiktoken: cl100k", "tiktoken: o200k")]
    alike = {(a, b) for a in cuts for b in cuts if a < b and ids[a] == ids[b]}
    assert alike == {
        ("llama.cpp: llama-bpe", "llama.cpp: smaug-bpe")
    }  # these differ in whole tokens that no merge makes


def test_a_cause_explains_only_what_it_gives_the_ids_of() -> None:
    """A Σ in a string is no excuse for ids that have nothing to do with it."""
    causes = SimpleNamespace(**runpy.run_path(str(Path(__file__).parents[2] / "conformance" / "causes.py")))
    tokenizer = open_judged("bert: lower case", RECORD["files"])

    def judge(texts: list[str]) -> list[list[int]]:
        return [ids.tolist() for ids in tokenizer.encode_ids([text.replace("aΣ", "aς") for text in texts])]

    texts = ["aΣ the cat", "Σ the cat"]
    right, wrong = judge(texts)[0], [7, 7, 7]
    ours = [ids.tolist() for ids in tokenizer.encode_ids(texts)]
    different = [
        causes.Difference(text, ids, mine) for text, ids, mine in zip(texts, (right, wrong), ours, strict=True)
    ]
    case = causes.Case(different=different, ask=judge, tokenizer=tokenizer)
    assert causes.explain(case, causes.BERT) == ({"Σ": 1}, [different[1]])
