from __future__ import annotations

import errno
import itertools
import json
import os
import resource
import shutil
from typing import get_args

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pellucid import stamps
from pellucid.errors import (
    CorruptFileError,
    ModelError,
    NoSpaceError,
    PellucidError,
    StoreError,
    TokenizerError,
    WeightsError,
)
from pellucid.events import MemoryRecorder
from pellucid.model.build import build
from pellucid.planning.parts.feed_forward import FeedForwardKind
from pellucid.planning.presets import PRESETS
from pellucid.store import verify
from pellucid.store.checkpoint import (
    TrainingFiles,
    lineage_after,
    load_checkpoint,
    load_model,
    load_training,
    save_checkpoint,
    verify_checkpoint,
)
from pellucid.store.names.registry import family_for
from pellucid.store.tensors import read_tensors, serialize
from pellucid.tokens.train import train_characters

FAMILIES = {
    "qwen3": {},
    "llama": {"qk_norm": False, "d_model": 21},
    "qwen2": {"qk_norm": False, "qkv_bias": True},
    "gpt2": {
        "position": "learned", "norm": "layer", "feed_forward": "gelu", "qk_norm": False, "qkv_bias": True,
        "output_bias": True, "mlp_bias": True, "n_kv_heads": 3, "d_model": 18,
    },
    "pellucid": {"position": "sinusoidal", "feed_forward": "relu2"},
}  # fmt: skip


def random_weights(config, seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    return {
        n: torch.randn(w.shape, generator=generator).to(dtype) for n, w in build(config, seed=0).state_dict().items()
    }


@pytest.fixture
def saved(tmp_path, config, weights):
    training = TrainingFiles(tensors={"m": torch.arange(5), "e": torch.zeros(0)}, state={"step": 7, "文": "字"})
    save_checkpoint(
        tmp_path / "c",
        config=config,
        weights=weights,
        tokenizer=None,
        info={"recipe": "x", "step": 7},
        training=training,
    )
    return tmp_path / "c"


def edit_config(directory, **changes):
    """Change config.json as another program might, so that no hash vouches for it."""
    values = json.loads((directory / "config.json").read_text()) | changes
    (directory / "config.json").write_text(json.dumps(values))
    (directory / "pellucid.json").unlink(missing_ok=True)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_what_is_loaded_is_what_was_saved_to_the_bit(family, tied, dtype, tmp_path, config):
    config = config.revise(tied_head=tied, dropout=0.25, init="gpt2", **FAMILIES[family])
    weights, events = random_weights(config, dtype=dtype), MemoryRecorder()
    save_checkpoint(tmp_path / "c", config=config, weights=weights, tokenizer=None, info={"a": [1]}, recorder=events)
    loaded = load_checkpoint(tmp_path / "c")
    assert json.loads((tmp_path / "c" / "config.json").read_text())["model_type"] == family
    assert ("store.own_format" in events.names()) == (family == "pellucid")
    assert loaded.config == config and loaded.info["a"] == [1] and loaded.dtype == dtype
    assert loaded.weights.keys() == weights.keys()
    assert all(torch.equal(loaded.weights[name], tensor) for name, tensor in weights.items())
    model = load_model(loaded)
    assert all(torch.equal(tensor, weights[name]) for name, tensor in model.state_dict().items())


def test_the_nearest_family_is_the_one_that_differs_least():
    """Not one that lacks a whole group of axes, of which the rest was not compared."""
    marian = PRESETS["transformer-base"].revise(**{"position.halves": True, "head.bias": True})
    for config, expected in ((marian, []), (PRESETS["transformer-base"], ["position.halves=False", "head.bias=False"])):
        events = MemoryRecorder()
        assert family_for(config, events).model_type == ("pellucid" if expected else "marian")
        told = [(event.data["nearest"], event.data["misfits"]) for event in events.events]
        assert told == ([("marian", expected)] if expected else [])


AXES = {
    "position": ["none", "learned", "sinusoidal", "rotary"], "norm": ["layer", "layer_no_bias", "rms"],
    "feed_forward": list(get_args(FeedForwardKind)), "n_kv_heads": [1, 3], "d_model": [18, 20],
    **{axis: [True, False] for axis in ("qk_norm", "qkv_bias", "output_bias", "mlp_bias", "tied_head", "causal")},
}  # fmt: skip


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(axes=st.fixed_dictionaries({axis: st.sampled_from(values) for axis, values in AXES.items()}))
def test_every_combination_of_axes_comes_back(axes, tmp_path, config):
    config = config.revise(n_layers=1, **axes)
    weights = random_weights(config)
    save_checkpoint(tmp_path / "c", config=config, weights=weights, tokenizer=None, info={})
    loaded = load_checkpoint(tmp_path / "c")
    assert loaded.config == config
    assert all(torch.equal(loaded.weights[name], tensor) for name, tensor in weights.items())


def test_loaded_parameters_are_fresh_memory(saved):
    checkpoint = load_checkpoint(saved)
    model = load_model(checkpoint)
    with torch.no_grad():
        model.embed.weight.zero_()
    assert load_checkpoint(saved).weights["embed.weight"].abs().sum() > 0
    assert load_model(checkpoint, dtype=torch.bfloat16).embed.weight.dtype == torch.bfloat16


def test_training_state_comes_back(saved):
    training = load_training(saved)
    assert training.state == {"step": 7, "文": "字"}
    assert torch.equal(training.tensors["m"], torch.arange(5)) and training.tensors["e"].shape == (0,)


def test_a_checkpoint_without_training_state_says_so(tmp_path, config, weights):
    save_checkpoint(tmp_path / "c", config=config, weights=weights, tokenizer=None, info={})
    with pytest.raises(StoreError, match="no training state"):
        load_training(tmp_path / "c")


def test_saving_over_itself_from_mapped_weights(saved, weights):
    """Loaded weights are views of the file that the new directory replaces."""
    checkpoint = load_checkpoint(saved)
    save_checkpoint(saved, config=checkpoint.config, weights=checkpoint.weights, tokenizer=None, info=checkpoint.info)
    assert all(torch.equal(load_checkpoint(saved).weights[name], tensor) for name, tensor in weights.items())
    assert [entry.name for entry in saved.parent.iterdir() if entry.name.startswith(".")] == []


def test_wrong_weights_are_not_saved(tmp_path, config, weights):
    wrong = dict(weights)
    wrong["extra"] = wrong.pop("final_norm.weight")
    wrong["embed.weight"] = wrong["embed.weight"][:-1]
    with pytest.raises(WeightsError) as caught:
        save_checkpoint(tmp_path / "c", config=config, weights=wrong, tokenizer=None, info={})
    assert not (tmp_path / "c").exists()
    for part in ("missing: final_norm.weight", "left over: extra", "embed.weight is (36, 20) instead of (37, 20)"):
        assert part in caught.value.found


def test_a_tokenizer_with_more_tokens_than_rows_is_refused(tmp_path, config, weights, saved):
    tokenizer = train_characters(["abc"])
    assert tokenizer.vocab_size > config.vocab_size
    with pytest.raises(TokenizerError, match="does not belong"):
        save_checkpoint(tmp_path / "d", config=config, weights=weights, tokenizer=tokenizer, info={})
    tokenizer.save(saved)
    with pytest.raises(TokenizerError, match="does not belong"):
        load_checkpoint(saved)


def test_a_checkpoint_without_tokenizer_is_an_event(saved):
    events = MemoryRecorder()
    assert load_checkpoint(saved, recorder=events).tokenizer is None
    assert events.names() == ["store.no_tokenizer"]


# Damage


def test_every_damaged_weight_file_is_a_corrupt_file(saved, mutations):
    path = saved / "model.safetensors"
    data = path.read_bytes()
    for damaged in itertools.chain(mutations(data, 300), (data[:-1], data + b"\0", b"")):
        path.write_bytes(damaged)
        with pytest.raises(CorruptFileError, match=r"model\.safetensors"):
            load_checkpoint(saved)
    path.write_bytes(data)
    load_checkpoint(saved)


def test_damaged_foreign_weights_are_errors_or_other_numbers(saved, weights, mutations):
    """Without hashes: any damage to the header that leaves the file readable leaves all names and shapes right."""
    (saved / "pellucid.json").unlink()
    path = saved / "model.safetensors"
    data, refused = path.read_bytes(), 0
    for damaged in mutations(data, 300):
        path.write_bytes(damaged)
        try:
            loaded = load_checkpoint(saved).weights
            assert {n: w.shape for n, w in loaded.items()} == {n: w.shape for n, w in weights.items()}
        except (CorruptFileError, WeightsError):
            refused += 1
    assert refused > 200


@pytest.mark.parametrize("name", ["config.json", "generation_config.json", "training/state.json"])
def test_any_edited_file_is_found_out(saved, name):
    with (saved / name).open("a") as file:
        file.write(" ")
    with pytest.raises(CorruptFileError, match=f"{name} is not what was saved"):
        load_checkpoint(saved)


def test_a_missing_file_is_found_out(saved):
    (saved / "training" / "state.safetensors").unlink()
    with pytest.raises(CorruptFileError, match=r"training/state\.safetensors is missing"):
        load_checkpoint(saved)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"format": 2, "files": {}}', '{"format": 1}', "\ud800"])
def test_broken_notes_are_a_corrupt_file(saved, text):
    (saved / "pellucid.json").write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(CorruptFileError):
        load_checkpoint(saved)


@pytest.mark.parametrize(
    ("changes", "kind", "words"),
    [
        ({"model_type": "mamba"}, ModelError, "supported: qwen3, llama"),
        ({"rope_scaling": {"rope_type": "longrope", "factor": 4.0}}, ModelError, "rope_scaling"),
        ({"rope_scaling": {"rope_type": "yarn", "factor": 4.0, "truncate": False}}, ModelError, "truncate"),
        ({"rope_scaling": {"rope_type": "yarn"}}, ModelError, "lacks factor"),
        ({"rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "factor": 2}}, ModelError, "rope_scaling"),
        ({"use_sliding_window": True}, ModelError, "use_sliding_window"),
        ({"layer_types": ["full_attention", "sliding_attention"]}, ModelError, "layer_types"),
        ({"use_sliding_window": True, "sliding_window": 4, "layer_types": ["sliding_attention"]}, ModelError, "layer_types"),
        ({"use_sliding_window": True, "sliding_window": 4, "layer_types": ["chunked_attention"] * 2}, ModelError, "layer_types"),
        ({"hidden_act": "gelu"}, ModelError, "hidden_act"),
        ({"attention_multiplier": 0.5}, ModelError, "attention_multiplier=0.5"),
        ({"quantization_config": {"bits": 4}}, ModelError, "quantization_config"),
        ({"hidden_size": None}, ModelError, "lacks hidden_size"),
        ({"hidden_size": "20"}, ModelError, "hidden_size"),
        ({"tie_word_embeddings": 1}, ModelError, "tie_word_embeddings"),
        ({"num_key_value_heads": 2}, ModelError, "multiple"),
        ({"num_key_value_heads": 0}, CorruptFileError, "n_kv_heads"),
        ({"num_attention_heads": 0}, CorruptFileError, "n_heads"),
        ({"num_hidden_layers": 4_000}, WeightsError, "more layers"),
        ({"num_hidden_layers": 10**9}, CorruptFileError, "n_layers must be at most"),
        ({"num_hidden_layers": 3}, WeightsError, "missing: model.layers.2.input_layernorm.weight"),
        ({"num_hidden_layers": 1}, WeightsError, "left over: model.layers.1."),
        ({"vocab_size": 38}, WeightsError, "model.embed_tokens.weight is (37, 20) instead of (38, 20)"),
        ({"tie_word_embeddings": False}, WeightsError, "missing: lm_head.weight"),
        ({"model_type": "llama"}, WeightsError, "q_norm"),
    ],
)  # fmt: skip
def test_a_config_that_asks_for_something_else_is_an_error_that_names_it(saved, changes, kind, words):
    values = json.loads((saved / "config.json").read_text())
    if changes.get("model_type") == "llama":
        del values["use_sliding_window"]
        (saved / "config.json").write_text(json.dumps(values))
    edit_config(saved, **changes)
    with pytest.raises(kind) as caught:
        load_checkpoint(saved)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    "changes", [{"scale_attn_weights": False}, {"scale_attn_by_inverse_layer_idx": True}, {"n_head": 5}, {"activation_function": "relu"}]
)  # fmt: skip
def test_gpt2_variants_that_are_not_built_are_errors(tmp_path, config, changes):
    config = config.revise(**FAMILIES["gpt2"])
    save_checkpoint(tmp_path / "c", config=config, weights=random_weights(config), tokenizer=None, info={})
    edit_config(tmp_path / "c", **changes)
    with pytest.raises(ModelError, match=next(iter(changes))):
        load_checkpoint(tmp_path / "c")


def test_constants_of_old_files_and_a_repeated_head_are_passed_over(tmp_path, config):
    config = config.revise(**FAMILIES["gpt2"])
    weights = random_weights(config)
    save_checkpoint(tmp_path / "c", config=config, weights=weights, tokenizer=None, info={})
    edit_config(tmp_path / "c")
    from_disk = load_checkpoint(tmp_path / "c").weights
    path = tmp_path / "c" / "model.safetensors"

    def rewrite(**extra):
        tensors = {n: w.clone() for n, w in read_tensors(path).items()}
        path.write_bytes(b"".join(bytes(c) for c in serialize(tensors | extra)[1]))

    rewrite(
        **{"transformer.h.0.attn.bias": torch.ones(1, 1, 4, 4), "lm_head.weight": from_disk["embed.weight"].clone()}
    )
    assert all(torch.equal(load_checkpoint(tmp_path / "c").weights[n], w) for n, w in weights.items())
    rewrite(**{"lm_head.weight": torch.zeros_like(from_disk["embed.weight"])})
    with pytest.raises(WeightsError, match="head is tied"):
        load_checkpoint(tmp_path / "c")


def test_quantised_weights_are_refused_by_name(saved):
    edit_config(saved)
    path = saved / "model.safetensors"
    tensors = {n: w.clone() for n, w in read_tensors(path).items()}
    tensors["model.embed_tokens.weight"] = tensors["model.embed_tokens.weight"].to(torch.int8)
    path.write_bytes(b"".join(bytes(c) for c in serialize(tensors)[1]))
    with pytest.raises(WeightsError, match=r"model\.embed_tokens\.weight holds int8"):
        load_checkpoint(saved)


def test_a_pickle_is_not_opened(saved):
    edit_config(saved)
    (saved / "model.safetensors").rename(saved / "pytorch_model.bin")
    with pytest.raises(WeightsError, match="pickle") as caught:
        load_checkpoint(saved)
    assert "save_pretrained" in caught.value.hint


@pytest.mark.parametrize("file", ["../c/model.safetensors", "/etc/passwd", "gone.safetensors"])
def test_an_index_may_name_only_files_beside_it(saved, file):
    edit_config(saved)
    (saved / "model.safetensors").rename(saved / "part.safetensors")
    (saved / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": file}}))
    with pytest.raises(StoreError):
        load_checkpoint(saved)


@pytest.mark.parametrize("make", [lambda p: None, lambda p: p.mkdir(), lambda p: p.write_text("x")])
def test_what_is_no_checkpoint_is_described(tmp_path, make):
    make(tmp_path / "x")
    with pytest.raises(PellucidError, match="not a checkpoint"):
        load_checkpoint(tmp_path / "x")


# Stamps


def test_large_files_are_hashed_once_and_again_when_they_change(saved, monkeypatch):
    hashed = []
    original = verify.file_sha256
    monkeypatch.setattr(verify, "file_sha256", lambda path: hashed.append(path.name) or original(path))
    monkeypatch.setattr(stamps, "STAMP_ABOVE_BYTES", (saved / "model.safetensors").stat().st_size)
    for _ in range(3):
        verify_checkpoint(saved)
    assert hashed.count("model.safetensors") == 1 and hashed.count("config.json") == 3
    verify_checkpoint(saved, always=True)
    load_training(saved)
    assert hashed.count("model.safetensors") == 3
    data = bytearray((saved / "model.safetensors").read_bytes())
    data[-1] ^= 1
    (saved / "model.safetensors").write_bytes(data)
    with pytest.raises(CorruptFileError):
        verify_checkpoint(saved)


def test_where_the_cache_cannot_be_written_files_are_hashed_each_time(saved, tmp_path, monkeypatch):
    (tmp_path / "blocked").write_text("a file where the cache directory would be")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "blocked"))
    monkeypatch.setattr(stamps, "STAMP_ABOVE_BYTES", 0)
    hashed: list[str] = []
    original = verify.file_sha256
    monkeypatch.setattr(verify, "file_sha256", lambda path: hashed.append(path.name) or original(path))
    verify_checkpoint(saved)
    once = list(hashed)
    verify_checkpoint(saved)
    assert "model.safetensors" in once and hashed == once * 2


# No room


def test_a_full_disk_at_any_write_loses_nothing(saved, config, weights, monkeypatch):
    """Fail the first write, then the second …: each time the old checkpoint stays and loads."""
    before = {name: tensor.clone() for name, tensor in load_checkpoint(saved).weights.items()}
    newer = {name: tensor + 1 for name, tensor in weights.items()}
    original = os.write
    for number in itertools.count(1):
        calls = itertools.count(1)

        def write(descriptor, data, calls=calls, number=number):
            if next(calls) == number:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return original(descriptor, data)

        monkeypatch.setattr(os, "write", write)
        try:
            save_checkpoint(saved, config=config, weights=newer, tokenizer=None, info={})
            break
        except NoSpaceError as error:
            assert "bytes wanted" in error.found
        finally:
            monkeypatch.setattr(os, "write", original)
        assert [entry.name for entry in saved.parent.iterdir() if entry.name.startswith(".")] == []
        assert all(torch.equal(load_checkpoint(saved).weights[n], w) for n, w in before.items())
    assert number > 10  # the loop did fail writes before it came through
    assert all(torch.equal(load_checkpoint(saved).weights[n], w) for n, w in newer.items())


def test_a_limit_on_file_size_loses_nothing(saved, config, weights):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, limits[1]))
    try:
        with pytest.raises(NoSpaceError, match=r"no room to write model\.safetensors"):
            save_checkpoint(saved, config=config, weights=weights, tokenizer=None, info={})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    load_checkpoint(saved)


# Lineage


def test_lineage_names_every_ancestor(tmp_path, saved, config, weights):
    parent = load_checkpoint(saved)
    lineage = lineage_after(parent)
    save_checkpoint(tmp_path / "child", config=config, weights=weights, tokenizer=None, info={"lineage": lineage})
    grand = lineage_after(load_checkpoint(tmp_path / "child"))
    assert [entry["directory"] for entry in grand] == [str(saved), str(tmp_path / "child")]
    assert grand[0]["step"] == 7 and grand[0]["recipe"] == "x"
    assert grand[0]["weights_sha256"] == parent.info["files"]["model.safetensors"]


def test_a_copied_checkpoint_is_whole(saved, tmp_path):
    shutil.copytree(saved, tmp_path / "copy")
    assert load_checkpoint(tmp_path / "copy").info == load_checkpoint(saved).info
