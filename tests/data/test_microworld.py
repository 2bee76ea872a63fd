"""The microworld's answers, checked against a second, plain telling of its rules, and its language against its lexicons."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pellucid.data.microworld import entities, lexicon_en, lexicon_zh
from pellucid.data.microworld.entities import Happening
from pellucid.data.microworld.plots import LEVELS
from pellucid.data.microworld.splits import SPLITS
from pellucid.data.microworld.story import Question, Story, story
from pellucid.errors import InputError

cases = st.builds(
    dict,
    seed=st.integers(0, 2**64),
    index=st.integers(0, 10**9),
    level=st.sampled_from(LEVELS),
    split=st.sampled_from(SPLITS),
)

# -- English names -> numbers, from the lexicon alone ------------------------------------------------------------------

NUMBER_OF = {name: number for number, name in zip(entities.PEOPLE, lexicon_en.PEOPLE, strict=True)}
NUMBER_OF |= dict(zip(lexicon_en.PLACES, entities.PLACES, strict=True))
NUMBER_OF |= dict(zip(entities.CONTAINER_SIZES, entities.CONTAINERS, strict=True))
NUMBER_OF |= dict(zip(entities.THING_NAMES, entities.THINGS, strict=True))
NUMBER_OF |= {
    f"{colour} {name}": thing + 100 * c
    for c, colour in enumerate(lexicon_en.COLOURS, 1)
    for name, thing in zip(entities.THING_NAMES, entities.THINGS, strict=True)
}
NUMBER_OF |= {day: entities.DAY + d for d, day in enumerate(lexicon_en.DAYS)}
NUMBER_OF |= {lexicon_en.PLURALS.get(name, name + "s"): NUMBER_OF[name] for name in entities.THING_NAMES}
NAME_OF = {number: name for name, number in reversed(NUMBER_OF.items())}
SLOTS = {
    "{P}": r"(?P<P>\w+)", "{T.the}": r"the (?P<T>[\w ]+)", "{L.the}": r"the (?P<L>\w+)", "{O.the}": r"(?:the )?(?P<O>\w+)",
    "{D}": r"(?P<D>\w+)", "{T.bare}": r"(?P<T>\w+)", "{T.plural}": r"(?P<T>\w+)",
}  # fmt: skip


def read_question(question: Question) -> dict[str, int]:
    """What an English question is about, read from its words."""
    for wording in lexicon_en.QUESTIONS[question.kind]:
        pattern = wording.replace("?", r"\?")
        for slot, group in SLOTS.items():
            pattern = pattern.replace(slot, group, 1)
        match = re.fullmatch(pattern, question.text)
        if match and all(name in NUMBER_OF for name in match.groupdict().values()):
            return {part: NUMBER_OF[name] for part, name in match.groupdict().items()}
    raise AssertionError(f"no wording of {question.kind} reads {question.text!r}")


# -- the rules once more, as plainly as possible -----------------------------------------------------------------------


class Replay:
    """Runs happenings through rules written apart from the package's: dictionaries, and no bookkeeping of evidence."""

    def __init__(self, events: list[Happening]) -> None:
        self.events = events
        self.stands: dict[int, int] = {}
        self.lies: dict[int, int] = {}  # thing -> place, person or container
        self.route: dict[int, list[int]] = {}
        self.has: dict[tuple[int, int], int] = {}
        self.seen: dict[tuple[int, int], int] = {}
        self.present: list[set[int]] = []
        for event in events:
            self.run(event)

    def run(self, e: Happening) -> None:
        if e.verb == "move":
            self.stands[e.person] = e.place
            self.route.setdefault(e.person, []).append(e.place)
        elif e.verb == "lie":
            self.lies[e.thing] = e.place
        elif e.verb in ("take", "out"):
            self.lies[e.thing] = e.person
        elif e.verb == "drop":
            if e.person in self.stands:
                self.lies[e.thing] = self.stands[e.person]
            else:
                self.lies.pop(e.thing, None)
        elif e.verb in ("put", "give"):
            self.lies[e.thing] = e.other
        else:
            change = e.number if e.verb == "find" else -e.number
            self.has[e.person, e.thing] = self.has.get((e.person, e.thing), 0) + change
            if e.verb == "share":
                self.has[e.other, e.thing] = self.has.get((e.other, e.thing), 0) + e.number
        here = {p for p, place in self.stands.items() if place == self.stands.get(e.person)} - {e.person}
        self.present.append(here)
        for person in {*here, e.person} & self.stands.keys():
            for thing in self.lies:
                looks = e.thing == thing or (e.verb == "move" and (person == e.person or self.lies[thing] == e.person))
                if looks and self.lies[thing] < entities.CONTAINER and self.place(thing) == self.stands[person]:
                    self.seen[person, thing] = self.stands[person]

    def place(self, entity: int) -> int | None:
        for _ in range(10):
            if entity in entities.PLACES:
                return entity
            entity = self.stands.get(entity, self.lies.get(entity, entities.NONE))
        return None

    def answer(self, kind: str, about: dict[str, int]) -> str:
        person, thing, place = about.get("P", -1), about.get("T", -1), about.get("L", -1)
        other, day = about.get("O", -1), about.get("D", -1)
        if kind in ("where_person", "where_thing"):
            where = self.place(person if kind == "where_person" else thing)
            return "Nobody knows." if where is None else named(where)
        if kind == "who_has":
            return named(self.lies[thing]) if self.lies.get(thing) in entities.PEOPLE else "Nobody."
        if kind == "where_before":
            return named(self.route[person][self.route[person].index(place) - 1])
        if kind == "in_what":
            return named(self.lies[thing])
        if kind == "contents":
            inside = [named(x) for x, holder in self.lies.items() if holder == other]
            return inside[0] if len(inside) == 1 else "Nothing." if not inside else "many things"
        if kind == "colour":
            held = [x for x, holder in self.lies.items() if holder == person and entities.THING + x % 100 == thing]
            return (
                lexicon_en.COLOURS[(held[0] - entities.THING) // 100 - 1].capitalize() + "." if len(held) == 1 else "?"
            )
        if kind == "how_many":
            return lexicon_en.NUMBERS[self.has[person, thing]].capitalize() + "."
        if kind == "believes":
            return named(self.seen[person, thing]) if (person, thing) in self.seen else "No idea."
        return self.answer_about_deed(kind, person, thing, place, other, day)

    def answer_about_deed(self, kind: str, person: int, thing: int, place: int, other: int, day: int) -> str:
        def only(found: list[str]) -> str:
            return found[0] if len(found) == 1 else f"{len(found)} answers"

        events = self.events
        if kind == "who_gave":
            return only([named(e.person) for e in events if e.verb == "give" and (e.thing, e.other) == (thing, other)])
        if kind == "gave_whom":
            return only([named(e.other) for e in events if e.verb == "give" and (e.person, e.thing) == (person, thing)])
        if kind.startswith("who_saw_"):
            verb = kind.removeprefix("who_saw_")
            seen = [i for i, e in enumerate(events) if (e.verb, e.person, e.thing) == (verb, person, thing)]
            witnesses = self.present[seen[0]]
            return only([named(p) for p in witnesses]) if witnesses and len(seen) == 1 else "Nobody."
        if kind == "place_on_day":
            return only([named(e.place) for e in events if (e.verb, e.person, e.day) == ("move", person, day)])
        if kind == "day_of_move":
            return only([named(e.day) for e in events if (e.verb, e.person, e.place) == ("move", person, place)])
        return only([named(e.day) for e in events if (e.verb, e.person, e.thing) == ("take", person, thing)])


def named(entity: int) -> str:
    name = NAME_OF[entity]
    person_or_day = entity < entities.PLACE or entities.DAY <= entity < entities.COLOUR
    return f"{name}." if person_or_day else f"The {name}."


@given(cases)
@settings(max_examples=250, deadline=None)
def test_answers_follow_from_the_events_and_from_the_evidence_alone(case: dict) -> None:
    tale = story(**case, language="en")
    everything = Replay(list(tale.events))
    for question in tale.questions:
        about = read_question(question)
        assert everything.answer(question.kind, about) == question.answers[0], (tale.text, question)
        evidence = Replay([tale.events[i] for i in question.evidence])
        assert evidence.answer(question.kind, about) == question.answers[0], (tale.text, question)


def test_the_replay_notices_a_wrong_event() -> None:
    tale = story(0, 3, level=1, language="en")
    moved = [e._replace(place=entities.PLACES[0]) if e.verb == "move" else e for e in tale.events]
    before, after = Replay(list(tale.events)), Replay(moved)
    assert [before.answer(q.kind, read_question(q)) for q in tale.questions] != [
        after.answer(q.kind, read_question(q)) if q.kind != "where_before" else "?" for q in tale.questions
    ]


# -- the two languages -------------------------------------------------------------------------------------------------

ZH_NAME = dict(zip(entities.PEOPLE, lexicon_zh.PEOPLE, strict=True))
ZH_NAME |= {
    place: lexicon_zh.PLACES[english][0] for place, english in zip(entities.PLACES, lexicon_en.PLACES, strict=True)
}
ZH_NAME |= {
    NUMBER_OF[english]: lexicon_zh.THINGS[english].split()[0]
    for english in (*entities.THING_NAMES, *entities.CONTAINER_SIZES)
}
ZH_NAME |= {entities.DAY + d: day for d, day in enumerate(lexicon_zh.DAYS)}
ZH_FIXED = {"Nobody.": "没有人。", "Nobody knows.": "没有人知道。", "No idea.": "不知道。", "Nothing.": "什么也没有。"}


def chinese_of(english: str, kind: str) -> str | None:
    if english in ZH_FIXED:
        return ZH_FIXED[english]
    if kind == "colour":
        return lexicon_zh.COLOURS[lexicon_en.COLOURS.index(english[:-1].lower())] + "。"
    if kind == "how_many":
        number = lexicon_zh.NUMBERS[lexicon_en.NUMBERS.index(english[:-1].lower())]
        return "也没有。" if number == "零" else number
    return ZH_NAME[NUMBER_OF[english.removeprefix("The ")[:-1]]] + "。"


@given(cases)
@settings(max_examples=120, deadline=None)
def test_both_languages_tell_the_same_events_and_answer_alike(case: dict) -> None:
    english, chinese = story(**case, language="en"), story(**case, language="zh")
    assert english.events == chinese.events
    assert len(english.sentences) == len(chinese.sentences) == len(english.events)
    assert [q.kind for q in english.questions] == [q.kind for q in chinese.questions]
    for ours, theirs in zip(english.questions, chinese.questions, strict=True):
        assert ours.hops == theirs.hops
        expected = chinese_of(ours.answers[0], ours.kind)
        assert expected in theirs.answers[0] if ours.kind == "how_many" else expected == theirs.answers[0]


@given(cases, st.sampled_from(["en", "zh"]))
@settings(max_examples=120, deadline=None)
def test_a_story_is_a_pure_function_and_its_text_has_the_fixed_layout(case: dict, language: str) -> None:
    tale = story(**case, language=language)
    assert tale == story(**case, language=language)
    first, *lines = tale.text.split("\n")
    assert first == tale.tale and len(lines) == len(tale.questions) > 0
    for line, question in zip(lines, tale.questions, strict=True):
        assert line.removeprefix(question.text).strip() == question.answers[0]
        assert tale.text.startswith(tale.tale) and tale.prompt(question) == f"{tale.tale}\n{question.text}"
        assert len({q.text for q in tale.questions}) == len(tale.questions)
        assert "{" not in tale.text and "  " not in tale.text and "None" not in tale.tale


def test_english_articles_capitals_and_pronouns() -> None:
    tales = [story(4, i, level=level, language="en") for level in LEVELS for i in range(300)]
    for tale in tales:
        for sentence in tale.sentences:
            assert sentence[0].isupper() and sentence.endswith(".")
            assert not re.search(r"\ba [aeiou]|\ban [^aeiou]", sentence), sentence
            assert not re.search(r"(?<!^)(?<!, )\b(She|He|she|he)\b", sentence), sentence
    assert any(sentence.startswith("She ") for tale in tales for sentence in tale.sentences)


def test_a_pronoun_stands_for_the_subject_of_the_sentence_before() -> None:
    found = 0
    for tale in (story(5, i, level=1, language=language) for i in range(300) for language in ("en", "zh")):
        for now, sentence in enumerate(tale.sentences):
            sentence = sentence.replace("吉他", "guitar")  # which ends in the sign for "he"
            if re.search(r"^(She|He) |[她他]", sentence):
                found += 1
                assert tale.events[now].person == tale.events[now - 1].person
                woman = entities.is_woman(tale.events[now].person)
                assert ("她" in sentence or sentence.startswith("She ")) == woman
    assert found > 50


def test_chinese_counts_with_the_measure_word_of_the_noun() -> None:
    for tale in (story(6, i, level=3, language="zh") for i in range(200)):
        for event, sentence in zip(tale.events, tale.sentences, strict=True):
            if event.number:
                noun, measure = lexicon_zh.THINGS[entities.THING_NAMES[event.thing % 100]].split()
                assert f"{lexicon_zh.NUMBERS[event.number]}{measure}{noun}" in sentence


# -- the lexicons ------------------------------------------------------------------------------------------------------


def test_the_world_is_as_rich_as_promised() -> None:
    assert len(set(lexicon_en.PEOPLE)) == len(set(lexicon_zh.PEOPLE)) == len(entities.PEOPLE) >= 40
    assert len(set(entities.THING_NAMES)) == len(entities.THINGS) >= 60
    assert list(lexicon_en.PLACES) == entities.PLACE_NAMES and list(lexicon_zh.PLACES) == entities.PLACE_NAMES
    assert len(entities.PLACES) >= 12
    assert set(lexicon_zh.THINGS) == {*entities.THING_NAMES, *entities.CONTAINER_SIZES}
    for lexicon in (lexicon_en, lexicon_zh):
        for verb, wordings in lexicon.HAPPENINGS.items():
            assert len(set(wordings)) == len(wordings) >= 8 + 2, verb
    assert lexicon_en.HAPPENINGS.keys() == lexicon_zh.HAPPENINGS.keys()
    assert lexicon_en.QUESTIONS.keys() == lexicon_zh.QUESTIONS.keys()


def test_no_chinese_name_hides_in_another() -> None:
    names = list(ZH_NAME.values())
    assert len(set(names)) == len(names)
    for name in names:
        assert [other for other in names if name in other] == [name]


@pytest.mark.parametrize(
    "wrong", [{"level": 9}, {"language": "fr"}, {"split": "test"}], ids=["level", "language", "split"]
)
def test_what_does_not_exist_is_an_error_that_names_what_does(wrong: dict) -> None:
    with pytest.raises(InputError) as raised:
        story(0, 0, **{"level": 1, "language": "en", **wrong})
    assert raised.value.hint and str(next(iter(wrong.values()))) in raised.value.found


def test_a_story_is_short() -> None:
    tales: list[Story] = [story(8, i, level=1, language="en") for i in range(200)]
    assert max(len(tale.sentences) for tale in tales) <= 6
    assert max(len(tale.text.split()) for tale in tales) <= 100
