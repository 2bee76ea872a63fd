"""The notebook widget: the page's messages are answered, and a failure is a message too. No kernel is needed."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pellucid.errors import ContextError, MissingExtraError
from pellucid.lens.answer import Answer
from pellucid.lens.page import program
from pellucid.lens.page.widget import make_widget, reply
from pellucid.store.envelope import decode


class Echo:
    """Answers with what it was asked."""

    def answer(self, method: str, params: dict[str, Any]) -> Answer:
        if method == "too_long":
            raise ContextError("the prompt is too long", hint="shorten it")
        if method == "fault":
            raise ZeroDivisionError("a fault")
        return Answer({"method": method, "params": params}, {"row": np.arange(3, dtype=np.float32)})


@pytest.fixture(autouse=True)
def built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "lens.js"
    path.write_text("export default {render() {}};\n", encoding="utf-8")
    monkeypatch.setattr(program, "BUILT", path)


def ask(message: dict[str, Any]) -> tuple[dict[str, Any], list[bytes]]:
    """Send what the page would send; what comes back."""
    widget = make_widget(Echo())
    sent: list[tuple[dict[str, Any], list[bytes]]] = []
    widget.send = lambda content, buffers=None: sent.append((content, buffers or []))  # type: ignore[method-assign]
    widget._handle_custom_msg(message, [])
    [answer] = sent
    return answer


def test_a_message_is_answered_with_an_envelope() -> None:
    content, [envelope] = ask({"id": 7, "method": "tokens", "params": {"text": "你好"}})
    assert content == {"id": 7}
    assert decode(envelope).value == {"method": "tokens", "params": {"text": "你好"}}
    assert decode(envelope).arrays["row"].tolist() == [0, 1, 2]


def test_a_failure_is_told_to_the_one_who_asked() -> None:
    content, buffers = ask({"id": 8, "method": "too_long"})
    assert content["id"] == 8 and not buffers
    assert content["error"]["what"] == "the prompt is too long" and content["error"]["hint"] == "shorten it"


def test_a_fault_of_the_program_is_told_too_and_shown_to_the_kernel() -> None:
    sent: list[dict[str, Any]] = []
    widget = make_widget(Echo())
    widget.send = lambda content, buffers=None: sent.append(content)  # type: ignore[method-assign]
    with pytest.raises(ZeroDivisionError):
        reply(widget, Echo(), {"id": 9, "method": "fault"})
    assert [(one["id"], one["error"]["found"]) for one in sent] == [(9, "ZeroDivisionError: a fault")]


def test_the_widget_carries_the_built_page() -> None:
    assert "export default" in str(make_widget(Echo())._esm)


def test_without_the_extra_the_error_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "anywidget", None)
    with pytest.raises(MissingExtraError, match="anywidget") as raised:
        make_widget(Echo())
    assert "-m pip install anywidget" in raised.value.hint
