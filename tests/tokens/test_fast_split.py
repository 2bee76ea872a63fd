"""The scanner: the same pieces as the engine's regular expressions, on ordinary and on hostile text."""

from __future__ import annotations

import random

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import pre_tokenizers

from pellucid.tokens.fast import classes as classes_module
from pellucid.tokens.fast.classes import ask_classes, read_classes
from pellucid.tokens.fast.compile import CACHE
from pellucid.tokens.fast.split import WAYS, split
from pellucid.tokens.patterns import PATTERNS

NASTY = [
    *"aAbBsStTrReEvVlLmMdD'''  \t\n\r\v\f\x1c.,!/-_12ß\0", "\r\n", "\r\n\r\n", "'s", "'RE", "'Ll", "'ſ", " '", "’", "ſ", "\x85",
    "\xa0", "\u2028", "\u2029", "\u3000", "\u200b", "\u200d", "\ufeff", "\u0301", "\u0345", "\u093f", "\u0e31", "é", "ǅ", "ǲ", "ʰ",
    "ª", "º", "Ⅳ", "½", "²", "٣", "३", "３", "𝟙", "中", "国", "。", "，", "〇", "々", "㐀", "𠀀", "𠮷", "\ufa11", "が", "ア", "한", "ה", "ก",
    "ﬁ", "İ", "ı", "Ａ", "１", "！", "👨", "👩\u200d👧", "🏽", "🇨🇳", "\U0010ffff", "\ue000", "\U000e0100",
]  # fmt: skip


def by_engine(text: str, pattern: str, max_han: int) -> list[str]:
    steps = [pre_tokenizers.Split(tokenizers.Regex(PATTERNS[pattern]), "isolated")]
    if max_han:
        steps.append(pre_tokenizers.Split(tokenizers.Regex(rf"\p{{Han}}{{1,{max_han}}}"), "isolated"))
    return [piece for piece, _ in pre_tokenizers.Sequence(steps).pre_tokenize_str(text)]


@pytest.mark.parametrize("max_han", [0, 1, 4])
@pytest.mark.parametrize("pattern", WAYS)
def test_pieces_equal_the_engines_on_hostile_text(pattern: str, max_han: int) -> None:
    """2,000 texts for each pattern: half of the whole alphabet, half of a few of its characters, so that they meet."""
    numbers = random.Random(f"{pattern} {max_han}")
    for turn in range(2_000):
        alphabet = numbers.sample(NASTY, numbers.randint(2, 8)) if turn % 2 else NASTY
        text = "".join(numbers.choices(alphabet, k=numbers.randint(0, 16)))
        assert split(text, pattern, max_han=max_han) == by_engine(text, pattern, max_han), repr(text)


@pytest.mark.parametrize("pattern", WAYS)
@settings(max_examples=200, deadline=None)
@given(text=st.text(max_size=80))
def test_pieces_equal_the_engines_on_any_text(pattern: str, text: str) -> None:
    assert split(text, pattern) == by_engine(text, pattern, 0)


@pytest.mark.parametrize("pattern", WAYS)
@pytest.mark.parametrize(
    "unit", ["a", "A", " ", "\n", "汉", "1", "!", "\r\n", " \n", "'s", "aB", "e\u0301", "🏽", "\0"]
)
def test_long_runs(pattern: str, unit: str) -> None:
    for text in (unit * 6_000, unit * 5_000 + "x", "x " + unit * 5_000 + " "):
        assert split(text, pattern) == by_engine(text, pattern, 0)


def test_every_character_is_of_the_class_that_the_engine_says() -> None:
    """What is read from the disk is what the engine answers now."""
    fresh, kept = ask_classes(), read_classes()
    assert (fresh.classes == kept.classes).all() and (fresh.folds == kept.folds).all()


def test_a_damaged_file_of_classes_is_asked_for_again(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    monkeypatch.setattr(classes_module, "CACHE", type(CACHE)(directory=tmp_path))
    (tmp_path / f"classes-{tokenizers.__version__}.bin").write_bytes(b"short")
    assert (read_classes.__wrapped__().classes == read_classes().classes).all()
    assert (read_classes.__wrapped__().folds == read_classes().folds).all()  # from the new file


@settings(max_examples=100, deadline=None)
@given(text=st.text(st.sampled_from("ab 中é👩\n"), max_size=60), longest=st.integers(4, 12))
def test_long_pieces_are_cut_between_characters(text: str, longest: int) -> None:
    parts = split(text, "gpt2", longest=longest)
    assert "".join(parts) == text
    assert all(len(part.encode()) <= longest for part in parts)
    whole = split(text, "gpt2")
    assert {*parts} >= {piece for piece in whole if len(piece.encode()) <= longest}
