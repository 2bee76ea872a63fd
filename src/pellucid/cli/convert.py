"""`pellucid convert`: write a model as a GGUF file or a Hugging Face directory, and measure the loss of quality."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pellucid.cli.common import PLACE, Common, Terminal, common_options, pattern_option, print_json, tell_opening
from pellucid.cli.language import words
from pellucid.cli.tables import Side, print_table
from pellucid.cli.watch import Watch, watch_items
from pellucid.errors import RequestError

# Both sides are read in windows of this many tokens: a longer context costs minutes and hardly changes the difference.
WINDOW = 1024
ROWS = 1  # one window at a time: short texts are common here, and the last rows of a batch would be read empty

if TYPE_CHECKING:  # it loads torch, which help does without
    from pellucid.data.source import Source
    from pellucid.store.checkpoint import Checkpoint


@dataclass(frozen=True, kw_only=True)
class ConvertedModel:
    """The model before or after a conversion: its format, its size, and its loss on the given text."""

    path: Path
    number_format: str
    num_bytes: int
    bits_per_byte: float | None

    def to_dict(self) -> dict[str, Any]:
        return {**vars(self), "path": str(self.path)}


@click.command()
@click.argument("source", metavar="SRC")
@click.argument("destination", metavar="DST", type=PLACE)
@click.option(
    "--to", type=click.Choice(["gguf", "hf"]), help="the format of DST (default: gguf for a name in .gguf, else hf)"
)
@click.option(
    "--quantize",
    type=click.Choice(["f32", "f16", "bf16", "q8_0"]),
    help="number format of the matrices (default: as they are; f32 for quantised ones)",
)
@click.option(
    "--measure",
    metavar="TEXT",
    help=f"also measure bits per byte of this held-out text, before and after, in windows of {WINDOW:,} tokens",
)
@click.option(
    "--without-heads", is_flag=True, help="leave out what an encoder's vectors do not need: its scores and labels"
)
@pattern_option
@common_options
def command(
    common: Common,
    source: str,
    destination: Path,
    to: str | None,
    quantize: str | None,
    measure: str | None,
    without_heads: bool,
) -> None:
    """Write the model in SRC (a run, a checkpoint, a Hugging Face directory, a .gguf file, a .bin of llama2.c) to DST in another format.

    A GGUF file runs in llama.cpp and all that is built on it, with the same ids and the same logits. A Hugging Face
    directory is what most other programs read, and what training starts from.
    """
    tell_opening(source, quiet=common.as_json)
    from pellucid.data.source import open_source
    from pellucid.model.device import use_threads
    from pellucid.planning.machine import inspect_machine
    from pellucid.store import convert as conversion
    from pellucid.store.open import open_checkpoint

    use_threads(common.threads, inspect_machine())
    checkpoint = open_checkpoint(source, pattern=common.pattern, recorder=Terminal())
    if without_heads:
        checkpoint = conversion.without_heads(checkpoint, Terminal())
    if measure is not None and (not checkpoint.config.causal or checkpoint.config.encoder is not None):
        raise RequestError(
            "this model does not predict the next token: it has no bits per byte",
            found="--measure",
            hint="leave --measure out, and compare the losses that pellucid eval gives of both",
        )
    # Opened once, as a pipe can be, and before the work: a text that is not there should be known by then.
    text = (
        None if measure is None else open_source(measure, newlines=checkpoint.newlines, flags=(), recorder=Terminal())
    )
    chosen, target = quantize or conversion.stored_format(checkpoint), to or conversion.target_of(destination)
    with Watch(quiet=common.as_json) as watch:
        conversion.convert(checkpoint, destination, to=target, number_format=chosen, recorder=watch)  # type: ignore[arg-type]
    converted = open_checkpoint(destination)
    rows = [_row(checkpoint, "as it was", common, text), _row(converted, chosen, common, text)]
    if common.as_json:
        print_json([row.to_dict() for row in rows])
    else:
        _print(rows)


def _row(checkpoint: Checkpoint, number_format: str, common: Common, text: Source | None) -> ConvertedModel:
    path = checkpoint.directory
    files = [path] if path.is_file() else [file for file in path.iterdir() if file.suffix == ".safetensors"]
    bits = None if text is None else _bits_per_byte(checkpoint, common, text)
    return ConvertedModel(
        path=path, number_format=number_format, num_bytes=sum(f.stat().st_size for f in files), bits_per_byte=bits
    )


def _bits_per_byte(checkpoint: Checkpoint, common: Common, text: Source) -> float:
    from pellucid.data.objectives.causal import CausalObjective
    from pellucid.errors import TokenizerError
    from pellucid.evaluate.likelihood import Likelihood, measure_text
    from pellucid.model.device import choose_device
    from pellucid.store.checkpoint import load_model

    config, tokenizer = checkpoint.config, checkpoint.tokenizer
    if tokenizer is None:
        raise TokenizerError("a text cannot be measured without a tokenizer", where=str(checkpoint.directory))
    if config.position.kind == "rotary":
        checkpoint = replace(checkpoint, config=replace(config, context_length=min(config.context_length, WINDOW)))
    model = load_model(checkpoint, device=choose_device(common.device)).eval()
    documents, name = text.documents(), checkpoint.directory.name

    def watch(batches: Iterable[Any], num_batches: int) -> Iterable[Any]:
        return batches if common.as_json else watch_items(batches, num_batches, f"measuring {name}")

    measured = measure_text(model, tokenizer, documents, objective=CausalObjective(), rows=ROWS, watch=watch)
    assert isinstance(measured, Likelihood), "the causal objective gives one"
    return measured.bits_per_byte


def _print(rows: list[ConvertedModel]) -> None:
    """Print the model before and after, with the columns for which there are figures."""
    cells = [[str(row.path), words(row.number_format), f"{row.num_bytes / 1e6:,.2f}"] for row in rows]
    columns: dict[str, Side] = {"model": "left", "numbers": "left", "MB": "right"}
    measured: dict[str, Side] = {"bits/byte": "right", "change": "right"}
    before = rows[0].bits_per_byte
    if before is not None:
        for row, line in zip(rows, cells, strict=True):
            bits = row.bits_per_byte
            assert bits is not None, "both sides are measured, or none"
            line += [f"{bits:.5f}", "-" if row is rows[0] else f"{bits - before:+.5f}"]
    print_table(columns if before is None else columns | measured, cells)
