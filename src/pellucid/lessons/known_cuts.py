"""How well-known vocabularies cut two words: facts of their published files, recorded.

    python conformance/known_cuts.py --data DATA --print     makes them, by the libraries that the files belong to
    python conformance/known_cuts.py --data DATA             checks them again

Each fact names its file by its hash. A space is written ·, a byte that is no character in hexadecimal, and ## is BERT's
mark for "goes on the token before".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

MAKING_COMMAND = "python conformance/known_cuts.py --data DATA"
TEXTS = ("strawberry", "人工智能")


@dataclass(frozen=True, kw_only=True)
class KnownCut:
    """One vocabulary and its cuts."""

    vocabulary: str
    source: str  # where its file is published
    file: str  # what it is called in the data of the check
    sha256: str
    size: int  # tokens in the file
    cuts: Mapping[str, tuple[str, ...]]  # for each of TEXTS, standing alone


KNOWN_CUTS = (
    KnownCut(
        vocabulary="GPT-2",
        source="openaipublic.blob.core.windows.net/gpt-2/encodings/main/vocab.bpe",
        file="gpt2_vocab.bpe",
        sha256="1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5",
        size=50_256,
        cuts={
            "strawberry": ("st", "raw", "berry"),
            "人工智能": ("人", "E5 B7", "A5", "E6", "99", "BA", "E8 83", "BD"),
        },
    ),
    KnownCut(
        vocabulary="cl100k (GPT-4)",
        source="openaipublic.blob.core.windows.net/encodings/cl100k_base.tiktoken",
        file="cl100k_base.tiktoken",
        sha256="223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7",
        size=100_256,
        cuts={"strawberry": ("str", "aw", "berry"), "人工智能": ("人", "工", "E6 99", "BA", "能")},
    ),
    KnownCut(
        vocabulary="o200k (GPT-4o)",
        source="openaipublic.blob.core.windows.net/encodings/o200k_base.tiktoken",
        file="o200k_base.tiktoken",
        sha256="446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d",
        size=199_998,
        cuts={"strawberry": ("st", "raw", "berry"), "人工智能": ("人工", "智能")},
    ),
    KnownCut(
        vocabulary="Qwen3",
        source="huggingface.co/Qwen/Qwen3-0.6B tokenizer.json",
        file="qwen3_tokenizer.json",
        sha256="aeb13307a71acd8fe81861d94ad54ab689df773318809eed3cbe794b4492dae4",
        size=151_643,
        cuts={"strawberry": ("str", "aw", "berry"), "人工智能": ("人工智能",)},
    ),
    KnownCut(
        vocabulary="Llama 2",
        source="huggingface.co/meta-llama/Llama-2-7b-hf tokenizer.model",
        file="llama2_tokenizer.model",
        sha256="9e556afd44213b6bd1be2b850ebbbd98f5481437a8021afaf58ee7fb1818d347",
        size=32_000,
        cuts={"strawberry": ("·st", "raw", "berry"), "人工智能": ("·", "人", "工", "智", "能")},
    ),
    KnownCut(
        vocabulary="BERT base, uncased",
        source="huggingface.co/google-bert/bert-base-uncased vocab.txt",
        file="bert_base_uncased_vocab.txt",
        sha256="07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
        size=30_522,
        cuts={"strawberry": ("strawberry",), "人工智能": ("人", "[UNK]", "智", "[UNK]")},
    ),
    KnownCut(
        vocabulary="BERT base, Chinese",
        source="huggingface.co/google-bert/bert-base-chinese vocab.txt",
        file="bert_base_chinese_vocab.txt",
        sha256="45080377ab16e88f0b507f408bed27c999742143f720cf0263ebb5a5225257c2",
        size=21_128,
        cuts={"strawberry": ("st", "##ra", "##w", "##berry"), "人工智能": ("人", "工", "智", "能")},
    ),
)
