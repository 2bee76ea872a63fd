"""Nothing that is held out occurs in training: looked for in the text itself, not in the rules that keep it out."""

from __future__ import annotations

import re
from functools import cache

import pytest

from pellucid.data.microworld import entities, lexicon_en, lexicon_zh
from pellucid.data.microworld.corpus import documents, held_out
from pellucid.data.microworld.plots import LEVELS, PLOTS
from pellucid.data.microworld.splits import RARE_PARTNERS, is_kept_from_training
from pellucid.data.microworld.story import Story, story
from pellucid.errors import InputError

LEXICONS = {"en": lexicon_en, "zh": lexicon_zh}


@cache
def training(level: int, language: str) -> tuple[Story, ...]:
    """Training stories of two seeds."""
    return tuple(story(seed, i, level=level, language=language) for seed in (0, 11) for i in range(200))


@cache
def kept_out(level: int, language: str, split: str) -> tuple[Story, ...]:
    return tuple(held_out(11, level=level, split=split, count=30, language=language))


def names_in(tale: Story, words: list[str]) -> set[str]:
    if tale.language == "zh":
        return {word for word in words if word in tale.text}
    found = set(re.findall(r"\w+", tale.text.casefold()))
    return {word for word in words if word.casefold() in found or lexicon_en.PLURALS.get(word, word + "s") in found}


def vocabulary(language: str) -> tuple[list[str], dict[str, set[str]]]:
    """All partners (people and places) and, for each thing, those that training may not show beside it, in words."""
    lexicon = LEXICONS[language]
    if language == "en":
        things, places = entities.THING_NAMES, list(lexicon.PLACES)
    else:
        things = [lexicon_zh.THINGS[name].split()[0] for name in entities.THING_NAMES]
        places = [names[0] for names in lexicon_zh.PLACES.values()]
    word = dict(zip(entities.PEOPLE, lexicon.PEOPLE, strict=True)) | dict(zip(entities.PLACES, places, strict=True))
    rare = {name: {word[p] for p in RARE_PARTNERS[thing]} for name, thing in zip(things, entities.THINGS, strict=True)}
    return list(word.values()), rare


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("level", LEVELS)
def test_no_held_out_story_or_course_of_events_is_in_training(level: int, language: str) -> None:
    texts = {tale.text for tale in training(level, language)} | {tale.tale for tale in training(level, language)}
    events = {tale.events for tale in training(level, language)}
    for split in ("held_out", "combinations", "paraphrases", "lengths"):
        for tale in kept_out(level, language, split):
            assert tale.split == split
            assert tale.text not in texts and tale.tale not in texts and tale.events not in events
            assert is_kept_from_training(tale.events)
    assert not any(is_kept_from_training(tale.events) for tale in training(level, language))


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("level", LEVELS)
def test_held_out_pairs_never_stand_in_one_training_document(level: int, language: str) -> None:
    partners, rare = vocabulary(language)
    things = list(rare)
    for tale in (*training(level, language), *kept_out(level, language, "held_out")):
        named = names_in(tale, partners)
        for thing in names_in(tale, things):
            assert named.isdisjoint(rare[thing]), tale.text
    for tale in kept_out(level, language, "combinations"):
        named = names_in(tale, partners)
        assert any(named & rare[thing] for thing in names_in(tale, things)), tale.text


def pattern_of(wording: str) -> str:
    return re.sub(r"\\\{.*?\\\}", r".+?", re.escape(wording)).removeprefix(".+?")


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("level", LEVELS)
def test_held_out_wordings_are_new_but_their_words_are_not(level: int, language: str) -> None:
    wordings = LEXICONS[language].HAPPENINGS
    known = " ".join(tale.tale for tale in training(level, language)).casefold()
    known_words = set(re.findall(r"\w+", known)) if language == "en" else set(known)
    told: set[str] = set()
    for tale in training(level, language):
        for event, sentence in zip(tale.events, tale.sentences, strict=True):
            told.add(event.verb)
            matches = [w for w in wordings[event.verb] if re.search(pattern_of(w) + "$", sentence, re.IGNORECASE)]
            assert any(w in wordings[event.verb][:-2] for w in matches), sentence
    for tale in kept_out(level, language, "paraphrases"):
        for event, sentence in zip(tale.events, tale.sentences, strict=True):
            patterns = [pattern_of(w) for w in wordings[event.verb][-2:]]
            assert any(re.search(p + "$", sentence, re.IGNORECASE) for p in patterns), sentence
    for verb in told:
        for wording in wordings[verb][-2:]:
            bare = re.sub(r"\{.*?\}", " ", wording).casefold()
            used = set(re.findall(r"\w+", bare)) if language == "en" else set(bare) - {" "}
            assert used <= known_words, (wording, used - known_words)


@pytest.mark.parametrize("language", ["en", "zh"])
def test_training_never_uses_a_held_out_wording(language: str) -> None:
    """Word for word: the sentence that the held-out wording would make of the same event is not the one told."""
    for level in LEVELS:
        for tale in training(level, language)[:150]:
            for event, sentence in zip(tale.events, tale.sentences, strict=True):
                wordings = LEXICONS[language].HAPPENINGS[event.verb]
                held = {w for w in wordings[-2:] if re.search(f"{pattern_of(w)}$", sentence, re.IGNORECASE)}
                seen = {w for w in wordings[:-2] if re.search(f"{pattern_of(w)}$", sentence, re.IGNORECASE)}
                assert not held or seen, sentence


@pytest.mark.parametrize("level", LEVELS)
def test_long_stories_are_longer_than_any_in_training(level: int) -> None:
    for plot in PLOTS[level]:
        assert plot.long[0] > plot.length[1]
    longest = {plot.name: plot.length[1] for plot in PLOTS[level]}
    for tale in kept_out(level, "en", "lengths"):
        assert len(tale.events) > min(longest.values())


def test_documents_take_turns_and_stop_where_asked() -> None:
    three = list(documents(3, level=1, count=3))
    assert [bool(re.search("[一-鿿]", text)) for text in three] == [False, True, False]
    assert three == [story(3, i, level=1, language=("en", "zh")[i % 2]).text for i in range(3)]
    some = list(documents(3, level=1, num_bytes=5000))
    assert sum(len(text.encode()) for text in some[:-1]) < 5000 <= sum(len(text.encode()) for text in some)


def test_the_wrong_request_is_an_error() -> None:
    with pytest.raises(InputError):
        list(documents(0, level=1))
    with pytest.raises(InputError):
        list(documents(0, level=1, count=1, languages=()))
    with pytest.raises(InputError):
        list(held_out(0, level=1, split="train", count=1, language="en"))
