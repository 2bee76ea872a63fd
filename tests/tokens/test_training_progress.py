"""Training of every kind tells how far it is, as often as it matters, and never goes backwards."""

from __future__ import annotations

from itertools import pairwise

import pytest

from pellucid.events import MemoryRecorder
from pellucid.tokens import merges as merges_module
from pellucid.tokens import pieces, sample
from pellucid.tokens.choose import train_tokenizer
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
    monkeypatch.setattr(pieces, "WORTH_MERGING", 0)
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


def test_the_shares_of_a_text_that_is_not_known_are_not_told() -> None:
    recorder = MemoryRecorder()
    assert list(sample.TrainingSample(["one two"], 100, None, recorder=recorder)) == ["one two"]
    assert recorder.events == []
