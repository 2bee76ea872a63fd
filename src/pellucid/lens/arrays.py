"""Questions about the recorded arrays: the header of a recording, and any array by name, whole or in part."""

from __future__ import annotations

from typing import Any

import numpy as np

from pellucid.errors import RequestError
from pellucid.lens.answer import Answer, At
from pellucid.lens.header import Check
from pellucid.lens.record import check
from pellucid.lens.shows import EVERY
from pellucid.lens.state import LensState

MOST_READING = 2e10  # parameters times tokens that the engine reads for the sake of a check: a fraction of a second


def record(lens: LensState, *, at: At) -> Answer:
    """The header of the recording of a text: model, tokens, arrays by name, checks."""
    header = lens.trace(at).header
    return Answer({**header, "checks": [*header["checks"], *cache_checks(lens, at)]})


def cache_checks(lens: LensState, at: At) -> list[Check]:
    """Check that the engine, with its KV cache, gives the same logits as the recording, which used no cache.

    Empty when the engine cannot read it: another checkpoint, a bidirectional model, one with a source or without scores,
    a text that would take too long.
    """
    trace, ids = lens.trace(at), lens.ids(at.node)
    work = len(ids) * trace.header["model"]["parameters"]
    uncached = not (lens.config.causal and lens.config.head.tokens) or lens.config.encoder is not None
    if at.checkpoint not in (None, lens.models.step) or uncached or work > MOST_READING:
        return []
    recorded_V = trace["logits"][-1]
    error = float(np.abs(lens.branches.row(at.node) - recorded_V).max())
    narrow = trace.header["model"]["dtype"] != "float32"
    limit = (0.1 if narrow else 1e-4) * max(1.0, float(np.abs(recorded_V).max()))
    return [check("cached", error, limit)]


def array(lens: LensState, *, at: At, name: str, index: list | None = None) -> Answer:
    """One array, or the part of it at `index`: a number, null or [start, stop] for each axis from the first."""
    found = pick(lens.trace(at)[name], index or [], name)
    return Answer({"name": name, "shape": list(found.shape)}, {name: at.pack(found)})


def cell(lens: LensState, *, at: At, name: str, index: list) -> Answer:
    """One exact number of an array (null where it is minus infinity), as it reads in Python."""
    found = pick(lens.trace(at)[name], index, name)
    if found.ndim:
        raise RequestError(
            "this names more than one number",
            found=f"{name}{index} has shape {list(found.shape)}",
            hint="give a place on each axis",
        )
    where = ", ".join(str(place) for place in index)
    value = float(found)
    return Answer({"value": value, "text": repr(np.float32(value).item()), "python": f'trace["{name}"][{where}]'})


def pick(array: np.ndarray, index: list[Any], name: str) -> np.ndarray:
    """Index an array by numbers, nulls and [start, stop] pairs. Raises RequestError for an index out of range."""
    if len(index) > array.ndim:
        raise RequestError(
            f"{name} has {array.ndim} axes",
            found=f"{len(index)} places: {index}",
            hint="give at most one place for each axis",
        )
    places: list[int | slice] = []
    for place, size in zip(index, array.shape):
        if place is None:
            places.append(slice(None))
        elif type(place) is int and 0 <= place < size:
            places.append(place)
        elif _is_span(place) and 0 <= place[0] <= place[1] <= size:
            places.append(slice(*place))
        else:
            raise RequestError(
                f"{name} has no such place", found=str(index), where=f"shape {list(array.shape)}", hint="count from 0"
            )
    return np.asarray(array[tuple(places)])


def _is_span(place: Any) -> bool:
    return isinstance(place, list) and len(place) == 2 and all(type(end) is int for end in place)


METHODS = {"record": record, "array": array, "cell": cell}
SHOWS = dict.fromkeys(METHODS, EVERY)
