"""Every error that Pellucid raises on purpose, on one page.

    PellucidError                 what went wrong · found · where · what to try
    ├── SettingsError             a setting that is unknown, of the wrong type or out of range
    ├── InputError                a person's files: missing, empty, broken
    │   ├── DecodingError         bytes that are not UTF-8 (says at which offset)
    │   └── RecordError           a row of a .jsonl or .parquet file (says which line)
    ├── TokenizerError            a tokenizer that cannot be read, trained or used
    ├── ModelError                a model whose parts do not fit together
    ├── StoreError                the disk
    │   ├── CorruptFileError      contents that do not match their hash, or cannot be read
    │   ├── WeightsError          weights that are missing, left over or of another shape
    │   ├── LockedError           another process is writing here
    │   ├── NoSpaceError          the disk is full; nothing older was touched
    │   └── FetchError            a model that cannot be fetched by its name
    │       └── BrokenOffError    the connection or the server gave up: the same call goes on from there
    ├── RequestError              what was asked of a model
    │   ├── SamplingError         temperature, top_k, top_p, seed out of range
    │   ├── ContextError          more tokens than the context holds
    │   └── NotShownError         what the lens cannot show of a model of this kind
    ├── EngineError               the engine cannot run this here, or now
    │   ├── OutOfPagesError       no memory is left for keys and values
    │   ├── QueueFullError        too many requests wait
    │   └── CancelledRequestError it was given up, or the service was closed
    ├── TrainingError             the run
    │   ├── DoesNotFitError       the plan needs more than the machine has
    │   ├── NonFiniteError        the loss became NaN or infinite twice at the same step
    │   └── ResumeError           the directory holds a run that this command cannot continue
    └── MissingExtraError         an optional package is not installed

Each carries the same four sentences, so that a person always learns what to do next.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager


class PellucidError(Exception):
    """A failure that Pellucid understands: what happened, what was found, where, and what to try.

    >>> print(PellucidError("the file is empty", where="book.txt", hint="give a file with text in it"))
    the file is empty
      where: book.txt
      try:   give a file with text in it
    """

    def __init__(self, what: str, *, found: str = "", where: str = "", hint: str = "") -> None:
        super().__init__(what)
        self.what, self.found, self.where, self.hint = what, found, where, hint

    def __str__(self) -> str:
        parts = [("found:", self.found), ("where:", self.where), ("try:  ", self.hint)]
        return "\n".join([self.what, *(f"  {label} {text}" for label, text in parts if text)])

    def to_dict(self) -> dict[str, str]:
        """The same four sentences for machines (`--json`)."""
        return {
            "error": type(self).__name__,
            "what": self.what,
            "found": self.found,
            "where": self.where,
            "try": self.hint,
        }


@contextmanager
def advised(hint: str) -> Iterator[None]:
    """Add a hint to a PellucidError that has none: the caller that reads a file knows what the file is for.

    >>> with advised("write it again"):
    ...     raise CorruptFileError("cannot read notes.json")
    Traceback (most recent call last):
    ...
    pellucid.errors.CorruptFileError: cannot read notes.json
      try:   write it again
    """
    try:
        yield
    except PellucidError as error:
        error.hint = error.hint or hint
        raise


class SettingsError(PellucidError): ...


class InputError(PellucidError): ...


class DecodingError(InputError): ...


class RecordError(InputError): ...


class TokenizerError(PellucidError): ...


class ModelError(PellucidError): ...


class StoreError(PellucidError): ...


class CorruptFileError(StoreError): ...


class WeightsError(StoreError): ...


class LockedError(StoreError): ...


class NoSpaceError(StoreError): ...


class FetchError(StoreError): ...


class BrokenOffError(FetchError): ...


class RequestError(PellucidError): ...


class SamplingError(RequestError): ...


class ContextError(RequestError): ...


class NotShownError(RequestError): ...


class EngineError(PellucidError): ...


class OutOfPagesError(EngineError): ...


class QueueFullError(EngineError): ...


class CancelledRequestError(EngineError): ...


class TrainingError(PellucidError): ...


class DoesNotFitError(TrainingError): ...


class NonFiniteError(TrainingError): ...


class ResumeError(TrainingError): ...


class MissingExtraError(PellucidError): ...


def install(package: str) -> str:
    """The command that installs a package into the Python that is running, which need not be the one called `pip`."""
    return f"{shlex.quote(sys.executable or 'python')} -m pip install {package}"
