"""Branches against the engine's own generation: whatever way a text came about, the next token is the same."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from pellucid.cli.app import main
from pellucid.engine.generate import complete
from pellucid.engine.request import Request
from pellucid.engine.runners.build import build_runner
from pellucid.engine.runners.runner import Runner
from pellucid.engine.runners.torch_runner import TorchRunner
from pellucid.errors import ContextError, CorruptFileError, RequestError, SettingsError
from pellucid.lens.branches import Branches, read_sampling
from pellucid.lens.dispatch import Dispatch, open_lens
from pellucid.lens.given import PromptReader
from pellucid.lens.logits_cache import LogitsCache
from pellucid.model.build import build
from pellucid.model.decoder import Decoder
from pellucid.planning.config import ModelConfig
from pellucid.store.checkpoint import save_checkpoint
from pellucid.tokens.framing import Frame
from pellucid.tokens.tokenizer import Tokenizer
from pellucid.tokens.train import train_bpe

WARM = {"temperature": 1.4, "top_p": 0.95, "seed": 3}


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_bpe(["hello world, 你好世界。hello there, 你好 " * 20], 300)


@pytest.fixture(scope="module")
def model(tokenizer: Tokenizer) -> Decoder:
    shape = {"n_layers": 2, "n_heads": 4, "n_kv_heads": 2, "head_dim": 8, "d_model": 32, "d_ff": 48}
    config = ModelConfig.from_axes(vocab_size=304, context_length=24, tied_head=False, init="gpt2", **shape)
    made = build(config, seed=0).eval()
    with torch.no_grad():
        made.final_norm.weight.mul_(30)
    return made


@pytest.fixture(params=["loops", "torch"])
def runner(request, model: Decoder) -> Runner:
    return build_runner(model) if request.param == "loops" else TorchRunner(model)


@pytest.fixture
def branches(runner: Runner, tokenizer: Tokenizer) -> Branches:
    made = Branches(runner, PromptReader(tokenizer=tokenizer, config=runner.config, frame=Frame((tokenizer.bos_id,))))
    made.plant("hello 你")
    return made


@pytest.fixture(scope="module")
def dispatch(model: Decoder, tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> Dispatch:
    path = tmp_path_factory.mktemp("models") / "tiny"
    save_checkpoint(path, config=model.config, weights=model.state_dict(), tokenizer=tokenizer, info={})
    return open_lens(path, text="hello 你")


def ids_after(branches: Branches, node: int, count: int, **sampling) -> list[int]:
    nodes, _ = branches.step(node, read_sampling({**WARM, **sampling}), count)
    return [step.ids[0] for step in nodes]


@pytest.mark.parametrize(
    "sampling",
    [
        {},
        {"temperature": 0},
        {"repetition_penalty": 1.3, "frequency_penalty": 0.4},
        {"xtc_probability": 0.5},
        {"mirostat": 2},
    ],
)
def test_steps_are_those_of_a_generation(branches: Branches, tokenizer: Tokenizer, sampling: dict) -> None:
    settings = read_sampling({**WARM, **sampling, "max_new_tokens": 8})
    wanted = complete(branches.runner, tokenizer, Request(prompt_ids=branches.tree.here().ids, sampling=settings))
    one_by_one, node = [], 0
    for _ in wanted.ids:
        one_by_one += ids_after(branches, node, 1, **sampling)
        node = branches.tree.current
    assert one_by_one == list(wanted.ids)
    assert [step.logprob for step in branches.tree.path(node)[1:]] == pytest.approx(list(wanted.logprobs), abs=1e-6)
    assert ids_after(branches, 0, 8, **sampling) == list(wanted.ids)


def test_the_same_seed_is_the_same_token_as_on_the_command_line(
    dispatch: Dispatch, capsys: pytest.CaptureFixture
) -> None:
    path = str(dispatch.models.first.checkpoint.directory)
    flags = ["--temperature", "1.4", "--top-p", "0.95", "--seed", "3", "--max-new-tokens", "6", "--json"]
    with pytest.raises(SystemExit):
        main(["generate", path, "hello 你", *flags])
    told = json.loads(capsys.readouterr().out)
    answer = dispatch.answer("step", {"node": 0, "sampling": WARM, "count": 6}).value
    assert [node["ids"][0] for node in answer["nodes"]] == told["ids"]


def test_rows_do_not_depend_on_what_was_asked_before(branches: Branches) -> None:
    """Forks, undone steps and reused caches: every row is the one a fresh reader computes, bit for bit."""
    first, _ = branches.step(0, read_sampling(WARM), 6)
    fork = branches.choose(first[2].id, 5)
    branches.step(fork.id, read_sampling(WARM), 4)
    branches.step(first[1].id, read_sampling({**WARM, "seed": 9}), 4)
    for node in branches.tree.nodes:
        fresh = Branches(branches.runner, branches.reads).rows
        row_V, reading = fresh.after(branches.tree.text_ids(node.id), branches.tree.num_prompt(node.id))
        assert reading.num_reused == 0
        np.testing.assert_array_equal(branches.row(node.id), row_V)


@pytest.mark.parametrize("seed", range(2))
def test_rows_stay_right_when_little_can_be_kept(runner: Runner, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Texts that share beginnings, asked for in any order with room for two rows and two caches."""
    monkeypatch.setattr("pellucid.lens.logits_cache.NUM_ROWS", 2)
    monkeypatch.setattr("pellucid.lens.logits_cache.NUM_SEQUENCES", 2)
    generator = np.random.default_rng(seed)
    texts = [tuple(generator.integers(0, 3, generator.integers(2, 20)).tolist()) for _ in range(5)]
    kept = LogitsCache(runner)
    for text in [*texts, *texts[::-1]]:
        row_V, reading = kept.after(text, 2)
        np.testing.assert_array_equal(row_V, LogitsCache(runner).after(text, 2)[0])
        assert reading.num_reused + reading.num_computed == len(text)
    assert len(kept.rows) == len(kept.sequences) == 2
    with pytest.raises(ContextError, match="longer than the context"):
        kept.after((0,) * 25, 2)


def test_a_fork_reuses_what_both_branches_share(branches: Branches) -> None:
    num_prompt = len(branches.tree.here().ids)
    first, _ = branches.step(0, read_sampling(WARM), 6)
    assert [(node.reused, node.computed) for node in first][:3] == [
        (0, num_prompt),
        (num_prompt, 1),
        (num_prompt + 1, 1),
    ]
    token = (first[3].ids[0] + 1) % 256
    forked, _ = branches.step(branches.choose(first[2].id, token).id, read_sampling(WARM), 1)
    assert (forked[0].reused, forked[0].computed) == (num_prompt + 3, 1)


def test_an_earlier_position_has_the_row_that_was_drawn_from(branches: Branches) -> None:
    nodes, _ = branches.step(0, read_sampling(WARM), 3)
    num_prompt = branches.tree.num_prompt(0)
    np.testing.assert_array_equal(branches.row(nodes[-1].id, num_prompt), branches.row(nodes[0].id))
    with pytest.raises(RequestError, match="no token stands"):
        branches.row(0, num_prompt)


def test_a_chosen_token_has_the_models_own_log_probability(branches: Branches) -> None:
    row_V = torch.from_numpy(branches.row(0).copy()).double()
    node = branches.choose(0, 7)
    assert node.logprob == pytest.approx(row_V.log_softmax(0)[7].item(), abs=1e-5)
    assert (node.made_by, node.u, branches.tree.current) == ("chosen", None, node.id)


def test_a_text_ends_at_eos_at_a_stop_and_where_the_context_is_full(branches: Branches, tokenizer: Tokenizer) -> None:
    assert branches.choose(0, tokenizer.eos_id).stop == "eos"
    assert branches.step(branches.tree.current, read_sampling(WARM), 3) == ([], [])
    ids = [node.ids[0] for node in branches.step(0, read_sampling(WARM), 2)[0]]
    assert branches.step(0, read_sampling({**WARM, "stop_ids": (ids[1],)}), 9)[0][-1].stop == "stop"
    nodes, _ = branches.step(0, read_sampling({**WARM, "ban": (tokenizer.eos_id,)}), 99)
    assert nodes[-1].stop == "context" and len(branches.tree.text_ids(nodes[-1].id)) == 24
    with pytest.raises(ContextError):
        branches.choose(nodes[-1].id, 5)


def test_a_prompt_as_long_as_the_context_can_be_looked_at(branches: Branches) -> None:
    assert branches.plant("a" * 23).stop is None and len(branches.tree.here().ids) == 24
    assert branches.row(branches.tree.current).shape == (304,)
    assert branches.step(branches.tree.current, read_sampling(WARM)) == ([], [])
    with pytest.raises(ContextError, match="longer than the context"):
        branches.plant("a" * 24)


def test_beams_are_branches_in_the_order_of_their_likelihood(dispatch: Dispatch) -> None:
    answer = dispatch.answer("beam", {"node": 0, "beams": 3, "length": 4}).value
    totals = [dispatch.tree.total(end) for end in answer["ends"]]
    assert totals == sorted(totals, reverse=True) and answer["current"] == answer["ends"][0]
    for end in answer["ends"]:
        for above, node in zip(dispatch.tree.path(end), dispatch.tree.path(end)[1:], strict=False):
            row_V = torch.from_numpy(dispatch.branches.row(above.id).copy()).double()
            assert node.logprob == pytest.approx(row_V.log_softmax(0)[node.ids[0]].item(), abs=1e-5)


def test_an_account_comes_with_every_step(dispatch: Dispatch) -> None:
    answer = dispatch.answer("step", {"node": 0, "sampling": WARM, "count": 2}).value
    for node, account in zip(answer["nodes"], answer["account"], strict=True):
        low, high = account["segment"]
        assert low <= node["u"] < high and account["id"] == node["ids"][0] and node["seed"] == answer["seed"] == 3
    json.dumps(answer, allow_nan=False)


def test_a_seed_that_was_left_open_is_told(dispatch: Dispatch) -> None:
    answer = dispatch.answer("step", {"node": 0, "sampling": {}}).value
    again = dispatch.answer("step", {"node": 0, "sampling": {"seed": answer["seed"]}}).value
    assert answer["nodes"][0]["u"] == again["nodes"][0]["u"] and answer["nodes"][0]["id"] == again["nodes"][0]["id"]


def test_branches_are_saved_and_come_back(dispatch: Dispatch, tmp_path: Path) -> None:
    file = tmp_path / "branches.json"
    with pytest.raises(RequestError, match="path"):  # a page cannot name a file to be written
        dispatch.answer("branches.save", {"path": str(file)})
    assert not file.exists()
    dispatch.answer("step", {"node": 0, "sampling": WARM, "count": 3})
    before = dispatch.answer("tree", {}).value
    content = dispatch.answer("branches.save", {}).value["content"]
    dispatch.answer("prompt", {"text": "there"})
    after = dispatch.answer("branches.load", {"content": content}).value
    assert after["nodes"] == before["nodes"] and after["current"] == before["current"]
    assert after["version"] > before["version"]
    whole = json.loads(content)
    other_ids, other_text = {**whole["nodes"][0], "ids": [9999]}, {**whole["nodes"][0], "text": "another text"}
    for change in (
        {"tokenizer_sha256": "0" * 64}, {"nodes": [other_ids], "current": 0}, {"nodes": [other_text], "current": 0}
    ):  # fmt: skip
        with pytest.raises((CorruptFileError, RequestError)):
            dispatch.answer("branches.load", {"content": json.dumps({**whole, **change})})


def test_two_pages_take_back_their_own_tokens(dispatch: Dispatch) -> None:
    mine = dispatch.answer("choose", {"node": 0, "id": 9}).value["current"]
    theirs = dispatch.answer("choose", {"node": mine, "id": 10}).value["current"]
    assert dispatch.answer("undo", {"node": mine}).value["current"] == 0
    assert dispatch.answer("go", {"node": theirs}).value["current"] == theirs
    assert dispatch.answer("undo", {}).value["current"] == mine


def test_the_path_says_which_node_each_token_is_of(dispatch: Dispatch) -> None:
    node = dispatch.answer("step", {"node": 0, "sampling": WARM, "count": 2}).value["nodes"][-1]["id"]
    path = dispatch.answer("path", {"node": node}).value
    assert [chip["id"] for chip in path["chips"]] == list(dispatch.ids(node))
    assert path["nodes"][: path["num_prompt"]] == [0] * path["num_prompt"] and path["nodes"][-1] == node


@pytest.mark.parametrize(
    ("method", "params", "error"),
    [
        ("step", {"node": 99, "sampling": {}}, RequestError),
        ("step", {"node": 0, "sampling": {"temprature": 1}}, SettingsError),
        ("step", {"node": 0, "sampling": {"temperature": -1}}, RequestError),
        ("step", {"node": 0, "sampling": {}, "count": 0}, RequestError),
        ("choose", {"node": 0, "id": 302}, RequestError),
        ("choose", {"node": 0, "id": -1}, RequestError),
        ("branches.load", {"content": "{}"}, RequestError),
    ],
)
def test_what_cannot_be_is_refused(dispatch: Dispatch, method: str, params: dict, error: type) -> None:
    before = dispatch.tree.version
    with pytest.raises(error):
        dispatch.answer(method, params)
    assert dispatch.tree.version == before


def test_a_prompt_begins_as_the_command_line_begins_it(dispatch: Dispatch, tokenizer: Tokenizer) -> None:
    assert list(dispatch.ids(0)) == tokenizer.encode_prompt("hello 你")
