"""What a script gives to `fill`, `embed`, `classify` and `train_labels`: a wrong value is one clear error, never another result."""

from __future__ import annotations

import pytest
from encoders import bert, save_encoder, wordpiece

import pellucid
from pellucid.errors import RecordError, RequestError, SettingsError

ROWS = [(f"the cat {n}", "cat") for n in range(6)] + [(f"a dog {n}", "dog") for n in range(6)]


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    tokenizer = wordpiece()
    place = save_encoder(tmp_path_factory.mktemp("encoder") / "bert", bert(tokenizer), tokenizer)
    return pellucid.load(place, device="cpu")


@pytest.mark.parametrize("pooling", ["max", "cls", "lasttoken", "own", "MEAN", 3])
def test_a_pooling_that_is_none_is_refused(encoder, pooling) -> None:
    with pytest.raises(SettingsError, match=r"this is no pooling\n.*\n  try:   first, last, mean"):
        encoder.embed(["the cat"], pooling=pooling)


@pytest.mark.parametrize("options", [{"cut": "no"}, {"normalise": "no"}, {"normalise": 1}])
def test_a_word_is_no_yes_or_no(encoder, options) -> None:
    with pytest.raises(RequestError, match="bool is wanted here"):
        encoder.embed(["the cat"], **options)


@pytest.mark.parametrize("options", [{"top": "3"}, {"top": 2.5}, {"top": True}, {"mask": 3}, {"one_by_one": "yes"}])
def test_options_of_filling_have_their_kinds(encoder, options) -> None:
    with pytest.raises(RequestError, match="is wanted here"):
        encoder.fill("the [MASK] sat", **options)


@pytest.mark.parametrize(
    ("texts", "found"),
    [
        (None, "a list of texts"),
        (3, "a list of texts"),
        ("a cat", "a list of texts"),
        (["a", 3], "number 2 of the list"),
    ],
)
def test_texts_are_a_list_of_texts(encoder, texts, found) -> None:
    for ask in (encoder.embed, encoder.classify):
        with pytest.raises(RequestError, match=found):
            ask(texts)


@pytest.mark.parametrize("blank", ["", "  ", "\n"])
def test_a_blank_text_has_no_vector_and_no_label(encoder, blank) -> None:
    for ask in (encoder.embed, encoder.classify):
        with pytest.raises(RequestError, match=r"a text is blank\n  found: text 2"):
            ask(["a", blank])


def test_a_generator_of_texts_is_read_once(encoder) -> None:
    assert encoder.embed(text for text in ("the cat", "a dog")).vectors.shape == (2, 16)


@pytest.mark.parametrize(
    ("ask", "keyword", "here"),
    [("fill", "topk", "top"), ("embed", "normalize", "normalise"), ("embed", "pool", "pooling"),
     ("classify", "truncation", "cut"), ("train_labels", "l2", r"settings=pellucid.LabelSettings\(l2=…\)")],
)  # fmt: skip
def test_a_keyword_of_another_library_is_named_as_it_is_here(encoder, tmp_path, ask, keyword, here) -> None:
    given = {"fill": ["a [MASK]"], "embed": [["a"]], "classify": [["a"]], "train_labels": [ROWS, tmp_path / "x"]}[ask]
    with pytest.raises(SettingsError, match=f"there is no keyword {keyword}\n  try:   here it is called {here}"):
        getattr(encoder, ask)(*given, **{keyword: 1})


@pytest.mark.parametrize(
    ("rows", "where"),
    [(None, "rows"), ({"a": "x"}, "rows"), (["a", "b"], "row 1"), ([("a", "x", "y")], "row 1"), ([*ROWS, ("b", None)], "row 13"),
     ([("a", True)], "row 1"), ([(3.5, "x")], "row 1")],
)  # fmt: skip
def test_rows_that_are_no_pairs_are_named(encoder, tmp_path, rows, where) -> None:
    with pytest.raises(RecordError) as caught:
        encoder.train_labels(rows, tmp_path / "labels")
    assert caught.value.where == where


def test_labels_may_be_whole_numbers_and_settings_are_of_their_class(encoder, tmp_path) -> None:
    rows = [(text, len(label)) for text, label in ROWS[:3]] + [(text, 7) for text, _ in ROWS[6:]]
    encoder.train_labels(rows, tmp_path / "labels", settings=pellucid.LabelSettings(l2=0.5))
    assert {label.name for label in pellucid.load(tmp_path / "labels").classify(["the cat"])[0]} == {"3", "7"}
    with pytest.raises(RequestError, match="LabelSettings is wanted here"):
        encoder.train_labels(rows, tmp_path / "more", settings={"l2": 1})
