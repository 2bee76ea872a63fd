"""A tree of tokens (a trie): texts with the same beginning share nodes.

    root     a prompt: all its ids at once
    node     one token after all those above it; the path from the root to a node is a text
    fork     a node with two children: the same text, continued in two ways

A node records where its token came from: drawn (with which u and seed), chosen by hand, or found by a search. It also
records the token's log-probability and how many positions were read for it. Nodes are numbered as they are made and
keep their number, so several pages and files can refer to the same node. The tree holds several prompts: a new prompt
is a new root, and older texts are kept.

This file is only the data structure, without model or tensors. `branches` makes the tree grow.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from pellucid.counts import counted
from pellucid.engine.stop import FinishReason
from pellucid.errors import CorruptFileError, RequestError

FORMAT, VERSION = "pellucid-branches", 1

MadeBy = Literal["prompt", "drawn", "chosen", "beam"]


@dataclass(frozen=True, kw_only=True)
class Node:
    """One token (or a whole prompt) and where it came from."""

    id: int
    parent: int | None  # None: a prompt
    ids: tuple[int, ...]  # all of a prompt, else one
    made_by: MadeBy
    text: str | None = None  # what a prompt was encoded from: its ids may not say everything; None: it was given as ids
    logprob: float = 0.0  # nats, under the model's own distribution; 0 for a prompt, which is given
    u: float | None = None  # the draw; None when nothing was drawn
    seed: int | None = None  # what the draw came from
    reused: int = 0  # positions whose keys and values were in the cache when this token's distribution was computed
    computed: int = 0  # positions that had to be read for it
    stop: FinishReason | None = None  # why a text that ends here is over


class Tree:
    """Nodes by number, and the current node.

    >>> tree = Tree()
    >>> root = tree.plant([5, 6])
    >>> first = tree.add(root.id, 7, made_by="drawn", logprob=-0.5)
    >>> other = tree.add(root.id, 8, made_by="chosen", logprob=-1.5)
    >>> tree.text_ids(first.id), tree.text_ids(other.id), tree.current
    ((5, 6, 7), (5, 6, 8), 2)
    >>> tree.add(root.id, 7, made_by="chosen", logprob=-0.5).id == first.id
    True
    """

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self.current: int | None = None
        self.version = 0  # grows with every change: a page that holds another number is out of date
        self._children: dict[tuple[int, int], int] = {}  # (parent, token) -> node
        self._totals: list[float] = []  # nats, by node

    def plant(self, ids: Sequence[int], text: str | None = None) -> Node:
        """Add a root, or find the one that already holds this prompt; it becomes the current node."""
        for node in self.nodes:
            if node.parent is None and (node.ids, node.text) == (tuple(ids), text):
                return self.go(node.id)
        return self._append(Node(id=len(self.nodes), parent=None, ids=tuple(ids), made_by="prompt", text=text))

    def add(self, parent: int, token_id: int, **facts: Any) -> Node:
        """Add, or find, the child of a node for one token; it becomes the current node. `facts` are fields of `Node`.

        A token that is drawn or chosen a second time keeps its node and gets the newer facts.
        """
        self.node(parent)
        known = self.child(parent, token_id)
        if known is None:
            return self._append(Node(id=len(self.nodes), parent=parent, ids=(token_id,), **facts))
        self.nodes[known.id] = dataclasses.replace(known, **facts)
        return self.go(known.id)

    def child(self, parent: int, token_id: int) -> Node | None:
        """The child of a node for this token, if there is one."""
        known = self._children.get((parent, token_id))
        return None if known is None else self.nodes[known]

    def go(self, node: int) -> Node:
        """Make another node the current one."""
        found = self.node(node)
        if self.current != node:
            self.current, self.version = node, self.version + 1
        return found

    def undo(self, node: int | None = None) -> Node:
        """Go one token back from a node (None: the current one); nothing is deleted. Raises RequestError at a prompt."""
        start = self.here() if node is None else self.node(node)
        if start.parent is None:
            raise RequestError(
                "this is the prompt: there is no token to take back",
                found=f"node {start.id}",
                hint="choose a token behind the prompt",
            )
        return self.go(start.parent)

    def here(self) -> Node:
        """The current node. Raises RequestError while there is none."""
        if self.current is None:
            raise RequestError("there is no text yet", hint="type a prompt first")
        return self.nodes[self.current]

    def node(self, node: int) -> Node:
        """The node with this number. Raises RequestError for an unknown number."""
        if not isinstance(node, int) or not 0 <= node < len(self.nodes):
            raise RequestError(
                "the tree has no such node",
                found=str(node),
                where=counted(len(self.nodes), "node"),
                hint="`tree` lists them",
            )
        return self.nodes[node]

    def path(self, node: int) -> list[Node]:
        """The nodes from the root down to this one."""
        found = [self.node(node)]
        while found[-1].parent is not None:
            found.append(self.nodes[found[-1].parent])
        return found[::-1]

    def text_ids(self, node: int) -> tuple[int, ...]:
        """All ids from the first of the prompt to this node's."""
        return tuple(token_id for step in self.path(node) for token_id in step.ids)

    def num_prompt(self, node: int) -> int:
        """The number of ids in the prompt of a node."""
        return len(self.path(node)[0].ids)

    def total(self, node: int) -> float:
        """The log-probability of all tokens after the prompt, summed, in nats.

        >>> tree = Tree()
        >>> root = tree.plant([1])
        >>> tree.total(tree.add(tree.add(0, 2, made_by="drawn", logprob=-1.0).id, 3, made_by="drawn", logprob=-2.0).id)
        -3.0
        """
        return self._totals[self.node(node).id]

    def _append(self, node: Node) -> Node:
        self.nodes.append(node)
        self._totals.append(node.logprob + (0.0 if node.parent is None else self._totals[node.parent]))
        if node.parent is not None:
            self._children[node.parent, node.ids[0]] = node.id
        self.current, self.version = node.id, self.version + 1
        return node


def dump(tree: Tree, origin: Mapping[str, str]) -> str:
    """A tree as the text of a JSON file; `origin` says which model and tokenizer it was made with."""
    nodes = [dataclasses.asdict(node) for node in tree.nodes]
    whole = {"format": FORMAT, "version": VERSION, **origin, "current": tree.current, "nodes": nodes}
    return json.dumps(whole, ensure_ascii=False, indent=1)


def parse(text: str, *, where: str = "") -> tuple[Tree, dict[str, Any]]:
    """Read a tree and its `origin` from the text of such a file.

    >>> tree = Tree()
    >>> root = tree.plant([3])
    >>> parse(dump(tree, {"tokenizer": "ab12"}))[0].nodes == tree.nodes
    True

    Raises CorruptFileError for a file of another kind or version, and for nodes that form no tree.
    """
    try:
        whole = json.loads(text)
    except ValueError as error:
        raise CorruptFileError("the branches cannot be read: not JSON", found=str(error), where=where) from None
    told = (whole.get("format"), whole.get("version")) if isinstance(whole, dict) else (None, None)
    if told != (FORMAT, VERSION):
        found = f"format {told[0]!r}, version {told[1]!r}"
        raise CorruptFileError("not a file of branches that can be read here", found=found, where=where)
    tree = Tree()
    try:
        for fields in whole["nodes"]:
            tree._append(_read_node(tree, fields))
        if tree.nodes:
            tree.go(whole["current"])
    except (KeyError, TypeError, ValueError, RequestError) as error:
        raise CorruptFileError("the nodes of this file form no tree", found=str(error), where=where) from None
    return tree, {key: value for key, value in whole.items() if key not in ("nodes", "current")}


def _read_node(tree: Tree, fields: Mapping[str, Any]) -> Node:
    """Read one node of a file and check it against those before it."""
    node = Node(**{**fields, "ids": tuple(map(int, fields["ids"])), "logprob": float(fields["logprob"])})
    is_root = node.parent is None
    if node.parent is not None:
        tree.node(node.parent)
    if node.id != len(tree.nodes) or node.made_by not in get_args(MadeBy) or is_root != (node.made_by == "prompt"):
        raise ValueError(f"node {node.id}")
    if not node.ids or (not is_root and (len(node.ids) != 1 or (node.parent, node.ids[0]) in tree._children)):
        raise ValueError(f"the ids of node {node.id}")
    if not (node.text is None or (is_root and isinstance(node.text, str))):
        raise ValueError(f"the text of node {node.id}")
    return node
