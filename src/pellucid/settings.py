"""Settings: one tree of frozen dataclasses is the Python API, the TOML file and the command line at once.

A tree is built from layers, each a nested dictionary with a name: the defaults in the dataclass, then a recipe (TOML),
then the command line (`--set batch.rows=8`). Later layers win, and every value remembers the layer it came from. A key
that does not exist is an error that names the nearest one.

A group may be one of several kinds (a tagged union: dataclasses whose first field is `kind`). A bare word is a kind with
its defaults. A layer that names another kind keeps of the group what that kind has too. A dataclass may have a class
method `translate(values)`, which says a layer's keys as they are called today, and, for hints, `flat_names`, other names
that it takes, and `elsewhere()`, names that it does not take with what they are called here.
No torch here.
"""

from __future__ import annotations

import dataclasses
import tomllib
import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Generic, Literal, Self, TypeVar, Union, get_args, get_origin

from pellucid.errors import SettingsError
from pellucid.setting_values import Typed, check_keywords, check_range, convert, is_none, nearest, say_range
from pellucid.untrusted import Json, read_bytes, shown

MOST_RECIPE_BYTES = 1 << 20
RECIPE = "give a file of settings in TOML, for example with the line: steps = 100"

S = TypeVar("S")
DEFAULT = "default"
REQUIRED = dataclasses.MISSING  # as the default of a setting: it must be given


@dataclass(frozen=True)
class Layer:
    """Some values and the name of where they came from (`recipe tiny.toml`, `command line`)."""

    source: str
    values: Mapping[str, Any]


@dataclass(frozen=True)
class Resolved(Generic[S]):
    """A finished tree of settings, and for every dotted key the source of its value."""

    settings: S
    sources: Mapping[str, str]

    def rows(self) -> Iterator[tuple[str, Any, str]]:
        """(dotted key, value, source) for every leaf, in the order of the dataclasses."""
        for key, value in flatten(self.settings):
            yield key, value, self.sources.get(key, DEFAULT)


class Named:
    """A dataclass of settings whose constructor names the keyword that is meant where one is not known.

    >>> @dataclass(frozen=True, kw_only=True)
    ... class Batch(Named):
    ...     rows: int = 4
    >>> Batch(row=2)
    Traceback (most recent call last):
    ...
    pellucid.errors.SettingsError: there is no keyword row
      try:   did you mean 'rows'?
    """

    def __new__(cls, **given: object) -> Self:
        known = {field.name for field in dataclasses.fields(cls)}  # type: ignore[arg-type]  # every subclass is a dataclass
        if not given.keys() <= known:
            check_keywords(given, known, cls.elsewhere())
        return super().__new__(cls)

    @classmethod
    def elsewhere(cls) -> Mapping[str, str]:
        """Other names of what is set here, each with what it is called."""
        return {}


def setting(
    default: Any, meaning: str, *, low: float | None = None, high: float | None = None, above: float | None = None
) -> Any:
    """A dataclass field with its line of meaning and the range it must lie in.

    The ends `low` and `high` belong to the range, `above` does not. A number with a range is finite.

    >>> @dataclass(frozen=True, kw_only=True)
    ... class Heat:
    ...     degrees: float = setting(1.0, "how hot", low=0)
    >>> resolve(Heat, Layer("command line", {"degrees": "-1"}))
    Traceback (most recent call last):
    ...
    pellucid.errors.SettingsError: degrees must be at least 0
      found: -1.0
      where: command line
      try:   give a number of 0 or more, or leave degrees out: then it is 1.0
    """
    metadata = {"meaning": meaning, "low": low, "high": high, "above": above}
    if dataclasses.is_dataclass(default) or isinstance(default, (dict, list)):
        return dataclasses.field(default_factory=lambda: default, metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def resolve(cls: type[S], *layers: Layer) -> Resolved[S]:
    """Build one `cls` from the defaults and the layers, later ones winning.

    >>> @dataclass(frozen=True, kw_only=True)
    ... class Batch:
    ...     rows: int = 4
    >>> resolve(Batch, Layer("recipe", {"rows": 8}), Layer("command line", {"rows": "16"})).settings
    Batch(rows=16)

    Raises SettingsError for an unknown key (naming the nearest), a value of another type, or one out of range.
    """
    merged: dict[str, Any] = {}
    said = _Said()
    for layer in layers:
        said.source = layer.source
        _merge(cls, merged, layer.values, "", said)
    return Resolved(_construct(cls, merged, "", said), said.sources)


def flatten(settings: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted key, value) for every leaf of a settings tree."""
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        if dataclasses.is_dataclass(value):
            yield from flatten(value, f"{prefix}{field.name}.")
        else:
            yield f"{prefix}{field.name}", value


def setting_names(cls: type, prefix: str = "") -> Iterator[str]:
    """The dotted key of every leaf of a tree of settings, from its classes alone."""
    seen = set()
    for name, hint in type_hints(cls).items():
        groups = groups_in(hint)
        leaves = (leaf for group in groups for leaf in setting_names(group, f"{prefix}{name}."))
        for leaf in leaves if groups else (f"{prefix}{name}",):
            if leaf not in seen:
                yield leaf
            seen.add(leaf)


def nested(values: Mapping[str, Any]) -> dict[str, Any]:
    """Values under dotted keys as a tree of dictionaries.

    >>> nested({"seed": 3, "batch.rows": 8})
    {'seed': 3, 'batch': {'rows': 8}}
    """
    tree: dict[str, Any] = {}
    for key, value in values.items():
        put(tree, key, value)
    return tree


def partly(cls: type, *, without: tuple[str, ...] = ()) -> type:
    """A settings class like `cls` with every leaf optional: None where no value is given.

    A typed word is read as `cls` reads it: "none" is an error where `cls` allows no None.

    >>> @dataclass(frozen=True, kw_only=True)
    ... class Batch:
    ...     rows: int = setting(4, "rows at once", low=1)
    >>> resolve(partly(Batch), Layer("recipe", {})).settings
    BatchPartly(rows=None)
    """
    fields: list[tuple[str, Any, Any]] = []
    for field in dataclasses.fields(cls):
        hint = type_hints(cls)[field.name]
        if groups := groups_in(hint):
            group = _partly_one_of(groups, field.metadata.get("meaning", ""))
            is_open = type(None) in get_args(hint)
            fields.append((field.name, group | None if is_open else group, setting(group(), "")))
        elif field.name not in without:
            metadata = {**field.metadata, "given_as": hint}
            fields.append((field.name, hint | None, dataclasses.field(default=None, metadata=metadata)))
    return dataclasses.make_dataclass(f"{cls.__name__}Partly", fields, frozen=True, kw_only=True)


def _partly_one_of(groups: tuple[type, ...], meaning: str) -> type:
    """The fields of several kinds of a group in one, each optional."""
    if len(groups) == 1:
        return partly(groups[0])
    words = tuple(word for group in groups for word in get_args(type_hints(group)["kind"]))
    metadata = {**setting(None, meaning).metadata, "given_as": Literal[words]}
    kind: Any = ("kind", Literal[words] | None, dataclasses.field(default=None, metadata=metadata))
    parts = [
        (field, type_hints(part)[field.name]) for part in map(partly, groups) for field in dataclasses.fields(part)
    ]
    others = {field.name: (field.name, hint, field) for field, hint in parts if field.name != "kind"}
    fields = [kind] + [
        (
            name,
            hint,
            dataclasses.field(default=field.default, default_factory=field.default_factory, metadata=field.metadata),
        )
        for name, hint, field in others.values()
    ]
    name = f"{groups[0].__name__}Partly"
    return dataclasses.make_dataclass(name, fields, frozen=True, kw_only=True, namespace={"kinds": _members(groups)})


def given(settings: Any) -> dict[str, Any]:
    """The values that are given in a `partly` tree of settings, as nested dictionaries.

    >>> @dataclass(frozen=True, kw_only=True)
    ... class Batch:
    ...     rows: int | None = None
    >>> given(Batch()), given(Batch(rows=3))
    ({}, {'rows': 3})
    """
    said = {}
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        if dataclasses.is_dataclass(value):
            value = given(value)
            if value:
                said[field.name] = value
        elif value is not None or field.default is not None:  # a group that may be absent, and is said to be
            said[field.name] = value
    return said


def to_dict(settings: Any) -> dict[str, Json]:
    """The tree as nested dictionaries of plain values, ready for JSON or TOML."""
    return {
        f.name: to_dict(v) if dataclasses.is_dataclass(v) else plain(v)
        for f in dataclasses.fields(settings)
        for v in [getattr(settings, f.name)]
    }


def plain(value: Any) -> Json:
    """A setting's value as JSON can hold it."""
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, tuple):
        return [plain(item) for item in value]
    return value


def parse_assignments(assignments: tuple[str, ...]) -> dict[str, Any]:
    """`("a.b=1", "c=2")` as a nested dictionary, as `--set` takes them.

    >>> parse_assignments(("optimizer.rate=0.1", "seed=3"))
    {'optimizer': {'rate': '0.1'}, 'seed': '3'}

    The values are `Typed`: a comma parts the items of a list, as it does nowhere else.
    """
    tree: dict[str, Any] = {}
    for assignment in assignments:
        key, equals, value = assignment.partition("=")
        if not equals or not key:
            raise SettingsError(
                f"cannot read the setting {assignment!r}", hint="write it as name=value, for example seed=3"
            )
        put(tree, key, Typed(value))
    return tree


def put(tree: dict[str, Any], dotted: str, value: Any) -> None:
    """Put a value at a dotted key of a nested dictionary; what is said of one group in several places adds up.

    >>> tree = {"shape": "square"}
    >>> put(tree, "shape.side", 2)
    >>> tree
    {'shape': {'kind': 'square', 'side': 2}}

    Raises SettingsError where a key is given both as one value and in parts.
    """
    *parents, leaf = dotted.split(".")
    for name in parents:
        if _is_kind(tree.get(name)):
            tree[name] = {"kind": tree[name]}
        tree = tree.setdefault(name, {})
        if not isinstance(tree, dict):
            raise SettingsError(f"{dotted}: {name} is already given as a single value")
    known: Any = tree.get(leaf)
    if isinstance(value, Mapping):
        if _is_kind(known):
            known = tree[leaf] = {"kind": known}
        for name, part in value.items() if isinstance(known, dict) else ():
            put(known, name, part)
        if not isinstance(known, dict):
            tree[leaf] = nested(value)
    elif isinstance(known, dict) and _is_kind(value):
        known["kind"] = value
    elif isinstance(known, dict):
        raise SettingsError(f"{dotted} is already given in parts", found=shown(value))
    else:
        tree[leaf] = value


def _is_kind(value: Any) -> bool:
    """Whether a value may be the bare word for a kind."""
    return isinstance(value, str) and value.isidentifier() and not is_none(value)


def load_toml(path: Path) -> Layer:
    """A recipe: one TOML file as a layer."""
    try:
        # Windows editors begin a file with a mark.
        return Layer(f"recipe {path}", tomllib.loads(read_bytes(path, MOST_RECIPE_BYTES).decode("utf-8-sig")))
    except FileNotFoundError:
        raise SettingsError("the recipe does not exist", where=str(path), hint=RECIPE) from None
    except OSError as error:
        raise SettingsError("the recipe cannot be read", found=str(error), where=str(path), hint=RECIPE) from error
    except RecursionError:
        raise SettingsError(
            "the recipe is not valid TOML", found="nesting without end", where=str(path), hint=RECIPE
        ) from None
    except ValueError as error:  # broken TOML, bytes that are not UTF-8, a number of thousands of digits
        raise SettingsError("the recipe is not valid TOML", found=shown(error), where=str(path), hint=RECIPE) from error


@dataclass
class _Said:
    """The layer that is being read, and the values of the layers before it."""

    source: str = ""
    sources: dict[str, str] = dataclasses.field(default_factory=dict)  # the layer of each key
    before: dict[str, Any] = dataclasses.field(
        default_factory=dict
    )  # what a layer said of a key that a later one says too


def _merge(cls: type, merged: dict, values: Mapping, prefix: str, said: _Said) -> None:
    hints = type_hints(cls)
    values = cls.translate(values) if hasattr(cls, "translate") else values
    for name, value in values.items():
        key = f"{prefix}{name}"
        if name not in hints:
            there = getattr(cls, "elsewhere", dict)().get(name)
            hint = (
                f"here it is called {there}"
                if there in hints
                else nearest(name, [*hints, *getattr(cls, "flat_names", ())])
            )
            raise SettingsError(f"unknown setting {key}", where=said.source, hint=hint)
        if groups := groups_in(hints[name]):
            is_open = type(None) in get_args(hints[name])
            _merge_group(
                groups,
                merged,
                name,
                None if is_open and is_none(value) else _as_group(groups, value, key, said),
                key,
                said,
            )
            continue
        if name in merged:
            said.before[key] = merged[name]
        merged[name] = value
        said.sources[key] = said.source


def _as_group(groups: tuple[type, ...], value: Any, key: str, said: _Said) -> Mapping[str, Any]:
    """What a layer says of a group, as a dictionary; a bare word is a kind."""
    first = next(iter(type_hints(groups[0])))
    if isinstance(value, str) and first == "kind":
        return {"kind": value}
    if dataclasses.is_dataclass(value):
        return shallow(value)
    if isinstance(value, Mapping):
        return value
    raise SettingsError(
        f"{key} is a group of settings, not one value",
        found=shown(value),
        where=said.source,
        hint=f"set one of its members, for example {key}.{first}=…",
    )


def _merge_group(
    groups: tuple[type, ...], merged: dict, name: str, value: Mapping[str, Any] | None, key: str, said: _Said
) -> None:
    """Add what a layer says of a group, which may be one of several kinds; None: that it is absent."""
    if value is None:
        merged[name], said.sources[key] = None, said.source
        return
    inner, kind = merged.get(name) or {}, value.get("kind")
    members = _members(groups).get(kind) if isinstance(kind, str) else None  # what is no word is refused as one below
    if members is not None and kind != inner.get("kind"):
        inner = {key: said for key, said in inner.items() if key in members}
    if len(groups) == 1:
        group = groups[0]
    elif value:
        group = _pick(groups, {**inner, **value}, key, said.source)
    else:
        return
    merged[name] = inner
    _merge(group, inner, value, f"{key}.", said)


def _members(groups: tuple[type, ...]) -> dict[Any, frozenset[str]]:
    """The keys of each kind of a group; none for a group of one kind."""
    if len(groups) == 1:
        return getattr(groups[0], "kinds", {})
    hints = [type_hints(group) for group in groups]
    return {word: frozenset(hint) for hint in hints for word in get_args(hint["kind"])}


def _pick(groups: tuple[type, ...], values: Mapping[str, Any], key: str, source: str) -> type:
    """The dataclass whose kind the values name; where they name none, the only one that has their keys."""
    kinds = {type_hints(group)["kind"]: group for group in groups}
    known = {word: group for kind, group in kinds.items() for word in get_args(kind)}
    if "kind" in values:
        kind = values["kind"]
        if not isinstance(kind, str) or kind not in known:
            hint = nearest(str(kind), list(known))
            raise SettingsError(f"{key} has no kind {shown(kind)}", where=source, hint=hint)
        if others := [name for name in values if name not in type_hints(known[kind])]:
            having = [word for word, group in known.items() if others[0] in type_hints(group)]
            hint = nearest(others[0], list(type_hints(known[kind])))
            hint = f"leave {others[0]} out, or choose {key}={having[0]}, which has it" if having else hint
            raise SettingsError(f"{key} of the kind {kind} has no {others[0]}", where=source, hint=hint)
        return known[kind]
    fitting = [word for word, group in known.items() if values.keys() <= type_hints(group).keys()]
    if len({known[word] for word in fitting}) == 1:
        return known[fitting[0]]
    if fitting:
        hint = f"add {key}.kind, one of " + ", ".join(fitting)
        raise SettingsError(f"{key} needs its kind", found=", ".join(values), where=source, hint=hint)
    keys = sorted({name for group in groups for name in type_hints(group)})
    unknown = next((name for name in values if name not in keys), next(iter(values)))
    raise SettingsError(f"unknown setting {key}.{unknown}", where=source, hint=nearest(unknown, keys))


def shallow(settings: Any) -> dict[str, Any]:
    """A dataclass's fields as a dictionary, one level deep."""
    return {field.name: getattr(settings, field.name) for field in dataclasses.fields(settings)}


def _construct(cls: type[S], merged: Mapping[str, Any], prefix: str, said: _Said) -> S:
    hints, values = type_hints(cls), dict[str, Any]()  # type: ignore[arg-type]  # a cache does not know its argument
    for field in dataclasses.fields(cls):  # type: ignore[arg-type]
        groups = groups_in(hints[field.name])
        key = f"{prefix}{field.name}"
        if groups:
            if field.name in merged:
                values[field.name] = _construct_group(groups, merged[field.name], key, said)
        elif field.name in merged:
            source, value = said.sources[key], merged[field.name]
            hint = field.metadata.get("given_as", hints[field.name]) if value is not None else hints[field.name]
            try:
                value = convert(value, hint, key, source)
            except SettingsError as error:
                error.hint = error.hint or say_range(field, key, said.before)
                raise
            check_range(value, field, key, source, said.before)
            values[field.name] = value
        elif field.default is field.default_factory is REQUIRED:
            raise SettingsError(f"{key} must be given", hint=say_range(field, key, said.before))
    return cls(**values)


def _construct_group(groups: tuple[type, ...], merged: Mapping[str, Any] | None, key: str, said: _Said) -> Any:
    if merged is None:
        return None
    group = _pick(groups, merged, key, "") if len(groups) > 1 else groups[0]
    return _construct(group, merged, f"{key}.", said)


@cache
def type_hints(cls: type) -> dict[str, Any]:
    """The resolved annotations of a settings dataclass, its fields only."""
    hints = typing.get_type_hints(cls)
    return {field.name: hints[field.name] for field in dataclasses.fields(cls)}


def groups_in(hint: Any) -> tuple[type, ...]:
    """The dataclasses that a field may hold; none for a field of one value."""
    options = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
    return tuple(option for option in options if isinstance(option, type) and dataclasses.is_dataclass(option))
