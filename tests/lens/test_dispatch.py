"""The dispatch: every question checked before it is answered, answers about the right text and the right checkpoint."""

from __future__ import annotations

import inspect
import json
import threading

import numpy as np
import pytest
import torch

from pellucid.errors import CorruptFileError, PellucidError, RequestError, StoreError, TokenizerError
from pellucid.lens import dispatch as questions
from pellucid.lens import state
from pellucid.lens.answer import At
from pellucid.lens.dispatch import Dispatch, open_lens
from pellucid.model.build import build
from pellucid.planning.config import ModelConfig
from pellucid.store.checkpoint import save_checkpoint
from pellucid.store.envelope import Quantized, decode, encode
from pellucid.store.run import Run
from pellucid.tokens.train import train_bpe

TOKENIZER = train_bpe(["hello world, 你好世界。hello there, 你好 " * 20], 300)
CONFIG = ModelConfig(
    vocab_size=304, context_length=32, n_layers=2, n_heads=4, n_kv_heads=2, head_dim=8, d_model=32, d_ff=48, init="gpt2"
)
TEXT = "hello 你好"
STEPS = (10, 20, 30, 40)


@pytest.fixture(scope="module")
def run_path(tmp_path_factory):
    """A run with four checkpoints whose weights are different."""
    path = tmp_path_factory.mktemp("runs") / "book"
    run = Run.create(path, {})
    for step in STEPS:
        weights = build(CONFIG, seed=step).state_dict()
        run.save(step, config=CONFIG, weights=weights, tokenizer=TOKENIZER, info={})
        run.append_metrics({"kind": "eval", "step": step, "loss": 1 / step})
    return path


@pytest.fixture(scope="module")
def dispatch(run_path) -> Dispatch:
    return open_lens(run_path, text=TEXT)


def ask(dispatch, method, **params):
    return dispatch.answer(method, params).value


def test_about_says_what_is_open(dispatch, run_path) -> None:
    told = ask(dispatch, "about")
    assert told["model"]["name"] == "book" and told["model"]["checkpoint_step"] == 40
    assert told["model"]["axes"]["n_kv_heads"] == 2 and told["model"]["axes"]["mask"] == "causal"
    assert told["checkpoints"] == [{"step": step, "loss": 1 / step} for step in STEPS]
    assert told["tree"]["current"] == 0 and set(told["methods"]) == set(dispatch.methods)


def test_every_answer_about_a_text_is_json_without_nan(dispatch) -> None:
    for method in (
        "about",
        "tree",
        "record",
        "labels",
        "logit_lens",
        "attention",
        "chances",
        "card",
        "vocabulary",
        "tokens",
    ):
        given = {"layer": 1, "sampling": {}, "id": 260, "text": TEXT}
        function = dispatch.methods[method]
        params = {name: given[name] for name in inspect.signature(function).parameters if name in given}
        envelope = decode(encode(dispatch.answer(method, params)))
        json.dumps(envelope.value, allow_nan=False)


def test_methods_have_one_owner_each() -> None:
    names = [name for part in questions.PARTS for name in part.METHODS]
    assert len(names) == len(set(names))


@pytest.mark.parametrize(
    "method, params, said",
    [
        ("atention", {}, "no question"),
        ("card", {}, "needs 'id'"),
        ("card", {"id": 1, "layer": 2}, "takes no 'layer'"),
        ("card", {"id": "1"}, "not of the kind int"),
        ("card", {"id": True}, "not of the kind int"),
        ("card", {"id": None}, "not of the kind int"),
        ("card", {"id": 304}, "id is out of range"),
        ("card", {"id": -1}, "id is out of range"),
        ("record", {"at": 3}, "not a place"),
        ("record", {"at": {"nodes": 3}}, "not a place"),
        ("record", {"at": {"node": 0.5}}, "not a place"),
        ("record", {"at": {"node": 99}}, "no such node"),
        ("record", {"at": {"checkpoint": 15}}, "no such checkpoint"),
        ("record", {"at": {"precision": "half"}}, "not a place"),
        ("array", {"name": "blocks.0.attention.weight"}, "no array"),
        ("array", {"name": "blocks.9.middle"}, "no array"),
        ("array", {"name": "logits", "index": [99]}, "no such place"),
        ("array", {"name": "logits", "index": [[3, 2]]}, "no such place"),
        ("array", {"name": "logits", "index": [0, 0, 0]}, "has 2 axes"),
        ("cell", {"name": "logits", "index": [0]}, "more than one number"),
        ("vocabulary", {"search": "/(/"}, "no regular expression"),
        ("vocabulary", {"search": "0xE"}, "no bytes"),
        ("vocabulary", {"sort": "beauty"}, "not sorted"),
        ("vocabulary", {"filter": {"script": 3}}, "no filter"),
        ("vocabulary", {"filter": {"scripts": "HAN"}}, "no filter"),
        ("vocabulary", {"count": 10**9}, "count is out of range"),
        ("prompt", {"text": "x" * 99}, "longer than the context"),
    ],
)
def test_wrong_questions_are_told_what_is_wrong(dispatch, method, params, said) -> None:
    with pytest.raises(PellucidError, match=said):
        dispatch.answer(method, params)


def test_a_number_on_screen_is_the_one_in_the_tensor(dispatch) -> None:
    trace = dispatch.trace(At())
    for name, index in [("blocks.1.attention.weights", [3, 2, 1]), ("embed", [0, 5]), ("logits", [2, 7])]:
        assert np.float32(ask(dispatch, "cell", name=name, index=index)["value"]) == trace[name][tuple(index)]
    masked = ask(dispatch, "cell", name="blocks.0.attention.scores", index=[0, 0, 1])
    assert masked["text"] == "-inf" and json.loads(json.dumps(masked))["python"].endswith("[0, 0, 1]")


def test_parts_of_arrays(dispatch) -> None:
    whole = dispatch.trace(At())["blocks.0.attention.weights"]
    part = dispatch.answer("array", {"name": "blocks.0.attention.weights", "index": [1, None, [0, 2]]})
    np.testing.assert_array_equal(part.arrays["blocks.0.attention.weights"], whole[1, :, 0:2])
    assert part.value["shape"] == list(whole[1, :, 0:2].shape)


def test_bytes_when_asked_are_near_and_say_so(dispatch) -> None:
    name = "blocks.0.attention.weights"
    packed = dispatch.answer("array", {"at": {"precision": "byte"}, "name": name}).arrays[name]
    assert isinstance(packed, Quantized)
    assert np.abs(packed.restore() - dispatch.trace(At())[name]).max() <= packed.scale


def test_another_checkpoint_is_another_model(dispatch) -> None:
    now, then = ask(dispatch, "record")["next"], ask(dispatch, "record", at={"checkpoint": 10})["next"]
    assert now != then
    with torch.no_grad():
        logits = build(CONFIG, seed=10).eval()(torch.tensor([dispatch.ids(0)])).logits_BTV[0, -1]
    trace = dispatch.trace(At(checkpoint=10))
    np.testing.assert_allclose(trace["logits"][-1], logits, atol=1e-5)
    assert trace.header["model"]["checkpoint_step"] == 10


def test_few_models_and_recordings_are_kept(dispatch) -> None:
    for step in STEPS:
        dispatch.trace(At(checkpoint=step))
    assert len(dispatch.models._others) == 2
    for text in "abcdefghij":
        node = ask(dispatch, "prompt", text=text)["current"]
        dispatch.trace(At(node=node))
    assert len(dispatch._traces) == state.MOST_TRACES
    assert dispatch.trace(At(node=node)) is dispatch.trace(At(node=node))


def test_long_texts_make_older_recordings_go(run_path, monkeypatch) -> None:
    dispatch = open_lens(run_path, text=TEXT)
    first = dispatch.trace(At())
    size = first.arrays.num_kept
    assert size == sum(first[name].size for name in first.arrays if name in first.arrays._stream)
    monkeypatch.setattr(state, "MOST_KEPT", size - 1)
    node = ask(dispatch, "prompt", text="hello")["current"]
    assert dispatch.trace(At(node=node)).ids != first.ids and len(dispatch._traces) == 1
    np.testing.assert_array_equal(dispatch.trace(At())["logits"], first["logits"])


def test_the_step_that_is_open_is_not_loaded_again(dispatch) -> None:
    assert dispatch.model(40) is dispatch.model(None)
    assert dispatch.trace(At(checkpoint=40)) is dispatch.trace(At())


def test_questions_from_many_threads_are_answered_one_by_one(run_path) -> None:
    dispatch = open_lens(run_path, text=TEXT)
    want = [dispatch.trace(At(checkpoint=step))["logits"][-1].copy() for step in STEPS]
    dispatch._traces.clear()
    got: dict[int, np.ndarray] = {}

    def work(place: int) -> None:
        at = {"node": 0, "checkpoint": STEPS[place]}
        got[place] = dispatch.answer("array", {"at": at, "name": "logits"}).arrays["logits"][-1]

    threads = [threading.Thread(target=work, args=(place,)) for place in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for place in range(4):
        np.testing.assert_array_equal(got[place], want[place])


def test_rows_that_no_token_uses_have_a_label(dispatch) -> None:
    labels = ask(dispatch, "labels")["labels"]
    assert len(labels) == 304 and labels[303] == "[303]" and "\ufffd" not in "".join(labels)
    assert ask(dispatch, "card", id=303)["kind"] == "unused"


def test_a_token_card_replays_its_merges(dispatch) -> None:
    [token] = TOKENIZER.encode("hello").ids
    card = ask(dispatch, "card", id=token)
    how = card["how"]
    row = how["parts"]
    assert row == list("hello")
    for merge in how["merges"]:
        for place in merge["places"]:
            assert row[place : place + 2] == [merge["left"], merge["right"]]
            row = [*row[:place], merge["joined"], *row[place + 2 :]]
    assert row == ["hello"] == [how["merges"][-1]["joined"]] and how["merges"][-1]["rank"] == card["rank"]
    ranks = {pair: rank for rank, pair in enumerate(TOKENIZER.vocabulary.merges)}
    assert all(ranks[merge["left"], merge["right"]] == merge["rank"] for merge in how["merges"])


def test_neighbours_are_the_nearest_by_cosine(dispatch) -> None:
    weight = torch.nn.functional.normalize(dispatch.model().embed.weight.detach().double(), dim=-1)
    cosines = weight @ weight[260]
    cosines[260] = -1
    card = ask(dispatch, "card", id=260)
    assert [near["id"] for near in card["neighbours"]] == cosines.topk(8).indices.tolist()
    np.testing.assert_allclose([near["cosine"] for near in card["neighbours"]], cosines.topk(8).values, atol=1e-6)
    assert card["norm"] == pytest.approx(float(dispatch.model().embed.weight[260].detach().norm()), rel=1e-6)


@pytest.mark.parametrize(
    "params, holds",
    [
        ({"search": "HELL"}, lambda row: "hell" in row["text"].lower()),
        ({"search": "0xE4BD"}, lambda row: b"\xe4\xbd" in bytes(row["bytes"])),
        ({"search": "/^h.*o$/"}, lambda row: row["text"][0] == "h" and row["text"][-1] == "o"),
        ({"search": "#260"}, lambda row: row["id"] == 260),
        (
            {"filter": {"script": "HAN"}},
            lambda row: "你" in row["text"] or "\u4e00" <= row["text"].strip(" 。,") <= "\u9fff",
        ),
        ({"filter": {"kind": "byte", "min_length": 2}}, lambda row: len(row["bytes"]) >= 2),
        ({"filter": {"kind": "special"}}, lambda row: row["label"] in TOKENIZER.specials),
    ],
    ids=["letters", "bytes", "pattern", "number", "script", "kind", "special"],
)
def test_the_vocabulary_is_searched(dispatch, params, holds) -> None:
    everything = ask(dispatch, "vocabulary", count=1000)["rows"]
    found = ask(dispatch, "vocabulary", **params, count=1000)
    assert found["total"] == len(found["rows"]) > 0
    assert all(holds(row) for row in found["rows"])
    assert len(everything) == TOKENIZER.vocab_size


def test_only_orders_that_the_vocabulary_has_are_offered(dispatch) -> None:
    assert ask(dispatch, "vocabulary", count=1)["sorts"] == ["id", "rank", "length", "norm"]  # BPE has no scores


def test_the_vocabulary_is_sorted_and_paged(dispatch) -> None:
    norms = [row["norm"] for row in ask(dispatch, "vocabulary", sort="-norm", count=1000)["rows"]]
    assert norms == sorted(norms, reverse=True)
    ranks = [row["rank"] for row in ask(dispatch, "vocabulary", sort="-rank", count=50)["rows"]]
    assert ranks[:3] == [41, 40, 39][:3] or ranks == sorted(ranks, key=lambda rank: -(rank if rank is not None else -1))
    pages = [ask(dispatch, "vocabulary", offset=start, count=100)["rows"] for start in (0, 100, 200, 300)]
    assert [row["id"] for page in pages for row in page] == list(range(TOKENIZER.vocab_size))


def test_a_model_without_a_tokenizer_is_told_so(tmp_path) -> None:
    save_checkpoint(tmp_path / "m", config=CONFIG, weights=build(CONFIG, seed=0).state_dict(), tokenizer=None, info={})
    with pytest.raises(TokenizerError, match="no tokenizer") as error:
        open_lens(tmp_path / "m")
    assert "tokenizer.json" in error.value.hint


def test_what_is_no_model_is_told_so(tmp_path) -> None:
    with pytest.raises(StoreError):
        open_lens(tmp_path)
    (tmp_path / "bad.gguf").write_bytes(b"GGUF" + b"\xff" * 60)
    with pytest.raises(CorruptFileError):
        open_lens(tmp_path / "bad.gguf")


def test_a_checkpoint_in_a_run_knows_the_others(run_path) -> None:
    dispatch = open_lens(run_path / "checkpoints" / "step-000020", text="a")
    assert dispatch.models.step == 20 and dispatch.checkpoints == list(STEPS)
    with pytest.raises(RequestError, match="no such checkpoint"):
        dispatch.model(21)
