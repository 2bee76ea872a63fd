"""Recording: one pass through the model with its taps open, and then any layer again, on demand.

The pass keeps the residual stream at every sub-layer and looks at the attention rows as they go by. The details of the
layers (queries, scores, feed-forward) are kept too where they are few; where they are many, a layer is made when it is
asked for, by sending its own input through the same block again with its taps open: the same numbers to the bit,
without holding L layers of T x T weights at once. Nothing
is computed by a second implementation: what no module puts out (turned queries, gated activations) is made from recorded
tensors by the model's own modules. Numbers are handed out as float32, which is exact for float16 and bfloat16 models.

Axes: T positions · D width · H query heads · G key/value heads · K head width · F feed-forward width · V vocabulary.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pellucid.counts import counted
from pellucid.errors import ContextError, RequestError
from pellucid.lens.token_display import chips_of, label_of, readable
from pellucid.lens.trace import SCHEMA, Page, Trace
from pellucid.model import tap
from pellucid.model.block import Block
from pellucid.model.decoder import Decoder
from pellucid.model.device import inference
from pellucid.planning.axis_names import flat
from pellucid.planning.config import ModelConfig
from pellucid.planning.params import count_parameters
from pellucid.tokens.tokenizer import Tokenizer

MOST_LOGITS = 4_000_000  # numbers; above, logits are kept for the last position only
NUM_NEXT = 20  # of the likeliest next tokens in a header
MOST_DETAILS = 100_000_000  # numbers of layers' details that one recording holds


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class LiveTrace(Trace):
    """A trace with its model behind it."""

    arrays: Recording


def record_trace(
    model: Decoder,
    tokenizer: Tokenizer,
    ids: Sequence[int],
    *,
    text: str | None = None,
    about: Mapping[str, Any] | None = None,
    all_logits: bool = False,
    page: Page | None = None,
) -> LiveTrace:
    """Every number between a row of tokens and the next one.

    `text` is what the ids were encoded from, where that is known; `about` goes into the header's `model`. Logits of all
    positions are kept when there are at most 4 million, or when asked. `page` is who shows the trace. Raises ContextError for a row that is longer than
    the context, RequestError for ids that the model does not have.

    >>> from pellucid.model.build import build
    >>> from pellucid.tokens.train import train_bpe
    >>> config = ModelConfig(vocab_size=258, context_length=8, n_layers=1, n_heads=2, n_kv_heads=1, head_dim=4, d_model=8, d_ff=16)
    >>> trace = record_trace(build(config, seed=1), train_bpe(["a"], 258), [104, 105])
    >>> trace["blocks.0.attention.weights"].shape, trace.header["text"]
    ((2, 2, 2), 'hi')
    """
    check_row(model.config, ids)
    recording = Recording(model, ids, all_logits=all_logits)
    row = chips_of(tokenizer, ids)
    told = readable(tokenizer.decode_bytes(ids)) if text is None else text
    header = {
        "schema": SCHEMA,
        "model": describe_model(model) | dict(about or {}),
        "text": told,
        "tokens": row["chips"],
        "groups": row["groups"],
        "arrays": {name: {"shape": shape, "dtype": "f4"} for name, shape in recording.shapes.items()},
        "next": likeliest(tokenizer, recording["logits"][-1]),
        "logits_from": len(ids) - recording.shapes["logits"][0],
        "checks": [_decoding_check(tokenizer, ids, told), *recording.checks()],
    }
    return LiveTrace(header=header, arrays=recording, page=page)


def likeliest(tokenizer: Tokenizer, logits_V: np.ndarray) -> list[dict[str, Any]]:
    """The tokens that the model holds most likely to come next, with their chances over the whole vocabulary."""
    chances_V = np.exp(logits_V.astype(np.float64) - logits_V.max())
    chances_V /= chances_V.sum()
    best = np.argsort(-chances_V, kind="stable")[:NUM_NEXT]
    labels = [label_of(tokenizer, int(i)) if i < tokenizer.vocab_size else f"[{i}]" for i in best]
    return [{"id": int(i), "label": label, "p": float(chances_V[i])} for i, label in zip(best, labels, strict=True)]


def check_row(config: ModelConfig, ids: Sequence[int]) -> None:
    """Refuse a row of ids that this model cannot read."""
    if not len(ids):
        raise RequestError("there is no token to look at", hint="give a text of at least one character")
    if len(ids) > config.context_length:
        raise ContextError(
            "the text is longer than the model's context",
            found=counted(len(ids), "token"),
            where=f"context_length={config.context_length}",
            hint="shorten the text",
        )
    if not 0 <= min(ids) <= max(ids) < config.vocab_size:
        raise RequestError(
            "the text names a token that the model does not have",
            found=f"ids from {min(ids)} to {max(ids)}",
            where=f"vocab_size={config.vocab_size}",
            hint="use the tokenizer that belongs to the model",
        )


def describe_model(model: Decoder) -> dict[str, Any]:
    """What a page must know of a model to draw it: its axes, never its family's habits."""
    config = model.config
    names = ("n_layers", "n_heads", "n_kv_heads", "head_dim", "d_model", "d_ff", "vocab_size", "context_length")
    more = ("position", "feed_forward", "norm", "qk_norm", "tied_head", "sliding_window", "sliding_layers")
    every = flat(config)
    axes = {name: every[name] for name in (*names, *more)} | {"gated": config.feed_forward.gated}
    return {
        "name": "",
        "sha256": None,
        "family": None,
        "parameters": count_parameters(config).total,
        "dtype": str(model.embed.weight.dtype).removeprefix("torch."),
        "checkpoint_step": None,
        "axes": axes | {"mask": "causal" if config.causal else "none"},
    }


class Recording(Mapping[str, np.ndarray]):
    """The arrays of one pass by name: the stream and the logits at once, the details of a layer when asked for."""

    def __init__(self, model: Decoder, ids: Sequence[int], *, all_logits: bool = False) -> None:
        self.model, self.ids = model, tuple(int(i) for i in ids)
        self.shapes = array_shapes(model.config, len(ids), all_logits=all_logits)
        self._stream: dict[str, Tensor] = {}
        self._row_error = 0.0
        self._taps: dict[int, dict[str, Tensor]] = {}  # layers that nobody has asked for yet
        num_details = sum(math.prod(shape) for name, shape in self.shapes.items() if name.startswith("blocks."))
        self._keeps_layers = num_details <= MOST_DETAILS
        self._details: OrderedDict[int, dict[str, np.ndarray]] = OrderedDict()
        self._record()

    def __getitem__(self, name: str) -> np.ndarray:
        if name in self._stream:
            return _numbers(self._stream[name])
        if name not in self.shapes:
            raise KeyError(name)
        layer = int(name.split(".")[1])
        return self.layer(layer)[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.shapes)

    def __len__(self) -> int:
        return len(self.shapes)

    def layer(self, layer: int) -> dict[str, np.ndarray]:
        """All details of one layer, by full name; the layers asked for last are kept."""
        if layer not in self._details:
            self._details[layer] = self._open_layer(layer)
            while len(self._details) > 1 and sum(map(_size, self._details.values())) > MOST_DETAILS:
                self._details.popitem(last=False)
        self._details.move_to_end(layer)
        return self._details[layer]

    @property
    def num_kept(self) -> int:
        """How many numbers it holds beside the details of layers."""
        return sum(tensor.numel() for tensor in self._stream.values())

    def forget(self) -> None:
        """Let go of all details of layers; they are made again when asked for."""
        self._taps.clear()
        self._details.clear()

    def checks(self) -> list[dict[str, Any]]:
        """What must hold of every recording: rows of weights sum to 1, and the stream ends in the logits."""
        epsilon = torch.finfo(self.model.embed.weight.dtype).eps
        with inference(self.model):
            lens_TV = read_stream(self.model, self._stream_after(self.model.config.n_layers)[-1:])
        lens_error = float((lens_TV[-1] - self._stream["logits"][-1]).abs().max())
        largest = max(1.0, float(self._stream["logits"][-1].abs().max()))
        return [
            check("rows", self._row_error, max(1e-5, epsilon)),
            check("lens", lens_error, 100 * epsilon * largest),
        ]

    def _record(self) -> None:
        with inference(self.model):
            with tap.listen(self.model, self._hear):
                x_BTD = self.model.hidden(self._ids_BT())
            rows_TD = x_BTD[0] if self.shapes["logits"][0] == len(self.ids) else x_BTD[0, -1:]
            self._stream["logits"] = read_head(self.model, rows_TD)
            self._add_sums()

    def _hear(self, name: str, output: Tensor) -> None:
        """Keep the stream and what is added to it; of the weights only how far their rows are from 1."""
        if name.endswith("core.weights"):
            self._row_error = max(self._row_error, float((output.float().sum(-1) - 1).abs().max()))
        elif name in ("embed", "final_norm") or name.endswith(".attention") or name.rpartition(".")[0] == "blocks":
            self._stream[name if "." not in name else _stream_name(name)] = output[0]
        if self._keeps_layers and name.count(".") > 1:
            _, layer, part = name.split(".", 2)
            self._taps.setdefault(int(layer), {})[part] = output

    def _add_sums(self) -> None:
        """What the model sums without a module of its own: embedding and position, block input and attention."""
        embed_TD = self._stream["embed"]
        if "position" in self.shapes:
            self._stream["position"] = self.model.position(torch.zeros_like(embed_TD)[None], 0)[0]
        self._stream["input"] = self.model.position(embed_TD[None], 0)[0]
        for layer in range(self.model.config.n_layers):
            written = self._stream[f"blocks.{layer}.attention.output"]
            self._stream[f"blocks.{layer}.middle"] = self._stream_after(layer) + written

    def _stream_after(self, num_blocks: int) -> Tensor:
        """The residual stream [T, D] behind that many blocks."""
        return self._stream["input" if num_blocks == 0 else f"blocks.{num_blocks - 1}.output"]

    def _open_layer(self, layer: int) -> dict[str, np.ndarray]:
        block, taps = self.model.blocks[layer], self._taps.pop(layer, None)
        if taps is None:
            with inference(self.model), tap.record(block) as taps:
                block(self._stream_after(layer)[None], self.model.rotation, 0, None)
        with inference(self.model):
            tensors = dict(_details(block, self.model.rotation, taps))
        return {f"blocks.{layer}.{name}": _numbers(tensor) for name, tensor in tensors.items()}

    def _ids_BT(self) -> Tensor:
        return torch.tensor([self.ids], device=self.model.embed.weight.device)


def read_head(model: Decoder, x_TD: Tensor) -> Tensor:
    """The scores of some positions from the normed stream, by the model's own head, [T, V]."""
    return model.score(x_TD)


def read_stream(model: Decoder, x_TD: Tensor) -> Tensor:
    """The logit lens: the model's own last norm and head on the stream at any height, [T, V]."""
    return read_head(model, model.final_norm(x_TD))


def _details(block: Block, rotation: nn.Module, taps: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    q_BHTK, k_BGTK = taps["attention.query_norm"], taps["attention.key_norm"]
    yield "attention_norm", taps["attention_norm"][0]
    yield "attention.query", q_BHTK[0]
    yield "attention.key", k_BGTK[0]
    turned_BHTK, turned_BGTK = rotation(q_BHTK, k_BGTK, 0)
    if turned_BHTK is not q_BHTK:
        yield "attention.query_rotated", turned_BHTK[0]
        yield "attention.key_rotated", turned_BGTK[0]
    yield "attention.value", block.attention.split_heads(taps["attention.value"])[0]
    yield "attention.scores", taps["attention.core.scores"][0]
    yield "attention.weights", taps["attention.core.weights"][0]
    yield "attention.mix", taps["attention.core"][0]
    yield "mlp_norm", taps["mlp_norm"][0]
    if "mlp.gate" in taps:
        yield "mlp.gate", taps["mlp.gate"][0]
    yield "mlp.up", taps["mlp.up"][0]
    bent_BTF = taps["mlp.activation"]
    yield "mlp.hidden", (bent_BTF * taps["mlp.up"] if "mlp.gate" in taps else bent_BTF)[0]
    yield "mlp.output", taps["mlp"][0]


def array_shapes(config: ModelConfig, T: int, *, all_logits: bool = False) -> dict[str, list[int]]:
    """Name -> shape of everything that a recording of T tokens holds, in the order of the computation."""
    D, V = config.d_model, config.vocab_size
    shapes = {"embed": [T, D]}
    if config.position.kind in ("learned", "sinusoidal"):
        shapes["position"] = [T, D]
    shapes["input"] = [T, D]
    for layer in range(config.n_layers):
        shapes |= {f"blocks.{layer}.{name}": shape for name, shape in _block_shapes(config, T).items()}
    all_rows = all_logits or T * V <= MOST_LOGITS
    return shapes | {"final_norm": [T, D], "logits": [T if all_rows else 1, V]}


def _block_shapes(config: ModelConfig, T: int) -> dict[str, list[int]]:
    D, F, H, G, K = config.d_model, config.d_ff, config.n_heads, config.n_kv_heads, config.head_dim
    query, key, square = [H, T, K], [G, T, K], [H, T, T]
    shapes = {"attention_norm": [T, D], "attention.query": query, "attention.key": key}
    if config.position.kind == "rotary":
        shapes |= {"attention.query_rotated": query, "attention.key_rotated": key}
    shapes |= {"attention.value": key, "attention.scores": square, "attention.weights": square}
    shapes |= {"attention.mix": query, "attention.output": [T, D], "middle": [T, D], "mlp_norm": [T, D]}
    shapes |= {"mlp.gate": [T, F]} if config.feed_forward.gated else {}
    return shapes | {"mlp.up": [T, F], "mlp.hidden": [T, F], "mlp.output": [T, D], "output": [T, D]}


def _stream_name(name: str) -> str:
    """`blocks.3` puts out the stream; `blocks.3.attention` what is added to it."""
    return f"{name}.output"


def _numbers(tensor: Tensor) -> np.ndarray:
    array = tensor.float().cpu().numpy()
    array.setflags(write=False)
    return array


def _size(arrays: Mapping[str, np.ndarray]) -> int:
    return sum(array.size for array in arrays.values())


def check(name: str, value: float, limit: float) -> dict[str, Any]:
    """One thing that must hold: how far off it is, and how far it may be."""
    return {"name": name, "value": value, "limit": limit, "ok": value <= limit}


def _decoding_check(tokenizer: Tokenizer, ids: Sequence[int], text: str) -> dict[str, Any]:
    """How many bytes of the text the tokens do not give back."""
    data = readable(tokenizer.decode_bytes(ids))
    differing = sum(a != b for a, b in zip(data, text)) + abs(len(data) - len(text))
    return check("decoding", float(differing), 0.0)
