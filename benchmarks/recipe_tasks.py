"""What the rows of `recipes.py` learn from and are asked, how a model answers, what a control answers, and what counts."""

from __future__ import annotations

import itertools
import json
import random
import statistics
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pellucid
from pellucid.data.microworld.corpus import documents
from pellucid.data.microworld.entities import MEN, WOMEN
from pellucid.data.microworld.tasks import pairs
from pellucid.language_model import LanguageModel

HELD_OUT = 200  # questions of a row
MOVED = [
    f"{went} the {place}" for went in ("went to", "ran to", "walked into") for place in ("garden", "market", "attic")
]
MASK = "[MASK]"
TRAIN_ROWS = {"stories": 20_000, "translation": 20_000, "summary": 20_000, "answers": 20_000}
REAL_ROWS = 20_000
MOST_CHARACTERS = 80  # of a real sentence; the model has room for 96 tokens


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


Answerer = Callable[[LanguageModel, Data], list[str]]
Control = Callable[[Data], list[str]]
Scorer = Callable[[Sequence[str], Sequence[Asked]], float]


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


def searches(lm: LanguageModel, data: Data) -> list[str]:
    """The likeliest text about the source that a beam search finds."""
    return [lm.search(one.source, num_beams=4, max_new_tokens=60)[0].text.strip() for one in data.held_out]


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
