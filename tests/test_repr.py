"""What a script prints of the things that it holds: one line each, never the weights."""

from __future__ import annotations

from pathlib import Path

import pellucid
from pellucid.model.build import build
from pellucid.planning.config import ModelConfig
from pellucid.store.checkpoint import save_checkpoint
from pellucid.tokens.train import train_bpe


def test_everything_that_a_script_holds_is_printed_in_a_line(tmp_path: Path) -> None:
    tokenizer = train_bpe(["hello there"], 264, specials="none")
    config = ModelConfig(
        vocab_size=264, context_length=8, n_layers=3, n_heads=2, n_kv_heads=1, head_dim=4, d_model=8, d_ff=16
    )
    save_checkpoint(
        tmp_path / "m", config=config, weights=build(config, seed=0).state_dict(), tokenizer=tokenizer, info={}
    )
    lm = pellucid.load(tmp_path / "m", device="cpu")
    step = next(lm.generate("hello", seed=0, max_new_tokens=1))
    held = [lm, lm.tokenizer, lm.checkpoint, lm.runner, lm.complete("hello", seed=0, max_new_tokens=2), step]
    held += [pellucid.trace(lm, "hello"), pellucid.plan("gpt2"), lm.search("he", max_new_tokens=2)[0]]
    for one in held:
        assert len(repr(one)) < 400 and "\n" not in repr(one) and str(one) == repr(one)
    assert str(tmp_path / "m") in repr(lm) and "parameters" in repr(lm) and "bpe" in repr(lm)
