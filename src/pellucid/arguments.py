"""Checks of the arguments that a script gives to the functions of `api`: the error for a wrong one names the right one.

Many people know `max_tokens`, `torch_dtype` or `n_ctx` from other libraries. None of these is accepted, since one idea
has one name; the error says the name that is used here.

Source: `generate` and `from_pretrained` of transformers, `Llama` of llama-cpp-python, `SamplingParams` of vLLM, the
parameters of OpenAI, Ollama and MLX LM.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from pellucid.errors import RequestError, SettingsError
from pellucid.untrusted import shown

SAMPLING = {
    **dict.fromkeys(("max_tokens", "max_length", "max_completion_tokens", "max_output_tokens"), "max_new_tokens"),
    **dict.fromkeys(("n_predict", "num_predict", "max_new", "num_tokens", "length"), "max_new_tokens"),
    **dict.fromkeys(("min_tokens", "min_length"), "min_new_tokens"),
    **dict.fromkeys(("stop_strings", "stop_string", "stop_sequences", "stop_sequence", "stop_words"), "stop"),
    **dict.fromkeys(("stop_token", "stop_tokens", "stopping_criteria"), "stop (for texts) or stop_ids (for ids)"),
    **dict.fromkeys(("stop_token_ids", "stop_token_id", "eos_token_id", "eos_token_ids"), "stop_ids"),
    **dict.fromkeys(("n", "num_choices", "num_return_sequences", "best_of"), "lm.choices(prompt, num_choices=…)"),
    **dict.fromkeys(("num_beams", "beam_width", "length_penalty"), "lm.search(prompt, num_beams=…)"),
    **dict.fromkeys(("bad_words_ids", "suppress_tokens"), "ban"),
    **dict.fromkeys(("logprobs", "top_logprobs", "output_scores", "output_logits"), "completion.logprobs"),
    **dict.fromkeys(("input_ids", "inputs", "prompts", "text", "prompt_token_ids"), "lm.complete(prompt)"),
    **dict.fromkeys(("echo", "return_full_text"), "prompt + completion.text"),
    **dict.fromkeys(
        ("regex", "json_schema", "grammar", "guided_json", "guided_regex", "response_format"),
        "constraint=pellucid.ConstraintSettings(regex=…)",
    ),
    **dict.fromkeys(("draft_model", "assistant_model"), "draft"),
    **dict.fromkeys(("logits_processor", "logits_processors", "extra"), "stages"),
    **dict.fromkeys(("stream", "streamer"), "lm.generate(prompt)"),
    **dict.fromkeys(("repeat_penalty", "rep_pen"), "repetition_penalty"),
    **dict.fromkeys(("repeat_last_n", "penalty_last_n", "repetition_context_size"), "repetition_window"),
    **dict.fromkeys(("samplers", "sampler_seq"), "order"),
    "prompt_lookup_num_tokens": "lookup",
    "temp": "temperature",
    "n_keep": "keep_first",
    "dry_sequence_breakers": "dry_breakers",
    "dry_penalty_last_n": "dry_window",
    "ignore_eos": "ban=lm.tokenizer.end_ids",
    "generation_config": "lm.complete(prompt, **lm.suggested())",
    "do_sample": "temperature=0 (do_sample=False)",
    "no_repeat_ngram_size": "no_repeat_ngram",
    "allowed_token_ids": "allow",
    "sequence_bias": "logit_bias",
    "typical": "typical_p",
    "mirostat_mode": "mirostat",
    "random_seed": "seed",
    "prompt_logprobs": "lm.score(prompt)",
}
SEARCH = {
    **SAMPLING,
    **dict.fromkeys(("n", "num_return_sequences"), "num_best"),
    **dict.fromkeys(("beam_width", "beams"), "num_beams"),
    "length_penalty": "length_penalty",
}
TRAINING = {
    **{
        name: f'model={{"{name}": …}}'
        for name in ("preset", "depth", "context_length", "n_layers", "d_model", "dropout")
    },
    **dict.fromkeys(("block_size", "max_seq_length", "seq_len"), 'model={"context_length": …}'),
    **dict.fromkeys(("vocab_size", "tokenizer_kind"), 'tokenizer={"vocab_size": …}'),
    **dict.fromkeys(("batch_size", "rows", "per_device_train_batch_size"), 'batch={"rows": …}'),
    **dict.fromkeys(("lr", "learning_rate"), 'optimizer={"muon_rate": …, "adamw_rate": …}'),
    **dict.fromkeys(("max_steps", "num_steps", "max_iters", "iterations"), "steps"),
    **dict.fromkeys(("num_epochs", "num_train_epochs"), "epochs"),
    **dict.fromkeys(("field", "source"), 'data={"field": …}'),
    **dict.fromkeys(("output_dir", "out_dir", "save_dir"), "out"),
    "dtype": "precision",
    "init_from": "start_from",
    "teacher": "draft_of",
}
WHOLE_TEXTS = {
    **dict.fromkeys(("top_k", "topk", "k", "n", "num_candidates"), "top"),
    **dict.fromkeys(("mask_token", "targets"), "mask"),
    **dict.fromkeys(("pool", "pooling_mode", "pooling_strategy"), "pooling"),
    **dict.fromkeys(("normalize", "normalize_embeddings", "norm"), "normalise"),
    **dict.fromkeys(("truncate", "truncation", "max_length"), "cut"),
    **dict.fromkeys(("l2", "held_out", "own_pooler", "seed"), "settings=pellucid.LabelSettings(l2=…)"),
    **dict.fromkeys(("show_progress_bar", "progress"), "watch"),
}
LOADING = {
    **dict.fromkeys(("torch_dtype", "precision", "compute_dtype"), "dtype"),
    **dict.fromkeys(("quantization_config", "quantize"), "weights"),
    **dict.fromkeys(("n_ctx", "num_ctx", "max_seq_len", "max_seq_length", "max_model_len"), "lm.config.context_length"),
    **dict.fromkeys(("n_threads", "num_threads", "threads"), "torch.set_num_threads(n)"),
    **dict.fromkeys(("model_path", "model", "pretrained_model_name_or_path"), "path"),
    "kernels": "engine=pellucid.EngineSettings(kernels=…)",
    "exact": "engine=pellucid.EngineSettings(exact=…)",
    "device_map": "device",
    "n_gpu_layers": 'device="cuda"',
    "load_in_8bit": 'weights="int8"',
    "load_in_4bit": 'weights="int4"',
    "verbose": "recorder",
}


def check_path(value: object, name: str) -> None:
    """Raise SettingsError for a value that is not a path.

    >>> check_path(3, "out")
    Traceback (most recent call last):
    ...
    pellucid.errors.SettingsError: out is not a path
      found: 3 (int)
      try:   give it as text, for example "runs/book"
    """
    if not isinstance(value, (str, os.PathLike)) or not str(value):
        found = f"{shown(value)} ({type(value).__name__})"
        raise SettingsError(f"{name} is not a path", found=found, hint='give it as text, for example "runs/book"')


def check_has(value: object, name: str, hint: str) -> None:
    """Raise RequestError for a value that is given (not None) and lacks what is asked of it by that name.

    >>> check_has("x", "runner", "draft=pellucid.load(path)")
    Traceback (most recent call last):
    ...
    pellucid.errors.RequestError: this has no runner
      found: 'x' (str)
      try:   draft=pellucid.load(path)
    """
    if value is not None and not hasattr(value, name):
        raise RequestError(f"this has no {name}", found=f"{shown(value)} ({type(value).__name__})", hint=hint)


def check_one_of(value: object, name: str, known: Sequence[str]) -> None:
    """Raise SettingsError for a word that is none of those known; None is left to whoever decides.

    >>> check_one_of("cls", "pooling", ["first", "mean"])
    Traceback (most recent call last):
    ...
    pellucid.errors.SettingsError: this is no pooling
      found: 'cls'
      try:   first, mean
    """
    if value is not None and value not in known:
        raise SettingsError(f"this is no {name}", found=shown(value), hint=", ".join(known))


def check_kind(value: object, kind: type, hint: str, *, optional: bool = False) -> None:
    """Raise RequestError for a value of another type than the one wanted; None passes where it is `optional`.

    >>> check_kind(3, str, "give a text")
    Traceback (most recent call last):
    ...
    pellucid.errors.RequestError: str is wanted here
      found: 3 (int)
      try:   give a text
    """
    if optional and value is None:
        return
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        found = f"{shown(value)} ({type(value).__name__})"
        raise RequestError(f"{kind.__name__} is wanted here", found=found, hint=hint)
