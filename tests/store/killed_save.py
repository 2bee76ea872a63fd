"""Kill a saving process at every call by which it changes the disk, and look at what is left.

Run as a script (a fresh, single-threaded process may fork; pytest's may not): each child saves a checkpoint (step 2) of a
run whose step 1 is complete, or step 1 once more, and is killed with SIGKILL at its n-th such call (before it, or after
half of a write). Then the parent opens the run as the next process would. Prints one JSON line per child.
"""

from __future__ import annotations

import gc
import json
import os
import shutil
import signal
import sys
from pathlib import Path

import torch

from pellucid.model.build import build
from pellucid.planning.config import ModelConfig
from pellucid.store.checkpoint import TrainingFiles, load_checkpoint, load_training
from pellucid.store.run import Run

CONFIG = ModelConfig(
    vocab_size=11, context_length=5, n_layers=1, n_heads=2, n_kv_heads=1, head_dim=4, d_model=8, d_ff=9
)
WEIGHTS = {step: build(CONFIG, seed=step).state_dict() for step in (1, 2)}
CALLS = ("mkdir", "open", "write", "fsync", "replace", "unlink", "rmdir")


def save(run: Run, step: int) -> None:
    training = TrainingFiles(tensors={"momentum": torch.full((3,), float(step))}, state={"step": step})
    run.save(step, config=CONFIG, weights=WEIGHTS[step], tokenizer=None, info={}, training=training)
    run.append_metrics({"kind": "train", "step": step, "loss": 1 / step})


def kill_at(number: int, *, half: bool) -> None:
    """From now on, the `number`-th call kills this process; with `half`, the `number`-th write, half done."""
    count = 0

    def watched(name: str):
        original = getattr(os, name)

        def call(*args, **kwargs):
            nonlocal count
            count += name == "write" or not half
            if count == number:
                if half:
                    original(args[0], args[1][: max(1, len(args[1]) // 2)])
                os.kill(os.getpid(), signal.SIGKILL)
            return original(*args, **kwargs)

        return call

    for name in CALLS:
        setattr(os, name, watched(name))


def killed(start: Path, directory: Path, number: int, step: int, *, half: bool) -> bool:
    """Save `step` in a child that dies at its `number`-th call; False when it lived to the end."""
    shutil.rmtree(directory, ignore_errors=True)
    shutil.copytree(start, directory)
    child = os.fork()
    if child == 0:
        run = Run.open(directory)
        with run.lock():
            kill_at(number, half=half)
            save(run, step)
        os._exit(0)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


def look(directory: Path) -> dict:
    """What the next process finds."""
    run = Run.open(directory)
    with run.lock():
        latest = run.latest()
        checkpoint, training = load_checkpoint(latest.directory), load_training(latest.directory)
        whole = all(torch.equal(checkpoint.weights[n], w) for n, w in WEIGHTS[latest.step].items())
        left = [p.name for folder in (directory, directory / "checkpoints") for p in folder.iterdir()]
        return {
            "latest": latest.step,
            "whole": whole and training.state == {"step": latest.step},
            "checkpoints": [saved.step for saved in run.checkpoints()],
            "left over": [name for name in left if name.startswith((".tmp-", ".old-"))],
            "metrics": [row["step"] for row in run.read_metrics()],
        }


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    gc.freeze()  # a child that tidies up would copy the memory that it shares with this process
    os.fsync = lambda descriptor: None  # a kill, unlike a power cut, loses nothing that was written
    start = folder / "start"
    save(Run.create(start, {}), 1)
    for step in (2, 1):
        for half in (False, True):
            number = 1
            while killed(start, folder / "run", number, step, half=half):
                print(json.dumps({"step": step, "killed": True, "half": half, **look(folder / "run")}))
                number += 1
        print(json.dumps({"step": step, "killed": False, "half": False, **look(folder / "run")}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
