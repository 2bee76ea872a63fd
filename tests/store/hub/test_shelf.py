"""What lies on this computer: the disk, two at once, damaged records, what other programs have fetched."""

from __future__ import annotations

import errno
import os
import random
import shutil
import sys
from collections import Counter, namedtuple

import filelock
import pytest
from hub_server import BIG, ONE, SMALL, TWO, WEIGHTS, get, names_below

from pellucid.errors import (
    CorruptFileError,
    LockedError,
    NoSpaceError,
)
from pellucid.store.hub.fetch import find_fetched

# The disk


def test_a_model_that_does_not_fit_is_not_begun(hub, monkeypatch) -> None:
    hub.add("a/b", ONE, SMALL, "main")
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(1 << 40, 0, (256 << 20) + 102_409))
    with pytest.raises(NoSpaceError, match="the model does not fit on this disk") as caught:
        get()
    assert caught.value.found == "102 kB still to come, 269 MB free"
    assert hub.paths() == ["/api/models/a/b/revision/main"]
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(1 << 40, 0, (256 << 20) + 102_410))
    get()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such limit")
def test_a_disk_that_fills_up_leaves_no_half_file(hub, shelf) -> None:
    hub.add("a/b", ONE, SMALL, "main")
    resource = pytest.importorskip("resource")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, limits[1]))  # EFBIG, which counts as a full disk
    try:
        with pytest.raises(NoSpaceError, match="no room to write") as caught:
            get()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert os.strerror(errno.EFBIG) in caught.value.found
    assert "b/model.safetensors" not in names_below(shelf / ONE)
    assert (get().path / "model.safetensors").read_bytes() == BIG


def test_two_do_not_fetch_the_same_at_once(hub, shelf) -> None:
    hub.add("a/b", ONE, SMALL, "main")
    get()
    with filelock.FileLock(shelf / ".lock"):
        assert get().commit == ONE  # what is here is nobody's to wait for
        with pytest.raises(LockedError, match="another process is fetching from this repository"):
            get(update=True)


def test_a_thousand_damaged_records_are_read_or_refused(hub, shelf) -> None:
    hub.add("a/b", ONE, SMALL, "main")
    here, draw, outcomes = get(), random.Random(5), Counter()
    record = shelf / ONE / "fetched.json"
    whole = record.read_bytes()
    for number in range(1000):
        place = draw.randrange(len(whole))
        middle = (bytes([draw.randrange(256)]), b"", whole[place : place + 1] * 2)[number % 3]
        record.write_bytes(whole[:place] + middle + whole[place + 1 :])
        try:
            found = find_fetched(here.name)
            outcomes["here" if found else "not here"] += 1
            assert found is None or found.path == here.path
        except CorruptFileError as error:
            assert error.where == str(record) and error.hint
            outcomes["refused"] += 1
    assert outcomes.keys() == {"here", "not here", "refused"}


def test_a_record_that_is_damaged_says_what_to_do(hub, shelf) -> None:
    hub.add("a/b", ONE, SMALL, "main")
    get()
    for path in (shelf / ONE / "fetched.json", shelf / "revisions.json"):
        for damage in (b"{", b"[]", b'{"names": 3, "main": 3}', b'{"files": {"b/x": 3}, "main": {"commit": 3}}'):
            whole = path.read_bytes()
            path.write_bytes(damage)
            with pytest.raises(CorruptFileError) as caught:
                get()
            assert caught.value.hint == "delete this file: the model is then fetched again"
            assert caught.value.where == str(path)
            path.write_bytes(whole)
    assert get().commit == ONE


# What other programs have fetched


@pytest.mark.parametrize("is_whole", [True, False])
def test_what_another_program_has_fetched_is_taken_where_it_is_right(hub, tmp_path, is_whole) -> None:
    hub.add("a/b", ONE, SMALL, "main")
    shared = tmp_path / "hf" / "hub" / "models--a--b"
    (shared / "blobs").mkdir(parents=True)
    (shared / "snapshots" / ONE).mkdir(parents=True)
    (shared / "blobs" / "x").write_bytes(BIG if is_whole else BIG[:-1] + b"x")
    (shared / "snapshots" / ONE / "model.safetensors").symlink_to("../../blobs/x")
    path = get().path / "model.safetensors"
    assert path.read_bytes() == BIG and not path.is_symlink()
    assert (WEIGHTS in hub.paths()) is not is_whole
    assert (shared / "blobs" / "x").read_bytes() == (BIG if is_whole else BIG[:-1] + b"x")


def test_where_links_cannot_be_a_copy_is_made(hub, tmp_path, monkeypatch) -> None:
    hub.add("a/b", ONE, SMALL, "main", "v1")
    hub.add("a/b", TWO, SMALL, "v2")
    get("hf:a/b@v1")
    hub.asked.clear()

    def refuse(*arguments: object) -> None:
        raise OSError(errno.EXDEV, "another disk")

    monkeypatch.setattr(os, "link", refuse)
    assert (get("hf:a/b@v2").path / "model.safetensors").read_bytes() == BIG
    assert hub.paths() == ["/api/models/a/b/revision/v2"]
