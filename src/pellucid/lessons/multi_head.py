"""Multi-head attention by hand: two heads side by side, then mixed by the output projection.

    head_h = softmax(Q_h · K_hᵀ / √K) · V_h        y = [head_1, head_2] · Wo

The model's real attention module computes it, with weights set by hand. The query, key and value projections are the
identity, so head 1 sees the first two numbers of each vector and head 2 the last two. These are the vectors of lessons
11 and 14: new is only that both heads run at once, and that Wo combines them.

Axes: T positions · D width · K head width.
Source: Vaswani et al. 2017 §3.2.2.
"""

from __future__ import annotations

import torch

from pellucid.lessons.attention import STRETCHED, VECTORS, Rows, rows_of
from pellucid.lessons.page import FINDING, QUESTION, Bilingual, Code, Formula, LessonPage, Paragraph, Working, Workings
from pellucid.model.attention import Attention
from pellucid.model.context import Context
from pellucid.model.core import ExplicitCore
from pellucid.model.decoder import Decoder
from pellucid.model.tap import Taps
from pellucid.planning.config import ModelConfig

INPUTS: Rows = tuple(left + right for left, right in zip(VECTORS, STRETCHED, strict=True))
# Sum and difference of the heads: with rows [in] and columns [out], as in y = x · Wo.
MIX: Rows = ((1.0, 0.0, 1.0, 0.0), (0.0, 1.0, 0.0, 1.0), (1.0, 0.0, -1.0, 0.0), (0.0, 1.0, 0.0, -1.0))
CONFIG = ModelConfig.from_axes(
    vocab_size=1, context_length=3, n_layers=1, n_heads=2, n_kv_heads=2, head_dim=2, d_model=4, d_ff=4,
    position="none", qk_norm=False, causal=False,
)  # fmt: skip

CODE = """\
from math import exp, sqrt

inputs = {inputs}
mix = {mix}

def attend(vectors):
    scores = [[sum(a * b for a, b in zip(q, k)) / sqrt(len(q)) for k in vectors] for q in vectors]
    exponentials = [[exp(score) for score in row] for row in scores]
    weights = [[value / sum(row) for value in row] for row in exponentials]
    return weights, [[sum(w * v[i] for w, v in zip(row, vectors)) for i in range(len(vectors[0]))] for row in weights]

heads = [[vector[:2] for vector in inputs], [vector[2:] for vector in inputs]]
weights = [attend(head)[0] for head in heads]
gathered = [left + right for left, right in zip(*(attend(head)[1] for head in heads))]
outputs = [[sum(value * mix[i][j] for i, value in enumerate(row)) for j in range(4)] for row in gathered]
for row in gathered + outputs:
    print([round(number, 3) for number in row])
"""


def exercise() -> LessonPage:
    """The vectors of lessons 11 and 14 as the two heads of one attention."""
    question = Bilingual(
        "Three positions hold four numbers each. Head 1 sees the first two (the vectors of lesson 11), head 2 the last "
        "two (those of lesson 14). The output matrix puts the sum of the heads into the first two places and their "
        "difference into the last two. What comes out?",
        "三个位置各有四个数。第 1 头看前两个（第 11 课的向量），第 2 头看后两个（第 14 课的向量）。"
        "输出矩阵把两头之和放在前两位，两头之差放在后两位。结果是什么？",
    )
    finding = Bilingual(
        "The heads never see each other's numbers: position 1 looks mostly at 1 and 3 with head 1, and mostly at 3 with "
        "head 2. Only the output matrix lets them meet. Without it, heads would be separate models side by side.",
        "两个头互相看不到对方的数：位置 1 用第 1 头主要看 1 和 3，用第 2 头主要看 3。只有输出矩阵让它们相遇；"
        "没有它，几个头就只是并排的几个小模型。",
    )
    return LessonPage(
        (
            Paragraph(heading=QUESTION, text=question),
            Formula(text="head_h = softmax(Q_h · K_hᵀ / √2) · V_h      y = [head_1, head_2] · Wo"),
            Workings(steps=_steps()),
            Code(
                text=CODE.format(inputs=[list(row) for row in INPUTS], mix=[list(row) for row in MIX]),
                functions=("pellucid.model.attention.Attention", "pellucid.model.tap.Taps"),
            ),
            Paragraph(heading=FINDING, text=finding),
        )
    )


def _steps() -> tuple[Working, ...]:
    taps, x_BTD = Taps(), torch.tensor([INPUTS], dtype=torch.float64)
    with torch.no_grad():
        ids_BT = torch.zeros(x_BTD.shape[:2], dtype=torch.long)  # their number is all that a pass asks of them
        this_pass = Decoder(CONFIG).double().open_pass(ids_BT, Context(core=ExplicitCore(), tap=taps))
        outputs_TD = build_by_hand()(x_BTD, this_pass)[0]
    weights = tuple(rows_of(head) for head in taps["blocks.0.attention.weights"][0])
    gathered_TD = taps["blocks.0.attention.mix"][0].transpose(0, 1).flatten(1)
    return (
        Working(name="inputs", formula="x", meaning=Bilingual("two heads of two numbers", "每行两个头，各两个数"), value=INPUTS, digits=0),
        Working(name="weights", formula="softmax(Q_h · K_hᵀ / √2)", meaning=Bilingual("head 1, then head 2", "先第 1 头，后第 2 头"), value=weights),
        Working(name="gathered", formula="[head_1, head_2]", meaning=Bilingual("what each head gathered, side by side", "各头所得，左右并排"), value=rows_of(gathered_TD)),
        Working(name="mix", formula="Wo", meaning=Bilingual("sum and difference of the heads", "两头之和与两头之差"), value=MIX, digits=0),
        Working(name="outputs", formula="[head_1, head_2] · Wo", meaning=Bilingual("what is added to the stream", "加到残差流上的结果"), value=rows_of(outputs_TD)),
    )  # fmt: skip


def build_by_hand() -> Attention:
    """The model's attention with identity projections and the mixing matrix as output."""
    attention = Attention(CONFIG, layer=0).double()
    with torch.no_grad():
        for projection in (attention.query, attention.key, attention.value):
            projection.weight.copy_(torch.eye(CONFIG.d_model))
        attention.output.weight.copy_(torch.tensor(MIX).T)  # a linear layer stores [out, in]
    return attention
