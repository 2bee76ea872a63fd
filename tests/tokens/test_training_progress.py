"""Training of every kind tells how far it is, as often as it matters, and never goes backwards."""

from __future__ import annotations

from itertools import pairwise

import pytest

from pellucid.events import MemoryRecorder
from pellucid.tokens import merges as merges_module
from pellucid.tokens import pieces, sample
from pellucid.tokens.choose import train_tokenizer
from pellucid.tokens.models.wordpiece import merge_plainly
from pellucid.tokens.settings import TokenizerSettings

TEXT = (
    "The cat sat on the mat, and the dog sat by the cat. 人工智能是计算机科学的一个分支，人工智能企图了解智能。\n" * 30
)
STAGES = {
    "bpe": ["counting", "merges"],
    "unigram": ["counting", "rounds"],
    "wordpiece": ["counting", "merges"],
    "word": ["counting"],
    "char": ["counting"],
}


def stages(kind: str) -> dict[str, list[tuple[int, int]]]:
    """label -> (done, total) of each event."""
    recorder = MemoryRecorder()
    asked = TokenizerSettings(kind=kind, vocab_size=330)  # type: ignore[arg-type]
    train_tokenizer([TEXT] * 4, 4 * len(TEXT.encode()), asked, recorder=recorder)
    found: dict[str, list[tuple[int, int]]] = {}
    for event in recorder.events:
        if event.name == "tokens.progress":
            found.setdefault(str(event.data["label"]), []).append((event.data["done"], event.data["total"]))  # type: ignore[arg-type]
    return found


@pytest.mark.parametrize("kind", STAGES)
@pytest.mark.parametrize("has_loops", [True, False], ids=["loops", "without Numba"])
def test_each_stage_begins_at_nothing_and_goes_on_to_its_end(
    kind: str, has_loops: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sample, "TICK", 1_000)
    monkeypatch.setattr(pieces, "WORTH_STARTING", 0)
    monkeypatch.setattr(pieces, "WORTH_COMPILING", 0)
    for module in (merges_module, pieces):
        monkeypatch.setattr(module, "find_obstacle", lambda: "" if has_loops else "Numba is not installed")
    monkeypatch.setattr(merges_module, "WORTH_STARTING", 1_000)
    monkeypatch.setattr(merges_module, "WORTH_COMPILING", 1_000)
    found = stages(kind)
    assert list(found) == STAGES[kind]
    for label, ticks in found.items():
        assert ticks[0][0] == 0 and all(done <= total for done, total in ticks), label
        assert all(before <= after for (before, _), (after, _) in pairwise(ticks)), label
    size = 4 * len(TEXT.encode())
    assert found["counting"][-1] == (size, size) and len(found["counting"]) > 5


@pytest.mark.parametrize("is_compiled", [True, False])
@pytest.mark.parametrize(
    ("num_characters", "most_merges", "by_loops", "by_loops_of_disk"),
    [
        (17_393, 3_000, True, True),  # a novel of 150 kB: 52 million symbols
        (17_393, 100, False, True),  # 1.7 million: worth loading the loops, not worth compiling them
        (17_393, 50, False, False),
        (900, 1_000_000, False, False),  # there cannot be more merges than characters
        (60_000, 10, False, False),
    ],
)
def test_who_merges_is_chosen_by_words_and_merges(
    num_characters: int,
    most_merges: int,
    by_loops: bool,
    by_loops_of_disk: bool,
    is_compiled: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    training = pytest.importorskip("pellucid.tokens.fast.training")
    monkeypatch.setattr(training, "is_ready", lambda: is_compiled)
    monkeypatch.setattr(training, "compile_loops", lambda recorder: None)
    recorder = MemoryRecorder()
    merger = pieces.find_merger(num_characters, most_merges, recorder=recorder)
    expected = training.merge_symbols if (by_loops_of_disk if is_compiled else by_loops) else merge_plainly
    assert (merger.func, merger.keywords) == (expected, {"recorder": recorder})  # type: ignore[attr-defined]


def test_the_shares_of_a_text_that_is_not_known_are_not_told() -> None:
    recorder = MemoryRecorder()
    assert list(sample.TrainingSample(["one two"], 100, None, recorder=recorder)) == ["one two"]
    assert recorder.events == []
