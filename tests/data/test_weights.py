"""Weights of characters, from a row of .jsonl to the batch that training sees."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pellucid.data.loader import Loader, build_loader, windows
from pellucid.data.prepare import prepare
from pellucid.data.settings import DataSettings
from pellucid.data.shards import TokenShards
from pellucid.data.source import open_source
from pellucid.data.split import Split, divide
from pellucid.data.weights import Span, runs_of, token_weights, weights_at
from pellucid.data.writer import write_shards
from pellucid.errors import CorruptFileError, InputError, RecordError, SettingsError
from pellucid.events import MemoryRecorder
from pellucid.tokens.train import train_bpe, train_characters

TEXT = "Where is Anna?\r\nThe garden. 安娜在花园。"
ANSWER = TEXT.index("The"), TEXT.index("garden.") + 7


def rows_file(path: Path, *rows: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def shards_of(path: Path, out: Path, **values: Any) -> TokenShards:
    tokenizer = train_bpe([TEXT * 9], 300)
    source = open_source(path, weights="count", **values)
    return write_shards(source.documents(), tokenizer, out)


@pytest.mark.parametrize("newlines", ["lf", "keep"])
def test_a_span_of_a_row_weighs_its_tokens_in_the_batch(tmp_path: Path, ask, newlines: str) -> None:
    path = rows_file(tmp_path / "a.jsonl", {"text": TEXT, "count": [[*ANSWER, 3]]}, {"text": "plain"})
    shards = shards_of(path, tmp_path / "train", newlines=newlines)
    shards.verify()
    batch = ask(build_loader(shards, rows="documents", context_length=256, seed=1).rows(0, 2))
    tokenizer = train_bpe([TEXT * 9], 300)
    heavy = batch.targets_BT[batch.weights_BT == 3].tolist()
    assert tokenizer.decode(heavy) == TEXT[slice(*ANSWER)]
    assert set(batch.weights_BT.unique().tolist()) == {0.0, 1.0, 3.0}
    [evaluated] = map(ask, windows(shards, 256, rows=1))
    assert set(evaluated.weights_BT.unique().tolist()) == {0.0, 1.0}, "what counts, counts alike in evaluation"
    assert (evaluated.weights_BT > 0).sum() == (batch.weights_BT > 0).sum()


def test_a_weight_of_zero_leaves_tokens_out_of_the_loss_only(tmp_path: Path, ask) -> None:
    path = rows_file(tmp_path / "a.jsonl", {"text": TEXT, "count": [[0, ANSWER[0], 0]]})
    batch = ask(Loader(shards_of(path, tmp_path / "train"), context_length=256, seed=1).rows(0, 1))
    unweighted = shards_of(rows_file(tmp_path / "b.jsonl", {"text": TEXT, "count": []}), tmp_path / "b")
    plain = ask(Loader(unweighted, 256, 1).rows(0, 1))
    assert batch.ids_BT.equal(plain.ids_BT) and batch.total_weight < plain.total_weight
    shards = shards_of(path, tmp_path / "again")
    [evaluated] = map(ask, windows(shards, 256, rows=1))
    assert (evaluated.weights_BT > 0).sum() == (batch.weights_BT > 0).sum(), "what is never learned is not evaluated"


def test_without_weights_no_file_is_written_and_nothing_changes(tmp_path: Path) -> None:
    shards = shards_of(rows_file(tmp_path / "a.jsonl", {"text": TEXT, "count": None}), tmp_path / "train")
    assert not shards.has_weights and not (tmp_path / "train" / "weights.bin").exists()


@given(st.data())
def test_token_weights_are_the_largest_of_their_characters(data: st.DataObject) -> None:
    text = data.draw(st.text("ab 你é", min_size=1, max_size=30))
    edges = sorted(data.draw(st.lists(st.integers(0, len(text)), min_size=2, max_size=6)))
    weights = [0.0, 3.0, 0.5, 2.0, 7.0]
    spans = [Span(start=a, stop=b, weight=w) for a, b, w in zip(edges, edges[1:], weights, strict=False)]
    tokenizer = train_characters(["ab 你"])  # é is spelled in bytes
    encoding = tokenizer.encode(text)
    of_character = np.ones(len(text))
    for span in spans:
        of_character[span.start : span.stop] = span.weight
    num_bytes_N = np.array([len(tokenizer.token_bytes(i)) for i in encoding.ids])
    found = token_weights(text, spans, num_bytes_N, "")
    assert found.tolist() == [of_character[start:stop].max() for start, stop in encoding.offsets]
    records = runs_of(found, 5)
    assert weights_at(records, np.arange(5, 5 + len(found))).tolist() == found.tolist()
    assert weights_at(records, np.array([0, 4, 5 + len(found)])).tolist() == [1, 1, 1]


@pytest.mark.parametrize(
    "value",
    ["x", 3, [[1, 2]], [[0, 1, 1, 1]], [[-1, 2, 1]], [[0, 999, 1]], [[2, 1, 1]], [[0, 2, -1]], [[0, 2, "1"]], [[0, 2, 1e9]],
     [[0, 1.5, 1]], [[0, True, 1]], [[0, 3, 1], [2, 4, 1]], [{"start": 0}], [None], [[0, 2, None]]],
)  # fmt: skip
def test_spans_that_make_no_sense_name_their_row(tmp_path: Path, value: Any) -> None:
    path = rows_file(tmp_path / "a.jsonl", {"text": TEXT}, {"text": TEXT, "count": value})
    with pytest.raises(RecordError, match="count") as error:
        list(open_source(path, weights="count").documents())
    assert "line 2" in error.value.where


def test_a_field_that_no_row_has_is_an_error_and_how_many_have_it_is_said(tmp_path: Path) -> None:
    path = rows_file(tmp_path / "a.jsonl", {"text": TEXT, "count": [[*ANSWER, 3]]}, {"text": "plain"})
    recorder = MemoryRecorder()
    list(open_source(path, weights="count", recorder=recorder).documents())
    assert [event.data for event in recorder.events if event.name == "data.weights"] == [{"count": 1, "field": "count"}]
    with pytest.raises(InputError, match="no row has the field"):
        list(open_source(path, weights="cuont").documents())
    list(open_source(path, weights="cuont", needs_weights=False).documents())  # as a text to validate on


def test_only_rows_have_weights(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("text")
    with pytest.raises(SettingsError, match="jsonl"):
        open_source(tmp_path / "a.txt", weights="count")


def test_a_text_that_is_cut_for_validation_keeps_its_spans(tmp_path: Path) -> None:
    path = rows_file(tmp_path / "a.jsonl", {"text": "0123456789", "count": [[2, 8, 2]]})
    documents = open_source(path, weights="count").documents()
    parts = dict(divide(documents, Split(method="cut", reason="", cut=5)))
    assert parts["train"].weights == (Span(start=2, stop=5, weight=2.0),)
    assert parts["valid"].weights == (Span(start=0, stop=3, weight=2.0),)


def test_a_long_row_in_parts_keeps_its_spans(tmp_path: Path) -> None:
    text = "0123456789\r\n" * 200_000
    start = text.index("3", 1_500_000)
    path = rows_file(tmp_path / "a.jsonl", {"text": text, "count": [[start, start + 5, 2]]})
    parts = list(open_source(path, weights="count").documents())
    found = [part.text[span.start : span.stop] for part in parts for span in part.weights]
    assert len(parts) > 1 and "".join(found) == "34567"


def test_weights_are_part_of_what_is_prepared_and_verified(tmp_path: Path) -> None:
    path = rows_file(tmp_path / "a.jsonl", {"text": TEXT * 20, "count": [[0, 5, 2]]})
    tokenizer, chosen = train_characters([TEXT]), DataSettings(weights="count", valid_fraction=0.0)
    source = open_source(path, weights="count")
    train = prepare(source, tokenizer, tmp_path / "data", chosen).train
    assert train.has_weights
    file = tmp_path / "data" / "train" / "weights.bin"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(bytes(data))
    with pytest.raises(CorruptFileError, match="not the ones"):
        TokenShards.open(tmp_path / "data" / "train").verify()


def test_a_blank_row_is_left_out_whatever_its_spans_say(tmp_path: Path) -> None:
    path = rows_file(tmp_path / "a.jsonl", {"text": "", "count": [[0, 9, 1]]}, {"text": "words"})
    assert [document.text for document in open_source(path, weights="count").documents()] == ["words"]
