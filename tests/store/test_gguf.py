"""GGUF files in and out, held against the format's reference library and against transformers' own reader."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from gguf_files import SHAPES, SIZES, STRETCHED, TOKENIZER, config_of, rewritten, weights_of, written
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.modeling_gguf_pytorch_utils import load_gguf_checkpoint

import pellucid
from pellucid.errors import CorruptFileError, ModelError, StoreError, WeightsError
from pellucid.events import MemoryRecorder
from pellucid.planning.config import ModelConfig
from pellucid.store.checkpoint import load_model
from pellucid.store.gguf import load_gguf, save_gguf
from pellucid.store.gguf_header import read_header
from pellucid.store.quantize import BY_NAME, dequantize, quantize
from pellucid.tokens.formats.find import is_gguf
from pellucid.tokens.train import train_bpe

LLAMA = SHAPES["llama"] | {"qkv_bias": True, "output_bias": True, "mlp_bias": True}
FORMATS = {"f32": 0.0, "f16": 2.0**-11, "bf16": 2.0**-8}  # the largest relative rounding


def logits(model: torch.nn.Module, ids: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        out = model(ids)
    return out.logits_BTV if hasattr(out, "logits_BTV") else out.logits


@pytest.mark.parametrize("shape", [*SHAPES, *STRETCHED])
@pytest.mark.parametrize("number_format", FORMATS)
def test_what_is_written_is_read_back(tmp_path: Path, shape: str, number_format: str) -> None:
    config, path = config_of(shape), tmp_path / "m.gguf"
    weights = written(path, config, number_format)
    read = load_gguf(path)
    assert (read.config.__dict__ | {"init": None}) == (config.__dict__ | {"init": None})
    assert read.tokenizer.sha256 and read.tokenizer.encode("the 猫 sat").ids == TOKENIZER.encode("the 猫 sat").ids
    assert set(read.weights) == set(weights) and read.dtype == read.weights["embed.weight"].dtype
    for name, weight in weights.items():
        one = float(
            config.norm.one_plus and name.endswith("norm.weight")
        )  # such a file holds the sum, which comes back
        found = read.weights[name].float() + one
        torch.testing.assert_close(found, weight + one, rtol=FORMATS[number_format], atol=1e-7 * (1 - one), msg=name)


@pytest.mark.parametrize("shape", SHAPES)
def test_transformers_reads_the_same_model(tmp_path: Path, shape: str) -> None:
    written(tmp_path / "m.gguf", config_of(shape))
    ids = torch.tensor([[5, 99, 256, 7, 280, 31]])
    unread: dict[str, dict[str, Any]] = {  # it has no words for these keys
        "qwen3": {"head_dim": 16}, "gpt2": {"n_positions": 24, "n_inner": 96}, "gemma3": {"query_pre_attn_scalar": 16},
        "gemma2": {"query_pre_attn_scalar": 16, "attn_logit_softcapping": 5.0, "final_logit_softcapping": 7.0},
    }  # fmt: skip
    config = AutoConfig.from_pretrained(tmp_path, gguf_file="m.gguf", **unread.get(shape, {}))
    theirs = AutoModelForCausalLM.from_config(config).eval()
    tensors = load_gguf_checkpoint(str(tmp_path / "m.gguf"), return_tensors=True, model_to_load=theirs)["tensors"]
    left = theirs.load_state_dict(tensors, strict=False)
    assert not left.unexpected_keys and set(left.missing_keys) <= {"lm_head.weight"}
    theirs.tie_weights()
    ours = load_model(load_gguf(tmp_path / "m.gguf")).eval()
    torch.testing.assert_close(logits(ours, ids), logits(theirs, ids), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("axes", [LLAMA, SHAPES["gpt2"]], ids=["llama", "gpt2"])
def test_the_reference_library_finds_the_same_values_and_numbers(tmp_path: Path, axes: dict[str, Any]) -> None:
    config = ModelConfig.from_axes(**{**SIZES, **axes})
    weights = written(tmp_path / "m.gguf", config, "q8_0")
    reader = gguf.GGUFReader(tmp_path / "m.gguf")
    ours = read_header(tmp_path / "m.gguf")
    assert {name for name in reader.fields if not name.startswith("GGUF.")} == set(ours.values)
    for name, value in ours.values.items():
        theirs = reader.fields[name].contents()
        assert theirs == pytest.approx(value) if isinstance(value, float) else list_of(theirs) == list_of(value)
    tensors = {tensor.name: tensor for tensor in reader.tensors}
    assert set(tensors) == set(ours.tensors)
    embedding = gguf.dequantize(tensors["token_embd.weight"].data, gguf.GGMLQuantizationType.Q8_0)
    step = np.abs(weights["embed.weight"].numpy()).reshape(-1, 32).max(1).repeat(32).reshape(embedding.shape) / 127
    # Half a step of rounding, and the scale itself is rounded to 11 bits.
    assert (np.abs(embedding - weights["embed.weight"].numpy()) <= step * (0.5 + 127 * 2.0**-11)).all()
    for tensor in reader.tensors:
        assert tensor.data_offset == ours.tensors[tensor.name].offset
        assert tensor.tensor_type.name == ours.tensors[tensor.name].form.name


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("number_format", [*FORMATS, "q8_0"])
def test_the_library_writes_the_same_bytes(tmp_path: Path, shape: str, number_format: str) -> None:
    """Our writer's twin: the same values and tensors, given to the reference library."""
    config, path = config_of(shape), tmp_path / "m.gguf"
    written(path, config, number_format)
    header, reader = read_header(path), gguf.GGUFReader(path)
    writer = gguf.GGUFWriter(tmp_path / "theirs.gguf", str(header.values["general.architecture"]))
    for field in reader.fields.values():
        if not field.name.startswith(("GGUF.", "general.architecture")):
            writer.add_key_value(field.name, field.contents(), field.types[0], sub_type=field.types[-1])
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    assert (tmp_path / "theirs.gguf").read_bytes() == path.read_bytes()


def test_a_tokenizer_without_merges_survives(tmp_path: Path) -> None:
    """The library refuses to write an empty list; a tokenizer that has a token for each byte and no more needs one."""
    tokenizer = train_bpe(["a"], 258, specials="none")
    config, weights = config_of("qwen3", vocab_size=258), weights_of(config_of("qwen3", vocab_size=258))
    save_gguf(
        tmp_path / "m.gguf", config=config, weights=weights, tokenizer=tokenizer, number_format="f32", name="trial"
    )
    assert load_gguf(tmp_path / "m.gguf").tokenizer.encode("猫 sat").ids == tokenizer.encode("猫 sat").ids


def list_of(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.ndarray) else value


@pytest.mark.parametrize("form", ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "F16", "BF16", "F32"])
def test_blocks_are_unpacked_as_the_library_packs_them(form: str) -> None:
    x = torch.randn(7, 64, generator=torch.Generator().manual_seed(1))
    raw = gguf.quantize(x.numpy(), gguf.GGMLQuantizationType[form]).view(np.uint8)
    expected = gguf.dequantize(raw, gguf.GGMLQuantizationType[form])
    np.testing.assert_array_equal(dequantize(raw, BY_NAME[form]).float().numpy(), expected)
    if form in ("F32", "F16", "BF16", "Q8_0"):
        np.testing.assert_array_equal(quantize(x, BY_NAME[form]).numpy(), raw)


def test_a_foreign_quantised_file_with_a_tokenizer_is_a_language_model(tmp_path: Path) -> None:
    """Written by the reference library alone, Q4_1 with a Q8_0 embedding, as real files are."""
    config, path = config_of("qwen2", tied_head=True), tmp_path / "foreign.gguf"
    written(tmp_path / "ours.gguf", config)
    source = gguf.GGUFReader(tmp_path / "ours.gguf")
    writer = gguf.GGUFWriter(path, "qwen2")
    for field in source.fields.values():
        if not field.name.startswith(("GGUF.", "general.architecture")):
            writer.add_key_value(field.name, field.contents(), field.types[0], sub_type=field.types[-1])
    for tensor in source.tensors:
        kind = gguf.GGMLQuantizationType.F32 if tensor.data.ndim == 1 else gguf.GGMLQuantizationType.Q4_1
        kind = gguf.GGMLQuantizationType.Q8_0 if tensor.name == "token_embd.weight" else kind
        writer.add_tensor(tensor.name, gguf.quantize(tensor.data, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    recorder = MemoryRecorder()
    lm = pellucid.load(path, device="cpu", recorder=recorder)
    assert lm.config == load_gguf(tmp_path / "ours.gguf").config and lm.checkpoint.dtype == torch.float32
    assert lm.complete("the cat", temperature=0, max_new_tokens=3).ids
    assert "store.gguf_read" in recorder.names()


def test_the_blocks_of_real_files_are_the_libraries_numbers_in_our_places(tmp_path: Path) -> None:
    """A mix as llama.cpp's own tool makes it: each matrix in another format, queries and keys with their rows exchanged."""
    config = config_of("llama", d_model=256, d_ff=256, head_dim=64)
    written(tmp_path / "plain.gguf", config)
    draw, forms = np.random.default_rng(5), iter(("Q6_K", "Q4_K", "Q5_K", "Q3_K", "Q2_K", "IQ4_XS", "IQ4_NL", "Q5_1"))
    tensors: dict[str, tuple[np.ndarray, str]] = {}
    for tensor in gguf.GGUFReader(tmp_path / "plain.gguf").tensors:
        if tensor.data.ndim == 2 and not tensor.name.startswith("blk.1."):
            form = next(forms)
            row = BY_NAME[form].num_bytes(tensor.data.shape[1])
            tensors[tensor.name] = draw.integers(0, 60, (tensor.data.shape[0], row), dtype=np.uint8), form
    weights = load_gguf(rewritten(tmp_path / "plain.gguf", tmp_path / "mixed.gguf", tensors=tensors)).weights
    theirs = {name: gguf.dequantize(raw, gguf.GGMLQuantizationType[form]) for name, (raw, form) in tensors.items()}
    embedding, query = theirs["token_embd.weight"], theirs["blk.0.attn_q.weight"]
    np.testing.assert_array_equal(weights["embed.weight"].numpy(), embedding)
    np.testing.assert_array_equal(weights["blocks.0.mlp.up.weight"].numpy(), theirs["blk.0.ffn_up.weight"])
    halves = query.reshape(config.n_heads, 32, 2, 256).transpose(0, 2, 1, 3).reshape(256, 256)
    np.testing.assert_array_equal(weights["blocks.0.attention.query.weight"].numpy(), halves)
    assert len(theirs) == 8 and load_model(load_gguf(tmp_path / "mixed.gguf")).embed.weight.dtype == torch.float32


def test_bf16_stays_bf16_only_where_nothing_is_lost(tmp_path: Path) -> None:
    config = config_of("qwen3")
    rounded = {name: weight.bfloat16().float() for name, weight in weights_of(config).items()}
    for weights, dtype in ((rounded, torch.bfloat16), (weights_of(config), torch.float32)):
        path = tmp_path / f"{dtype}.gguf"
        save_gguf(path, config=config, weights=weights, tokenizer=TOKENIZER, number_format="bf16", name="x")
        read = load_gguf(path)
        assert read.dtype == dtype and load_model(read).embed.weight.dtype == dtype
        torch.testing.assert_close(
            read.weights["final_norm.weight"].float(), weights["final_norm.weight"], rtol=0, atol=0
        )


def test_rows_that_are_not_whole_blocks_are_kept_and_said(tmp_path: Path) -> None:
    recorder = MemoryRecorder()
    config = config_of("qwen3", d_ff=40)
    written(tmp_path / "m.gguf", config, "q8_0", recorder=recorder)
    forms = {name: tensor.form.name for name, tensor in read_header(tmp_path / "m.gguf").tensors.items()}
    assert forms["blk.0.ffn_down.weight"] == "F16" and forms["blk.0.ffn_up.weight"] == "Q8_0"
    assert recorder.names().count("store.gguf_not_quantized") == config.n_layers


def test_numbers_beyond_the_format_are_refused(tmp_path: Path) -> None:
    config = config_of("qwen3")
    weights = weights_of(config)
    weights["embed.weight"][0, 0] = 1e6
    with pytest.raises(StoreError, match="beyond the range of F16"):
        save_gguf(
            tmp_path / "m.gguf", config=config, weights=weights, tokenizer=TOKENIZER, number_format="f16", name="x"
        )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "axes", [{"feed_forward": "relu2"}, {"position": "none"}, {"qkv_bias": True, "output_bias": True}]
)
def test_what_llama_cpp_cannot_compute_is_not_written(tmp_path: Path, axes: dict[str, Any]) -> None:
    with pytest.raises(ModelError, match="no GGUF architecture"):
        written(tmp_path / "m.gguf", ModelConfig.from_axes(**SIZES, **axes))


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"general__architecture": "mamba"}, ModelError, "not supported"),
        ({"qwen3__rope__scaling__type": "longrope"}, ModelError, "rope.scaling.type=longrope"),
        ({"qwen3__rope__scaling__type": "yarn"}, CorruptFileError, "rope.scaling.factor"),
        ({"qwen3__rope__scaling__type": 3}, CorruptFileError, "rope.scaling.type"),
        ({"qwen3__rope__scaling__factor": 2.0}, ModelError, "rope.scaling.factor=2.0"),
        ({"qwen3__attention__sliding_window": 128}, ModelError, "sliding_window=128"),
        ({"qwen3__logit_scale": 0.5}, ModelError, "meaning is not known"),
        ({"qwen3__block_count": 3}, WeightsError, "not those of the model"),
        ({"qwen3__block_count": 4000}, CorruptFileError, "more layers than it has tensors"),
        ({"qwen3__block_count": 2**31}, CorruptFileError, "n_layers must be at most"),
        ({"qwen3__context_length": 2**31}, CorruptFileError, "context_length must be at most"),
        ({"qwen3__attention__head_count": 0}, CorruptFileError, "head_count"),
        ({"qwen3__attention__head_count_kv": 3}, CorruptFileError, "make no sense"),
        ({"qwen3__feed_forward_length": 95}, WeightsError, "instead of"),
        ({"qwen3__rope__freq_base": math.nan}, CorruptFileError, "freq_base is not a number that can be used"),
        ({"drop": "qwen3.embedding_length"}, CorruptFileError, "lacks qwen3.embedding_length"),
        ({"drop": "blk.1.ffn_up.weight"}, WeightsError, "missing: blk.1.ffn_up.weight"),
        ({"drop": "token_embd.weight"}, CorruptFileError, "no token_embd.weight"),
    ],
)  # fmt: skip
def test_files_that_describe_another_model_are_refused(
    tmp_path: Path, changes: dict[str, Any], error: type[Exception], message: str
) -> None:
    written(tmp_path / "m.gguf", config_of("qwen3"))
    with pytest.raises(error) as refused:
        load_gguf(rewritten(tmp_path / "m.gguf", tmp_path / "changed.gguf", **changes))
    assert message in str(refused.value)


def test_a_gguf_file_is_known_by_its_name_or_its_first_bytes(tmp_path: Path) -> None:
    written(tmp_path / "m.gguf", config_of("qwen3"))
    (tmp_path / "m.gguf").rename(tmp_path / "blob")
    (tmp_path / "empty.gguf").write_bytes(b"")
    (tmp_path / "text").write_text("GG")
    assert is_gguf(tmp_path / "blob") and is_gguf(tmp_path / "empty.gguf")
    assert not is_gguf(tmp_path / "text") and not is_gguf(tmp_path)
    with pytest.raises(StoreError, match="cannot be read"):
        load_gguf(tmp_path / "empty.gguf")
    with pytest.raises(StoreError, match="no model is here"):
        pellucid.load(tmp_path / "absent.gguf")
