"""Attention over three vectors of two numbers, small enough for pencil and paper.

    weights = softmax(Q · Kᵀ / √K)        output = weights · V

Queries, keys and values are the vectors themselves (no projections), nothing is masked and there are no positions. What
remains is the main idea: each row becomes a weighted mean of all rows, weighted by similarity.

Axes: B batch (one) · H heads (one) · T positions · K head width.
Source: Vaswani et al. 2017 eq. 1.
"""

from __future__ import annotations

import math

import torch

from pellucid.lessons.page import FINDING, QUESTION, Bilingual, Code, Formula, LessonPage, Paragraph, Working, Workings
from pellucid.model.core import ExplicitCore, LoweredMask, Scoring
from pellucid.model.tap import Taps

Rows = tuple[tuple[float, ...], ...]
VECTORS: Rows = ((1.0, 0.0), (0.0, 1.0), (1.0, 1.0))
STRETCHED: Rows = ((1.0, 0.0), (0.0, 1.0), (2.0, 0.0))

CODE = """\
from math import exp, sqrt

vectors = {vectors}
width = len(vectors[0])
scores = [[sum(a * b for a, b in zip(q, k)) / sqrt(width) for k in vectors] for q in vectors]
exponentials = [[exp(score) for score in row] for row in scores]
weights = [[value / sum(row) for value in row] for row in exponentials]
outputs = [[sum(w * v[i] for w, v in zip(row, vectors)) for i in range(width)] for row in weights]
for row in scores + weights + outputs:
    print([round(number, 3) for number in row])
"""


def experiment() -> LessonPage:
    """Three vectors: two axes and the sum of both."""
    question = Bilingual(
        "Three positions hold the vectors [1,0], [0,1] and [1,1], which serve as queries, keys and values. What does "
        "each position look at, and what does it gather?",
        "三个位置的向量是 [1,0]、[0,1]、[1,1]，它们同时充当查询、键和值。每个位置在看谁？又汇集到什么？",
    )
    finding = Bilingual(
        "The first two vectors are at right angles: their score is 0, yet their weight is not, because exp(0) = 1. The "
        "third resembles both equally, and itself most. Every output lies between the vectors: attention mixes, it "
        "cannot invent.",
        "前两个向量互相垂直，得分是 0，权重却不是 0，因为 exp(0) = 1。第三个向量与前两个一样像，与自己最像。"
        "每个输出都落在原来的向量之间：注意力只会混合，不会凭空创造。",
    )
    return _page(question, VECTORS, finding)


def exercise() -> LessonPage:
    """The third vector becomes [2,0]."""
    question = Bilingual(
        "The third vector becomes [2,0]. Which of the nine weights change? Work them out before you read on.",
        "第三个向量换成 [2,0]。九个权重里哪些会变？先自己算，再往下看。",
    )
    finding = Bilingual(
        "All nine do. [2,0] points where [1,0] points but is twice as long, so the first position now prefers it to "
        "itself: a long key shouts. The second position, at right angles to both others, weighs them equally. "
        "Models that normalise queries and keys (qk-norm) take length out of the contest.",
        "九个都变了。[2,0] 与 [1,0] 同向而长度加倍，于是第一个位置看它比看自己还多：键越长，声音越大。"
        "第二个位置与另两个都垂直，给它们的权重相等。对查询和键做归一化（qk-norm）的模型，会让长度退出竞争。",
    )
    return _page(question, STRETCHED, finding)


def attend(vectors: Rows) -> tuple[Rows, Rows, Rows]:
    """Scores, weights and outputs of self-attention with the model's own readable core.

    >>> attend(((1.0, 0.0), (0.0, 1.0)))[0][1][0]
    0.0
    """
    taps = Taps()
    x_BHTK = torch.tensor(vectors, dtype=torch.float64)[None, None]
    y_BHTK = ExplicitCore()(
        x_BHTK, x_BHTK, x_BHTK, LoweredMask(), scoring=Scoring(scale=1 / math.sqrt(x_BHTK.size(-1))), tap=taps
    )
    return rows_of(taps["scores"][0, 0]), rows_of(taps["weights"][0, 0]), rows_of(y_BHTK[0, 0])


def rows_of(matrix: torch.Tensor) -> Rows:
    """A matrix as rows of plain numbers."""
    return tuple(tuple(row) for row in matrix.tolist())


def _page(question: Bilingual, vectors: Rows, finding: Bilingual) -> LessonPage:
    scores, weights, outputs = attend(vectors)
    steps = (
        Working(name="vectors", formula="Q = K = V", meaning=Bilingual("one row per position", "每个位置一行"), value=vectors, digits=0),
        Working(name="scores", formula="Q · Kᵀ / √2", meaning=Bilingual("how alike: row looks at column", "有多像：行看列"), value=scores),
        Working(name="weights", formula="softmax(scores)", meaning=Bilingual("each row adds up to 1", "每行之和为 1"), value=weights),
        Working(name="outputs", formula="weights · V", meaning=Bilingual("weighted means of the rows of V", "V 各行的加权平均"), value=outputs),
    )  # fmt: skip
    code = CODE.format(vectors=[list(vector) for vector in vectors])
    return LessonPage(
        (
            Paragraph(heading=QUESTION, text=question),
            Formula(text="output = softmax(Q · Kᵀ / √K) · V,  K = 2"),
            Workings(steps=steps),
            Code(text=code, functions=("pellucid.model.core.ExplicitCore", "pellucid.model.tap.Taps")),
            Paragraph(heading=FINDING, text=finding),
        )
    )
