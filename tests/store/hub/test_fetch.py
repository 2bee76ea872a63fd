"""Models by their names, from a server that does what it should: what is fetched, from where, and how long it stays."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from encoders import NO_HEAD, bert, save_encoder, say_how, wordpiece
from hub_server import BIG, ONE, SMALL, TWO, get, names_below
from huggingface_hub import constants

import pellucid
from pellucid.errors import (
    FetchError,
    SettingsError,
    WeightsError,
)
from pellucid.events import MemoryRecorder
from pellucid.files import file_git_sha1
from pellucid.store.checkpoint import save_checkpoint
from pellucid.store.hub import listing
from pellucid.store.hub.fetch import remove_damaged
from pellucid.store.run import resolve_checkpoint

PLAIN = pellucid.EngineSettings(kernels="off")  # no loops to compile


# What a fetch does


def test_a_model_is_fetched_and_opens_like_its_directory(hub, tmp_path, config, weights) -> None:
    save_checkpoint(tmp_path / "there", config=config, weights=weights, tokenizer=None, info={})
    files = {name: (tmp_path / "there" / name).read_bytes() for name in names_below(tmp_path / "there")}
    hub.add("a/b", ONE, files, "main")
    ids = torch.tensor([[1, 5, 2]])
    there, here = (pellucid.load(place, engine=PLAIN) for place in (tmp_path / "there", "hf:a/b"))
    assert torch.equal(here.model(ids).logits, there.model(ids).logits)
    hub.asked.clear()
    told, plain = MemoryRecorder(), MemoryRecorder()
    again = pellucid.load("hf:a/b", engine=PLAIN, recorder=told)
    assert torch.equal(again.model(ids).logits, there.model(ids).logits)
    pellucid.load(tmp_path / "there", engine=PLAIN, recorder=plain)
    assert told.names() == plain.names(), "nothing is said of fetching a model that is here"
    assert resolve_checkpoint(Path("hf:a/b")) == again.checkpoint.directory  # as `train --from` asks
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
    rest = (
        "README.md", ".gitattributes", "modeling.py", "pytorch_model.bin", "tf_model.h5", "onnx/model.onnx", "b.Q8_0.gguf",
        "consolidated.safetensors", "training_args.bin", "../evil.json", "/etc/config.json", "trainer_state.json",
        "sub/config.json",
    )  # fmt: skip
    tokens = ("tokenizer_config.json", "vocab.json", "merges.txt", "vocab.txt", "tokenizer.model")
    hub.add("a/b", ONE, {**dict.fromkeys((*rest, *tokens, "generation_config.json"), b"{}"), **SMALL}, "main")
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
        (b'{"weight_map": {"x": "%s.safetensors"}}' % (b"x" * 300), "the index names weights"),
        (b'{"weight_map": {"x": "model.py"}}', "the index names weights"),
    ],
)
def test_an_index_names_weights_of_its_repository_only(hub, index, what) -> None:
    extra = {"../model-1.safetensors": BIG, "model.py": b"x", f"{'x' * 300}.safetensors": BIG}
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
        ({"../../x.gguf": b"x"}, "hf:a/b", FetchError, "this repository holds no model that is read here"),
        ({"/x.gguf": b"x", "a//x.gguf": b"x"}, "hf:a/b", FetchError, "this repository holds no model that is read here"),
        ({f"{'x' * 300}.gguf": b"x"}, "hf:a/b", FetchError, "this repository holds no model that is read here"),
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


def test_the_files_of_sentence_transformers_come_along_in_their_folders(hub, tmp_path) -> None:
    tokenizer = wordpiece()
    made = save_encoder(tmp_path / "there", bert(tokenizer, head=NO_HEAD), tokenizer)
    say_how(made, pooling={"pooling_mode": "cls"}, max_seq_length=7)
    more = {"1_Pooling/pytorch_model.bin": b"", "2_Dense/model.safetensors": b"", "../x/config.json": b"{}"}
    files = {path.relative_to(made).as_posix(): path.read_bytes() for path in made.rglob("*") if path.is_file()}
    hub.add("a/b", ONE, {**files, **more}, "main")
    fetched = get()
    assert names_below(fetched.path) == {*files} and "1_Pooling/config.json" in files
    there, here = (pellucid.load(place, engine=PLAIN) for place in (made, "hf:a/b"))
    assert here.embed(["the cat"]).how == there.embed(["the cat"]).how
    assert (here.embed(["the cat"]).vectors == there.embed(["the cat"]).vectors).all()
