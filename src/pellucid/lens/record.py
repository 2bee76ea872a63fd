"""Record activations: one forward pass with a tap, and the details of any layer again on demand.

The pass keeps the residual stream at every sub-layer and checks the attention rows. It also keeps the details of the
layers (queries, scores, feed-forward) when they are small. When they are large, a layer is computed again on request:
its recorded input goes through the same block with a tap. This gives the same numbers to the bit, without L layers of T
x T weights in memory at once. There is no second implementation: every array is a tensor of the model itself, under the
same name (`planning.layout`). Arrays are float32, which is exact for float16 and bfloat16 models.

Axes: T positions · D width · H query heads · G key/value heads · K head width · F feed-forward width · V vocabulary.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pellucid.counts import counted
from pellucid.errors import ContextError, RequestError
from pellucid.lens.header import Check, LikelyToken, Origin, TracedModel, TraceHeader
from pellucid.lens.shows import check_shown
from pellucid.lens.token_display import chips_of
from pellucid.lens.trace import SCHEMA, Trace, TracePage
from pellucid.model.context import Context
from pellucid.model.core import ExplicitCore
from pellucid.model.decoder import Decoder
from pellucid.model.device import inference
from pellucid.model.tap import Taps, kept
from pellucid.planning.axis_names import flat
from pellucid.planning.config import ModelConfig
from pellucid.planning.shapes import row_shapes
from pellucid.tokens.browse import label_of
from pellucid.tokens.labels import readable
from pellucid.tokens.tokenizer import Tokenizer

MOST_LOGITS = 4_000_000  # numbers; above, logits are kept for the last position only
NUM_NEXT = 20  # of the likeliest next tokens in a header
MOST_DETAILS = 100_000_000  # numbers of layers' details that one recording holds
NOWHERE: Origin = {"name": "", "sha256": None, "family": None, "checkpoint_step": None}  # a model that is in no file
OF_STREAM = ("attention.output", "middle", "output")  # of a block: kept of every layer, whatever their size


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class LiveTrace(Trace):
    """A trace that was just recorded, together with its model."""

    arrays: Recording


def record_trace(
    model: Decoder,
    tokenizer: Tokenizer,
    ids: Sequence[int],
    *,
    text: str | None = None,
    about: Origin = NOWHERE,
    all_logits: bool = False,
    page: TracePage | None = None,
) -> LiveTrace:
    """Record every activation between a row of tokens and the next token.

    `text` is what the ids were encoded from, where that is known; `about` goes into the header's `model`. Logits of all
    positions are kept when they are at most 4 million numbers, or when asked for. `page` shows the trace as a page.
    Raises ContextError for a row that is longer than the context, RequestError for ids that the model does not have,
    ModelError for a model that the lens does not show (`shows`).

    >>> from pellucid.model.build import build
    >>> from pellucid.tokens.train import train_bpe
    >>> config = ModelConfig(vocab_size=258, context_length=8, n_layers=1, n_heads=2, n_kv_heads=1, head_dim=4, d_model=8, d_ff=16)
    >>> trace = record_trace(build(config, seed=1), train_bpe(["a"], 258, specials="none"), [104, 105])
    >>> trace["blocks.0.attention.weights"].shape, trace.header["text"]
    ((2, 2, 2), 'hi')
    """
    check_shown(model.config)
    check_row(model.config, ids)
    recording = Recording(model, ids, all_logits=all_logits)
    row = chips_of(tokenizer, ids)
    told = readable(tokenizer.decode_bytes(ids)) if text is None else text
    header: TraceHeader = {
        "schema": SCHEMA,
        "model": describe_model(model, about),
        "text": told,
        "tokens": row["chips"],
        "groups": row["groups"],
        "arrays": {name: {"shape": shape, "dtype": "f4"} for name, shape in recording.shapes.items()},
        "next": likeliest(tokenizer, recording["logits"][-1]),
        "logits_from": len(ids) - recording.shapes["logits"][0],
        "checks": [_decoding_check(tokenizer, ids, told), *recording.checks()],
    }
    return LiveTrace(header=header, arrays=recording, page=page)


def likeliest(tokenizer: Tokenizer, logits_V: np.ndarray) -> list[LikelyToken]:
    """The likeliest next tokens, with their probabilities over the whole vocabulary."""
    chances_V = np.exp(logits_V.astype(np.float64) - logits_V.max())
    chances_V /= chances_V.sum()
    best = np.argsort(-chances_V, kind="stable")[:NUM_NEXT]
    labels = [label_of(tokenizer, int(i)) if i < tokenizer.vocab_size else f"[{i}]" for i in best]
    return [{"id": int(i), "label": label, "p": float(chances_V[i])} for i, label in zip(best, labels, strict=True)]


def check_row(config: ModelConfig, ids: Sequence[int]) -> None:
    """Raise an error for a row of ids that this model cannot read."""
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


def describe_model(model: Decoder, origin: Origin) -> TracedModel:
    """The axes of a model, from which a page draws it; the name of its family is never used."""
    config = model.config
    names = ("n_layers", "n_heads", "n_kv_heads", "head_dim", "d_model", "d_ff", "vocab_size", "context_length")
    more = ("position", "feed_forward", "norm", "qk_norm", "tied_head", "sliding_window", "sliding_layers")
    every = flat(config)
    axes = {name: every[name] for name in (*names, *more)} | {"gated": config.feed_forward.gated}
    return {
        **origin,
        "parameters": model.num_parameters,
        "dtype": str(model.dtype).removeprefix("torch."),
        "axes": axes | {"mask": "causal" if config.causal else "none"},
    }


class Recording(Mapping[str, np.ndarray]):
    """The arrays of one pass by name: residual stream and logits are kept, a layer's details computed on demand."""

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
        return self.layer(_layer_of(name))[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.shapes)

    def __len__(self) -> int:
        return len(self.shapes)

    def layer(self, layer: int) -> dict[str, np.ndarray]:
        """All details of one layer, by full name; the layers used last are kept."""
        if layer not in self._details:
            self._details[layer] = self._open_layer(layer)
            while len(self._details) > 1 and sum(map(_size, self._details.values())) > MOST_DETAILS:
                self._details.popitem(last=False)
        self._details.move_to_end(layer)
        return self._details[layer]

    @property
    def num_kept(self) -> int:
        """How many numbers the recording holds, without the details of layers."""
        return sum(tensor.numel() for tensor in self._stream.values())

    def forget(self) -> None:
        """Free the details of all layers; they are computed again on demand."""
        self._taps.clear()
        self._details.clear()

    def checks(self) -> list[Check]:
        """Checks of the recording: attention rows sum to 1, and the last residual stream gives the logits."""
        epsilon = torch.finfo(self.model.dtype).eps
        with inference():
            lens_TV = read_stream(self.model, self._stream_after(self.model.config.n_layers)[-1:])
        lens_error = float((lens_TV[-1] - self._stream["logits"][-1]).abs().max())
        largest = max(1.0, float(self._stream["logits"][-1].abs().max()))
        return [
            check("rows", self._row_error, max(1e-5, epsilon)),
            check("lens", lens_error, 100 * epsilon * largest),
        ]

    def _record(self) -> None:
        with inference():
            x_BTD = self.model.hidden(self._ids_BT(), Context(core=ExplicitCore(), tap=self._hear))
            rows_TD = x_BTD[0] if self.shapes["logits"][0] == len(self.ids) else x_BTD[0, -1:]
            self._stream["logits"] = read_head(self.model, rows_TD)

    def _hear(self, name: str, x: Tensor) -> Tensor:
        """The tap: keep the stream, keep layer details when they are small, and check that attention rows sum to 1."""
        if name.endswith(".attention.weights"):
            self._row_error = max(self._row_error, float((x.float().sum(-1) - 1).abs().max()))
        if _is_of_stream(name):
            self._stream[name] = kept(name, x)[0]
        elif self._keeps_layers:
            self._taps.setdefault(_layer_of(name), {})[name] = x
        return x

    def _stream_after(self, num_blocks: int) -> Tensor:
        """The residual stream [T, D] after that many blocks."""
        return self._stream["input" if num_blocks == 0 else f"blocks.{num_blocks - 1}.output"]

    def _open_layer(self, layer: int) -> dict[str, np.ndarray]:
        taps: Mapping[str, Tensor] | None = self._taps.pop(layer, None)
        if taps is None:
            heard = Taps()
            with inference():
                this_pass = self.model.open_pass(self._ids_BT(), Context(core=ExplicitCore(), tap=heard))
                self.model.blocks[layer](self._stream_after(layer)[None], this_pass)
            taps = {name: x for name, x in heard.items() if not _is_of_stream(name)}
        return {name: _numbers(x[0]) for name, x in taps.items()}

    def _ids_BT(self) -> Tensor:
        return torch.tensor([self.ids], device=self.model.device)


def read_head(model: Decoder, x_TD: Tensor) -> Tensor:
    """The logits [T, V] that the model's own head gives for the normed stream."""
    return model.score(x_TD)


def read_stream(model: Decoder, x_TD: Tensor) -> Tensor:
    """The logit lens: the model's own last norm and head applied to the stream of any layer, [T, V]."""
    return read_head(model, model.final_norm(x_TD))


def array_shapes(config: ModelConfig, T: int, *, all_logits: bool = False) -> dict[str, list[int]]:
    """Name -> shape of everything that a recording of T tokens holds, in the order of the computation."""
    num_scored = T if all_logits or T * config.vocab_size <= MOST_LOGITS else 1
    shapes = row_shapes(config, num_tokens=T, num_scored=num_scored)
    return {name: list(shape) for name, shape in shapes.items()}


def _layer_of(name: str) -> int:
    return int(name.split(".")[1])


def _is_of_stream(name: str) -> bool:
    return not name.startswith("blocks.") or name.split(".", 2)[2] in OF_STREAM


def _numbers(tensor: Tensor) -> np.ndarray:
    array = tensor.float().cpu().numpy()
    array.setflags(write=False)
    return array


def _size(arrays: Mapping[str, np.ndarray]) -> int:
    return sum(array.size for array in arrays.values())


def check(name: str, value: float, limit: float | None) -> Check:
    """One check: the measured error and the largest allowed one; None allows any."""
    return {"name": name, "value": value, "limit": limit, "ok": limit is None or value <= limit}


def _decoding_check(tokenizer: Tokenizer, ids: Sequence[int], text: str) -> Check:
    """Check that the tokens decode to the text: the number of differences, any for a tokenizer that may lose text."""
    data = readable(tokenizer.decode_bytes(ids))
    differing = sum(a != b for a, b in zip(data, text)) + abs(len(data) - len(text))
    return check("decoding", float(differing), 0.0 if tokenizer.exact else None)
