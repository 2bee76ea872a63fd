"""GGUF files, llama.cpp's format: a model is read like any other checkpoint, and written so that llama.cpp runs it.

Read: the header is checked (`gguf_header`), the sizes become a `ModelConfig` (`names/gguf`), the tokenizer's values go to
`tokens.formats.gguf`. Weights are unpacked one by one when somebody asks for them, so that a model is in memory once. Written:
matrices in the chosen number format, norms and biases in float32, as llama.cpp's own converter does.

A model is computed in the narrowest format that holds every number of its file: bfloat16 for a file of bfloat16,
float32 for all others. Quantised blocks are unpacked first; that is *not* how llama.cpp computes with them (it also
rounds the activations), so its logits on a quantised file differ a little.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from pellucid.counts import counted
from pellucid.errors import CorruptFileError, WeightsError
from pellucid.events import NULL, Event, Recorder
from pellucid.files import replace_file_pieces
from pellucid.planning.config import ModelConfig
from pellucid.planning.params import parameter_shapes
from pellucid.planning.parts.pooler import Pooling
from pellucid.store.checkpoint import Checkpoint, check_tokenizer, check_weights
from pellucid.store.gguf_header import Header, StoredTensor, read_header
from pellucid.store.gguf_write import TensorToWrite, serialize_gguf
from pellucid.store.lazy_weights import LazyWeights
from pellucid.store.names.family import Stored
from pellucid.store.names.gguf import (
    Architecture,
    architecture_for,
    config_to_values,
    find_architecture,
    read_axes,
    to_halves,
    to_neighbours,
)
from pellucid.store.names.gguf_encoder import without_the_rest
from pellucid.store.quantize import BY_NAME, NumberFormat, dequantize, quantize
from pellucid.store.tokenizer_files import read_gguf_tokenizer
from pellucid.tokens.formats.gguf import tokenizer_to_values
from pellucid.tokens.tokenizer import Tokenizer
from pellucid.untrusted import shown

Quantization = Literal["f32", "f16", "bf16", "q8_0"]
FILE_TYPES = {"F32": 0, "F16": 1, "Q8_0": 7, "BF16": 32}  # llama.cpp's number for a file that is mostly of one format
TWINS = {1: "BF16", 32: "F16", 2: "IQ4_NL", 25: "Q4_0"}  # by that number: a format that no such file has
QUANTIZATION_VERSION = 2
FALLBACK = BY_NAME["F16"]  # for rows that are not whole blocks, as llama.cpp does
ALWAYS_F32 = ("position.weight", "segment.weight")  # beside everything with one axis


def load_gguf(path: Path, *, pattern: str | None = None, recorder: Recorder = NULL) -> Checkpoint:
    """Read a model from a GGUF file. `pattern`: how its tokenizer cuts a text, chosen by hand where the file does not say.

    Raises StoreError (and its kinds) for a damaged file, ModelError for a model that is not built here, TokenizerError
    for a tokenizer that is not.
    """
    path = Path(path)
    header = read_header(path)
    shapes = {name: tensor.shape for name, tensor in header.tensors.items()}
    _check_formats(header)
    architecture = find_architecture(header.values, str(path))
    constants = {name: _read_constant(header, name) for name in architecture.constants if name in header.tensors}
    config, pooling = read_axes(architecture, header.values, shapes, str(path), constants=constants)
    weights = _read_weights(header, architecture, config)
    tokenizer = read_gguf_tokenizer(header, pattern=pattern)
    check_tokenizer(tokenizer, config, str(path))
    counts = Counter(tensor.form.name for tensor in header.tensors.values())
    formats = ", ".join(f"{count} {name}" for name, count in counts.most_common())
    message = (
        f"{path.name}: a {architecture.name} of {len(header.tensors)} tensors ({formats}), computed in {weights.dtype}"
    )
    recorder.record(Event(name="store.gguf_read", message=message, data={"formats": dict(counts)}))
    return Checkpoint(
        directory=path, config=config, weights=weights, tokenizer=tokenizer, info={}, generation={}, dtype=weights.dtype,
        pooling=pooling,
    )  # fmt: skip


def save_gguf(
    path: Path,
    *,
    config: ModelConfig,
    weights: Mapping[str, Tensor],
    tokenizer: Tokenizer,
    number_format: Quantization,
    name: str,
    pooling: Pooling | None = None,
    recorder: Recorder = NULL,
) -> None:
    """Write a model as a GGUF file that llama.cpp reads, at once or not at all.

    `pooling`: how an encoder's vectors become one, where that is known. Raises ModelError or TokenizerError for what llama.cpp would compute otherwise, NoSpaceError when the disk is full.
    """
    check_weights(config, weights)
    check_tokenizer(tokenizer, config, str(path))
    config, weights = without_the_rest(config, weights, recorder)
    architecture, form = architecture_for(config), BY_NAME[number_format.upper()]
    values: dict[str, Any] = {
        "general.architecture": architecture.name,
        "general.name": name,
        "general.file_type": FILE_TYPES[form.name],
        **config_to_values(architecture, config, pooling),
        **tokenizer_to_values(tokenizer, config.vocab_size, reads_whole=not config.causal, recorder=recorder),
        "general.quantization_version": QUANTIZATION_VERSION,
    }
    tensors = {
        entry.name: _to_write(entry, architecture, config, weights, form, recorder)
        for entry in architecture.layout(config)
    }
    tensors |= {name: _constant_to_write(value) for name, value in architecture.constants_of(config).items()}
    num_bytes, chunks = serialize_gguf(values, tensors)
    replace_file_pieces(Path(path), _reported(chunks, num_bytes, recorder), num_bytes)


def _reported(chunks: Iterable[bytes | memoryview], num_bytes: int, recorder: Recorder) -> Iterator[bytes | memoryview]:
    """The pieces, each reported when it is written."""
    done = 0
    for chunk in chunks:
        yield chunk
        done += memoryview(chunk).nbytes
        data = {"label": "writing", "done": done, "total": num_bytes}
        recorder.record(Event(name="store.progress", message=f"writing: {done / num_bytes:.0%}", data=data))


def _check_formats(header: Header) -> None:
    """Formats that take the same room and whose scales lie alike: only the file's own word tells one from the other."""
    other = TWINS.get(_file_type(header))
    wrong = [name for name, tensor in header.tensors.items() if tensor.form.name == other]
    if wrong:
        found = f"{wrong[0]} is {other}, general.file_type={header.values['general.file_type']}"
        what = "a tensor has another number format than the file says"
        raise CorruptFileError(what, found=found, where=str(header.path))


def _file_type(header: Header) -> int:
    found = header.values.get("general.file_type", 0)
    if not isinstance(found, int) or isinstance(found, bool):
        raise CorruptFileError("general.file_type is not a number", found=shown(found), where=str(header.path))
    return found


@dataclass(frozen=True)
class _Part:
    """Where one of our parameters lies: some rows of a tensor of the file."""

    tensor: StoredTensor
    first_row: int
    shape: tuple[int, ...]
    num_paired_heads: int
    added: float  # to every number of it in the file


def _read_weights(header: Header, architecture: Architecture, config: ModelConfig) -> LazyWeights:
    """The parameters of a file under our names. Raises WeightsError when its tensors are not those of `config`."""
    parts, file = _parts(header, architecture, config), _map(header)

    def unpack(part: _Part) -> Tensor:
        x = _rows(file, part.tensor, part.first_row, part.shape[0]).reshape(part.shape)
        x = x - part.added if part.added else x
        return to_halves(x, part.num_paired_heads) if part.num_paired_heads else x

    makers = {name: partial(unpack, part) for name, part in parts.items()}
    matrices = {part.tensor.form.name for part in parts.values() if len(part.shape) > 1}
    vectors = (unpack(part) for part in parts.values() if len(part.shape) == 1)
    fits_bf16 = matrices == {"BF16"} and all(torch.equal(x, x.bfloat16().to(x.dtype)) for x in vectors)
    return LazyWeights(makers, torch.bfloat16 if fits_bf16 else torch.float32)


def _map(header: Header) -> np.ndarray:
    return np.memmap(header.path, dtype=np.uint8, mode="r")


def _rows(file: np.ndarray, tensor: StoredTensor, first: int, count: int) -> Tensor:
    raw = file[tensor.offset : tensor.offset + tensor.num_bytes]
    if len(tensor.shape) == 1:  # one row, of which some columns are wanted
        return dequantize(raw, tensor.form)[first : first + count]
    x = dequantize(raw.reshape(tensor.shape[0], -1)[first : first + count], tensor.form)
    if (
        tensor.form.block > 1 and not x.isfinite().all()
    ):  # blocks of another type take the same room, but their scales do not fit
        raise CorruptFileError(f"{tensor.name} holds blocks whose scales are no numbers", found=tensor.form.name)
    return x


def _read_constant(header: Header, name: str) -> np.ndarray:
    """A tensor that holds no weights: a vector of float32. Raises CorruptFileError for another one."""
    tensor = header.tensors[name]
    if len(tensor.shape) != 1 or tensor.form != BY_NAME["F32"]:
        found = f"{tensor.form.name} of the shape {tensor.shape}"
        raise CorruptFileError(f"{name} is not a vector of float32", found=found, where=str(header.path))
    return _rows(_map(header), tensor, 0, tensor.shape[0]).numpy()


def _constant_to_write(value: np.ndarray) -> TensorToWrite:
    form = BY_NAME["F32"]
    return TensorToWrite(shape=value.shape, form=form, pack=partial(quantize, torch.from_numpy(value), form))


def _parts(header: Header, architecture: Architecture, config: ModelConfig) -> dict[str, _Part]:
    if config.n_layers > len(header.tensors):  # before a table of that many layers is made
        found = f"{counted(config.n_layers, 'layer')}, {counted(len(header.tensors), 'tensor')}"
        raise CorruptFileError(
            "the file describes more layers than it has tensors", found=found, where=str(header.path)
        )
    shapes = parameter_shapes(config)
    layout = architecture.layout(config)
    _check_tensors(header, architecture.constants, layout, shapes)
    parts: dict[str, _Part] = {}
    for entry in layout:
        first = 0
        for name in entry.holds:
            heads, added = architecture.num_paired_heads(name, config), architecture.added(name, config)
            parts[name] = _Part(header.tensors[entry.name], first, shapes[name], heads, added)
            first += shapes[name][0]
    return {name: parts[name] for name in shapes}


def _check_tensors(
    header: Header, constants: tuple[str, ...], layout: list[Stored], shapes: Mapping[str, tuple[int, ...]]
) -> None:
    wanted = {entry.name: _stacked(entry, shapes) for entry in layout}
    faults = [f"missing: {name}" for name in wanted if name not in header.tensors]
    faults += [f"left over: {name}" for name in header.tensors if name not in wanted and name not in constants]
    for name, shape in wanted.items():
        tensor = header.tensors.get(name)
        if tensor is not None and tensor.shape != shape:
            faults.append(f"{name} is {tensor.shape} instead of {shape}")
        if tensor is not None and len(shape) == 1 and tensor.form.block > 1:
            faults.append(f"{name}, a vector, is stored as {tensor.form.name}")
        if tensor is not None and tensor.form.name.startswith("I") and tensor.form.block == 1:
            faults.append(f"{name} holds whole numbers ({tensor.form.name})")
    if faults:
        shown = "; ".join(faults[:6]) + (f"; and {len(faults) - 6} more" if len(faults) > 6 else "")
        raise WeightsError("the tensors are not those of the model that the file describes", found=shown[:400],
                           where=str(header.path))  # fmt: skip


def _stacked(entry: Stored, shapes: Mapping[str, tuple[int, ...]]) -> tuple[int, ...]:
    return (sum(shapes[name][0] for name in entry.holds), *shapes[entry.holds[0]][1:])


def _to_write(
    entry: Stored,
    architecture: Architecture,
    config: ModelConfig,
    weights: Mapping[str, Tensor],
    form: NumberFormat,
    recorder: Recorder,
) -> TensorToWrite:
    shape = _stacked(entry, parameter_shapes(config))
    if len(shape) == 1 or entry.holds[0] in ALWAYS_F32:
        form = BY_NAME["F32"]
    elif shape[-1] % form.block:
        message = f"{entry.name} is stored as {FALLBACK.name}: {form.name} packs {form.block} numbers of a row, it has {shape[-1]}"
        recorder.record(Event(name="store.gguf_not_quantized", message=message, level="warning"))
        form = FALLBACK
    return TensorToWrite(shape=shape, form=form, pack=partial(_pack, entry, architecture, config, weights, form))


def _pack(
    entry: Stored, architecture: Architecture, config: ModelConfig, weights: Mapping[str, Tensor], form: NumberFormat
) -> Tensor:
    held = []
    for name in entry.holds:
        heads, added = architecture.num_paired_heads(name, config), architecture.added(name, config)
        weight = weights[name].detach().cpu()
        weight = weight.float() + added if added else weight
        held.append(to_neighbours(weight, heads) if heads else weight)
    return quantize(held[0] if len(held) == 1 else torch.cat(held), form)
