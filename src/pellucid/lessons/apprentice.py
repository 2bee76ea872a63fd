"""Train a small model from scratch for one lesson, and choose the text it learns from.

The lesson builds the model. This file trains it with the project's own training loop, shards and loader, in a temporary
folder that is deleted afterwards. Nothing is saved: to keep a model, use `pellucid train`.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import psutil
import torch

from pellucid.counts import counted
from pellucid.data.document import Document
from pellucid.data.loader import Loader
from pellucid.data.microworld.corpus import documents
from pellucid.data.objectives.causal import CausalObjective
from pellucid.data.source import open_source
from pellucid.data.writer import write_shards
from pellucid.errors import InputError
from pellucid.events import NULL, Event, Recorder
from pellucid.lessons.page import Bilingual
from pellucid.lessons.settings import LessonSettings
from pellucid.model.decoder import Decoder
from pellucid.planning.config import ModelConfig
from pellucid.planning.parts.feed_forward import FeedForwardConfig
from pellucid.tokens.tokenizer import Tokenizer
from pellucid.training.loop import Pace, RowSource, StepReport, Trainer, train
from pellucid.training.settings import OptimizerSettings, ScheduleSettings

MICROWORLD_LEVEL = 1
MICROWORLD_BYTES = 600_000
NUM_PASSAGES = 64
PASSAGE_CHARACTERS = 600
MOST_CHARACTERS = 2_000_000  # of a person's own text: more than a lesson can read
HELD_OUT_SHARE = 0.1  # of a person's own text: its end


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """The training text of a lesson's model, and held-out passages that it never sees."""

    name: Bilingual
    train: tuple[str, ...]
    held_out: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Course:
    """How a small model is trained: the number of updates, and the rows of each."""

    steps: int
    rows: int


@dataclass(frozen=True, kw_only=True)
class Trained:
    """A trained model and its loss curve."""

    model: Decoder
    losses: tuple[tuple[float, float], ...]  # (step, nats per token of the batch learned from)
    seconds: float


def choose_corpus(settings: LessonSettings, *, recorder: Recorder = NULL) -> Corpus:
    """The microworld in both languages, or the text that the settings name; its end is held out."""
    if settings.text is not None:
        return _read_file(settings.text, recorder)
    told = documents(settings.seed, level=MICROWORLD_LEVEL, num_bytes=MICROWORLD_BYTES)
    unseen = documents(settings.seed, level=MICROWORLD_LEVEL, count=NUM_PASSAGES, split="held_out")
    name = Bilingual("microworld stories in English and Chinese", "中英文微型世界故事")
    return Corpus(name=name, train=tuple(told), held_out=tuple(unseen))


def _read_file(path: Path, recorder: Recorder) -> Corpus:
    texts, size = [], 0
    for document in open_source(path, flags=(), recorder=recorder).documents():
        texts.append(document.text[: MOST_CHARACTERS - size])
        size += len(texts[-1])
        if size >= MOST_CHARACTERS:
            message = (
                f"only the first {MOST_CHARACTERS:,} characters of {path} are read: more than a lesson can learn from"
            )
            recorder.record(Event(name="lessons.text_cut", message=message, data={"characters": MOST_CHARACTERS}))
            break
    whole = "\n".join(texts)
    cut = int(len(whole) * (1 - HELD_OUT_SHARE))
    starts = range(cut, len(whole) - PASSAGE_CHARACTERS + 1, PASSAGE_CHARACTERS)
    passages = tuple(whole[start : start + PASSAGE_CHARACTERS] for start in starts[:NUM_PASSAGES])
    if not passages:
        raise InputError(
            "the text is too short for this lesson",
            found=counted(len(whole), "character"),
            where=str(path),
            hint=f"give at least {round(PASSAGE_CHARACTERS / HELD_OUT_SHARE):,}, or leave --text out for the microworld",
        )
    return Corpus(name=Bilingual(f"the text {path.name}", f"文本 {path.name}"), train=(whole[:cut],), held_out=passages)


def small_config(vocab_size: int, *, context_length: int, n_layers: int, d_model: int) -> ModelConfig:
    """The default shape at a size that learns in seconds: heads of 32, a feed-forward three times the model's width."""
    n_heads = d_model // 32
    return ModelConfig(
        vocab_size=vocab_size,
        context_length=context_length,
        n_layers=n_layers,
        n_heads=n_heads,
        n_kv_heads=n_heads,
        head_dim=32,
        d_model=d_model,
        d_ff=3 * d_model,
        feed_forward=FeedForwardConfig(kind="relu2"),
    )


@contextmanager
def rows_of(texts: Iterable[str], tokenizer: Tokenizer, *, context_length: int, seed: int) -> Iterator[RowSource]:
    """Training rows cut from some texts, stored in a temporary folder until the `with` block ends."""
    with tempfile.TemporaryDirectory(prefix="pellucid-lesson-", ignore_cleanup_errors=True) as folder:
        parts = (Document(text=text, origin=f"text {index}") for index, text in enumerate(texts))
        shards = write_shards(parts, tokenizer, Path(folder) / "tokens")
        yield Loader(shards, context_length=context_length, seed=seed)


def teach(model: Decoder, source: RowSource, course: Course, *, seed: int, name: str, recorder: Recorder) -> Trained:
    """Train a model; the recorder receives its name, then `training.progress` after each step."""
    message = f"training {name!r}: {counted(course.steps, 'update')} of {counted(course.rows, 'row')}"
    recorder.record(Event(name="lessons.training", message=message, data={"model": name, "steps": course.steps}))
    losses: list[tuple[float, float]] = []
    began = time.perf_counter()

    def after_step(report: StepReport) -> bool:
        losses.append((report.step, report.loss))
        recorder.record(_progress(report, course, time.perf_counter() - began))
        return True

    trainer = Trainer(
        model,
        source,
        Pace(steps=course.steps, rows=course.rows, micro_rows=course.rows),
        objective=CausalObjective(),
        optimizer=OptimizerSettings(),
        schedule=ScheduleSettings(),
        seed=seed,
        compute_dtype=torch.float32,
        recorder=recorder,
    )
    train(trainer, until=course.steps, after_step=after_step)
    return Trained(model=model, losses=tuple(losses), seconds=time.perf_counter() - began)


def _progress(report: StepReport, course: Course, seconds: float) -> Event:
    data = {
        "step": report.step,
        "steps": course.steps,
        "loss": report.loss,
        "tokens_per_second": report.step * report.tokens / seconds,
        "eta_seconds": seconds / report.step * (course.steps - report.step),
        "memory_bytes": psutil.Process().memory_info().rss,
    }
    return Event(name="training.progress", message=f"step {report.step}: loss {report.loss:.4f}", data=data)


def smooth(points: Sequence[tuple[float, float]], width: int) -> list[tuple[float, float]]:
    """Smooth a curve: the mean of every `width` points, placed at the last of them.

    >>> smooth([(1, 4.0), (2, 2.0), (3, 1.0)], 2)
    [(2, 3.0), (3, 1.0)]
    """
    rest = iter(points)
    stretches = iter(lambda: list(islice(rest, width)), [])
    return [(stretch[-1][0], sum(y for _, y in stretch) / len(stretch)) for stretch in stretches]
