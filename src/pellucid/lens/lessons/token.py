"""Lesson 1: text becomes tokens, tokens become ids, and an id hides the spelling.

The well-known example is "strawberry". In most large vocabularies it is one token with the space before it, so the
model receives none of its letters. The lesson computes how the reader's own tokenizer splits it.
"""

from __future__ import annotations

from pellucid.lens.graphemes import graphemes
from pellucid.lens.lessons.lesson_text import LessonText
from pellucid.lens.lessons.task import Figure, LessonTask, TaskLine, count, text

WORD, LETTER = " strawberry", "r"
SPELLINGS = ("strawberry", WORD, "草莓")
CODE = """\
tokenizer = pellucid.load(RUN).tokenizer
answer = len(tokenizer.encode({word!r}).ids)
"""


def open_task(lesson: LessonText) -> LessonTask:
    """Question: how many tokens the word becomes."""
    position = lesson.text_positions[0]
    token_id = lesson.ids[position]
    figures = {
        "vocab": count(lesson.tokenizer.vocab_size),
        "characters": count(sum(1 for _ in graphemes(lesson.tokenizer.decode(lesson.ids)))),
        "tokens": count(len(lesson.text_positions)),
        "label": lesson.token(token_id),
        "id": count(token_id),
    }
    ask = TaskLine("ask", {"word": text(WORD)})
    begin = lesson.tokenizer.bos_id
    if begin is not None:  # <bos> is in the row too, before every text
        ask = TaskLine("ask_begun", {**ask.figures, "begin": lesson.token(begin)})
    return LessonTask(
        say=(TaskLine("say", figures),),
        ask=ask,
        answer=len(_ids(lesson, WORD)),
        select={"token": position},
        try_text=WORD,
        code=CODE.format(word=WORD),
    )


def explain(lesson: LessonText) -> tuple[TaskLine, ...]:
    """How the word is split with and without its space, and whether the model sees its letters."""
    ids = _ids(lesson, WORD)
    if len(ids) >= len(WORD.strip()):
        seen = TaskLine("spelled", {"count": count(len(ids))})
    else:
        figures = {"letter": text(LETTER), "number": count(WORD.count(LETTER)), "ids": _listed(ids)}
        seen = TaskLine("hidden", figures)
    return (*(_split(lesson, spelling) for spelling in SPELLINGS), seen)


def _split(lesson: LessonText, spelling: str) -> TaskLine:
    ids = _ids(lesson, spelling)
    pieces = " | ".join(str(lesson.token(token_id).value) for token_id in ids)
    figures = {"word": text(spelling), "pieces": text(pieces), "count": count(len(ids)), "ids": _listed(ids)}
    return TaskLine("split", figures)


def _ids(lesson: LessonText, spelling: str) -> list[int]:
    return list(lesson.tokenizer.encode(spelling).ids)


def _listed(ids: list[int]) -> Figure:
    return Figure(", ".join(map(str, ids)), "count")
