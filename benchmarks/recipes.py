"""What each recipe learns in minutes on this machine, beside its control: a row of a table for each.

    python benchmarks/recipes.py --out DIR                       every row of the microworld, three seeds
    python benchmarks/recipes.py --out DIR --only bert-fills     one row
    python benchmarks/recipes.py --out DIR --pairs DIR           and real pairs (Tatoeba, classical Chinese), one seed
    python benchmarks/recipes.py --out DIR --xquad FILE          and real questions about passages, one seed

A row trains a recipe of `recipes/` on text or pairs of its own, in a process of its own, and then asks it what training
never showed: masked words, translations, summaries, answers, hidden words, labels. The answers count when they are
right to the letter (real pairs by chrF). Its control answers the same questions without a model:

    same neighbours   the word that training showed most often between these two words
    nearest           the target of the training source that shares most words

or is another recipe that learned from the same data, and is asked in the same way.

`DIR/rows.jsonl` holds what is done, so that the same command goes on after a break; rows that train the same recipe on the
same data share its run. Two commands with different rows (`--only`, `--threads 1`) may fill one folder side by side: the
models are small, and two cores are done in three quarters of the time. `--table` prints what is done and measures nothing.

A row whose control is better is printed as such. The recipes are made for five minutes of training on two cores. Of which
that is true, `--pace` says: it trains each for a few updates, on a machine that has nothing else to do, and measures one.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import statistics
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

import pellucid
from pellucid.drawing.curves import draw_curves
from pellucid.language_model import LanguageModel
from pellucid.planning.machine import inspect_machine
from recipe_tasks import (
    REAL_ROWS,
    Answerer,
    Control,
    Data,
    Scorer,
    chrf,
    exact,
    facts_kept,
    fills,
    genders,
    goes_on,
    labels,
    nearest,
    questions,
    real_pairs,
    same_neighbours,
    searches,
    stories,
    task,
    two_tasks,
    writes,
    xquad,
)

HERE = Path(__file__).parent
RECIPES = HERE.parent / "recipes"
MANY_PEOPLE = ("tokenizer.vocab_size=1024",)
REAL_FILES = {"tatoeba": "tatoeba-eng-cmn.txt", "classical": "classical-modern-60k.tsv"}
REAL_PAIRS = (
    "tokenizer.vocab_size=4096",
    "steps=1300",
)  # words of a whole language, not of eight people and six places
PASSAGES = ("tokenizer.vocab_size=8192", "model.context_length=768", "batch.rows=8", "steps=500")


@dataclass(frozen=True, kw_only=True)
class Trained:
    """A recipe, and settings of its own."""

    recipe: str
    settings: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Its name in the table."""
        return " ".join([self.recipe, *self.settings])

    @property
    def folder(self) -> str:
        """Its name on disk."""
        return self.name.replace(" ", "-")


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of the table."""

    recipe: Trained
    data: Callable[[int], Data]  # by seed
    answers: Answerer
    control: Control | Trained
    control_name: str
    score: Scorer
    says: str  # what the figure is
    seeds: int = 3


PICTURES = {
    "hidden words": ("masked", "next_sentence", "spans", "permutation"),
    "pairs of texts": ("seq2seq",),
    "next tokens": ("causal",),
}  # what a picture is of, and the objectives whose losses it shows
TRIED = 40  # updates, of which --pace takes the median
WORDS = "hidden words of unseen stories, exact"
ROWS: dict[str, Row] = {
    **{
        f"{name}-fills": Row(
            recipe=Trained(recipe=name),
            data=stories,
            answers=fills,
            control=same_neighbours,
            control_name="same neighbours",
            score=exact,
            says=WORDS,
        )
        for name in ("bert", "roberta", "t5-spans", "xlnet")
    },
    "next-sentence": Row(
        recipe=Trained(recipe="bert"),
        data=stories,
        answers=fills,
        control=Trained(recipe="bert-pairs"),
        control_name="with the next-sentence objective",
        score=exact,
        says=f"without the next-sentence objective: {WORDS}",
    ),
    **{
        f"translates-{language}": Row(
            recipe=Trained(recipe="transformer-pairs"),
            data=task("translation", language),
            answers=writes,
            control=nearest,
            control_name="nearest",
            score=exact,
            says=f"unseen stories into {other}, exact",
        )
        for language, other in (("en", "Chinese"), ("zh", "English"))
    },
    "summarises": Row(
        recipe=Trained(recipe="t5-pairs"),
        data=two_tasks("summary"),
        answers=writes,
        control=nearest,
        control_name="nearest",
        score=facts_kept,
        says="asked facts kept in summaries of unseen stories",
    ),
    "answers": Row(
        recipe=Trained(recipe="t5-pairs"),
        data=two_tasks("answers"),
        answers=writes,
        control=nearest,
        control_name="nearest",
        score=exact,
        says="answers about unseen stories, exact",
    ),
    "mixture": Row(
        recipe=Trained(recipe="mixture"),
        data=questions,
        answers=goes_on,
        control=Trained(recipe="dense"),
        control_name="as many active weights, dense",
        score=exact,
        says="answers at the end of unseen stories, exact",
    ),
    "classifies": Row(
        recipe=Trained(recipe="bert", settings=MANY_PEOPLE),
        data=genders,
        answers=labels,
        control=Trained(recipe="bert", settings=(*MANY_PEOPLE, "steps=1")),
        control_name="over an untrained encoder",
        score=exact,
        says="women and men by names that had no label",
    ),
}


def rows_of(pairs_folder: Path | None, xquad_file: Path | None) -> dict[str, Row]:
    """All rows: those of the microworld, and those of the real text that is given, of one seed."""
    real = (
        {}
        if pairs_folder is None
        else {
            f"translates-{name}": Row(
                recipe=Trained(recipe="transformer-pairs", settings=REAL_PAIRS),
                data=real_pairs(pairs_folder / file),
                answers=searches,
                control=nearest,
                control_name="nearest",
                score=chrf,
                says=f"{REAL_ROWS:,} pairs of {file}: chrF of unseen ones",
                seeds=1,
            )
            for name, file in REAL_FILES.items()
        }
    )
    if xquad_file is not None:
        real["answers-xquad"] = Row(
            recipe=Trained(recipe="t5-pairs", settings=PASSAGES),
            data=xquad(xquad_file),
            answers=writes,
            control=nearest,
            control_name="nearest",
            score=exact,
            says=f"questions about passages of unseen articles ({xquad_file.name}), exact",
            seeds=1,
        )
    return ROWS | real


# -- the table --------------------------------------------------------------------------------------------------------


def train(what: Trained, data: Data, folder: Path, seed: int, given: argparse.Namespace) -> tuple[LanguageModel, float]:
    """Train a recipe in a process of its own, or take the run of the same recipe on the same data; and its seconds."""
    run, took = folder / "run", folder / "seconds"
    if not took.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        text = folder / "train.jsonl"
        text.write_text("".join(json.dumps(one, ensure_ascii=False) + "\n" for one in data.train), encoding="utf-8")
        command = [sys.executable, "-m", "pellucid", "train", str(text), "--out", str(run)]
        command += ["--recipe", str(RECIPES / f"{what.recipe}.toml"), "--seed", str(seed), "--device", given.device]
        command += [part for one in (*what.settings, *given.set) for part in ("--set", one)]
        command += [] if given.threads is None else ["--threads", str(given.threads)]
        ran = subprocess.run(command, capture_output=True, text=True)
        if ran.returncode:
            raise SystemExit(f"{what.name} failed:\n{ran.stderr[-2000:]}")
        took.write_text(f"{metrics(run, 'train')[-1]['seconds']:.1f}")
    return pellucid.load(run), float(took.read_text())


def metrics(run: Path, kind: str) -> list[dict[str, Any]]:
    """The rows of one kind that a run has written: updates (train), or validation (eval)."""
    lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [row for row in map(json.loads, lines) if row["kind"] == kind]


def pace(what: Trained, data: Data, folder: Path, given: argparse.Namespace) -> tuple[int, float]:
    """How many updates a recipe has, and the seconds of one: the median of some."""
    short = argparse.Namespace(**{**vars(given), "set": [*given.set, f"steps={TRIED}"]})
    train(what, data, folder, 0, short)
    times = [row["seconds"] for row in metrics(folder / "run", "train")]
    steps = [one.partition("=")[2] for one in what.settings if one.startswith("steps=")]
    steps = steps or [tomllib.loads((RECIPES / f"{what.recipe}.toml").read_text(encoding="utf-8"))["steps"]]
    return int(steps[0]), statistics.median(after - before for before, after in itertools.pairwise(times))


def paces(rows: Iterable[Row], given: argparse.Namespace) -> Iterator[str]:
    """A table of all recipes: updates, the seconds of one, and of all."""
    yield "| recipe | updates | seconds of one | of all |"
    yield "| --- | --- | --- | --- |"
    asked = {what.name: (what, row) for row in rows for what in (row.recipe, row.control) if isinstance(what, Trained)}
    for name, (what, row) in asked.items():
        steps, seconds = pace(what, row.data(0), given.out / "pace" / what.folder, given)
        yield f"| {name} | {steps:,} | {seconds:.3f} | {steps * seconds:.0f} |"


def measure(name: str, row: Row, seed: int, given: argparse.Namespace) -> dict[str, Any]:
    """One row for one seed."""
    data = row.data(seed)
    learnt = hashlib.sha256(repr(data.train).encode()).hexdigest()[:8]

    def folder_of(what: Trained) -> Path:
        return given.out / f"{what.folder}-{seed}-{learnt}"

    def ask(what: Trained) -> tuple[LanguageModel, float, float]:
        lm, seconds = train(what, data, folder_of(what), seed, given)
        return lm, seconds, row.score(row.answers(lm, data), data.held_out)

    lm, seconds, value = ask(row.recipe)
    beside = (
        ask(row.control)[1:] if isinstance(row.control, Trained) else (0.0, row.score(row.control(data), data.held_out))
    )
    return {
        "row": name,
        "seed": seed,
        "recipe": row.recipe.name,
        "run": folder_of(row.recipe).name,
        "value": value,
        "control": beside[1],
        "seconds": seconds,
        "control_seconds": beside[0],
        "parameters": lm.model.num_parameters,
        "asked": len(data.held_out),
        "processor": inspect_machine().processor,
        "threads": given.threads or inspect_machine().cores,
        "settings": given.set,
    }


def table(rows: dict[str, Row], done: Iterable[dict[str, Any]]) -> Iterator[str]:
    """The table in Markdown: the mean over seeds, the lowest and the highest, and whether the control is beaten."""
    yield "| row | what counts | model | control | seeds | |"
    yield "| --- | --- | --- | --- | --- | --- |"
    found: dict[str, list[dict[str, Any]]] = {}
    for one in done:
        found.setdefault(one["row"], []).append(one)
    for name in filter(found.__contains__, rows):
        some = found[name]
        values, controls = ([one[key] for one in some] for key in ("value", "control"))
        spread = "" if len(some) == 1 else f" ({min(values):.1%} to {max(values):.1%})"
        won = sum(value > control for value, control in zip(values, controls, strict=True))
        verdict = "" if won == len(some) else f"**beats its control with {won} of {len(some)} seeds**"
        row = rows[name]
        yield (
            f"| {name} | {row.says} | {statistics.fmean(values):.1%}{spread} | {statistics.fmean(controls):.1%} "
            f"({row.control_name}) | {len(some)} | {verdict} |"
        )


def draw(rows: dict[str, Row], done: Iterable[dict[str, Any]], folder: Path, pictures: Path) -> None:
    """The validation loss by update of each recipe's first run: a picture for all that predict the same kind of thing."""
    series: dict[str, dict[str, list[tuple[float, float]]]] = {name: {} for name in PICTURES}
    for one in done:
        row = rows[one["row"]]
        for what in (row.recipe, row.control):
            if isinstance(what, Trained) and not what.settings:
                run = folder / one["run"].replace(row.recipe.folder, what.folder, 1) / "run"
                measured = metrics(run, "eval")
                [picture] = [
                    name
                    for name, objectives in PICTURES.items()
                    if measured[0].get("objective", "causal") in objectives
                ]
                series[picture].setdefault(what.name, [(found["step"], found["loss"]) for found in measured])
    for name, drawn in series.items():
        if drawn:
            path = pictures.with_name(f"{pictures.name}-{name.split()[0]}")
            labels = {"x_label": "updates", "y_label": "validation loss, nats per predicted token"}
            draw_curves(drawn, title=f"Recipes that learn {name}", **labels, path_without_suffix=path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="a folder for runs and results")
    parser.add_argument("--only", nargs="+", help="these rows alone")
    parser.add_argument("--pairs", type=Path, help="a folder with tatoeba-eng-cmn.txt and classical-modern-60k.tsv")
    parser.add_argument("--xquad", type=Path, help="xquad.en.json")
    parser.add_argument("--seeds", type=int, help="of each row (none: as many as the row wants)")
    parser.add_argument("--threads", type=int, help="of every run (none: all cores)")
    parser.add_argument("--set", action="append", default=[], help="a setting of every run, for a short trial")
    parser.add_argument("--device", default="cpu", help="that every run learns on")
    parser.add_argument("--pace", action="store_true", help="measure how long an update takes, and nothing else")
    parser.add_argument("--table", action="store_true", help="print what is done, and measure nothing")
    parser.add_argument("--curves", type=Path, help="draw the validation losses there (a name's beginning)")
    given = parser.parse_args()
    if given.threads:  # for the questions; training gets them by its command
        torch.set_num_threads(given.threads)
    rows = rows_of(given.pairs, given.xquad)
    if given.pace:
        for line in paces([rows[name] for name in given.only or rows], given):
            print(line, flush=True)
        return
    results = given.out / "rows.jsonl"
    done = [json.loads(line) for line in results.read_text().splitlines()] if results.is_file() else []
    known = {(one["row"], one["seed"]) for one in done}
    for name in given.only or rows:
        for seed in range(given.seeds or rows[name].seeds):
            if given.table or (name, seed) in known:
                continue
            print(f"{name}, seed {seed}", file=sys.stderr, flush=True)
            done.append(measure(name, rows[name], seed, given))
            given.out.mkdir(parents=True, exist_ok=True)
            with results.open("a") as file:
                file.write(json.dumps(done[-1]) + "\n")
    print("\n".join(table(rows, done)))
    if given.curves is not None:
        draw(rows, done, given.out, given.curves)


if __name__ == "__main__":
    main()
