"""The peer of `time_to_loss`: karpathy/nanoGPT's two character recipes, run from a checkout, never imported.

The checkout is copied. The three files of its `data/shakespeare_char/prepare.py` are written from the same text by the
same rule (sorted characters, the first 90 % for training). Then its own `train.py` runs with the command line of its
README. Only its steps count: start-up is left out, and a step that was logged together with an evaluation counts as the
median step. Both choices favour the peer.
"""

from __future__ import annotations

import json
import pickle
import re
import shutil
import statistics
import subprocess
import sys
from pathlib import Path

import numpy as np

CPU_RECIPE = [
    "--device=cpu",
    "--compile=False",
    "--eval_iters=20",
    "--log_interval=1",
    "--block_size=64",
    "--batch_size=12",
    "--n_layer=4",
    "--n_head=4",
    "--n_embd=128",
    "--max_iters=2000",
    "--lr_decay_iters=2000",
    "--dropout=0.0",
]
GPU_RECIPE = ["--device=cpu", "--compile=False", "--eval_iters=1", "--log_interval=1", "--eval_interval=1000000"]
GPU_STEPS = 5000  # of the whole recipe
GPU_BEST_STEP = 1750  # where its validation loss is lowest (1.4697); afterwards it rises
ITERATION = re.compile(r"^iter (\d+): loss ([\d.]+), time ([\d.]+)ms", re.MULTILINE)
EVALUATION = re.compile(r"^step (\d+): train loss", re.MULTILINE)

# Run inside the checkout: the whole validation part in windows of the context at stride = context, in fp32.
SCORE = """
import json, sys
import numpy as np, torch
from model import GPT, GPTConfig
saved = torch.load(sys.argv[1], map_location="cpu")
model = GPT(GPTConfig(**saved["model_args"]))
model.load_state_dict(saved["model"])
model.eval()
ids = torch.from_numpy(np.fromfile("data/shakespeare_char/val.bin", dtype=np.uint16).astype(np.int64))
length, nats = saved["model_args"]["block_size"], 0.0
whole = (len(ids) - 1) // length * length
inputs, targets = ids[:whole].view(-1, length).split(64), ids[1 : whole + 1].view(-1, length).split(64)
with torch.no_grad():
    for x, y in [*zip(inputs, targets), (ids[None, whole:-1], ids[None, whole + 1 :])]:
        if x.numel():
            nats += model(x, y)[1].item() * x.numel()
parameters = sum(p.numel() for p in model.parameters())
print(json.dumps({"loss": nats / (len(ids) - 1), "step": saved["iter_num"], "parameters": parameters}))
"""


def prepare(checkout: Path, text: Path, folder: Path) -> Path:
    """Copy the checkout into `folder` and make its data from `text`."""
    copy = folder / "nanogpt"
    shutil.copytree(checkout, copy, ignore=shutil.ignore_patterns(".git"))
    data = text.read_bytes().decode("utf-8")
    characters = sorted(set(data))
    ids = {character: place for place, character in enumerate(characters)}
    cut = int(len(data) * 0.9)
    target = copy / "data" / "shakespeare_char"
    for name, part in (("train.bin", data[:cut]), ("val.bin", data[cut:])):
        np.array([ids[character] for character in part], dtype=np.uint16).tofile(target / name)
    meta = {"vocab_size": len(characters), "itos": dict(enumerate(characters)), "stoi": ids}
    (target / "meta.pkl").write_bytes(pickle.dumps(meta))
    return copy


def run_cpu_recipe(copy: Path, steps: int) -> dict[str, float]:
    """Run its CPU recipe to the end (`steps` is 2,000 there): seconds of its steps, and the loss of its checkpoint."""
    length = [f"--max_iters={steps}", f"--lr_decay_iters={steps}", f"--eval_interval={min(250, steps)}"]
    seconds, num_steps = _train(copy, [*CPU_RECIPE, *length])
    command = [sys.executable, "-c", SCORE, "out-shakespeare-char/ckpt.pt"]
    scored = subprocess.run(command, cwd=copy, check=True, capture_output=True, text=True)
    return {"seconds": round(seconds, 2), "steps": num_steps, **json.loads(scored.stdout.splitlines()[-1])}


def time_gpu_recipe(copy: Path, steps: int) -> dict[str, float]:
    """Time some steps of its GPU recipe (64 x 256, dropout 0.2); estimate the whole recipe and the part to its best."""
    seconds, num_steps = _train(copy, [*GPU_RECIPE, f"--max_iters={steps}"])
    each = seconds / num_steps
    return {
        "seconds_per_step": round(each, 3),
        "steps_timed": num_steps,
        "best_step": GPU_BEST_STEP,
        "seconds": round(each * GPU_BEST_STEP, 1),
        "seconds_whole_recipe": round(each * GPU_STEPS, 1),
    }


def _train(copy: Path, arguments: list[str]) -> tuple[float, int]:
    """(seconds of all steps without evaluations, number of steps) of one run of its train.py."""
    command = [sys.executable, "-u", "train.py", "config/train_shakespeare_char.py", *arguments]
    ran = subprocess.run(command, cwd=copy, capture_output=True, text=True)
    if ran.returncode:
        raise SystemExit(f"nanoGPT's train.py failed:\n{ran.stderr[-2000:]}")
    evaluated = {int(step) for step in EVALUATION.findall(ran.stdout)}
    times = {int(step): float(milliseconds) / 1000 for step, _, milliseconds in ITERATION.findall(ran.stdout)}
    plain = [seconds for step, seconds in times.items() if step not in evaluated]
    return sum(plain) + statistics.median(plain) * (len(times) - len(plain)), len(times)
