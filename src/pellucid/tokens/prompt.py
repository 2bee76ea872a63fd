"""Prompts: what a model is given to read, as text, ids, or a list of either.

    text     its ids, after <bos> where the tokenizer has one; with <eos> behind it where it is the source of an encoder
    ids      as they are, nothing is put before them: a list, an `Encoding`, an array or a tensor of one row
    a list   several prompts, each read as it would be alone; an array or a tensor of several rows is one too

This only turns what a person wrote into ids; whether a model can continue them is the engine's question.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from operator import index
from typing import Protocol, SupportsIndex, runtime_checkable

from pellucid.errors import RequestError, TokenizerError
from pellucid.tokens.encoding import Encoding
from pellucid.tokens.tokenizer import Tokenizer
from pellucid.untrusted import shown

Prompt = str | Sequence[int] | Encoding
Prompts = list[str] | list[list[int]] | list[Prompt]  # a list, as a text is a sequence of texts itself


EXAMPLE = 'give a text, a list of ids, or a list of either, for example ["Once upon", "In the end"]'


@runtime_checkable
class Numbers(Protocol):
    """An array, or a tensor on any device."""

    @property
    def ndim(self) -> int: ...

    def tolist(self) -> list[object]: ...


def read_prompts(prompts: Prompt | Prompts, tokenizer: Tokenizer, *, whole: bool = False) -> list[list[int]] | None:
    """The ids of each prompt of a list; None for a single prompt. `whole`: <eos> ends each text.

    >>> from pellucid.tokens.train import train_characters
    >>> tokenizer = train_characters(["ab"])
    >>> read_prompts([[5, 6], "a"], tokenizer) == [[5, 6], tokenizer.encode_prompt("a")]
    True
    >>> read_prompts([5, 6], tokenizer) is None
    True

    Raises RequestError for what is no prompt, TokenizerError for a text that cannot be encoded.
    """
    items = _items(prompts)
    if isinstance(items, str) or not any(map(_is_prompt, items)):
        return None
    return [_read(item, tokenizer, whole) for item in items]


def read_prompt(prompt: Prompt, tokenizer: Tokenizer, *, whole: bool = False) -> list[int]:
    """The ids of one prompt. `whole`: <eos> ends a text.

    >>> from pellucid.tokens.train import train_characters
    >>> read_prompt((5, 6), train_characters(["ab"]))
    [5, 6]

    Raises RequestError for what is no prompt or more than one, TokenizerError for a text that cannot be encoded.
    """
    return _read(prompt, tokenizer, whole)


def decoder_start(tokenizer: Tokenizer) -> int:
    """What a decoder beside an encoder reads first: the role `decoder_start`, else `pad`, with which T5 and Marian begin.

    Raises TokenizerError for a tokenizer with neither.
    """
    for role in ("decoder_start", "pad"):
        token_id = tokenizer.roles.first(role)
        if token_id is not None:
            return token_id
    raise TokenizerError(
        "a decoder needs a token to begin with",
        found=f"{tokenizer.kind}, {tokenizer.vocab_size:,} tokens, none with the role decoder_start or pad",
        hint="leave out tokenizer.specials=none, or add one to the model: pellucid tokenizer add … --role pad=<pad>",
    )


def _read(prompt: object, tokenizer: Tokenizer, whole: bool) -> list[int]:
    items = _items(prompt)
    if isinstance(items, str):
        return tokenizer.encode_prompt(items, whole=whole)
    if any(map(_is_prompt, items)):
        raise RequestError(
            "one prompt is wanted here, and this is a list of prompts",
            found=f"a list of {len(items)}",
            hint="give them one after the other; complete, choices, search and score take a list",
        )
    return [_read_id(item) for item in items]


def _is_prompt(item: object) -> bool:
    """Whether something that a list holds is a prompt itself, and not an id."""
    return isinstance(item, (str, Sequence, Encoding)) or getattr(item, "ndim", 0) > 0


def _items(prompt: object) -> str | list[object]:
    """A text as it is, everything else as the list of what it holds."""
    if isinstance(prompt, str):
        return prompt
    if isinstance(prompt, Encoding):
        return list(prompt.ids)
    if isinstance(prompt, Numbers) and prompt.ndim > 0:
        return prompt.tolist()
    if isinstance(prompt, Sequence) and not isinstance(prompt, (bytes, bytearray)):
        return list(prompt)
    table = isinstance(prompt, Mapping) and "input_ids" in prompt  # what a tokenizer of transformers gives
    raise RequestError(
        "a prompt is text, ids, or a list of either",
        found=f"{shown(prompt)} ({type(prompt).__name__})",
        hint='give its ids: encoded["input_ids"]' if table else EXAMPLE,
    )


def _read_id(item: object) -> int:
    try:
        if isinstance(item, bool) or not isinstance(item, SupportsIndex):
            raise TypeError
        return index(item)
    except TypeError:
        found = f"{shown(item)} ({type(item).__name__})"
        raise RequestError("the ids of a prompt are whole numbers", found=found, hint=EXAMPLE) from None
