"""The allow-list for a `tokenizer.json` from outside: the steps that may reach the engine, their fields and values.

The engine trusts its file: some values end the process, others hang it, others let text vanish. So it never gets the
file. It gets a document made here of the parts that are on the list; anything else is refused by name, the unknown key
as well as the unknown kind.

    normalizer       unicode forms; spaces written as ▁; a ▁ in front; for kinds that lose text anyway what they change
    pre_tokenizer    cuts that keep every character, then bytes as characters; for such kinds cuts at spaces
    model            one of `models/`, its tokens without the special ones
    added_tokens     those that are ordinary text
    not passed on    special tokens, post-processors (they only place special tokens), the decoder (decoding is done
                     here), truncation and padding

Special tokens stay out, so that no merge, no whole-piece lookup and no byte fallback can lead to one: what spells
`<eos>` becomes the tokens of its characters, whichever way the file would have had it. For BPE a character that no token
can spell is an error of the engine (its unknown token is one that does not exist), never a lost character. For words,
WordPiece and Unigram it may become the unknown token, which is counted (`Tokenizer.count_unknown`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from pellucid.errors import TokenizerError
from pellucid.tokens.expression import check_expression
from pellucid.tokens.losses import EDGE_SPACES, PLAIN_SPACE, REPLACED, SPACE_RUNS
from pellucid.tokens.models.kinds import MODELS
from pellucid.tokens.spelling import flat
from pellucid.tokens.vocabulary import METASPACE, MOST_TOKEN_CHARACTERS, Check, Vocabulary
from pellucid.untrusted import shown

MOST_STEPS = 64
TABLE, TABLE_FIELD = "Precompiled", "precompiled_charsmap"
MOST_TABLE = 1 << 21  # characters of a table of replacements; the largest in use has 400,000
LAYOUT = (
    "version", "truncation", "padding", "added_tokens", "normalizer", "pre_tokenizer", "post_processor", "decoder",
    "model",
)  # fmt: skip
ADDED_FIELDS = ("id", "content", "single_word", "lstrip", "rstrip", "normalized", "special")
KEEPING = ("Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous")  # not Removed


def _flag(value: Any) -> bool:
    return isinstance(value, bool)


def _is(*allowed: Any) -> Check:
    return lambda value: any(type(value) is type(one) and value == one for one in allowed)


def _pattern(value: Any) -> bool:
    """A text to be found as it stands, or an expression of the plain kind."""
    if not isinstance(value, dict) or len(value) != 1:
        return False
    [(kind, text)] = value.items()
    if not isinstance(text, str) or not text:
        return False
    if kind == "Regex":
        check_expression(text)
    return kind == "Regex" or (kind == "String" and len(text) <= MOST_TOKEN_CHARACTERS)


def _short(value: Any) -> bool:
    """A few characters that stand for others."""
    return isinstance(value, str) and len(value) <= 8


def _table(value: Any) -> bool:
    """SentencePiece's table of replacements, in base64."""
    return (
        isinstance(value, str) and len(value) <= MOST_TABLE and re.fullmatch(r"[A-Za-z0-9+/]*={0,2}", value) is not None
    )


BYTE_LEVEL: dict[str, Check] = {"add_prefix_space": _flag, "trim_offsets": _flag, "use_regex": _flag}
SPACES = {"replacement": _is(METASPACE), "str_rep": _is(METASPACE), "add_prefix_space": _flag,
          "prepend_scheme": _is("always", "first", "never"), "split": _flag}  # fmt: skip
FORMS: dict[str, dict[str, Check]] = {form: {} for form in ("NFC", "NFD", "NFKC", "NFKD")}
ALLOWED: dict[str, dict[str, dict[str, Check]]] = {
    "normalizer": {
        **FORMS,
        "Prepend": {"prepend": _is(METASPACE)},
        TABLE: {TABLE_FIELD: _table},
        "Replace": {"pattern": _is(PLAIN_SPACE, EDGE_SPACES, SPACE_RUNS), "content": _is(METASPACE, "", " ")},
    },
    "pre_tokenizer": {
        "ByteLevel": BYTE_LEVEL,
        "Split": {"pattern": _pattern, "behavior": _is(*KEEPING), "invert": _flag},
        "Digits": {"individual_digits": _flag},
        "Punctuation": {"behavior": _is(*KEEPING)},
        "Metaspace": SPACES,
    },
    "decoder": {
        "ByteLevel": BYTE_LEVEL,
        "Metaspace": SPACES,
        "Replace": {"pattern": _is({"String": METASPACE}), "content": _is(" ")},
        "ByteFallback": {},
        "Fuse": {},
        "Strip": {"content": _is(" "), "start": _is(0, 1), "stop": _is(0)},
    },
}
# What changes or drops text may pass in kinds that do not promise to give it back.
LOSSY: dict[str, dict[str, dict[str, Check]]] = {
    "normalizer": {
        "BertNormalizer": {"clean_text": _flag, "handle_chinese_chars": _flag, "strip_accents": _is(None, True, False),
                           "lowercase": _flag},
        "Lowercase": {},
        "StripAccents": {},
        "Strip": {"strip_left": _flag, "strip_right": _flag},
        "Replace": {"pattern": _pattern, "content": _short},
    },
    "pre_tokenizer": {"BertPreTokenizer": {}, "Whitespace": {}, "WhitespaceSplit": {}},
    "decoder": {"WordPiece": {"prefix": _short, "cleanup": _flag}},
}  # fmt: skip
CHILDREN = {"normalizer": "normalizers", "pre_tokenizer": "pretokenizers", "decoder": "decoders"}
OFFSETS = "ByteLevel"  # the one post-processor that is passed on: it says which characters a token covers
PLACING = ("TemplateProcessing", "BertProcessing", "RobertaProcessing")  # they place special tokens, which callers do


def engine_document(document: Mapping[str, Any], vocabulary: Vocabulary) -> dict[str, Any]:
    """The document that the engine gets. Raises TokenizerError for anything that is not on the list."""
    _check_keys(document, LAYOUT, "the file")
    is_lossy = vocabulary.kind not in ("bpe", "char")
    steps = {
        section: list(_steps(document.get(section), section, known | (LOSSY[section] if is_lossy else {})))
        for section, known in ALLOWED.items()
    }
    if not is_lossy:
        _check_replaced(steps["normalizer"])
    _check_together(steps)
    if vocabulary.kind == "unigram" and not _hides_spaces(steps):
        raise _refusal("pre_tokenizer", f"spaces reach a Unigram as they are, not as {METASPACE} or byte characters")
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": list(_added(document.get("added_tokens"), vocabulary, steps["normalizer"])),
        "normalizer": _sequence(steps["normalizer"], "normalizer"),
        "pre_tokenizer": _sequence(steps["pre_tokenizer"], "pre_tokenizer"),
        "post_processor": _offsets(document.get("post_processor")),
        "decoder": None,
        "model": _model(document["model"], vocabulary),
    }


def without_table(parts: dict[str, Any]) -> tuple[dict[str, Any], str | None]:
    """The engine's document without the table of replacements that comes first, and that table in base64 (None: none).

    The table is run here (`charsmap.py`). One that comes after other steps stays with the engine.
    """
    steps = list(map(dict, flat(parts["normalizer"], CHILDREN["normalizer"])))
    if not steps or steps[0]["type"] != TABLE:
        return parts, None
    return {**parts, "normalizer": _sequence(steps[1:], "normalizer")}, steps[0].get(TABLE_FIELD, "")


def _steps(node: Any, section: str, known: Mapping[str, dict[str, Check]], depth: int = 0) -> Iterator[dict[str, Any]]:
    """The steps of a section in order, each one checked."""
    if node is None:
        return
    kind = node.get("type") if isinstance(node, dict) else None
    children = CHILDREN[section]
    if kind == "Sequence" and depth < 4:
        _check_keys(node, ("type", children), section)
        if not isinstance(node.get(children), list) or len(node[children]) > MOST_STEPS:
            raise _refusal(section, f"a Sequence whose {children} are no list, or too many")
        for child in node[children]:
            yield from _steps(child, section, known, depth + 1)
        return
    fields = known.get(kind) if isinstance(kind, str) else None
    if fields is None:
        raise _refusal(section, f"type {shown(kind)}", "known: " + ", ".join(("Sequence", *known)))
    yield {"type": kind, **_checked({k: v for k, v in node.items() if k != "type"}, fields, f"{section} {kind}")}


def _checked(node: Mapping[str, Any], fields: Mapping[str, Check], where: str) -> dict[str, Any]:
    _check_keys(node, tuple(fields), where)
    for name, value in node.items():
        if not fields[name](value):
            raise _refusal(where, f"{name}: {shown(value)}")
    return dict(node)


def _check_keys(node: Mapping[str, Any], known: tuple[str, ...], where: str) -> None:
    if unknown := [key for key in node if key not in known]:
        raise _refusal(where, f"an unknown key {shown(unknown[0])}", "known: " + ", ".join(known))


def _check_replaced(normalizer: list[dict[str, Any]]) -> None:
    """What SentencePiece does to spaces is replaced, and nothing else."""
    for step in normalizer:
        if step["type"] == "Replace" and (step.get("pattern"), step.get("content")) not in REPLACED:
            raise _refusal("normalizer Replace", shown(step))


def _check_together(steps: Mapping[str, list[dict[str, Any]]]) -> None:
    """What is written must be what is read back: else text would vanish or change between the two."""
    kinds = [step["type"] for step in steps["pre_tokenizer"]]
    decoders = [step["type"] for step in steps["decoder"]]
    if "ByteLevel" in decoders:
        if kinds.count("ByteLevel") != 1 or kinds[-1] != "ByteLevel" or len(decoders) > 1:
            raise _refusal("pre_tokenizer", "its last step, and no other, must write bytes as characters (ByteLevel): "
                           "the decoder reads them so")  # fmt: skip
    elif "ByteLevel" in kinds:
        raise _refusal("pre_tokenizer", "it writes bytes as characters (ByteLevel), and the decoder does not read them")
    written = steps["normalizer"] + steps["pre_tokenizer"]
    writes = any(step["type"] == "Metaspace" or step.get("content") == METASPACE for step in written)
    reads = any(kind in ("Replace", "Metaspace") for kind in decoders)
    if writes != reads:
        raise _refusal("decoder", f"spaces are {'' if writes else 'not '}written as {METASPACE}, and it "
                       f"{'reads' if reads else 'does not read'} them so")  # fmt: skip
    if _drops_space(steps["decoder"]) and not _adds_space(steps):
        raise _refusal("decoder", "it drops a first space that nothing has put there")


def _hides_spaces(steps: Mapping[str, list[dict[str, Any]]]) -> bool:
    """Whether no plain space reaches the model."""
    kinds = {step["type"] for step in steps["pre_tokenizer"]}
    written = any(step["type"] == "Replace" and step["pattern"] == {"String": " "} for step in steps["normalizer"])
    return bool(kinds & {"Metaspace", "ByteLevel"}) or written


def _drops_space(decoders: list[dict[str, Any]]) -> bool:
    return any(
        step.get("start") == 1 if step["type"] == "Strip" else step["type"] == "Metaspace" and _prepends(step)
        for step in decoders
    )


def _adds_space(steps: Mapping[str, list[dict[str, Any]]]) -> bool:
    added = any(step["type"] == "Prepend" for step in steps["normalizer"])
    return added or any(step["type"] == "Metaspace" and _prepends(step) for step in steps["pre_tokenizer"])


def _prepends(metaspace: Mapping[str, Any]) -> bool:
    return metaspace.get("prepend_scheme", "always") != "never" and metaspace.get("add_prefix_space", True)


def _sequence(found: list[dict[str, Any]], section: str) -> dict[str, Any] | None:
    return {"type": "Sequence", CHILDREN[section]: found} if len(found) > 1 else found[0] if found else None


def _offsets(node: Any) -> dict[str, Any] | None:
    """Of a post-processor the part that says which characters a token covers; special tokens are placed by callers."""
    if node is None:
        return None
    together = isinstance(node, dict) and node.get("type") == "Sequence" and isinstance(node.get("processors"), list)
    nodes = node["processors"] if together else [node]
    kinds = [one.get("type") if isinstance(one, dict) else one for one in nodes]
    if unknown := [kind for kind in kinds if kind != OFFSETS and kind not in PLACING]:
        raise _refusal("post_processor", f"type {shown(unknown[0])}", "known: " + ", ".join((OFFSETS, *PLACING)))
    found = [{k: v for k, v in one.items() if k != "type"} for one in nodes if one["type"] == OFFSETS]
    return {"type": OFFSETS, **_checked(found[0], BYTE_LEVEL, "post_processor")} if found else None


def _added(entries: Any, vocabulary: Vocabulary, normalizer: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The added tokens that are ordinary text, changed so that none of them removes a space beside it.

    A token that strips would do so, and so would one that is looked up in normalised text, with a ▁ in front.
    """
    keeps = {"lstrip": False, "rstrip": False}
    keeps |= {} if all(step["type"] in FORMS for step in normalizer) else {"normalized": False}
    for entry in entries or ():
        _check_keys(entry, ADDED_FIELDS, "an added token")
        flags = {name: entry.get(name, False) for name in ADDED_FIELDS[2:]}
        if not all(map(_flag, flags.values())):
            raise _refusal("an added token", shown(entry))
        if entry["content"] not in vocabulary.specials:
            yield {"id": entry["id"], "content": entry["content"], **flags, **keeps}


def _model(node: Mapping[str, Any], vocabulary: Vocabulary) -> dict[str, Any]:
    kind = MODELS[node.get("type", "BPE")]
    ordinary = {content: i for content, i in vocabulary.added.items() if content not in vocabulary.specials}
    return kind.for_engine(_checked(node, kind.FIELDS, "model"), vocabulary, {**vocabulary.ids, **ordinary})


def _refusal(where: str, found: str, hint: str = "") -> TokenizerError:
    return TokenizerError("the tokenizer has a part that is not known to be good", found=found, where=where, hint=hint)
