"""`pellucid get`, and the other verbs with a name instead of a path."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from command import call
from hub_server import BIG, ONE, TWO, HubServer, only_server

from pellucid.cli import watch
from pellucid.cli.common import Terminal
from pellucid.events import Event

SMALL = {"config.json": b'{"a": 1}', "model.safetensors": BIG}


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[HubServer]:
    with only_server(tmp_path / "hf") as hub:
        hub.add("a/b", ONE, SMALL, "main")
        yield hub


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "hf" / "assets" / "pellucid" / "a--b"


def test_the_place_is_printed_and_the_rest_is_told(hub, home) -> None:
    code, out, err = call("get", "hf:a/b")
    assert (code, out) == (0, f"{home / ONE / 'b'}\n")
    assert err.splitlines() == [
        f"· fetching hf:a/b: 2 files, 102 kB still to come, commit {'1' * 12}, into {home / ONE}",
        f"· hf:a/b is here: 102 kB in {home / ONE / 'b'}",
    ]
    hub.asked.clear()
    code, out, err = call("get", "hf:a/b")
    assert (code, out) == (0, f"{home / ONE / 'b'}\n")
    assert err == f"· hf:a/b is here already: commit {'1' * 12}, 2 files checked by their hashes, 102 kB\n"
    assert hub.asked == []


def test_a_newer_commit_comes_when_it_is_asked_for(hub, home) -> None:
    call("get", "hf:a/b")
    hub.add("a/b", TWO, {**SMALL, "config.json": b"{}"}, "main")
    assert call("get", "hf:a/b").out == f"{home / ONE / 'b'}\n"
    code, out, err = call("get", "hf:a/b", "--update")
    assert (code, out) == (0, f"{home / TWO / 'b'}\n")
    older = f"· the files of commit {'1' * 12} stay in {home / ONE}: delete them if nobody needs them"
    assert err.splitlines()[-1] == older


def test_json(hub, home) -> None:
    code, out, err = call("get", "hf:a/b", "--json")
    told = json.loads(out)
    assert (code, err) == (0, "")
    assert set(told) == {"name", "from", "revision", "commit", "path", "num_bytes", "files"}
    assert (told["commit"], told["path"], told["num_bytes"]) == (ONE, str(home / ONE / "b"), len(BIG) + 8)
    assert json.loads(call("get", "hf:a/b", "--json").out) == told


def test_a_damaged_file_comes_again(hub, home) -> None:
    call("get", "hf:a/b")
    (home / ONE / "b" / "model.safetensors").write_bytes(BIG[:-1] + b"?")
    code, _, err = call("get", "hf:a/b")
    assert code == 0 and err.startswith("! b/model.safetensors is no longer what was fetched, and is fetched again\n")
    assert (home / ONE / "b" / "model.safetensors").read_bytes() == BIG


def test_refusals_in_both_languages(hub) -> None:
    code, out, err = call("get", "a/b")
    assert (code, out) == (2, "")
    assert err == "error: the name of a model on a server begins with hf:\n  found: 'a/b'\n  try:   hf:a/b\n"
    hub.add("a/c", ONE, {"pytorch_model.bin": b"x"}, "main")
    code, out, err = call("get", "hf:a/c", "--lang", "zh")
    assert (code, out) == (4, "")
    assert "权重" in err and "pickle" in err and "pytorch_model.bin" in err and "from_pretrained('a/c')" in err


def test_a_verb_fetches_the_model_it_is_given(hub, directory, tmp_path, run) -> None:
    files = {path.name: path.read_bytes() for path in Path(directory).iterdir() if path.is_file()}
    hub.add("a/c", ONE, files, "main")
    code, _, err = run("convert", "hf:a/c", tmp_path / "copy")
    assert code == 0 and "· fetching hf:a/c: " in err
    assert (tmp_path / "copy" / "model.safetensors").read_bytes() == files["model.safetensors"]
    hub.asked.clear()
    assert run("tokenizer", "encode", "hf:a/c", "the cat").out == run("tokenizer", "encode", directory, "the cat").out
    assert hub.asked == []


def test_a_plan_and_a_tokenizer_take_a_name_as_they_take_a_path(hub, directory, tmp_path, run) -> None:
    files = {path.name: path.read_bytes() for path in Path(directory).iterdir() if path.is_file()}
    hub.add("a/c", ONE, files, "main")
    planned, there = run("plan", "hf:a/c", "--json"), run("plan", directory, "--json")
    assert planned.code == 0 and json.loads(planned.out)["parameters"] == json.loads(there.out)["parameters"]
    added = run("tokenizer", "add", "hf:a/c", "<new>", "--out", tmp_path / "grown")
    assert added.code == 0, added.err
    assert (tmp_path / "grown" / "model.safetensors").is_file(), "the model grows with its tokenizer"


def test_a_download_shows_its_progress_in_every_verb(monkeypatch, capsys) -> None:
    monkeypatch.setattr(watch, "FIRST_SECONDS", 0.0)
    told = Terminal()
    for name in ("store.progress", "store.fetching.progress"):
        told.record(Event(name=name, message="x", data={"label": "fetching", "done": 1, "total": 4}))
    assert capsys.readouterr().err == "fetching: 25%\n"


@pytest.mark.skipif(sys.platform == "win32", reason="Windows sends no such signal to one process")
def test_the_environment_decides_and_ctrl_c_says_how_to_go_on(hub, tmp_path) -> None:
    """As a person runs it: HF_ENDPOINT, HF_HOME and HF_TOKEN, a server that falls silent, Ctrl-C, and once more."""
    surroundings = {**os.environ, "HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "own"), "HF_TOKEN": "hf_mine"}
    command = [sys.executable, "-m", "pellucid", "get", "hf:a/b"]
    hub.silent = True
    with subprocess.Popen(command, env=surroundings, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as ran:
        threading.Thread(target=interrupt_when_silent, args=(hub, ran)).start()
        out, err = ran.communicate(timeout=120)
    assert (ran.returncode, out) == (130, "")
    told = [line for line in err.splitlines() if line]
    assert told[-2:] == ["! stopped: 8 B of 102 kB are kept; the same command goes on there", "stopped."]
    hub.silent = False
    hub.asked.clear()
    ran = subprocess.run(command, env=surroundings, capture_output=True, text=True)
    assert ran.stdout == f"{tmp_path / 'own' / 'assets' / 'pellucid' / 'a--b' / ONE / 'b'}\n"
    assert {one.token for one in hub.asked} == {"Bearer hf_mine", ""}
    hub.asked.clear()
    offline = {**surroundings, "HF_HUB_OFFLINE": "1"}
    assert subprocess.run(command, env=offline, capture_output=True, text=True).returncode == 0
    ran = subprocess.run([*command, "--update"], env=offline, capture_output=True, text=True)
    assert ran.returncode == 4 and "HF_HUB_OFFLINE" in ran.stderr and hub.asked == []


def interrupt_when_silent(hub: HubServer, ran: subprocess.Popen[str]) -> None:
    hub.is_silent.wait(100)
    ran.send_signal(signal.SIGINT)
    ran.wait(100)  # on a busy machine the end of the silence could come before the signal does
    hub.done.set()
