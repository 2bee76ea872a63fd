"""The first questions of the page: what was recorded, and any part of it by name, whole or cell by cell."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from pellucid.errors import RequestError
from pellucid.lens.answer import Answer, At

if TYPE_CHECKING:
    from pellucid.lens.desk import Desk


def record(desk: Desk, *, at: At) -> Answer:
    """The header of the recording of a text: model, tokens, arrays by name, checks."""
    return Answer(desk.trace(at).header)


def array(desk: Desk, *, at: At, name: str, index: list | None = None) -> Answer:
    """One array, or the part of it at `index`: a number, null or [start, stop] for each axis from the first."""
    found = pick(desk.trace(at)[name], index or [], name)
    return Answer({"name": name, "shape": list(found.shape)}, {name: at.pack(found)})


def cell(desk: Desk, *, at: At, name: str, index: list) -> Answer:
    """One exact number of an array (null where it is minus infinity), as it reads in Python."""
    found = pick(desk.trace(at)[name], index, name)
    if found.ndim:
        raise RequestError("this names more than one number", found=f"{name}{index} has shape {list(found.shape)}")
    where = ", ".join(str(place) for place in index)
    value = float(found)
    return Answer({"value": value, "text": repr(np.float32(value).item()), "python": f'trace["{name}"][{where}]'})


def pick(array: np.ndarray, index: list[Any], name: str) -> np.ndarray:
    """A part of an array by numbers, nulls and [start, stop] pairs. Raises RequestError for places outside it."""
    if len(index) > array.ndim:
        raise RequestError(f"{name} has {array.ndim} axes", found=f"{len(index)} places: {index}")
    places: list[int | slice] = []
    for place, size in zip(index, array.shape):
        if place is None:
            places.append(slice(None))
        elif type(place) is int and 0 <= place < size:
            places.append(place)
        elif _is_span(place) and 0 <= place[0] <= place[1] <= size:
            places.append(slice(*place))
        else:
            raise RequestError(f"{name} has no such place", found=str(index), where=f"shape {list(array.shape)}")
    return np.asarray(array[tuple(places)])


def _is_span(place: Any) -> bool:
    return isinstance(place, list) and len(place) == 2 and all(type(end) is int for end in place)


METHODS = {"record": record, "array": array, "cell": cell}
