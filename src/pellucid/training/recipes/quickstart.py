"""The first five minutes: a small world, a model that learns it from nothing, and an exam.

    measure the machine -> choose a rung of the ladder -> tell stories in English and Chinese -> pretrain on them
    -> ask about worlds that the model has never seen, beside controls that understand nothing

The ladder is fixed: a rung is chosen by what a training step reaches here, and recorded with the run, so that everybody
on a rung gets the same run. Nothing in it is special to the microworld but the corpus and the exam.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from pellucid.data.microworld.corpus import documents, held_out
from pellucid.data.microworld.story import VERSION, Story
from pellucid.engine.generate import complete, encode_prompt
from pellucid.engine.settings import SamplingSettings
from pellucid.engine.torch_runner import TorchRunner
from pellucid.errors import ResumeError
from pellucid.evaluate.microworld import MicroworldScore, measure_microworld
from pellucid.events import NULL, Event, Recorder
from pellucid.planning.machine import inspect_machine
from pellucid.settings import Layer, resolve
from pellucid.store.checkpoint import load_checkpoint, load_model
from pellucid.store.run import is_run, lock_run, resolve_checkpoint
from pellucid.training.device import choose_device, choose_dtype, use_threads
from pellucid.training.measure import measure_training
from pellucid.training.recipes.pretrain import Finished, Pretraining, open_text, pretrain_locked
from pellucid.training.settings import TrainSettings
from pellucid.untrusted import Table, read_json, shown

LEVEL = 0
CORPUS, CHOICE = "stories.jsonl", "quickstart.json"
PROBES = ("Anna went to the", "小梅走进")  # shown to the model again and again while it learns
LANGUAGES = ("en", "zh")
SPLITS = ("held_out", "combinations", "paraphrases", "lengths")
CONTEXT = 128
VOCABULARY = 768  # large enough that no name falls apart, small enough that no phrase becomes one token


@dataclass(frozen=True, kw_only=True)
class Rung:
    """One size of quickstart."""

    name: str
    least_flops_per_second: float  # what a training step must reach here for this rung
    n_layers: int
    d_model: int
    n_heads: int
    d_ff: int
    corpus_bytes: int
    steps: int
    rows: int


LADDER = (  # largest first; the last one takes every machine
    Rung(name="large", least_flops_per_second=500e9, n_layers=4, d_model=256, n_heads=8, d_ff=704,
         corpus_bytes=45_000_000, steps=3600, rows=16),
    Rung(name="medium", least_flops_per_second=80e9, n_layers=3, d_model=128, n_heads=4, d_ff=352,
         corpus_bytes=30_000_000, steps=2400, rows=16),
    Rung(name="small", least_flops_per_second=0.0, n_layers=2, d_model=128, n_heads=4, d_ff=352,
         corpus_bytes=11_000_000, steps=900, rows=16),
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Sample:
    """A story that the model had never seen, a question, and what it answered."""

    story: Story
    question: str
    expected: str
    reply: str
    correct: bool


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What quickstart leaves behind."""

    finished: Finished
    rung: str
    score: MicroworldScore
    answers: tuple[Sample, ...]
    continuations: tuple[tuple[str, str], ...]  # (prompt, what the model wrote)


def quickstart(
    out: Path,
    *,
    seed: int = 1337,
    device: str = "auto",
    threads: int | None = None,
    rung: str | None = None,
    num_questions: int = 150,
    recorder: Recorder = NULL,
) -> Outcome:
    """Do all of it in `out`; the same call goes on where an interrupted one stopped.

    `rung` takes a size of the ladder by name instead of measuring. Raises what `pretrain` raises.
    """
    with lock_run(out):
        chosen = choose_rung(out, seed=seed, device=device, threads=threads, asked=rung, recorder=recorder)
        corpus = write_corpus(out, chosen, seed, recorder)
        resolved = resolve(TrainSettings, Layer("quickstart", settings_of(chosen, seed, device, threads)))
        task = Pretraining(text=corpus, out=out, resolved=resolved)
        finished = pretrain_locked(task, open_text(task, recorder), recorder=recorder)
    return examine(finished, chosen, seed, device, num_questions, recorder)


def choose_rung(
    out: Path, *, seed: int, device: str, threads: int | None, asked: str | None, recorder: Recorder
) -> Rung:
    """The rung of this directory: the recorded one, the one asked for, or the largest that this machine can climb."""
    stored = out / CHOICE
    if stored.is_file():
        choice = dict(Table(read_json(stored), str(stored)).values)
        names = {rung.name for rung in LADDER}
        if choice.get("rung") not in names:
            raise ResumeError("the record of the size is damaged", found=shown(choice.get("rung")), where=str(stored))
        if choice.get("seed") != seed or choice.get("world") != VERSION or asked not in (None, choice["rung"]):
            raise ResumeError(
                "this directory holds another quickstart", found=str(choice), where=str(out), hint="give another --out"
            )
        return next(rung for rung in LADDER if rung.name == choice["rung"])
    if is_run(out):
        raise ResumeError("this directory holds another run", where=str(out), hint="give another --out")
    machine = inspect_machine()
    use_threads(threads, machine)
    place = choose_device(device)
    rates = measure_training(place, choose_dtype("auto", place, machine), deterministic=True)
    reached = rates.training_flops_per_second
    if asked is not None:
        rung = next(rung for rung in LADDER if rung.name == asked)
    else:
        rung = next(rung for rung in LADDER if reached >= rung.least_flops_per_second)
    out.mkdir(parents=True, exist_ok=True)
    choice = {"rung": rung.name, "seed": seed, "world": VERSION, "flops_per_second": reached}
    stored.write_text(json.dumps(choice, indent=2) + "\n", encoding="utf-8")
    recorder.record(
        Event(
            name="quickstart.rung",
            message=f"a short training step reaches {reached / 1e9:,.0f} GFLOP/s here: size {rung.name}",
            data=choice,
        )
    )
    return rung


def write_corpus(out: Path, rung: Rung, seed: int, recorder: Recorder) -> Path:
    """Tell the stories, one to a row, English and Chinese in turn."""
    path = out / CORPUS
    if path.is_file():
        return path
    partial, written = path.with_suffix(".partial"), 0
    with partial.open("w", encoding="utf-8") as file:
        for text in documents(seed, level=LEVEL, num_bytes=rung.corpus_bytes, languages=LANGUAGES):
            file.write(json.dumps({"text": text}, ensure_ascii=False) + "\n")
            written += len(text)
            if written % 500 < len(text):
                data = {"characters_done": min(written, rung.corpus_bytes), "characters_total": rung.corpus_bytes}
                recorder.record(Event(name="data.progress", message="telling stories", data=data))
    partial.replace(path)
    message = f"a small world told in English and Chinese: {path} ({path.stat().st_size / 1e6:.0f} MB)"
    recorder.record(Event(name="quickstart.corpus", message=message, data={"path": str(path), "world": VERSION}))
    return path


def settings_of(rung: Rung, seed: int, device: str, threads: int | None) -> dict:
    """The rung as the settings of a training run."""
    return {
        "seed": seed,
        "device": device,
        "threads": threads,
        "steps": rung.steps,
        "compile": "off",
        "tokenizer": {"kind": "bpe", "vocab_size": VOCABULARY},
        "model": {
            "depth": rung.n_layers,
            "d_model": rung.d_model,
            "n_heads": rung.n_heads,
            "n_kv_heads": rung.n_heads,
            "head_dim": rung.d_model // rung.n_heads,
            "d_ff": rung.d_ff,
            "context_length": CONTEXT,
            "tied_head": False,
        },
        "batch": {"tokens": rung.rows * CONTEXT},
        "optimizer": {"momentum": 0.95},
        # Stories are told from the same sentences, so short runs repeat between the two sides by design.
        "data": {"valid_fraction": 0.01, "report_duplicates": False},
        "evaluation": {"every_steps": max(1, rung.steps // 5)},
        # So that the lens can show how it learned.
        "saving": {"keep_every": max(1, rung.steps // 5)},
        "probe": {"texts": PROBES},
    }


def examine(finished: Finished, rung: Rung, seed: int, device: str, num_questions: int, recorder: Recorder) -> Outcome:
    """Ask about held-out worlds in both languages, and let the model tell a story of its own."""
    checkpoint = load_checkpoint(resolve_checkpoint(finished.out, recorder=recorder))
    model, tokenizer = load_model(checkpoint, device=choose_device(device)).eval(), checkpoint.tokenizer
    assert tokenizer is not None, "pretrain saves its tokenizer"
    recorder.record(Event(name="quickstart.exam", message="asking about worlds it has never seen …"))
    score = measure_microworld(
        model, tokenizer, seed=seed, level=LEVEL, splits=SPLITS, languages=LANGUAGES, num_questions=num_questions
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
    greedy = SamplingSettings(temperature=0.7, top_p=0.95, max_new_tokens=60, seed=seed)
    continuations = []
    for language in LANGUAGES:
        [story] = held_out(seed + 1, level=LEVEL, split="held_out", count=1, language=language)
        prompt = story.sentences[0]
        written = complete(TorchRunner(model), tokenizer, encode_prompt(tokenizer, prompt), greedy)
        continuations.append((prompt, written.text))
    return Outcome(finished=finished, rung=rung.name, score=score, answers=samples, continuations=tuple(continuations))
