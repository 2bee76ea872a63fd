"""A trace: every activation between a text and the next token, by name.

    header   what was traced: the model and its axes, the text, its tokens for display, the names and shapes of the
             arrays, and the checks that were made
    arrays   name -> float32 numbers, such as `blocks.3.attention.weights` [H, T, T]

    trace = pellucid.trace(lm, "Once upon a time")
    trace["blocks.3.attention.weights"]        # exactly what the page shows
    trace.save("trace.html")                   # the page itself, in one file

The arrays of a trace that was just recorded are computed layer by layer on first use; those of a file are in the file.
A trace is about one row of tokens and one model: it is *not* the account of sampling (`engine.transcript`).
"""

from __future__ import annotations

import io
import sys
import tempfile
import webbrowser
import zipfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from pellucid.arguments import check_path
from pellucid.errors import CorruptFileError, InputError, RequestError
from pellucid.events import NULL, Recorder
from pellucid.files import explained, replace_file
from pellucid.lens.header import TraceHeader
from pellucid.lens.page.html import Question, frame, record_answers, render_html, write_html
from pellucid.lens.page.program import Answerer, find_program
from pellucid.lens.picture import draw_trace
from pellucid.setting_values import nearest
from pellucid.store.envelope import Envelope, arrays_of, decode, encode, to_json
from pellucid.untrusted import Table, parse_json, parse_object, read_bytes

SCHEMA = 1
MOST_TRACE_BYTES = 1 << 30
MOST_JSON = 20_000_000  # numbers; as text they take about ten bytes each
FRAME_QUESTIONS, FRAME_BYTES = 1_000, 4_000_000  # a cell should not take long, nor the notebook's file become large
SUFFIXES = (".html", ".json", ".npz", ".plens", ".png", ".svg")


@dataclass(frozen=True, kw_only=True, eq=False)
class TracePage:
    """What a trace needs to be shown as a page: the lens, and the questions that the page will ask it."""

    answerer: Answerer
    questions: Callable[[], Iterable[Question]]


@dataclass(frozen=True, kw_only=True, eq=False)
class Trace:
    """Recorded activations (`arrays`) with their description (`header`); made by `pellucid.trace` or `load_trace`."""

    header: TraceHeader
    arrays: Mapping[str, NDArray[np.float32]]
    page: TracePage | None = None  # None for a trace from a file, which holds numbers and no model

    def __getitem__(self, name: str) -> NDArray[np.float32]:
        """An array by name. Raises RequestError for a name that the trace does not have."""
        if name not in self.arrays:
            hint = nearest(name, list(self.arrays))
            raise RequestError(f"the trace has no array {name!r}", where="header['arrays'] lists them", hint=hint)
        return self.arrays[name]

    @property
    def ids(self) -> tuple[int, ...]:
        """The ids of the traced tokens."""
        return tuple(chip["id"] for chip in self.header["tokens"])

    @property
    def axes(self) -> Mapping[str, object]:
        """The axes of the model, as in its configuration."""
        return self.header["model"]["axes"]

    def save(self, path: Path | str, *, recorder: Recorder = NULL) -> Path:
        """Write the trace; the suffix says how: .plens (binary, exact), .npz, .json, .html (the page), .png or .svg.

        Raises RequestError for another suffix, for JSON of more than 20 million numbers, and for the page of a trace that
        was read from a file; StoreError when the page is not built, or the file cannot be written.
        """
        path = Path(path)
        check_suffix(path)
        writers: dict[str, Callable[[], bytes]] = {
            ".json": self._to_json,
            ".npz": self._to_npz,
            ".plens": lambda: encode(Envelope(dict(self.header), dict(self.arrays))),
            ".png": lambda: draw_trace(self.header, self.arrays, "png"),
            ".svg": lambda: draw_trace(self.header, self.arrays, "svg"),
        }
        if path.suffix == ".html":
            page = self._page()
            with explained(path, 0):
                write_html(page.answerer, page.questions(), path, title=self._title, recorder=recorder)
        else:
            replace_file(path, writers[path.suffix]())
        return path

    def show(self) -> None:
        """Show the page: in a notebook below the cell, else in the browser, from a temporary file."""
        if "IPython.display" in sys.modules and sys.modules["IPython"].get_ipython() is not None:
            sys.modules["IPython.display"].display(self)
            return
        with tempfile.NamedTemporaryFile(prefix="pellucid-", suffix=".html", delete=False) as file:
            path = Path(file.name)
        webbrowser.open(self.save(path).as_uri())

    def _repr_html_(self) -> str:
        """The page in a frame, without a server, for notebooks to show and save."""
        page = self._page()
        asked = islice(page.questions(), FRAME_QUESTIONS)
        recording = record_answers(page.answerer, asked, limit_bytes=FRAME_BYTES)
        return frame(render_html(recording, title=self._title))

    def __repr__(self) -> str:
        return f"Trace({self.header['model']['name']!r}, {len(self.ids)} tokens, {len(self.arrays)} arrays)"

    @property
    def _title(self) -> str:
        return f"{self.header['text'][:60]} · {self.header['model']['name']}"

    def _page(self) -> TracePage:
        if self.page is None:
            raise RequestError(
                "this trace was read from a file: it holds numbers, and no model that could answer the page",
                hint='record it again: pellucid.trace(lm, text).save("trace.html")',
            )
        return self.page

    def _to_json(self) -> bytes:
        size = sum(int(np.prod(entry["shape"])) for entry in self.header["arrays"].values())
        if size > MOST_JSON:
            found = f"{size:,} numbers"
            raise RequestError("this trace is too large for JSON", found=found, hint="save it as .plens or .npz")
        lists = {name: _short_numbers(array) for name, array in self.arrays.items()}
        return to_json({"header": self.header, "arrays": lists}).encode("utf-8")

    def _to_npz(self) -> bytes:
        file = io.BytesIO()
        np.savez_compressed(file, allow_pickle=False, header=np.array(to_json(self.header)), **self.arrays)
        return file.getvalue()


def check_suffix(path: Path) -> None:
    """Raise RequestError for a file name whose suffix says no form of a trace, StoreError for a page that is not built."""
    if path.suffix not in SUFFIXES:
        raise RequestError("a trace is not written like this", found=path.name, hint="use " + ", ".join(SUFFIXES))
    if path.suffix == ".html":
        find_program()


def load_trace(path: Path | str) -> Trace:
    """Read a trace that was saved as .plens, .npz or .json (in which minus infinity is null).

    Raises InputError when there is no such file, CorruptFileError when it holds no trace.
    """
    check_path(path, "path")
    path = Path(path)
    readers = {".npz": _load_npz, ".json": _load_json}
    try:
        header, arrays = readers.get(path.suffix, _load_plens)(path)
    except OSError as error:
        raise InputError("the trace cannot be read", found=str(error), where=str(path)) from error
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, zipfile.BadZipFile, EOFError) as error:
        raise CorruptFileError("this file holds no trace", found=str(error)[:200], where=str(path)) from error
    if not isinstance(header, dict) or header.get("schema") != SCHEMA:
        raise CorruptFileError("this file holds no trace of this version", where=str(path))
    return Trace(header=cast("TraceHeader", header), arrays=arrays)  # of this version: taken at its word


def _load_plens(path: Path) -> tuple[object, dict[str, NDArray[np.float32]]]:
    envelope = decode(path.read_bytes(), where=str(path))
    return envelope.value, dict(arrays_of(envelope))


def _load_npz(path: Path) -> tuple[object, dict[str, NDArray[np.float32]]]:
    with np.load(path, allow_pickle=False) as file:
        return parse_json(str(file["header"])), {name: file[name] for name in file.files if name != "header"}


def _load_json(path: Path) -> tuple[object, dict[str, NDArray[np.float32]]]:
    document = parse_object(read_bytes(path, MOST_TRACE_BYTES), most_values=2 * MOST_JSON)
    lists = Table(document, str(path)).table("arrays")
    arrays = {name: np.array(numbers, dtype=np.float32) for name, numbers in lists.items()}
    return document["header"], {name: np.where(np.isnan(array), -np.inf, array) for name, array in arrays.items()}


def _short_numbers(array: NDArray[np.float32]) -> object:
    """Nested lists of numbers with the fewest digits that still give the same float32."""
    return array.astype(str).astype(np.float64).tolist()
