"""Cross-entropy loss of causal and of masked language modelling: the same formula, other targets and other weights.

    loss = Σ weight · (-ln p(target)) / Σ weight

Causal: every position predicts the next token. Masked: some tokens are hidden, only their positions count, and each
predicts the hidden token at its own position.

Axes: B rows (one) · T positions · V vocabulary.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from pellucid.data.objectives.causal import nll, weighted_loss
from pellucid.lessons.page import FINDING, QUESTION, Bilingual, Code, Formula, LessonPage, Paragraph, Working, Workings

CAUSAL_LOGITS = ((0.5, 2.0, 1.0), (0.0, 1.0, 3.0), (1.0, 1.0, 1.0))
CAUSAL_TARGETS = (1, 2, 0)  # cat, sat; nothing follows the last, so its target is any id and its weight is 0
CAUSAL_WEIGHTS = (1.0, 1.0, 0.0)
MASKED_LOGITS = ((3.0, 0.0, 0.5), (0.5, 4.0, 2.0), (0.0, 0.5, 3.0))
MASKED_TARGETS = (0, 1, 2)  # the, cat, sat: each position's own token
MASKED_WEIGHTS = (0.0, 1.0, 0.0)

CODE = """\
from math import exp, log

def surprises(logits, targets):
    return [log(sum(exp(score) for score in row)) - row[target] for row, target in zip(logits, targets)]

def mean(values, weights):
    return sum(value * weight for value, weight in zip(values, weights)) / sum(weights)

causal_surprise = surprises({causal_logits}, {causal_targets})
causal_loss = mean(causal_surprise, {causal_weights})
perplexity = exp(causal_loss)
masked_surprise = surprises({masked_logits}, {masked_targets})
masked_loss = mean(masked_surprise, {masked_weights})
print(round(causal_loss, 4), round(perplexity, 4), round(masked_loss, 4))
"""


def exercise() -> LessonPage:
    """“the cat sat”, predicted from left to right, and with “cat” hidden."""
    question = Bilingual(
        "The vocabulary is: the, cat, sat. A causal model reads “the” and scores the next token 0.5, 2.0, 1.0; it reads "
        "“the cat” and scores 0, 1, 3. A masked model reads “the [?] sat” and scores the hidden token 0.5, 4.0, 2.0. "
        "What is the loss of each on “the cat sat”?",
        "词表只有三个词：这、猫、坐。因果模型读到“这”，给下一个词打分 0.5、2.0、1.0；读到“这 猫”，打分 0、1、3。"
        "掩码模型读到“这 [?] 坐”，给被遮住的词打分 0.5、4.0、2.0。对“这 猫 坐”，两者的损失各是多少？",
    )
    finding = Bilingual(
        "The causal model learns from two places of this row, the masked one from a single place, but that one is "
        "seen from both sides. The positions with weight 0 have a surprise too; it is simply not counted. A perplexity "
        "of 1.37 reads: as unsure as when choosing evenly among 1.37 tokens. The two losses answer different questions: do not rank "
        "models by comparing them.",
        "因果模型在这一行有两处可学，掩码模型只有一处，不过这一处左右两边都看得到。权重为 0 的位置也有意外度，"
        "只是不计入。困惑度 1.37 的意思是：其犹豫程度相当于在 1.37 个词里均匀地选一个。两种损失回答的是不同的问题，"
        "不能拿来互相比高低。",
    )
    code = CODE.format(
        causal_logits=CAUSAL_LOGITS, causal_targets=CAUSAL_TARGETS, causal_weights=CAUSAL_WEIGHTS,
        masked_logits=MASKED_LOGITS, masked_targets=MASKED_TARGETS, masked_weights=MASKED_WEIGHTS,
    )  # fmt: skip
    return LessonPage(
        (
            Paragraph(heading=QUESTION, text=question),
            Formula(
                text="surprise = -ln p(target) = ln Σ exp(l) - l_target      loss = Σ weight · surprise / Σ weight"
            ),
            Workings(steps=_steps()),
            Code(
                text=code,
                functions=("pellucid.data.objectives.causal.nll", "pellucid.data.objectives.causal.weighted_loss"),
            ),
            Paragraph(heading=FINDING, text=finding),
        )
    )


def _steps() -> tuple[Working, ...]:
    causal_surprise, causal_loss = _measure(CAUSAL_LOGITS, CAUSAL_TARGETS, CAUSAL_WEIGHTS)
    masked_surprise, masked_loss = _measure(MASKED_LOGITS, MASKED_TARGETS, MASKED_WEIGHTS)
    return (
        Working(name="causal_surprise", formula="-ln p(next token)", meaning=Bilingual("nats at each position; the last does not count", "每个位置的意外度（纳特）；最后一个不计"), value=causal_surprise, digits=4),
        Working(name="causal_loss", formula="Σ w · s / Σ w,  w = 1 1 0", meaning=Bilingual("mean over the two that count", "对计入的两处取平均"), value=causal_loss, digits=4),
        Working(name="perplexity", formula="exp(causal loss)", meaning=Bilingual("as unsure as among so many tokens", "相当于在这么多个词里犹豫"), value=math.exp(causal_loss), digits=4),
        Working(name="masked_surprise", formula="-ln p(token itself)", meaning=Bilingual("nats at each position; only the hidden one counts", "每个位置的意外度（纳特）；只计被遮住的"), value=masked_surprise, digits=4),
        Working(name="masked_loss", formula="Σ w · s / Σ w,  w = 0 1 0", meaning=Bilingual("the hidden position alone", "只有被遮住的那一处"), value=masked_loss, digits=4),
    )  # fmt: skip


def _measure(
    logits: tuple[tuple[float, ...], ...], targets: tuple[int, ...], weights: tuple[float, ...]
) -> tuple[tuple[float, ...], float]:
    logits_BTV, targets_BT, weights_BT = torch.tensor([logits]), torch.tensor([targets]), torch.tensor([weights])
    nats_BT: Tensor = nll(logits_BTV, targets_BT)
    loss = weighted_loss(logits_BTV, targets_BT, weights_BT, weights_BT.sum())
    return tuple(nats_BT[0].tolist()), loss.item()
