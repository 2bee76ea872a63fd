"""config.json files as people publish them, by the model's name.

Each has its source: the public repository, the path in it and the commit, or the thread where it was found.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

FILES: dict[str, Any] = json.loads(Path(__file__).with_suffix(".json").read_text(encoding="utf-8"))
