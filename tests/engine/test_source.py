"""Texts that a decoder writes about a source: with a cache as without one, alone as among choices, and as the files say."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from pellucid.engine.beam import BeamSettings, search
from pellucid.engine.choices import Choices
from pellucid.engine.generate import generate, sides
from pellucid.engine.request import Request
from pellucid.engine.runners.torch_runner import TorchRunner, with_source
from pellucid.engine.sampling.settings import SamplingSettings
from pellucid.engine.settings import SpeculationSettings
from pellucid.engine.simple import complete_simply, next_logits
from pellucid.engine.transcript import build_transcript, load_transcript, save_transcript
from pellucid.errors import ContextError, RequestError
from pellucid.evaluate.score import as_target, score_ids
from pellucid.language_model import LanguageModel
from pellucid.model.context import Context
from pellucid.model.core import ExplicitCore
from pellucid.model.decoder import Decoder
from pellucid.planning.config import EncoderConfig
from pellucid.planning.parts.embedding import EmbeddingConfig
from pellucid.planning.parts.position import Relative, Sinusoidal
from pellucid.tokens.tokenizer import Tokenizer
from pellucid.tokens.train import train_characters

AXES = {
    "t5": {"position": Relative(buckets=8, farthest=12)},
    "marian": {"position": Sinusoidal(halves=True), "embedding": EmbeddingConfig(scaled=True)},
}
GREEDY = SamplingSettings(temperature=0, max_new_tokens=9)
DRAWN = SamplingSettings(seed=5, max_new_tokens=9)


@pytest.fixture(scope="module")
def signs() -> Tokenizer:
    return train_characters(["abcdefgh 一二三"], specials="standard")


@pytest.fixture(params=AXES)
def model(request, tiny_model: Callable[..., Decoder], signs: Tokenizer) -> Decoder:
    made = tiny_model(signs.vocab_size, encoder=EncoderConfig(n_layers=1), **AXES[request.param])
    with torch.no_grad():
        for block in made.blocks:  # at their start the weights hardly look at the source
            block.cross.output.weight.mul_(1000)
    return made


def asked(model: Decoder, signs: Tokenizer, text: str, **more) -> Request:
    prompt_ids, source_ids = sides(model.config, signs, signs.encode_prompt(text, whole=True))
    return Request(prompt_ids=prompt_ids, source_ids=source_ids, **more)


@pytest.mark.parametrize("sampling", [GREEDY, DRAWN])
def test_with_a_cache_as_without_one(model: Decoder, signs: Tokenizer, sampling: SamplingSettings) -> None:
    for text in ("abc", "hgfe 一", "b"):
        request = asked(model, signs, text, sampling=sampling)
        assert request.prompt_ids == (signs.roles.first("pad"),) and request.source_ids[-1] == signs.eos_id
        simple = complete_simply(model, signs, request.prompt_ids, sampling, request.source_ids)
        found = generate(TorchRunner(model), signs, request).complete()
        assert found.ids == simple.ids and found.logprobs == pytest.approx(simple.logprobs, abs=1e-4)


def test_the_account_shows_the_encoder_once_and_the_source_at_its_true_length(model: Decoder, signs: Tokenizer) -> None:
    """The shapes are those that the built model shows, encoder first; the second token reads no source again."""
    seen: list[tuple[str, tuple[int, ...]]] = []

    def note(name: str, x: Tensor) -> Tensor:
        seen.append((name.replace("blocks.0", "blocks.*"), tuple(x.shape)))
        return x

    asked_here = asked(model, signs, "abc", sampling=SamplingSettings(temperature=0, min_new_tokens=2), explain=True)
    generation = generate(TorchRunner(model), signs, asked_here)
    first, second = next(generation).account, next(generation).account
    assert first is not None and second is not None
    with torch.inference_mode():
        memory = model.encode(torch.tensor([asked_here.source_ids]), Context(core=ExplicitCore(), tap=note))
        model(torch.tensor([[0]]), Context(memory=memory, core=ExplicitCore(), tap=note), last_only=True)
    shown = [(name, shape) for name, shape in first.shapes if not name.endswith("ids") and "blocks.1." not in name]
    assert shown == [(name, shape) for name, shape in seen if "blocks.1." not in name]
    assert dict(first.shapes)["encoder.ids"] == (1, 5), "<bos> a b c <eos>"
    assert dict(second.shapes)["blocks.*.cross.weights"] == (1, 4, 1, 5)
    assert not [name for name, _ in second.shapes if name.startswith("encoder.")]
    assert (first.reading.num_encoded, second.reading.num_encoded) == (5, 0)


def test_the_tokens_of_the_source_are_counted(model: Decoder, signs: Tokenizer) -> None:
    """The source's on one side; on the other the token with which every text of the decoder begins."""
    request = asked(model, signs, "abc", sampling=GREEDY)
    found = [
        generate(TorchRunner(model), signs, request).complete(),
        search(TorchRunner(model), signs, request.prompt_ids, source_ids=request.source_ids)[0].completion,
        complete_simply(model, signs, request.prompt_ids, GREEDY, request.source_ids),
    ]
    assert [(one.num_source_tokens, one.num_prompt_tokens) for one in found] == [(5, 1)] * 3


@pytest.mark.parametrize("text", ["", " \n"])
def test_an_empty_source_is_refused(model: Decoder, signs: Tokenizer, text: str) -> None:
    lm = LanguageModel(model=model, tokenizer=signs, checkpoint=None, runner=TorchRunner(model))  # type: ignore[arg-type]
    for asked_so in (lm.request, lm.complete, lm.search, lambda text: lm.complete(["abc", text])):
        with pytest.raises(RequestError, match=r"the text is empty(.|\n)*try:   give a text for it to read"):
            asked_so(text)


def test_choices_and_guesses_about_one_source(model: Decoder, signs: Tokenizer) -> None:
    runner, alone = TorchRunner(model), asked(model, signs, "abc", sampling=DRAWN)
    text = generate(runner, signs, alone).complete()
    three = Choices(generate(runner, signs, asked(model, signs, "abc", sampling=DRAWN, num_choices=3))).complete()
    assert three[0].ids == text.ids and len({one.ids for one in three}) > 1
    for draft in (None, runner):
        ahead = asked(model, signs, "abc", sampling=DRAWN, speculation=SpeculationSettings(max_tokens=3), draft=draft)
        assert generate(runner, signs, ahead).complete().ids == text.ids


def test_a_beam_is_the_likeliest_that_it_can_be(model: Decoder, signs: Tokenizer) -> None:
    """One beam is greedy; the score of a beam is the log-probability of its target, given the source."""
    runner, request = TorchRunner(model), asked(model, signs, "feed")
    one = search(
        runner, signs, request.prompt_ids, BeamSettings(num_beams=1, max_new_tokens=5), source_ids=request.source_ids
    )
    greedy = generate(
        runner, signs, asked(model, signs, "feed", sampling=SamplingSettings(temperature=0, max_new_tokens=5))
    )
    assert one[0].ids == greedy.complete().ids
    wide = search(runner, signs, request.prompt_ids, BeamSettings(max_new_tokens=3), source_ids=request.source_ids)[0]
    scored = score_ids(with_source(runner, request.source_ids), signs, as_target(signs, wide.ids))
    assert scored.total == pytest.approx(wide.logprob, abs=1e-4) and wide.logprob >= one[0].logprob - 10


def test_a_target_is_scored_given_its_source(model: Decoder, signs: Tokenizer) -> None:
    lm = LanguageModel(model=model, tokenizer=signs, checkpoint=None, runner=TorchRunner(model))
    found = lm.score("cab", source="abc")
    target, source = [*signs.encode("cab").ids, signs.eos_id], signs.encode_prompt("abc", whole=True)
    assert found.ids == tuple(target)
    read = [signs.roles.first("pad")]
    for token_id, logprob in zip(target, found.logprobs, strict=True):
        expected = torch.from_numpy(next_logits(model, read, source)).log_softmax(-1)[token_id]
        assert logprob == pytest.approx(float(expected), abs=1e-4)
        read.append(token_id)
    assert lm.score("cab", source="abc") != lm.score("cab", source="fgh")
    with pytest.raises(RequestError, match="the text to score is empty\n  found: text 2"):
        lm.score(["cab", ""], source="abc")
    with pytest.raises(RequestError, match="one source is wanted here"):
        lm.score(["cab", "a"], source=["abc", "b"])
    with pytest.raises(ContextError, match="the target is longer than the model's context"):
        lm.score("c" * model.config.context_length, source="abc")
    assert lm.complete("abc", temperature=0, max_new_tokens=3).ids == lm.complete(
        signs.encode_prompt("abc", whole=True), temperature=0, max_new_tokens=3
    ).ids  # fmt: skip


def test_a_trace_keeps_the_source(model: Decoder, signs: Tokenizer, tmp_path: Path) -> None:
    generation = generate(TorchRunner(model), signs, asked(model, signs, "abc", sampling=GREEDY, explain=True))
    steps = list(generation)
    path = tmp_path / "trace.json"
    save_transcript(build_transcript(steps, generation.request, signs, model_sha256="0" * 64), path)
    again = generate(TorchRunner(model), signs, load_transcript(path).request).complete()
    assert again.ids == tuple(step.id for step in steps)


def test_sources_that_cannot_be_read(
    model: Decoder, signs: Tokenizer, tiny_model: Callable[..., Decoder], merged_tokenizer: Tokenizer
) -> None:
    runner = TorchRunner(model)
    for source_ids, message, kind in (
        (None, "writes about a source", RequestError),
        ((), "the source is empty", RequestError),
        ((1, 999), "does not have", RequestError),
        ((5,) * 25, "longer than the model's context", ContextError),
    ):
        with pytest.raises(kind, match=message):
            generate(runner, signs, Request(prompt_ids=(1,), source_ids=source_ids))
    with pytest.raises(RequestError, match="no encoder"):
        alone = TorchRunner(tiny_model(merged_tokenizer.vocab_size))
        generate(alone, merged_tokenizer, Request(prompt_ids=(1,), source_ids=(1,)))
