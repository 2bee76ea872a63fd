"""A server that refuses, leads astray, falls silent or is not there: each is said, and nobody waits for ever."""

from __future__ import annotations

import socket

import pytest
from hub_server import ONE, SMALL, get, names_below
from huggingface_hub import constants

from pellucid.errors import (
    BrokenOffError,
    FetchError,
)
from pellucid.store.hub import server


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
        ("http://127.0.0.1:x/", FetchError, "the server answers something else than a file|Invalid port"),
    ],
)
def test_a_redirect_that_leads_nowhere(hub, shelf, place, location, kind, what) -> None:
    hub.add("a/b", ONE, SMALL, "main")
    hub.redirects = {place: location, "/again/model.safetensors": location}
    with pytest.raises(FetchError, match=what) as caught:
        get()
    assert isinstance(caught.value, kind)
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
