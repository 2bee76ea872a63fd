"""What stands around a single text that a model reads as a whole: the tokens it had there when it learned.

a causal model                       <bos>, as before a prompt
an encoder that was trained here     <bos> and <eos>, as around documents, or <cls> and <sep>, as around pairs
an encoder from elsewhere            what its tokenizer's file says: [CLS] and [SEP]
an encoder beside a decoder          <bos> and <eos>, where the tokenizer has them, as around a source
"""

from __future__ import annotations

from pellucid.errors import RequestError
from pellucid.planning.config import ModelConfig
from pellucid.store.checkpoint import Checkpoint
from pellucid.store.directory import INFO
from pellucid.tokens.framing import Frame, frame_of_file
from pellucid.tokens.tokenizer import Tokenizer
from pellucid.untrusted import Table


def frame_of(checkpoint: Checkpoint, tokenizer: Tokenizer) -> Frame:
    """The tokens around a text for this model. Raises TokenizerError for a file that does not say them clearly."""
    around = frame_of_source(tokenizer)
    if checkpoint.config.encoder is not None:
        return around
    if checkpoint.config.causal:
        return Frame(around.before)
    learned = Table(checkpoint.info, str(checkpoint.directory / INFO)).table("objective", None)
    if learned is None:
        return frame_of_file(tokenizer)
    cls_id, sep_id = tokenizer.roles.first("cls"), tokenizer.roles.first("sep")
    if learned.get("kind") == "next_sentence" and cls_id is not None and sep_id is not None:
        return Frame((cls_id,), (sep_id,))
    return Frame(around.before, () if around.after == around.before else around.after)


def frame_of_source(tokenizer: Tokenizer) -> Frame:
    """The tokens around what an encoder reads beside a decoder."""
    start, end = tokenizer.bos_id, tokenizer.eos_id
    return Frame(() if start is None else (start,), () if end is None else (end,))


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
