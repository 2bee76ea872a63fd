"""config.json files as people publish them: each is read to the figures that its authors state, or refused for a reason.

Counts of parameters are those that the models' pages state, where they state them. What is opened has the file's own keys
and small sizes.
"""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from public_configs import FILES
from safetensors.torch import save_file

from pellucid.errors import ModelError
from pellucid.planning.config import ModelConfig
from pellucid.planning.params import parameter_shapes
from pellucid.planning.parts.attention import SlidingWindow
from pellucid.planning.parts.feed_forward import Experts
from pellucid.planning.parts.position import Llama3Scaling, Rotary
from pellucid.store.names.family import to_foreign
from pellucid.store.names.registry import read_config
from pellucid.store.open import open_checkpoint

READ = {  # family, layers, width, heads, key heads, width of a head, of the feed-forward, tokens, positions, tied, parameters
    "ALLaM-7B-Instruct-preview": ("llama", 32, 4096, 32, 32, 128, 11008, 64_000, 4_096, False, 7_000_559_616),
    "Llama-2-7b (2,048 positions)": ("llama", 32, 4096, 32, 32, 128, 11008, 32_000, 2_048, False, 6_738_415_616),
    "Llama-3.1-70B-Instruct": ("llama", 80, 8192, 64, 8, 128, 28672, 128_256, 131_072, False, 70_553_706_496),
    "Llama-3.1-8B": ("llama", 32, 4096, 32, 8, 128, 14336, 128_256, 131_072, False, 8_030_261_248),
    "Llama-3.2-1B-Instruct": ("llama", 16, 2048, 32, 8, 64, 8192, 128_256, 131_072, True, 1_235_814_400),
    "Llama-3.2-3B": ("llama", 28, 3072, 24, 8, 128, 8192, 128_256, 131_072, True, 3_212_749_824),
    "Meta-Llama-3-8B-Instruct": ("llama", 32, 4096, 32, 8, 128, 14336, 128_256, 8_192, False, 8_030_261_248),
    "Mistral-7B-Instruct-v0.3": ("mistral", 32, 4096, 32, 8, 128, 14336, 32_768, 32_768, False, 7_248_023_552),
    "Mistral-Nemo-Base-2407": ("mistral", 40, 5120, 32, 8, 128, 14336, 131_072, 128_000, False, 12_247_782_400),
    "Mixtral-8x7B (32 key heads)": ("mixtral", 32, 4096, 32, 32, 128, 14336, 32_000, 4_096, False, 47_508_099_072),
    "ModernBERT-base": ("modernbert", 22, 768, 12, 12, 64, 1152, 50_368, 8_192, True, 149_606_402),
    "Multilingual-MiniLM-L12-H384": ("bert", 12, 384, 12, 12, 32, 1536, 250_037, 512, True, 117_904_565),
    "Qwen2-0.5B": ("qwen2", 24, 896, 14, 2, 64, 4864, 151_936, 131_072, True, 494_032_768),
    "Qwen2.5-0.5B": ("qwen2", 24, 896, 14, 2, 64, 4864, 151_936, 32_768, True, 494_032_768),
    "Qwen2.5-14B": ("qwen2", 48, 5120, 40, 8, 128, 13824, 152_064, 131_072, False, 14_770_033_664),
    "Qwen2.5-32B": ("qwen2", 64, 5120, 40, 8, 128, 27648, 152_064, 131_072, False, 32_763_876_352),
    "Qwen2.5-3B": ("qwen2", 36, 2048, 16, 2, 128, 11008, 151_936, 32_768, True, 3_085_938_688),
    "Qwen2.5-7B-Instruct": ("qwen2", 28, 3584, 28, 4, 128, 18944, 152_064, 32_768, False, 7_615_616_512),
    "Qwen3-1.7B": ("qwen3", 28, 2048, 16, 8, 128, 6144, 151_936, 40_960, True, 1_720_574_976),
    "Qwen3-14B": ("qwen3", 40, 5120, 40, 8, 128, 17408, 151_936, 40_960, False, 14_768_307_200),
    "Qwen3-30B-A3B": ("qwen3_moe", 48, 2048, 32, 4, 128, 6144, 151_936, 40_960, False, 30_532_122_624),
    "Qwen3-32B": ("qwen3", 64, 5120, 64, 8, 128, 25600, 151_936, 40_960, False, 32_762_123_264),
    "Qwen3-4B": ("qwen3", 36, 2560, 32, 8, 128, 9728, 151_936, 40_960, True, 4_022_468_096),
    "Qwen3-8B": ("qwen3", 36, 4096, 32, 8, 128, 12288, 151_936, 40_960, False, 8_190_735_360),
    "Qwen3-8B (base)": ("qwen3", 36, 4096, 32, 8, 128, 12288, 151_936, 40_960, False, 8_190_735_360),
    "Qwen3-Embedding-0.6B": ("qwen3", 28, 1024, 16, 8, 128, 3072, 151_669, 32_768, True, 595_776_512),
    "SmolLM2-135M": ("llama", 30, 576, 9, 3, 64, 1536, 49_152, 8_192, True, 134_515_008),
    "SmolLM2-360M (one token more)": ("llama", 32, 960, 15, 5, 64, 2560, 49_153, 8_192, True, 361_822_080),
    "TinyLlama-1.1B-Chat-v1.0": ("llama", 22, 2048, 32, 4, 64, 5632, 32_000, 2_048, False, 1_100_048_384),
    "Yi-34B": ("llama", 60, 7168, 56, 8, 128, 20480, 64_000, 4_096, False, 34_388_917_248),
    "all-MiniLM-L6-v2": ("bert", 6, 384, 12, 12, 32, 1536, 30_522, 512, True, 22_713_216),
    "bert-base-chinese": ("bert", 12, 768, 12, 12, 64, 3072, 21_128, 512, True, 102_290_312),
    "bert-base-multilingual-uncased": ("bert", 12, 768, 12, 12, 64, 3072, 105_879, 512, True, 167_463_831),
    "bert-base-uncased (50,265 tokens)": ("bert", 12, 768, 12, 12, 64, 3072, 50_265, 512, True, 124_696_665),
    "bge-m3": ("xlm-roberta", 24, 1024, 16, 16, 64, 4096, 250_002, 8_192, True, 567_754_752),
    "bge-small-zh-v1.5": ("bert", 4, 512, 8, 8, 64, 2048, 21_128, 512, True, 23_953_920),
    "codet5-base": ("t5", 12, 768, 12, 12, 64, 3072, 32_100, 512, True, 222_882_048),
    "distilgpt2": ("gpt2", 6, 768, 12, 12, 64, 3072, 50_257, 1_024, True, 81_912_576),
    "flan-t5-large": ("t5", 24, 1024, 16, 16, 64, 2816, 32_128, 512, False, 783_150_080),
    "flan-t5-small": ("t5", 8, 512, 6, 6, 64, 1024, 32_128, 512, False, 76_961_152),
    "gemma-2-9b-it": ("gemma2", 42, 3584, 16, 8, 256, 14336, 256_000, 8_192, True, 9_241_705_984),
    "gemma-2-9b-it (thunder)": ("gemma2", 42, 3584, 16, 8, 256, 14336, 256_000, 8_192, True, 9_241_705_984),
    "gemma-3-1b-it": ("gemma3_text", 26, 1152, 4, 1, 256, 6912, 262_144, 32_768, True, 999_885_952),
    "gpt2": ("gpt2", 12, 768, 12, 12, 64, 3072, 50_257, 1_024, True, 124_439_808),
    "gpt2-chinese (3,096 positions)": ("gpt2", 12, 768, 12, 12, 64, 3072, 21_128, 3_096, True, 103_660_032),
    "gpt2-large": ("gpt2", 36, 1280, 20, 20, 64, 5120, 50_257, 1_024, True, 774_030_080),
    "gpt2-medium (32,000 tokens)": ("gpt2", 24, 1024, 16, 16, 64, 4096, 32_000, 1_024, True, 336_128_000),
    "opus-mt-en-zh": ("marian", 6, 512, 8, 8, 64, 2048, 65_001, 512, True, 77_484_009),
    "opus-mt-zh-en": ("marian", 6, 512, 8, 8, 64, 2048, 65_001, 512, True, 77_484_009),
    "phobert-base": ("roberta", 12, 768, 12, 12, 64, 3072, 64_001, 256, True, 134_998_272),
    "t5-small": ("t5", 6, 512, 8, 8, 64, 2048, 32_128, 512, True, 60_506_624),
}  # fmt: skip
REFUSED = {
    "DeepSeek-R1-Distill-Qwen-1.5B": ("auto_map={'AutoModel': 'modeling_qwen2", "supported: auto_map=None or {}"),
    "ModernBERT-large (own code)": ("a kind of model that is not supported", "model_type='mymodernbert'"),
    "Olmo-3.1-32B-Instruct": ("a kind of model that is not supported", "model_type='olmo3'"),
    "Qwen2.5-VL-7B-Instruct": ("a kind of model that is not supported", "model_type='qwen2_5_vl'"),
    "gemma-3-27b-it": ("a kind of model that is not supported", "['Gemma3ForConditionalGeneration']"),
    "bert-base-chinese (old)": ("a kind of model that is not supported", "model_type=None, architectures=None"),
    "roberta-base (old)": ("a kind of model that is not supported", "model_type=None, architectures=None"),
}

SMALL = {  # sizes in the names of all families
    **dict.fromkeys(("num_hidden_layers", "n_layer", "num_layers", "num_decoder_layers", "encoder_layers", "decoder_layers"), 2),
    **dict.fromkeys(("hidden_size", "n_embd", "d_model"), 24),
    **dict.fromkeys(("num_attention_heads", "n_head", "num_heads", "encoder_attention_heads", "decoder_attention_heads"), 4),
    **dict.fromkeys(("intermediate_size", "d_ff", "encoder_ffn_dim", "decoder_ffn_dim", "moe_intermediate_size"), 31),
    **dict.fromkeys(("max_position_embeddings", "n_positions", "n_ctx"), 19),
    **dict.fromkeys(("sliding_window", "sliding_window_size"), 5),
    **dict.fromkeys(("num_local_experts", "num_experts"), 9),
    "vocab_size": 37, "num_key_value_heads": 2, "head_dim": 6, "d_kv": 6,
}  # fmt: skip


def read(name: str) -> tuple[str, ModelConfig]:
    """The family and the axes of one of the files."""
    family, config = read_config(FILES[name]["config"], FILES[name]["source"])
    return family.model_type, config


def test_every_file_has_its_source_and_its_outcome():
    assert READ.keys() | REFUSED.keys() == FILES.keys() and not READ.keys() & REFUSED.keys()
    assert all(len(file["source"].split()) >= 2 and "/" in file["source"] for file in FILES.values())


@pytest.mark.parametrize("name", READ)
def test_it_is_read_to_the_figures_of_its_authors(name):
    family, config = read(name)
    num_parameters = sum(math.prod(shape) for shape in parameter_shapes(config).values())
    found = (
        family, config.n_layers, config.d_model, config.n_heads, config.n_kv_heads, config.head_dim, config.d_ff,
        config.vocab_size, config.context_length, config.tied_head, num_parameters,
    )  # fmt: skip
    assert found == READ[name]


@pytest.mark.parametrize("name", READ)
def test_a_directory_with_its_keys_opens_as_other_programs_keep_it(name, tmp_path):
    """Links to files named by their hashes, beside what is not ours to read."""
    values = {key: SMALL[key] if key in SMALL and told else told for key, told in FILES[name]["config"].items()}
    values |= {"layer_types": values["layer_types"][:2]} if "layer_types" in values else {}
    family, config = read_config(values, name)
    generator = torch.Generator().manual_seed(1)
    weights = {key: torch.randn(shape, generator=generator) for key, shape in parameter_shapes(config).items()}
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshots" / "f00d"
    blobs.mkdir(), snapshot.mkdir(parents=True)
    (blobs / "1").write_text(json.dumps(values), encoding="utf-8")
    tensors = to_foreign(family, config, weights)
    save_file({key: tensor.contiguous().clone() for key, tensor in tensors.items()}, blobs / "2")
    (snapshot / "config.json").symlink_to(Path("../../blobs/1"))
    (snapshot / "model.safetensors").symlink_to(Path("../../blobs/2"))
    (snapshot / "README.md").write_text("about it"), (snapshot / "pytorch_model.bin").write_text("a pickle")
    opened = open_checkpoint(snapshot)
    assert opened.config == config and (config.n_layers, config.d_model, config.vocab_size) == (2, 24, 37)
    assert all(torch.equal(opened.weights[key], tensor) for key, tensor in weights.items())


@pytest.mark.parametrize("name", REFUSED)
def test_it_is_refused_for_its_reason(name):
    with pytest.raises(ModelError) as caught:
        read(name)
    assert all(words in str(caught.value) for words in REFUSED[name])
    assert FILES[name]["source"] in caught.value.where


def test_what_makes_each_family_itself_is_there():
    llama, gemma, modern = (read(name)[1] for name in ("Llama-3.1-8B", "gemma-3-1b-it", "ModernBERT-base"))
    assert isinstance(llama.position, Rotary) and llama.position.theta == 500_000
    assert llama.position.scaling == Llama3Scaling(
        factor=8.0, low_frequency=1.0, high_frequency=4.0, original_context=8192
    )
    assert isinstance(gemma.position, Rotary) and isinstance(modern.position, Rotary)
    assert (gemma.position.theta, gemma.position.window_theta) == (1_000_000, 10_000)
    assert gemma.attention.window == SlidingWindow(size=512, layers=tuple(i for i in range(26) if i % 6 != 5))
    assert (modern.position.theta, modern.position.window_theta) == (160_000, 10_000)
    assert modern.attention.window == SlidingWindow(
        size=65, layers=tuple(i for i in range(22) if i % 3), both_sides=True
    )
    experts = read("Qwen3-30B-A3B")[1].feed_forward.experts
    assert experts == Experts(count=128, active=8, width=768, normalised=True, layers=None, balance=0.001)
    gemma2 = read("gemma-2-9b-it")[1]
    assert (gemma2.attention.softcap, gemma2.head.softcap, gemma2.attention.scale) == (50, 30, 224**-0.5)
    assert [read(name)[1].head.scaled for name in ("t5-small", "flan-t5-small")] == [True, False]
    assert read("bge-m3")[1].position.first == read("phobert-base")[1].position.first == 2
    marian = read("opus-mt-zh-en")[1]
    assert marian.encoder is not None and marian.encoder.n_layers == 6 and marian.embedding.scaled
    assert (marian.feed_forward.kind, read("codet5-base")[1].feed_forward.kind) == ("silu", "relu")
