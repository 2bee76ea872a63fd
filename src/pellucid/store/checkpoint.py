"""Checkpoints: directories that Hugging Face's tools read as they are, with Pellucid's own notes beside.

    config.json              the axes, in the words of the family they belong to
    model.safetensors        the weights, under that family's names
    tokenizer.json  tokenizer_config.json  generation_config.json
    pellucid.json            what was written by whom from what: the full config, lineage, and the SHA-256 of every file
    training/state.*         optimizer and counters, where a run is to go on

A directory appears complete or not at all. Anything that does not belong together is an error that says so: a hash, a
tensor, a tokenizer with more tokens than the embedding has rows. No pickle is read or written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Literal

import torch
from torch import Tensor

from pellucid import __version__
from pellucid.counts import counted
from pellucid.errors import CorruptFileError, StoreError, TokenizerError, WeightsError
from pellucid.events import NULL, Event, Recorder, Without
from pellucid.files import NewDirectory, replace_directory, to_json
from pellucid.model.build import build_unfilled
from pellucid.model.decoder import Decoder
from pellucid.planning.config import ModelConfig
from pellucid.planning.params import parameter_shapes
from pellucid.planning.parts.pooler import Pooling
from pellucid.settings import to_dict
from pellucid.store.directory import (
    CONFIG,
    GENERATION,
    INFO,
    TOKENIZER,
    TRAINING_STATE,
    TRAINING_TENSORS,
    WEIGHTS,
    describe,
    is_checkpoint,
    weight_files,
)
from pellucid.store.names.family import Family, to_foreign, to_ours
from pellucid.store.names.registry import family_for, read_config
from pellucid.store.tensors import MappedTensors, read_tensors, serialize
from pellucid.store.text_frame import as_read, frame_of
from pellucid.store.verify import check_files
from pellucid.tokens.framing import Frame
from pellucid.tokens.read_roles import NO_END
from pellucid.tokens.tokenizer import Tokenizer
from pellucid.untrusted import Json, Table, read_object, shown

FORMAT = 1
MISTAKEN = (torch.float16, torch.bfloat16)
TRAINING_AXES = ("dropout", "init")  # matter only to whoever trains; no config.json is trusted to hold them


@dataclass(frozen=True, kw_only=True, repr=False)
class Checkpoint:
    """A model as it lies on disk: weights under our parameter names, and everything that belongs to them."""

    directory: Path
    config: ModelConfig
    weights: Mapping[str, Tensor]
    tokenizer: Tokenizer | None
    info: Mapping[str, Json]  # pellucid.json; {} for a directory that another program wrote
    generation: Mapping[str, Json]  # generation_config.json: its ends of text are the tokenizer's, the rest is shown
    dtype: torch.dtype  # the number format of the weights
    pooling: Pooling | None = None  # how its vectors become one, if a file of all in one says it
    release: Callable[[], None] = lambda: None  # gives back the memory of weights that have been read

    @property
    def step(self) -> int | None:
        """The step of its run; None for a model that says nothing of one."""
        return Table(self.info, str(self.directory / INFO)).whole("step", None)

    def frame(self, tokenizer: Tokenizer) -> Frame:
        """The tokens around a text that this model reads whole. Raises TokenizerError for a file that says them unclearly."""
        return frame_of(self.config, self.info, tokenizer, str(self.directory / INFO))

    @property
    def newlines(self) -> Literal["lf", "keep"]:
        """How the line ends of its training text were read; "keep" where that is not known, as in older runs."""
        data = self.info.get("data")
        return "lf" if isinstance(data, Mapping) and data.get("data.newlines") == "lf" else "keep"

    def __repr__(self) -> str:
        """One line, without the weights."""
        number_format = str(self.dtype).removeprefix("torch.")
        return f"Checkpoint({str(self.directory)!r}, {counted(len(self.weights), 'tensor')}, {number_format}, {self.tokenizer!r})"


@dataclass(frozen=True, kw_only=True)
class TrainingFiles:
    """What training needs beside the weights to go on: tensors by name, and JSON values."""

    tensors: Mapping[str, Tensor]
    state: Mapping[str, Json]


def save_checkpoint(
    directory: Path,
    *,
    config: ModelConfig,
    weights: Mapping[str, Tensor],
    tokenizer: Tokenizer | None,
    info: Mapping[str, Json],
    training: TrainingFiles | None = None,
    beside: Mapping[str, str] = MappingProxyType({}),
    recorder: Recorder = NULL,
) -> None:
    """Write a whole checkpoint directory, at once or not at all; an older one of that name stays until then.

    `beside` are more files of text, by name. Raises WeightsError when the weights are not those of `config`, NoSpaceError
    when the disk is full.
    """
    check_weights(config, weights)
    check_tokenizer(tokenizer, config, str(directory))
    family = family_for(config, recorder)
    with replace_directory(Path(directory)) as new:
        new.write_text(CONFIG, to_json(_config_json(family, config, weights["embed.weight"].dtype, tokenizer)) + "\n")
        _write_tensors(new, WEIGHTS, to_foreign(family, config, weights))
        new.write_text(GENERATION, to_json(_generation_json(tokenizer)) + "\n")
        told = None if tokenizer is None else as_read(config, info, tokenizer, str(directory))
        for name, text in told.files().items() if told else ():
            new.write_text(name, text)
        for name, text in beside.items():
            new.write_text(name, text)
        if training is not None:
            _write_tensors(new, TRAINING_TENSORS, training.tensors)
            new.write_text(TRAINING_STATE, to_json(training.state) + "\n")
        notes = {"format": FORMAT, "version": __version__, "config": to_dict(config)}
        new.write_text(INFO, to_json({**info, **notes, "files": dict(new.sha256)}) + "\n")


def load_checkpoint(directory: Path, *, recorder: Recorder = NULL) -> Checkpoint:
    """Read a checkpoint that Pellucid or another program wrote, after checking its hashes where it has any.

    Raises StoreError (and its kinds), ModelError for a model that is not built here, TokenizerError for a tokenizer
    that does not belong to the weights.
    """
    directory = Path(directory)
    info = verify_checkpoint(directory)
    where = str(directory / CONFIG)
    told = Table(info, str(directory / INFO)).table("config", {})
    training_axes = {axis: told[axis] for axis in TRAINING_AXES if axis in told}
    described = read_object(directory / CONFIG)
    files = [read_tensors(path) for path in weight_files(directory)]
    stored = {name: tensor for file in files for name, tensor in file.items()}
    check_one_format(stored, str(directory))
    family, config = read_config(described, where, more_axes=training_axes, tensors=stored.keys())
    weights = to_ours(family, config, stored, str(directory))
    tokenizer = _read_tokenizer(directory, Without(recorder, NO_END) if config.is_encoder else recorder)
    check_tokenizer(tokenizer, config, str(directory))
    generation = read_object(directory / GENERATION) if (directory / GENERATION).is_file() else {}
    return Checkpoint(
        directory=directory,
        config=config,
        weights=weights,
        tokenizer=tokenizer,
        info=info,
        generation=generation,
        dtype=weights["embed.weight"].dtype,
        release=lambda: release_all(files),
    )


def check_one_format(tensors: Mapping[str, Tensor], where: str) -> None:
    """Raise CorruptFileError for float16 beside bfloat16: both take the same room, and no program mixes them."""
    found = {dtype: name for name, tensor in tensors.items() if (dtype := tensor.dtype) in MISTAKEN}
    if len(found) > 1:
        named = ", ".join(f"{name} is {str(dtype).removeprefix('torch.')}" for dtype, name in found.items())
        raise CorruptFileError(
            "the weights are of two formats that are mistaken for one another", found=named, where=where
        )


def release_all(files: Iterable[MappedTensors]) -> None:
    """Give back the memory of all that has been read of some files."""
    for file in files:
        file.release()


def load_training(directory: Path) -> TrainingFiles:
    """The training state of a checkpoint, after hashing every one of its files again."""
    directory = Path(directory)
    verify_checkpoint(directory, always=True)
    if not (directory / TRAINING_STATE).is_file():
        raise StoreError(
            "this checkpoint holds no training state",
            where=str(directory),
            hint="start a new run from its weights instead of resuming",
        )
    return TrainingFiles(
        tensors=read_tensors(directory / TRAINING_TENSORS), state=read_object(directory / TRAINING_STATE)
    )


def load_model(
    checkpoint: Checkpoint, *, device: torch.device | str = "cpu", dtype: torch.dtype | None = None
) -> Decoder:
    """The model, its weights copied into fresh memory; `dtype=None` keeps the number format they are stored in."""
    weights, where = checkpoint.weights, str(checkpoint.directory)
    if faults := _other_names(parameter_shapes(checkpoint.config), weights):
        raise _not_of_this_model(faults, where)
    model = build_unfilled(checkpoint.config, device=device, dtype=dtype or checkpoint.dtype)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            weight = weights[name]  # looked up once: the weights of a GGUF file are unpacked here
            if weight.shape != parameter.shape:
                raise _not_of_this_model([_other_shape(name, weight, tuple(parameter.shape))], where)
            parameter.copy_(weight)
            checkpoint.release()  # or all weights would be in memory twice
    return model


def verify_checkpoint(directory: Path, *, always: bool = False) -> dict[str, Json]:
    """Check a checkpoint's files against the hashes in pellucid.json, which is returned ({} where there is none).

    Files that were hashed before and have kept their size and time are trusted, unless `always`.
    """
    if not is_checkpoint(directory):
        raise StoreError(
            "this is not a checkpoint directory", found=describe(directory), where=str(directory),
            hint="a checkpoint holds config.json and model.safetensors",
        )  # fmt: skip
    if not (directory / INFO).is_file():
        return {}
    info = read_object(directory / INFO)
    notes = Table(info, str(directory / INFO))
    if info.get("format") != FORMAT or not isinstance(info.get("files"), dict):
        raise CorruptFileError(
            "pellucid.json is not of the format read here",
            found=f"format={shown(info.get('format'))}",
            where=str(directory),
        )
    notes.whole("step", None)
    if not all(isinstance(ancestor, dict) for ancestor in notes.items("lineage", [])):
        raise CorruptFileError("the lineage in pellucid.json is not a list of objects", where=str(directory))
    check_files(directory, notes.table("files"), always=always)
    return info


def check_weights(config: ModelConfig, weights: Mapping[str, Tensor], where: str = "") -> None:
    """Raise WeightsError unless these are exactly the parameters of `config`, each of its shape."""
    shapes = parameter_shapes(config)
    faults = _other_names(shapes, weights)
    faults += [
        _other_shape(name, weights[name], shape)
        for name, shape in shapes.items()
        if name in weights and tuple(weights[name].shape) != shape
    ]
    if faults:
        raise _not_of_this_model(faults, where)


def _other_names(shapes: Mapping[str, tuple[int, ...]], weights: Mapping[str, Tensor]) -> list[str]:
    missing = [f"missing: {name}" for name in shapes if name not in weights]
    return missing + [f"left over: {name}" for name in weights if name not in shapes]


def _other_shape(name: str, weight: Tensor, shape: tuple[int, ...]) -> str:
    return f"{name} is {tuple(weight.shape)} instead of {shape}"


def _not_of_this_model(faults: list[str], where: str) -> WeightsError:
    return WeightsError("the weights do not belong to this model", found="; ".join(faults[:6]), where=where)


def check_tokenizer(tokenizer: Tokenizer | None, config: ModelConfig, where: str) -> None:
    """Raise TokenizerError when the tokenizer can produce an id that the embedding has no row for."""
    if tokenizer is not None and tokenizer.vocab_size > config.vocab_size:
        raise TokenizerError(
            "the tokenizer does not belong to these weights",
            found=f"{counted(tokenizer.vocab_size, 'token')}, but {config.vocab_size} embedding rows",
            where=where,
            hint="use the tokenizer that the model was trained with",
        )


def lineage_after(parent: Checkpoint) -> list[Json]:
    """The lineage of a model trained from `parent`: the parent's own ancestors, then the parent."""
    return [*Table(parent.info, str(parent.directory / INFO)).items("lineage", []), ancestor_of(parent)]


def ancestor_of(checkpoint: Checkpoint) -> dict[str, Json]:
    """What is noted of a model that another one was made from or with: where it lay, and which it was."""
    notes = Table(checkpoint.info, str(checkpoint.directory / INFO))
    return {
        "directory": str(checkpoint.directory),
        "weights_sha256": notes.table("files", {}).get("model.safetensors"),
        "step": checkpoint.step,
        "recipe": checkpoint.info.get("recipe"),
    }


NO_IDS = {"bos_token_id": None, "eos_token_id": None, "pad_token_id": None}  # else readers assume ids of their own


def _config_json(
    family: Family, config: ModelConfig, dtype: torch.dtype, tokenizer: Tokenizer | None
) -> dict[str, Json]:
    name = str(dtype).removeprefix("torch.")
    return {
        "architectures": [family.architecture_of(config) if family.architecture_of else family.architecture],
        "model_type": family.model_type,
        **(_role_ids(tokenizer) if tokenizer else NO_IDS),
        **family.config_to_hf(config),  # last: RoBERTa's positions begin behind its id of padding
        "dtype": name,
        "torch_dtype": name,  # the name that readers older than transformers 5 know
    }


def _generation_json(tokenizer: Tokenizer | None) -> dict[str, Json]:
    """What other programs should do by default: what Pellucid does, sample from the model's own distribution."""
    ids = _role_ids(tokenizer) if tokenizer else {}
    return {**ids, "do_sample": True, "temperature": 1.0, "top_k": 0, "top_p": 1.0}


def _role_ids(tokenizer: Tokenizer) -> dict[str, Json]:
    """The ids that other programs look for; of several ends of text <eos> comes first."""
    ends = sorted(tokenizer.end_ids, key=lambda token_id: (token_id != tokenizer.eos_id, token_id))
    more = {role: tokenizer.roles.first(role) for role in ("pad", "decoder_start")}
    return {
        "bos_token_id": tokenizer.bos_id,
        "eos_token_id": [*ends] if len(ends) > 1 else ends[0] if ends else None,
        **{f"{role}_token_id": token_id for role, token_id in more.items() if token_id is not None},
    }


def _write_tensors(new: NewDirectory, name: str, tensors: Mapping[str, Tensor]) -> None:
    num_bytes, chunks = serialize(tensors)
    new.write(name, chunks, num_bytes)


def _read_tokenizer(directory: Path, recorder: Recorder) -> Tokenizer | None:
    if (directory / TOKENIZER).is_file():
        return Tokenizer.load(directory, recorder=recorder)
    recorder.record(
        Event(
            name="store.no_tokenizer",
            message=f"{directory.name} has no tokenizer.json: the model takes and gives ids, not text",
            level="warning",
        )
    )
    return None
