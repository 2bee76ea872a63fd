"""Trial compilation of a grammar in a child process, so that a costly grammar cannot end this one.

The compiler (llguidance, in Rust) counts its work and stops itself in most cases, but not in all: some intersections of
patterns grow until memory ends, and then the whole process ends with it. A server cannot afford that, nor a notebook.
So each grammar is compiled once in a child process (`pellucid.trial`), within a given time and memory; what survives is
then compiled again here, at the same cost. `answer` is the child's part.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from pellucid.trial import try_apart

MEMORY_BYTES = 2 << 30  # of address space; an ordinary grammar needs a hundredth of it
LIMITS = {  # work per compilation and per token, in the compiler's own units
    "initial_lexer_fuel": 2_000_000,
    "step_lexer_fuel": 200_000,
    "max_lexer_states": 50_000,  # about 2 kB each
    "verbose_errors": False,
}


@lru_cache(maxsize=64)
def try_grammar(grammar: str, seconds: float) -> str:
    """What is wrong with a grammar, "" when nothing is; the same one is tried once. Raises as `try_grammars` does."""
    return try_grammars([grammar], seconds=seconds)[0]


def try_grammars(grammars: Sequence[str], *, seconds: float) -> list[str]:
    """What is wrong with each grammar, "" where nothing is.

    Raises TimeoutError when they need longer than `seconds` in all, MemoryError when they bring the compiler down.
    """
    order = {"grammars": list(grammars), "limits": LIMITS}
    return try_apart(__name__, order, seconds=seconds, memory_bytes=MEMORY_BYTES)


def answer(order: Mapping[str, Any]) -> list[str]:
    """The child's part: what is wrong with each grammar of an order."""
    return find_faults(order["grammars"], order["limits"])


def find_faults(grammars: Sequence[str], limits: dict[str, Any]) -> list[str]:
    """Compile each grammar for a vocabulary of single bytes, and say what is wrong with it."""
    from llguidance import LLMatcher, LLParserLimits, LLTokenizer

    tokenizer = LLTokenizer(SingleBytes())  # type: ignore[arg-type]  # any object with these fields will do
    faults = []
    for grammar in grammars:
        matcher = LLMatcher(tokenizer, grammar, log_level=0, limits=LLParserLimits(**limits))
        faults.append(find_fault(matcher))
    return faults


def find_fault(matcher: Any) -> str:
    """The compiler's complaint about a new matcher, or about its first step; "" when a text can begin."""
    if not matcher.is_error():
        matcher.compute_bitmask()  # a pattern that matches nothing is noticed only now
    message = matcher.get_error()
    if message.startswith("NoExtension"):
        return "no text can meet it"
    return message.strip()


class SingleBytes:
    """The least vocabulary that spells everything: the 256 bytes, and an end."""

    is_tokenizer_wrapper = True
    tokens = [bytes([byte]) for byte in range(256)] + [b"<eos>"]
    eos_token_id, bos_token_id, special_token_ids = 256, None, [256]

    def __call__(self, text: str) -> list[int]:
        return list(text.encode("utf-8"))
