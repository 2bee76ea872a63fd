"""Tells happenings, questions and answers in a language.

One `Teller` serves both languages: what differs between them is the lexicon and the few lines that make nouns. One
sentence tells one happening. A teller keeps every sentence it has formed, since the same few thousand come again and
again; the sentence stays a pure function of the happening, the wording and whether the name became a pronoun.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

from pellucid.data.microworld import entities, lexicon_en, lexicon_zh
from pellucid.data.microworld.draws import Draws
from pellucid.data.microworld.entities import COLOUR, CONTAINER, DAY, NUMBER, PLACE, THING, Happening
from pellucid.data.microworld.questions import Asked
from pellucid.data.microworld.splits import Split
from pellucid.errors import InputError

Language = Literal["en", "zh"]
PRONOUN_OUT_OF = 3  # a name becomes a pronoun once in this many chances
WORDINGS_HELD_OUT = 2  # the last ones of every happening
KEPT_AT_MOST = 200_000  # sentences and questions; then the teller starts afresh


class Noun(NamedTuple):
    """An entity as a language puts it into a sentence."""

    the: str
    a: str = ""
    at: str = ""
    into: str = ""
    inside: str = ""
    bare: str = ""
    plural: str = ""
    measure: str = ""


def _english_a(words: str) -> str:
    return ("an " if words[0] in "aeiou" else "a ") + words


def _english_nouns() -> dict[int, Noun]:
    nouns = {person: Noun(the=name) for person, name in zip(entities.PEOPLE, lexicon_en.PEOPLE, strict=True)}
    for place, (name, (at, into)) in zip(entities.PLACES, lexicon_en.PLACES.items(), strict=True):
        nouns[place] = Noun(the=f"the {name}", at=f"{at} the {name}", into=f"{into} the {name}")
    for container, name in zip(entities.CONTAINERS, entities.CONTAINER_SIZES, strict=True):
        nouns[container] = Noun(the=f"the {name}", a=_english_a(name), bare=name)
    for thing, name in zip(entities.THINGS, entities.THING_NAMES, strict=True):
        plural = lexicon_en.PLURALS.get(name, name + "s")
        nouns[thing] = Noun(the=f"the {name}", a=_english_a(name), bare=name, plural=plural)
        for number, colour in enumerate(lexicon_en.COLOURS, start=1):
            words = f"{colour} {name}"
            nouns[entities.painted(thing, number)] = Noun(the=f"the {words}", a=_english_a(words), bare=words)
    return nouns


def _chinese_nouns() -> dict[int, Noun]:
    nouns = {person: Noun(the=name) for person, name in zip(entities.PEOPLE, lexicon_zh.PEOPLE, strict=True)}
    for place, english in zip(entities.PLACES, entities.PLACE_NAMES, strict=True):
        name, side, enter = lexicon_zh.PLACES[english]
        nouns[place] = Noun(the=name, at=f"在{name}{side}", into=f"{enter}了{name}", inside=name + side)
    named = dict(zip(entities.THINGS, entities.THING_NAMES, strict=True))
    named |= dict(zip(entities.CONTAINERS, entities.CONTAINER_SIZES, strict=True))
    for thing, english in named.items():
        name, measure = lexicon_zh.THINGS[english].split()
        nouns[thing] = Noun(the=name, a=f"一{measure}{name}", bare=name, measure=measure)
        for number, colour in enumerate(lexicon_zh.COLOURS if thing >= THING else (), start=1):
            words = f"{colour}的{name}"
            nouns[entities.painted(thing, number)] = Noun(
                the=words, a=f"一{measure}{words}", bare=words, measure=measure
            )
    return nouns


class Teller:
    """Makes sentences in one language."""

    def __init__(self, language: Language) -> None:
        self.language = language
        english = language == "en"
        self._nouns = _english_nouns() if english else _chinese_nouns()
        self._lexicon = lexicon_en if english else lexicon_zh
        self.between = " " if english else ""
        self._pronouns = ("She", "He", "she", "he") if english else ("她", "他", "她", "他")
        self._questions: Mapping[str, tuple[str, ...]] = self._lexicon.QUESTIONS
        self._may_begin = "{P}" if english else ("{P}", "{T.the}被")  # wordings that take a pronoun
        happenings = self._lexicon.HAPPENINGS
        self._wordings = {verb: wordings[:-WORDINGS_HELD_OUT] for verb, wordings in happenings.items()}
        self._held_out = {verb: wordings[-WORDINGS_HELD_OUT:] for verb, wordings in happenings.items()}
        self._nobody = Noun(the="")
        self._kept: dict[tuple[object, ...], str] = {}
        self._answers: dict[tuple[int, int], tuple[str, ...]] = {}

    def sentences(self, draws: Draws, events: Sequence[Happening], split: Split) -> tuple[list[str], dict[int, int]]:
        """One sentence per happening, and for each sentence that cannot be read alone the one it leans on.

        A sentence leans on another by a pronoun (the sentence before) or by a day (the first sentence of that day).
        """
        wordings = self._held_out if split == "paraphrases" else self._wordings
        kept = self._kept
        if len(kept) > KEPT_AT_MOST:
            kept.clear()
        told: list[str] = []
        leans: dict[int, int] = {}
        before = None  # the person whom the last sentence was about, if it named nobody else
        day, opened = entities.NONE, 0
        for now, event in enumerate(events):
            verb, person = event[0], event[1]
            wording = draws.one(wordings[verb])
            pronoun = (
                person == before
                and event[6] == day
                and wording.startswith(self._may_begin)
                and not draws.below(PRONOUN_OUT_OF)
            )
            if pronoun:
                leans[now] = now - 1
            key = (wording, pronoun, event)
            sentence = kept.get(key) or self._keep(key)
            if event[6] != day:
                day, opened = event[6], now
                sentence = self._open_day(day, sentence)
            elif day >= 0 and not pronoun:
                leans[now] = opened
            told.append(sentence)
            before = person if event[4] < 0 or event[4] >= CONTAINER else None
        return told, leans

    def _keep(self, key: tuple[str, bool, Happening]) -> str:
        wording, pronoun, event = key
        nouns = self._nouns
        _, person, thing, place, other, count, _ = event
        name = nouns.get(person, self._nobody).the
        if pronoun:
            starts = wording.startswith("{P}")
            name = self._pronouns[(0 if starts else 2) + (not entities.is_woman(person))]
        noun = nouns.get(thing, self._nobody)
        sentence = wording.format(
            P=name, T=noun, L=nouns.get(place), O=nouns.get(other), N=self._counted(noun, count) if count else ""
        )
        self._kept[key] = sentence = sentence[0].upper() + sentence[1:]
        return sentence

    def _counted(self, noun: Noun, count: int) -> str:
        number = self._lexicon.NUMBERS[count]
        if self.language == "zh":
            return f"{number}{noun.measure}{noun.bare}"
        return f"{number} {noun.bare if count == 1 else noun.plural}"

    def _open_day(self, day: int, sentence: str) -> str:
        if sentence.startswith(("The ", "A ", "An ", "There ", "Somebody ")):
            sentence = sentence[0].lower() + sentence[1:]
        opening: str = self._lexicon.DAY_OPENING
        return opening.format(day=self._lexicon.DAYS[day - DAY], sentence=sentence)

    def question(self, draws: Draws, asked: Asked) -> tuple[str, tuple[str, ...]]:
        """The question and the answers accepted, the usual one first."""
        kind, person, thing, place, other, day, answer, _ = asked
        wording = draws.one(self._questions[kind])
        key = (wording, person, thing, place, other, day)
        text = self._kept.get(key)
        if text is None:
            nouns, nobody = self._nouns, self._nobody
            text = wording.format(
                P=nouns.get(person, nobody).the,
                T=nouns.get(thing),
                L=nouns.get(place),
                O=nouns.get(other),
                D=self._lexicon.DAYS[day - DAY] if day >= 0 else "",
            )
            self._kept[key] = text
        return text, self.answers(answer, thing)

    def answers(self, answer: int, about: int = entities.NONE) -> tuple[str, ...]:
        """All that counts as this answer; a number is counted with the measure word of what the question is about."""
        key = (answer, about if NUMBER <= answer < DAY else entities.NONE)
        if key not in self._answers:
            self._answers[key] = self._form_answers(*key)
        return self._answers[key]

    def _form_answers(self, answer: int, about: int) -> tuple[str, ...]:
        lexicon, nouns, english = self._lexicon, self._nouns, self.language == "en"
        unknown: Mapping[int, tuple[str, ...]] = lexicon.UNKNOWN
        if answer in unknown:
            return unknown[answer]
        if COLOUR <= answer < COLOUR + 100:
            words = [lexicon.COLOURS[answer - COLOUR - 1]]
            words += [] if english else [words[0][:1], words[0] + "的"]
        elif DAY <= answer < DAY + 100:
            words = [lexicon.DAYS[answer - DAY]]
            words += [f"on {words[0]}"] if english else []
        elif NUMBER <= answer < NUMBER + 100:
            words = self._number_words(answer - NUMBER, nouns[about])
        elif PLACE <= answer < CONTAINER:
            noun = nouns[answer]
            words = [noun.the, noun.at] if english else list(dict.fromkeys((noun.the, noun.at, noun.inside)))
        elif CONTAINER <= answer < THING:
            noun = nouns[answer]
            words = [noun.the, f"in {noun.the}"] if english else [noun.the, f"{noun.the}里"]
        else:
            words = [nouns[answer].the]
        end = "." if english else "。"
        return tuple(word[0].upper() + word[1:] + end for word in words)

    def _number_words(self, number: int, noun: Noun) -> list[str]:
        word = self._lexicon.NUMBERS[number]
        if self.language == "en":
            return [word, self._counted(noun, number)] if number else [word, "zero"]
        if number == 0:
            return [f"一{noun.measure}也没有", "没有", f"零{noun.measure}"]
        return [f"{word}{noun.measure}", f"{word}{noun.measure}{noun.bare}", "二" if number == 2 else word]


_TELLERS: dict[str, Teller] = {"en": Teller("en"), "zh": Teller("zh")}
LANGUAGES: tuple[Language, ...] = ("en", "zh")


def teller(language: str) -> Teller:
    """The teller of a language.

    Raises: InputError for a language that the microworld does not speak.

    >>> teller("zh").answers(entities.PLACES[1])
    ('花园。', '在花园里。', '花园里。')
    """
    if language not in _TELLERS:
        raise InputError("the microworld is not told in this language", found=language, hint="en or zh")
    return _TELLERS[language]
