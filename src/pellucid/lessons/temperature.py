"""Temperature: the scores are divided by T before the softmax.

    p = exp(l / T) / Σ exp(l / T)

Below T = 1 the differences grow and the likeliest token gets more; above 1 they shrink. The order of the tokens never
changes.
"""

from __future__ import annotations

import numpy as np

from pellucid.engine.sampling.distribution import probabilities
from pellucid.engine.sampling.truncation import apply_temperature
from pellucid.lessons.page import FINDING, QUESTION, Bilingual, Code, Formula, LessonPage, Paragraph, Working, Workings

LOGITS = (3.0, 1.5, 0.5)
USUAL = (0.5, 1.0, 2.0)
EXTREME = (0.1, 5.0)

CODE = """\
from math import exp

logits, temperatures = {logits}, {temperatures}
scaled = [[logit / temperature for logit in logits] for temperature in temperatures]
exponentials = [[exp(value) for value in row] for row in scaled]
probabilities = [[value / sum(row) for value in row] for row in exponentials]
for temperature, row in zip(temperatures, probabilities):
    print(temperature, [round(p, 4) for p in row])
"""


def experiment() -> LessonPage:
    """The same three scores at temperatures 0.5, 1 and 2."""
    question = Bilingual(
        "Three tokens have the scores 3.0, 1.5 and 0.5. How likely are they at temperature 0.5, 1 and 2?",
        "三个词元的得分是 3.0、1.5、0.5。温度为 0.5、1、2 时，概率各是多少？",
    )
    finding = Bilingual(
        "One row per temperature. At 0.5 the favourite takes 95 % of the draws, at 2 only 57 %. Halving the temperature "
        "squares the ratio of any two probabilities.",
        "每个温度一行。温度 0.5 时，领先者占 95 %；温度 2 时只占 57 %。温度减半，任意两个概率之比就变成原来的平方。",
    )
    return _page(question, USUAL, finding)


def exercise() -> LessonPage:
    """The same three scores at temperatures 0.1 and 5."""
    question = Bilingual(
        "What happens to the scores 3.0, 1.5 and 0.5 at temperature 0.1, and at 5? Guess first: who is left?",
        "得分仍是 3.0、1.5、0.5。温度 0.1 和 5 时会怎样？先猜：还剩下谁？",
    )
    finding = Bilingual(
        "At 0.1 the differences are ten times as large: the favourite is certain to four digits, which is almost greedy "
        "decoding (temperature 0). At 5 the three come near 1/3 each, and the text near noise.",
        "温度 0.1 时差距放大十倍：领先者的概率四位小数都是 1，几乎等于贪心解码（温度 0）。温度 5 时三者都接近 1/3，"
        "写出的文字也就接近随机。",
    )
    return _page(question, EXTREME, finding)


def _page(question: Bilingual, temperatures: tuple[float, ...], finding: Bilingual) -> LessonPage:
    logits_V = np.array(LOGITS)
    rows = [probabilities(apply_temperature(logits_V, temperature)) for temperature in temperatures]
    scaled = [logits_V / temperature for temperature in temperatures]
    steps = (
        Working(name="logits", formula="l", meaning=Bilingual("scores", "得分"), value=LOGITS, digits=1),
        Working(
            name="temperatures",
            formula="T",
            meaning=Bilingual("one row each", "每个一行"),
            value=temperatures,
            digits=1,
        ),
        Working(
            name="scaled",
            formula="l / T",
            meaning=Bilingual("scores divided", "得分除以温度"),
            value=_rows(scaled),
            digits=2,
        ),
        Working(
            name="exponentials",
            formula="exp(l / T)",
            meaning=Bilingual("all positive", "都变为正数"),
            value=_rows([np.exp(row_V) for row_V in scaled]),
            digits=2,
        ),
        Working(
            name="probabilities",
            formula="softmax(l / T)",
            meaning=Bilingual("shares of each row's sum", "在本行总和中各占多少"),
            value=_rows(rows),
            digits=4,
        ),
    )
    code = CODE.format(logits=list(LOGITS), temperatures=list(temperatures))
    functions = (
        "pellucid.engine.sampling.truncation.apply_temperature",
        "pellucid.engine.sampling.distribution.probabilities",
    )
    return LessonPage(
        (
            Paragraph(heading=QUESTION, text=question),
            Formula(text="p_i = exp(l_i / T) / Σ_j exp(l_j / T)"),
            Workings(steps=steps),
            Code(text=code, functions=functions),
            Paragraph(heading=FINDING, text=finding),
        )
    )


def _rows(rows: list[np.ndarray]) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(row.tolist()) for row in rows)
