"""Many rows at once: the compiled loops against the sampler itself, bit for bit, and each row's errors to itself."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pellucid.engine.sampling import find_loops as finding
from pellucid.engine.sampling.distribution import FEW, total
from pellucid.engine.sampling.find_loops import find_loops
from pellucid.engine.sampling.orders import ORDERS
from pellucid.engine.sampling.rows import FoundToken, RowAsk, RowReading, as_choice, choose_rows, read_chain
from pellucid.engine.sampling.sampler import Sampler, choose
from pellucid.engine.sampling.settings import SamplingSettings
from pellucid.engine.sampling.stage import FunctionStage
from pellucid.errors import SamplingError
from pellucid.events import Event

pytestmark = pytest.mark.skipif(importlib.util.find_spec("numba") is None, reason="the loops need Numba")

SIZES = (FEW + 1, 2500, 8191, 8192, 8193, 8192 + 129, 2 * 8192 + 255)
USUAL = (
    {"temperature": 0},
    {},
    {"temperature": 0.8},
    {"temperature": 0.3, "top_k": 30},
    {"temperature": 0.8, "top_p": 0.9},
    {"temperature": 0.7, "top_k": 30, "top_p": 0.95, "order": "llama.cpp"},
    {"min_p": 0.05},
    {"temperature": 0.8, "top_k": 20, "top_p": 0.95, "min_p": 0.05, "repetition_penalty": 1.1},
    {"temperature": 1.3, "top_p": 0.9, "min_p": 0.02, "top_k": 30, "order": "mlx"},
    {"temperature": 0.8, "ban": (3, 5), "logit_bias": ("7:2",), "top_p": 0.8, "order": "vllm"},
)


@pytest.fixture(scope="module")
def loops():
    """The loops for one thread and for two, as found on this machine; where NumPy has another exp there are none."""
    from pellucid.engine.sampling.fast.trial import find_difference

    if find_difference() == "exp":
        pytest.skip("NumPy's exp on this processor is another one")
    found = {threads: find_loops(threads=threads) for threads in (1, 2)}
    assert None not in found.values()
    return found


def build(size: int, **knobs) -> Sampler:
    own = {name: knobs.pop(name) for name in ("extra", "choice") if name in knobs}
    return Sampler(SamplingSettings(**{"seed": 11, **knobs}), num_logits=size, num_known=size, end_ids=(1,), **own)


def ask(sampler: Sampler, logits_V: np.ndarray, ids=(1, 2, 1), *, keep_rows: bool = False) -> RowAsk:
    return RowAsk(sampler, logits_V, list(ids), 1, keep_rows)


def draw_row(size: int, seed: int, kind: str, scale: float) -> np.ndarray:
    """A row of logits: as a model's, or as few models would make them."""
    rng = np.random.default_rng(seed)
    row_V = (rng.normal(size=size) * scale).clip(-1e38, 1e38).astype(np.float32)
    if kind == "ties":
        row_V = (np.round(rng.normal(size=size) * 4) / 4 * scale).astype(np.float32)
    elif kind == "steep":
        row_V = (-scale * rng.permutation(size)).clip(-1e38, 1e38).astype(np.float32)
    elif kind == "masked":
        row_V[rng.random(size) < rng.choice([0.5, 0.999])] = -np.inf
    elif kind == "flat":
        row_V[:] = np.float32(scale)
    elif kind == "nothing":
        row_V[:] = -np.inf
    elif kind == "broken":
        row_V[rng.integers(size)] = rng.choice([np.nan, -np.nan, np.inf])
    return row_V


def spell(results) -> list[str]:
    """Results as text that tells every bit of a number, and the rows that were kept."""
    return [
        f"{found!r} {[row_V.tobytes() for row_V in found.rows]}" if hasattr(found, "rows") else f"{found!r} {found}"
        for found in results
    ]


# --- the same bits --------------------------------------------------------------------------------------------------

any_row = st.tuples(
    st.integers(0, 2**32 - 1),
    st.sampled_from(["normal"] * 4 + ["ties", "ties", "steep", "masked", "masked", "flat", "nothing", "broken"]),
    st.sampled_from([1e-30, 0.01, 1.0, 3.0, 3.0, 3.0, 30.0, 1e37]),
)
any_chain = st.fixed_dictionaries(
    {
        "temperature": st.sampled_from([0.0, 1e-40, 0.01, 0.5, 0.8, 1.0, 1.0, 3.0, 1e6]),
        "order": st.sampled_from(["pellucid", "hf", "mlx", "llama.cpp", "vllm"]) | st.permutations(ORDERS["hf"].stages),
        "seed": st.integers(0, 2**60),
    },
    optional={
        "top_k": st.integers(1, 300),
        "top_p": st.floats(0.01, 0.9999) | st.sampled_from([5e-324, 0.5, 0.9]),
        "min_p": st.floats(0, 1) | st.sampled_from([5e-324, 1.0]),
        "repetition_penalty": st.floats(0.5, 2),
        "ban": st.frozensets(st.integers(0, 1000), max_size=3).map(tuple),
        "logit_bias": st.sampled_from([(), ("0:100",), ("3:-100", "4:2")]),
        "choice": st.integers(0, 3),
    },
)


@settings(max_examples=120)
@given(
    st.lists(st.tuples(any_row, any_chain, st.booleans()), min_size=1, max_size=4),
    st.sampled_from(SIZES),
    st.lists(st.integers(0, 1000), min_size=1, max_size=20),
    st.sampled_from([1, 2]),
)
def test_loops_give_what_the_sampler_gives(loops, drawn, size, ids, threads):
    """Any rows, chains, ids and neighbours: the token, both log-probabilities, the draw and the errors."""
    asked = []
    for row, knobs, keep_rows in drawn:
        order = knobs["order"] if isinstance(knobs["order"], str) else tuple(knobs["order"])
        asked.append(ask(build(size, **{**knobs, "order": order}), draw_row(size, *row), ids, keep_rows=keep_rows))
    assert spell(choose_rows(asked, loops[threads])) == spell(choose_rows(asked))


@pytest.mark.parametrize("knobs", USUAL, ids=str)
def test_the_usual_chains_are_left_to_the_loops_and_get_the_same_bits(loops, knobs):
    """Or the test above would say nothing about them."""
    asked = [
        ask(build(size, **knobs), draw_row(size, seed, kind, 3.0))
        for size in SIZES[1:]
        for seed, kind in enumerate(("normal", "normal", "masked", "ties"))
    ]
    readings = [read_chain(one) for one in asked]
    assert all(readings)
    found = [loops[1]([reading])[0] for reading in readings]
    assert sum(one is None for one in found) <= len(found) // 12  # a tie at the last token may leave them unsure
    assert spell(choose_rows(asked, loops[1])) == spell(choose_rows(asked))


@pytest.mark.parametrize(
    "knobs", [{}, {"temperature": 0.5}, {"top_p": 0.9}, {"temperature": 0.1, "top_k": 30}], ids=str
)
@pytest.mark.parametrize("u", [0.0, 2.0**-53, 0.5, 1 - 2.0**-53])
def test_the_ends_of_the_draw(loops, knobs, u):
    """Where rounding may carry the target to the whole sum, and where the first token that weighs anything is drawn."""
    for size in SIZES[1:]:
        for kind in ("normal", "steep", "masked", "flat"):
            sampler, row_V = build(size, **knobs), draw_row(size, size, kind, 0.5)
            reading = read_chain(ask(sampler, row_V))
            reading = RowReading(reading.model_V, reading.row_V, reading.steps, u)
            (found,) = loops[1]([reading])
            if found is not None:
                assert repr(as_choice(reading, found)) == repr(choose(row_V, sampler.stages, u))


def test_no_row_knows_its_neighbours(loops):
    """Each alone, all together in any order, on one thread and on two: the same bits."""
    size = SIZES[-1]
    asked = [ask(build(size, **knobs, seed=i), draw_row(size, i, "normal", 3.0)) for i, knobs in enumerate(USUAL)]
    alone = [spell(choose_rows([one], loops[1]))[0] for one in asked]
    for threads in (1, 2):
        assert spell(choose_rows(asked, loops[threads])) == alone
        assert spell(choose_rows(asked[::-1], loops[threads])) == alone[::-1]


def test_rows_of_several_lengths_and_kinds_of_number(loops):
    """Short rows, rows of float64 and every second number of a row are the sampler's own; lengths may differ."""
    asked = []
    for size in SIZES:
        wide_V = draw_row(2 * size, size, "normal", 3.0)
        rows = (wide_V[:size], wide_V[::2], wide_V[:size].astype(np.float64), wide_V[:7])
        asked += [ask(build(row_V.size, temperature=0.8, top_p=0.9), row_V, ids=(1,)) for row_V in rows]
    assert spell(choose_rows(asked, loops[1])) == spell(choose_rows(asked))


# --- errors ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("with_loops", [False, True])
def test_an_error_is_of_its_row_alone(loops, with_loops):
    def fail(logits_V, history):
        raise KeyError("a caller's own stage")

    size, good_V = 2500, draw_row(2500, 1, "normal", 3.0)
    broken_V, empty_V = draw_row(size, 2, "broken", 3.0), draw_row(size, 3, "nothing", 3.0)
    plain = build(size, temperature=0.8)
    asked = [
        ask(plain, good_V),
        ask(build(size, extra=(FunctionStage("fails", fail),)), good_V),
        ask(plain, broken_V),
        ask(build(size, ban=(0,), top_k=3), empty_V),
        ask(plain, good_V),
    ]
    first, failed, broken, empty, last = choose_rows(asked, loops[1] if with_loops else None)
    assert repr(first) == repr(last) == repr(plain.choose(good_V, [1, 2, 1], 1))
    assert isinstance(failed, KeyError)
    assert isinstance(broken, SamplingError)
    assert broken.where == "after model"
    assert isinstance(empty, SamplingError)
    assert empty.what == "no token is left to choose from"


# --- when the loops are used ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "knobs",
    [
        {"typical_p": 0.9},
        {"xtc_probability": 0.5, "temperature": 0},
        {"temperature": 0, "order": ("temperature", "ban"), "ban": (1,)},
    ],
    ids=str,
)
def test_what_the_loops_do_not_know_is_a_leading_stage_or_the_samplers(loops, knobs):
    size = 2500
    asked = [ask(build(size, **knobs), draw_row(size, seed, "normal", 3.0), ids=(1,)) for seed in range(3)]
    assert spell(choose_rows(asked, loops[1])) == spell(choose_rows(asked))


@pytest.mark.parametrize("order", ["pellucid", ("mirostat", "temperature")])
def test_what_is_remembered_of_a_choice_is_remembered_here_too(loops, order):
    """Mirostat's limit follows from every token so far: three of them, and a row beside that has none."""
    size, ids = 2500, [1]
    one, other = (build(size, mirostat=2, temperature=0.8, order=order) for _ in range(2))
    for seed in range(3):
        row_V = draw_row(size, seed, "normal", 3.0)
        beside = ask(build(size, top_k=5), row_V, ids)
        found = choose_rows([ask(one, row_V, ids), beside], loops[1])
        assert spell(found) == spell(choose_rows([ask(other, row_V, ids), beside]))
        ids = [*ids, found[0].id]


def test_a_sum_too_close_to_call_is_left_to_the_readable_stages(loops):
    """Four tokens of a quarter each, and half of the mass asked for: any other rounding would keep three."""
    row_V = np.full(2500, -np.inf, dtype=np.float32)
    row_V[[3, 700, 701, 2000]] = 1.0
    one = ask(build(2500, top_p=0.5), row_V)
    assert loops[1]([read_chain(one)]) == [None]
    assert spell(choose_rows([one], loops[1])) == spell(choose_rows([one]))


def test_weights_are_those_of_numpy(loops):
    """Also those that round to numbers near 0; and a sum of any length."""
    from pellucid.engine.sampling.fast.weigh import ONE, ZERO, plan_sum, weigh, weigh_row

    x_N = np.linspace(0x80000000, 0xFF800000, 1 << 18).astype(np.uint32).view(np.float32)
    w_N = np.empty_like(x_N)
    weigh(x_N, ZERO, ONE, w_N)
    assert np.array_equal(w_N.view(np.uint32), np.exp(x_N).view(np.uint32))
    row_V, totals = draw_row(30_000, 0, "normal", 3.0).clip(max=0), np.empty(2)
    for size in (*range(1, 300), 1000, *SIZES, 30_000):
        plan = plan_sum(size)
        weigh_row(row_V[:size], ZERO, np.array([1, 0.7], np.float32), plan, totals, np.empty(len(plan)))
        assert totals.tolist() == [total(np.exp(row_V[:size])), total(np.exp(row_V[:size] / np.float32(0.7)))]


def test_loops_that_differ_are_not_used(loops, monkeypatch):
    """The check can fail: another exp, or another token, and the readable stages choose, with a word."""
    from pellucid.engine.sampling.fast import trial

    events: list[Event] = []
    recorder = type("Recorder", (), {"record": staticmethod(events.append)})()
    with monkeypatch.context() as patch:
        patch.setattr(trial, "weigh", lambda x_N, highest, divisor, w_N: np.copyto(w_N, np.exp(x_N) * 1.0000001))
        assert find_loops(recorder=recorder) is None
    assert [(event.name, event.data) for event in events] == [("engine.choosing_readably", {"difference": "exp"})]
    with monkeypatch.context() as patch:
        patch.setattr(
            trial, "choose_by_loops", lambda readings: [FoundToken(7, 0.0, 0.0, 1.0, 0.0, 1.0)] * len(readings)
        )
        assert trial.find_difference() == "model → greedy"
    assert find_loops() is not None


def test_without_numba_there_are_no_loops(monkeypatch):
    monkeypatch.setattr(finding.importlib.util, "find_spec", lambda name: None)
    assert find_loops() is None
