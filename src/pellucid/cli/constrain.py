"""The options for constrained decoding (--regex --json-schema --choice --grammar), and the constraint they make."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:  # the engine's numpy and llguidance wait until a verb runs
    from pellucid.engine.constraints.settings import ConstraintSettings

TEXT_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


def constraint_options(function: Callable) -> Callable:
    """Decorator: add --regex --json-schema --choice --grammar; they arrive as regex, json_schema, choices, grammar."""
    for option in reversed(
        (
            click.option("--regex", metavar="PATTERN", help="the answer as a whole matches this regular expression"),
            click.option(
                "--json-schema", type=TEXT_FILE, help="the answer is JSON that the schema in this file accepts"
            ),
            click.option("--choice", "choices", multiple=True, metavar="TEXT", help="a possible answer (give several)"),
            click.option("--grammar", type=TEXT_FILE, help="the answer follows the grammar in this file (Lark syntax)"),
        )
    ):
        function = option(function)
    return function


def read_constraint(
    *, regex: str | None, json_schema: Path | None, choices: tuple[str, ...], grammar: Path | None
) -> ConstraintSettings:
    """The constraint that the options ask for; this reads their files."""
    from pellucid.engine.constraints.settings import ConstraintSettings

    return ConstraintSettings(regex=regex, json_schema=_read(json_schema), choices=choices, grammar=_read(grammar))


def _read(path: Path | None) -> str | None:
    from pellucid.errors import InputError

    try:
        return None if path is None else path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError("the file cannot be read", found=str(error), where=str(path)) from error
