"""What one token is worth: the page's figures are those of the comparison, and a chart shows the same."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from pellucid.cli.learn import command
from pellucid.lessons import token_worth
from pellucid.lessons.known_cuts import KNOWN_CUTS, TEXTS
from pellucid.lessons.page import BarChart, LessonTable
from pellucid.lessons.settings import LessonSettings
from pellucid.tokens.train import train_bpe, train_characters

BOOK = "the cat sat on the mat, and the dog sat too. 猫坐在垫子上，狗坐在猫上。\n" * 300


@pytest.fixture
def book(tmp_path: Path) -> Path:
    (tmp_path / "book.txt").write_text(BOOK, encoding="utf-8")
    return tmp_path / "book.txt"


def test_one_token_of_characters_is_one_letter(book: Path) -> None:
    tokenizers = {"char": train_characters([BOOK]), "bpe": train_bpe([BOOK], 300)}
    page = token_worth.measurement(LessonSettings(text=book), tokenizers=tokenizers)
    measured, known = page.of(LessonTable)
    assert measured.rows[0][1:3] == (tokenizers["char"].vocab_size, 1.0) and measured.rows[0][4] == 1.0
    assert measured.rows[1][2] > 1
    (chart,) = page.of(BarChart)
    assert [name.en for name in chart.series] == ["char", "bpe"]
    assert [row[0].en for row in known.rows] == [one.vocabulary for one in KNOWN_CUTS]


def test_what_a_text_does_not_have_is_not_drawn(book: Path) -> None:
    book.write_text("only latin letters here " * 900)
    page = token_worth.measurement(LessonSettings(text=book), tokenizers={})
    (chart,) = page.of(BarChart)
    assert [group.en for group in chart.groups] == ["Latin letters", "words"]


def test_a_recorded_cut_spells_its_text() -> None:
    for one in KNOWN_CUTS:
        for text in TEXTS:
            parts = "".join(one.cuts[text]).replace("##", "").removeprefix("·")
            hexadecimal = any(ord(part[0]) < 128 and text != "strawberry" for part in one.cuts[text])
            assert hexadecimal or parts == text


def test_the_command_measures_tokenizers_and_draws(book: Path, tmp_path: Path) -> None:
    train_bpe([BOOK], 300).save(tmp_path / "mine")
    arguments = ("--text", str(book), "--tokenizer", str(tmp_path / "mine"), "--out", str(tmp_path / "plots"))
    arguments = ("token-worth", *arguments, "--json", "--lang", "zh", "--threads", "1")
    result = CliRunner().invoke(command, arguments, catch_exceptions=False, standalone_mode=False)
    document = json.loads(result.stdout)
    assert {Path(plot).name for plot in document["plots"]} == {"token-worth.svg", "token-worth.png"}
    table = next(section for section in document["sections"] if section["section"] == "table")
    assert table["rows"][0][0] == "mine" and table["rows"][-1][0] == "教程说"
