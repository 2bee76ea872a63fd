"""Pairs of texts: read from two columns, stored side by side, loaded in rows, and asked for as source and target."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pellucid.data.batch import PairRows
from pellucid.data.document import Document
from pellucid.data.loader import DocumentLoader, PairLoader, Pool
from pellucid.data.objectives.protocol import ACCURACY, LOSS, RowKey
from pellucid.data.objectives.seq2seq import Seq2SeqObjective, SourceBatch
from pellucid.data.pairs import PairSource, as_pairs
from pellucid.data.settings import DataSettings
from pellucid.data.shards import TokenShards
from pellucid.data.source import open_source
from pellucid.data.split import choose_split, divide, mended
from pellucid.data.survey import survey
from pellucid.data.writer import write_shards
from pellucid.errors import InputError, RecordError, SettingsError, TokenizerError
from pellucid.tokens.prompt import decoder_start
from pellucid.tokens.tokenizer import Tokenizer
from pellucid.tokens.train import train_characters

KEY = RowKey(seed=3, purpose="objective")
PAIRS = [
    ("The cat sleeps.", "小猫睡觉。"),
    ("Hi!", "你好！"),
    ("Where is Anna?", "安娜在哪儿？"),
    ("Tea", "茶"),
    ("A dog", "狗"),
]


@pytest.fixture(scope="module")
def signs() -> Tokenizer:
    return train_characters(["".join(map("".join, PAIRS))], specials="standard")


def documents_of(pairs: list[tuple[str, str]]) -> list[Document]:
    """Sources and targets in turn."""
    return [
        Document(text=text, origin=f"rows:{number}", follows=bool(side))
        for number, pair in enumerate(pairs, 1)
        for side, text in enumerate(pair)
    ]


@pytest.fixture
def stored(signs: Tokenizer, tmp_path: Path) -> TokenShards:
    return write_shards(documents_of(PAIRS), signs, tmp_path / "pairs")


def read(path: Path, source: str, target: str) -> PairSource:
    return as_pairs(open_source(path), source, target)


def test_two_columns_and_two_fields_are_the_same_pairs(tmp_path: Path) -> None:
    table, rows = tmp_path / "pairs.tsv", tmp_path / "rows.jsonl"
    table.write_text("".join(f"{n}\t{a}\t{b}\n" for n, (a, b) in enumerate(PAIRS)) + "\n", encoding="utf-8")
    lines = [json.dumps({"zh": b, "en": a}, ensure_ascii=False) for a, b in PAIRS]
    rows.write_text("\n".join(lines), encoding="utf-8")
    for path, columns in ((table, ("2", "3")), (rows, ("en", "zh"))):
        found = list(read(path, *columns).pairs())
        assert [(pair.source, pair.target) for pair in found] == PAIRS
        assert [pair.origin for pair in found] == [f"{path.name}:{number}" for number in range(1, 6)]
        turned = list(read(path, *columns[::-1]).pairs())
        assert [(pair.target, pair.source) for pair in turned] == PAIRS


@pytest.mark.parametrize(
    ("name", "text", "columns", "error", "where"),
    [
        ("a.tsv", "one\ttwo\nthree\n", ("1", "2"), "does not have both columns", "a.tsv, line 2"),
        ("a.tsv", "one\ttwo\n", ("0", "2"), "does not have both columns", "a.tsv, line 1"),
        ("a.tsv", "one\t \n", ("1", "2"), "one of the two texts is blank", "a.tsv:1"),
        ("a.jsonl", '{"a": "x", "b": "y"}\n{"a": "x", "b": " "}\n', ("a", "b"), "only one of the two texts", "a.jsonl"),
        ("a.jsonl", '{"a": "x"}\n', ("a", "b"), "no field 'b'", "a.jsonl, line 1"),
    ],
)
def test_what_is_no_pair_is_said_with_its_place(
    name: str, text: str, columns: tuple[str, str], error: str, where: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises((RecordError, InputError), match=error) as caught:
        list(read(tmp_path / name, *columns).documents())
    assert where in caught.value.where


def test_each_epoch_holds_each_pair_once_and_source_and_target_stay_together(
    stored: TokenShards, signs: Tokenizer
) -> None:
    loader = PairLoader(stored, context_length=24, seed=1)
    for epoch in range(3):
        rows = loader.rows(5 * epoch, 5)
        assert sorted(texts_of(rows, signs)) == sorted(PAIRS)
    assert texts_of(loader.rows(0, 5), signs) != texts_of(loader.rows(5, 5), signs)
    told = [pair for rows in loader.in_order(rows=3) for pair in texts_of(rows, signs)]
    assert told == [*PAIRS, ("", "")], "the last batch is filled up with empty rows"


def test_rows_of_like_length_are_together(stored: TokenShards, signs: Tokenizer) -> None:
    loader = PairLoader(stored, context_length=24, seed=1, pool=Pool(rows=1, updates=5))
    rows = [loader.rows(index, 1) for index in range(5)]
    assert sorted(texts_of(one, signs)[0] for one in rows) == sorted(PAIRS)
    assert {one.source_BS.size(1) for one in rows} == {8, 16, 24}


def texts_of(rows: PairRows, signs: Tokenizer) -> list[tuple[str, str]]:
    sources = [
        signs.decode(ids[:length].tolist()) for ids, length in zip(rows.source_BS, rows.source_lengths_B, strict=True)
    ]
    targets = [signs.decode(ids[:length].tolist()) for ids, length in zip(rows.ids_BS, rows.lengths_B, strict=True)]
    return list(zip(sources, targets, strict=True))


def test_a_text_beyond_the_context_is_refused_and_named(stored: TokenShards) -> None:
    with pytest.raises(InputError) as caught:
        PairLoader(stored, context_length=16, seed=1)
    assert caught.value.found == "17 tokens, and the context has 16" and caught.value.where == "rows:1"
    assert PairLoader(stored, context_length=17, seed=1).rows(0, 5).source_BS.size(1) == 17


def test_the_decoder_reads_each_target_one_place_later(stored: TokenShards, signs: Tokenizer) -> None:
    objective = Seq2SeqObjective.of(signs)
    rows = PairLoader(stored, context_length=24, seed=1).rows(0, 5)
    batch = objective.batch(rows, KEY)
    assert (batch.ids_BT[:, 0] == signs.roles.first("pad")).all(), "what a decoder begins with"
    assert torch.equal(batch.ids_BT[:, 1:], batch.targets_BT[:, :-1])
    for row, (source, target) in enumerate(texts_of(rows, signs)):
        length = batch.source_lengths_B[row]
        assert signs.decode(batch.source_BS[row, :length].tolist()) == source
        counts = batch.weights_BT[row] > 0
        assert batch.targets_BT[row][counts].tolist() == [*signs.encode(target).ids, signs.eos_id]
        assert not counts[int(counts.sum()) :].any(), "padding is at the end"
    assert batch.total_weight == sum(len(target) + 1 for _, target in PAIRS)


@settings(max_examples=30)
@given(st.lists(st.tuples(*[st.text("abc你", min_size=1, max_size=9)] * 2), min_size=2, max_size=6))
def test_what_a_target_is_asked_does_not_depend_on_its_batch(tmp_path_factory, pairs: list[tuple[str, str]]) -> None:
    signs = train_characters(["abc你"], specials="standard")
    stored = write_shards(documents_of(pairs), signs, tmp_path_factory.mktemp("pairs") / "pairs")
    loader, objective = PairLoader(stored, context_length=16, seed=2), Seq2SeqObjective.of(signs)
    together = objective.batch(loader.rows(0, len(pairs)), KEY)
    for row in range(len(pairs)):
        alone = objective.batch(loader.rows(row, 1), KEY)
        for name in ("ids_BT", "targets_BT", "weights_BT", "source_BS", "source_lengths_B"):
            assert torch.equal(getattr(alone, name)[0], getattr(together, name)[row])


def test_without_a_beginning_of_text_the_first_token_is_a_target_too() -> None:
    rows = PairRows(
        ids_BS=torch.tensor([[7, 8, 1, 0]]), weights_BS=torch.tensor([[1.0, 1.0, 1.0, 0.0]]), lengths_B=torch.tensor([3]),
        first_token_B=torch.tensor([0]), index_B=torch.tensor([0]), source_BS=torch.tensor([[5, 1]]),
        source_lengths_B=torch.tensor([2]),
    )  # fmt: skip
    batch = Seq2SeqObjective(start_id=9, skips_first=False).batch(rows, KEY)
    assert batch.ids_BT.tolist() == [[9, 7, 8, 1]] and batch.targets_BT.tolist() == [[7, 8, 1, 0]]


def test_the_loss_by_hand() -> None:
    """P(小) = 0.5, P(猫) = 0.25, P(<eos>) = 0.8: 0.693147 + 1.386294 + 0.223144 = 2.302585; by three: 0.767528."""
    probabilities = torch.tensor([[0.5, 0.25, 0.25], [0.25, 0.25, 0.5], [0.1, 0.1, 0.8]])
    batch = SourceBatch(
        ids_BT=torch.tensor([[9, 0, 1]]),
        targets_BT=torch.tensor([[0, 1, 2]]),
        weights_BT=torch.ones(1, 3),
        total_weight=torch.tensor(3.0),
        source_BS=torch.tensor([[7, 8]]),
        source_lengths_B=torch.tensor([2]),
    )
    objective = Seq2SeqObjective(start_id=9, skips_first=True)

    def model(ids_BT, *, source_BS, source_lengths_B):
        return SimpleNamespace(logits_BTV=probabilities.log()[None])

    assert objective.loss(model, batch).item() == pytest.approx(0.767528, abs=1e-6)
    measured = objective.measure(model, batch)
    assert measured[LOSS][0].tolist() == pytest.approx([0.693147, 1.386294, 0.223144], abs=1e-6)
    assert measured[ACCURACY][0].tolist() == [1.0, 0.0, 1.0]


def test_what_cannot_be_asked_is_refused(stored: TokenShards, signs: Tokenizer) -> None:
    rows = DocumentLoader(stored, context_length=24, seed=1).rows(0, 2)
    with pytest.raises(SettingsError, match="pairs of texts"):
        Seq2SeqObjective.of(signs).batch(rows, KEY)
    with pytest.raises(TokenizerError, match="begin with"):
        Seq2SeqObjective.of(train_characters(["ab"], specials="none"))
    one_mark = dataclasses.replace(signs, roles=type(signs.roles)(()))
    with pytest.raises(TokenizerError, match="ends a text"):
        Seq2SeqObjective.of(one_mark)
    assert decoder_start(signs) == signs.roles.first("pad")


def test_a_pair_is_held_out_as_a_whole(tmp_path: Path) -> None:
    """By the hash of its source, so that a source with several targets is on one side."""
    table = tmp_path / "pairs.tsv"
    table.write_text("".join(f"source {n % 300}\tZiel {n}\n" for n in range(600)), encoding="utf-8")
    source, asked = read(table, "1", "2"), DataSettings(rows="pairs", source="1", field="2", valid_fraction=0.2)
    split = choose_split(survey(source.documents()), asked)
    sides = list(divide(source.documents(), split))
    assert split.method == "documents" and {side for side, _ in sides} == {"train", "valid"}
    for (one, left), (two, right) in zip(sides[::2], sides[1::2], strict=True):
        assert one == two and not left.follows and right.follows
    assert len({(side, document.text) for side, document in sides if not document.follows}) == 300


def test_few_or_like_pairs_are_all_trained_on(tmp_path: Path) -> None:
    table = tmp_path / "pairs.tsv"
    asked = DataSettings(rows="pairs", source="1", field="2")
    table.write_text(
        "".join(f"a source of many words {n}\tand its target of more words\n" for n in range(60)), encoding="utf-8"
    )
    few = survey(read(table, "1", "2").documents())
    assert choose_split(few, asked).method == "none" and "60 pairs" in choose_split(few, asked).reason
    table.write_text("one and the same source\tand its target\n" * 400, encoding="utf-8")
    alike = survey(read(table, "1", "2").documents())
    chosen = choose_split(alike, asked)
    assert chosen.method == "documents" and mended(chosen, alike, 0, asked).method == "none"
    assert mended(chosen, alike, alike.num_bytes // 10, asked) is None


def test_source_and_target_are_two_columns(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="the same column"):
        as_pairs(open_source(__file__), "2", "2")
