"""A person's own text through `train`, `eval`, `generate` and `tokenizer`: wherever it lies and however it was saved."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from pellucid.api import load
from pellucid.data.settings import BEFORE
from pellucid.store.checkpoint import load_checkpoint
from pellucid.store.run import Run
from pellucid.tokens.tokenizer import Tokenizer
from pellucid.training import make_plan
from pellucid.training.measure import Rates
from pellucid.training.recipes import pretrain as recipe

TEXT = "The cat sat on the mat.\n\n小猫坐在垫子上。他说：\n" * 30
SIZES = {"n_layers": 1, "n_heads": 2, "n_kv_heads": 1, "head_dim": 8, "d_model": 16, "d_ff": 24, "context_length": 24}
SMALL = [
    "--steps", "2", "--threads", "1", "--device", "cpu", "--depth", "1", "--vocab-size", "302", "--set", "compile=off",
    "--set", "batch.tokens=48", *(word for name, size in SIZES.items() for word in ("--set", f"model.{name}={size}")),
]  # fmt: skip
BRIEF = ["--threads", "1", "--device", "cpu"]


@pytest.fixture(scope="module", autouse=True)
def quick() -> Iterator[None]:
    """No measuring and no drawing: neither is asked about here."""
    rates = Rates(training_flops_per_second=1e10, determinism_cost=0.0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(make_plan, "measure_training", lambda *args, **options: rates)
        patch.setattr(recipe, "draw_loss", lambda run: None)
        yield


def write(path: Path, text: str, encoding: str = "utf-8", newlines: str = "\n") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.replace("\n", newlines).encode(encoding))
    return path


def events(run: Path) -> list[str]:
    return [json.loads(line)["name"] for line in (run / "events.jsonl").read_text(encoding="utf-8").splitlines()]


def test_a_run_inside_the_folder_of_its_text_goes_on(run, tmp_path: Path) -> None:
    write(tmp_path / "texts" / "book.txt", TEXT)
    command = ("train", tmp_path / "texts", "--out", tmp_path / "texts" / "inside" / "run", *SMALL)
    assert run(*command).code == 0
    again = run(*command)
    assert again.code == 0 and "this run is finished" in again.err and "inside/run (a run)" in again.err
    other = run("train", tmp_path / "texts", "--out", tmp_path / "other", *SMALL)
    assert other.code == 0
    assert Run.open(tmp_path / "other").identity["data"] == Run.open(command[3]).identity["data"]


def test_a_run_cannot_be_the_folder_of_its_text(run, tmp_path: Path) -> None:
    write(tmp_path / "texts" / "book.txt", TEXT)
    (tmp_path / "link").symlink_to(tmp_path / "texts")
    refused = run("train", tmp_path / "texts", "--out", tmp_path / "link", *SMALL)
    assert refused.code == 2 and "trained on" in refused.err and not (tmp_path / "texts" / "run.json").exists()


def test_a_book_in_gb18030_with_windows_line_ends_trains_as_its_twin_in_utf8(run, tmp_path: Path) -> None:
    write(tmp_path / "gbk.txt", TEXT, "gbk", "\r\n")
    write(tmp_path / "utf8.txt", TEXT)
    for name, more in (("gbk", ()), ("named", ("--encoding", "GB18030")), ("utf8", ())):
        text = tmp_path / ("utf8.txt" if name == "utf8" else "gbk.txt")
        answer = run("train", text, "--out", tmp_path / name, *SMALL, *more)
        assert answer.code == 0, answer.err
        assert ("read as GB18030" in answer.err) == (name == "gbk")
        assert ("read as LF: 90 CRLF" in answer.err) == (name != "utf8")
    hashes = {(tmp_path / name / "tokenizer.json").read_bytes() for name in ("gbk", "named", "utf8")}
    weights = {(tmp_path / name / "checkpoints/step-000002/model.safetensors").read_bytes() for name in ("gbk", "utf8")}
    assert len(hashes) == len(weights) == 1
    refused = run("train", tmp_path / "gbk.txt", "--out", tmp_path / "x", *SMALL, "--encoding", "gb2")
    assert refused.code == 2 and "no such encoding" in refused.err


@pytest.fixture(scope="module")
def unix(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of this version, on a text with line feeds."""
    from pellucid.api import train

    folder = tmp_path_factory.mktemp("unix")
    options = {"threads": 1, "device": "cpu", "compile": "off", "tokenizer": {"vocab_size": 302}}
    train(
        write(folder / "book.txt", TEXT),
        folder / "run",
        steps=2,
        model={"depth": 1, **SIZES},
        batch={"tokens": 48},
        **options,
    )
    return folder / "run"


def test_a_run_begun_before_line_ends_were_read_keeps_them(run, tmp_path: Path) -> None:
    book, out = write(tmp_path / "book.txt", TEXT, newlines="\r\n"), tmp_path / "run"
    as_before = [word for name, value in BEFORE.items() for word in ("--set", f"data.{name}={value}")]
    assert run("train", book, "--out", out, *SMALL, *as_before).code == 0
    document = json.loads((out / "run.json").read_text(encoding="utf-8"))
    for name in BEFORE:  # what an older version wrote: it knew none of these settings
        del document["settings"][f"data.{name}"], document["sources"][f"data.{name}"]
    assert not any(f"data.{name}" in document["data"] for name in BEFORE)
    (out / "run.json").write_text(json.dumps(document), encoding="utf-8")
    for _ in range(2):  # an extended run is written anew, and keeps them all the same
        answer = run("train", book, "--out", out, *SMALL, "--steps", "4", "--extend")
        assert answer.code == 0 and "up to date" in answer.err and "read as LF" not in answer.err, answer.err
        assert "data.rebuilt" not in events(out)
    assert load_checkpoint(Run.open(out).latest().directory).newlines == "keep"
    assert b"\r" in b"".join(Tokenizer.load(out).vocabulary.token_bytes[256:])
    refused = run("train", book, "--out", out, *SMALL, "--steps", "4", "--set", "data.newlines=lf")
    assert refused.code == 6 and "data.newlines: keep there, lf now" in refused.err
    measured = json.loads(run("eval", out, book, "--json", *BRIEF).out)[0]
    assert measured["num_bytes"] == len(book.read_bytes())


def test_a_model_reads_line_ends_as_its_own_text_was_read(run, tmp_path: Path, unix: Path) -> None:
    windows = write(tmp_path / "windows.txt", TEXT, newlines="\r\n")
    assert load_checkpoint(Run.open(unix).latest().directory).newlines == "lf"
    measured = [
        json.loads(run("eval", unix, text, "--json", *BRIEF).out)[0] for text in (windows, unix.parent / "book.txt")
    ]
    assert measured[0]["nats"] == measured[1]["nats"] and measured[0]["num_bytes"] == len(TEXT.encode())
    kept = json.loads(run("eval", unix, windows, "--json", "--newlines", "keep", *BRIEF).out)[0]
    assert kept["num_bytes"] == len(windows.read_bytes())
    knobs = ("--seed", "1", "--max-new-tokens", "4", *BRIEF)
    plain, dos = run("generate", unix, "cat\nsat", *knobs), run("generate", unix, "cat\r\nsat", *knobs)
    assert plain.out == dos.out and "1 line end of the prompt" in dos.err and "line end" not in plain.err
    assert run("search", unix, "-", *BRIEF, stdin=b"cat\r\n").out == run("search", unix, "cat\n", *BRIEF).out


def test_a_file_name_is_no_markup(run, tmp_path: Path, directory: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    answer = run("eval", directory, write(Path("x[red]y[.txt"), "the cat"), "--surprising", "1", *BRIEF)
    assert answer.code == 0 and answer.out.count("x[red]y[.txt") == 2


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_tokenizer_is_trained_from_a_pipe(run, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    threading.Thread(target=(tmp_path / "pipe").write_bytes, args=(TEXT.encode("gbk"),), daemon=True).start()
    assert run("tokenizer", "train", tmp_path / "pipe", "--out", tmp_path / "a", "--vocab-size", "302").code == 0
    whole = run("tokenizer", "train", "-", "--out", tmp_path / "b", "--vocab-size", "302", stdin=TEXT.encode())
    assert whole.code == 0
    assert (tmp_path / "a" / "tokenizer.json").read_bytes() == (tmp_path / "b" / "tokenizer.json").read_bytes()


@pytest.mark.parametrize("flags", [("--stop", "\\n"), ("--set", "stop=x\\n"), ("--stop", "a", "--stop", ".\\n")])
@pytest.mark.parametrize("verb", ["generate", "search"])
def test_a_typed_escape_is_told_to_be_two_characters(run, directory: str, verb: str, flags: tuple[str, ...]) -> None:
    answer = run(verb, directory, "the", "--max-new-tokens", "2", *flags, *BRIEF)
    assert answer.code == 0 and "two characters, a backslash and n" in answer.err and "$'\\n'" in answer.err
    assert "two characters" not in run(verb, directory, "the", "--max-new-tokens", "2", "--stop", "\n", *BRIEF).err


def test_a_stop_from_python_is_one_text(directory: str) -> None:
    lm = load(directory, device="cpu")
    settings = {"seed": 5, "max_new_tokens": 12}
    whole = lm.complete("the", **settings).text
    assert "a,b" not in whole  # nothing to stop at: two texts would find one
    assert lm.complete("the", stop="a,b", **settings).text == whole
    assert lm.complete("the", stop=(",",), **settings) == lm.complete("the", stop=",", **settings)
    first = next(c for c in whole if c.isprintable() and c != "\ufffd")
    assert lm.complete("the", stop=first, **settings).finish_reason == "stop"


@pytest.mark.skipif(os.name != "posix", reason="names of files are bytes on Posix only")
def test_names_that_are_no_utf8_and_names_with_commands(run, tmp_path: Path, directory: str) -> None:
    folder = os.fsencode(tmp_path / "texts")
    os.mkdir(folder)
    for name in (b"\xff\xe9.txt", b"\x1b[31mred.md", b"\xfe.png"):
        Path(os.fsdecode(folder + b"/" + name)).write_text(TEXT, encoding="utf-8")
    answer = run("train", tmp_path / "texts", "--out", tmp_path / "run", *SMALL)
    assert answer.code == 0 and "\\xfe.png" in answer.err
    assert "Traceback" not in answer.err and (tmp_path / "run" / "events.jsonl").read_bytes().decode("utf-8")
    named = json.loads(run("eval", directory, os.fsdecode(folder + b"/\xff\xe9.txt"), "--json", *BRIEF).out)
    assert named[0]["text"].endswith("\udcff\udce9.txt")
    refused = run("train", tmp_path / "texts", "--out", tmp_path / "r\udcff", *SMALL)
    assert refused.code == 2 and "not UTF-8" in refused.err
