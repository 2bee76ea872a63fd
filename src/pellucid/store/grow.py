"""Rows for new tokens: a model grows with its tokenizer, and its old rows stay as they are.

A row that nobody has trained yet starts as the mean of the rows in use, in the embedding and in the output head alike.
A new token then scores like an average token, so that the probabilities of all others hardly change; a random row may
score above all others, because its length and direction have nothing to do with what the model learned. Rows that the
embedding has beyond the vocabulary are used first, and only then does the model become larger.

Source: Hewitt 2021, "Initializing New Word Embeddings for Pretrained Language Models"; transformers starts new rows
from the same mean, with a little noise, since version 4.46.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import torch
from torch import Tensor

from pellucid.counts import counted
from pellucid.errors import StoreError, TokenizerError
from pellucid.events import NULL, Event, Recorder
from pellucid.planning.config import ModelConfig
from pellucid.planning.layout import tensor_plans
from pellucid.store.checkpoint import Checkpoint, lineage_after, save_checkpoint
from pellucid.tokens.roles import Role
from pellucid.tokens.tokenizer import Tokenizer
from pellucid.untrusted import Json


def add_tokens(
    checkpoint: Checkpoint,
    destination: Path,
    names: Sequence[str],
    *,
    roles: Mapping[str, Role] = MappingProxyType({}),
    recorder: Recorder = NULL,
) -> Checkpoint:
    """Write a model with more special tokens to a new directory: `Tokenizer.with_tokens`, and a row for each.

    Raises StoreError when something is at the destination already, and what `with_tokens` and `grow` raise.
    """
    if destination.exists():
        raise StoreError("something is here already", where=str(destination), hint="choose another destination")
    if checkpoint.tokenizer is None:
        raise TokenizerError("this model has no tokenizer to add tokens to", where=str(checkpoint.directory))
    grown = grow(checkpoint, checkpoint.tokenizer.with_tokens(names, roles=roles), recorder=recorder)
    info: dict[str, Json] = {**checkpoint.info, "lineage": lineage_after(checkpoint), "tokens_added": [*names]}
    save_checkpoint(
        destination, config=grown.config, weights=grown.weights, tokenizer=grown.tokenizer, info=info, recorder=recorder
    )  # fmt: skip
    return grown


def grow(checkpoint: Checkpoint, tokenizer: Tokenizer, *, recorder: Recorder = NULL) -> Checkpoint:
    """The same model with a row for each token of `tokenizer`, which `Tokenizer.with_tokens` made of its own.

    Event: `store.rows_started`, which rows are new and how they start. Raises TokenizerError for a tokenizer in which
    an old id has another meaning.
    """
    old = checkpoint.tokenizer
    if old is None:
        raise TokenizerError("this model has no tokenizer to add tokens to", where=str(checkpoint.directory))
    new_ids = _new_ids(old, tokenizer)
    num_rows = max(checkpoint.config.vocab_size, tokenizer.vocab_size)
    in_use = _ids_in_use(old)
    tables = [plan.name for plan in tensor_plans(checkpoint.config) if plan.axes[0] == "vocab_size"]
    grown = {name: _grown(checkpoint.weights[name], num_rows, new_ids, in_use) for name in tables} if new_ids else {}
    if new_ids:
        more = num_rows - checkpoint.config.vocab_size
        shape = f"the model grows by {counted(more, 'row')} to {num_rows:,}" if more else "the model keeps its shape"
        ids, names = ", ".join(map(str, new_ids)), " and ".join(tables)
        message = (
            f"{counted(len(new_ids), 'new token')} ({ids}): in {names} each row starts as the mean of the {len(in_use):,} rows "
            f"in use; {shape}"
        )
        data = {"ids": new_ids, "tables": tables, "rows": num_rows, "rows_before": checkpoint.config.vocab_size}
        recorder.record(Event(name="store.rows_started", message=message, data=data))
    config: ModelConfig = dataclasses.replace(checkpoint.config, vocab_size=num_rows)
    weights: Mapping[str, Tensor] = {**{name: checkpoint.weights[name] for name in checkpoint.weights}, **grown}
    return dataclasses.replace(checkpoint, config=config, weights=weights, tokenizer=tokenizer)


def _new_ids(old: Tokenizer, new: Tokenizer) -> list[int]:
    """The ids that are new, or had no meaning yet. Raises TokenizerError where an old one means something else."""
    spares = set(old.roles.get("spare", ()))
    names_before, names_now = (
        {token_id: name for known in (one.vocabulary.ids, one.vocabulary.added) for name, token_id in known.items()}
        for one in (old, new)
    )
    changed = [token_id for token_id in sorted(names_now) if names_before.get(token_id) != names_now[token_id]]
    if lost := [i for i in {*names_before} - spares if names_now.get(i) != names_before[i]]:
        found = f"{min(lost)} was {names_before[min(lost)]!r}, and is {names_now.get(min(lost))!r}"
        raise TokenizerError("the new tokenizer gives an old id another meaning", found=found)
    return changed


def _ids_in_use(tokenizer: Tokenizer) -> list[int]:
    spares = set(tokenizer.roles.get("spare", ()))
    return sorted({*tokenizer.vocabulary.ids.values(), *tokenizer.vocabulary.added.values()} - spares)


def _grown(table_VD: Tensor, num_rows: int, new_ids: list[int], in_use: list[int]) -> Tensor:
    """A table with `num_rows` rows, of which the new ones are the mean of those in use."""
    mean_D = table_VD[torch.tensor(in_use)].double().mean(dim=0).to(table_VD.dtype)
    grown_VD = mean_D.repeat(num_rows, 1)
    grown_VD[: len(table_VD)] = table_VD
    grown_VD[torch.tensor(new_ids)] = mean_D
    return grown_VD
