"""One pass and its context: batches of unequal rows, packed rows, other masks, and passes that run at the same time."""

from __future__ import annotations

import dataclasses
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pellucid.errors import ContextError
from pellucid.model.build import build, build_unfilled
from pellucid.model.context import Context
from pellucid.model.core import BatchedCore, ExplicitCore, SdpaCore
from pellucid.model.mask import Causal, Documents, Padding, Permutation, Prefix
from pellucid.model.recording import record

CORES = [BatchedCore(), SdpaCore(), ExplicitCore()]
POSITIONS = ["none", "learned", "sinusoidal", "rotary"]
WINDOWED = {"sliding_window": 3, "sliding_layers": (1,)}
# A product over rows of another length, or over keys with zeros behind them, may add its terms in another order: rows of
# an unequal batch agree with each row alone to rounding, not to the bit.
CLOSE = {"rtol": 1e-5, "atol": 1e-5}


def close(one, other):
    torch.testing.assert_close(one, other, **CLOSE)


def ids(*shape, seed=5):
    return torch.randint(0, 23, shape, generator=torch.Generator().manual_seed(seed))


def padded(rows):
    """Rows of ids in one tensor, and their lengths. What fills a row up must not matter: it is drawn."""
    filled = ids(len(rows), max(map(len, rows)), seed=77)
    for row, real in zip(filled, rows, strict=True):
        row[: len(real)] = torch.as_tensor(real)
    return filled, [len(row) for row in rows]


# Unequal rows


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), position=st.sampled_from(POSITIONS), core=st.sampled_from(CORES), windowed=st.booleans())
def test_an_unequal_batch_is_each_row_alone(scrambled, data, position, core, windowed):
    """Rows of different lengths, read in steps of different lengths, against each row read whole."""
    model = scrambled(position=position, **(WINDOWED if windowed else {}))
    rows = data.draw(st.lists(st.lists(st.integers(0, 22), min_size=3, max_size=12), min_size=2, max_size=3))
    cache, left = model.new_cache(12, batch_size=len(rows)), [list(row) for row in rows]
    found = [[] for _ in rows]
    with torch.inference_mode():
        while all(left):
            steps = [row[: data.draw(st.integers(1, len(row)))] for row in left]
            ids_BT, lengths = padded(steps)
            if cache.length + ids_BT.size(1) > 12 and len(set(cache.lengths)) == 1:
                break
            logits_BTV = model(ids_BT, Context(cache=cache, lengths=lengths, core=core)).logits_BTV
            for row, length in enumerate(lengths):
                found[row].append(logits_BTV[row, :length])
                del left[row][:length]
        for row, remaining, pieces, held in zip(rows, left, found, cache.lengths, strict=True):
            read = row[: len(row) - len(remaining)]
            assert held == len(read)
            if read:
                close(torch.cat(pieces), model(torch.tensor([read]), Context(core=core)).logits_BTV[0])


@pytest.mark.parametrize("position", POSITIONS)
def test_unequal_prompts_are_continued_side_by_side(scrambled, position):
    """A prompt each, then a token each: the last real position of every row is the one that is scored."""
    model = scrambled(position=position)
    prompts = [[3, 1, 4], [1], [5, 9, 2, 6, 5]]
    cache = model.new_cache(12, batch_size=3)
    with torch.inference_mode():
        ids_BT, lengths = padded(prompts)
        logits_B1V = model(ids_BT, Context(cache=cache, lengths=lengths), last_only=True).logits_BTV
        for _ in range(4):
            for row, prompt in enumerate(prompts):
                close(logits_B1V[row, 0], model(torch.tensor([prompt]), Context()).logits_BTV[0, -1])
            new_B1 = logits_B1V.argmax(-1)
            prompts = [[*prompt, int(new)] for prompt, new in zip(prompts, new_B1, strict=True)]
            logits_B1V = model(new_B1, Context(cache=cache), last_only=True).logits_BTV
    assert cache.lengths == [7, 5, 9]


@pytest.mark.parametrize("core", CORES)
def test_a_model_that_sees_both_ways_does_not_see_padding(scrambled, core):
    model = scrambled(causal=False)
    rows = [ids(7).tolist(), ids(4, seed=6).tolist()]
    ids_BT, lengths = padded(rows)
    by_lengths = model(ids_BT, Context(lengths=lengths, core=core)).logits_BTV
    by_mask = model(ids_BT, Context(mask=Padding(lengths_B=torch.tensor(lengths)), core=core)).logits_BTV
    for row, real in enumerate(rows):
        alone = model(torch.tensor([real]), Context(core=core)).logits_BTV[0]
        close(by_lengths[row, : len(real)], alone)
        close(by_mask[row, : len(real)], alone)


def test_unequal_rows_end_with_the_context(scrambled):
    model = scrambled()
    cache = model.new_cache(12, batch_size=2)
    model(ids(2, 11), Context(cache=cache, lengths=[11, 4]))
    model(ids(2, 1), Context(cache=cache))
    assert cache.lengths == [12, 5]
    with pytest.raises(ContextError, match="longer than the model's context"):
        model(ids(2, 1), Context(cache=cache))


def test_a_cache_that_was_cut_back_or_copied_goes_on_right(scrambled):
    model, row = scrambled(), ids(1, 9)
    cache = model.new_cache(12)
    with torch.inference_mode():
        model(ids(1, 6, seed=1), Context(cache=cache))
        cache.truncate(0)
        model(row[:, :5], Context(cache=cache))
        twin = cache.fork()
        model(ids(1, 2, seed=2), Context(cache=cache))
        close(model(row[:, 5:], Context(cache=twin)).logits_BTV, model(row).logits_BTV[:, 5:])
    assert (cache.length, twin.length) == (7, 9)


# Other masks


@pytest.mark.parametrize("core", CORES)
@pytest.mark.parametrize("position", POSITIONS)
@pytest.mark.parametrize("axes", [{}, {"causal": False}, WINDOWED], ids=str)
def test_a_packed_row_is_its_documents_apart(scrambled, axes, position, core):
    model = scrambled(position=position, **axes)
    documents = [[ids(4), ids(1, seed=1), ids(7, seed=2)], [ids(6, seed=3), ids(6, seed=4)]]
    ids_BT = torch.stack([torch.cat(row) for row in documents])
    numbers = [[n for n, document in enumerate(row) for _ in document] for row in documents]
    positions = [[t for document in row for t in range(len(document))] for row in documents]
    mask = model.mask & Documents(numbers_BS=torch.tensor(numbers))
    context = Context(mask=mask, positions_BT=torch.tensor(positions), core=core)
    packed_BTV = model(ids_BT, context).logits_BTV
    for packed_TV, row in zip(packed_BTV, documents, strict=True):
        apart = [model(document[None], Context(core=core)).logits_BTV[0] for document in row]
        close(packed_TV, torch.cat(apart))


def influences(model, ids_BT, context):
    """Whether row 0's scores at t depend on the embedding at s, [T, S]."""
    embedded = []

    def keep(name, x):
        if name != "embed":
            return x
        embedded.append(x.detach().requires_grad_())
        return embedded[-1]

    logits_BTV = model(ids_BT, dataclasses.replace(context, tap=keep)).logits_BTV
    gradients = [
        torch.autograd.grad(logits_TV.square().sum(), embedded[0], retain_graph=True)[0][0]
        for logits_TV in logits_BTV[0]
    ]
    return torch.stack(gradients).abs().sum(-1) > 0


@pytest.mark.parametrize("core", CORES)
def test_a_prefix_is_seen_by_all_and_the_rest_causally(scrambled, core):
    model, ids_BT = scrambled(), ids(2, 9)
    context = Context(mask=Prefix(lengths_B=torch.tensor([4, 0])), core=core)
    t, s = torch.arange(9)[:, None], torch.arange(9)
    assert torch.equal(influences(model, ids_BT, context), (s <= t) | (s < 4))
    close(model(ids_BT, context).logits_BTV[1], model(ids_BT).logits_BTV[1])  # a prefix of nothing is a causal row


@pytest.mark.parametrize("core", CORES)
def test_no_gradient_comes_from_what_is_later_in_the_order(scrambled, core):
    model, ids_BT = scrambled(), ids(1, 9)
    order = torch.randperm(9, generator=torch.Generator().manual_seed(3))
    ranks = order.argsort()  # order[ranks[t]] == t
    context = Context(mask=Permutation(ranks_BS=ranks[None], itself=True), core=core)
    assert torch.equal(influences(model, ids_BT, context), ranks[:, None] >= ranks)
    inorder = Context(mask=Permutation(ranks_BS=torch.arange(9)[None], itself=True), core=core)
    close(model(ids_BT, inorder).logits_BTV, model(ids_BT, Context(core=core)).logits_BTV)


@pytest.mark.parametrize("core", CORES)
def test_a_model_of_one_layer_can_foretell_in_any_order(scrambled, core):
    """Without `itself` attention brings nothing of a place to itself; what remains of it there is the stream's own."""
    model, ids_BT = scrambled(n_layers=1), ids(1, 6)
    ranks_BS = torch.tensor([[2, 0, 4, 1, 5, 3]])
    strict = record_mix(model, ids_BT, Context(mask=Permutation(ranks_BS=ranks_BS, itself=False), core=core))
    other_BT = ids_BT.clone()
    other_BT[0, 3] = (other_BT[0, 3] + 1) % 23
    after = record_mix(model, other_BT, Context(mask=Permutation(ranks_BS=ranks_BS, itself=False), core=core))
    same = (strict == after).all(-1).all(1)[0]
    # The query of place 3 itself is another one, but what it may gather from (place 1 alone) is not.
    close(strict[:, :, 3], after[:, :, 3])
    assert same[ranks_BS[0] < 1].all() and not same[ranks_BS[0] > 1].any()


def record_mix(model, ids_BT, context):
    kept = {}

    def keep(name, x):
        kept[name] = x
        return x

    model(ids_BT, dataclasses.replace(context, tap=keep))
    return kept["blocks.0.attention.mix"]


# Where and how


@pytest.mark.parametrize("axes", [{}, {"position": "learned", "causal": False}, WINDOWED], ids=str)
def test_shapes_can_be_had_without_memory(config, axes):
    model = build_unfilled(config.revise(**axes), device="meta", dtype=torch.float32)
    ids_BT = torch.zeros(2, 5, dtype=torch.long, device="meta")
    assert model(ids_BT).logits_BTV.shape == (2, 5, 23)
    masked = Context(mask=Causal() & Padding(lengths_B=torch.ones(2, dtype=torch.long, device="meta")))
    assert model(ids_BT, masked).logits_BTV.is_meta
    cache = model.new_cache(12, batch_size=2)
    model(ids_BT, Context(cache=cache, lengths=[5, 3]))
    assert model(ids_BT[:, :1], Context(cache=cache), last_only=True).logits_BTV.shape == (2, 1, 23)
    assert record(model, ids_BT)["blocks.0.attention.weights"].shape == (2, 4, 5, 5)


def test_what_was_made_while_only_reading_serves_training(scrambled, ids_BT):
    model = scrambled()
    with torch.inference_mode():
        read_BTV = model(ids_BT).logits_BTV
        masked = Context(mask=Causal() & Documents(numbers_BS=torch.zeros_like(ids_BT)))
        close(model(ids_BT, masked).logits_BTV, read_BTV)
    trained_BTV = model(ids_BT).logits_BTV
    assert torch.equal(trained_BTV, read_BTV) and not trained_BTV.is_inference()
    trained_BTV.sum().backward()


def test_a_compiled_pass_is_one_graph_and_is_compiled_once(config, ids_BT):
    """Nothing of a context makes the compiler stop or start again."""
    model = build(config.revise(dropout=0.1, **WINDOWED), seed=0).train()
    model.reserve_positions(12)
    compiled = []

    def backend(graph, inputs):
        compiled.append(graph)
        return graph.forward

    def step(ids_BT, numbers_BS, documents):
        mask = Causal() & Documents(numbers_BS=numbers_BS) if documents else None
        return model(ids_BT, Context(mask=mask, training=True)).logits_BTV.sum()

    fast = torch.compile(step, backend=backend, fullgraph=True, dynamic=False)
    for documents in (False, True):
        for seed in range(3):
            numbers_BS = torch.randint(0, 3, (2, 12), generator=torch.Generator().manual_seed(seed))
            torch.manual_seed(seed)
            expected = step(ids_BT, numbers_BS, documents)
            torch.manual_seed(seed)
            assert torch.equal(fast(ids_BT, numbers_BS, documents), expected)
    assert len(compiled) == 2
    torch.compiler.reset()


# At the same time


def test_different_passes_through_one_model_do_not_meet(scrambled):
    """A recording, an ablation, a reading on a cache, a plain pass and one in training, each again and again at once."""
    model, row = scrambled(dropout=0.3).train(), ids(2, 12)

    def without(name):
        return Context(tap=lambda heard, x: torch.zeros_like(x) if heard == name else x)

    def cached():
        cache = model.new_cache(12, batch_size=2)
        return torch.cat([model(part, Context(cache=cache)).logits_BTV for part in row.split(5, dim=1)], 1)

    questions = [
        lambda: torch.cat([x.flatten() for x in record(model, row).values()]),
        lambda: model(row, without("blocks.0.attention.output")).logits_BTV,
        lambda: model(row, without("blocks.1.mlp.hidden")).logits_BTV,
        lambda: model(row, Context(core=SdpaCore())).logits_BTV,
        lambda: model(row, Context(mask=Prefix(lengths_B=torch.tensor([3, 5])))).logits_BTV,
        cached,
    ]
    with torch.no_grad():
        alone = [ask() for ask in questions]
    together = Barrier(len(questions))

    def ask_often(number):
        torch.set_num_threads(1)
        together.wait()
        with torch.no_grad():
            return all(torch.equal(questions[number](), alone[number]) for _ in range(20))

    with ThreadPoolExecutor(len(questions)) as threads:
        assert all(threads.map(ask_often, range(len(questions))))
    assert all(part.training for part in model.modules())
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in model.modules())
