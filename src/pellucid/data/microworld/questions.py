"""Questions about the microworld, independent of language: kind, subject, answer and evidence.

Each function in `KINDS` draws one question of its kind, or returns None where the world has no such question or the
answer is ambiguous. `hops` is the number of happenings that must be combined for the answer.

If most answers were the place named last, or first, or "nobody knows", a model could answer without understanding. So a
question with such an answer is usually drawn again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from pellucid.data.microworld import entities
from pellucid.data.microworld.entities import (
    CONTAINER,
    DAY,
    NO_IDEA,
    NOBODY,
    NOBODY_KNOWS,
    NONE,
    NOTHING,
    NUMBER,
    PERSON,
    PLACE,
    THING,
    Happening,
)
from pellucid.data.microworld.plots import Cast, Plot
from pellucid.data.microworld.splits import Split, is_rare_pair
from pellucid.data.microworld.world import UNCLEAR, World
from pellucid.keyed_random import Draws, chance

IN_SIX = tuple(chance(times, 6) for times in range(7))
KEEP_UNKNOWN = chance(1, 3)  # of a question that the story leaves open, or whose answer is nobody or nothing
STRANGER, UNHEARD_OF = chance(1, 12), chance(1, 16)  # to ask for a person or a thing that the story does not mention


class Asked(NamedTuple):
    """A question as numbers: the things it names, and its answer."""

    kind: str
    person: int
    thing: int
    place: int
    other: int
    day: int
    answer: int
    evidence: tuple[int, ...]


def ask(draws: Draws, plot: Plot, cast: Cast, world: World, split: Split) -> list[Asked]:
    """Draw different questions, at most as many as the plot asks for."""
    asked: list[Asked] = []
    named_last, named_first = _named_last(world.events), _named_last(reversed(world.events))
    keep_last, keep_first = IN_SIX[plot.keep_last], IN_SIX[plot.keep_first]
    one, happens, kinds, wanted = draws.one, draws.happens, plot.kinds, plot.questions
    for _ in range(4 * wanted):
        question = KINDS[one(kinds)](draws, cast, world)
        if question is None or question in asked:
            continue
        answer = question.answer
        if answer in named_last and not happens(keep_last):
            continue
        if answer in named_first and not happens(keep_first):
            continue
        if NOBODY <= answer < THING and not happens(KEEP_UNKNOWN):
            continue
        if split == "combinations" and not _turns_on_a_rare_pair(question):
            continue
        asked.append(question)
        if len(asked) == wanted:
            break
    return asked


def _named_last(events: Iterable[Happening]) -> set[int]:
    """The person, the place, the thing and its colour, the container, the number and the day that are named last."""
    last: dict[int, int] = {}
    for _, person, thing, place, other, count, day in events:
        if person >= 0:
            last[PERSON] = person
        if thing >= 0:
            last[THING if thing >= THING else CONTAINER] = thing
        if other >= 0:
            last[CONTAINER if other >= CONTAINER else PERSON] = other
        if place >= 0:
            last[PLACE] = place
        if count:
            last[NUMBER] = NUMBER + count
        if day >= 0:
            last[DAY] = day
    thing = last.get(THING, NONE)
    return {*last.values(), entities.colour_of(thing)} if thing > THING + 99 else set(last.values())


def _turns_on_a_rare_pair(asked: Asked) -> bool:
    partners = (asked.answer, asked.person, asked.place, asked.other)
    things = (asked.thing, asked.answer)
    return any(is_rare_pair(thing, partner) for thing in things for partner in partners if thing >= THING)


# -- level 1 ----------------------------------------------------------------------------------------------------------


def _where_person(draws: Draws, cast: Cast, world: World) -> Asked | None:
    person = draws.one(cast.people)
    if draws.happens(STRANGER):
        person = cast.stranger
    place = world.parent.get(person)
    if place is None:
        return Asked("where_person", person, NONE, NONE, NONE, NONE, NOBODY_KNOWS, ())
    return Asked("where_person", person, NONE, NONE, NONE, NONE, place, world.cause[person])


def _where_thing(draws: Draws, cast: Cast, world: World) -> Asked | None:
    thing = cast.unheard_of if draws.happens(UNHEARD_OF) else draws.one(cast.things)
    place, evidence = world.climb(thing)
    if not evidence and thing != cast.unheard_of:
        return None
    return Asked("where_thing", NONE, thing, NONE, NONE, NONE, place, evidence)


def _who_has(draws: Draws, cast: Cast, world: World) -> Asked | None:
    thing = draws.one(cast.things)
    holder = world.parent.get(thing, NONE)
    if holder < 0 or holder >= CONTAINER:
        return None
    if holder >= PLACE:
        if world.events[world.cause[thing][-1]].verb == "lie":
            return None
        return Asked("who_has", NONE, thing, NONE, NONE, NONE, NOBODY, world.cause[thing][-1:])
    return Asked("who_has", NONE, thing, NONE, NONE, NONE, holder, world.cause[thing])


def _where_before(draws: Draws, cast: Cast, world: World) -> Asked | None:
    person = draws.one(cast.people)
    visits = world.visits.get(person, [])
    if len(visits) < 2:
        return None
    position = 1 + draws.below(len(visits) - 1)
    place, now = visits[position]
    if [place for place, _ in visits].count(place) > 1:
        return None
    before, then = visits[position - 1]
    return Asked("where_before", person, NONE, place, NONE, NONE, before, (then, now))


# -- level 2: containers ----------------------------------------------------------------------------------------------


def _in_what(draws: Draws, cast: Cast, world: World) -> Asked | None:
    thing = draws.one(cast.things + cast.containers if draws.below(2) else cast.things)
    box = world.parent.get(thing, NONE)
    if not CONTAINER <= box < THING:
        return None
    return Asked("in_what", NONE, thing, NONE, NONE, NONE, box, world.cause[thing])


def _contents(draws: Draws, cast: Cast, world: World) -> Asked | None:
    box = draws.one(cast.containers)
    things = world.inside(box)
    in_and_out = tuple(i for i, event in enumerate(world.events) if event.other == box)
    if len(things) > 1 or not in_and_out:
        return None
    return Asked("contents", NONE, NONE, NONE, box, NONE, things[0] if things else NOTHING, in_and_out)


# -- level 3: gifts, colours and counts ---------------------------------------------------------------------------------


def _colour(draws: Draws, cast: Cast, world: World) -> Asked | None:
    thing = draws.one(cast.things)
    holder = world.parent.get(thing, NONE)
    if holder not in cast.people:
        return None
    alike = [other for other in world.inside(holder) if entities.plain(other) == entities.plain(thing)]
    if len(alike) > 1:
        return None
    kind = entities.plain(thing)
    passed = tuple(
        i for i, e in enumerate(world.events) if entities.plain(e.thing) == kind and holder in (e.person, e.other)
    )  # whatever of this kind the holder ever had in hand
    return Asked("colour", holder, kind, NONE, NONE, NONE, entities.colour_of(thing), passed)


def _gift(draws: Draws, world: World) -> tuple[int, Happening] | None:
    gifts = [(i, event) for i, event in enumerate(world.events) if event.verb == "give"]
    return draws.one(gifts) if gifts else None


def _who_gave(draws: Draws, cast: Cast, world: World) -> Asked | None:
    gift = _gift(draws, world)
    if gift is None:
        return None
    i, given = gift
    if any(
        e.verb == "give" and (e.thing, e.other) == (given.thing, given.other)
        for e in world.events[:i] + world.events[i + 1 :]
    ):
        return None
    return Asked("who_gave", NONE, given.thing, NONE, given.other, NONE, given.person, (i,))


def _gave_whom(draws: Draws, cast: Cast, world: World) -> Asked | None:
    gift = _gift(draws, world)
    if gift is None:
        return None
    i, given = gift
    if any(e.verb == "give" and e[1:3] == given[1:3] for e in world.events[:i] + world.events[i + 1 :]):
        return None
    return Asked("gave_whom", given.person, given.thing, NONE, NONE, NONE, given.other, (i,))


def _how_many(draws: Draws, cast: Cast, world: World) -> Asked | None:
    person, kind = draws.one(cast.people), draws.one(cast.things)
    if (person, kind) not in world.amount:
        return None
    answer = NUMBER + world.amount[person, kind]
    return Asked("how_many", person, kind, NONE, NONE, NONE, answer, world.amount_cause[person, kind])


# -- level 4: beliefs and days ------------------------------------------------------------------------------------------


def _believes(draws: Draws, cast: Cast, world: World) -> Asked | None:
    person, thing = draws.one(cast.people), draws.one(cast.things)
    if person not in world.parent or thing not in world.parent:
        return None
    believed = world.belief.get((person, thing), NO_IDEA)
    if believed == UNCLEAR:
        return None
    if believed == NO_IDEA:
        return Asked("believes", person, thing, NONE, NONE, NONE, NO_IDEA, ()) if draws.below(2) else None
    if believed == world.place_of(thing) and draws.below(4):
        return None  # false beliefs make the best questions
    return Asked("believes", person, thing, NONE, NONE, NONE, believed, world.belief_cause[person, thing])


def _who_saw(draws: Draws, cast: Cast, world: World) -> Asked | None:
    deeds = [i for i, event in enumerate(world.events) if event.verb in ("take", "drop")]
    if not deeds:
        return None
    i = draws.one(deeds)
    verb, person, thing = world.events[i][:3]
    seen = world.witnesses[i]
    if len(seen) > 1 or sum(event[:3] == (verb, person, thing) for event in world.events) > 1:
        return None
    if not seen and draws.below(4):
        return None
    entered = [now for _, now in world.visits[person] if now < i][-1]
    if not seen:
        return Asked(f"who_saw_{verb}", person, thing, NONE, NONE, NONE, NOBODY, (entered, i))
    came = [now for _, now in world.visits[seen[0]] if now < i][-1]
    return Asked(f"who_saw_{verb}", person, thing, NONE, NONE, NONE, seen[0], tuple(sorted((entered, came, i))))


def _place_on_day(draws: Draws, cast: Cast, world: World) -> Asked | None:
    person = draws.one(cast.people)
    if person not in world.visits:
        return None
    place, now = draws.one(world.visits[person])
    return Asked("place_on_day", person, NONE, NONE, NONE, world.events[now].day, place, (now,))


def _day_of_move(draws: Draws, cast: Cast, world: World) -> Asked | None:
    person = draws.one(cast.people)
    if person not in world.visits:
        return None
    place, now = draws.one(world.visits[person])
    if [place for place, _ in world.visits[person]].count(place) > 1:
        return None
    return Asked("day_of_move", person, NONE, place, NONE, NONE, world.events[now].day, (now,))


def _day_of_take(draws: Draws, cast: Cast, world: World) -> Asked | None:
    taken = [i for i, event in enumerate(world.events) if event.verb == "take"]
    if not taken:
        return None
    i = draws.one(taken)
    event = world.events[i]
    if sum(other[:3] == event[:3] for other in world.events) > 1:
        return None
    return Asked("day_of_take", event.person, event.thing, NONE, NONE, NONE, event.day, (i,))


KINDS: dict[str, Callable[[Draws, Cast, World], Asked | None]] = {
    "where_person": _where_person,
    "where_thing": _where_thing,
    "who_has": _who_has,
    "where_before": _where_before,
    "in_what": _in_what,
    "contents": _contents,
    "colour": _colour,
    "who_gave": _who_gave,
    "gave_whom": _gave_whom,
    "how_many": _how_many,
    "believes": _believes,
    "who_saw": _who_saw,
    "place_on_day": _place_on_day,
    "day_of_move": _day_of_move,
    "day_of_take": _day_of_take,
}
