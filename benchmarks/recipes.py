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
same data share its run. `--table` prints what is done and measures nothing. A row whose control is better is printed as such. Seconds are those of training alone, on the threads that are given.

Nothing is promised in seconds. The recipes are made for five minutes of training on two cores; of which that is true, the table says.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pellucid
from pellucid.data.microworld.corpus import documents
from pellucid.data.microworld.entities import MEN, WOMEN
from pellucid.data.microworld.tasks import pairs
from pellucid.drawing.curves import draw_curves
from pellucid.language_model import LanguageModel
from pellucid.planning.machine import inspect_machine

HERE = Path(__file__).parent
RECIPES = HERE.parent / "recipes"
HELD_OUT = 200  # questions of a row
MOVED = [
    f"{went} the {place}" for went in ("went to", "ran to", "walked into") for place in ("garden", "market", "attic")
]
MASK = "[MASK]"
TRAIN_ROWS = {"stories": 20_000, "translation": 20_000, "summary": 20_000, "answers": 20_000}
REAL_ROWS = 20_000
MANY_PEOPLE = ("tokenizer.vocab_size=1024",)
MOST_CHARACTERS = 80  # of a real sentence; the model has room for 96 tokens
REAL_FILES = {"tatoeba": "tatoeba-eng-cmn.txt", "classical": "classical-modern-60k.tsv"}
REAL_PAIRS = (
    "tokenizer.vocab_size=8192",
    "steps=1500",
)  # words of a whole language, not of eight people and six places
PASSAGES = ("tokenizer.vocab_size=8192", "model.context_length=768", "batch.rows=8", "steps=500")


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A question that training never showed, its answer, and the sentences of it that count (a summary's facts)."""

    source: str
    target: str
    facts: tuple[tuple[str, ...], ...] = ()


@dataclass(frozen=True, kw_only=True)
class Data:
    """What a row learns from, and what it is asked."""

    train: list[dict[str, Any]]  # rows of the training file
    held_out: list[Asked]
    labelled: list[tuple[str, str]] = field(default_factory=list)  # texts and their labels, for a classifier


@dataclass(frozen=True, kw_only=True)
class Trained:
    """A recipe, and settings of its own."""

    recipe: str
    settings: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Its name in the table and on disk."""
        return " ".join([self.recipe, *self.settings])


Answerer = Callable[[LanguageModel, Data], list[str]]
Control = Callable[[Data], list[str]]
Scorer = Callable[[Sequence[str], Sequence[Asked]], float]


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


# -- what is asked ----------------------------------------------------------------------------------------------------


def stories(seed: int) -> Data:
    """Stories, and held-out stories with one word masked."""
    rows = [{"text": text} for text in documents(seed, level=0, count=TRAIN_ROWS["stories"], languages=["en"])]
    unseen = documents(seed, level=0, count=HELD_OUT, languages=["en"], split="held_out")
    draws = random.Random(seed)
    return Data(train=rows, held_out=[hide_word(text, draws) for text in unseen])


def hide_word(text: str, draws: random.Random) -> Asked:
    """The text with one of its words masked; the mark at its end stays.

    >>> hide_word("Mara ran.", random.Random(1)).source in ("[MASK] ran.", "Mara [MASK].")
    True
    """
    lines = text.split("\n")
    words = lines[0].split(" ")
    place = draws.randrange(len(words))
    word = words[place].rstrip(".,?")
    words[place] = MASK + words[place][len(word) :]
    return Asked(source="\n".join([" ".join(words), *lines[1:]]), target=word)


def questions(seed: int) -> Data:
    """Stories with their questions, and held-out stories up to the answer of their last question."""
    unseen = [
        text.rpartition("\n") for text in documents(seed, level=0, count=HELD_OUT, languages=["en"], split="held_out")
    ]
    asked = [
        (f"{tale}\n{line[: line.index('?') + 1]}", line[line.index("?") + 1 :].strip()) for tale, _, line in unseen
    ]
    return Data(train=stories(seed).train, held_out=[Asked(source=source, target=target) for source, target in asked])


def genders(seed: int) -> Data:
    """Stories of many people to learn the language from, and sentences about people: half of the names have no label.

    What is asked, she or he, stands in no sentence that is labelled or asked. Only stories tell it: "Mara went to the
    kitchen. She took the cup."
    """
    train = [{"text": text} for text in documents(seed, level=1, count=TRAIN_ROWS["stories"], languages=["en"])]
    draws = random.Random(seed)
    women, men = draws.sample(WOMEN, len(WOMEN)), draws.sample(MEN, len(MEN))
    known = [(name, label) for names, label in ((women, "she"), (men, "he")) for name in names[::2]]
    unknown = [(name, label) for names, label in ((women, "she"), (men, "he")) for name in names[1::2]]
    labelled = [(f"{name} {moved}.", label) for name, label in known for moved in MOVED]
    asked = [Asked(source=f"{name} {moved}.", target=label) for name, label in unknown for moved in MOVED]
    return Data(train=train, held_out=draws.sample(asked, min(HELD_OUT, len(asked))), labelled=labelled)


def task(name: str, language: str = "en") -> Callable[[int], Data]:
    """A task of the microworld: pairs to learn from, and pairs that training never shows."""

    def make(seed: int) -> Data:
        train = pairs(name, seed, level=0, count=TRAIN_ROWS[name], language=language)
        unseen = pairs(name, seed, level=0, count=HELD_OUT, language=language, split="held_out")
        rows = [{"source": pair.source, "target": pair.target} for pair in train]
        return Data(train=rows, held_out=[Asked(**asdict(pair)) for pair in unseen])

    return make


def two_tasks(asked: str) -> Callable[[int], Data]:
    """Summaries and answers to learn from, side by side, as T5 learned its tasks; one of the two is asked."""
    tasks = {name: task(name) for name in ("summary", "answers")}

    def make(seed: int) -> Data:
        found = {name: of(seed) for name, of in tasks.items()}
        train = [row for data in found.values() for row in data.train]
        random.Random(seed).shuffle(train)
        return Data(train=train, held_out=found[asked].held_out)

    return make


def real_pairs(path: Path) -> Callable[[int], Data]:
    """Pairs from a table, in an order drawn by the seed: the first for training, then those that are asked."""

    def make(seed: int) -> Data:
        lines = [line.split("\t")[:2] for line in path.read_text(encoding="utf-8").splitlines() if "\t" in line]
        random.Random(seed).shuffle(lines)
        lines = [line for line in lines if max(map(len, line)) <= MOST_CHARACTERS]
        known = {source for source, _ in lines[:REAL_ROWS]}
        unseen = [Asked(source=one, target=two) for one, two in lines[REAL_ROWS:] if one not in known]
        rows = [{"source": one, "target": two} for one, two in lines[:REAL_ROWS]]
        return Data(train=rows, held_out=unseen[:HELD_OUT])

    return make


def xquad(path: Path) -> Callable[[int], Data]:
    """Real questions with their passages: the articles in an order drawn by the seed, the last sixth of them is asked."""

    def make(seed: int) -> Data:
        articles = json.loads(path.read_text(encoding="utf-8"))["data"]
        random.Random(seed).shuffle(articles)
        kept = len(articles) * 5 // 6
        train = [one for article in articles[:kept] for one in passage_questions(article)]
        unseen = [one for article in articles[kept:] for one in passage_questions(article)]
        return Data(train=[{"source": one.source, "target": one.target} for one in train], held_out=unseen[:HELD_OUT])

    return make


def passage_questions(article: dict[str, Any]) -> Iterator[Asked]:
    """The questions of an article, each with its passage."""
    for passage in article["paragraphs"]:
        for asked in passage["qas"]:
            source = f"{asked['question']}\n{passage['context']}"
            yield Asked(source=source, target=asked["answers"][0]["text"])


# -- how a model answers ----------------------------------------------------------------------------------------------


def fills(lm: LanguageModel, data: Data) -> list[str]:
    """The likeliest filling of the mask; of an encoder with a decoder, what it writes for the first sentinel."""
    top = None if lm.config.encoder else 1
    blanks = [lm.fill(one.source, top=top, mask=MASK).blanks[0] for one in data.held_out]
    return [blank.candidates[0].text.strip() if blank.candidates else "" for blank in blanks]


def writes(lm: LanguageModel, data: Data) -> list[str]:
    """The likeliest text about the source, token by token."""
    return [lm.complete(one.source, temperature=0, max_new_tokens=120).text.strip() for one in data.held_out]


def goes_on(lm: LanguageModel, data: Data) -> list[str]:
    """The rest of the line, token by token."""
    return [
        lm.complete(one.source, temperature=0, max_new_tokens=12, stop=["\n"]).text.strip() for one in data.held_out
    ]


def labels(lm: LanguageModel, data: Data) -> list[str]:
    """The label that a classifier gives, fitted over the vectors of the encoder as it is."""
    with tempfile.TemporaryDirectory() as folder:
        lm.train_labels(data.labelled, Path(folder) / "labels")
        found = pellucid.load(Path(folder) / "labels").classify([one.source for one in data.held_out])
    return [likeliest[0].name for likeliest in found]


# -- controls ---------------------------------------------------------------------------------------------------------


def same_neighbours(data: Data) -> list[str]:
    """The word that training showed most often between the two words beside the mask; else after the first of them."""
    between: dict[tuple[str, str], Counter[str]] = {}
    after: dict[str, Counter[str]] = {}
    for row in data.train:
        words = ["", *row["text"].split("\n")[0].split(" "), ""]
        for left, word, right in zip(words, words[1:], words[2:], strict=False):
            between.setdefault((left, right), Counter())[word.rstrip(".,?")] += 1
            after.setdefault(left, Counter())[word.rstrip(".,?")] += 1
    answers = []
    for one in data.held_out:
        words = ["", *one.source.split("\n")[0].split(" "), ""]
        place = next(index for index, word in enumerate(words) if MASK in word)
        found = between.get((words[place - 1], words[place + 1])) or after.get(words[place - 1]) or Counter([""])
        answers.append(found.most_common(1)[0][0])
    return answers


def nearest(data: Data) -> list[str]:
    """The target of the training source that shares the largest part of its pieces: words, or pairs of Chinese characters."""
    known = [(pieces(row["source"]), row["target"]) for row in data.train]
    holders: dict[str, list[int]] = {}
    for index, (found, _) in enumerate(known):
        for piece in found:
            holders.setdefault(piece, []).append(index)
    answers = []
    for one in data.held_out:
        wanted = pieces(one.source)
        shared = Counter(index for piece in wanted for index in holders.get(piece, ()))
        best = max(shared, key=lambda index: shared[index] / len(wanted | known[index][0]), default=None)
        answers.append("" if best is None else known[best][1])
    return answers


def pieces(text: str) -> frozenset[str]:
    """What two texts may share: words, or pairs of neighbouring characters where there are no spaces.

    >>> sorted(pieces("a b")), sorted(pieces("你好吗"))
    (['a', 'b'], ['你好', '好吗'])
    """
    words = text.split()
    return frozenset(words if text.isascii() else map("".join, itertools.pairwise(text)))


# -- what counts ------------------------------------------------------------------------------------------------------


def exact(answers: Sequence[str], asked: Sequence[Asked]) -> float:
    """The share that is right to the letter."""
    return statistics.fmean(answer == one.target for answer, one in zip(answers, asked, strict=True))


def facts_kept(answers: Sequence[str], asked: Sequence[Asked]) -> float:
    """The share of the questions of the stories that the summaries answer rightly."""
    kept = [
        all(sentence in answer for sentence in fact)
        for answer, one in zip(answers, asked, strict=True)
        for fact in one.facts
    ]
    return statistics.fmean(kept)


def chrf(answers: Sequence[str], asked: Sequence[Asked]) -> float:
    """chrF of sacrebleu, from 0 to 1: characters and runs of them that are shared with the reference."""
    from sacrebleu.metrics import CHRF  # python -m pip install sacrebleu

    return float(CHRF().corpus_score(list(answers), [[one.target for one in asked]]).score / 100)


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
                answers=writes,
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
        started = time.perf_counter()
        ran = subprocess.run(command, capture_output=True, text=True)
        if ran.returncode:
            raise SystemExit(f"{what.name} failed:\n{ran.stderr[-2000:]}")
        took.write_text(f"{time.perf_counter() - started:.1f}")
    return pellucid.load(run), float(took.read_text())


def measure(name: str, row: Row, seed: int, given: argparse.Namespace) -> dict[str, Any]:
    """One row for one seed."""
    data = row.data(seed)
    learnt = hashlib.sha256(repr(data.train).encode()).hexdigest()[:8]

    def folder_of(what: Trained) -> Path:
        return given.out / f"{what.name.replace(' ', '-')}-{seed}-{learnt}"

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
        "settings": given.set,
    }


def table(rows: dict[str, Row], done: Iterable[dict[str, Any]]) -> Iterator[str]:
    """The table in Markdown: the mean over seeds, the lowest and the highest, and whether the control is beaten."""
    yield "| row | what counts | model | control | seeds | seconds | |"
    yield "| --- | --- | --- | --- | --- | --- | --- |"
    found: dict[str, list[dict[str, Any]]] = {}
    for one in done:
        found.setdefault(one["row"], []).append(one)
    for name, some in found.items():
        values, controls = ([one[key] for one in some] for key in ("value", "control"))
        spread = "" if len(some) == 1 else f" ({min(values):.1%} to {max(values):.1%})"
        verdict = "" if min(values) > max(controls) else "**does not beat its control**"
        row, seconds = rows[name], statistics.fmean(one["seconds"] for one in some)
        yield (
            f"| {name} | {row.says} | {statistics.fmean(values):.1%}{spread} | {statistics.fmean(controls):.1%} "
            f"({row.control_name}) | {len(some)} | {seconds:.0f} | {verdict} |"
        )


def curves(done: Iterable[dict[str, Any]], folder: Path) -> dict[str, list[tuple[float, float]]]:
    """Validation loss by update: of each recipe's first run."""
    series: dict[str, list[tuple[float, float]]] = {}
    for one in done:
        lines = (folder / one["run"] / "run" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        measured = [found for found in map(json.loads, lines) if found["kind"] == "eval"]
        series.setdefault(one["recipe"], [(found["step"], found["loss"]) for found in measured])
    return series


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
    parser.add_argument("--table", action="store_true", help="print what is done, and measure nothing")
    parser.add_argument("--curves", type=Path, help="draw the validation losses there (.svg and .png are added)")
    given = parser.parse_args()
    rows = rows_of(given.pairs, given.xquad)
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
        labels = {"x_label": "updates", "y_label": "validation loss, nats per predicted token"}
        draw_curves(curves(done, given.out), title="What recipes learn", **labels, path_without_suffix=given.curves)


if __name__ == "__main__":
    main()
