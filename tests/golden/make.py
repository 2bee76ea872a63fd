"""Made the files beside it, once, with the program as it was before its rooms were rebuilt (2026-11-27). Kept to say how.

    cd tests/golden && python make.py

`stream` is a run of the whole text as one stream, `documents` one of rows of a document each, sorted by length and
weighted. Each was cut after six of ten updates. `expected.json` says what they came to when they went on: the
last weights, losses, and what the cut models continue a prompt with. `look.plens` is a trace of the first, `recipe.toml` its
settings, written by hand.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import torch

from pellucid import load, trace
from pellucid.data.microworld.story import story
from pellucid.settings import Layer, resolve
from pellucid.store.run import Run
from pellucid.training.loop import Trainer
from pellucid.training.recipes.pretrain import Pretraining, pretrain
from pellucid.training.settings import TrainSettings

SHAPE = {"n_layers": 2, "n_heads": 2, "n_kv_heads": 1, "head_dim": 8, "d_model": 24, "d_ff": 40, "context_length": 48}
COMMON = {
    "steps": 10, "device": "cpu", "threads": 1, "precision": "fp32", "compile": "off", "seed": 5,
    "saving": {"every_steps": 3, "keep_last": 1, "keep_best": False, "snapshot_bytes": 0}, "evaluation": {"every_steps": 5},
}  # fmt: skip
RUNS = {
    "stream": {
        "tokenizer": {"vocab_size": 300}, "model": {**SHAPE, "depth": 2, "dropout": 0.1}, "batch": {"rows": 8, "micro_rows": 4},
        "data": {"valid_fraction": 0.2},
    },
    "documents": {
        "tokenizer": {"vocab_size": 280, "max_han": 1},
        "model": {**SHAPE, "depth": 2, "sliding_window": 8, "sliding_layers": [0], "init": "matched_keys"},
        "batch": {"rows": 6, "pool": 3}, "data": {"rows": "documents", "weights": "weights", "valid_fraction": 0.1},
        "optimizer": {"matrices": "adamw", "clip_norm": 1.0},
    },
}  # fmt: skip
PROMPTS = {"stream": "Anna went", "documents": "小"}


class Cut(BaseException):
    pass


def tell(folder: Path) -> dict[str, Path]:
    """A few stories: as a text, and as rows with weights."""
    told = [story(3, index, level=0, language=("en", "zh")[index % 2]) for index in range(40)]
    (folder / "stream.txt").write_text("\n\n".join(one.text for one in told[:24]), encoding="utf-8")
    rows = [{"text": one.tale, "weights": [[0, 4, 2.0]]} for one in told]
    lines = (json.dumps(row, ensure_ascii=False) for row in rows)
    (folder / "documents.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return {"stream": folder / "stream.txt", "documents": folder / "documents.jsonl"}


def task_of(name: str, text: Path, out: Path) -> Pretraining:
    layers = Layer("golden", COMMON), Layer("golden run", RUNS[name])
    return Pretraining(text=text, out=out, resolved=resolve(TrainSettings, *layers))


def cut_after(steps: int, task: Pretraining) -> None:
    honest = Trainer.update

    def update(trainer: Trainer):
        if trainer.step == steps:
            raise Cut
        return honest(trainer)

    Trainer.update = update
    try:
        pretrain(task)
    except Cut:
        pass
    finally:
        Trainer.update = honest


def weights_of(run: Run) -> tuple[str, dict[str, list[float]]]:
    """A hash of the last weights, and of each tensor its mean and its root mean square."""
    from pellucid.store.checkpoint import load_checkpoint

    weights = load_checkpoint(run.latest().directory).weights
    digest = hashlib.sha256()
    sums = {}
    for name in sorted(weights):
        digest.update(weights[name].numpy().tobytes())
        sums[name] = [float(weights[name].double().mean()), float(weights[name].double().square().mean().sqrt())]
    return digest.hexdigest(), sums


def main() -> None:
    root = Path(".")  # so that no path of the machine is in the files
    torch.set_num_threads(1)
    texts, expected = tell(root), {}
    for name, text in texts.items():
        out = root / name
        cut_after(7, task_of(name, text, out))
        steps = [int(path.name.split("-")[-1]) for path in (out / "checkpoints").iterdir()]
        lm = load(str(out))
        said = lm.complete(PROMPTS[name], temperature=0, max_new_tokens=12)
        if name == "stream":
            trace(lm, PROMPTS[name]).save(root / "look.plens")
        whole = root / f"{name}-whole"
        shutil.copytree(out, whole)
        pretrain(task_of(name, text, whole))
        run = Run.open(whole)
        rows = [row for row in run.read_metrics() if row["kind"] == "train"]
        digest, sums = weights_of(run)
        fingerprint = json.loads(next((run.latest().directory / "training").glob("*.json")).read_text())["fingerprint"]
        expected[name] = {
            "cut_at": max(steps), "prompt": PROMPTS[name], "ids": list(said.ids), "text": said.text,
            "fingerprint": fingerprint, "weights_sha256": digest, "weights": sums,
            "losses": [row["loss"] for row in rows],
        }  # fmt: skip
        shutil.rmtree(whole)
    (root / "expected.json").write_text(json.dumps(expected, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
