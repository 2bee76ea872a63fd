"""Masked and causal on one sentence: what each model sees, and what its loss is, -Σ ln P over what it predicts.

    causal   the → ?    the cat → ?        each word from the left alone
    masked   the [?] sat                   the hidden word from both sides

The models are the simplest there are: they count, in eight sentences, how often a word stands where it is asked for.

Axes: B rows (one) · T positions · S all positions · V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import inf, log

import torch

from pellucid.data.objectives.causal import nll, weighted_loss
from pellucid.lessons.page import FINDING, QUESTION, Bilingual, Code, Formula, LessonPage, Paragraph, Working, Workings
from pellucid.model.mask import Causal, Everything, Mask

BOOK = ("the cat sat",) * 3 + ("the cat ran",) + ("the dog sat",) + ("the dog ran",) * 3
SENTENCES = tuple(tuple(line.split()) for line in BOOK)
VOCABULARY = ("the", "cat", "dog", "sat", "ran")
SENTENCE = ("the", "cat", "sat")
HIDDEN = 1  # the place of “cat”

CODE = """\
from math import log

sentences = [line.split() for line in {book}]

def share(word, place, fitting):
    return sum(sentence[place] == word for sentence in fitting) / len(fitting)

places = range(3)
seen_causal = [[int(other <= place) for other in places] for place in places]
seen_masked = [[1 for other in places] for place in places]

after_the = [sentence for sentence in sentences if sentence[0] == "the"]
after_the_cat = [sentence for sentence in after_the if sentence[1] == "cat"]
the_sat = [sentence for sentence in after_the if sentence[2] == "sat"]
causal_chances = [share("cat", 1, after_the), share("sat", 2, after_the_cat)]
causal_sum = -sum(log(chance) for chance in causal_chances)
causal_loss = causal_sum / 2
masked_chance = share("cat", 1, the_sat)
masked_loss = -log(masked_chance)
gain = log(masked_chance) - log(causal_chances[0])
print(round(causal_sum, 4), round(causal_loss, 4), round(masked_loss, 4), round(gain, 4))
"""


def exercise() -> LessonPage:
    """“the cat sat”, word by word from the left, and with “cat” hidden."""
    question = Bilingual(
        "A very small book has eight sentences: “the cat sat” three times, “the cat ran” once, “the dog sat” once, “the dog "
        "ran” three times. Two models have counted them. One sees only the left and says what comes next; the other sees "
        "both sides and says what is hidden. What does each think of “the cat sat”, and what is its loss?",
        "一本很小的书只有八句话：“the cat sat”三次，“the cat ran”一次，“the dog sat”一次，“the dog ran”三次。两个模型数过它们。"
        "一个只看左边，说出下一个词；另一个看两边，说出被遮住的词。对“the cat sat”这句话，它们各怎么想，损失各是多少？",
    )
    finding = Bilingual(
        "Row 1 of the first table is 1 0 0: when the causal model says what follows “the”, it has not seen “sat”. The "
        "masked model has, and cats sit: the right side is worth 0.41 nats here. In return the causal losses add up to -ln "
        "P(cat sat | the): such a model can write a text and say how likely one is. The masked loss is that of one word "
        "given all others; such losses do not add up to the probability of anything, so they have no perplexity. BERT adds a "
        "second loss for each row of two parts, -ln P(the second follows the first): objective=next_sentence.",
        "第一张表的第 1 行是 1 0 0：因果模型说出“the”后面是什么时，还没见到“sat”。掩码模型见到了，而猫爱坐着：右边在这里值 0.41 纳特。"
        "另一方面，因果损失加起来正是 -ln P(cat sat | the)：这样的模型能写文本，也能说出一段文本有多可能。"
        "掩码损失是在其余的词都已知时一个词的损失；这样的损失加起来不是任何东西的概率，所以没有困惑度。"
        "对每个由两部分组成的行，BERT 再加一项损失：-ln P(后一部分接着前一部分)，即 objective=next_sentence。",
    )
    return LessonPage(
        (
            Paragraph(heading=QUESTION, text=question),
            Formula(
                text="causal: -Σ ln P(word | words before it)      masked: -Σ ln P(hidden word | the words in sight)"
            ),
            Workings(steps=_steps()),
            Code(
                text=CODE.format(book=list(BOOK)),
                functions=(
                    "pellucid.model.mask.Causal",
                    "pellucid.model.mask.Everything",
                    "pellucid.data.objectives.causal.CausalObjective",
                    "pellucid.data.objectives.masked.MaskedObjective",
                ),
            ),
            Paragraph(heading=FINDING, text=finding),
        )
    )


def _steps() -> tuple[Working, ...]:
    left = [_chances(place, range(place)) for place in (1, 2)]
    around = _chances(HIDDEN, (0, 2))
    targets = [VOCABULARY.index(word) for word in SENTENCE]
    causal_sum, causal_loss = _losses(left, targets[1:], [1.0, 1.0])
    nothing_asked = (1 / len(VOCABULARY),) * len(VOCABULARY)  # whatever a model says there, it has weight 0
    masked_sum, masked_loss = _losses([nothing_asked, around, nothing_asked], targets, [0.0, 1.0, 0.0])
    causal_chances = tuple(chances[target] for chances, target in zip(left, targets[1:], strict=True))
    masked_chance = around[targets[HIDDEN]]
    assert masked_sum == masked_loss, "one word is hidden"
    return (
        Working(name="seen_causal", formula="s ≤ t", meaning=Bilingual("which words (columns) each place (row) sees: itself and the left", "每个位置（行）看得到哪些词（列）：自己和左边"), value=_seen(Causal()), digits=0),
        Working(name="seen_masked", formula="every s", meaning=Bilingual("both sides; the hidden word is shown as [?]", "两边都看；被遮住的词显示为 [?]"), value=_seen(Everything()), digits=0),
        Working(name="causal_chances", formula="P(cat | the), P(sat | the cat)", meaning=Bilingual("4 of 8, and 3 of 4", "8 次里 4 次，4 次里 3 次"), value=causal_chances),
        Working(name="causal_sum", formula="-ln P(cat | the) - ln P(sat | the cat)", meaning=Bilingual("-Σ ln P over the two predicted words", "对两个被预测的词求 -Σ ln P"), value=causal_sum, digits=4),
        Working(name="causal_loss", formula="-Σ ln P / 2", meaning=Bilingual("the mean, as training reports it", "取平均，训练时报告的就是它"), value=causal_loss, digits=4),
        Working(name="masked_chance", formula="P(cat | the [?] sat)", meaning=Bilingual("3 of 4: “sat” is known as well", "4 次里 3 次：“sat”也知道了"), value=masked_chance),
        Working(name="masked_loss", formula="-ln P(cat | the [?] sat)", meaning=Bilingual("one word is predicted: sum and mean are the same", "只预测一个词：和与平均相同"), value=masked_loss, digits=4),
        Working(name="gain", formula="ln P(cat | the [?] sat) - ln P(cat | the)", meaning=Bilingual("what the right side is worth for “cat”, in nats", "右边对“cat”值多少（纳特）"), value=log(masked_chance) - log(causal_chances[0]), digits=4),
    )  # fmt: skip


def _seen(mask: Mask) -> tuple[tuple[float, ...], ...]:
    """Which place (column) each place (row) of the sentence sees: 1 or 0."""
    s_S = torch.arange(len(SENTENCE))
    allowed_TS = mask.allowed_BTS(s_S[None, :, None], s_S)[0]
    return tuple(tuple(row) for row in allowed_TS.double().tolist())


def _chances(place: int, seen: Iterable[int]) -> tuple[float, ...]:
    """How often each word of the vocabulary stands at a place, among the sentences that agree at the places seen."""
    seen = [*seen]
    fitting = [sentence for sentence in SENTENCES if all(sentence[at] == SENTENCE[at] for at in seen)]
    return tuple(sum(sentence[place] == word for sentence in fitting) / len(fitting) for word in VOCABULARY)


def _losses(chances: list[tuple[float, ...]], targets: list[int], weights: list[float]) -> tuple[float, float]:
    """-Σ ln P over the positions that count, and its mean, by the functions that training uses."""
    logits_BTV = torch.tensor([[[log(p) if p else -inf for p in row] for row in chances]], dtype=torch.float64)
    targets_BT, weights_BT = torch.tensor([targets]), torch.tensor([weights])
    total = (nll(logits_BTV, targets_BT) * weights_BT).sum()
    mean = weighted_loss(logits_BTV, targets_BT, weights_BT, weights_BT.sum())
    return total.item(), mean.item()
