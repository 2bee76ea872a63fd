"""Softmax: from scores (logits) to probabilities.

    p = exp(l) / Σ exp(l)

A model ends with one score per token. The softmax makes the scores positive and makes them add up to one; only
differences of scores count. The result is *not* a probability of being right: it is how the model divides its bet.
"""

from __future__ import annotations

import numpy as np

from pellucid.engine.sampling.distribution import probabilities
from pellucid.lessons.page import FINDING, QUESTION, Bilingual, Code, Formula, LessonPage, Paragraph, Working, Workings

CLEAR_LEAD = (4.0, 2.0, 0.5)
CLOSE_RACE = (2.2, 2.0, 0.5)

CODE = """\
from math import exp

logits = {logits}
exponentials = [exp(logit) for logit in logits]
total = sum(exponentials)
probabilities = [value / total for value in exponentials]
print([round(p, 3) for p in probabilities])
"""


def experiment() -> LessonPage:
    """Three scores, one clearly the largest."""
    question = Bilingual(
        "After “The sky is” a model gives “blue” the score 4.0, “clear” 2.0 and “green” 0.5. How likely is each?",
        "读到“天空是”之后，模型给“蓝”打 4.0 分，“晴”2.0 分，“绿”0.5 分。三者的概率各是多少？",
    )
    finding = Bilingual(
        "Two points more make a token e² = 7.39 times as likely: 0.858 / 0.116. The score itself means nothing; adding "
        "the same number to all three changes no probability.",
        "多 2 分，概率就是 e² = 7.39 倍：0.858 / 0.116。分数本身没有意义：三个分数加上同一个数，概率不变。",
    )
    return _page(question, CLEAR_LEAD, finding)


def exercise() -> LessonPage:
    """The same with the largest score lowered to 2.2."""
    question = Bilingual(
        "Lower the first score from 4.0 to 2.2 and leave the others. Work out the three probabilities before you read on.",
        "把第一个分数从 4.0 降到 2.2，其余不变。先自己算出三个概率，再往下看。",
    )
    finding = Bilingual(
        "The first token still leads, but by 0.2 points only, so it is e^0.2 = 1.22 times as likely as the second. "
        "The third gained probability although nothing was done to it: the three share one whole.",
        "第一个词元仍然领先，但只多 0.2 分，概率只是第二个的 e^0.2 = 1.22 倍。第三个的分数没有动，"
        "概率却升高了：三者分享的是同一个 1。",
    )
    return _page(question, CLOSE_RACE, finding)


def _page(question: Bilingual, logits: tuple[float, ...], finding: Bilingual) -> LessonPage:
    exponentials_V = np.exp(logits)
    steps = (
        Working(name="logits", formula="l", meaning=Bilingual("scores", "得分"), value=logits, digits=1),
        Working(
            name="exponentials",
            formula="exp(l)",
            meaning=Bilingual("all positive", "都变为正数"),
            value=tuple(exponentials_V.tolist()),
        ),
        Working(
            name="total", formula="Σ exp(l)", meaning=Bilingual("their sum", "求和"), value=float(exponentials_V.sum())
        ),
        Working(
            name="probabilities",
            formula="exp(l) / Σ exp(l)",
            meaning=Bilingual("shares of the sum", "各占多少"),
            value=tuple(probabilities(np.array(logits)).tolist()),
        ),
    )
    return LessonPage(
        (
            Paragraph(heading=QUESTION, text=question),
            Formula(text="p_i = exp(l_i) / Σ_j exp(l_j)"),
            Workings(steps=steps),
            Code(
                text=CODE.format(logits=list(logits)),
                functions=("pellucid.engine.sampling.distribution.probabilities",),
            ),
            Paragraph(heading=FINDING, text=finding),
        )
    )
