"""A server that breaks off, and one that sends something else than it said: no half file ever has its name."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from hub_server import BIG, ONE, SMALL, TWO, WEIGHTS, get, names_below

from pellucid.errors import (
    BrokenOffError,
    CorruptFileError,
    FetchError,
    StoreError,
)
from pellucid.events import Event, MemoryRecorder
from pellucid.store.hub import download, server
from pellucid.store.hub import fetch as fetching
from pellucid.store.hub.listing import choose_file, choose_parts, read_listing
from pellucid.store.hub.name import parse_name

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


@pytest.mark.parametrize("missing", [("size", "lfs"), ("blobId", "lfs")])
def test_a_server_that_does_not_say_what_comes_is_refused(hub, missing) -> None:
    hub.add("a/b", ONE, SMALL, "main")
    hub.unsaid = missing
    with pytest.raises(FetchError, match="the server gives no size or no hash") as caught:
        get()
    assert caught.value.found == "config.json"


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


def damaged(data: bytes, count: int) -> Iterator[bytes]:
    """Copies with a byte exchanged, lost or repeated."""
    draw = random.Random(3)
    for number in range(count):
        place = draw.randrange(len(data))
        middle = (bytes([draw.randrange(256)]), b"", data[place : place + 1] * 2)[number % 3]
        yield data[:place] + middle + data[place + 1 :]


def test_a_thousand_damaged_lists_are_read_or_refused(hub, shelf) -> None:
    hub.add("a/b", ONE, {**SMALL, "b.gguf": BIG, "README.md": b"x"}, "main")
    files = [hub.describe(name, data) for name, data in hub.repositories["a/b"].commits[ONE].items()]
    whole = json.dumps({"sha": ONE, "siblings": files}).encode()
    outcomes = Counter()
    for text in damaged(whole, 1000):
        try:
            told = read_listing(text, "page")
            chosen = choose_file(told, parse_name("hf:a/b"))
            names = [one.name for one in (told.check([chosen]) if chosen else choose_parts(told, lambda file: b""))]
            outcomes[tuple(names)] += 1
        except StoreError as error:
            assert error.where == "page"
            outcomes["refused"] += 1
    assert outcomes.keys() == {"refused", ("config.json", "model.safetensors"), tuple(SMALL), ("b.gguf",)}
