"""Tokenizers in GGUF files: read into a `Tokenizer`, and written so that llama.cpp gives the same ids.

Five kinds are read.

    gpt2     byte-level BPE: tokens and merges as in `tokenizer.json`, and the name of the way in which the text is cut
    llama    SentencePiece's BPE: tokens with scores, from which the merges can be worked out
    t5       SentencePiece's Unigram: tokens with scores, and its table of replacements
    gemma4   BPE with merges over text as it is: a space as ▁, other bytes as `<0xE4>`, cut at line ends alone
    bert     WordPiece; a token that begins a word has a ▁, where `vocab.txt` marks those that do not with ##

The first two and the last are written, our character tokenizer as the second. A file of the first kind that does not name its way of
cutting, or calls it `default`, needs one chosen by hand: llama.cpp takes one of its own and warns, which no tokenizer uses.

It takes and gives plain values (str, int, lists); `store` reads and writes the file. One difference to llama.cpp is
kept on purpose: a control token is reached by its id alone, never by text that happens to spell it.

Source: Kudo & Richardson 2018, "SentencePiece"; the key names are those of llama.cpp.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from pellucid.errors import TokenizerError
from pellucid.events import NULL, Event, Recorder
from pellucid.tokens import layout
from pellucid.tokens.byte_characters import BYTE_TOKENS
from pellucid.tokens.document import read_document
from pellucid.tokens.formats.canonical import WRITTEN, forms_instead, kind_in_words
from pellucid.tokens.formats.gguf_values import (
    BYTE_LEVEL,
    GEMMA,
    KEYS,
    PREFIX,
    SENTENCEPIECE,
    UNIGRAM,
    WORDPIECE,
    flag,
    numbers,
    special_id,
    texts,
)
from pellucid.tokens.formats.gguf_wordpiece import read_wordpiece, wordpiece_values
from pellucid.tokens.formats.pre_tokenizers import (
    BY_NAME,
    PreTokenizer,
    chosen_pre_tokenizer,
    find_pre_tokenizer,
    pre_tokenizer_json,
)
from pellucid.tokens.formats.sentencepiece import (
    BYTE,
    CONTROL,
    NORMAL,
    UNKNOWN,
    UNUSED,
    USER_DEFINED,
    SentencePieceModel,
    decoder,
    model_document,
    normalizer,
    score_merges,
)
from pellucid.tokens.framing import Frame, frame_of_file
from pellucid.tokens.models import bpe
from pellucid.tokens.patterns import PATTERNS
from pellucid.tokens.roles import END_NAMES, ENDS, NAMES, Claim, Roles
from pellucid.tokens.tokenizer import Tokenizer
from pellucid.tokens.vocabulary import METASPACE, Vocabulary
from pellucid.untrusted import parse_object, shown

SPECIAL = (UNKNOWN, CONTROL)  # what text never becomes
CHAT_TEMPLATE = "tokenizer.chat_template"
CONTROLS = ("bos", "eos", "eot", "eom")  # what no text may become, whatever the file calls it
STOPPED_AT = "a name at which llama.cpp stops"  # no key names it, but the file calls it a control token or its own


def tokenizer_from_values(values: Mapping[str, Any], *, pattern: str | None = None) -> Tokenizer:
    """The tokenizer that a GGUF file's values describe.

    `pattern`: how a byte-level tokenizer cuts a text, chosen by hand: a name of `patterns.py` or of `pre_tokenizers.py`;
    it goes before what the file says. Raises TokenizerError for values that are missing or do not fit together, and for a
    kind that is not supported.
    """
    kind = values.get(f"{PREFIX}model")
    if not isinstance(kind, str) or kind not in BUILD:
        raise TokenizerError("this kind of tokenizer is not supported", found=f"{PREFIX}model={shown(kind)}",
                             hint="supported: " + ", ".join(BUILD))  # fmt: skip
    tokens = texts(values, "tokens")
    kinds = numbers(values, "token_type", len(tokens), default=NORMAL)
    specials = {name: special_id(values, name, len(tokens), kind) for name in KEYS}
    if kind == WORDPIECE:  # [CLS] begins a text and [SEP] ends it, which is no end of writing
        around = {specials["cls"], specials["seperator"]}
        specials |= {name: None for name in CONTROLS if specials[name] in around}
    stops = {i for i, token in enumerate(tokens) if token in END_NAMES and kinds[i] in (CONTROL, USER_DEFINED)}
    controls = stops | {specials[name] for name in CONTROLS}
    kinds = [CONTROL if i in controls else given for i, given in enumerate(kinds)]
    vocab = {token: i for i, token in enumerate(tokens) if kinds[i] != UNUSED}
    if len(vocab) < len(tokens) - kinds.count(UNUSED):
        raise TokenizerError("two tokens of the file are spelled the same way")
    if pattern is not None and kind != BYTE_LEVEL:
        raise TokenizerError(
            f"a tokenizer of the kind {kind} is not cut by a pattern", found=f"--pattern {pattern}", hint="leave it out"
        )
    pre = _pre_tokenizer(values, pattern) if kind == BYTE_LEVEL else None
    document = BUILD[kind](values, vocab, kinds, pre)
    if not flag(values, "add_bos_token", kind == SENTENCEPIECE or (pre is not None and pre.adds_bos)):
        specials["bos"] = None
    before, after = _frame(values, kind, specials)
    framed = layout.with_frame(document, [tokens[i] for i in before], [tokens[i] for i in after])
    text = json.dumps(framed if before or after else document, ensure_ascii=False)
    config = parse_object(layout.config_json({"bos": None, "eos": None}))  # the roles below are written into it
    if isinstance(template := values.get(CHAT_TEMPLATE), str):
        config["chat_template"] = template
    keys = [(KEYS[name], i, f"{PREFIX}{name}_token_id") for name, i in specials.items() if i is not None]
    common = [(role, i, STOPPED_AT) for i in sorted(stops) for role in ENDS if tokens[i] in NAMES[role]]
    tokenizer = Tokenizer.from_json(text, json.dumps(config, ensure_ascii=False, indent=2) + "\n")
    claims = [Claim(role=role, ids=(i,), where=where) for role, i, where in (*keys, *common)]
    return tokenizer.with_roles(Roles(tuple(claims)).told(tokenizer.roles.claims))


def _frame(values: Mapping[str, Any], kind: str, specials: Mapping[str, int | None]) -> tuple[list[int], list[int]]:
    """What stands before a text and behind it: [CLS] and [SEP], or what the file says of <bos> and <eos>."""
    if kind == WORDPIECE:
        before, after = specials["cls"], specials["seperator"] if flag(values, "add_sep_token", True) else None
    else:
        before, after = specials["bos"], specials["eos"] if flag(values, "add_eos_token", kind == UNIGRAM) else None
    return [before] if before is not None else [], [after] if after is not None else []


def tokenizer_to_values(
    tokenizer: Tokenizer, num_rows: int, *, reads_whole: bool = False, recorder: Recorder = NULL
) -> dict[str, Any]:
    """The values that describe a tokenizer to llama.cpp; rows of the embedding beyond its tokens become unused ones.

    `reads_whole`: for an encoder, which reads a text with what its file puts before it and behind it, and not as a prompt.
    Raises TokenizerError for a tokenizer that llama.cpp would run differently.
    """
    document, vocabulary = read_document(tokenizer.json), tokenizer.vocabulary
    if "gguf" not in WRITTEN[vocabulary.kind]:  # others would be read as a BPE without merges, and give other ids
        raise TokenizerError(
            "a tokenizer of this kind cannot be written as GGUF",
            found=kind_in_words(vocabulary), hint=forms_instead(vocabulary, "gguf"),
        )  # fmt: skip
    tokens = [f"[PAD{i}]" for i in range(num_rows)]
    kinds = np.full(num_rows, UNUSED, dtype=np.int32)
    for token, i in vocabulary.ids.items():
        tokens[i], kinds[i] = token, NORMAL
    for token, i in vocabulary.added.items():
        tokens[i], kinds[i] = token, CONTROL if token in vocabulary.specials else USER_DEFINED
    ids = {f"{name}_token_id": tokenizer.roles.first(role) for name, role in KEYS.items() if role not in ENDS}
    ids |= {"bos_token_id": tokenizer.bos_id, "eos_token_id": tokenizer.eos_id}
    adds_bos, adds_eos = tokenizer.bos_id is not None, False
    if reads_whole:
        before, after = _single(frame_of_file(tokenizer))
        if vocabulary.kind == "wordpiece" and None in (before, after):
            raise TokenizerError(
                "a GGUF file puts a token before and behind every text of a WordPiece, and this model has learned without",
                found=f"{before} before, {after} behind",
                hint="keep it as a directory",
            )
        first, last = ("cls", "seperator") if vocabulary.kind == "wordpiece" else ("bos", "eos")
        ids |= {f"{name}_token_id": i for name, i in ((first, before), ("bos", before), (last, after)) if i is not None}
        adds_bos, adds_eos = before is not None, after is not None
    if vocabulary.kind == "wordpiece":
        values = wordpiece_values(tokenizer, document, tokens, ids["seperator_token_id"], recorder)
    elif document["model"].get("byte_fallback"):
        values = _sentencepiece_values(tokenizer, document, tokens, kinds, recorder)
    else:
        values = _byte_level_values(tokenizer, document, recorder)
    instead = (
        ids["cls_token_id"] if vocabulary.kind == "wordpiece" else ids["eos_token_id"]
    )  # what a text begins with there
    ids["bos_token_id"] = instead if ids["bos_token_id"] is None else ids["bos_token_id"]
    values |= {
        "tokens": tokens,
        "token_type": kinds,
        "add_bos_token": adds_bos,
        "add_eos_token": adds_eos,
    }
    ids |= _further_ends(tokenizer, recorder)
    values |= {name: i for name, i in ids.items() if i is not None}
    template = parse_object(tokenizer.config).get("chat_template")
    more = {CHAT_TEMPLATE: template} if isinstance(template, str) else {}
    return {f"{PREFIX}{name}": value for name, value in values.items()} | more


def _single(frame: Frame) -> tuple[int | None, int | None]:
    """The token before a text and the one behind it; None where there is none."""
    if max(len(frame.before), len(frame.after)) > 1:
        raise TokenizerError(
            "a GGUF file puts one token before a text and one behind it",
            found=f"{list(frame.before)} before, {list(frame.after)} behind",
            hint="keep it as a directory",
        )
    return next(iter(frame.before), None), next(iter(frame.after), None)


def _further_ends(tokenizer: Tokenizer, recorder: Recorder) -> dict[str, int]:
    """The keys for ends of text beside <eos>; a GGUF file names two, and others by their spelling alone."""
    names = {token_id: name for name, token_id in tokenizer.vocabulary.added.items()}
    further = [
        token_id
        for token_id in tokenizer.roles.ends
        if token_id != tokenizer.eos_id and names.get(token_id) not in END_NAMES
    ]
    if lost := further[2:]:
        message = f"a GGUF file has no place for so many ends of text: {lost} will not end one there"
        recorder.record(Event(name="tokens.gguf_ends_lost", message=message, data={"ids": lost}, level="warning"))
    return dict(zip(("eot_token_id", "eom_token_id"), further, strict=False))


def _pre_tokenizer(values: Mapping[str, Any], pattern: str | None) -> PreTokenizer:
    """How the text is cut: as a person chose, or as the file says."""
    if pattern is not None:
        return chosen_pre_tokenizer(pattern)
    name = values.get(f"{PREFIX}pre")
    if not isinstance(name, str) or name not in BY_NAME:
        raise TokenizerError(
            "the file cuts its text in a way that is not known here", found=f"{PREFIX}pre={shown(name)}",
            hint="choose one (--pattern): " + ", ".join(dict.fromkeys((*PATTERNS, *BY_NAME))),
        )  # fmt: skip
    return BY_NAME[name]


def _byte_level(
    values: Mapping[str, Any], vocab: Mapping[str, int], kinds: Sequence[int], pre: PreTokenizer | None
) -> dict[str, Any]:
    assert pre is not None
    merges = [merge.split(" ", 1) for merge in texts(values, "merges", least=0)]
    return layout.document(
        bpe.model(vocab, merges, ignore_merges=pre.ignores_merges),
        specials=_of_kind(vocab, kinds, *SPECIAL),
        ordinary=_of_kind(vocab, kinds, USER_DEFINED),
        pre_tokenizer=pre_tokenizer_json(pre),
        decoder=layout.BYTE_LEVEL,
    )


def _sentencepiece(
    values: Mapping[str, Any], vocab: Mapping[str, int], kinds: Sequence[int], _: PreTokenizer | None
) -> dict[str, Any]:
    """The kind `llama`. What a user defined is an added token here: llama.cpp cuts it out before it puts a space in front."""
    scores = numbers(values, "scores", len(kinds))
    model = SentencePieceModel(
        kind="bpe", pieces=list(vocab), scores=scores, types=kinds, byte_fallback=True, fewer_spaces=False,
        space_first=flag(values, "add_space_prefix", True),
    )  # fmt: skip
    unknown = next((token for token, i in vocab.items() if kinds[i] == UNKNOWN), None)
    merges = score_merges({token: i for token, i in vocab.items() if kinds[i] == NORMAL}, scores)
    return layout.document(
        bpe.model(vocab, merges, byte_fallback=True, unk_token=unknown, fuse_unk=True),
        specials=_of_kind(vocab, kinds, *SPECIAL),
        ordinary=_of_kind(vocab, kinds, USER_DEFINED),
        normalizer=normalizer(model),
        pre_tokenizer=None,
        decoder=decoder(model),
    )


def _gemma(
    values: Mapping[str, Any], vocab: Mapping[str, int], kinds: Sequence[int], _: PreTokenizer | None
) -> dict[str, Any]:
    """The kind `gemma4`."""
    merges = [merge.split(" ", 1) for merge in texts(values, "merges", least=0)]
    model = SentencePieceModel(
        kind="bpe", pieces=list(vocab), scores=(), types=kinds, byte_fallback=True, fewer_spaces=False, space_first=False
    )  # fmt: skip
    return layout.document(
        bpe.model(vocab, merges, byte_fallback=True),
        specials=_of_kind(vocab, kinds, *SPECIAL),
        ordinary=_of_kind(vocab, kinds, USER_DEFINED),
        normalizer=normalizer(model),
        pre_tokenizer=layout.split(r"[^\n]+|\n+"),
        decoder=decoder(model),
    )


def _unigram(
    values: Mapping[str, Any], vocab: Mapping[str, int], kinds: Sequence[int], _: PreTokenizer | None
) -> dict[str, Any]:
    """The kind `t5`."""
    table = values.get(f"{PREFIX}precompiled_charsmap")
    tokens = texts(values, "tokens")
    types = [UNKNOWN if i == values.get(f"{PREFIX}unknown_token_id", 2) else kind for i, kind in enumerate(kinds)]
    return model_document(
        SentencePieceModel(
            kind="unigram", pieces=tokens, scores=numbers(values, "scores", len(kinds)), types=types, byte_fallback=False,
            table=table.tobytes() if isinstance(table, np.ndarray) else b"",
            space_first=flag(values, "add_space_prefix", False),
            fewer_spaces=flag(values, "remove_extra_whitespaces", False),
        )
    )  # fmt: skip


BUILD: Mapping[str, Callable[..., dict[str, Any]]] = {
    BYTE_LEVEL: _byte_level, GEMMA: _gemma, SENTENCEPIECE: _sentencepiece, UNIGRAM: _unigram, WORDPIECE: lambda values, vocab, kinds, _: read_wordpiece(values, vocab, kinds),
}  # fmt: skip


def _of_kind(vocab: Mapping[str, int], kinds: Sequence[int], *wanted: int) -> dict[str, int]:
    """The tokens of some types, which stand beside the model's own."""
    return {token: i for token, i in vocab.items() if kinds[i] in wanted and token}


def _byte_level_values(tokenizer: Tokenizer, document: Mapping[str, Any], recorder: Recorder) -> dict[str, Any]:
    pre = find_pre_tokenizer(document.get("pre_tokenizer"), ignores_merges=tokenizer.vocabulary.ignores_merges)
    normalizer = document.get("normalizer")
    if pre is None or (normalizer or {"type": "NFC"}) != {"type": "NFC"}:
        raise TokenizerError(
            "llama.cpp knows no way of cutting a text like this tokenizer's",
            found=json.dumps(document["pre_tokenizer"])[:200], hint=forms_instead(tokenizer.vocabulary, "gguf"),
        )  # fmt: skip
    if normalizer:
        message = "llama.cpp does not compose characters (NFC) before it reads them, this tokenizer does"
        recorder.record(Event(name="tokens.gguf_no_normalizer", message=message, level="warning"))
    merges = [" ".join(pair) for pair in tokenizer.vocabulary.merges]
    return {"model": BYTE_LEVEL, "pre": pre.name, "merges": merges}


def _sentencepiece_values(
    tokenizer: Tokenizer, document: Mapping[str, Any], tokens: list[str], kinds: np.ndarray, recorder: Recorder
) -> dict[str, Any]:
    """The kind `llama`; changes `tokens` and `kinds` where that kind writes them differently."""
    vocabulary = tokenizer.vocabulary
    spelled = document.get("normalizer") or document.get("pre_tokenizer")  # spaces are ▁ already
    if not spelled:
        _spell_spaces(tokens, kinds, tokenizer.vocabulary)
        message = f"a GGUF file writes a space as {METASPACE}: where a text has that character, it is read as a space"
        recorder.record(Event(name="tokens.gguf_space_mark", message=message, level="warning"))
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


def _spell_spaces(tokens: list[str], kinds: np.ndarray, vocabulary: Vocabulary) -> None:
    marked = [token for token, kind in zip(tokens, kinds, strict=True) if kind == NORMAL and METASPACE in token]
    if marked:
        raise TokenizerError(
            f"a GGUF file writes a space as {METASPACE}, and this tokenizer has a token with that character",
            found=f"{kind_in_words(vocabulary)}: {shown(marked[0])}", hint=forms_instead(vocabulary, "gguf"),
        )  # fmt: skip
    for i, kind in enumerate(kinds):
        if kind == NORMAL:
            tokens[i] = tokens[i].replace(" ", METASPACE)
