"""Every experiment against a slow computation that shares no code with it: zeroed weights, finite differences, loops."""

from __future__ import annotations

import copy
import itertools
import math
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
import torch
from scrambled import scrambled
from torch import Tensor

from pellucid.errors import RequestError
from pellucid.lens import interventions
from pellucid.lens.attribution import contributions, gradient_x_input, integrated_gradients
from pellucid.lens.interventions import Target, ablate, ablate_heads, occlude, patch, predict, sweep
from pellucid.lens.sites import find_site
from pellucid.model.decoder import Decoder
from pellucid.model.recording import record
from pellucid.planning.config import ModelConfig

MODERN = ModelConfig(
    vocab_size=23, context_length=12, n_layers=2, n_heads=4, n_kv_heads=2, head_dim=6, d_model=20, d_ff=31
)
GPT2_LIKE = MODERN.revise(n_kv_heads=4, position="learned", norm="layer", feed_forward="gelu_tanh", qk_norm=False, qkv_bias=True,
    output_bias=True, mlp_bias=True,
)  # fmt: skip
UNTIED = MODERN.revise(tied_head=False, position="sinusoidal", norm="layer_no_bias", sliding_window=3)
BOTH_WAYS = MODERN.revise(causal=False, position="sinusoidal")
CONFIGS = {"modern": MODERN, "gpt2": GPT2_LIKE, "untied": UNTIED, "both_ways": BOTH_WAYS}
IDS = (3, 14, 15, 9, 2, 6)
OTHER = (5, 3, 5, 8, 9, 7)
TARGETS = [Target(id=4), Target(id=4, against=17)]


@pytest.fixture(params=CONFIGS, scope="module")
def model(request) -> Decoder:
    return scrambled(CONFIGS[request.param])


def plain(model: Decoder, ids=IDS) -> Tensor:
    with torch.no_grad():
        return model(torch.tensor([ids])).logits_BTV[0, -1]


def close(left: Tensor, right: Tensor, tolerance: float = 2e-5) -> None:
    torch.testing.assert_close(left, right, rtol=tolerance, atol=tolerance, equal_nan=True)


def zeroed(model: Decoder, kind: str, layer: int, index: int) -> Decoder:
    """A copy of the model whose weights have a hole where the part was."""
    other = copy.deepcopy(model)
    block, width = other.blocks[layer], model.config.head_dim
    with torch.no_grad():
        if kind == "head":
            block.attention.output.weight[:, index * width : (index + 1) * width] = 0
        elif kind == "neuron":
            block.mlp.down.weight[:, index] = 0
        else:
            for parameter in (block.attention.output if kind == "attention" else block.mlp.down).parameters():
                parameter.zero_()
    return other


@pytest.mark.parametrize("kind", ["head", "neuron", "attention", "mlp"])
def test_ablation_equals_a_model_with_zeroed_weights(model: Decoder, kind: str) -> None:
    for layer, index in itertools.product(range(2), (0, 3)):
        expected = plain(zeroed(model, kind, layer, index))
        close(ablate(model, IDS, find_site(model, kind, layer, index)), expected)
        assert not torch.allclose(expected, plain(model), atol=1e-3)
    close(plain(model), predict(model, torch.tensor([IDS]))[0])  # nothing of it stays


def test_mean_ablation_writes_the_same_at_every_position(model: Decoder) -> None:
    spot = find_site(model, "mlp", 1)
    seen = []
    hook = model.blocks[1].mlp.register_forward_hook(lambda module, inputs, output: seen.append(output))
    plain(model)
    hook.remove()
    mean_D = seen[0][0].mean(0)
    hook = model.blocks[1].mlp.register_forward_hook(lambda module, inputs, output: output * 0 + mean_D)
    expected = plain(model)
    hook.remove()
    close(ablate(model, IDS, spot, "mean"), expected)


@pytest.mark.parametrize("target", TARGETS)
def test_heads_taken_out_together_are_heads_taken_out_one_by_one(model: Decoder, target: Target) -> None:
    before = target.read(plain(model)[None])
    expected = [
        [target.read(plain(zeroed(model, "head", layer, head))[None]) - before for head in range(4)]
        for layer in range(2)
    ]
    close(ablate_heads(model, IDS, target), torch.tensor(expected))


@pytest.mark.parametrize("target", TARGETS)
def test_occlusion_equals_reading_each_shorter_text(model: Decoder, target: Target) -> None:
    before = target.read(plain(model)[None])
    shorter = [IDS[:place] + IDS[place + 1 :] for place in range(len(IDS))]
    close(occlude(model, IDS, target), torch.cat([target.read(plain(model, ids)[None]) - before for ids in shorter]))
    other = [(*IDS[:place], 11, *IDS[place + 1 :]) for place in range(len(IDS))]
    close(occlude(model, IDS, target, 11), torch.cat([target.read(plain(model, ids)[None]) - before for ids in other]))


def test_the_only_token_cannot_be_left_out(model: Decoder) -> None:
    assert torch.isnan(occlude(model, (3,), Target(id=1))).tolist() == [True]


def difference(model: Decoder, target: Target, place: int, axis: int, step: float = 1e-4) -> float:
    """The slope of the target along one coordinate of one token's embedding, by moving it both ways."""
    values = []
    for sign in (1, -1):

        def move(module, inputs, output, sign=sign):
            output = output.clone()
            output[0, place, axis] += sign * step
            return output

        hook = model.embed.register_forward_hook(move)
        values.append(target.read(plain(model)[None]).item())
        hook.remove()
    return (values[0] - values[1]) / (2 * step)


@pytest.mark.parametrize("target", TARGETS)
def test_gradient_times_input_equals_finite_differences(model: Decoder, target: Target) -> None:
    scores = gradient_x_input(model, IDS, target).scores_T
    fine = copy.deepcopy(model).double()
    for place in (0, 3, 5):
        x_D = fine.embed.weight[IDS[place]].tolist()
        slopes = [difference(fine, target, place, axis) for axis in range(20)]
        assert scores[place].item() == pytest.approx(sum(x * s for x, s in zip(x_D, slopes)), rel=1e-3, abs=1e-3)


@pytest.mark.parametrize("target", TARGETS)
def test_integrated_gradients_add_up(model: Decoder, target: Target) -> None:
    shares = integrated_gradients(model, IDS, target, steps=128)
    assert shares.scores_T.sum().item() + shares.gap == pytest.approx(shares.difference, abs=1e-4)
    assert abs(shares.gap) < 0.02 * max(1.0, abs(shares.difference))
    mean_D = model.embed.weight.detach().mean(0)
    hook = model.embed.register_forward_hook(lambda module, inputs, output: output * 0 + mean_D)
    empty = target.read(plain(model)[None])
    hook.remove()
    assert shares.difference == pytest.approx((target.read(plain(model)[None]) - empty).item(), abs=1e-4)


def test_a_coarser_integral_admits_a_wider_gap(model: Decoder) -> None:
    coarse, fine = (integrated_gradients(model, IDS, Target(id=4), steps=steps) for steps in (2, 256))
    assert abs(coarse.gap) > abs(fine.gap)


@pytest.mark.parametrize("target", TARGETS)
def test_contributions_add_up_to_the_logit(model: Decoder, target: Target) -> None:
    shared = contributions(model, IDS, target)
    logits = plain(model)
    lead = logits[target.id] - (0 if target.against is None else logits[target.against])
    assert shared.total == pytest.approx(lead.item(), abs=1e-4)
    assert abs(shared.gap) < 1e-3
    assert (shared.parts["position"] == 0) == (model.config.position.kind == "rotary")
    for layer, block in enumerate(model.blocks):
        if block.attention.output.bias is None:
            assert shared.heads_LH[layer].sum().item() == pytest.approx(
                shared.parts[f"blocks.{layer}.attention"], abs=1e-4
            )


def everywhere(ids=IDS) -> list[tuple[int, int]]:
    return [(place, place) for place in range(len(ids))]


def test_patching_everything_gives_the_other_text(model: Decoder) -> None:
    for kind, layer in (("input", 0), ("residual", 0), ("residual", 1)):
        patched = patch(model, IDS, OTHER, find_site(model, kind, layer), everywhere())
        close(patched.after, plain(model, OTHER))
        close(patched.source, plain(model, OTHER))
        close(patched.before, plain(model))


def test_the_last_stream_alone_decides(model: Decoder) -> None:
    patched = patch(model, IDS, OTHER[:4], find_site(model, "residual", 1), [(-1, -1)])
    close(patched.after, plain(model, OTHER[:4]))


@pytest.mark.parametrize("kind", ["attention", "mlp", "head", "neuron"])
def test_patching_a_text_with_itself_changes_nothing(model: Decoder, kind: str) -> None:
    close(patch(model, IDS, IDS, find_site(model, kind, 1, 2), everywhere()).after, plain(model))


def test_all_heads_patched_one_after_another_are_the_attention(model: Decoder) -> None:
    """The heads' mixes of the second text, written by hand through the output projection."""
    seen = []
    hook = model.blocks[1].attention.output.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    plain(model, OTHER)
    hook.remove()
    width = model.config.head_dim

    def put(module, inputs):
        mix = inputs[0].clone()
        mix[0, 4, 2 * width : 3 * width] = seen[0][0, 1, 2 * width : 3 * width]
        return (mix,)

    hook = model.blocks[1].attention.output.register_forward_pre_hook(put)
    expected = plain(model)
    hook.remove()
    close(patch(model, IDS, OTHER, find_site(model, "head", 1, 2), [(4, 1)]).after, expected)


@pytest.mark.parametrize("kind", ["residual", "attention", "mlp"])
@pytest.mark.parametrize("source", [OTHER, OTHER[:4], (*OTHER, 1, 2)])
def test_a_sweep_is_its_patches_one_by_one(model: Decoder, kind: str, source: tuple[int, ...]) -> None:
    target = TARGETS[1]
    grid = sweep(model, IDS, source, target, kind)
    names = [("residual", 0), ("residual", 1)] if kind == "residual" else [(kind, 0), (kind, 1)]
    spots = [find_site(model, *name) for name in names]
    spots = [find_site(model, "input"), *spots] if kind == "residual" else spots
    assert grid.shape == (len(spots), len(IDS))
    before = target.read(plain(model)[None])
    for spot, effects in zip(spots, grid, strict=True):
        for back in range(1, len(IDS) + 1):
            if back > len(source):
                assert math.isnan(effects[-back])
            else:
                after = patch(model, IDS, source, spot, [(-back, -back)]).after
                close(effects[-back], (target.read(after[None]) - before)[0])


@pytest.mark.parametrize(
    ("kind", "layer", "index"),
    [("head", 0, 4), ("head", 0, None), ("neuron", 1, 31), ("mlp", 2, None), ("mlp", -1, None), ("soul", 0, None)],
)
def test_a_part_that_is_not_there_is_named(kind: str, layer: int, index: int | None) -> None:
    with pytest.raises(RequestError, match="no such"):
        find_site(scrambled(MODERN), kind, layer, index)


def test_a_position_that_is_not_there_is_named(model: Decoder) -> None:
    with pytest.raises(RequestError, match="second text"):
        patch(model, IDS, OTHER, find_site(model, "mlp", 0), [(0, 6)])


def test_a_question_that_would_take_minutes_is_refused(model: Decoder, monkeypatch) -> None:
    monkeypatch.setattr(interventions, "LARGEST_WORK", 1e5)
    with pytest.raises(RequestError, match="too long"):
        occlude(model, IDS, Target(id=1))


def test_weights_are_never_touched(model: Decoder) -> None:
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    ablate_heads(model, IDS, Target(id=1))
    integrated_gradients(model, IDS, Target(id=1), steps=4)
    sweep(model, IDS, OTHER, Target(id=1), "mlp")
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, before[name]) and parameter.grad is None
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_questions_asked_at_the_same_time_have_the_answers_of_each_alone(model: Decoder) -> None:
    """A recording, an ablation, two patches at one site, a sweep and a plain reading: to the bit, from many threads."""
    patched = find_site(model, "residual", 0)
    questions = [
        lambda: torch.cat([x.flatten() for x in record(model, torch.tensor([IDS])).values()]),
        lambda: ablate(model, IDS, find_site(model, "head", 1, 2)),
        lambda: patch(model, IDS, OTHER, patched, [(2, 2)]).after,
        lambda: patch(model, IDS, OTHER, patched, [(-1, 0)]).after,
        lambda: sweep(model, IDS, OTHER, TARGETS[0], "mlp"),
        lambda: predict(model, torch.tensor([IDS])),
    ]
    together = Barrier(len(questions))

    def ask_often(number: int) -> list[Tensor]:
        together.wait()
        with torch.no_grad():
            return [questions[number]() for _ in range(10)]

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.no_grad():
            alone = [ask() for ask in questions]
        with ThreadPoolExecutor(len(questions), initializer=torch.set_num_threads, initargs=(1,)) as threads:
            answers = list(threads.map(ask_often, range(len(questions))))
    finally:
        torch.set_num_threads(before)
    for number, expected in enumerate(alone):
        assert all(torch.equal(answer, expected) for answer in answers[number]), number
