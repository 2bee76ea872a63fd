"""The metrics of a run as JSON lines: one object a line, appended as training goes on.

A process that is killed may leave half a line at the end; readers pass over it and the next writer removes it. Half a
line anywhere else is damage, and an error. NaN and infinity are not JSON: they are written as null.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pellucid.errors import CorruptFileError, advised
from pellucid.files import append_line, replace_file
from pellucid.untrusted import Table, parse_json

EXAM = "exam_"  # of an evaluation line: exam_en, exam_zh, …, the shares of questions answered exactly, where some are asked
MEND_LINE = "put the file back from a copy, or mend this line by hand"


def append_row(path: Path, row: Mapping[str, object], *, sync: bool = False) -> None:
    """Add one object as a line; `sync` waits until it is on the disk."""
    finite = {key: _finite(value) for key, value in row.items()}
    append_line(path, json.dumps(finite, ensure_ascii=False, allow_nan=False), sync=sync)


def read_rows(path: Path, *, of_kinds: bool = True) -> list[dict[str, Any]]:
    """Every whole line's object; CorruptFileError (with the line's number) when one of them is not JSON."""
    if not path.is_file():
        return []
    rows = []
    for number, line in enumerate(_whole_lines(path.read_bytes()), start=1):
        try:
            row = parse_json(line)
        except ValueError as error:
            raise CorruptFileError(
                f"line {number} of {path.name} is not JSON",
                found=repr(line[:60]),
                where=f"{path}:{number}",
                hint=MEND_LINE,
            ) from error
        rows.append(_checked(row, f"{path}:{number}", of_kinds))
    return rows


def keep_rows(path: Path, after_step: int) -> None:
    """Rewrite the file with the rows of steps up to `after_step` only, byte for byte, and without half a last line."""
    if not path.is_file():
        return
    lines = _whole_lines(path.read_bytes())
    rows = read_rows(path)
    kept = [line for line, row in zip(lines, rows, strict=True) if row.get("step", 0) <= after_step]
    replace_file(path, b"".join(line + b"\n" for line in kept))


def evaluations(rows: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The evaluation lines, in order."""
    return [row for row in rows if row["kind"] == "eval"]


def best_evaluation(rows: Iterable[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """The evaluation with the lowest loss (the earliest of equals); None before the first."""
    return min((row for row in evaluations(rows) if row["loss"] is not None), key=lambda row: row["loss"], default=None)


def evaluations_since_best(rows: Iterable[Mapping[str, Any]]) -> int:
    """How many evaluations came after the best one; 0 before the first.

    >>> losses = (2.0, 1.0, 1.5, 1.2)
    >>> evaluations_since_best({"kind": "eval", "step": step, "loss": loss} for step, loss in enumerate(losses))
    2
    """
    seen = evaluations(rows)
    best = best_evaluation(seen)
    return 0 if best is None else sum(row["step"] > best["step"] for row in seen)


def exam_scores(rows: Iterable[Mapping[str, Any]]) -> dict[str, dict[int, float]]:
    """The share of right answers by step, for each part of the exam; empty when nothing was asked.

    >>> exam_scores([{"kind": "eval", "step": 5, "loss": 1.0, "exam_en": 0.5}])
    {'en': {5: 0.5}}
    """
    scores: dict[str, dict[int, float]] = {}
    for row in rows:
        shares = {key: row[key] for key in row if key.startswith(EXAM)} if row["kind"] == "eval" else {}
        for key, share in shares.items():
            if share is not None:
                scores.setdefault(key.removeprefix(EXAM), {})[row["step"]] = share
    return scores


def drop_torn_line(path: Path) -> None:
    """Remove half a line from the end, so that the next one starts on its own."""
    if not path.is_file():
        return
    data = path.read_bytes()
    if data and not data.endswith(b"\n"):
        replace_file(path, data[: data.rfind(b"\n") + 1])


def _checked(row: object, where: str, of_kinds: bool) -> dict[str, Any]:
    """A row whose step, loss, shares and (in a file of several kinds) kind are what readers count on."""
    with advised(MEND_LINE):
        table = Table(row, where, "the line")
        table.whole("step"), table.number("loss", None)
        for key in table.values:
            if key.startswith(EXAM):
                table.number(key, None, low=0.0, high=1.0)
        if of_kinds:
            table.word("kind")
    return dict(table.values)


def _whole_lines(data: bytes) -> list[bytes]:
    return data.split(b"\n")[:-1]


def _finite(value: object) -> object:
    return None if isinstance(value, float) and not math.isfinite(value) else value
