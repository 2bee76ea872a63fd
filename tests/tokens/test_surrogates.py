"""Half of a surrogate pair is no character: an error with its place at every door that text enters by."""

from __future__ import annotations

import pytest

from pellucid.errors import TokenizerError
from pellucid.tokens.choose import train_tokenizer
from pellucid.tokens.explain import explain
from pellucid.tokens.prompt import read_prompt, read_prompts
from pellucid.tokens.settings import TokenizerSettings
from pellucid.tokens.tokenizer import Tokenizer

HALF = "the 中\ud83dc"
DOORS = {
    "encode": lambda tokenizer: tokenizer.encode(HALF),
    "encode_pieces": lambda tokenizer: tokenizer.encode_pieces(HALF),
    "encode_ids": lambda tokenizer: tokenizer.encode_ids(["fine", HALF]),
    "encode_prompt": lambda tokenizer: tokenizer.encode_prompt(HALF),
    "normalize": lambda tokenizer: tokenizer.normalize(HALF),
    "read_prompt": lambda tokenizer: read_prompt(HALF, tokenizer),
    "read_prompts": lambda tokenizer: read_prompts(["fine", HALF], tokenizer),
    "explain": lambda tokenizer: explain(tokenizer, HALF),
}


@pytest.mark.parametrize("door", DOORS)
def test_a_text_to_encode(every_kind: Tokenizer, door: str) -> None:
    with pytest.raises(TokenizerError, match=r"half of a surrogate pair.*\n.*U\+D83D at character 5") as error:
        DOORS[door](every_kind)
    assert "UTF-8" in error.value.hint


@pytest.mark.parametrize("kind", ["bpe", "unigram", "wordpiece", "word", "char"])
def test_a_text_to_train_on(kind: str) -> None:
    """The place is that in the whole text, not in the block that was just read, and the text is named too."""
    texts = ["fine", "some words " * 1_000 + "\udc00"]
    asked = TokenizerSettings(kind=kind, vocab_size=300)  # type: ignore[arg-type]
    with pytest.raises(TokenizerError, match=r"U\+DC00 at character 11000\n.*text 2"):
        train_tokenizer(texts, sum(map(len, texts)), asked)
