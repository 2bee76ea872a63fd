"""The keywords that an editor completes are the fields of the settings, each of the field's kind."""

from __future__ import annotations

import inspect
import types
from collections.abc import Mapping, Sequence
from typing import Any, Union, get_args, get_origin, get_type_hints

import pytest

import pellucid
from pellucid.engine.keywords import BeamKeywords, RequestKeywords, SamplingKeywords
from pellucid.planning.report import plan as plan_model
from pellucid.settings import type_hints

MORE = {"logit_bias": Mapping[int, float] | Sequence[str]}  # a table is spelled before it becomes a setting


def as_given(hint: Any) -> Any:
    """A field's type as a person may give it: any sequence where the settings keep a tuple."""
    if get_origin(hint) in (Union, types.UnionType):
        return Union[tuple(map(as_given, get_args(hint)))]  # noqa: UP007
    return Sequence[get_args(hint)[0]] if get_origin(hint) is tuple else hint  # type: ignore[misc]


@pytest.mark.parametrize(
    ("keywords", "settings"),
    [(SamplingKeywords, pellucid.SamplingSettings), (BeamKeywords, pellucid.BeamSettings)],
)
def test_keywords_are_the_fields_of_the_settings(keywords: type, settings: type) -> None:
    wanted = {name: MORE.get(name, as_given(hint)) for name, hint in type_hints(settings).items()}
    assert get_type_hints(keywords) == wanted
    assert not keywords.__required_keys__  # type: ignore[attr-defined]


def test_what_a_prompt_may_be_asked_with_is_what_request_takes() -> None:
    parameters = inspect.signature(pellucid.LanguageModel.request).parameters.keys()
    own = parameters - {"self", "prompt", "sampling"}
    assert RequestKeywords.__annotations__.keys() == own | SamplingKeywords.__annotations__.keys()


def test_plan_takes_what_the_plan_is_made_from() -> None:
    def defaults(function: Any) -> dict[str, Any]:
        return {name: parameter.default for name, parameter in inspect.signature(function).parameters.items()}

    asked, made = defaults(pellucid.plan), defaults(plan_model)
    assert {name: asked[name] for name in made.keys() - {"config", "name"}} == {
        name: default for name, default in made.items() if name not in ("config", "name")
    }
