"""The picture of an explanation: its boxes are the tokens and the steps that `explain` tells."""

from __future__ import annotations

import pytest

from pellucid.cli.tokenizer_explain_picture import boxes, draw_cuts
from pellucid.drawing.boxes import BoxLook
from pellucid.tokens.explain import explain
from pellucid.tokens.labels import label_of_bytes
from pellucid.tokens.train import train_bpe, train_characters, train_unigram, train_wordpiece, train_words

TEXTS = ["the lowest of the low, 人工智能 and 人工 " * 20]
TEXT = "lowes 人工智"
TRAINED = {
    "bpe": train_bpe(TEXTS, 300),
    "char": train_characters(TEXTS),
    "unigram": train_unigram(TEXTS, 300),
    "wordpiece": train_wordpiece(TEXTS, 300),
}


def shown(tokenizer, text):
    return [[*boxes(tokenizer, piece)] for piece in explain(tokenizer, text)]


@pytest.mark.parametrize("kind", TRAINED)
def test_the_results_are_the_tokens_side_by_side(kind):
    tokenizer = TRAINED[kind]
    for piece, drawn in zip(explain(tokenizer, TEXT), shown(tokenizer, TEXT), strict=True):
        results = sorted((box for box in drawn if box.look is BoxLook.RESULT), key=lambda box: box.start)
        assert [box.text for box in results] == [
            token.text.strip() if kind == "wordpiece" else label_of_bytes(token.bytes) for token in piece.tokens
        ]
        assert [box.start for box in results] == [0, *(box.end for box in results[:-1])]
        assert results[-1].end == max(box.end for box in drawn)


def test_a_merge_stands_above_its_parts_with_its_rank():
    [drawn] = shown(train_bpe(["low low low"], 260, specials="none"), "low")
    assert [(box.text, box.start, box.end, box.level, box.note) for box in drawn] == [
        ("l", 0, 1, 0, ""),
        ("o", 1, 2, 0, ""),
        ("lo", 0, 2, 1, "0"),
        ("w", 2, 3, 0, ""),
        ("low", 0, 3, 2, "1"),
    ]


def test_no_two_boxes_cover_the_same_place():
    for kind, tokenizer in TRAINED.items():
        for drawn in shown(tokenizer, TEXT):
            taken = [(box.level, column) for box in drawn for column in range(box.start, box.end)]
            assert len(taken) == len(set(taken)), kind


@pytest.mark.parametrize(("train", "name"), [(train_words, "<unk>"), (train_wordpiece, "[UNK]")])
def test_an_unknown_word_is_drawn_as_lost(train, name):
    [drawn] = shown(train(TEXTS, 300), "ΩΩ")
    assert [(box.text, box.start, box.end) for box in drawn if box.look is BoxLook.LOST] == [(name, 0, 2)]
    assert not [box for box in drawn if box.look is BoxLook.RESULT]


def test_a_text_is_drawn_into_two_files(tmp_path):
    tokenizer = TRAINED["unigram"]
    assert [path.name for path in draw_cuts(tokenizer, explain(tokenizer, TEXT), tmp_path)] == ["cuts.svg", "cuts.png"]
