"""Small files of llama2.c for tests, written from its definition: checkpoints of three versions, and a tokenizer.

Weights are under the names of llama2.c's own model, [layers, out, in], rows of heads in its order.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np

MERGED = (
    "he",
    " t",
    " a",
    "in",
    " the",
    "at",
    " s",
    " c",
    " cat",
    "on",
    "ed",
    "nd",
    " and",
    "it",
    " w",
    "as",
    " was",
    "ou",
)
LETTERS = (" ", *"etaoinshrdlucmfwypvbgkjxqz", *"TOL.,!?'\n", "é", "猫")
PIECES = ("<unk>", "\n<s>\n", "\n</s>\n", *(f"<0x{byte:02X}>" for byte in range(256)), *MERGED, *LETTERS)


@dataclass(frozen=True)
class Sizes:
    """The seven numbers of a header, in its order; the vocabulary is the tokenizer's."""

    dim: int = 32
    hidden_dim: int = 48
    n_layers: int = 2
    n_heads: int = 4
    n_kv_heads: int = 2
    vocab_size: int = len(PIECES)
    seq_len: int = 40

    def numbers(self, tied: bool = True) -> tuple[int, ...]:
        """As they are written; version 0 says with the sign of the vocabulary that the head is not tied."""
        vocab = self.vocab_size if tied else -self.vocab_size
        return (self.dim, self.hidden_dim, self.n_layers, self.n_heads, self.n_kv_heads, vocab, self.seq_len)


def random_weights(sizes: Sizes, *, tied: bool = True, seed: int = 1) -> dict[str, np.ndarray]:
    """Weights large enough for every part to matter."""
    draw, layers, dim = np.random.default_rng(seed), sizes.n_layers, sizes.dim
    kv, hidden = dim // sizes.n_heads * sizes.n_kv_heads, sizes.hidden_dim
    shapes = {
        "tok": (sizes.vocab_size, dim), "wq": (layers, dim, dim), "wk": (layers, kv, dim), "wv": (layers, kv, dim),
        "wo": (layers, dim, dim), "w1": (layers, hidden, dim), "w2": (layers, dim, hidden), "w3": (layers, hidden, dim),
        **({} if tied else {"head": (sizes.vocab_size, dim)}),
    }  # fmt: skip
    weights = {name: draw.normal(size=shape).astype(np.float32) * shape[-1] ** -0.5 for name, shape in shapes.items()}
    norms = {"attention_norm": (layers, dim), "ffn_norm": (layers, dim), "norm": (dim,)}
    return weights | {name: (1 + 0.1 * draw.normal(size=shape)).astype(np.float32) for name, shape in norms.items()}


def rotation(sizes: Sizes, base: float = 10_000.0) -> tuple[np.ndarray, np.ndarray]:
    """The cosines and sines that version 0 holds, [positions, pairs]."""
    width = sizes.dim // sizes.n_heads
    angle = np.outer(np.arange(sizes.seq_len), base ** -(np.arange(0, width, 2) / width))
    return np.cos(angle).astype(np.float32), np.sin(angle).astype(np.float32)


def old_file(sizes: Sizes, weights: dict[str, np.ndarray], *, base: float = 10_000.0) -> bytes:
    """Version 0."""
    order = ("tok", "attention_norm", "wq", "wk", "wv", "wo", "ffn_norm", "w1", "w2", "w3", "norm")
    head = [weights["head"]] if "head" in weights else []
    arrays = [*(weights[name] for name in order), *rotation(sizes, base), *head]
    return struct.pack("<7i", *sizes.numbers("head" not in weights)) + b"".join(array.tobytes() for array in arrays)


MATRICES = ("tok", "wq", "wk", "wv", "wo", "w1", "w2", "w3")


def new_file(sizes: Sizes, weights: dict[str, np.ndarray], *, group: int = 0, scales_last: bool = False) -> bytes:
    """Version 1, or with a group version 2; `scales_last` is an older form of version 2, with all scales at the end."""
    head = struct.pack("<I8iB", 0x616B3432, 2 if group else 1, *sizes.numbers(), "head" not in weights)
    head += struct.pack("<i", group) if group else b""
    norms = [weights[name].tobytes() for name in ("attention_norm", "ffn_norm", "norm")]
    names = [*MATRICES, *(["head"] if "head" in weights else [])]
    layered = [weights[name] if weights[name].ndim == 3 else weights[name][None] for name in names]
    if not group:
        return head.ljust(256, b"\0") + b"".join([*norms, *(array.tobytes() for array in layered)])
    packed = [quantised(matrix, group) for array in layered for matrix in array]
    if scales_last:
        parts = [*(q.tobytes() for q, _ in packed), *(scale.tobytes() for _, scale in packed)]
    else:
        parts = [part.tobytes() for pair in packed for part in pair]
    return head.ljust(256, b"\0") + b"".join([*norms, *parts])


def quantised(matrix: np.ndarray, group: int) -> tuple[np.ndarray, np.ndarray]:
    """A matrix as signed bytes and a scale for each group."""
    rows = matrix.reshape(-1, group)
    scale = np.abs(rows).max(axis=1) / np.float32(127)
    return np.rint(rows / scale[:, None]).astype(np.int8), scale.astype(np.float32)


def unquantised(weights: dict[str, np.ndarray], group: int) -> dict[str, np.ndarray]:
    """The weights that a file of version 2 holds."""
    found = dict(weights)
    for name in (*MATRICES, "head"):
        if name in weights:
            q, scale = quantised(weights[name], group)
            found[name] = (q.astype(np.float32) * scale[:, None]).reshape(weights[name].shape)
    return found


def tokenizer_file(pieces: tuple[str, ...] = PIECES) -> bytes:
    """A `tokenizer.bin`: earlier merges have better scores, as SentencePiece gives them."""
    data = struct.pack("<I", max(len(piece.encode()) for piece in pieces))
    for i, piece in enumerate(pieces):
        spelled = piece.encode()
        data += struct.pack("<fI", 0.0 if i < 259 else 259.0 - i, len(spelled)) + spelled
    return data


def write_model(folder: Path, data: bytes, *, name: str = "model.bin", tokenizer: str = "tokenizer.bin") -> Path:
    """A checkpoint in a folder, with a tokenizer beside it unless its name is empty."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(data)
    if tokenizer:
        (folder / tokenizer).write_bytes(tokenizer_file())
    return folder / name
