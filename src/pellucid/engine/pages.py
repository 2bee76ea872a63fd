"""The memory of keys and values, in pages: who uses which page, and which beginnings of texts are known already.

    page         so many neighbouring positions of one text, for every layer
    cache        the pages of one text, in order; only the last is partly filled
    prefixes     a tree of pages: each knows the ids it was read for, and the page before it

A page belongs to as many texts as use it. What is written into a page that others use, or that the tree knows, goes to
a copy of it (copy on write): so forks of a text share all that they have in common. A text that begins as one did that
was read before takes over its pages, and a copy of the one in which the two part: reuse is exact to the token. The ids
themselves are compared, so there is no hash that two texts could share. One pool serves one runner: model, number
format and arithmetic are the same for all of it.

A page that nobody uses stays in the tree until its memory is needed; the one that was not used for longest goes first.

Source: Kwon et al. 2023 (paged attention, sharing by reference counts); Zheng et al. 2024 (a tree of prefixes).
"""

from __future__ import annotations

from collections import abc
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count

import numpy as np

from pellucid.counts import counted
from pellucid.engine.runners.sequence import PooledCache
from pellucid.errors import ContextError, OutOfPagesError

SHORTEST = 16  # ids that must be saved for a page to be copied: below it, reading them is as quick


@dataclass(eq=False, slots=True)
class Page:
    """The memory of some neighbouring positions, and how many texts use it."""

    memory: np.ndarray
    num_users: int = 1
    node: PrefixNode | None = None  # where the tree of prefixes holds it


@dataclass(eq=False, slots=True)
class PrefixNode:
    """A page whose ids are known: what was read before it are the ids of its parents."""

    ids: tuple[int, ...]
    page: Page | None
    parent: PrefixNode | None
    children: dict[int, list[PrefixNode]] = field(default_factory=dict)  # by their first id
    last_used: int = 0

    def add(self, child: PrefixNode) -> None:
        """Hang a node below this one."""
        self.children.setdefault(child.ids[0], []).append(child)

    def remove(self, child: PrefixNode) -> None:
        """Take a node away."""
        siblings = self.children[child.ids[0]]
        siblings.remove(child)
        if not siblings:
            del self.children[child.ids[0]]


class PagePool:
    """Pages of one size, made when they are needed, up to a budget.

    >>> pool = PagePool(lambda: np.zeros(4), size=2, budget=1)
    >>> page = pool.take()
    >>> pool.num_used, pool.release(page), pool.num_used, pool.take() is page
    (1, None, 0, True)
    """

    def __init__(
        self,
        make_memory: Callable[[], np.ndarray],
        *,
        size: int,
        budget: int | None = None,
        shortest: int = SHORTEST,
    ) -> None:
        """`size` is the positions of a page, `budget` the pages there may be (None: as many as are asked for).

        `shortest` is the beginning that two texts must have in common for one to take it over.
        """
        self.make_memory, self.size, self.budget, self.shortest = make_memory, size, budget, shortest
        self.num_made = self.num_kept = 0  # kept: pages that nobody uses, for texts that begin as they do
        self.free: list[Page] = []
        self.root = PrefixNode((), None, None)
        self._clock = count(1)

    @property
    def page_bytes(self) -> int:
        """The memory of a page."""
        return self.make_memory().nbytes

    @property
    def num_used(self) -> int:
        """Pages that a text in progress uses."""
        return self.num_made - len(self.free) - self.num_kept

    @property
    def num_left(self) -> int | None:
        """Pages that may still be taken; None: any number."""
        return None if self.budget is None else self.budget - self.num_used

    def has_room(self, lengths: abc.Sequence[int], num_growing: int) -> bool:
        """Whether texts of these lengths fit, with one more page for each of so many others, which grow."""
        needed = sum(-(-length // self.size) for length in lengths) + num_growing
        return self.num_left is None or self.num_left >= needed

    def take(self) -> Page:
        """A page for one user, with whatever lies in it. Raises OutOfPagesError when all are used."""
        try:
            page = self.free.pop()
        except IndexError:
            page = self._make()
        page.num_users = 1
        return page

    def _make(self) -> Page:
        """Memory for one more page, or that of the page which was not used for longest."""
        if self.budget is None or self.num_made < self.budget:
            self.num_made += 1
            return Page(self.make_memory())
        idle = [node for node in self._nodes() if _page_of(node).num_users == 0]
        if not idle:
            raise OutOfPagesError(
                "no memory for keys and values is left",
                found=f"{counted(self.budget, 'page')} in use",
                hint="give the cache more memory, or ask for fewer texts at once",
            )
        self._drop(min(idle, key=lambda node: (bool(node.children), node.last_used)))
        return self.free.pop()

    def use(self, page: Page) -> None:
        """One user more."""
        self.num_kept -= page.num_users == 0
        page.num_users += 1

    def copy(self, page: Page) -> Page:
        """A page of one's own with what lies in another."""
        twin = self.take()
        np.copyto(twin.memory, page.memory)
        return twin

    def release(self, page: Page) -> None:
        """One user less."""
        assert page.num_users > 0, "a page was given back twice"
        page.num_users -= 1
        if page.num_users == 0:
            self._rest(page)

    def publish(self, ids: abc.Sequence[int], pages: abc.Sequence[Page]) -> None:
        """Let texts that begin with these ids, which were read into these pages, use them."""
        node = self.root
        for start, page in zip(range(0, len(ids), self.size), pages, strict=False):
            node = self._child(node, tuple(ids[start : start + self.size]), page)
            node.last_used = next(self._clock)

    def find(self, ids: abc.Sequence[int]) -> list[tuple[Page, int]]:
        """The pages that hold the beginning of a text, each with how many of its ids count; the last may be a part."""
        found, node, start = list[tuple[Page, int]](), self.root, 0
        while start < len(ids):
            here = ids[start : start + self.size]
            children = node.children.get(here[0], [])
            best = max(children, key=lambda child: num_shared(child.ids, here), default=None)
            shared = 0 if best is None else num_shared(best.ids, here)
            if best is None or shared < min(self.size, self.shortest):
                break
            best.last_used = next(self._clock)
            found.append((_page_of(best), shared))
            if shared < self.size:
                break
            node, start = best, start + self.size
        return found

    def _child(self, node: PrefixNode, ids: tuple[int, ...], page: Page) -> PrefixNode:
        """The node for these ids below another; a new one holds the page, unless the tree has another copy."""
        if page.node is not None:
            page.node.ids = max(page.node.ids, ids, key=len)  # it may have been filled further
            return page.node
        for child in node.children.get(ids[0], ()):
            if child.ids == ids:
                return child
        child = PrefixNode(ids, page, node)
        node.add(child)
        page.node = child
        return child

    def _rest(self, page: Page) -> None:
        """Put a page that nobody uses where it belongs."""
        if page.node is None:
            self.free.append(page)
        else:
            self.num_kept += 1

    def _drop(self, node: PrefixNode) -> None:
        """Take a node out of the tree, with all that follow on it: without it nobody finds them."""
        assert node.parent is not None
        node.parent.remove(node)
        for gone in self._nodes(node):
            page = _page_of(gone)
            page.node = None
            if page.num_users == 0:
                self.num_kept -= 1
                self.free.append(page)

    def _nodes(self, first: PrefixNode | None = None) -> Iterator[PrefixNode]:
        """Every node that holds a page, from one on or of the whole tree."""
        waiting = [first or self.root]
        while waiting:
            node = waiting.pop()
            if node.page is not None:
                yield node
            for children in node.children.values():
                waiting += children


class PagedCache(PooledCache):
    """The key-value cache of one text: a list of pages.

    `origin` is whatever the keys were computed with; a cache is read on by the same alone.
    """

    def __init__(self, pool: PagePool, max_length: int, origin: object = None) -> None:
        self.pool, self.max_length, self.origin = pool, max_length, origin
        self.length = self.num_adopted = 0
        self.pages: list[Page] = []

    @property
    def num_pages(self) -> int:
        """Pages that it uses."""
        return len(self.pages)

    def reserve(self, length: int) -> None:
        """Make room to write the positions from the end up to `length`, in pages that are this text's alone.

        Raises ContextError for more than `max_length`, OutOfPagesError when the pool has none left.
        """
        if length > self.max_length:
            raise ContextError(
                "the key-value cache is full", found=counted(length, "position"), where=f"room for {self.max_length}"
            )
        size = self.pool.size
        for index in range(self.length // size, -(-length // size)):
            if index == len(self.pages):
                self.pages.append(self.pool.take())
            elif not self._may_write(index):
                self._copy(index)

    def adopt(self, ids: abc.Sequence[int]) -> None:
        """Begin with what the pool knows of these ids, if that is more than is held; their last is left to be read."""
        found = self.pool.find(ids[:-1])
        num_found = sum(shared for _, shared in found)
        if num_found < self.length + self.pool.shortest:
            return
        for page, _ in found:
            self.pool.use(page)
        self.release()
        self.pages, self.length, self.num_adopted = [page for page, _ in found], num_found, num_found
        if num_found % self.pool.size:
            self._own_last()

    def publish(self, ids: abc.Sequence[int]) -> None:
        """Let others begin with what is held of these ids."""
        self.pool.publish(ids[: self.length], self.pages)

    def truncate(self, length: int) -> None:
        """Forget every position from `length` on."""
        assert 0 <= length <= self.length
        self.length = length
        num_pages = -(-length // self.pool.size)
        self.pages, behind = self.pages[:num_pages], self.pages[num_pages:]
        for page in behind:
            self.pool.release(page)

    def fork(self) -> PagedCache:
        """Another cache of the same positions; what either writes, the other does not see."""
        twin = PagedCache(self.pool, self.max_length, self.origin)
        twin.length, twin.num_adopted, twin.pages = self.length, self.num_adopted, list(self.pages)
        for page in self.pages:
            self.pool.use(page)
        return twin

    def release(self) -> None:
        """Forget every position and give the pages back."""
        for page in self.pages:
            self.pool.release(page)
        self.pages, self.length, self.num_adopted = [], 0, 0

    def _copy(self, index: int) -> None:
        shared, self.pages[index] = self.pages[index], self.pool.copy(self.pages[index])
        self.pool.release(shared)

    def _own_last(self) -> None:
        """Copy the page in which two texts part; where there is no memory for it, its positions are read anew."""
        try:
            self._copy(len(self.pages) - 1)
        except OutOfPagesError:
            self.truncate(self.length - self.length % self.pool.size)
            self.num_adopted = self.length

    def _may_write(self, index: int) -> bool:
        """Whether positions from the end on may be written in a page: nobody else looks there."""
        page = self.pages[index]
        offset = max(0, self.length - index * self.pool.size)
        return page.num_users == 1 and (page.node is None or len(page.node.ids) <= offset)


def num_shared(one: abc.Sequence[int], other: abc.Sequence[int]) -> int:
    """How many ids two rows have in common from their beginning on.

    >>> num_shared([1, 2, 3], [1, 2, 4]), num_shared([1, 2], [1, 2, 3]), num_shared([], [1])
    (2, 2, 0)
    """
    least = min(len(one), len(other))
    if tuple(one[:least]) == tuple(other[:least]):
        return least
    return next(place for place in range(least) if one[place] != other[place])


def _page_of(node: PrefixNode) -> Page:
    assert node.page is not None, "the root holds no page"
    return node.page
