"""The live page in a notebook: an anywidget whose messages are the page's questions.

    {id, method, params} -> {id} with the envelope as the only buffer, or {id, error: {what, found, where, hint}}

It needs the extra `notebook`. Without it (or without a kernel) a `Trace` still shows itself, as a recording.

Source: https://anywidget.dev/en/afm
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pellucid.errors import MissingExtraError, PellucidError, install
from pellucid.lens.page.program import Answerer, find_program, told_of
from pellucid.store.envelope import encode

if TYPE_CHECKING:
    from anywidget import AnyWidget

EXTRA = MissingExtraError(
    "a live page in a notebook needs anywidget",
    hint=f"{install('anywidget')}, or show a trace: `trace.show()`",
)


def make_widget(answerer: Answerer) -> AnyWidget:
    """The page as a notebook widget; the last expression of a cell shows it. Raises MissingExtraError without anywidget."""
    try:
        from anywidget import AnyWidget
    except ImportError as error:
        raise EXTRA from error

    class LensWidget(AnyWidget):
        _esm = find_program()

    widget = LensWidget()
    widget.on_msg(lambda _, content, buffers: reply(widget, answerer, content))
    return widget


def reply(widget: AnyWidget, answerer: Answerer, content: dict[str, Any]) -> None:
    """Answer one message of the page; a program error is sent too, because the page would wait for ever."""
    number, method = content.get("id"), str(content.get("method"))
    try:
        envelope = encode(answerer.answer(method, content.get("params") or {}))
    except BaseException as error:
        widget.send({"id": number, "error": told_of(error, method)})
        if not isinstance(error, PellucidError):
            raise
        return
    widget.send({"id": number}, buffers=[envelope])
