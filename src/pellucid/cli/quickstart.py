"""`pellucid quickstart`: train a small model from scratch on the microworld, in minutes, and ask it questions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from pellucid.cli.common import PLACE, Common, common_options, print_json, seed_option, tell_opening, typed
from pellucid.cli.language import tell, words
from pellucid.cli.screen import say
from pellucid.cli.tables import Side, print_table
from pellucid.cli.watch import Watch
from pellucid.training.interrupt import exit_code

SPLIT_NAMES = {
    "held_out": "new worlds",
    "combinations": "pairs never seen together",
    "paraphrases": "wordings never seen",
    "lengths": "longer stories",
}

LANGUAGE_NAMES = {"en": "English", "zh": "Chinese"}


@click.command()
@click.option(
    "--out",
    type=PLACE,
    default=Path("runs/quickstart"),
    show_default=True,
    help="the run's directory",
)
@click.option(
    "--size",
    type=click.Choice(["medium", "large"]),
    help="this size, and not the one that suits the speed measured here",
)
@click.option(
    "--precision",
    type=click.Choice(["auto", "bf16", "fp32"]),
    default="auto",
    show_default=True,
    help="what the model computes in",
)
@click.option(
    "--level",
    type=click.Choice(["0", "1"]),
    default="0",
    show_default=True,
    help="0: eight people in six rooms, three minutes on two fast cores; 1: forty-four people in sixteen places, ten",
)
@seed_option
@common_options
def command(common: Common, out: Path, size: str | None, precision: Any, level: str) -> int:
    """Learn a small world from nothing in minutes, then talk about it.

    Writes stories in English and Chinese, trains a tokenizer and a model on them, asks about worlds that the model has
    never seen, and says what to type next. No network, no GPU.
    """
    tell_opening(out, quiet=common.as_json)
    from pellucid.training.recipes.quickstart import Start, quickstart

    start = Start(
        seed=1337 if common.seed is None else common.seed,
        level=int(level),
        size=size,
        device=common.device,
        threads=common.threads,
        precision=precision,
    )
    with Watch(quiet=common.as_json) as watch:
        outcome = quickstart(out, start=start, recorder=watch)
    if common.as_json:
        print_json(
            {
                "out": str(out),
                "size": outcome.size,
                "step": outcome.finished.step,
                "reason": outcome.finished.reason,
                "score": outcome.score and outcome.score.to_dict(),
            }
        )
    elif outcome.score is None:
        tell(f"stopped after step {outcome.finished.step}; everything is saved. Repeat the command to go on.")
    else:
        show(outcome)
    return exit_code(outcome.finished.reason)


def show(outcome: Any) -> None:
    """Print the exam, some answers, some continuations, and what to type next."""
    tell("\nA few questions about worlds it has never seen:\n")
    last = None
    for sample in outcome.answers:
        if sample.story is not last:
            click.echo(f"  {sample.story.tale}")
            last = sample.story
        mark = "✓" if sample.correct else words(f"✗ (right: {sample.expected})")
        say(f"    {sample.question} → {sample.reply.strip()} {mark}")
    tell("\nIt goes on with a story by itself:\n")
    for prompt, text in outcome.continuations:
        say(f"  {prompt}│{text.strip()}\n".replace("\n", "\n  "))
    show_score(outcome.score)
    out = outcome.finished.out
    tell("\nNext:")
    (english, _), (chinese, _) = outcome.continuations
    for command, purpose in (
        (typed("pellucid", "lens", out), words("watch a sentence become the next token, and how it was learned")),
        (typed("pellucid", "generate", out, english, "--explain", "--max-new-tokens", "3"), ""),
        (typed("pellucid", "generate", out, chinese, "--temperature", "0.7"), ""),
        (f"open {out / 'exam.svg'}", words("how the share of right answers grew, by language")),
        (typed("pellucid", "learn"), words("the arithmetic behind it, step by step")),
        (typed("pellucid", "train", "YOUR_BOOK.txt", "--out", "runs/book"), words("the same with your own text")),
    ):
        click.echo(f"  {command:<46}  {purpose}".rstrip())


def show_score(score: Any) -> None:
    """Print the share of exact answers by split, with intervals, beside the best control."""
    rows = []
    for split, title in SPLIT_NAMES.items():
        row = score.totals[split]
        name, control = score.best_control(split)
        cells = {r.value: r for r in score.rows if r.split == split and r.group == "language"}
        rows.append(
            [
                words(title),
                *(f"{cell.accuracy:.1%} [{cell.low:.0%}-{cell.high:.0%}]" for cell in cells.values()),
                f"{row.count}",
                f"{control.accuracy:.0%} ({words(name.replace('_', ' '))})",
            ]
        )
    languages: dict[str, Side] = {f"{words(LANGUAGE_NAMES[value])} [95 %]": "right" for value in cells}
    tell("Answered exactly (all kinds of questions):\n")
    print_table({"held out": "left", **languages, "questions": "right", "best control": "left"}, rows)
