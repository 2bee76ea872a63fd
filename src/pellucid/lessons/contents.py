"""The list of lessons.

First come the eight guided lessons of the lens, which use a model of the reader and have the page's numbers. Then come
arithmetic (three experiments, six exercises), four trials on models that are trained for the lesson, and a measurement
of tokenizers.

No torch: a lesson's module is imported when the lesson is opened, so that the list appears at once.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from pellucid.errors import RequestError
from pellucid.events import NULL, Recorder
from pellucid.lens.lessons.contents import PATH
from pellucid.lens.lessons.words import say
from pellucid.lessons.page import Bilingual, LessonPage
from pellucid.lessons.settings import LessonSettings
from pellucid.setting_values import nearest
from pellucid.tokens.tokenizer import Tokenizer

Kind = Literal["experiment", "exercise", "trial", "measurement", "guided"]
NO_TOKENIZERS: Mapping[str, Tokenizer] = MappingProxyType({})

KINDS: dict[Kind, Bilingual] = {
    "experiment": Bilingual("experiment", "实验"),
    "exercise": Bilingual("exercise", "练习"),
    "trial": Bilingual("trial (trains a model)", "试验（训练模型）"),
    "measurement": Bilingual("measurement", "测量"),
    "guided": Bilingual("guided (your own model)", "引导课（用你自己的模型）"),
}


@dataclass(frozen=True, kw_only=True)
class Lesson:
    """One entry of the list: its name, and the function that computes it."""

    number: int
    name: str
    kind: Kind
    title: Bilingual
    function: str  # "module:function" below pellucid.lessons
    options: tuple[str, ...] = ()  # flags of the command line that mean something to this lesson


GUIDED = tuple(
    Lesson(
        number=number,
        name=entry.key,
        kind="guided",
        title=Bilingual(say("en", f"{entry.key}.title"), say("zh", f"{entry.key}.title")),
        function="guided:open_guided",
        options=("--model", "--prompt", "--answer"),
    )
    for number, entry in enumerate(PATH, start=1)
)

ARITHMETIC_AND_TRIALS = (
    Lesson(
        number=len(GUIDED) + 1,
        name="softmax",
        kind="experiment",
        title=Bilingual("From scores to probabilities", "从得分到概率"),
        function="softmax:experiment",
    ),
    Lesson(
        number=len(GUIDED) + 2,
        name="temperature",
        kind="experiment",
        title=Bilingual("Temperature: sharper or flatter", "温度：更尖或更平"),
        function="temperature:experiment",
    ),
    Lesson(
        number=len(GUIDED) + 3,
        name="attention",
        kind="experiment",
        title=Bilingual("Attention over three vectors", "三个向量之间的注意力"),
        function="attention:experiment",
    ),
    Lesson(
        number=len(GUIDED) + 4,
        name="close-race",
        kind="exercise",
        title=Bilingual("The favourite loses its lead", "领先者失去优势"),
        function="softmax:exercise",
    ),
    Lesson(
        number=len(GUIDED) + 5,
        name="extremes",
        kind="exercise",
        title=Bilingual("Very cold and very hot", "极低与极高的温度"),
        function="temperature:exercise",
    ),
    Lesson(
        number=len(GUIDED) + 6,
        name="third-vector",
        kind="exercise",
        title=Bilingual("One vector changes, and so do all outputs", "改一个向量，所有输出都变"),
        function="attention:exercise",
    ),
    Lesson(
        number=len(GUIDED) + 7,
        name="multi-head",
        kind="exercise",
        title=Bilingual("Two heads, worked by hand", "手算两个注意力头"),
        function="multi_head:exercise",
    ),
    Lesson(
        number=len(GUIDED) + 8,
        name="cross-entropy",
        kind="exercise",
        title=Bilingual("The loss of a causal and of a masked prediction", "因果预测与掩码预测的损失"),
        function="cross_entropy:exercise",
    ),
    Lesson(
        number=len(GUIDED) + 9,
        name="both-sides",
        kind="exercise",
        title=Bilingual("Masked and causal: both sides, or the left alone", "掩码与因果：看两边，还是只看左边"),
        function="both_sides:exercise",
    ),
    Lesson(
        number=len(GUIDED) + 10,
        name="sampling",
        kind="trial",
        title=Bilingual("What temperature, top-k and top-p do to a text", "温度、top-k 与 top-p 怎样改变文本"),
        function="sampling:trial",
        options=("--out", "--quick", "--text"),
    ),
    Lesson(
        number=len(GUIDED) + 11,
        name="letters",
        kind="trial",
        title=Bilingual("Counting letters that a token hides", "数一数藏在词元里的字母"),
        function="letters:trial",
        options=("--out", "--quick"),
    ),
    Lesson(
        number=len(GUIDED) + 12,
        name="residual",
        kind="trial",
        title=Bilingual("A lost residual: the mistake that still trains", "丢失的残差：照样能训练的错误"),
        function="residual:trial",
        options=("--out", "--quick", "--text"),
    ),
    Lesson(
        number=len(GUIDED) + 13,
        name="positions",
        kind="trial",
        title=Bilingual("Beyond the length it was trained on", "读到训练长度之外"),
        function="positions:trial",
        options=("--out", "--quick", "--text"),
    ),
    Lesson(
        number=len(GUIDED) + 14,
        name="token-worth",
        kind="measurement",
        title=Bilingual("What is one token worth?", "一个词元值多少？"),
        function="token_worth:measurement",
        options=("--out", "--text", "--tokenizer"),
    ),
)
LESSONS = GUIDED + ARITHMETIC_AND_TRIALS


def find_lesson(asked: str) -> Lesson:
    """The lesson with that number or name.

    >>> find_lesson("2").name, find_lesson("embedding").number
    ('embedding', 2)

    Raises RequestError for any other word, naming the nearest.
    """
    for lesson in LESSONS:
        if asked in (str(lesson.number), lesson.name):
            return lesson
    hint = nearest(asked, [lesson.name for lesson in LESSONS])
    raise RequestError("there is no such lesson", found=asked, where=f"lessons 1 to {len(LESSONS)}", hint=hint)


def open_lesson(
    lesson: Lesson,
    settings: LessonSettings,
    *,
    tokenizers: Mapping[str, Tokenizer] = NO_TOKENIZERS,
    recorder: Recorder = NULL,
) -> LessonPage:
    """Compute a lesson; a trial trains its models first, which takes up to a minute.

    `tokenizers`: name -> tokenizer, what a measurement measures.

    A guided lesson needs a model and an answer: `guided.open_guided`.
    """
    module, function = lesson.function.split(":")
    work_through = getattr(importlib.import_module(f"pellucid.lessons.{module}"), function)
    if lesson.kind == "measurement":
        return work_through(settings, tokenizers=tokenizers, recorder=recorder)
    return work_through(settings, recorder=recorder) if lesson.kind == "trial" else work_through()
