"""Models of every family with files that are damaged one by one, and what opening each of them comes to.

A file that other programs wrote has no hash that vouches for it. So damage of `config.json` may spell another model that is as
good as the first; damage of the weights' header may not: the model opens with the numbers that it had, or not at all.
"""

from __future__ import annotations

import json
import math
import random
import struct
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from encoders import wordpiece
from lens_families import FAMILIES, SIZES, TOKENIZER, WHOLE

from pellucid.errors import PellucidError
from pellucid.planning.config import ModelConfig
from pellucid.planning.params import parameter_shapes
from pellucid.planning.parts.attention import AttentionConfig
from pellucid.planning.parts.embedding import HeadConfig
from pellucid.planning.parts.feed_forward import FeedForwardConfig
from pellucid.planning.parts.norm import NormConfig
from pellucid.planning.parts.position import RelativeSines
from pellucid.planning.parts.streams import Streams
from pellucid.store.checkpoint import save_checkpoint
from pellucid.store.gguf import save_gguf
from pellucid.store.gguf_header import read_header
from pellucid.store.open import open_checkpoint

XLNET = ModelConfig(
    **{**WHOLE, "head_dim": 5}, causal=False, position=RelativeSines(farthest=6), streams=Streams(memory=5),
    attention=AttentionConfig(qk_norm=False), feed_forward=FeedForwardConfig(kind="gelu", bias=True),
    norm=NormConfig(kind="layer", placement="after"), head=HeadConfig(bias=True),
)  # fmt: skip
LLAMA = ModelConfig(**SIZES, attention=AttentionConfig(qk_norm=False))
QWEN2 = ModelConfig(**SIZES, attention=AttentionConfig(qk_norm=False, qkv_bias=True))
SQUARE = ("gpt2", "bert", "roberta", "modernbert")  # whose files say no width of heads
DIRECTORIES: Mapping[str, ModelConfig] = {
    **FAMILIES, "llama": LLAMA, "qwen2": QWEN2, "xlnet": XLNET, **{name: FAMILIES[name].revise(d_model=24) for name in SQUARE},
    "mixtral": FAMILIES["mixtral"].revise(d_ff=9), "marian": FAMILIES["marian"].revise(d_model=24, norm_eps=1e-5),
}  # fmt: skip
WRITTEN_AS = {"gemma3": "gemma3_text", "after": "pellucid"}  # the rest under their own names
SCALE = {"attention.scale": SIZES["head_dim"] ** -0.5}  # the only one that a GGUF file can mean
FILES: Mapping[str, ModelConfig] = {
    "llama": LLAMA, "qwen2": QWEN2, "qwen3": FAMILIES["qwen3"], "gpt2": DIRECTORIES["gpt2"],
    "gemma2": FAMILIES["gemma2"].revise(**SCALE),
    "gemma3": FAMILIES["gemma3"].revise(**SCALE, **{"attention.window.layers": None}),
    "bert": replace(DIRECTORIES["bert"], head=HeadConfig(tokens=False), pooler=None),
}  # fmt: skip
JUNK: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2, 3, 7, 2**16, 2**31 - 1, 2**31, 2**40, 2**63, 2**64, 10**400, 1e308, -1e308, 5e-324, 0.5, "", "x", "../x", "a\0b",
    "\ud800", "x" * 3_000, [], {}, [[]], [None], {"": {}}, ["x"] * 3, [0, 1, 2**31], {"rope_type": "yarn", "factor": 0},
)  # fmt: skip
ODD = (0, 1, 7, 2**8, 2**16, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**63 - 1, 2**63, 2**64 - 1)
Damage = Callable[[bytes, random.Random], bytes]


@dataclass
class Tally:
    """What opening the damaged files of one kind came to."""

    refused: int = 0
    same: int = 0
    another: int = 0  # another model, described as clearly as the first
    wrong: list[str] = field(default_factory=list)  # the same model, other numbers
    escaped: Counter[str] = field(default_factory=Counter)  # errors that are not ours


@dataclass(frozen=True)
class Specimen:
    """One model on disk, and the file of it that is damaged."""

    path: Path
    file: Path
    config: ModelConfig
    weights: Mapping[str, torch.Tensor]
    damage: Damage

    def open_all(self, count: int, alarm: Callable[[], object] = lambda: None) -> Tally:
        """Damage the file so many times, each time from the whole one, and open the model; `alarm` is set before each."""
        whole, draw, tally = self.file.read_bytes(), random.Random(0), Tally()
        for _ in range(count):
            alarm()
            damaged = self.damage(whole, draw)
            self.file.write_bytes(damaged)
            self._open(tally, damaged)
        self.file.write_bytes(whole)
        return tally

    def _open(self, tally: Tally, damaged: bytes) -> None:
        try:
            checkpoint = open_checkpoint(self.path)
            weights = dict(checkpoint.weights)
        except PellucidError as error:
            tally.refused += 1
            assert error.what and len(str(error)) < 3_000
        except Exception as error:  # whatever it is, it is counted and shown
            tally.escaped[f"{type(error).__name__}: {error}"[:200]] += 1
        else:
            if checkpoint.config != self.config:
                tally.another += 1
            elif all(torch.equal(weights[name].float(), weight) for name, weight in self.weights.items()):
                tally.same += 1
            else:
                tally.wrong.append(_difference(self.file.name, damaged))


def _difference(name: str, damaged: bytes) -> str:
    return f"{name}: {damaged[:3_000]!r}"


def specimens(folder: Path) -> Iterator[tuple[str, Specimen]]:
    """Every family as a directory, with its config.json and its weights damaged, and as a GGUF file where there is one."""
    for family, config in DIRECTORIES.items():
        directory, weights = folder / family, _weights(config, torch.bfloat16)
        save_checkpoint(directory, config=config, weights=weights, tokenizer=None, info={})
        (directory / "pellucid.json").unlink()
        assert f'"model_type": "{WRITTEN_AS.get(family, family)}"' in (directory / "config.json").read_text()
        read, weights = open_checkpoint(directory).config, {name: weight.float() for name, weight in weights.items()}
        for name, damage in (("config.json", damage_json), ("model.safetensors", damage_safetensors)):
            yield f"{family} {name}", Specimen(directory, directory / name, read, weights, damage)
    for family, config in FILES.items():
        path = folder / f"{family}.gguf"
        tokenizer = wordpiece() if family == "bert" else TOKENIZER
        config = replace(config, vocab_size=tokenizer.vocab_size)
        weights = _weights(config)
        save_gguf(path, config=config, weights=weights, tokenizer=tokenizer, number_format="f32", name=family)
        opened = open_checkpoint(path)
        kept = {name: weight.float() for name, weight in opened.weights.items()}
        yield f"{family} GGUF", Specimen(path, path, opened.config, kept, damage_gguf(path))


def _weights(config: ModelConfig, dtype: torch.dtype = torch.float32) -> dict[str, torch.Tensor]:
    """Numbers that rise, so that none is taken for another one far away."""
    numbers, shapes = iter(range(1 << 30)), parameter_shapes(config)
    count = {name: int(np.prod(shape)) for name, shape in shapes.items()}
    return {
        name: torch.tensor([next(numbers) for _ in range(count[name])]).to(dtype).reshape(shapes[name])
        for name in shapes
    }


def damage_json(whole: bytes, draw: random.Random) -> bytes:
    """Another value, another key, a key less, or damaged bytes."""
    kind = draw.randrange(5)
    if kind == 4:
        return damage_bytes(whole, len(whole), draw)
    document = json.loads(whole)
    node: Any = document
    while True:
        key = draw.choice([*node]) if isinstance(node, dict) else draw.randrange(len(node))
        if not isinstance(node[key], (dict, list)) or not node[key] or draw.random() < 0.3:
            break
        node = node[key]
    if kind < 2 or isinstance(node, list):
        node[key] = draw.choice(JUNK)
    elif kind == 2:
        node[f"{key}{draw.choice('sx_')}"] = node.pop(key)
    else:
        del node[key]
    return json.dumps(document).encode()


def damage_bytes(whole: bytes, end: int, draw: random.Random) -> bytes:
    """Bits turned, bytes lost, repeated or exchanged among the first `end`, or everything behind a place lost."""
    damaged, at, kind = bytearray(whole), draw.randrange(end), draw.randrange(5)
    if kind == 0:
        damaged[at] ^= 1 << draw.randrange(8)
    elif kind == 1:
        del damaged[at : at + draw.randrange(1, 9)]
    elif kind == 2:
        damaged[at:at] = damaged[at : at + draw.randrange(1, 9)]
    elif kind == 3:
        damaged[at : at + 4] = draw.randbytes(4)
    else:
        del damaged[draw.randrange(len(damaged)) :]
    return bytes(damaged)


def damage_safetensors(whole: bytes, draw: random.Random) -> bytes:
    """A name, a shape, a number format or a place that is another one, or damaged bytes of the header."""
    length, kind = int.from_bytes(whole[:8], "little"), draw.randrange(6)
    if kind > 3:
        return damage_bytes(whole, 8 + length, draw)
    header = json.loads(whole[8 : 8 + length])
    names = [name for name in header if name != "__metadata__"]
    name, other = draw.sample(names, 2)
    if kind == 0:
        header[draw.choice([f"{name}x", other, name[1:]])] = header.pop(name)
    elif kind == 1:
        header[name]["dtype"] = draw.choice(["F16", "BF16", "F64", "I32", "I64", "U8", "BOOL", "F8_E4M3", "x", None, 3])
    elif kind == 2:
        header[name]["shape"] = _damaged_shape(header[name]["shape"], draw)
    else:
        header[name]["data_offsets"][draw.randrange(2)] += draw.choice([-8, -4, -1, 1, 4, 8, 2**31, 2**63])
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + whole[8 + length :]


def _damaged_shape(shape: list[int], draw: random.Random) -> list[Any]:
    """As many numbers in another order, or a length that is absurd."""
    if draw.random() < 0.5:
        return draw.choice([shape[::-1], [math.prod(shape)], [1, *shape], [*shape, 1]])
    place = draw.randrange(len(shape))
    return [*shape[:place], draw.choice([0, 1, -1, 2**31, 2**63, 2**64, 1.5, None, shape[0] + 1]), *shape[place + 1 :]]


def damage_gguf(path: Path) -> Damage:
    """A count, length, type, shape or offset that is absurd or wrong by a little, or damaged bytes of the header."""
    fields, end = gguf_places(path), min(tensor.offset for tensor in read_header(path).tensors.values())

    def damage(whole: bytes, draw: random.Random) -> bytes:
        (at, width), kind = draw.choice(fields), draw.randrange(4)
        if kind > 1:
            return damage_bytes(whole, end, draw)
        value = int.from_bytes(whole[at : at + width], "little") + draw.choice((-8, -1, 1, 8))
        value = draw.choice(ODD) if kind == 0 else value
        return whole[:at] + (value % (1 << 8 * width)).to_bytes(width, "little") + whole[at + width :]

    return damage


def gguf_places(path: Path) -> list[tuple[int, int]]:
    """Where counts, lengths, types and offsets lie: (offset, width), found by their neighbours' names."""
    found, data = [(4, 4), (8, 8), (16, 8)], path.read_bytes()
    header = read_header(path)
    for name in (*header.values, *header.tensors):
        at = data.index(struct.pack("<Q", len(name)) + name.encode())
        end = at + 8 + len(name)
        found += [(at, 8), (end, 4), (end + 4, 4), (end + 8, 8), (end + 12, 8), (end + 16, 8)]
    return found
