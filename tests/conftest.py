"""The order of the files: those that take longest come first, so that no worker is left with one of them at the end.

And no example of a property has to be done within a time: on a busy machine the same one takes ten times as long. For the
same reason a worker beside others computes with one thread: two workers of two threads each wait for one another.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from hypothesis import settings

settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

if "PYTEST_XDIST_WORKER" in os.environ:
    torch.set_num_threads(1)

TESTS = Path(__file__).parent
LONGEST = (  # by seconds on two cores; the first compiles the loops that many others load
    "engine/test_kernels.py",
    "training/test_fresh_processes.py",
    "training/test_exact_resume.py",
    "lens/browser/test_page.py",
    "lens/browser/test_first_minutes.py",
    "lens/browser/test_learn_page.py",
    "lens/browser/test_chances_page.py",
    "lens/test_page_sources.py",
    "training/test_quickstart.py",
    "test_packaging.py",
    "training/test_pretrain.py",
    "lens/test_interventions.py",
    "lens/browser/test_training_page.py",
    "test_examples.py",
    "store/test_run.py",
    "lens/browser/test_trace_page.py",
    "training/test_own_text.py",
    "training/test_snapshots.py",
    "engine/test_constrain.py",
    "lens/browser/test_why_page.py",
    "lens/browser/test_inside_page.py",
    "cli/test_screen.py",
    "store/test_gguf_damage.py",
    "words/test_catalogue.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest files first; the others, and the tests within a file, keep their order."""
    places = {TESTS / name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path, len(places)))
