"""The entities of the microworld, independent of language: each is a number whose range says what it is.

    0…      people                       300 + n   the number n
    100…    places                       400 + d   the day d of the week
    200…    containers                   500 + c   the colour c
    600…    the answers that are not an entity: nobody, nobody knows, no idea, nothing
    1000 + 100 c + k   the thing k in the colour c (colour 0: its colour is not told)

The lexicons name the same entities in their own language, so that one course of events can be told in each.
"""

# ruff: noqa: SIM905  (word lists read better as text)

from __future__ import annotations

from typing import NamedTuple

PERSON, PLACE, CONTAINER, NUMBER, DAY, COLOUR, THING = 0, 100, 200, 300, 400, 500, 1000
NOBODY, NOBODY_KNOWS, NO_IDEA, NOTHING = 600, 601, 602, 603
NONE = -1  # this happening has no such part

# Sizes: 1 lies in a hand, 2 under an arm, 3 is carried with effort. A container holds what is smaller than itself.
WOMEN = (
    "Mara Anna Lily Emma Nina Ivy Ruth Clara Grace Alice Julia Sara Holly Jane Kate Lucy Maya Olga Dora Eva Rosa Zoe"
).split()
MEN = (
    "Tom Ben Sam Leo Max Paul Jack Oscar Peter David Felix Hugo Ivan John Karl Luke Mark Nick Omar Ray Theo Victor"
).split()
PLACE_NAMES = (
    "kitchen garden bedroom bathroom office garage balcony attic cellar library museum park market barn station beach"
).split()
SMALL = (
    "key ring coin stamp spoon fork pen pencil comb watch necklace whistle bell shell feather ticket medal magnet "
    "egg lemon glove candle postcard stone carrot"
).split()
MEDIUM = (
    "cup book apple ball clock hat scarf umbrella map camera radio phone notebook newspaper plate bowl bottle towel "
    "mirror brush flute kite doll robot hammer pear peach potato tomato onion cake rose flag brick balloon knife"
).split()
LARGE = "lamp coat kettle pan pillow blanket drum guitar violin rope shovel broom".split()
COLOUR_NAMES = "red blue green yellow white black brown purple".split()
DAY_NAMES = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
CONTAINER_SIZES = {
    "jar": 2, "tin": 2, "pouch": 2, "purse": 2, "box": 3, "basket": 3, "bag": 3, "bucket": 3, "backpack": 4,
    "suitcase": 4, "chest": 4, "crate": 4,
}  # fmt: skip
# What a shop would sell in any of the colours; a blue egg is left to other tales.
_PAINTED = (
    "pen pencil comb watch whistle glove candle cup book ball clock hat scarf umbrella camera radio phone notebook plate "
    "bowl bottle towel brush kite doll robot flag balloon lamp coat kettle pillow blanket drum guitar rope shovel broom"
).split()
# What people find, share and lose by the handful.
_COUNTED = (
    "coin stamp shell feather ticket medal egg lemon candle postcard stone carrot apple ball pear peach potato tomato "
    "onion rose balloon pencil brick book cup bottle"
).split()

THING_NAMES = SMALL + MEDIUM + LARGE
PEOPLE = tuple(range(PERSON, PERSON + len(WOMEN) + len(MEN)))
PLACES = tuple(range(PLACE, PLACE + len(PLACE_NAMES)))
CONTAINERS = tuple(range(CONTAINER, CONTAINER + len(CONTAINER_SIZES)))
THINGS = tuple(range(THING, THING + len(THING_NAMES)))
PAINTED = tuple(THING + THING_NAMES.index(name) for name in _PAINTED)
COUNTED = tuple(THING + THING_NAMES.index(name) for name in _COUNTED)
FIT_IN_CONTAINER = THINGS[: len(SMALL) + len(MEDIUM)]

SIZE = {
    **{
        thing: 1 if name in SMALL else 2 if name in MEDIUM else 3
        for thing, name in zip(THINGS, THING_NAMES, strict=True)
    },
    **dict(zip(CONTAINERS, CONTAINER_SIZES.values(), strict=True)),
}


def is_woman(person: int) -> bool:
    """Whether the pronoun of this person is "she".

    >>> is_woman(PEOPLE[0]), is_woman(PEOPLE[-1])
    (True, False)
    """
    return person < PERSON + len(WOMEN)


def painted(thing: int, colour: int) -> int:
    """The same thing in a colour (counted from 1).

    >>> painted(1007, 2)
    1207
    """
    return thing + 100 * colour


def plain(entity: int) -> int:
    """A thing without its colour; anything else as it is.

    >>> plain(1207), plain(3)
    (1007, 3)
    """
    return THING + entity % 100 if entity >= THING else entity


def colour_of(thing: int) -> int:
    """The colour of a painted thing, as an answer.

    >>> colour_of(1207) == COLOUR + 2
    True
    """
    return COLOUR + (thing - THING) // 100


class Happening(NamedTuple):
    """One thing that happens; a sentence tells it.

    `other` is the receiver of a gift, or the container that something is put into or taken out of.
    """

    verb: str
    person: int = NONE
    thing: int = NONE
    place: int = NONE
    other: int = NONE
    number: int = 0
    day: int = NONE
