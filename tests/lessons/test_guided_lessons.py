"""`pellucid learn` with a guided lesson: the same words and checks as the page's, on a model that is named or found."""

from __future__ import annotations

import json
import os

import pytest
import torch
from click.testing import CliRunner

from pellucid.cli.guided import converse
from pellucid.cli.learn import command
from pellucid.errors import RequestError, SettingsError, StoreError
from pellucid.lens.dispatch import open_lens
from pellucid.lens.lessons.contents import PATH
from pellucid.lens.lessons.words import say
from pellucid.lessons.guided import find_newest, open_guided
from pellucid.model.build import build
from pellucid.planning.config import ModelConfig
from pellucid.store.run import Run
from pellucid.tokens.train import train_bpe

TOKENIZER = train_bpe([say(language, "sample") for language in ("en", "zh")] * 10, 300)
CONFIG = ModelConfig(
    vocab_size=300, context_length=96, n_layers=1, n_heads=2, n_kv_heads=1, head_dim=8, d_model=16, d_ff=24, init="gpt2"
)


def make_run(path):
    weights = build(CONFIG, seed=1).state_dict()
    Run.create(path, {}).save(1, config=CONFIG, weights=weights, tokenizer=TOKENIZER, info={})
    return path


@pytest.fixture(scope="module")
def run_path(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("runs") / "book")


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def learn(*arguments) -> str:
    given = [*map(str, arguments), "--threads", "1", "--device", "cpu"]
    result = CliRunner().invoke(command, given, catch_exceptions=False, standalone_mode=False)
    assert result.exit_code == 0
    return result.stdout


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("key", [entry.key for entry in PATH])
def test_a_lesson_is_told_checked_and_closed_in_both_languages(run_path, key, language) -> None:
    told = learn(key, "--model", run_path, "--lang", language, "--answer", 1)
    assert say(language, f"{key}.title") in told
    assert say(language, "right") in told or say(language, "wrong") in told
    assert say(language, "said") in told and "{" not in told.replace("{'", "")


def test_the_answer_that_the_program_gives_is_the_one_it_accepts(run_path) -> None:
    for entry in PATH:
        wrong = json.loads(learn(entry.key, "--model", run_path, "--lang", "en", "--json", "--answer", 1))["checked"]
        number = wrong["answer"].split("  ")[0]
        assert json.loads(learn(entry.key, "--model", run_path, "--json", "--answer", number))["checked"]["right"]


def test_the_terminal_asks_what_the_page_asks(run_path) -> None:
    dispatch = open_lens(run_path, text="Anna picked up the apple")
    told = json.loads(learn(4, "--model", run_path, "--prompt", "Anna picked up the apple", "--json"))
    asked = dispatch.answer("lesson", {"lesson": "heads"}).value
    assert told["choices"] == [choice["shown"] for choice in asked["choices"]]
    assert told["checked"] is None and told["text"] == asked["text"]


def test_without_an_answer_a_pipe_is_told_how_to_give_one(run_path) -> None:
    told = learn("draw", "--model", run_path, "--lang", "en")
    last = told.splitlines()[-1]
    assert f"pellucid learn draw --model {run_path} --answer NUMBER" in last and say("en", "right") not in told
    answer = open_guided("draw", run_path, None, language="en").check("0").answer
    assert answer.split("  ")[0] not in last.replace(str(run_path), "")


def test_a_person_is_asked_until_the_answer_is_right(run_path, monkeypatch, capsys) -> None:
    guided = open_guided("token", run_path, None, language="en")
    right = guided.check("0").answer
    given = iter(["many", "1000", right])
    monkeypatch.setattr("click.prompt", lambda *args, **options: next(given))
    converse(guided, "en")
    printed = capsys.readouterr()
    assert "not a number" in printed.err
    assert printed.out.index(say("en", "wrong")) < printed.out.index(say("en", "right"))
    assert not list(given)


def test_an_empty_answer_has_it_shown(run_path, monkeypatch, capsys) -> None:
    monkeypatch.setattr("click.prompt", lambda *args, **options: "")
    guided = open_guided("training", run_path, None, language="zh")
    converse(guided, "zh")
    printed = capsys.readouterr().out
    assert guided.check("1").answer in printed and say("zh", "right") not in printed


def test_the_run_worked_on_last_is_found(tmp_path) -> None:
    with pytest.raises(StoreError) as caught:
        find_newest(tmp_path)
    assert "--model" in caught.value.hint
    old, new = make_run(tmp_path / "old"), make_run(tmp_path / "new")
    os.utime(old, (1, 1))
    assert find_newest(tmp_path) == new


@pytest.mark.parametrize("answer", ["0", "5", "1.5", "the first"])
def test_an_answer_that_is_no_choice_is_refused(run_path, answer) -> None:
    with pytest.raises(RequestError) as caught:
        learn("heads", "--model", run_path, "--answer", answer)
    assert "1 to 4" in caught.value.hint


def test_options_of_other_lessons_are_refused(run_path) -> None:
    for arguments in (("heads", "--quick"), ("softmax", "--model", run_path)):
        with pytest.raises(SettingsError):
            learn(*arguments)
