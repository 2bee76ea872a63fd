"""Constrained decoding: at every step, the tokens that would break the form of the answer get the logit -∞.

    allowed(state) -> mask;   state after a token = next(state, its bytes)

The form is compiled by llguidance into a parser of bytes, which walks a tree of all tokens to find those that can
follow. So a character may be spread over tokens, and any tokenizer will do. When the text is complete <eos> is allowed
too, and alone when nothing can follow. The ids generated so far are the only state: the parser continues from them, or
starts again when they are others, so a sequence may be cut back or forked. An answer need *not* end: one that
max_new_tokens cuts short is the beginning of an accepted one.

Axes: V vocabulary.
Source: Koo, Liu & He 2024 (automata over tokens); Willard & Louf 2023.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from pellucid.counts import counted
from pellucid.engine.constraints import grammar_trial
from pellucid.engine.constraints.json_schema import SchemaReader, check_root, compiler_text, read_schema, refusal
from pellucid.engine.constraints.settings import ConstraintSettings
from pellucid.engine.sampling.stage import History
from pellucid.errors import MissingExtraError, SamplingError, install
from pellucid.events import NULL, Event, Recorder
from pellucid.tokens.tokenizer import Tokenizer

# One byte of a mask -> what is added to the logits of its eight tokens: six times as fast as choosing one by one.
PENALTIES = np.where(np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1, bitorder="little"), 0, -np.inf)
PENALTIES = PENALTIES.astype(np.float32)
MAX_CHARACTERS = 1 << 20  # of a grammar's or a schema's text
MAX_SUSPECTS = 64  # inner schemas that are tried alone to find which one cannot be compiled
NAMES = {"regex": "regex", "json_schema": "JSON schema", "choices": "choices", "grammar": "grammar"}
BEFORE = "\n"  # which no merge joins to what follows it
OVERLAP = "oneOf is enforced only where its cases can be told apart"
OVERLAP_HINT = "write anyOf, or give every case a required property with a const of its own"
SCHEMA_IN_GRAMMAR = re.compile(r"%json\s*(?=\{)")
IGNORED_IN_GRAMMAR = re.compile(r"^\s*[\w-]+\[[^\]]*\b(temperature|stop)\s*=", re.MULTILINE)


class Constraint:
    """A sampler stage that leaves only tokens which keep the answer in its form; made by `build_constraint`."""

    def __init__(self, name: str, matcher: Any, tokenizer: Tokenizer) -> None:
        self.name = name
        self._start, self._matcher = matcher, matcher.deep_copy()
        self._read: list[int] = []  # the ids that the matcher has read
        self._num_known, self._eos_id = tokenizer.vocab_size, tokenizer.eos_id
        self._words = np.zeros((self._num_known + 31) // 32, dtype=np.int32)  # one bit for each known token
        self._fit_first = np.packbits(~starts_with_dropped_space(tokenizer), bitorder="little")

    def apply(self, logits_V: np.ndarray, history: History) -> np.ndarray:
        """The same row with -∞ for every token that may not follow.

        Raises SamplingError when what was generated so far has left the form, or a step costs more than its limit.
        """
        penalties_V = PENALTIES.take(self._bits(history.ids[history.num_prompt :]), axis=0).reshape(-1)
        masked_V, num = np.empty_like(logits_V), self._num_known
        masked_V[num:] = -np.inf
        with np.errstate(invalid="ignore"):  # a broken +∞ becomes NaN, which the sampler reports
            np.add(logits_V[:num], penalties_V[:num], out=masked_V[:num])
        return masked_V

    def _bits(self, new_ids: Sequence[int]) -> np.ndarray:
        """Which tokens may follow these (all that was generated so far), eight to a byte, the lowest id in the lowest bit."""
        bits = self._words.view(np.uint8)
        if len(new_ids) and new_ids[-1] == self._eos_id:  # it has ended, and stays so
            return np.packbits(np.arange(8 * bits.size) == self._eos_id, bitorder="little")
        self._follow(list(new_ids))
        self._matcher.unsafe_compute_mask_ptr(self._words.ctypes.data, self._words.nbytes)
        if self._matcher.is_error():
            raise self._fail("the next token cannot be worked out", found=summary(self._matcher.get_error()))
        if not len(new_ids):
            bits[: self._fit_first.size] &= self._fit_first
        return bits

    def _follow(self, new_ids: list[int]) -> None:
        """Let the matcher read `new_ids`: only the latest, or all when they do not continue what it has read."""
        if new_ids[: len(self._read)] != self._read:
            # The matcher's own rollback leaves wrong masks behind; reading again costs half a microsecond per token.
            self._matcher, self._read = self._start.deep_copy(), []
        fresh = new_ids[len(self._read) :]
        if fresh and not self._matcher.consume_tokens(fresh):
            raise self._fail("the text so far is outside the form that was asked for", found=f"tokens {fresh}")
        self._read = new_ids

    def _fail(self, what: str, *, found: str) -> SamplingError:
        self._matcher, self._read = self._start.deep_copy(), []  # a matcher that met an error never leaves it
        return SamplingError(what, found=found, where=self.name)


def build_constraint(settings: ConstraintSettings, tokenizer: Tokenizer, *, recorder: Recorder = NULL) -> Constraint:
    """Compile a constraint for a tokenizer; the result is a sampler stage for one generation.

    Raises SamplingError when it cannot be compiled in its time, cannot be met, or asks for more than is enforced;
    MissingExtraError without llguidance.
    """
    matching = _llguidance()
    if settings.kind is None:
        raise SamplingError("no constraint is given", hint="give a regex, a schema, choices or a grammar")
    name, (grammar, reader) = NAMES[settings.kind], _grammar(settings)
    _check_by_trial(grammar, reader, name, settings.compile_seconds)
    limits = matching.LLParserLimits(**grammar_trial.LIMITS)
    matcher = matching.LLMatcher(token_tree(tokenizer), grammar, log_level=0, limits=limits)
    if complaint := grammar_trial.find_fault(matcher):
        raise SamplingError(f"the {name} cannot be used", found=summary(complaint), where=name)
    recorder.record(
        Event(name="engine.constrained", message=f"the answer is held to a {name}", data={"kind": settings.kind})
    )
    return Constraint(name, matcher, tokenizer)


@lru_cache(maxsize=2)
def token_tree(tokenizer: Tokenizer) -> Any:
    """The tree of all tokens' bytes that every constraint for this tokenizer walks (0.1 s for 50,000 tokens)."""
    if tokenizer.eos_id is None:
        raise SamplingError("the tokenizer has no <eos>, so a constrained answer could not end")
    return _llguidance().LLTokenizer(TokenTable(tokenizer))


class TokenTable:
    """A tokenizer in the form that llguidance takes: the bytes of each id, and the name of each special one."""

    is_tokenizer_wrapper = True

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self.eos_token_id, self.bos_token_id = tokenizer.eos_id, tokenizer.bos_id
        self.tokens = list(tokenizer.vocabulary.token_bytes)
        for name, token_id in tokenizer.specials.items():
            self.tokens[token_id] = name.encode("utf-8")
        self.special_token_ids = sorted(tokenizer.specials.values())

    def __call__(self, text: str) -> list[int]:
        """The ids of a text as it goes on after others: without the space that some tokenizers put in front."""
        if not self._tokenizer.vocabulary.drops_first_space:
            return list(self._tokenizer.encode(text).ids)
        encoded = self._tokenizer.encode(BEFORE + text)
        return [i for i, (start, _) in zip(encoded.ids, encoded.offsets, strict=True) if start >= len(BEFORE)]


def starts_with_dropped_space(tokenizer: Tokenizer) -> np.ndarray:
    """Whether decoding would drop a part of each token at the start of an answer; such a token cannot come first."""
    drops = tokenizer.vocabulary.drops_first_space
    return np.array([drops and data.startswith(b" ") for data in tokenizer.vocabulary.token_bytes])


def _grammar(settings: ConstraintSettings) -> tuple[str, SchemaReader | None]:
    """The compiler's text, and the checked schema where the constraint is one."""
    source = getattr(settings, settings.kind or "regex")
    size = sum(map(len, source))
    if size > MAX_CHARACTERS:
        raise SamplingError("the constraint is too long", found=counted(size, "character"), where=f"{MAX_CHARACTERS:,}")
    if settings.kind == "regex":
        return _lark(f"start: /{_llguidance().regex_to_lark(source or '()', 'd')}/"), None
    if settings.kind == "choices":
        literals = (json.dumps(text, ensure_ascii=False) for text in source)
        return _lark("start: " + " | ".join(literals)), None
    if settings.kind == "grammar":
        return _lark(check_grammar(source)), None
    reader = read_schema(source)
    return _schema_grammar(reader.root), reader


def _lark(text: str) -> str:
    return json.dumps({"grammars": [{"lark_grammar": text}]})


def _schema_grammar(schema: dict) -> str:
    return f'{{"grammars": [{{"json_schema": {compiler_text(schema)}}}]}}'


def check_grammar(text: str) -> str:
    """A Lark grammar as the compiler reads it; its schemas are checked like any other.

    Raises SamplingError for options that a sampler stage cannot honour.
    """
    if found := IGNORED_IN_GRAMMAR.search(text):
        hint = "give the temperature to the sampler" if found[1] == "temperature" else "write lazy or suffix instead"
        raise SamplingError(f"{found[1]}= in a grammar is not enforced", found=found[0].strip(), hint=hint)
    parts, end = [], 0
    for match in SCHEMA_IN_GRAMMAR.finditer(text):
        if match.start() < end:
            continue
        try:
            schema, after = json.JSONDecoder().raw_decode(text, match.end())
        except ValueError as error:
            raise SamplingError("a schema in the grammar is not valid JSON", found=str(error)) from None
        check_root(schema)
        parts += [text[end : match.end()], compiler_text(schema)]
        end = after
    return "".join([*parts, text[end:]])


def _check_by_trial(grammar: str, reader: SchemaReader | None, name: str, seconds: float) -> None:
    """Compile in a child process; raises what is wrong, at its place in the schema where there is one."""
    try:
        fault = grammar_trial.try_grammar(grammar, seconds)
        place = _locate(fault, reader, seconds) if fault and reader else None
    except (TimeoutError, MemoryError) as error:
        what = f"the {name} takes too long or too much memory to compile"
        raise SamplingError(what, found=str(error), where=name, hint="make it simpler") from None
    if place and fault.startswith("oneOf"):
        raise refusal(OVERLAP, *place, OVERLAP_HINT)
    if place:
        raise refusal(summary(fault), *place)
    if fault:
        raise SamplingError(f"the {name} cannot be used", found=summary(fault), where=name)


def _locate(fault: str, reader: SchemaReader, seconds: float) -> tuple[Any, str]:
    """The innermost schema that fails alone in the same way, and its JSON Pointer."""
    shared = {key: reader.root[key] for key in ("$schema", "$defs", "definitions") if key in reader.root}
    inner = [(pointer, schema) for pointer, schema in reader.visited.items() if isinstance(schema, dict)]
    suspects = inner[:MAX_SUSPECTS]
    faults = grammar_trial.try_grammars(
        [_schema_grammar({**shared, **schema}) for _, schema in suspects], seconds=seconds
    )
    alike = (suspect for suspect, other in zip(suspects, faults, strict=False) if summary(other) == summary(fault))
    pointer, schema = next(alike, ("#", reader.root))
    return schema, pointer


def summary(message: str) -> str:
    """The useful lines of a compiler's message, without the picture of its internal state.

    >>> summary("regex parse error:\\n    (a\\n    ^\\nerror: unclosed group")
    'regex parse error: unclosed group'
    """
    first, *others = message.strip().split("\n")
    return " ".join([first, *(line.removeprefix("error: ") for line in others if line.startswith("error: "))])


def _llguidance() -> Any:
    try:
        import llguidance
    except ImportError:
        raise MissingExtraError("constraints need llguidance", hint=install("llguidance")) from None
    return llguidance
