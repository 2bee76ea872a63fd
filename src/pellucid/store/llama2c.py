"""llama2.c's checkpoints (`.bin`): the weights of a Llama, one after the other, without names.

    version 0   seven i32 (d_model d_ff n_layers n_heads n_kv_heads vocab_size context_length; a vocab_size below 0: the
                head is not tied), then float32: the embedding, each kind of layer's weights for all layers, the last
                norm, cosines and sines of the rotation, the head if it is not tied
    version 1   "24ka", i32 1, the seven, a byte (1: the head is tied), zeros up to byte 256, then float32: all norms, the
                embedding, each kind of matrix for all layers, the head
    version 2   the same with i32 2, and behind that byte an i32 G: a matrix is signed bytes, followed by a float32 scale
                for every G of them

The rest is written down in the program that reads the file: RMSNorm with 1e-5, rotary positions of base 10,000 that turn
neighbouring rows of a head together, and a text that ends where the next one would begin, at <s>. For version 2 that program
(`runq.c`) also rounds activations to bytes; here it is *not* done, so logits differ a little.

Source: `export.py`, `run.c` and `runq.c` of https://github.com/karpathy/llama2.c.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pellucid.counts import counted
from pellucid.errors import CorruptFileError, ModelError, SettingsError, StoreError
from pellucid.events import NULL, Event, Recorder
from pellucid.planning.config import ModelConfig
from pellucid.planning.params import parameter_shapes
from pellucid.settings import Layer, nested, resolve
from pellucid.store.checkpoint import Checkpoint, check_tokenizer
from pellucid.store.directory import refused_pickle
from pellucid.store.lazy_weights import LazyWeights
from pellucid.store.names.gguf import to_halves
from pellucid.store.names.llama import LLAMA, biases
from pellucid.tokens.read_roles import settle_roles
from pellucid.tokens.tokenizer import Tokenizer
from pellucid.untrusted import Json

ENDING, MAGIC = ".bin", b"24ka"  # 0x616b3432, little-endian
OLD, NEW, NEW_BYTES = struct.Struct("<7i"), struct.Struct("<4si7iBi"), 256
PICKLES = (b"PK\x03\x04", b"\x80\x02\x8a\x0a")  # how torch's own files begin, which have the same ending
NORM_EPS, THETA = 1e-5, 10_000.0
ATTENTION = ("attention.query", "attention.key", "attention.value", "attention.output")
MLP = ("mlp.gate", "mlp.down", "mlp.up")
ROTATION = "rotation"  # the place of the cosines and sines, which are no parameter
HINT = "a .bin may be something else: give a checkpoint of llama2.c, or a directory with model.safetensors"
GENERATION: Mapping[str, Json] = {"bos_token_id": 1, "eos_token_id": [2, 1]}  # </s> is hardly ever trained


@dataclass(frozen=True, kw_only=True)
class _Header:
    version: int
    config: ModelConfig
    group: int  # of version 2: the numbers that share a scale


@dataclass(frozen=True, kw_only=True)
class _Place:
    """Where some numbers lie: float32, or bytes and then their scales."""

    name: str
    offset: int
    shape: tuple[int, ...]
    group: int

    @property
    def count(self) -> int:
        """How many numbers."""
        return math.prod(self.shape)

    @property
    def end(self) -> int:
        """The first byte behind them."""
        return self.offset + (self.count + self.count // self.group * 4 if self.group else self.count * 4)


def is_llama2c(path: Path) -> bool:
    """Whether a path is meant as a checkpoint of llama2.c: by its name, or by its first four bytes."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return path.suffix == ENDING or file.read(len(MAGIC)) == MAGIC


def load_llama2c(path: Path, *, recorder: Recorder = NULL) -> Checkpoint:
    """Read a model from a checkpoint of llama2.c, with the `tok<size>.bin` or `tokenizer.bin` beside it.

    Raises CorruptFileError for another or a damaged file, ModelError for one that turns by other angles, WeightsError for
    a pickle, TokenizerError for a tokenizer that does not belong to it.
    """
    path = Path(path)
    header, size = _read_header(path), path.stat().st_size
    if (
        size < 8 * header.config.d_model * header.config.n_layers
    ):  # two norms, before a table of that many layers is made
        raise _other_size(f"{size:,} bytes for {counted(header.config.n_layers, 'layer')}", str(path))
    places = _places(header, str(path))
    if places[-1].end != size:
        raise _other_size(f"{size:,} bytes instead of the {places[-1].end:,} of the sizes it begins with", str(path))
    file = np.memmap(path, dtype=np.uint8, mode="r")
    by_name = {place.name: place for place in places}
    if ROTATION in by_name:
        _check_rotation(_numbers(file, by_name[ROTATION], str(path)), str(path))
    makers = {
        name: partial(_parameter, file, by_name[name], header.config, str(path))
        for name in parameter_shapes(header.config)
    }
    weights = LazyWeights(makers, torch.float32)
    tokenizer = _tokenizer_beside(path, header.config.vocab_size, recorder)
    check_tokenizer(tokenizer, header.config, str(path))
    message = f"{path.name}: llama2.c's version {header.version}, {len(weights)} tensors, computed in {weights.dtype}"
    recorder.record(Event(name="store.llama2c_read", message=message, data={"version": header.version}))
    return Checkpoint(
        directory=path, config=header.config, weights=weights, tokenizer=tokenizer, info={}, generation=GENERATION,
        dtype=weights.dtype,
    )  # fmt: skip


def _read_header(path: Path) -> _Header:
    try:
        with path.open("rb") as file:
            data = file.read(NEW.size)
    except OSError as error:
        raise StoreError("the file cannot be read", found=str(error), where=str(path)) from error
    if data.startswith(PICKLES):
        raise refused_pickle(path.name, str(path.parent))
    if len(data) < NEW.size:
        found = counted(len(data), "byte")
        raise CorruptFileError(
            "the file is not a checkpoint of llama2.c: it is too short", found=found, where=str(path)
        )
    version, tied, group, sizes = 0, 0, 0, list(OLD.unpack_from(data))
    if data.startswith(MAGIC):
        _, version, *sizes, tied, group = NEW.unpack(data)
        if version not in (1, 2) or tied not in (0, 1):
            found = f"version {version}, tied {tied}"
            raise CorruptFileError("llama2.c has no such version of its checkpoints", found=found, where=str(path))
    else:
        tied, sizes[5] = int(sizes[5] > 0), abs(sizes[5])
    return _Header(version=version, config=_config(sizes, bool(tied), str(path)), group=group)


def _other_size(found: str, where: str) -> CorruptFileError:
    return CorruptFileError(
        "the file is not a checkpoint of llama2.c, or a damaged one", found=found, where=where,
        hint="it may be cut short: copy or download it again",
    )  # fmt: skip


def _config(sizes: list[int], tied: bool, where: str) -> ModelConfig:
    d_model, d_ff, n_layers, n_heads, n_kv_heads, vocab_size, context_length = sizes
    if n_heads < 1 or d_model % n_heads:
        what, found = (
            "the model's sizes make no sense: heads do not share the width",
            f"n_heads={n_heads}, d_model={d_model}",
        )
        raise CorruptFileError(what, found=found, where=where, hint=HINT)
    axes = LLAMA.meant | biases(qkv=False, output=False, mlp=False) | {
        "d_model": d_model, "d_ff": d_ff, "n_layers": n_layers, "n_heads": n_heads, "n_kv_heads": n_kv_heads,
        "vocab_size": vocab_size, "context_length": context_length, "head_dim": d_model // n_heads, "tied_head": tied,
        "norm.eps": NORM_EPS, "position.theta": THETA,
    }  # fmt: skip
    try:
        return resolve(ModelConfig, Layer(where, nested(axes))).settings
    except (SettingsError, ModelError) as error:
        what = f"the model's sizes make no sense: {error.what}"
        raise CorruptFileError(what, found=error.found, where=where, hint=HINT) from error


def _places(header: _Header, where: str) -> list[_Place]:
    """Where each parameter lies, in the order of the file."""
    config = header.config
    shapes = {**parameter_shapes(config), ROTATION: (2, config.context_length, config.head_dim // 2)}
    places: list[_Place] = []
    offset = OLD.size if header.version == 0 else NEW_BYTES
    for name in _order(config, header.version):
        quantised = header.version == 2 and len(shapes[name]) == 2
        if quantised and (header.group < 1 or math.prod(shapes[name]) % header.group):
            found = f"{name} of the shape {shapes[name]}, {header.group} numbers a scale"
            raise CorruptFileError("a matrix is not whole groups of numbers", found=found, where=where)
        group = header.group if quantised else 0
        places.append(_Place(name=name, offset=offset, shape=shapes[name], group=group))
        offset = places[-1].end
    return places


def _order(config: ModelConfig, version: int) -> list[str]:
    """The parameters in the order in which a version has them."""
    head = [] if config.tied_head else ["head.weight"]
    if version == 0:
        layers = _each(config, "attention_norm", *ATTENTION, "mlp_norm", *MLP)
        return ["embed.weight", *layers, "final_norm.weight", ROTATION, *head]
    norms, matrices = _each(config, "attention_norm", "mlp_norm"), _each(config, *ATTENTION, *MLP)
    return [*norms, "final_norm.weight", "embed.weight", *matrices, *head]


def _each(config: ModelConfig, *parts: str) -> list[str]:
    """Each part for all layers, one part after the other."""
    return [f"blocks.{layer}.{part}.weight" for part in parts for layer in range(config.n_layers)]


def _parameter(file: np.ndarray, place: _Place, config: ModelConfig, where: str) -> Tensor:
    x = torch.from_numpy(_numbers(file, place, where))
    heads = {ATTENTION[0]: config.n_heads, ATTENTION[1]: config.n_kv_heads}
    turned = next((count for part, count in heads.items() if f".{part}." in place.name), 0)
    return to_halves(x, turned) if turned else x


def _numbers(file: np.ndarray, place: _Place, where: str) -> np.ndarray:
    """The numbers of a place, float32. Raises CorruptFileError for a scale that cannot be one."""
    raw = file[place.offset : place.end].copy()
    if not place.group:
        return raw.view("<f4").reshape(place.shape)
    q = raw[: place.count].view(np.int8).reshape(-1, place.group)
    scale = raw[place.count :].view("<f4")[:, None]
    if not np.isfinite(scale).all() or (scale < 0).any():
        what = f"a scale of {place.name} is not a number of at least 0"
        raise CorruptFileError(what, found="bytes and scales in another order?", where=where)
    return (q * scale).reshape(place.shape)


def _check_rotation(tables: np.ndarray, where: str) -> None:
    """Raise ModelError when a file's cosines and sines [2, context, K/2] are not those of the rotation it is run with."""
    pairs, position = tables.shape[-1], min(1, tables.shape[1] - 1)  # one position tells all others
    angle = position * THETA ** -(np.arange(pairs) / pairs)
    found, expected = tables[:, position], np.stack((np.cos(angle), np.sin(angle)))
    if not np.allclose(found, expected, rtol=0, atol=1e-5):
        pair = int(np.nan_to_num(abs(found - expected), nan=np.inf).max(axis=0).argmax())
        raise ModelError(
            f"the file turns queries and keys by other angles than rotary positions of base {THETA:,.0f}",
            found=f"cosine and sine of pair {pair}: {found[0, pair]:g} and {found[1, pair]:g}", where=where,
        )  # fmt: skip


def _tokenizer_beside(path: Path, vocab_size: int, recorder: Recorder) -> Tokenizer | None:
    names = (f"tok{vocab_size}{ENDING}", f"tokenizer{ENDING}")
    file = next((file for name in names if (file := path.with_name(name)).is_file()), None)
    if file is None:
        message = f"beside {path.name} lies no {names[0]} and no {names[1]}: the model takes and gives ids, not text"
        recorder.record(Event(name="store.no_tokenizer", message=message, level="warning"))
        return None
    tokenizer = Tokenizer.load(file, recorder=recorder)
    return tokenizer.with_roles(settle_roles(tokenizer.roles, tokenizer.vocabulary, {path.name: GENERATION}, recorder))
