"""The replay of a piece on the page: the steps that `tokens.explain` tells, for every kind of tokenizer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from tokenizer_documents import byte_unigram, load, unigram, wordpiece, words

from pellucid.errors import RequestError
from pellucid.lens.answer import At
from pellucid.lens.dispatch import Dispatch
from pellucid.lens.replay import tell
from pellucid.tokens.explain import explain
from pellucid.tokens.tokenizer import Tokenizer
from pellucid.tokens.train import train_bpe, train_characters

Opener = Callable[[Tokenizer], Dispatch]
TEXT = "the 中文 unhappiness, apple 我想 thé 😀"
MAKERS: dict[str, Callable[[], Tokenizer]] = {
    "bpe": lambda: train_bpe([TEXT * 9], 290),
    "char": lambda: train_characters(["the 中 unhappiness, apple 我想"]),
    "wordpiece": lambda: load(wordpiece()),
    "unigram": lambda: load(unigram()),
    "byte_unigram": lambda: load(byte_unigram()),
    "word": lambda: load(words()),
}


def ask(lens: Dispatch, text: str, position: int) -> dict[str, Any]:
    node = lens.branches.plant(text).id
    return lens.answer("replay", {"at": {"node": node}, "position": position}).value


@pytest.mark.parametrize("kind", MAKERS)
def test_every_token_of_a_prompt_has_the_steps_of_its_piece(lens_on: Opener, kind: str) -> None:
    lens = lens_on(MAKERS[kind]())
    node = lens.branches.plant(TEXT)
    in_front = len(lens.tokenizer.encode_prompt(""))
    position = in_front
    for piece in explain(lens.tokenizer, TEXT):
        ids = [token.id for token in piece.tokens]
        for _ in ids:
            told = ask(lens, TEXT, position)
            assert told["how"] == tell(lens.tokenizer, piece.how) and told["kind"] == lens.tokenizer.kind
            assert (told["piece"]["start"], told["piece"]["end"]) == (piece.start, piece.end)
            assert [token["id"] for token in told["tokens"]] == ids
            assert list(node.ids[told["first"] :][: len(ids)]) == ids and 0 <= position - told["first"] < len(ids)
            position += 1
    assert position == len(node.ids) > in_front


def test_merges_are_told_with_their_parts_ranks_and_places(lens_on: Opener) -> None:
    lens = lens_on(train_bpe(["low low low"], 260, specials="none"))
    assert ask(lens, "low", 1)["how"] == {
        "by": "merges",
        "parts": ["l", "o", "w"],
        "merges": [
            {"left": "l", "right": "o", "joined": "lo", "rank": 0, "places": [0]},
            {"left": "lo", "right": "w", "joined": "low", "rank": 1, "places": [0]},
        ],
    }


def test_the_longest_match_is_told_with_what_was_tried_before(lens_on: Opener) -> None:
    lens = lens_on(load(wordpiece()))
    known, lost = ask(lens, "Unhappiness unhappy", 1), ask(lens, "Unhappiness unhappy", 4)
    assert known["how"]["characters"] == list("unhappiness")
    assert [(one["token"], one["start"], one["end"], one["misses"]) for one in known["how"]["matches"]] == [
        ("un", 0, 2, 9), ("##happi", 2, 7, 4), ("##ness", 7, 11, 0),
    ]  # fmt: skip
    assert list(known["how"]["matches"][1]["tried"]) == ["##happiness", "##happines", "##happine", "##happin"]
    assert [token["label"] for token in lost["tokens"]] == ["[UNK]"] and lost["piece"]["label"] == "unhappy"
    assert lost["how"]["matches"][-1] == {
        "token": None, "start": 2, "end": 2, "misses": 5, "tried": ("##happy", "##happ", "##hap", "##ha", "##h"),
    }  # fmt: skip
    long = ask(lens, "a" * 101, 1)["how"]
    assert long["is_too_long"] and long["matches"] == []


def test_the_lattice_is_told_with_both_ways(lens_on: Opener) -> None:
    lens = lens_on(load(unigram()))
    how = ask(lens, "the", 0)["how"]
    assert [(one["label"], one["start"], one["end"]) for one in how["characters"]] == [
        ("·", 0, 1), ("t", 1, 2), ("h", 2, 3), ("e", 3, 4),
    ]  # fmt: skip
    assert {"label": "·the", "start": 0, "end": 4, "score": -1.0, "is_known": True} in how["fitting"]
    assert how["ways"] == [
        {"score": -1.0, "tokens": ["·the"], "spans": [[0, 4]]},
        {"score": -14.0, "tokens": ["·", "t", "h", "e"], "spans": [[0, 1], [1, 2], [2, 3], [3, 4]]},
    ]


def test_a_character_of_several_bytes_covers_the_places_of_its_bytes(lens_on: Opener) -> None:
    how = ask(lens_on(load(byte_unigram())), "中a", 1)["how"]
    assert how["characters"] == [{"label": "中", "start": 0, "end": 3}, {"label": "a", "start": 3, "end": 4}]
    assert [one["label"] for one in how["fitting"]] == ["E4", "B8", "AD", "a"]


def test_words_that_become_the_same_ids_are_prompts_of_their_own(lens_on: Opener) -> None:
    lens = lens_on(load(words()))
    first, second = (lens.branches.plant(text) for text in ("the dog", "the sun"))
    assert first.ids == second.ids and first.id != second.id and lens.branches.plant("the dog").id == first.id
    assert [ask(lens, text, 2)["piece"]["label"] for text in ("the dog", "the sun")] == ["·dog", "·sun"]
    assert ask(lens, "the dog", 2)["how"] == {"by": "word", "is_known": False}
    assert ask(lens, "the dog", 1)["how"] == {"by": "word", "is_known": True}
    tree = lens.answer("tree", {}).value
    assert [node["text"] for node in tree["nodes"]] == ["the dog", "the sun"]


def test_a_recording_says_whether_the_tokens_are_the_text(lens_on: Opener) -> None:
    lens = lens_on(load(words()))
    for text, differing in (("the cat", 0), ("the dog", 4)):
        header = lens.trace(At(node=lens.branches.plant(text).id)).header
        check = next(check for check in header["checks"] if check["name"] == "decoding")
        assert header["text"] == text and check["limit"] is None and check["ok"]
        assert check["value"] == differing


def test_tokens_that_no_text_was_cut_into_have_no_piece(lens_on: Opener) -> None:
    lens = lens_on(train_bpe(["low low low"], 260, specials="none"))
    assert ask(lens, "low", 0) == {"kind": "bpe", "piece": None}  # <bos>
    appended = lens.branches.choose(0, 108).id
    assert lens.answer("replay", {"at": {"node": appended}, "position": 2}).value["piece"] is None
    assert lens.answer("record", {"at": {"node": appended}}).value["text"] == "lowl"
    as_ids = lens.branches.plant(lens.tokenizer.encode_prompt("low")).id
    assert lens.answer("replay", {"at": {"node": as_ids}, "position": 1}).value["piece"] is None
    with pytest.raises(RequestError, match="no token stands at this position"):
        ask(lens, "low", 2)


def test_a_card_tells_how_its_token_is_made_of_smaller_ones(lens_on: Opener) -> None:
    lens = lens_on(load(unigram()))
    card = lens.answer("card", {"id": 4}).value
    assert card["tokenizer"] == "unigram" and card["score"] == -1.0 and card["rank"] is None
    assert [way["tokens"] for way in card["how"]["ways"]] == [["·the"], ["·", "t", "h", "e"]]
    assert lens_on(load(words())).answer("card", {"id": 1}).value["how"] is None
