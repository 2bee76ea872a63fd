"""Write happenings, questions and answers as sentences of a language.

One `Teller` serves both languages: they differ in the lexicon and in the few lines that make nouns. One
sentence tells one happening: a pure function of the happening, the wording and whether the name became a pronoun. Each
wording of the lexicon is compiled once into such a function, since Python fills an f-string in a third of the time
that `str.format` takes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any, Literal, NamedTuple

from pellucid.data.microworld import entities, lexicon_en, lexicon_zh
from pellucid.data.microworld.entities import COLOUR, CONTAINER, DAY, NUMBER, PLACE, THING, Happening
from pellucid.data.microworld.questions import Asked
from pellucid.data.microworld.splits import Split
from pellucid.errors import InputError
from pellucid.keyed_random import Draws, chance

Language = Literal["en", "zh"]
PRONOUN = chance(1, 3)  # of a name to become a pronoun where it may
WORDINGS_HELD_OUT = 2  # the last ones of every happening
GAP = re.compile(r"\{(\w)(?:\.(\w+))?\}")
# Where the entity for a gap stands in a Happening, and in an Asked; {N} needs two: the thing and how many.
ENTITY = {"P": "told[1]", "T": "told[2]", "L": "told[3]", "O": "told[4]", "D": "told[5]", "N": "told[2], told[5]"}
FORM = {"P": "the", "D": "day", "N": "counted"}  # the form of a name that has only one

Fill = Callable[[tuple[Any, ...]], str]  # makes the sentence of a Happening, or the question of an Asked


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


def compile_wording(wording: str, forms: Mapping[str, Mapping[Any, str]], *, person: str = "the") -> Fill:
    """A function that fills the gaps of a wording; `forms` gives the words of every entity in every form.

    A gap at the beginning takes the capitalised form. `person` is the form that people are named in.

    >>> forms = {"The": {0: "Mara"}, "into": {101: "into the garden"}}
    >>> compile_wording("{P} ran {L.into}.", forms)(Happening("move", 0, place=101))
    'Mara ran into the garden.'
    """

    def lookup(gap: re.Match[str]) -> str:
        name, form = gap.groups()
        form = person if name == "P" else form or FORM[name]
        return f"{{{form if gap.start() else form.capitalize()}[{ENTITY[name]}]}}"

    fill: Fill = eval(f"lambda told: f{GAP.sub(lookup, wording)!r}", dict(forms))  # the lexicons are our own
    return fill


class Wording(NamedTuple):
    """A way to tell a happening: with the person's name, and with a pronoun where that can be."""

    named: Fill
    pronoun: Fill | None


class Teller:
    """Writes sentences in one language."""

    def __init__(self, language: Language) -> None:
        self.language = language
        english = language == "en"
        self._nouns = _english_nouns() if english else _chinese_nouns()
        self._lexicon = lexicon_en if english else lexicon_zh
        self.between = " " if english else ""
        forms = self._forms()
        may_begin = "{P}" if english else ("{P}", "{T.the}被")  # wordings that take a pronoun

        def compiled(wording: str) -> Wording:
            pronoun = compile_wording(wording, forms, person="pronoun") if wording.startswith(may_begin) else None
            return Wording(compile_wording(wording, forms), pronoun)

        wordings = {verb: tuple(map(compiled, told)) for verb, told in self._lexicon.HAPPENINGS.items()}
        self._wordings = {verb: told[:-WORDINGS_HELD_OUT] for verb, told in wordings.items()}
        self._held_out = {verb: told[-WORDINGS_HELD_OUT:] for verb, told in wordings.items()}
        self._states = {state: compile_wording(told, forms) for state, told in self._lexicon.STATES.items()}
        self._questions = {
            kind: tuple(compile_wording(wording, forms) for wording in asked)
            for kind, asked in self._lexicon.QUESTIONS.items()
        }
        self._answers: dict[tuple[int, int], tuple[str, ...]] = {}

    def _forms(self) -> dict[str, dict[Any, str]]:
        """The words of every entity, by form; a form with a capitalised name is for the beginning of a sentence."""
        she, he = ("she", "he") if self.language == "en" else ("她", "他")
        forms: dict[str, dict[Any, str]] = {
            form: {entity: getattr(noun, form) for entity, noun in self._nouns.items()} for form in Noun._fields
        }
        forms["pronoun"] = {person: she if entities.is_woman(person) else he for person in entities.PEOPLE}
        forms["day"] = {DAY + number: name for number, name in enumerate(self._lexicon.DAYS)}
        forms["counted"] = {
            (thing, count): self._counted(self._nouns[thing], count)
            for thing in entities.COUNTED
            for count in range(1, len(self._lexicon.NUMBERS))
        }
        for form, words in list(forms.items()):
            forms[form.capitalize()] = {entity: word[:1].upper() + word[1:] for entity, word in words.items()}
        return forms

    def sentences(self, draws: Draws, events: Sequence[Happening], split: Split) -> tuple[list[str], dict[int, int]]:
        """One sentence per happening; for a sentence that depends on another one, also the index of that one.

        A sentence depends on another by a pronoun (the sentence before) or by a day (the first sentence of that day).
        """
        wordings = self._held_out if split == "paraphrases" else self._wordings
        told: list[str] = []
        leans: dict[int, int] = {}
        before = None  # the person whom the last sentence was about, if it named nobody else
        day, opened = entities.NONE, 0
        for now, event in enumerate(events):
            verb, person, _, _, other, _, today = event
            named, pronoun = draws.one(wordings[verb])
            if pronoun and person == before and today == day and draws.happens(PRONOUN):
                told.append(pronoun(event))
                leans[now] = now - 1
            elif today == day:
                told.append(named(event))
                if day >= 0:
                    leans[now] = opened
            else:
                day, opened = today, now
                told.append(self._open_day(day, named(event)))
            before = person if other < 0 or other >= CONTAINER else None
        return told, leans

    def plainly(self, events: Sequence[Happening]) -> list[str]:
        """One sentence per happening in its first wording, with names throughout: what can be told in one way alone.

        >>> teller("en").plainly([Happening("move", 0, place=101), Happening("take", 0, thing=1000)])
        ['Mara went to the garden.', 'Mara took the key.']
        """
        told, day = [], entities.NONE
        for event in events:
            sentence = self._wordings[event[0]][0].named(event)
            told.append(sentence if event[6] == day else self._open_day(event[6], sentence))
            day = event[6]
        return told

    def state(self, fact: Happening) -> str:
        """One sentence of how things stand: a happening whose verb is `is`, `lies` or `has`.

        >>> teller("zh").state(Happening("is", 0, place=101))
        '小梅在花园里。'
        """
        return self._states[fact[0]](fact)

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
        """The question and its accepted answers, the usual one first."""
        return draws.one(self._questions[asked[0]])(asked), self.answers(asked[6], asked[2])

    def answers(self, answer: int, about: int = entities.NONE) -> tuple[str, ...]:
        """All accepted forms of this answer; a number gets the measure word of the question's subject."""
        key = (answer, about if NUMBER <= answer < DAY else entities.NONE)
        known = self._answers.get(key)
        if known is None:
            known = self._answers[key] = self._form_answers(*key)
        return known

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


LANGUAGES: tuple[Language, ...] = ("en", "zh")


@cache
def teller(language: str) -> Teller:
    """The teller of a language.

    Raises: InputError for a language that the microworld does not speak.

    >>> teller("zh").answers(entities.PLACES[1])
    ('花园。', '在花园里。', '花园里。')
    """
    for known in LANGUAGES:
        if language == known:
            return Teller(known)
    raise InputError("the microworld is not told in this language", found=language, hint="en or zh")
