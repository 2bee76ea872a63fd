from __future__ import annotations

import importlib
import subprocess
import sys
from collections import Counter

import pytest

from pellucid.errors import RequestError
from pellucid.lens.lessons.contents import PATH
from pellucid.lessons.contents import LESSONS, find_lesson


def test_three_experiments_six_exercises_four_trials_a_measurement_and_the_eight_guided_lessons_of_the_lens():
    counts = Counter(lesson.kind for lesson in LESSONS)
    assert counts == {"experiment": 3, "exercise": 6, "trial": 4, "measurement": 1, "guided": 8}
    assert [lesson.name for lesson in LESSONS if lesson.kind == "guided"] == [entry.key for entry in PATH]


def test_numbers_and_names_find_each_lesson():
    assert [lesson.number for lesson in LESSONS] == list(range(1, len(LESSONS) + 1))
    for lesson in LESSONS:
        assert find_lesson(str(lesson.number)) is find_lesson(lesson.name) is lesson


def test_an_unknown_lesson_names_the_nearest():
    with pytest.raises(RequestError) as caught:
        find_lesson("tempratur")
    assert "temperature" in caught.value.hint


@pytest.mark.parametrize("lesson", LESSONS, ids=lambda lesson: lesson.name)
def test_every_entry_names_a_function(lesson):
    module, function = lesson.function.split(":")
    assert callable(getattr(importlib.import_module(f"pellucid.lessons.{module}"), function))


def test_the_list_loads_no_torch():
    program = "import sys, pellucid.lessons.contents, pellucid.cli.learn; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
