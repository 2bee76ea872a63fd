"""Models by their names: fetched from a server of the tests' own, which also breaks off, lies and refuses."""

from __future__ import annotations

import errno
import json
import os
import resource
import shutil
import socket
import subprocess
import sys
from collections import namedtuple
from collections.abc import Iterator
from pathlib import Path

import filelock
import pytest
import torch
from hub_server import HubServer, only_server
from huggingface_hub import constants

import pellucid
from pellucid.errors import (
    BrokenOffError,
    CorruptFileError,
    FetchError,
    LockedError,
    NoSpaceError,
    SettingsError,
    WeightsError,
)
from pellucid.events import Event, MemoryRecorder
from pellucid.files import file_git_sha1
from pellucid.store.checkpoint import save_checkpoint
from pellucid.store.hub import fetch as fetching
from pellucid.store.hub import download, listing, server
from pellucid.store.hub.fetch import fetch, remove_damaged
from pellucid.store.hub.name import parse_name

ONE, TWO = "1" * 40, "2" * 40
BIG = bytes(range(256)) * 400  # stands for weights, where nobody opens them
SMALL = {"config.json": b'{"a": 1}', "tokenizer.json": b"{}", "model.safetensors": BIG}
PLAIN = pellucid.EngineSettings(kernels="off")  # no loops to compile
WEIGHTS = f"/storage/a/b/resolve/{ONE}/model.safetensors"


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[HubServer]:
    with only_server(tmp_path / "hf") as hub:
        yield hub


@pytest.fixture
def shelf(tmp_path: Path) -> Path:
    return tmp_path / "hf" / "assets" / "pellucid" / "a--b"


def get(name: str = "hf:a/b", **asked: object):
    return fetch(parse_name(name), **asked)


def names_below(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


# What a fetch does


def test_a_model_is_fetched_and_opens_like_its_directory(hub, tmp_path, config, weights) -> None:
    save_checkpoint(tmp_path / "there", config=config, weights=weights, tokenizer=None, info={})
    files = {name: (tmp_path / "there" / name).read_bytes() for name in names_below(tmp_path / "there")}
    hub.add("a/b", ONE, files, "main")
    ids = torch.tensor([[1, 5, 2]])
    there, here = (pellucid.load(place, engine=PLAIN) for place in (tmp_path / "there", "hf:a/b"))
    assert torch.equal(here.model(ids).logits, there.model(ids).logits)
    hub.asked.clear()
    assert torch.equal(pellucid.load("hf:a/b", engine=PLAIN).model(ids).logits, there.model(ids).logits)
    assert hub.asked == []


def test_what_was_fetched_is_written_down(hub, shelf) -> None:
    hub.add("a/b", ONE, SMALL, "main")
    fetched = get()
    assert fetched.path == shelf / ONE / "b"
    assert {name: (fetched.path / name).read_bytes() for name in SMALL} == SMALL
    record = json.loads((shelf / ONE / "fetched.json").read_text())
    times = {file.pop("fetched") for file in record["files"].values()}
    assert record == {
        "from": f"{hub.url}/a/b",
        "commit": ONE,
        "names": {"": "b"},
        "files": {  # by sha256sum and `git hash-object`
            "b/config.json": {
                "num_bytes": 8,
                "sha256": "f9d86028c6e0d64e225186f96acb69338b2c59764df79162107f5c4bb34d1310",
                "git_sha1": "4a036f56bb619924ec4189bd84ed716c766971ae",
            },
            "b/model.safetensors": {
                "num_bytes": 102_400,
                "sha256": "27783e87963a4efb6829b531c9ba57b44f45797f6770bd637fbf0d807cbdbae0",
                "git_sha1": "",
            },
            "b/tokenizer.json": {
                "num_bytes": 2,
                "sha256": "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a",
                "git_sha1": "9e26dfeeb6e641a33dae4961196235bdb965b21b",
            },
        },
    }
    assert len(times) == 1
    revisions = json.loads((shelf / "revisions.json").read_text())
    assert revisions == {"main": {"commit": ONE, "asked": times.pop()}}
    assert names_below(shelf / "parts") == set()


def test_git_s_hash_of_a_file(tmp_path) -> None:
    (tmp_path / "x").write_bytes(b"hello\n")  # `git hash-object x`
    assert file_git_sha1(tmp_path / "x") == "ce013625030ba8dba906f756967f9e9ca394464a"


def test_only_what_a_model_is_made_of_is_fetched(hub) -> None:
    rest = {
        name: b"x"
        for name in (
            "README.md", ".gitattributes", "modeling.py", "pytorch_model.bin", "tf_model.h5", "onnx/model.onnx",
            "consolidated.safetensors", "b.Q8_0.gguf", "training_args.bin", "../evil.json", "/etc/config.json",
            "trainer_state.json", "sub/config.json",
        )
    }  # fmt: skip
    tokens = {
        name: b"{}" for name in ("tokenizer_config.json", "vocab.json", "merges.txt", "vocab.txt", "tokenizer.model")
    }
    hub.add("a/b", ONE, {**rest, **SMALL, **tokens, "generation_config.json": b"{}"}, "main")
    fetched = get()
    asked = {path.rpartition("/")[2] for path in hub.paths() if "/resolve/" in path}
    assert asked == {*SMALL, *tokens, "generation_config.json"} == names_below(fetched.path)


def test_weights_in_several_files_are_those_of_their_index(hub) -> None:
    index = json.dumps(
        {"weight_map": {"x": "model-2.safetensors", "y": "model-1.safetensors", "z": "model-1.safetensors"}}
    )
    files = {"config.json": b"{}", "model.safetensors.index.json": index.encode()}
    shards = {"model-1.safetensors": BIG[:1000], "model-2.safetensors": BIG[1:900]}
    hub.add("a/b", ONE, {**files, **shards, "model-3.safetensors": BIG}, "main")
    assert names_below(get().path) == {*files, *shards}
    assert hub.paths().count(f"/a/b/resolve/{ONE}/model.safetensors.index.json") == 1


@pytest.mark.parametrize(
    ("index", "what"),
    [
        (b"[]", "the index of the weights cannot be read"),
        (b'{"weight_map": {}}', "the index names weights that the repository does not have"),
        (b'{"weight_map": {"x": "model-9.safetensors"}}', "the index names weights"),
        (b'{"weight_map": {"x": "../model-1.safetensors"}}', "the index names weights"),
        (b'{"weight_map": {"x": "model.py"}}', "the index names weights"),
    ],
)
def test_an_index_names_weights_of_its_repository_only(hub, index, what) -> None:
    extra = {"../model-1.safetensors": BIG, "model.py": b"x"}
    hub.add("a/b", ONE, {"config.json": b"{}", "model.safetensors.index.json": index, **extra}, "main")
    with pytest.raises(FetchError, match=what):
        get()


def test_one_gguf_file_of_a_repository(hub, shelf) -> None:
    hub.add("a/b", ONE, {"q8/b.gguf": BIG, "b.gguf": BIG[1:], **SMALL}, "main", "v1")
    fetched = get("hf:a/b/q8/b.gguf@v1")
    assert fetched.path == shelf / ONE / "b--gguf" / "q8" / "b.gguf"
    assert fetched.path.read_bytes() == BIG
    assert [path for path in hub.paths() if "/resolve/" in path] == [
        f"/a/b/resolve/{ONE}/q8/b.gguf", f"/storage/a/b/resolve/{ONE}/q8/b.gguf"
    ]  # fmt: skip
    model = get("hf:a/b@v1")
    assert model.path == shelf / ONE / "b" and names_below(model.path) == set(SMALL)
    assert get("hf:a/b/q8/b.gguf@v1").path == fetched.path


def test_a_repository_of_one_gguf_file_needs_no_file_name(hub, shelf) -> None:
    hub.add("a/b", ONE, {"README.md": b"x", "b.gguf": BIG}, "main")
    assert get().path == shelf / ONE / "b--gguf" / "b.gguf"
    hub.asked.clear()
    assert get().path == shelf / ONE / "b--gguf" / "b.gguf" and hub.asked == []


# Names and what a repository may be


@pytest.mark.parametrize(
    "name",
    [
        "hf:", "hf:b", "hf:a/", "hf:/b", "hf:a/b/", "hf:a/b/model.safetensors", "hf:a/b/../x.gguf", "hf:a/b//x.gguf",
        "hf:a/b/.x.gguf", "hf:../b", "hf:a/..", "hf:a--c/b", "hf:a/b@", "hf:a/b@../../x", "hf:a/b@a b", "hf:a/b@-x",
        "hf:a/b/c:d.gguf", "hf:a/b/c\\d.gguf", "hf:a b/c", "a/b", "runs/book", "hf:a/b@x@y", "hf:a/b/\n.gguf",
    ],
)  # fmt: skip
def test_what_is_no_name_is_said_before_anybody_is_asked(hub, name) -> None:
    with pytest.raises(SettingsError) as caught:
        get(name)
    assert caught.value.hint and hub.asked == []


@pytest.mark.parametrize(
    ("files", "name", "kind", "what"),
    [
        ({"pytorch_model.bin": b"x", "config.json": b"{}"}, "hf:a/b", WeightsError, "the weights are stored as a Python"),
        ({"x.pt": b"x"}, "hf:a/b", WeightsError, "the weights are stored as a Python pickle, which is not fetched"),
        ({"model.safetensors": BIG}, "hf:a/b", FetchError, "this repository holds no model that is read here"),
        ({"config.json": b"{}"}, "hf:a/b", FetchError, "this repository holds no model that is read here"),
        ({}, "hf:a/b", FetchError, "this repository holds no model that is read here"),
        ({"x.gguf": b"x", "y.gguf": b"y"}, "hf:a/b", FetchError, "this repository holds several GGUF files"),
        (SMALL, "hf:a/b/x.gguf", FetchError, "the repository has no such file"),
        ({"x-00001-of-00002.gguf": b"x"}, "hf:a/b", FetchError, "this is one part of a GGUF file"),
        ({**SMALL, "x-00001-of-00002.gguf": b"x"}, "hf:a/b/x-00001-of-00002.gguf", FetchError, "this is one part of"),
    ],
)  # fmt: skip
def test_a_repository_without_a_model_to_fetch(hub, files, name, kind, what) -> None:
    hub.add("a/b", ONE, files, "main")
    with pytest.raises(kind, match=what) as caught:
        get(name)
    assert caught.value.where == f"{hub.url}/a/b"
    assert not any("/resolve/" in path for path in hub.paths())


# A name stays with its commit


def test_a_name_stays_with_its_commit_until_a_newer_one_is_asked_for(hub, shelf) -> None:
    hub.add("a/b", ONE, SMALL, "main")
    get()
    hub.add("a/b", TWO, {**SMALL, "config.json": b'{"a": 2}'}, "main")
    assert get().commit == ONE
    told = MemoryRecorder()
    hub.asked.clear()
    newer = get(update=True, recorder=told)
    assert newer.commit == TWO and (newer.path / "config.json").read_bytes() == b'{"a": 2}'
    assert hub.paths() == ["/api/models/a/b/revision/main", f"/a/b/resolve/{TWO}/config.json"]  # the rest is here
    assert told.names()[-1] == "store.fetch_older" and str(shelf / ONE) in told.events[-1].message
    assert get().commit == TWO
    assert get(f"hf:a/b@{ONE}").path == shelf / ONE / "b"
    assert (shelf / ONE / "b" / "config.json").read_bytes() == b'{"a": 1}'


def test_another_file_comes_from_the_commit_that_a_revision_meant_before(hub) -> None:
    hub.add("a/b", ONE, {**SMALL, "b.gguf": BIG[1:]}, "main")
    get()
    hub.add("a/b", TWO, {**SMALL, "b.gguf": BIG[2:]}, "main")
    assert get("hf:a/b/b.gguf").path.read_bytes() == BIG[1:]


def test_an_update_that_brings_nothing_new_fetches_nothing(hub) -> None:
    hub.add("a/b", ONE, SMALL, "main")
    first, told = get(), MemoryRecorder()
    hub.asked.clear()
    assert get(update=True, recorder=told) == first
    assert hub.paths() == ["/api/models/a/b/revision/main"]
    assert told.names() == ["store.fetch_nothing", "store.fetched"]


def test_without_a_network_what_is_here_opens_and_what_is_not_is_said(hub, monkeypatch) -> None:
    hub.add("a/b", ONE, SMALL, "main")
    here = get()
    hub.asked.clear()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert get() == here
    for name, asked in (("hf:a/b", {"update": True}), ("hf:a/b@v2", {}), ("hf:a/b/x.gguf", {})):
        with pytest.raises(FetchError, match="HF_HUB_OFFLINE is set, so no server is asked"):
            get(name, **asked)
    assert hub.asked == []


def test_a_file_that_vanished_or_was_cut_comes_again_alone(hub) -> None:
    hub.add("a/b", ONE, SMALL, "main")
    path = get().path
    (path / "config.json").unlink()
    (path / "model.safetensors").write_bytes(BIG[:-1])
    hub.asked.clear()
    get()
    assert [one for one in hub.paths() if "/resolve/" in one][:2] == [
        f"/a/b/resolve/{ONE}/config.json", f"/a/b/resolve/{ONE}/model.safetensors"
    ]  # fmt: skip
    assert (path / "model.safetensors").read_bytes() == BIG


def test_a_damaged_file_is_found_by_its_hash(hub) -> None:
    hub.add("a/b", ONE, SMALL, "main")
    here, told = get(), MemoryRecorder()
    assert not remove_damaged(here)
    (here.path / "model.safetensors").write_bytes(BIG[:-1] + b"x")
    assert remove_damaged(here, recorder=told)
    assert told.names() == ["store.fetch_damaged"]
    assert (get().path / "model.safetensors").read_bytes() == BIG


# Breaks


def test_a_download_goes_on_where_it_broke_off(hub) -> None:
    hub.add("a/b", ONE, SMALL, "main")
    hub.breaks, told = [1000, 500], MemoryRecorder()
    assert (get(recorder=told).path / "model.safetensors").read_bytes() == BIG
    assert [one.range for one in hub.asked if one.path == WEIGHTS] == ["", "bytes=1000-", "bytes=1500-"]
    assert told.names().count("store.fetch_broken") == 2
    ticks = [event.data for event in told.events if event.name == "store.fetching.progress"]
    total = sum(map(len, SMALL.values()))
    assert ticks[-1] == {"label": "fetching", "done": total, "total": total}
    assert told.names()[0] == "store.fetch_started" and told.names()[-1] == "store.fetched"


def test_a_poor_connection_is_not_given_up_while_it_brings_something(hub, monkeypatch) -> None:
    hub.add("a/b", ONE, SMALL, "main")
    monkeypatch.setattr(download, "AMPLE_BYTES", 200)
    hub.breaks = [200] * 20
    assert (get().path / "model.safetensors").read_bytes() == BIG


def test_a_server_that_keeps_breaking_off_is_given_up_and_the_next_call_goes_on(hub, shelf) -> None:
    hub.add("a/b", ONE, SMALL, "main")
    hub.breaks = [100] * 4
    with pytest.raises(BrokenOffError, match="the connection broke off"):
        get()
    assert names_below(shelf / ONE) == {"b/config.json", "b/tokenizer.json"}
    hub.asked.clear()
    assert (get().path / "model.safetensors").read_bytes() == BIG
    assert [one.range for one in hub.asked if one.path == WEIGHTS] == ["bytes=400-"]
    assert f"/a/b/resolve/{ONE}/config.json" not in hub.paths()


def test_a_server_that_knows_no_parts_sends_all_again(hub) -> None:
    hub.add("a/b", ONE, SMALL, "main")
    hub.breaks, hub.no_ranges = [1000], True
    assert (get().path / "model.safetensors").read_bytes() == BIG


def test_ctrl_c_keeps_what_has_come_and_says_so(hub, shelf, monkeypatch) -> None:
    hub.add("a/b", ONE, SMALL, "main")
    monkeypatch.setattr(fetching, "REPORT_BYTES", 1)

    class Impatient(MemoryRecorder):
        def record(self, event: Event) -> None:
            super().record(event)
            if event.name.endswith(".progress") and event.data["done"] > 60_000:
                raise KeyboardInterrupt

    told = Impatient()
    hub.breaks = [70_000]  # so that it is still coming
    with pytest.raises(KeyboardInterrupt):
        get(recorder=told)
    assert told.names()[-1] == "store.fetch_stopped"
    assert told.events[-1].message.endswith("are kept; the same command goes on there")
    assert "b/model.safetensors" not in names_below(shelf / ONE)
    [part] = names_below(shelf / "parts")
    kept = (shelf / "parts" / part).stat().st_size
    assert 0 < kept <= 70_000
    hub.asked.clear()
    hub.breaks = []
    get()
    assert [one.range for one in hub.asked if one.path == WEIGHTS] == [f"bytes={kept}-"]


def test_what_an_earlier_call_left_may_be_damaged(hub, shelf) -> None:
    hub.add("a/b", ONE, SMALL, "main")
    hub.breaks = [1000] * 4
    with pytest.raises(BrokenOffError):
        get()
    [part] = names_below(shelf / "parts")
    (shelf / "parts" / part).write_bytes(b"\0" * 3000)
    assert (get().path / "model.safetensors").read_bytes() == BIG
    assert [one.range for one in hub.asked if one.path == WEIGHTS][-2:] == ["bytes=3000-", ""]


def test_a_part_that_is_longer_than_the_file_is_begun_again(hub, shelf) -> None:
    hub.add("a/b", ONE, SMALL, "main")
    hub.breaks = [1000] * 4
    with pytest.raises(BrokenOffError):
        get()
    [part] = names_below(shelf / "parts")
    (shelf / "parts" / part).write_bytes(BIG + b"more")
    assert (get().path / "model.safetensors").read_bytes() == BIG


# Lies


def nothing_of(name: str, shelf: Path) -> bool:
    return not any(path.endswith(name) for path in names_below(shelf)) and not names_below(shelf / "parts")


def test_a_file_longer_than_was_said_is_refused(hub, shelf) -> None:
    hub.add("a/b", ONE, SMALL, "main")
    hub.surplus = b"x" * 5
    with pytest.raises(FetchError, match="the server sends more than it said"):
        get()
    assert nothing_of("model.safetensors", shelf)


@pytest.mark.parametrize("said", [len(BIG) - 1, 0])
def test_a_list_that_says_too_little_is_not_believed(hub, shelf, said) -> None:
    hub.add("a/b", ONE, SMALL, "main")
    hub.sizes = {"model.safetensors": said}
    with pytest.raises(FetchError, match="the server sends more than it said"):
        get()
    assert nothing_of("model.safetensors", shelf)


def test_a_file_that_ends_too_early_has_no_name(hub, shelf) -> None:
    hub.add("a/b", ONE, SMALL, "main")
    hub.cut = 10
    with pytest.raises(BrokenOffError, match="the server ends a file too early") as caught:
        get()
    assert caught.value.found == "model.safetensors: 40 of 102,400 bytes"
    assert "b/model.safetensors" not in names_below(shelf / ONE)


def test_a_list_that_says_too_much_is_not_believed(hub, shelf) -> None:
    hub.add("a/b", ONE, SMALL, "main")
    hub.sizes = {"model.safetensors": len(BIG) + 1}
    with pytest.raises(BrokenOffError, match="the server ends a file too early"):
        get()
    assert "b/model.safetensors" not in names_below(shelf / ONE)


@pytest.mark.parametrize(("name", "kind"), [("model.safetensors", "SHA-256"), ("config.json", "SHA-1 of git")])
def test_other_contents_than_were_said_are_thrown_away(hub, shelf, name, kind) -> None:
    hub.add("a/b", ONE, SMALL, "main")
    hub.contents = {name: SMALL[name][:-1] + b"?"}
    with pytest.raises(CorruptFileError, match=f"{name} is not what the server said it would be") as caught:
        get()
    assert caught.value.found.startswith(kind)
    assert nothing_of(name, shelf)


def test_a_server_without_hashes_is_refused(hub) -> None:
    hub.add("a/b", ONE, SMALL, "main")
    hub.hashless = True
    with pytest.raises(FetchError, match="the server gives no hash"):
        get()


def test_a_file_beside_the_weights_has_a_bound(hub) -> None:
    hub.add("a/b", ONE, SMALL, "main")
    hub.sizes = {"tokenizer.json": (64 << 20) + 1}
    with pytest.raises(FetchError, match="a file beside the weights is larger than any that is read") as caught:
        get()
    assert caught.value.found == "tokenizer.json has 67,108,865 bytes"


@pytest.mark.parametrize(
    "told",
    [
        b"", b"<html>", b"[]", b"{}", b'{"sha": 3, "siblings": []}', b'{"sha": "../../x", "siblings": []}',
        b'{"sha": "%s"}' % ONE.encode(), b'{"sha": "%s", "siblings": [3]}' % ONE.encode(),
        b'{"sha": "%s", "siblings": [{"size": 3}]}' % ONE.encode(),
        b'{"sha": "%s", "siblings": [{"rfilename": "x", "size": -1}]}' % ONE.encode(),
        b'{"sha": "%s", "siblings": [{"rfilename": "x", "size": "3"}]}' % ONE.encode(),
        b'{"sha": "%s", "siblings": [{"rfilename": "x", "lfs": 3}]}' % ONE.encode(),
        b"[" * 5000, b"\xff",
    ],
)  # fmt: skip
def test_a_list_that_is_none_is_refused(hub, told) -> None:
    hub.add("a/b", ONE, SMALL, "main")
    hub.listing = told
    with pytest.raises((FetchError, CorruptFileError)) as caught:
        get()
    assert caught.value.where == f"{hub.url}/a/b"


def test_a_list_has_a_bound(hub, monkeypatch) -> None:
    hub.add("a/b", ONE, SMALL, "main")
    monkeypatch.setattr(server, "MOST_BYTES", 100)
    with pytest.raises(FetchError, match="the server's answer is too long to be a list of files"):
        get()


def test_another_commit_than_was_asked_for_is_refused(hub) -> None:
    hub.add("a/b", ONE, SMALL, TWO)
    with pytest.raises(FetchError, match="the server gives another commit than was asked for"):
        get(f"hf:a/b@{TWO}")


# Refusals


@pytest.mark.parametrize(
    ("status", "headers", "kind", "what", "found"),
    [
        (401, {"X-Error-Code": "GatedRepo"}, FetchError, "this model is given only to those who agree", "401 'GatedRepo'"),
        (403, {"X-Error-Code": "GatedRepo", "X-Error-Message": "Ask."}, FetchError, "this model is given only", "403 'Ask.'"),
        (401, {}, FetchError, "there is no such model, or it is private", "401"),
        (404, {"X-Error-Code": "RepoNotFound"}, FetchError, "there is no such model, or it is private", "404 'RepoNotFound'"),
        (404, {"X-Error-Code": "RevisionNotFound"}, FetchError, "the repository has no such revision", None),
        (404, {"X-Error-Code": "EntryNotFound"}, FetchError, "the server lists a file that it does not have", None),
        (403, {}, FetchError, "the server refuses to give this model", "403"),
        (418, {}, FetchError, "the server answers something else than a file", "418"),
        (204, {}, FetchError, "the server answers something else than a file", "204"),
        (206, {}, FetchError, "the server answers something else than a file", "206"),
        (429, {"Retry-After": "7200"}, BrokenOffError, "the server takes no more requests", "429; it asks to wait 7200 s"),
        (500, {}, BrokenOffError, "the server is in trouble", "500"),
        (503, {}, BrokenOffError, "the server is in trouble", "503"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("place", ["/revision/main", "model.safetensors"])
def test_a_refusal_says_why(hub, shelf, place, status, headers, kind, what, found) -> None:
    hub.add("a/b", ONE, SMALL, "main")
    hub.refusals = {place: (status, headers)}
    with pytest.raises(FetchError, match=what) as caught:
        get()
    assert type(caught.value) is kind and caught.value.where == f"{hub.url}/a/b"
    assert found is None or caught.value.found == found
    assert not (shelf / ONE / "b" / "model.safetensors").exists()


def test_a_revision_and_a_repository_that_are_not_there(hub) -> None:
    hub.add("a/b", ONE, SMALL, "main")
    with pytest.raises(FetchError, match="the repository has no such revision"):
        get("hf:a/b@v9")
    with pytest.raises(FetchError, match="there is no such model, or it is private"):
        get("hf:a/c")


@pytest.mark.parametrize("place", ["/revision/main", "model.safetensors"])
@pytest.mark.parametrize(
    ("location", "kind", "what"),
    [
        ("/again/model.safetensors?x=/revision/main", FetchError, "without end"),
        ("ftp://127.0.0.1/x", FetchError, "the server leads to an address that is not safe"),
        ("file:///etc/passwd", FetchError, "the server leads to an address that is not safe"),
        ("http://127.0.0.1:x/", FetchError, "the server answers something else than a file"),
    ],
)
def test_a_redirect_that_leads_nowhere(hub, shelf, place, location, kind, what) -> None:
    hub.add("a/b", ONE, SMALL, "main")
    hub.redirects = {place: location, "/again/model.safetensors": location}
    with pytest.raises(FetchError, match=what) as caught:
        get()
    assert type(caught.value) is kind
    assert not (shelf / ONE / "b" / "model.safetensors").exists()


def test_a_redirect_within_the_server_is_followed(hub) -> None:
    hub.add("a/b", ONE, SMALL, "main")
    hub.redirects = {"/api/models/old/b/revision/main": "/api/models/a/b/revision/main"}
    hub.repositories["old/b"] = hub.repositories["a/b"]
    assert (get("hf:old/b").path / "config.json").read_bytes() == b'{"a": 1}'


def test_the_token_goes_to_the_server_and_not_to_its_storage(hub, monkeypatch) -> None:
    hub.add("a/b", ONE, SMALL, "main")
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    get()
    tokens = {(one.host == hub.url.removeprefix("http://"), one.token) for one in hub.asked}
    assert tokens == {(True, "Bearer hf_secret"), (False, "")}
    hub.asked.clear()
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_IMPLICIT_TOKEN", True)
    get(update=True)
    assert [one.token for one in hub.asked] == [""]


def test_a_token_that_cannot_be_one(hub, monkeypatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "我的令牌")
    with pytest.raises(FetchError, match="this is no token of the server"):
        get()
    assert hub.asked == []


def test_no_server_is_there(hub, monkeypatch) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # nobody listens
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{closed.getsockname()[1]}")
        with pytest.raises(BrokenOffError, match="the server cannot be reached"):
            get()


@pytest.mark.parametrize("endpoint", ["huggingface.co", "ftp://127.0.0.1", "http://127.0.0.1:x"])
def test_an_endpoint_that_is_no_address(hub, monkeypatch, endpoint) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    with pytest.raises(FetchError, match="this is no address of a server"):
        get()


def test_a_server_that_falls_silent_is_not_waited_for(hub, shelf, monkeypatch) -> None:
    hub.add("a/b", ONE, SMALL, "main")
    monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 0.2)
    hub.silent = True
    with pytest.raises(BrokenOffError, match="the server does not answer") as caught:
        get()
    assert caught.value.found == "nothing came for 0.2 s (ReadTimeout)"
    assert "b/model.safetensors" not in names_below(shelf / ONE)


def test_a_server_that_sends_a_byte_now_and_then_is_not_waited_for(hub, monkeypatch) -> None:
    hub.add("a/b", ONE, SMALL, "main")
    monkeypatch.setattr(server, "SLOW_SECONDS", 0.1)
    hub.drips = True
    with pytest.raises(BrokenOffError, match="the server sends hardly anything"):
        get()


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


# Nothing else touches the network


def test_a_path_never_asks_a_server_nor_loads_what_could(tmp_path, config, weights) -> None:
    save_checkpoint(tmp_path / "there", config=config, weights=weights, tokenizer=None, info={})
    script = (
        "import sys, pellucid; pellucid.load(sys.argv[1], engine=pellucid.EngineSettings(kernels='off'));"
        "print([name for name in ('huggingface_hub.utils._http', 'httpx2', 'httpx', 'requests') if name in sys.modules])"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "there")]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "[]\n"


def test_what_is_here_is_opened_without_loading_what_could_ask(hub, tmp_path, config, weights) -> None:
    save_checkpoint(tmp_path / "there", config=config, weights=weights, tokenizer=None, info={})
    files = {name: (tmp_path / "there" / name).read_bytes() for name in names_below(tmp_path / "there")}
    hub.add("a/b", ONE, files, "main")
    get()
    script = (
        "import sys, pellucid; pellucid.load('hf:a/b', engine=pellucid.EngineSettings(kernels='off'));"
        "print([name for name in ('huggingface_hub.utils._http', 'httpx2') if name in sys.modules])"
    )
    command = [sys.executable, "-c", script]
    surroundings = {**os.environ, "HF_HOME": str(tmp_path / "hf"), "HF_ENDPOINT": hub.url}
    ran = subprocess.run(command, capture_output=True, text=True, check=True, env=surroundings)
    assert ran.stdout == "[]\n"


def test_the_files_that_are_fetched_are_of_kinds_that_hold_no_program() -> None:
    endings = {Path(name).suffix for name in (*listing.BESIDE, listing.CONFIG, listing.WEIGHTS, listing.SHARDS)}
    assert endings == {".json", ".txt", ".model", ".safetensors"}
