"""`pellucid search`: what it prints is what the search finds, and what it cannot do it says."""

from __future__ import annotations

import json

import pytest

from pellucid.api import load


def test_the_texts_of_the_search_best_first(directory, run):
    asked = ["--num-beams", "3", "--num-best", "2", "--max-new-tokens", "5"]
    printed = run("search", directory, "the", *asked, "--device", "cpu")
    expected = load(directory, device="cpu").search("the", num_beams=3, num_best=2, max_new_tokens=5)
    assert printed.out == "".join(f"{one.completion.text}\n" for one in expected)
    assert [line.split(",")[0] for line in printed.err.splitlines() if "score" in line] == [
        f"· score {one.score:.4f}" for one in expected
    ]
    found = json.loads(run("search", directory, "-", *asked, "--json", "--device", "cpu", stdin=b"the").out)
    assert [one["completion"]["ids"] for one in found] == [list(one.completion.ids) for one in expected]
    assert found[0]["score"] >= found[1]["score"]


def test_a_single_greedy_beam_is_greedy_text(directory):
    lm = load(directory, device="cpu")
    [one] = lm.search("the", num_beams=1, max_new_tokens=6, early_stopping="always")
    assert one.completion.ids == lm.complete("the", temperature=0, max_new_tokens=6).ids


def test_choice_0_is_the_text_alone(directory):
    lm = load(directory, device="cpu")
    first, second = lm.choices("the", num_choices=2, seed=3, max_new_tokens=6)
    assert first == lm.complete("the", seed=3, max_new_tokens=6) and first.ids != second.ids


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (["--num-beams", "0"], 2, "num_beams"),
        (["--num-best", "9"], 5, "num_best must lie between 1 and num_beams"),
        (["--seed", "1"], 2, "nothing is drawn at random here"),
        (["--set", "temperature=1"], 2, "temperature"),
        (["--length-penalty", "nan"], 2, "give a number from -16 to 16"),
        (["--length-penalty", "1e30"], 2, "length_penalty must be at most 16"),
        (["--length-penalty", "-1000"], 2, "length_penalty must be at least -16"),
    ],
)
def test_what_cannot_be_is_refused(directory, run, options, code, words):
    refused = run("search", directory, "the", *options)
    assert refused.code == code and words in refused.err and not refused.out
