"""Every family under every panel: it shows what the model computes, or says in one line why not."""

from __future__ import annotations

import inspect
import math
import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from lens_families import DECODERS, ENCODER_DECODERS, ENCODERS, FAMILIES, TOKENIZER, family

from pellucid.engine.generate import complete
from pellucid.engine.request import Request
from pellucid.engine.sampling.settings import SamplingSettings
from pellucid.errors import NotShownError, RequestError
from pellucid.lens.answer import Answer, At
from pellucid.lens.attribution import contributions
from pellucid.lens.dispatch import PARTS, Dispatch
from pellucid.lens.interventions import Target
from pellucid.lens.readout import way_at
from pellucid.lens.shows import EVERY, check_shown
from pellucid.lens.trace import load_trace
from pellucid.lens.way_out import WayOut
from pellucid.model.context import Context
from pellucid.planning.parts.pooler import PoolerConfig, PoolerLayer
from pellucid.planning.presets import preset
from pellucid.store.envelope import encode
from pellucid.words.catalogue import say

MASK = TOKENIZER.roles.first("mask")
METHODS = {name: function for part in PARTS for name, function in part.METHODS.items()}
GIVEN: dict[str, Any] = {  # what a field of a question is given; `at` is the text's node
    "layer": 1, "head": 3, "query": 2, "key": 1, "position": 2, "index": 4, "id": 7, "node": 0, "row": 2, "step": "score",
    "text": "the <mask> sat", "other_position": 1, "words": [5, 6], "seed": 1, "kind": "head", "site": "residual", "count": 3,
    "lesson": "heads", "answer": 0.0, "sampling": {"seed": 3}, "name": "input", "content": "{}", "search": "",
    "how": "mean",
}  # fmt: skip
OWN: dict[str, dict[str, Any]] = {
    "step": {"sampling": {"seed": 3}, "count": 2}, "choose": {"id": 65}, "cell": {"name": "logits", "index": [0, 1]},
    "array": {"name": "blocks.1.attention.weights", "index": [0]}, "export": {"kind": "npz"}, "beam": {"beams": 2, "length": 2},
    "why.ablate": {"kind": "mlp"},
}  # fmt: skip
SEES_BOTH = {"step", "choose", "beam", "training_step", "lesson", "lesson.check"}
REFUSED: dict[str, set[str]] = {  # every other question has an answer
    "qwen3": {"experts"},
    "gpt2": {"experts", "vectors.hands"},
    "mistral": {"experts"},
    "mixtral": {"neurons", "neuron"},
    "qwen3_moe": {"neurons", "neuron"},
    "smollm3": {"experts", "vectors.hands", "lesson", "lesson.check"},
    "gemma2": {"experts", "lesson", "lesson.check"},
    "gemma3": {"experts", "lesson", "lesson.check"},
    "after": {"experts", "vectors.hands", "lesson", "lesson.check"},
    "bert": {"experts", "vectors.hands", *SEES_BOTH},
    "roberta": {"experts", "vectors.hands", *SEES_BOTH},
    "modernbert": {"experts", *SEES_BOTH},
    "marian": {"experts", "vectors.hands", "training_step", "lesson", "lesson.check"},
    "t5": {"experts", "vectors.hands", "training_step", "lesson", "lesson.check"},
}  # fmt: skip
ANYTHING_GOES = {"undo", "go", "branches.load", "prompt"}  # of the tree alone: `test_branches` has them


@pytest.fixture(scope="module", params=FAMILIES)
def lens(request) -> Dispatch:
    return family(request.param)


@pytest.fixture
def name(lens: Dispatch) -> str:
    return next(name for name, config in FAMILIES.items() if config is lens.config)


def ask(lens: Dispatch, question: str, /, **params: Any) -> Answer:
    fields = inspect.signature(METHODS[question]).parameters
    at = {"at": {"node": lens.branches.start}} if "at" in fields else {}
    return lens.answer(question, at | params)


def arrays(lens: Dispatch) -> Any:
    return lens.trace(at_of(lens)).arrays


def at_of(lens: Dispatch) -> At:
    return At(node=lens.branches.start)


def predicted(lens: Dispatch) -> int:
    """The place of the prediction: the last, or the hidden token's."""
    return lens.predicted_place(lens.branches.start)


def logits_of(lens: Dispatch) -> torch.Tensor:
    """What the model itself gives, [T, V]."""
    model, node = lens.model(), lens.branches.start
    with torch.no_grad():
        source = lens.source(node)
        memory = model.encode(torch.tensor([source])) if source else None
        return model(torch.tensor([lens.ids(node)]), Context(memory=memory)).logits_BTV[0]


def test_every_panel_answers_or_says_in_one_line_why_not(lens, name) -> None:
    refused = {}
    for method in METHODS:
        if method in ANYTHING_GOES:
            continue
        wanted = list(inspect.signature(METHODS[method]).parameters.values())[1:]
        params = {one.name: GIVEN[one.name] for one in wanted if one.default is one.empty and one.name in GIVEN}
        try:
            encode(
                ask(
                    lens,
                    method,
                    **params | OWN.get(method, {}) | ({"node": lens.branches.start} if "node" in params else {}),
                )
            )
        except NotShownError as error:
            refused[method] = error
    assert set(refused) == REFUSED[name]
    for error in refused.values():
        assert error.hint and "\n" not in error.what and len(error.what) < 110
        assert re.search("[\u4e00-\u9fff]", say("zh", "errors", error.what)), error.what


def test_the_recording_has_every_tensor_of_the_model_and_its_checks_hold(lens) -> None:
    header = ask(lens, "record").value
    assert all(check["ok"] for check in header["checks"])
    found = {key: list(array.shape) for key, array in arrays(lens).items()}
    assert found == {key: entry["shape"] for key, entry in header["arrays"].items()}
    np.testing.assert_allclose(arrays(lens)["logits"], logits_of(lens), atol=1e-4)


def test_layers_opened_again_have_the_same_bits(lens) -> None:
    before = {key: array.copy() for key, array in arrays(lens).items()}
    arrays(lens).forget()
    for key, array in before.items():
        np.testing.assert_array_equal(arrays(lens)[key], array)


def test_attention_is_the_formula_of_this_model(lens, name) -> None:
    """Scores from the recorded queries and keys, by the axes of the family; rows that sum to one; the mask as it is."""
    config, model = lens.config, lens.model()
    sides = ["self", "cross", "encoder"] if config.encoder else ["self"]
    for side in sides:
        for layer in (0, 1) if side != "encoder" else range(config.encoder.n_layers):
            path = {"self": f"blocks.{layer}.attention", "cross": f"blocks.{layer}.cross"}.get(
                side, f"encoder.blocks.{layer}.attention"
            )
            turned = "_rotated" if f"{path}.query_rotated" in arrays(lens) else ""
            q_TK = arrays(lens)[f"{path}.query{turned}"][3]
            k_SK = arrays(lens)[f"{path}.key{turned}"][3 * config.n_kv_heads // 4]
            scores = q_TK @ k_SK.T * (config.attention.scale or 1 / math.sqrt(6))
            scores = scores if name != "gemma2" else 2.0 * np.tanh(scores / 2.0)
            t, s = np.indices(scores.shape)
            if name == "t5" and side != "cross":
                table = (model.relative if side == "self" else model.encoder.relative).weight.detach().numpy()
                near = np.array([[min(t - s, 4) if s <= t else 0 for s in range(len(k_SK))] for t in range(len(q_TK))])
                known = (s <= t) & (near < 4) if side == "self" else (t == s)  # the nearest have a bucket each
                scores = np.where(known, scores + table[near if side == "self" else 0 * near, 3], np.nan)
            window = config.window_at(layer) or 99
            hidden = np.abs(t - s) >= window if name == "modernbert" else (s > t) | (t - s >= window)
            hidden = hidden if side == "self" and name not in ("bert", "roberta") else np.zeros_like(hidden)
            found = ask(lens, "attention.matrix", layer=layer, head=3, step="score", **side_of(side)).arrays["matrix"]
            assert (np.isneginf(found) == hidden).all()
            compared = ~hidden & ~np.isnan(scores)
            np.testing.assert_allclose(found[compared], scores[compared], atol=1e-4)
            weights = ask(lens, "attention", layer=layer, **side_of(side)).arrays["weights"]
            np.testing.assert_allclose(weights.sum(-1), 1, atol=1e-5)
            assert (weights[3][hidden] == 0).all() and (weights[3][~hidden] > 0).all()
            row = ask(lens, "attention.row", layer=layer, head=3, query=len(q_TK) - 1, **side_of(side))
            values = arrays(lens)[f"{path}.value"][3 * config.n_kv_heads // 4]
            np.testing.assert_allclose(row.arrays["mix"], weights[3, -1] @ values, atol=1e-4)


def side_of(side: str) -> dict[str, str]:
    return {} if side == "self" else {"side": side}


def test_a_cell_leads_from_the_product_to_the_score(lens) -> None:
    cell = ask(lens, "attention.cell", layer=0, head=1, query=2, key=1)
    value = cell.value
    assert value["dot"] == pytest.approx(float(cell.arrays["products"].sum()), abs=1e-4)
    assert value["scaled"] == pytest.approx(value["dot"] * value["scale"], abs=1e-5)
    before = value["scaled"] if value["bent"] is None else value["bent"]
    assert value["score"] == pytest.approx(before + (value["added"] or 0.0), abs=1e-4)
    assert (value["bent"] is None) == (lens.config.attention.softcap is None)
    assert (value["added"] is None) == (lens.config.position.kind != "relative")
    for query, key in np.ndindex(3, 3):
        told = ask(lens, "attention.cell", layer=0, head=1, query=query, key=key).value
        assert told["mask"] == (None if not told["masked"] else "later" if key > query else "window")


def test_the_last_row_of_the_logit_lens_is_what_the_model_says(lens, name) -> None:
    chances_TV = logits_of(lens).double().softmax(-1)
    read = ask(lens, "logit_lens")
    assert [row["place"] for row in read.value["rows"]][1:3] == [
        "middle",
        "looked" if name in ENCODER_DECODERS else "output",
    ]
    np.testing.assert_allclose(read.arrays["chance"][-1], chances_TV.max(-1).values, atol=1e-4)
    assert (read.value["next"] is None) == (name in ENCODERS)  # nothing follows where a model sees both sides
    last = len(read.value["rows"]) - 1
    cell = ask(lens, "logit_lens.cell", row=last, position=1, count=4).value["candidates"]
    assert [one["p"] for one in cell] == pytest.approx(chances_TV[1].topk(4).values.tolist(), abs=1e-4)


@pytest.mark.parametrize("against", [None, 9])
def test_contributions_of_all_parts_are_the_score(lens, name, against) -> None:
    answer = ask(lens, "why.contrast", id=5, **({} if against is None else {"against": 9}))
    logits_V = logits_of(lens)[predicted(lens)]
    wanted = logits_V[5] - (0 if against is None else logits_V[9])
    assert answer.value["total"] == pytest.approx(float(wanted), abs=1e-4)
    assert sum(part["value"] for part in answer.value["parts"]) == pytest.approx(float(wanted), abs=1e-3)
    parts = {part["name"]: part["value"] for part in answer.value["parts"]}
    if name in ("gemma3", "mixtral", "qwen3"):  # without biases the heads are all that attention writes
        for layer in (0, 1):
            assert answer.arrays["heads"][layer].sum() == pytest.approx(parts[f"blocks.{layer}.attention"], abs=1e-4)


def test_what_heads_and_neurons_write_straight_is_what_their_layer_adds(lens) -> None:
    """The way out walked from both ends: carried to all scores, and back from one; whatever stands on it."""
    at, place, every = At(node=lens.branches.start), predicted(lens), lens.config.vocab_size
    told = ask(lens, "why.contrast", id=5)
    parts, way = {part["name"]: part["value"] for part in told.value["parts"]}, way_at(lens, at, place)
    for branch, side in {"attention": {}, "cross": {"side": "cross"}}.items():
        layer = getattr(lens.model().blocks[0], branch)
        if layer is None:
            continue
        heads = [ask(lens, "attention.writes", layer=0, head=h, query=place, count=every, **side) for h in range(4)]
        direct = sum(direct_of(head, 5) for head in heads)
        assert direct + of_bias(way, branch, layer.output.bias) == pytest.approx(parts[f"blocks.0.{branch}"], abs=1e-4)
        if branch == "attention":
            assert direct == pytest.approx(told.arrays["heads"][0].sum(), abs=1e-4)
    if not lens.config.has_experts(0):
        neurons = [ask(lens, "neuron", layer=0, index=i, position=place, count=every) for i in range(lens.config.d_ff)]
        direct = sum(direct_of(neuron, 5) for neuron in neurons)
        bias = of_bias(way, "mlp", lens.model().blocks[0].mlp.down.bias)
        assert direct + bias == pytest.approx(parts["blocks.0.mlp"], abs=1e-4)


def direct_of(answer: Answer, token: int) -> float:
    return next(one["direct"] for one in answer.value["promotes"] if one["id"] == token)


def of_bias(way: WayOut, branch: str, bias_D: torch.Tensor | None) -> float:
    return 0.0 if bias_D is None else float(way.carry(0, branch, bias_D.detach()[None])[0, 5])


@pytest.mark.parametrize("name", ["mixtral", "qwen3_moe"])
def test_experts_are_told_with_the_weights_that_the_layer_used(name) -> None:
    lens = family(name)
    layer, mlp, normalised = 1, lens.model().blocks[1].mlp, name == "mixtral"
    told = ask(lens, "experts", layer=layer)
    x_TD = torch.tensor(arrays(lens)[f"blocks.{layer}.mlp_norm"])
    with torch.no_grad():
        shares_TE = (x_TD @ mlp.router.weight.T).softmax(-1)
        np.testing.assert_allclose(told.arrays["shares"], shares_TE, atol=1e-6)
        for t, x_D in enumerate(x_TD):
            best = shares_TE[t].argsort(descending=True)[: told.value["active"]].tolist()
            assert told.arrays["chosen"][t].tolist() == best
            counts = shares_TE[t][best] / (shares_TE[t][best].sum() if normalised else 1)
            np.testing.assert_allclose(told.arrays["counts"][t], counts, atol=1e-6)
            made_D = sum(
                share * (torch.nn.functional.silu(mlp.gate[e] @ x_D) * (mlp.up[e] @ x_D)) @ mlp.down[e].T
                for e, share in zip(best, counts, strict=True)
            )
            np.testing.assert_allclose(arrays(lens)[f"blocks.{layer}.mlp.output"][t], made_D, atol=1e-4)
    assert told.value["sent"] == np.bincount(told.arrays["chosen"].ravel(), minlength=told.value["count"]).tolist()
    if name == "qwen3_moe":  # layer 0 has one feed-forward: its neurons are shown
        assert ask(lens, "neurons", layer=0, position=1).value["width"] == lens.config.d_ff
        with pytest.raises(NotShownError, match="one feed-forward for all tokens"):
            ask(lens, "experts", layer=0)
        with pytest.raises(NotShownError, match="experts of its own"):
            ask(lens, "why.ablate", kind="neuron", layer=1, index=0)


@pytest.mark.parametrize("name", ENCODERS)
def test_a_model_that_sees_both_sides_is_asked_about_hidden_tokens_alone(name) -> None:
    lens = family(name)
    ids = lens.ids(lens.branches.start)
    place = ids.index(MASK)
    assert ids[0] == TOKENIZER.bos_id and ids[-1] == TOKENIZER.eos_id and ids.count(MASK) == 1
    header = ask(lens, "record").value
    chances_V = logits_of(lens)[place].double().softmax(-1)
    assert (header["predicts"], header["predicted"]) == ("hidden", place)
    assert [one["id"] for one in header["next"]] == chances_V.topk(20).indices.tolist()
    np.testing.assert_allclose(ask(lens, "logits").arrays["logits"], logits_of(lens)[place], atol=1e-4)
    np.testing.assert_allclose(ask(lens, "logits", position=place).arrays["logits"], logits_of(lens)[place], atol=1e-4)
    assert ask(lens, "why").value["predict_after"] == place
    assert ask(lens, "why").value["target"]["p"] == pytest.approx(float(chances_V.max()), rel=1e-4)
    scores = ask(lens, "why.occlude", id=5).value["scores"]
    assert [math.isnan(score) for score in scores] == [place == t for t in range(len(ids))]
    without = [*ids[:1], *ids[2:]]  # a token less before the hidden one, which moves with the rest
    with torch.no_grad():
        after_V = lens.model()(torch.tensor([without])).logits_BTV[0, place - 1].log_softmax(-1)
    assert scores[1] == pytest.approx(float(after_V[5] - chances_V[5].log()), abs=1e-4)
    for method in ("logits", "timeline.at"):
        with pytest.raises(NotShownError, match="sees the token at this place"):
            ask(lens, method, position=0)
    assert ask(lens, "timeline.at").value["loss"] is None


@pytest.mark.parametrize("name", ENCODER_DECODERS)
def test_an_output_is_written_beside_its_source(name, tmp_path) -> None:
    lens = family(name)
    node = lens.branches.start
    source, ids = lens.source(node), lens.ids(node)
    assert source == (TOKENIZER.bos_id, *TOKENIZER.encode("the cat sat on the mat").ids, TOKENIZER.eos_id)
    assert ids == (TOKENIZER.roles.first("pad"), *TOKENIZER.encode("小猫坐").ids)
    header = ask(lens, "record").value
    assert header["source"]["text"] == "the cat sat on the mat" and header["text"] == "小猫坐"
    assert [chip["id"] for chip in header["source"]["tokens"]] == list(source)
    weights = arrays(lens)["blocks.1.cross.weights"]
    assert weights.shape == (4, len(ids), len(source))
    logprobs_V = logits_of(lens)[-1].log_softmax(-1)
    step = lens.answer("step", {"node": node, "sampling": {"seed": 3}}).value
    assert step["nodes"][0]["logprob"] == pytest.approx(float(logprobs_V[step["nodes"][0]["ids"][0]]), abs=1e-4)
    root = lens.branches.plant("the cat sat on the mat").id
    drawn = lens.answer("step", {"node": root, "sampling": {"seed": 3}, "count": 4}).value["nodes"]
    request = Request(
        prompt_ids=ids[:1], source_ids=source, sampling=SamplingSettings(seed=3, max_new_tokens=4, temperature=1.0)
    )
    written = complete(lens.runner, TOKENIZER, request)  # what `pellucid generate` draws
    assert [one["ids"][0] for one in drawn] == list(written.ids)[: len(drawn)]
    ends = lens.answer("beam", {"node": node, "beams": 2, "length": 1}).value["ends"]
    best = logprobs_V.topk(2).indices.tolist()
    assert [lens.tree.node(end).ids[0] for end in ends] == best
    saved = lens.trace(at_of(lens)).save(tmp_path / "trace.npz")
    np.testing.assert_array_equal(load_trace(saved)["blocks.1.cross.weights"], weights)
    assert lens.trace(at_of(lens)).save(tmp_path / "trace.svg").stat().st_size > 1000
    other = ask(lens, "why.patch", text="the mat sat", site="residual", layer=1, id=5).value
    for row in other["rows"]:  # the whole last stream of another source is its prediction
        assert row["after"] == pytest.approx(row["source"], abs=1e-5)


def test_gradients_reach_the_row_through_what_stands_around_it(lens) -> None:
    value = ask(lens, "why.gradient", method="integrated", steps=96, id=5).value
    assert value["total"] + value["gap"] == pytest.approx(value["difference"], abs=1e-4)
    if (
        lens.config.feed_forward.experts is None
    ):  # a token that is sent elsewhere on the way is a leap, which the gap tells
        assert abs(value["gap"]) < 0.05 * max(1.0, abs(value["difference"]))


def test_positions_are_those_of_the_layer() -> None:
    lens = family("gemma3")
    first, second = (ask(lens, "vectors.positions", layer=layer).value for layer in (0, 1))
    assert (first["theta"], second["theta"]) == (1e4, 1e6)
    assert all(ask(lens, "vectors.hands", layer=layer, head=1, position=2).value["check"]["ok"] for layer in (0, 1))
    assert ask(family("smollm3"), "vectors.positions", layer=1).value["kind"] == "unturned"
    t5 = family("t5")
    told = ask(t5, "vectors.positions", count=4)
    assert told.value["distances"] == [-3, -2, -1, 0]
    np.testing.assert_array_equal(told.arrays["added"][:, -1], t5.model().relative.weight[0].detach())


def test_what_is_not_listed_is_not_shown() -> None:
    """Deny by default: an axis that a question was never told of is refused, and so is one that nobody was told of."""
    for axis in ("attention.softcap", "norm.placement", "embedding.scaled", "attention.scale"):
        with pytest.raises(NotShownError, match="not shown of models of this kind"):
            check_shown(DECODERS["gemma2"], {name: values for name, values in EVERY.items() if name != axis})
    assert set(METHODS) == {name for part in PARTS for name in part.SHOWS}
    for config in FAMILIES.values():
        check_shown(config, EVERY)
    for layer in (None, PoolerLayer(activation="gelu", norm=True)):  # a classifier's, ModernBERT's
        check_shown(replace(ENCODERS["bert"], pooler=PoolerConfig(layer=layer, labels=("good", "bad"))), EVERY)
    with pytest.raises(NotShownError, match=r"in two streams(.|\n)*its drawing"):
        check_shown(preset("xlnet-base"), EVERY)


def test_heads_that_a_model_does_not_have_are_refused() -> None:
    for side in ("cross", "encoder"):
        with pytest.raises(RequestError, match="no encoder"):
            ask(family("qwen3"), "attention", layer=0, side=side)
    with pytest.raises(RequestError, match="layer is out of range"):
        ask(family("t5"), "neurons", layer=2, position=0)  # its encoder has three layers
    assert contributions(family("qwen3").model(), (1, 2, 3), Target(id=4)).gap == pytest.approx(0, abs=1e-3)
