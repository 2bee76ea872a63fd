"""Sampling settings: ranges, orders that fit, text from the command line, and other people's generation_config.json."""

from __future__ import annotations

import math

import pytest

from pellucid.engine.sampling.generation_config import from_generation_config
from pellucid.engine.sampling.sampler import build_stages
from pellucid.engine.sampling.settings import BOUNDS, SamplingSettings, parse_bias
from pellucid.errors import SamplingError, SettingsError
from pellucid.settings import Layer, flatten, parse_assignments, resolve


@pytest.mark.parametrize(
    "knobs",
    [
        {"temperature": -0.1},
        {"temperature": math.inf},
        {"top_p": 0.0},
        {"top_p": 1.01},
        {"top_k": 0},
        {"top_k": -1},
        {"min_p": -0.1},
        {"min_p": 1.1},
        {"typical_p": 0.0},
        {"epsilon_cutoff": 1.0},
        {"eta_cutoff": -1e-9},
        {"top_n_sigma": 0.0},
        {"xtc_probability": 1.5},
        {"xtc_threshold": 0.51},
        {"mirostat": 3},
        {"mirostat_tau": 0.0},
        {"mirostat_eta": -0.1},
        {"repetition_penalty": 0.0},
        {"repetition_penalty": -1.0},
        {"frequency_penalty": math.inf},
        {"presence_penalty": -math.inf},
        {"repetition_window": -1},
        {"no_repeat_ngram": 0},
        {"dry_multiplier": -1.0},
        {"dry_base": 0.9},
        {"dry_allowed_length": 0},
        {"dry_breakers": (-1,)},
        {"logit_bias": ("x:1",)},
        {"logit_bias": ("3",)},
        {"logit_bias": ("3:inf",)},
        {"logit_bias": ("3:1", "3:2")},
        {"allow": (-1,)},
        {"ban": (5, -2)},
        {"min_new_tokens": -1},
        {"max_new_tokens": 0},
        {"seed": -1},
        {"stop": ("",)},
        {"stop": "word"},
        {"repetition_scope": "answer"},
        {"counts_scope": None},
        {"on_full": "crop"},
        {"order": "lama.cpp"},
        {"order": ("top_q",)},
        {"order": ("top_k", "top_k")},
    ],
)
def test_values_out_of_range_are_refused(knobs):
    with pytest.raises(SamplingError, match=next(iter(knobs))):
        SamplingSettings(**knobs)


@pytest.mark.parametrize("name", BOUNDS)
def test_no_number_may_be_nan(name):
    with pytest.raises(SamplingError, match=name):
        SamplingSettings(**{name: math.nan})


@pytest.mark.parametrize(
    ("order", "knobs", "named"),
    [
        ("vllm", {"dry_multiplier": 1.0}, "dry"),
        ("vllm", {"typical_p": 0.5}, "typical"),
        ("hf", {"frequency_penalty": 0.5}, "frequency"),
        ("mlx", {"mirostat": 2}, "mirostat"),
        ("llama.cpp", {"mirostat": 1, "top_k": 5}, "top_k"),
        ("llama.cpp", {"eta_cutoff": 0.1}, "eta"),
        (("temperature",), {"top_k": 5}, "top_k"),
        ((), {"temperature": 0.0}, "temperature"),
    ],
)
def test_a_stage_that_its_order_has_no_place_for_is_an_error(order, knobs, named):
    with pytest.raises(SamplingError, match="no place") as caught:
        SamplingSettings(order=order, **knobs)
    assert caught.value.found == named


def test_a_misspelt_order_names_the_nearest():
    with pytest.raises(SamplingError, match=r"did you mean 'llama\.cpp'"):
        SamplingSettings(order="lama.cpp")


def typed(**values: str) -> Layer:
    return Layer("command line", parse_assignments(tuple(f"{name}={value}" for name, value in values.items())))


def test_settings_from_text():
    text = {
        **{"temperature": "0.5", "top_k": "none", "stop": "a,b", "seed": "7", "mirostat": "0", "ban": "3,4"},
        **{"order": "temperature,top_p", "top_p": "0.9", "logit_bias": "12:-1.5,40:3", "repetition_scope": "output"},
    }
    with pytest.raises(SamplingError, match="no place"):
        resolve(SamplingSettings, typed(**text))
    text["order"] = "llama.cpp"
    settings = resolve(SamplingSettings, typed(**text)).settings
    assert settings == SamplingSettings(
        **{"temperature": 0.5, "stop": ("a", "b"), "seed": 7, "ban": (3, 4), "order": "llama.cpp", "top_p": 0.9},
        **{"logit_bias": ("12:-1.5", "40:3"), "repetition_scope": "output"},
    )
    with pytest.raises(SamplingError, match="nan"):
        resolve(SamplingSettings, Layer("command line", {"temperature": "nan"}))
    with pytest.raises(SettingsError, match="top_p"):
        resolve(SamplingSettings, Layer("command line", {"top_q": 1}))
    own = resolve(SamplingSettings, typed(order="top_p,temperature", top_p="0.9")).settings
    assert own.order == ("top_p", "temperature")


def test_every_default_is_in_range_and_changes_nothing():
    assert SamplingSettings().stages == ()
    assert {name for name, _ in flatten(SamplingSettings())} >= set(BOUNDS)


def test_bias_entries():
    assert parse_bias(()) == {}
    assert parse_bias(("0:1e3", "7:-0.25")) == {0: 1000.0, 7: -0.25}


@pytest.mark.parametrize("knobs", [{"ban": (9,)}, {"allow": (2, 9)}, {"logit_bias": ("9:1",)}])
def test_ids_outside_the_vocabulary_are_an_error(knobs):
    with pytest.raises(SamplingError, match="token that the model does not have"):
        build_stages(SamplingSettings(**knobs), num_logits=9, num_known=9)


def test_generation_config_of_a_chat_model():
    settings, unknown = from_generation_config(
        {
            **{"bos_token_id": 151643, "pad_token_id": 151643, "eos_token_id": [151645, 151643]},
            **{"do_sample": True, "temperature": 0.7, "top_p": 0.8, "top_k": 20, "repetition_penalty": 1.05},
            **{"transformers_version": "4.37.0", "min_p": None},
        }
    )
    assert unknown == ()
    assert settings == SamplingSettings(
        **{"temperature": 0.7, "top_p": 0.8, "top_k": 20, "repetition_penalty": 1.05, "order": "hf"},
        stop_ids=(151645, 151643),
    )
    assert settings.stages == ("repetition", "temperature", "top_k", "top_p")


def test_generation_config_hands_back_what_it_cannot_do():
    config = {"num_beams": 4, "length_penalty": 1.0, "max_length": 200, "penalty_alpha": 0.6, "top_k": 0}
    settings, unknown = from_generation_config(config)
    assert settings == SamplingSettings(order="hf")
    assert unknown == ("num_beams", "max_length", "penalty_alpha")


def test_generation_config_without_sampling_is_greedy():
    settings, _ = from_generation_config({"do_sample": False, "temperature": 0.6, "top_p": 0.9})
    assert settings.greedy
    assert from_generation_config({})[0] == SamplingSettings(order="hf")


@pytest.mark.parametrize("config", [{"top_p": "much"}, {"top_k": True}, {"eos_token_id": ["a"]}, {"temperature": [1]}])
def test_generation_config_of_the_wrong_kind(config):
    with pytest.raises(SamplingError, match=next(iter(config))):
        from_generation_config(config)
