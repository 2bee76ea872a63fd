"""Named orders against the engines whose names they bear: transformers itself, and the others' chains written down again
in the way that their sources do it (candidate lists, ascending sums), independently of the code under test."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
import torch
from transformers import GenerationConfig, GPT2Config, GPT2LMHeadModel

from pellucid.engine.sampling.distribution import probabilities
from pellucid.engine.sampling.orders import MASKS, ORDERS, STAGES
from pellucid.engine.sampling.sampler import build_stages, describe_chain, pass_through
from pellucid.engine.sampling.settings import SamplingSettings
from pellucid.engine.sampling.stage import History

SIZE = 60
IDS, NUM_PROMPT = [4, 9, 9, 17, 4, 33, 9, 17], 5


def rows():
    for seed in range(12):
        yield np.random.default_rng(seed).normal(scale=2.5, size=SIZE)


def ours(logits_V, ids=IDS, num_prompt=NUM_PROMPT, **knobs) -> np.ndarray:
    settings = SamplingSettings(seed=1, **knobs)
    stages = build_stages(settings, num_logits=SIZE, num_known=SIZE, end_ids=(0,))
    return probabilities(pass_through(logits_V, stages, History(ids, num_prompt))[-1])


def softmax(values):
    top = max(values)
    weights = [math.exp(value - top) for value in values]
    return [weight / sum(weights) for weight in weights]


# --- transformers: its own list of processors ---------------------------------------------------------------------

HF_KNOBS = [
    {"temperature": 2.0, "top_k": 20, "top_p": 0.8},
    {"temperature": 0.5, "top_p": 0.9, "min_p": 0.05, "typical_p": 0.7},
    {"temperature": 1.5, "epsilon_cutoff": 0.01, "eta_cutoff": 0.05},
    {"repetition_penalty": 1.4, "no_repeat_ngram_size": 3, "temperature": 0.7, "top_k": 7},
    {"temperature": 3.0, "top_k": 30, "top_p": 0.95, "min_p": 0.02, "typical_p": 0.9, "epsilon_cutoff": 0.002},
]


@pytest.fixture(scope="module")
def transformers_model():
    return GPT2LMHeadModel(GPT2Config(vocab_size=SIZE, n_positions=16, n_embd=8, n_layer=1, n_head=1))


@pytest.mark.parametrize("knobs", HF_KNOBS)
def test_hf_is_what_transformers_does(transformers_model, knobs):
    config = GenerationConfig(do_sample=True, bos_token_id=0, eos_token_id=0, pad_token_id=0, **{"top_k": 0, **knobs})
    ids = torch.tensor([IDS])
    processors = transformers_model._get_logits_processor(
        config, input_ids_seq_length=len(IDS), encoder_input_ids=ids, prefix_allowed_tokens_fn=None, logits_processor=[]
    )
    assert len(processors) >= len(knobs)
    mine = {{"no_repeat_ngram_size": "no_repeat_ngram"}.get(name, name): value for name, value in knobs.items()}
    for logits_V in rows():
        expected = processors(ids, torch.from_numpy(logits_V)[None].clone()).softmax(-1)[0].numpy()
        np.testing.assert_allclose(ours(logits_V, order="hf", **mine), expected, atol=1e-9)


# --- llama.cpp: a list of candidates, cut and sorted in turn --------------------------------------------------------


def llama_cpp(logits_V, *, top_k, typical_p, top_p, min_p, temperature, repeat, frequency, presence, sigma):
    counts = Counter(IDS[-64:])
    scores = {}
    for i, logit in enumerate(logits_V):
        if i in counts:
            logit = logit * repeat if logit <= 0 else logit / repeat
            logit -= counts[i] * frequency + presence
        scores[i] = logit
    mean = sum(scores.values()) / len(scores)
    deviation = math.sqrt(sum((score - mean) ** 2 for score in scores.values()) / len(scores))
    bound = max(scores.values()) - sigma * deviation
    chain = sorted((i for i in scores if scores[i] >= bound), key=lambda i: -scores[i])[:top_k]
    p = dict(zip(chain, softmax([scores[i] for i in chain]), strict=True))
    entropy = -sum(value * math.log(value) for value in p.values())
    chain = cut_at(sorted(chain, key=lambda i: abs(-math.log(p[i]) - entropy)), p, typical_p)
    chain = sorted(chain, key=lambda i: -scores[i])
    chain = cut_at(chain, dict(zip(chain, softmax([scores[i] for i in chain]), strict=True)), top_p)
    chain = [i for i in chain if scores[i] >= scores[chain[0]] + math.log(min_p)]
    found = np.zeros(len(logits_V))
    found[chain] = softmax([scores[i] / temperature for i in chain])
    return found


def cut_at(chain, p, mass):
    reached = 0.0
    for number, i in enumerate(chain, 1):
        reached += p[i]
        if reached >= mass:
            return chain[:number]
    return chain


@pytest.mark.parametrize("temperature", [0.6, 2.0])
@pytest.mark.parametrize("top_p", [0.5, 0.9])
def test_llama_cpp(temperature, top_p):
    for logits_V in rows():
        expected = llama_cpp(
            *(logits_V,),
            **{"top_k": 40, "typical_p": 0.95, "top_p": top_p, "min_p": 0.05, "temperature": temperature},
            **{"repeat": 1.3, "frequency": 0.2, "presence": 0.4, "sigma": 2.0},
        )
        knobs = {"repetition_penalty": 1.3, "frequency_penalty": 0.2, "presence_penalty": 0.4, "top_n_sigma": 2.0}
        knobs |= {"top_k": 40, "typical_p": 0.95, "top_p": top_p, "min_p": 0.05, "temperature": temperature}
        np.testing.assert_allclose(ours(logits_V, order="llama.cpp", **knobs), expected, atol=1e-9)


# --- vLLM: penalties over two spans, then temperature, min-p, top-k, top-p over ascending sums ----------------------


def vllm(logits_V, *, temperature, min_p, top_k, top_p, repetition, frequency, presence):
    logits = torch.from_numpy(logits_V.copy())
    seen = torch.zeros(SIZE, dtype=torch.bool)
    seen[IDS] = True
    counts = torch.bincount(torch.tensor(IDS[NUM_PROMPT:]), minlength=SIZE)
    logits = torch.where(seen, torch.where(logits > 0, logits / repetition, logits * repetition), logits)
    logits = (logits - frequency * counts - presence * (counts > 0)) / temperature
    p = logits.softmax(-1)
    logits[p < min_p * p.max()] = -math.inf
    ascending, places = logits.sort()
    ascending[ascending < ascending[SIZE - top_k]] = -math.inf
    out = ascending.softmax(-1).cumsum(-1) <= 1 - top_p
    out[-1] = False
    ascending[out] = -math.inf
    return torch.empty_like(logits).scatter(0, places, ascending).softmax(-1).numpy()


@pytest.mark.parametrize("temperature", [0.6, 2.0])
def test_vllm(temperature):
    for logits_V in rows():
        chain = {"temperature": temperature, "min_p": 0.01, "top_k": 25, "top_p": 0.85}
        expected = vllm(logits_V, **chain, repetition=1.3, frequency=0.2, presence=0.4)
        knobs = {"repetition_penalty": 1.3, "frequency_penalty": 0.2, "presence_penalty": 0.4}
        np.testing.assert_allclose(ours(logits_V, order="vllm", **chain, **knobs), expected, atol=1e-9)


# --- mlx-lm: penalties over the last 20 ids, cuts on log-probabilities, temperature last ----------------------------


def mlx(logits_V, ids, *, temperature, min_p, top_k, top_p, repetition, frequency, presence):
    row, recent = logits_V.copy(), ids[-20:]
    for i in set(recent):
        row[i] = row[i] * repetition if row[i] < 0 else row[i] / repetition
        row[i] -= presence
    for i in recent:
        row[i] -= frequency
    row -= math.log(np.exp(row).sum())
    order = np.argsort(row)
    below = np.empty(SIZE)
    below[order] = np.exp(row)[order].cumsum()
    row[below <= 1 - top_p] = -np.inf
    row[row < row.max() + math.log(min_p)] = -np.inf
    row[np.argsort(-row)[top_k:]] = -np.inf
    return probabilities(row / temperature)


@pytest.mark.parametrize("temperature", [0.6, 2.0])
def test_mlx(temperature):
    ids = np.random.default_rng(5).integers(0, SIZE, 30).tolist()
    for logits_V in rows():
        chain = {"temperature": temperature, "min_p": 0.01, "top_k": 25, "top_p": 0.85}
        expected = mlx(logits_V, ids, **chain, repetition=1.3, frequency=0.2, presence=0.4)
        knobs = {"repetition_penalty": 1.3, "frequency_penalty": 0.2, "presence_penalty": 0.4}
        np.testing.assert_allclose(ours(logits_V, ids, order="mlx", **chain, **knobs), expected, atol=1e-9)


# --- what an order is -----------------------------------------------------------------------------------------------


def test_the_same_numbers_are_other_distributions_in_another_order():
    logits_V = np.array([5.0, 3.0, 1.0, 0.0] + [-50.0] * (SIZE - 4))
    found = {name: np.count_nonzero(ours(logits_V, order=name, temperature=3, top_p=0.8) > 1e-9) for name in ORDERS}
    assert found == {"pellucid": 3, "llama.cpp": 1, "vllm": 3, "hf": 3, "mlx": 1}


def test_every_order_names_known_stages_once_and_has_the_masks():
    for order in ORDERS.values():
        assert len(set(order.stages)) == len(order.stages)
        assert set(MASKS) <= set(order.stages) <= set(STAGES)


def test_an_order_of_one_s_own():
    settings = SamplingSettings(order=("top_p", "temperature"), temperature=2, top_p=0.9)
    stages = build_stages(settings, num_logits=SIZE, num_known=SIZE)
    assert describe_chain(stages) == "model → top-p 0.9 → temperature 2 → draw"


def test_the_default_chain_does_nothing():
    assert build_stages(SamplingSettings(), num_logits=SIZE, num_known=SIZE) == ()
    assert describe_chain(()) == "model → draw"
    for name in ORDERS:
        assert SamplingSettings(order=name).stages == ()


def test_greedy_drops_the_cuts_that_cannot_matter_and_keeps_those_that_can():
    knobs = {"temperature": 0, "top_k": 5, "top_p": 0.5, "repetition_penalty": 1.2, "order": "llama.cpp"}

    def names(**more):
        built = build_stages(SamplingSettings(**knobs, **more), num_logits=SIZE, num_known=SIZE)
        return [stage.name for stage in built]

    assert names() == ["repetition 1.2 (both, last 64)", "greedy"]
    assert names(typical_p=0.5) == ["repetition 1.2 (both, last 64)", "top-k 5", "typical 0.5", "greedy"]
    assert SamplingSettings(**knobs).greedy
    assert not SamplingSettings(**knobs, xtc_probability=0.5).greedy  # XTC draws
    assert SamplingSettings(**{**knobs, "order": "pellucid"}, xtc_probability=0.5).greedy  # it would come after


@pytest.mark.parametrize("name", ORDERS)
def test_temperature_zero_is_the_limit_of_small_temperatures(name):
    knobs = {"top_k": 9, "top_p": 0.7, "min_p": 0.1, "repetition_penalty": 1.5, "order": name}
    if name == "llama.cpp":  # elsewhere typical comes after the temperature, where the limit is another
        knobs["typical_p"] = 0.4
    for logits_V in rows():
        expected = ours(logits_V, temperature=1e-6, **knobs)
        assert ours(logits_V, temperature=0, **knobs).argmax() == expected.argmax()


def test_a_cut_before_a_penalty_matters_at_temperature_zero_too():
    logits_V = np.array([5.0, 4.0] + [0.0] * (SIZE - 2))
    knobs = {"temperature": 0, "top_k": 1, "repetition_penalty": 9.0}
    first = ours(logits_V, [0], 1, order=("top_k", "repetition", "temperature"), **knobs)
    then = ours(logits_V, [0], 1, order=("repetition", "top_k", "temperature"), **knobs)
    assert (first.argmax(), then.argmax()) == (0, 1)


def test_a_prohibition_after_temperature_zero_is_not_forgotten():
    settings = SamplingSettings(order=("temperature", "top_k", "ban"), temperature=0, top_k=3, ban=(2,))
    assert settings.stages == ("temperature", "ban")


def test_spans_belong_to_the_order_unless_they_are_given():
    assert str(SamplingSettings(order="mlx").repetition_span) == "both, last 20"
    assert str(SamplingSettings(order="vllm").counts_span) == "output"
    assert str(SamplingSettings(order="mlx", repetition_window=0).repetition_span) == "both"
    assert str(SamplingSettings(order="mlx", counts_scope="prompt", counts_window=3).counts_span) == "prompt, last 3"


def test_mirostat_replaces_the_chain_of_llama_cpp():
    settings = SamplingSettings(order="llama.cpp", mirostat=2, temperature=0.8)
    assert settings.stages == ("temperature", "mirostat")
