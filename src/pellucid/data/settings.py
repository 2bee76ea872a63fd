"""Settings of the data: where the text is in a row, how its bytes are read, how much is held out for validation.

Plain values only: nothing is read here, and no torch is imported. The caller names the text itself, so the same
settings serve any number of texts.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pellucid.data.encodings import AUTO, UTF8
from pellucid.settings import Named, setting

RowKind = Literal["stream", "documents", "pairs"]
FolderKind = Literal["once", "follow", "plain"]
MOST_POOL = 4096  # updates whose rows are sorted by length together

# The behaviour before each of these settings existed. A run of that time continues with these values, to the bit. They
# are written neither into its run.json nor into the identity of its tokens.
BEFORE = {"encoding": UTF8, "newlines": "keep", "folders": "plain", "rows": "stream", "weights": None, "source": None}
ONCE_DEFAULT = {"folders": "follow"}  # defaults of later runs, which are written into their run.json, and stay theirs


@dataclass(frozen=True, kw_only=True)
class DataSettings(Named):
    """How text becomes training and validation data.

    >>> DataSettings().valid_fraction
    0.1
    """

    field: str = setting("text", "the field of a .jsonl row or the column of a .parquet file that holds the text")
    errors: Literal["strict", "replace"] = setting(
        "strict",
        "bytes that are not of the encoding and rows without text: stop and say where, or put U+FFFD, leave out, and count",
    )
    source: str | None = setting(
        None,
        "with rows=pairs: the field, or the number of the column, that holds the source; data.field then holds the target",
    )
    weights: str | None = setting(
        None, "the field of a .jsonl row that says what counts how much: [[first, last + 1, weight], …] in characters"
    )
    encoding: str = setting(
        AUTO, "how bytes become text: auto is UTF-8, or what a mark says, or GB18030 where it must be that; or a name"
    )
    newlines: Literal["lf", "keep"] = setting("lf", "CRLF and lone CR: read as LF and counted, or kept as they are")
    folders: FolderKind = setting(
        "once",
        "follow links, each real folder and file once, and leave out folders that hold a run or a model; (follow) a file"
        " again for each link to it; (plain) links to folders not followed, no folder left out",
    )
    valid_fraction: float = setting(
        0.1, "share of the text held out for validation; 0 holds nothing out", low=0, high=0.5
    )
    valid_bytes: int = setting(4_000_000, "at most about this much text is held out, in UTF-8 bytes", low=1)
    valid_file: Path | None = setting(None, "a file or folder to validate on instead of holding text out")
    shard_tokens: int = setting(1 << 27, "tokens per shard file (2 bytes each up to a vocabulary of 65,536)", low=1)
    rows: RowKind = setting(
        "stream",
        "what a row of training holds: the next piece of the whole text, one document and padding, or a pair of texts",
    )
    report_duplicates: bool = setting(True, "look for validation text that also occurs in the training text")
