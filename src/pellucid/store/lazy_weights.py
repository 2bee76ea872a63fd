"""The parameters of a file that is not mapped as it lies: each is made when somebody looks it up.

So a model is in memory once: its file's bytes are unpacked parameter by parameter, straight into the module.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import torch
from torch import Tensor


class LazyWeights(Mapping[str, Tensor]):
    """Parameters under our names, each made anew when it is looked up, in one number format (`dtype`).

    >>> weights = LazyWeights({"norm.weight": lambda: torch.ones(2)}, torch.bfloat16)
    >>> weights["norm.weight"]
    tensor([1., 1.], dtype=torch.bfloat16)
    """

    def __init__(self, makers: Mapping[str, Callable[[], Tensor]], dtype: torch.dtype) -> None:
        self._makers, self.dtype = makers, dtype

    def __getitem__(self, name: str) -> Tensor:
        return self._makers[name]().to(self.dtype)

    def __contains__(self, name: object) -> bool:
        return name in self._makers  # Mapping would make the parameter to find out

    def __iter__(self) -> Iterator[str]:
        return iter(self._makers)

    def __len__(self) -> int:
        return len(self._makers)
