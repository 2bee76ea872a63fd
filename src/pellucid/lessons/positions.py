"""Beyond the length it was trained on: five ways in which a token knows its place, read further than they ever were.

    none         only the causal mask tells what stands before
    learned      a vector for each place: behind the last one there is nothing to add
    sinusoidal   sines and cosines of the place, which go on for ever
    rotary       queries and keys turn by an angle for each place
    relative     a number for each distance is added to the score; all far distances share one

Five equal models learn from rows of `CONTEXT` tokens and then read rows of two and four times that length, as they are,
and stretched: a rotation turned more slowly, or learned vectors drawn out between their neighbours, so that the long row
lies within the places that were seen.

Axes: B rows · T places of a row · D width.
Source: Press et al. 2022, "Train short, test long" (the question); Chen et al. 2023 (position interpolation); Peng et al.
2024 (YaRN).
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from pellucid.data.document import Document
from pellucid.data.loader import windows
from pellucid.data.objectives.causal import CausalObjective
from pellucid.data.objectives.protocol import LOSS
from pellucid.data.shards import TokenShards
from pellucid.data.writer import write_shards
from pellucid.evaluate.asked_model import AskedModel
from pellucid.evaluate.likelihood import KEY
from pellucid.events import NULL, Recorder
from pellucid.lessons.apprentice import Corpus, Course, choose_corpus, rows_of, small_config, teach
from pellucid.lessons.page import FINDING, QUESTION, SETUP, Bilingual, Chart, LessonPage, LessonTable, Paragraph
from pellucid.lessons.settings import LessonSettings
from pellucid.model.build import build
from pellucid.model.decoder import Decoder
from pellucid.model.device import inference
from pellucid.planning.config import ModelConfig
from pellucid.planning.parts.position import (
    Learned,
    LinearScaling,
    NoPosition,
    Position,
    Relative,
    RopeScaling,
    Rotary,
    Sinusoidal,
    YarnScaling,
)
from pellucid.tokens.train import train_bpe

CONTEXT = 64
TIMES = (1, 2, 4)  # how many times as long as the rows that were learned from
ROWS = 16  # read at once
KINDS: dict[str, Position] = {
    "none": NoPosition(),
    "learned": Learned(),
    "sinusoidal": Sinusoidal(),
    "rotary": Rotary(),
    "relative": Relative(buckets=32, farthest=64),
}


@dataclass(frozen=True, kw_only=True)
class PositionsSize:
    """How large the trial is."""

    vocab_size: int
    n_layers: int
    d_model: int
    course: Course


FULL = PositionsSize(vocab_size=512, n_layers=3, d_model=64, course=Course(steps=500, rows=12))
QUICK = PositionsSize(vocab_size=300, n_layers=1, d_model=32, course=Course(steps=6, rows=2))


def trial(settings: LessonSettings, *, recorder: Recorder = NULL) -> LessonPage:
    """Train a model with each kind of positions on the same rows, and read unseen text further than it ever did."""
    size = QUICK if settings.quick else FULL
    corpus = choose_corpus(settings, recorder=recorder)
    tokenizer = train_bpe(corpus.train, size.vocab_size, specials="none", recorder=recorder)
    models = {}
    with rows_of(corpus.train, tokenizer, context_length=CONTEXT, seed=settings.seed) as rows:
        for name, position in KINDS.items():
            shape = small_config(
                tokenizer.vocab_size, context_length=CONTEXT, n_layers=size.n_layers, d_model=size.d_model
            )
            model = build(replace(shape, position=position), seed=settings.seed, device=settings.device)
            models[name] = teach(model, rows, size.course, seed=settings.seed, name=name, recorder=recorder).model
    with tempfile.TemporaryDirectory(prefix="pellucid-lesson-", ignore_cleanup_errors=True) as folder:
        unseen = (Document(text=text, origin=f"held out {i}") for i, text in enumerate(corpus.held_out))
        shards = write_shards(unseen, tokenizer, Path(folder) / "tokens")
        readings = [reading for name, model in models.items() for reading in read_all(name, model, shards)]
    return _page(corpus, size, readings)


@dataclass(frozen=True, kw_only=True)
class Reading:
    """The loss of a model in rows of some length, by place; None where it cannot read so far."""

    name: str
    times: int
    loss_T: Sequence[float] | None

    @property
    def last(self) -> float:
        """The mean loss of the last `CONTEXT` places: the furthest from the beginning."""
        return math.nan if self.loss_T is None else sum(self.loss_T[-CONTEXT:]) / CONTEXT


def read_all(name: str, model: Decoder, shards: TokenShards) -> list[Reading]:
    """What a model makes of rows of each length, as it is and stretched."""
    found = []
    for times in TIMES:
        longer = lengthened(model, times)
        loss_T = None if longer is None else loss_by_place(longer, shards)
        found.append(Reading(name=name, times=times, loss_T=loss_T))
        for way, drawn in stretched(model, times).items():
            found.append(Reading(name=f"{name}, {way}", times=times, loss_T=loss_by_place(drawn, shards)))
    return found


def lengthened(model: Decoder, times: int) -> Decoder | None:
    """The same model for longer rows; None for a table of places, which has no vector for those that follow."""
    config = model.config
    if times > 1 and isinstance(config.position, Learned):
        return None
    return with_weights(replace(config, context_length=times * config.context_length), model.state_dict(), model)


def stretched(model: Decoder, times: int) -> dict[str, Decoder]:
    """The model with longer rows squeezed into the places that it knows, by the name of the way; none where there is no way."""
    config, weights = model.config, model.state_dict()
    longer = replace(config, context_length=times * config.context_length)
    if times == 1:
        return {}
    if isinstance(config.position, Rotary):
        yarn = YarnScaling(
            factor=times, original_context=config.context_length, low_frequency=1.0, high_frequency=32.0,
            attention_factor=0.1 * math.log(times) + 1,
        )  # fmt: skip
        ways: dict[str, RopeScaling] = {"stretched": LinearScaling(factor=times), "YaRN": yarn}
        return {
            way: with_weights(replace(longer, position=replace(config.position, scaling=scaling)), weights, model)
            for way, scaling in ways.items()
        }
    if isinstance(config.position, Learned):
        drawn = drawn_out(weights["position.weight"], times)
        return {"stretched": with_weights(longer, {**weights, "position.weight": drawn}, model)}
    return {}


def drawn_out(weight_TD: Tensor, times: int) -> Tensor:
    """A table with `times` as many places: straight lines between neighbours.

    >>> drawn_out(torch.tensor([[0.0], [2.0]]), 2).T.tolist()
    [[0.0, 1.0, 2.0, 2.0]]
    """
    place_S = torch.arange(times * len(weight_TD), device=weight_TD.device) / times
    before_S = place_S.long()
    after_S = (before_S + 1).clamp(max=len(weight_TD) - 1)
    return torch.lerp(weight_TD[before_S], weight_TD[after_S], (place_S - before_S)[:, None].to(weight_TD.dtype))


def with_weights(config: ModelConfig, weights: dict[str, Tensor], like: Decoder) -> Decoder:
    """A model of that shape with these weights, where another one is."""
    model = build(config, seed=0, device=like.device)
    model.load_state_dict(weights)
    return model.eval()


def loss_by_place(model: Decoder, shards: TokenShards) -> list[float]:
    """The mean loss at each place of a row, in nats, over rows as long as the model's context."""
    length = model.config.context_length
    sums_T, counts_T = torch.zeros(2, length, dtype=torch.float64)
    objective, asked = CausalObjective(), AskedModel(model=model)
    for rows in windows(shards, length, rows=ROWS):
        batch = objective.batch(rows, KEY).to(model.device)
        with inference():
            loss_BT = objective.measure(asked, batch)[LOSS].double().cpu()
        counts_BT = (batch.weights_BT > 0).cpu()
        sums_T += torch.where(counts_BT, loss_BT, 0.0).sum(0)
        counts_T += counts_BT.sum(0)
    return (sums_T / counts_T).tolist()


def by_eighths(loss_T: Sequence[float]) -> list[tuple[float, float]]:
    """A curve over the places of a row: the mean of every eighth of `CONTEXT`, at its middle."""
    size = CONTEXT // 8
    means = F.avg_pool1d(torch.tensor(loss_T)[None], size)[0].tolist()
    return [(size * (index + 0.5), mean) for index, mean in enumerate(means)]


def _page(corpus: Corpus, size: PositionsSize, readings: Sequence[Reading]) -> LessonPage:
    by_name = {name: [r for r in readings if r.name == name] for name in dict.fromkeys(r.name for r in readings)}
    rows = [(_NAMES[name], *_cells(found)) for name, found in by_name.items()]
    longest = [reading for reading in readings if reading.times == TIMES[-1]]
    first = {r.name: r for r in readings if r.times == 1}
    curves = {r.name: by_eighths((r if r.loss_T is not None else first[r.name]).loss_T or ()) for r in longest}
    labels = {"x_label": "place in the row", "y_label": "nats per token"}
    plain = {name: curve for name, curve in curves.items() if "," not in name}
    drawn = {name: curve for name, curve in curves.items() if name.split(",")[0] in ("rotary", "learned")}
    return LessonPage(
        (
            Paragraph(heading=QUESTION, text=_QUESTION),
            Paragraph(heading=SETUP, text=_setup(corpus, size)),
            LessonTable(caption=_CAPTION, columns=_COLUMNS, rows=tuple(rows)),
            Chart(name="positions", title=f"Trained on rows of {CONTEXT} tokens, read up to {CONTEXT * TIMES[-1]}", series=plain, **labels),
            Chart(name="positions-stretched", title="The same places, stretched", series=drawn, **labels),
            Paragraph(heading=FINDING, text=_finding(by_name)),
        )
    )  # fmt: skip


def _cells(found: Iterable[Reading]) -> list[float | Bilingual]:
    """The loss at each length; a word where the model cannot read so far, or was not asked."""
    by_times = {reading.times: reading for reading in found}
    return [
        _SAME if times not in by_times else _CANNOT if by_times[times].loss_T is None else by_times[times].last
        for times in TIMES
    ]


_NAMES = {
    "none": Bilingual("none", "无位置"),
    "learned": Bilingual("learned", "学习的位置"),
    "learned, stretched": Bilingual("learned, stretched", "学习的位置，拉伸"),
    "sinusoidal": Bilingual("sinusoidal", "正弦"),
    "rotary": Bilingual("rotary", "旋转"),
    "rotary, stretched": Bilingual("rotary, stretched", "旋转，拉伸"),
    "rotary, YaRN": Bilingual("rotary, YaRN", "旋转，YaRN"),
    "relative": Bilingual("relative", "相对"),
}
_CANNOT = Bilingual("cannot", "读不了")
_SAME = Bilingual("-", "-")
_QUESTION = Bilingual(
    "A model has learned from short rows. What happens when it reads a longer one? “A learned table cannot go past the "
    "length it was trained on” is said often. The others can: but do they know what they read?",
    "模型是用短的行学的。让它读更长的一行，会怎样？常听人说“学习的位置表，读不到训练长度之外”。其他的能读：但它们读得懂吗？",
)
_CAPTION = Bilingual(
    f"Loss in nats per token, over the last {CONTEXT} places of a row",
    f"损失（每词元纳特数），一行最后 {CONTEXT} 个位置",
)
_COLUMNS = (
    Bilingual("positions", "位置"),
    *(Bilingual(f"rows of {CONTEXT * times}", f"每行 {CONTEXT * times} 个") for times in TIMES),
)


def _setup(corpus: Corpus, size: PositionsSize) -> Bilingual:
    steps, rows = size.course.steps, size.course.rows
    return Bilingual(
        f"Five models of {size.n_layers} blocks, width {size.d_model}, equal in all but their positions, learn from "
        f"{corpus.name.en}: the same {steps} updates of {rows} rows of {CONTEXT} tokens. Then they read unseen text in rows "
        f"of {CONTEXT}, {CONTEXT * 2} and {CONTEXT * 4}. Nothing is trained again.",
        f"五个 {size.n_layers} 层、宽 {size.d_model} 的模型，除位置外完全相同，读{corpus.name.zh}：同样的 {steps} 次更新，"
        f"每次 {rows} 行，每行 {CONTEXT} 个词元。然后读未见过的文本，每行 {CONTEXT}、{CONTEXT * 2} 和 {CONTEXT * 4} 个词元。不再训练。",
    )


def _finding(by_name: dict[str, list[Reading]]) -> Bilingual:
    gains = {
        name: found[-1].last - by_name[name.split(",")[0]][0].last
        for name, found in by_name.items()
        if found[-1].times == TIMES[-1] and found[-1].loss_T is not None
    }
    order = sorted(gains, key=lambda name: gains[name])
    english = ", ".join(f"{_NAMES[name].en} {gains[name]:+.2f}" for name in order)
    chinese = "、".join(f"{_NAMES[name].zh} {gains[name]:+.2f}" for name in order)
    return Bilingual(
        f"The learned table has no vector for place {CONTEXT + 1}: it cannot read on at all. The others can, and what it costs "
        f"them at four times the length, in nats against their own loss at the length they learned, is: {english}. These are "
        "small models on an easy text, of one seed: look at the order and the shapes, not at the last digit.",
        f"学习的位置表里没有第 {CONTEXT + 1} 个位置的向量，根本读不下去。其他的能读；在四倍长度处，与各自训练长度处的损失相比，"
        f"多付的纳特数是：{chinese}。这些是小模型、简单的文本、一个种子：请看次序和形状，不要看最后一位数字。",
    )
