"""The vocabulary of a `tokenizer.json`, read without running it: the bytes of each id, the special tokens, the kind.

Two spellings of bytes are in use, and this is the one place that knows both. Byte-level files (GPT-2, Qwen, ours) write
each byte as a printable character; byte-fallback files (Llama 2, our character tokenizer) write text as text and the
other bytes as `<0xE4>`. A file that can spell only some bytes is refused, because text would vanish without a word; so
is one that is not BPE. Only bytes that ordinary text does without may be missing (SmolLM2 lacks some control characters):
they are named in `unspelled`, and encoding a text that has one is an error. This reads; running the file is
`tokenizer.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

from pellucid.counts import counted
from pellucid.errors import TokenizerError
from pellucid.tokens.formats import BYTE_CHARACTERS, BYTE_TOKENS, CHARACTER_BYTES
from pellucid.tokens.patterns import pattern_name
from pellucid.untrusted import parse_json, shown, whole

Kind = Literal["bpe", "char", "ids"]
MOST_TOKENS = 1 << 22  # a table has one entry per id: a single huge id must not take the memory
MOST_TOKEN_CHARACTERS = 1_024  # of one token; the longest in use have some 250
# Control characters, bytes that UTF-8 never uses, and first bytes of planes 4 to 11, in which no character is assigned.
RARE_BYTES = frozenset({*range(9), 11, 12, *range(14, 32), 127, 0xC0, 0xC1, 0xF1, 0xF2, *range(0xF5, 0x100)})
METASPACE = "▁"  # how SentencePiece writes a space


@dataclass(frozen=True, kw_only=True)
class Vocabulary:
    """Every id of a tokenizer and what it stands for.

    `token_bytes[i]` is empty for a special token and for an id that no token uses.
    """

    kind: Kind
    token_bytes: tuple[bytes, ...]
    added: Mapping[str, int]  # tokens beside the model's own, special or not
    specials: Mapping[str, int]  # those of them that text never becomes
    ids: Mapping[str, int]  # token as the file spells it -> id, specials excluded
    merges: tuple[tuple[str, str], ...]  # in rank order, as the file spells them
    pattern: str | None  # a name from patterns.py, or None: the file cuts pieces in a way of its own
    drops_first_space: bool  # SentencePiece adds a space before the text; decoding takes it away
    ignores_merges: bool  # a piece that is itself a token needs no merges
    unspelled: bytes  # the bytes that no token spells: text with one of them cannot be encoded

    @property
    def size(self) -> int:
        """Rows that an embedding needs: the highest id plus one."""
        return len(self.token_bytes)


def read_document(text: str) -> Mapping[str, Any]:
    """The JSON object of a `tokenizer.json`. Raises TokenizerError for another text."""
    try:
        return _object(parse_json(text), "the file")
    except ValueError as error:
        raise _refusal("the tokenizer is not valid JSON", found=shown(error)) from None


def read_vocabulary(document: Mapping[str, Any]) -> Vocabulary:
    """Read and check what a `tokenizer.json` says of its tokens.

    Raises TokenizerError for a model other than BPE, ids that clash, or bytes that have no token.
    """
    model = _object(document.get("model"), "model")
    if model.get("type", "BPE") != "BPE":
        raise _refusal("the tokenizer's model is not BPE", found=shown(model.get("type")))
    vocab = _ids(_object(model.get("vocab"), "model.vocab"))
    added = list(_added(document.get("added_tokens")))
    _check_apart(vocab, added)
    specials = {content: token_id for content, token_id, special in added if special}
    decoders = list(_flat(document.get("decoder"), "decoders"))
    token_bytes, unspelled = _token_bytes(vocab, added, model, decoders)
    merges = _merges(model.get("merges"), vocab)
    _check_numbering(vocab, added)
    if model.get("dropout"):
        raise _refusal("the tokenizer drops merges at random", found=f"dropout {model['dropout']}")
    return Vocabulary(
        kind="char" if not merges and _is_characters(document, vocab, specials) else "bpe",
        token_bytes=token_bytes,
        added=MappingProxyType({content: token_id for content, token_id, _ in added}),
        specials=MappingProxyType(specials),
        ids=MappingProxyType({token: i for token, i in vocab.items() if token not in specials}),
        merges=merges,
        pattern=_pattern(document, ordinary_added=len(added) > len(specials)),
        drops_first_space=any(_strips_first_space(decoder) for decoder in decoders),
        ignores_merges=bool(model.get("ignore_merges")),
        unspelled=unspelled,
    )


def _token_bytes(
    vocab: Mapping[str, int], added: list, model: Mapping, decoders: list[Mapping]
) -> tuple[tuple[bytes, ...], bytes]:
    """The bytes behind each id, and the bytes that no id stands for."""
    types = {str(decoder.get("type")) for decoder in decoders}
    spaced = any(decoder.get("type") == "Metaspace" or _replaces_metaspace(decoder) for decoder in decoders)
    if "ByteLevel" in types:
        alphabet, to_bytes = BYTE_CHARACTERS, _unspell
    elif model.get("byte_fallback") and "ByteFallback" in types:
        alphabet, to_bytes = BYTE_TOKENS, _unfall_spaced if spaced else _unfall
    else:
        found = ", ".join(sorted(types)) or "none"
        raise _refusal("the tokenizer is neither byte-level nor byte-fallback BPE", found=f"decoder: {found}")
    specials = {content for content, _, special in added if special}  # text never becomes one, so they spell nothing
    missing = bytes(byte for byte, token in enumerate(alphabet) if token not in vocab or token in specials)
    if not RARE_BYTES.issuperset(missing):
        raise _refusal("the tokenizer cannot spell every text", found=f"{len(missing)} of the 256 bytes have no token")
    size = 1 + max([*vocab.values(), *(token_id for _, token_id, _ in added)])
    if size > 2 * (len(vocab) + len(added)) + 1_000:
        raise _refusal("most ids of the tokenizer have no token", found=f"{counted(size, 'id')}, {len(vocab):,} tokens")
    table = [b""] * size
    for token, token_id in vocab.items():
        table[token_id] = to_bytes(token)
    for content, token_id, special in added:
        if special or content not in vocab:  # one that merges reach as well is spelled like all others
            table[token_id] = b"" if special else content.encode("utf-8")
    return tuple(table), missing


def _unspell(token: str) -> bytes:
    try:
        return bytes(CHARACTER_BYTES[character] for character in token)
    except KeyError:  # a token that was written as plain text
        return token.encode("utf-8")


def _unfall(token: str) -> bytes:
    return bytes([int(token[3:5], 16)]) if token in _BYTE_TOKEN_SET else token.encode("utf-8")


def _unfall_spaced(token: str) -> bytes:
    return _unfall(token.replace(METASPACE, " "))


_BYTE_TOKEN_SET = frozenset(BYTE_TOKENS)


def _ids(vocab: Mapping[str, Any]) -> Mapping[str, int]:
    for token, token_id in vocab.items():
        _checked_id(token, token_id)
    if len(set(vocab.values())) != len(vocab):
        raise _refusal("two tokens of the tokenizer have the same id")
    return vocab


def _checked_id(token: str, token_id: object) -> int:
    if len(token) > MOST_TOKEN_CHARACTERS:
        raise _refusal(
            "a token is longer than any in use", found=f"{counted(len(token), 'character')}: {token[:40]!r} …"
        )
    try:
        return whole(token_id, high=MOST_TOKENS - 1)
    except ValueError as error:
        raise _refusal("a token's id is not a whole number in range", found=f"{token!r}: {shown(error)}") from None


def _check_apart(vocab: Mapping[str, int], added: list[tuple[str, int, bool]]) -> None:
    """Each token has one id and each id one token: else text would become an id that means something else."""
    spelled = {token_id: token for token, token_id in vocab.items()}
    known = dict(vocab)
    for content, token_id, _ in added:
        if known.setdefault(content, token_id) != token_id:
            found = f"{content!r}: {known[content]} and {token_id}"
            raise _refusal("a token of the tokenizer has two ids", found=found)
        if spelled.setdefault(token_id, content) != content:
            found = f"{token_id}: {spelled[token_id]!r} and {content!r}"
            raise _refusal("two tokens of the tokenizer have the same id", found=found)
    if len({content for content, _, _ in added}) < len(added):
        raise _refusal("an added token is given twice")


def _check_numbering(vocab: Mapping[str, int], added: list[tuple[str, int, bool]]) -> None:
    """Other programs number added tokens one after the other, whatever the file says: the file must say the same."""
    next_id = len(vocab)
    for content, token_id, _ in added:
        if content not in vocab and token_id != next_id:
            raise _refusal("an added token's id does not follow the others", found=f"{content!r}: {token_id}")
        next_id = max(next_id, token_id + 1)


def _added(entries: object) -> Iterator[tuple[str, int, bool]]:
    for entry in _list(entries, "added_tokens"):
        fields = _object(entry, "an added token")
        content, token_id = fields.get("content"), fields.get("id")
        if not isinstance(content, str) or not content:
            raise _refusal("an added token has no text", found=shown(content))
        special = fields.get("special", False)
        if not isinstance(special, bool):
            found = f"{content[:80]!r}: {shown(special)}"
            raise _refusal("an added token is neither special nor ordinary", found=found)
        yield content, _checked_id(content, token_id), special


def _merges(entries: object, vocab: Mapping[str, int]) -> tuple[tuple[str, str], ...]:
    merges = []
    for entry in _list(entries, "model.merges"):
        pair = tuple(entry.split(" ")) if isinstance(entry, str) else tuple(entry) if isinstance(entry, list) else ()
        if len(pair) != 2 or not all(isinstance(part, str) for part in pair):
            raise _refusal("a merge is not a pair of tokens", found=repr(entry)[:80])
        if any(token not in vocab for token in (*pair, pair[0] + pair[1])):
            raise _refusal("a merge names a token that does not exist", found=repr(entry)[:80])
        merges.append(pair)
    return tuple(merges)


def _is_characters(document: Mapping, vocab: Mapping[str, int], specials: Mapping[str, int]) -> bool:
    """Whether encoding is nothing but looking up single characters, so that an array can do it."""
    steps = [document.get(step) for step in ("normalizer", "pre_tokenizer")]
    ordinary_added = any(not entry.get("special") for entry in document.get("added_tokens") or ())
    single = all(len(token) == 1 for token in vocab if token not in _BYTE_TOKEN_SET and token not in specials)
    model = document["model"]
    fallback = bool(model.get("byte_fallback")) and not model.get("ignore_merges")
    affixes = model.get("continuing_subword_prefix") or model.get("end_of_word_suffix")
    return fallback and single and not ordinary_added and not affixes and steps == [None, None]


def _pattern(document: Mapping, *, ordinary_added: bool) -> str | None:
    if document.get("normalizer") is not None or ordinary_added:
        return None
    steps = list(_flat(document.get("pre_tokenizer"), "pretokenizers"))
    if [step.get("type") for step in steps] == ["ByteLevel"] and not steps[0].get("add_prefix_space"):
        return "gpt2" if steps[0].get("use_regex", True) else None
    if [step.get("type") for step in steps] != ["Split", "ByteLevel"]:
        return None
    split, byte_level = steps
    plain = split.get("behavior") == "Isolated" and not split.get("invert") and not byte_level.get("add_prefix_space")
    if not plain or byte_level.get("use_regex", True) or not isinstance(split.get("pattern"), dict):
        return None
    return pattern_name(str(split["pattern"].get("Regex")))


def _flat(node: object, children: str) -> Iterator[Mapping]:
    if node is None:
        return
    step = _object(node, children)
    if step.get("type") == "Sequence":
        for child in _list(step.get(children), children):
            yield from _flat(child, children)
    else:
        yield step


def _replaces_metaspace(decoder: Mapping) -> bool:
    return decoder.get("type") == "Replace" and decoder.get("pattern") == {"String": METASPACE}


def _strips_first_space(decoder: Mapping) -> bool:
    if decoder.get("type") == "Metaspace":
        return decoder.get("prepend_scheme", "always") != "never"
    return decoder.get("type") == "Strip" and decoder.get("content") == " " and bool(decoder.get("start"))


def _object(node: object, name: str) -> Mapping[str, Any]:
    if not isinstance(node, dict):
        raise _refusal(f"the tokenizer's {name} is not a JSON object", found=type(node).__name__)
    return node


def _list(node: object, name: str) -> list:
    if node is None:
        return []
    if not isinstance(node, list):
        raise _refusal(f"the tokenizer's {name} is not a list", found=type(node).__name__)
    return node


def _refusal(what: str, *, found: str = "") -> TokenizerError:
    return TokenizerError(what, found=found, hint="give the tokenizer.json of a byte-level or byte-fallback BPE")
