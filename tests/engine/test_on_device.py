"""Choosing where the rows lie: the sampler's own token wherever the device is sure of it, and the sampler's word elsewhere."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pellucid.engine.generate import prepare
from pellucid.engine.request import Request
from pellucid.engine.runners.runner import ReadPart
from pellucid.engine.runners.slot_runner import SlotRunner
from pellucid.engine.sampling.on_device import BOUND, DeviceRow, DeviceRows, RowBlock, draw_each
from pellucid.engine.sampling.rows import RowAsk, choose_rows
from pellucid.engine.sampling.sampler import Sampler
from pellucid.engine.sampling.settings import SamplingSettings
from pellucid.engine.scheduler import run_together
from pellucid.errors import SamplingError
from pellucid.events import MemoryRecorder

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
ORDERS = ["llama.cpp", "vllm", "hf", "mlx"]


@st.composite
def knobs(draw) -> dict[str, object]:
    """Settings of the usual chains, each stage present or not."""
    if draw(st.booleans()) and draw(st.booleans()):
        return {"temperature": 0}
    given = {
        "seed": draw(st.integers(0, 2**32)),
        "order": draw(st.sampled_from(ORDERS)),
        "temperature": draw(st.sampled_from([1.0, 0.7, 1.9, 1e-6, 50.0])),
        "top_k": draw(st.sampled_from([None, 1, 3, 40, 10_000])),
        "top_p": draw(st.sampled_from([None, 0.95, 0.5, 0.01])),
        "min_p": draw(st.sampled_from([None, 0.05, 0.6])),
    }
    return {name: value for name, value in given.items() if value is not None}


def rows_of(kind: str, seed: int, num_rows: int, num_logits: int) -> np.ndarray:
    """Rows of logits: spread wide, nearly flat, with many ties, with removed tokens."""
    draw = np.random.default_rng(seed)
    rows_BV = draw.normal(size=(num_rows, num_logits)) * {"flat": 0.01, "wide": 8.0}.get(kind, 2.0)
    rows_BV = rows_BV.round() if kind == "ties" else rows_BV
    if kind == "removed":
        rows_BV[:, draw.permutation(num_logits)[: num_logits // 2]] = -np.inf
    return rows_BV.astype(np.float32)


def asks_of(rows, samplers, length: int) -> list[RowAsk]:
    return [RowAsk(sampler, row_V, [1] * length, 1) for row_V, sampler in zip(rows, samplers, strict=True)]


@given(
    chains=st.lists(knobs(), min_size=1, max_size=5),
    kind=st.sampled_from(["plain", "flat", "wide", "ties", "removed"]),
    shape=st.tuples(st.sampled_from([5, 301, 5000]), st.integers(0, 7), st.integers(0, 99)),
)
@settings(max_examples=60, deadline=None)
def test_the_token_is_the_samplers(chains, kind, shape):
    num_logits, num_padding, seed = shape
    samplers = [
        Sampler(SamplingSettings(**chain), num_logits=num_logits, num_known=max(2, num_logits - num_padding))
        for chain in chains
    ]
    rows_BV = rows_of(kind, seed, len(chains) + 1, num_logits)  # the last row fills up
    rows_BV[:, 0] = np.maximum(rows_BV[:, 0], -20)  # something is known
    block = RowBlock(torch.from_numpy(rows_BV).to(DEVICE))
    held = DeviceRows([DeviceRow(block, row) for row in range(len(chains))])
    expected = choose_rows(asks_of(rows_BV[:-1], samplers, seed + 1))
    found = choose_rows(asks_of(held, samplers, seed + 1))
    assert [choice.id for choice in found] == [choice.id for choice in expected]
    assert [choice.u for choice in found] == [choice.u for choice in expected]
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.logprob == pytest.approx(theirs.logprob, abs=1e-5)
        assert ours.processed_logprob == pytest.approx(theirs.processed_logprob, abs=1e-5)


def test_what_a_row_gives_depends_on_no_other():
    """Rows of a block are computed with, whoever asks: so alone and beside others they give the same bits."""
    rows_BV = rows_of("plain", 3, 4, 5000)
    samplers = [Sampler(SamplingSettings(seed=n, top_p=0.9), num_logits=5000, num_known=5000) for n in range(4)]
    block = RowBlock(torch.from_numpy(rows_BV).to(DEVICE))
    asked = asks_of([DeviceRow(block, row) for row in range(4)], samplers, 5)
    assert choose_rows(asked) == [choose_rows([ask])[0] for ask in asked]
    assert len(block.choose(dict(enumerate(asked)))) == 4, "all were chosen on the device"


def test_near_a_border_the_device_is_not_sure():
    """A border itself, and both sides of it as far as the bound, are the sampler's; twice as far away the device decides."""
    weights_V = np.full(8, 0.125)
    row_BV = torch.from_numpy(np.log(weights_V).astype(np.float32))[None].to(DEVICE)
    for distance, sure in ((0.0, False), (0.9 * BOUND, False), (2 * BOUND, True)):
        for side in (-1, 1):
            u_B1 = torch.tensor([[0.5 + side * distance]], dtype=torch.float64, device=DEVICE)
            id_B, _, is_sure_B = draw_each(row_BV, u_B1)
            assert is_sure_B.tolist() == [sure]
            assert not sure or id_B.tolist() == [4 if side > 0 else 3]


def test_chains_that_the_device_does_not_know_are_chosen_by_the_processor_and_told_once():
    memory = MemoryRecorder()
    rows_BV = rows_of("plain", 1, 2, 50)
    told: set[str] = set()
    samplers = [Sampler(SamplingSettings(seed=n, typical_p=0.5), num_logits=50, num_known=50) for n in range(2)]
    for _ in range(2):
        block = RowBlock(torch.from_numpy(rows_BV).to(DEVICE), memory, told)
        found = choose_rows(asks_of([DeviceRow(block, 0), DeviceRow(block, 1)], samplers, 3))
    assert found == choose_rows(asks_of(rows_BV, samplers, 3))
    assert [event.name for event in memory.events] == ["engine.chosen_on_host"]
    assert memory.events[0].data == {"chain": "model → typical 0.5 → draw"}


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_broken_row_ends_its_own_text_alone(value):
    rows_BV = rows_of("plain", 1, 2, 50)
    rows_BV[1, 7] = value
    block = RowBlock(torch.from_numpy(rows_BV).to(DEVICE))
    samplers = [Sampler(SamplingSettings(seed=n), num_logits=50, num_known=50) for n in range(2)]
    good, broken = choose_rows(asks_of([DeviceRow(block, 0), DeviceRow(block, 1)], samplers, 3))
    assert good.id == samplers[0].choose(rows_BV[0], [1] * 3, 1).id
    assert isinstance(broken, SamplingError) and f"{value}" in str(broken)


def test_a_scheduler_over_rows_that_stay_on_the_device_writes_the_same_texts(tiny_model, merged_tokenizer):
    model = tiny_model(merged_tokenizer.vocab_size + 3, context_length=60, sharpness=10).to(DEVICE)
    asked = [
        Request(prompt_ids=[n, 5], sampling=SamplingSettings(**given, max_new_tokens=12), explain=n == 3)
        for n, given in enumerate(
            [
                {"seed": 1},
                {"temperature": 0},
                {"seed": 2, "top_k": 9, "temperature": 0.8},
                {"seed": 3},
                {"seed": 4, "mirostat": 2},
            ]
        )
    ]
    texts = []
    for there in (True, False):
        runner = SlotRunner(model, exact=True, num_slots=4, draws_there=there)
        assert isinstance(
            runner.read_held([ReadPart(runner.start([1], max_length=4), 1, 1)]), DeviceRows if there else np.ndarray
        )
        works = [prepare(runner, merged_tokenizer, one) for one in asked]
        run_together(runner, works)
        texts.append([[step.id for step in work.steps] for work in works])
    assert texts[0] == texts[1] and all(len(ids) == 12 for ids in texts[0])
