"""Which tokens have which roles, read from the files of a model; `roles` says what roles are.

    by name        tokenizer_config.json and special_tokens_map.json:   "pad_token": "<pad>"
    by id          config.json and generation_config.json:              "eos_token_id": [2, 7]
    at the last    the names of the tokens themselves:                  <|im_end|> ends a turn

What files say against each other, what no token has, and what had to be guessed are events.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import PurePath

from pellucid.errors import CorruptFileError, TokenizerError
from pellucid.events import Event, Recorder
from pellucid.tokens.roles import (
    BY_NAME,
    ENDS,
    GUESSED,
    NAMES,
    NUMBERED,
    ORDINARY,
    ROLES,
    Claim,
    Role,
    Roles,
)
from pellucid.tokens.vocabulary import Vocabulary
from pellucid.untrusted import Json, kind_of, parse_json, shown

GROUPS = (
    "extra_special_tokens",
    "model_specific_special_tokens",
)  # objects of further named tokens; lists have no roles
COUNT_FROM_PAD = ("roberta", "xlm-roberta", "camembert")  # their `pad_token_id` says where positions begin
NO_ID = -1  # how some files say "none"
NO_END = "tokens.no_end"  # the event: nothing ends what a model writes


def read_config(text: str, vocabulary: Vocabulary) -> dict[str, Json]:
    """A `tokenizer_config.json`. Raises TokenizerError for one that names as <bos> or <eos> what is no special token."""
    config = parse_config(text)
    for key in ("bos_token", "eos_token"):
        name = name_in(config.get(key))
        if name is not None and find_id(name, vocabulary) not in vocabulary.specials.values():
            what = f"the tokenizer's config names a {key} that is not a special token"
            raise TokenizerError(what, found=shown(name))
    return config


def parse_config(text: str) -> dict[str, Json]:
    """The object in a `tokenizer_config.json` or a `special_tokens_map.json`. Raises TokenizerError where there is none."""
    try:
        config = parse_json(text)
    except ValueError as error:
        raise TokenizerError("the tokenizer's config is not valid JSON", found=shown(error)) from None
    if not isinstance(config, dict):
        raise TokenizerError("the tokenizer's config is not a JSON object", found=kind_of(config))
    return config


def read_names(document: Mapping[str, Json], vocabulary: Vocabulary, where: str) -> list[Claim]:
    """What a `tokenizer_config.json` or a `special_tokens_map.json` says: `bos_token`, `pad_token`, `turn_end_token` …

    A name is a text, or an object with the text as its `content`. A name that no token has is passed over: such files
    often name what their model does not have. Only a special token begins or ends a text.
    """
    named = dict(document)
    for group in GROUPS:
        more = document.get(group)
        named = {**(more if isinstance(more, dict) else {}), **named}
    found = {role: find_id(name_in(named.get(f"{role}_token")), vocabulary) for role in ROLES}
    special = {*vocabulary.specials.values()}
    return [
        Claim(role=role, ids=(token_id,), where=where)
        for role, token_id in found.items()
        if token_id is not None and (role not in GUESSED or token_id in special)
    ]


def name_in(value: Json) -> Json:
    """A token's name, which a file gives as a text or as an object with the text as its `content`."""
    return value.get("content") if isinstance(value, dict) else value


def find_id(name: Json, vocabulary: Vocabulary) -> int | None:
    """The id of a token by the name that its file gives it: an added one, or one of the model's own."""
    return vocabulary.added.get(name, vocabulary.ids.get(name)) if isinstance(name, str) else None


def read_ids(document: Mapping[str, Json], where: str) -> list[Claim]:
    """What a `config.json` or a `generation_config.json` says: `eos_token_id`, `pad_token_id` …, an id or a list.

    Raises CorruptFileError for what is neither.
    """
    claims = []
    for role in ROLES:
        found = document.get(key := f"{role}_token_id")
        values = found if isinstance(found, list) else [] if found is None else [found]
        ids = tuple(value for value in values if isinstance(value, int) and not isinstance(value, bool))
        if len(ids) < len(values):
            raise CorruptFileError(f"{key} is not an id or a list of ids", found=repr(found)[:80], where=where)
        if ids:
            claims.append(Claim(role=role, ids=ids, where=PurePath(where).name))
    return claims


def guess_roles(vocabulary: Vocabulary, roles: Roles, wanted: Iterable[Role]) -> list[Claim]:
    """What the names of tokens say of the wanted roles, where no file speaks of them."""
    claims = []
    for role in wanted:
        tokens = vocabulary.added if role in ORDINARY else vocabulary.specials
        if role in NUMBERED:
            matches = ((NUMBERED[role].fullmatch(name), token_id) for name, token_id in tokens.items())
            numbered = sorted((int(match[match.lastindex or 0]), token_id) for match, token_id in matches if match)
            ids = tuple(token_id for _, token_id in numbered)
        else:
            ids = tuple(tokens[name] for name in NAMES.get(role, ()) if name in tokens)[:1]
        if ids and role not in roles:
            claims.append(Claim(role=role, ids=ids, where=BY_NAME))
    return claims


def settle_roles(
    roles: Roles, vocabulary: Vocabulary, documents: Mapping[str, Mapping[str, Json]], recorder: Recorder
) -> Roles:
    """The roles of a tokenizer after its model's documents (file name -> content) have spoken too.

    Where none names an end of text, a special token that is commonly one is taken for it. Events: an id that no token
    has, files that contradict each other, a guess, no end at all, and all that ends a text where the model names more than the tokenizer.
    Raises CorruptFileError for what is not a list of ids.
    """
    claims = [
        claim
        for where, document in documents.items()
        for claim in read_ids(document, where)
        if not (claim.role == "pad" and "pad" in roles and document.get("model_type") in COUNT_FROM_PAD)
    ]
    known = {*roles.ends}
    roles = roles.told(_within(claims, vocabulary.size, recorder))
    _tell_contradictions(roles, recorder)
    if not roles.ends:
        return _guess_end(roles, vocabulary, recorder)
    if len(roles.ends) > 1 and not {*roles.ends} <= known:
        recorder.record(Event(name="tokens.ends", message=describe_ends(roles, vocabulary), data={"ids": roles.ends}))
    return roles


def describe_ends(roles: Roles, vocabulary: Vocabulary) -> str:
    """All that ends a text, in one line, each with the files that say so.

    >>> from pellucid.tokens.train import train_characters
    >>> tokenizer = train_characters(["ab"], specials="none")
    >>> describe_ends(tokenizer.roles, tokenizer.vocabulary)
    'a text ends at <eos> (tokenizer_config.json)'
    """
    if not roles.ends:
        return "no token ends a text"
    names = {token_id: name for name, token_id in vocabulary.added.items()}
    said = []
    for token_id in roles.ends:
        files = dict.fromkeys(where for role in ENDS for where in roles.said_by(role, token_id))
        others = [where for where in files if where != BY_NAME]
        said.append(f"{names.get(token_id, token_id)} ({', '.join(others or [BY_NAME])})")
    return f"a text ends at {', '.join(said)}"


def _tell_contradictions(roles: Roles, recorder: Recorder) -> None:
    for one, other in roles.contradictions():
        first, second = (", ".join(map(str, claim.ids)) for claim in (one, other))
        outcome = "a text ends at each" if one.role in ENDS else "the first is believed"
        message = f"{one.where} says {one.role} is {first}, {other.where} says {second}: {outcome}"
        data = {"role": one.role, one.where: one.ids, other.where: other.ids}
        recorder.record(Event(name="tokens.role_contradicted", message=message, data=data, level="warning"))


def _within(claims: Iterable[Claim], size: int, recorder: Recorder) -> Iterator[Claim]:
    """The claims without the ids that no token has."""
    for claim in claims:
        for token_id in claim.ids:
            if not 0 <= token_id < size and (token_id != NO_ID or claim.role in ENDS):
                message = f"{claim.where} names {token_id} as {claim.role}, and no token has this id: it is passed over"
                data = {"id": token_id, "role": claim.role, "where": claim.where}
                recorder.record(Event(name="tokens.role_unknown", message=message, data=data, level="warning"))
        if ids := tuple(token_id for token_id in claim.ids if 0 <= token_id < size):
            yield Claim(role=claim.role, ids=ids, where=claim.where)


def _guess_end(roles: Roles, vocabulary: Vocabulary, recorder: Recorder) -> Roles:
    guessed = guess_roles(vocabulary, roles, ["eos"])
    if not guessed:
        message = "no token ends a text of this model: one that writes goes on until max_new_tokens, a stop text, or a full context"
        recorder.record(Event(name=NO_END, message=message))
        return roles
    name = next(name for name, token_id in vocabulary.specials.items() if token_id == guessed[0].ids[0])
    message = f"no file names the token that ends a text: {name} is taken for it"
    recorder.record(Event(name="tokens.end_guessed", message=message, data={"token": name}, level="warning"))
    return roles.told(guessed)
