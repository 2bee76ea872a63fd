"""Decode UTF-8 bytes to text in bounded memory; every error names its byte offset.

A stream is read in blocks of about one megabyte. A block ends where a paragraph, a line, a word or at least a character
ends. No UTF-8 character contains the byte of a newline, so each block decodes on its own, and a file may be larger than
memory. A byte-order mark at the start is removed and reported. `LineEnds` turns CRLF and a lone CR into one line feed,
unless they are to be kept. Nothing else is changed, neither spaces nor control characters. This module knows bytes, not
files: `source` opens files, and `translation` first turns other encodings into UTF-8.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import BinaryIO, Literal

from pellucid.counts import counted
from pellucid.data.encodings import MARKS, REPLACEMENT, advise
from pellucid.errors import DecodingError, InputError
from pellucid.events import Event, Recorder

BLOCK_BYTES = 1 << 20
FEW_REPLACED, MOST_REPLACED = 100, 0.1  # sequences, and the share of a text, that may become U+FFFD when asked for

_ANY_END = re.compile("\r\n?")
_UTF8_MARK = b"\xef\xbb\xbf"


def text_blocks(stream: BinaryIO, decoder: TextDecoder) -> Iterator[str]:
    """The text of a stream in blocks of at most about one megabyte, cut after a paragraph, line, word or character.

    >>> import io
    >>> from pellucid.events import NULL
    >>> list(text_blocks(io.BytesIO("你好".encode()), TextDecoder("hello.txt", "strict", NULL)))
    ['你好']
    """
    for block in byte_blocks(stream):
        yield decoder.decode(block)
    decoder.finish()


def byte_blocks(stream: BinaryIO, size: int = BLOCK_BYTES) -> Iterator[bytes]:
    """The bytes of a stream in blocks of at most `size` bytes, none of which ends inside a UTF-8 character.

    >>> import io
    >>> list(byte_blocks(io.BytesIO("one two 好".encode()), size=10))
    [b'one two ', b'\\xe5\\xa5\\xbd']
    """
    pending = b""
    while chunk := stream.read(size):
        pending += chunk
        while len(pending) > size:
            cut = _cut(pending, size)
            yield pending[:cut]
            pending = pending[cut:]
    if pending:
        yield pending


def _cut(data: bytes, size: int) -> int:
    for mark in (b"\n\n", b"\n", b" "):
        at = data.rfind(mark, size // 2, size)
        if at >= 0:
            return at + len(mark)
    # Bytes 10xxxxxx continue a character: a cut stands before a byte that does not, and no character has five bytes.
    starts = (at for at in range(size, size - 4, -1) if at > 0 and data[at] & 0xC0 != 0x80)
    return next(starts, size)


class TextDecoder:
    """Decodes the successive blocks of one file and counts bytes, so that an error can name its byte offset.

    Raises DecodingError at bytes that are not UTF-8 (under `errors="replace"` they become U+FFFD and are counted),
    InputError for bytes that are no text at all.

    >>> from pellucid.events import NULL
    >>> TextDecoder("a.txt", "strict", NULL).decode(b"caf\\xe9 noir")
    Traceback (most recent call last):
    ...
    pellucid.errors.DecodingError: the text is not UTF-8
      found: byte 0xE9 at byte offset 3 (invalid continuation byte)
      where: a.txt
      try:   name the encoding whose line reads well: --encoding cp1252 “café noir”, --encoding cp1251 “cafй noir”; or --errors replace puts U+FFFD there
    """

    def __init__(self, origin: str, errors: Literal["strict", "replace"], recorder: Recorder) -> None:
        self.origin, self.errors, self.recorder = origin, errors, recorder
        self.offset = 0
        self.num_replaced = self.num_characters = 0
        self.encoding = "UTF-8"  # what the bytes were before they came here, for people

    def decode(self, block: bytes, where: str = "") -> str:
        """The text of the next block; `where` names a finer place than the file, such as a line."""
        start, self.offset = self.offset, self.offset + len(block)
        if start == 0:
            rest = self._without_mark(block)
            start, block = len(block) - len(rest), rest
        try:
            text = block.decode("utf-8")
        except UnicodeDecodeError as error:
            if self.errors == "strict":
                raise DecodingError(
                    "the text is not UTF-8",
                    found=f"byte 0x{block[error.start]:02X} at byte offset {start + error.start:,} ({error.reason})",
                    where=where or self.origin,
                    hint=advise(block, error.start),
                ) from None
            text = block.decode("utf-8", errors="replace")
            self.num_replaced += text.count(REPLACEMENT) - block.count(REPLACEMENT.encode())
            self.check_share(len(text), block, error.start)
        self.num_characters += len(text)
        return text

    def check_share(self, num_new: int, block: bytes, at: int) -> None:
        """Raise DecodingError when much of the text has become U+FFFD: it is in another encoding, not damaged.

        `num_new` characters of `block` have just been read; the first that could not be is at byte `at`.
        """
        num_read = self.num_characters + num_new
        if self.num_replaced <= FEW_REPLACED or self.num_replaced <= MOST_REPLACED * num_read:
            return
        raise DecodingError(
            f"the text is not {self.encoding}: {self.num_replaced / num_read:.0%} of it would become U+FFFD",
            found=f"{counted(self.num_replaced, 'sequence')} that no {self.encoding} has among {num_read:,} characters",
            where=self.origin,
            hint=advise(block, at, tried=self.encoding.lower(), replacing=True),
        )

    def finish(self) -> None:
        """Report what was replaced, after the last block."""
        if self.num_replaced:
            self.recorder.record(
                Event(
                    name="data.bytes_replaced",
                    message=f"{self.origin}: {counted(self.num_replaced, 'sequence')} that no {self.encoding} has became U+FFFD",
                    data={"origin": self.origin, "count": self.num_replaced},
                    level="warning",
                )
            )

    def _without_mark(self, block: bytes) -> bytes:
        for mark, name in MARKS.items():
            if block.startswith(mark):
                raise DecodingError(
                    f"the text is {name.upper()}, not UTF-8",
                    found=f"its byte-order mark, {mark.hex(' ').upper()}",
                    where=self.origin,
                    hint=f"leave out --encoding utf-8, or give --encoding {name}",
                )
        if b"\x00" in block[:4096]:
            order = (
                "be" if block.index(0) % 2 == 0 else "le"
            )  # of common characters the first byte is zero, or the second
            raise InputError(
                "this is not a text file",
                found=f"a zero byte at byte offset {block.index(0):,}",
                where=self.origin,
                hint="give plain text, and take what is none out of the folder; if it is UTF-16 text without a mark: --encoding"
                f" utf-16-{order}",
            )
        if not block.startswith(_UTF8_MARK):
            return block
        self.recorder.record(
            Event(
                name="data.mark_removed",
                message=f"{self.origin}: the UTF-8 byte-order mark at the start was removed",
                data={"origin": self.origin},
            )
        )
        return block[len(_UTF8_MARK) :]


class LineEnds:
    r"""Turns CRLF and lone CR into one line feed, and counts them.

    >>> ends = LineEnds()
    >>> list(ends.unify(["one\r", "\ntwo\rthree"])), ends.num_crlf, ends.num_cr
    (['one', '\ntwo\nthree'], 1, 1)
    """

    def __init__(self) -> None:
        self.num_crlf = self.num_cr = 0

    def unify(self, texts: Iterable[str]) -> Iterator[str]:
        """Consecutive texts with CRLF and lone CR as LF; a CR at the end of one waits for the next."""
        held = ""
        for text in texts:
            text = held + text
            held = "\r" if text.endswith("\r") else ""
            if whole := text[: len(text) - len(held)]:
                yield self._convert(whole)
        if held:
            yield self._convert(held)

    def _convert(self, text: str) -> str:
        num_crlf = text.count("\r\n")
        self.num_crlf += num_crlf
        self.num_cr += text.count("\r") - num_crlf
        return _ANY_END.sub("\n", text) if "\r" in text else text
