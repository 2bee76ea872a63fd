"""The page in one file: what lies in it, what cannot break out of it, and how large it may be."""

from __future__ import annotations

import base64
import hashlib
import json
import math
import shutil
import subprocess
import sys
import zlib
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pellucid.errors import CorruptFileError, RequestError, StoreError
from pellucid.events import Event
from pellucid.lens.answer import Answer
from pellucid.lens.page import program
from pellucid.lens.page.html import (
    canonical,
    frame,
    inert,
    javascript_number,
    record_answers,
    render_html,
    script_json,
    write_html,
)
from pellucid.store.envelope import decode

EVIL = "</script><script>alert(1)</script><!-- 词元 \u2028"
PROGRAM = "const a = () => {}, words = `</script><!---->`; // 词元\nexport { a as default, a as mount, a as recordingHost };\n"


class Teller:
    """Tells a token back, with some numbers; refuses one question."""

    def answer(self, method: str, params: dict[str, Any]) -> Answer:
        if method == "refused":
            raise RequestError("not of this model")
        return Answer({"token": EVIL, **params}, {"row": np.arange(1000, dtype=np.float64)})


class Scripts(HTMLParser):
    """The scripts of a page as a browser sees them, and its first tags."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.scripts: list[tuple[dict[str, str | None], str]] = []
        self.metas: list[dict[str, str | None]] = []
        self.inside = False
        self.feed(page)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        if tag == "script":
            self.scripts.append((dict(attributes), ""))
            self.inside = True
        elif tag == "meta":
            self.metas.append(dict(attributes))

    def handle_endtag(self, tag: str) -> None:
        self.inside = self.inside and tag != "script"

    def handle_data(self, data: str) -> None:
        if self.inside:
            attributes, text = self.scripts[-1]
            self.scripts[-1] = attributes, text + data


@pytest.fixture(autouse=True)
def built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A page's program that holds what a page's program may hold."""
    path = tmp_path / "lens.js"
    path.write_text(PROGRAM, encoding="utf-8")
    monkeypatch.setattr(program, "BUILT", path)
    return path


def recording_of(page: str) -> dict[str, Any]:
    return next(json.loads(text) for attributes, text in Scripts(page).scripts if attributes.get("id") == "recording")


def test_a_recording_gives_back_what_was_answered(tmp_path: Path) -> None:
    questions = [("tokens", {"text": EVIL}), ("row", {"layer": 1, "at": {"node": 0, "checkpoint": None}})]
    write_html(Teller(), questions, tmp_path / "x.html", language="zh")
    recording = recording_of((tmp_path / "x.html").read_text(encoding="utf-8"))
    assert set(recording["answers"]) == {
        f"tokens{canonical({'text': EVIL})}",
        'row{"at":{"checkpoint":null,"node":0},"layer":1}',
    }
    for text in recording["answers"].values():
        answer = decode(zlib.decompress(base64.b64decode(text)))
        assert answer.value["token"] == EVIL and answer.arrays["row"].tolist() == list(range(1000))


def test_uncompressed_for_old_browsers() -> None:
    recording = record_answers(Teller(), [("a", {})], compress=False)
    assert recording.compression == "none" and decode(base64.b64decode(recording.answers["a{}"])).value["token"] == EVIL


def test_no_token_ends_the_script(tmp_path: Path) -> None:
    page = render_html(record_answers(Teller(), [("tokens", {"text": EVIL})]), title=EVIL, state=EVIL)
    scripts = Scripts(page).scripts
    assert [attributes.get("type") for attributes, _ in scripts] == ["application/json", None, None, "module"]
    assert page.lower().count("</script") == len(scripts) and "<!--" not in page
    assert scripts[-1][1].rstrip().endswith("}")  # the program is whole


def test_the_policy_names_every_script_that_runs_and_no_address() -> None:
    page = render_html(record_answers(Teller(), []), state="node=1")
    parsed = Scripts(page)
    policy = next(meta["content"] for meta in parsed.metas if meta.get("http-equiv") == "Content-Security-Policy")
    assert policy and policy.startswith("default-src 'none';") and "http" not in policy
    for attributes, text in parsed.scripts:
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert (f"'sha256-{digest}'" in policy) == (attributes.get("type") != "application/json")


def test_the_encoding_is_said_first_and_never_left_to_the_system(tmp_path: Path, built: Path) -> None:
    path = tmp_path / "x.html"
    code = (
        "import sys; from pathlib import Path; from pellucid.lens.answer import Answer; from pellucid.lens.page import program, html\n"
        "program.BUILT = Path(sys.argv[1]); T = type('T', (), {'answer': lambda s, m, p: Answer({'token': '词元'})})\n"
        "html.write_html(T(), [('a', {})], Path(sys.argv[2]), title='词元')"
    )
    strict = [sys.executable, "-X", "warn_default_encoding", "-W", "error::EncodingWarning:pellucid", "-c", code]
    subprocess.run([*strict, str(built), str(path)], check=True)
    data = path.read_bytes()
    assert b'<meta charset="utf-8">' in data[:1024] and "词元" in data.decode("utf-8")
    assert data[: data.index(b"charset")].isascii()


def test_what_does_not_fit_is_left_out_and_said(tmp_path: Path) -> None:
    class Heard:
        events: list[Event] = []

        def record(self, event: Event) -> None:
            self.events.append(event)

    heard = Heard()
    questions = [("a", {}), ("refused", {}), ("b", {}), ("a", {}), ("c", {})]
    one = len(next(iter(record_answers(Teller(), [("a", {})]).answers.values()))) + len('"a{}":"",')
    recording = record_answers(Teller(), questions, limit_bytes=2 * one, recorder=heard)
    assert list(recording.answers) == ["a{}", "b{}"] and recording.left_out == ("refused{}", "c{}")
    refused, left_out = [event for event in heard.events if event.name != "lens.progress"]
    assert refused.level == "info" and refused.data["left_out"] == ["refused{}"]
    assert refused.message == "1 of 4 questions do not apply to this model or text: refused"
    assert left_out.level == "warning" and left_out.data["left_out"] == ["c{}"]
    assert left_out.message == (f"1 of 4 answers are not in the file, which would be larger than {2 * one:,} bytes: c")
    assert sum(len(key) + len(text) for key, text in recording.answers.items()) <= 2 * one


def test_a_page_that_is_not_built_says_how(built: Path) -> None:
    built.unlink()
    with pytest.raises(StoreError, match="not built") as raised:
        render_html(record_answers(Teller(), []))
    assert "hatch_build.py" in raised.value.hint


def test_a_program_without_exports_is_refused() -> None:
    with pytest.raises(CorruptFileError):
        program.call_exports("const a = 1;\n", "mount();")


@given(st.text())
def test_any_text_lies_safely_in_a_script(text: str) -> None:
    written = script_json(text)
    assert json.loads(written) == text and "<" not in written and written.isascii()


def test_a_frame_holds_the_page_whole() -> None:
    class Frame(HTMLParser):
        source = ""

        def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
            self.source = dict(attributes)["srcdoc"] or ""

    page = render_html(record_answers(Teller(), [("tokens", {"text": EVIL})]))
    parsed = Frame()
    parsed.feed(frame(page))
    assert parsed.source == page


def test_inert_leaves_strings_equal() -> None:
    assert inert("`</script>` + '<!--'") == "`\\x3c/script>` + '\\x3c!--'"


NUMBERS = [
    0.1,
    1.0,
    -0.0,
    100.0,
    1e21,
    1e20,
    123456789012345680000.0,
    1e-6,
    1e-7,
    1.5e-7,
    5e-324,
    1.7976931348623157e308,
    2**53,
    -3.25,
]


@pytest.mark.skipif(shutil.which("node") is None, reason="there is no Node to write the numbers as JavaScript does")
def test_numbers_are_written_as_javascript_writes_them() -> None:
    generator = np.random.default_rng(0)
    bits = generator.integers(0, 2**64, 3000, dtype=np.uint64).view(np.float64)
    values = [*NUMBERS, *generator.normal(size=500).tolist(), *(float(x) for x in bits if math.isfinite(x))]
    script = (
        "process.stdout.write(JSON.stringify(JSON.parse(require('fs').readFileSync(0)).map(x => JSON.stringify(x))))"
    )
    ran = subprocess.run(["node", "-e", script], input=json.dumps(values), capture_output=True, text=True, check=True)
    assert [javascript_number(float(value)) for value in values] == json.loads(ran.stdout)
