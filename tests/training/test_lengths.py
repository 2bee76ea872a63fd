"""A time budget: how the clock changes a run's length, what is written, and what a run makes of it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pellucid.errors import CorruptFileError
from pellucid.events import MemoryRecorder
from pellucid.store.metrics import evaluations
from pellucid.store.run import Run
from pellucid.training import make_plan, session
from pellucid.training import run as run_room
from pellucid.training.lengths import TOLERANCE, Lengths, TimeBudget
from pellucid.training.loop import Trainer
from pellucid.training.measure import Rates
from pellucid.training.recipes.pretrain import pretrain
from pellucid.training.schedule import rate_share
from pellucid.training.settings import ScheduleSettings


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run.create(tmp_path / "run", {})


def played(budget: TimeBudget, steps: int, cost, changes: list | None = None) -> tuple[int, float]:
    """(steps taken, seconds) of a run whose update number s takes cost(s) seconds."""
    seen, spent, step = [], 0.0, 0
    while step < steps:
        spent, step = spent + cost(step), step + 1
        seen.append((step, spent))
        found = budget.judge(seen, steps)
        if found is not None:
            assert step <= found[0] <= budget.most_steps and found[0] != steps and found[1]
            if changes is not None:
                changes.append((step, steps, found[0]))
            steps = found[0]
    return step, spent


COSTS = st.lists(st.floats(0.01, 5.0), min_size=1, max_size=12)


@given(
    costs=COSTS, planned=st.integers(1, 300), seconds=st.floats(5, 120), cooldown=st.sampled_from([0.0, 0.4, 0.6, 1.0])
)
def test_a_run_is_never_much_over_its_time(costs: list[float], planned: int, seconds: float, cooldown: float) -> None:
    """Whatever its updates take: over by the tolerance, or by what the last few of them took more than those before."""
    budget = TimeBudget(seconds=seconds, most_steps=planned, cooldown_share=cooldown)
    step, spent = played(budget, planned, lambda s: costs[s * len(costs) // planned])
    assert step >= 1 and spent <= seconds * (1 + TOLERANCE) + 4 * max(costs)


@given(seconds_per_step=st.floats(0.01, 2.0), planned=st.integers(40, 400), guess=st.floats(0.1, 10))
def test_a_wrong_first_measurement_is_put_right_both_ways(seconds_per_step: float, planned: int, guess: float) -> None:
    """The plan's rate was off by a factor; the time is used all the same, as far as the text is good for it."""
    seconds = planned * seconds_per_step * guess
    budget = TimeBudget(seconds=seconds, most_steps=10 * planned, cooldown_share=0.6)
    changes: list = []
    _, spent = played(budget, planned, lambda s: seconds_per_step, changes)
    assert 0.85 * seconds - 2 * seconds_per_step <= spent <= seconds * (1 + TOLERANCE) + seconds_per_step
    assert len(changes) <= 6


def test_a_run_is_not_made_longer_than_the_text_is_good_for() -> None:
    budget = TimeBudget(seconds=1000, most_steps=70, cooldown_share=0.6)
    assert played(budget, 50, lambda s: 1.0)[0] == 70
    assert played(dataclasses.replace(budget, most_steps=50), 50, lambda s: 1.0)[0] == 50


def test_a_slow_beginning_that_passes_shortens_nothing() -> None:
    changes: list = []
    budget = TimeBudget(seconds=100, most_steps=100, cooldown_share=0.6)
    step, _ = played(budget, 100, lambda s: 2.0 if s < 8 else 0.9, changes)
    assert (step, changes) == (100, [])


def test_what_is_done_once_at_the_start_is_not_taken_for_the_pace() -> None:
    """Compiling takes a third of the time; the steps after it are quick."""
    budget = TimeBudget(seconds=60, most_steps=400, cooldown_share=0.6)
    step, spent = played(budget, 200, lambda s: 20.0 if s == 0 else 0.2)
    assert step >= 190 and spent <= 62


@given(planned=st.integers(30, 400), per_step=st.floats(0.1, 1.0), factor=st.floats(0.2, 5.0))
def test_a_length_is_only_raised_before_the_rate_has_begun_to_fall(
    planned: int, per_step: float, factor: float
) -> None:
    """So every update that was done is one that the longer run would have done too (the rise at the start apart)."""
    shape = ScheduleSettings()
    budget = TimeBudget(
        seconds=planned * per_step * factor, most_steps=9 * planned, cooldown_share=shape.cooldown_share
    )
    changes: list = []
    played(budget, planned, lambda s: per_step, changes)
    for step, old, new in changes:
        if new > old:
            risen = round(shape.warmup_share * new)
            assert all(rate_share(s, old, shape) == rate_share(s, new, shape) for s in range(risen, step))


def test_lines_are_kept_and_read_back(run: Run) -> None:
    lengths = Lengths(run, 99)
    assert lengths.at(0) == lengths.at(98) == 99 and not lengths.is_settled(0)
    lengths.change(10, 50, "slow")
    lengths.change(30, 40, "slower")
    for known in (lengths, Lengths(Run.open(run.path), 99)):
        assert [known.at(step) for step in (0, 9, 10, 29, 30, 39)] == [99, 99, 50, 50, 40, 40]
        assert known.is_settled(30) and not known.is_settled(31)
    assert run.read_lengths()[1] == {"step": 30, "old": 50, "new": 40, "reason": "slower"}


def test_a_later_line_leaves_no_older_one_waiting(run: Run) -> None:
    """The run went on from step 12 with another length: what was decided for step 30 before that is void."""
    lengths = Lengths(run, 99)
    lengths.change(10, 50, "slow")
    lengths.change(30, 40, "slower")
    lengths.change(12, 200, "--extend")
    assert [lengths.at(step) for step in (9, 11, 12, 30, 150)] == [99, 50, 200, 200, 200]


@pytest.mark.parametrize("line", ['{"step": 5}', '{"step": 5, "old": 9, "new": 4}', '{"step": "5", "old": 9, "new": 8}',
                                  '{"step": -1, "old": 9, "new": 8}', '{"step": true, "old": 9, "new": 8}', "[]"])  # fmt: skip
def test_lines_that_make_no_sense_are_refused(run: Run, line: str) -> None:
    (run.path / "lengths.jsonl").write_text(line + "\n")
    with pytest.raises(CorruptFileError):
        Lengths(run, 9)


def test_half_a_line_is_removed_before_the_run_goes_on(run: Run) -> None:
    Lengths(run, 99).change(10, 50, "slow")
    with (run.path / "lengths.jsonl").open("a") as file:
        file.write('{"step": 30, "ol')
    with run.lock():
        assert len(Lengths(run, 99).lines) == 1


class Clock:
    """Moved by updates alone."""

    now, per_update = 0.0, 6.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Every update takes six seconds."""
    clock, honest = Clock(), Trainer.update

    def update(trainer: Trainer):
        clock.now += clock.per_update
        return honest(trainer)

    monkeypatch.setattr(Trainer, "update", update)
    for module in (session, make_plan, run_room):
        monkeypatch.setattr(module, "monotonic", clock)
    return clock


@pytest.fixture
def book(tmp_path: Path, prose) -> Path:
    path = tmp_path / "book.txt"
    path.write_text(prose(900), encoding="utf-8")
    return path


@pytest.mark.usefixtures("quick")
def test_a_run_ends_with_its_minutes_and_says_so(book: Path, tmp_path: Path, task, clock: Clock) -> None:
    heard = MemoryRecorder()
    finished = pretrain(task(book, tmp_path / "run", steps=25, minutes=1), recorder=heard)
    assert finished.step == finished.steps == 10 and finished.reason == "finished" and clock.now == 60
    [line] = Run.open(tmp_path / "run").read_lengths()
    assert (line["old"], line["new"]) == (25, 10) and line["step"] <= 4
    assert Run.open(tmp_path / "run").num_steps() == 10 and Run.open(tmp_path / "run").identity["plan"]["steps"] == 25
    [event] = [event for event in heard.events if event.name == "training.length"]
    assert "shortened from 25 to 10" in event.message and event.data == line
    rows = Run.open(tmp_path / "run").read_metrics()
    assert evaluations(rows)[-1]["step"] == 10 and finished.best is not None
    shares = [row["rate_share"] for row in rows if row["kind"] == "train"]
    assert shares[-1] == rate_share(9, 10, ScheduleSettings()), "the rate came down to the end"
    again = pretrain(task(book, tmp_path / "run", steps=25, minutes=1), recorder=heard)
    assert (again.step, again.steps) == (10, 10) and clock.now == 60
    assert any("this run is finished (10 steps)" in event.message for event in heard.events)


@pytest.mark.usefixtures("quick")
def test_a_machine_that_was_measured_under_load_makes_up_for_it(
    book: Path, tmp_path: Path, task, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Planned at a fraction of its speed, the run uses its minute all the same."""
    rates = Rates(training_flops_per_second=2.5e5, determinism_cost=0.0)
    monkeypatch.setattr(make_plan, "measure_training", lambda *args, **options: rates)
    monkeypatch.setattr(make_plan, "plan_unmeasured", lambda *args, **options: None)  # which so small a run would have
    clock.per_update = 1.5
    job = task(book, tmp_path / "run", steps=None, minutes=1, evaluation={"every_steps": 50})
    finished = pretrain(job)
    run = Run.open(tmp_path / "run")
    planned, lines = run.identity["plan"]["steps"], run.read_lengths()
    assert planned < 20 and lines[0]["old"] == planned < lines[0]["new"]
    assert 0.85 * 40 <= finished.step <= 41 and clock.now <= 62
    assert finished.step <= run.identity["plan"]["most_steps"]
    rows = [row for row in run.read_metrics() if row["kind"] == "train"]
    assert [row["rate_share"] for row in rows[1:10]] == [1.0] * 9 and rows[-1]["rate_share"] < 0.1


@pytest.mark.usefixtures("quick")
def test_a_run_without_minutes_knows_no_clock(book: Path, tmp_path: Path, task, clock: Clock) -> None:
    assert pretrain(task(book, tmp_path / "run", steps=25)).step == 25
    assert not (tmp_path / "run" / "lengths.jsonl").exists()


@pytest.mark.usefixtures("quick")
def test_a_shortened_run_can_be_extended(book: Path, tmp_path: Path, task, clock: Clock) -> None:
    pretrain(task(book, tmp_path / "run", steps=25, minutes=1))
    longer = task(book, tmp_path / "run", steps=None, minutes=2)
    finished = pretrain(dataclasses.replace(longer, extend=True))
    assert finished.step == finished.steps == 20 and clock.now == 120
    lines = Run.open(tmp_path / "run").read_lengths()
    assert (lines[-1]["step"], lines[-1]["new"], lines[-1]["reason"]) == (10, 20, "--extend")
    assert pretrain(longer).step == 20


@pytest.mark.usefixtures("quick")
def test_preparing_counts_but_leaves_some_time(book: Path, tmp_path: Path, task, clock: Clock) -> None:
    job = task(book, tmp_path / "run", steps=25, minutes=1)
    clock.now += 30
    assert pretrain(job).step == 5
    job = task(book, tmp_path / "late", steps=25, minutes=1)
    clock.now += 300
    assert pretrain(job).step == 2  # a quarter of the minute: 15 seconds
