"""Embeddings of texts: one vector for each, so that texts of like meaning lie close together.

    ids        tokens around the text and its own:  [CLS] a cat sleeps [SEP]
    vectors    what the model makes of each token after its last norm, [T, D]
    one        their mean, the first one's or the last one's, [D]; divided by its length where that is asked for
    cosine     a · b / (|a| |b|): 1 for the same direction

How it is pooled belongs to the model: with another pooling than it was trained for, the vectors say less. The files of
sentence-transformers tell it (`store.sentence_files`). Without them an encoder's is the mean of all tokens; a decoder was
trained for neither, so it must be said.

Axes: N texts · B batch · T positions · D width.
Source: Reimers & Gurevych 2019, "Sentence-BERT", §3.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from pellucid.engine.text_rows import Read, Watch, frame_texts, read_in_batches, unwatched
from pellucid.errors import RequestError, SettingsError
from pellucid.model.context import Context
from pellucid.model.decoder import Decoder
from pellucid.model.pooler import pool
from pellucid.model.rows import Rows
from pellucid.planning.config import ModelConfig
from pellucid.planning.parts.pooler import Pooling
from pellucid.store.checkpoint import Checkpoint
from pellucid.store.sentence_files import MODULES, READING, read_sentence_files
from pellucid.tokens.tokenizer import Tokenizer

Speaker = Literal["asked", "files", "usual"]  # whoever calls, the files beside the model, the habit of encoders


@dataclass(frozen=True, kw_only=True)
class Embedding:
    """How texts become vectors, and who says so."""

    pooling: Pooling
    normalise: bool
    max_tokens: int
    lowercase: bool = False
    prompt: str = ""
    said_by: Speaker  # who says which pooling


@dataclass(frozen=True, kw_only=True, eq=False)
class Embeddings:
    """Vectors of some texts, float32 [N, D], in their order."""

    vectors: NDArray[np.float32]
    how: Embedding
    num_tokens: tuple[int, ...]  # that were read of each text, with those around it
    num_cut: int  # texts that were longer than the model reads, and were cut


def check_one_text(config: ModelConfig) -> None:
    """Raise RequestError for a model of which no vector stands for a text alone."""
    if config.streams is not None:
        raise RequestError("vectors of a model of two streams are not made here", hint="give an encoder (BERT)")
    if config.encoder is not None:
        raise RequestError(
            "this model reads two texts, a source and an answer",
            found="an encoder beside a decoder",
            hint="give an encoder (BERT) or a decoder (GPT); pellucid generate answers with this one",
        )


def settle_embedding(checkpoint: Checkpoint, pooling: Pooling | None, normalise: bool | None) -> Embedding:
    """How a model's texts become vectors: as is asked, else as its files say, else the mean for an encoder.

    Raises ModelError for files that ask for what is not known here, SettingsError for a decoder whose pooling nobody says.
    """
    config = checkpoint.config
    check_one_text(config)
    told = read_sentence_files(checkpoint.directory) if checkpoint.directory.is_dir() else None
    filed = told.pooling if told else checkpoint.pooling
    if filed is None and pooling is None and config.causal:
        raise SettingsError(
            "how this model's vectors are pooled is not said, and a decoder has no usual way",
            found=f"no {MODULES} beside it",
            where=str(checkpoint.directory),
            hint="say --pooling mean (all tokens) or --pooling last (the last one, which has seen all)",
        )
    said_by: Speaker = "asked" if pooling else "files" if filed else "usual"
    limit = told.max_tokens if told else None
    return Embedding(
        pooling=pooling or filed or "mean",
        normalise=normalise if normalise is not None else bool(told and told.normalise),
        max_tokens=min(limit or config.context_length, config.context_length),
        lowercase=bool(told and told.lowercase),
        prompt=told.prompt if told else "",
        said_by=said_by,
    )


def embed_texts(
    model: Decoder,
    tokenizer: Tokenizer,
    checkpoint: Checkpoint,
    texts: Sequence[str],
    how: Embedding,
    *,
    cut: bool = False,
    watch: Watch = unwatched,
) -> Embeddings:
    """The vectors of some texts. With `cut` the end of a text that is too long is left out, and counted.

    Raises RequestError where there is no text, ContextError for one that is too long.
    """
    given = [how.prompt + (text.lower() if how.lowercase else text) for text in texts]
    frame = checkpoint.frame(tokenizer)
    limit = "context_length" if how.max_tokens == model.config.context_length else READING
    rows, num_cut = frame_texts(tokenizer, frame, given, max_tokens=how.max_tokens, said_by=limit, cut=cut)
    vectors = read_in_batches(rows, vectors_of(model, how), model.device, watch)
    return Embeddings(vectors=vectors, how=how, num_tokens=tuple(map(len, rows)), num_cut=num_cut)


def vectors_of(model: Decoder, how: Embedding) -> Read:
    """What makes the vectors of a batch of rows."""

    def read(ids_BT: Tensor, lengths: list[int] | None) -> Tensor:
        x_BTD = model.hidden(ids_BT, Context(lengths=lengths)).float()
        vector_BD = pool(x_BTD, Rows.of(ids_BT, counts=lengths), how.pooling)
        return F.normalize(vector_BD, dim=-1) if how.normalise else vector_BD

    return read


def cosines(vectors_ND: NDArray[np.float32], vector_D: NDArray[np.float32]) -> NDArray[np.float32]:
    """How alike each vector is to one, [N]: the cosine of the angle between them; 0 for a vector of length 0.

    >>> cosines(np.array([[2.0, 0.0], [0.0, 3.0], [0.0, 0.0]]), np.array([1.0, 0.0])).tolist()
    [1.0, 0.0, 0.0]
    """
    lengths_N = np.linalg.norm(vectors_ND, axis=-1) * np.linalg.norm(vector_D)
    products_N = vectors_ND @ vector_D
    return np.divide(products_N, lengths_N, out=np.zeros_like(products_N), where=lengths_N > 0)
