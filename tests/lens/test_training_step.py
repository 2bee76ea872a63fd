"""One training step in full: equal to torch's own optimizers on a copy, and nothing of the model is touched."""

from __future__ import annotations

import copy
from types import SimpleNamespace

import pytest
import torch
from torch.nn import functional as F

from pellucid.data.batch import TokenRows
from pellucid.errors import RequestError
from pellucid.lens.training_step import RULES, row_ids, take_step, training_step
from pellucid.model.build import build
from pellucid.model.context import Context
from pellucid.model.decoder import Decoder
from pellucid.model.tap import no_tap
from pellucid.planning.config import ModelConfig

SMALL = ModelConfig(
    vocab_size=23, context_length=12, n_layers=2, n_heads=4, n_kv_heads=2, head_dim=6, d_model=20, d_ff=31
)
GPT2 = SMALL.revise(n_kv_heads=4, head_dim=5, position="learned", norm="layer", feed_forward="gelu_tanh", qkv_bias=True,
    output_bias=True, mlp_bias=True, tied_head=True, dropout=0.1,
)  # fmt: skip
IDS = [3, 7, 1, 19, 22, 0, 3, 8]


def stirred(config: ModelConfig, dtype: torch.dtype = torch.float32) -> Decoder:
    """A model as it is initialised, and noise on every weight: a step still lowers its loss, as it would not if scrambled."""
    model = build(config, seed=0, dtype=dtype).eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    return model


def taught_by_torch(model: Decoder, rate: float, rule: str) -> tuple[Decoder, float]:
    """A copy after one update of torch's own optimizer, and the loss it had before."""
    copied = copy.deepcopy(model)
    kinds = {
        "sgd": lambda weights: torch.optim.SGD(weights, lr=rate),
        "adamw": lambda weights: torch.optim.AdamW(weights, lr=rate, eps=1e-8, weight_decay=0.0, foreach=False),
    }
    optimizer = kinds[rule](copied.parameters())
    row = torch.tensor(IDS)
    loss = F.cross_entropy(copied(row[None, :-1]).logits_BTV[0], row[1:])
    loss.backward()
    optimizer.step()
    return copied, loss.item()


@pytest.mark.parametrize("config", [SMALL, GPT2], ids=["rotary", "gpt2"])
@pytest.mark.parametrize(("rule", "rate"), [("sgd", 0.3), ("adamw", 0.01)])
def test_the_step_is_the_one_that_torch_takes(config: ModelConfig, rule: str, rate: float) -> None:
    model = stirred(config)
    step = take_step(model, IDS, rate=rate, rule=rule)
    taught, loss = taught_by_torch(model, rate, rule)
    assert step.losses()[0].mean().item() == pytest.approx(loss, rel=1e-6)
    for name, weight in taught.named_parameters():
        sure = step.gradients[name].abs() > 1e-5  # where a gradient is all rounding, AdamW gives its sign full weight
        torch.testing.assert_close(step.after[name][sure], weight[sure], rtol=1e-5, atol=2e-6)
    if rule == "sgd":
        after_TV = taught(torch.tensor(IDS)[None, :-1]).logits_BTV[0]
        torch.testing.assert_close(step.logits_after_TV, after_TV, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("rule", sorted(RULES))
def test_the_answer_after_is_that_of_a_model_with_its_weights_changed_by_hand(rule: str) -> None:
    model = stirred(GPT2)
    step = take_step(model, IDS, rate=0.02, rule=rule)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(step.after[name])
        assert torch.equal(model(torch.tensor(IDS)[None, :-1]).logits_BTV[0], step.logits_after_TV)


def test_the_model_is_untouched() -> None:
    model = stirred(GPT2).train()
    before = copy.deepcopy(model.state_dict())
    take_step(model, IDS, rate=10.0, rule="sgd")
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert all(parameter.grad is None and parameter.requires_grad for parameter in model.parameters())
    assert model.training and not any(module._forward_hooks for module in model.modules())


def test_gradients_agree_with_finite_differences() -> None:
    model = stirred(SMALL)
    step = take_step(model, IDS, rate=0.1, rule="sgd")
    exact = copy.deepcopy(model).double()
    row = torch.tensor(IDS)
    for name in ("embed.weight", "blocks.1.attention.key.weight", "blocks.0.mlp.down.weight", "final_norm.weight"):
        weight, gradient = exact.get_parameter(name).data.view(-1), step.gradients[name].flatten()
        place = int(gradient.abs().argmax())
        sides = []
        for sign in (1, -2, 1):
            weight[place] += sign * 1e-4
            sides.append(F.cross_entropy(exact(row[None, :-1]).logits_BTV[0], row[1:]).item())
        assert gradient[place].item() == pytest.approx((sides[0] - sides[1]) / 2e-4, rel=1e-3)


def test_the_gradient_through_the_layers_is_that_of_the_stream() -> None:
    model, row = stirred(SMALL), torch.tensor(IDS)
    step = take_step(model, IDS, rate=0.1, rule="sgd")
    this_pass = model.open_pass(row[None, :-1], Context())
    x_BTD = model.position(model.embed(row[None, :-1]), this_pass.positions, no_tap)
    stream = [x_BTD.detach().requires_grad_()]
    x_BTD = stream[0]
    for block in model.blocks:
        x_BTD = block(x_BTD, this_pass)
        x_BTD.retain_grad()
        stream.append(x_BTD)
    F.cross_entropy(F.linear(model.final_norm(x_BTD), model.embed.weight)[0], row[1:]).backward()
    expected_RT = torch.stack([part.grad[0].norm(dim=-1) for part in stream])
    torch.testing.assert_close(step.stream_gradients_RT, expected_RT, rtol=1e-5, atol=1e-7)


def test_a_small_sgd_step_lowers_the_loss_as_much_as_its_gradient_says() -> None:
    step = take_step(stirred(SMALL), IDS, rate=1e-4, rule="sgd")
    before, after = (nats_T.mean().item() for nats_T in step.losses())
    squared = sum(gradient.square().sum().item() for gradient in step.gradients.values())
    assert before - after == pytest.approx(1e-4 * squared, rel=0.05)


def test_half_precision_models_learn_in_full_precision() -> None:
    model = stirred(SMALL, torch.bfloat16)
    step = take_step(model, IDS, rate=0.1, rule="sgd")
    assert {weight.dtype for weight in step.after.values()} == {torch.float32}
    assert model.embed.weight.dtype == torch.bfloat16


def test_the_beginning_of_a_document_is_not_a_target() -> None:
    model = stirred(SMALL)
    step = take_step(model, IDS, rate=0.1, rule="sgd", bos_id=3)
    assert step.counts_T.tolist() == [True] * 5 + [False] + [True]
    by_hand = F.cross_entropy(
        model(torch.tensor(IDS)[None, :-1]).logits_BTV[0], torch.tensor(IDS[1:]), reduction="none"
    )
    kept = by_hand[step.counts_T]
    assert step.losses()[0][step.counts_T].mean().item() == pytest.approx(kept.mean().item(), rel=1e-6)


@pytest.mark.parametrize(
    ("ids", "rate", "rule"), [([1], 0.1, "sgd"), (IDS, 0.0, "sgd"), (IDS, float("nan"), "sgd"), (IDS, 0.1, "sdg")]
)
def test_what_cannot_be_learned_is_refused(ids: list[int], rate: float, rule: str) -> None:
    with pytest.raises(RequestError):
        take_step(stirred(SMALL), ids, rate=rate, rule=rule)


@pytest.fixture
def dispatch() -> SimpleNamespace:
    model = stirred(SMALL)
    return SimpleNamespace(
        model=lambda checkpoint: model,
        ids=lambda node: tuple(IDS),
        tokenizer=SimpleNamespace(bos_id=None),
        label=lambda id: f"<{id}>",
        run=None,
    )


AT = SimpleNamespace(node=0, checkpoint=None, precision="exact")


def test_what_the_page_gets_is_what_the_step_did(dispatch: SimpleNamespace) -> None:
    answer = training_step(dispatch, at=AT, learning_rate=0.2, position=2, matrix="blocks.1.mlp.up.weight")
    value, step = answer.value, take_step(dispatch.model(None), IDS, rate=0.2, rule="sgd")
    assert value["loss"]["after"] < value["loss"]["before"] and value["loss"]["tokens"] == 7
    assert [row["target"]["id"] for row in value["tokens"]] == IDS[1:]
    assert {part["name"] for part in value["parts"]} == set(step.before)
    [target] = [bar for bar in value["bars"] if bar["target"]]
    assert target["id"] == IDS[3] and target["after"] > target["before"]
    rows, columns = value["matrix"]["rows"], value["matrix"]["columns"]
    expected = step.after["blocks.1.mlp.up.weight"][rows][:, columns].numpy()
    assert (answer.arrays["matrix.after"] == expected).all()
    largest = value["matrix"]["changes"][0]
    change = (step.after["blocks.1.mlp.up.weight"] - step.before["blocks.1.mlp.up.weight"]).abs().max().item()
    assert abs(largest["after"] - largest["before"]) == pytest.approx(change)
    assert answer.arrays["stream_gradients"].shape == (3, 7)


@pytest.mark.parametrize("wrong", [{"position": 7}, {"matrix": "blocks.9.mlp.up.weight"}, {"row": 0}])
def test_a_question_beyond_the_model_says_so(dispatch: SimpleNamespace, wrong: dict) -> None:
    with pytest.raises(RequestError):
        training_step(dispatch, at=AT, **wrong)


def test_a_training_row_ends_with_its_last_target() -> None:
    ids_BS, weights_BS = torch.tensor([[4, 5, 6, 0, 0]]), torch.tensor([[0.0, 1.0, 1.0, 0.0, 0.0]])
    at_B, lengths_B = torch.tensor([0]), torch.tensor([3])
    rows = TokenRows(ids_BS=ids_BS, weights_BS=weights_BS, lengths_B=lengths_B, first_token_B=at_B, index_B=at_B)
    assert row_ids(rows, 0) == [4, 5, 6]
