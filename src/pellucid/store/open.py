"""Opening any model: a run, a checkpoint, a Hugging Face directory, a GGUF file, llama2.c's `.bin`, or one by its name."""

from __future__ import annotations

from pathlib import Path

from pellucid.errors import TokenizerError
from pellucid.events import NULL, Recorder
from pellucid.store.checkpoint import Checkpoint, load_checkpoint
from pellucid.store.directory import CONFIG, GENERATION
from pellucid.store.gguf import load_gguf
from pellucid.store.hub.name import is_hub_name, parse_name
from pellucid.store.llama2c import is_llama2c, load_llama2c
from pellucid.store.run import resolve_checkpoint
from pellucid.tokens.formats.find import is_gguf
from pellucid.tokens.ids_only import IdsOnly
from pellucid.tokens.read_roles import settle_roles
from pellucid.tokens.tokenizer import Tokenizer
from pellucid.untrusted import read_object


def open_checkpoint(path: Path | str, *, pattern: str | None = None, recorder: Recorder = NULL) -> Checkpoint:
    """The model that a person means by a path or a name (`hf:OWNER/NAME`); of a run, its best on validation text.

    `pattern`: how the tokenizer of a GGUF file cuts a text, chosen by hand where the file does not say.

    Raises StoreError (and its kinds) for files that are missing or damaged, ModelError for a model that is not built
    here, TokenizerError for a tokenizer that does not belong to the weights.
    """
    is_file = is_gguf(Path(path)) or is_llama2c(Path(path))
    place = Path(path) if is_file else resolve_checkpoint(path, recorder=recorder)
    if is_gguf(place):
        return load_gguf(place, pattern=pattern, recorder=recorder)
    if pattern is not None:
        raise TokenizerError(
            "only the tokenizer of a GGUF file may leave open where a text is cut",
            found=f"pattern {pattern}", where=str(place), hint="leave the pattern out: the model's tokenizer.json says it",
        )  # fmt: skip
    if is_llama2c(place):
        return load_llama2c(place, recorder=recorder)
    return load_checkpoint(place, recorder=recorder)


def check_there(path: Path | str) -> None:
    """Raise StoreError (and its kinds) where no model is; its files are not read yet, and nothing is fetched yet."""
    if is_hub_name(path):
        parse_name(path)
    elif not is_gguf(Path(path)) and not is_llama2c(Path(path)):
        resolve_checkpoint(path)


def tokenizer_of(checkpoint: Checkpoint, *, recorder: Recorder = NULL) -> Tokenizer:
    """The tokenizer of a model; of one that came without, `IdsOnly`, its texts ending where its files say."""
    if checkpoint.tokenizer is not None:
        return checkpoint.tokenizer
    config = checkpoint.directory / CONFIG  # a model in a single file has none
    documents = {CONFIG: read_object(config) if config.is_file() else {}, GENERATION: checkpoint.generation}
    tokenizer = IdsOnly.build(checkpoint.config.vocab_size)
    return tokenizer.with_roles(settle_roles(tokenizer.roles, tokenizer.vocabulary, documents, recorder))
