"""Questions at random: whatever is asked, by whatever name, there is an answer or a sentence that says what is wrong."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import pellucid.lens
from pellucid.engine.sampling.settings import SamplingSettings
from pellucid.errors import PellucidError
from pellucid.lens import fields
from pellucid.lens.answer import At
from pellucid.lens.dispatch import PARTS, Dispatch, open_lens
from pellucid.lens.fields import DEEPEST, LEAST, MOST, check_values
from pellucid.lens.lessons.contents import PATH
from pellucid.lens.page.server import STATUS, read_params
from pellucid.lens.questions import list_questions
from pellucid.model.build import build
from pellucid.model.context import Context
from pellucid.planning.config import ModelConfig
from pellucid.store.checkpoint import save_checkpoint
from pellucid.store.envelope import encode
from pellucid.store.run import Run
from pellucid.tokens.train import train_bpe

TOKENIZER = train_bpe(["hello world, 你好世界。hello there, 你好 " * 20], 300)
CONFIG = ModelConfig(
    vocab_size=304, context_length=16, n_layers=2, n_heads=4, n_kv_heads=2, head_dim=8, d_model=32, d_ff=48, init="gpt2"
)  # four rows of the embedding are padding
METHODS = {"about": None, **{name: function for part in PARTS for name, function in part.METHODS.items()}}

NUMBERS = st.one_of(
    st.integers(-3, 20),
    st.sampled_from([299, 300, 303, 304, 1000, -(2**31), 2**31, 2**53, 2**63, 10**30, -(10**300)]),
    st.floats(),
    st.booleans(),
    st.none(),
)
TEXTS = st.one_of(
    st.text(max_size=12),
    st.sampled_from(
        ["hello", "", "\ud800", "a\udfff", "x" * 5000, "/(a|/", "/((.|.)*)*x$/", "0x", "#3", "#" + "9" * 400]
    ),
)
LEAVES = NUMBERS | TEXTS
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3), max_leaves=6
)
SAMPLING = st.dictionaries(
    st.sampled_from(sorted(SamplingSettings.__dataclass_fields__)), LEAVES | st.lists(LEAVES, max_size=3), max_size=3
)
ASKED = st.tuples(st.sampled_from(["record", "card", "step"]), st.dictionaries(TEXTS, LEAVES, max_size=2)).map(list)
PLACE = {"node": st.integers(0, 3), "checkpoint": st.sampled_from([None, 10, 20])}
FITTING: dict[str, st.SearchStrategy[Any]] = {  # what a field of this name is likely to be; others are small numbers
    "at": st.fixed_dictionaries({}, optional=PLACE)
    | st.fixed_dictionaries({}, optional={"node": VALUES, "precision": VALUES}),
    "checkpoint": PLACE["checkpoint"],
    "axes_of": PLACE["checkpoint"],
    "sampling": SAMPLING | st.just({}),
    "filter": st.dictionaries(st.sampled_from(["script", "kind", "min_length", "max_length"]), LEAVES, max_size=2),
    "index": st.integers(0, 47) | st.lists(st.integers(0, 3) | NUMBERS | st.lists(NUMBERS, max_size=3), max_size=4),
    "words": st.lists(st.integers(0, 299) | LEAVES, max_size=4),
    "questions": st.lists(ASKED | VALUES, max_size=2),
    "text": st.sampled_from(["hello", "你好"]) | TEXTS,
    "content": TEXTS
    | st.builds(
        json.dumps,
        st.fixed_dictionaries({"format": st.just("pellucid-branches"), "version": st.just(1), "nodes": VALUES}),
    ),
    "id": st.integers(0, 303),
    "layer": st.integers(0, 1),
    "head": st.integers(0, 3),
    "kind": st.sampled_from(["head", "neuron", "attention", "mlp", "plens", "npz"]),
    "how": st.sampled_from(["zero", "mean"]),
    "site": st.sampled_from(["residual", "attention", "mlp", "head", "neuron", "input"]),
    "step": st.sampled_from(["dot", "scaled", "score", "weight"]),
    "method": st.sampled_from(["pca", "integrated", "gradient_x_input"]),
    "baseline": st.sampled_from(["zero", "mean"]),
    "name": st.sampled_from(["logits", "embed", "blocks.1.mlp.up", "blocks.0.attention.scores"]),
    "by": st.sampled_from(["value", "written"]),
    "part": st.sampled_from(["query", "key"]),
    "rule": st.sampled_from(["sgd", "adamw"]),
    "matrix": st.sampled_from([None, "embed.weight"]),
    "lesson": st.sampled_from([entry.key for entry in PATH]),
    "sort": st.sampled_from(["id", "-norm", "rank", "-rank"]),
    "language": st.sampled_from(["en", "zh"]),
    "wait": st.booleans(),
    "state": TEXTS,
    "search": TEXTS,
    "learning_rate": st.floats(1e-5, 1.0),
    "share": st.floats(0, 1),
    "count": st.integers(1, 9),
}
SMALL = st.integers(0, 5)
HOW_WILD = 6  # one field in so many is anything at all


@st.composite
def questions(draw: st.DrawFn) -> tuple[str, dict[str, Any]]:
    """A question's name with most of its fields, each fitting or wild, and now and then one that is not its own."""
    name = draw(st.sampled_from(sorted(METHODS)))
    fields = list(inspect.signature(METHODS[name]).parameters)[1:] if METHODS[name] else []
    params = {}
    for field in fields:
        wild = draw(st.integers(0, HOW_WILD))
        if wild != 1:
            params[field] = draw(VALUES if wild == 0 else FITTING.get(field, SMALL))
    return name, params | (draw(st.dictionaries(TEXTS, VALUES, max_size=1)) if draw(st.integers(0, 19)) == 0 else {})


@pytest.fixture(scope="module")
def dispatch(tmp_path_factory) -> Dispatch:
    path = tmp_path_factory.mktemp("runs") / "book"
    run = Run.create(path, {})
    for step in (10, 20):
        run.save(step, config=CONFIG, weights=build(CONFIG, seed=step).state_dict(), tokenizer=TOKENIZER, info={})
    return open_lens(path, text="hello 你好 hello")


@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(asked=questions())
def test_every_question_is_answered_or_told_what_is_wrong_with_it(dispatch, asked) -> None:
    method, params = asked
    try:
        encode(dispatch.answer(method, read_params(json.dumps(params).encode())))
    except PellucidError as error:
        assert next(STATUS[kind] for kind in type(error).__mro__ if kind in STATUS) == 400, (asked, error)
        assert error.what and json.dumps(error.to_dict())
        assert len(str(error)) < 2000


@pytest.mark.parametrize("name", [name for name in METHODS if METHODS[name]])
def test_a_range_belongs_to_a_field_of_some_question(name) -> None:
    """No question has a whole number of its own that no range bounds, but for those that name things made meanwhile."""
    free = {"node", "checkpoint", "axes_of", "offset", "first", "index", "seed", "text"}
    for field, parameter in list(inspect.signature(METHODS[name]).parameters.items())[1:]:
        if "int" in str(parameter.annotation):
            assert field in MOST or field in free, field


def test_every_range_is_in_use() -> None:
    used = {field for function in METHODS.values() if function for field in inspect.signature(function).parameters}
    assert set(MOST) | set(LEAST) <= used


@pytest.mark.parametrize(
    "params",
    [{"a": [[[[[[[[[[[[[0]]]]]]]]]]]]]}, {"text": "x" * 50_001}, {"\ud800": 1}, {"a": 2**53}, {"a": [0] * 30}],
    ids=["deep", "long", "half a pair", "large", "many"],
)
def test_what_no_question_holds_is_refused_before_it_is_read(params, monkeypatch) -> None:
    assert DEEPEST < 13
    monkeypatch.setattr(fields, "MOST_VALUES", 30)
    with pytest.raises(PellucidError):
        check_values(params)


def test_every_refusal_of_a_question_says_what_to_try() -> None:
    """Read from the code, so that a new refusal cannot forget it."""
    silent = [
        f"{path.name}:{call.lineno}"
        for path in Path(pellucid.lens.__file__).parent.rglob("*.py")
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(call, ast.Call) and getattr(call.func, "id", "") == "RequestError"
        if not any(keyword.arg == "hint" for keyword in call.keywords)
    ]
    assert not silent


def test_a_pattern_without_end_is_ended(dispatch, monkeypatch) -> None:
    monkeypatch.setattr("pellucid.tokens.search.search_texts.__kwdefaults__", {"seconds": 0.5})
    with pytest.raises(PellucidError, match="too long to search with"):
        dispatch.answer("vocabulary", {"search": "/((.|.)*)*x$/"})
    assert dispatch.answer("vocabulary", {"search": "/^he/"}).value["total"]


def test_a_row_of_the_embedding_that_no_token_uses_may_be_the_likeliest(tmp_path) -> None:
    """Everything that a recording holds can be asked then, and no lesson writes what no token is."""
    config = dataclasses.replace(CONFIG, tied_head=False)
    model = build(config, seed=10)
    ids = [TOKENIZER.bos_id, *TOKENIZER.encode("hello there 你好").ids]
    with torch.no_grad():
        model.head.weight.normal_(std=0.02)
        model.head.weight[302] = 9 * model.hidden(torch.tensor([ids]), Context())[0, -1]
    save_checkpoint(tmp_path / "m", config=config, weights=model.state_dict(), tokenizer=TOKENIZER, info={})
    dispatch = open_lens(tmp_path / "m", text="hello there 你好")
    assert dispatch.answer("record", {}).value["next"][0]["label"] == "[302]"
    asked = list(list_questions(dispatch, At()))
    assert {params["lesson"] for method, params in asked if method == "lesson"} == {entry.key for entry in PATH}
    for method, params in asked:
        encode(dispatch.answer(method, params))
