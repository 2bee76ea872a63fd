"""A `tokenizer.json`, read without running it: the bytes of each id, the special tokens, the kind, what may be lost.

A BPE file that can spell only some bytes is refused, because text would vanish without a word. Only bytes that ordinary
text does without may be missing (SmolLM2 lacks some control characters): they are named in `unspelled`, and encoding a
text that has one is an error. The other kinds may have an unknown token, and say so in `losses`. This reads; running the
file is `tokenizer.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

from pellucid.counts import counted
from pellucid.errors import TokenizerError
from pellucid.tokens.byte_characters import BYTE_CHARACTERS
from pellucid.tokens.losses import find_losses
from pellucid.tokens.models.character import is_characters
from pellucid.tokens.models.kinds import KIND_OF, MODELS
from pellucid.tokens.patterns import pattern_name
from pellucid.tokens.spelling import Spelling, find_spelling, flat
from pellucid.tokens.vocabulary import (
    HINT,
    UNKNOWN_BYTES,
    Kind,
    ModelTokens,
    Vocabulary,
    as_list,
    as_object,
    check_id,
)
from pellucid.untrusted import kind_of, parse_json, shown

Added = tuple[str, int, bool]  # content, id, whether it is special
# Control characters, bytes that UTF-8 never uses, and first bytes of planes 4 to 11, in which no character is assigned.
RARE_BYTES = frozenset({*range(9), 11, 12, *range(14, 32), 127, 0xC0, 0xC1, 0xF1, 0xF2, *range(0xF5, 0x100)})


def read_document(text: str) -> Mapping[str, Any]:
    """The JSON object of a `tokenizer.json`. Raises TokenizerError for another text."""
    try:
        document = parse_json(text)
    except ValueError as error:
        raise TokenizerError("the tokenizer is not valid JSON", found=shown(error), hint=HINT) from None
    if not isinstance(document, dict):
        raise TokenizerError("the file is not a JSON object", found=kind_of(document), hint=HINT)
    return document


def read_vocabulary(document: Mapping[str, Any]) -> Vocabulary:
    """Read and check what a `tokenizer.json` says of its tokens.

    Raises TokenizerError for a model of an unknown kind, ids that clash, or bytes that have no token.
    """
    if "model" not in document:
        raise _no_model(document)
    node = as_object(document["model"], "model")
    name = node.get("type", "BPE")
    if not isinstance(name, str) or name not in MODELS:
        raise TokenizerError("the tokenizer's model is of an unknown kind", found=shown(name), hint=HINT)
    model = MODELS[name].read(node)
    added = list(_added(document.get("added_tokens")))
    _check_apart(model.vocab, added)
    specials = {content: token_id for content, token_id, special in added if special}
    spelling = find_spelling(document)
    missing = _unspelled(model, specials, spelling)
    kind: Kind = KIND_OF[name]
    if kind == "bpe" and is_characters(document, model.vocab, specials):
        kind = "char"
    is_complete = kind not in ("word", "wordpiece") and not missing
    _check_complete(kind, model.unknown, missing, document)
    _check_numbering(model.vocab, added)
    return Vocabulary(
        kind=kind,
        token_bytes=_token_bytes(model, added, spelling),
        added=MappingProxyType({content: token_id for content, token_id, _ in added}),
        specials=MappingProxyType(specials),
        ids=MappingProxyType({token: i for token, i in model.vocab.items() if token not in specials}),
        merges=model.merges,
        scores=MappingProxyType(dict(model.scores)),
        unknown=model.unknown,
        pattern=_pattern(document, ordinary_added=len(added) > len(specials)),
        is_byte_level=spelling.alphabet == BYTE_CHARACTERS,
        drops_first_space=spelling.drops_first_space,
        ignores_merges=model.ignores_merges,
        unspelled=missing if kind in ("bpe", "char") else b"",
        losses=find_losses(document, has_unknown=model.unknown is not None and not is_complete),
    )


def _no_model(document: Mapping[str, Any]) -> TokenizerError:
    if document and all(type(value) is int for value in document.values()):
        return TokenizerError(
            "the file is a vocab.json under another name", found=counted(len(document), "token"),
            hint="name it vocab.json again, with its merges.txt beside it",
        )  # fmt: skip
    return TokenizerError("the file is JSON, but not a tokenizer's: it has no model", hint=HINT)


def _unspelled(model: ModelTokens, specials: Mapping[str, int], spelling: Spelling) -> bytes:
    """The bytes that no token stands for; text never becomes a special token, so those spell nothing."""
    if not spelling.alphabet:
        return bytes(range(256))
    return bytes(byte for byte, token in enumerate(spelling.alphabet) if token not in model.vocab or token in specials)


def _check_complete(kind: Kind, unknown: str | None, missing: bytes, document: Mapping[str, Any]) -> None:
    """Raise TokenizerError where text would vanish: no token for it, and none that stands for the unknown."""
    if len(missing) == 256 and kind in ("bpe", "char"):
        types = sorted({str(decoder.get("type")) for decoder in flat(document.get("decoder"), "decoders")})
        found = f"decoder: {', '.join(types) or 'none'}"
        raise TokenizerError("the tokenizer is neither byte-level nor byte-fallback BPE", found=found, hint=HINT)
    if unknown is None and not RARE_BYTES.issuperset(missing):
        raise TokenizerError(
            "the tokenizer cannot spell every text", found=f"{len(missing)} of the 256 bytes have no token", hint=HINT
        )


def _token_bytes(model: ModelTokens, added: list[Added], spelling: Spelling) -> tuple[bytes, ...]:
    """The bytes behind each id."""
    vocab = model.vocab
    size = 1 + max([*vocab.values(), *(token_id for _, token_id, _ in added)])
    if size > 2 * (len(vocab) + len(added)) + 1_000:
        raise TokenizerError(
            "most ids of the tokenizer have no token", found=f"{counted(size, 'id')}, {len(vocab):,} tokens", hint=HINT
        )
    table = [b""] * size
    for token, token_id in vocab.items():
        table[token_id] = spelling.to_bytes(token) if token else b""
    for content, token_id, special in added:
        if special or content not in vocab:  # one that merges reach as well is spelled like all others
            table[token_id] = b"" if special else content.encode("utf-8")
    if model.unknown is not None:
        table[vocab[model.unknown]] = UNKNOWN_BYTES
    return tuple(table)


def _check_apart(vocab: Mapping[str, int], added: list[Added]) -> None:
    """Each token has one id and each id one token: else text would become an id that means something else."""
    spelled = {token_id: token for token, token_id in vocab.items()}
    known = dict(vocab)
    for content, token_id, _ in added:
        if known.setdefault(content, token_id) != token_id:
            found = f"{content!r}: {known[content]} and {token_id}"
            raise TokenizerError("a token of the tokenizer has two ids", found=found, hint=HINT)
        if spelled.setdefault(token_id, content) != content:
            found = f"{token_id}: {spelled[token_id]!r} and {content!r}"
            raise TokenizerError("two tokens of the tokenizer have the same id", found=found, hint=HINT)
    if len({content for content, _, _ in added}) < len(added):
        raise TokenizerError("an added token is given twice", hint=HINT)


def _check_numbering(vocab: Mapping[str, int], added: list[Added]) -> None:
    """Other programs number added tokens one after the other, whatever the file says: the file must say the same."""
    next_id = len(vocab)
    for content, token_id, _ in added:
        if content not in vocab and token_id != next_id:
            raise TokenizerError(
                "an added token's id does not follow the others", found=f"{content!r}: {token_id}", hint=HINT
            )
        next_id = max(next_id, token_id + 1)


def _added(entries: object) -> Iterator[Added]:
    for entry in as_list(entries, "added_tokens"):
        fields = as_object(entry, "entry of added_tokens")
        content, token_id = fields.get("content"), fields.get("id")
        if not isinstance(content, str) or not content:
            raise TokenizerError("an added token has no text", found=shown(content), hint=HINT)
        special = fields.get("special", False)
        if not isinstance(special, bool):
            found = f"{content[:80]!r}: {shown(special)}"
            raise TokenizerError("an added token is neither special nor ordinary", found=found, hint=HINT)
        yield content, check_id(content, token_id), special


def _pattern(document: Mapping[str, Any], *, ordinary_added: bool) -> str | None:
    if document.get("normalizer") is not None or ordinary_added:
        return None
    steps = list(flat(document.get("pre_tokenizer"), "pretokenizers"))
    if [step.get("type") for step in steps] == ["ByteLevel"] and not steps[0].get("add_prefix_space"):
        return "gpt2" if steps[0].get("use_regex", True) else None
    if [step.get("type") for step in steps] != ["Split", "ByteLevel"]:
        return None
    split, byte_level = steps
    plain = split.get("behavior") == "Isolated" and not split.get("invert") and not byte_level.get("add_prefix_space")
    if not plain or byte_level.get("use_regex", True) or not isinstance(split.get("pattern"), dict):
        return None
    return pattern_name(str(split["pattern"].get("Regex")))
