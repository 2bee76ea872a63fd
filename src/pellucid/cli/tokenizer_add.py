"""`pellucid tokenizer add`: more special tokens for a tokenizer, or for a model with its tokenizer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from pellucid.cli.common import PLACE, Terminal, json_option, print_json
from pellucid.cli.language import tell
from pellucid.cli.screen import say
from pellucid.cli.tokenizer_file import (
    MODEL_MARKS,
    check_free,
    locate_tokenizer,
    open_tokenizer,
    where_argument,
    write_tokenizer,
)
from pellucid.counts import counted
from pellucid.errors import InputError
from pellucid.tokens.extend import GIVEN
from pellucid.tokens.formats.find import is_gguf
from pellucid.tokens.roles import ROLES, Role


@click.command()
@where_argument
@click.argument("names", nargs=-1, required=True, metavar="TOKENS…")
@click.option("--out", type=PLACE, required=True, help="the directory to write into")
@click.option("--role", "given", multiple=True, metavar="ROLE=TOKEN", help="a role that a new token takes over")
@json_option
def add(where: Path, names: tuple[str, ...], out: Path, given: tuple[str, ...], as_json: bool) -> None:
    """Add special tokens to a tokenizer, or to a model with its tokenizer.

    Every old id stays. A new token takes a spare id, or the next after the last. In a model its row starts as the mean
    of the rows in use, in the embedding and in the output head; the model grows only where it has no row to spare.
    """
    roles = read_given(given)
    where = _fetched(where)
    if is_model(where):
        from pellucid.store.grow import add_tokens
        from pellucid.store.open import open_checkpoint

        checkpoint = open_checkpoint(where, recorder=Terminal())
        tokenizer = add_tokens(checkpoint, out, names, roles=roles, recorder=Terminal()).tokenizer
        assert tokenizer is not None, "add_tokens refuses a model without one"
    else:
        check_free(out)
        tokenizer = open_tokenizer(where, recorder=Terminal()).with_tokens(names, roles=roles)
        write_tokenizer(tokenizer, out)
    ids = {name: tokenizer.specials[name] for name in names}
    if as_json:
        print_json({"out": str(out), "vocab_size": tokenizer.vocab_size, "ids": ids})
        return
    for name, token_id in ids.items():
        say(f"{token_id:>8}  {name}")
    tell(f"{counted(len(ids), 'new token')}, {tokenizer.vocab_size:,} in all: {out}")


def _fetched(where: Path) -> Path:
    """The directory of a model that is given by its name (hf:OWNER/NAME), which is fetched if it is not here."""
    from pellucid.store.hub.name import is_hub_name
    from pellucid.store.run import resolve_checkpoint

    return resolve_checkpoint(where, recorder=Terminal()) if is_hub_name(where) else where


def is_model(where: Path) -> bool:
    """Whether weights belong to the tokenizer at a path: a run, a checkpoint, or a GGUF file with tensors."""
    if any((where / name).is_file() for name in MODEL_MARKS):
        return True
    file = locate_tokenizer(where)
    if not is_gguf(file):
        return False
    from pellucid.store.gguf_header import read_header

    return bool(read_header(file).tensors)


def read_given(given: Sequence[str]) -> dict[str, Role]:
    """Token -> the role that it takes over, from all --role. Raises InputError for a token that is given two, or one twice."""
    roles: dict[str, Role] = {}
    for name, role in map(read_role, given):
        if roles.get(name) == role:
            raise InputError("a role is given twice", found=f"{role}={name}", hint="give each of them once")
        if roles.setdefault(name, role) != role:
            found = f"{name}: {roles[name]}, {role}"
            raise InputError("a token is given two roles", found=found, hint="give each new token one role")
    return roles


def read_role(word: str) -> tuple[str, Role]:
    """A token and its role, from ROLE=TOKEN."""
    role, equals, name = word.partition("=")
    if not equals:
        raise InputError("a role is given as ROLE=TOKEN", found=repr(word), hint="roles: " + ", ".join(GIVEN))
    if role not in ROLES:
        hint = f"give ROLE=TOKEN with one of these roles: {', '.join(GIVEN)}"
        raise InputError("there is no such role", found=repr(role), hint=hint)
    return name, role
