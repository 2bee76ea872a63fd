"""Converting a model on disk: the same model in another file format, and perhaps with fewer bits per weight.

    f32    every number as it is trained
    bf16   8 bits of mantissa: half the bytes
    f16    11 bits of mantissa, but nothing beyond 65,504: half the bytes
    q8_0   32 numbers of a row share one scale, 8 bits each (GGUF only): about a quarter

What a format costs in quality is *not* guessed here: `pellucid convert --measure` measures it.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Literal, get_args

import torch

from pellucid.errors import SettingsError, StoreError, TokenizerError
from pellucid.events import NULL, Event, Recorder
from pellucid.planning.params import parameter_shapes
from pellucid.setting_values import nearest
from pellucid.store.checkpoint import Checkpoint, save_checkpoint
from pellucid.store.gguf import Quantization, save_gguf
from pellucid.store.sentence_files import SentenceFiles, read_sentence_files
from pellucid.store.text_frame import as_read
from pellucid.tokens.formats.find import GGUF
from pellucid.untrusted import shown

Target = Literal["gguf", "hf"]
DTYPES: dict[Quantization, torch.dtype] = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}


def target_of(destination: Path) -> Target:
    """The format that a destination's name asks for.

    >>> target_of(Path("model.gguf")), target_of(Path("model"))
    ('gguf', 'hf')
    """
    return "gguf" if destination.suffix == GGUF else "hf"


def stored_format(checkpoint: Checkpoint) -> Quantization:
    """The plain number format of a model's weights: what it is written in when nobody asks for another."""
    return next((name for name, dtype in DTYPES.items() if dtype == checkpoint.dtype), "f32")


def convert(
    checkpoint: Checkpoint, destination: Path, *, to: Target, number_format: Quantization, recorder: Recorder = NULL
) -> None:
    """Write a model as a GGUF file or as a Hugging Face directory.

    Raises StoreError when something is at the destination already, SettingsError for a number format that the target
    does not have, and what `save_gguf` and `save_checkpoint` raise.
    """
    if number_format not in get_args(Quantization):
        hint = nearest(str(number_format), list(get_args(Quantization)))
        raise SettingsError("a number format that is not written", found=shown(number_format), hint=hint)
    if destination.exists():
        raise StoreError("something is here already", where=str(destination), hint="choose another destination")
    told = _sentences(checkpoint)
    if to == "gguf":
        if checkpoint.tokenizer is None or not checkpoint.tokenizer.has_text:
            raise TokenizerError(
                "a GGUF file holds its tokenizer, and this model has none", where=str(checkpoint.directory)
            )
        _say_what_is_lost(told, recorder)
        tokenizer = as_read(checkpoint.config, checkpoint.info, checkpoint.tokenizer, str(checkpoint.directory))
        save_gguf(
            destination, config=checkpoint.config, weights=checkpoint.weights, tokenizer=tokenizer,
            number_format=number_format, name=destination.stem, pooling=told.pooling if told else None, recorder=recorder,
        )  # fmt: skip
        return
    if number_format not in DTYPES:
        hint = "choose f32, f16 or bf16, or write a GGUF file (--to gguf)"
        raise SettingsError(f"a Hugging Face directory holds no {number_format}", hint=hint)
    weights = {name: weight.to(DTYPES[number_format]) for name, weight in checkpoint.weights.items()}
    info = {**checkpoint.info, "converted_from": str(checkpoint.directory)}
    save_checkpoint(
        destination, config=checkpoint.config, weights=weights, tokenizer=checkpoint.tokenizer, info=info,
        beside=told.files(checkpoint.config.d_model) if told else {}, recorder=recorder,
    )  # fmt: skip


def without_heads(checkpoint: Checkpoint, recorder: Recorder = NULL) -> Checkpoint:
    """An encoder as far as its last norm, which is all that vectors of texts need; what is left out is reported.

    Raises SettingsError for a model that is no encoder: it would be left with nothing to say.
    """
    config = checkpoint.config
    if not config.is_encoder:
        raise SettingsError(
            "only an encoder is of use without its heads",
            found=str(checkpoint.directory),
            hint="leave --without-heads out",
        )
    bare = config.without_heads()
    kept = parameter_shapes(bare)
    lost = sorted(checkpoint.weights.keys() - kept.keys())
    tied = (
        "the scores of tokens, whose weights are the embedding's"
        if config.head.tokens
        else "nothing, there are no heads"
    )
    message = f"left out: {', '.join(lost) or tied}"
    recorder.record(Event(name="store.heads_left_out", message=message, data={"lost": lost}))
    return replace(checkpoint, config=bare, weights={name: checkpoint.weights[name] for name in kept})


def _sentences(checkpoint: Checkpoint) -> SentenceFiles | None:
    """How a model's texts become vectors, as its file or the files beside it say; None where neither does."""
    told = read_sentence_files(checkpoint.directory) if checkpoint.directory.is_dir() else None
    if told is None and checkpoint.pooling is not None:
        told = SentenceFiles(pooling=checkpoint.pooling, normalise=False, max_tokens=None, lowercase=False, prompt="")
    return told


def _say_what_is_lost(told: SentenceFiles | None, recorder: Recorder) -> None:
    """Report what a GGUF file has no key for: all but the pooling."""
    if told is None:
        return
    said = {
        "Normalize": told.normalise,
        "max_seq_length": told.max_tokens,
        "do_lower_case": told.lowercase,
        "prompts": told.prompt,
    }
    lost = [name for name, value in said.items() if value]
    if lost:
        message = f"how texts become vectors is kept but for what a GGUF file has no key for: {', '.join(lost)}"
        recorder.record(Event(name="store.sentence_files_lost", message=message, data={"lost": lost}, level="warning"))
