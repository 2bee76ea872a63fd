"""A missing residual connection: a mistake in one line that raises no error, and the model still trains.

    right      x  = x + attention(norm(x))        wrong      x_ = x + attention(norm(x))
               x  = x + mlp(norm(x))                         x  = x + mlp(norm(x_))

In the wrong block the feed-forward sees the output of attention, but the residual stream to the next block does not
contain it. Attention's output reaches later layers only through the block's own feed-forward. Shapes are right,
gradients flow, the loss falls. Only a comparison with the right block shows the difference.

Axes: B batch · T positions · D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pellucid.data.document import Document
from pellucid.data.objectives.causal import CausalObjective
from pellucid.evaluate.likelihood import measure_text
from pellucid.events import NULL, Recorder
from pellucid.lessons.apprentice import Corpus, Course, Trained, choose_corpus, rows_of, small_config, smooth, teach
from pellucid.lessons.page import (
    FINDING,
    QUESTION,
    SETUP,
    Bilingual,
    Chart,
    Formula,
    LessonPage,
    LessonTable,
    Paragraph,
)
from pellucid.lessons.settings import LessonSettings
from pellucid.model.block import Block
from pellucid.model.build import build
from pellucid.model.context import Pass
from pellucid.model.decoder import Decoder
from pellucid.model.init import init_weights
from pellucid.model.tap import no_tap
from pellucid.planning.config import ModelConfig
from pellucid.tokens.train import train_bpe

CONTEXT = 96
SMOOTHING = 10  # steps


@dataclass(frozen=True, kw_only=True)
class ResidualSize:
    """How large the trial is."""

    vocab_size: int
    n_layers: int
    d_model: int
    course: Course


FULL = ResidualSize(vocab_size=512, n_layers=4, d_model=64, course=Course(steps=400, rows=12))
QUICK = ResidualSize(vocab_size=300, n_layers=2, d_model=32, course=Course(steps=12, rows=2))


class LosingBlock(Block):
    """The mistake: the second line adds to `x` and not to `x_`, the result of the first line."""

    def forward(self, x_BTD: Tensor, this_pass: Pass) -> Tensor:
        share = self.dropout_share if this_pass.training else 0.0
        seen_BTD = x_BTD + F.dropout(self.attention(self.attention_norm(x_BTD), this_pass), share)
        return x_BTD + F.dropout(self.mlp(self.mlp_norm(seen_BTD), no_tap), share)


def build_losing(config: ModelConfig, *, seed: int, device: torch.device | str) -> Decoder:
    """A decoder of wrong blocks; its initial weights are exactly those of the right decoder."""
    model = Decoder(config)
    blocks = nn.ModuleList(LosingBlock(config, layer) for layer in range(config.n_layers))
    model.blocks = cast("Sequence[Block]", blocks)
    init_weights(model, config, seed)
    return model.to(device=device)


def trial(settings: LessonSettings, *, recorder: Recorder = NULL) -> LessonPage:
    """Train both decoders from the same weights on the same rows, and measure their loss on unseen text."""
    size = QUICK if settings.quick else FULL
    corpus = choose_corpus(settings, recorder=recorder)
    tokenizer = train_bpe(corpus.train, size.vocab_size, specials="none", recorder=recorder)
    config = small_config(tokenizer.vocab_size, context_length=CONTEXT, n_layers=size.n_layers, d_model=size.d_model)
    models = {
        "right block": build(config, seed=settings.seed, device=settings.device),
        "lost residual": build_losing(config, seed=settings.seed, device=settings.device),
    }
    with rows_of(corpus.train, tokenizer, context_length=CONTEXT, seed=settings.seed) as rows:
        trained = {
            name: teach(model, rows, size.course, seed=settings.seed, name=name, recorder=recorder)
            for name, model in models.items()
        }
    unseen = [Document(text=text, origin=f"held out {i}") for i, text in enumerate(corpus.held_out)]
    losses = [measure_text(model, tokenizer, unseen, objective=CausalObjective()).loss for model in models.values()]
    return _page(corpus, size, trained, losses)


def _page(corpus: Corpus, size: ResidualSize, trained: dict[str, Trained], unseen: list[float]) -> LessonPage:
    right, lost = (smooth(one.losses, SMOOTHING) for one in trained.values())
    gap = [(step, late - early) for (step, early), (_, late) in zip(right, lost, strict=True)]
    names = (Bilingual("right block", "正确的块"), Bilingual("lost residual", "丢失残差的块"))
    rows = [
        (name, curve[0][1], curve[len(curve) // 2][1], curve[-1][1], loss, one.seconds)
        for name, curve, loss, one in zip(names, (right, lost), unseen, trained.values(), strict=True)
    ]
    labels = {"x_label": "step", "y_label": "nats per token"}
    return LessonPage(
        (
            Paragraph(heading=QUESTION, text=_QUESTION),
            Formula(text="right: x = x + attn(x); x = x + mlp(x)      wrong: x_ = x + attn(x); x = x + mlp(x_)"),
            Paragraph(heading=SETUP, text=_setup(corpus, size)),
            LessonTable(caption=_CAPTION, columns=_COLUMNS, rows=tuple(rows)),
            Chart(name="residual", title="The same model with and without the mistake", series=dict(zip(trained, (right, lost), strict=True)), **labels),
            Chart(name="residual-gap", title="What the mistake costs", series={"lost - right": gap}, **labels),
            Paragraph(heading=FINDING, text=_finding(unseen, gap)),
        )
    )  # fmt: skip


_QUESTION = Bilingual(
    "Someone writes x_ = x + attn(x); x = x + mlp(x_). It runs, and the loss falls. How would you notice?",
    "有人写成 x_ = x + attn(x); x = x + mlp(x_)。程序能跑，损失也在降。怎样才能发现？",
)
_CAPTION = Bilingual("Loss in nats per token", "损失（每词元纳特数）")
_COLUMNS = (
    Bilingual("block", "块"), Bilingual("first steps", "开头"), Bilingual("half way", "中途"), Bilingual("last steps", "最后"),
    Bilingual("unseen text", "未见文本"), Bilingual("trained (s)", "训练（秒）"),
)  # fmt: skip


def _setup(corpus: Corpus, size: ResidualSize) -> Bilingual:
    steps, rows = size.course.steps, size.course.rows
    return Bilingual(
        f"Two models of {size.n_layers} blocks, width {size.d_model}, start from equal weights and learn from "
        f"{corpus.name.en}: the same {steps} updates of {rows} rows of {CONTEXT} tokens.",
        f"两个 {size.n_layers} 层、宽 {size.d_model} 的模型，从相同的权重出发，读{corpus.name.zh}："
        f"同样的 {steps} 次更新，每次 {rows} 行，每行 {CONTEXT} 个词元。",
    )


def _finding(unseen: list[float], gap: list[tuple[float, float]]) -> Bilingual:
    right, lost = unseen
    first, last = gap[0][1], gap[-1][1]
    return Bilingual(
        f"Both learn. The gap is {first:+.3f} nats over the first {SMOOTHING} steps and {last:+.3f} over the last; on "
        f"unseen text {lost:.3f} against {right:.3f}. No error was raised, and the curve of the mistake alone looks "
        "healthy: a wrong model is found by a reference beside it, or by a test that follows one block's arithmetic.",
        f"两个都在学。前 {SMOOTHING} 步的差距是 {first:+.3f} 纳特，最后 {SMOOTHING} 步是 {last:+.3f}；在未见文本上，"
        f"{lost:.3f} 对 {right:.3f}。没有任何报错，单看出错的那条曲线也很健康：要发现错误，得有一个对照，"
        "或者一个逐步核对一个块的算术的测试。",
    )
