"""Grow the tree of branches: by sampling a token, by choosing one by hand, or by beam search.

    step     the engine's runner and sampler make the next token. With the same seed it is the token that
             `pellucid generate` draws, because a draw depends only on (seed, position)
    choose   a person chooses a token, at the end or at any earlier position: that makes a fork
    beam     the likeliest continuations that a beam search finds, each a branch

The page's questions about the tree are in `branching`.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any

import numpy as np

from pellucid.counts import counted
from pellucid.engine.account import Account, build_account
from pellucid.engine.beam import BeamSettings, search
from pellucid.engine.generate import settle_seed
from pellucid.engine.request import check_ids, check_known, check_stop_ids
from pellucid.engine.runners.runner import Runner
from pellucid.engine.sampling.sampler import Sampler, build_sampler, log_probability
from pellucid.engine.sampling.settings import SamplingSettings
from pellucid.engine.stop import FinishReason, StopCondition
from pellucid.errors import ContextError, CorruptFileError, RequestError
from pellucid.lens.given import PromptReader
from pellucid.lens.logits_cache import LogitRows, LogitsCache
from pellucid.lens.token_display import chips_of
from pellucid.lens.tree import Node, Tree, parse
from pellucid.settings import Layer, resolve
from pellucid.tokens.prompt import Prompt

NUM_SAMPLERS = 16  # kept because a sampler with mirostat remembers how surprising its choices were


def read_sampling(fields: Mapping[str, Any]) -> SamplingSettings:
    """Sampling settings from the fields set on a page. Raises SettingsError or SamplingError, naming the field."""
    return resolve(SamplingSettings, Layer("page", fields)).settings


class Branches:
    """A tree of tokens and the model that extends it.

    `step` and `choose` return the new nodes; the tree's current node is the last of them.
    """

    def __init__(self, runner: Runner, reads: PromptReader, rows: LogitRows | None = None) -> None:
        """`reads` makes ids of prompts; `rows` computes the logits after some ids: by default the runner does."""
        self.runner, self.reads, self.tokenizer = runner, reads, reads.tokenizer
        self.tree, self.rows = Tree(), rows or LogitsCache(runner)
        self.name = secrets.token_hex(8)  # which tree this is: what a browser keeps of another is not about this one
        self.start: int | None = None  # the text that the lens was opened with: where a new page begins
        self.samplers: dict[SamplingSettings, Sampler] = {}

    def plant(self, prompt: Prompt) -> Node:
        """Add a prompt, text or ids, as a new root. Raises ContextError when the context cannot hold it.

        A bidirectional model takes a prompt too: it can be looked at, but not continued. A model with an encoder reads
        the prompt as its source, and begins to write.
        """
        ids = self.reads.give(prompt)
        check_known(self.runner.config, ids)
        context_length = self.runner.config.context_length
        length = len(ids) - self._writes
        if length > context_length:
            raise ContextError(
                "the prompt is longer than the context of this model",
                found=counted(length, "token"),
                where=f"context_length={context_length}",
                hint=f"shorten it to {context_length} tokens or fewer",
            )
        return self.tree.plant(ids, prompt if isinstance(prompt, str) else None)

    def source(self, node: int) -> tuple[int, ...]:
        """The ids that an encoder reads: those of the prompt; none without an encoder."""
        return self.tree.path(node)[0].ids[:-1] if self._writes else ()

    def ids(self, node: int) -> tuple[int, ...]:
        """The row of a node: all ids from the first of the prompt, or of what the decoder writes."""
        return self.tree.text_ids(node)[len(self.source(node)) :]

    @property
    def _writes(self) -> int:
        """The ids of a prompt that the decoder reads where there is an encoder: the one that it begins with."""
        return int(self.runner.config.encoder is not None)

    def row(self, node: int, position: int | None = None, *, rows: LogitRows | None = None) -> np.ndarray:
        """The logits after a node's text, [V], or after the id at an earlier `position`; `rows` computes them."""
        ids, before = self.ids(node), len(self.source(node))
        place = len(ids) - 1 if position is None else position
        if not 0 <= place < len(ids):
            raise RequestError(
                "no token stands at this position",
                found=str(position),
                where=counted(len(ids), "token"),
                hint="count the positions from 0",
            )
        check_ids(self.runner.config, ids)
        read = self.tree.text_ids(node)[: before + place + 1]
        return (rows or self.rows).after(read, self.tree.num_prompt(node))[0]

    def sampler(self, settings: SamplingSettings) -> Sampler:
        """The sampler for these settings, which must have a seed."""
        if settings not in self.samplers:
            check_stop_ids(self.runner.config, settings.stop_ids)
            made = build_sampler(self.runner.config, self.tokenizer, settings)
            self.samplers = dict([*self.samplers.items(), (settings, made)][-NUM_SAMPLERS:])
        return self.samplers[settings]

    def step(self, node: int, settings: SamplingSettings, count: int = 1) -> tuple[list[Node], list[Account]]:
        """Sample up to `count` tokens after a node, one after the other; fewer when the text ends."""
        settings = settle_seed(settings)
        nodes: list[Node] = []
        accounts: list[Account] = []
        ending, reason = self.replay(node, settings)
        while reason is None and len(nodes) < count:
            account = self._draw(node, settings)
            reason = ending.push(account.id)[1]
            nodes.append(
                self.tree.add(
                    node,
                    account.id,
                    made_by="drawn",
                    logprob=account.logprob,
                    u=account.u,
                    seed=settings.seed,
                    reused=account.reading.num_reused,
                    computed=account.reading.num_computed,
                    stop=reason,
                )
            )
            accounts.append(account)
            node = nodes[-1].id
        return nodes, accounts

    def choose(self, node: int, token_id: int) -> Node:
        """Add a token chosen by hand. Raises RequestError for an unknown id, ContextError when the context is full."""
        if not 0 <= token_id < self.tokenizer.vocab_size:
            found, where = str(token_id), f"ids from 0 to {self.tokenizer.vocab_size - 1}"
            raise RequestError("no token has this id", found=found, where=where, hint="give an id below vocab_size")
        ending, reason = self.replay(node, SamplingSettings())
        if reason == "context":
            raise ContextError("the context is full", found=counted(len(self.ids(node)), "token"), hint="go back")
        row_V, reading = self.rows.after(self.tree.text_ids(node), self.tree.num_prompt(node))
        return self.tree.add(
            node,
            token_id,
            made_by="chosen",
            logprob=log_probability(row_V, token_id),
            u=None,
            seed=None,
            reused=reading.num_reused,
            computed=reading.num_computed,
            stop=ending.push(token_id)[1],
        )

    def search(self, node: int, settings: BeamSettings) -> list[Node]:
        """Beam search from a node: the last nodes of the texts that it finds, the best first."""
        ends = []
        for found in search(
            self.runner, self.tokenizer, self.ids(node), settings, source_ids=self.source(node) or None
        ):
            steps, last = found.completion, self.tree.node(node)
            for token_id, logprob in zip(steps.ids, steps.logprobs, strict=True):
                known = self.tree.child(last.id, token_id)
                last = known or self.tree.add(last.id, token_id, made_by="beam", logprob=logprob)
            ends.append(last)
        self.tree.go(ends[0].id)
        return ends

    def replay(self, node: int, settings: SamplingSettings) -> tuple[StopCondition, FinishReason | None]:
        """The stop conditions after they have seen the text up to this node, and the reason if it is already over."""
        root, *steps = self.tree.path(node)
        check_ids(self.runner.config, root.ids)
        room = self.runner.config.context_length - (self._writes or len(root.ids))
        ending = StopCondition(
            self.tokenizer,
            settings.stop,
            max_new_tokens=settings.max_new_tokens,
            room=room,
            stop_ids=settings.stop_ids,
        )
        reason: FinishReason | None = None if room else "context"
        for step in steps:
            reason = ending.push(step.ids[0])[1]
        return ending, reason

    def origin(self) -> dict[str, str]:
        """The tokenizer and the runner that a saved tree belongs to: ids mean nothing without their tokenizer."""
        return {"tokenizer_sha256": self.tokenizer.sha256, "runner": self.runner.name}

    def load(self, text: str, *, where: str = "") -> None:
        """Replace this tree by a saved one. Raises CorruptFileError when that was made with another tokenizer."""
        tree, told = parse(text, where=where)
        if told.get("tokenizer_sha256") != self.tokenizer.sha256:
            found = f"tokenizer {str(told.get('tokenizer_sha256'))[:12]}"
            raise CorruptFileError("these branches belong to another model", found=found, where=where)
        for node in tree.nodes:
            check_known(self.runner.config, node.ids)
            if node.text is not None and self.reads.give(node.text) != node.ids:
                raise CorruptFileError(
                    "the ids of a prompt are not those of its text", found=f"node {node.id}", where=where
                )
        tree.version = self.tree.version + 1
        self.tree, self.name, self.start = tree, secrets.token_hex(8), None

    def _draw(self, node: int, settings: SamplingSettings) -> Account:
        ids, before, sampler = self.ids(node), len(self.source(node)), self.sampler(settings)
        num_prompt = self.tree.num_prompt(node)
        row_V, reading = self.rows.after(self.tree.text_ids(node), num_prompt)
        choice = sampler.choose(row_V, ids, num_prompt - before, keep_rows=True)
        return build_account(
            choice, sampler.stages, self.tokenizer, config=self.runner.config, position=len(ids), reading=reading
        )


def describe_node(branches: Branches, node: Node) -> dict[str, Any]:
    """A node as JSON: its fields, its token (a prompt's last), a prompt's text, the sum of log-probabilities."""
    chip = chips_of(branches.tokenizer, node.ids[-1:])["chips"][0]
    text = node.text
    if node.parent is None and text is None:
        text = branches.tokenizer.decode(branches.source(node.id) or node.ids)
    ids = node.ids[len(branches.source(node.id)) :] if node.parent is None else node.ids  # what the decoder reads
    return {**vars(node), "ids": list(ids), "token": chip, "text": text, "total": branches.tree.total(node.id)}


def describe_tree(branches: Branches) -> dict[str, Any]:
    """The whole tree as JSON: every node, the current one, the one that a new page shows first, name and version."""
    tree = branches.tree
    nodes = [describe_node(branches, node) for node in tree.nodes]
    told = {"nodes": nodes, "current": tree.current, "start": branches.start}
    return told | {"name": branches.name, "version": tree.version}
