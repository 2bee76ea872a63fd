"""The size of a text, counted in one pass: documents, characters, bytes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from pellucid.data.document import Document


@dataclass(frozen=True, kw_only=True)
class Survey:
    """The number of documents, characters and bytes of a text."""

    num_documents: int
    num_characters: int
    num_bytes: int  # UTF-8
    largest: int  # UTF-8 bytes of the largest document


def survey(documents: Iterable[Document]) -> Survey:
    """Count documents, characters and bytes in one pass.

    >>> survey([Document(text="你好", origin="a"), Document(text="hi", origin="b")])
    Survey(num_documents=2, num_characters=4, num_bytes=8, largest=6)
    """
    num_documents = num_characters = num_bytes = size = largest = 0
    for document in documents:
        length = len(document.text) if document.text.isascii() else len(document.text.encode())
        size = length if document.part == 0 else size + length
        largest = max(largest, size)
        num_characters += len(document.text)
        num_bytes += length
        num_documents += document.last
    return Survey(num_documents=num_documents, num_characters=num_characters, num_bytes=num_bytes, largest=largest)
