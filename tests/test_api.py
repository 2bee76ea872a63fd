"""Every public name is called here as a person's script calls it, right and wrong, on a model of a few thousand numbers."""

from __future__ import annotations

import dataclasses
import math
import pickle
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import pellucid
from pellucid.errors import (
    ContextError,
    PellucidError,
    RequestError,
    SamplingError,
    SettingsError,
    StoreError,
    TokenizerError,
)
from pellucid.model.build import build
from pellucid.store.checkpoint import save_checkpoint
from pellucid.tokens.ids_only import IdsOnly
from pellucid.tokens.roles import Claim, Roles
from pellucid.tokens.tokenizer import Tokenizer
from pellucid.tokens.train import train_bpe

TEXT = "the cat sat on the mat"
ENDS_AT_7 = Roles((Claim(role="eos", ids=(7,), where="config.json"),))
TOKENIZER = train_bpe([TEXT * 9], 270, specials="none")
CONFIG = pellucid.ModelConfig(
    vocab_size=TOKENIZER.vocab_size,
    context_length=16,
    n_layers=2,
    n_heads=2,
    n_kv_heads=1,
    head_dim=8,
    d_model=32,
    d_ff=32,
)
COVERED: set[str] = set()  # public names, and `LanguageModel.method`, that a test here calls


def covers(*names: str) -> Callable[[Callable], Callable]:
    COVERED.update(names)
    return lambda test: test


def save_model(path: Path, tokenizer: Tokenizer | None = TOKENIZER, **axes: Any) -> Path:
    config = dataclasses.replace(CONFIG, **axes)
    save_checkpoint(path, config=config, weights=build(config, seed=3).state_dict(), tokenizer=tokenizer, info={})
    return path


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("models") / "m")


@pytest.fixture(scope="module")
def lm(path: Path) -> pellucid.LanguageModel:
    return pellucid.load(path, device="cpu", engine=pellucid.EngineSettings(kernels="off"))


@pytest.fixture(scope="module")
def mute(tmp_path_factory: pytest.TempPathFactory) -> pellucid.LanguageModel:
    """The same weights in a directory without a tokenizer."""
    path = save_model(tmp_path_factory.mktemp("models") / "mute", tokenizer=None)
    return pellucid.load(path, device="cpu", engine=pellucid.EngineSettings(kernels="off"))


def said(error: pytest.ExceptionInfo[PellucidError]) -> str:
    return str(error.value)


def test_every_public_name_is_called_here() -> None:
    methods = [name for name in dir(pellucid.LanguageModel) if not name.startswith("_")]
    fields = pellucid.LanguageModel.__dataclass_fields__
    public = {*pellucid.__all__, *(f"LanguageModel.{name}" for name in (*methods, *fields))}
    assert public == COVERED


@covers("__version__")
def test_version() -> None:
    assert pellucid.__version__.count(".") == 2


def test_names_are_bound_when_they_are_used() -> None:
    assert set(pellucid.__all__) <= set(dir(pellucid))
    with pytest.raises(AttributeError, match="Llama"):
        pellucid.Llama  # noqa: B018


@covers("load", "LanguageModel", "LanguageModel.config", "LanguageModel.checkpoint", "LanguageModel.runner")
def test_load(path: Path, lm: pellucid.LanguageModel) -> None:
    assert isinstance(lm, pellucid.LanguageModel) and lm.config == CONFIG
    assert lm.checkpoint.directory == path and "float32" in lm.runner.name


@covers("EngineSettings")
@pytest.mark.parametrize("dtype", ["bf16", torch.bfloat16])
def test_load_in_another_number_format(path: Path, dtype: Any) -> None:
    off = pellucid.EngineSettings(kernels="off")
    lm = pellucid.load(path, device=torch.device("cpu"), dtype=dtype, engine=off)
    assert lm.model.embed.weight.dtype == torch.bfloat16 and "bfloat16" in lm.runner.name


def test_weights_may_have_fewer_bits_than_the_model_computes_with(path: Path) -> None:
    lm = pellucid.load(path, device="cpu", weights="int8")
    assert "int8" in lm.runner.name and lm.model.embed.weight.dtype == torch.float32
    assert lm.complete("the", temperature=0, max_new_tokens=2).finish_reason == "length"
    other = pellucid.load(path, device="cpu", engine=pellucid.EngineSettings(weights="int8"))
    assert other.runner.name == lm.runner.name


@pytest.mark.parametrize(
    ("asked", "hint"),
    [
        ({"torch_dtype": torch.float16}, "here it is called dtype"),
        ({"n_gpu_layers": -1}, 'device="cuda"'),
        ({"load_in_8bit": True}, 'weights="int8"'),
        ({"kernels": "off"}, "EngineSettings"),
        ({"wieghts": "int8"}, "did you mean 'weights'?"),
        ({"dtype": "float32"}, "here it is called fp32"),
        ({"dtype": torch.float16}, "give auto, fp32 or bf16"),
        ({"dtype": 32}, "give auto, fp32 or bf16"),
        ({"weights": "int3"}, "did you mean 'int"),
        ({"weights": 8}, "fp32"),
        ({"engine": {"kernels": "off"}}, "engine=pellucid.EngineSettings"),
        ({"engine": pellucid.EngineSettings(kernels="maybe")}, "known: auto, off, on"),  # type: ignore[arg-type]
        ({"device": 0}, "give auto or cpu"),
        ({"device": "gpu"}, "give auto or cpu"),
    ],
)
def test_load_held_wrong(path: Path, asked: dict[str, Any], hint: str) -> None:
    with pytest.raises(PellucidError) as error:
        pellucid.load(path, **asked)
    assert hint in said(error)


@pytest.mark.parametrize("nowhere", [None, 3, "", "gpt2", ["a"], b"runs"])
def test_load_from_nowhere(nowhere: Any) -> None:
    with pytest.raises((SettingsError, StoreError)):
        pellucid.load(nowhere)


@covers("LanguageModel.complete", "Completion", "LanguageModel.tokenizer")
def test_complete(lm: pellucid.LanguageModel) -> None:
    done = lm.complete("the cat", temperature=0, max_new_tokens=4)
    assert isinstance(done, pellucid.Completion) and len(done.ids) == len(done.logprobs) == 4
    assert lm.tokenizer.decode(done.ids) == done.text and done.finish_reason == "length"
    assert lm.complete(temperature=0, max_new_tokens=1).num_prompt_tokens == 1, "no prompt: the model begins by itself"


def test_a_prompt_is_text_or_ids_of_any_kind(lm: pellucid.LanguageModel) -> None:
    ids = lm.tokenizer.encode_prompt("the cat")
    kinds = ["the cat", ids, tuple(ids), np.array(ids, np.uint32), torch.tensor(ids), [np.int64(i) for i in ids]]
    assert len({lm.complete(prompt, seed=5, max_new_tokens=4) for prompt in kinds}) == 1
    bare = lm.tokenizer.encode("the cat")
    assert lm.complete(bare, seed=5, max_new_tokens=4) == lm.complete(list(bare.ids), seed=5, max_new_tokens=4)


def test_a_list_of_prompts_gives_what_each_gives_alone(lm: pellucid.LanguageModel) -> None:
    prompts: list[Any] = ["the", [5, 6], "the cat sat"]
    alone = [lm.complete(prompt, seed=2, max_new_tokens=4) for prompt in prompts]
    assert lm.complete(prompts, seed=2, max_new_tokens=4) == alone
    assert lm.complete(["the"], seed=2, max_new_tokens=4) == alone[:1], "a list of one is a list"
    rows = np.array([[5, 6], [7, 8]])
    both = lm.complete([[5, 6], [7, 8]], seed=2, max_new_tokens=4)
    for table in (rows, torch.tensor(rows)):
        assert lm.complete(table, seed=2, max_new_tokens=4) == both  # type: ignore[call-overload]


@covers("LanguageModel.generate", "Step")
def test_generate(lm: pellucid.LanguageModel) -> None:
    steps = list(lm.generate([5, 6], seed=1, max_new_tokens=3))
    assert all(isinstance(step, pellucid.Step) for step in steps)
    assert tuple(step.id for step in steps) == lm.complete([5, 6], seed=1, max_new_tokens=3).ids
    with pytest.raises(RequestError, match="complete") as error:
        lm.generate(["the", "cat"])
    assert "a list of 2" in said(error)


@covers("LanguageModel.choices")
def test_choices(lm: pellucid.LanguageModel) -> None:
    first, second = lm.choices("the", num_choices=2, seed=1, max_new_tokens=3)
    assert first == lm.complete("the", seed=1, max_new_tokens=3) != second
    assert lm.choices(["the", [5]], num_choices=2, seed=1, max_new_tokens=3)[0] == (first, second)


@pytest.mark.parametrize("number", ["3", 2.5, None, 0])
def test_choices_held_wrong(lm: pellucid.LanguageModel, number: Any) -> None:
    with pytest.raises(RequestError):
        lm.choices("the", num_choices=number)


@covers("LanguageModel.finish")
def test_a_generation_is_finished_with_all_its_choices(lm: pellucid.LanguageModel) -> None:
    for number in (1, 3):
        request = lm.request("the", num_choices=number, seed=1, max_new_tokens=3)
        assert lm.finish(lm.start(request)) == lm.choices("the", num_choices=number, seed=1, max_new_tokens=3)
    assert lm.finish(lm.generate("the", seed=1, max_new_tokens=3)) == (lm.complete("the", seed=1, max_new_tokens=3),)
    for one in (lm.complete, lm.generate):  # they give one text, and would pass over the others
        with pytest.raises(SettingsError, match=r"lm\.choices\(prompt, num_choices=…\)"):
            one("the", num_choices=3)


def test_choices_without_their_number_say_what_to_give(lm: pellucid.LanguageModel) -> None:
    with pytest.raises(RequestError, match="num_choices must be given") as error:
        lm.choices("the")  # type: ignore[call-overload]
    assert error.value.hint == "num_choices=3"
    with pytest.raises(SettingsError, match=r"there is no keyword n\n.*num_choices="):
        lm.choices("the", n=3)  # type: ignore[call-overload]


@covers("LanguageModel.service")
def test_a_service_gives_what_complete_gives(lm: pellucid.LanguageModel) -> None:
    with lm.service(max_running=2, memory_bytes=2**26) as service:
        streams = [service.submit(lm.request([5, 6, n], seed=n, max_new_tokens=4)) for n in range(5)]
        found = [stream.complete() for stream in streams]
    assert found == [(lm.complete([5, 6, n], seed=n, max_new_tokens=4),) for n in range(5)]
    with pytest.raises(SettingsError, match="max_runing"):
        lm.service(max_runing=2)  # type: ignore[call-arg]


@covers("LanguageModel.search", "Hypothesis", "BeamSettings")
def test_search(lm: pellucid.LanguageModel) -> None:
    best = lm.search("the", num_beams=3, num_best=2, max_new_tokens=3)
    assert [isinstance(one, pellucid.Hypothesis) for one in best] == [True, True]
    assert [(one.text, one.ids) for one in best] == [(one.completion.text, one.completion.ids) for one in best]
    assert best[0].text == lm.tokenizer.decode([i for i in best[0].ids if i not in lm.tokenizer.end_ids])
    assert lm.search(["the", "cat"], num_beams=3, num_best=2, max_new_tokens=3)[0] == best
    assert pellucid.BeamSettings(num_beams=3).num_best == 1
    with pytest.raises(SettingsError, match="num_best"):
        lm.search("the", num_return_sequences=2)


@covers("LanguageModel.score", "Score")
def test_score_is_the_model_s_own_log_probabilities(lm: pellucid.LanguageModel) -> None:
    score = lm.score(TEXT)
    ids = lm.tokenizer.encode_prompt(TEXT)
    logits_TV = lm.model(torch.tensor([ids[:-1]])).logits[0].double()
    expected = logits_TV.log_softmax(-1).gather(-1, torch.tensor(ids[1:])[:, None])[:, 0]
    assert isinstance(score, pellucid.Score) and score.ids == tuple(ids[1:])
    np.testing.assert_allclose(score.logprobs, expected.detach(), rtol=1e-5)
    assert score.total == math.fsum(score.logprobs) and score.loss == -score.total / len(score.ids)
    assert score.bits_per_byte == pytest.approx(-score.total / math.log(2) / len(TEXT.encode()))
    assert score.perplexity == pytest.approx(math.exp(score.loss))


def test_score_agrees_with_complete(lm: pellucid.LanguageModel) -> None:
    done = lm.complete("the cat", seed=1, max_new_tokens=5)
    score = lm.score([*lm.tokenizer.encode_prompt("the cat"), *done.ids])
    np.testing.assert_allclose(score.logprobs[-5:], done.logprobs, rtol=1e-5)


def test_score_takes_lists_and_reads_in_windows(lm: pellucid.LanguageModel) -> None:
    ids = [3 + i % 9 for i in range(2 * CONFIG.context_length + 5)]
    score = lm.score(ids)
    later = lm.score(ids[CONFIG.context_length :])
    assert score.ids == tuple(ids[1:]) and score.logprobs[CONFIG.context_length :] == later.logprobs
    assert lm.score([ids, TEXT]) == [score, lm.score(TEXT)]
    assert score.num_bytes == len(lm.tokenizer.decode_bytes(ids[1:]))


@pytest.mark.parametrize("too_little", [[], [5], [5, 9999], [5, -1]])
def test_score_of_nothing(lm: pellucid.LanguageModel, too_little: list[int]) -> None:
    with pytest.raises(RequestError):
        lm.score(too_little)


def test_score_of_special_tokens_alone_has_no_bytes(lm: pellucid.LanguageModel) -> None:
    assert lm.tokenizer.eos_id is not None
    score = lm.score([5, lm.tokenizer.eos_id])
    with pytest.raises(RequestError, match="bytes"):
        score.bits_per_byte  # noqa: B018


@covers("LanguageModel.save")
@pytest.mark.parametrize(
    ("quantize", "dtype"), [(None, torch.float32), ("bf16", torch.bfloat16), ("f16", torch.float16)]
)
def test_save(lm: pellucid.LanguageModel, tmp_path: Path, quantize: Any, dtype: torch.dtype) -> None:
    place = lm.save(tmp_path / "copy", quantize=quantize)
    again = pellucid.load(place, device="cpu", engine=pellucid.EngineSettings(kernels="off"))
    assert again.config == lm.config and again.checkpoint.dtype == dtype
    assert again.tokenizer.sha256 == lm.tokenizer.sha256
    for name, weight in lm.model.named_parameters():
        assert torch.equal(again.model.get_parameter(name), weight.to(dtype)), name


def test_save_writes_the_weights_as_they_are_now(path: Path, tmp_path: Path) -> None:
    lm = pellucid.load(path, device="cpu")
    with torch.no_grad():
        lm.model.embed.weight[7] = 0.5
    lm.save(str(tmp_path / "changed"))
    lm.save(tmp_path / "changed.gguf", quantize="q8_0")
    for name in ("changed", "changed.gguf"):
        again = pellucid.load(tmp_path / name, device="cpu").model.embed.weight[7]
        torch.testing.assert_close(again, torch.full_like(again, 0.5), rtol=1e-2, atol=0)


@pytest.mark.parametrize(
    ("path_name", "quantize", "hint"),
    [("copy", "q8_0", "f32, f16 or bf16"), ("copy", "fp32", "did you mean 'f32'?"), ("", None, "runs/book"), ("m", "f32", "another destination")],
)  # fmt: skip
def test_save_held_wrong(lm: pellucid.LanguageModel, tmp_path: Path, path_name: str, quantize: Any, hint: str) -> None:
    (tmp_path / "m").mkdir()
    with pytest.raises(PellucidError) as error:
        lm.save(tmp_path / path_name if path_name else "", quantize=quantize)
    assert hint in said(error) and [one.name for one in tmp_path.iterdir()] == ["m"]


@covers("SamplingSettings")
def test_logit_bias_is_a_table_of_ids(lm: pellucid.LanguageModel) -> None:
    sure = lm.complete("the", temperature=0, max_new_tokens=3, logit_bias={9: 1000, np.int64(8): -2.5})
    assert sure.ids == (9, 9, 9)
    assert lm.complete("the", temperature=0, max_new_tokens=3, logit_bias=("9:1000", "8:-2.5")) == sure
    assert pellucid.SamplingSettings(logit_bias={9: 1, 8: -2.5}).logit_bias == ("9:1.0", "8:-2.5")  # type: ignore[arg-type]
    for wrong in ({" cat": 1.0}, {"9": 1.0}, {9: "1"}, {9: math.nan}, {-1: 2.0}, {True: 1.0}):
        with pytest.raises(SamplingError):
            lm.complete("the", logit_bias=wrong)


@pytest.mark.parametrize(
    ("asked", "hint"),
    [
        ({"max_tokens": 4}, "here it is called max_new_tokens"),
        ({"max_length": 4}, "here it is called max_new_tokens"),
        ({"do_sample": False}, "temperature=0"),
        ({"num_return_sequences": 2}, "lm.choices"),
        ({"stream": True}, "lm.generate"),
        ({"input_ids": [5]}, "lm.complete(prompt)"),
        *(({name: 4}, "here it is called max_new_tokens") for name in ("max_completion_tokens", "n_predict")),
        *(({name: "."}, "here it is called stop (for texts) or stop_ids") for name in ("stop_token", "stop_tokens")),
        *(({name: 3}, "here it is called stop_ids") for name in ("stop_token_ids", "eos_token_id")),
        ({"stop_sequences": ["."]}, "here it is called stop"),
        ({"repeat_penalty": 1.1}, "here it is called repetition_penalty"),
        ({"top_logprobs": 3}, "completion.logprobs"),
        ({"temprature": 1}, "did you mean 'temperature'?"),
        ({"temperature": "hot"}, "temperature wants a number"),
        ({"temperature": None}, "temperature wants a number"),
        ({"max_new_tokens": 2.5}, "max_new_tokens wants"),
        ({"stop": 5}, "stop wants"),
        ({"seed": -1}, "seed must"),
        ({"logit_bias": 3}, "logit_bias wants"),
    ],
)
def test_sampling_held_wrong(lm: pellucid.LanguageModel, asked: dict[str, Any], hint: str) -> None:
    for call in (lm.complete, lm.generate):
        with pytest.raises((SettingsError, SamplingError)) as error:
            call(**asked)
        assert hint in said(error)


def test_settings_made_by_hand_are_checked_too() -> None:
    for wrong in ({"temperature": "hot"}, {"top_k": [1]}, {"ban": 3}, {"allow": ("a",)}, {"logit_bias": {"a": 1}}):
        with pytest.raises(SamplingError):
            pellucid.SamplingSettings(**wrong)


@pytest.mark.parametrize(
    "prompt", [None, 5, 2.5, b"text", {"input_ids": [[5]]}, [5, "the"], [2.5], [True], [], [[]], [None], np.array(5), {5}]
)  # fmt: skip
def test_what_is_no_prompt(lm: pellucid.LanguageModel, prompt: Any) -> None:
    calls: list[Callable[[Any], Any]] = [lm.complete, lm.generate, lm.score, lambda p: pellucid.trace(lm, p)]
    for call in calls:
        with pytest.raises(RequestError) as error:
            call(prompt)
        assert error.value.what


def test_no_ids_are_an_empty_prompt_whatever_the_tokenizer_has(lm: pellucid.LanguageModel) -> None:
    assert lm.tokenizer.bos_id is not None and lm.complete("", max_new_tokens=1).num_prompt_tokens == 1
    for call in (lm.complete, lm.search, lm.score):
        with pytest.raises(RequestError) as error:
            call([])
        assert error.value.what == "the prompt is empty"
        assert error.value.hint.startswith("ids are read as they are: give at least one; a text begins with <bos>")


def test_prompts_that_the_model_cannot_hold(lm: pellucid.LanguageModel) -> None:
    for call in (lm.complete, lm.generate, lambda p: pellucid.trace(lm, p)):
        with pytest.raises(ContextError):
            call([5] * 40)
        with pytest.raises(RequestError):
            call([5, 9999])


@covers("trace", "Trace", "load_trace")
def test_trace(lm: pellucid.LanguageModel, tmp_path: Path) -> None:
    trace = pellucid.trace(lm, "the cat")
    assert isinstance(trace, pellucid.Trace)
    np.testing.assert_array_equal(pellucid.trace(lm, torch.tensor(trace.ids))["logits"], trace["logits"])
    again = pellucid.load_trace(trace.save(tmp_path / "t.plens"))
    np.testing.assert_array_equal(again["logits"], trace["logits"])


def test_trace_held_wrong(lm: pellucid.LanguageModel, path: Path) -> None:
    for wrong in (path, str(path), None, lm.model):
        with pytest.raises(RequestError, match=r"pellucid\.load"):
            pellucid.trace(wrong, "the cat")  # type: ignore[arg-type]
    with pytest.raises(RequestError, match="one prompt"):
        pellucid.trace(lm, ["the", "cat"])  # type: ignore[arg-type]


@covers("LanguageModel.lens")
def test_lens_held_wrong(lm: pellucid.LanguageModel) -> None:
    pytest.importorskip("anywidget")
    with pytest.raises(RequestError):
        lm.lens(None)  # type: ignore[arg-type]


@covers("LanguageModel.model")
def test_the_model_is_a_plain_torch_module(lm: pellucid.LanguageModel) -> None:
    out = lm.model(torch.tensor([[5, 6]]))
    assert out.logits is out.logits_BTV and out.logits.shape == (1, 2, CONFIG.vocab_size)


@pytest.mark.parametrize(
    ("wrong", "found"),
    [
        ([[1, 2, 3]], "list"),
        (np.array([[1, 2, 3]]), "ndarray"),
        ("the cat", "str"),
        (torch.tensor([1, 2, 3]), "a tensor of 1 axes, torch.int64"),
        (torch.ones(1, 3), "a tensor of 2 axes, torch.float32"),
    ],
)
def test_the_module_says_what_it_reads(lm: pellucid.LanguageModel, wrong: Any, found: str) -> None:
    with pytest.raises(RequestError) as error:
        lm.model(wrong)
    assert error.value.found == found and "torch.tensor([[5, 6, 7]])" in error.value.hint
    assert lm.model(torch.tensor([[5, 6]], dtype=torch.int32)).logits.shape[:2] == (1, 2)


def test_a_model_without_a_tokenizer_works_on_ids(lm: pellucid.LanguageModel, mute: pellucid.LanguageModel) -> None:
    known = lm.complete([5, 6], seed=1, max_new_tokens=4)
    done = mute.complete([5, 6], seed=1, max_new_tokens=4)
    assert (done.ids, done.logprobs, done.text) == (known.ids, known.logprobs, "")
    assert mute.score([5, 6, 7]).total == lm.score([5, 6, 7]).total and mute.score([5, 6]).num_bytes is None
    np.testing.assert_array_equal(pellucid.trace(mute, [5, 6])["logits"], pellucid.trace(lm, [5, 6])["logits"])
    account = next(mute.generate([5, 6], explain=True)).account
    assert account is not None and account.candidates[0].text.startswith("#")
    assert mute.search([5], num_beams=2, max_new_tokens=2)[0].completion.ids


def test_a_model_without_a_tokenizer_says_what_to_do_about_text(mute: pellucid.LanguageModel, tmp_path: Path) -> None:
    asks: list[Callable[[], Any]] = [
        lambda: mute.complete("the"), lambda: mute.generate("the"), lambda: mute.score(["a", "b"]),
        lambda: pellucid.trace(mute, "a"), lambda: mute.tokenizer.encode("a"), lambda: mute.tokenizer.decode([5]),
    ]  # fmt: skip
    for ask in asks:
        with pytest.raises(TokenizerError, match=r"tokenizer\.json"):
            ask()
    with pytest.raises(SamplingError, match="stop_ids"):
        mute.complete([5], stop=("a",))
    with pytest.raises(TokenizerError):
        mute.save(tmp_path / "m.gguf")
    with pytest.raises(RequestError):
        mute.score([5, 6]).bits_per_byte  # noqa: B018


def test_a_model_without_a_tokenizer_ends_where_its_directory_says(tmp_path: Path) -> None:
    path = save_model(tmp_path / "m", tokenizer=IdsOnly.build(CONFIG.vocab_size).with_roles(ENDS_AT_7))
    lm = pellucid.load(path, device="cpu", engine=pellucid.EngineSettings(kernels="off"))
    done = lm.complete([5], temperature=0, logit_bias={7: 1000})
    assert (done.ids, done.finish_reason) == ((7,), "eos") and not (path / "tokenizer.json").exists()
    again = pellucid.load(lm.save(tmp_path / "again"), device="cpu")
    assert again.tokenizer.end_ids == {7} == pickle.loads(pickle.dumps(again.tokenizer)).end_ids


@covers("Tokenizer", "ModelConfig", "PellucidError", "Event")
def test_types(path: Path, lm: pellucid.LanguageModel) -> None:
    assert isinstance(lm.tokenizer, pellucid.Tokenizer) and issubclass(StoreError, pellucid.PellucidError)
    assert pellucid.Tokenizer.load(path).encode("the").ids and isinstance(lm.config, pellucid.ModelConfig)
    told: list[pellucid.Event] = []

    class Listener:
        def record(self, event: pellucid.Event) -> None:
            told.append(event)

    lm.complete("the", max_new_tokens=1, recorder=Listener())
    assert [event.name for event in told] == ["engine.seed_drawn"]


@covers("ConstraintSettings", "LanguageModel.request", "LanguageModel.start")
def test_what_the_command_line_can_a_script_can(path: Path, lm: pellucid.LanguageModel) -> None:
    """A form, a draft, guesses from the text, own stages, choices, accounts: all in keywords, alone and together."""
    form = pellucid.ConstraintSettings(regex="(cat|mat)+")
    held = lm.complete("the", constraint=form, seed=2, max_new_tokens=6)
    assert set(held.text) <= set("catm") and held.text
    plain = lm.complete("the", seed=2)
    small = pellucid.load(path, device="cpu", engine=pellucid.EngineSettings(kernels="off"))
    for ahead in ({"lookup": 3}, {"draft": small}, {"draft": small, "lookup": 2}):
        assert lm.complete("the", seed=2, **ahead).ids == plain.ids

    class OnlyThe:
        name = "only the"

        def apply(self, logits_V: np.ndarray, history: object) -> np.ndarray:
            masked_V = np.full_like(logits_V, -np.inf)
            masked_V[9] = logits_V[9]
            return masked_V

    assert set(lm.complete([5], stages=(OnlyThe(),), max_new_tokens=3, seed=1).ids) == {9}
    three = lm.choices("the", num_choices=3, constraint=form, seed=2, max_new_tokens=6)
    assert three[0] == held and len(three) == 3
    request = lm.request("the", constraint=form, seed=2, max_new_tokens=6, explain=True)
    steps = list(lm.start(request))
    assert tuple(step.id for step in steps) == held.ids and all(step.account for step in steps)
    with pytest.raises(SettingsError, match="ConstraintSettings"):
        lm.generate("the", regex="a+")
    with pytest.raises(RequestError, match="1 or more"):
        lm.generate("the", lookup=0)


@covers("LanguageModel.save_trace", "LanguageModel.replay", "LanguageModel.suggested")
def test_a_trace_is_saved_and_replayed(
    lm: pellucid.LanguageModel, mute: pellucid.LanguageModel, tmp_path: Path
) -> None:
    generation = lm.generate("the", explain=True, max_new_tokens=4, **lm.suggested())
    steps = list(generation)
    lm.save_trace(tmp_path / "a.json", steps, generation.request)
    assert [step.id for step in lm.replay(tmp_path / "a.json")] == [step.id for step in steps]
    again = lm.replay(tmp_path / "a.json", explain=True, lookup=2)
    assert all(step.account for step in again) and again.generation.request.sampling == generation.request.sampling
    with pytest.raises(RequestError, match="another tokenizer"):
        mute.replay(tmp_path / "a.json")


def test_the_tokenizer_held_wrong(lm: pellucid.LanguageModel) -> None:
    for text in (None, 5, b"the", ["the"]):
        with pytest.raises(TokenizerError, match="decode"):
            lm.tokenizer.encode(text)  # type: ignore[arg-type]
    for place, what in ((None, "cannot be read"), (5, "cannot be read"), ("nowhere", "no tokenizer is here")):
        with pytest.raises(TokenizerError, match=what):
            pellucid.Tokenizer.load(place)  # type: ignore[arg-type]
    with pytest.raises(SettingsError, match="path"):
        pellucid.load_trace(5)  # type: ignore[arg-type]
    for ids in (None, 5, "the", ["the"], [[5]], [2.5]):
        with pytest.raises(TokenizerError, match="encode"):
            lm.tokenizer.decode(ids)  # type: ignore[arg-type]
    assert lm.tokenizer.decode(torch.tensor([5, 6])) == lm.tokenizer.decode([5, 6])  # type: ignore[arg-type]


@covers("plan", "Plan")
def test_plan() -> None:
    plan = pellucid.plan("gpt2", rows=2)
    assert isinstance(plan, pellucid.Plan) and plan.parameters.total == 124_439_808
    assert pellucid.plan("gpt2", machine="h100").time is not None
    assert pellucid.plan(CONFIG).parameters.total == sum(p.numel() for p in build(CONFIG, seed=0).parameters())
    held_wrong: list[tuple[Any, dict[str, Any]]] = [
        *((model, {}) for model in (5, None, "gpt5")),
        *(("gpt2", {name: "x"}) for name in ("row", "name", "rows", "tokens", "machine")),
        ("gpt2", {"machine": 5}),
    ]
    for model, options in held_wrong:
        with pytest.raises(PellucidError) as error:
            pellucid.plan(model, **options)
        assert error.value.hint


@covers("train", "TrainSettings")
def test_train_held_wrong(tmp_path: Path) -> None:
    assert pellucid.TrainSettings(steps=3).steps == 3
    book = tmp_path / "book.txt"
    book.write_text("the cat sat. " * 99, encoding="utf-8")
    wrong = [(5, tmp_path / "r", {}), (book, None, {}), *((book, tmp_path / "r", {k: 5}) for k in ("step", "recipe"))]
    for text, out, options in wrong:
        with pytest.raises(SettingsError):
            pellucid.train(text, out, **options)  # type: ignore[arg-type]
    elsewhere = {
        "preset": r'model={"preset": …}',
        "lr": "optimizer=",
        "batch_size": 'batch={"rows": …}',
        "max_steps": "steps",
    }
    for name, here in elsewhere.items():
        with pytest.raises(SettingsError) as error:
            pellucid.train(book, tmp_path / "r", **{name: 5})  # type: ignore[arg-type]
        assert (error.value.hint or "").startswith(f"here it is called {here}")
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize("page", ["README.md", "README.zh-CN.md", "docs/guide/python.md", "docs/guide/python.zh-CN.md"])
def test_what_the_pages_show_runs(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (Path(__file__).parents[1] / page).read_text(encoding="utf-8")
    blocks = [block for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "transformers" not in block]
    assert any("pellucid.load(" in block for block in blocks)
    save_model(tmp_path / "runs" / "book", context_length=64)
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for block in blocks:
        exec(block, names)
    assert (tmp_path / "book-bf16" / "model.safetensors").is_file()


@pytest.mark.parametrize(
    ("asked", "what"),
    [
        ({"draft": "x"}, "no runner"),
        ({"lookup": "x"}, "int is wanted"),
        ({"lookup": True}, "int is wanted"),
        ({"stages": 3}, "no apply"),
        ({"stages": [print]}, "no apply"),
        ({"constraint": "abc"}, "ConstraintSettings is wanted"),
        ({"explain": "yes"}, "bool is wanted"),
    ],
)
def test_a_request_of_wrong_kinds_is_refused_by_name(
    lm: pellucid.LanguageModel, asked: dict[str, Any], what: str
) -> None:
    with pytest.raises(RequestError, match=what):
        lm.complete("the", max_new_tokens=2, **asked)


def test_a_trace_needs_all_steps_explained_and_the_seed_that_was_drawn(
    lm: pellucid.LanguageModel, tmp_path: Path
) -> None:
    generation = lm.generate("the", explain=True, min_new_tokens=3, max_new_tokens=3)  # none ends sooner by chance
    steps = list(generation)
    for given, request, what in (
        ([], generation.request, "explained steps"),
        (list(lm.generate("the", seed=1, max_new_tokens=3)), generation.request, "explained steps"),
        (steps[:-1], generation.request, "has not ended"),
        (steps, lm.request("the", explain=True, max_new_tokens=3), "seed of this request is not known"),
    ):
        with pytest.raises(RequestError, match=what):
            lm.save_trace(tmp_path / "a.json", given, request)
    assert list(tmp_path.iterdir()) == []


@covers(
    "LanguageModel.fill", "LanguageModel.embed", "LanguageModel.classify", "LanguageModel.train_labels", "LabelSettings"
)
def test_what_a_model_makes_of_whole_texts(lm: pellucid.LanguageModel, tmp_path: Path) -> None:
    rows = [(f"{who} {did}", who) for who in ("cat", "mat") for did in ("sat", "on", "the", "at", "a", "s")]
    found = lm.embed([text for text, _ in rows], pooling="last")
    assert found.vectors.shape == (12, CONFIG.d_model) and found.vectors.dtype == np.float32
    settings = pellucid.LabelSettings(pooling="mean", l2=0.01)
    report = lm.train_labels(rows, tmp_path / "head", settings=settings)
    assert report.labels == {"cat": 6, "mat": 6} and 0 <= report.accuracy <= 1
    head = pellucid.load(tmp_path / "head", device="cpu")
    assert {label.name for label in head.classify(["the cat"])[0]} == {"cat", "mat"}
    with pytest.raises(RequestError, match=r"a list of texts is wanted here"):
        head.classify("the cat")
    with pytest.raises(RequestError, match=r"this model scores no tokens: it cannot continue a text"):
        head.complete("the cat")
    with pytest.raises(RequestError, match=r"continues a text, and cannot fill a blank"):
        lm.fill("the [MASK]")
