"""`pellucid plan`: parameters, FLOPs, memory and time of a model, each with the formula it was computed from.

A model is a preset, a depth (`--depth`), or a directory that holds one; single axes may be overridden. Only a directory
and `--machine this` load torch: the rest is arithmetic.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import Any

import click
from rich.cells import cell_len

from pellucid.cli.common import Common, Terminal, common_options, print_json, set_option, tell_opening
from pellucid.cli.language import tell, words
from pellucid.cli.plan_draw import check_draw_options, draw_options, show_diagram
from pellucid.cli.tables import Side, print_table
from pellucid.cli.watch import waiting
from pellucid.errors import SettingsError, advised
from pellucid.planning.axis_names import dotted, flat
from pellucid.planning.config import ModelConfig
from pellucid.planning.machine import MACHINES, NamedMachine, inspect_machine, named_machine, this_machine
from pellucid.planning.params import count_met, count_parameters
from pellucid.planning.presets import PRESETS, preset
from pellucid.planning.report import Plan, describe_bytes, describe_seconds, plan, render
from pellucid.planning.scaling import Reason, from_depth
from pellucid.setting_values import convert
from pellucid.settings import Layer, parse_assignments, resolve, shallow

COMMAND_LINE = "command line"
THIS = "this"
DEFAULT_MACHINE = "h100"
DEPTH_VOCABULARY = 8192  # the largest vocabulary that training chooses by itself
MOST_TOKENS = 1e18  # more than there will be text
MACHINE_COLUMNS: dict[str, Side] = {
    "machine": "left",
    "peak, TFLOP/s": "right",
    "training reaches": "right",
    "GB/s": "right",
    "memory": "right",
    "what it is": "left",
    "source": "left",
}
SHAPE = ("n_layers", "d_model", "n_heads", "n_kv_heads", "head_dim", "d_ff", "vocab_size", "context_length")


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """A model to plan: its name, its shape, and the reason for each derived size."""

    name: str
    config: ModelConfig
    reasons: tuple[Reason, ...] = ()


def whole_number(ctx: click.Context, parameter: click.Parameter, value: float | None) -> int | None:
    """Read a whole number that may be written as `300e9`."""
    if value is not None and not 1 <= value <= MOST_TOKENS:  # written so that NaN fails too
        raise click.BadParameter(f"{value:g} is not between 1 and {MOST_TOKENS:g}", ctx, parameter)
    return None if value is None else int(value)


@click.command()
@click.argument("model", required=False, metavar="[MODEL]")
@click.option(
    "--depth",
    type=int,
    help="instead of a preset: one dial (blocks) from which every other size follows",
)
@click.option("--vocab-size", type=int, help="tokens in the vocabulary [default: the model's; 8,192 with --depth]")
@click.option(
    "--context-length",
    type=int,
    help="tokens in a row [default: all that the model can hold; 256 with --depth]",
)
@click.option("--rows", type=int, default=1, show_default=True, help="rows computed at once")
@click.option(
    "--tokens",
    type=float,
    callback=whole_number,
    metavar="N",
    help="tokens to train on, for example 300e9 [default: 20 per parameter]",
)
@click.option(
    "--optimizer",
    type=click.Choice(["adamw", "muon"]),
    default="adamw",
    show_default=True,
    help="what it would be trained with",
)
@click.option(
    "--compute-type",
    type=click.Choice(["bfloat16", "float32"]),
    help="what it computes in [default: bfloat16; with --machine this, what this machine does]",
)
@click.option(
    "--machine",
    "machine_name",
    metavar="NAME",
    default=DEFAULT_MACHINE,
    show_default=True,
    help="where the time is estimated: this (measured now), " + ", ".join(MACHINES),
)
@draw_options
@click.option("--list", "listing", is_flag=True, help="list the presets and the machines")
@set_option(
    "pellucid.planning.config:ModelConfig",
    "override an axis of the model, for example --set n_layers=6",
    metavar="AXIS=VALUE",
)
@common_options
def command(
    common: Common,
    model: str | None,
    depth: int | None,
    vocab_size: int | None,
    assignments: tuple[str, ...],
    tokens: int | None,
    machine_name: str,
    compute_type: str | None,
    listing: bool,
    drawn_only: bool,
    out: Path | None,
    **batch: Any,
) -> None:
    """What a model would cost, before it is built: parameters, FLOPs, memory and time, with the formulas.

    MODEL is a preset (see --list), a run, a Hugging Face directory or its config.json, a .gguf file, a .bin of llama2.c, or
    a name (hf:OWNER/NAME), which is fetched if it is not here. The time is that of one
    well-known machine, from its data sheet, unless --machine names another.
    """
    check_draw_options(drawn_only=drawn_only, out=out)
    if listing:
        list_known(as_json=common.as_json)
        return
    axes = parse_assignments(assignments) | ({} if vocab_size is None else {"vocab_size": vocab_size})
    drawing = draw(model, depth, batch["context_length"], axes)
    if drawn_only:
        show_diagram(drawing.config, drawing.name, out, as_json=common.as_json)
        return
    machine, native_type = choose_machine(machine_name, common)
    drawn = plan(
        drawing.config,
        name=drawing.name,
        tokens=tokens,
        machine=machine,
        compute_type=compute_type or native_type,  # type: ignore[arg-type]
        **batch,
    )
    if common.as_json:
        print_json(describe(drawn, drawing.reasons, machine))
    else:
        show(drawn, drawing.reasons, machine, f"{batch['optimizer']}, {compute_type or native_type}")


def draw(model: str | None, depth: int | None, context_length: int | None, axes: Mapping[str, Any]) -> Drawing:
    """The model shape that was asked for, by name, by depth or from disk, with the overridden axes.

    >>> draw("gpt2", None, None, {"n_layers": "6"}).config.n_layers
    6
    """
    if "model" in axes:  # as `train` says it
        raise SettingsError(
            "a plan is of the model alone", found="--set model.…", hint="leave model. out: --set n_layers=6"
        )
    if (model is None) == (depth is None):
        raise SettingsError(
            "give a model or --depth, one of them",
            found="neither" if model is None else f"{model} and --depth {depth}",
            hint="for example `pellucid plan gpt2` or `pellucid plan --depth 6`; `pellucid plan --list` names the presets",
        )
    base = from_dial(depth, context_length, axes) if depth is not None else by_name(str(model))
    layers = Layer(base.name, shallow(base.config)), Layer(COMMAND_LINE, axes)
    config = resolve(ModelConfig, *layers).settings
    asked = [Reason(field=axis, value=attrgetter(axis)(config), why="as asked") for axis in dotted(axes)]
    derived = [reason for reason in base.reasons if reason.field not in axes]
    return Drawing(name=base.name, config=config, reasons=(*derived, *asked) if base.reasons else ())


def from_dial(depth: int, context_length: int | None, axes: Mapping[str, Any]) -> Drawing:
    """A shape derived from its depth; the vocabulary size must be known, since it decides whether the head is tied."""
    vocab_size = convert(axes.get("vocab_size", DEPTH_VOCABULARY), int, "vocab_size", COMMAND_LINE)
    length = {} if context_length is None else {"context_length": context_length}
    derived = from_depth(depth, vocab_size=vocab_size, **length)
    why = "the largest that training chooses by itself; set it with --vocab-size"
    vocabulary = Reason(field="vocab_size", value=vocab_size, why=why)
    return Drawing(name=f"depth {depth}", config=derived.config, reasons=(*derived.reasons, vocabulary))


def by_name(model: str) -> Drawing:
    """A preset, or the model at a path or of a name (`hf:…`); a path with the name of a preset is written `./gpt2`."""
    from pellucid.store.hub.name import is_hub_name

    if model not in PRESETS and (is_hub_name(model) or Path(model).exists()):
        with advised("give a preset (`pellucid plan --list`), a run, a Hugging Face directory or its config.json"):
            return Drawing(name=model, config=stored_config(Path(model)))
    return Drawing(name=model, config=preset(model))


def stored_config(path: Path) -> ModelConfig:
    """The shape of a model that can be opened, or of a config.json alone."""
    tell_opening(path)
    from pellucid.store.checkpoint import TRAINING_AXES
    from pellucid.store.directory import CONFIG, INFO
    from pellucid.store.llama2c import is_llama2c
    from pellucid.store.names.registry import read_config
    from pellucid.store.open import open_checkpoint
    from pellucid.store.run import resolve_checkpoint
    from pellucid.tokens.formats.find import is_gguf
    from pellucid.untrusted import Table, read_object

    place = path if path.is_file() else resolve_checkpoint(path, recorder=Terminal())
    if is_gguf(place) or is_llama2c(place):
        return open_checkpoint(place, recorder=Terminal()).config
    file = place / CONFIG if place.is_dir() else place
    notes = file.with_name(INFO)
    told = Table(read_object(notes), str(notes)).table("config", {}) if notes.is_file() else {}
    more_axes = {axis: told[axis] for axis in TRAINING_AXES if axis in told}
    _, config = read_config(read_object(file), str(file), more_axes=more_axes)
    return config


def choose_machine(name: str, common: Common) -> tuple[NamedMachine, str]:
    """The machine to estimate time for (`this` is measured now), and the number format it computes in."""
    if name != THIS:
        return named_machine(name, also=(THIS,)), "bfloat16"
    with waiting("measuring for a few seconds", quiet=common.as_json):
        return measure_here(common)


def measure_here(common: Common) -> tuple[NamedMachine, str]:
    """Measure this machine with a short training run in the number format that a run would choose."""
    from pellucid.model.device import choose_device, choose_dtype, use_threads
    from pellucid.training.measure import measure_read_bandwidth, measure_training
    from pellucid.training.settings import TrainSettings

    here = inspect_machine()
    use_threads(common.threads, here)
    device = choose_device(common.device)
    dtype = choose_dtype("auto", device, here)
    rates = measure_training(device, dtype, deterministic=TrainSettings().deterministic)
    bandwidth = measure_read_bandwidth() if device.type == "cpu" else 0.0
    flops = rates.training_flops_per_second
    machine = this_machine(here, flops_per_second=flops, memory_bytes_per_second=bandwidth)
    return machine, str(dtype).removeprefix("torch.")


def describe(drawn: Plan, reasons: Iterable[Reason], machine: NamedMachine) -> dict[str, Any]:
    """The plan as JSON."""
    return {
        **drawn.to_dict(),
        "reasons": [shallow(reason) for reason in reasons],
        "machine": shallow(machine) | {"fits": fits(drawn, machine)},
    }


def fits(drawn: Plan, machine: NamedMachine) -> dict[str, bool]:
    """Whether training and use need no more memory than the machine has."""
    return {memory.purpose: memory.total <= machine.memory_bytes for memory in (drawn.training, drawn.inference)}


def show(drawn: Plan, reasons: tuple[Reason, ...], machine: NamedMachine, assumed: str) -> None:
    """Print the plan for people: a summary of four lines, the shape, the reasons, then the tables."""
    summary = list(summarise(drawn, machine))
    width = max(cell_len(words(name)) for name, _ in summary)
    for name, text in summary:
        click.echo(words(name) + " " * (width - cell_len(words(name))) + "  " + words(text))
    click.echo()
    click.echo(f"{drawn.name}: " + ", ".join(f"{name} {getattr(drawn.config, name):,}" for name in SHAPE))
    tell(f"batch: {drawn.training.rows:,} × {drawn.training.context_length:,} tokens, {assumed}\n")
    if reasons:
        why = [(reason.field, _plain(reason.value), words(reason.why)) for reason in reasons]
        print_table({"size": "left", "value": "right", "why": "left"}, why)
    for section, lines in groupby(render(drawn), key=lambda row: row.section):
        rows = list(lines)
        cells = [(words(row.part), words(row.text), _equals(row.formula), _equals(row.figures)) for row in rows]
        totals = {number for number, row in enumerate(rows) if row.total}
        columns: dict[str, Side] = {section: "left", "value": "right", "formula": "left", "figures": "left"}
        print_table(columns, cells, strong=totals)


def summarise(drawn: Plan, machine: NamedMachine) -> Iterator[tuple[str, str]]:
    """The summary: parameters, memory, compute and time, a line each."""
    time, there = drawn.time, describe_bytes(machine.memory_bytes)
    assert time is not None, "a machine was named"
    whole, name = time.tokens * drawn.flops.training, machine.name
    total, met = f"{drawn.parameters.total:,}", count_met(drawn.config)
    if met == drawn.parameters.total:
        yield "parameters", f"{total} ({drawn.name})"
    else:
        yield "parameters", f"{total} ({drawn.name}), of which a token meets {met:,}"
    training, use = describe_bytes(drawn.training.total), describe_bytes(drawn.inference.total)
    training_fits, use_fits = fits(drawn, machine).values()
    verdict = {
        (True, True): f"both fit in the {there} of {name}",
        (False, True): f"of the {there} of {name}, training needs more",
        (True, False): f"of the {there} of {name}, use needs more",
        (False, False): f"neither fits in the {there} of {name}",
    }[training_fits, use_fits]
    yield "memory", f"{training} to train, {use} to use; {words(verdict)}"
    per_parameter = f"{time.tokens / drawn.parameters.total:.3g}"
    training, tokens = f"{drawn.flops.training:,}", f"{time.tokens:,}"
    yield "compute", f"{training} FLOPs per token, {whole:.3g} for {tokens} tokens, {per_parameter} per parameter"
    seconds = words(describe_seconds(time.seconds))
    if machine.name == THIS:
        yield "time", f"{seconds} on this machine, as measured just now"
    else:
        yield "time", f"{seconds} on one {machine.description} ({name}); --machine this measures this machine"


def list_known(*, as_json: bool) -> None:
    """Print every preset with its size, and every machine with its peak speed."""
    sizes = {name: count_parameters(config).total for name, config in PRESETS.items()}
    if as_json:
        presets = [{"name": name, "parameters": sizes[name], **flat(PRESETS[name])} for name in PRESETS]
        print_json({"presets": presets, "machines": [shallow(machine) for machine in MACHINES.values()]})
        return
    columns: dict[str, Side] = {"preset": "left", "parameters": "right", **dict.fromkeys(SHAPE, "right")}
    rows = [
        (name, f"{sizes[name]:,}", *(f"{getattr(config, axis):,}" for axis in SHAPE))
        for name, config in PRESETS.items()
    ]
    print_table(columns, rows)
    print_table(MACHINE_COLUMNS, [machine_cells(machine) for machine in MACHINES.values()])


def machine_cells(machine: NamedMachine) -> tuple[str, ...]:
    """A machine as a row under MACHINE_COLUMNS."""
    return (
        machine.name,
        f"{machine.peak_flops_per_second / 1e12:,.4g}",
        f"{machine.utilisation:.0%}",
        f"{machine.memory_bytes_per_second / 1e9:,.0f}",
        describe_bytes(machine.memory_bytes),
        machine.description,
        machine.source,
    )


def _plain(value: Any) -> str:
    return f"{value:,}" if type(value) is int else str(value)


def _equals(formula: str) -> str:
    """A formula as the next step of an equation."""
    return f"= {formula.replace(' x ', ' × ')}" if formula else ""
