"""A directory where a run was refused before it had a plan takes the mended command."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from pellucid.errors import InputError, LockedError, PellucidError, ResumeError, SettingsError
from pellucid.store.run import Run, lock_run
from pellucid.training.recipes.pretrain import RECIPE, pretrain
from pellucid.training.recipes.quickstart import Start, quickstart
from pellucid.training.run import open_directory


@pytest.mark.usefixtures("quick")
def test_a_refused_run_does_not_block_the_mended_command(tmp_path: Path, task, prose) -> None:
    book = tmp_path / "book.txt"
    book.write_text(prose(200), encoding="utf-8")
    with pytest.raises(SettingsError):
        pretrain(task(book, tmp_path / "run", batch={"micro_rows": 3}))
    finished = pretrain(task(book, tmp_path / "run", tokenizer={"vocab_size": 302}))
    assert finished.step == 6
    assert (tmp_path / "run" / "tokenizer.json").is_file()


def contents(directory: Path) -> dict[str, bytes]:
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("begun", [False, True])
def test_a_second_call_touches_nothing_before_it_holds_the_lock(tmp_path: Path, task, prose, begun: bool) -> None:
    """As long as the first has no plan, other settings would make run.json and the tokenizer anew."""
    book, out = tmp_path / "book.txt", tmp_path / "run"
    book.write_text(prose(200), encoding="utf-8")
    with lock_run(out):
        if begun:
            open_directory(task(book, out), RECIPE)
            (out / "tokenizer.json").write_text("{}", encoding="utf-8")
        before = contents(out)
        with pytest.raises(LockedError):
            pretrain(task(book, out, tokenizer={"vocab_size": 302}))
        with pytest.raises(LockedError):
            quickstart(out, start=Start())
        assert contents(out) == before


@pytest.mark.usefixtures("quick")
def test_a_text_that_is_not_there_leaves_no_directory(tmp_path: Path, task) -> None:
    with pytest.raises(PellucidError):
        pretrain(task(tmp_path / "nothing.txt", tmp_path / "run"))
    assert not (tmp_path / "run").exists()


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("content", [b"abc\xff\xfe\xfa broken", b"", b" \n \n"])
def test_a_text_that_cannot_be_read_leaves_no_directory(tmp_path: Path, task, content: bytes) -> None:
    (tmp_path / "bad.txt").write_bytes(content)
    with pytest.raises(InputError):
        pretrain(task(tmp_path / "bad.txt", tmp_path / "run"))
    assert not (tmp_path / "run").exists()


@pytest.mark.usefixtures("quick")
def test_settings_that_no_text_could_meet_leave_no_directory(tmp_path: Path, task, prose) -> None:
    (tmp_path / "book.txt").write_text(prose(200), encoding="utf-8")
    for wrong in ({"device": "cuda:77"}, {"model": {"preset": "gtp3"}}):
        with pytest.raises(SettingsError):
            pretrain(task(tmp_path / "book.txt", tmp_path / "run", **wrong))
        assert not (tmp_path / "run").exists()


@pytest.mark.usefixtures("quick")
def test_a_run_that_read_a_linked_file_twice_goes_on_so(tmp_path: Path, task, prose) -> None:
    """It was begun when links to files were always read: its run.json says `follow`, and a command that says nothing keeps that."""
    folder, out = tmp_path / "folder", tmp_path / "run"
    folder.mkdir()
    (folder / "a.txt").write_text(prose(200), encoding="utf-8")
    (folder / "b.txt").symlink_to(folder / "a.txt")
    pretrain(task(folder, out, data={"folders": "follow"}))
    assert pretrain(task(folder, out)).step == 6
    with pytest.raises(ResumeError, match="not the one this run began with"):
        pretrain(task(folder, out, data={"folders": "once"}))


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("part", ["settings", "plan", "data", "sources"])
@pytest.mark.parametrize("value", [[], 3, "x", {"steps": "many"}, {"config": {"n_layers": 1e300}}])
def test_a_damaged_run_json_is_an_error_that_says_so(tmp_path: Path, task, prose, part: str, value: object) -> None:
    book, out = tmp_path / "book.txt", tmp_path / "run"
    book.write_text(prose(200), encoding="utf-8")
    pretrain(task(book, out, steps=1))
    run = Run.open(out)
    run.update_identity({**run.identity, part: value})
    with contextlib.suppress(PellucidError):
        pretrain(task(book, out, steps=1))
