"""Lesson 1: text becomes tokens, tokens become ids, and an id hides the spelling.

The known example is "strawberry": in most large vocabularies one token with the space before it, so that nothing the
model receives holds its letters. What the reader's own tokenizer does with it is computed here, not claimed.
"""

from __future__ import annotations

from pellucid.lens.graphemes import graphemes
from pellucid.lens.lessons.lesson_text import LessonText
from pellucid.lens.lessons.task import Figure, Line, Task, count, text

WORD, LETTER = " strawberry", "r"
SPELLINGS = ("strawberry", WORD, "草莓")
CODE = """\
tokenizer = pellucid.load(RUN).tokenizer
answer = len(tokenizer.encode({word!r}).ids)
"""


def open_task(lesson: LessonText) -> Task:
    """How many tokens the word becomes."""
    position = lesson.text_positions[0]
    token_id = lesson.ids[position]
    figures = {
        "vocab": count(lesson.tokenizer.vocab_size),
        "characters": count(sum(1 for _ in graphemes(lesson.tokenizer.decode(lesson.ids)))),
        "tokens": count(len(lesson.text_positions)),
        "label": lesson.token(token_id),
        "id": count(token_id),
    }
    ask = Line("ask", {"word": text(WORD)})
    begin = lesson.tokenizer.bos_id
    if begin is not None:  # it stands on the row too, in front of every text
        ask = Line("ask_begun", {**ask.figures, "begin": lesson.token(begin)})
    return Task(
        say=(Line("say", figures),),
        ask=ask,
        answer=len(_ids(lesson, WORD)),
        select={"token": position},
        try_text=WORD,
        code=CODE.format(word=WORD),
    )


def explain(lesson: LessonText) -> tuple[Line, ...]:
    """How the word is cut here with and without its space, and whether its letters can be seen."""
    ids = _ids(lesson, WORD)
    if len(ids) >= len(WORD.strip()):
        seen = Line("spelled", {"count": count(len(ids))})
    else:
        figures = {"letter": text(LETTER), "number": count(WORD.count(LETTER)), "ids": _listed(ids)}
        seen = Line("hidden", figures)
    return (*(_split(lesson, spelling) for spelling in SPELLINGS), seen)


def _split(lesson: LessonText, spelling: str) -> Line:
    ids = _ids(lesson, spelling)
    pieces = " | ".join(str(lesson.token(token_id).value) for token_id in ids)
    figures = {"word": text(spelling), "pieces": text(pieces), "count": count(len(ids)), "ids": _listed(ids)}
    return Line("split", figures)


def _ids(lesson: LessonText, spelling: str) -> list[int]:
    return list(lesson.tokenizer.encode(spelling).ids)


def _listed(ids: list[int]) -> Figure:
    return Figure(", ".join(map(str, ids)), "count")
