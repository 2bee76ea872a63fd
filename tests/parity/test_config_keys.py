"""Every field of transformers' configuration classes is read, refused by name, or known to change nothing.

The judge is transformers itself: what its class makes of a file that says little, that says null, or that says it the old
way, is read here to the same axes as the file. No weights are made.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest
import transformers
from public_configs import FILES

from pellucid.errors import PellucidError
from pellucid.planning.config import ModelConfig
from pellucid.store.names.harmless import HARMLESS, NEUTRAL
from pellucid.store.names.registry import FOREIGN, SPELLINGS, read_config

CLASSES = {
    "gpt2": transformers.GPT2Config, "llama": transformers.LlamaConfig, "mistral": transformers.MistralConfig,
    "mixtral": transformers.MixtralConfig, "qwen2": transformers.Qwen2Config, "qwen3": transformers.Qwen3Config,
    "qwen3_moe": transformers.Qwen3MoeConfig, "gemma2": transformers.Gemma2Config,
    "gemma3_text": transformers.Gemma3TextConfig, "smollm3": transformers.SmolLM3Config, "bert": transformers.BertConfig,
    "roberta": transformers.RobertaConfig, "xlm-roberta": transformers.XLMRobertaConfig,
    "camembert": transformers.CamembertConfig, "modernbert": transformers.ModernBertConfig, "t5": transformers.T5Config,
    "mt5": transformers.MT5Config, "marian": transformers.MarianConfig,
    "xlnet": transformers.XLNetConfig,
}  # fmt: skip
UNTIED = {"mt5": {"tie_word_embeddings": False}}  # tied, the versions of transformers disagree about what it computes
OTHER: dict[str, Any] = {  # another value that means something; else a number is doubled and a flag turned
    **dict.fromkeys(("activation_function", "hidden_act", "hidden_activation", "classifier_activation"), "relu"),
    **dict.fromkeys(("head_dim", "n_inner", "sliding_window"), 96),
    "num_key_value_heads": 2,
    "num_decoder_layers": 3,
    "mlp_only_layers": [0],
    "feed_forward_proj": "gated-silu",
    "rope_parameters": {"rope_type": "default", "rope_theta": 5e5},
    "final_logit_softcapping": 7.0,
    "attn_logit_softcapping": 7.0,
    "layer_types": ["sliding_attention"],
    "no_rope_layers": [0],
}
FOLLOWS = {  # what transformers works out from another key, and writes beside it: left out where that key is changed
    "num_hidden_layers": ("layer_types", "no_rope_layers"),
    "feed_forward_proj": ("dense_act_fn", "is_gated_act"),
    "vocab_size": ("decoder_vocab_size",),
    **dict.fromkeys(("d_model", "n_head"), ("d_head",)),
}
PER_LAYER = ("layer_types", "no_rope_layers")
# Keys of one family that change no number of it.
CHANGES_NOTHING = {
    "gpt2": {
        "reorder_and_upcast_attn", "summary_activation", "summary_first_dropout", "summary_proj_to_labels", "summary_type",
        "summary_use_proj",
    },
    "qwen2": {"max_window_layers", "sliding_window"},  # while `use_sliding_window` is false
    "qwen3": {"max_window_layers", "sliding_window"},
    "qwen3_moe": {"sliding_window"},
    "gemma3_text": {"_sliding_window_pattern"},  # the list of layers says it
    "smollm3": {"no_rope_layer_interval", "sliding_window"},  # the list of layers says what the interval would
    "modernbert": {
        "deterministic_flash_attn", "embedding_dropout", "initializer_cutoff_factor", "mlp_dropout",
        "sparse_pred_ignore_index", "sparse_prediction",
    },
    "t5": {"dropout_rate", "initializer_factor"},
    "mt5": {"dropout_rate", "initializer_factor"},
    "marian": {"decoder_layerdrop", "encoder_layerdrop", "init_std"},
    "xlnet": {
        "end_n_top", "same_length", "start_n_top", "summary_activation", "summary_last_dropout", "summary_type",
        "summary_use_proj", "use_mems_eval", "use_mems_train",
    },
}  # fmt: skip
SIZES = {
    "vocab_size": 100, "hidden_size": 512, "num_hidden_layers": 8, "num_attention_heads": 64, "intermediate_size": 70,
    "max_position_embeddings": 50,
}  # fmt: skip
LITTLE: dict[str, dict[str, Any]] = {  # sizes alone, at odd values: everything else is left to the class
    **dict.fromkeys(CLASSES, SIZES),
    "gpt2": {"vocab_size": 100, "n_positions": 50, "n_embd": 96, "n_layer": 8, "n_head": 12},
    "t5": {"vocab_size": 100, "d_model": 96, "d_kv": 8, "d_ff": 70, "num_layers": 8, "num_heads": 12},
    "mt5": {"vocab_size": 100, "d_model": 96, "d_kv": 8, "d_ff": 70, "num_layers": 8, "num_heads": 12},
    "xlnet": {"vocab_size": 100, "d_model": 96, "n_layer": 8, "n_head": 12, "d_inner": 70},
    "marian": {
        "vocab_size": 100, "max_position_embeddings": 50, "d_model": 96, "encoder_layers": 8, "decoder_layers": 7,
        "encoder_ffn_dim": 70, "decoder_ffn_dim": 70, "encoder_attention_heads": 12, "decoder_attention_heads": 12,
    },
}  # fmt: skip
LLAMA3 = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 16}
STRETCHINGS: list[dict[str, Any] | None] = [
    None, {"type": "linear", "factor": 2.0}, {"rope_type": "llama3", **LLAMA3}, {"rope_type": "yarn", "factor": 4.0},
    {"rope_type": "default"},
]  # fmt: skip


def told(name: str, **said: Any) -> dict[str, Any]:
    """What transformers writes for a configuration of its class."""
    values = json.loads(CLASSES[name](**said).to_json_string(use_diff=False))
    return {**values, **UNTIED.get(name, {}), "model_type": name}


def read(values: Mapping[str, Any]) -> ModelConfig:
    return read_config(values, "memory")[1]


def other(key: str, value: Any, values: Mapping[str, Any]) -> Any:
    """Another value of a key."""
    if key == "rope_parameters" and "full_attention" in value:
        return {**value, "full_attention": OTHER[key]}
    if key in PER_LAYER:
        return OTHER[key] * values["num_hidden_layers"]
    if key in OTHER:
        return OTHER[key]
    if isinstance(value, bool) or not isinstance(value, int | float):
        return (not value) if isinstance(value, bool) else "another"
    return 2 * value or 1


def outcome(values: Mapping[str, Any], key: str, before: ModelConfig) -> str:
    """What becomes of a file with another value of a key."""
    try:
        return "nothing" if read(values) == before else "read"
    except PellucidError as error:
        assert key in str(error), f"{key} is refused without its name: {error}"
        return "refused"


def test_every_family_is_here():
    assert CLASSES.keys() == {family.model_type for family in (*FOREIGN, *SPELLINGS)}


@pytest.mark.parametrize("name", CLASSES)
def test_every_field_is_read_or_refused_or_known_to_change_nothing(name):
    values = told(name)
    before, found = read(values), {}
    for key, value in values.items():
        left_out = FOLLOWS.get(key, ())
        start = {one: what for one, what in values.items() if one not in left_out}
        changed = {**start, key: other(key, value, values)}
        assert changed[key] != value, key
        found[key] = outcome(changed, key, read(start) if left_out else before)
    silent = {key for key, what in found.items() if what == "nothing"}
    assert silent - HARMLESS.keys() == CHANGES_NOTHING.get(name, set())
    assert {key for key, what in found.items() if what != "nothing"} >= values.keys() & NEUTRAL.keys()


@pytest.mark.parametrize("name", CLASSES)
def test_keys_of_transformers_4_are_accepted_at_the_value_that_it_wrote(name):
    """A file that has every key of the base class of version 4, at its default, is read as if it had none of them."""
    values = told(name)
    older = {
        key: value for key, value in FILES["Mistral-7B-Instruct-v0.3"]["config"].items() if key in {*HARMLESS, *NEUTRAL}
    }
    assert len(older.keys() - values.keys()) > 30
    before = read(values)
    assert read({**older, **values}) == before
    for key in older.keys() - values.keys():
        changed = {**values, key: other(key, older[key], values)}
        expected = {"nothing"} if key in HARMLESS else {"refused", "nothing"} if key == "is_decoder" else {"refused"}
        assert outcome(changed, key, before) in expected, key


@pytest.mark.parametrize("name", CLASSES)
def test_what_is_harmless_may_say_anything(name):
    values = told(name)
    assert read({**dict.fromkeys(HARMLESS, "another"), **values}) == read(values)
    assert not HARMLESS.keys() & NEUTRAL.keys() and all(HARMLESS.values())


@pytest.mark.parametrize(
    ("name", "key", "accepted", "refused"),
    [
        ("llama", "rope_interleaved", False, True),
        ("llama", "is_llama_config", True, False),
        ("qwen2", "use_mrope", False, True),
        ("mixtral", "moe_frequency", 1, 2),
        ("gpt2", "n_ctx", 1024, 512),
        ("gemma2", "sliding_window_size", 4096, 512),
        ("bert", "directionality", "bidi", "left-to-right"),
        ("bert", "position_embedding_type", "absolute", "relative_key"),
        ("modernbert", "layer_norm_eps", 1e-5, 1e-6),
        ("marian", "add_bias_logits", False, True),
        ("marian", "normalize_before", False, True),
        ("marian", "normalize_embedding", False, True),
        ("marian", "add_final_layer_norm", False, True),
        ("marian", "static_position_embeddings", True, False),
        ("marian", "do_blenderbot_90_layernorm", False, True),
        ("marian", "num_hidden_layers", 12, 6),
        ("llama", "auto_map", {}, {"AutoModel": "modeling.Model"}),
        ("llama", "quantization_config", None, {"bits": 4}),
    ],
)
def test_keys_of_one_family_are_accepted_at_exactly_their_neutral_value(name, key, accepted, refused):
    values = told(name)
    assert read({**values, key: accepted}) == read(values)
    assert outcome({**values, key: refused}, key, read(values)) == "refused"


def test_a_pattern_without_its_list_must_be_the_one_that_is_computed():
    values = {**LITTLE["gemma3_text"], "model_type": "gemma3_text"}
    assert read({**values, "_sliding_window_pattern": 6}) == read(values)
    assert outcome({**values, "_sliding_window_pattern": 3}, "_sliding_window_pattern", read(values)) == "refused"
    with_window = read({**values, "sliding_window_pattern": 3, "_sliding_window_pattern": 3}).attention.window
    assert with_window is not None and with_window.layers == (0, 1, 3, 4, 6, 7)


@pytest.mark.parametrize("key", ["rope_scaling", "rope_parameters"])
def test_modernbert_with_stretched_rotations_is_refused(key):
    stretched = {"rope_type": "linear", "factor": 2.0}
    values = told("modernbert")
    changed = (
        {"rope_scaling": stretched}
        if key == "rope_scaling"
        else {key: {**values[key], "full_attention": {**stretched, "rope_theta": 160_000.0}}}
    )
    assert outcome({**values, **changed}, "rope_", read(values)) == "refused"


def test_a_file_without_model_type_is_known_by_its_architecture():
    values = {key: what for key, what in told("gpt2").items() if key != "model_type"}
    assert read({**values, "architectures": ["GPT2LMHeadModel"]}) == read(told("gpt2"))
    for architectures in (None, ["GPT2Model"], ["GPT2LMHeadModel", "BertForMaskedLM"]):
        with pytest.raises(PellucidError, match="model_type=None"):
            read({**values, "architectures": architectures})


@pytest.mark.parametrize("name", CLASSES)
def test_a_file_that_says_little_means_what_transformers_makes_of_it(name):
    little = {**LITTLE[name], **UNTIED.get(name, {}), "model_type": name}
    assert read(little) == read(told(name, **LITTLE[name]))


@pytest.mark.parametrize("name", CLASSES)
def test_a_key_that_is_left_out_means_its_default(name):
    """Or the file is refused because it lacks it."""
    values = told(name)
    before = read(values)
    for key in values.keys() - {"model_type", "tie_word_embeddings"}:
        assert outcome({one: what for one, what in values.items() if one != key}, key, before) in (
            "nothing",
            "refused",
        ), key
    untied = {key: value for key, value in values.items() if key != "tie_word_embeddings"}
    assert read(untied) == before


@pytest.mark.parametrize("name", CLASSES)
def test_null_means_what_transformers_makes_of_it(name):
    for key in told(name).keys() - {"model_type", "tie_word_embeddings"}:
        try:
            theirs = told(name, **{**LITTLE[name], key: None})
        except Exception:  # its checks raise what they like for a key that may not be null
            continue
        ours = {**LITTLE[name], **UNTIED.get(name, {}), "model_type": name, key: None}
        try:
            expected = read(theirs)
        except PellucidError:  # it writes the null back, and computes something else
            assert outcome(ours, key, ModelConfig()) == "refused", key
        else:
            assert outcome(ours, key, expected) in ("nothing", "refused"), key


@pytest.mark.parametrize("stretching", STRETCHINGS)
@pytest.mark.parametrize("name", ["llama", "mistral", "mixtral", "qwen2", "qwen3", "qwen3_moe", "smollm3", "gemma2"])
def test_rotations_are_read_from_either_form(name, stretching):
    older = {**LITTLE[name], "rope_theta": 5e4, "rope_scaling": stretching}
    newer = told(name, **older)
    assert "rope_scaling" not in newer and newer["rope_parameters"]["rope_theta"] == 5e4
    kinds = [kind for kind in ("linear", "llama3", "yarn") if kind in str(stretching)]
    ours = read({**older, "model_type": name})
    assert ours == read(newer) and ours.position.scaling.kind == (kinds or ["none"])[0]


@pytest.mark.parametrize("kind", ["dynamic", "longrope", "mrope"])
@pytest.mark.parametrize("key", ["rope_scaling", "rope_parameters"])
def test_other_stretchings_are_refused_by_name(kind, key):
    values = {**LITTLE["llama"], "model_type": "llama", key: {"rope_type": kind, "factor": 2.0}}
    assert outcome(values, "rope_scaling", read({**LITTLE["llama"], "model_type": "llama"})) == "refused"


@pytest.mark.parametrize("name", ["qwen2", "qwen3", "qwen3_moe", "smollm3"])
@pytest.mark.parametrize("said", [{}, {"max_window_layers": 0}, {"max_window_layers": 3}, {"layer_types": 3}])
def test_layers_with_a_window_are_those_of_transformers(name, said):
    said = {
        key: ["full_attention"] * 3 + ["sliding_attention"] * 5 if key == "layer_types" else said[key] for key in said
    }
    values = {**LITTLE[name], "use_sliding_window": True, "sliding_window": 5, **said}
    if name == "qwen3_moe":  # it has a window in all layers or in none
        expected = "refused" if said.get("max_window_layers") or "layer_types" in said else "read"
        plain = read({**LITTLE[name], "model_type": name})
        assert outcome({**values, "model_type": name}, next(iter(said), "sliding_window"), plain) == expected
        if expected == "read":
            assert read({**values, "model_type": name}).attention.window.layers is None
        return
    ours, theirs = read({**values, "model_type": name}), CLASSES[name](**values).layer_types
    assert [ours.window_at(layer) is not None for layer in range(8)] == [kind == "sliding_attention" for kind in theirs]


@pytest.mark.parametrize("name", [name for name in FILES if name not in ("flan-t5-small", "flan-t5-large")])
def test_transformers_makes_the_same_of_public_files(name):
    """Its class fills in what a file leaves out and renames what is old: that is read to the same axes."""
    values = dict(FILES[name]["config"])
    family = values.pop("model_type", None)
    if family in CLASSES and "auto_map" not in values:
        assert read(told(family, **values)) == read(FILES[name]["config"])
