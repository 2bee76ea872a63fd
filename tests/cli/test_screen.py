"""What leaves the program: harmless on a terminal, UTF-8 and exact elsewhere, and never a traceback."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import pellucid
from pellucid.cli import app
from pellucid.cli.common import Terminal, as_json, typed
from pellucid.cli.screen import Flow, harmless, open_streams
from pellucid.errors import InputError
from pellucid.events import Event
from pellucid.tokens.train import train_bpe

TURNS = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}
SHOWN = "\u3000\u3000你好 👨\u200d👩\u200d👧 می\u200cخواهم\u00a0\u00ad\ufeff❤\ufe0f 🏴\U000e0067\U000e007f \u200e\u2028\ufffe\tend\n"


class Screen(io.StringIO):
    """A terminal that remembers what it was given."""

    def isatty(self) -> bool:
        return True


def test_only_control_characters_and_what_turns_the_text_are_replaced() -> None:
    for number in range(sys.maxunicode + 1):
        character = chr(number)
        control = unicodedata.category(character) in ("Cc", "Cs") and character not in "\t\n"
        harmful = control or unicodedata.bidirectional(character) in TURNS
        assert harmless(character) == ("\ufffd" if harmful else character), hex(number)


def test_what_people_write_is_shown_as_it_is() -> None:
    assert harmless(SHOWN) == SHOWN
    assert harmless("one\r\ntwo\rthree\r\r\n") == "one\ntwo\ufffdthree\ufffd\n"


@given(st.lists(st.text(st.sampled_from("a\r\n\x1b你"), max_size=4)))
def test_pieces_are_shown_as_the_whole_is(pieces: list[str]) -> None:
    flow = Flow()
    assert "".join(map(flow.push, pieces)) + flow.finish() == harmless("".join(pieces))


def test_events_and_errors_cannot_command_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", screen := Screen())
    Terminal().record(Event(name="a.b", message="a file \x1b[2J\x9b31m\u202etxt.exe"))
    app.report(InputError("no such file", where="x\x07\r\ny"), as_json=False)
    assert screen.getvalue() == "· a file \ufffd[2J\ufffd31m\ufffdtxt.exe\nerror: no such file\n  where: x\ufffd\ny\n"


@given(st.text(st.characters()))
def test_json_holds_any_text_and_no_command(text: str) -> None:
    written = as_json({"text": text})
    assert json.loads(written) == {"text": text}
    assert harmless(written) == written and written.encode()


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tokenizer, whose verb needs no torch."""
    folder = tmp_path_factory.mktemp("tokenizer")
    train_bpe([SHOWN], 300).save(folder)
    return folder


def call(
    *arguments: str, stdin: bytes = b"", out: object = subprocess.PIPE, err: object = subprocess.PIPE, **names: str
):
    """The program as another program starts it, with some variables of the environment."""
    command = [sys.executable, "-m", "pellucid", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(Path(pellucid.__file__).parents[1]), **names}
    return subprocess.run(command, input=stdin, stdout=out, stderr=err, env=environment)  # type: ignore[call-overload]


@pytest.mark.parametrize("names", [{"PYTHONIOENCODING": "cp1252"}, {"LANG": "C", "LC_ALL": "C", "PYTHONUTF8": "0"}])
def test_a_pipe_receives_utf8_whatever_the_code_page(answers: Path, names: dict[str, str]) -> None:
    encoded = call("tokenizer", "encode", str(answers), stdin=SHOWN.encode(), **names)
    assert encoded.returncode == 0 and "characters" in encoded.stderr.decode("utf-8")
    decoded = call("tokenizer", "decode", str(answers), stdin=encoded.stdout, **names)
    assert decoded.stdout.decode("utf-8") == SHOWN and decoded.returncode == 0
    missing = call("tokenizer", "encode", "书\udcff", "x", **names)  # a name that is no UTF-8
    assert missing.returncode == 3 and "\\udcff" in missing.stderr.decode("utf-8")


def test_a_terminal_that_cannot_show_a_character_is_told_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    class Old(io.TextIOWrapper):
        def isatty(self) -> bool:
            return True

    stream = Old(raw := io.BytesIO(), encoding="cp1252")
    monkeypatch.setattr(sys, "stdout", stream)
    open_streams()
    print("é 你", flush=True)
    assert stream.encoding == "cp1252" and raw.getvalue() == "é \\u4f60\n".replace("\n", os.linesep).encode("cp1252")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
@pytest.mark.parametrize(("flags", "unbuffered"), [((), ""), (("--json",), "1")])
def test_an_output_that_is_full_is_an_error_in_words(answers: Path, flags: tuple[str, ...], unbuffered: str) -> None:
    command = ("tokenizer", "encode", str(answers), "你好", *flags)
    with Path("/dev/full").open("wb") as full:
        told = call(*command, out=full, PYTHONUNBUFFERED=unbuffered)
        silent = call(*command, out=full, err=full, PYTHONUNBUFFERED=unbuffered)
    assert told.returncode == silent.returncode == 4
    text = told.stderr.decode("utf-8")
    assert "the output cannot be written" in text and "No space left" in text and "standard output" in text
    assert "Traceback" not in text and "Exception ignored" not in text


def test_rich_reads_no_markup_because_one_place_opens_it() -> None:
    """A name such as `x[red]y.txt` is text: no other file of the room makes a console or a text of its own."""
    for path in Path(app.__file__).parent.glob("*.py"):
        source = path.read_text(encoding="utf-8")
        if path.name != "screen.py":
            assert "Console(" not in source and "rich.text" not in source and "rich.markup" not in source, path.name


@pytest.mark.skipif(os.name != "posix", reason="a shell closes the streams")
def test_closed_streams_end_in_no_traceback(answers: Path) -> None:
    for command, code in (("'x' >&- 2>&-", 0), ("'x' >&-", 0), ("- <&-", 0)):
        line = f"{sys.executable} -m pellucid tokenizer encode {answers} {command}"
        done = subprocess.run(
            ["sh", "-c", line],
            capture_output=True,
            env={**os.environ, "PYTHONPATH": str(Path(pellucid.__file__).parents[1])},
        )
        assert done.returncode == code and b"Traceback" not in done.stderr, done.stderr


@pytest.mark.skipif(os.name != "posix", reason="pipes of another kind")
@pytest.mark.parametrize("asked", [("encode", "low"), ("show",), ("explain", "low")], ids=lambda asked: asked[0])
def test_every_verb_ends_alike_when_the_reader_of_its_pipe_has_left(answers: Path, asked: tuple[str, ...]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-m", "pellucid", "tokenizer", asked[0], str(answers), *asked[1:]],
        stdout=writer,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(Path(pellucid.__file__).parents[1])},
    )
    os.close(writer)
    assert (done.returncode, b"Traceback" in done.stderr) == (141, False)


@pytest.mark.parametrize("on_path", [True, False])
def test_a_next_command_names_the_program_as_a_shell_here_finds_it(tmp_path, monkeypatch, on_path: bool) -> None:
    program = tmp_path / ".venv" / "bin" / "pellucid"
    program.parent.mkdir(parents=True)
    program.write_text("")
    program.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", [".venv/bin/pellucid", "quickstart"])
    monkeypatch.setenv("PATH", str(program.parent) if on_path else str(tmp_path))
    told = typed("pellucid", "lens", Path("my runs/a"))
    assert told == f"{'pellucid' if on_path else '.venv/bin/pellucid'} lens 'my runs/a'"
