"""Byte-pair encoding (BPE): in each piece the pair that was learned first is joined, again and again.

Byte-level: ids 0-255 are the bytes, then tokens in the order of their merges, so that rank and id tell the same order.
Files from outside may have other ids, and byte fallback instead of a byte-level alphabet; a character tokenizer is a BPE
without merges.

Source: Sennrich et al. 2016, "Neural Machine Translation of Rare Words with Subword Units".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pellucid.errors import TokenizerError
from pellucid.tokens import layout as shared
from pellucid.tokens.byte_characters import BYTE_CHARACTERS
from pellucid.tokens.vocabulary import HINT, UNREACHED, Check, ModelTokens, Vocabulary, as_list, as_object, check_ids
from pellucid.untrusted import shown

FIELDS: dict[str, Check] = {
    "type": lambda value: value == "BPE",
    "dropout": lambda value: value is None or (type(value) in (int, float) and value == 0),
    "unk_token": lambda value: value is None or isinstance(value, str),
    "continuing_subword_prefix": lambda value: value in (None, ""),
    "end_of_word_suffix": lambda value: value in (None, ""),
    "fuse_unk": lambda value: isinstance(value, bool),
    "byte_fallback": lambda value: isinstance(value, bool),
    "ignore_merges": lambda value: isinstance(value, bool),
    "vocab": lambda value: isinstance(value, dict),
    "merges": lambda value: isinstance(value, list),
}


def read(node: Mapping[str, Any]) -> ModelTokens:
    """The tokens and merges of a file's model. Its unknown token is not read: a text that needs it is refused."""
    if node.get("dropout"):
        raise TokenizerError(
            "the tokenizer drops merges at random", found=f"dropout {shown(node['dropout'])}", hint=HINT
        )
    vocab = check_ids(as_object(node.get("vocab"), "model.vocab"))
    merges = _merges(node.get("merges"), vocab)
    return ModelTokens(vocab=vocab, merges=merges, ignores_merges=bool(node.get("ignore_merges")))


def for_engine(node: Mapping[str, Any], vocabulary: Vocabulary, tokens: Mapping[str, int]) -> dict[str, Any]:
    """The model that the engine gets: `tokens` holds no special one, and no merge leads to one."""
    merges = [pair for pair in vocabulary.merges if not vocabulary.specials.keys() & {*pair, pair[0] + pair[1]}]
    return {
        **settings(byte_fallback=node.get("byte_fallback", False), ignore_merges=node.get("ignore_merges", False)),
        "unk_token": UNREACHED,
        "vocab": dict(tokens),
        "merges": merges,
    }


def layout(merges: Sequence[tuple[str, str]], pattern: str, specials: Sequence[str]) -> dict[str, Any]:
    """The `tokenizer.json` of a byte-level BPE with these merges, spelled in byte characters.

    >>> layout([("a", "b")], "qwen2", ["<eos>"])["model"]["vocab"]["ab"]
    256
    """
    tokens = dict.fromkeys((*BYTE_CHARACTERS, *(left + right for left, right in merges)))
    vocab = {token: token_id for token_id, token in enumerate(tokens)}
    steps = shared.byte_level_pieces(pattern)
    return shared.document(
        model(vocab, merges),
        specials=shared.numbered(specials, len(vocab)),
        pre_tokenizer=steps,
        decoder=shared.BYTE_LEVEL,
    )


def model(vocab: Mapping[str, int], merges: Iterable[Iterable[str]], **changes: Any) -> dict[str, Any]:
    """The `model` of a `tokenizer.json`, all its settings neutral but the changes."""
    return {**settings(**changes), "vocab": dict(vocab), "merges": [list(pair) for pair in merges]}


def settings(**changes: Any) -> dict[str, Any]:
    """The fields of a BPE model in a `tokenizer.json`, all neutral but the changes."""
    return {
        "type": "BPE",
        "dropout": None,
        "unk_token": None,
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": False,
        "byte_fallback": False,
        "ignore_merges": False,
        **changes,
    }


def _merges(entries: object, vocab: Mapping[str, int]) -> tuple[tuple[str, str], ...]:
    merges = []
    for entry in as_list(entries, "model.merges"):
        pair = tuple(entry.split(" ")) if isinstance(entry, str) else tuple(entry) if isinstance(entry, list) else ()
        if len(pair) != 2 or not all(isinstance(part, str) for part in pair):
            raise TokenizerError("a merge is not a pair of tokens", found=repr(entry)[:80], hint=HINT)
        if any(token not in vocab for token in (*pair, pair[0] + pair[1])):
            raise TokenizerError("a merge names a token that does not exist", found=repr(entry)[:80], hint=HINT)
        merges.append(pair)
    return tuple(merges)
