"""A model that gives vectors and scores no tokens: what it computes is shown, what would need a score is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from lens_families import classifier

from pellucid.errors import NotShownError
from pellucid.lens.answer import At
from pellucid.lens.dispatch import Dispatch
from pellucid.lens.page.html import record_answers
from pellucid.lens.questions import list_questions

HERE = {"at": {"node": 0}}


@pytest.fixture(scope="module")
def lens() -> Dispatch:
    return classifier()


def test_the_recording_has_all_that_the_model_computes_and_no_logits(lens, tmp_path) -> None:
    trace, model = lens.trace(At(node=0)), lens.model()
    assert all(check["ok"] for check in lens.answer("record", HERE).value["checks"])
    assert {name: list(array.shape) for name, array in trace.arrays.items()} == {
        name: entry["shape"] for name, entry in trace.header["arrays"].items()
    }
    assert (trace.header["next"], trace.header["predicted"], "logits" in trace.arrays) == ([], None, False)
    pooled = model.pooled(torch.tensor([lens.ids(0)]))
    np.testing.assert_allclose(trace["pooler"], pooled.vector_BD[0].detach(), atol=1e-6)
    np.testing.assert_allclose(trace["pooler.label_head"], pooled.label_logits_BC[0].detach(), atol=1e-6)
    assert trace.save(tmp_path / "trace.svg").stat().st_size > 1000


def test_what_needs_no_score_is_shown(lens) -> None:
    weights = lens.answer("attention", {**HERE, "layer": 1}).arrays["weights"]
    np.testing.assert_allclose(weights.sum(-1), 1, atol=1e-5)
    assert lens.answer("neurons", {**HERE, "layer": 0, "position": 1}).value["width"] == lens.config.d_ff
    assert lens.answer("vectors", {**HERE, "position": 1}).arrays
    for question, more in {
        "chances": {"sampling": {}}, "why": {}, "logit_lens": {}, "timeline.at": {}, "step": {"node": 0, "sampling": {}},
        "neuron": {"layer": 0, "index": 1}, "attention.writes": {"layer": 0, "head": 1, "query": 1},
    }.items():  # fmt: skip
        with pytest.raises(NotShownError, match="scores no tokens: it gives vectors"):
            lens.answer(question, more if question == "step" else HERE | more)


def test_a_page_in_a_file_holds_what_there_is(lens) -> None:
    recording = record_answers(lens, list_questions(lens, At(node=0)))
    asked = {key.partition("{")[0] for key in recording.answers}
    assert {"record", "diagram", "attention", "attention.row", "neurons", "vectors", "map"} <= asked
    assert not {"why", "logits", "logit_lens", "neuron"} & asked
