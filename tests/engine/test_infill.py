"""Filling gaps with an encoder and a decoder, and with a model of two streams."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from pellucid.engine import infill as infilling
from pellucid.engine.any_order import score_in_order
from pellucid.engine.infill import infill, read_spans
from pellucid.engine.masked_text import read_gaps
from pellucid.engine.runners.torch_runner import TorchRunner
from pellucid.engine.step import Completion
from pellucid.errors import RequestError, TokenizerError
from pellucid.language_model import LanguageModel
from pellucid.model.build import build
from pellucid.model.decoder import Decoder
from pellucid.planning.config import EncoderConfig
from pellucid.planning.presets import preset
from pellucid.store.text_frame import frame_of_source
from pellucid.tokens.tokenizer import Tokenizer
from pellucid.tokens.train import train_bpe, train_characters

TEXT = ["the cat sat on the mat and ran to the cat " * 20]


@pytest.fixture(scope="module")
def words() -> Tokenizer:
    return train_bpe(TEXT, 400, specials="sentinels")


@pytest.fixture
def lm(words: Tokenizer, tiny_model: Callable[..., Decoder]) -> LanguageModel:
    model = tiny_model(words.vocab_size, encoder=EncoderConfig(n_layers=1), context_length=48)
    return LanguageModel(model=model, tokenizer=words, checkpoint=None, runner=TorchRunner(model))


def written(words: Tokenizer, *parts: str | int) -> Completion:
    """What a decoder wrote, every token with the probability 1/2."""
    ids = [i for part in parts for i in ([part] if isinstance(part, int) else words.encode(part).ids)]
    logprobs = (float(torch.tensor(0.5).log()),) * len(ids)
    return Completion(text="", ids=tuple(ids), logprobs=logprobs, finish_reason="eos", seed=None, num_prompt_tokens=1)


def test_what_stands_behind_each_sentinel_is_its_filling(words: Tokenizer) -> None:
    x, y, z = words.roles["sentinel"][:3]
    told = written(words, " and", x, " cat sat", y, z, " mat", x, " ran", words.eos_id, y, " ran")
    spans = read_spans(told, (x, y, z), words)
    assert {number: span.text for number, span in spans.items()} == {0: " cat sat", 1: "", 2: " mat"}
    for span in spans.values():  # the token that ends a filling counts: writing nothing is not certain
        assert span.probability == pytest.approx(0.5 ** (len(span.ids) + 1))


def test_the_source_is_the_text_with_a_sentinel_in_each_gap(words: Tokenizer) -> None:
    """Token for token what training shows when it hides these words."""
    x, y = words.roles["sentinel"][:2]
    whole = words.encode_prompt("the cat sat on the mat", whole=True)
    cat, the = words.encode(" cat").ids[0], words.encode(" the").ids[0]
    expected = [x if i == cat else y if i == the else i for i in whole]
    cut = read_gaps("the [MASK] sat on <mask> mat", words, frame_of_source(words))
    assert list(cut.ids) == expected and [cut.ids[place] for place in cut.places] == [x, y]


def test_a_text_is_filled_by_what_the_model_writes(lm: LanguageModel) -> None:
    filled = lm.fill("the [MASK] sat on <mask> mat")
    assert filled == infill(lm.runner, lm.tokenizer, "the [MASK] sat on <mask> mat", mask=None)
    assert [blank.turn for blank in filled.blanks] == [0, 1]
    assert filled.text.startswith("the") and filled.text.endswith(" mat")


def test_what_cannot_be_filled_is_said(lm: LanguageModel, tiny_model: Callable[..., Decoder]) -> None:
    with pytest.raises(RequestError, match="no mask"):
        lm.fill("the cat")
    with pytest.raises(RequestError, match=r"one filling for each mask(.|\n)*found: top=3\n  try:   leave out --top"):
        lm.fill("the [MASK]", top=3)
    with pytest.raises(RequestError, match=r'this one is empty\n  found: --mask ""\n  try:   .*--mask "___"'):
        lm.fill("the [MASK]", mask="")
    with pytest.raises(TokenizerError, match="found: 101 masks, 100 sentinels\n  try:   fill fewer masks"):
        lm.fill("[MASK] " * 101)
    signs = train_characters(["abc"], specials="standard")
    bare = tiny_model(signs.vocab_size, encoder=EncoderConfig(n_layers=1))
    with pytest.raises(TokenizerError, match=r"no tokens that stand for a gap(.|\n)*try:   pellucid generate"):
        LanguageModel(model=bare, tokenizer=signs, checkpoint=None, runner=TorchRunner(bare)).fill("a[MASK]c")


def test_a_gap_that_nothing_is_written_for_stays_with_its_spaces(lm: LanguageModel, monkeypatch) -> None:
    monkeypatch.setattr(infilling, "read_spans", lambda *given: {})
    filled = lm.fill("the [MASK] sat on a[MASK] mat")
    assert filled.text == "the [MASK] sat on a[MASK] mat" and [blank.candidates for blank in filled.blanks] == [(), ()]


def test_a_model_of_two_streams_fills_without_a_mask_token(words: Tokenizer, tmp_path) -> None:
    """Each place from all the rest, or one after the other, as it scores them in that order."""
    from pellucid.api import load
    from pellucid.store.checkpoint import save_checkpoint

    config = preset("xlnet").revise(vocab_size=words.vocab_size, n_layers=1, context_length=32, init="gpt2")
    model = build(config, seed=3)
    save_checkpoint(tmp_path / "m", config=config, weights=model.state_dict(), tokenizer=words, info={})
    lm = load(tmp_path / "m", device="cpu")
    filled = lm.fill("the [MASK] sat on [MASK] mat", one_by_one=True)
    first, second = sorted(range(2), key=lambda number: filled.blanks[number].turn)
    together = lm.fill("the [MASK] sat on [MASK] mat")
    assert filled.blanks[first].candidates == together.blanks[first].candidates
    from pellucid.engine.fill import cut_at_masks

    blanks = cut_at_masks("the [MASK] sat on [MASK] mat", words, lm.checkpoint.frame(words), stand_in=0)
    ids = list(blanks.ids)
    for place, blank in zip(blanks.places, filled.blanks, strict=True):
        ids[place] = blank.candidates[0].id
    order = [blanks.places[first], blanks.places[second]]
    for place, number in zip(score_in_order(lm.model, ids, order), (first, second), strict=True):
        assert filled.blanks[number].candidates[0].probability == pytest.approx(
            torch.tensor(place.logprob).exp().item()
        )
