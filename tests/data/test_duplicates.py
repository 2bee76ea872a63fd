from __future__ import annotations

from functools import partialmethod

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pellucid.data import duplicates
from pellucid.data.duplicates import find_duplicates, shingle_hashes, shingle_length
from pellucid.data.shards import TokenShards

LETTERS = np.array(list("abcdefghijklmnopqrstuvwxyz "))


def random_text(seed: int, length: int) -> str:
    return "".join(np.random.Generator(np.random.Philox(seed)).choice(LETTERS, length))


@given(st.lists(st.integers(0, 3), min_size=0, max_size=60), st.sampled_from([1, 2, 4, 8]))
def test_equal_runs_and_only_those_have_equal_hashes(ids: list[int], length: int) -> None:
    hashes = shingle_hashes(np.array(ids, np.uint16), length).tolist()
    runs = [tuple(ids[i : i + length]) for i in range(len(ids) - length + 1)]
    assert len(hashes) == len(runs)
    assert len(set(zip(hashes, runs, strict=True))) == len(set(hashes)) == len(set(runs))


def test_copied_text_is_found_and_named(make_shards) -> None:
    copied = random_text(1, 400)
    train = make_shards(
        [random_text(2, 3000), random_text(3, 100) + copied + random_text(4, 50), "the same short text"]
    )
    valid = make_shards([random_text(5, 300), copied[:300] + random_text(6, 40), "the same short text"])
    report = find_duplicates(train, valid)
    assert (report.num_exact, report.num_near) == (1, 1)
    (match,) = report.examples
    assert (match.valid_origin, match.train_origin, match.valid_start) == ("text 1", "text 1", valid.document(1).start)
    assert 0.7 < match.share < 0.95


def test_text_of_its_own_gives_nothing(make_shards) -> None:
    report = find_duplicates(make_shards([random_text(1, 5000)]), make_shards([random_text(2, 2000)]))
    assert (report.num_exact, report.num_near, report.shared, report.examples) == (0, 0, 0.0, ())
    assert report.num_passages == 4  # 2,002 tokens in stretches of 512


def test_small_chunks_and_shards_change_nothing(make_shards, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [random_text(1, 700), random_text(2, 700)]
    held_out = [texts[1][100:500], random_text(3, 300)]
    whole = find_duplicates(make_shards(texts), make_shards(held_out))
    monkeypatch.setattr(duplicates, "CHUNK_TOKENS", 37)
    assert find_duplicates(make_shards(texts, shard_tokens=101), make_shards(held_out, shard_tokens=90)) == whole
    assert whole.num_near == 1


def test_the_shared_part_equals_a_plain_count(make_shards) -> None:
    train_text, valid_text = random_text(1, 900), random_text(1, 900)[300:500] + random_text(2, 150)
    train, valid = make_shards([train_text]), make_shards([valid_text])
    length = shingle_length(valid)
    runs = [set(), []]
    ids = train.tokens(0, train.num_tokens).tolist()
    runs[0] = {tuple(ids[i : i + length]) for i in range(len(ids) - length + 1)}
    ids = valid.tokens(0, valid.num_tokens).tolist()
    runs[1] = [tuple(ids[i : i + length]) for i in range(len(ids) - length + 1)]
    assert find_duplicates(train, valid).shared == sum(run in runs[0] for run in runs[1]) / len(runs[1])


def test_a_sample_of_hashes_finds_the_same_passages(make_shards, monkeypatch: pytest.MonkeyPatch) -> None:
    text = random_text(1, 4000)
    train, valid = make_shards([text]), make_shards([text[1000:3000], random_text(2, 2000)])
    monkeypatch.setattr(duplicates, "MAX_SHINGLES", 600)
    report = find_duplicates(train, valid)
    assert report.num_near == 4 and report.shared == pytest.approx(0.5, abs=0.1)


def test_texts_shorter_than_a_shingle_are_compared_whole(make_shards) -> None:
    report = find_duplicates(make_shards(["emma", "olivia"]), make_shards(["olivia", "ava"]))
    assert (report.num_exact, report.num_near, report.num_passages) == (1, 0, 0)


def test_of_pairs_the_sources_alone_are_compared(make_shards, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = random_text(9, 400)  # long enough to be a passage, and right for several questions
    asked = [random_text(seed, 100) for seed in range(5)]
    train = make_shards([text for question in asked[:3] for text in (question, answer)])
    valid = make_shards([text for question in asked[2:] for text in (question, answer)])
    monkeypatch.setattr(TokenShards, "document_records", partialmethod(TokenShards.document_records, size=3))
    texts, pairs = (find_duplicates(train, valid, every=every) for every in (1, 2))
    assert (texts.num_exact, texts.num_near) == (4, 4)  # three answers, and one question that training asks too
    assert (pairs.num_exact, pairs.num_near, pairs.num_passages) == (1, 1, 3)
    assert pairs.examples[0].valid_origin == "text 0"


def test_shingles_are_longer_where_tokens_are_shorter(make_shards) -> None:
    assert shingle_length(make_shards(["a" * 500])) == 64  # the marks push 32 tokens just above
    assert shingle_length(make_shards(["你好世界" * 100])) == 16
