"""A `generation_config.json` as sampling settings: what its authors suggest, in the order that transformers applies it.

Only what the file says is taken over. Defaults that transformers would add by itself (top-k 50, greedy when the file
does not mention sampling) are not: a person who asks for the file gets the file. A key that would change the text but
has no counterpart here is returned, so that the caller can tell. Nobody gets these settings unasked.

Source: transformers `GenerationConfig`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any, cast

from pellucid.engine.keywords import SamplingKeywords
from pellucid.engine.sampling.settings import SamplingSettings
from pellucid.errors import SamplingError
from pellucid.settings import shallow
from pellucid.untrusted import number, shown, whole

COUNTERPARTS = {
    "temperature": "temperature",
    "top_k": "top_k",
    "top_p": "top_p",
    "min_p": "min_p",
    "typical_p": "typical_p",
    "epsilon_cutoff": "epsilon_cutoff",
    "eta_cutoff": "eta_cutoff",
    "repetition_penalty": "repetition_penalty",
    "no_repeat_ngram_size": "no_repeat_ngram",
    "suppress_tokens": "ban",
    "min_new_tokens": "min_new_tokens",
    "max_new_tokens": "max_new_tokens",
    "eos_token_id": "stop_ids",
}
OFF_AT_0 = {"top_k", "no_repeat_ngram_size"}  # there 0 is off; here nothing is
WHOLE = {"top_k", "no_repeat_ngram_size", "suppress_tokens", "min_new_tokens", "max_new_tokens", "eos_token_id"}
LISTS = {"eos_token_id", "suppress_tokens"}  # one id or several

# Keys that change no text: who wrote the file, ids that are read elsewhere, what is kept and returned.
SILENT = {
    *("transformers_version", "_from_model_config", "bos_token_id", "pad_token_id", "decoder_start_token_id"),
    *("use_cache", "cache_implementation", "return_dict_in_generate", "output_scores", "output_logits"),
    *("output_attentions", "output_hidden_states", "do_sample"),
}
# Keys that change the text in transformers, at the value that does not.
HARMLESS: dict[str, Callable[[Any], bool]] = {
    "num_beams": lambda value: value == 1,
    "num_beam_groups": lambda value: value == 1,
    "num_return_sequences": lambda value: value == 1,
    "length_penalty": lambda value: value == 1,
    "diversity_penalty": lambda value: value == 0,
    "encoder_repetition_penalty": lambda value: value == 1,
    "encoder_no_repeat_ngram_size": lambda value: value == 0,
    "min_length": lambda value: value == 0,
    "max_length": lambda value: value == 20,  # what old versions wrote when nobody had set it
}


def from_generation_config(config: Mapping[str, Any]) -> tuple[SamplingSettings, tuple[str, ...]]:
    """The settings that a file suggests, and its keys that have no counterpart here.

    >>> settings, unknown = from_generation_config({"do_sample": True, "top_k": 20, "num_beams": 4})
    >>> settings.top_k, settings.order, unknown
    (20, 'hf', ('num_beams',))

    `do_sample: false` is temperature 0. Raises SamplingError for a value of the wrong kind or out of range.
    """
    given = {key: value for key, value in config.items() if value is not None}
    values: dict[str, Any] = {
        COUNTERPARTS[key]: _convert(key, value) for key, value in given.items() if key in COUNTERPARTS
    }
    if given.get("do_sample") is False:
        values["temperature"] = 0.0
    known = COUNTERPARTS.keys() | SILENT
    unknown = [
        key for key, value in given.items() if key not in known and not (key in HARMLESS and HARMLESS[key](value))
    ]
    return SamplingSettings(**values, order="hf"), tuple(unknown)


def suggest(config: Mapping[str, Any], end_ids: Collection[int]) -> tuple[SamplingKeywords, tuple[str, ...]]:
    """The settings, by name, that a file would change, and its keys that have no counterpart here.

    Ids that end a text anyway (`end_ids`) change nothing, and neither does an order alone.

    >>> suggest({"top_k": 20, "eos_token_id": 2}, end_ids={2})
    ({'top_k': 20, 'order': 'hf'}, ())
    >>> suggest({"eos_token_id": 2}, end_ids={2})
    ({}, ())
    """
    suggested, unknown = from_generation_config(config)
    defaults = shallow(SamplingSettings())
    changes = {name: value for name, value in shallow(suggested).items() if value != defaults[name]}
    if set(changes.get("stop_ids", ())) <= set(end_ids):
        changes.pop("stop_ids", None)
    return cast("SamplingKeywords", changes if changes.keys() - {"order"} else {}), unknown  # its fields, by name


def _convert(key: str, value: Any) -> Any:
    """A value as the settings hold it."""
    values = value if key in LISTS and isinstance(value, list) else [value]
    read = whole if key in WHOLE else number
    try:
        values = [read(item) for item in values]
    except ValueError as error:
        raise SamplingError(f"{key} cannot be used", found=shown(error), where="generation_config.json") from None
    if key in LISTS:
        return tuple(values)
    return None if key in OFF_AT_0 and value == 0 else values[0]
