"""`pellucid tokenizer compare`: what several tokenizers make of one text, side by side, and as a picture."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import click

from pellucid.cli.bar_words import drawable
from pellucid.cli.common import (
    PLACE,
    Terminal,
    encoding_option,
    errors_option,
    field_option,
    json_option,
    newlines_option,
    print_json,
)
from pellucid.cli.language import words
from pellucid.cli.screen import say
from pellucid.cli.tokenizer_file import open_tokenizers
from pellucid.cli.tokenizer_measured import measurement_document, print_measurements, shown_scripts
from pellucid.data.source import Source, open_source
from pellucid.events import Event
from pellucid.files import check_directory
from pellucid.tokens.compare import Measurement, TextSample, draw_sample, measure_all
from pellucid.tokens.scripts import NOT_WRITING, plain_name

PICTURE = "tokens-per-character"
TITLE, X_LABEL = "How many tokens a character takes", "tokens for each character"


@click.command()
@click.argument("places", metavar="DIR...", nargs=-1, required=True, type=PLACE)
@click.option("--text", required=True, help="the text to measure on: a file, a folder, or - for standard input")
@click.option("--out", type=PLACE, help="draw the bars here, as SVG and PNG")
@field_option
@errors_option
@encoding_option
@newlines_option
@json_option
def compare(
    places: tuple[Path, ...],
    text: str,
    out: Path | None,
    field: str,
    errors: str,
    encoding: str | None,
    newlines: str | None,
    as_json: bool,
) -> None:
    """Measure tokenizers on the same text.

    Tokens for each character and each word of every script, the words that are cut worst, bytes for each token, what was
    lost, speed. A token belongs to the script of the first letter that it covers.
    """
    reading = {"field": field, "errors": errors, "encoding": encoding or "auto", "newlines": newlines or "lf"}
    if out is not None:
        check_directory(out)
    tokenizers = open_tokenizers(places)
    sample = read_sample(open_source(text, **reading, recorder=Terminal()))  # type: ignore[arg-type]
    report_sample(sample)
    measured = measure_all(tokenizers, sample)
    files = draw(measured, out) if out else []
    if as_json:
        told = {name: measurement_document(one) for name, one in measured.items()}
        characters = {"characters": sample.num_characters, "of": sample.total_characters}
        print_json({"text": text, "sample": characters, "tokenizers": told, "plots": [str(file) for file in files]})
        return
    print_measurements(measured)
    for file in files:
        say(f"· {file}", err=True)


def read_sample(source: Source) -> TextSample:
    """The part of a text that is measured."""
    texts = (document.text for document in source.documents())
    return draw_sample(texts, source.survey.num_characters)


def report_sample(sample: TextSample, *, seen: bool = False) -> None:
    """Report how large the part is that is measured; `seen`: a tokenizer learned from the text."""
    message = f"measured on {sample.num_characters:,} of {sample.total_characters:,} characters"
    if seen:
        message += ", which the tokenizer learned from (--measure-on TEXT measures on another)"
    data = {"characters": sample.num_characters, "of": sample.total_characters}
    Terminal().record(Event(name="tokens.measured", message=message, data=data))


def draw(measured: Mapping[str, Measurement], out: Path) -> list[Path]:
    """Draw tokens per character for each script that the text is written in."""
    from pellucid.drawing.bars import draw_bars

    first = next(iter(measured.values()))
    places = [place for place, one in enumerate(shown_scripts(first)) if one.script not in NOT_WRITING]
    english = (TITLE, X_LABEL, *(plain_name(shown_scripts(first)[place].script) for place in places))
    title, x_label, *groups = drawable(english, [words(text) for text in english])
    series = {
        words(f"{name}, {one.vocab_size:,} tokens"): [
            shown_scripts(one)[place].tokens_per_character for place in places
        ]
        for name, one in measured.items()
    }
    return draw_bars(groups, series, title=title, x_label=x_label, path_without_suffix=out / PICTURE)
