"""Generate the events of a story: a small cast, and happenings drawn one by one from those that are possible.

A level is a list of plots: which happenings may occur, and how often. Level 0: a house, with few people and things.
Level 1: people move and carry things. Level 2: containers, which are carried and put into one another. Level 3: gifts
and colours, or counts. Level 4: beliefs (what people saw), or the days of a week. Each story has one plot, so it stays
short.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from pellucid.data.microworld import entities
from pellucid.data.microworld.entities import DAY, NONE, PEOPLE, PLACES, SIZE
from pellucid.data.microworld.splits import RARE_PARTNERS, Split
from pellucid.data.microworld.world import World
from pellucid.errors import InputError
from pellucid.keyed_random import Draws, chance


@dataclass(frozen=True, kw_only=True)
class Plot:
    """The happenings that a story may have; ranges are inclusive (low, high)."""

    name: str
    verbs: tuple[str, ...]  # drawn with equal chance: repeats make a verb more frequent
    people: tuple[int, int]
    places: tuple[int, int]
    things: tuple[int, int]
    length: tuple[int, int]  # happenings in a training story
    long: tuple[int, int]  # happenings in a story of the split "lengths"
    kinds: tuple[str, ...]  # of questions, drawn with equal chance
    questions: int
    pool: tuple[int, ...] = entities.THINGS
    population: tuple[int, ...] = PEOPLE
    rooms: tuple[int, ...] = PLACES
    containers: tuple[int, int] = (0, 0)
    painted: bool = False
    minds: bool = False
    days: bool = False
    keep_last: int = 1  # how often, out of six, a question is kept whose answer was named last in the tale
    keep_first: int = 3  # the same for the answer named first: guessing by position must not help
    follow: int = 0  # how often, out of four, a person moves to a place with somebody else or a container


_MOVES = ("where_person",) * 5 + ("where_thing",) * 5 + ("who_has",) * 3 + ("where_before",) * 2

PLOTS: dict[int, tuple[Plot, ...]] = {
    # Few enough names that a model of a million weights finds out within minutes what a name is for; and everybody is
    # asked for, so that no answer fits all questions of a story.
    0: (
        Plot(
            name="house", verbs=("move",) * 6 + ("take",) * 5 + ("drop",) * 2,
            people=(3, 3), places=(4, 4), things=(1, 1), length=(4, 6), long=(8, 10),
            kinds=("where_person",) * 9 + ("where_thing",) * 5 + ("who_has",) * 3, questions=5,
            population=PEOPLE[:4] + PEOPLE[-4:], rooms=PLACES[:6], pool=entities.THINGS[::7], keep_last=3, keep_first=5,
        ),
    ),
    1: (
        Plot(
            name="moves", verbs=("move",) * 6 + ("take",) * 5 + ("drop",) * 3,
            people=(2, 3), places=(4, 5), things=(1, 2), length=(4, 6), long=(9, 12), kinds=_MOVES, questions=4,
        ),
    ),
    2: (
        Plot(
            name="containers", verbs=("move",) * 5 + ("take",) * 4 + ("drop",) * 2 + ("put",) * 9 + ("out",) * 3,
            people=(2, 2), places=(4, 6), things=(2, 3), containers=(3, 3), length=(7, 10), long=(14, 18),
            kinds=("where_thing",) * 5 + ("in_what",) * 6 + ("contents",) * 5 + ("where_person", "who_has", "where_before"),
            questions=4, pool=entities.FIT_IN_CONTAINER, follow=3,
        ),
    ),
    3: (
        Plot(
            name="gifts", verbs=("move",) * 4 + ("take",) * 5 + ("give",) * 7 + ("drop",),
            people=(3, 4), places=(3, 4), things=(3, 4), length=(7, 9), long=(13, 17), painted=True, pool=entities.PAINTED,
            kinds=("colour",) * 4 + ("who_has",) * 3 + ("where_thing",) * 3 + ("who_gave",) * 2 + ("gave_whom",) * 2 + ("where_person",),
            questions=4, follow=3,
        ),
        Plot(
            name="counts", verbs=("find",) * 4 + ("share",) * 4 + ("lose",) * 2,
            people=(2, 3), places=(1, 1), things=(1, 2), length=(4, 6), long=(9, 12), pool=entities.COUNTED,
            kinds=("how_many",), questions=3,
        ),
    ),
    4: (
        Plot(
            name="beliefs", verbs=("move",) * 5 + ("take",) * 4 + ("drop",) * 3,
            people=(3, 3), places=(3, 4), things=(2, 2), length=(9, 11), long=(15, 19), minds=True, follow=2,
            kinds=("believes",) * 7 + ("who_saw",) * 4 + ("where_thing",) * 3 + ("where_person",), questions=4,
        ),
        Plot(
            name="days", verbs=("move",) * 7 + ("take",) * 3 + ("drop",),
            people=(2, 3), places=(4, 6), things=(1, 2), length=(7, 9), long=(13, 16), days=True,
            kinds=("place_on_day",) * 4 + ("day_of_move",) * 4 + ("day_of_take",) * 2 + ("where_thing", "where_person"), questions=4,
        ),
    ),
}  # fmt: skip
LEVELS = tuple(PLOTS)
HALF = chance(1, 2)
TRIES_PER_HAPPENING = 6
TRIES_PER_THING = 100


def check_level(level: int) -> int:
    """Return the level if it exists.

    Raises: InputError for any other number.

    >>> check_level(2)
    2
    """
    if level not in PLOTS:
        raise InputError(
            "the microworld has no such level", found=str(level), hint=f"levels {LEVELS[0]} to {LEVELS[-1]}"
        )
    return level


class Cast(NamedTuple):
    """The people, places and things of a story; the stranger and the unheard-of thing occur only in questions."""

    people: list[int]
    places: list[int]
    containers: list[int]
    things: list[int]
    stranger: int
    unheard_of: int


def draw_cast(draws: Draws, plot: Plot, split: Split) -> Cast | None:
    """Draw a cast without any held-out pair; for the split "combinations", a cast whose first thing is in such a pair.

    None when no thing fits the drawn people and places.
    """
    *people, stranger = draws.sample(plot.population, 1 + _within(draws, plot.people))
    places = draws.sample(plot.rooms, _within(draws, plot.places))
    containers = draws.sample(entities.CONTAINERS, _within(draws, plot.containers))
    things: list[int] = []
    company = {*people, *places, stranger}
    count, is_painted, pool = _within(draws, plot.things), plot.painted, plot.pool
    for _ in range(TRIES_PER_THING):
        again = is_painted and things and draws.below(2)  # the same kind in a second colour
        kind = entities.plain(things[-1]) if again else draws.one(pool)
        rare = not company.isdisjoint(RARE_PARTNERS[kind])
        if not again and rare != (split == "combinations" and not things):
            continue
        if len(things) == count:
            if kind in map(entities.plain, things):
                continue
            return Cast(people, places, containers, things, stranger, kind)
        thing = entities.painted(kind, 1 + draws.below(len(entities.COLOUR_NAMES))) if is_painted else kind
        if thing not in things:
            things.append(thing)
    return None


def _within(draws: Draws, bounds: tuple[int, int]) -> int:
    low, high = bounds
    return low + draws.below(high - low + 1) if high > low else low


def play(draws: Draws, plot: Plot, split: Split) -> tuple[World, Cast] | None:
    """Draw a cast and then its happenings; None when no further happening is possible too early."""
    cast = draw_cast(draws, plot, split)
    if cast is None:
        return None
    world = World(minds=plot.minds)
    length = _within(draws, plot.long if split == "lengths" else plot.length)
    if plot.name == "counts":
        _play_counts(draws, plot, cast, world, length)
    else:
        _play_moves(draws, plot, cast, world, length)
    return (world, cast) if len(world.events) == length else None


def _play_moves(draws: Draws, plot: Plot, cast: Cast, world: World, length: int) -> None:
    for container in cast.containers[:2]:  # the others turn up where somebody first takes them
        world.lie(container, draws.one(cast.places))
    if not plot.days and not cast.containers and not draws.happens(HALF):
        world.lie(draws.one(cast.things), draws.one(cast.places))
    stage = _Stage(draws, plot, cast, world)
    days = sorted(draws.sample(range(7), 3)) if plot.days else []
    person = draws.one(cast.people)
    events, people, verbs, one = world.events, cast.people, plot.verbs, draws.one
    for _ in range(TRIES_PER_HAPPENING * length):
        told = len(events)
        if told == length:
            break
        if days:
            world.day = DAY + days[told * len(days) // length]
        if not draws.happens(HALF):  # a person does a few things before the tale turns to another
            person = one(people)
        stage.act(person, one(verbs))


class _Stage:
    """Turns a drawn verb into a happening that is possible for this person now; an impossible one becomes a move."""

    __slots__ = ("cast", "draws", "movable", "plot", "world")

    def __init__(self, draws: Draws, plot: Plot, cast: Cast, world: World) -> None:
        self.draws, self.plot, self.cast, self.world = draws, plot, cast, world
        self.movable = cast.things + cast.containers

    def act(self, person: int, verb: str) -> None:
        here = self.world.parent.get(person)
        if here is None:
            self.move(person, here)
        elif verb == "move":
            last = self.world.events[-1]
            if last.person != person or last.verb != "move":  # nobody moves twice in a row
                self.move(person, here)
            else:
                self.take(person, here)
        elif verb == "take":
            self.take(person, here)
        else:
            parent = self.world.parent
            held = [thing for thing in self.movable if parent.get(thing) == person]
            getattr(self, verb)(person, here, held)

    def move(self, person: int, here: int | None) -> None:
        draws, world = self.draws, self.world
        if self.plot.days and any(world.events[i].day == world.day for _, i in world.visits.get(person, ())):
            return  # one outing a day
        place = draws.one(self.cast.places)
        if self.plot.follow and draws.below(4) < self.plot.follow:
            parent = world.parent
            aims = [parent[other] for other in self.cast.people if other != person and other in parent]
            aims += [parent[box] for box in self.cast.containers if parent.get(box) in self.cast.places]
            place = draws.one(aims) if aims else place
        if place != here:
            world.move(person, place)

    def take(self, person: int, here: int) -> None:
        parent = self.world.parent
        free = [thing for thing in self.movable if parent.get(thing, here) == here]
        last = self.world.events[-1]
        if last.verb == "drop":  # nothing is put down only to be taken
            free = [thing for thing in free if thing != last.thing]
        if not free:
            return self.move(person, here) if last.person != person or last.verb != "move" else None
        self.world.take(person, self.draws.one(free))

    def drop(self, person: int, here: int, held: list[int]) -> None:
        last = self.world.events[-1]
        held = [thing for thing in held if thing != last.thing]  # nothing is taken only to be put down
        if not held:
            return self.move(person, here)
        self.world.drop(person, self.draws.one(held))

    def put(self, person: int, here: int, held: list[int]) -> None:
        parent = self.world.parent
        near = [box for box in self.cast.containers if parent.get(box, NONE) in (here, person)]
        pairs = [(thing, box) for thing in held for box in near if SIZE[thing] < SIZE[box]]
        if not pairs:
            last = self.world.events[-1]
            seeks = held and (last.person != person or last.verb != "move")
            return self.move(person, here) if seeks else self.take(person, here)
        thing, box = self.draws.one(pairs)
        self.world.put(person, thing, box)

    def out(self, person: int, here: int, held: list[int]) -> None:
        parent = self.world.parent
        near = [box for box in self.cast.containers if parent.get(box, NONE) in (here, person)]
        pairs = [(thing, box) for thing in self.movable for box in near if parent.get(thing) == box]
        last = self.world.events[-1]
        pairs = [(thing, box) for thing, box in pairs if thing != last.thing]
        if not pairs:
            return self.move(person, here)
        thing, box = self.draws.one(pairs)
        self.world.out(person, thing, box)

    def give(self, person: int, here: int, held: list[int]) -> None:
        near = [other for other in self.cast.people if other != person and self.world.parent.get(other) == here]
        last = self.world.events[-1]
        if last.verb == "give":  # a gift is not given straight back or straight on
            held = [thing for thing in held if thing != last.thing]
        if not held or not near:
            return self.take(person, here) if not held else self.move(person, here)
        self.world.give(person, self.draws.one(held), self.draws.one(near))


def _play_counts(draws: Draws, plot: Plot, cast: Cast, world: World, length: int) -> None:
    while len(world.events) < length:
        person, kind, verb = draws.one(cast.people), draws.one(cast.things), draws.one(plot.verbs)
        had = world.amount.get((person, kind), 0)
        if verb != "find" and had == 0:
            verb = "find"
        if verb == "find":
            count = 1 + draws.below(5)
            if had + count <= 10:
                world.find(person, kind, count)
        elif verb == "share":
            receiver = draws.one(cast.people)
            count = 1 + draws.below(had)
            if receiver != person and world.amount.get((receiver, kind), 0) + count <= 10:
                world.share(person, kind, receiver, count)
        else:
            world.lose(person, kind, 1 + draws.below(had))
