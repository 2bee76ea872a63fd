"""`pellucid trace`: record every activation between a text and its next token; a summary on screen, all in files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from pellucid.cli.common import (
    Common,
    PlacePath,
    as_trained,
    common_options,
    open_model,
    pattern_option,
    print_json,
    tell_opening,
)
from pellucid.cli.language import tell, words
from pellucid.cli.screen import say
from pellucid.cli.tables import print_table
from pellucid.cli.watch import Watch
from pellucid.errors import NotShownError

if TYPE_CHECKING:  # it loads torch, which help does without
    from pellucid.lens.trace import Trace

MOST_SHOWN = 10


@click.command()
@click.argument("run")
@click.argument("text")
@click.option("--html", type=PlacePath(dir_okay=False, path_type=Path), help="the page in one file, for any browser")
@click.option(
    "--save",
    "files",
    multiple=True,
    type=PlacePath(dir_okay=False, path_type=Path),
    help="a file; its suffix says which: .plens .npz .json (the numbers), .png .svg (a picture), .html",
)
@pattern_option
@common_options
def command(common: Common, run: str, text: str, html: Path | None, files: tuple[Path, ...]) -> None:
    """Record what the model in RUN computes for TEXT: the stream, attention, feed-forward and chances of every layer.

    Without a file, what there is to see is summed up; `pellucid lens RUN` opens the page itself.
    """
    tell_opening(run, quiet=common.as_json)
    from pellucid.api import trace
    from pellucid.lens.trace import check_suffix

    paths = (*([html] if html else []), *files)
    for path in paths:
        check_suffix(path)  # before a model is opened
    lm = open_model(run, common)
    try:
        recorded = trace(lm, as_trained(text, lm.checkpoint))
    except NotShownError as error:
        raise NotShownError(
            "what this model computes cannot be recorded as a trace",
            found=error.found,
            where=run,
            hint="pellucid lens RUN shows what does not depend on the kind of model: its tokens, vocabulary and training",
        ) from error
    with Watch(quiet=common.as_json) as watch:
        written = [recorded.save(path, recorder=watch) for path in paths]
    if common.as_json:
        print_json({"header": dict(recorded.header), "files": list(map(str, written))})
        return
    if not written:
        _print(recorded)
    for path in written:
        click.echo(f"· {path}: {path.stat().st_size:,} bytes", err=True)


def _print(trace: Trace) -> None:
    header = trace.header
    if header["source"] is not None:
        say(" ".join(f"[{chip['label']}]" for chip in header["source"]["tokens"]))
    say(" ".join(f"[{chip['label']}]" for chip in header["tokens"]))
    rows = [(bar["label"], str(bar["id"]), f"{bar['p']:.4f}") for bar in header["next"][:MOST_SHOWN]]
    if header["predicts"] == "next":
        print_table({"next token": "left", "id": "right", "probability": "right"}, rows)
    elif header["predicted"] is None:
        tell("no token is hidden: this model sees its text from both sides, and predicts nothing else")
    else:
        print_table({"hidden token": "left", "id": "right", "probability": "right"}, rows)
    for check in header["checks"]:
        verdict = words("holds" if check["ok"] else "DOES NOT HOLD")
        limit = check["limit"]
        if limit is None:
            tell(f"check {check['name']}: {verdict} ({check['value']:.3g}, any is allowed)")
        else:
            tell(f"check {check['name']}: {verdict} ({check['value']:.3g}, at most {limit:.3g})")
    names = [name for name in trace.arrays if "blocks." not in name or "blocks.0." in name]
    tell(f"{len(trace.arrays)} arrays, of layer 0 for example: {', '.join(names)}")
