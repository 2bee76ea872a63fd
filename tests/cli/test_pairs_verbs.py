"""A run on pairs of texts: its figures are those of pairs, and each verb says the next one with its columns."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest

from pellucid.training import make_plan
from pellucid.training.measure import Rates
from pellucid.training.recipes import pretrain as recipe

ROWS = [
    {
        "en": f"{n} times the cat ran and sat down",
        "zh": f"猫在花园里跑了又跑，狗在厨房里睡了又睡，鸟在树上唱了又唱，一共{n % 9}次",
    }
    for n in range(200)
]
SMALL = [
    *("--steps", "1", "--threads", "1", "--device", "cpu", "--depth", "1", "--tokenizer", "char"),
    *("--set", "compile=off", "--set", "batch.rows=4", "--set", "objective=seq2seq", "--set", "data.rows=pairs"),
    *(
        word
        for axis in ("n_heads=2", "n_kv_heads=1", "head_dim=8", "d_model=16", "d_ff=24", "context_length=48")
        for word in ("--set", f"model.{axis}")
    ),
]
COLUMNS = ("--source", "en", "--field", "zh")


@pytest.fixture(scope="module")
def quick():
    """No measuring and no drawing: neither is asked about here."""
    with pytest.MonkeyPatch.context() as patch:
        rates = Rates(training_flops_per_second=1e10, determinism_cost=0.0)
        patch.setattr(make_plan, "measure_training", lambda *args, **options: rates)
        patch.setattr(recipe, "draw_loss", lambda run: None)
        yield


@pytest.fixture(scope="module")
def file(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("pairs") / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS), encoding="utf-8")
    return path


@pytest.fixture
def trained(run, quick, file):
    """One run for all tests of this file, and what was said when it was made."""
    out, told = file.parent / "run", file.parent / "told.json"
    if not told.exists():
        said = run("train", file, "--out", out, *SMALL, *COLUMNS)
        assert said.code == 0, said.err
        told.write_text(json.dumps({"out": said.out, "err": said.err}), encoding="utf-8")
    return out, json.loads(told.read_text(encoding="utf-8"))


def test_pairs_are_counted_as_pairs(trained) -> None:
    _, told = trained
    assert "about 10.00% of 200 pairs are held out, chosen by the hash of their source" in told["err"]
    train, valid = (int(re.search(rf"· {side}: (\d+) pairs, ", told["err"])[1]) for side in ("train", "valid"))
    assert train + valid == 200 and 10 <= valid <= 30
    assert " documents" not in told["err"]


def test_a_passage_is_shown_to_the_end_of_its_own_text(trained) -> None:
    _, told = trained
    shown = [line for line in told["err"].splitlines() if line.startswith("  '")]
    assert shown and all(("the cat" in line) != ("猫" in line) for line in shown), "no source runs on into its target"


def test_the_next_command_translates_a_source_and_measures_both_columns(trained) -> None:
    out, told = trained
    first, measured, _ = told["out"].splitlines()[-3:]
    *_, source = shlex.split(first)
    held_out = (out / "data" / "valid" / "origins.jsonl").read_text(encoding="utf-8")
    number = next(number for number, row in enumerate(ROWS, 1) if row["en"] == source)
    assert " generate " in first and f'"pairs.jsonl:{number}"' in held_out, "a source, and one that was held out"
    assert measured.split(" eval ")[1] == f"{out} OTHER.jsonl --source en --field zh"


def test_eval_takes_the_columns_of_the_run_and_says_so(run, trained, file) -> None:
    out, _ = trained
    told = run("eval", out, file, "--json")
    assert told.code == 0 and "the columns of the pairs, as in training: source en, target zh" in told.err
    given = run("eval", out, file, "--json", *COLUMNS)
    assert given.out == told.out and "the columns of the pairs" not in given.err


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        (
            ("--source", "nosuch"),
            ("the row has no field 'nosuch'", "try:   name the field that holds the text: --source …"),
        ),
        (
            ("--field", "nosuch"),
            ("the row has no field 'nosuch'", "try:   name the field that holds the text: --field …"),
        ),
        (("--source", "1", "--field", "2"), ("the fields of rows have names", "--source en --field zh")),
    ],
)
def test_a_column_that_is_not_there_is_named_by_its_own_flag(run, trained, file, columns, words) -> None:
    out, _ = trained
    refused = run("eval", out, file, *columns)
    assert refused.code != 0 and all(word in refused.err for word in words), refused.err
    assert "--errors" not in refused.err, "a pair is not left out: its other side would lose its place"


def test_tables_of_pairs_are_read_by_number_and_tabs(run, trained, tmp_path) -> None:
    out, _ = trained
    table = tmp_path / "pairs.tsv"
    table.write_text("the cat ran\t猫跑了\n" * 3, encoding="utf-8")
    told = run("eval", out, table, "--source", "1", "--field", "2")
    assert told.code == 0 and "an unknown kind" not in told.err and "a table" not in told.err
    named = run("eval", out, table, *COLUMNS)
    assert named.code == 2 and "the columns of lines have numbers, and no names" in named.err
    other = table.rename(tmp_path / "pairs.csv")
    assert "save the table with tabs (.tsv)" in run("eval", out, other, "--source", "1", "--field", "2").err


def test_a_table_of_single_texts_is_told_to_be_one(run, tmp_path) -> None:
    table = tmp_path / "rows.csv"
    table.write_text("text,label\nso good,praise\n" * 40, encoding="utf-8")
    told = run("tokenizer", "train", table, "--out", tmp_path / "made", "--vocab-size", "280")
    assert told.code == 0 and "rows.csv: a table, read as plain text with its separators" in told.err


def test_held_out_stories_are_for_measuring(run, tmp_path) -> None:
    out = tmp_path / "held.jsonl"
    told = run("microworld", "translation", "--out", out, "--count", "2", "--split", "held_out")
    assert told.out.splitlines()[-1].split(" eval ")[1] == f"runs/translation {out} --source source --field target"
    refused = run("microworld", "stories", "--out", out, "--count", "2")
    assert refused.code == 4 and "something is here already" in refused.err
    assert " train " in run("microworld", "stories", "--out", out.with_name("more.jsonl"), "--count", "2").out
