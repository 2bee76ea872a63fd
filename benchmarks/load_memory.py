"""How much memory does loading a model take, as a ratio to its file?

    python benchmarks/load_memory.py [--megabytes 300] [--only float32]

A Llama of random weights is written to a folder that is deleted afterwards, and opened by `pellucid.load` in a fresh process,
once in float32 and once in bfloat16, each kept as it is. The measure is the most memory that the process has while it loads
(VmHWM, counted anew once a small model has been loaded, so that imports and compiled loops are no part of it), less what
it had before: pages of its own (RssAnon) and pages of the mapped file (RssFile) together. Hashing the file is part of
it, as at every first load. The promise: at most 1.1 times the file. Linux only.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

from pellucid.planning.config import ModelConfig
from pellucid.planning.params import parameter_shapes
from pellucid.store.checkpoint import save_checkpoint
from pellucid.tokens.train import train_bpe

PROMISED = 1.1
WIDTH = 1024
CHILD = """
import sys
import pellucid
def status():
    lines = [line.split() for line in open("/proc/self/status") if line.startswith(("VmHWM", "VmRSS", "RssAnon", "RssFile"))]
    return {name.rstrip(":"): int(kilobytes) << 10 for name, kilobytes, _ in lines}
small, model, dtype = sys.argv[1:]
pellucid.load(small, device="cpu", dtype=dtype)  # every import is done, and the loops are compiled
open("/proc/self/clear_refs", "w").write("5")  # the peak is counted anew
before = status()
lm = pellucid.load(model, device="cpu", dtype=dtype)
after = status()
print(after["VmHWM"] - before["VmRSS"], after["RssAnon"] - before["RssAnon"], after["RssFile"] - before["RssFile"])
"""


def write(directory: Path, megabytes: int, dtype: torch.dtype) -> Path:
    """A Llama whose weights take about so many bytes."""
    tokenizer = train_bpe(["the cat sat on the mat. " * 30], 300)
    axes = {"vocab_size": tokenizer.vocab_size, "context_length": 256, "n_heads": 16, "n_kv_heads": 16, "head_dim": 64}
    block = 4 * WIDTH**2 + 3 * WIDTH * 4 * WIDTH
    n_layers = max(1, round(megabytes * 1e6 / dtype.itemsize / block))
    config = ModelConfig.from_axes(**axes, n_layers=n_layers, d_model=WIDTH, d_ff=4 * WIDTH, qk_norm=False)
    generator = torch.Generator().manual_seed(0)
    weights = {
        name: (torch.randn(shape, generator=generator) * 0.02).to(dtype)
        for name, shape in parameter_shapes(config).items()
    }
    save_checkpoint(directory, config=config, weights=weights, tokenizer=tokenizer, info={})
    return directory


def measure(small: Path, model: Path, dtype: str) -> float:
    """Load in a fresh process, print, and return the ratio."""
    size = (model / "model.safetensors").stat().st_size
    command = [sys.executable, "-c", CHILD, str(small), str(model), dtype]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    peak, anonymous, mapped = (int(number) / 1e6 for number in ran.stdout.split())
    print(
        f"{dtype}: file {size / 1e6:.0f} MB, peak {peak:.0f} MB: {peak * 1e6 / size:.3f} times the file "
        f"(afterwards {anonymous:.0f} MB of its own, {mapped:.0f} MB of files)",
        flush=True,
    )
    return peak * 1e6 / size


def main() -> int:
    """Write, measure, and return 1 where the promise is broken."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=300)
    parser.add_argument("--only", choices=["fp32", "bf16"])
    asked = parser.parse_args()
    ratios = []
    for name, dtype in {"fp32": torch.float32, "bf16": torch.bfloat16}.items():
        if asked.only in (None, name):
            with tempfile.TemporaryDirectory() as folder:
                small = write(Path(folder) / "small", 1, dtype)
                ratios.append(measure(small, write(Path(folder) / "model", asked.megabytes, dtype), name))
    return int(max(ratios) > PROMISED)


if __name__ == "__main__":
    sys.exit(main())
