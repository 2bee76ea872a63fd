"""Maps, neighbours and positions against numpy's own decompositions and formulas written out."""

from __future__ import annotations

import importlib.util
import math
import sys

import numpy as np
import pytest
import torch

from pellucid.errors import EngineError, MissingExtraError, RequestError
from pellucid.lens import umap_map
from pellucid.lens.answer import At
from pellucid.lens.dispatch import Dispatch, open_lens
from pellucid.lens.embedding_map import find_principal, kept_neighbours, read_word
from pellucid.model.build import build
from pellucid.planning.config import ModelConfig
from pellucid.store.checkpoint import save_checkpoint
from pellucid.store.run import Run
from pellucid.tokens.train import train_bpe

TEXT = "the cat sat on the mat"
TOKENIZER = train_bpe([TEXT, "你好，世界。你好"], 300)
CONFIG = ModelConfig(
    vocab_size=TOKENIZER.vocab_size + 3, context_length=40, n_layers=2, n_heads=4, n_kv_heads=2, head_dim=6,
    d_model=20, d_ff=31,
)  # fmt: skip


def table(rows: int = 60, width: int = 9) -> torch.Tensor:
    spread = torch.linspace(3, 0.1, width)
    return torch.randn(rows, width, generator=torch.Generator().manual_seed(3)) * spread + 5


def weights(seed: int, **axes) -> tuple[ModelConfig, dict[str, torch.Tensor]]:
    config = CONFIG.revise(**axes)
    model = build(config, seed=seed)
    return config, {name: parameter.detach() for name, parameter in model.named_parameters()}


@pytest.fixture(scope="module")
def dispatch(tmp_path_factory) -> Dispatch:
    """A run of two checkpoints that differ in every weight."""
    run = Run.create(tmp_path_factory.mktemp("runs") / "tiny", {})
    for step in (10, 20):
        config, state = weights(step)
        run.save(step, config=config, weights=state, tokenizer=TOKENIZER, info={})
    return open_lens(run.path, text=TEXT)


def open_with(tmp_path, **axes) -> Dispatch:
    config, state = weights(1, **axes)
    save_checkpoint(tmp_path / "model", config=config, weights=state, tokenizer=TOKENIZER, info={})
    return open_lens(tmp_path / "model", text=TEXT)


@pytest.mark.parametrize("dims", [2, 3])
def test_principal_components_are_those_of_a_singular_value_decomposition(dims: int) -> None:
    table_VD = table()
    found = find_principal(table_VD, dims)
    centred = (table_VD - table_VD.mean(0)).double().numpy()
    _, sizes, rows = np.linalg.svd(centred, full_matrices=False)
    np.testing.assert_allclose(np.abs((found.axes_CD.double().numpy() * rows[:dims]).sum(1)), 1.0, atol=1e-5)
    np.testing.assert_allclose(found.shares_C, (sizes**2 / (sizes**2).sum())[:dims], rtol=1e-4)
    places = found.place(table_VD)
    np.testing.assert_allclose(places.var(0, correction=0), (sizes**2 / len(centred))[:dims], rtol=1e-4)


def test_an_axis_points_where_its_largest_entry_is_positive() -> None:
    table_VD = table()
    once, mirrored = find_principal(table_VD, 2), find_principal(-table_VD, 2)
    torch.testing.assert_close(once.axes_CD, mirrored.axes_CD, rtol=1e-4, atol=1e-5)


def test_a_map_that_is_the_table_keeps_every_neighbour() -> None:
    angle_V = torch.arange(50) * 0.1
    circle_V2 = torch.stack([angle_V.cos(), angle_V.sin()], dim=-1)
    assert kept_neighbours(circle_V2, circle_V2) == pytest.approx(1.0)
    scattered = torch.randn(50, 2, generator=torch.Generator().manual_seed(1))
    assert kept_neighbours(circle_V2, scattered) < 0.5  # chance is 10 / 49


def test_the_map_has_a_point_for_every_token_and_says_what_it_keeps(dispatch: Dispatch) -> None:
    answer = dispatch.answer("map", {"dims": 3})
    table_VD = dispatch.model().embed.weight.detach()[: TOKENIZER.vocab_size]
    assert answer.arrays["xy"].shape == (TOKENIZER.vocab_size, 3)
    assert answer.arrays["ids"].tolist() == list(range(TOKENIZER.vocab_size))
    np.testing.assert_allclose(answer.arrays["xy"], find_principal(table_VD, 3).place(table_VD), atol=1e-6)
    np.testing.assert_allclose(answer.value["explained"], find_principal(table_VD, 3).shares_C, atol=1e-5)
    assert 0 < answer.value["neighbours_kept"] < 1


def test_maps_of_two_checkpoints_lie_on_one_sheet(dispatch: Dispatch) -> None:
    early, late = (dispatch.model(step).embed.weight.detach()[: TOKENIZER.vocab_size] for step in (10, 20))
    answer = dispatch.answer("map", {"checkpoint": 10, "axes_of": 20})
    np.testing.assert_allclose(answer.arrays["xy"], find_principal(late, 2).place(early), atol=1e-5)
    own = dispatch.answer("map", {"checkpoint": 10})
    np.testing.assert_allclose(own.arrays["xy"], find_principal(early, 2).place(early), atol=1e-5)
    assert sum(answer.value["explained"]) < sum(own.value["explained"])  # no other axes explain as much as its own


def test_neighbours_are_the_largest_cosines(dispatch: Dispatch) -> None:
    table_VD = dispatch.model().embed.weight.detach()[: TOKENIZER.vocab_size].double().numpy()
    unit_VD = table_VD / np.linalg.norm(table_VD, axis=1, keepdims=True)
    cosine_V = unit_VD @ unit_VD[260]
    order = [i for i in np.argsort(-cosine_V) if i != 260][:5]
    value = dispatch.answer("neighbours", {"id": 260, "count": 5}).value
    assert [one["id"] for one in value["neighbours"]] == order
    for one in value["neighbours"]:
        assert one["cosine"] == pytest.approx(cosine_V[one["id"]], abs=1e-5)
        assert one["dot"] == pytest.approx(table_VD[260] @ table_VD[one["id"]], abs=1e-5)


def test_words_over_training_are_measured_at_each_checkpoint(dispatch: Dispatch) -> None:
    answer = dispatch.answer("map.training", {"words": ["cat", 65, "你好"]})
    assert answer.value["steps"] == [10, 20] and answer.value["pairs"] == [[0, 1], [0, 2], [1, 2]]
    ids = [word["ids"] for word in answer.value["words"]]
    for s, step in enumerate((10, 20)):
        table_VD = dispatch.model(step).embed.weight.detach()
        rows = [table_VD[group].mean(0) for group in ids]
        for p, (a, b) in enumerate(answer.value["pairs"]):
            cosine = torch.cosine_similarity(rows[a], rows[b], dim=0).item()
            assert answer.arrays["cosine"][s, p] == pytest.approx(cosine, abs=1e-5) == answer.value["similarity"][p][s]
    assert answer.arrays["xy"].shape == (2, 3, 2)


def test_a_word_is_read_as_it_stands_in_a_text() -> None:
    tokenizer = train_bpe(["one cat, two cat, three cat; 你好，你好，你好"], 300)
    assert [tokenizer.decode(read_word(tokenizer, word)) for word in ("cat", "你好", "xyz")] == [" cat", "你好", "xyz"]
    assert read_word(tokenizer, 7) == [7]


@pytest.mark.parametrize(
    ("method", "params"),
    [
        ("map", {"dims": 4}),
        ("map", {"method": "tsne"}),
        ("map", {"checkpoint": 11}),
        ("neighbours", {"id": 100_000}),
        ("map.training", {"words": ["cat"]}),
        ("map.training", {"words": ["cat", ""]}),
        ("map.training", {"words": ["cat", 100_000]}),
        ("vectors", {"position": 99}),
        ("vectors.hands", {"layer": 2, "head": 0, "position": 0}),
        ("vectors.hands", {"layer": 0, "head": 4, "position": 0}),
        ("vectors.hands", {"layer": 0, "head": 0, "position": 0, "part": "value"}),
    ],
)
def test_what_is_not_there_is_refused_with_a_hint(dispatch: Dispatch, method: str, params: dict) -> None:
    with pytest.raises(RequestError) as caught:
        dispatch.answer(method, params)
    assert caught.value.hint


def test_without_umap_the_message_says_what_to_install(dispatch: Dispatch, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "umap", None)
    with pytest.raises(MissingExtraError) as caught:
        dispatch.answer("map", {"method": "umap"})
    assert "-m pip install umap-learn" in caught.value.hint


@pytest.mark.skipif(importlib.util.find_spec("umap") is None, reason="umap-learn is not installed (extra: umap)")
def test_a_umap_is_made_beside_the_desk_and_is_the_same_every_time(dispatch: Dispatch) -> None:
    assert dispatch.answer("map", {"method": "umap"}).value["pending"]
    answer = dispatch.answer("map", {"method": "umap", "wait": True})
    again = open_lens(dispatch.run.path).answer("map", {"method": "umap", "wait": True})
    assert np.array_equal(answer.arrays["xy"], again.arrays["xy"])
    assert answer.value["neighbours_kept"] > dispatch.answer("map", {}).value["neighbours_kept"]


def test_a_map_that_fails_says_so(monkeypatch) -> None:
    monkeypatch.setattr(umap_map.importlib.util, "find_spec", lambda name: "installed")
    job = umap_map.UmapJob(np.zeros((50, 3), dtype=np.float32), dims=-1)
    with pytest.raises(EngineError) as caught:
        job.wait()
    assert "Error" in caught.value.found and job.done


@pytest.mark.parametrize("kind", ["learned", "sinusoidal", "rotary", "none"])
def test_the_input_is_the_sum_of_its_rows(tmp_path, kind: str) -> None:
    dispatch = open_with(tmp_path, position=kind)
    arrays = dispatch.answer("vectors", {"position": 3}).arrays
    model = dispatch.model()
    token = dispatch.ids(0)[3]
    np.testing.assert_array_equal(arrays["embed"], model.embed.weight[token].detach())
    assert ("position" in arrays) == (kind in ("learned", "sinusoidal"))
    np.testing.assert_allclose(arrays["input"], arrays["embed"] + arrays.get("position", 0), atol=1e-6)
    if kind == "learned":
        np.testing.assert_array_equal(arrays["position"], model.position.weight[3].detach())


def test_sinusoids_are_those_of_the_formula(tmp_path) -> None:
    answer = open_with(tmp_path, position="sinusoidal").answer("vectors.positions", {"count": 12})
    for place, axis in ((0, 0), (3, 4), (11, 7), (5, 19)):
        angle = place / 10_000 ** (axis // 2 * 2 / 20)
        expected = math.cos(angle) if axis % 2 else math.sin(angle)
        assert answer.arrays["table"][place, axis] == pytest.approx(expected, abs=1e-6)
    unit = answer.arrays["table"] / np.linalg.norm(answer.arrays["table"], axis=1, keepdims=True)
    np.testing.assert_allclose(answer.arrays["similarity"], unit @ unit.T, atol=1e-6)


@pytest.mark.parametrize(
    "axes",
    [{}, {"rope_theta": 500.0}, {"rope_scaling": "linear", "rope_factor": 4.0}],
)
def test_turned_pairs_are_alike_by_their_distance(tmp_path, axes: dict) -> None:
    answer = open_with(tmp_path, **axes).answer("vectors.positions", {"count": 20})
    theta, slower = axes.get("rope_theta", 10_000.0), axes.get("rope_factor", 1.0)
    frequency = [theta ** (-2 * i / 6) / slower for i in range(3)]
    np.testing.assert_allclose(answer.arrays["frequency"], frequency, rtol=1e-5)
    np.testing.assert_allclose(answer.value["wavelengths"], [2 * math.pi / f for f in frequency], rtol=1e-5)
    expected = [[np.mean([math.cos((a - b) * f) for f in frequency]) for b in range(20)] for a in range(20)]
    np.testing.assert_allclose(answer.arrays["similarity"], expected, atol=1e-5)


@pytest.mark.parametrize("part", ["query", "key"])
@pytest.mark.parametrize("head", [0, 3])
def test_hands_turn_by_their_angle_and_keep_their_length(dispatch: Dispatch, part: str, head: int) -> None:
    answer = dispatch.answer("vectors.hands", {"layer": 1, "head": head, "position": 4, "part": part})
    row = head if part == "query" else head // 2  # four query heads share two key heads
    trace = dispatch.trace(At(node=0))
    np.testing.assert_array_equal(answer.arrays["before"][:, 0], trace.arrays[f"blocks.1.attention.{part}"][row, 4, :3])
    np.testing.assert_array_equal(
        answer.arrays["after"][:, 1], trace.arrays[f"blocks.1.attention.{part}_rotated"][row, 4, 3:]
    )
    before, after = (answer.arrays[name] @ np.array([1, 1j]) for name in ("before", "after"))
    np.testing.assert_allclose(after, before * np.exp(1j * answer.arrays["angles"]), atol=1e-5)
    assert answer.value["check"]["ok"]


@pytest.mark.parametrize("scaling", ["llama3", "yarn"])
def test_stretched_turning_is_read_from_the_model(tmp_path, scaling: str) -> None:
    axes = {"rope_scaling": scaling, "rope_factor": 4.0, "rope_original_context": 10}
    axes |= {"rope_low_frequency": 1.0, "rope_high_frequency": 4.0}
    dispatch = open_with(tmp_path, **axes)
    answer = dispatch.answer("vectors.positions", {"count": 10})
    np.testing.assert_allclose(np.diag(answer.arrays["similarity"]), 1.0, atol=1e-5)  # whatever factor there is
    assert answer.arrays["frequency"][-1] == pytest.approx(10_000.0 ** (-4 / 6) / 4, rel=1e-5)  # the slowest: all of it
    assert dispatch.answer("vectors.hands", {"layer": 0, "head": 1, "position": 5}).value["check"]["ok"]


def test_positions_that_nothing_marks_say_so(tmp_path) -> None:
    dispatch = open_with(tmp_path, position="none")
    answer = dispatch.answer("vectors.positions", {})
    assert answer.value["kind"] == "none" and not answer.arrays
    with pytest.raises(RequestError, match="turns nothing"):
        dispatch.answer("vectors.hands", {"layer": 0, "head": 0, "position": 0})
