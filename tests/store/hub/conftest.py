from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hub_server import HubServer, only_server


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[HubServer]:
    """A server of models on this computer, and no other."""
    with only_server(tmp_path / "hf") as hub:
        yield hub


@pytest.fixture
def shelf(tmp_path: Path) -> Path:
    """Where the models of a/b are kept."""
    return tmp_path / "hf" / "assets" / "pellucid" / "a--b"
