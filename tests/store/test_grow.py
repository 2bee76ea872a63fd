"""A model grows with its tokenizer: old rows stay, new ones start as the mean, and rows to spare are used first."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from pellucid.api import load
from pellucid.errors import StoreError, TokenizerError
from pellucid.events import MemoryRecorder
from pellucid.model.build import build
from pellucid.planning.config import ModelConfig
from pellucid.store.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from pellucid.store.grow import add_tokens, grow
from pellucid.tokens.train import train_bpe

TEXTS = ["the cat sat. 猫坐着。 " * 9]


def make(path: Path, *, specials: Any, tied: bool, padding: int = 0) -> Checkpoint:
    tokenizer = train_bpe(TEXTS, 300, specials=specials)
    config = ModelConfig(
        vocab_size=tokenizer.vocab_size + padding, context_length=32, n_layers=1, n_heads=2, n_kv_heads=1, head_dim=8,
        d_model=16, d_ff=24, init="gpt2", tied_head=tied,
    )  # fmt: skip
    weights = dict(build(config, seed=3).named_parameters())
    save_checkpoint(path, config=config, weights=weights, tokenizer=tokenizer, info={})
    return load_checkpoint(path)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize(
    ("specials", "padding", "more"), [("none", 0, 2), ("none", 1, 1), ("none", 4, 0), ("standard", 0, 0)]
)
def test_rows_to_spare_are_used_before_the_model_grows(
    tmp_path: Path, tied: bool, specials: Any, padding: int, more: int
) -> None:
    recorder, old = MemoryRecorder(), make(tmp_path / "old", specials=specials, tied=tied, padding=padding)
    add_tokens(old, tmp_path / "new", ["<tool>", "<done>"], roles={"<done>": "turn_end"}, recorder=recorder)
    new = load_checkpoint(tmp_path / "new")
    assert old.tokenizer is not None and new.tokenizer is not None
    assert new.config.vocab_size == old.config.vocab_size + more
    new_ids = [new.tokenizer.specials[name] for name in ("<tool>", "<done>")]
    spares = [*old.tokenizer.roles.get("spare", ())]
    in_use = torch.tensor([i for i in range(old.tokenizer.vocab_size) if i not in spares])
    for name in old.weights:
        before, after = old.weights[name], new.weights[name]
        if name not in ("embed.weight", "head.weight"):
            assert torch.equal(before, after)
            continue
        kept = torch.tensor([i for i in range(len(before)) if i not in new_ids])
        assert torch.equal(before[kept], after[kept])
        assert all(torch.equal(after[i], before[in_use].double().mean(dim=0).to(after.dtype)) for i in new_ids)
    [event] = [event for event in recorder.events if event.name == "store.rows_started"]
    assert event.data["ids"] == new_ids and ("head.weight" in event.data["tables"]) is not tied
    assert new.tokenizer.end_ids == {*old.tokenizer.end_ids, new_ids[1]}  # config.json goes on to name the old ones
    assert new.info["tokens_added"] == ["<tool>", "<done>"] and len(new.info["lineage"]) == 1


def test_old_logits_stay_to_the_bit(tmp_path: Path) -> None:
    old = make(tmp_path / "old", specials="none", tied=False)
    add_tokens(old, tmp_path / "new", ["<tool>"])
    ids_BT = torch.tensor([[*load(tmp_path / "old").tokenizer.encode("the cat 猫").ids]])
    before, after = (load(tmp_path / name, device="cpu").model(ids_BT).logits for name in ("old", "new"))
    assert torch.equal(before, after[..., : before.shape[-1]])
    assert after[..., -1].max() < before.max()  # the mean of all rows scores like an average token


def test_another_vocabulary_is_refused_and_nothing_is_overwritten(tmp_path: Path) -> None:
    old = make(tmp_path / "old", specials="none", tied=True)
    with pytest.raises(TokenizerError, match="gives an old id another meaning"):
        grow(old, train_bpe(["a dog"] * 9, 300, specials="none"))
    with pytest.raises(StoreError, match="something is here already"):
        add_tokens(old, tmp_path / "old", ["<tool>"])
