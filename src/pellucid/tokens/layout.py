"""The `tokenizer.json` and `tokenizer_config.json` that describe a tokenizer to every other program.

Each kind lays out its own model (`models/`); what all share is here. The special tokens come last. There is no
normaliser, no added space and no post-processor unless a kind needs one: what goes in comes out.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Literal

from pellucid.errors import TokenizerError
from pellucid.tokens.patterns import PATTERNS
from pellucid.tokens.roles import NUMBERED, Role

# The special tokens of a tokenizer that is trained here: their names by role, in the order of their ids. The standard
# ones leave room for all that may come after pretraining (masks, classes, turns of a conversation, and what nobody has
# thought of yet), so that no later stage changes the shape of a model.
Specials = Literal["standard", "sentinels", "none"]
NUM_SPARE = 16
NUM_SENTINELS = 100  # as many as T5 has
PLAIN: Mapping[Role, Sequence[str]] = {"bos": ["<bos>"], "eos": ["<eos>"]}
STANDARD: Mapping[Role, Sequence[str]] = {
    **PLAIN,
    "pad": ["<pad>"],
    "mask": ["<mask>"],
    "cls": ["<cls>"],
    "sep": ["<sep>"],
    "turn_start": ["<|im_start|>"],
    "turn_end": ["<|im_end|>"],
    "spare": [f"<spare_{number}>" for number in range(NUM_SPARE)],
}
SENTINELS: Mapping[Role, Sequence[str]] = {
    **STANDARD,
    "sentinel": [f"<extra_id_{number}>" for number in range(NUM_SENTINELS)],
}
SETS: Mapping[Specials, Mapping[Role, Sequence[str]]] = {"standard": STANDARD, "sentinels": SENTINELS, "none": PLAIN}
USUAL: tuple[Role, ...] = ("bos", "eos", "unk", "pad", "cls", "sep", "mask")  # the roles that every program knows
TOKENIZER_FILE, CONFIG_FILE, MAP_FILE = "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"
NOTHING: Mapping[str, int] = MappingProxyType({})
NO_NAMES: Mapping[Role, str] = MappingProxyType({})
BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}
FLAGS = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}


def document(
    model: Mapping[str, Any],
    *,
    specials: Mapping[str, int],
    ordinary: Mapping[str, int] = NOTHING,
    normalizer: Mapping[str, Any] | None = None,
    pre_tokenizer: Mapping[str, Any] | None,
    post_processor: Mapping[str, Any] | None = None,
    decoder: Mapping[str, Any],
) -> dict[str, Any]:
    """A whole document around a model.

    `specials`: special token -> id. `ordinary`: tokens beside the model's own that text may spell.
    """
    added = sorted({**ordinary, **specials}.items(), key=lambda one: one[1])
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {"id": token_id, "content": name, **FLAGS, "special": name in specials} for name, token_id in added
        ],
        "normalizer": normalizer,
        "pre_tokenizer": pre_tokenizer,
        "post_processor": post_processor,
        "decoder": decoder,
        "model": model,
    }


def with_beginning(document: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The same document, telling other programs to put a special token before every text, as a prompt has it here.

    >>> plain = document({"type": "BPE"}, specials={"<bos>": 7}, pre_tokenizer=None, decoder={})
    >>> with_beginning(plain, "<bos>")["post_processor"]["special_tokens"]["<bos>"]["ids"]
    [7]
    """
    return with_frame(document, [name], [])


def with_frame(document: Mapping[str, Any], before: Sequence[str], after: Sequence[str]) -> dict[str, Any]:
    """The same document, telling other programs to put special tokens before every text and behind it."""
    ids = {entry["content"]: entry["id"] for entry in document["added_tokens"]}
    first, last = ([{"SpecialToken": {"id": name, "type_id": 0}} for name in names] for names in (before, after))
    one, two = ({"Sequence": {"id": text, "type_id": part}} for part, text in enumerate("AB"))
    processor = {
        "type": "TemplateProcessing",
        "single": [*first, one, *last],
        "pair": [*first, one, *last, two, *last],
        "special_tokens": {name: {"id": name, "ids": [ids[name]], "tokens": [name]} for name in (*before, *after)},
    }
    return {**document, "post_processor": processor}


def numbered(names: Iterable[str], first: int) -> dict[str, int]:
    """Special tokens with the ids from `first` on: behind the tokens of the model."""
    return {name: first + place for place, name in enumerate(names)}


def split(expression: str) -> dict[str, Any]:
    """The step that cuts a text where an expression matches, and keeps every character."""
    return {"type": "Split", "pattern": {"Regex": expression}, "behavior": "Isolated", "invert": False}


def byte_level_pieces(pattern: str, *more: str) -> dict[str, Any]:
    """The steps that cut a text by a named pattern (and by more expressions), then write bytes as characters."""
    steps = [split(PATTERNS[pattern]), *map(split, more), BYTE_LEVEL]
    return {"type": "Sequence", "pretokenizers": steps}


def special_names(specials: Specials, *, without: Collection[Role] = ()) -> tuple[str, ...]:
    """The names of the special tokens, in the order of their ids. Raises TokenizerError for an unknown set.

    `without`: roles for which the kind of the tokenizer has tokens of its own.

    >>> len(special_names("standard")), special_names("none")
    (24, ('<bos>', '<eos>'))
    """
    if specials not in SETS:
        raise TokenizerError("no such set of special tokens", found=str(specials), hint="known: " + ", ".join(SETS))
    return tuple(name for role, names in SETS[specials].items() if role not in without for name in names)


def config_of(specials: Specials, own: Mapping[Role, str] = NO_NAMES) -> str:
    """The `tokenizer_config.json` of a tokenizer that is trained here. `own`: tokens that its kind has for roles."""
    named = {role: names[0] for role, names in SETS[specials].items() if role not in NUMBERED} | dict(own)
    return config_json(named, [name for role, names in SETS[specials].items() if role not in USUAL for name in names])


FAST_CLASS = "PreTrainedTokenizerFast"  # transformers' class that runs any tokenizer.json as it is


def config_json(named: Mapping[Role, str | None], additional: Sequence[str] = ()) -> str:
    """The `tokenizer_config.json` that makes `AutoTokenizer` treat the text exactly as we do.

    `named`: the tokens of roles; `additional`: special tokens beside the usual ones, in the order of their ids.
    """
    config = {
        "tokenizer_class": FAST_CLASS,
        **{f"{role}_token": name for role, name in named.items()},
        **({"additional_special_tokens": list(additional)} if additional else {}),
        "clean_up_tokenization_spaces": False,
    }
    return json.dumps(config, ensure_ascii=False, indent=2) + "\n"


def as_text(node: Mapping[str, Any]) -> str:
    """A document as the text of its file."""
    return json.dumps(node, ensure_ascii=False, indent=1) + "\n"
