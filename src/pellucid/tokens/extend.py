"""More special tokens for a vocabulary that exists: every old id stays, so that a model's old rows keep their meaning.

A new token takes the id of a spare one, whose row a model already has; where no spare is left, the next after the last.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from pellucid.errors import TokenizerError
from pellucid.tokens.document import read_document
from pellucid.tokens.layout import FLAGS, USUAL, as_text, with_beginning
from pellucid.tokens.roles import NUMBERED, ROLES, Role
from pellucid.tokens.vocabulary import MOST_TOKEN_CHARACTERS, Vocabulary
from pellucid.untrusted import Json, shown

# What a terminal would obey, what turns the text around it, half characters: nobody could see such a name, or type it.
UNSEEN = re.compile("[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
ADDITIONAL = "additional_special_tokens"
HINT = "give each new token a name of its own, for example <|tool|>"

# Roles that a new token can be given: not those that go by number, nor those that the model's own tokens have by its nature.
GIVEN = tuple(role for role in ROLES if role not in NUMBERED and role not in ("decoder_start", "unk"))


def with_tokens(
    text: str, vocabulary: Vocabulary, names: Sequence[str], spares: Sequence[int], *, begin: str | None = None
) -> str:
    """A `tokenizer.json` with more special tokens, on the spare ids first; `begin` stands before a text from now on.

    Raises TokenizerError for a name that cannot be one, or that a token has already.
    """
    _check_names(names, vocabulary)
    document = read_document(text)
    added: list[dict[str, Any]] = [dict(entry) for entry in document.get("added_tokens") or ()]
    free = [entry for token_id in spares for entry in added if entry["id"] == token_id]
    renamed: dict[str, str] = {}
    for name in names:
        if free:
            spare = free.pop(0)
            renamed[spare["content"]], spare["content"] = name, name
        else:
            added.append(
                {"id": vocabulary.size + len(added) - len(document.get("added_tokens") or ()), "content": name, **FLAGS}
            )
    model = document["model"]
    told = {**model, "vocab": _renamed(model["vocab"], renamed)}
    extended = {**document, "added_tokens": added, "model": told}
    return as_text(extended if begin is None else with_beginning(extended, begin))


def _renamed(vocab: Any, names: Mapping[str, str]) -> Any:
    """A model's own list of tokens, where some files have the special ones too (GGUF, Gemma), under their new names."""
    if isinstance(vocab, dict):
        return {names.get(token, token): token_id for token, token_id in vocab.items()}
    return [[names.get(token, token), score] for token, score in vocab]


def with_names(
    config: Mapping[str, Json], vocabulary: Vocabulary, names: Mapping[str, Role | None], ids: Mapping[str, int]
) -> str:
    """The `tokenizer_config.json` to go with it: `names` with their roles, each written as other programs read it.

    `ids`: name -> id of the new tokens. Raises TokenizerError for what is no role, one that goes by number, or one
    that is given twice.
    """
    for role in names.values():
        if role is not None and role not in GIVEN:
            known = ", ".join(GIVEN)
            raise TokenizerError("no token can be given this role", found=shown(role), hint=f"known: {known}")
    by_role: dict[Role, str] = {}
    for name, role in names.items():
        if role is not None and by_role.setdefault(role, name) != name:
            found = f"{role}: {shown(by_role[role])}, {shown(name)}"
            raise TokenizerError("a role is given to two tokens", found=found, hint="give each role to one new token")
    before = {token_id: name for name, token_id in vocabulary.added.items()}
    renamed = {before[token_id]: name for name, token_id in ids.items() if token_id in before}
    listed = config.get(ADDITIONAL)
    kept = [renamed.get(str(name), name) for name in listed] if isinstance(listed, list) else []
    further = [name for name, role in names.items() if role not in USUAL and name not in kept]
    told = {f"{role}_token": name for name, role in names.items() if role is not None}
    more = {ADDITIONAL: [*kept, *further]} if kept or further else {}
    return json.dumps({**config, **told, **more}, ensure_ascii=False, indent=2) + "\n"


def _check_names(names: Sequence[str], vocabulary: Vocabulary) -> None:
    if isinstance(names, str):  # it would be taken letter by letter
        hint = "give a list of names, also for one token"
        raise TokenizerError("the names of new tokens come in a list", found=shown(names), hint=hint)
    for place, name in enumerate(names):
        if not isinstance(name, str) or not name.strip() or len(name) > MOST_TOKEN_CHARACTERS or UNSEEN.search(name):
            raise TokenizerError("this cannot be the name of a token", found=shown(name), hint=HINT)
        if name in names[:place]:
            raise TokenizerError(
                "a new token has this name already: it is given twice", found=shown(name), hint="give each of them once"
            )
        if name in vocabulary.added or name in vocabulary.ids:
            raise TokenizerError("a token has this name already", found=shown(name), hint=HINT)
