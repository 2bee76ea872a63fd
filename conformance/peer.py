"""The judges' own Python environment, asked from here: nothing of theirs is imported by us, nothing of ours by them."""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Peer:
    """The path of a Python that has the judges."""

    python: str

    def ask(self, question: Mapping[str, Any], texts: Sequence[str]) -> Any:
        """What `judges.py` answers about texts; nobody is asked about none."""
        if not texts:
            return []
        with tempfile.TemporaryDirectory() as directory:
            asked, answered = Path(directory) / "question.json", Path(directory) / "answer.json"
            asked.write_text(json.dumps({**question, "texts": list(texts)}), encoding="utf-8")
            command = [self.python, str(HERE / "judges.py"), str(asked), str(answered)]
            ran = subprocess.run(command, capture_output=True, text=True, timeout=7200)
            if ran.returncode or not answered.is_file():
                raise RuntimeError(f"{question['judge']} fails: {ran.stderr[-800:]}")
            return json.loads(answered.read_text(encoding="utf-8"))
