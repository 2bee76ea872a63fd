"""The guided lessons of the lens in a terminal, with the same sentences, questions and checks as on its page.

This file asks the lens the same questions as the page does and turns the answers into pages of sections. The model is
the one that is named, else the run that was changed last.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pellucid.errors import RequestError, StoreError
from pellucid.events import NULL, Recorder
from pellucid.lens.dispatch import Dispatch, open_lens
from pellucid.lens.lessons.ask import WORKED_BY
from pellucid.lens.lessons.words import myths, say, say_line
from pellucid.lens.page.lobby import Lobby
from pellucid.lessons.page import FINDING, Bilingual, Code, Language, LessonPage, Paragraph


@dataclass(frozen=True, kw_only=True)
class Checked:
    """The program's reply to an answer."""

    right: bool
    answer: str  # the right answer, as a person would give it
    page: LessonPage  # the explanation, and a common misunderstanding


@dataclass(frozen=True, kw_only=True)
class Guided:
    """One lesson on one text of one model."""

    dispatch: Dispatch
    key: str
    task: dict[str, Any]  # the lens's answer to `lesson`

    @property
    def text(self) -> str:
        """The text of the lesson (only the end of a long one)."""
        return self.task["text"]

    @property
    def choices(self) -> tuple[str, ...]:
        """The choices, counted from 1; empty where the answer is a number."""
        return tuple(choice["shown"] for choice in self.task["choices"])

    @property
    def page(self) -> LessonPage:
        """The lesson up to its question, and the Python code that finds the answer."""
        about = _words("about") + Bilingual(f": {self.text}", f"：{self.text}")
        choices = [f"  {number}  {choice}" for number, choice in enumerate(self.choices, start=1)]
        asked = [self._sentence(self.task["ask"]), *(Bilingual(choice, choice) for choice in choices)]
        return LessonPage(
            (
                Paragraph(heading=about, text=_lines([self._sentence(line) for line in self.task["say"]])),
                Paragraph(heading=_words("question"), text=_lines([*asked, _words("terminal")])),
                Code(text=self.task["code"], functions=(f"{WORKED_BY[self.key].__name__}.open_task",)),
            )
        )

    def check(self, given: str) -> Checked:
        """Whether an answer is right: a number, or the number of a choice from 1. Raises RequestError for neither."""
        try:
            value = float(given.strip().rstrip("%°"))
        except ValueError:
            raise RequestError("the answer is not a number", found=repr(given), hint=self._wanted) from None
        if self.choices and value not in range(1, len(self.choices) + 1):
            raise RequestError("that is none of the choices", found=given, hint=self._wanted)
        answer = value - 1 if self.choices else value
        checked = self.dispatch.answer("lesson.check", {"lesson": self.key, "answer": answer}).value
        return Checked(right=checked["right"], answer=self._shown(checked["answer"]), page=self._closing(checked))

    @property
    def _wanted(self) -> str:
        return f"give 1 to {len(self.choices)}" if self.choices else "give a number"

    def _shown(self, answer: float) -> str:
        if self.choices:
            return f"{int(answer) + 1}  {self.choices[int(answer)]}"
        return f"{answer:g}" if answer == int(answer) else f"{answer:.1f}"

    def _closing(self, checked: dict[str, Any]) -> LessonPage:
        seen = [self._sentence(line) for line in checked["said"]]
        found = [Paragraph(heading=FINDING, text=_lines(seen))] if seen else []
        wrong = [
            Paragraph(heading=_words("said") + Bilingual(f": {en[0]}", f"：{zh[0]}"), text=Bilingual(en[1], zh[1]))
            for en, zh in zip(myths("en", self.key), myths("zh", self.key), strict=True)
        ]
        return LessonPage((*found, *wrong))

    def _sentence(self, line: dict[str, Any]) -> Bilingual:
        return Bilingual(say_line("en", self.key, line), say_line("zh", self.key, line))


def open_guided(
    key: str,
    model: Path | None,
    text: str | None,
    *,
    language: Language,
    device: str = "cpu",
    recorder: Recorder = NULL,
) -> Guided:
    """Open a lesson on a text (by default a sample sentence) and a model (by default the run that was changed last).

    Raises StoreError where no model is named and none lies in runs/, RequestError for a text too short.
    """
    place = find_newest(Path("runs")) if model is None else model
    dispatch = open_lens(
        place, text=say(language, "sample") if text is None else text, device=device, recorder=recorder
    )
    return Guided(dispatch=dispatch, key=key, task=dispatch.answer("lesson", {"lesson": key}).value)


def find_newest(folder: Path) -> Path:
    """The run in a folder that was changed last. Raises StoreError where there is none."""
    runs = Lobby(folder, open_lens).runs()
    if not runs:
        raise StoreError(
            "this lesson is told on a model of yours, and none was found",
            where=str(folder),
            hint="name one with --model RUN, or make one in a few minutes: pellucid quickstart",
        )
    return Path(runs[0]["path"])


def _lines(sentences: Sequence[Bilingual]) -> Bilingual:
    return Bilingual("\n".join(one.en for one in sentences), "\n".join(one.zh for one in sentences))


def _words(key: str) -> Bilingual:
    return Bilingual(say("en", key), say("zh", key))
