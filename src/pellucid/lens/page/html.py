"""The page as one self-contained HTML file, with answers recorded in advance.

The file holds the page's program and the recording: it fetches no address and sends nothing. A recording is
`{"compression": …, "answers": {METHOD + canonical JSON of the params: base64 of one envelope}}`. The page explains that
a question was not recorded. Any text may be a token, so the file is written such that no text can end its script early,
and it declares UTF-8 before the first letter that is not ASCII.

It is *not* a picture: everything recorded stays interactive.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import math
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pellucid.errors import PellucidError
from pellucid.events import NULL, Event, Recorder
from pellucid.lens.page.program import Answerer, call_exports, find_program
from pellucid.store.envelope import encode

Question = tuple[str, dict[str, Any]]
Language = Literal["en", "zh"]
PUNCTUATION = 4  # around an answer: a colon, a comma, two quotes
MAX_BYTES = 10_000_000
FRAME_HEIGHT = 860  # pixels; where the notebook lets it, the frame takes its content's height up to this


@dataclass(frozen=True, kw_only=True)
class RecordedPage:
    """Answers by question, each an envelope in base64, and the questions that did not fit or had no answer."""

    compression: Literal["deflate", "none"]
    answers: dict[str, str]
    left_out: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """The recording as the page reads it."""
        return {"compression": self.compression, "answers": self.answers, "left_out": len(self.left_out)}


def record_answers(
    answerer: Answerer,
    questions: Iterable[Question],
    *,
    limit_bytes: int = MAX_BYTES,
    compress: bool = True,
    recorder: Recorder = NULL,
) -> RecordedPage:
    """Ask each question once, the most important first; questions that do not fit are left out and listed."""
    answers: dict[str, str] = {}
    no_answer: list[str] = []  # questions that do not apply to this model, or to this text
    no_room: list[str] = []
    room = limit_bytes
    asked = list(questions)
    for number, (method, params) in enumerate(asked, 1):
        data = {"label": "recording", "done": number, "total": len(asked)}
        recorder.record(Event(name="lens.progress", message=f"question {number} of {len(asked)}", data=data))
        key = method + canonical(params)
        if key in answers or key in no_answer or key in no_room:
            continue
        try:
            envelope = encode(answerer.answer(method, params))
        except PellucidError:
            no_answer.append(key)
            continue
        text = base64.b64encode(zlib.compress(envelope, 9) if compress else envelope).decode("ascii")
        size = len(text) + len(script_json(key)) + PUNCTUATION
        if size > room:
            no_room.append(key)
            continue
        room -= size
        answers[key] = text
    _tell_left_out(no_answer, no_room, len(answers), limit_bytes, recorder)
    left_out = (*no_answer, *no_room)
    return RecordedPage(compression="deflate" if compress else "none", answers=answers, left_out=left_out)


def _tell_left_out(
    no_answer: Sequence[str], no_room: Sequence[str], num_answers: int, limit_bytes: int, recorder: Recorder
) -> None:
    """Report the questions whose answers are not in the file, by why: they do not apply, or there was no room."""
    asked = len(no_answer) + len(no_room) + num_answers
    if no_answer:
        why = f"{len(no_answer)} of {asked} questions do not apply to this model or text: {_methods(no_answer)}"
        recorder.record(Event(name="lens.not_answered", message=why, data={"left_out": list(no_answer)}))
    if no_room:
        message = (
            f"{len(no_room)} of {asked} answers are not in the file, which would be larger than {limit_bytes:,} bytes: "
            f"{_methods(no_room)}"
        )
        data = {"left_out": list(no_room), "limit_bytes": limit_bytes}
        recorder.record(Event(name="lens.left_out", message=message, data=data, level="warning"))


def _methods(keys: Sequence[str]) -> str:
    """The names of some questions, each once, without what they ask about."""
    return ", ".join(dict.fromkeys(key.partition("{")[0] for key in keys))


def render_html(recording: RecordedPage, *, title: str = "Pellucid", language: Language = "en", state: str = "") -> str:
    """The whole page as one text. `state` is the part of its address after `#`: what is selected when it opens."""
    program = inert(call_exports(find_program().read_text(encoding="utf-8"), OPEN))
    opening = f"if (!location.hash) history.replaceState(null, '', {script_json('#' + state)});" if state else ""
    digests = " ".join(f"'sha256-{_sha256(script)}'" for script in (opening, SIZING, program) if script)
    policy = f"default-src 'none'; script-src {digests}; style-src 'unsafe-inline'; img-src data: blob:"
    return "\n".join(
        [
            "<!doctype html>",
            f'<html lang="{language}">',
            "<head>",
            '<meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{html.escape(title)}</title>",
            "<style>body { margin: 0 }</style>",
            "</head>",
            "<body>",
            '<div id="lens"></div>',
            f'<script type="application/json" id="recording">{script_json(recording.to_dict())}</script>',
            *([f"<script>{opening}</script>"] if opening else []),
            f"<script>{SIZING}</script>",
            f'<script type="module">{program}</script>',
            "</body>",
            "</html>",
            "",
        ]
    )


def write_html(
    answerer: Answerer,
    questions: Iterable[Question],
    path: Path,
    *,
    limit_bytes: int = MAX_BYTES,
    compress: bool = True,
    title: str = "Pellucid",
    language: Language = "en",
    state: str = "",
    recorder: Recorder = NULL,
) -> RecordedPage:
    """Record the answers, at most `limit_bytes` of them, and write the file; return what was recorded.

    `compress=False` makes a file about three times larger for browsers older than 2023.
    """
    room = limit_bytes - find_program().stat().st_size
    recording = record_answers(answerer, questions, limit_bytes=room, compress=compress, recorder=recorder)
    path.write_text(render_html(recording, title=title, language=language, state=state), encoding="utf-8", newline="\n")
    return recording


def frame(page: str, *, height: int = FRAME_HEIGHT) -> str:
    """A page as the output of a notebook cell: one iframe that holds everything, without a server or a kernel.

    >>> frame('<p class="a">hello</p>', height=100)
    '<iframe srcdoc="&lt;p class=&quot;a&quot;&gt;hello&lt;/p&gt;" style="width: 100%; height: 100px; border: 0" ...'
    """
    style = f"width: 100%; height: {height}px; border: 0"
    return f'<iframe srcdoc="{html.escape(page)}" style="{style}" title="Pellucid" loading="lazy"></iframe>'


def canonical(value: Any) -> str:
    """JSON with sorted keys, no spaces and numbers as JavaScript writes them, exactly as the page's `canonical`.

    >>> canonical({"layer": 3, "at": {"node": 0, "checkpoint": None}, "scale": 1.0})
    '{"at":{"checkpoint":null,"node":0},"layer":3,"scale":1}'
    """
    if isinstance(value, dict):
        return "{" + ",".join(f"{canonical(str(key))}:{canonical(value[key])}" for key in sorted(value)) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(map(canonical, value)) + "]"
    if isinstance(value, float):
        return javascript_number(value)
    return json.dumps(value, ensure_ascii=False)


def javascript_number(value: float) -> str:
    """The shortest text of a double, as JavaScript's `String(value)` writes it.

    >>> [javascript_number(x) for x in (0.5, 2.0, 1e-7, 1.5e21, 1e20, 0.00001, float("nan"))]
    ['0.5', '2', '1e-7', '1.5e+21', '100000000000000000000', '0.00001', 'null']
    """
    if not math.isfinite(value):
        return "null"
    if value == 0:
        return "0"
    sign, digits, exponent = "-" if value < 0 else "", *_shortest(abs(value))
    if 0 < exponent <= 21:
        return sign + (digits.ljust(exponent, "0") if len(digits) <= exponent else _point(digits, exponent))
    if -6 < exponent <= 0:
        return f"{sign}0.{'0' * -exponent}{digits}"
    mantissa = digits if len(digits) == 1 else _point(digits, 1)
    return f"{sign}{mantissa}e{exponent - 1:+d}"


def _point(digits: str, position: int) -> str:
    return f"{digits[:position]}.{digits[position:]}"


def _shortest(value: float) -> tuple[str, int]:
    """The digits d and exponent n of value = 0.d * 10^n, with the fewest digits that identify the double."""
    mantissa, _, exponent = f"{value!r}".partition("e")
    whole, _, fraction = mantissa.partition(".")
    digits = (whole + fraction).lstrip("0")
    leading = len(whole.lstrip("0")) if whole.strip("0") else len(fraction.lstrip("0")) - len(fraction)
    return digits.rstrip("0"), leading + int(exponent or 0)


def script_json(value: Any) -> str:
    """JSON that is safe in a script element: no token's text can end the element or begin another.

    >>> script_json("</script><!--")
    '"\\\\u003c/script>\\\\u003c!--"'
    """
    return json.dumps(value, ensure_ascii=True, separators=(",", ":")).replace("<", "\\u003c")


def inert(program: str) -> str:
    """The program with `</script` and `<!--` written so that HTML does not see them; strings stay equal."""
    for word in ("</script", "<!--"):
        program = program.replace(word, "\\x3c" + word[1:])
    return program


def _sha256(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")


OPEN = (
    "const read = (id) => document.getElementById(id); "
    'mount(read("lens"), recordingHost(JSON.parse(read("recording").textContent)));'
)

# In a frame of the same origin (a notebook's srcdoc) the frame takes its content's height, up to the height it was given.
SIZING = (
    "{let frame=null;try{frame=window.frameElement}catch{}"
    "if(frame){const most=parseInt(frame.style.height)||860;frame.style.height='320px';"
    "new ResizeObserver(()=>{frame.style.height=Math.min(most,document.documentElement.scrollHeight)+'px'})"
    ".observe(document.body)}}"
)
