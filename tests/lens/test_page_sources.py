"""The page's own tests and checks, run where Node is: what `npm test` and `npm run check` say in web/."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from pellucid.store.envelope import Envelope, Quantized, decode, encode

WEB = Path(__file__).parents[2] / "web"


def run_npm(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    npm = shutil.which("npm")
    if npm is None or not (WEB / "node_modules").is_dir():
        pytest.skip("there is no Node here, or web/node_modules is not installed: the page's own tests are not run")
    return subprocess.run(
        [npm, *arguments],
        cwd=WEB,
        env={**os.environ, "NO_COLOR": "1", "CI": "true", **environment},
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        timeout=300,
        check=False,
    )


def test_the_pages_own_tests_pass_and_its_envelopes_are_pythons(tmp_path: Path):
    arrays = {
        code: np.array([[0, 1, 2], [100, 50, 7]], dtype=f"<{code}")
        for code in ("f2", "f4", "f8", "u1", "u4", "i4", "i8")
    }
    rounded = Quantized(stored=np.array([0, 4, 255], dtype=np.uint8), scale=0.5, zero=-1.0)
    value = {name: array.astype(float).ravel().tolist() for name, array in arrays.items()} | {
        "rounded": [-1.0, 1.0, 126.5]
    }
    written = tmp_path / "envelope"
    written.write_bytes(encode(Envelope(value, {**arrays, "rounded": rounded})))

    ran = run_npm("test", PELLUCID_ENVELOPE=str(written))

    assert ran.returncode == 0, ran.stdout[-4000:] + ran.stderr[-2000:]
    passed = re.search(r"Tests\s+(\d+) passed", ran.stdout)
    assert passed is not None and int(passed[1]) > 40, ran.stdout[-2000:]
    back = decode((tmp_path / "envelope.back").read_bytes())
    assert back.value == value
    for name, array in arrays.items():
        np.testing.assert_array_equal(back.arrays[name], array, strict=True)
    assert back.arrays["rounded"].restore().tolist() == value["rounded"]


def test_the_pages_types_are_right_and_its_markup_is_accessible():
    ran = run_npm("run", "check")
    assert ran.returncode == 0, ran.stdout[-4000:] + ran.stderr[-2000:]
