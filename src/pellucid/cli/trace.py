"""`pellucid trace`: every number between a text and its next token, on the screen in short, in files in full."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from pellucid.cli.common import Common, Terminal, as_trained, common_options, print_json
from pellucid.cli.screen import cell, open_console

if TYPE_CHECKING:  # it loads torch, which help does without
    from pellucid.lens.trace import Trace

MOST_SHOWN = 10


@click.command()
@click.argument("run")
@click.argument("text")
@click.option("--html", type=click.Path(dir_okay=False, path_type=Path), help="the page in one file, for any browser")
@click.option(
    "--save",
    "files",
    multiple=True,
    type=click.Path(dir_okay=False, path_type=Path),
    help="a file; its suffix says which: .plens .npz .json (the numbers), .png .svg (a picture), .html",
)
@common_options
def command(common: Common, run: str, text: str, html: Path | None, files: tuple[Path, ...]) -> None:
    """Record what the model in RUN computes for TEXT: the stream, attention, feed-forward and chances of every layer.

    Without a file, what there is to see is summed up; `pellucid lens RUN` opens the page itself.
    """
    from pellucid.api import load, trace
    from pellucid.planning.machine import inspect_machine
    from pellucid.training.device import use_threads

    use_threads(common.threads, inspect_machine())
    lm = load(run, device=common.device, recorder=Terminal())
    recorded = trace(lm, as_trained(text, lm.checkpoint.newlines))
    written = [recorded.save(path, recorder=Terminal()) for path in (*([html] if html else []), *files)]
    if common.as_json:
        print_json({"header": dict(recorded.header), "files": list(map(str, written))})
        return
    if not written:
        _print(recorded)
    for path in written:
        click.echo(f"· {path}: {path.stat().st_size:,} bytes", err=True)


def _print(trace: Trace) -> None:
    from rich.table import Table

    console, header = open_console(), trace.header
    console.print(cell(" ".join(f"[{chip['label']}]" for chip in header["tokens"])))
    table = Table("next token", "id", "probability", box=None)
    for bar in header["next"][:MOST_SHOWN]:
        table.add_row(cell(bar["label"]), str(bar["id"]), f"{bar['p']:.4f}")
    console.print(table)
    for check in header["checks"]:
        verdict = "holds" if check["ok"] else "DOES NOT HOLD"
        console.print(cell(f"check {check['name']}: {verdict} ({check['value']:.3g}, at most {check['limit']:.3g})"))
    names = [name for name in trace.arrays if not name.startswith("blocks.") or name.startswith("blocks.0.")]
    console.print(cell(f"{len(trace.arrays)} arrays, of layer 0 for example: " + ", ".join(names)))
