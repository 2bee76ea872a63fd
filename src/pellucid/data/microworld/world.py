"""The state and the rules of the microworld: a tree of people in places, and things in places, hands or containers.

    parent[x]    what x is in: cup -> Mara -> garden. Climbing the parents of x leads to its place.
    cause[x]     which happenings put x there: they are the evidence for any answer that climbs through x

Rules. A person who moves takes along everything they hold, and everything inside it. A thing that was not mentioned yet
is wherever somebody first picks it up. A thing that is put down stays in the place where the person stands. A person
knows what they see: everything that is done, carried or visible in the place where they are. The world is closed:
nothing happens that the story does not tell, so the answer to what it leaves open is "nobody knows".
"""

from __future__ import annotations

from pellucid.data.microworld.entities import CONTAINER, NOBODY_KNOWS, NONE, PLACE, THING, Happening

UNCLEAR = -2  # an ambiguous belief: no question asks for it


class World:
    """The state of the world at one moment, and the happenings that caused it.

    >>> world = World()
    >>> world.move(person=0, place=101); world.take(person=0, thing=1000); world.move(person=0, place=102)
    >>> world.climb(1000)
    (102, (1, 2))
    """

    def __init__(self, *, minds: bool = False) -> None:
        self.events: list[Happening] = []
        self.parent: dict[int, int] = {}
        self.cause: dict[int, tuple[int, ...]] = {}
        self.visits: dict[int, list[tuple[int, int]]] = {}  # person -> (place, happening), oldest first
        self.amount: dict[tuple[int, int], int] = {}  # (person, kind) -> how many of this kind they have
        self.amount_cause: dict[tuple[int, int], tuple[int, ...]] = {}
        self.belief: dict[tuple[int, int], int] = {}  # (person, thing) -> place
        self.belief_cause: dict[tuple[int, int], tuple[int, ...]] = {}
        self.witnesses: dict[int, tuple[int, ...]] = {}  # happening -> who else was there
        self.day = NONE
        self._minds = minds

    # -- happenings -----------------------------------------------------------------------------------------------

    def move(self, person: int, place: int) -> None:
        self.events.append(Happening("move", person, NONE, place, NONE, 0, self.day))
        now = len(self.events) - 1
        left = self.parent.get(person, NONE)
        self.parent[person] = place
        self.cause[person] = (now,)
        self.visits.setdefault(person, []).append((place, now))
        if self._minds:
            self._see_arrival(person, left, place, now)

    def lie(self, thing: int, place: int) -> None:
        self.events.append(Happening("lie", NONE, thing, place, NONE, 0, self.day))
        self._put(thing, place, (len(self.events) - 1,))

    def take(self, person: int, thing: int) -> None:
        self.events.append(Happening("take", person, thing, NONE, NONE, 0, self.day))
        self._put(thing, person, (len(self.events) - 1,))
        if self._minds:
            self._see_deed(person, thing)

    def drop(self, person: int, thing: int) -> None:
        self.events.append(Happening("drop", person, thing, NONE, NONE, 0, self.day))
        self._put(thing, self.parent[person], (*self.cause[person], len(self.events) - 1))
        if self._minds:
            self._see_deed(person, thing)

    def put(self, person: int, thing: int, container: int) -> None:
        self.events.append(Happening("put", person, thing, NONE, container, 0, self.day))
        self._put(thing, container, (len(self.events) - 1,))

    def out(self, person: int, thing: int, container: int) -> None:
        self.events.append(Happening("out", person, thing, NONE, container, 0, self.day))
        self._put(thing, person, (len(self.events) - 1,))

    def give(self, person: int, thing: int, receiver: int) -> None:
        self.events.append(Happening("give", person, thing, NONE, receiver, 0, self.day))
        self._put(thing, receiver, (len(self.events) - 1,))

    def find(self, person: int, kind: int, count: int) -> None:
        self.events.append(Happening("find", person, kind, NONE, NONE, count, self.day))
        self._change_amount(person, kind, count)

    def share(self, person: int, kind: int, receiver: int, count: int) -> None:
        self.events.append(Happening("share", person, kind, NONE, receiver, count, self.day))
        self._change_amount(person, kind, -count)
        self._change_amount(receiver, kind, count)

    def lose(self, person: int, kind: int, count: int) -> None:
        self.events.append(Happening("lose", person, kind, NONE, NONE, count, self.day))
        self._change_amount(person, kind, -count)

    # -- the state ------------------------------------------------------------------------------------------------

    def place_of(self, entity: int) -> int:
        """The place that is reached by climbing the parents, or `NOBODY_KNOWS`."""
        parent = self.parent
        while not PLACE <= entity < CONTAINER:
            if entity not in parent:
                return NOBODY_KNOWS
            entity = parent[entity]
        return entity

    def climb(self, entity: int) -> tuple[int, tuple[int, ...]]:
        """The place, as `place_of`, and the happenings that together determine it, in order."""
        parent, cause = self.parent, self.cause
        if entity not in parent:
            return NOBODY_KNOWS, ()
        found, holder = cause[entity], parent[entity]
        if holder in parent:  # else one step up there is nothing more to climb, and nothing to put together
            together = set(found)
            while holder in parent:
                together.update(cause[holder])
                holder = parent[holder]
            found = tuple(sorted(together))
        return holder if PLACE <= holder < CONTAINER else NOBODY_KNOWS, found

    def inside(self, holder: int) -> list[int]:
        """The things directly in this place, hand or container (without people)."""
        return [entity for entity, parent in self.parent.items() if parent == holder and entity >= CONTAINER]

    # -- updates of it --------------------------------------------------------------------------------------------

    def _put(self, thing: int, holder: int, cause: tuple[int, ...]) -> None:
        self.parent[thing] = holder
        self.cause[thing] = cause

    def _change_amount(self, person: int, kind: int, change: int) -> None:
        key = (person, kind)
        self.amount[key] = self.amount.get(key, 0) + change
        self.amount_cause[key] = (*self.amount_cause.get(key, ()), len(self.events) - 1)

    def _company(self, person: int) -> tuple[int, ...]:
        here = self.parent[person]
        return tuple(
            other for other, place in self.parent.items() if place == here and other < PLACE and other != person
        )

    def _learn(self, person: int, thing: int) -> None:
        """Record that this person sees where the thing is."""
        self.belief[person, thing], evidence = self.climb(thing)
        self.belief_cause[person, thing] = tuple(sorted({*evidence, *self.cause[person]}))

    def _see_deed(self, person: int, thing: int) -> None:
        company = self._company(person)
        self.witnesses[len(self.events) - 1] = company
        for witness in (person, *company):
            self._learn(witness, thing)

    def _see_arrival(self, person: int, left: int, place: int, now: int) -> None:
        """Update beliefs: who enters sees all that is here, the others see what is carried, those left see it go."""
        company = self._company(person)
        self.witnesses[now] = company
        carried = self.inside(person)
        here = [*self.inside(place), *carried, *(thing for other in company for thing in self.inside(other))]
        for thing in here:
            if thing >= THING:
                self._learn(person, thing)
        for thing in carried:
            for witness in company:
                self._learn(witness, thing)
            for (other, what), believed in self.belief.items():
                if what == thing and believed == left and self.parent.get(other) == left:
                    self.belief[other, what] = UNCLEAR
        for (who, what), believed in self.belief.items():
            if who == person and believed == place and self.place_of(what) != place:
                self.belief[who, what] = UNCLEAR
