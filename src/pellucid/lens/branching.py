"""The questions that a page asks about its branches: to see them, and to let them grow (`branches`).

Every answer carries the tree's version, so that a second page on the same tree knows when to ask for it again.
"""

from __future__ import annotations

from typing import Any

from pellucid.engine.beam import BeamSettings
from pellucid.engine.generate import settle_seed
from pellucid.errors import CorruptFileError, RequestError
from pellucid.lens.answer import Answer
from pellucid.lens.branches import Branches, describe_node, describe_tree, read_sampling
from pellucid.lens.interventions import afford
from pellucid.lens.state import LensState
from pellucid.lens.token_display import chips_of
from pellucid.lens.tree import Node, dump

MOST_STEPS = 256  # asked for at once


def _grown(branches: Branches, nodes: list[Node], **more: Any) -> Answer:
    tree = branches.tree
    told = [describe_node(branches, node) for node in nodes]
    return Answer({"nodes": told, "current": tree.current, "version": tree.version, **more})


def tree_of(lens: LensState) -> Answer:
    """The whole tree."""
    return Answer(describe_tree(lens.branches))


def prompt(lens: LensState, *, text: str) -> Answer:
    """A new root from a text; the tree with it."""
    lens.branches.plant(text)
    return Answer(describe_tree(lens.branches))


def path_of(lens: LensState, *, node: int) -> Answer:
    """The text from the prompt to a node as chips and groups, and for each token the node that it belongs to."""
    path = lens.tree.path(node)
    owners = [step.id for step in path for _ in step.ids]
    return Answer(
        {**chips_of(lens.tokenizer, lens.tree.text_ids(node)), "nodes": owners, "num_prompt": len(path[0].ids)}
    )


def step(lens: LensState, *, node: int, sampling: dict[str, Any], count: int = 1) -> Answer:
    """Up to `count` tokens after a node, the account of each, and why the text is over (None: it is not)."""
    if not 1 <= count <= MOST_STEPS:
        raise RequestError("so many steps are not taken at once", found=str(count), hint=f"1 to {MOST_STEPS}")
    afford(lens.model(), count)
    settings = settle_seed(read_sampling(sampling))
    nodes, accounts = lens.branches.step(node, settings, count)
    stop = nodes[-1].stop if nodes else lens.branches.replay(node, settings)[1]
    told = [account.to_dict() for account in accounts]
    return _grown(lens.branches, nodes, account=told, stop=stop, seed=settings.seed)


def choose(lens: LensState, *, node: int, id: int) -> Answer:
    """One token taken by hand after a node: a fork when the node goes on otherwise already."""
    return _grown(lens.branches, [lens.branches.choose(node, id)])


def beam(lens: LensState, *, node: int, beams: int = 4, length: int = 8) -> Answer:
    """The texts that a beam search finds, as branches; `ends` are their last nodes, the likeliest first."""
    settings = BeamSettings(num_beams=beams, num_best=beams, max_new_tokens=length, length_penalty=0.0)
    afford(lens.model(), beams * length)
    known = len(lens.tree.nodes)
    ends = lens.branches.search(node, settings)
    return _grown(lens.branches, lens.tree.nodes[known:], ends=[end.id for end in ends])


def undo(lens: LensState, *, node: int | None = None) -> Answer:
    """One token back from a node (None: the current one, which another page may have changed); nothing is deleted."""
    return _grown(lens.branches, [lens.tree.undo(node)])


def go(lens: LensState, *, node: int) -> Answer:
    """Look at another node."""
    return _grown(lens.branches, [lens.tree.go(node)])


def save(lens: LensState) -> Answer:
    """The tree as the text of a JSON file. Whoever asked writes it: no question of a page writes to the disk."""
    return Answer({"content": dump(lens.tree, lens.branches.origin())})


def load(lens: LensState, *, content: str) -> Answer:
    """A tree that was saved, in the place of this one."""
    try:
        lens.branches.load(content)
    except CorruptFileError as error:  # what was sent is wrong, and no file of this machine
        raise RequestError(error.what, found=error.found, where=error.where, hint=error.hint) from error
    return Answer(describe_tree(lens.branches))


METHODS = {
    "tree": tree_of,
    "prompt": prompt,
    "path": path_of,
    "step": step,
    "choose": choose,
    "beam": beam,
    "undo": undo,
    "go": go,
    "branches.save": save,
    "branches.load": load,
}
