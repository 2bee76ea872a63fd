"""Many texts in one pass of the torch runner: with fixed shapes no bit depends on the others, and no slot is lost."""

from __future__ import annotations

import gc
import random

import numpy as np
import pytest
import torch

from pellucid.engine.choices import Choices
from pellucid.engine.generate import generate, prepare
from pellucid.engine.request import Request
from pellucid.engine.runners.runner import ReadPart
from pellucid.engine.runners.slot_runner import PIECE, SlotRunner, compute_piece, compute_step
from pellucid.engine.runners.torch_runner import TorchRunner
from pellucid.engine.sampling.settings import SamplingSettings
from pellucid.engine.scheduler import Scheduler
from pellucid.engine.settings import SchedulerSettings, SpeculationSettings
from pellucid.engine.slots import Bank
from pellucid.errors import ContextError, EngineError, OutOfPagesError, RequestError
from pellucid.model.build import build, build_unfilled
from pellucid.model.core import BatchedCore, SdpaCore
from pellucid.model.device import inference
from pellucid.planning.config import ModelConfig

CONTEXT, VOCABULARY = 160, 97
SHAPE = {"n_layers": 2, "n_heads": 4, "n_kv_heads": 2, "head_dim": 16, "d_model": 64, "d_ff": 96, "init": "gpt2"}
AXES = [
    {"sliding_window": 70, "rope_scaling": "linear", "rope_factor": 2.0},
    {"position": "learned", "tied_head": True},
]


@pytest.fixture(scope="module", params=AXES, ids=["window", "learned"])
def models(request):
    """Models whose positions and masks differ."""
    torch.set_num_threads(1)
    config = ModelConfig.from_axes(vocab_size=VOCABULARY, context_length=CONTEXT, **SHAPE, **request.param)
    return build(config, seed=1).eval()


@pytest.fixture(scope="module")
def model():
    torch.set_num_threads(1)
    return build(
        ModelConfig.from_axes(vocab_size=VOCABULARY, context_length=CONTEXT, **SHAPE, **AXES[0]), seed=1
    ).eval()


def some_ids(seed: int, count: int) -> list[int]:
    return np.random.default_rng(seed).integers(0, VOCABULARY, count).tolist()


PROMPTS = {n: some_ids(n, n) for n in (1, PIECE, PIECE + 1, 140)}
ANSWER = some_ids(0, 5)


def read_alone(runner: SlotRunner, prompt: list[int]) -> np.ndarray:
    """The row after the prompt, and that after each id of the answer: the prompt at once, nobody else there."""
    sequence = runner.start(prompt, max_length=CONTEXT)
    rows = [runner.read([sequence])[0]]
    for new in ANSWER:
        sequence.extend([new])
        rows.append(runner.read([sequence])[0])
    return np.stack(rows)


def read_among_others(runner: SlotRunner, prompt: list[int], draw: random.Random) -> np.ndarray:
    """The same rows with neighbours that come and go, in any slot, the prompt in pieces of any size, put back at times."""
    others = [
        runner.start(some_ids(draw.randrange(99), draw.randint(1, 130)), max_length=CONTEXT)
        for _ in range(draw.randint(1, 7))
    ]
    before = others[: draw.randint(0, len(others))]
    if before:
        runner.read(before)
    sequence, rows = runner.start(prompt, max_length=CONTEXT), []
    for new in [None, *ANSWER]:
        if new is not None:
            sequence.extend([new])
        if draw.random() < 0.3:
            sequence.cache.release()
        while len(sequence.unread) > 1 and draw.random() < 0.6:
            runner.read_parts([ReadPart(sequence, draw.randint(1, len(sequence.unread) - 1), 0)])
        for other in others:
            if draw.random() < 0.2:
                other.cache.release()
            elif len(other) < CONTEXT:
                other.extend([draw.randrange(VOCABULARY)])
        beside = [sequence, *(other for other in others if other.unread)]
        draw.shuffle(beside)
        rows.append(runner.read(beside)[beside.index(sequence)])
    return np.stack(rows)


@pytest.mark.parametrize("length", PROMPTS)
def test_neighbours_slots_pieces_and_being_put_back_change_no_bit(models, length):
    model, runner = models, SlotRunner(models, exact=True, num_slots=8)
    assert runner.exact
    alone = read_alone(runner, PROMPTS[length])
    slow = TorchRunner(model)
    np.testing.assert_allclose(alone, read_alone(slow, PROMPTS[length]), rtol=1e-4, atol=1e-5)
    for seed in range(3):
        among = read_among_others(runner.set_aside(None), PROMPTS[length], random.Random(seed))
        assert np.array_equal(alone, among)


def test_without_fixed_shapes_neighbours_do_change_bits(model):
    """The check above can fail: the same comparison finds bits that differ as soon as shapes follow the load."""
    runner = SlotRunner(model, exact=False, num_slots=8)
    assert not runner.exact
    alone = read_alone(runner, PROMPTS[140])
    among = [read_among_others(runner.set_aside(None), PROMPTS[140], random.Random(seed)) for seed in range(3)]
    assert all(np.allclose(alone, rows, rtol=1e-4, atol=1e-5) for rows in among)
    assert any((alone != rows).any() for rows in among)


@pytest.mark.parametrize("exact", [True, False])
def test_a_scheduler_with_too_few_slots_puts_texts_back_and_loses_none(merged_tokenizer, tiny_model, exact):
    model = tiny_model(merged_tokenizer.vocab_size, context_length=CONTEXT)
    runner = SlotRunner(model, exact=exact, num_slots=3)
    own = runner.set_aside(Bank.num_bytes(model.config, num_slots=3, dtype=model.dtype))
    knobs = [{"temperature": 0}, {"seed": 3}, {"seed": 4, "num_choices": 2}, {"seed": 5, "speculation": True}]
    works, expected = [], []
    scheduler = Scheduler(own, SchedulerSettings(prompt_rows_alone=50))
    for number, knob in enumerate(knobs * 2):
        num_choices, ahead = knob.get("num_choices", 1), SpeculationSettings(ngram=1) if "speculation" in knob else None
        sampling = SamplingSettings(
            max_new_tokens=9, **{k: v for k, v in knob.items() if k not in ("num_choices", "speculation")}
        )
        asked = Request(
            prompt_ids=some_ids(number, 14 * number + 1), sampling=sampling, num_choices=num_choices, speculation=ahead
        )
        works.append(start(own, merged_tokenizer, asked))
        expected.append(start(runner, merged_tokenizer, asked, alone=True))
        scheduler.add(works[-1])
    scheduler.run()
    assert all(work.error is None and work.is_over for work in works)
    if exact:
        for work, alone in zip(works, expected, strict=True):
            assert sorted(told(work.steps)) == sorted(told(alone))
    assert own.pool.num_used == 0 and len(own.pool.banks) == 1


def start(runner, tokenizer, asked, *, alone=False):
    generation = (generate if alone else prepare)(runner, tokenizer, asked)
    return Choices(generation) if asked.num_choices > 1 else generation


def told(steps):
    return [(step.choice, step.position, step.id, step.text, step.logprob, step.finish_reason or "") for step in steps]


def test_forks_share_what_was_read_and_part_from_there(model):
    runner = SlotRunner(model, exact=True, num_slots=2)
    own = runner.set_aside(Bank.num_bytes(model.config, num_slots=2, dtype=model.dtype))
    first = own.start(PROMPTS[140], max_length=CONTEXT)
    own.read([first])
    second, third = first.fork(), first.fork()
    assert [one.cache.length for one in (first, second, third)] == [140, 140, 0]  # two slots: the third is read anew
    first.extend([7]), second.extend([8]), third.extend([8])
    one, other = own.read([first, second])
    assert (one != other).any()
    with pytest.raises(OutOfPagesError, match="no memory for keys and values is left"):
        own.read([third])
    first.cache.release()
    assert np.array_equal(own.read([third])[0], other)


def test_a_text_that_is_dropped_gives_its_slot_back(model):
    runner = SlotRunner(model, exact=False, num_slots=2)
    runner.read([runner.start([1, 2], max_length=9)])
    assert runner.pool.num_used == 0


def test_a_bank_that_nobody_uses_any_more_serves_the_next_pool(model):
    """With the passes that were recorded over it: recording them takes longer than a text."""
    runner = SlotRunner(model, exact=True, num_slots=2)
    rows = []
    for _ in range(2):
        own = runner.set_aside(None)
        rows.append(own.read([own.start(PROMPTS[1], max_length=9)]))
        (bank,) = own.pool.banks
        assert bank.passes and not runner.shelf
        del own
        gc.collect()
        assert runner.shelf == [bank]
    assert np.array_equal(*rows)


@pytest.mark.parametrize("core", [SdpaCore(), BatchedCore()])
def test_a_pass_that_is_recorded_asks_for_no_number(models, core, monkeypatch):
    """On the meta device there are none: whoever waited for one, as no recording can, would break off here."""
    blank = build_unfilled(models.config, device="meta", dtype=torch.bfloat16)
    monkeypatch.setattr(blank, "choose_core", lambda *where, **how: core)
    bank = Bank(blank.config, num_slots=4, device="meta", dtype=torch.bfloat16)
    step_B1, piece_1P = (torch.zeros(shape, dtype=torch.long, device="meta") for shape in ((4, 1), (1, PIECE)))
    with inference():
        assert compute_step(blank, bank, step_B1, step_B1, step_B1, num_all=CONTEXT).shape == (4, VOCABULARY)
        assert compute_piece(blank, bank, piece_1P, piece_1P, step_B1[:1]).shape == (PIECE, SHAPE["d_model"])


def test_what_is_refused(model):
    runner = SlotRunner(model, exact=True, num_slots=4)
    with pytest.raises(EngineError, match="the memory set aside for keys and values is too small"):
        runner.set_aside(3 * Bank.num_bytes(model.config, num_slots=1, dtype=model.dtype))
    with pytest.raises(ContextError, match="the key-value cache is full"):
        runner.read([runner.start([1] * 9, max_length=8)])
    with pytest.raises(RequestError, match="an id that the model does not have"):
        runner.read([runner.start([VOCABULARY], max_length=8)])
    with pytest.raises(RequestError, match="read by another runner"):
        runner.set_aside(None).read([runner.start([1], max_length=8)])


def test_where_shapes_follow_the_load_less_memory_is_fewer_slots(model):
    runner = SlotRunner(model, exact=False, num_slots=4)
    own = runner.set_aside(3 * Bank.num_bytes(model.config, num_slots=1, dtype=model.dtype))
    assert (own.num_slots, own.pool.budget) == (3, 1)
    assert own.name.endswith("steps of up to 3") and runner.name.endswith("steps of up to 4")
