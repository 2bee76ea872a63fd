"""Browsing: every token is an entry with readable text, found by each kind of search; the summary counts them."""

from __future__ import annotations

import pytest

from pellucid.errors import RequestError
from pellucid.tokens.browse import find, kind_of, label_of, list_tokens, order, sift
from pellucid.tokens.scripts import common_han, script_of, script_of_character
from pellucid.tokens.search import search_texts
from pellucid.tokens.summary import summarize
from pellucid.tokens.tokenizer import Tokenizer
from pellucid.tokens.train import train_bpe, train_characters

TOKENIZER = train_bpe(["hello world, 你好世界。hello there, 你好 " * 20], 300)
ENTRIES = list_tokens(TOKENIZER)


def test_every_id_is_an_entry_and_none_is_garbled() -> None:
    assert [entry.id for entry in ENTRIES] == list(range(TOKENIZER.vocab_size))
    assert not any("\ufffd" in entry.text + entry.label for entry in ENTRIES)
    assert all(TOKENIZER.token_bytes(entry.id) == entry.data for entry in ENTRIES)
    assert {entry.text for entry in ENTRIES if entry.kind == "special"} == set(TOKENIZER.specials)


def test_the_unknown_token_is_special_and_shown_by_its_name(unknown_tokenizer: Tokenizer) -> None:
    unknown = unknown_tokenizer.vocabulary.unknown_id
    assert unknown is not None and kind_of(unknown_tokenizer, unknown) == "special"
    assert label_of(unknown_tokenizer, unknown) == "[UNK]"


@pytest.mark.parametrize(
    ("conditions", "holds"),
    [
        ({"script": "HAN"}, lambda entry: script_of(entry.text) == "HAN"),
        ({"kind": "byte", "min_length": 2}, lambda entry: entry.length >= 2 and "<0x" in entry.text),
        ({"max_length": 1}, lambda entry: entry.length <= 1),
    ],
)
def test_filters_keep_what_they_say(conditions, holds) -> None:
    found = sift(ENTRIES, conditions)
    assert found and all(map(holds, found))


def test_sorted_by_rank_what_no_merge_made_comes_last_both_ways() -> None:
    for sort in ("rank", "-rank"):
        ranks = [entry.rank for entry in order(ENTRIES, sort)]
        made = [rank for rank in ranks if rank is not None]
        assert made == sorted(made, reverse=sort == "-rank") and ranks[: len(made)] == made


@pytest.mark.parametrize("sort", ["beauty", "", "norm"])
def test_an_order_that_is_not_known_is_refused(sort: str) -> None:
    with pytest.raises(RequestError):
        order(ENTRIES, sort)


def test_a_pattern_that_never_ends_is_stopped() -> None:
    with pytest.raises(TimeoutError):
        search_texts(r"((.|.)*)*x$", ["a" * 40], seconds=0.5)
    with pytest.raises(RequestError):
        find(ENTRIES, "/(/")


def test_the_summary_counts_every_entry() -> None:
    summary = summarize(TOKENIZER, ENTRIES)
    assert sum(count for _, count in summary.by_kind) == summary.size == len(ENTRIES)
    assert sum(count for _, count in summary.by_script) == dict(summary.by_kind)["text"]
    han = [entry for entry in ENTRIES if set(map(script_of_character, entry.text.strip())) == {"HAN"}]
    assert sum(summary.han_by_length) == len(han) and summary.han_by_length[1] >= 1  # 你好
    assert summary.longest_han[0].text.strip() == max((entry.text.strip() for entry in han), key=len)


def test_common_characters_are_counted_once_each() -> None:
    tokenizer = train_characters([common_han() + "鬱龘"])
    assert summarize(tokenizer, list_tokens(tokenizer)).num_common_han == len(set(common_han())) == 3755
