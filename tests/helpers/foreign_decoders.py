"""Decoders of transformers, one or more of each family, at small and odd sizes."""

from __future__ import annotations

import transformers

NO_IDS = {"bos_token_id": None, "eos_token_id": None}
LLAMA_LIKE = {
    "vocab_size": 37, "hidden_size": 24, "intermediate_size": 44, "num_hidden_layers": 3, "num_attention_heads": 3,
    "num_key_value_heads": 1, "max_position_embeddings": 19, **NO_IDS,
}  # fmt: skip
GPT2_LIKE = {"vocab_size": 37, "n_embd": 24, "n_layer": 3, "n_head": 3, "n_positions": 19, **NO_IDS}
FOREIGN = {
    "gpt2": lambda: transformers.GPT2Config(**GPT2_LIKE, n_inner=31),
    "gpt2-untied-gelu": lambda: transformers.GPT2Config(
        **GPT2_LIKE, tie_word_embeddings=False, activation_function="gelu"
    ),
    "gpt2-relu2": lambda: transformers.GPT2Config(**GPT2_LIKE, activation_function="relu2"),
    "llama": lambda: transformers.LlamaConfig(**LLAMA_LIKE),
    "llama-tied-biases": lambda: transformers.LlamaConfig(
        **LLAMA_LIKE, tie_word_embeddings=True, attention_bias=True, mlp_bias=True, head_dim=10
    ),
    "llama3": lambda: transformers.LlamaConfig(
        **LLAMA_LIKE, head_dim=16,
        rope_parameters={
            "rope_type": "llama3", "rope_theta": 500.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
            "original_max_position_embeddings": 16,
        },
    ),
    "llama-linear": lambda: transformers.LlamaConfig(
        **LLAMA_LIKE, rope_parameters={"rope_type": "linear", "rope_theta": 777.0, "factor": 4.0}
    ),
    "qwen3-window": lambda: transformers.Qwen3Config(
        **LLAMA_LIKE, head_dim=10, use_sliding_window=True, sliding_window=5, max_window_layers=0
    ),
    "qwen3-window-from-a-layer": lambda: transformers.Qwen3Config(
        **LLAMA_LIKE, use_sliding_window=True, sliding_window=5, max_window_layers=1
    ),
    "qwen2-windows": lambda: transformers.Qwen2Config(
        **LLAMA_LIKE, use_sliding_window=True, sliding_window=3,
        layer_types=["sliding_attention", "full_attention", "sliding_attention"],
    ),
    "qwen2": lambda: transformers.Qwen2Config(**LLAMA_LIKE, tie_word_embeddings=False),
    "qwen3": lambda: transformers.Qwen3Config(**LLAMA_LIKE, head_dim=10, tie_word_embeddings=True),
    "qwen3-untied-biases": lambda: transformers.Qwen3Config(
        **LLAMA_LIKE, head_dim=6, tie_word_embeddings=False, attention_bias=True,
        rope_parameters={"rope_type": "default", "rope_theta": 777.0},
    ),
    "mistral": lambda: transformers.MistralConfig(**LLAMA_LIKE, sliding_window=5),
    "mistral-no-window": lambda: transformers.MistralConfig(**LLAMA_LIKE, sliding_window=None, head_dim=10),
    "gemma2": lambda: transformers.Gemma2Config(
        **LLAMA_LIKE, head_dim=10, sliding_window=5, query_pre_attn_scalar=24, attn_logit_softcapping=2.0,
        final_logit_softcapping=3.0,
    ),
    "gemma2-without-caps": lambda: transformers.Gemma2Config(
        **LLAMA_LIKE, head_dim=8, sliding_window=4, attn_logit_softcapping=None, final_logit_softcapping=None,
        attention_bias=True,
    ),
    "gemma3": lambda: transformers.Gemma3TextConfig(
        **LLAMA_LIKE, head_dim=10, sliding_window=5, query_pre_attn_scalar=7,
        layer_types=["sliding_attention", "full_attention", "sliding_attention"],
    ),
    "gemma3-linear": lambda: transformers.Gemma3TextConfig(
        **LLAMA_LIKE, head_dim=8, sliding_window=4, final_logit_softcapping=9.0,
        layer_types=["sliding_attention", "sliding_attention", "full_attention"],
        rope_parameters={
            "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 500.0},
            "sliding_attention": {"rope_type": "default", "rope_theta": 77.0},
        },
    ),
    "smollm3": lambda: transformers.SmolLM3Config(**LLAMA_LIKE, no_rope_layers=[1, 0, 1], pad_token_id=None),
    "smollm3-windows": lambda: transformers.SmolLM3Config(
        **LLAMA_LIKE, no_rope_layer_interval=2, use_sliding_window=True, sliding_window=4, attention_bias=True,
        pad_token_id=None,
    ),
    "mixtral": lambda: transformers.MixtralConfig(**LLAMA_LIKE, num_local_experts=5, num_experts_per_tok=2),
    "mixtral-window-one-expert": lambda: transformers.MixtralConfig(
        **LLAMA_LIKE, num_local_experts=3, num_experts_per_tok=1, head_dim=10, sliding_window=6
    ),
    "qwen3-moe": lambda: transformers.Qwen3MoeConfig(
        **LLAMA_LIKE, num_experts=6, num_experts_per_tok=3, moe_intermediate_size=12, head_dim=10
    ),
    "qwen3-moe-some-dense": lambda: transformers.Qwen3MoeConfig(
        **LLAMA_LIKE, num_experts=4, num_experts_per_tok=2, moe_intermediate_size=12, norm_topk_prob=True,
        mlp_only_layers=[1], tie_word_embeddings=True,
    ),
}  # fmt: skip
