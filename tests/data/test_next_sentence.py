"""Next sentences: pairs of parts, half of them false, hidden tokens in both; and the loss by hand."""

from __future__ import annotations

from collections import Counter, defaultdict
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pellucid.data.document import Document
from pellucid.data.loader import DocumentLoader, LoaderWithOthers, Pool, build_loader
from pellucid.data.objectives.next_sentence import (
    ELSEWHERE,
    FOLLOWS,
    PAIR_ACCURACY,
    PAIR_LOSS,
    NextSentenceBatch,
    NextSentenceObjective,
)
from pellucid.data.objectives.protocol import ACCURACY, LOSS, RowKey
from pellucid.data.objectives.settings import MaskedSettings
from pellucid.data.sentences import sentences_begin
from pellucid.data.shards import TokenShards
from pellucid.data.writer import write_shards
from pellucid.errors import InputError, SettingsError, TokenizerError
from pellucid.evaluate.likelihood import measure_loss
from pellucid.tokens.tokenizer import Tokenizer
from pellucid.tokens.train import train_characters

KEY = RowKey(seed=3, purpose="objective")
WORDS = ["cat", "dog", "tea", "sun", "hat", "cup", "bag", "sea"]
TEXTS = [f"The {a} sat. It saw a {b}. Then {a} and {b} left." for a in WORDS for b in WORDS if a != b]


@pytest.fixture(scope="module")
def signs() -> Tokenizer:
    return train_characters(["".join(TEXTS) + "你好。"], specials="standard")


@pytest.fixture(scope="module")
def shards(signs: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> TokenShards:
    documents = [Document(text=text, origin=f"text {number}") for number, text in enumerate(TEXTS)]
    return write_shards(documents, signs, tmp_path_factory.mktemp("shards") / "tokens")


@pytest.fixture(scope="module")
def loader(shards: TokenShards) -> LoaderWithOthers:
    return LoaderWithOthers(shards, 64, seed=1)


def parts(batch: NextSentenceBatch, row: int, signs: Tokenizer) -> list[str]:
    """Both parts of a row as text, the hidden tokens put back."""
    length = int(batch.lengths_B[row])
    ids, segments = whole(batch)[row, :length], batch.segments_BT[row, :length]
    return [signs.decode(ids[segments == part].tolist()) for part in (0, 1)]


def whole(batch: NextSentenceBatch) -> torch.Tensor:
    """The ids before anything was hidden, padding as 0."""
    ids_BT = torch.where(batch.weights_BT > 0, batch.targets_BT, batch.ids_BT)
    places_T = torch.arange(ids_BT.size(1))
    return torch.where(places_T < batch.lengths_B[:, None], ids_BT, 0)


def test_half_of_the_second_parts_follow_and_the_others_come_from_elsewhere(
    loader: LoaderWithOthers, signs: Tokenizer
) -> None:
    objective = NextSentenceObjective.of(MaskedSettings(), signs)
    rows = loader.rows(0, 500)
    batch = objective.batch(rows, KEY)
    assert (batch.answers_B == FOLLOWS).float().mean().item() == pytest.approx(0.5, abs=0.09), "four deviations"
    ids_BT, seen = whole(batch), {FOLLOWS: 0, ELSEWHERE: 0}
    marks = [objective.cls_id, objective.sep_id]
    for row in range(60):
        length, answer = int(batch.lengths_B[row]), int(batch.answers_B[row])
        first, second = parts(batch, row, signs)
        kept = ids_BT[row, :length].tolist()
        assert kept[0] == marks[0] and kept[-1] == marks[1] and kept.count(marks[1]) == 2
        own = signs.decode(rows.ids_BS[row, : int(rows.lengths_B[row])].tolist())
        assert own in TEXTS and (first + second == own) == (answer == FOLLOWS), (first, second)
        assert first.endswith(".") and second.startswith((" It", " Then")), "parts are cut between sentences"
        assert any(second in text for text in TEXTS), "what is too long for the row is left out at its end"
        seen[answer] += 1
    assert min(seen.values()) > 15


def test_segments_say_which_part_a_place_belongs_to(loader: LoaderWithOthers, signs: Tokenizer) -> None:
    objective = NextSentenceObjective.of(MaskedSettings(), signs)
    batch = objective.batch(loader.rows(0, 20), KEY)
    ids_BT = whole(batch)
    for row in range(20):
        length, segments = int(batch.lengths_B[row]), batch.segments_BT[row].tolist()
        first_sep = ids_BT[row].tolist().index(objective.sep_id)
        assert segments == [0] * (first_sep + 1) + [1] * (length - first_sep - 1) + [0] * (len(segments) - length)
    special = torch.isin(ids_BT, torch.tensor([objective.cls_id, objective.sep_id, signs.bos_id, signs.eos_id]))
    assert not (batch.weights_BT[special] > 0).any(), "marks are never hidden"
    hidden = (batch.weights_BT > 0).float().sum() / (~special & (ids_BT > 0)).float().sum()
    assert hidden.item() == pytest.approx(0.15, abs=0.05)


def test_a_row_is_asked_alike_in_every_batch_and_width_and_otherwise_in_the_next_epoch(
    shards: TokenShards, signs: Tokenizer
) -> None:
    objective = NextSentenceObjective.of(MaskedSettings(), signs)
    for context_length in (24, 64):  # where a document is longer than a row, and where none is
        loader = LoaderWithOthers(shards, context_length, seed=1)
        together = objective.batch(loader.rows(3, 6), KEY)
        for row in range(6):
            alone = objective.batch(loader.rows(3 + row, 1), KEY)
            for name in ("ids_BT", "weights_BT", "segments_BT", "answers_B"):
                assert torch.equal(getattr(alone, name)[0], getattr(together, name)[row]), name
    again = objective.batch(loader.rows(3 + loader.num_rows_per_epoch, 6), KEY)
    assert not torch.equal(again.ids_BT, together.ids_BT)
    pooled = LoaderWithOthers(shards, 64, seed=1, pool=Pool(rows=2, updates=4))
    assert objective.batch(pooled.rows(0, 2), KEY).pairs_B.all()


def test_the_other_row_is_of_another_document_and_each_is_as_likely(tmp_path) -> None:
    """Three documents of 1, 3 and 2 rows: beside a row of the second stand the rows of the first and the third alone."""
    texts = [letter * size for letter, size in (("a", 7), ("b", 20), ("c", 15))]
    letters = train_characters(texts, specials="standard")
    shards = write_shards([Document(text=text, origin=text) for text in texts], letters, tmp_path / "tokens")
    loader = LoaderWithOthers(shards, 11, seed=1)
    assert loader.row_length == 8 and loader.num_rows_per_epoch == 6
    beside: dict[str, Counter[int]] = defaultdict(Counter)
    starts = {tuple(rows.ids_BS[0].tolist()): row for row, rows in enumerate(loader.in_order(rows=1))}
    for rows in (loader.rows(0, 3000), *loader.in_order(rows=4)):
        for own, other, length in zip(rows.ids_BS.tolist(), rows.others_BS.tolist(), rows.lengths_B, strict=True):
            if length:  # no row that only fills up the last batch
                beside[letters.decode(own)[0]][starts[tuple(other)]] += 1
    assert {letter: sorted(rows) for letter, rows in beside.items()} == {
        "a": [1, 2, 3, 4, 5], "b": [0, 4, 5], "c": [0, 1, 2, 3],
    }  # fmt: skip
    for rows in beside.values():
        assert min(rows.values()) > 0.75 * max(rows.values()), rows


def test_a_row_leaves_room_for_its_marks(shards: TokenShards, signs: Tokenizer) -> None:
    loader = LoaderWithOthers(shards, 24, seed=1)
    batch = NextSentenceObjective.of(MaskedSettings(), signs).batch(loader.rows(0, 40), KEY)
    assert batch.ids_BT.shape == (40, 24) and loader.row_length == 21 and int(batch.lengths_B.max()) == 24
    plain = DocumentLoader(shards, 21, seed=1)
    assert loader.mean_row_length == plain.mean_row_length + 3 == 24
    rows, others = loader.rows(0, 40), plain.rows(0, 40)
    assert torch.equal(rows.ids_BS, others.ids_BS), "the rows themselves are those of documents, in the same order"


def test_a_text_without_other_documents_or_a_context_without_room_is_refused(signs: Tokenizer, tmp_path) -> None:
    one = write_shards([Document(text="Hi. You.", origin="a")], signs, tmp_path / "one")
    with pytest.raises(InputError, match="no other text"):
        LoaderWithOthers(one, 64, seed=1)
    two = write_shards([Document(text=text, origin=text) for text in ("ab", "cd")], signs, tmp_path / "two")
    with pytest.raises(InputError, match="no room for two parts"):
        LoaderWithOthers(two, 4, seed=1)
    assert isinstance(build_loader(two, rows="documents", context_length=5, seed=1, with_others=True), LoaderWithOthers)


def test_a_row_too_short_for_two_parts_is_no_pair(signs: Tokenizer, tmp_path) -> None:
    texts = ["a", "The cat sat. It left."]
    two = write_shards([Document(text=text, origin=text) for text in texts], signs, tmp_path / "tokens")
    batch = NextSentenceObjective.of(MaskedSettings(), signs).batch(LoaderWithOthers(two, 64, seed=1).rows(0, 2), KEY)
    assert not batch.pairs_B.any() and batch.total_pairs == 1 and not batch.segments_BT.any()
    assert sorted(batch.lengths_B.tolist()) == [3, 23]


@settings(max_examples=50)
@given(
    st.lists(st.sampled_from(["Hi. ", "No! ", "你好。", "Is it? ", "a b ", "\n", "“Yes.” "]), min_size=1, max_size=8)
)
def test_sentences_begin_where_they_can_be_seen_to(pieces: list[str]) -> None:
    text = "".join(pieces).strip()
    signs = train_characters(["Hi. No!你好。Is it? a b \n“Yes.”"])
    ids = signs.encode(text or "a").ids
    begins = np.flatnonzero(sentences_begin(np.array(ids), signs.vocabulary.token_bytes))
    assert begins[0] == 0
    for start in begins[1:]:
        assert signs.decode(ids[:start])[-1] in ".!?。\n”"


def batch_by_hand() -> NextSentenceBatch:
    return NextSentenceBatch(
        ids_BT=torch.tensor([[5, 4, 2], [5, 4, 2], [5, 4, 2]]),
        targets_BT=torch.tensor([[0, 1, 0], [0, 2, 0], [0, 0, 0]]),
        weights_BT=torch.tensor([[0.0, 1.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 0.0]]),
        total_weight=torch.tensor(2.0),
        lengths_B=torch.tensor([3, 3, 3]),
        segments_BT=torch.tensor([[0, 0, 1]] * 3),
        answers_B=torch.tensor([FOLLOWS, ELSEWHERE, FOLLOWS]),
        pairs_B=torch.tensor([1.0, 1.0, 0.0]),
        total_pairs=torch.tensor(2.0),
    )


class Asked:
    device = torch.device("cpu")

    def __init__(self) -> None:
        self.told: list[dict] = []

    def __call__(self, ids_BT, **told):
        self.told.append(told)
        tokens = torch.tensor([0.25, 0.5, 0.25]).log().expand(*ids_BT.shape, -1)
        return SimpleNamespace(
            logits_BTV=tokens, pair_logits_B2=torch.tensor([[0.8, 0.2], [0.75, 0.25], [0.5, 0.5]]).log()
        )


def test_the_loss_by_hand(signs: Tokenizer) -> None:
    """Tokens: (-ln 0.5 - ln 0.25) / 2 = (0.693147 + 1.386294) / 2 = 1.039721.

    Pairs: (-ln 0.8 - ln 0.25) / 2 = (0.223144 + 1.386294) / 2 = 0.804719. Together 1.844440.
    """
    objective, model, batch = NextSentenceObjective.of(MaskedSettings(), signs), Asked(), batch_by_hand()
    assert objective.loss(model, batch).item() == pytest.approx(1.844440, abs=1e-6)
    assert model.told[0] == {"segments_BT": batch.segments_BT, "lengths_B": batch.lengths_B}


def test_the_measures_by_hand(signs: Tokenizer) -> None:
    """Tokens and pairs have means of their own, each over what it was asked."""
    objective, batch = NextSentenceObjective.of(MaskedSettings(), signs), batch_by_hand()
    measured = objective.measure(Asked(), batch)
    assert measured[PAIR_LOSS].tolist() == pytest.approx([0.223144, 1.386294, 0.693147], abs=1e-6)
    assert measured[PAIR_ACCURACY].tolist() == [1.0, 0.0, 1.0]
    assert measured[LOSS][:, 1].tolist() == pytest.approx([0.693147, 1.386294, 1.386294], abs=1e-6)
    assert measured[ACCURACY][:2, 1].tolist() == [1.0, 0.0]

    class Given:
        name, is_likelihood = "next_sentence", False

        def batch(self, rows, key):
            return batch

        def measure(self, model, batch):
            return measured

    whole = measure_loss(Asked(), [batch], objective=Given())
    assert whole.loss == pytest.approx(1.039721, abs=1e-6) and whole.num_tokens == 2
    assert whole.means[PAIR_LOSS] == pytest.approx(0.804719, abs=1e-6) and whole.means[PAIR_ACCURACY] == 0.5


def test_what_cannot_be_asked_is_refused(shards: TokenShards, signs: Tokenizer) -> None:
    with pytest.raises(SettingsError, match="another row beside each"):
        NextSentenceObjective.of(MaskedSettings(), signs).batch(DocumentLoader(shards, 64, seed=1).rows(0, 2), KEY)
    with pytest.raises(TokenizerError, match="cls and sep"):
        NextSentenceObjective.of(MaskedSettings(), train_characters(["ab"], specials="none"))
