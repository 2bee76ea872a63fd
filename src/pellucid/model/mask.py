"""Attention masks: which places of a row each place may look at. A mask is data; each core turns it into what it needs.

    Everything            t may see every s
    Causal                s <= t
    Window(size)          t - s < size: itself and the size - 1 places before it (and, without Causal, whatever follows)
    Near(size)            |t - s| < size: a window that reaches as far ahead as back
    Padding(lengths)      s < length of the row
    Documents(numbers)    t and s lie in the same document
    Prefix(lengths)       s <= t, or s lies in the first part of the row, which everything sees
    Permutation(ranks)    s comes before t in an order of its own (or is t itself)
    All(masks)            what every one of several masks allows; written `one & another`

`allowed_BTS` defines each mask and is the slow twin of what a core does with it. t and s are places in the row
(`model.rows`), not positions: the documents of a packed row may each count their positions from 0.

Axes: B batch · T new places · S all places.
Source: Vaswani et al. 2017 §3.2.3 (causal); Beltagy et al. 2020 (window); Raffel et al. 2020 §3.2.1 (prefix);
Krell et al. 2021 (documents in a packed row); Yang et al. 2019 §2.2 (permutation).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from torch import Tensor

from pellucid.errors import RequestError
from pellucid.model.rows import Rows


class Mask(ABC):
    """An attention mask: which place may look at which."""

    @property
    def sees_itself(self) -> bool:
        """Whether every place may look at itself, so that each sees at least one."""
        return True

    @abstractmethod
    def allowed_BTS(self, t_BT1: Tensor, s_S: Tensor) -> Tensor:
        """Whether place t may look at place s, bool [B, T, S]; the first axis is 1 where rows do not differ."""

    def hides(self, rows: Rows) -> bool:
        """Whether the mask can hide anything in these rows."""
        return True

    def __and__(self, other: Mask) -> Mask:
        """The mask that allows what both allow.

        >>> Causal() & Window(size=4) & Everything()
        All(masks=(Causal(), Window(size=4), Everything()))
        """
        return All(masks=(*_parts(self), *_parts(other)))


@dataclass(frozen=True)
class Everything(Mask):
    """Every place sees every place: an encoder's mask."""

    def allowed_BTS(self, t_BT1: Tensor, s_S: Tensor) -> Tensor:
        return (s_S >= 0).expand(*t_BT1.shape[:2], -1)

    def hides(self, rows: Rows) -> bool:
        return False


@dataclass(frozen=True)
class Causal(Mask):
    """No place sees a later one: a decoder's mask.

    >>> import torch
    >>> Causal().allowed_BTS(torch.tensor([[[0], [1]]]), torch.arange(2)).int().tolist()
    [[[1, 0], [1, 1]]]
    """

    def allowed_BTS(self, t_BT1: Tensor, s_S: Tensor) -> Tensor:
        return s_S <= t_BT1

    def hides(self, rows: Rows) -> bool:
        return rows.num_new > 1 or rows.start is None  # a single new id stands at the end: nothing is later


@dataclass(frozen=True, kw_only=True)
class Window(Mask):
    """A sliding window: each place looks back at most `size` places, counting itself."""

    size: int

    def __post_init__(self) -> None:
        if self.size < 1:
            raise RequestError("a window holds at least one place", found=f"size={self.size}")

    def allowed_BTS(self, t_BT1: Tensor, s_S: Tensor) -> Tensor:
        return s_S > t_BT1 - self.size

    def hides(self, rows: Rows) -> bool:
        return self.size < rows.num_all


@dataclass(frozen=True, kw_only=True)
class Near(Mask):
    """A window on both sides: each place sees those less than `size` places away, in either direction."""

    size: int

    def __post_init__(self) -> None:
        if self.size < 1:
            raise RequestError("a window holds at least one place", found=f"size={self.size}")

    def allowed_BTS(self, t_BT1: Tensor, s_S: Tensor) -> Tensor:
        return (s_S - t_BT1).abs() < self.size

    def hides(self, rows: Rows) -> bool:
        return self.size < rows.num_all


@dataclass(frozen=True, kw_only=True, eq=False)
class Padding(Mask):
    """No place sees padding: each row holds `lengths_B` real ids, and padding behind them."""

    lengths_B: Tensor

    @property
    def sees_itself(self) -> bool:
        return False  # padding does not

    def allowed_BTS(self, t_BT1: Tensor, s_S: Tensor) -> Tensor:
        return (s_S < self.lengths_B[:, None, None]).expand(-1, t_BT1.size(1), -1)


@dataclass(frozen=True, kw_only=True, eq=False)
class Documents(Mask):
    """Several documents in one row see nothing of each other: `numbers_BS` names the document of every place.

    Padding before a text (on the left) is a document of its own; `Context.positions_BT` then says where the text begins.

    >>> import torch
    >>> padded = Causal() & Documents(numbers_BS=torch.tensor([[0, 0, 1, 1]]))
    >>> padded.allowed_BTS(torch.tensor([[[2], [3]]]), torch.arange(4)).int().tolist()
    [[[0, 0, 1, 0], [0, 0, 1, 1]]]
    """

    numbers_BS: Tensor

    def allowed_BTS(self, t_BT1: Tensor, s_S: Tensor) -> Tensor:
        return _at(self.numbers_BS, t_BT1) == self.numbers_BS[:, None, s_S]


@dataclass(frozen=True, kw_only=True, eq=False)
class Prefix(Mask):
    """Causal, but every place also sees all of the first `lengths_B` places of its row (the prefix)."""

    lengths_B: Tensor

    def allowed_BTS(self, t_BT1: Tensor, s_S: Tensor) -> Tensor:
        return (s_S <= t_BT1) | (s_S < self.lengths_B[:, None, None])


@dataclass(frozen=True, kw_only=True, eq=False)
class Permutation(Mask):
    """Causal in another order: `ranks_BS` numbers the places, and each sees only those with a lower number.

    With `itself` a place also sees its own id; without, it must predict it. The first in the order then sees nothing,
    and its output is zero.
    """

    ranks_BS: Tensor
    itself: bool

    @property
    def sees_itself(self) -> bool:
        return self.itself

    def allowed_BTS(self, t_BT1: Tensor, s_S: Tensor) -> Tensor:
        own_BT1, other_B1S = _at(self.ranks_BS, t_BT1), self.ranks_BS[:, None, s_S]
        return (other_B1S <= own_BT1) if self.itself else (other_B1S < own_BT1)


@dataclass(frozen=True, kw_only=True)
class All(Mask):
    """The mask that allows what every one of these masks allows."""

    masks: tuple[Mask, ...]

    @property
    def sees_itself(self) -> bool:
        return all(mask.sees_itself for mask in self.masks)

    def allowed_BTS(self, t_BT1: Tensor, s_S: Tensor) -> Tensor:
        allowed_BTS = Everything().allowed_BTS(t_BT1, s_S)
        for mask in self.masks:
            allowed_BTS = allowed_BTS & mask.allowed_BTS(t_BT1, s_S)
        return allowed_BTS

    def hides(self, rows: Rows) -> bool:
        return any(mask.hides(rows) for mask in self.masks)


def simplify(mask: Mask, rows: Rows) -> Mask:
    """The same mask without the parts that hide nothing in these rows, so that a core can choose a faster way.

    >>> import torch
    >>> simplify(Causal() & Window(size=9), Rows.of(torch.zeros(1, 4))), simplify(Causal(), Rows.of(torch.zeros(1, 1)))
    (Causal(), Everything())
    """
    left = tuple(part for part in _parts(mask) if part.hides(rows))
    return Everything() if not left else left[0] if len(left) == 1 else All(masks=left)


def check_mask(mask: Mask, rows: Rows) -> None:
    """Raise RequestError when a mask was made for other rows than these: its tensors tell their axes in their names."""
    sizes = {"B": rows.num_rows, "S": rows.num_all}
    for part in _parts(mask):
        for name, values in vars(part).items():
            if isinstance(values, Tensor):
                wanted = tuple(sizes[axis] for axis in name.rpartition("_")[2])
                if tuple(values.shape) != wanted:
                    found, where = f"{name} {tuple(values.shape)}", f"the rows of this pass: {wanted}"
                    raise RequestError("the mask was made for other rows", found=found, where=where)


def _parts(mask: Mask) -> tuple[Mask, ...]:
    return mask.masks if isinstance(mask, All) else (mask,)


def _at(values_BS: Tensor, t_BT1: Tensor) -> Tensor:
    """The value of each row at each place t, [B, T, 1]."""
    return values_BS.gather(1, t_BT1[..., 0].expand(len(values_BS), -1))[..., None]
