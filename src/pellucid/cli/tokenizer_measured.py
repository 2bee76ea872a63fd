"""What tokenizers make of a text, as tables and as JSON: tokens by script, the words cut worst."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pellucid.cli.language import tell, words
from pellucid.cli.tables import Side, print_table
from pellucid.tokens.compare import CutWord, Measurement, ScriptMeasure
from pellucid.tokens.scripts import plain_name

NONE = "–"
LEAST_SHARE = 0.001  # of the characters: a script with less is left out of the tables; JSON has all
TOTALS: dict[str, Side] = {
    "tokenizer": "left",
    "kind": "left",
    "vocabulary": "right",
    "tokens": "right",
    "tokens per character": "right",
    "bytes per token": "right",
    "unknown": "right",
    "MB/s": "right",
}
SHOWN_CUTS = 5  # for each tokenizer; JSON has all that were measured


def print_measurements(measured: Mapping[str, Measurement]) -> None:
    """Print tokenizers side by side: name -> what was measured, all on the same sample."""
    print_table(TOTALS, [_total(name, one) for name, one in measured.items()])
    for name, one in measured.items():
        for loss in one.losses:
            tell(f"{name} is not exact: {loss}")
    print_scripts(measured)
    print_cuts("words cut worst", {name: one.worst_words for name, one in measured.items()})
    print_cuts("characters of several tokens", {name: one.worst_han for name, one in measured.items()})


def print_scripts(measured: Mapping[str, Measurement]) -> None:
    """Print tokens per character, and per word, for each script of the text."""
    _print_by_script("tokens per character", measured, "characters", lambda one: one.num_characters, _per_character)
    _print_by_script("tokens per word", measured, "words", lambda one: one.num_words, _per_word)


def _print_by_script(
    title: str,
    measured: Mapping[str, Measurement],
    heading: str,
    count: Callable[[ScriptMeasure], int],
    value: Callable[[ScriptMeasure], float | None],
) -> None:
    columns: dict[str, Side] = {title: "left", heading: "right"}
    rows = []
    for places in zip(*(shown_scripts(one) for one in measured.values()), strict=True):
        if count(places[0]):
            figures = (NONE if (number := value(place)) is None else f"{number:.3f}" for place in places)
            rows.append((words(plain_name(places[0].script)), f"{count(places[0]):,}", *figures))
    if rows:
        print_table(columns, rows, names=[*measured])


def shown_scripts(measured: Measurement) -> list[ScriptMeasure]:
    """The scripts with a visible share of the text; their order is the same for every tokenizer."""
    least = measured.num_characters * LEAST_SHARE
    return [one for one in measured.scripts if one.num_characters >= least]


def print_cuts(title: str, cuts: Mapping[str, Sequence[CutWord]]) -> None:
    """Print the words, or Chinese characters, that each tokenizer cuts worst."""
    rows = [
        (name, cut.text, f"{cut.count:,}", f"{cut.num_tokens:.3g}", " | ".join(cut.parts))
        for name, worst in cuts.items()
        for cut in worst[:SHOWN_CUTS]
    ]
    columns: dict[str, Side] = {"tokenizer": "left", title: "left", "occurs": "right", "tokens": "right"}
    if rows:
        print_table({**columns, "cut into": "left"}, rows)


def measurement_document(measured: Measurement) -> dict[str, Any]:
    """A measurement as JSON."""
    return {
        "kind": measured.kind,
        "vocab_size": measured.vocab_size,
        "exact": not measured.losses,
        "losses": measured.losses,
        "tokens": measured.num_tokens,
        "characters": measured.num_characters,
        "bytes": measured.num_bytes,
        "unknown": measured.num_unknown,
        "tokens_per_character": measured.tokens_per_character,
        "bytes_per_token": measured.bytes_per_token,
        "megabytes_per_second": measured.megabytes_per_second,
        "scripts": [_script_document(one) for one in measured.scripts],
        "worst_words": [_cut_document(cut) for cut in measured.worst_words],
        "worst_han": [_cut_document(cut) for cut in measured.worst_han],
    }


def _script_document(one: ScriptMeasure) -> dict[str, Any]:
    counts = {
        "characters": one.num_characters,
        "bytes": one.num_bytes,
        "words": one.num_words,
        "tokens": one.num_tokens,
    }
    names = ("tokens_per_character", "tokens_per_word", "characters_per_token", "bytes_per_token")
    return {"script": one.script, **counts, **{name: getattr(one, name) for name in names}}


def _cut_document(cut: CutWord) -> dict[str, Any]:
    return {"text": cut.text, "script": cut.script, "count": cut.count, "tokens": cut.num_tokens, "parts": cut.parts}


def _total(name: str, one: Measurement) -> tuple[str, ...]:
    figures = (f"{one.vocab_size:,}", f"{one.num_tokens:,}", f"{one.tokens_per_character:.3f}")
    size = NONE if one.bytes_per_token is None else f"{one.bytes_per_token:.2f}"
    rates = (size, f"{one.num_unknown:,}", f"{one.megabytes_per_second:.1f}")
    return (name, one.kind, *figures, *rates)


def _per_character(one: ScriptMeasure) -> float | None:
    return one.tokens_per_character


def _per_word(one: ScriptMeasure) -> float | None:
    return one.tokens_per_word
