"""Tokenizers in GGUF files: read into a `Tokenizer`, and written so that llama.cpp gives the same ids.

Two kinds are in use. `gpt2`: byte-level BPE, its tokens and merges as in `tokenizer.json`, and the name of the way in
which the text is cut. `llama`: SentencePiece's BPE, tokens with scores and no list of merges; two neighbours are joined
when together they are a token, the best score first, so the merges can be worked out and put in that order. Our
character tokenizer is written as the second kind.

It takes and gives plain values (str, int, lists); `store` reads and writes the file. One difference to llama.cpp is
kept on purpose: a control token is reached by its id alone, never by text that happens to spell it.

Source: Kudo & Richardson 2018, "SentencePiece"; the key names are those of llama.cpp.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from pellucid.counts import counted
from pellucid.errors import TokenizerError
from pellucid.events import NULL, Event, Recorder
from pellucid.tokens.byte_characters import BYTE_TOKENS
from pellucid.tokens.document import read_document
from pellucid.tokens.layout import config_json
from pellucid.tokens.formats.pre_tokenizers import BY_NAME, find_pre_tokenizer, pre_tokenizer_json
from pellucid.tokens.tokenizer import Tokenizer
from pellucid.tokens.vocabulary import METASPACE, MOST_TOKEN_CHARACTERS
from pellucid.untrusted import parse_object, shown, whole

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6
SPECIAL = (UNKNOWN, CONTROL)  # what text never becomes
PREFIX = "tokenizer.ggml."
CHAT_TEMPLATE = "tokenizer.chat_template"
BYTE_LEVEL, SENTENCEPIECE = "gpt2", "llama"
LLAMA_IDS = {"bos": 1, "eos": 2}  # what llama.cpp assumes for SentencePiece files that do not say
MOST_MERGED, MERGED_PER_CHARACTER = 1 << 20, 16  # characters of all merges; vocabularies in use have some 3 for each
ENDS = ("eos", "eot", "eom")  # of a text, a turn, a message: whichever the file names, llama.cpp stops there
# Tokens at which llama.cpp stops although no key names them, where the file calls them control tokens or its own.
END_NAMES = {"<|eot_id|>", "<|im_end|>", "<|end|>", "<end_of_turn>", "<|endoftext|>", "<|end_of_text|>", "<|eom_id|>",
             "</s>", "<eos>", "<EOT>", "_<EOT>", "[EOT]", "<end_of_utterance>", "<｜end▁of▁sentence｜>"}  # fmt: skip
FLAGS = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}


def tokenizer_from_values(values: Mapping[str, Any]) -> Tokenizer:
    """The tokenizer that a GGUF file's values describe.

    Raises TokenizerError for values that are missing or do not fit together, and for a kind that is not supported.
    """
    kind = values.get(f"{PREFIX}model")
    if not isinstance(kind, str) or kind not in (BYTE_LEVEL, SENTENCEPIECE):
        raise TokenizerError("this kind of tokenizer is not supported", found=f"{PREFIX}model={shown(kind)}",
                             hint=f"supported: {BYTE_LEVEL} (byte-level BPE), {SENTENCEPIECE} (SentencePiece)")  # fmt: skip
    tokens = _texts(values, "tokens")
    kinds = _numbers(values, "token_type", len(tokens), default=NORMAL)
    specials = {name: _special_id(values, name, len(tokens), kind) for name in ("bos", *ENDS)}
    kinds = [CONTROL if i in specials.values() else given for i, given in enumerate(kinds)]
    vocab = {token: i for i, token in enumerate(tokens) if kinds[i] != UNUSED}
    if len(vocab) < len(tokens) - kinds.count(UNUSED):
        raise TokenizerError("two tokens of the file are spelled the same way")
    build = _byte_level_parts if kind == BYTE_LEVEL else _sentencepiece_parts
    added = [
        {"id": i, "content": tokens[i], **FLAGS, "special": kinds[i] in SPECIAL}
        for i in range(len(tokens))
        if kinds[i] in (*SPECIAL, USER_DEFINED) and tokens[i]
    ]
    document = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": added, "post_processor": None}
    text = json.dumps(document | build(values, vocab, kinds), ensure_ascii=False)
    begins = _flag(values, "add_bos_token", kind == SENTENCEPIECE or BY_NAME[values[f"{PREFIX}pre"]].adds_bos)
    names = [None if i is None else tokens[i] for i in (specials["bos"] if begins else None, specials["eos"])]
    config = parse_object(config_json(*names))
    if isinstance(template := values.get(CHAT_TEMPLATE), str):
        config["chat_template"] = template
    named = [specials[name] for name in ENDS]
    common = [i for i, token in enumerate(tokens) if token in END_NAMES and kinds[i] in (CONTROL, USER_DEFINED)]
    tokenizer = Tokenizer.from_json(text, json.dumps(config, ensure_ascii=False, indent=2) + "\n")
    return tokenizer.ending_at(i for i in (*named, *common) if i is not None)


def tokenizer_to_values(tokenizer: Tokenizer, num_rows: int, *, recorder: Recorder = NULL) -> dict[str, Any]:
    """The values that describe a tokenizer to llama.cpp; rows of the embedding beyond its tokens become unused ones.

    Raises TokenizerError for a tokenizer that llama.cpp would run differently.
    """
    document, vocabulary = read_document(tokenizer.json), tokenizer.vocabulary
    tokens = [f"[PAD{i}]" for i in range(num_rows)]
    kinds = np.full(num_rows, UNUSED, dtype=np.int32)
    for token, i in vocabulary.ids.items():
        tokens[i], kinds[i] = token, NORMAL
    for token, i in vocabulary.added.items():
        tokens[i], kinds[i] = token, CONTROL if token in vocabulary.specials else USER_DEFINED
    if document["model"].get("byte_fallback"):
        values = _sentencepiece_values(tokenizer, document, tokens, kinds)
    else:
        values = _byte_level_values(tokenizer, document, recorder)
    ids = {"bos_token_id": tokenizer.bos_id, "eos_token_id": tokenizer.eos_id}
    ids["bos_token_id"] = ids["eos_token_id"] if ids["bos_token_id"] is None else ids["bos_token_id"]
    values |= {
        "tokens": tokens,
        "token_type": kinds,
        "add_bos_token": tokenizer.bos_id is not None,
        "add_eos_token": False,
    }
    ids |= _further_ends(tokenizer, recorder)
    values |= {name: i for name, i in ids.items() if i is not None}
    template = parse_object(tokenizer.config).get("chat_template")
    more = {CHAT_TEMPLATE: template} if isinstance(template, str) else {}
    return {f"{PREFIX}{name}": value for name, value in values.items()} | more


def _further_ends(tokenizer: Tokenizer, recorder: Recorder) -> dict[str, int]:
    """The keys for ends of text beside <eos>; a GGUF file names two, and others by their spelling alone."""
    names = {token_id: name for name, token_id in tokenizer.vocabulary.added.items()}
    further = [token_id for token_id in tokenizer.more_ends if names.get(token_id) not in END_NAMES]
    if lost := further[2:]:
        message = f"a GGUF file has no place for so many ends of text: {lost} will not end one there"
        recorder.record(Event(name="tokens.gguf_ends_lost", message=message, data={"ids": lost}, level="warning"))
    return dict(zip(("eot_token_id", "eom_token_id"), further, strict=False))


def _byte_level_parts(values: Mapping[str, Any], vocab: Mapping[str, int], kinds: Sequence[int]) -> dict[str, Any]:
    name = values.get(f"{PREFIX}pre")
    if not isinstance(name, str) or name not in BY_NAME:
        raise TokenizerError(
            "the file cuts its text in a way that is not known here", found=f"{PREFIX}pre={shown(name)}",
            hint="known: " + ", ".join(BY_NAME),
        )  # fmt: skip
    pre = BY_NAME[name]
    merges = [merge.split(" ", 1) for merge in _texts(values, "merges", least=0)]
    return {
        "normalizer": None,
        "pre_tokenizer": pre_tokenizer_json(pre),
        "decoder": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False},
        "model": _model(vocab, merges, ignore_merges=pre.ignores_merges),
    }


def _sentencepiece_parts(values: Mapping[str, Any], vocab: Mapping[str, int], kinds: Sequence[int]) -> dict[str, Any]:
    scores = _numbers(values, "scores", len(kinds))
    spaced = _flag(values, "add_space_prefix", True)
    unknown = next((token for token, i in vocab.items() if kinds[i] == UNKNOWN), None)
    to_metaspace = {"type": "Replace", "pattern": {"String": " "}, "content": METASPACE}
    to_space = {"type": "Replace", "pattern": {"String": METASPACE}, "content": " "}
    normalizers = [*([{"type": "Prepend", "prepend": METASPACE}] if spaced else []), to_metaspace]
    strip = [{"type": "Strip", "content": " ", "start": 1, "stop": 0}] if spaced else []
    merges = list(_merges({token: i for token, i in vocab.items() if kinds[i] == NORMAL}, scores))
    return {
        "normalizer": {"type": "Sequence", "normalizers": normalizers},
        "pre_tokenizer": None,
        "decoder": {"type": "Sequence", "decoders": [to_space, {"type": "ByteFallback"}, {"type": "Fuse"}, *strip]},
        "model": _model(vocab, merges, byte_fallback=True, unk_token=unknown, fuse_unk=True),
    }


def _merges(ids: Mapping[str, int], scores: Sequence[float]) -> Iterator[list[str]]:
    """Every way of joining two tokens to a third, best score first; equal scores in the order of the ids.

    Raises TokenizerError when their number says that the tokens were made to be many, not to be read.
    """
    known = {token: token for token in ids}  # one string for each spelling, however often it is named
    order = sorted((token for token in ids if len(token) > 1), key=lambda token: (-scores[ids[token]], ids[token]))
    left = MOST_MERGED + MERGED_PER_CHARACTER * sum(map(len, ids))
    for token in order:
        splits = ((known.get(token[:cut]), known.get(token[cut:])) for cut in range(1, len(token)))
        pairs = [(one, other) for one, other in splits if one is not None and other is not None]
        left -= len(pairs) * len(token)
        if left < 0:
            raise TokenizerError("the tokens of the file can be joined in too many ways", found=shown(token[:40]))
        yield from map(list, sorted(pairs, key=lambda pair: (ids[pair[0]], ids[pair[1]])))


def _model(vocab: Mapping[str, int], merges: list[list[str]], **fields: Any) -> dict[str, Any]:
    return {
        "type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None, "end_of_word_suffix": None,
        "fuse_unk": False, "byte_fallback": False, "ignore_merges": False, **fields, "vocab": vocab, "merges": merges,
    }  # fmt: skip


def _byte_level_values(tokenizer: Tokenizer, document: Mapping[str, Any], recorder: Recorder) -> dict[str, Any]:
    pre = find_pre_tokenizer(document.get("pre_tokenizer"), ignores_merges=tokenizer.vocabulary.ignores_merges)
    normalizer = document.get("normalizer")
    if pre is None or (normalizer or {"type": "NFC"}) != {"type": "NFC"}:
        raise TokenizerError(
            "llama.cpp knows no way of cutting a text like this tokenizer's", found=json.dumps(document["pre_tokenizer"])[:200]
        )  # fmt: skip
    if normalizer:
        message = "llama.cpp does not compose characters (NFC) before it reads them, this tokenizer does"
        recorder.record(Event(name="tokens.gguf_no_normalizer", message=message, level="warning"))
    merges = [" ".join(pair) for pair in tokenizer.vocabulary.merges]
    return {"model": BYTE_LEVEL, "pre": pre.name, "merges": merges}


def _sentencepiece_values(
    tokenizer: Tokenizer, document: Mapping[str, Any], tokens: list[str], kinds: np.ndarray
) -> dict[str, Any]:
    """The kind `llama`; changes `tokens` and `kinds` where that kind writes them differently."""
    vocabulary = tokenizer.vocabulary
    spelled = document.get("normalizer") or document.get("pre_tokenizer")  # spaces are ▁ already
    if not spelled:
        _spell_spaces(tokens, kinds)
    for token in BYTE_TOKENS:
        kinds[vocabulary.ids[token]] = BYTE
    if unknown := document["model"].get("unk_token"):
        kinds[vocabulary.specials.get(unknown, vocabulary.ids.get(unknown))] = UNKNOWN
    scores = np.zeros(len(tokens), dtype=np.float32)
    scores[list(vocabulary.ids.values())] = -float(len(vocabulary.merges) + 1)
    for rank, (left, right) in reversed(list(enumerate(vocabulary.merges))):  # the first merge to a token counts
        scores[vocabulary.ids[left + right]] = -float(rank)
    return {
        "model": SENTENCEPIECE,
        "pre": "default",
        "scores": scores,
        "add_space_prefix": vocabulary.drops_first_space,
    }


def _spell_spaces(tokens: list[str], kinds: np.ndarray) -> None:
    if any(METASPACE in token for token, kind in zip(tokens, kinds, strict=True) if kind == NORMAL):
        raise TokenizerError(
            f"a GGUF file writes a space as {METASPACE}, and this tokenizer has a token with that character"
        )
    for i, kind in enumerate(kinds):
        if kind == NORMAL:
            tokens[i] = tokens[i].replace(" ", METASPACE)


def _texts(values: Mapping[str, Any], name: str, *, least: int = 1) -> list[str]:
    found = values.get(f"{PREFIX}{name}")
    if not isinstance(found, list) or len(found) < least or not all(isinstance(text, str) for text in found):
        raise TokenizerError(f"the file has no {PREFIX}{name}", found=type(found).__name__)
    longest = max(found, key=len, default="")
    if len(longest) > 2 * MOST_TOKEN_CHARACTERS:  # a merge is two tokens
        what = f"an entry of {PREFIX}{name} is longer than any in use"
        raise TokenizerError(what, found=f"{counted(len(longest), 'character')}: {longest[:40]!r} …")
    return found


def _flag(values: Mapping[str, Any], name: str, default: bool) -> bool:
    found = values.get(f"{PREFIX}{name}", default)
    if not isinstance(found, bool):
        raise TokenizerError(f"{PREFIX}{name} is neither true nor false", found=shown(found))
    return found


def _numbers(values: Mapping[str, Any], name: str, count: int, default: float | None = None) -> list[Any]:
    found = values.get(f"{PREFIX}{name}")
    if found is None and default is not None:
        return [default] * count
    if not isinstance(found, np.ndarray) or len(found) != count or not np.isfinite(found).all():
        raise TokenizerError(f"{PREFIX}{name} does not have a number for each of the {count:,} tokens")
    return found.tolist()


def _special_id(values: Mapping[str, Any], name: str, count: int, kind: str) -> int | None:
    found = values.get(f"{PREFIX}{name}_token_id", LLAMA_IDS.get(name) if kind == SENTENCEPIECE else None)
    if found is None or (isinstance(found, int) and found == 0xFFFFFFFF):  # both mean: none
        return None
    try:
        return whole(found, high=count - 1)
    except ValueError as error:
        raise TokenizerError(f"{PREFIX}{name}_token_id is not the id of a token", found=shown(error)) from None
