"""The command line run in the process of the tests, piped."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import NamedTuple

import pytest
import torch

from pellucid.cli.app import main
from pellucid.cli.language import ask


class Outcome(NamedTuple):
    """What a command answered."""

    code: int
    out: str
    err: str


def call(*arguments: object, stdin: bytes = b"") -> Outcome:
    """Run a command: `call("plan", "gpt3")`."""
    out, err = io.StringIO(), io.StringIO()
    with (
        pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err),
        pytest.raises(SystemExit) as ended,
    ):  # fmt: skip
        patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin), encoding="utf-8"))
        main([str(argument) for argument in arguments])
    return Outcome(ended.value.code, out.getvalue(), err.getvalue())


@contextmanager
def undone() -> Iterator[None]:
    """At the end, undo what commands set for the process."""
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)
    ask(None)  # the language
    torch.use_deterministic_algorithms(False)
