"""The quickstart recipe: pretrain a small model from scratch on microworld stories in minutes, then examine it.

    measure the machine -> choose a size -> write stories in English and Chinese -> pretrain on them
    -> ask about worlds that the model has never seen, beside controls (baselines)

The sizes of a level are fixed. The size is chosen by the measured speed of a training step and recorded with the run,
so everybody with that size gets the same run. Only the corpus and the exam are special to the microworld.

These choices let a small model learn to use names (docs/log.md has the figures):

    character tokens  every Chinese character is a token, so a name or a verb has the same tokens everywhere
    a story to a row  no other story, with the same names, stands before it
    never twice       as many stories as rows, so none can be memorised
    sorted by length  the stories of an update are about equally long: a quarter more of them in the same time
    matched keys      keys are initialised similar to queries, so a name finds its earlier mentions from the first step
    slow rotation     most RoPE pairs hardly rotate within a story, so a name matches at any distance
    rare kinds count  a rare kind of question has a larger loss weight, or its answer is never learned
    a local block     the first block sees only the last few tokens, so a place picks up the name in its own sentence
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from torch import nn

from pellucid.data.microworld.corpus import held_out
from pellucid.data.microworld.story import VERSION, Question, Story, story
from pellucid.engine.generate import complete
from pellucid.engine.request import Request
from pellucid.engine.runners.torch_runner import TorchRunner
from pellucid.engine.sampling.settings import SamplingSettings
from pellucid.errors import ResumeError, advised
from pellucid.evaluate.microworld import MicroworldScore, measure_languages, measure_microworld
from pellucid.events import NULL, Event, Recorder
from pellucid.files import as_bytes, replace_file, replacing_file, to_json
from pellucid.model.decoder import Decoder
from pellucid.model.device import choose_device, choose_dtype, use_threads
from pellucid.planning.machine import inspect_machine
from pellucid.settings import Layer, resolve
from pellucid.store.checkpoint import load_checkpoint, load_model
from pellucid.store.run import is_run, lock_run, resolve_checkpoint
from pellucid.tokens.tokenizer import Tokenizer
from pellucid.training.interrupt import is_signal
from pellucid.training.measure import measure_training
from pellucid.training.recipes.pretrain import Pretraining, pretrain_locked
from pellucid.training.run import open_text
from pellucid.training.session import Exam, Finished
from pellucid.training.settings import TrainSettings
from pellucid.untrusted import Table, read_json, shown

ANOTHER = "give another --out"
RECIPE = 6  # counted up when the same command would make another run
CORPUS, CHOICE = "stories.jsonl", "quickstart.json"
PROBES = ("Anna went to the", "小梅走进")  # shown to the model again and again while it learns
LANGUAGES = ("en", "zh")
SPLITS = ("held_out", "combinations", "paraphrases", "lengths")
CONTEXT, ROW = 160, 85  # positions of the model, and of a training story, padding too, on average
LOCAL = 8  # tokens that a position sees in the first block, itself the last: about a sentence
MOST_HAN = 1  # Chinese characters in a token
POOL = 8  # updates whose stories are sorted by length together
SLOW_ROTATION = 1e7  # base of the rotary wavelengths
COUNTED = 2000  # stories in which kinds of question are counted
VALID_SHARE = 0.01
EVALUATIONS = 12
EXAM_QUESTIONS = 60  # of each language, at each evaluation


@dataclass(frozen=True, kw_only=True)
class QuickstartSize:
    """One size of quickstart."""

    name: str
    least_flops_per_second: float  # what a training step must reach here for this size
    n_layers: int
    d_model: int
    n_heads: int
    d_ff: int
    steps: int
    rows: int = 36  # stories in an update

    @property
    def num_stories(self) -> int:
        """The number of stories: enough that none is read twice."""
        return round(self.steps * self.rows / (1 - VALID_SHARE) * 1.01)


@dataclass(frozen=True, kw_only=True)
class Ladder:
    """The sizes of one level of the world, largest first; the last one is for every machine."""

    vocabulary: int  # at most: it ends where no pair of a word is left to merge
    sizes: tuple[QuickstartSize, ...]

    def size(self, name: str) -> QuickstartSize:
        """The size with this name."""
        return next(size for size in self.sizes if size.name == name)


# A size's threshold is the rate, measured on a short step, from which its training takes about three minutes (level 0) or ten
# (level 1); the last one takes longer on slower machines. A narrower model would save an eighth of the time there, and
# one run in eight never found out what an English name is for (docs/benchmarks.md).
LADDERS = {
    0: Ladder(
        vocabulary=1024,
        sizes=(
            QuickstartSize(
                name="large", least_flops_per_second=1.4e12, n_layers=4, d_model=256, n_heads=8, d_ff=704, steps=3600
            ),
            QuickstartSize(
                name="medium", least_flops_per_second=0.0, n_layers=4, d_model=192, n_heads=6, d_ff=256, steps=1500
            ),
        ),
    ),
    1: Ladder(
        vocabulary=2048,
        sizes=(
            QuickstartSize(
                name="large", least_flops_per_second=1.4e12, n_layers=4, d_model=256, n_heads=8, d_ff=704, steps=9600
            ),
            QuickstartSize(
                name="medium", least_flops_per_second=0.0, n_layers=4, d_model=192, n_heads=6, d_ff=256, steps=4800
            ),
        ),
    ),
}


@dataclass(frozen=True, kw_only=True)
class Start:
    """The options that a person can choose."""

    seed: int = 1337
    level: int = 0
    size: str | None = None  # the name of a size; None measures the machine
    device: str = "auto"
    threads: int | None = None
    precision: Literal["auto", "bf16", "fp32"] = "auto"


@dataclass(frozen=True, kw_only=True)
class Sample:
    """A story that the model had never seen, a question, and the model's answer."""

    story: Story
    question: str
    expected: str
    reply: str
    correct: bool


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """The result of quickstart."""

    finished: Finished
    size: str
    score: MicroworldScore | None  # None for a run that a signal stopped
    answers: tuple[Sample, ...]
    continuations: tuple[tuple[str, str], ...]  # (prompt, what the model wrote)


def quickstart(
    out: Path,
    *,
    start: Start,
    num_questions: int = 300,
    recorder: Recorder = NULL,
) -> Outcome:
    """Do the whole recipe in `out`; the same call resumes an interrupted one.

    `num_questions` are asked of each language and split. Raises what `pretrain` raises.
    """
    with lock_run(out):
        size = choose_size(out, start, recorder)
        corpus = write_corpus(out, size, start, recorder)
        resolved = resolve(TrainSettings, Layer("quickstart", settings_of(size, start)))
        task = Pretraining(text=corpus, out=out, resolved=resolved, exam=exam_of(start))
        finished = pretrain_locked(*open_text(task, recorder), recorder=recorder)
    if is_signal(finished.reason):
        return Outcome(finished=finished, size=size.name, score=None, answers=(), continuations=())
    return examine(finished, size, start, num_questions, recorder)


def identity_of(start: Start) -> dict[str, str | int]:
    """The facts that identify a quickstart, besides its size."""
    return {
        "seed": start.seed,
        "world": VERSION,
        "level": start.level,
        "precision": start.precision,
        "recipe": RECIPE,
    }


def choose_size(out: Path, start: Start, recorder: Recorder) -> QuickstartSize:
    """The size for this directory: the recorded one, the one asked for, or the largest that this machine can train."""
    stored, ladder = out / CHOICE, LADDERS[start.level]
    if stored.is_file():
        with advised(ANOTHER):
            choice = dict(Table(read_json(stored), str(stored)).values)
        asked = {**identity_of(start), "size": start.size or choice.get("size")}
        different = [
            f"{key}: {choice.get(key)} there, {value} now" for key, value in asked.items() if choice.get(key) != value
        ]
        if different:
            raise ResumeError(
                "this directory holds another quickstart",
                found="; ".join(different)[:200],
                where=str(out),
                hint=f"{ANOTHER}; what is there can still be used (pellucid generate, lens, eval)",
            )
        if choice.get("size") not in {size.name for size in ladder.sizes}:
            found = shown(choice.get("size"))
            raise ResumeError("the record of the size is damaged", found=found, where=str(stored), hint=ANOTHER)
        return ladder.size(choice["size"])
    if is_run(out):
        raise ResumeError("this directory holds another run", where=str(out), hint=ANOTHER)
    machine = inspect_machine()
    use_threads(start.threads, machine)
    place = choose_device(start.device)
    rates = measure_training(place, choose_dtype(start.precision, place, machine), deterministic=True)
    reached = rates.training_flops_per_second
    if start.size is not None:
        size = ladder.size(start.size)
    else:
        size = next(size for size in ladder.sizes if reached >= size.least_flops_per_second)
    choice = {"size": size.name, **identity_of(start), "flops_per_second": reached}
    replace_file(stored, as_bytes(to_json(choice) + "\n"))
    recorder.record(
        Event(
            name="quickstart.size",
            message=f"a short training step reaches {reached / 1e9:,.0f} GFLOP/s here: size {size.name}"
            f"{', as asked' if start.size else ''}",
            data=choice,
        )
    )
    return size


def write_corpus(out: Path, size: QuickstartSize, start: Start, recorder: Recorder) -> Path:
    """Write the stories, one to a row, English and Chinese in turn; answers to rare kinds of question weigh more."""
    path = out / CORPUS
    if path.is_file():
        return path
    total, weights = size.num_stories, kind_weights(start)
    with replacing_file(path) as partial, partial.open("w", encoding="utf-8") as file:
        for index in range(total):
            told = story(start.seed, index, level=start.level, language=LANGUAGES[index % len(LANGUAGES)])
            asked = zip(told.questions, told.answer_places, strict=True)
            spans = [(*place, weights.get(kind_of(question), 1.0)) for question, place in asked]
            row = {"text": told.text, "weights": [span for span in spans if span[-1] != 1]}
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
            if (index + 1) % 500 == 0 or index + 1 == total:
                data = {"label": "stories", "done": index + 1, "total": total}
                recorder.record(Event(name="quickstart.progress", message="telling stories", data=data))
    message = f"a small world told in English and Chinese: {path} ({path.stat().st_size / 1e6:.0f} MB)"
    recorder.record(Event(name="quickstart.corpus", message=message, data={"path": str(path), "world": VERSION}))
    return path


def kind_of(question: Question) -> tuple[str, int]:
    """The kind of a question, and the number of happenings that its answer needs."""
    return question.kind, question.hops


def kind_weights(start: Start) -> dict[tuple[str, int], float]:
    """The loss weight of the answers of each rare kind of question, so that each kind counts like the mean kind."""
    told = (story(start.seed, index, level=start.level, language=LANGUAGES[0]) for index in range(COUNTED))
    counts = Counter(kind_of(question) for one in told for question in one.questions)
    mean = counts.total() / len(counts)
    return {kind: round(mean / count, 2) for kind, count in counts.items() if count < mean}


def exam_of(start: Start) -> Exam:
    """The exam during training: about unseen worlds, from another seed than those of the last exam."""

    def ask(model: nn.Module, tokenizer: Tokenizer) -> dict[str, float]:
        assert isinstance(model, Decoder), "quickstart trains a decoder"
        return measure_languages(
            model, tokenizer, seed=start.seed + 1, level=start.level, languages=LANGUAGES, num_questions=EXAM_QUESTIONS
        )

    return ask


def settings_of(size: QuickstartSize, start: Start) -> dict:
    """The size as the settings of a training run."""
    return {
        "seed": start.seed,
        "device": start.device,
        "threads": start.threads,
        "precision": start.precision,
        "steps": size.steps,
        "compile": "off",
        "tokenizer": {"kind": "bpe", "vocab_size": LADDERS[start.level].vocabulary, "max_han": MOST_HAN},
        "model": {
            "depth": size.n_layers,
            "d_model": size.d_model,
            "n_heads": size.n_heads,
            "n_kv_heads": size.n_heads,
            "head_dim": size.d_model // size.n_heads,
            "d_ff": size.d_ff,
            "context_length": CONTEXT,
            "sliding_window": LOCAL,
            "sliding_layers": (0,),
            "rope_theta": SLOW_ROTATION,
            "tied_head": False,
            "dropout": 0.0,
            "init": "matched_keys",
        },
        "batch": {"rows": size.rows, "pool": POOL},
        "optimizer": {"momentum": 0.95},
        # Stories are told from the same sentences, so short runs repeat between the two sides by design.
        "data": {"rows": "documents", "weights": "weights", "valid_fraction": VALID_SHARE, "report_duplicates": False},
        "evaluation": {"every_steps": max(1, size.steps // EVALUATIONS), "max_share": 0.005},
        "probe": {"texts": PROBES},
    }


def examine(finished: Finished, size: QuickstartSize, start: Start, num_questions: int, recorder: Recorder) -> Outcome:
    """Ask about held-out worlds in both languages, and let the model continue a story on its own."""
    checkpoint = load_checkpoint(resolve_checkpoint(finished.out, recorder=recorder))
    model, tokenizer = load_model(checkpoint, device=choose_device(start.device)).eval(), checkpoint.tokenizer
    assert tokenizer is not None, "pretrain saves its tokenizer"
    recorder.record(Event(name="quickstart.exam", message="asking about worlds it has never seen …"))
    score = measure_microworld(
        model,
        tokenizer,
        seed=start.seed,
        level=start.level,
        splits=SPLITS,
        languages=LANGUAGES,
        num_questions=num_questions,
        recorder=recorder,
    )
    (finished.out / "exam.json").write_text(
        json.dumps(score.to_dict(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
    )
    samples = tuple(
        Sample(
            story=answer.story,
            question=answer.question.text,
            expected=answer.question.answers[0],
            reply=answer.reply,
            correct=answer.correct,
        )
        for language in LANGUAGES
        for answer in [a for a in score.answers if a.story.language == language and a.story.split == "held_out"][:4]
    )
    greedy = SamplingSettings(temperature=0.7, top_p=0.95, max_new_tokens=60, seed=start.seed)
    continuations = []
    for language in LANGUAGES:
        [begun] = held_out(start.seed + 1, level=start.level, split="held_out", count=1, language=language)
        prompt = begun.sentences[0]
        written = complete(
            TorchRunner(model), tokenizer, Request(prompt_ids=tokenizer.encode_prompt(prompt), sampling=greedy)
        )
        continuations.append((prompt, written.text))
    return Outcome(finished=finished, size=size.name, score=score, answers=samples, continuations=tuple(continuations))
