"""Roles: the jobs that tokens have, and which ids have them.

A language model needs more of a token than its text: which one ends a text, which one fills up a batch, which one opens
a turn of a conversation. The files of a model each say a part of that:

    tokenizer_config.json, special_tokens_map.json    by name:  "pad_token": "<pad>"
    config.json, generation_config.json               by id:    "eos_token_id": [2, 7]
    a GGUF file                                       by id:    "tokenizer.ggml.eot_token_id"

Every word of a file on a role is kept as a `Claim`, so that it can be shown who said what. Where no file speaks of a
role, the name of a token may (`NAMES`). What ends a text is the union of all that the files name. `read_roles` reads.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

Role = Literal[
    "bos", "eos", "unk", "pad", "cls", "sep", "mask", "decoder_start",
    "turn_start", "turn_end", "message_end",
    "think_start", "think_end", "tool_start", "tool_end", "tool_answer_start", "tool_answer_end",
    "fim_prefix", "fim_suffix", "fim_middle", "fim_pad", "fim_repo", "fim_separator",
    "sentinel", "spare",
]  # fmt: skip
ROLES: tuple[Role, ...] = get_args(Role)

# What a token is called that commonly has a role; the likeliest name first. The last resort, after all files.
NAMES: Mapping[Role, tuple[str, ...]] = {
    "bos": ("<bos>", "<s>", "<|begin_of_text|>", "<|endoftext|>", "<｜begin▁of▁sentence｜>"),
    "eos": ("<eos>", "</s>", "<|end_of_text|>", "<|endoftext|>", "<｜end▁of▁sentence｜>"),
    "unk": ("<unk>", "[UNK]"),
    "pad": ("<pad>", "[PAD]", "<|pad|>", "<|finetune_right_pad_id|>"),
    "cls": ("<cls>", "[CLS]"),
    "sep": ("<sep>", "[SEP]"),
    "mask": ("<mask>", "[MASK]", "<|mask|>"),
    "turn_start": ("<|im_start|>", "<|start_header_id|>", "<start_of_turn>"),
    "turn_end": (
        *("<|im_end|>", "<|eot_id|>", "<end_of_turn>", "<|end|>", "<end_of_utterance>"),
        *("<EOT>", "_<EOT>", "[EOT]"),
    ),
    "message_end": ("<|eom_id|>",),
    "think_start": ("<think>",),
    "think_end": ("</think>",),
    "tool_start": ("<tool_call>",),
    "tool_end": ("</tool_call>",),
    "tool_answer_start": ("<tool_response>",),
    "tool_answer_end": ("</tool_response>",),
    "fim_prefix": ("<|fim_prefix|>", "<fim_prefix>", "<fim-prefix>", "<｜fim▁begin｜>"),
    "fim_suffix": ("<|fim_suffix|>", "<fim_suffix>", "<fim-suffix>", "<｜fim▁hole｜>"),
    "fim_middle": ("<|fim_middle|>", "<fim_middle>", "<fim-middle>", "<｜fim▁end｜>"),
    "fim_pad": ("<|fim_pad|>", "<fim_pad>"),
    "fim_repo": ("<|repo_name|>", "<reponame>"),
    "fim_separator": ("<|file_sep|>",),
}
NUMBERED: Mapping[Role, re.Pattern[str]] = {  # roles that many tokens have, in the order of the number in their names
    "sentinel": re.compile(r"<extra_id_(\d{1,4})>"),
    "spare": re.compile(r"<spare_(\d{1,4})>|<\|reserved_special_token_(\d{1,4})\|>|<unused_?(\d{1,4})>"),
}
ENDS: tuple[Role, ...] = ("eos", "turn_end", "message_end")  # a text ends at each of them
END_NAMES = frozenset(name for role in ENDS for name in NAMES[role])  # llama.cpp stops at these unasked
GUESSED: tuple[Role, ...] = ("bos", "eos")  # taken by name only where nobody says anything, and said
ORDINARY: tuple[Role, ...] = tuple(role for role in ROLES if role.startswith(("think", "tool", "fim")))  # may be text
BY_NAME = "its name"
MODEL_FILES = ("config.json", "generation_config.json")  # of a model; all others are the tokenizer's own


@dataclass(frozen=True, kw_only=True)
class Claim:
    """What one file says of one role: these ids have it. `where` is the file's name, or `BY_NAME`."""

    role: Role
    ids: tuple[int, ...]
    where: str


@dataclass(frozen=True, eq=False)
class Roles(Mapping[Role, tuple[int, ...]]):
    """Role -> the ids that have it; made by `read_roles`, held by `Tokenizer.roles`.

    Where files differ, the first that speaks is believed; of what ends a text, and of numbered roles, all are.

    >>> first = Claim(role="eos", ids=(2,), where="tokenizer_config.json")
    >>> roles = Roles((first, Claim(role="eos", ids=(7, 2), where="generation_config.json")))
    >>> roles["eos"], roles.ends, roles.first("pad")
    ((2, 7), (2, 7), None)
    """

    claims: tuple[Claim, ...] = ()
    begin: int | None = field(init=False)  # the id that is put before a text
    ends: tuple[int, ...] = field(init=False)  # the ids at which a text ends
    _ids: Mapping[Role, tuple[int, ...]] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Work out once what every request asks for."""
        # GPT-2 and Qwen name a <bos> in the model's files, and put none before a text.
        begin = next((claim.ids[0] for claim in self._of("bos") if claim.where not in MODEL_FILES), None)
        # What ends a turn or a message ends a text too, if more than its familiar name says so.
        said = [claim for role in ENDS for claim in self._of(role) if role == "eos" or claim.where != BY_NAME]
        for name, value in (("begin", begin), ("ends", _union(said)), ("_ids", self._all())):
            object.__setattr__(self, name, value)

    def __getitem__(self, role: Role) -> tuple[int, ...]:
        return self._ids[role]

    def __iter__(self) -> Iterator[Role]:
        return iter(self._ids)

    def __len__(self) -> int:
        return len(self._ids)

    def first(self, role: Role) -> int | None:
        """The id that has a role, the first where several have it; None where none has."""
        return self._ids.get(role, (None,))[0]

    def said_by(self, role: Role, token_id: int) -> tuple[str, ...]:
        """The files that give an id a role."""
        return tuple(dict.fromkeys(claim.where for claim in self._of(role) if token_id in claim.ids))

    def told(self, claims: Iterable[Claim]) -> Roles:
        """These roles and what further files say."""
        return Roles(tuple(dict.fromkeys((*self.claims, *claims))))

    def contradictions(self) -> Iterator[tuple[Claim, Claim]]:
        """Two claims of different files on one role that have no id in common."""
        for role in self:
            said = [claim for claim in self._of(role) if claim.where != BY_NAME]
            yield from ((said[0], other) for other in said[1:] if not {*said[0].ids} & {*other.ids})

    def _of(self, role: Role) -> list[Claim]:
        """All claims on a role, familiar names last."""
        claims = [claim for claim in self.claims if claim.role == role]
        return sorted(claims, key=lambda claim: claim.where == BY_NAME)

    def _all(self) -> Mapping[Role, tuple[int, ...]]:
        """Role -> ids: of several files the first is believed, save where a role may have many ids."""
        claims = {role: self._of(role) for role in ROLES}
        kept = {role: found if role in (*ENDS, *NUMBERED) else found[:1] for role, found in claims.items()}
        return {role: _union(found) for role, found in kept.items() if found}


def _union(claims: Iterable[Claim]) -> tuple[int, ...]:
    return tuple(dict.fromkeys(token_id for claim in claims for token_id in claim.ids))
