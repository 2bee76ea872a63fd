from __future__ import annotations

import io
import sys
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from typing import NamedTuple

import pytest
import torch

from pellucid.cli.app import main


class Outcome(NamedTuple):
    """What a command answered."""

    code: int
    out: str
    err: str


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Outcome]]:
    """Run the command line in this process, piped: `run("plan", "gpt3")`, and undo what it set for the process."""

    def call(*arguments: object, stdin: bytes = b"") -> Outcome:
        out, err = io.StringIO(), io.StringIO()
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin), encoding="utf-8"))
        with redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        return Outcome(ended.value.code, out.getvalue(), err.getvalue())

    threads = torch.get_num_threads()
    yield call
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(False)
