"""Print how each token was chosen (`--explain`), and the log-probabilities of the prompt."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.table import Table

from pellucid.cli.language import words
from pellucid.cli.screen import cell
from pellucid.counts import counted

if TYPE_CHECKING:  # it loads torch, which help does without
    from rich.console import Console

    from pellucid.engine.account import Account, PromptToken, ReadCost


def plain(value: Any) -> str:
    """A value as a person would type it."""
    return "none" if value is None or value == () else json.dumps(value, ensure_ascii=False)


def print_account(console: Console, account: Account) -> None:
    """Print one token's account: shapes from ids to logits, each sampler stage, candidates, the draw, the choice."""
    console.rule(words(f"token {account.position}"), align="left")
    console.print(cell(" → ".join(f"{name} {'×'.join(map(str, shape))}" for name, shape in account.shapes)))
    if account.reading.num_encoded:
        console.print(
            words(f"the encoder read {counted(account.reading.num_encoded, 'source position')}, once for all tokens")
        )
    console.print(cell(_describe_reading(account.reading, account.choose_seconds)))
    console.print(_stage_table(account))
    console.print(_candidate_table(account))
    start, end = account.segment
    drawn = "the likeliest, no draw" if account.u is None else f"u = {account.u:.6f} ∈ [{start:.6f}, {end:.6f})"
    token, of_model, as_drawn = plain(account.text), f"{account.logprob:.3f}", f"{account.processed_logprob:.3f}"
    told = words(f"{drawn} → {account.id} {token}; log-probability {of_model} from the model, {as_drawn} as drawn")
    console.print(cell(told))


def print_prompt(console: Console, tokens: Sequence[PromptToken]) -> None:
    """Print the log-probability of each token of the prompt, and their sum."""
    headings = ("id", words("token"), words("log-probability"), words("rank"))
    table = Table(*headings, box=None, title=words("prompt"), title_justify="left")
    for token in tokens:
        known = token.logprob is not None
        shown = (f"{token.logprob:.3f}", f"{token.rank:,}") if known else ("-", "-")
        table.add_row(str(token.id), cell(plain(token.text)), *shown)
    console.print(table)
    scored = [token.logprob for token in tokens if token.logprob is not None]
    if scored:
        bits = -sum(scored) / len(scored) / math.log(2)
        console.print(words(f"{sum(scored):.3f} nats over {counted(len(scored), 'token')}, {bits:.3f} bits per token"))


def _describe_reading(reading: ReadCost, choose_seconds: float) -> str:
    exact = words("exact" if reading.exact else "not exact")
    positions = words(counted(reading.num_computed, "position"))
    return words(
        f"{positions} read in {reading.seconds * 1e3:.2f} ms, {reading.num_reused} found in the cache; "
        f"chosen in {choose_seconds * 1e3:.2f} ms ({reading.runner}; {exact})"
    )


def _stage_table(account: Account) -> Table:
    headings = (
        words("stage"),
        words("tokens kept"),
        words("removed"),
        words("probability kept"),
        words("entropy, bits"),
    )
    table = Table(*headings, box=None)
    before = account.stages[0].num_kept
    for stage in account.stages:
        removed = f"{before - stage.num_kept:,}" if before > stage.num_kept else "-"
        table.add_row(
            cell(stage.name), f"{stage.num_kept:,}", removed, f"{stage.mass_kept:.4f}", f"{stage.entropy_bits:.3f}"
        )
        before = stage.num_kept
    return table


def _candidate_table(account: Account) -> Table:
    table = Table("id", words("token"), box=None)
    for stage in account.stages:
        table.add_column(cell(stage.name))
    for candidate in account.candidates:
        shown = (f"{p:.4f}" if p else "-" for p in candidate.probabilities)
        style = "bold" if candidate.id == account.id else None
        table.add_row(str(candidate.id), cell(plain(candidate.text)), *shown, style=style)
    return table
