"""Masked language modelling: what is hidden, how often, in which rows; and the loss, worked by hand."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pellucid.data.batch import Batch, FullBatch, PaddedBatch, TokenRows
from pellucid.data.draws import uniform_draws
from pellucid.data.loader import DocumentLoader, Loader, Pool
from pellucid.data.objectives.masked import CHOOSE, REPLACE, SHOW, MaskedObjective
from pellucid.data.objectives.protocol import ACCURACY, LOSS, RowKey
from pellucid.data.objectives.settings import MaskedSettings
from pellucid.data.shards import TokenShards
from pellucid.data.whole_words import SingleTokens, WholeWords
from pellucid.errors import SettingsError, TokenizerError
from pellucid.tokens.text_ids import text_ids
from pellucid.tokens.tokenizer import Tokenizer
from pellucid.tokens.train import train_bpe, train_characters

KEY = RowKey(seed=3, purpose="objective")
TEXTS = [
    "Unhappily the 小猫在花园里睡觉。 of 1984 sat unhappiness 你好世界!",
    "a short one",
    "她看见了花园里的小猫，很高兴。",
] * 9
VOCABULARY = 40
IS_TEXT = np.arange(VOCABULARY) >= 4
MASK = 3


def objective(**asked: object) -> MaskedObjective:
    return MaskedObjective(settings=MaskedSettings(**asked), mask_id=MASK, is_text_V=IS_TEXT, words=SingleTokens())


def rows_of(ids_BS: torch.Tensor, weights_BS: torch.Tensor | None = None, *, start: int = 0) -> TokenRows:
    index_B = torch.arange(len(ids_BS)) + start
    weights_BS = torch.ones(ids_BS.shape) if weights_BS is None else weights_BS
    lengths_B = torch.full((len(ids_BS),), ids_BS.size(1))
    return TokenRows(ids_BS=ids_BS, weights_BS=weights_BS, lengths_B=lengths_B, first_token_B=index_B, index_B=index_B)


@st.composite
def random_rows(draw: st.DrawFn) -> TokenRows:
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**32)))
    shape = (draw(st.integers(1, 6)), draw(st.integers(2, 40)))
    weights_BS = (torch.rand(shape, generator=generator) < 0.8).float()
    return rows_of(torch.randint(VOCABULARY, shape, generator=generator), weights_BS, start=draw(st.integers(0, 99)))


SETTINGS = st.builds(
    lambda share, mask, random: MaskedSettings(share=share, mask_share=mask, random_share=min(random, 1 - mask)),
    st.floats(0.01, 1),
    st.floats(0, 1),
    st.floats(0, 1),
)


@given(random_rows(), SETTINGS)
def test_targets_stand_only_where_something_is_predicted_and_are_the_text(
    rows: TokenRows, asked: MaskedSettings
) -> None:
    batch = dataclasses.replace(objective(), settings=asked).batch(rows, KEY)
    ids_BT, told_BT = rows.ids_BS[:, :-1], rows.weights_BS[:, :-1]
    predicted_BT = batch.weights_BT > 0
    assert torch.equal(batch.targets_BT[predicted_BT], ids_BT[predicted_BT])
    assert not batch.targets_BT[~predicted_BT].any(), "no answer stands where nothing is asked"
    assert torch.equal(batch.weights_BT[predicted_BT], told_BT[predicted_BT])
    assert torch.equal(batch.ids_BT[~predicted_BT], ids_BT[~predicted_BT]), "all else is shown as it is"
    assert torch.from_numpy(IS_TEXT)[ids_BT[predicted_BT]].all(), "special tokens are never hidden"
    shown = batch.ids_BT[predicted_BT]
    assert (torch.from_numpy(IS_TEXT)[shown] | (shown == MASK)).all(), "and never shown in the place of another"
    assert batch.total_weight == max(1, batch.weights_BT.sum())
    assert torch.equal(rows.ids_BS[:, :-1], ids_BT), "the rows themselves are not written to"


@given(random_rows(), SETTINGS)
def test_equal_to_the_slow_twin(rows: TokenRows, asked: MaskedSettings) -> None:
    """The rule, one position at a time."""
    batch = dataclasses.replace(objective(), settings=asked).batch(rows, KEY)
    others = [token for token in range(VOCABULARY) if IS_TEXT[token]]
    for row, index in enumerate(rows.index_B.tolist()):
        keys = np.array([KEY.of(index)], np.uint64)
        choose, show, replace = (uniform_draws(keys, stream, 40)[0].tolist() for stream in (CHOOSE, SHOW, REPLACE))
        for place, token in enumerate(rows.ids_BS[row, :-1].tolist()):
            hidden = choose[place] < asked.share and IS_TEXT[token] and rows.weights_BS[row, place] > 0
            shown = token
            if hidden and show[place] < asked.mask_share:
                shown = MASK
            elif hidden and show[place] < asked.mask_share + asked.random_share:
                shown = others[int(replace[place] * len(others))]
            assert batch.ids_BT[row, place] == shown and (batch.weights_BT[row, place] > 0) == hidden


def test_the_shares_are_those_of_the_paper() -> None:
    """200,000 tokens: 15 % of them predicted; of these 80 % masked, 10 % random, 10 % as they are (four deviations)."""
    ids_BS = torch.randint(4, VOCABULARY, (200, 1001), generator=torch.Generator().manual_seed(1))
    batch = objective().batch(rows_of(ids_BS), KEY)
    predicted = batch.weights_BT > 0
    shown, text = batch.ids_BT[predicted], ids_BS[:, :-1][predicted]
    assert predicted.float().mean().item() == pytest.approx(0.15, abs=0.0032)
    assert (shown == MASK).float().mean().item() == pytest.approx(0.8, abs=0.0093)
    kept = 0.1 + 0.1 / IS_TEXT.sum()  # a random token may be the same one
    assert (shown == text).float().mean().item() == pytest.approx(kept, abs=0.007)
    counts = torch.bincount(shown[(shown != MASK) & (shown != text)], minlength=VOCABULARY)[4:]
    assert counts.min() > 0.6 * counts.float().mean(), "every token of text may be put in"


def test_a_row_is_hidden_alike_in_every_batch_and_otherwise_in_the_next_epoch(make_shards) -> None:
    loader = Loader(make_shards(["abcdefghij klmnop"] * 40), 24, seed=1)
    hide = objective_of_text(loader.shards, share=0.3)
    together = hide.batch(loader.rows(6, 8), KEY)
    alone = [hide.batch(loader.rows(at, 1), KEY) for at in range(6, 14)]
    assert torch.equal(together.ids_BT, torch.cat([one.ids_BT for one in alone]))
    assert torch.equal(together.weights_BT, torch.cat([one.weights_BT for one in alone]))
    other_seed = hide.batch(loader.rows(6, 8), dataclasses.replace(KEY, seed=4))
    assert not torch.equal(together.weights_BT, other_seed.weights_BT)
    row = loader.rows(0, 1)
    again = dataclasses.replace(row, index_B=row.index_B + loader.num_rows_per_epoch)  # the same text, an epoch later
    assert not torch.equal(hide.batch(row, KEY).weights_BT, hide.batch(again, KEY).weights_BT)


def test_the_width_of_a_batch_changes_nothing(make_shards) -> None:
    """Rows of documents are as wide as the longest of their batch needs."""
    shards = make_shards(
        [letter * count for letter, count in zip("abcdefgh", (3, 60, 9, 40, 5, 6, 30, 20), strict=True)]
    )
    hide = objective_of_text(shards, share=0.5)
    pooled = DocumentLoader(shards, 64, seed=1, pool=Pool(rows=2, updates=4))
    for start in range(0, 8, 2):
        narrow = pooled.rows(start, 2)
        pad = torch.zeros(2, 65 - narrow.ids_BS.size(1), dtype=torch.int64)
        wide = dataclasses.replace(
            narrow, ids_BS=torch.cat([narrow.ids_BS, pad], 1), weights_BS=torch.cat([narrow.weights_BS, pad], 1)
        )
        left, right = hide.batch(narrow, KEY), hide.batch(wide, KEY)
        assert torch.equal(left.ids_BT, right.ids_BT[:, : left.ids_BT.size(1)])
        assert left.total_weight == right.total_weight


def objective_of_text(shards: TokenShards, **asked: object) -> MaskedObjective:
    is_text = np.arange(shards.manifest.vocab_size) != shards.manifest.unpredicted_id
    return MaskedObjective(
        settings=MaskedSettings(**asked), mask_id=shards.manifest.vocab_size, is_text_V=is_text, words=SingleTokens()
    )


@settings(max_examples=40)
@given(st.sampled_from([300, 330, 380]), st.integers(0, 10**6), st.sampled_from(["runs", "rjieba"]))
def test_a_word_is_hidden_whole_or_not_at_all(vocab_size: int, start: int, kind: str) -> None:
    tokenizer = train_bpe(TEXTS, vocab_size, specials="standard")
    hide = MaskedObjective.of(MaskedSettings(share=0.4, whole_words=kind), tokenizer)
    ids = torch.tensor([tokenizer.encode(TEXTS[0]).ids])
    batch = hide.batch(rows_of(ids, start=start), KEY)
    begins = WholeWords.of(tokenizer, kind).begin(ids[0, :-1].numpy())
    word_of = np.cumsum(begins)
    hidden = (batch.weights_BT[0] > 0).numpy()
    for word in np.unique(word_of):
        assert len({*hidden[word_of == word].tolist()}) == 1
    assert torch.equal(batch.targets_BT[0][batch.weights_BT[0] > 0], ids[0, :-1][batch.weights_BT[0] > 0])


def test_whole_words_are_hidden_as_often_as_single_tokens() -> None:
    tokenizer = train_bpe(TEXTS, 300, specials="standard")
    ids = torch.tensor([tokenizer.encode(TEXTS[0]).ids])
    hide = MaskedObjective.of(MaskedSettings(whole_words="runs"), tokenizer)
    batch = hide.batch(rows_of(ids.repeat(4000, 1)), KEY)
    shares = (batch.weights_BT > 0).float().mean(0)
    assert shares.numpy() == pytest.approx(0.15, abs=0.025), "4,000 draws at each place: four deviations"


def test_rows_with_padding_say_how_long_they_are_and_full_ones_say_nothing(make_shards) -> None:
    shards = make_shards(["abcdef", "ab"])
    hide = objective_of_text(shards)
    rows = DocumentLoader(shards, 16, seed=1).rows(0, 2)
    batch = hide.batch(rows, KEY)
    assert isinstance(batch, PaddedBatch) and batch.ids_BT.size(1) == 8
    assert sorted(batch.lengths_B.tolist()) == [4, 8], "<bos> ab <eos>, <bos> abcdef <eos>"
    assert type(hide.batch(rows_of(torch.full((2, 5), 7)), KEY)) is FullBatch
    last = list(DocumentLoader(shards, 16, seed=1).in_order(rows=3))[-1]
    assert hide.batch(last, KEY).lengths_B.tolist() == [8, 4, 0], "the last batch is filled up with empty rows"


class Fixed:
    """A model that gives the same scores to every row, and remembers what it was asked."""

    def __init__(self, probabilities: list[list[float]]) -> None:
        self.logits_TV, self.asked = torch.tensor(probabilities).log(), []

    def __call__(self, ids_BT: torch.Tensor, *, lengths_B: torch.Tensor | None = None) -> SimpleNamespace:
        self.asked.append(lengths_B)
        return SimpleNamespace(logits_BTV=self.logits_TV.expand(len(ids_BT), -1, -1))


def batch_of(batch_kind: Callable[..., Batch] = Batch, **more: torch.Tensor) -> Batch:
    """“the <mask> sat <mask>”: two words of three hidden, cat and down."""
    return batch_kind(
        ids_BT=torch.tensor([[0, 4, 2, 4]]),
        targets_BT=torch.tensor([[0, 1, 0, 3]]),
        weights_BT=torch.tensor([[0.0, 1.0, 0.0, 1.0]]),
        total_weight=torch.tensor(2.0),
        **more,
    )


# the, cat, sat, down, <mask>
PROBABILITIES = [[0.9, 0.025, 0.025, 0.025, 0.025], [0.25, 0.5, 0.125, 0.0625, 0.0625], [0.2] * 5, [0.125, 0.5, 0.125, 0.2, 0.05]]  # fmt: skip


def test_the_loss_by_hand() -> None:
    """-ln P(cat) - ln P(down) = -ln 0.5 - ln 0.2 = 0.693147 + 1.609438 = 2.302585; by two: 1.151293."""
    loss = objective().loss(Fixed(PROBABILITIES), batch_of())
    assert loss.item() == pytest.approx(1.151293, abs=1e-6)


def test_the_measures_by_hand() -> None:
    """At each place -ln P of the target, and whether it is the likeliest: cat is, down (0.2 against 0.5) is not."""
    measured = objective().measure(Fixed(PROBABILITIES), batch_of())
    counted = batch_of().weights_BT > 0
    assert measured[LOSS][counted].tolist() == pytest.approx([0.693147, 1.609438], abs=1e-6)
    assert measured[ACCURACY][counted].tolist() == [1.0, 0.0]


def test_the_model_is_told_of_padding_where_there_is_some() -> None:
    model = Fixed(PROBABILITIES)
    objective().loss(model, batch_of())
    objective().loss(model, batch_of(PaddedBatch, lengths_B=torch.tensor([3])))
    assert model.asked[0] is None and model.asked[1].tolist() == [3]


def test_without_anything_to_predict_the_loss_is_zero_and_finite() -> None:
    batch = objective().batch(rows_of(torch.zeros(2, 5, dtype=torch.int64)), KEY)
    assert batch.total_weight == 1 and not batch.weights_BT.any()
    assert math.isfinite(objective().loss(Fixed([[0.2] * VOCABULARY] * 4), batch).item())


def test_special_and_unknown_tokens_are_no_text() -> None:
    tokenizer = train_characters(["abc"], specials="standard")
    is_text = text_ids(tokenizer)
    assert not is_text[list(tokenizer.specials.values())].any()
    assert is_text[tokenizer.encode("abc").ids[0]] and is_text.sum() == sum(map(bool, tokenizer.vocabulary.token_bytes))


def test_a_tokenizer_without_a_mask_is_refused() -> None:
    plain: Tokenizer = train_characters(["abc"], specials="none")
    with pytest.raises(TokenizerError) as caught:
        MaskedObjective.of(MaskedSettings(), plain)
    assert "mask" in caught.value.found and "specials" in caught.value.hint


def test_shares_that_cannot_be_are_refused() -> None:
    with pytest.raises(SettingsError, match="shares of the same tokens"):
        MaskedSettings(mask_share=0.8, random_share=0.3)
    assert MaskedSettings(mask_share=0.9, random_share=0.1).random_share == 0.1
