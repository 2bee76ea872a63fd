"""The text of one row of .jsonl or .parquet: its field, and the treatment of missing text and lone surrogates."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from pellucid.data.decoding import TextDecoder
from pellucid.data.weights import Span, read_spans
from pellucid.errors import RecordError
from pellucid.setting_values import nearest

FLAGS = ("--field", "--errors")
LEAVE_OUT = "--errors replace leaves such rows out and counts them"
MEND = "mend the row, or remove it"


@dataclass(frozen=True, kw_only=True)
class ReadOptions:
    """How the bytes of a source become text."""

    field: str
    errors: Literal["strict", "replace"]
    encoding: str
    newlines: Literal["lf", "keep"]
    weights: str | None = None  # the field of a row that holds its weighted spans
    flags: tuple[str, ...] = (
        FLAGS  # with which a person names the field here, and leaves rows out: hints name no others
    )


@dataclass(frozen=True, kw_only=True)
class RowText:
    """The text of a row, and its weights."""

    text: str | None  # None where there is none, and such rows are to be left out
    spans: tuple[Span, ...]  # its weighted spans
    is_weighed: bool  # whether the row has the field of weights


def read_row(line: bytes, number: int, options: ReadOptions, decoder: TextDecoder) -> RowText | None:
    """A line of .jsonl; None for an empty one, usually the last.

    Raises RecordError for a line that is not a row, DecodingError for bytes that are not UTF-8.
    """
    where = f"{decoder.origin}, line {number:,}"
    row = decoder.decode(line, where)
    if row.isspace():
        return None
    values = object_of(row, where)
    text = _field_of(values, options, where)
    text = None if text is None else _without_surrogates(text, where, decoder)
    spans = _spans_of(values, text, options, where)
    return RowText(text=text, spans=spans, is_weighed=options.weights in values)


def object_of(row: str, where: str) -> Mapping[str, object]:
    """The JSON object of a row. Raises RecordError for anything else."""
    try:
        value = json.loads(row)
    except (ValueError, RecursionError) as error:
        hint = 'every line must be one JSON object, such as {"text": "…"}'
        raise RecordError("the row is not valid JSON", found=str(error), where=where, hint=hint) from None
    if not isinstance(value, Mapping):
        raise RecordError(
            "the row is not a JSON object", found=type(value).__name__, where=where, hint='write {"text": "…"}'
        )
    return value


def _spans_of(values: Mapping[str, object], text: str | None, options: ReadOptions, where: str) -> tuple[Span, ...]:
    """The weighted spans of a row's text; without any, all of it weighs 1."""
    if (
        options.weights is None or text is None or not text.strip()
    ):  # a row without text is left out, whatever else it says
        return ()
    value = values.get(options.weights)
    return () if value is None else read_spans(value, len(text), options.weights, where)


def _field_of(value: Mapping[str, object], options: ReadOptions, where: str) -> str | None:
    """The text of a row; None for a row without one, where such rows are to be left out."""
    field = options.field
    if value.get(field) is None and options.errors == "replace":
        return None
    if field not in value:
        found = f"the fields {', '.join(map(repr, list(value)[:10]))}" if value else "an empty object"
        raise RecordError(
            f"the row has no field {field!r}",
            found=found,
            where=where,
            hint=_another_field_or_less(options),
        )
    if value[field] is None:
        what = f"the field {field!r} is null: there is no text"
        raise RecordError(what, found="null", where=where, hint=_without_text(options))
    if not isinstance(value[field], str):
        raise RecordError(
            f"the field {field!r} is not text",
            found=type(value[field]).__name__,
            where=where,
            hint=_another_field(options),
        )
    return str(value[field])


def _another_field(options: ReadOptions) -> str:
    """What to do where the text is not in this field."""
    if not options.flags:
        return f"call the field that holds the text {options.field!r}"
    return f"name the field that holds the text: {options.flags[0]} …"


def _another_field_or_less(options: ReadOptions) -> str:
    """What to do where the text is not in this field, or some rows have none."""
    if not options.flags:
        return f"call the field that holds the text {options.field!r}; mend the row, or remove it"
    if "--errors" in options.flags:
        return f"name the field that holds the text: {options.flags[0]} …; --errors replace leaves such rows out and counts them"
    return f"name the field that holds the text: {options.flags[0]} …; mend the row, or remove it"


def _without_text(options: ReadOptions) -> str:
    """What to do about a row without text."""
    return LEAVE_OUT if "--errors" in options.flags else MEND


def _without_surrogates(text: str, where: str, decoder: TextDecoder) -> str:
    r"""Replace or refuse lone surrogates: JSON can spell half of a character ("\ud83d"), which UTF-8 cannot."""
    try:
        text.encode()
        return text
    except UnicodeEncodeError as error:
        if decoder.errors == "strict":
            found = f"half of a character, {text[error.start]!a}, at character {error.start:,} of the text"
            raise RecordError(
                "the row's text is not valid Unicode",
                found=found,
                where=where,
                hint="mend the row, or --errors replace puts U+FFFD there",
            ) from None
    mended = "".join("\ufffd" if "\ud800" <= character <= "\udfff" else character for character in text)
    decoder.num_replaced += sum("\ud800" <= character <= "\udfff" for character in text)
    return mended


def column_of(
    names: list[str], iter_batches: Callable, name: str, options: ReadOptions
) -> Iterator[tuple[str | None, int]]:
    """The texts of a column with the numbers of their rows; None for a row without one."""
    if options.field not in names:
        found = f"the columns {', '.join(map(repr, names[:10]))}"
        raise RecordError(
            f"there is no column {options.field!r}", found=found, where=name, hint=nearest(options.field, names)
        )
    number = 0
    for batch in iter_batches(batch_size=256, columns=[options.field]):
        for text in batch.column(0).to_pylist():
            number += 1
            where = f"{name}, row {number:,}"
            if text is None and options.errors == "strict":
                what = f"the column {options.field!r} is null: there is no text"
                raise RecordError(what, found="null", where=where, hint=_without_text(options))
            if text is not None and not isinstance(text, str):
                raise RecordError(
                    f"the column {options.field!r} is not text",
                    found=type(text).__name__,
                    where=where,
                    hint=_another_field(options),
                )
            yield text, number
