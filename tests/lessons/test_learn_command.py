from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from pellucid.cli.learn import command
from pellucid.errors import InputError, RequestError, SettingsError
from pellucid.lens.lessons.contents import PATH
from pellucid.lessons.contents import LESSONS


def run(*arguments: str) -> str:
    result = CliRunner().invoke(command, [*arguments, "--threads", "1"], catch_exceptions=False, standalone_mode=False)
    assert result.exit_code == 0
    return result.stdout


@pytest.mark.parametrize(("language", "title"), [("en", "From scores to probabilities"), ("zh", "从得分到概率")])
def test_the_list_and_the_page_carry_the_title(language, title):
    assert title in run("--lang", language)
    assert title in run("9", "--lang", language)


def test_a_number_and_a_name_open_the_same_page():
    assert run("10", "--lang", "en") == run("temperature", "--lang", "en")


def test_the_page_shows_the_figures_and_code_that_can_be_copied():
    text = run("temperature", "--lang", "zh")
    assert "0.9465  0.0471  0.0064" in text
    assert "\nfrom math import exp\n" in text


def test_json_holds_numbers_and_their_printed_form():
    document = json.loads(run("softmax", "--lang", "en", "--json"))
    steps = next(section["steps"] for section in document["sections"] if section["section"] == "workings")
    assert steps[-1]["shown"] == "0.858  0.116  0.026"
    assert sum(steps[-1]["value"]) == pytest.approx(1)
    assert [entry["number"] for entry in json.loads(run("--json"))] == list(range(1, len(LESSONS) + 1))


def test_a_trial_writes_its_plots(tmp_path):
    document = json.loads(run("letters", "--quick", "--json", "--out", str(tmp_path / "plots")))
    assert sorted(path.name for path in (tmp_path / "plots").iterdir()) == ["letters.png", "letters.svg"]
    assert len(document["plots"]) == 2


def test_the_beginners_lessons_come_first_with_the_numbers_of_the_page():
    first = [line.split()[:2] for line in run("--lang", "en").splitlines()[1:9]]
    assert first == [[str(number), entry.key] for number, entry in enumerate(PATH, 1)]


@pytest.mark.parametrize(
    "arguments", [("softmax", "--quick"), ("letters", "--text", "x.txt"), ("softmax", "--out", "plots")]
)
def test_an_option_without_effect_is_refused(arguments):
    with pytest.raises(SettingsError):
        run(*arguments)


def test_a_place_for_plots_that_cannot_be_is_refused_before_training(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(InputError):
        run("letters", "--quick", "--out", str(tmp_path / "file" / "plots"))


def test_an_unknown_lesson_is_refused():
    with pytest.raises(RequestError):
        run("attentoin")
