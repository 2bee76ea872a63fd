"""The train/validation split: which text is trained on and which is held out for validation.

    by document   where there are enough documents. A document is held out when the hash of its text, read as a number
                  in [0, 1), is below the fraction. All parts of a document go to the same side.
                  A document that follows another (the target of a pair) goes where that one goes.
    by cut        otherwise, for example for one long book. The last part of the text, to the character, is held out.
                  Pairs are never cut: where they are too few, none is held out.

The hash depends on the text alone, so equal texts are on the same side, and adding text never moves a document from
training to validation. Neither way looks at tokens, so the same text is held out whatever the tokenizer, and bits per
byte can be compared.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

from pellucid.counts import counted
from pellucid.data.document import Document
from pellucid.data.settings import DataSettings
from pellucid.data.survey import Survey
from pellucid.data.weights import spans_within

Side = Literal["train", "valid"]

MIN_DOCUMENTS_HELD_OUT = 8  # with fewer expected, the choice of documents would be luck
MOST_HELD_OUT = 0.5  # of the text, however alike its documents are
MIN_BYTES_HELD_OUT = 200  # less says nothing about a model, and so small a text needs every word for training


@dataclass(frozen=True, kw_only=True)
class Split:
    """How the text is divided, and the reason in one sentence."""

    method: Literal["none", "documents", "cut"]
    reason: str
    fraction: float = 0.0  # method "documents": the share of documents held out
    cut: int = 0  # method "cut": characters of the whole text that are trained on; the rest is held out


def choose_split(seen: Survey, settings: DataSettings) -> Split:
    """Choose how validation text is held out: by document or by cut.

    >>> book = Survey(num_documents=1, num_characters=1_115_394, num_bytes=1_115_394, largest=1_115_394)
    >>> choose_split(book, DataSettings()).cut
    1003854
    """
    if settings.valid_fraction == 0:
        return Split(method="none", reason="nothing is held out: valid_fraction is 0")
    fraction = min(settings.valid_fraction, settings.valid_bytes / seen.num_bytes)
    if seen.num_bytes * fraction < MIN_BYTES_HELD_OUT:
        return Split(method="none", reason=f"nothing is held out: the text has only {counted(seen.num_bytes, 'byte')}")
    if settings.rows == "pairs" and seen.num_documents * fraction < 2 * MIN_DOCUMENTS_HELD_OUT:
        reason = f"nothing is held out: too few to choose from ({counted(seen.num_documents // 2, 'pair')})"
        return Split(method="none", reason=reason)
    if seen.num_documents * fraction < MIN_DOCUMENTS_HELD_OUT:
        return _cut(seen, fraction, f"too few documents to choose from ({seen.num_documents:,})")
    if seen.largest > seen.num_bytes * fraction and settings.rows != "pairs":
        why = f"one document alone, of {seen.largest:,} bytes, is more than should be held out"
        return _cut(seen, fraction, why)
    if settings.rows == "pairs":
        pairs = seen.num_documents // 2  # each is two documents, the source and its target
        reason = f"about {fraction:.2%} of {counted(pairs, 'pair')} are held out, chosen by the hash of their source"
    else:
        found = seen.num_documents
        reason = f"about {fraction:.2%} of {counted(found, 'document')} are held out, chosen by the hash of their text"
    return Split(method="documents", reason=reason, fraction=fraction)


def mended(split: Split, seen: Survey, num_held_out: int, settings: DataSettings) -> Split | None:
    """Another split, when the one by document held out nothing or most of the text; None when it did well.

    Equal texts have equal hashes, so with many rows of few different texts the hash may hold out none or nearly all.
    """
    if split.method != "documents" or 0 < num_held_out <= MOST_HELD_OUT * seen.num_bytes:
        return None
    if settings.rows == "pairs":
        return Split(
            method="none", reason="nothing is held out: the sources are too much alike to choose by their hash"
        )
    why = f"the documents are too much alike to choose by their hash, which takes {num_held_out / seen.num_bytes:.0%}"
    return _cut(seen, split.fraction, why)


def _cut(seen: Survey, fraction: float, why: str) -> Split:
    reason = f"the last {fraction:.2%} of the text is held out: {why}"
    return Split(method="cut", reason=reason, cut=int(seen.num_characters * (1 - fraction)))


def divide(documents: Iterable[Document], split: Split) -> Iterator[tuple[Side, Document]]:
    """Each document, or part of one, with its side of the split."""
    if split.method == "documents":
        return _by_document(documents, split.fraction)
    if split.method == "cut":
        return _by_cut(documents, split.cut)
    return (("train", document) for document in documents)


def _by_document(documents: Iterable[Document], fraction: float) -> Iterator[tuple[Side, Document]]:
    side: Side = "train"
    for document in documents:
        if document.part == 0 and not document.follows:
            side = "valid" if position_of(document.text.encode()) < fraction else "train"
        yield side, document


def position_of(data: bytes) -> float:
    """The hash of a text as a number in [0, 1), the same on every machine.

    >>> 0 <= position_of(b"Once upon a time") < 1
    True
    """
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little") / 2**64


def _by_cut(documents: Iterable[Document], cut: int) -> Iterator[tuple[Side, Document]]:
    position, part = 0, 0  # characters before this document; the next part number on the validation side
    for document in documents:
        end = position + len(document.text)
        part = 0 if document.part == 0 else part
        if end <= cut:
            # Where the cut falls exactly between two parts, the text ends here for training.
            yield "train", replace(document, last=document.last or end == cut)
        elif position < cut:
            yield "train", _part_of(document, 0, cut - position, last=True)
            yield "valid", _part_of(document, cut - position, len(document.text), part=0)
            part = 1
        else:
            yield "valid", replace(document, part=part)
            part += 1
        position = end


def _part_of(document: Document, start: int, stop: int, **marks: Any) -> Document:
    weights = spans_within(document.weights, start, stop)
    return replace(document, text=document.text[start:stop], weights=weights, **marks)
