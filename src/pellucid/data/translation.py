"""Convert text in any encoding to UTF-8, piece by piece, so that all later code knows only UTF-8.

The chosen encoding is reported; a guess is reported with a decoded line, so that a person sees whether it is right.
"""

from __future__ import annotations

import codecs
import io
from typing import Any, BinaryIO

from pellucid.data.decoding import BLOCK_BYTES, TextDecoder
from pellucid.data.encodings import REPLACEMENT, UTF8, Recognised, advise, decode, recognise
from pellucid.errors import DecodingError
from pellucid.events import Event

CHUNK_BYTES = 1 << 16


def as_utf8(stream: BinaryIO, told: str, decoder: TextDecoder) -> BinaryIO:
    """The bytes of a text as UTF-8 for `decoder`: `stream` itself, from its start, or a stream that converts it.

    Reading a converting stream raises DecodingError at bytes that are not in its encoding. If the decoder replaces such
    bytes, the stream does so too, and the decoder counts them.
    """
    head = stream.read(BLOCK_BYTES)
    stream.seek(0)
    found = recognise(head, whole=len(head) < BLOCK_BYTES, told=told)
    _report(found, head, decoder)
    return stream if found.encoding == UTF8 else io.BufferedReader(Translator(stream, found.encoding, decoder))


def _report(found: Recognised, head: bytes, decoder: TextDecoder) -> None:
    origin, name, level = decoder.origin, found.encoding.upper(), "info"
    if found.how == "guess":
        message = f"{origin}: not UTF-8; read as {name}, which fits its first {len(head):,} bytes: “{found.line}”"
        message, level = f"{message} (if that is wrong: --encoding NAME)", "warning"
    elif found.how == "mark":
        message = f"{origin}: read as {name}, as its byte-order mark says"
    elif found.how == "told" and found.encoding != UTF8 and not head.isascii() and decode(head, UTF8, whole=False):
        message, level = f"{origin}: read as {name}, as asked, but its beginning is valid UTF-8", "warning"
    else:
        return
    data = {"origin": origin, "encoding": found.encoding, "line": found.line}
    decoder.recorder.record(Event(name=f"data.encoding_{found.how}", message=message, data=data, level=level))


class Translator(io.RawIOBase):
    """A stream of UTF-8, read from a stream in another encoding."""

    def __init__(self, stream: BinaryIO, encoding: str, decoder: TextDecoder) -> None:
        self.stream, self.decoder, self.offset = stream, decoder, 0
        self.waiting, self.ended = b"", False
        decoder.encoding = encoding.upper()
        make = codecs.getincrementaldecoder(encoding)
        self.codec = make(decoder.errors)
        self.dropping = make("ignore") if decoder.errors == "replace" else None  # beside it, to count what is replaced

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:  # any writable buffer
        while not self.waiting and not self.ended:
            self._translate()
        count = min(len(buffer), len(self.waiting))
        buffer[:count], self.waiting = self.waiting[:count], self.waiting[count:]
        return count

    def _translate(self) -> None:
        chunk = self.stream.read(CHUNK_BYTES)
        self.ended = not chunk
        try:
            text = self.codec.decode(chunk, final=self.ended)
        except UnicodeError as error:
            raise self._fault(error, chunk) from None
        if self.dropping is not None:
            kept = self.dropping.decode(chunk, final=self.ended)
            self.decoder.num_replaced += text.count(REPLACEMENT) - kept.count(REPLACEMENT)
            self.decoder.check_share(len(text), chunk, 0)
        self.offset += len(chunk)
        self.waiting = text.encode("utf-8")

    def _fault(self, error: UnicodeError, chunk: bytes) -> DecodingError:
        what, where = f"the text is not {self.decoder.encoding}", self.decoder.origin
        if not isinstance(error, UnicodeDecodeError):  # UTF-16 and UTF-32 without a mark
            hint = "name its byte order: --encoding utf-16-le or utf-16-be"
            return DecodingError(what, found=str(error), where=where, hint=hint)
        before = len(error.object) - len(chunk)  # bytes of an unfinished character, kept from the last chunk
        at = f"byte offset {self.offset - before + error.start:,}"
        found = f"byte 0x{error.object[error.start]:02X} at {at} ({error.reason})"
        tried = self.decoder.encoding.lower()
        hint = advise(error.object, error.start, tried=tried)
        return DecodingError(what, found=found, where=where, hint=hint)
