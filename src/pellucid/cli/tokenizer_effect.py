"""What a tokenizer does to a text: how it splits a line into pieces, and its tokens for each character and word."""

from __future__ import annotations

from typing import Any

from pellucid.cli.language import tell, words
from pellucid.cli.screen import say
from pellucid.cli.tables import Side, print_table
from pellucid.cli.tokenizer_measured import NONE, measurement_document, shown_scripts
from pellucid.counts import counted
from pellucid.tokens.compare import Measurement, TextSample
from pellucid.tokens.describe_split import describe_split
from pellucid.tokens.labels import label_of_bytes
from pellucid.tokens.losses import UNKNOWN_LOSS
from pellucid.tokens.scripts import NOT_WRITING, plain_name, script_of
from pellucid.tokens.tokenizer import Tokenizer

LINE = 60  # characters of a line that is shown
MOST_LINES = 2  # one for each script
COLUMNS: dict[str, Side] = {
    "script": "left",
    "characters": "right",
    "words": "right",
    "tokens per character": "right",
    "tokens per word": "right",
}


def print_effect(tokenizer: Tokenizer, sample: TextSample, measured: Measurement) -> None:
    """Print the split, pieces of a line or two, the tokens for each character and word of every script, and the unknown ones."""
    tell(f"how a text is split: {describe_split(tokenizer)}")
    for pieces in split_lines(tokenizer, sample, measured):
        say("  " + " | ".join(pieces))
    tell()
    rows = []
    for one in shown_scripts(measured):
        per_word = NONE if one.tokens_per_word is None else f"{one.tokens_per_word:.3f}"
        counts = (f"{one.num_characters:,}", f"{one.num_words:,}" if one.num_words else NONE)
        rows.append((words(plain_name(one.script)), *counts, f"{one.tokens_per_character:.3f}", per_word))
    print_table(COLUMNS, rows)
    if UNKNOWN_LOSS in measured.losses:
        share = measured.num_unknown / max(measured.num_tokens, 1)
        tell(f"unknown: {measured.num_unknown:,} of {counted(measured.num_tokens, 'token')} ({share:.2%})")


def split_lines(tokenizer: Tokenizer, sample: TextSample, measured: Measurement) -> list[tuple[str, ...]]:
    """The pieces of a line for each of the most frequent scripts, spaces made visible."""
    scripts = [one.script for one in measured.scripts if one.script not in NOT_WRITING][:MOST_LINES]
    lines = [line.strip()[:LINE] for block in sample.blocks for line in block.splitlines()[1:-1] or [block]]
    chosen = [max((line for line in lines if script_of(line) == script), key=len, default="") for script in scripts]
    return [_pieces(tokenizer, line) for line in chosen if line]


def _pieces(tokenizer: Tokenizer, line: str) -> tuple[str, ...]:
    spans = [(piece.offsets[0][0], piece.offsets[-1][1]) for piece in tokenizer.encode_pieces(line)]
    return tuple(label_of_bytes(line[start:end].encode("utf-8")) for start, end in spans)


def effect_document(tokenizer: Tokenizer, sample: TextSample, measured: Measurement) -> dict[str, Any]:
    """The same as JSON."""
    return {
        "split": describe_split(tokenizer),
        "pattern": tokenizer.vocabulary.pattern,
        "lines": split_lines(tokenizer, sample, measured),
        "sample": {"characters": sample.num_characters, "of": sample.total_characters},
        **measurement_document(measured),
    }
