"""Beam search against transformers, against the enumeration of every text, and against greedy decoding."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
import transformers

from pellucid.engine.beam import BeamSettings, highest, search
from pellucid.engine.generate import complete
from pellucid.engine.request import Request
from pellucid.engine.runners.torch_runner import TorchRunner
from pellucid.engine.sampling.distribution import log_probabilities
from pellucid.engine.sampling.settings import SamplingSettings
from pellucid.engine.sampling.stage import FunctionStage
from pellucid.errors import ContextError, SamplingError, SettingsError
from pellucid.events import MemoryRecorder
from pellucid.settings import Layer, resolve
from pellucid.store.checkpoint import load_checkpoint, load_model

CONTEXT = 18
NAMES = {"heuristic": False, "always": True, "never": "never"}
SHAPES = {
    "llama": lambda **ids: transformers.LlamaConfig(
        hidden_size=24, intermediate_size=40, num_hidden_layers=2, num_attention_heads=3, num_key_value_heads=1,
        max_position_embeddings=CONTEXT, **ids,
    ),
    "gpt2": lambda **ids: transformers.GPT2Config(n_embd=24, n_layer=2, n_head=3, n_positions=CONTEXT, **ids),
}  # fmt: skip


class Letters:
    """A tokenizer of so few letters that <eos> comes up often; a real one has at least all bytes."""

    bos_id, eos_id, end_ids = 0, 6, frozenset((6,))

    def __init__(self, vocab_size: int) -> None:
        self.vocab_size = vocab_size

    def stream(self) -> Letters:
        return self

    def push(self, token_id: int) -> str:
        return chr(ord("a") + token_id)

    def flush(self) -> str:
        return ""


@pytest.fixture(scope="module")
def letters():
    return Letters(14)


@pytest.fixture(scope="module", params=SHAPES)
def twins(request, letters, tmp_path_factory):
    """A transformers model with random weights, and ours read from its files."""
    ids = {"vocab_size": letters.vocab_size, "bos_token_id": letters.bos_id, "eos_token_id": letters.eos_id}
    torch.manual_seed(1)
    theirs = transformers.AutoModelForCausalLM.from_config(SHAPES[request.param](**ids)).eval()
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.normal_(mean=float(parameter.dim() == 1), std=0.3)
    folder = tmp_path_factory.mktemp(request.param)
    theirs.save_pretrained(folder)
    return theirs, TorchRunner(load_model(load_checkpoint(folder)).eval())


@pytest.mark.parametrize("early_stopping", NAMES)
@pytest.mark.parametrize("length_penalty", [0.0, 1.0, 2.5, -1.0])
@pytest.mark.parametrize("num_beams", [2, 3, 6])  # one is another algorithm there
def test_the_texts_and_scores_of_transformers(twins, letters, num_beams, length_penalty, early_stopping):
    theirs, runner = twins
    settings = BeamSettings(
        num_beams=num_beams,
        num_best=num_beams,
        length_penalty=length_penalty,
        early_stopping=early_stopping,
        max_new_tokens=11,
    )
    for prompt in ([4, 5], [9, 3, 3, 8]):
        expected = transformers_beams(theirs, prompt, settings, [letters.eos_id])
        found = search(runner, letters, prompt, settings)
        assert [list(one.completion.ids) for one in found] == [ids for ids, _ in expected]
        assert [one.score for one in found] == pytest.approx([score for _, score in expected], abs=1e-4)


def transformers_beams(model, prompt, settings, end_ids, **more):
    out = model.generate(
        torch.tensor([prompt]), attention_mask=torch.ones(1, len(prompt), dtype=torch.long), do_sample=False,
        num_beams=settings.num_beams, num_return_sequences=settings.num_best, pad_token_id=0, eos_token_id=end_ids,
        length_penalty=settings.length_penalty, early_stopping=NAMES[settings.early_stopping],
        max_new_tokens=settings.max_new_tokens, return_dict_in_generate=True, output_scores=True, **more,
    )  # fmt: skip
    texts = [row[len(prompt) :].tolist() for row in out.sequences]
    texts = [ids[: next((n for n, i in enumerate(ids, 1) if i in end_ids), len(ids))] for ids in texts]
    return list(zip(texts, out.sequences_scores.tolist(), strict=True))


@pytest.mark.parametrize("stop_ids", [(3,), (1, 9, 12)])
def test_several_tokens_that_end_a_text(twins, letters, stop_ids):
    theirs, runner = twins
    settings = BeamSettings(num_beams=3, num_best=3, max_new_tokens=9, stop_ids=stop_ids)
    for prompt in ([4, 5], [10, 2, 8], [7]):
        expected = transformers_beams(theirs, prompt, settings, [letters.eos_id, *stop_ids])
        found = search(runner, letters, prompt, settings)
        assert [list(one.completion.ids) for one in found] == [ids for ids, _ in expected]


def test_a_stage_removes_tokens_and_changes_no_score(twins, letters):
    """What transformers does with a processor that bans a token."""
    theirs, runner = twins
    ban = FunctionStage("ban 9", lambda logits_V, history: np.where(np.arange(logits_V.size) == 9, -np.inf, logits_V))
    settings = BeamSettings(num_beams=3, num_best=3, max_new_tokens=9)
    for prompt in ([9, 5], [10, 2, 8], [7]):
        expected = transformers_beams(theirs, prompt, settings, [letters.eos_id], suppress_tokens=[9])
        found = search(runner, letters, prompt, settings, extra=[ban])
        assert [list(one.completion.ids) for one in found] == [ids for ids, _ in expected]
        assert [one.score for one in found] == pytest.approx([score for _, score in expected], abs=1e-4)
    nothing = FunctionStage("nothing", lambda logits_V, history: np.full_like(logits_V, -np.inf))
    with pytest.raises(SamplingError, match="after nothing"):
        search(runner, letters, [7], settings, extra=[nothing])


def test_the_parity_test_sees_early_ends(twins, letters):
    """The models above do end some texts with <eos> and cut others off, or their agreement would say little."""
    _, runner = twins
    settings = BeamSettings(num_beams=6, num_best=6, max_new_tokens=11)
    reasons = {
        one.completion.finish_reason for first in range(3, 12) for one in search(runner, letters, [first, 5], settings)
    }
    assert reasons == {"eos", "length"}


@pytest.mark.parametrize("length_penalty", [0.0, 1.0])
def test_a_wide_search_finds_the_best_of_all_texts(tiny_model, length_penalty):
    tokenizer = Letters(5)
    runner = TorchRunner(tiny_model(tokenizer.vocab_size, sharpness=4))
    settings = BeamSettings(
        num_beams=125, num_best=5, length_penalty=length_penalty, early_stopping="never", max_new_tokens=3
    )
    found = search(runner, tokenizer, [0], settings)
    every = every_text(runner, tokenizer, [0], 3)
    best = sorted(every, key=lambda ids: -every[ids] / len(ids) ** length_penalty)[:5]
    assert [one.completion.ids for one in found] == best
    assert [one.logprob for one in found] == pytest.approx([every[ids] for ids in best], abs=1e-4)


def every_text(runner, tokenizer, prompt, num_new):
    """Each text that ends with <eos> or at the greatest length, and its log-probability."""
    texts = {}
    for ids in itertools.product(range(tokenizer.vocab_size), repeat=num_new):
        end = ids.index(tokenizer.eos_id) + 1 if tokenizer.eos_id in ids else num_new
        rows = runner.score(runner.start([*prompt, *ids], max_length=len(prompt) + num_new))[len(prompt) - 1 :]
        texts[ids[:end]] = sum(float(log_probabilities(rows[i].astype(np.float64))[ids[i]]) for i in range(end))
    return texts


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("stop", [(), ("l",), ("\ufffd", "ll")])
def test_one_beam_is_greedy(merged_tokenizer, tiny_model, seed, stop):
    runner = TorchRunner(tiny_model(merged_tokenizer.vocab_size, seed=seed))
    greedy = complete(
        runner,
        merged_tokenizer,
        Request(prompt_ids=[0, 9], sampling=SamplingSettings(temperature=0, stop=stop, max_new_tokens=12)),
    )
    (only,) = search(runner, merged_tokenizer, [0, 9], BeamSettings(num_beams=1, stop=stop, max_new_tokens=12))
    assert only.completion.logprobs == pytest.approx(greedy.logprobs, abs=1e-4)
    assert (only.completion.ids, only.completion.text) == (greedy.ids, greedy.text)
    assert only.completion.finish_reason == greedy.finish_reason


@pytest.mark.parametrize("seed", range(4))
def test_more_beams_and_a_full_context(byte_tokenizer, tiny_model, seed):
    """The n best are different texts in falling order, each with the log-probabilities that its score is made of."""
    runner = TorchRunner(tiny_model(byte_tokenizer.vocab_size, seed=seed, context_length=10, sharpness=8))
    recorder = MemoryRecorder()
    found = search(runner, byte_tokenizer, [1, 2, 3], BeamSettings(num_beams=5, num_best=5), recorder=recorder)
    assert len({one.completion.ids for one in found}) == 5
    assert [one.score for one in found] == sorted((one.score for one in found), reverse=True)
    for one in found:
        done = one.completion
        assert done.finish_reason == ("eos" if done.ids[-1] == byte_tokenizer.eos_id else "context")
        assert sum(done.logprobs) == pytest.approx(one.logprob)
        assert one.score == pytest.approx(one.logprob / len(done.ids))
        assert done.text == byte_tokenizer.decode(done.ids)
        rows = runner.score(runner.start([1, 2, 3, *done.ids], max_length=14))[2:]
        expected = [float(log_probabilities(row.astype(np.float64))[i]) for row, i in zip(rows, done.ids, strict=False)]
        assert done.logprobs == pytest.approx(expected, abs=1e-4)
    assert [name for name in recorder.names() if name != "engine.progress"] == ["engine.beams_searched"]
    assert recorder.events[-1].data["finished"] == 5


def test_ids_that_the_tokenizer_cannot_spell_are_never_written(merged_tokenizer, tiny_model):
    runner = TorchRunner(tiny_model(merged_tokenizer.vocab_size + 200, sharpness=4))
    for one in search(runner, merged_tokenizer, [0], BeamSettings(num_beams=6, num_best=6, max_new_tokens=8)):
        assert max(one.completion.ids) < merged_tokenizer.vocab_size


def test_equal_logits_fall_to_the_lowest_ids():
    row = np.zeros(50, dtype=np.float32)
    row[[40, 20]] = 1
    assert [token_id for token_id, _ in highest(row, 5, 0.0)] == [20, 40, 0, 1, 2]
    row[:] = -np.inf
    row[7] = 0
    assert highest(row, 5, 0.0) == [(7, 0.0)]


def test_what_is_refused(letters, tiny_model):
    runner = TorchRunner(tiny_model(letters.vocab_size, context_length=4))
    with pytest.raises(ContextError):
        search(runner, letters, [1, 2, 3, 4])
    for wrong in ({"num_beams": 0}, {"num_beams": 2, "num_best": 3}, {"length_penalty": float("nan")}):
        with pytest.raises(SamplingError):
            BeamSettings(**wrong)
    with pytest.raises(SettingsError, match="early_stopping"):
        resolve(BeamSettings, Layer("call", {"early_stopping": "sometimes"}))
    with torch.no_grad():
        runner.model.head.weight.fill_(float("nan"))
    with pytest.raises(SamplingError, match="not a finite number"):
        search(runner, letters, [1])
