"""Filling blanks: the model's own probabilities at the masks, and only what is asked for is a mask."""

from __future__ import annotations

import pytest
import tokenizers
import torch
from encoders import NO_HEAD, answering, bert, save_encoder, wordpiece

from pellucid.api import load
from pellucid.engine.fill import cut_at_masks
from pellucid.errors import ContextError, RequestError, TokenizerError
from pellucid.language_model import LanguageModel
from pellucid.store.checkpoint import save_checkpoint
from pellucid.tokens.framing import Frame, frame_of_file
from pellucid.tokens.train import train_bpe


@pytest.fixture(scope="module")
def lm(tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    tokenizer = wordpiece()
    return load(save_encoder(tmp_path_factory.mktemp("fill") / "bert", bert(tokenizer), tokenizer), device="cpu")


def test_candidates_are_the_models_own_probabilities_at_the_mask(lm) -> None:
    ids = tokenizers.Tokenizer.from_str(lm.tokenizer.json).encode("the [MASK] sat on the [MASK].").ids
    rows_TV = lm.model(torch.tensor([ids])).logits_BTV[0].softmax(-1)
    mask = lm.tokenizer.specials["[MASK]"]
    places = [place for place, token_id in enumerate(ids) if token_id == mask]
    filled = lm.fill("the [MASK] sat on the [MASK].", top=1000)
    assert len(filled.blanks) == len(places) == 2
    for blank, place in zip(filled.blanks, places, strict=True):
        found = {one.id: one.probability for one in blank.candidates}
        assert found == pytest.approx({token_id: rows_TV[place, token_id].item() for token_id in found}, abs=1e-6)
        assert [*found.values()] == sorted(found.values(), reverse=True)
        assert {*range(lm.tokenizer.vocab_size)} - {*found} == {*lm.tokenizer.specials.values()}


def test_a_known_answer_is_written_into_the_text(tmp_path) -> None:
    tokenizer = wordpiece()
    weights = answering(tokenizer, {2: "cat", 5: "the"})
    save_checkpoint(tmp_path / "m", config=bert(tokenizer), weights=weights, tokenizer=tokenizer, info={})
    lm = load(tmp_path / "m", device="cpu")
    # [CLS] the [MASK] sat on [MASK] mat . [SEP]
    filled = lm.fill("The [MASK] sat on [MASK] mat.")
    assert filled.text == "The cat sat on the mat."
    assert [blank.candidates[0].text.strip() for blank in filled.blanks] == ["cat", "the"]
    in_turn = lm.fill("The [MASK] sat on [MASK] mat.", one_by_one=True)
    assert in_turn.text == filled.text
    assert [blank.turn for blank in in_turn.blanks] == [1, 0]  # the second is the surer one


def test_one_by_one_asks_again_with_the_first_answer_in_place(lm) -> None:
    filled = lm.fill("the [MASK] [MASK] on", one_by_one=True)
    first, second = sorted(range(2), key=lambda number: filled.blanks[number].turn)
    together = lm.fill("the [MASK] [MASK] on")
    assert filled.blanks[first].candidates == together.blanks[first].candidates
    assert together.blanks[first].candidates[0].probability > together.blanks[second].candidates[0].probability
    blanks = cut_at_masks("the [MASK] [MASK] on", lm.tokenizer, frame_of_file(lm.tokenizer))
    ids = list(blanks.ids)
    ids[blanks.places[first]] = filled.blanks[first].candidates[0].id
    row_V = lm.model(torch.tensor([ids])).logits_BTV[0, blanks.places[second]].softmax(-1)
    best = filled.blanks[second].candidates[0]
    assert best.probability == pytest.approx(row_V[best.id].item(), abs=1e-6)


def test_only_the_mask_is_a_control_token_and_everything_else_is_text(lm) -> None:
    cut = cut_at_masks("[SEP] [MASK] [CLS]", lm.tokenizer, Frame())
    marks = {lm.tokenizer.specials[name] for name in ("[SEP]", "[CLS]")}
    assert len(cut.places) == 1 and not marks & {*cut.ids}
    other = cut_at_masks("a ___ b [MASK]", lm.tokenizer, Frame(), "___")
    assert len(other.places) == 1 and lm.tokenizer.specials["[MASK]"] not in other.ids[other.places[0] + 1 :]


def test_the_frame_is_the_one_of_the_file(lm) -> None:
    cls, sep = (lm.tokenizer.specials[name] for name in ("[CLS]", "[SEP]"))
    assert frame_of_file(lm.tokenizer) == Frame((cls,), (sep,))


def test_a_mask_stands_for_a_word_with_its_space_where_words_have_one() -> None:
    tokenizer = train_bpe(["the cat sat on the mat. " * 20], 330, specials="standard")
    assert tokenizer.roles.first("mask") is not None
    cut = cut_at_masks("the [MASK] sat", tokenizer, Frame())
    whole = tokenizer.encode("the cat sat").ids
    assert (cut.ids[: cut.places[0]], cut.ids[cut.places[0] + 1 :]) == (
        whole[:1],
        whole[-len(cut.ids) + 1 + cut.places[0] :],
    )
    assert tokenizer.decode(cut.ids) == "the sat"


@pytest.mark.parametrize(("text", "options", "error", "match"), [
    ("no blank here", {}, RequestError, r"the text has no mask\n  found: no \[MASK\]\n  try:   write one"),
    ("a [MASK]", {"mask": "___"}, RequestError, r"the text has no mask\n  found: no ___"),
    ("the cat " * 20 + "[MASK]", {}, ContextError, "longer than the model's context"),
    ("[MASK]", {"top": 0}, RequestError, "lie between 1 and 1,000"),
    (["[MASK]"], {}, RequestError, "str is wanted here"),
])  # fmt: skip
def test_what_cannot_be_filled_is_told(lm, text, options, error, match) -> None:
    with pytest.raises(error, match=match):
        lm.fill(text, **options)


def test_models_and_tokenizers_that_cannot_fill_say_what_can(lm, tmp_path) -> None:
    tokenizer = wordpiece()
    alone = load(save_encoder(tmp_path / "alone", bert(tokenizer, head=NO_HEAD), tokenizer), device="cpu")
    with pytest.raises(RequestError, match=r"scores no tokens, so it cannot fill(.|\n)*pellucid embed"):
        alone.fill("a [MASK]")
    with pytest.raises(RequestError, match=r"cannot continue a text(.|\n)*pellucid fill(.|\n)*pellucid embed"):
        lm.complete("a")
    plain = train_bpe(["the cat. " * 20], 300, specials="none")
    masked = load(save_encoder(tmp_path / "plain", bert(plain), plain), device="cpu")
    with pytest.raises(TokenizerError, match="this tokenizer has no mask token"):
        masked.fill("a [MASK]")
    causal = save_encoder(tmp_path / "causal", lm.config.revise(causal=True), tokenizer)
    with pytest.raises(RequestError, match=r"continues a text, and cannot fill(.|\n)*pellucid generate"):
        load(causal, device="cpu").fill("a [MASK]")
