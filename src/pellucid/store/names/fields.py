"""Reading a foreign config.json with care: every key is understood, required to be harmless, or an error.

A key that nobody read may change the arithmetic (a scaled rotary base, a sliding window, a multiplier), and a model
computed without it would answer almost right. So what was read is remembered, a list names what is known to be
harmless, and anything else stops the loading.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pellucid.errors import ModelError

REQUIRED = object()

# Bookkeeping, training and generation: none of these enters the computation of logits.
HARMLESS = frozenset(
    """_name_or_path architectures bos_token_id chunk_size_feed_forward decoder_start_token_id dtype eos_token_id
    finetuning_task gradient_checkpointing id2label initializer_range is_decoder is_encoder_decoder label2id
    max_window_layers model_type n_ctx output_attentions output_hidden_states pad_token_id predict_special_tokens
    prefix pretraining_tp problem_type reorder_and_upcast_attn return_dict sep_token_id task_specific_params
    tokenizer_class torch_dtype torchscript transformers_version unk_token_id use_bfloat16 use_cache
    attention_dropout attn_pdrop embd_pdrop resid_pdrop
    summary_activation summary_first_dropout summary_proj_to_labels summary_type summary_use_proj""".split()  # noqa: SIM905 (fifty names read better as a paragraph)
)


class Fields:
    """The keys of one config.json, read by type."""

    def __init__(self, values: Mapping[str, Any], where: str) -> None:
        self.values, self.where = values, where
        self.seen: set[str] = set()

    def integer(self, name: str, default: Any = REQUIRED) -> int:
        """A whole number; `default` also stands in for null."""
        return self._typed(name, default, int)

    def number(self, name: str, default: Any = REQUIRED) -> float:
        """A number."""
        return float(self._typed(name, default, (int, float)))

    def flag(self, name: str, default: bool) -> bool:
        """true or false."""
        return self._typed(name, default, bool)

    def word(self, name: str, default: Any = REQUIRED) -> str:
        """A string."""
        return self._typed(name, default, str)

    def table(self, name: str) -> Mapping[str, Any]:
        """A nested object; empty when absent or null."""
        return self._typed(name, {}, dict)

    def require(self, name: str, *allowed: Any) -> None:
        """The key must be absent or have one of these values: with any other, this model would compute something else."""
        self.seen.add(name)
        if name in self.values and self.values[name] not in allowed:
            raise self.unsupported(name, self.values[name])

    def check_all_read(self) -> None:
        """Raise ModelError when a key is neither read nor known to be harmless."""
        unknown = sorted(set(self.values) - self.seen - HARMLESS)
        if unknown:
            raise ModelError(
                "config.json has keys whose meaning is not known here, so the model might be computed wrongly",
                found=", ".join(f"{name}={self.values[name]!r}"[:80] for name in unknown),
                where=self.where,
                hint="if a key changes nothing in the computation, delete it from config.json",
            )

    def unsupported(self, name: str, value: object) -> ModelError:
        """The error for a value that asks for arithmetic which is not built here."""
        return ModelError(f"models with {name}={value!r} are not supported", where=self.where)

    def _typed(self, name: str, default: Any, kind: type | tuple[type, ...]) -> Any:
        self.seen.add(name)
        value = self.values.get(name)
        if value is None:
            if default is REQUIRED:
                raise ModelError(f"config.json lacks {name}", where=self.where)
            return default
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise ModelError(f"config.json gives {name} a value of the wrong kind", found=repr(value), where=self.where)
        return value
