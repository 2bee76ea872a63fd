"""The page's questions about lessons: the list, one lesson on the reader's text, and whether an answer is right.

The right answer is computed from the model when an answer is checked; it is not sent with the question.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType
from typing import Any

from pellucid.errors import RequestError
from pellucid.lens.answer import Answer, At
from pellucid.lens.lessons import draw, embedding, heads, next_token, position, token, training, window
from pellucid.lens.lessons.contents import PATH, find_entry
from pellucid.lens.lessons.lesson_text import LessonText
from pellucid.lens.lessons.task import LessonTask
from pellucid.lens.shows import AROUND, PLAIN, Shown
from pellucid.lens.state import LensState
from pellucid.planning.axes import Axes

WORKED_BY: dict[str, ModuleType] = {
    "token": token,
    "embedding": embedding,
    "position": position,
    "heads": heads,
    "next-token": next_token,
    "draw": draw,
    "training": training,
    "window": window,
}
PREAMBLE = "import torch\nimport pellucid\n"
RECORD = "from pellucid.model.recording import record\n"


def list_lessons(lens: LensState) -> Answer:
    """The lessons in order, each with its panel."""
    return Answer({"lessons": [{"key": entry.key, "panel": entry.panel} for entry in PATH]})


def open_lesson(lens: LensState, *, at: At, lesson: str) -> Answer:
    """One lesson on the text of a node: its sentences' figures, what to select, and the question."""
    entry, shown = find_entry(lesson), LessonText(lens, at)
    task = WORKED_BY[entry.key].open_task(shown)
    told = {"key": entry.key, "panel": entry.panel, "text": shown.quote(shown.ids), **task.to_dict()}
    return Answer({**told, "code": complete_code(lens, at, task.code)})


def check(lens: LensState, *, at: At, lesson: str, answer: float) -> Answer:
    """Check an answer: whether it is right, the right one, and the explanation."""
    worked_by, shown = WORKED_BY[find_entry(lesson).key], LessonText(lens, at)
    task: LessonTask = worked_by.open_task(shown)
    if task.choices and answer not in range(len(task.choices)):
        raise RequestError("that is none of the choices", found=str(answer), hint=f"give 0 to {len(task.choices) - 1}")
    said = [line.to_dict() for line in worked_by.explain(shown)]
    return Answer({"right": task.is_right(answer), "answer": task.answer, "said": said})


def list_questions(lens: LensState, place: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The questions that a recording needs for the lessons: each with its choices, or with likely answers."""
    yield "lessons", {}
    for entry in PATH:
        asked = {"at": place, "lesson": entry.key}
        try:
            task = lens.answer("lesson", asked).value
        except RequestError:  # the text is too short for lessons: the page of the recording says so
            return
        yield "lesson", asked
        answer = lens.answer("lesson.check", {**asked, "answer": 0}).value["answer"]
        written = range(len(task["choices"])) if task["choices"] else {0, round(answer), round(answer, 1)}
        for one in written:
            yield "lesson.check", {**asked, "answer": one}


def complete_code(lens: LensState, at: At, code: str) -> str:
    """A lesson's Python code, ready to run: with its imports and the path of this model."""
    place = lens.models.open(at.checkpoint).checkpoint.directory
    meant = lens.run.meant() if lens.run else None
    if lens.run and meant and meant.directory == place:
        place = lens.run.path  # what a person who names the run gets
    imports = PREAMBLE + (RECORD if "record(" in code else "")
    return f"{imports}\ntorch.set_grad_enabled(False)\nRUN = {str(place)!r}\n{code}print(answer)\n"


METHODS = {"lessons": list_lessons, "lesson": open_lesson, "lesson.check": check}
# Lessons work out attention as it is in GPT and Llama, and speak of the next token.
TAUGHT: Axes = {**PLAIN, **AROUND, "causal": (True,)}
SHOWS: dict[str, Shown] = {"lessons": None, "lesson": TAUGHT, "lesson.check": TAUGHT}
