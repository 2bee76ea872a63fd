"""The English lexicon of the microworld: names, and wordings for every happening and every question.

A wording names its parts: {P} the person who acts, {T} the thing, {L} the place, {O} the receiver or the container, {N}
a counted noun ("three apples"). `.the` and `.a` are the noun with its article, `.at` and `.into` the place with its
preposition. A name may become "he" or "she" when the sentence before is about the same person.

The last two wordings of each happening are for the split "paraphrases": training never uses them, but it uses all their
words.
"""

from __future__ import annotations

from pellucid.data.microworld import entities

PEOPLE = (*entities.WOMEN, *entities.MEN)
PLACES = {
    "kitchen": ("in", "into"), "garden": ("in", "into"), "bedroom": ("in", "into"), "bathroom": ("in", "into"),
    "office": ("in", "into"), "garage": ("in", "into"), "balcony": ("on", "onto"), "attic": ("in", "into"),
    "cellar": ("in", "into"), "library": ("in", "into"), "museum": ("in", "into"), "park": ("in", "into"),
    "market": ("at", "to"), "barn": ("in", "into"), "station": ("at", "to"), "beach": ("on", "to"),
}  # fmt: skip
PLURALS = {"potato": "potatoes", "tomato": "tomatoes", "torch": "torches"}
COLOURS = entities.COLOUR_NAMES
DAYS = entities.DAY_NAMES
NUMBERS = ("none", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
DAY_OPENING = "On {day}, {sentence}"
UNKNOWN = {
    entities.NOBODY: ("Nobody.", "No one."),
    entities.NOBODY_KNOWS: ("Nobody knows.", "No one knows."),
    entities.NO_IDEA: ("No idea.",),
    entities.NOTHING: ("Nothing.",),
}

HAPPENINGS = {
    "move": (
        "{P} went to {L.the}.",
        "{P} walked {L.into}.",
        "{P} ran to {L.the}.",
        "{P} hurried to {L.the}.",
        "{P} came to {L.the}.",
        "{P} moved to {L.the}.",
        "{P} headed over to {L.the}.",
        "{P} wandered {L.into}.",
        "{P} hurried over to {L.the}.",
        "{P} wandered over to {L.the}.",
    ),
    "lie": (
        "There was {T.a} {L.at}.",
        "{T.a} was {L.at}.",
        "{T.a} was lying {L.at}.",
        "{T.a} lay {L.at}.",
        "Somebody left {T.a} {L.at}.",
        "Somebody saw {T.a} {L.at}.",
        "{L.at} there was {T.a}.",
        "{L.at} lay {T.a}.",
        "There lay {T.a} {L.at}.",
        "{L.at} was {T.a}.",
    ),
    "take": (
        "{P} took {T.the}.",
        "{P} picked up {T.the}.",
        "{P} picked {T.the} up.",
        "{P} grabbed {T.the}.",
        "{P} got {T.the}.",
        "{P} got hold of {T.the}.",
        "{P} lifted {T.the} up.",
        "{P} collected {T.the}.",
        "{P} took hold of {T.the}.",
        "{P} lifted up {T.the}.",
    ),
    "drop": (
        "{P} dropped {T.the}.",
        "{P} put down {T.the}.",
        "{P} put {T.the} down.",
        "{P} set {T.the} down.",
        "{P} left {T.the} there.",
        "{P} laid {T.the} on the ground.",
        "{P} let go of {T.the}.",
        "{P} dropped {T.the} on the ground.",
        "{P} laid {T.the} down.",
        "{P} put {T.the} on the ground.",
    ),
    "put": (
        "{P} put {T.the} in {O.the}.",
        "{P} put {T.the} into {O.the}.",
        "{P} placed {T.the} in {O.the}.",
        "{P} packed {T.the} into {O.the}.",
        "{P} dropped {T.the} into {O.the}.",
        "{P} slipped {T.the} into {O.the}.",
        "{P} hid {T.the} in {O.the}.",
        "{P} tucked {T.the} into {O.the}.",
        "{P} packed {T.the} in {O.the}.",
        "{P} placed {T.the} into {O.the}.",
    ),
    "out": (
        "{P} took {T.the} out of {O.the}.",
        "{P} got {T.the} out of {O.the}.",
        "{P} pulled {T.the} out of {O.the}.",
        "{P} picked {T.the} out of {O.the}.",
        "{P} removed {T.the} from {O.the}.",
        "{P} took {T.the} from {O.the}.",
        "{P} fished {T.the} out of {O.the}.",
        "{P} fetched {T.the} from {O.the}.",
        "{P} pulled {T.the} from {O.the}.",
        "{P} fetched {T.the} out of {O.the}.",
    ),
    "give": (
        "{P} gave {T.the} to {O.the}.",
        "{P} gave {O.the} {T.the}.",
        "{P} handed {T.the} to {O.the}.",
        "{P} handed {O.the} {T.the}.",
        "{P} passed {T.the} to {O.the}.",
        "{O.the} got {T.the} from {P}.",
        "{O.the} received {T.the} from {P}.",
        "{P} handed {T.the} over to {O.the}.",
        "{P} passed {O.the} {T.the}.",
        "{P} passed {T.the} over to {O.the}.",
    ),
    "find": (
        "{P} found {N}.",
        "{P} bought {N}.",
        "{P} got {N}.",
        "{P} picked up {N}.",
        "{P} took {N}.",
        "{P} collected {N}.",
        "Somebody gave {P} {N}.",
        "{P} received {N}.",
        "{P} was given {N}.",
        "Somebody gave {N} to {P}.",
    ),
    "share": (
        "{P} gave {O.the} {N}.",
        "{P} gave {N} to {O.the}.",
        "{P} handed {O.the} {N}.",
        "{P} handed {N} to {O.the}.",
        "{P} passed {N} to {O.the}.",
        "{O.the} got {N} from {P}.",
        "{O.the} received {N} from {P}.",
        "{O.the} was given {N} by {P}.",
        "{P} passed {O.the} {N}.",
        "{O.the} took {N} from {P}.",
    ),
    "lose": (
        "{P} lost {N}.",
        "{P} gave away {N}.",
        "{P} threw away {N}.",
        "{P} threw {N} away.",
        "{P} used up {N}.",
        "{P} sold {N}.",
        "{P} got rid of {N}.",
        "Somebody took {N} from {P}.",
        "{P} used {N} up.",
        "{P} gave {N} away.",
    ),
}

STATES = {  # how things stand in the end: where a person is, where a thing lies, who has it
    "is": "{P} is {L.at}.",
    "lies": "{T.the} is {L.at}.",
    "has": "{P} has {T.the}.",
}
QUESTIONS = {
    "where_person": ("Where is {P}?", "Where is {P} now?"),
    "where_thing": ("Where is {T.the}?", "Where is {T.the} now?"),
    "who_has": ("Who has {T.the}?", "Who is holding {T.the}?"),
    "where_before": ("Where was {P} before {L.the}?", "Where was {P} before going to {L.the}?"),
    "in_what": ("What is {T.the} in?", "Which container is {T.the} in?"),
    "contents": ("What is in {O.the}?", "What is inside {O.the}?"),
    "colour": ("What colour is the {T.bare} that {P} has?", "{P} has a {T.bare}. What colour is it?"),
    "who_gave": ("Who gave {T.the} to {O.the}?", "Who did {O.the} get {T.the} from?"),
    "gave_whom": ("Who did {P} give {T.the} to?", "Who got {T.the} from {P}?"),
    "how_many": ("How many {T.plural} does {P} have?", "How many {T.plural} does {P} have now?"),
    "believes": ("Where does {P} think {T.the} is?", "Where will {P} look for {T.the}?"),
    "who_saw_take": ("Who saw {P} pick up {T.the}?", "Who saw that {P} took {T.the}?"),
    "who_saw_drop": ("Who saw {P} put down {T.the}?", "Who saw that {P} put {T.the} down?"),
    "place_on_day": ("Where did {P} go on {D}?", "What place did {P} go to on {D}?"),
    "day_of_move": ("On which day did {P} go to {L.the}?", "When did {P} go to {L.the}?"),
    "day_of_take": ("On which day did {P} pick up {T.the}?", "When did {P} pick up {T.the}?"),
}
