"""The questions of the panel "Why" through the real dispatch: answers that add up, and refusals that name what is wrong."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from scrambled import scrambled

from pellucid.errors import RequestError
from pellucid.lens.dispatch import Dispatch, open_lens
from pellucid.planning.config import ModelConfig
from pellucid.store.checkpoint import save_checkpoint
from pellucid.tokens.train import train_bpe

TEXT, SECOND = "the cat sat on the mat", "the dog sat on the log"
QUESTIONS = {
    "why": {},
    "why.ablate": {"kind": "head", "layer": 1, "index": 2},
    "why.heads": {},
    "why.occlude": {},
    "why.gradient": {},
    "why.contrast": {},
    "why.patch": {"text": SECOND, "site": "residual", "layer": 0},
    "why.sweep": {"text": SECOND},
}


@pytest.fixture(scope="module")
def dispatch(tmp_path_factory) -> Dispatch:
    tokenizer = train_bpe([TEXT, SECOND, "你好，世界"], 300)
    config = ModelConfig(
        vocab_size=tokenizer.vocab_size + 2, context_length=64, n_layers=2, n_heads=4, n_kv_heads=2, head_dim=6,
        d_model=20, d_ff=31,
    )  # fmt: skip
    model = scrambled(config, spread=0.4)
    directory: Path = tmp_path_factory.mktemp("models") / "tiny"
    weights = {name: parameter.detach() for name, parameter in model.named_parameters()}
    save_checkpoint(directory, config=config, weights=weights, tokenizer=tokenizer, info={})
    return open_lens(directory, text=TEXT)


def chances(dispatch: Dispatch, upto: int | None = None) -> torch.Tensor:
    with torch.no_grad():
        return dispatch.model()(torch.tensor([dispatch.ids(0)[:upto]])).logits_BTV[0, -1].double().softmax(-1)


@pytest.mark.parametrize("method", QUESTIONS)
def test_every_answer_says_what_was_measured(dispatch: Dispatch, method: str) -> None:
    p_V = chances(dispatch)
    top = int(p_V.argmax())
    asked = {"id": 5, "against": 9} | QUESTIONS[method]
    value = dispatch.answer(method, asked).value
    assert value["target"] == {"id": 5, "label": dispatch.label(5), "p": pytest.approx(p_V[5].item(), rel=1e-4)}
    assert value["value"] == pytest.approx(math.log(p_V[5] / p_V[9]), abs=1e-4)
    assert value["predict_after"] == len(dispatch.ids(0)) - 1
    assert "not an explanation" in value["note"]
    untold = dispatch.answer(method, QUESTIONS[method]).value
    assert untold["target"]["id"] == top


@pytest.mark.parametrize("method", QUESTIONS)
def test_an_earlier_prediction_is_asked_of_the_tokens_before_it_alone(dispatch: Dispatch, method: str) -> None:
    p_V = chances(dispatch, 4)
    value = dispatch.answer(method, {"predict_after": 3, "id": 7, "against": 8} | QUESTIONS[method]).value
    assert value["predict_after"] == 3
    assert value["value"] == pytest.approx(math.log(p_V[7] / p_V[8]), abs=1e-4)
    assert len(value.get("scores", [0] * 4)) == 4


def test_rows_and_the_others_are_the_whole_vocabulary(dispatch: Dispatch) -> None:
    for how in ("zero", "mean"):
        value = dispatch.answer("why.ablate", {"layer": 0, "kind": "mlp", "how": how, "count": 6}).value
        for side in ("before", "after"):
            assert sum(row[side] for row in value["rows"]) + value["others"][side] == pytest.approx(1.0)
            assert [one["p"] for one in value[side]] == sorted((one["p"] for one in value[side]), reverse=True)
        assert value["others"]["count"] + len(value["rows"]) == dispatch.config.vocab_size
        assert value["divergence_bits"] > 0
        assert all(row["delta"] == row["after"] - row["before"] for row in value["rows"])
        target = next(row for row in value["rows"] if row["id"] == value["target"]["id"])
        assert value["effect"] == pytest.approx(math.log(target["after"] / target["before"]), abs=1e-4)


def test_an_ablated_head_is_its_cell_in_the_grid(dispatch: Dispatch) -> None:
    grid_LH = dispatch.answer("why.heads", {"id": 5}).arrays["effects"]
    assert grid_LH.shape == (2, 4)
    for layer, head in np.ndindex(2, 4):
        value = dispatch.answer("why.ablate", {"kind": "head", "layer": layer, "index": head, "id": 5}).value
        assert grid_LH[layer, head] == pytest.approx(value["effect"], abs=1e-4)


def test_a_replaced_token_is_named(dispatch: Dispatch) -> None:
    value = dispatch.answer("why.occlude", {"replacement": dispatch.ids(0)[2]}).value
    assert value["replacement"]["label"] == dispatch.label(dispatch.ids(0)[2])
    assert value["scores"][2] == pytest.approx(0.0, abs=1e-4)  # replaced by itself


def test_gradient_shares_say_what_they_miss(dispatch: Dispatch) -> None:
    value = dispatch.answer("why.gradient", {"method": "integrated", "steps": 64}).value
    assert value["total"] + value["gap"] == pytest.approx(value["difference"], abs=1e-4)
    assert dispatch.answer("why.gradient", {}).value["gap"] is None


def test_contributions_of_the_parts_are_the_lead(dispatch: Dispatch) -> None:
    answer = dispatch.answer("why.contrast", {"id": 5, "against": 9})
    assert sum(part["value"] for part in answer.value["parts"]) == pytest.approx(answer.value["value"], abs=1e-4)
    assert answer.arrays["heads"].shape == (2, 4)


def test_a_patched_last_stream_is_the_second_text(dispatch: Dispatch) -> None:
    value = dispatch.answer("why.patch", {"text": SECOND, "site": "residual", "layer": 1}).value
    for row in value["rows"]:
        assert row["after"] == pytest.approx(row["source"], abs=1e-5)
    assert value["source_position"] == len(value["source_tokens"]["chips"]) - 1


def test_a_sweep_leads_from_one_text_to_the_other(dispatch: Dispatch) -> None:
    answer = dispatch.answer("why.sweep", {"text": SECOND})
    assert answer.value["rows"] == ["input", "blocks.0.output", "blocks.1.output"]
    assert answer.value["against"]["id"] == answer.value["source_top"]["id"] != answer.value["target"]["id"]
    assert answer.arrays["effects"][-1, -1] == pytest.approx(answer.value["goal"], abs=1e-4)


@pytest.mark.parametrize(
    ("method", "wrong"),
    [
        ("why.ablate", {"kind": "soul"}),
        ("why.ablate", {"index": 4}),
        ("why.ablate", {"how": "softly"}),
        ("why.ablate", {"predict_after": 99}),
        ("why.ablate", {"id": 10_000}),
        ("why.gradient", {"method": "magic"}),
        ("why.gradient", {"method": "integrated", "steps": 0}),
        ("why.gradient", {"method": "integrated", "baseline": "noise"}),
        ("why.patch", {"text": ""}),
        ("why.patch", {"source_position": 99}),
        ("why.sweep", {"site": "head"}),
    ],
)
def test_what_cannot_be_asked_is_refused_with_a_hint(dispatch: Dispatch, method: str, wrong: dict) -> None:
    with pytest.raises(RequestError) as caught:
        dispatch.answer(method, QUESTIONS[method] | wrong)
    assert caught.value.hint
