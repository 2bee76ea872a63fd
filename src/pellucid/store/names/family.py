"""One family of models as other programs store it: the axes it supports, its config.json, its names for the tensors.

A family is data and two functions. A tensor in a file holds one of our parameters, or several stacked along their first
axis, and may lie transposed: that is all the difference there is between the families' weights, so one pair of functions
(`to_foreign`, `to_ours`) translates them all. Nothing outside this package knows a foreign name.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import dataclass, field, replace
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor

from pellucid.counts import counted
from pellucid.errors import WeightsError
from pellucid.planning.axes import NEUTRAL, SIZES, TRAINING, Axes, misfits, said
from pellucid.planning.config import ModelConfig
from pellucid.planning.formula import sizes
from pellucid.planning.params import parameter_shapes
from pellucid.settings import flatten
from pellucid.store.names.fields import Fields

HEAD = "lm_head.weight"
ABSENT = frozenset(axis for axis, value in NEUTRAL.items() if value is None)  # groups that most models do not have
WEIGHT_DTYPES = (torch.float64, torch.float32, torch.float16, torch.bfloat16)


@dataclass(frozen=True)
class Stored:
    """One tensor of a file: its name there, the parameters it holds (stacked), and whether it lies transposed.

    `axes` are its axes there, by the names of sizes, where they are others: an axis of all heads that is split into heads
    and their width, or one of length 1. `{i}` in the names stands for the number of the layer. `{e}` stands for that of an expert: our parameter holds the
    matrices of all experts, a file each of them by itself.
    """

    name: str
    holds: tuple[str, ...]
    transposed: bool = False
    expert: int | None = None
    axes: tuple[str | int, ...] = ()  # (): as many as here

    def at(self, layer: int) -> Stored:
        """The same entry with the layer's number filled in."""
        number = str(layer)
        holds = tuple(name.replace("{i}", number) for name in self.holds)
        return replace(self, name=self.name.replace("{i}", number), holds=holds)

    def shape(self, config: ModelConfig) -> tuple[int, ...]:
        """The lengths of its `axes`."""
        symbols = sizes(config)
        return tuple(axis if isinstance(axis, int) else symbols[axis] for axis in self.axes)

    def of(self, num_experts: int) -> list[Stored]:
        """One entry for each expert."""
        return [replace(self, name=self.name.replace("{e}", str(e)), expert=e) for e in range(num_experts)]


@dataclass(frozen=True, kw_only=True)
class Family:
    """How one family is written to disk and read from it."""

    model_type: str
    architecture: str
    architecture_of: Callable[[ModelConfig], str] | None = None  # where it depends on the model's heads
    axes: Axes  # what of ModelConfig this family can say, under dotted keys; no more
    equal: tuple[tuple[str, str], ...] = ()  # axes that this family cannot tell apart
    multiples: tuple[tuple[str, str], ...] = ()  # the first must be a multiple of the second
    needs: Mapping[str, Any] = field(
        default_factory=dict
    )  # axes of groups that every model of it has: those of a usual one
    clashes: Callable[[ModelConfig], list[str]] = lambda config: []  # values that it has, and not together
    config_to_hf: Callable[[ModelConfig], dict[str, Any]]
    config_from_hf: Callable[
        [Fields], dict[str, Any]
    ]  # the axes, under dotted keys; ranges are checked by whoever asked
    layout: Callable[[ModelConfig], list[Stored]]
    prefix: str = ""  # in front of every name but the head's; files saved without the head lack it
    ignored: re.Pattern[str] = field(default=re.compile(r"(?!)"))  # constants that old files store beside the weights
    heads: tuple[str, ...] = (HEAD,)  # a tied head, which some files hold a second time
    repeats: Mapping[str, str] = field(
        default_factory=dict
    )  # other tensors that some files hold twice: name -> original
    unused: Callable[[ModelConfig], tuple[str, ...]] = lambda config: ()  # what files hold and such a model never reads
    older: Mapping[str, str] = field(default_factory=dict)  # how a name once ended -> how it ends today

    @property
    def meant(self) -> dict[str, Any]:
        """The values that a file implies where it says nothing: the first of each list, and neutral for the rest."""
        listed = {axis: values[0] for axis, values in self.axes.items() if isinstance(values, tuple)}
        groups = {axis.rpartition(".")[0] for axis in self.needs}
        # What belongs to a group that a model may lack is left out, like what belongs to one kind of a group.
        first = {
            axis: value
            for axis, value in listed.items()
            if axis.rpartition(".")[0] in groups or (axis.count(".") < 2 and axis.partition(".")[0] not in ABSENT)
        }
        # The rest belongs to one kind of a group.
        chosen = {
            axis: value for axis, value in NEUTRAL.items() if axis.count(".") < 2 and not axis.startswith("position.")
        }
        chosen["position.kind"] = NEUTRAL["position.kind"]
        chosen = {axis: value for axis, value in chosen.items() if axis not in self.axes and axis not in groups}
        return chosen | first | dict(self.needs)

    def unsaid(self, config: ModelConfig) -> list[str]:
        """The axes of `config` with values that no file of this family can say."""
        return misfits(config, {**SIZES, **TRAINING, **self.axes})

    def misfits(self, config: ModelConfig) -> list[str]:
        """The axes of `config` that this family does not support; none when it fits."""
        groups = sorted({axis.rpartition(".")[0] for axis in self.needs} - {""})
        if not config.head.tokens:  # and nothing that stands around such a head
            groups = [group for group in groups if not group.startswith("head.")]
        if absent := [said(group, None) for group in groups if attrgetter(group)(config) is None]:
            return absent + self.unsaid(config)
        there = dict(flatten(config)) | {name: getattr(config, name) for name in ("d_attention", "d_kv")}
        clashes = [pair for pair in self.equal if {*pair} <= there.keys() and there[pair[0]] != there[pair[1]]]
        clashes += [pair for pair in self.multiples if there[pair[0]] % there[pair[1]]]
        together = [f"{said(one, there[one])} with {said(two, there[two])}" for one, two in clashes]
        return self.unsaid(config) + together + self.clashes(config)


def expand(table: Iterable[Stored], config: ModelConfig) -> list[Stored]:
    """The table with `{i}` filled in for every layer, without the entries for parts this model does not have.

    Raises WeightsError when the model has a parameter that no entry holds: it would be lost.
    """
    num_layers = max(config.n_layers, config.encoder.n_layers if config.encoder else 0)
    entries, num_experts = [], config.feed_forward.experts.count if config.feed_forward.experts else 0
    for whole in table:
        for entry in whole.of(num_experts) if "{e}" in whole.name else [whole]:
            entries += [entry.at(layer) for layer in range(num_layers)] if "{i}" in entry.name else [entry]
    shapes = parameter_shapes(config)
    kept = [entry for entry in entries if entry.holds[0] in shapes]
    if lost := shapes.keys() - {name for entry in kept for name in entry.holds}:
        raise WeightsError("the files have no place for a parameter of this model", found=", ".join(sorted(lost)[:6]))
    return kept


def to_foreign(family: Family, config: ModelConfig, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Our parameters as the family's tensors. Raises WeightsError for weights that are not those of the model."""
    if other := weights.keys() ^ parameter_shapes(config).keys():
        raise WeightsError("the weights are not those of the model", found=", ".join(sorted(other)[:6]))
    tensors = {}
    for entry in family.layout(config):
        held = [weights[name] if entry.expert is None else weights[name][entry.expert] for name in entry.holds]
        stacked = held[0] if len(held) == 1 else torch.cat(held)
        lying = stacked.mT if entry.transposed else stacked
        tensors[entry.name] = lying.reshape(entry.shape(config)) if entry.axes else lying
    return tensors


def to_ours(family: Family, config: ModelConfig, tensors: Mapping[str, Tensor], where: str) -> dict[str, Tensor]:
    """The family's tensors as our parameters (views where possible).

    Raises WeightsError naming every tensor that is missing, left over, of another shape, or not floating point.
    """
    if config.n_layers > len(tensors):  # before a table of that many layers is made
        raise WeightsError(
            "config.json describes more layers than the file has tensors",
            found=f"{counted(config.n_layers, 'layer')}, {counted(len(tensors), 'tensor')}",
            where=where,
        )
    found = _without_constants(family, config, _with_prefix(family, tensors), where)
    layout = {entry.name: entry for entry in family.layout(config)}
    shapes = parameter_shapes(config)
    faults = [f"missing: {name}" for name in layout if name not in found]
    faults += [f"left over: {name}" for name in found if name not in layout]
    for name, entry in layout.items():
        if name in found:
            faults += _faults(name, found[name], entry.shape(config) if entry.axes else _stored_shape(entry, shapes))
    if faults:
        shown = "; ".join(faults[:6]) + (f"; and {len(faults) - 6} more" if len(faults) > 6 else "")
        raise WeightsError(
            f"the weights do not fit the {family.model_type} model that config.json describes", found=shown, where=where,
            hint="config.json and the weights must come from the same model",
        )  # fmt: skip
    weights, experts = dict[str, Tensor](), dict[str, list[Tensor]]()
    for name, entry in layout.items():
        lying = found[name].reshape(_stored_shape(entry, shapes)) if entry.axes else found[name]
        stacked = lying.mT if entry.transposed else lying
        if entry.expert is not None:
            experts.setdefault(entry.holds[0], []).append(stacked)
            continue
        parts = stacked.split([shapes[held][0] for held in entry.holds])
        weights.update(zip(entry.holds, parts, strict=True))
    weights |= {name: torch.stack(matrices) for name, matrices in experts.items()}
    return {name: weights[name] for name in shapes}


def _with_prefix(family: Family, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    today = {_today(family, name, tensors): tensor for name, tensor in tensors.items()}
    if any(name.startswith(family.prefix) for name in today):
        return today
    return {name if name in family.heads else family.prefix + name: tensor for name, tensor in today.items()}


def _today(family: Family, name: str, names: Container[str]) -> str:
    """The name of a tensor as it is called today, unless another of the `names` is called so."""
    ending = next((ending for ending in family.older if name.endswith(ending)), "")
    renamed = name.removesuffix(ending) + family.older.get(ending, "")
    return name if renamed in names else renamed


def _without_constants(family: Family, config: ModelConfig, found: dict[str, Tensor], where: str) -> dict[str, Tensor]:
    """Drop what old files store beside the weights, a tied head that repeats the embedding, and what else repeats."""
    unused = {*family.unused(config)}
    found = {name: tensor for name, tensor in found.items() if name not in unused and not family.ignored.search(name)}
    embedding = next(entry.name for entry in family.layout(config) if entry.holds == ("embed.weight",))
    for head in family.heads if config.tied_head else ():
        if embedding in found and head in found and not torch.equal(found.pop(head), found[embedding]):
            raise WeightsError(
                f"config.json says that the head is tied, but {head} differs from the token embedding",
                where=where,
                hint="set tie_word_embeddings to false in config.json if the two were trained apart",
            )
    for twin, original in family.repeats.items():
        if twin in found and original in found and not torch.equal(found.pop(twin), found[original]):
            raise WeightsError(f"{twin} should repeat {original}, and differs from it", where=where)
    return found


def _stored_shape(entry: Stored, shapes: Mapping[str, tuple[int, ...]]) -> tuple[int, ...]:
    """The shape of a tensor in the file, but for axes that are split there."""
    first = shapes[entry.holds[0]]
    if entry.expert is not None:
        return first[1:]
    shape = (sum(shapes[name][0] for name in entry.holds), *first[1:])
    return shape[::-1] if entry.transposed else shape


def _faults(name: str, tensor: Tensor, wanted: tuple[int, ...]) -> list[str]:
    if tensor.dtype not in WEIGHT_DTYPES:
        return [f"{name} holds {str(tensor.dtype).removeprefix('torch.')}, not floating-point numbers"]
    if tuple(tensor.shape) != wanted:
        return [f"{name} is {tuple(tensor.shape)} instead of {wanted}"]
    return []
