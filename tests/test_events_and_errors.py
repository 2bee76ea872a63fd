"""The error tree that is drawn is the one that exists; events reach whoever listens."""

from __future__ import annotations

import inspect
import json
import re

import pytest

from pellucid import errors
from pellucid.cli.app import EXIT_CODES, report
from pellucid.data.prepare import prepare
from pellucid.data.source import open_source
from pellucid.errors import PellucidError
from pellucid.events import NULL, Event, Fanout, MemoryRecorder, WithoutProgress
from pellucid.tokens.train import train_characters

CLASSES = [cls for _, cls in inspect.getmembers(errors, inspect.isclass) if issubclass(cls, PellucidError)]
DRAWN = re.compile(r"^    (?P<branches>(?:│   |    )*(?:[├└]── )?)(?P<name>[A-Z]\w+Error)\b")


def drawn_parents() -> dict[str, str | None]:
    """Class -> parent, read from the drawing in the module's docstring."""
    parents: dict[str, str | None] = {}
    path: list[str] = []
    for line in errors.__doc__.splitlines():
        if match := DRAWN.match(line):
            depth = len(match["branches"]) // 4
            path[depth:] = [match["name"]]
            parents[match["name"]] = path[depth - 1] if depth else None
    return parents


def test_the_drawing_is_the_tree() -> None:
    built = {cls.__name__: None if cls is PellucidError else cls.__base__.__name__ for cls in CLASSES}
    assert drawn_parents() == built


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
@pytest.mark.parametrize("as_json", [False, True])
def test_every_error_has_an_exit_code_and_says_four_things(cls: type[PellucidError], as_json: bool, capsys) -> None:
    error = cls("the moon is missing", found="a hole", where="the sky", hint="look again")
    code = report(error, as_json=as_json)
    assert 1 <= code <= 7 and code == next(EXIT_CODES[base] for base in cls.__mro__ if base in EXIT_CODES)
    assert (code == 1) == (cls is PellucidError), "only the root may have the general code"
    printed = capsys.readouterr()
    assert not printed.out
    if as_json:
        assert json.loads(printed.err) == error.to_dict()
        assert error.to_dict() == {
            "error": cls.__name__, "what": "the moon is missing", "found": "a hole", "where": "the sky", "try": "look again"
        }  # fmt: skip
    else:
        assert printed.err == ("error: the moon is missing\n  found: a hole\n  where: the sky\n  try:   look again\n")


def test_what_is_not_known_is_not_printed() -> None:
    assert str(PellucidError("月亮不见了", where="天上")) == "月亮不见了\n  where: 天上"


def test_the_null_recorder_takes_everything() -> None:
    NULL.record(Event(name="a.b", message="nobody hears this"))


def test_every_recorder_hears_every_event_in_order() -> None:
    first, second = MemoryRecorder(), MemoryRecorder()
    events = [Event(name=f"room.event_{number}", message="…", data={"number": number}) for number in range(3)]
    for event in events:
        Fanout([first, second]).record(event)
    assert first.events == second.events == events


def test_progress_is_held_back_and_nothing_else_is() -> None:
    memory = MemoryRecorder()
    for name in ("data.progress", "training.saved", "training.progress", "progress"):
        WithoutProgress(memory).record(Event(name=name, message="…"))
    assert memory.names() == ["training.saved", "progress"]


def test_an_event_cannot_be_changed() -> None:
    event = Event(name="a.b", message="…")
    with pytest.raises(AttributeError):
        event.name = "c"  # type: ignore[misc]


def test_one_thing_is_not_said_in_the_plural(tmp_path) -> None:
    book, heard = tmp_path / "book.txt", MemoryRecorder()
    book.write_text("One line of words, and nothing behind it.\n")
    source = open_source(book)
    prepare(
        source, train_characters(["".join(doc.text for doc in source.documents())]), tmp_path / "data", recorder=heard
    )
    [message] = [event.message for event in heard.events if event.name == "data.train"]
    assert message.startswith("train: 1 document, ")
