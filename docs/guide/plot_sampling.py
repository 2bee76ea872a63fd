"""Draws the plots of `sampling.md`: `python docs/guide/plot_sampling.py` writes the SVG files beside this script.

The rows are made up, so that anybody gets the same pictures without a model: 2,000 logits that fall as those of a
language model do (Zipf's law with noise, exponent 1.3), from one seed.
"""

from __future__ import annotations

import math
from pathlib import Path

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt
import numpy as np

from pellucid.engine.sampling.distribution import entropy, probabilities
from pellucid.engine.sampling.sampler import Sampler, build_stages, pass_through
from pellucid.engine.sampling.settings import SamplingSettings
from pellucid.engine.sampling.stage import History

HERE = Path(__file__).parent
SIZE, SHOWN = 2000, 24
INK, GREY, BLUE, ORANGE = "#333333", "#c9c9c9", "#2b6cb0", "#dd6b20"

# Orders that differ only in stages which this plot does not use.
ALIKE = (("pellucid", "hf"), ("llama.cpp", "mlx"), ("vllm",))
STAGES = {
    "temperature 0.6": {"temperature": 0.6},
    "temperature 1.6": {"temperature": 1.6},
    "top-k 8": {"top_k": 8},
    "top-p 0.7": {"top_p": 0.7},
    "min-p 0.1": {"min_p": 0.1},
    "typical 0.5": {"typical_p": 0.5},
    "epsilon 0.02": {"epsilon_cutoff": 0.02},
    "top-n-sigma 4": {"top_n_sigma": 4.0},
    "XTC from 0.08": {"xtc_probability": 1.0, "xtc_threshold": 0.08},
}


def make_row(seed: int = 1, exponent: float = 1.3) -> np.ndarray:
    """Logits [V] in float32, likeliest first."""
    noise = np.random.default_rng(seed).normal(scale=0.25, size=SIZE)
    return np.sort(-exponent * np.log(np.arange(1, SIZE + 1)) + noise)[::-1].astype(np.float32)


def process(logits_V: np.ndarray, **knobs: object) -> np.ndarray:
    """The row after all stages."""
    stages = build_stages(SamplingSettings(seed=1, **knobs), num_logits=SIZE, num_known=SIZE)  # type: ignore[arg-type]
    return pass_through(logits_V, stages, History((0,), 1))[-1]


def describe(logits_V: np.ndarray) -> str:
    num_kept = np.count_nonzero(logits_V > -np.inf)
    return f"{num_kept:,} tokens, {entropy(logits_V) / math.log(2):.1f} bits"


def plot_stages() -> None:
    """What each stage makes of one row."""
    row = make_row()
    figure, axes = plt.subplots(3, 3, figsize=(9, 6.5), sharex=True, sharey=True, layout="constrained")
    for axis, (name, knobs) in zip(axes.flat, STAGES.items(), strict=True):
        after = process(row, **knobs)
        axis.bar(range(SHOWN), probabilities(row)[:SHOWN], color=GREY, width=0.9)
        axis.bar(range(SHOWN), probabilities(after)[:SHOWN], color=BLUE, width=0.5)
        axis.set_title(f"{name}: {describe(after)}", fontsize=9)
    figure.supxlabel(f"the {SHOWN} likeliest of {SIZE:,} tokens; the model: {describe(row)}", fontsize=9)
    figure.supylabel("probability (grey: the model, blue: after the stage)", fontsize=9)
    save(figure, "sampling-stages")


def plot_orders() -> None:
    """How many tokens the same numbers leave in each order, as the temperature rises."""
    row, temperatures = make_row(), np.linspace(0.5, 2.5, 21)
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    for names, marker in zip(ALIKE, "os^", strict=True):
        rows = [process(row, order=names[0], temperature=float(t), top_p=0.9, min_p=0.02) for t in temperatures]
        kept = [np.count_nonzero(after > -np.inf) for after in rows]
        axes[0].plot(temperatures, kept, marker=marker, markersize=4, linewidth=1, label=", ".join(names))
        axes[1].plot(temperatures, [entropy(after) / math.log(2) for after in rows], marker=marker, markersize=4, lw=1)
    axes[0].set_yscale("log")
    axes[0].set_ylabel("tokens that may be drawn")
    axes[1].set_ylabel("entropy, bits")
    for axis in axes:
        axis.set_xlabel("temperature, with top-p 0.9 and min-p 0.02")
    axes[0].legend(title="order", fontsize=8)
    save(figure, "sampling-orders")


def plot_mirostat() -> None:
    """The surprise of each choice, and the limit that follows it."""
    figure, axis = plt.subplots(figsize=(9, 3.2), layout="constrained")
    sampler = Sampler(SamplingSettings(mirostat=2, mirostat_tau=3.0, seed=4), num_logits=SIZE, num_known=SIZE)
    ids, surprises = [0], []
    for step in range(200):
        row = make_row(seed=step, exponent=1.1 if step < 100 else 1.6)
        choice = sampler.choose(row, ids, 1)
        surprises.append(-choice.processed_logprob / math.log(2))
        ids.append(choice.id)
    means = np.convolve(surprises, np.ones(20) / 20, mode="valid")
    axis.plot(surprises, ".", color=GREY, label="surprise of the choice")
    axis.plot(range(19, 200), means, color=BLUE, label="mean of the last 20")
    axis.axhline(3.0, color=ORANGE, linewidth=1, label="target τ = 3")
    axis.axvline(100, color=INK, linewidth=0.8, linestyle=":")
    axis.set_xlabel("token (from 100 on the model's rows are steeper)")
    axis.set_ylabel("bits")
    axis.legend(fontsize=8)
    save(figure, "sampling-mirostat")


def save(figure: plt.Figure, name: str) -> None:
    """One file without a date, so that the same picture has the same bytes."""
    figure.savefig(HERE / f"{name}.svg", metadata={"Date": None})
    plt.close(figure)


if __name__ == "__main__":
    plt.rcParams.update({"svg.hashsalt": "pellucid", "svg.fonttype": "none", "font.size": 9, "text.color": INK})
    plot_stages()
    plot_orders()
    plot_mirostat()
