"""Tokenizers that several test files look at, trained once on a page of English and Chinese."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from tokenizer_documents import byte_unigram, fallback_unigram, llama_bpe, load, unigram, wordpiece, words

from pellucid.tokens import layout
from pellucid.tokens.tokenizer import Tokenizer
from pellucid.tokens.train import train_bpe, train_characters, train_unigram, train_wordpiece, train_words

PAGE = (
    "It was the best of times, it was the worst of times; it's 1859 and we'll see 12345 lights.\n\n"
    "话说天下大势，分久必合，合久必分。周末七国分争，并入于秦。及秦灭之后，楚、汉分争，又并入于汉。\r\n"
    "道可道，非常道。名可名，非常名。\tThe way that can be told is not the eternal way!!!   \n"
)

# Text that breaks tokenizers: taken by kind from the conformance suites of tiktoken and llama.cpp, plus what they miss.
HARD_TEXTS = (
    "",
    "\0",
    "a\0b",
    "\r\n\r\n",
    "  \n \t\r ",
    "\ufeffBOM",
    "e\u0301 é",  # decomposed and composed: two texts, not one
    "👨‍👩‍👧‍👦🇨🇳",  # joined families and flags
    "我想在apple工作1314151天～",
    "ｆｕｌｌ　ｗｉｄｔｈ，！１２",
    "𠮷㐀豈",  # extension B, extension A, a compatibility ideograph
    "，。\r\n中",
    "<bos>",
    "a<eos>b <bos><eos>",
    "<0x41><0xE4>",
    "Ġ ▁ Ċ",
    "'RE 's 'll",
    "\x85\u2029\u3000\xa0\xa0\x00b",
    "\U0010ffff\U0001f636\u200d\U0001f32b",
    "0" * 17,
    "a" * 300 + " " * 300 + "中" * 300 + "\n" * 300,
)


@pytest.fixture(scope="module", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What is tried here is not remembered in the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def bpe() -> Tokenizer:
    return train_bpe([PAGE] * 3, 400)


@pytest.fixture(scope="session")
def characters() -> Tokenizer:
    return train_characters([PAGE])


@pytest.fixture(scope="session", params=["bpe", "characters"])
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    return request.getfixturevalue(request.param)


TRAINED = {
    "bpe": lambda: train_bpe([PAGE] * 3, 400),
    "char": lambda: train_characters([PAGE]),
    "unigram": lambda: train_unigram([PAGE] * 3, 400),
    "word": lambda: train_words([PAGE] * 3, 320),
    "wordpiece": lambda: train_wordpiece([PAGE] * 3, 320),
    "wordpiece-lowercase": lambda: train_wordpiece([PAGE] * 3, 320, lowercase=True),
}
READ = {
    "read-wordpiece": wordpiece,
    "read-unigram": unigram,
    "read-words": words,
    "read-unigram-of-bytes": byte_unigram,
    "read-bpe-with-byte-fallback": llama_bpe,
    "read-unigram-with-byte-fallback": fallback_unigram,
}


@pytest.fixture(scope="session", params=[*TRAINED, *READ])
def every_kind(request: pytest.FixtureRequest) -> Tokenizer:
    """A tokenizer of each kind, trained here and read from the layouts of other programs."""
    name = request.param
    return TRAINED[name]() if name in TRAINED else load(READ[name]())


@pytest.fixture(params=HARD_TEXTS, ids=lambda text: ascii(text)[:24])
def hard_text(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="session")
def page() -> str:
    return PAGE


@pytest.fixture(scope="session")
def unknown_tokenizer() -> Tokenizer:
    """A small WordPiece, which has an unknown token."""
    vocab = {"[UNK]": 0, "cat": 1, "##s": 2}
    model = {
        "type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##", "max_input_chars_per_word": 100,
        "vocab": vocab,
    }  # fmt: skip
    decoder = {"type": "WordPiece", "prefix": "##", "cleanup": True}
    steps = {"type": "BertPreTokenizer"}
    return Tokenizer.from_json(
        json.dumps(
            layout.document(
                model, specials=layout.numbered(layout.special_names("none"), 3), pre_tokenizer=steps, decoder=decoder
            )
        )
    )
