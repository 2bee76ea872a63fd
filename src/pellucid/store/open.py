"""One door to every model on disk: a run, a checkpoint, a Hugging Face directory, or a GGUF file."""

from __future__ import annotations

from pathlib import Path

from pellucid.events import NULL, Recorder
from pellucid.store.checkpoint import Checkpoint, load_checkpoint
from pellucid.store.gguf import is_gguf, load_gguf
from pellucid.store.run import resolve_checkpoint


def open_checkpoint(path: Path | str, *, recorder: Recorder = NULL) -> Checkpoint:
    """The model that a person means by a path; of a run, its best checkpoint on validation text.

    Raises StoreError (and its kinds) for files that are missing or damaged, ModelError for a model that is not built
    here, TokenizerError for a tokenizer that does not belong to the weights.
    """
    path = Path(path)
    if is_gguf(path):
        return load_gguf(path, recorder=recorder)
    return load_checkpoint(resolve_checkpoint(path, recorder=recorder), recorder=recorder)
