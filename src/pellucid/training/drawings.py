"""Plot the loss curve and the exam scores of a run from its metric lines."""

from __future__ import annotations

from pellucid.drawing.curves import draw_curves
from pellucid.store.metrics import evaluations, exam_scores
from pellucid.store.run import Run


def draw_loss(run: Run) -> None:
    """Draw the loss curve of a run as `loss.svg` and `loss.png`."""
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
    """Draw the share of right answers at each exam as `exam.svg` and `exam.png`, for a run that has an exam."""
    scores = exam_scores(run.read_metrics())
    if scores:
        draw_curves(
            {part: list(shares.items()) for part, shares in scores.items()},
            title=f"{run.path.name}: questions about new worlds",
            x_label="step",
            y_label="answered exactly, share",
            path_without_suffix=run.path / "exam",
        )
