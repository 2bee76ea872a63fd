"""Threads that wait do not keep others from a core; whoever has chosen how they wait is left alone."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

CHOICES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
PROGRAM = "import os, pellucid; print([os.environ.get(name) for name in ('OMP_WAIT_POLICY', 'GOMP_SPINCOUNT')])"


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [
        ({}, [None, "10000"]),
        ({"OMP_WAIT_POLICY": "active"}, ["active", None]),
        ({"GOMP_SPINCOUNT": "0"}, [None, "0"]),
    ],
)
def test_importing_the_package_says_how_threads_wait(chosen: dict[str, str], expected: list[str | None]) -> None:
    environment = {name: value for name, value in os.environ.items() if name not in CHOICES} | chosen
    out = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, env=environment, check=True)
    assert out.stdout.strip() == str(expected)
