"""The score of a text under a masked model: each token hidden in turn, as transformers' model answers one row at a time."""

from __future__ import annotations

import json

import pytest
import tokenizers
import torch
import transformers
from encoders import NO_HEAD, bert, save_encoder, trained_here, wordpiece

from pellucid.api import load
from pellucid.errors import ContextError, RequestError, TokenizerError
from pellucid.evaluate import masked_score

TEXT = "the cat sat on the mat. 🐘 ran."


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    tokenizer = wordpiece()
    return load(save_encoder(tmp_path_factory.mktemp("masked") / "bert", bert(tokenizer), tokenizer), device="cpu")


def test_each_token_is_hidden_in_turn(encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    judge = transformers.BertForMaskedLM.from_pretrained(encoder.checkpoint.directory).eval()
    ids = tokenizers.Tokenizer.from_str(encoder.tokenizer.json).encode(TEXT).ids
    mask, expected = encoder.tokenizer.specials["[MASK]"], []
    for place in range(1, len(ids) - 1):
        hidden = [*ids[:place], mask, *ids[place + 1 :]]
        with torch.no_grad():
            row_V = judge(torch.tensor([hidden])).logits[0, place].log_softmax(-1)
        expected.append(row_V[ids[place]].item())
    score = encoder.score(TEXT)
    assert score.ids == tuple(ids[1:-1]) and encoder.tokenizer.vocabulary.unknown_id in score.ids
    assert score.logprobs == pytest.approx(expected, abs=1e-5)
    assert (score.total, score.loss) == pytest.approx((sum(expected), -sum(expected) / len(expected)), abs=1e-4)
    assert encoder.score([TEXT, ids]) == [score, encoder.score(ids)] and encoder.score(ids) == score
    monkeypatch.setattr(masked_score, "MOST_TOKENS", 2 * len(ids))  # two rows at a time
    assert encoder.score(TEXT).logprobs == pytest.approx(score.logprobs, abs=1e-6)


def test_it_is_no_likelihood_of_the_text(encoder) -> None:
    score = encoder.score("the cat")
    for wrong in ("perplexity", "bits_per_byte"):
        with pytest.raises(RequestError, match="no likelihood of a text"):
            getattr(score, wrong)


def test_what_cannot_be_scored_is_refused(encoder, tmp_path) -> None:
    with pytest.raises(RequestError, match="the text to score is empty"):
        encoder.score("")
    with pytest.raises(RequestError, match="there is nothing to predict"):
        encoder.score(" ")
    with pytest.raises(RequestError, match="the prompt is empty"):
        encoder.score([])
    with pytest.raises(RequestError, match="a token that the model does not have"):
        encoder.score([2, 9999, 3])
    with pytest.raises(RequestError, match="it reads one text"):
        encoder.score("the cat", source="a dog")
    with pytest.raises(ContextError, match="longer than the model's context"):
        encoder.score("the cat sat on the mat. " * 9)
    tokenizer = trained_here()
    vectors = load(save_encoder(tmp_path / "vectors", bert(tokenizer, head=NO_HEAD), tokenizer), device="cpu")
    with pytest.raises(RequestError, match="no text has a probability"):
        vectors.score("the cat")
    document = json.loads(encoder.tokenizer.json)
    document["added_tokens"] = [one for one in document["added_tokens"] if one["content"] != "[MASK]"]
    unmasked = type(encoder.tokenizer).from_json(json.dumps(document))
    maskless = load(save_encoder(tmp_path / "maskless", bert(encoder.tokenizer), unmasked), device="cpu")
    with pytest.raises(TokenizerError, match="no mask token"):
        maskless.score("the cat")
