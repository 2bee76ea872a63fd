"""A classifier over a model that stays as it is: the best table, measured on rows that it has not seen."""

from __future__ import annotations

import math

import pytest
import torch
from encoders import NO_HEAD, bert, save_encoder, trained_here, wordpiece
from torch.nn import functional as F

from pellucid.api import load
from pellucid.data.labelled import Labelled, read_labelled
from pellucid.errors import (
    ContextError,
    DecodingError,
    InputError,
    RecordError,
    RequestError,
    SettingsError,
    StoreError,
)
from pellucid.language_model import LanguageModel
from pellucid.planning.parts.pooler import PoolerConfig
from pellucid.training.label_head import LabelSettings, fit, split_rows

ROWS = [(f"{who} {did}.", kind) for who, kind in (("the cat", "猫"), ("a dog", "dog")) for did in (
    "sat", "ran", "sat on the mat", "ran in the box", "sat on the box", "ran on the mat", "sat in the box", "ran on", "sat in", "on",
)]  # fmt: skip


@pytest.fixture
def lm(tmp_path) -> LanguageModel:
    tokenizer = wordpiece()
    config = bert(tokenizer, head=NO_HEAD, pooler=PoolerConfig())
    return load(save_encoder(tmp_path / "bert", config, tokenizer), device="cpu")


@pytest.mark.parametrize("own", [False, True])
def test_a_trained_classifier_is_a_model_that_gives_the_labels(lm, tmp_path, own) -> None:
    report = lm.train_labels(ROWS, tmp_path / "head", settings=LabelSettings(own_pooler=own, held_out=0.3, l2=0.01))
    assert report.accuracy == report.train_accuracy == 1.0
    assert (report.num_train, report.num_held_out, report.labels) == (14, 6, {"dog": 10, "猫": 10})
    again = load(tmp_path / "head", device="cpu")
    for (text, label), labels in zip(ROWS, again.classify([text for text, _ in ROWS]), strict=True):
        assert labels[0].name == label and {one.name for one in labels} == {"猫", "dog"}, text
        assert math.isclose(sum(one.probability for one in labels), 1.0, abs_tol=1e-5)
        assert labels[0].probability >= labels[1].probability
    alone, beside = again.classify(["a dog sat."])[0], again.classify(["the cat", "a dog sat."])[1]
    assert [one.name for one in alone] == [one.name for one in beside]
    assert alone[0].probability == pytest.approx(beside[0].probability, abs=1e-5)
    assert again.checkpoint.info["labels"]["accuracy"] == 1.0
    kept = dict(again.model.named_parameters())
    for name, parameter in lm.model.named_parameters():
        assert not name.startswith("blocks") or torch.equal(kept[name], parameter), name


def test_labels_that_mean_nothing_are_learned_no_better_than_guessed(lm, tmp_path) -> None:
    """The figure to believe is the one of the rows held out: a table may learn any row by heart."""
    rows = [(f"the {'cat sat ' * (n % 5)} {'box ran ' * (n // 5)}", "ab"[n * n // 7 % 2]) for n in range(20)]
    rows = [(text, label) for text, label in rows if len(text.split()) < 20]
    report = lm.train_labels(rows, tmp_path / "head", settings=LabelSettings(l2=0.0, held_out=0.4))
    assert report.accuracy < report.train_accuracy == 1.0


def test_the_table_is_the_best_one() -> None:
    """The loss is convex: where its slope is 0, no other table has a lower one. Vectors of any spread and mean."""
    x_ND = (
        torch.randn(60, 5, generator=torch.Generator().manual_seed(1)).double() * torch.tensor([1, 9, 0.1, 3, 0]) + 4.0
    )
    y_N = (x_ND[:, 0] > 4).long() + (x_ND[:, 1] > 6).long()
    weight_CD, bias_C = fit(x_ND, y_N, 3, 0.7)
    spread_D = torch.where(x_ND.std(0, unbiased=False) > 0, x_ND.std(0, unbiased=False), 1.0)
    weight_CD.requires_grad_(), bias_C.requires_grad_()
    loss = F.cross_entropy(F.linear(x_ND, weight_CD, bias_C), y_N)
    loss = loss + 0.7 / 120 * (weight_CD * spread_D).square().sum()
    loss.backward()
    # The slopes in the coordinates that were solved in, where every column has spread 1.
    slopes = (weight_CD.grad - bias_C.grad[:, None] * x_ND.mean(0)) / spread_D, bias_C.grad
    assert all(slope.abs().max() < 1e-5 for slope in slopes)


def test_equal_texts_lie_on_one_side_and_the_seed_decides() -> None:
    rows = [Labelled(text=f"text {n % 9}", label="ab"[n % 2]) for n in range(36)]
    train, held_out = split_rows(rows, LabelSettings(seed=3))
    assert not {row.text for row in train} & {row.text for row in held_out} and len(train) + len(held_out) == 36
    assert split_rows(rows, LabelSettings(seed=3)) == (train, held_out)
    assert split_rows(rows, LabelSettings(seed=4)) != (train, held_out)


def test_what_cannot_be_learned_is_told(lm, tmp_path) -> None:
    out = tmp_path / "head"
    with pytest.raises(
        InputError, match=r"have no two\n  found: 3 rows, all with the label 'x'\n  try:   (.|\n)*--label"
    ):
        lm.train_labels([("a", "x"), ("b", "x"), ("c", "x")], out)
    with pytest.raises(InputError, match=r"found: 2 rows, 2 labels; 1 row not held out\n  try:   (.|\n)*--held-out"):
        lm.train_labels([("a", "x"), ("b", "y")], out)
    with pytest.raises(InputError, match=r"all rows of a label are held out(.|\n)*found: (x|y)"):
        lm.train_labels([(f"text {n}", "z" if n > 5 else "w") for n in range(12)] + [("rare", "x"), ("rarer", "y")], out,
                        settings=LabelSettings(held_out=0.7))  # fmt: skip
    with pytest.raises(ContextError, match="longer than the model reads"):
        lm.train_labels([*ROWS, ("the cat " * 30, "dog")], out)
    with pytest.raises(
        SettingsError, match=r"held out lies between 0 and 1\n  found: held_out=1\n  try:   .*--held-out 0.2"
    ):
        LabelSettings(held_out=1.0)
    with pytest.raises(SettingsError, match=r"l2 is 0 or more\n  found: l2=-1\n  try:   .*--l2 1"):
        LabelSettings(l2=-1)
    with pytest.raises(StoreError, match="something is here already"):
        lm.train_labels(ROWS, tmp_path)
    tokenizer = trained_here()
    bare = load(save_encoder(tmp_path / "bare", bert(tokenizer), tokenizer), device="cpu")
    with pytest.raises(RequestError, match="has no pooler of its own"):
        bare.train_labels(ROWS, out, settings=LabelSettings(own_pooler=True))
    with pytest.raises(RequestError, match=r"this model has no labels(.|\n)*classify train"):
        bare.classify(["a"])
    assert not out.exists()


def test_a_model_of_one_label_chooses_nothing(tmp_path) -> None:
    tokenizer = wordpiece()
    config = bert(tokenizer, head=NO_HEAD, pooler=PoolerConfig(labels=("score",)))
    with pytest.raises(RequestError, match=r"chooses among no labels\n  found: one label: score"):
        load(save_encoder(tmp_path / "one", config, tokenizer), device="cpu").classify(["a"])


FILES = {
    "rows.jsonl": '{"text": "a\u2028b", "label": 3}\n\n{"text": "c", "label": "so so"}\r\n',
    "rows.csv": 'label,text\n3,"a\u2028b"\nso so,c\n',
    "rows.tsv": "\ufefftext\tlabel\na\u2028b\t3\nc\tso so\n",
}


@pytest.mark.parametrize("name", FILES)
def test_rows_of_every_kind_of_file(tmp_path, name) -> None:
    (tmp_path / name).write_bytes(FILES[name].encode())
    assert read_labelled(tmp_path / name) == [
        Labelled(text="a\u2028b", label="3"), Labelled(text="c", label="so so")
    ]  # fmt: skip


@pytest.mark.parametrize(("name", "content", "error", "match"), [
    ("rows.txt", b"a", InputError, "labelled rows are read from"),
    ("rows.jsonl", b"", InputError, "there are no rows here"),
    ("rows.jsonl", b'{"text": "a"}', RecordError, r"no field 'label'\n  found: the fields 'text'\n  where: rows.jsonl, line 1\n  try:   --label names the field: known: text"),
    ("rows.jsonl", b'{"text": " ", "label": "x"}', RecordError, "the text of a row is no text"),
    ("rows.jsonl", b'{"text": "a", "label": null}', RecordError, "the label of a row is no text"),
    ("rows.jsonl", b'{"text": "a", "label": true}', RecordError, "the label of a row is no text"),
    ("rows.jsonl", b"{", RecordError, "not valid JSON"),
    ("rows.jsonl", b"\xff", DecodingError, "the text is not UTF-8"),
    ("rows.csv", b"text,lable\na,b\n", RecordError, r"no field 'label'(.|\n)*--label names the field: did you mean 'lable'"),
    ("rows.csv", b'text,label\n"a" b,c\n', RecordError, "the row cannot be read"),
    ("rows.csv", b"text,label\na\n", RecordError, r"a cell for every column\n  found: 1 cell, and 2 columns\n  where: rows.csv, line 2"),
    ("rows.csv", b"text,label\na,x\ngreat, really,b\n", RecordError, r"found: 3 cells, and 2 columns\n  where: rows.csv, line 3"),
    ("rows.csv", b'text,label\n"a\nb",x\n\n"c,y\n', RecordError, r"the row cannot be read(.|\n)*where: rows.csv, line 5"),
    ("rows.csv", b"text;label\na;b\n", RecordError, "save the table with commas"),
    ("none.csv", None, InputError, "there is no such file"),
])  # fmt: skip
def test_rows_that_cannot_be_read_are_told(tmp_path, name, content, error, match) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(error, match=match):
        read_labelled(tmp_path / name)
