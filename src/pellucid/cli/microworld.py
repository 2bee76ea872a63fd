"""`pellucid microworld`: write stories of the microworld, or pairs of texts about them, into a file to train on."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from pellucid.cli.common import json_option, print_json, typed
from pellucid.cli.language import tell, words
from pellucid.cli.watch import watch_items
from pellucid.counts import counted
from pellucid.data.microworld.corpus import documents
from pellucid.data.microworld.plots import LEVELS
from pellucid.data.microworld.splits import SPLITS
from pellucid.data.microworld.tasks import TASKS, pairs
from pellucid.errors import StoreError
from pellucid.files import replace_file

STORIES = "stories"
LANGUAGES = {"en": ("en",), "zh": ("zh",), "both": ("en", "zh")}
MOST = 10_000_000  # rows
COLUMNS = ("--source", "source", "--field", "target")
PAIRS = ("--set", "objective=seq2seq", "--set", "data.rows=pairs", *COLUMNS)


@click.command()
@click.argument("kind", type=click.Choice([STORIES, *TASKS]))
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), required=True, help="the .jsonl file to write")
@click.option("--count", type=click.IntRange(1, MOST), default=1000, show_default=True, help="rows to write")
@click.option(
    "--level", type=click.IntRange(LEVELS[0], LEVELS[-1]), default=0, show_default=True, help="how much can happen"
)
@click.option(
    "--language", type=click.Choice([*LANGUAGES]), default="en", show_default=True, help="of the stories, the sources"
)
@click.option(
    "--split", type=click.Choice(SPLITS), default="train", show_default=True, help="all but train are never trained on"
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="other stories for another number")
@json_option
def command(kind: str, out: Path, count: int, as_json: bool, **asked: Any) -> None:
    """Write stories of the microworld into a .jsonl file, a row each: what the lessons and recipes train on.

    KIND is stories (a field text), or one of three tasks for a model with an encoder (fields source and target):
    translation into the other language, answers to questions about a story, or a summary of how things stand in the end.
    The same seed gives the same rows on every machine, and the splits share none.
    """
    if out.exists():
        raise StoreError("something is here already", where=str(out), hint="choose another destination")
    rows = _rows(kind, count, **asked)
    watched = rows if as_json else watch_items(rows, count, "stories")
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in watched)
    replace_file(out, text.encode("utf-8"))
    if as_json:
        print_json({"path": str(out), "rows": count, "kind": kind, **asked})
        return
    tell(f"{counted(count, 'row')}: {out}")
    click.echo(words("next:  ") + _next_command(kind, out, split=asked["split"]))


def _next_command(kind: str, out: Path, *, split: str) -> str:
    """What the file is for: to train on it, or to measure the run that was trained on the training split."""
    if split != "train":
        return typed("pellucid", "eval", f"runs/{kind}", out, *(() if kind == STORIES else COLUMNS))
    return typed("pellucid", "train", out, "--out", f"runs/{kind}", *(() if kind == STORIES else PAIRS))


def _rows(kind: str, count: int, level: int, language: str, split: str, seed: int) -> Iterator[dict[str, Any]]:
    languages = LANGUAGES[language]
    if kind == STORIES:
        for text in documents(seed, level=level, count=count, languages=languages, split=split):
            yield {"text": text}
        return
    told = [pairs(kind, seed, level=level, count=count, language=one, split=split) for one in languages]
    for pair in itertools.islice(itertools.chain.from_iterable(zip(*told, strict=True)), count):
        yield {"source": pair.source, "target": pair.target, **({"facts": pair.facts} if pair.facts else {})}
