"""Taking away: what an export holds, what it never asks again, and that a trace comes out as it is."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from pellucid.errors import RequestError
from pellucid.lens.answer import At
from pellucid.lens.dispatch import Dispatch, open_lens
from pellucid.lens.page import program
from pellucid.lens.page.export import CHANGES, read_questions
from pellucid.lens.page.html import canonical
from pellucid.lens.trace import load_trace
from pellucid.model.build import build
from pellucid.planning.config import ModelConfig
from pellucid.store.checkpoint import save_checkpoint
from pellucid.tokens.train import train_bpe

CONFIG = ModelConfig(
    vocab_size=258, context_length=12, n_layers=2, n_heads=2, n_kv_heads=1, head_dim=4, d_model=8, d_ff=16
)
AT = {"node": 0, "checkpoint": None}


@pytest.fixture
def dispatch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Dispatch:
    """A dispatch on a tiny model, and a page that is only its exports."""
    path = tmp_path / "lens.js"
    path.write_text("const a = 1;\nexport { a as mount, a as recordingHost };\n", encoding="utf-8")
    monkeypatch.setattr(program, "BUILT", path)
    weights = {name: parameter.detach() for name, parameter in build(CONFIG, seed=1).named_parameters()}
    save_checkpoint(
        tmp_path / "model", config=CONFIG, weights=weights, tokenizer=train_bpe(["a"], 258, specials="none"), info={}
    )
    return open_lens(tmp_path / "model", text="abca")


def recorded(dispatch: Dispatch, questions: list[object]) -> dict[str, str]:
    answer = dispatch.answer("export", {"at": AT, "kind": "html", "questions": questions})
    page = np.asarray(answer.arrays["file"]).tobytes().decode("utf-8")
    found = re.search(r'id="recording">(.*?)</script>', page)
    assert found
    return json.loads(found[1])["answers"]


def test_what_was_asked_is_there_for_every_layer_and_token(dispatch: Dispatch) -> None:
    asked = ["neurons", {"at": AT, "layer": 0, "position": 1, "count": 3, "by": "value"}]
    answers = recorded(dispatch, [asked])
    for change in ({}, {"layer": 1}, {"position": 0}, {"position": 3}):
        assert "neurons" + canonical({**asked[1], **change}) in answers  # type: ignore[dict-item]
    assert {"about{}", "tree{}", "record" + canonical({"at": AT})} <= set(answers)


def test_what_changes_something_is_never_asked_again(dispatch: Dispatch) -> None:
    before = dispatch.answer("tree", {}).value
    asked = [["step", {"node": 0, "sampling": {}}], ["prompt", {"text": "b"}], ["undo", {}], ["branches.save", {}]]
    answers = recorded(dispatch, asked)
    assert dispatch.answer("tree", {}).value == before
    assert not any(key.startswith(tuple(f"{name}{{" for name in CHANGES)) for key in answers)


def test_every_question_that_changes_the_tree_is_known_as_one(dispatch: Dispatch) -> None:
    taking_turns = {name for name, method in dispatch.methods.items() if method.__module__.endswith(".branching")}
    assert taking_turns - CHANGES == {"tree", "path"}


@pytest.mark.parametrize("question", ["about", ["about"], ["about", []], [1, {}], None])
def test_what_is_no_question_is_refused(question: object) -> None:
    with pytest.raises(RequestError, match="not a question"):
        read_questions([question])


def test_a_trace_comes_out_as_it_is(dispatch: Dispatch, tmp_path: Path) -> None:
    path = tmp_path / "trace.plens"
    path.write_bytes(np.asarray(dispatch.answer("export", {"at": AT, "kind": "plens"}).arrays["file"]).tobytes())
    again, first = load_trace(path), dispatch.trace(At(node=0))
    for name in ("embed", "blocks.1.attention.weights", "logits"):
        np.testing.assert_array_equal(again[name], first[name])


@pytest.mark.parametrize(("kind", "language"), [("exe", "en"), ("html", "fr")])
def test_other_kinds_and_languages_are_refused(dispatch: Dispatch, kind: str, language: str) -> None:
    with pytest.raises(RequestError):
        dispatch.answer("export", {"at": AT, "kind": kind, "language": language})
