"""What stands around a single text that a model reads as a whole: the tokens it had there when it learned.

a causal model                       <bos>, as before a prompt
an encoder that was trained here     <bos> and <eos>, as around documents, or <cls> and <sep>, as around pairs
an encoder from elsewhere            what its tokenizer's file says: [CLS] and [SEP]
an encoder beside a decoder          <bos> and <eos>, where the tokenizer has them, as around a source
"""

from __future__ import annotations

from collections.abc import Mapping

from pellucid.planning.config import ModelConfig
from pellucid.tokens.framing import Frame, frame_of_file, with_frame
from pellucid.tokens.tokenizer import Tokenizer
from pellucid.untrusted import Json, Table


def frame_of(config: ModelConfig, info: Mapping[str, Json], tokenizer: Tokenizer, where: str) -> Frame:
    """The tokens around a text for this model; `info` says what it has learned here, and `where` names its file.

    Raises TokenizerError for a file that does not say them clearly.
    """
    around = frame_of_source(tokenizer)
    if config.encoder is not None:
        return around
    if config.causal:
        return Frame(around.before)
    learned = Table(info, where).table("objective", None)
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


def as_read(config: ModelConfig, info: Mapping[str, Json], tokenizer: Tokenizer, where: str) -> Tokenizer:
    """The tokenizer whose file tells other programs what stands around a text that this model reads whole."""
    if config.causal and config.encoder is None:
        return tokenizer
    return with_frame(tokenizer, frame_of(config, info, tokenizer, where))
