"""Keys of a config.json that change no number of the model, and why; every other key is read, or stops the loading.

Two kinds. Some say nothing about the computation, whatever their value: names, training, what a text is generated with.
Others ask for arithmetic that is not built here unless they have one value, and are accepted at exactly that value. What
only one family's files have stands beside that family.

Source: the configuration classes of transformers 4 and 5 (`PretrainedConfig` and `GenerationConfig`), and public files.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

REASONS: Mapping[str, str] = {  # why -> the keys
    "names, versions and notes of the programs that wrote the file": """
        _name_or_path name_or_path _commit_hash architectures model_type tokenizer_class transformers_version
        internal_version unsloth_fixed unsloth_version""",
    "what other programs do with the file": """
        transformers.js_config move_model_to_device selective_checkpoint_enabled sequence_parallel_enabled""",
    "the weights say themselves of which type they are": "dtype torch_dtype use_bfloat16",
    "ids of tokens: what they are for is settled with the tokenizer's roles, not in the network": """
        bos_token_id cls_token_id decoder_start_token_id eos_token_id mask_token_id pad_token_id sep_token_id
        unk_token_id""",
    "the labels of a classifier, which its family reads and no other model has": """
        _num_labels classif_dropout classifier_dropout finetuning_task id2label label2id num_labels problem_type""",
    "training: how weights begin, what is left out by chance, what is kept for the backward pass": """
        activation_dropout attention_dropout attention_probs_dropout_prob attn_pdrop dropout embd_pdrop
        gradient_checkpointing hidden_dropout_prob initializer_range resid_pdrop tf_legacy_loss""",
    "what a call returns besides the logits": """
        output_attentions output_hidden_states output_past output_router_logits output_scores return_dict
        return_dict_in_generate torchscript""",
    "other ways to compute the same numbers": """
        _attn_implementation _attn_implementation_autoset _experts_implementation attn_implementation
        cache_implementation chunk_size_feed_forward experts_implementation pretraining_tp use_cache""",
    "how a text is generated: nobody gets these settings unasked": """
        bad_words_ids begin_suppress_tokens diversity_penalty do_sample early_stopping encoder_no_repeat_ngram_size
        exponential_decay_length_penalty forced_bos_token_id forced_eos_token_id length_penalty max_length
        max_new_tokens min_length no_repeat_ngram_size num_beam_groups num_beams num_return_sequences prefix
        remove_invalid_values repetition_penalty suppress_tokens task_specific_params temperature top_k top_p
        typical_p""",
}
HARMLESS: Mapping[str, str] = {key: reason for reason, keys in REASONS.items() for key in keys.split()}

# At another value the model would compute something else, here or in the program that wrote the file.
NEUTRAL: Mapping[str, tuple[Any, ...]] = {
    "add_cross_attention": (False,),
    "auto_map": (None, {}),  # the files bring code of their own
    "cross_attention_hidden_size": (None,),
    "is_decoder": (False,),
    "is_encoder_decoder": (False,),
    "per_layer_config": (None, {}),
    "pruned_heads": ({}, None),
    "quantization_config": (None,),
    "tie_encoder_decoder": (False,),
}
