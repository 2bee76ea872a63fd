"""What encoding a text may lose, read from the steps of a `tokenizer.json`.

A tokenizer is exact when `decode(encode(text)) == text` for every text. Most files from outside are not, each for a
reason that stands in one of their steps; nothing is lost without that reason being said.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pellucid.tokens.spelling import flat
from pellucid.tokens.vocabulary import METASPACE

UNKNOWN_LOSS = "text that no token spells becomes the unknown token"
SPACES_LOSS = "spaces and line ends are not stored; single spaces are put back by rule"
METASPACE_LOSS = "a ▁ in the text comes back as a space"
PREFIX_LOSS = "a space is put in front of the text"
PLAIN_SPACE: dict[str, str] = {"String": " "}
EDGE_SPACES = {"Regex": r"\A +|[ ▁]+\z"}  # SentencePiece takes a ▁ at the end for a space that it wrote itself
SPACE_RUNS = {"Regex": " {2,}"}
NORMALIZER_LOSSES = {
    "NFC": "characters are composed (NFC)",
    "NFD": "characters are taken apart (NFD)",
    "NFKC": "characters are replaced by plainer ones (NFKC)",
    "NFKD": "characters are replaced by plainer ones (NFKD)",
    "Lowercase": "capitals become small letters",
    "StripAccents": "accents are removed",
    "Strip": "spaces at the ends are removed",
    "Precompiled": "characters are replaced by a table of the file",
    "Replace": "some characters are replaced",
    "BertNormalizer": "control characters are removed, and every white space becomes a space",
}
REPLACED = ((PLAIN_SPACE, METASPACE), (EDGE_SPACES, ""), (SPACE_RUNS, " "))
REPLACED_LOSSES = (METASPACE_LOSS, NORMALIZER_LOSSES["Strip"], "several spaces become one")


def find_losses(document: Mapping[str, Any], *, has_unknown: bool) -> tuple[str, ...]:
    """The reasons why a text may come back changed, in words; empty for an exact tokenizer.

    >>> find_losses({"normalizer": {"type": "NFC"}}, has_unknown=False)
    ('characters are composed (NFC)',)
    """
    reasons = [*_normalizer(document), *_pieces(document)]
    return tuple(dict.fromkeys([*reasons, UNKNOWN_LOSS] if has_unknown else reasons))


def _normalizer(document: Mapping[str, Any]) -> Iterator[str]:
    for step in flat(document.get("normalizer"), "normalizers"):
        kind = str(step.get("type"))
        pattern, content = step.get("pattern"), step.get("content")
        if kind == "Replace" and (pattern, content) in REPLACED:
            yield REPLACED_LOSSES[REPLACED.index((pattern, content))]
        elif kind in NORMALIZER_LOSSES:
            yield NORMALIZER_LOSSES[kind]
        if kind == "BertNormalizer" and step.get("lowercase"):
            yield NORMALIZER_LOSSES["Lowercase"]
        if kind == "BertNormalizer" and (step.get("strip_accents") or step.get("lowercase")):
            yield NORMALIZER_LOSSES["StripAccents"]


def _pieces(document: Mapping[str, Any]) -> Iterator[str]:
    for step in flat(document.get("pre_tokenizer"), "pretokenizers"):
        if step.get("type") == "Metaspace":
            yield METASPACE_LOSS
        elif step.get("type") == "ByteLevel" and step.get("add_prefix_space"):
            yield PREFIX_LOSS
        elif step.get("type") in ("BertPreTokenizer", "Whitespace", "WhitespaceSplit"):
            yield SPACES_LOSS
