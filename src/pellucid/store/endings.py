"""End-of-text tokens: which ids end a text, as the files of a model's directory name them.

`tokenizer_config.json` names one token, `config.json` and `generation_config.json` one id or several, and each may be
silent. A model that is not stopped at its end of text writes on, mostly tokens that show nothing, until its context is
full. So all ids that any of the files names end a text.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from pellucid.errors import CorruptFileError
from pellucid.events import Event, Recorder
from pellucid.tokens.tokenizer import EOS_NAMES, Tokenizer
from pellucid.untrusted import Json

KEY = "eos_token_id"


def with_endings(tokenizer: Tokenizer, documents: Mapping[str, Mapping[str, Json]], recorder: Recorder) -> Tokenizer:
    """The tokenizer with every end of text that the documents (file name -> content) name.

    Where none is named, a special token that is commonly one is taken for it, and said. Raises CorruptFileError for
    what is not a list of ids.
    """
    named = [(name, token_id) for name, document in documents.items() for token_id in _ids(name, document)]
    known = [token_id for _, token_id in named if 0 <= token_id < tokenizer.vocab_size]
    for name, token_id in named:
        if token_id not in known:
            message = f"{name} names {token_id} as an end of text, and no token has this id: it is passed over"
            recorder.record(Event(name="store.end_unknown", message=message, data={"id": token_id}, level="warning"))
    if known or tokenizer.eos_id is not None:
        return tokenizer.ending_at(known)
    taken = next((name for name in EOS_NAMES if name in tokenizer.specials), None)
    if taken is not None:
        message = f"no file names the token that ends a text: {taken} is taken for it"
        recorder.record(Event(name="store.end_guessed", message=message, data={"token": taken}, level="warning"))
        return tokenizer.ending_at([tokenizer.specials[taken]])
    message = "no token ends a text of this model: it writes until max_new_tokens, a stop text, or a full context"
    recorder.record(Event(name="store.no_end", message=message))
    return tokenizer


def ending_ids(tokenizer: Tokenizer | None) -> Json:
    """What `eos_token_id` says of a tokenizer: one id, several with <eos> first, or nothing."""
    if tokenizer is None or not tokenizer.end_ids:
        return None
    ids = sorted(tokenizer.end_ids, key=lambda token_id: (token_id != tokenizer.eos_id, token_id))
    return ids[0] if len(ids) == 1 else [*ids]


def _ids(name: str, document: Mapping[str, Json]) -> Iterator[int]:
    found = document.get(KEY)
    for value in found if isinstance(found, list) else [] if found is None else [found]:
        if not isinstance(value, int) or isinstance(value, bool):
            raise CorruptFileError(f"{KEY} is not an id or a list of ids", found=repr(found)[:80], where=name)
        yield value
