"""The curves of a run, drawn from its metric lines: its loss, and the questions that its model was asked."""

from __future__ import annotations

from pellucid.store.metrics import evaluations, exam_scores
from pellucid.store.run import Run
from pellucid.training.curve import draw_curves


def draw_loss(run: Run) -> None:
    """The loss curve of a run as `loss.svg` and `loss.png`."""
    rows = run.read_metrics()
    training = [(row["step"], row["loss"]) for row in rows if row["kind"] == "train"]
    series = {"training": training, "validation": [(row["step"], row["loss"]) for row in evaluations(rows)]}
    present = {name: points for name, points in series.items() if points}
    if present:
        draw_curves(
            present,
            title=run.path.name,
            x_label="step",
            y_label="loss, nats per token",
            path_without_suffix=run.path / "loss",
        )


def draw_exam(run: Run) -> None:
    """The shares of right answers over the steps as `exam.svg` and `exam.png`, of a run whose model is asked."""
    scores = exam_scores(run.read_metrics())
    if scores:
        draw_curves(
            {part: list(shares.items()) for part, shares in scores.items()},
            title=f"{run.path.name}: questions about new worlds",
            x_label="step",
            y_label="answered exactly, share",
            path_without_suffix=run.path / "exam",
        )
