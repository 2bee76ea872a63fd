"""Known causes of differences between tokenizers, each proved on every string that it explains.

A habit is something that a judge does otherwise. It is put into practice on our side: the string as the judge reads it,
or our tokenizer under the judge's rule. It explains a string only if that gives, id by id, what the judge gave for the
string as it was. A string that needs several habits is counted under all of them together. Where a habit cannot be put
into practice, a check computes the cause on the string. What neither explains is a difference, and stays one.
"""

from __future__ import annotations

import json
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations

import numpy as np
import tokenizers
from tokenizers import normalizers

from pellucid.tokens.formats.pre_tokenizers import DEEPSEEK_RUNS, DEEPSEEK_SIGNS
from pellucid.tokens.plain import CONTINUES
from pellucid.tokens.tokenizer import Tokenizer
from pellucid.tokens.vocabulary import METASPACE

SEVERAL = "several of these"
Ask = Callable[[list[str]], list[list[int]]]
Read = Callable[[str], str]


@dataclass(frozen=True)
class Difference:
    """A string to which the judge gives other ids than we."""

    text: str
    theirs: list[int]
    ours: list[int]


@dataclass(frozen=True, kw_only=True)
class Case:
    """All that a row differs in, with both sides to ask again."""

    different: Sequence[Difference]
    ask: Ask  # the judge
    tokenizer: Tokenizer

    def ours(self, texts: Sequence[str]) -> list[list[int]]:
        """Our ids."""
        return [ids.tolist() for ids in self.tokenizer.encode_ids(texts)]


@dataclass(frozen=True, kw_only=True)
class Habit:
    """What a judge does otherwise: how it reads a text, and by what rule it runs the vocabulary."""

    name: str
    means: str
    read: Callable[[Case], Read] = lambda _: str  # str: as it is
    run: Callable[[Case], Ask] | None = None  # None: as we do


@dataclass(frozen=True, kw_only=True)
class Check:
    """A cause that is computed: the strings of a case that it explains."""

    name: str
    means: str
    explains: Callable[[Case], set[str]]


Cause = Habit | Check


def explain(case: Case, causes: Sequence[Cause]) -> tuple[dict[str, int], list[Difference]]:
    """How many strings each cause explains, and the differences that are left."""
    counts: Counter[str] = Counter()
    left = list(case.different)
    habits = [cause for cause in causes if isinstance(cause, Habit)]
    reads = {habit.name: habit.read(case) for habit in habits} if left else {}
    for together in (some for size in range(1, len(habits) + 1) for some in combinations(habits, size)):
        rules = [habit.run for habit in together if habit.run]
        if not left or len(rules) > 1:
            continue
        texts = [one.text for one in left]
        for habit in together:
            texts = list(map(reads[habit.name], texts))
        ids = (rules[0](case) if rules else case.ours)(texts)
        still = [one for one, found in zip(left, ids, strict=True) if found != one.theirs]
        counts[together[0].name if len(together) == 1 else SEVERAL] += len(left) - len(still)
        left = still
    for check in (cause for cause in causes if isinstance(cause, Check)):
        explained = check.explains(Case(different=left, ask=case.ask, tokenizer=case.tokenizer)) if left else set()
        counts[check.name] += sum(one.text in explained for one in left)
        left = [one for one in left if one.text not in explained]
    return {name: count for name, count in counts.items() if count}, left


# Unicode's tables. A character whose class is the same since Unicode 3.2 (2002) is no matter of years.

STAND_INS = ("", " ", "‽", "Ꙗ")  # dropped, a space, a sign, a letter: what a character may be to BERT


def _newer(different: Sequence[Difference]) -> list[str]:
    """The characters that Unicode has since 2002, has in another class since then, or has not yet."""
    characters = sorted(set("".join(one.text for one in different)))
    return [
        c for c in characters
        if unicodedata.category(c) == "Cn" or unicodedata.ucd_3_2_0.category(c) != unicodedata.category(c)
    ]  # fmt: skip


def _read_newer(case: Case) -> Read:
    """Each newer character as what the judge takes it for, which is found by asking for it between two letters."""
    newer = [c for c in _newer(case.different) if ord(c) not in FORGOTTEN]  # those have a habit of their own
    probes = [f"a{c}a" for c in newer]
    known = {tuple(ids): one for one, ids in zip(STAND_INS, case.ours([f"a{one}a" for one in STAND_INS]), strict=True)}
    assert len(known) == len(STAND_INS), "this vocabulary does not tell the stand-ins apart"
    pairs = zip(newer, case.ask(probes), case.ours(probes), strict=True)
    taken = {c: known[tuple(theirs)] for c, theirs, ours in pairs if theirs != ours and tuple(theirs) in known}
    return _translate(str.maketrans(taken))


def _translate(table: Mapping[int, str]) -> Read:
    return lambda text: text.translate(table)


def _alike_without_newer(case: Case) -> set[str]:
    """With anything else in the place of the newer characters, and all others left as they are, both sides agree."""
    newer = set(_newer(case.different))
    alike = {one.text for one in case.different if newer & set(one.text)}
    for stand_in in (*STAND_INS, "1", "中"):
        table = str.maketrans(dict.fromkeys(newer, stand_in))
        texts = sorted(alike)
        others = [text.translate(table) for text in texts]
        pairs = zip(texts, case.ask(others), case.ours(others), strict=True)
        alike = {text for text, theirs, ours in pairs if theirs == ours}
    return alike


def _without_normalizer(case: Case) -> Ask:
    return _changed(case.tokenizer, normalizer=None)


def _changed(tokenizer: Tokenizer, **parts: object) -> Ask:
    """Our tokenizer with other parts."""
    other = Tokenizer.from_json(json.dumps(json.loads(tokenizer.json) | parts), tokenizer.config)
    return lambda texts: [ids.tolist() for ids in other.encode_ids(texts)]


# BERT in transformers' Python

CLEAN = normalizers.BertNormalizer(clean_text=True, handle_chinese_chars=True, strip_accents=False, lowercase=False)
FORGOTTEN = {code: f" {chr(code)} " for code in range(0x2B820, 0x2B920)}  # not Chinese to the engine


def _compose(text: str) -> str:
    return unicodedata.normalize("NFC", CLEAN.normalize_str(text))


def _final_sigma(text: str) -> str:
    """Each capital Σ as the small letter that Python's lower() makes of it."""
    words = []
    for word in CLEAN.normalize_str(text).split(" "):
        small = iter(c for c in word.translate({ord("σ"): "x", ord("ς"): "x"}).lower() if c in "σς")
        words.append("".join(next(small) if c == "Σ" else c for c in word))
    return " ".join(words)


# llama.cpp


def _first_of_decomposition(text: str) -> str:
    return "".join(unicodedata.normalize("NFD", c)[0] for c in text)


def _without_marks(text: str) -> str:
    return "".join(c for c in text if not unicodedata.category(c).startswith("M"))


def _matched(case: Case, *, marks: bool) -> Ask:
    """The longest match in words of any length; `marks`: a ▁ in the text is the one before tokens that begin a word."""
    engine, vocabulary = tokenizers.Tokenizer.from_str(case.tokenizer.json), case.tokenizer.vocabulary
    spelled = {token.removeprefix(CONTINUES) if token.startswith(CONTINUES) else f"{METASPACE}{token}": i
               for token, i in vocabulary.ids.items()}  # fmt: skip

    def match(word: str) -> Iterator[int]:
        at = 0
        while at < len(word):
            ends = (end for end in range(min(len(word), at + 100), at, -1) if word[at:end] in spelled)
            if (end := next(ends, None)) is None:
                yield -1
                return
            yield spelled[word[at:end]]
            at = end

    def encode(text: str) -> list[int]:
        ids: list[int] = []
        for word, _ in engine.pre_tokenizer.pre_tokenize_str(engine.normalizer.normalize_str(text)):
            found = list(match(METASPACE + (word if marks else word.replace(METASPACE, "\0"))))
            ids += [vocabulary.unknown_id] if found[-1] < 0 else found
        return ids

    return lambda texts: list(map(encode, texts))


def _with_controls(case: Case) -> Ask:
    """Our tokenizer, where the tokens that the judge does not make of their own names are control tokens."""
    ordinary = {name: i for name, i in case.tokenizer.vocabulary.added.items() if name not in case.tokenizer.specials}
    answers = zip(ordinary.items(), case.ask(list(ordinary)), strict=True)
    controls = {name for (name, i), theirs in answers if theirs != [i]}
    added = json.loads(case.tokenizer.json)["added_tokens"]
    return _changed(
        case.tokenizer, added_tokens=[one | {"special": one["special"] or one["content"] in controls} for one in added]
    )


SPACES_OUT = {f"[{listed}]": rf"[{listed}&&[^\s]]" for listed in (DEEPSEEK_SIGNS, DEEPSEEK_RUNS.strip("[]+"))}
LETTERS_ONLY = {
    r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]": r"[\p{L}&&[^a-z]]",
    r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]": r"[\p{L}&&[^A-Z]]",
}


def _cut_otherwise(case: Case, *, changes: Mapping[str, str]) -> Ask:
    """Our tokenizer, with changes in the expressions that cut the text."""
    cut = json.loads(case.tokenizer.json)["pre_tokenizer"] or {}
    for step in cut.get("pretokenizers", ()):
        if "Regex" in step.get("pattern", {}):
            for ours, theirs in changes.items():
                step["pattern"]["Regex"] = step["pattern"]["Regex"].replace(ours, theirs)
    return _changed(case.tokenizer, pre_tokenizer=cut or None)


# SentencePiece


def _tied(case: Case) -> set[str]:
    """The two cuts spell the same, ours has the better sum, and the sums are closer than 32 bits can tell apart."""
    vocabulary = case.tokenizer.vocabulary
    score = {i: vocabulary.scores[token] for token, i in vocabulary.ids.items()} if vocabulary.scores else {}

    def close(one: Difference) -> bool:
        if one.theirs.count(vocabulary.unknown_id) != one.ours.count(vocabulary.unknown_id):
            return False
        theirs, ours = (sum(score.get(i, 0.0) for i in ids) for ids in (one.theirs, one.ours))
        error = len(one.theirs) * float(np.finfo(np.float32).eps) / 2 * abs(theirs)  # of as many sums, at most
        return 0 <= ours - theirs <= error and case.tokenizer.decode(one.theirs) == case.tokenizer.decode(one.ours)

    return {one.text for one in case.different if score and close(one)}


UNICODE = "a code point that only one of two versions of Unicode has, or that has changed its class since 2002"
NONE: tuple[Cause, ...] = ()
NORMALIZED = (
    Habit(name="order of marks", means="put in order (NFC) by tables of different years",
          read=lambda _: partial(unicodedata.normalize, "NFC"), run=_without_normalizer),
)  # fmt: skip
BERT = (
    Habit(name="Unicode", means=f"{UNICODE}; the judge's reading of it gives the judge's ids", read=_read_newer),
    Habit(name="composed", means="composed first (NFC) by transformers' Python, not by BERT's own code nor here",
          read=lambda _: _compose),
    Habit(name="Chinese", means="U+2B820 to U+2B91F are Chinese to BERT; the engine, and llama.cpp after it, begin at U+2B920",
          read=lambda _: _translate(FORGOTTEN)),
    Habit(name="Σ", means="at the end of a word it becomes ς in Python, σ in BERT's C++ and Rust",
          read=lambda _: _final_sigma),
)  # fmt: skip
SCORES = (
    Check(name="score", means="two cuts whose sums 32 bits, which SentencePiece adds in, cannot tell apart",
          explains=_tied),
)  # fmt: skip
LLAMA_CPP = (
    Habit(name="control", means="text that spells a token which the file calls ordinary and llama.cpp, by its name, a control token",
          run=_with_controls),
    Habit(name="listed spaces", means="llama.cpp hides U+3000 and its like from lists of characters, which DeepSeek's expressions have them in",
          run=partial(_cut_otherwise, changes=SPACES_OUT)),
    Habit(name="capitals", means="llama.cpp has no classes for capitals: in gpt-4o and tekken it takes letters that are not a-z, not A-Z, and no marks",
          run=partial(_cut_otherwise, changes=LETTERS_ONLY)),
    Check(name="newer", means=f"{UNICODE}; with anything else in its place both sides agree",
          explains=_alike_without_newer),
)  # fmt: skip
LLAMA_CPP_BERT = (
    Habit(name="decomposed", means="llama.cpp keeps the first character of a decomposition: of a Hangul syllable its first letter",
          read=lambda _: _first_of_decomposition),
    Habit(name="marks", means="llama.cpp drops spacing and enclosing marks, BERT only those without width",
          read=lambda _: _without_marks),
    Habit(name="lines", means="U+000B, U+000C and U+0085 part words in llama.cpp, and are dropped by BERT",
          read=lambda _: _translate({0x0B: " ", 0x0C: " ", 0x85: " "})),
    Habit(name="Unicode", means=f"{UNICODE}; the judge's reading of it gives the judge's ids", read=_read_newer),
    Habit(name="long word", means="a word of more than 100 characters, unknown to BERT, is cut all the same by llama.cpp",
          run=partial(_matched, marks=False)),
    Habit(name="▁", means="llama.cpp writes it before tokens that begin a word, and finds it in the text too",
          run=partial(_matched, marks=True)),
)  # fmt: skip
