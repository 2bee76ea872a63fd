"""A story of the microworld: events told in a language, and questions with their answers.

    Mara went to the kitchen. Mara picked up the cup. She ran to the garden.
    Where is the cup? The garden.
    Where was Mara before the garden? The kitchen.

The document is one line of sentences, then one line per question: the question, a space (none in Chinese) and the first
accepted answer. So a model that continues the text after a question mark gives its answer up to the end of the line.
"""

from __future__ import annotations

from dataclasses import dataclass

from pellucid.data.microworld.entities import Happening
from pellucid.data.microworld.plots import PLOTS, check_level, play
from pellucid.data.microworld.questions import Asked, ask
from pellucid.data.microworld.splits import Split, check_split, is_kept_from_training
from pellucid.data.microworld.tell import Language, Teller, teller
from pellucid.keyed_random import Draws

VERSION = "microworld-1"


@dataclass(frozen=True, slots=True)
class Question:
    """A question about a story, all accepted answers (the usual one first), and the evidence for them."""

    kind: str
    text: str
    answers: tuple[str, ...]
    hops: int  # happenings that must be put together (0: the tale does not say)
    evidence: tuple[int, ...]  # indices of the sentences that suffice to answer
    language: Language


@dataclass(frozen=True, slots=True)
class Story:
    """A short story: its sentences, its events, its origin (seed, index, level, split) and its questions."""

    events: tuple[Happening, ...]
    sentences: tuple[str, ...]
    questions: tuple[Question, ...]
    language: Language
    level: int
    seed: int
    index: int
    split: Split

    @property
    def tale(self) -> str:
        """The sentences as one line, without the questions."""
        return (" " if self.language == "en" else "").join(self.sentences)

    @property
    def text(self) -> str:
        """The document: the sentences, then each question with its answer on its own line."""
        between = " " if self.language == "en" else ""
        return "\n".join([self.tale, *(f"{q.text}{between}{q.answers[0]}" for q in self.questions)])

    @property
    def answer_places(self) -> tuple[tuple[int, int], ...]:
        """The span (start, stop) of each answer in the characters of `text`.

        >>> tale = story(0, 7, level=1, language="en")
        >>> [tale.text[start:stop] for start, stop in tale.answer_places] == [q.answers[0] for q in tale.questions]
        True
        """
        places, at, between = [], len(self.tale), 1 if self.language == "en" else 0
        for question in self.questions:
            start = at + 1 + len(question.text) + between
            at = start + len(question.answers[0])
            places.append((start, at))
        return tuple(places)

    def prompt(self, question: Question) -> str:
        """The prompt for a model: the sentences and one question, without the answer and the space before it.

        >>> tale = story(0, 0, level=1, language="en")
        >>> tale.prompt(tale.questions[0]) == tale.tale + "\\n" + tale.questions[0].text
        True
        """
        return f"{self.tale}\n{question.text}"


def story(seed: int, index: int, *, level: int, language: str, split: str = "train") -> Story:
    """The story with this number: the same arguments always give the same story, on every machine.

    In both languages, the same seed, index, level and split give the same events and the same questions.

    Raises: InputError for a level, a language or a split that does not exist.

    >>> tale = story(0, 7, level=1, language="en")
    >>> len(tale.sentences) == len(tale.events)
    True
    """
    narrator, part = teller(language), check_split(split)
    draws = _draws(seed, index, level, part)
    events, asked = _events_and_questions(draws, level, part)
    sentences, leans = narrator.sentences(draws, events, part)
    questions = tuple([_told_question(draws, narrator, one, leans) for one in asked])
    return Story(tuple(events), tuple(sentences), questions, narrator.language, level, seed, index, part)


def happenings(seed: int, index: int, *, level: int, split: str = "train") -> tuple[list[Happening], list[Asked]]:
    """What happens in the story with this number and what is asked, before it is told in a language.

    Raises: as `story`.

    >>> happenings(0, 7, level=1)[0] == list(story(0, 7, level=1, language="en").events)
    True
    """
    part = check_split(split)
    return _events_and_questions(_draws(seed, index, level, part), level, part)


def document(seed: int, index: int, *, level: int, language: str, split: str = "train") -> str:
    """The text of the story with this number, made without the data that only scoring needs.

    Raises: as `story`.

    >>> document(0, 7, level=1, language="en") == story(0, 7, level=1, language="en").text
    True
    """
    narrator, part = teller(language), check_split(split)
    draws, between = _draws(seed, index, level, part), narrator.between
    events, asked = _events_and_questions(draws, level, part)
    lines = [between.join(narrator.sentences(draws, events, part)[0])]
    for one in asked:
        question, answers = narrator.question(draws, one)
        lines.append(f"{question}{between}{answers[0]}")
    return "\n".join(lines)


def _draws(seed: int, index: int, level: int, split: Split) -> Draws:
    return Draws(f"{VERSION} {seed} {index} {check_level(level)} {split}")


def _events_and_questions(draws: Draws, level: int, split: Split) -> tuple[list[Happening], list[Asked]]:
    """Draw courses of events until one belongs to the split and has a question."""
    plot = draws.one(PLOTS[level])
    while True:
        played = play(draws, plot, split)
        if played is None:
            continue
        world, cast = played
        if is_kept_from_training(world.events) == (split == "train"):
            continue
        asked = ask(draws, plot, cast, world, split)
        if asked:
            return world.events, asked


def _told_question(draws: Draws, narrator: Teller, asked: Asked, leans: dict[int, int]) -> Question:
    text, answers = narrator.question(draws, asked)
    evidence = asked.evidence
    if leans and not leans.keys().isdisjoint(evidence):
        needed = set(evidence)
        for sentence in evidence:
            while sentence in leans:
                sentence = leans[sentence]
                needed.add(sentence)
        evidence = tuple(sorted(needed))
    return Question(asked.kind, text, answers, len(asked.evidence), evidence, narrator.language)
