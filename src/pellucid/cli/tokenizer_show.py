"""`pellucid tokenizer show`: the vocabulary of a tokenizer as readable text, and what it holds in figures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, get_args

import click

from pellucid.cli.common import Terminal, json_option, print_json
from pellucid.cli.language import tell, words
from pellucid.cli.screen import quote
from pellucid.cli.tables import Side, print_table
from pellucid.cli.tokenizer_file import open_tokenizer, where_argument
from pellucid.counts import counted
from pellucid.errors import RequestError
from pellucid.tokens.browse import (
    TokenKind,
    VocabularyEntry,
    check_sort,
    find,
    list_tokens,
    order,
    seeks_spelling,
    sift,
    sought_id,
)
from pellucid.tokens.read_roles import describe_ends
from pellucid.tokens.roles import NUMBERED, ROLES
from pellucid.tokens.scripts import common_han, plain_name
from pellucid.tokens.summary import VocabularySummary, summarize
from pellucid.tokens.tokenizer import Tokenizer

MOST_SHOWN_CHARACTERS, MOST_SHOWN_BYTES = 40, 16  # of one token in a table; JSON has all
MOST_SCRIPTS = 10
KINDS = {
    "text": "text",
    "byte": "part of a character",
    "special": "special",
    "unused": "unused",
}
ROLE_COLUMNS: dict[str, Side] = {"role": "left", "id": "right", "token": "left", "said by": "left"}
COLUMNS: dict[str, Side] = {"id": "right", "token": "left", "script": "left", "bytes": "left", "role": "left"}


@click.command()
@where_argument
@click.option(
    "--search",
    default="",
    metavar="TEXT",
    help="a text in the token or, with ##, ▁ or Ġ, in the file; #262, 0xE4BD, /regular expression/",
)
@click.option("--script", metavar="NAME", help="tokens of one script: LATIN, HAN, NUMBER, …")
@click.option(
    "--role",
    type=click.Choice([*get_args(TokenKind), *ROLES]),
    metavar="ROLE",
    help="text, byte (part of a character), special, unused; or a job, such as eos, pad or spare",
)
@click.option("--min-length", type=click.IntRange(min=0), help="tokens of at least so many bytes")
@click.option("--max-length", type=click.IntRange(min=0), help="tokens of at most so many bytes")
@click.option(
    "--sort", default="id", show_default=True, metavar="ORDER", help="id, rank, score or length; -length: longest first"
)
@click.option("--count", type=click.IntRange(min=0), default=20, show_default=True, help="how many tokens to print")
@json_option
def show(
    where: Path,
    search: str,
    script: str | None,
    role: str | None,
    min_length: int | None,
    max_length: int | None,
    sort: str,
    count: int,
    as_json: bool,
) -> None:
    """Show the tokens of a vocabulary as text.

    Bytes that are only a part of a character are written in hexadecimal. Where nothing is searched for, a summary comes
    first: what the vocabulary may lose, its scripts, its Chinese tokens by length, its longest tokens, and the roles of
    its special tokens. A role is a job, such as to end a text; each row says which file gives it.
    """
    tokenizer = open_tokenizer(where, recorder=Terminal())
    entries = list_tokens(tokenizer)
    summary = summarize(tokenizer, entries)
    kind = None if role in ROLES else role
    wanted = {"script": script and script.upper(), "kind": kind, "min_length": min_length, "max_length": max_length}
    if script:
        check_script(script.upper(), entries)
    check_sort(entries, sort)
    check_lengths(min_length, max_length)
    if (wanted_id := sought_id(search)) is not None:
        tokenizer.token_bytes(wanted_id)  # raises for one outside of the vocabulary
    conditions = {name: value for name, value in wanted.items() if value is not None}
    found = order(find(sift(entries, conditions), search), sort)
    if role in ROLES:
        found = [entry for entry in found if entry.id in tokenizer.roles.get(role, ())]
    if as_json:
        rows = [entry_document(entry, spelled=seeks_spelling(search)) for entry in found[:count]]
        roles = role_document(tokenizer)
        print_json({"summary": summary_document(summary), "roles": roles, "found": len(found), "tokens": rows})
        return
    if not search and not conditions and role is None:
        print_summary(summary)
        print_roles(tokenizer)
    print_tokens(found[:count], spelled=seeks_spelling(search))
    if count < len(found):
        tell(f"{count:,} of {len(found):,} tokens that fit; --count shows more")
    else:
        tell(f"{len(found):,} of {len(found):,} tokens that fit")


def check_script(script: str, entries: Sequence[VocabularyEntry]) -> None:
    """Raise RequestError for a script that no token has, naming those that are there."""
    there = sorted({entry.script for entry in entries if entry.kind == "text"})
    if script not in there:
        raise RequestError("no token has this script", found=script, hint=f"known: {', '.join(there)}")


def check_lengths(least: int | None, most: int | None) -> None:
    """Raise RequestError for two lengths between which nothing can lie."""
    if least is not None and most is not None and least > most:
        found, hint = f"--min-length {least} --max-length {most}", "give the smaller number to --min-length"
        raise RequestError("no token is longer than the one and shorter than the other", found=found, hint=hint)


def print_summary(summary: VocabularySummary) -> None:
    """Print what a vocabulary holds."""
    tell(f"{summary.kind}, {summary.size:,} tokens")
    if summary.losses:
        for loss in summary.losses:
            tell(f"not exact: {loss}")
    else:
        tell("exact: every text comes back as it was")
    tell()
    rows = [(words(KINDS[kind]), f"{count:,}") for kind, count in summary.by_kind]
    print_table({"tokens that are": "left", "number": "right"}, rows)
    shown, others = summary.by_script[:MOST_SCRIPTS], summary.by_script[MOST_SCRIPTS:]
    rows = [(words(plain_name(script)), f"{count:,}") for script, count in shown]
    if others:
        rows.append((words(counted(len(others), "other script")), f"{sum(count for _, count in others):,}"))
    print_table({"script": "left", "number": "right"}, rows)
    if any(summary.han_by_length):
        columns: dict[str, Side] = {"Chinese characters in a token": "left"}
        columns |= dict.fromkeys(("1", "2", "3", "4", "5 and more"), "right")
        print_table(columns, [(words("number"), *(f"{count:,}" for count in summary.han_by_length))])
    tell(
        f"{summary.num_common_han:,} of the {len(common_han()):,} most common Chinese characters (GB 2312, level 1) are one token"
    )
    tell()
    longest = dict.fromkeys((*summary.longest, *summary.longest_han))  # the longest of all may be Chinese ones
    rows = [(shorten(entry.text), f"{len(entry.text):,}") for entry in longest]
    print_table({"longest tokens": "left", "characters": "right"}, rows)


def print_roles(tokenizer: Tokenizer) -> None:
    """Print which tokens have which roles and who says so, then all that ends a text, in one line."""
    if tokenizer.roles:
        print_table(ROLE_COLUMNS, list(role_rows(tokenizer)))
    tell(describe_ends(tokenizer.roles, tokenizer.vocabulary))
    tell()


def role_rows(tokenizer: Tokenizer) -> Iterator[tuple[str, ...]]:
    """Roles as rows under ROLE_COLUMNS, one for each id; of those that go by number the first and the last."""
    for role, ids in tokenizer.roles.items():
        numbered = role in NUMBERED and len(ids) > 1
        for token_id in ids[:1] if numbered else ids:
            said = ", ".join(words(where) for where in tokenizer.roles.said_by(role, token_id))
            yield (
                words(role),
                f"{ids[0]} … {ids[-1]}" if numbered else str(token_id),
                tokenizer.token_text(token_id),
                said,
            )


def role_document(tokenizer: Tokenizer) -> dict[str, Any]:
    """Roles as JSON: the ids of each, what each file says, and what ends a text."""
    roles = tokenizer.roles
    claims = [{"role": claim.role, "ids": claim.ids, "where": claim.where} for claim in roles.claims]
    return {"ids": dict(roles), "claims": claims, "ends": roles.ends}


def print_tokens(entries: Sequence[VocabularyEntry], *, spelled: bool = False) -> None:
    """Print tokens as rows; a column for ranks or scores where there are any, and for the file's spelling if wanted."""
    columns, rows = dict(COLUMNS), [list(token_row(entry)) for entry in entries]
    if spelled:
        columns["in the file"] = "left"
        for row, entry in zip(rows, entries, strict=True):
            row.append(shorten(entry.spelled))
    for name, written in (("rank", "{:,}"), ("score", "{:.3f}")):
        values = [getattr(entry, name) for entry in entries]
        if any(value is not None for value in values):
            columns[name] = "right"
            for row, value in zip(rows, values, strict=True):
                row.append("" if value is None else written.format(value))
    if rows:
        print_table(columns, rows)


def token_row(entry: VocabularyEntry) -> tuple[str, ...]:
    """A token as a row under COLUMNS; one that stands for lost text has no bytes of its own."""
    data = (
        ""
        if entry.kind == "special"
        else entry.data[:MOST_SHOWN_BYTES].hex(" ") + (" …" if len(entry.data) > MOST_SHOWN_BYTES else "")
    )
    script = entry.script if entry.kind == "text" else ""
    return str(entry.id), shorten(entry.text), script, data, words(KINDS[entry.kind])


def shorten(text: str) -> str:
    """A token between quotation marks, cut where it is too long for a row."""
    return quote(text) if len(text) <= MOST_SHOWN_CHARACTERS else quote(text[:MOST_SHOWN_CHARACTERS]) + " …"


def entry_document(entry: VocabularyEntry, *, spelled: bool = False) -> dict[str, Any]:
    """A token as JSON; bytes in hexadecimal, and the file's spelling if wanted."""
    names = ("id", "text", "script", "rank", "score", "length", *(("spelled",) if spelled else ()))
    shown = {name: getattr(entry, name) for name in names}
    return shown | {"bytes": entry.data.hex(" "), "role": entry.kind}


def summary_document(summary: VocabularySummary) -> dict[str, Any]:
    """A summary as JSON."""
    return {
        "kind": summary.kind,
        "size": summary.size,
        "exact": not summary.losses,
        "losses": summary.losses,
        "roles": dict(summary.by_kind),
        "scripts": dict(summary.by_script),
        "han_by_length": summary.han_by_length,
        "common_han": summary.num_common_han,
        "longest": [entry_document(entry) for entry in summary.longest],
        "longest_han": [entry_document(entry) for entry in summary.longest_han],
    }
