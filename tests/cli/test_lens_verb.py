"""`pellucid lens` before its page opens: what cannot be opened says why, and help costs nothing."""

from __future__ import annotations

import dataclasses
import socket
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from pellucid.cli import lens, quickstart
from pellucid.cli.common import Common
from pellucid.cli.lens import has_display
from pellucid.lens.page import program
from pellucid.model.build import build
from pellucid.planning.config import ModelConfig
from pellucid.store.checkpoint import save_checkpoint
from pellucid.tokens.train import train_bpe

CONFIG = ModelConfig(
    vocab_size=258, context_length=8, n_layers=1, n_heads=2, n_kv_heads=1, head_dim=4, d_model=8, d_ff=16
)


@pytest.fixture(autouse=True)
def built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "lens.js"
    path.write_text("export default {};\n", encoding="utf-8")
    monkeypatch.setattr(program, "BUILT", path)
    return path


def save(folder: Path, *, with_tokenizer: bool = True) -> Path:
    weights = {name: parameter.detach() for name, parameter in build(CONFIG, seed=1).named_parameters()}
    tokenizer = train_bpe(["a"], 258, specials="none") if with_tokenizer else None
    save_checkpoint(folder, config=dataclasses.replace(CONFIG), weights=weights, tokenizer=tokenizer, info={})
    return folder


def test_a_path_that_is_not_there(run, tmp_path: Path) -> None:
    outcome = run("lens", tmp_path / "nothing", "--no-browser")
    assert outcome.code == 4 and "where:" in outcome.err and not outcome.out


@pytest.mark.parametrize("name", ["nothing", "nothing.gguf", "empty"])
def test_a_missing_model_is_told_before_a_missing_page(run, tmp_path: Path, built: Path, name: str) -> None:
    built.unlink()
    (tmp_path / "empty").mkdir()
    outcome = run("lens", tmp_path / name, "--no-browser")
    assert outcome.code == 4 and "no model is here" in outcome.err and "not built" not in outcome.err
    outcome = run("lens", save(tmp_path / "model"), "--no-browser")
    assert outcome.code == 4 and "the lens's page is not built" in outcome.err


@pytest.mark.parametrize("name", ["trace.unknown_suffix", "trace"])
def test_a_trace_that_cannot_be_written_is_refused_before_a_model_is_opened(
    run, tmp_path: Path, built: Path, name: str
) -> None:
    outcome = run("trace", tmp_path / "nothing", "the cat", "--save", tmp_path / name)
    assert outcome.code == 5 and "a trace is not written like this" in outcome.err and ".plens" in outcome.err
    built.unlink()
    outcome = run("trace", tmp_path / "nothing", "the cat", "--html", tmp_path / "page.html")
    assert outcome.code == 4 and "the lens's page is not built" in outcome.err


def test_a_file_that_is_no_model(run, tmp_path: Path) -> None:
    path = tmp_path / "broken.gguf"
    path.write_bytes(b"GGUF" + b"\0" * 20)
    outcome = run("lens", path, "--no-browser")
    assert outcome.code == 4 and str(path) in outcome.err and "Traceback" not in outcome.err


def test_a_model_without_a_tokenizer(run, tmp_path: Path) -> None:
    outcome = run("lens", save(tmp_path / "model", with_tokenizer=False), "--no-browser")
    assert outcome.code == 3 and "no tokenizer" in outcome.err and "tokenizer.json" in outcome.err


def test_a_prompt_beyond_the_context(run, tmp_path: Path) -> None:
    outcome = run("lens", save(tmp_path / "model"), "--prompt", "far too long for eight tokens", "--no-browser")
    assert outcome.code == 5 and "8" in outcome.err and "context" in outcome.err


def test_a_prompt_without_a_model(run) -> None:
    outcome = run("lens", "--prompt", "text")
    assert outcome.code == 2 and "pellucid lens RUN" in outcome.err


def test_a_port_that_is_taken(run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        outcome = run("lens", "--port", taken.getsockname()[1], "--no-browser")
    assert outcome.code == 2 and "port" in outcome.err


def test_a_page_that_is_not_built(run, built: Path) -> None:
    built.unlink()
    outcome = run("lens", "--no-browser")
    assert outcome.code == 4 and "hatch_build.py" in outcome.err


@pytest.mark.parametrize(("environment", "seen"), [({"DISPLAY": ":0"}, True), ({"DISPLAY": ""}, False), ({}, False)])
def test_a_browser_is_opened_where_it_can_be_seen(environment, seen: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "linux")
    assert has_display(environment) is seen
    monkeypatch.setattr("sys.platform", "darwin")
    assert has_display(environment)


@pytest.mark.parametrize(("answer", "runs"), [("y", ["runs/quickstart"]), ("n", [])])
def test_an_empty_folder_is_offered_quickstarts_model(
    monkeypatch, tmp_path: Path, answer: str, runs: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    asked: list[list[str]] = []
    monkeypatch.setattr(lens, "is_terminal", lambda: True)
    monkeypatch.setattr(quickstart.command, "main", lambda flags, **_: asked.append(flags))
    common = Common(device="cpu", threads=2, seed=None, as_json=False)

    @click.command()
    def verb() -> None:
        monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
        click.echo(lens.offer_quickstart(common, None) or "the list")

    told = CliRunner().invoke(verb, input=f"{answer}\n").output
    assert told.endswith(f"{runs[0] if runs else 'the list'}\n") and "Nothing lies in runs/ yet" in told
    assert asked == [["--device", "cpu", "--threads", "2"]] * len(runs)


def test_a_pipe_is_not_asked(monkeypatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert lens.offer_quickstart(Common(device="cpu", threads=None, seed=None, as_json=False), None) == ""
