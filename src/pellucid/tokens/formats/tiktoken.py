"""tiktoken's rank files: on each line a token in base64 and its rank, which is its id.

    aGVsbG8= 15339        "hello", joined after 15,339 other tokens

The file holds neither the pattern that cuts a text into pieces nor the special tokens. A published file is known by its
hash. For any other they come from the small JSON file that is written beside it here, with the names of tiktoken's own
arguments, or the pattern is chosen by hand.

It holds no merges either, and needs none: tiktoken joins the two neighbours whose sum has the lowest rank. The merges
that do the same are found by doing so for each token. A token that is not reached that way (somebody put it in by hand)
is used only for a piece that is that token and nothing else, by tiktoken and here (`ignore_merges`).

Source: the format is that of `tiktoken/load.py` (OpenAI); hashes and special tokens are facts of its list of encodings.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

from pellucid.counts import counted
from pellucid.errors import TokenizerError
from pellucid.events import NULL, Event, Recorder
from pellucid.tokens import layout
from pellucid.tokens.byte_characters import BYTE_CHARACTERS, CHARACTER_BYTES
from pellucid.tokens.document import read_document
from pellucid.tokens.formats.canonical import (
    TokenizerFiles,
    canonical,
    check_pattern,
    forms_instead,
    kind_in_words,
)
from pellucid.tokens.formats.pre_tokenizers import cutting_expressions
from pellucid.tokens.models import bpe
from pellucid.tokens.patterns import PATTERNS, pattern_name
from pellucid.tokens.vocabulary import MOST_TOKEN_CHARACTERS, MOST_TOKENS, Vocabulary
from pellucid.untrusted import Table, parse_object, shown, whole

SUFFIX, SIDECAR = ".tiktoken", ".json"  # the sidecar of `x.tiktoken` is `x.tiktoken.json`
MOST_STEPS = 1 << 27  # squares of the tokens' lengths, all together: finding merges takes their time
END = "<|endoftext|>"
# tiktoken's own expressions for what `patterns.py` writes without possessive quantifiers
SAME = {
    r"'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s": "gpt2",
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$|\s*[\r\n]|\s+(?!\S)|\s":
        "cl100k",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Unsaid:
    """What a rank file does not say."""

    pattern: str  # a name from patterns.py
    specials: Mapping[str, int]


PUBLISHED = {  # sha256 of a file -> what tiktoken itself takes for it
    "306cd27f03c1a714eca7108e03d66b7dc042abe8c258b44c199a7ed9838dd930": Unsaid(pattern="gpt2", specials={END: 50256}),
    "94b5ca7dff4d00767bc256fdd1b27e5b17361d7b8a5f968547f9f23eb70d2069": Unsaid(pattern="gpt2", specials={END: 50256}),
    "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7": Unsaid(
        pattern="cl100k",
        specials={END: 100257, "<|fim_prefix|>": 100258, "<|fim_middle|>": 100259, "<|fim_suffix|>": 100260,
                  "<|endofprompt|>": 100276},
    ),
    "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d": Unsaid(
        pattern="o200k", specials={END: 199999, "<|endofprompt|>": 200018}
    ),
}  # fmt: skip


def read_tiktoken(data: bytes, sidecar: str | None = None, *, pattern: str | None = None) -> TokenizerFiles:
    """A tokenizer from the bytes of a rank file and, where there is one, the text of its sidecar.

    `pattern`: a name from `patterns.py`, chosen by hand; it goes before all others. Raises TokenizerError for a file that
    is none, and for one whose pattern nobody says.
    """
    known = read_sidecar(sidecar) if sidecar is not None else PUBLISHED.get(hashlib.sha256(data).hexdigest())
    if pattern is None and known is not None:
        pattern = known.pattern
    ranks, name = read_ranks(data), check_pattern(pattern)  # what is no rank file needs no pattern
    return from_ranks(ranks, Unsaid(pattern=name, specials=known.specials if known else {}))


def from_ranks(ranks: Mapping[bytes, int], choice: Unsaid) -> TokenizerFiles:
    """A tokenizer from the ranks of its tokens.

    >>> ranks = {bytes([byte]): byte for byte in range(256)} | {b"lo": 256, b"low": 257}
    >>> files = from_ranks(ranks, Unsaid(pattern="gpt2", specials={"<|endoftext|>": 258}))
    >>> parse_object(files.json)["model"]["merges"]
    [['l', 'o'], ['lo', 'w']]
    """
    merges, unreached = find_merges(ranks)
    vocab = {_spell(token): rank for token, rank in ranks.items()} | dict(choice.specials)
    if len(vocab) < len(ranks) + len(choice.specials):
        raise TokenizerError("a special token is spelled like another token", found=shown(sorted(choice.specials)))
    pairs = [(_spell(left), _spell(right)) for left, right in merges]
    document = layout.document(
        bpe.model(vocab, pairs, ignore_merges=bool(unreached)),
        specials=choice.specials,
        pre_tokenizer=layout.byte_level_pieces(choice.pattern),
        decoder=layout.BYTE_LEVEL,
    )
    end = END if END in choice.specials else None
    return canonical(document, bos=end, eos=end)


def read_ranks(data: bytes) -> dict[bytes, int]:
    """Token -> rank. Raises TokenizerError for a line that is none, a rank that is given twice, a token too long.

    >>> read_ranks(b"aGVsbG8= 15339")
    {b'hello': 15339}
    """
    ranks: dict[bytes, int] = {}
    for number, line in enumerate(data.splitlines(), 1):
        if not line:
            continue
        token, rank = _read_line(line)
        if token is None or rank is None or token in ranks:
            what = "the file is not a list of tokens in base64 with their ranks"
            seen = line[:60].decode("utf-8", errors="replace")
            hint = "each line holds a token in base64, which no other line has, a space, and its rank"
            raise TokenizerError(what, found=f"line {number:,}: “{seen}”", hint=hint)
        ranks[token] = rank
    if len(set(ranks.values())) < len(ranks) or not ranks:
        raise TokenizerError("the file gives one rank to two tokens, or has none")
    return ranks


def _read_line(line: bytes) -> tuple[bytes | None, int | None]:
    """The token and the rank on a line, None for what is none."""
    spelled, _, rank = line.strip().partition(b" ")
    try:
        token = base64.b64decode(spelled, validate=True)
    except binascii.Error:
        token = b""
    is_rank = rank.isdigit() and len(rank) <= 9 and int(rank) < MOST_TOKENS
    return token if 0 < len(token) <= MOST_TOKEN_CHARACTERS else None, int(rank) if is_rank else None


def find_merges(ranks: Mapping[bytes, int]) -> tuple[list[tuple[bytes, bytes]], list[bytes]]:
    """The merge that makes each token, lowest rank first, and the tokens that no merge makes.

    >>> find_merges({b"a": 0, b"b": 1, b"c": 2, b"ab": 3, b"abcab": 4})
    ([(b'a', b'b')], [b'abcab'])
    """
    if sum(len(token) ** 2 for token in ranks) > MOST_STEPS:
        longest = max(map(len, ranks))
        raise TokenizerError("the tokens of the file are too long for their number", found=counted(longest, "byte"))
    merges, unreached = [], []
    for token in sorted(ranks, key=ranks.__getitem__):
        if len(token) > 1:
            parts = _parts(token, ranks)
            if len(parts) == 2:
                merges.append((parts[0], parts[1]))
            else:
                unreached.append(token)
    return merges, unreached


def _parts(token: bytes, ranks: Mapping[bytes, int]) -> list[bytes]:
    """What joining makes of a token's bytes, stopped before the join that makes the token itself."""
    parts = [token[i : i + 1] for i in range(len(token))]
    last = len(ranks) + MOST_TOKENS
    sums = [ranks.get(left + right, last) for left, right in pairwise(parts)]
    while len(parts) > 2 and (best := min(sums)) < last:
        i = sums.index(best)
        parts[i : i + 2] = [parts[i] + parts[i + 1]]
        del sums[i]
        if i:
            sums[i - 1] = ranks.get(parts[i - 1] + parts[i], last)
        if i < len(sums):
            sums[i] = ranks.get(parts[i] + parts[i + 1], last)
    return parts


def read_sidecar(text: str) -> Unsaid:
    """What a sidecar says. Raises TokenizerError for an expression that is not listed."""
    try:
        table = Table(parse_object(text), "the file beside the ranks")
        specials = {name: whole(i, high=MOST_TOKENS - 1) for name, i in table.table("special_tokens").items()}
        expression = table.word("pat_str")
    except ValueError as error:
        raise TokenizerError("the file beside the ranks cannot be read", found=shown(error)) from None
    name = pattern_name(expression) or SAME.get(expression)
    if name is None:
        hint = "known: " + ", ".join(PATTERNS)
        raise TokenizerError(
            "the ranks cut text with an expression that is not listed", found=shown(expression), hint=hint
        )
    return Unsaid(pattern=name, specials=specials)


def write_tiktoken(json_text: str, vocabulary: Vocabulary, *, name: str, recorder: Recorder = NULL) -> dict[str, bytes]:
    """The rank file of a byte-level BPE and its sidecar: file name -> content.

    Raises TokenizerError for a tokenizer that tiktoken would run differently. Events: `tokens.tiktoken_no_normalizer`,
    `tokens.tiktoken_no_added`.
    """
    document = read_document(json_text)
    expressions = cutting_expressions(document.get("pre_tokenizer"))
    if (
        vocabulary.kind != "bpe"
        or len(expressions) != 1
        or expressions[0] is None
        or document["model"].get("byte_fallback")
    ):
        raise TokenizerError(
            "tiktoken runs byte-level BPE with one pattern, and this tokenizer is another kind",
            found=kind_in_words(vocabulary), hint=forms_instead(vocabulary, "tiktoken"),
        )  # fmt: skip
    ranks = {bytes(CHARACTER_BYTES[c] for c in token): i for token, i in vocabulary.ids.items()
             if token not in vocabulary.added and _is_spelled(token)}  # fmt: skip
    _check_same(ranks, vocabulary)
    if document.get("normalizer") is not None:
        _tell_normalizer(recorder)
    if ordinary := sorted(vocabulary.added.keys() - vocabulary.specials.keys()):
        _tell_added(ordinary, recorder)
    lines = [b"%s %d\n" % (base64.b64encode(token), ranks[token]) for token in sorted(ranks, key=ranks.__getitem__)]
    sidecar = {"name": name, "pat_str": expressions[0], "special_tokens": dict(vocabulary.added)}
    text = json.dumps(sidecar, ensure_ascii=False, indent=2) + "\n"
    return {f"{name}{SUFFIX}": b"".join(lines), f"{name}{SUFFIX}{SIDECAR}": text.encode("utf-8")}


def _check_same(ranks: Mapping[bytes, int], vocabulary: Vocabulary) -> None:
    """Raise TokenizerError where joining by rank is not what the merges do."""
    merges, unreached = find_merges(ranks)
    ours = [tuple(bytes(CHARACTER_BYTES[c] for c in part) for part in pair) for pair in vocabulary.merges]
    if merges == ours and (not unreached or vocabulary.ignores_merges):
        return
    other = next((pair for pair, found in zip(ours, merges, strict=False) if pair != found), None)
    found = f"{counted(len(unreached), 'token')} that no merge makes" if other is None else f"the merge {other!r}"
    hint = forms_instead(vocabulary, "tiktoken")
    raise TokenizerError(
        "tiktoken joins by rank, and this tokenizer's merges are in another order", found=found, hint=hint
    )


def _tell_normalizer(recorder: Recorder) -> None:
    message = "tiktoken does not rewrite characters before it reads them, and this tokenizer does"
    recorder.record(Event(name="tokens.tiktoken_no_normalizer", message=message, level="warning"))


def _tell_added(ordinary: list[str], recorder: Recorder) -> None:
    message = f"tiktoken has no added tokens that text may spell; these are special there: {' '.join(ordinary)}"
    recorder.record(Event(name="tokens.tiktoken_no_added", message=message, data={"tokens": ordinary}, level="warning"))


def _spell(token: bytes) -> str:
    return "".join(BYTE_CHARACTERS[byte] for byte in token)


def _is_spelled(token: str) -> bool:
    return all(character in CHARACTER_BYTES for character in token)
