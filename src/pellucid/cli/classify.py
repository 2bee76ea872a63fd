"""`pellucid classify`: the labels of texts, and a classifier trained on labelled rows over a model that stays as it is."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pellucid.cli.common import (
    PLACE,
    Common,
    Terminal,
    common_options,
    open_reader,
    pattern_option,
    print_json,
    read_standard_input,
    seed_option,
    tell_blank,
    tell_opening,
    typed,
)
from pellucid.cli.language import tell, words
from pellucid.cli.screen import say
from pellucid.cli.tables import Side, print_table
from pellucid.cli.watch import watch_items
from pellucid.counts import counted

if TYPE_CHECKING:  # it loads torch, which help does without
    from pellucid.training.label_head import LabelReport

USE = "use"


class WithUse(click.Group):
    """A group whose name followed by no subcommand means `use`."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        named = args[0] in self.commands or args[0].startswith("-")
        return super().resolve_command(ctx, args if named else [USE, *args])


@click.group(cls=WithUse)
def command() -> None:
    """Give texts the labels of a model, or train a classifier on labelled rows.

    pellucid classify HEADRUN TEXT is short for pellucid classify use HEADRUN TEXT.
    """


@command.command(USE)
@click.argument("run", metavar="HEADRUN")
@click.argument("texts", nargs=-1, required=True, metavar="TEXT…")
@click.option("--cut", is_flag=True, help="read only the beginning of texts that are too long")
@pattern_option
@common_options
def use(common: Common, run: str, texts: tuple[str, ...], cut: bool) -> None:
    """The labels of each TEXT with their probabilities, the likeliest first; "-" reads one text a line.

    HEADRUN is what `classify train` made, or another model with labels (…ForSequenceClassification).
    """
    tell_opening(run, quiet=common.as_json)
    lm = open_reader(run, common)
    given = [text for one in texts for text in (_read_lines() if one == "-" else [one])]
    found = lm.classify(given, cut=cut)
    if common.as_json:
        print_json([
            {"text": text, "labels": [dataclasses.asdict(label) for label in labels]}
            for text, labels in zip(given, found, strict=True)
        ])  # fmt: skip
        return
    columns: dict[str, Side] = {"label": "left", "probability": "right"}
    for text, labels in zip(given, found, strict=True):
        say(text)
        print_table(columns, [(label.name, f"{label.probability:.4f}") for label in labels])


def _read_lines() -> list[str]:
    """The lines of standard input; blank ones are left out, and counted."""
    lines = read_standard_input().splitlines()
    texts = [line for line in lines if line.strip()]
    if blank := len(lines) - len(texts):
        tell_blank(blank, "-")
    return texts


@command.command()
@click.argument("run")
@click.argument("file", type=PLACE)
@click.option("--out", type=PLACE, required=True, metavar="HEADRUN", help="where the model with its classifier goes")
@click.option(
    "--pooling",
    type=click.Choice(["mean", "first", "last", "own"]),
    help="the vector of a text; own: of the model's own pooler [default: as its files say; the mean for an encoder]",
)
@click.option(
    "--held-out", type=float, default=0.2, show_default=True, help="share of the texts that are kept for measuring"
)
@click.option("--l2", type=float, default=1.0, show_default=True, help="how strongly large weights are held back")
@click.option("--text", "text_field", default="text", show_default=True, help="the field with the text")
@click.option("--label", "label_field", default="label", show_default=True, help="the field with the label")
@click.option("--cut", is_flag=True, help="read only the beginning of texts that are too long, and count them")
@seed_option
@pattern_option
@common_options
def train(
    common: Common,
    run: str,
    file: Path,
    out: Path,
    pooling: str | None,
    text_field: str,
    label_field: str,
    held_out: float,
    l2: float,
    cut: bool,
) -> None:
    """Train a classifier on the labelled rows of FILE (.jsonl, .csv, .tsv) over the model in RUN, which stays as it is.

    Some rows are held out: the share of them that gets its label is shown beside that of the most frequent label. Equal
    texts lie on one side. HEADRUN is a model directory of its own.
    """
    tell_opening(run, quiet=common.as_json)
    from pellucid.data.labelled import read_labelled
    from pellucid.training.label_head import LabelSettings

    settings = LabelSettings(
        pooling=None if pooling in (None, "own") else pooling,  # type: ignore[arg-type]  # one of the choices
        own_pooler=pooling == "own",
        held_out=held_out,
        l2=l2,
        cut=cut,
        **({} if common.seed is None else {"seed": common.seed}),
    )
    rows = [(row.text, row.label) for row in read_labelled(file, text=text_field, label=label_field)]
    lm = open_reader(run, common)
    watch = None if common.as_json else _progress
    report = lm.train_labels(rows, out, settings=settings, watch=watch, recorder=Terminal())
    if common.as_json:
        print_json({**dataclasses.asdict(report), "out": str(out)})
        return
    _print(report, cut_at=lm.config.context_length)
    tell(f"· next: {typed('pellucid', 'classify', out, rows[0][0])}", err=True)


def _progress(batches: Iterable[list[int]], num_batches: int) -> Iterator[list[int]]:
    return watch_items(batches, num_batches, "reading")


def _print(report: LabelReport, *, cut_at: int) -> None:
    """The shares, and how many rows there were."""
    columns: dict[str, Side] = {"rows": "left", "number": "right", "share with its label": "right"}
    guess = f"{report.most_frequent:.3f}"
    print_table(
        columns,
        [
            (words("held out"), str(report.num_held_out), f"{report.accuracy:.3f}"),
            (words("always the most frequent"), str(report.num_held_out), guess),
            (words("learned from"), str(report.num_train), f"{report.train_accuracy:.3f}"),
        ],
    )
    names = ", ".join(f"{name} {count}" for name, count in report.labels.items())
    tell(f"· labels: {names}", err=True)
    if report.num_cut:
        tell(f"! cut after {counted(cut_at, 'token')}: {counted(report.num_cut, 'text')}", err=True)
