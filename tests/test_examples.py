"""Every example runs as a person would run it, and prints what it promises."""

from __future__ import annotations

import json
import re
import runpy
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from pellucid.training import make_plan, set_up
from pellucid.training.measure import Rates
from pellucid.training.recipes import pretrain as recipe

EXAMPLES = Path(__file__).parents[1] / "examples"
TESTED = (
    "compare_bits_per_byte", "explain_a_step", "look_at_attention", "masked_lm", "plan_before_building",
    "tokenizer_step_by_step", "train_and_generate",
)  # fmt: skip


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """One thread, no measuring, no drawing, and temporary folders that pytest clears away."""
    rates = Rates(training_flops_per_second=1e10, determinism_cost=0.0)
    monkeypatch.setattr(make_plan, "measure_training", lambda *args, **options: rates)
    monkeypatch.setattr(recipe, "draw_loss", lambda run: None)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(set_up, "use_threads", lambda threads, machine: 1)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(False)


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run an example with these arguments; what it printed."""

    def call(name: str, *arguments: object) -> str:
        monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
        runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
        return capsys.readouterr().out

    return call


def test_every_example_is_tested_and_short() -> None:
    paths = {path.stem: path for path in EXAMPLES.glob("*.py")}
    assert sorted(paths) == sorted(TESTED)
    for path in paths.values():
        text = path.read_text(encoding="utf-8")
        assert 10 <= len(text.splitlines()) <= 48, path.name
        assert f"python examples/{path.name}" in text, "its first lines say how to run it"


def test_train_and_generate(example) -> None:
    printed = example("train_and_generate")
    assert re.search(r"[\d,]+ parameters, saved in ", printed)
    cold, warm = (re.search(rf"temperature {t}: (.*)", printed)[1] for t in ("0.5", "1.0"))
    assert len(cold) > 10 and cold != warm


def test_train_on_one_s_own_book(example, tmp_path: Path) -> None:
    book = tmp_path / "书.txt"
    book.write_text("从前有一只猫，住在河边。\n" * 60, encoding="utf-8")
    assert "temperature 1.0" in example("train_and_generate", book, 3)
    identity = json.loads(next(tmp_path.glob("*/run/run.json")).read_text(encoding="utf-8"))
    assert identity["settings"]["steps"] == 3


def test_look_at_attention(example) -> None:
    printed = example("look_at_attention")
    rows = [line for line in printed.splitlines() if "| most at" in line]
    assert "each row sums to 1.000" in printed and len(rows) >= 3
    assert "most at '<bos>' (1.00)" in rows[0], "the first token can look at nothing but itself"


def test_explain_a_step(example) -> None:
    printed = example("explain_a_step")
    stages = ("model", "temperature 0.7", "top-k 20", "top-p 0.9")
    assert all(re.search(rf"^    {re.escape(stage)} +\d+ tokens", printed, re.MULTILINE) for stage in stages)
    draw, start, end = map(float, re.search(r"draw ([\d.]+) falls into \[([\d.]+), ([\d.]+)\)", printed).groups())
    assert start <= draw <= end
    assert re.search(r"ids +1 x \d+\n", printed)


def test_tokenizer_step_by_step(example) -> None:
    printed = example("tokenizer_step_by_step")
    assert "decoded it is the same text: True" in printed and "never becomes a control token: True" in printed
    assert "merge " in printed and "'厨房'" in printed


def test_plan_before_building(example) -> None:
    printed = example("plan_before_building", "gpt2", "gpt3")
    assert "124,439,808" in printed and "174,604,259,328" in printed
    assert re.search(r"token_embedding +617,558,016  vocab_size x d_model", printed)


def test_masked_lm(example) -> None:
    printed = example("masked_lm")
    losses = [float(loss) for loss in re.findall(r"loss ([\d.]+)", printed)]
    assert losses[0] > 2.5 and losses[-1] < 0.3, "at first all 22 words are alike"
    filled = re.findall(r"<mask>.* ->  (\S+) \((\d+)%\)", printed)
    assert [word for word, _ in filled] == ["milk", "dog", "牛奶", "院子"]
    assert all(int(chance) > 60 for _, chance in filled)


def test_compare_bits_per_byte(example) -> None:
    rows = [line.split() for line in example("compare_bits_per_byte").splitlines()]
    assert [row[0] for row in rows] == ["tokenizer", "char", "bpe"]
    bits = {row[0]: float(row[-1]) for row in rows[1:]}
    tokens = {row[0]: int(row[2].replace(",", "")) for row in rows[1:]}
    assert tokens["char"] > tokens["bpe"]
    assert all(0 < value < 3 for value in bits.values()), "far below the 8 bits of a byte that is stored as it is"
