"""The engine that runs a `tokenizer.json` (Hugging Face `tokenizers`), started so that no file can harm this process.

    the file -> only what is known to be good (`known_good`) -> tried once in a child process -> started here

A file that this program would have written itself for the same tokens (`ours.py`) is not tried, whatever its kind: its
steps are listed here, and tokens alone do no harm. Neither is one that was tried before: it is remembered by its hash,
beside the version of the engine. A trial takes a second of a processor's time or more, seven on the clock of a busy machine.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from typing import Any

import tokenizers

from pellucid.errors import TokenizerError
from pellucid.stamps import remember_trial, was_tried
from pellucid.tokens.byte_characters import BYTE_TOKENS
from pellucid.tokens.charsmap import read_charsmap
from pellucid.tokens.known_good import engine_document, without_table
from pellucid.tokens.ours import is_ours
from pellucid.tokens.sentencepiece_engine import Engine, SentencePieceEngine
from pellucid.tokens.vocabulary import Vocabulary
from pellucid.trial import try_apart

TRIAL_SECONDS = 60.0  # the largest tokenizers in use need three
RUN = 4_096  # of one character: what an expression may be slow on
ALONE = " \n\r\ta_A1!'.-<>,éˇ中。́\u3000\u200d\0😀"
MOST_TOKENS = 20_000  # whose spelling is tried
HINT = "use the file of another conversion of this model"


def start_engine(document: Mapping[str, Any], vocabulary: Vocabulary) -> Engine:
    """The engine of a document. Raises TokenizerError for one that is not known to be good, or fails its trial."""
    parts, table = without_table(engine_document(document, vocabulary))
    text = json.dumps(parts, ensure_ascii=False)
    stamp = f"tokenizers {tokenizers.__version__}\n{text}"
    if not is_ours(document, vocabulary) and not was_tried(stamp):
        _try(text, vocabulary)
        remember_trial(stamp)
    with contained("the tokenizer cannot be read"):
        engine = tokenizers.Tokenizer.from_str(text)
    engine.encode_special_tokens = True
    for content, token_id in vocabulary.added.items():
        if content not in vocabulary.specials and engine.token_to_id(content) != token_id:
            found = f"{content!r} is {token_id} in the file and {engine.token_to_id(content)} to the engine"
            raise TokenizerError("an added token has another id than the file says", found=found)
    spells_bytes = vocabulary.kind == "unigram" and document["model"].get("byte_fallback")
    if table is None and not spells_bytes:
        return engine
    return SentencePieceEngine(
        engine=engine,
        charsmap=read_charsmap(base64.b64decode(table or "")),
        unknown_id=vocabulary.unknown_id if spells_bytes else None,
        byte_ids=tuple(vocabulary.ids[token] for token in BYTE_TOKENS) if spells_bytes else (),
    )


@contextmanager
def contained(what: str) -> Iterator[None]:
    """Turn the engine's failures into a TokenizerError."""
    try:
        yield
    except BaseException as error:
        check_failure(error, what)
        raise


def check_failure(error: BaseException, what: str) -> None:
    """Raise TokenizerError for a failure of the engine; its panics are BaseExceptions of a class without a name."""
    is_panic = type(error).__name__ == "PanicException"
    if is_panic or (isinstance(error, Exception) and not isinstance(error, TokenizerError)):
        raise TokenizerError(what, found=str(error)[:300]) from error


def answer(order: Mapping[str, Any]) -> str:
    """The child's part: start an engine and let it encode some texts. What went wrong, "" for nothing."""
    try:
        with contained("the tokenizer cannot be read"):
            engine = tokenizers.Tokenizer.from_str(order["document"])
    except TokenizerError as error:
        return error.found
    engine.encode_special_tokens = True
    for text in order["texts"]:
        try:
            engine.encode(text, add_special_tokens=False)
            engine.encode_batch_fast([text], add_special_tokens=False)
        except Exception:  # a character that no token spells: an error at the time, not a fault of the file
            continue
        except BaseException as error:
            return f"{type(error).__name__}: {error}"[:300]
    return ""


def _try(text: str, vocabulary: Vocabulary) -> None:
    order = {"document": text, "texts": list(trial_texts(vocabulary))}
    try:
        fault = try_apart(__name__, order, seconds=TRIAL_SECONDS)
    except (TimeoutError, MemoryError) as error:
        raise TokenizerError("the tokenizer fails when it is tried", found=str(error), hint=HINT) from None
    if fault:
        raise TokenizerError("the tokenizer fails when it is tried", found=fault, hint=HINT)


def trial_texts(vocabulary: Vocabulary) -> Iterator[str]:
    """Texts that reach each part of an engine: single characters, long runs, what the tokens spell."""
    yield ""
    yield from ALONE
    yield from (character * RUN + "\0a" for character in ALONE)
    yield from ("a " * RUN, "a1" * RUN, "\n " * RUN, " \n" * RUN + "x", "é中" * RUN)
    step = max(1, vocabulary.size // MOST_TOKENS)
    spelled = [data.decode("utf-8", errors="replace") for data in islice(vocabulary.token_bytes, 0, None, step)]
    yield "".join(spelled)
    yield " ".join(spelled)
    yield " ".join(islice(vocabulary.added, MOST_TOKENS))
