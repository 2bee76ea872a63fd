"""One tree of settings, three ways to write it: Python, TOML, command line."""

from __future__ import annotations

import dataclasses
import json
import math
import tomllib
import types
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

import pytest
from hypothesis import given
from hypothesis import settings as effort
from hypothesis import strategies as st

from pellucid.engine.beam import BeamSettings
from pellucid.engine.sampling.settings import SamplingSettings
from pellucid.engine.settings import SpeculationSettings
from pellucid.errors import PellucidError, SettingsError
from pellucid.lessons.settings import LessonSettings
from pellucid.setting_values import Typed, convert
from pellucid.settings import (
    DEFAULT,
    REQUIRED,
    Layer,
    flatten,
    load_toml,
    parse_assignments,
    partly,
    put,
    resolve,
    setting,
    to_dict,
    type_hints,
)
from pellucid.settings import given as given_parts
from pellucid.training.settings import TrainSettings


@dataclass(frozen=True, kw_only=True)
class Inner:
    rate: float = setting(0.5, "how fast", low=0, high=2)
    kind: Literal["warm", "cold"] = setting("warm", "which")


@dataclass(frozen=True, kw_only=True)
class Outer:
    count: int = setting(3, "how many", low=1)
    limit: int | None = setting(None, "most of them", low=1)
    on: bool = setting(True, "whether")
    words: tuple[str, ...] = setting((), "some texts")
    path: Path | None = setting(None, "where")
    name: str = setting("none so far", "what it is called")
    inner: Inner = setting(Inner(), "")


def outer(**values: Any) -> Outer:
    return resolve(Outer, Layer("test", values)).settings


def failure(**values: Any) -> SettingsError:
    with pytest.raises(SettingsError) as caught:
        outer(**values)
    return caught.value


# --- layers and sources ---


def test_later_layers_win_and_every_value_knows_its_layer() -> None:
    resolved = resolve(
        Outer,
        Layer("recipe a.toml", {"count": 5, "inner": {"rate": 1.0, "kind": "cold"}}),
        Layer("command line", {"inner": {"rate": "2"}}),
    )
    assert resolved.settings == Outer(count=5, inner=Inner(rate=2.0, kind="cold"))
    sources = {key: source for key, _, source in resolved.rows()}
    assert sources["count"] == sources["inner.kind"] == "recipe a.toml"
    assert sources["inner.rate"] == "command line"
    assert sources["limit"] == sources["on"] == DEFAULT


def test_rows_come_in_the_order_of_the_dataclasses() -> None:
    keys = [key for key, _, _ in resolve(Outer).rows()]
    assert keys == ["count", "limit", "on", "words", "path", "name", "inner.rate", "inner.kind"]


def test_a_group_may_be_given_as_a_dataclass() -> None:
    assert outer(inner=Inner(rate=0.25)).inner.rate == 0.25


def test_nothing_given_is_the_defaults() -> None:
    assert resolve(Outer).settings == Outer() and not resolve(Outer).sources


# --- keys ---


@pytest.mark.parametrize(
    ("values", "what", "hint"),
    [
        ({"cuont": 1}, "unknown setting cuont", "did you mean 'count'?"),
        ({"inner": {"rat": 1}}, "unknown setting inner.rat", "did you mean 'rate'?"),
        ({"zzzz": 1}, "unknown setting zzzz", "known: count, inner, limit, name, on, path, words"),
    ],
)
def test_an_unknown_key_names_the_nearest(values: dict[str, Any], what: str, hint: str) -> None:
    error = failure(**values)
    assert (error.what, error.hint, error.where) == (what, hint, "test")


def test_a_group_is_not_one_value() -> None:
    error = failure(inner=3)
    assert error.what == "inner is a group of settings, not one value" and "inner.rate=…" in error.hint


def test_a_value_is_not_a_group() -> None:
    with pytest.raises(SettingsError, match="count is already given as a single value"):
        parse_assignments(("count=1", "count.x=2"))
    assert failure(count={"x": 1}).what == "count wants a whole number"


@pytest.mark.parametrize("text", ["count", "=3", ""])
def test_an_assignment_needs_a_name_and_a_sign(text: str) -> None:
    with pytest.raises(SettingsError, match="cannot read the setting"):
        parse_assignments((text,))


def test_only_the_first_sign_separates() -> None:
    assert parse_assignments(("name=a=b",)) == {"name": "a=b"}


# --- types ---


@pytest.mark.parametrize(
    ("text", "hint", "value"),
    [
        ("1_000", int, 1000),
        ("-3", int, -3),
        ("1e-3", float, 0.001),
        ("inf", float, math.inf),
        ("Yes", bool, True),
        ("off", bool, False),
        ("none", int | None, None),
        ("NULL", float | None, None),
        ("7", int | None, 7),
        ("none", str, "none"),
        ("a,b", tuple[str, ...], ("a", "b")),
        ("1,2,3", tuple[int, ...], (1, 2, 3)),
        ("", tuple[str, ...], ()),
        ("runs/书", Path, Path("runs/书")),
        ("bf16", Literal["auto", "bf16"], "bf16"),
        ("2", Literal[1, 2], 2),
    ],
)
def test_text_is_read_as_the_type_of_its_field(text: str, hint: Any, value: Any) -> None:
    found = convert(Typed(text), hint, "key", "test")
    assert found == value and type(found) is type(value)


@pytest.mark.parametrize(
    ("value", "hint"),
    [
        ("1.5", int),
        (1.5, int),
        (True, int),
        (False, float),
        ("x", float),
        (1, bool),
        ("maybe", bool),
        (3, str),
        ("none", int),
    ],
)
def test_a_value_of_another_type_is_refused(value: Any, hint: Any) -> None:
    with pytest.raises(SettingsError) as caught:
        convert(value, hint, "key", "recipe x.toml")
    assert caught.value.where == "recipe x.toml" and repr(value) in caught.value.found and "wants" in caught.value.what


def test_a_choice_names_the_nearest() -> None:
    error = failure(inner={"kind": "worm"})
    assert error.what == "inner.kind wants one of warm, cold" and error.hint == "did you mean 'warm'?"


@pytest.mark.parametrize("text", [",", "a,b", "", "none", "1,2"])
def test_a_text_for_a_list_is_one_item_but_where_it_was_typed(text: str) -> None:
    assert outer(words=text).words == (text,)
    assert outer(words=[text, "x"]).words == (text, "x")


@pytest.mark.parametrize("text", [",", "a,", ",a", "a,,b"])
def test_a_typed_list_has_no_empty_items(text: str) -> None:
    with pytest.raises(SettingsError) as caught:
        resolve(Outer, Layer("command line", parse_assignments((f"words={text}",))))
    assert repr(text) in caught.value.found and "comma" in caught.value.hint


@pytest.mark.parametrize("value", [3, None, {"a": 1}])
def test_a_list_is_made_of_a_list(value: Any) -> None:
    assert failure(words=value).what == "words wants a list, each text"


# --- ranges ---

RATE = "give a number from 0 to 2, or leave inner.rate out: then it is 0.5"


@pytest.mark.parametrize(
    ("values", "what", "hint"),
    [
        ({"count": 0}, "count must be at least 1", "give a number of 1 or more, or leave count out: then it is 3"),
        ({"limit": "0"}, "limit must be at least 1", "give a number of 1 or more, or leave limit out"),
        ({"inner": {"rate": -0.1}}, "inner.rate must be at least 0", RATE),
        ({"inner": {"rate": 2.1}}, "inner.rate must be at most 2", RATE),
        ({"inner": {"rate": "nan"}}, "inner.rate must be at least 0", RATE),
        ({"inner": {"rate": math.inf}}, "inner.rate must be at most 2", RATE),
    ],
)
def test_a_value_out_of_range_is_refused_and_the_range_told(values: dict[str, Any], what: str, hint: str) -> None:
    error = failure(**values)
    assert error.what == what and error.hint == hint


def test_the_hint_of_a_length_says_what_may_be_given() -> None:
    with pytest.raises(SettingsError) as caught:
        resolve(TrainSettings, Layer("command line", {"minutes": "0"}))
    assert caught.value.hint == "give a number above 0, at most 1,000,000, or leave minutes out"


@pytest.mark.parametrize("key", ["epochs", "minutes"])
@pytest.mark.parametrize(
    "value", ["0", "-1", "inf", "-inf", "nan", "1e308", 10**400, 0], ids=lambda value: f"{value!s:.8}"
)
def test_a_length_is_a_number_that_a_run_can_reach(key: str, value: Any) -> None:
    with pytest.raises(SettingsError, match=key):
        resolve(TrainSettings, Layer("command line", {key: value}))


def settings_classes() -> list[type]:
    """Every dataclass of settings that a person can reach."""
    groups = [hint for hint in type_hints(TrainSettings).values() if dataclasses.is_dataclass(hint)]
    return [TrainSettings, *groups, SamplingSettings, BeamSettings, SpeculationSettings, LessonSettings]


NUMBERS = [
    (cls, name) for cls in settings_classes() for name, hint in type_hints(cls).items() if {int, float} & {hint, *get_args(hint)}
]  # fmt: skip


@pytest.mark.parametrize(("cls", "name"), NUMBERS, ids=lambda part: getattr(part, "__name__", part))
@pytest.mark.parametrize(
    "value", ["inf", "-inf", "nan", math.inf, math.nan, 10**400], ids=lambda value: f"{value!s:.8}"
)
def test_no_number_is_infinite_or_none_at_all(cls: type, name: str, value: Any) -> None:
    if type_hints(cls)[name] == tuple[int, ...]:
        return
    with pytest.raises(PellucidError):
        resolve(cls, Layer("command line", {name: value}))


@pytest.mark.parametrize("value", [0, 2, "0.0", 2.0])
def test_the_ends_of_a_range_belong_to_it(value: Any) -> None:
    assert outer(inner={"rate": value}).inner.rate == float(value)


# --- files ---


def test_a_recipe_is_a_layer(tmp_path: Path) -> None:
    path = tmp_path / "配方.toml"
    path.write_text('name = "书"\nwords = ["甲", "乙"]\n[inner]\nrate = 1\n', encoding="utf-8")
    layer = load_toml(path)
    assert resolve(Outer, layer).settings == Outer(name="书", words=("甲", "乙"), inner=Inner(rate=1.0))
    assert layer.source == f"recipe {path}"


@pytest.mark.parametrize(
    ("content", "what"), [(None, "does not exist"), (b"a = ", "not valid TOML"), (b"a = '\xff'", "not valid TOML")]
)
def test_a_recipe_that_cannot_be_read(content: bytes | None, what: str, tmp_path: Path) -> None:
    path = tmp_path / "r.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SettingsError, match=what) as caught:
        load_toml(path)
    assert caught.value.where == str(path)


def test_a_recipe_may_begin_with_a_mark_and_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "r.toml").write_bytes(b"\xef\xbb\xbfcount = 5\r\n")  # as Windows editors save it
    assert resolve(Outer, load_toml(tmp_path / "r.toml")).settings.count == 5
    with pytest.raises(SettingsError, match="cannot be read"):
        load_toml(tmp_path)


# --- one tree, three spellings ---


def values_of(hint: Any, metadata: Any) -> st.SearchStrategy:
    """Any value that a field may hold."""
    origin, args = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        is_word = any("none" in get_args(option) for option in args)  # then the word none is no empty value
        return st.one_of(*(values_of(option, metadata) for option in args if not (is_word and option is type(None))))
    low, high, above = metadata.get("low"), metadata.get("high"), metadata.get("above")
    if origin is Literal:
        return st.sampled_from(args)
    words = st.text(st.characters(codec="utf-8", exclude_categories=("Cc",)), min_size=1)
    if origin is tuple:  # a comma parts the items of a list on the command line
        return st.lists(values_of(args[0], metadata).filter(lambda item: "," not in str(item)), max_size=3).map(tuple)
    return {
        int: st.integers(0 if low is None else math.ceil(low), 10**12 if high is None else math.floor(high)),
        float: st.floats(
            low if above is None else above, high, exclude_min=above is not None, allow_nan=False, allow_infinity=False
        ),
        bool: st.booleans(),
        str: words.filter(lambda text: text.lower() not in ("none", "null")),
        Path: words.map(Path).filter(lambda path: str(path).lower() not in ("none", "null")),
        type(None): st.none(),
    }[hint]


LEAVES = [key for key, _ in flatten(TrainSettings())]


def field_at(key: str) -> tuple[Any, dataclasses.Field]:
    """The type and the field of a dotted key of TrainSettings."""
    cls: Any = TrainSettings
    *groups, leaf = key.split(".")
    for group in groups:
        hint = type_hints(cls)[group]
        cls = next((option for option in get_args(hint) if dataclasses.is_dataclass(option)), hint)
    return type_hints(cls)[leaf], next(field for field in dataclasses.fields(cls) if field.name == leaf)


@st.composite
def assignments(draw: st.DrawFn) -> dict[str, Any]:
    """Some keys of TrainSettings, each with a value that it may hold."""
    keys = draw(st.lists(st.sampled_from(LEAVES), unique=True, max_size=6))
    return {
        key: draw(values_of(field.metadata.get("given_as", hint), field.metadata))  # what is not set has no word
        for key in keys
        for hint, field in [field_at(key)]
    }


def as_typed(value: Any) -> str:
    if isinstance(value, tuple):
        return ",".join(map(as_typed, value))
    return "none" if value is None else str(value)


def as_toml(value: Any) -> str:
    if isinstance(value, tuple):
        return f"[{', '.join(map(as_toml, value))}]"
    if isinstance(value, (str, Path)):
        return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")
    return str(value).lower() if isinstance(value, bool) else repr(value)


@effort(deadline=None)
@given(assignments())
def test_python_toml_and_command_line_give_the_same_tree(values: dict[str, Any]) -> None:
    tree: dict[str, Any] = {}
    for key, value in values.items():
        put(tree, key, value)
    python = resolve(TrainSettings, Layer("call", tree)).settings
    typed = parse_assignments(tuple(f"{key}={as_typed(value)}" for key, value in values.items()))
    assert resolve(TrainSettings, Layer("command line", typed)).settings == python
    lines = [f"{key} = {as_toml(value)}" for key, value in values.items() if value is not None]
    written = resolve(TrainSettings, Layer("recipe", tomllib.loads("\n".join(lines)))).settings
    # TOML has no word for "none": a key that is left out keeps its default.
    left_out = {key for key, value in values.items() if value is None}
    defaults = dict(flatten(TrainSettings()))
    expected = {key: defaults[key] if key in left_out else value for key, value in flatten(python)}
    assert dict(flatten(written)) == expected


@effort(deadline=None)
@given(assignments())
def test_a_saved_tree_is_read_back_equal(values: dict[str, Any]) -> None:
    tree: dict[str, Any] = {}
    for key, value in values.items():
        put(tree, key, value)
    settings = resolve(TrainSettings, Layer("call", tree)).settings
    saved = json.loads(json.dumps(to_dict(settings)))
    assert resolve(TrainSettings, Layer("run.json", saved)).settings == settings


def test_every_setting_of_a_run_has_a_meaning_and_a_default_in_range() -> None:
    for key, value in flatten(TrainSettings()):
        hint, field = field_at(key)
        assert field.metadata["meaning"], f"{key} says nothing of itself"
        assert convert(value, hint, key, DEFAULT) == value
        low, high = field.metadata["low"], field.metadata["high"]
        if value is not None and not isinstance(value, (str, Path, bool)):
            assert (low is None or value >= low) and (high is None or value <= high), key


# --- groups of several kinds ---


@dataclass(frozen=True, kw_only=True)
class Round:
    kind: Literal["round"] = "round"
    radius: float = setting(1.0, "how wide", low=0)


@dataclass(frozen=True, kw_only=True)
class Square:
    kind: Literal["square", "cube"] = "square"
    side: float = setting(REQUIRED, "how long", low=0)
    tilt: float = setting(0.0, "how it stands")


@dataclass(frozen=True, kw_only=True)
class Drawing:
    shape: Round | Square = setting(Round(), "the figure")
    frame: Square | None = setting(None, "what stands around it")


def drawing(*layers: dict[str, Any]) -> Drawing:
    return resolve(Drawing, *(Layer(f"layer {index}", values) for index, values in enumerate(layers))).settings


def test_a_kind_is_named_by_a_bare_word_by_its_keys_or_outright() -> None:
    assert drawing({"shape": "round"}).shape == drawing({}).shape == drawing({"shape": {}}).shape == Round()
    assert drawing({"shape": {"kind": "cube", "side": "2"}}).shape == Square(kind="cube", side=2.0)
    assert drawing({"shape": {"side": 3}}).shape == Square(side=3.0)
    assert drawing({"shape": Square(side=4.0)}).shape == Square(side=4.0)
    assert drawing({"frame": {"side": 1}}).frame == Square(side=1.0)


def test_another_kind_keeps_what_it_has_too() -> None:
    first = {"shape": {"kind": "square", "side": 2.0, "tilt": 5.0}}
    assert drawing(first, {"shape": {"side": 3.0}}).shape == Square(side=3.0, tilt=5.0)
    assert drawing(first, {"shape": "round"}).shape == Round()
    assert drawing(first, {"shape": "round"}, {"shape": {"radius": 2}}).shape == Round(radius=2.0)
    assert drawing(first, {"shape": "cube"}).shape == Square(kind="cube", side=2.0, tilt=5.0)
    assert drawing({"frame": {"side": 2}}, {"frame": Typed("none")}).frame is None


@pytest.mark.parametrize("kind", [[], {}, [0, 1], 3, True])
def test_a_kind_that_is_no_word_is_none(kind: object) -> None:
    with pytest.raises(SettingsError, match="shape has no kind"):
        drawing({"shape": {"kind": kind}})


@pytest.mark.parametrize(
    ("values", "what", "hint"),
    [
        ({"shape": "sqare"}, "shape has no kind 'sqare'", "did you mean 'square'?"),
        (
            {"shape": {"kind": "round", "tilt": 1}},
            "shape of the kind round has no tilt",
            "leave tilt out, or choose shape=square, which has it",
        ),
        ({"shape": {"sdie": 1}}, "unknown setting shape.sdie", "did you mean 'side'?"),
        ({"shape": {"kind": "cube"}}, "shape.side must be given", "give a number of 0 or more"),
        (
            {"shape": 3},
            "shape is a group of settings, not one value",
            "set one of its members, for example shape.kind=…",
        ),
        (
            {"shape": None},
            "shape is a group of settings, not one value",
            "set one of its members, for example shape.kind=…",
        ),
    ],
)
def test_a_kind_that_cannot_be_is_said(values: dict[str, Any], what: str, hint: str) -> None:
    with pytest.raises(SettingsError) as caught:
        drawing(values)
    assert (caught.value.what, caught.value.hint) == (what, hint)


@pytest.mark.parametrize(
    "assignments",
    [
        ("shape=cube", "shape.side=2", "shape.tilt=3"),
        ("shape.side=2", "shape=cube", "shape.tilt=3"),
        ("shape.side=2", "shape.tilt=3", "shape.kind=cube"),
    ],
)
def test_a_kind_and_its_members_add_up_in_any_order(assignments: tuple[str, ...]) -> None:
    wanted = Square(kind="cube", side=2.0, tilt=3.0)
    assert drawing(parse_assignments(assignments)).shape == wanted
    part = resolve(partly(Drawing), Layer("command line", parse_assignments(assignments))).settings
    assert resolve(Drawing, Layer("parts", given_parts(part))).settings.shape == wanted


def test_a_group_in_part_changes_its_kind_too() -> None:
    layers = Layer("recipe", {"shape": {"side": 2}}), Layer("command line", {"shape": "round"})
    assert given_parts(resolve(partly(Drawing), *layers).settings) == {"shape": {"kind": "round"}}


def test_none_and_parts_of_one_group_do_not_go_together() -> None:
    with pytest.raises(SettingsError, match="frame is already given in parts"):
        parse_assignments(("frame.side=2", "frame=none"))


def test_a_tree_given_in_part_says_what_was_said_and_nothing_else() -> None:
    part = resolve(partly(Drawing), Layer("recipe", {"shape": {"side": 2}})).settings
    assert given_parts(part) == {"shape": {"side": 2.0}}
    assert given_parts(resolve(partly(Drawing), Layer("recipe", {"frame": Typed("none")})).settings) == {"frame": None}
    assert given_parts(partly(Drawing)()) == {}


@pytest.mark.parametrize(
    ("assignment", "what", "listed"),
    [
        (
            "model.norm=none",
            "model.norm.kind wants one of layer, layer_no_bias, rms",
            "known: layer, layer_no_bias, rms",
        ),
        ("model.init=null", "model.init wants one of gpt2, zero_projections, matched_keys", "known: gpt2, "),
        ("model.n_layers=none", "model.n_layers wants a whole number", "give a number from 1 to 4,096"),
    ],
)
def test_none_is_not_silently_a_setting_that_was_not_set(assignment: str, what: str, listed: str) -> None:
    with pytest.raises(SettingsError) as caught:
        resolve(TrainSettings, Layer("command line", parse_assignments((assignment,))))
    assert caught.value.what == what and caught.value.hint.startswith(listed)


def test_none_stays_a_word_where_it_is_a_value() -> None:
    typed = parse_assignments(("model.position=none", "model.attention.window=none", "model.depth=none"))
    model = resolve(
        TrainSettings, Layer("recipe", {"model": {"depth": 2}}), Layer("command line", typed)
    ).settings.model
    assert given_parts(model) == {"position": {"kind": "none"}, "attention": {"window": None}}


def test_what_a_setting_is_without_a_value_is_what_the_layer_below_says() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Heat:
        degrees: int = setting(7, "how hot", low=0)
        seed: int = 1

    with pytest.raises(SettingsError) as caught:
        resolve(Heat, Layer("preset", {"degrees": 20}), Layer("command line", {"degrees": "-1"}))
    assert caught.value.hint == "give a number of 0 or more, or leave degrees out: then it is 20"
    for name in ("degrees", "seed"):
        with pytest.raises(SettingsError, match=f"{name} must lie below 18,446,744,073,709,551,616"):
            resolve(Heat, Layer("command line", {name: "9" * 30}))
