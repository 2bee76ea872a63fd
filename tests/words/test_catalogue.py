"""The catalogue is whole: all that the code may say to a person has its Chinese sentence, and nothing else is in it."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from dataclasses import fields
from functools import cache
from typing import get_args

import pytest
from changed import CHANGES, changed

from pellucid.cli.help import REMOVED
from pellucid.cli.quickstart import LANGUAGE_NAMES, SPLIT_NAMES
from pellucid.cli.tokenizer_compare import TITLE, X_LABEL
from pellucid.cli.tokenizer_explain_picture import LEGEND
from pellucid.cli.tokenizer_show import KINDS
from pellucid.data.encodings import advise
from pellucid.data.microworld.controls import fit_controls
from pellucid.data.microworld.story import story
from pellucid.data.settings import DataSettings
from pellucid.drawing.flow import texts
from pellucid.engine.beam import BeamSettings
from pellucid.engine.constraints.settings import ConstraintSettings
from pellucid.engine.sampling.settings import BOUNDS, SamplingSettings
from pellucid.engine.settings import EngineSettings
from pellucid.engine.stop import FinishReason
from pellucid.lessons.settings import LessonSettings
from pellucid.planning.config import ModelConfig
from pellucid.planning.diagram import draw_diagram
from pellucid.planning.machine import MACHINES
from pellucid.planning.presets import PRESETS, preset
from pellucid.planning.report import describe_seconds, plan, render
from pellucid.planning.scaling import DEPTHS, from_depth
from pellucid.setting_values import describe_type, say_range
from pellucid.settings import type_hints
from pellucid.tokens.formats import protobuf
from pellucid.tokens.losses import METASPACE_LOSS, NORMALIZER_LOSSES, SPACES_LOSS, UNKNOWN_LOSS
from pellucid.tokens.patterns import IN_WORDS
from pellucid.tokens.roles import BY_NAME, ROLES
from pellucid.tokens.scripts import PLAIN_NAMES
from pellucid.tokens.settings import TokenizerSettings
from pellucid.training.lengths import TimeBudget
from pellucid.training.settings import TrainSettings
from pellucid.untrusted import kind_of
from pellucid.words.catalogue import SECTIONS, entries, say, say_event
from pellucid.words.sentence import SAY, Sentence

HAN = re.compile(r"[\u4e00-\u9fff]")
SETTINGS = (
    TrainSettings, SamplingSettings, BeamSettings, EngineSettings, ConstraintSettings, ModelConfig, TokenizerSettings,
    LessonSettings, DataSettings,
)  # fmt: skip
LABELS = ("error: ", "  found: ", "  where: ", "  try:   ")


BROKEN_MESSAGES = (b"\x0a\x1f", b"\x08", b"\x00", b"\x0b", b"\x08" + b"\xff" * 12)


def broken_message(data: bytes) -> str:
    """What is wrong with bytes that are no message of Protocol Buffers."""
    with pytest.raises(ValueError) as caught:
        list(protobuf.fields(data))
    return str(caught.value)


def words_of_errors() -> set[str]:
    """What errors say that is made while the program runs: kinds of values, and the ranges of the sampler."""
    kinds = {describe_type(hint) for cls in SETTINGS for hint in leaf_types(cls)}
    kinds |= {kind_of(value) for value in (None, True, 1, "a", [], {})}
    bounds = {text for bound in BOUNDS.values() for text in (bound.words, bound.hint) if text}
    return {
        *kinds,
        *bounds,
        *(broken_message(data) for data in BROKEN_MESSAGES),
        *LABELS,
        "more than 8,388,608 fields",
        "8 bytes of 12",
        "invalid start byte",
        "invalid continuation byte",
        "unexpected end of data",
        *REMOVED.values(),
        *differences("there"),
        *differences("then"),
        "training",
        "inference",
        "command line",
        "neither",
        "machine",
        "cgroup",
        "none",
        "nothing is there; looked for: runs/book",
    }


def leaf_types(cls: type) -> Iterator[object]:
    for hint in type_hints(cls).values():
        groups = [option for option in (hint, *get_args(hint)) if dataclasses.is_dataclass(option)]
        for group in groups:
            yield from leaf_types(group)
        if not groups:
            yield hint


@cache
def words_of_the_screen() -> set[str]:
    """What the verbs print that comes out of data: a plan's rows, reasons of a shape, names of splits and controls."""
    first = next(iter(MACHINES.values()))  # what a row is called does not hang on the machine; what it takes there does
    plans = [plan(preset(name), machine=first) for name in PRESETS]
    plans += [plan(preset("gpt2"), machine=machine) for machine in MACHINES.values()]
    rows = [row for drawn in plans for row in render(drawn)]
    shapes = [from_depth(depth, vocab_size=size) for depth in DEPTHS for size in (65, 8192)]
    told = {text for row in rows for text in (row.section, row.part)}
    told |= texts_of_drawings()
    told |= {row.text for row in rows if row.section.startswith("time on")}
    told |= {reason.why for shape in shapes for reason in shape.reasons}
    told |= {describe_seconds(seconds) for seconds in (1, 100, 1e4, 1e6, 1e9)}
    told |= {
        *SPLIT_NAMES.values(),
        *LANGUAGE_NAMES.values(),
        *get_args(FinishReason),
        "command line",
        "stopped.",
        "as it was",
        "no",
        "finished",
        "patience",
        "bits/byte",
        "tokens/s",
    }
    told |= {
        "counting: 50%  0:10 left",
        "kernels, fp32 weights, fp32 fma products, 2 threads",
        "torch, a query for each token, float32, cpu",
        "machine",
        "cgroup",
        "the processor",
    }
    told |= {"1 thread", "2 threads"}
    told |= {"compiling costs about 9 s once and saves about 9% of a step; tried, and it works here"}
    told |= {f"{words}; every Chinese character alone" for words in IN_WORDS.values()}
    told |= {*PLAIN_NAMES.values(), *KINDS.values(), *IN_WORDS.values(), *LEGEND.values(), TITLE, X_LABEL}
    told |= {UNKNOWN_LOSS, SPACES_LOSS, METASPACE_LOSS, *NORMALIZER_LOSSES.values()}
    told |= {
        "words cut worst",
        "characters of several tokens",
        "tokens per word",
        "score",
        "rank",
        "5 and more",
        "id",
        "role",
    }
    told |= {"occurs", "word", BY_NAME, *ROLES, *ENDS_BY_NAME}
    told |= {machine.source for machine in MACHINES.values()} | {"measured here"}
    told |= {machine.description for machine in MACHINES.values() if not machine.description.startswith("NVIDIA")}
    return told | {name.replace("_", " ") for name in fit_controls([story(0, 0, level=0, language="en")])}


@cache
def texts_of_drawings() -> frozenset[str]:
    """All that stands in the drawings of models that have each axis in every way."""
    sines = ModelConfig.from_axes(position={"kind": "sinusoidal", "halves": True})
    unturned = ModelConfig.from_axes(n_layers=1, position={"kind": "rotary", "skipped": (0,)})
    models = [sines, unturned, *map(preset, ("bert-base", "roberta-base", "modernbert-base"))]
    models.append(ModelConfig.from_axes(head={"tokens": False}, pooler={"layer": {"norm": True}}))
    models += [preset("xlnet").revise(**{"position.farthest": 9, "streams.memory": memory}) for memory in (0, 5)]
    models += [
        model for axis in CHANGES for start in (ModelConfig(), preset("t5-small")) for model in changed(start, axis)
    ]
    return frozenset(text for model in models for text in texts(draw_diagram(model, "gpt2")))


def words_of_events() -> set[str]:
    """What events say that is made while a run goes on, behind the event's name: why the clock changed its length."""
    budget = TimeBudget(seconds=100, most_steps=500, cooldown_share=0.5)
    found = budget.judge([(step, 2.0 * step) for step in range(1, 26)], 100)
    assert found is not None
    return {
        f"training.length {found[1]}",
        *(f"tokens.ends {text}" for text in ENDS_BY_NAME),
        *(f"training.other_fingerprint {text}" for text in differences("then")),
    }


def differences(when: str) -> set[str]:
    """One difference between a run and what is asked of it now, and several: `there` of settings, `then` of machines."""
    one = f"seed: 1337 {when}, 9 now"
    return {one, f"{one}; steps: 4 {when}, 5 now"}


def told_in_chinese(section: str, text: str) -> str:
    return say_event("zh", *text.split(" ", 1)) if section == "events" else say("zh", section, text)


ENDS_BY_NAME = ("<eos> (its name)", "<eos> (its name), <|im_end|> (its name)")
MADE = {"errors": words_of_errors, "screen": words_of_the_screen, "help": lambda: CLICK, "events": words_of_events}
CLICK = {
    "default: 3", "required", "[ARGS]...", "COMMAND", "Try 'pellucid train --help' for help.", "Error: wrong",
    "Missing argument 'TEXT'.", "Missing option '--out'.", "Missing command.", "File", "Path", "Directory",
    "No such option: --stpe", "No such option '--stpe'.", "No such command 'x'.",
    "No such option '--stpe'. Did you mean '--steps'?", "No such option '--st'. (Did you mean one of: '--a', '--b'?)",
    "No such option: --stpe Did you mean --steps?", "No such option: --st (Possible options: --steps, --stop)",
    "No such command 'x'. Did you mean 'y'?", "No such command 'x'. (Did you mean one of: 'y', 'z'?)",
    "File 'x' is not readable.", "Directory 'x' is not writable.",
    "Option '--out' requires an argument.", "Option '--json' does not take a value.",
    "Got unexpected extra argument (x)", "Got unexpected extra arguments (x y)",
    "Invalid value for '--steps': 'x' is not a valid integer.", "Invalid value: wrong", "'x' is not a valid integer.",
    "'x' is not one of 'a', 'b'.", "'x' is not a valid float.", "'x' is not a valid integer range.",
    "0 is not in the range x>=1.", "File 'x' does not exist.", "File 'x' is a directory.", "Directory 'x' is a file.",
    "7 is not between 1 and 1e+18",
}  # fmt: skip


def keys(section: str) -> dict[str, str]:
    """Skeleton -> sentence of a section; a sentence of an event begins with its name."""
    return {Sentence(english).skeleton: english for english in entries(section)}  # type: ignore[arg-type]


@pytest.mark.parametrize("section", ["errors", "screen", "help"])
def test_every_sentence_of_the_code_has_its_chinese(sentences, section) -> None:
    escape = section != "help"  # help is read as it is printed, the others as templates
    known = keys(section)
    skeletons = {Sentence(text).skeleton if escape else braces_doubled(text) for text in sentences[section]}
    missing = sorted(skeletons - set(known))
    assert not missing, f"no Chinese in words/zh/{section}.json for: {missing}"


def test_every_event_has_its_chinese(events) -> None:
    known = keys("events")
    nameless = [name for name, told in events.items() if not told]
    assert not nameless, f"the sentences of these events cannot be read from the code: {nameless}"
    told = {f"{name} {Sentence(text).skeleton}" for name, texts in events.items() for text in texts}
    missing = sorted(told - set(known))
    assert not missing, f"no Chinese in words/zh/events.json for: {missing}"


@pytest.mark.parametrize("section", SECTIONS)
def test_what_is_said_out_of_data_has_its_chinese(section) -> None:
    same = {"d_model / head_dim", "Muon", *(name for name in MADE[section]() if not re.search("[A-Za-z]{2,}", name))}
    missing = sorted(text for text in MADE[section]() - same if not HAN.search(told_in_chinese(section, text)))
    assert not missing


@pytest.mark.parametrize("section", SECTIONS)
def test_nothing_else_is_in_the_catalogue(sentences, events, section) -> None:
    if section == "events":
        wanted = {f"{name} {Sentence(text).skeleton}" for name, texts in events.items() for text in texts}
    else:
        wanted = {Sentence(text).skeleton if section != "help" else braces_doubled(text) for text in sentences[section]}
    made = MADE[section]()
    left_over = [
        english
        for skeleton, english in keys(section).items()
        if skeleton not in wanted and not any(Sentence(english).fields(text) is not None for text in made)
    ]
    assert not left_over, f"nobody says this: {left_over}"


@pytest.mark.parametrize("section", SECTIONS)
def test_both_languages_have_the_same_gaps_and_the_chinese_is_chinese(section) -> None:
    for english, chinese in entries(section).items():
        gaps = Sentence(english).gaps
        assert len(gaps) == len(set(gaps)), english
        assert sorted(gaps) == sorted(Sentence(chinese).gaps), english
        assert {spec for _, name, spec in Sentence(chinese).parts if name} <= {"", SAY}, chinese
        command = english.lstrip().startswith(("pellucid ", "pip ", "python "))
        assert command or HAN.search(chinese) or not re.search("[a-z]{3,} [a-z]{3,} ", english), english


@pytest.mark.parametrize("section", SECTIONS)
def test_a_filled_sentence_is_known_again_whatever_stands_in_its_gaps(section) -> None:
    for english, chinese in entries(section).items():
        filled = {name: f"⟨{place}⟩" for place, name in enumerate(Sentence(english).gaps)}
        said = Sentence(english).fill(filled)
        if section == "events":
            name, _, message = said.partition(" ")
            told = say_event("zh", name, message)
        else:
            told = say("zh", section, said)
        assert told == Sentence(chinese).fill(filled), (english, told)


def test_a_sentence_within_a_sentence_is_known_and_swallows_nothing() -> None:
    """The range of every setting that has one, with and without a value that it has otherwise, all of it Chinese."""
    hints = [(field, say_range(field, "x.y")) for cls in SETTINGS for field in fields(cls)]
    told = [(field, say("zh", "errors", hint)) for field, hint in hints if hint]
    assert len(told) > 10
    for field, text in told:
        rest = text.replace("x.y", "").replace(str(field.default), "")
        assert HAN.search(rest) and not re.search("[a-z]{2,}", rest), text
    found = say("zh", "errors", advise("café noir".encode("cp1252"), 3))
    assert found == (
        "写出读得通的那一行的编码：--encoding cp1252 “café noir”, --encoding cp1251 “cafй noir”；或用 --errors replace 在那里放 U+FFFD"
    )
    assert say("zh", "errors", "give 3, or leave it out") == "请给 3，或者不写"


def test_every_difference_of_a_run_is_said() -> None:
    found = "model.norm.kind: none there, layer now; seed: 1337 there, 9 now; steps: 4 there, 5 now"
    assert say("zh", "errors", found) == (
        "model.norm.kind：那里是 没有设定，现在是 layer；seed：那里是 1337，现在是 9；steps：那里是 4，现在是 5"
    )
    message = (
        "going on under another set-up, so the bits may differ from an uninterrupted run: torch: 2.1 then, 2.2 now"
    )
    assert say_event("zh", "training.other_fingerprint", message).endswith("不同：torch：当时是 2.1，现在是 2.2")


def test_a_sentence_that_is_not_known_stays_english() -> None:
    assert say("zh", "errors", "nobody says this") == "nobody says this"
    assert say_event("zh", "no.such", "nobody says this") == "nobody says this"


def test_english_is_what_the_code_says() -> None:
    assert say("en", "errors", "the file is empty") == "the file is empty"


def braces_doubled(text: str) -> str:
    return text.replace("{", "{{").replace("}", "}}")
