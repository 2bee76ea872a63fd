"""A directory where a run was refused before it had a plan takes the mended command."""

from __future__ import annotations

from pathlib import Path

import pytest

from pellucid.errors import SettingsError
from pellucid.training.recipes.pretrain import pretrain


@pytest.mark.usefixtures("quick")
def test_a_refused_run_does_not_block_the_mended_command(tmp_path: Path, task, prose) -> None:
    book = tmp_path / "book.txt"
    book.write_text(prose(200), encoding="utf-8")
    with pytest.raises(SettingsError):
        pretrain(task(book, tmp_path / "run", batch={"micro_rows": 3}))
    finished = pretrain(task(book, tmp_path / "run", tokenizer={"vocab_size": 280}))
    assert finished.step == 6
    assert (tmp_path / "run" / "tokenizer.json").is_file()
