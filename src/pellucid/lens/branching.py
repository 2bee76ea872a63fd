"""The page's questions about the tree of branches: show it, and grow it (`branches`).

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
from pellucid.lens.shows import NEXT
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
    """Add a text as a new root; returns the whole tree."""
    lens.branches.plant(text)
    return Answer(describe_tree(lens.branches))


def path_of(lens: LensState, *, node: int) -> Answer:
    """The text from the prompt to a node as display tokens and groups, and the node of each token."""
    path = lens.tree.path(node)
    ids, before = lens.ids(node), len(lens.source(node))
    owners = [step.id for step in path for _ in step.ids][before:]
    return Answer({**chips_of(lens.tokenizer, ids), "nodes": owners, "num_prompt": len(path[0].ids) - before})


def step(lens: LensState, *, node: int, sampling: dict[str, Any], count: int = 1) -> Answer:
    """Sample up to `count` tokens after a node: the account of each, and why the text is over (None: it is not)."""
    if not 1 <= count <= MOST_STEPS:
        raise RequestError("so many steps are not taken at once", found=str(count), hint=f"1 to {MOST_STEPS}")
    afford(lens.model(), count)
    settings = settle_seed(read_sampling(sampling))
    nodes, accounts = lens.branches.step(node, settings, count)
    stop = nodes[-1].stop if nodes else lens.branches.replay(node, settings)[1]
    told = [account.to_dict() for account in accounts]
    return _grown(lens.branches, nodes, account=told, stop=stop, seed=settings.seed)


def choose(lens: LensState, *, node: int, id: int) -> Answer:
    """Add one token chosen by hand after a node; if the node already has another continuation, this makes a fork."""
    return _grown(lens.branches, [lens.branches.choose(node, id)])


def beam(lens: LensState, *, node: int, beams: int = 4, length: int = 8) -> Answer:
    """Beam search after a node; each text becomes a branch, and `ends` are their last nodes, the likeliest first."""
    settings = BeamSettings(num_beams=beams, num_best=beams, max_new_tokens=length, length_penalty=0.0)
    afford(lens.model(), beams * length)
    known = len(lens.tree.nodes)
    ends = lens.branches.search(node, settings)
    return _grown(lens.branches, lens.tree.nodes[known:], ends=[end.id for end in ends])


def undo(lens: LensState, *, node: int | None = None) -> Answer:
    """Go one token back from a node (None: the current one, which another page may have changed); deletes nothing."""
    return _grown(lens.branches, [lens.tree.undo(node)])


def go(lens: LensState, *, node: int) -> Answer:
    """Make another node the current one."""
    return _grown(lens.branches, [lens.tree.go(node)])


def save(lens: LensState) -> Answer:
    """The tree as the text of a JSON file. The caller writes the file: no question of a page writes to the disk."""
    return Answer({"content": dump(lens.tree, lens.branches.origin())})


def load(lens: LensState, *, content: str) -> Answer:
    """Replace this tree by a saved one."""
    try:
        lens.branches.load(content)
    except CorruptFileError as error:  # the uploaded text is wrong, not a file of this machine
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
SHOWS = {**dict.fromkeys(METHODS, None), "step": NEXT, "choose": NEXT, "beam": NEXT}
