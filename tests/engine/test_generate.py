"""The cached, streaming loop against the readable one, against transformers, and against its own promises."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import Qwen3Config, Qwen3ForCausalLM

from pellucid.engine.generate import complete, generate, settle_seed
from pellucid.engine.greedy import answer_greedily
from pellucid.engine.request import Request
from pellucid.engine.runners.torch_runner import TorchRunner
from pellucid.engine.sampling.settings import SamplingSettings
from pellucid.engine.simple import complete_simply, next_logits
from pellucid.engine.window import Window
from pellucid.errors import ContextError, RequestError
from pellucid.events import MemoryRecorder
from pellucid.model.build import build
from pellucid.model.device import inference
from pellucid.planning.config import ModelConfig

KNOBS = [
    {"temperature": 0},
    {"seed": 1},
    {"seed": 2, "temperature": 0.7, "top_k": 12, "top_p": 0.95},
    {"seed": 3, "stop": ("l", "\n")},
    {"seed": 4, "max_new_tokens": 5},
    {"seed": 6, "stop_ids": (7, 101, 108), "min_new_tokens": 3},
    {"seed": 5, "temperature": 3.0, "stop": ("\ufffd",)},
]


@pytest.mark.parametrize("knobs", KNOBS)
@pytest.mark.parametrize(
    "axes", [{}, {"position": "learned", "norm": "layer", "feed_forward": "gelu", "qk_norm": False}]
)
@pytest.mark.parametrize("tokenizer_name", ["byte_tokenizer", "merged_tokenizer"])
def test_cached_equals_the_simple_loop(request, tiny_model, knobs, axes, tokenizer_name):
    tokenizer = request.getfixturevalue(tokenizer_name)
    model = tiny_model(tokenizer.vocab_size, **axes)
    prompt_ids, settings = tokenizer.encode_prompt("hel"), SamplingSettings(**knobs)
    fast, slow = (
        complete(TorchRunner(model), tokenizer, Request(prompt_ids=prompt_ids, sampling=settings)),
        complete_simply(model, tokenizer, prompt_ids, settings),
    )
    assert fast.logprobs == pytest.approx(slow.logprobs, abs=1e-4)
    assert dataclasses.replace(fast, logprobs=slow.logprobs) == slow


@pytest.mark.parametrize("seed", range(8))
def test_the_stream_is_the_text_at_every_cut(byte_tokenizer, tiny_model, seed):
    """Whatever step a listener leaves at, it has seen a beginning of the whole, with no half character in it."""
    model = tiny_model(byte_tokenizer.vocab_size, seed=seed, sharpness=8)
    favour_characters(model)
    steps = list(
        generate(
            TorchRunner(model),
            byte_tokenizer,
            Request(prompt_ids=byte_tokenizer.encode_prompt("x"), sampling=SamplingSettings(seed=seed)),
        )
    )
    whole = byte_tokenizer.decode(step.id for step in steps)
    seen = ""
    for number, step in enumerate(steps, 1):
        seen += step.text
        assert whole.startswith(seen)
        shown_bytes = byte_tokenizer.decode_bytes(s.id for s in steps[:number])
        assert len(shown_bytes.decode("utf-8", errors="ignore")) <= len(seen)  # complete characters are not withheld
    assert seen == whole
    assert [step.finish_reason for step in steps[:-1]] == [None] * (len(steps) - 1)
    assert steps[-1].finish_reason is not None
    assert [step.position for step in steps] == list(range(2, 2 + len(steps)))


def favour_characters(model) -> None:
    """Stretch the head so that the bytes of Chinese characters are likely and broken sequences still occur."""
    with torch.no_grad():
        model.head.weight[0xE4:0xEA] *= 3
        model.head.weight[0x80:0xC0] *= 2


def test_same_seed_same_text_streamed_or_not(merged_tokenizer, tiny_model):
    model, prompt_ids = tiny_model(merged_tokenizer.vocab_size), merged_tokenizer.encode_prompt("hello")
    once, again = (
        complete(
            TorchRunner(model), merged_tokenizer, Request(prompt_ids=prompt_ids, sampling=SamplingSettings(seed=9))
        )
        for _ in range(2)
    )
    streamed = list(
        generate(
            TorchRunner(model),
            merged_tokenizer,
            Request(prompt_ids=prompt_ids, sampling=SamplingSettings(seed=9), explain=True),
        )
    )
    assert once == again
    assert "".join(step.text for step in streamed) == once.text
    assert tuple(step.id for step in streamed) == once.ids
    assert (
        complete(
            TorchRunner(model), merged_tokenizer, Request(prompt_ids=prompt_ids, sampling=SamplingSettings(seed=10))
        ).ids
        != once.ids
    )


def test_a_text_cut_short_goes_on_as_it_would_have(merged_tokenizer, tiny_model):
    model, prompt_ids = tiny_model(merged_tokenizer.vocab_size), merged_tokenizer.encode_prompt("hello")
    whole = complete(
        TorchRunner(model), merged_tokenizer, Request(prompt_ids=prompt_ids, sampling=SamplingSettings(seed=9))
    )
    first = complete(
        TorchRunner(model),
        merged_tokenizer,
        Request(prompt_ids=prompt_ids, sampling=SamplingSettings(seed=9, max_new_tokens=4)),
    )
    rest = complete(
        TorchRunner(model),
        merged_tokenizer,
        Request(prompt_ids=[*prompt_ids, *first.ids], sampling=SamplingSettings(seed=9)),
    )
    assert first.ids + rest.ids == whole.ids


def test_an_open_seed_is_drawn_reported_and_repeatable(merged_tokenizer, tiny_model):
    model, prompt_ids, memory = tiny_model(merged_tokenizer.vocab_size), [0], MemoryRecorder()
    done = complete(TorchRunner(model), merged_tokenizer, Request(prompt_ids=prompt_ids), recorder=memory)
    assert memory.names() == ["engine.seed_drawn"]
    assert memory.events[0].data["seed"] == done.seed
    assert (
        complete(
            TorchRunner(model),
            merged_tokenizer,
            Request(prompt_ids=prompt_ids, sampling=SamplingSettings(seed=done.seed)),
        )
        == done
    )


def test_greedy_draws_no_seed():
    memory = MemoryRecorder()
    assert settle_seed(SamplingSettings(temperature=0, seed=4), memory).seed is None
    assert memory.names() == []


def test_generation_touches_no_hidden_state(merged_tokenizer, tiny_model):
    model = tiny_model(merged_tokenizer.vocab_size, dropout=0.5)
    model.train()
    model.blocks[1].eval()
    modes = [part.training for part in model.modules()]
    state = torch.random.get_rng_state()
    steps = generate(TorchRunner(model), merged_tokenizer, Request(prompt_ids=[0], sampling=SamplingSettings(seed=1)))
    next(steps)
    assert not torch.is_inference_mode_enabled()  # between steps the caller may train
    assert [part.training for part in model.modules()] == modes
    rest = [step.id for step in steps]
    assert torch.equal(torch.random.get_rng_state(), state)
    model.eval()
    assert (
        rest
        == [
            step.id
            for step in generate(
                TorchRunner(model), merged_tokenizer, Request(prompt_ids=[0], sampling=SamplingSettings(seed=1))
            )
        ][1:]
    )


def test_training_goes_on_after_inference_under_the_same_autocast():
    """Autocast keeps the bf16 copies of weights; copies made without gradients must not serve the next training step."""
    layer, x = torch.nn.Linear(3, 2), torch.ones(1, 3)
    with torch.autocast("cpu", torch.bfloat16):
        with inference():
            layer(x)
        layer(x).sum().backward()
    assert layer.weight.grad is not None


def test_greedy_agrees_with_transformers():
    theirs, ours = qwen3_pair()
    prompt_ids = [5, 11, 2, 30]
    expected = theirs.generate(
        torch.tensor([prompt_ids]), max_new_tokens=20, do_sample=False, eos_token_id=None, pad_token_id=0
    )[0, len(prompt_ids) :]
    answers = answer_greedily(ours, [prompt_ids], max_new_tokens=20, end_ids=frozenset())
    assert answers == [expected.tolist()]
    assert len(set(answers[0])) > 2  # not one token over and over


def qwen3_pair():
    """A transformers Qwen3 of odd sizes with random weights, and ours with the same weights."""
    config = Qwen3Config(
        vocab_size=37, hidden_size=24, intermediate_size=40, num_hidden_layers=2, num_attention_heads=3,
        num_key_value_heads=1, head_dim=10, max_position_embeddings=40, rope_theta=10_000.0, tie_word_embeddings=True,
        rms_norm_eps=1e-6, bos_token_id=None, eos_token_id=None,
    )  # fmt: skip
    torch.manual_seed(0)
    theirs = Qwen3ForCausalLM(config).eval()
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.normal_(std=0.4)
    ours = build(
        ModelConfig(
            vocab_size=37, context_length=40, n_layers=2, n_heads=3, n_kv_heads=1, head_dim=10, d_model=24, d_ff=40
        ),
        seed=0,
    )
    weights = dict(theirs.named_parameters())
    with torch.no_grad():
        for name, parameter in ours.named_parameters():
            parameter.copy_(weights[qwen3_name(name)])
    return theirs, ours


def qwen3_name(name: str) -> str:
    for mine, other in (
        ("embed", "embed_tokens"), ("final_norm", "norm"), ("blocks", "layers"), ("attention_norm", "input_layernorm"),
        ("mlp_norm", "post_attention_layernorm"), ("attention.query_norm", "self_attn.q_norm"),
        ("attention.key_norm", "self_attn.k_norm"), ("attention.query", "self_attn.q_proj"),
        ("attention.key", "self_attn.k_proj"), ("attention.value", "self_attn.v_proj"),
        ("attention.output", "self_attn.o_proj"), ("mlp.gate", "mlp.gate_proj"), ("mlp.up", "mlp.up_proj"),
        ("mlp.down", "mlp.down_proj"),
    ):  # fmt: skip
        if f".{mine}." in f".{name}":
            name = f".{name}".replace(f".{mine}.", f".{other}.")[1:]
    return f"model.{name}"


def test_batched_answers_equal_single_ones(merged_tokenizer, tiny_model):
    model = tiny_model(merged_tokenizer.vocab_size)
    prompts = [[7], [3, 4], [9], [5, 6, 7], [8, 1], [2] * 22]
    settings = SamplingSettings(temperature=0, max_new_tokens=6)
    singly = [
        list(complete(TorchRunner(model), merged_tokenizer, Request(prompt_ids=prompt, sampling=settings)).ids)
        for prompt in prompts
    ]
    ends = {merged_tokenizer.eos_id, singly[0][2]}
    expected = [ids[: min([ids.index(e) + 1 for e in ends if e in ids], default=6)] for ids in singly]
    assert answer_greedily(model, prompts, max_new_tokens=6, end_ids=ends) == expected


def test_the_row_never_outgrows_the_context(merged_tokenizer, tiny_model):
    model = tiny_model(merged_tokenizer.vocab_size, context_length=8)
    done = complete(
        TorchRunner(model),
        merged_tokenizer,
        Request(prompt_ids=[1, 2, 3, 4, 5, 6, 7], sampling=SamplingSettings(temperature=0)),
    )
    assert (len(done.ids), done.finish_reason) == (1, "context")
    with pytest.raises(ContextError, match=r"8 tokens[\s\S]*context_length=8"):
        generate(TorchRunner(model), merged_tokenizer, Request(prompt_ids=[1] * 8))
    with pytest.raises(ContextError, match="900 tokens"):
        generate(TorchRunner(model), merged_tokenizer, Request(prompt_ids=[1] * 900))


def test_prompts_that_cannot_be_continued(merged_tokenizer, tiny_model):
    model = tiny_model(merged_tokenizer.vocab_size)
    assert merged_tokenizer.encode_prompt("") == [merged_tokenizer.bos_id]
    with pytest.raises(RequestError, match="empty"):
        generate(TorchRunner(model), merged_tokenizer, Request(prompt_ids=[]))
    with pytest.raises(RequestError, match="does not have"):
        generate(TorchRunner(model), merged_tokenizer, Request(prompt_ids=[merged_tokenizer.vocab_size]))
    with pytest.raises(RequestError, match="does not have"):
        generate(TorchRunner(model), merged_tokenizer, Request(prompt_ids=[-1]))
    with pytest.raises(RequestError, match="whole row"):
        generate(
            TorchRunner(tiny_model(merged_tokenizer.vocab_size, causal=False)),
            merged_tokenizer,
            Request(prompt_ids=[1]),
        )


def test_a_prompt_that_spells_a_special_token_stays_text(merged_tokenizer):
    ids = merged_tokenizer.encode_prompt("<eos>")
    assert merged_tokenizer.eos_id not in ids
    assert merged_tokenizer.decode(ids) == "<eos>"


def test_half_precision_generates(merged_tokenizer, tiny_model):
    model = tiny_model(merged_tokenizer.vocab_size).to(torch.bfloat16)
    done = complete(TorchRunner(model), merged_tokenizer, Request(prompt_ids=[1, 2], sampling=SamplingSettings(seed=1)))
    assert len(done.ids) == len(done.logprobs) == 22 or done.finish_reason == "eos"


SLIDE = {"on_full": "slide", "max_new_tokens": 40}


@pytest.mark.parametrize("keep_first", [0, 1, 5])
@pytest.mark.parametrize("prompt_length", [3, 9, 10, 31])
@pytest.mark.parametrize("position", ["rotary", "learned"])
def test_a_sliding_window_is_read_afresh(merged_tokenizer, tiny_model, keep_first, prompt_length, position):
    """The cached loop against one that reads all that is visible, from nothing, for every token."""
    model = tiny_model(merged_tokenizer.vocab_size, context_length=10, position=position, seed=2)
    prompt_ids = [(7 * i) % 250 + 1 for i in range(prompt_length)]
    knobs = SamplingSettings(temperature=0, keep_first=keep_first, **SLIDE)
    done = complete(TorchRunner(model), merged_tokenizer, Request(prompt_ids=prompt_ids, sampling=knobs))
    ids, stride = list(prompt_ids), max(1, (10 - keep_first) // 2)
    for chosen in done.ids:
        gone = 0
        while len(ids) - gone > 10:
            gone += stride
        assert chosen == int(next_logits(model, ids[:keep_first] + ids[keep_first + gone :]).argmax())
        ids.append(chosen)
    assert done.finish_reason in ("eos", "length")
    assert len(done.ids) > 20 or done.finish_reason == "eos"


def test_a_slide_is_reported_with_its_counts(merged_tokenizer, tiny_model):
    model, memory = tiny_model(merged_tokenizer.vocab_size, context_length=10), MemoryRecorder()
    knobs = SamplingSettings(seed=1, keep_first=2, stop_ids=(), ban=(merged_tokenizer.eos_id,), **SLIDE)
    steps = list(
        generate(
            TorchRunner(model),
            merged_tokenizer,
            Request(prompt_ids=[1, 2, 3], sampling=knobs, explain=True),
            recorder=memory,
        )
    )
    slides = [event.data for event in memory.events if event.name == "engine.window_slid"]
    assert slides[0] == {"length": 11, "kept_first": 2, "kept_last": 5, "gone": 4, "read_again": 7}
    assert [slide["length"] for slide in slides] == [11, 15, 19, 23, 27, 31, 35, 39]
    again = [step.account.reading for step in steps if step.account.reading.num_reused == 0]
    assert [reading.num_computed for reading in again] == [3] + [7] * 8
    assert [step.position for step in steps] == list(range(3, 43))  # in the text, not in the window
    assert len({step.account.u for step in steps}) == len(steps)  # no draw is used twice


def test_a_slid_text_cut_short_goes_on_as_it_would_have(merged_tokenizer, tiny_model):
    runner = TorchRunner(tiny_model(merged_tokenizer.vocab_size, context_length=10))
    knobs = SamplingSettings(seed=9, ban=(merged_tokenizer.eos_id,), **SLIDE)
    whole = complete(runner, merged_tokenizer, Request(prompt_ids=[1, 2, 3], sampling=knobs)).ids
    short = dataclasses.replace(knobs, max_new_tokens=17)
    assert complete(runner, merged_tokenizer, Request(prompt_ids=[1, 2, 3], sampling=short)).ids == whole[:17]
    rest = dataclasses.replace(knobs, max_new_tokens=23)
    assert (
        complete(runner, merged_tokenizer, Request(prompt_ids=[1, 2, 3, *whole[:17]], sampling=rest)).ids == whole[17:]
    )


def test_slides_that_cannot_be(merged_tokenizer, tiny_model):
    runner = TorchRunner(tiny_model(merged_tokenizer.vocab_size, context_length=10))
    with pytest.raises(RequestError, match="may never end"):
        generate(runner, merged_tokenizer, Request(prompt_ids=[1], sampling=SamplingSettings(seed=1, on_full="slide")))
    with pytest.raises(ContextError, match="keep_first"):
        generate(
            runner, merged_tokenizer, Request(prompt_ids=[1], sampling=SamplingSettings(seed=1, keep_first=10, **SLIDE))
        )
    with pytest.raises(RequestError, match="does not have"):
        generate(runner, merged_tokenizer, Request(prompt_ids=[-1] * 20, sampling=SamplingSettings(seed=1, **SLIDE)))


def test_a_stop_token_ends_the_text(merged_tokenizer, tiny_model):
    runner = TorchRunner(tiny_model(merged_tokenizer.vocab_size))
    whole = list(generate(runner, merged_tokenizer, Request(prompt_ids=[0], sampling=SamplingSettings(seed=4))))
    stop_id = whole[3].id
    cut = complete(
        runner, merged_tokenizer, Request(prompt_ids=[0], sampling=SamplingSettings(seed=4, stop_ids=(stop_id,)))
    )
    first = [step.id for step in whole].index(stop_id)
    assert (cut.ids, cut.finish_reason) == (tuple(step.id for step in whole[: first + 1]), "stop")
    assert cut.text == merged_tokenizer.decode(cut.ids[:-1])


def test_a_minimum_of_tokens_holds_off_stop_tokens(merged_tokenizer, tiny_model):
    runner = TorchRunner(tiny_model(merged_tokenizer.vocab_size))
    letter = 65
    others = tuple(i for i in range(merged_tokenizer.vocab_size) if i not in (letter, merged_tokenizer.eos_id))
    done = complete(
        runner,
        merged_tokenizer,
        Request(prompt_ids=[0], sampling=SamplingSettings(seed=4, stop_ids=others, min_new_tokens=3)),
    )
    assert done.ids[:3] == (letter,) * 3
    with pytest.raises(RequestError, match="stop_ids"):
        generate(
            runner,
            merged_tokenizer,
            Request(prompt_ids=[0], sampling=SamplingSettings(seed=4, stop_ids=(merged_tokenizer.vocab_size,))),
        )


@given(st.integers(2, 40), st.integers(0, 39), st.integers(1, 200))
def test_what_a_window_shows(context_length, keep_first, length):
    if keep_first >= context_length:
        return
    window, ids = Window(context_length=context_length, keep_first=keep_first), list(range(length))
    seen = window.visible(ids)
    assert 0 < len(seen) <= context_length
    if length <= context_length:
        assert seen == ids
        return
    assert seen[:keep_first] == ids[:keep_first]
    assert seen[keep_first:] == ids[window.num_gone(length) + keep_first :]
    assert seen[-1] == ids[-1]
    assert len(seen) > context_length - window.stride  # no more leaves than one stride


def test_a_cropped_cache_would_describe_another_text(merged_tokenizer, tiny_model):
    """Why a slide reads again: keys and values that saw what has left give other logits."""
    model = tiny_model(merged_tokenizer.vocab_size)
    runner, ids = TorchRunner(model), [(7 * i) % 250 + 1 for i in range(12)]
    whole = runner.start(ids[:-1], max_length=12)
    runner.read([whole])
    cropped = runner.start(ids[6:-1], max_length=12)
    runner.read([cropped])
    assert runner.read([extended(cropped, ids[-1])])[0] == pytest.approx(next_logits(model, ids[6:]), abs=1e-3)
    cropped.truncate(5)
    cropped.cache.k_LBGSK[:, :, :, :5] = whole.cache.k_LBGSK[:, :, :, 6:11]
    cropped.cache.v_LBGSK[:, :, :, :5] = whole.cache.v_LBGSK[:, :, :, 6:11]
    assert abs(runner.read([extended(cropped, ids[-1])])[0] - next_logits(model, ids[6:])).max() > 0.5


def extended(sequence, token_id):
    sequence.extend([token_id])
    return sequence
