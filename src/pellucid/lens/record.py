"""Record activations: one forward pass with a tap, and the details of any layer again on demand.

The pass keeps the residual stream at every sub-layer and checks the attention rows. It also keeps the details of the
layers (queries, scores, feed-forward) when they are small. When they are large, a layer is computed again on request:
its recorded input goes through the same block with a tap. This gives the same numbers to the bit, without L layers of T
x T weights in memory at once. There is no second implementation: every array is a tensor of the model itself, under the
same name (`planning.layout`). Arrays are float32, which is exact for float16 and bfloat16 models.

A model with an encoder reads two rows: the source, whose arrays begin with `encoder.`, and its own text.

Axes: T positions · S source positions · D width · H query heads · G key/value heads · K head width · F feed-forward width ·
V vocabulary.
"""

from __future__ import annotations

import dataclasses
import math
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pellucid.counts import counted
from pellucid.errors import ContextError, RequestError
from pellucid.lens.given import masked_places, spell, without_spaces_at_masks
from pellucid.lens.header import Check, LikelyToken, Origin, SourceRow, TracedModel, TraceHeader
from pellucid.lens.shows import EVERY, check_shown, describe_axes
from pellucid.lens.token_display import chips_of
from pellucid.lens.trace import SCHEMA, Trace, TracePage
from pellucid.model.context import Context, EncodedSource
from pellucid.model.core import ExplicitCore
from pellucid.model.decoder import Decoder
from pellucid.model.device import inference
from pellucid.model.tap import Tap, Taps, kept, no_tap
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
OF_STREAM = ("attention.output", "middle", "looked", "output")  # of a block: kept of every layer, whatever their size


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class LiveTrace(Trace):
    """A trace that was just recorded, together with its model."""

    arrays: Recording


def record_trace(
    model: Decoder,
    tokenizer: Tokenizer,
    ids: Sequence[int],
    *,
    source: Sequence[int] = (),
    text: str | None = None,
    about: Origin = NOWHERE,
    all_logits: bool = False,
    page: TracePage | None = None,
) -> LiveTrace:
    """Record every activation between a row of tokens and the next token, or one that is hidden in the row.

    `source` are the ids that an encoder reads, where the model has one; `text` is what the ids were encoded from, where
    that is known; `about` goes into the header's `model`. Logits of all
    positions are kept when they are at most 4 million numbers, or when asked for. `page` shows the trace as a page.
    Raises ContextError for a row that is longer than the context, RequestError for ids that the model does not have,
    NotShownError for a model with an axis that no array is named for (`shows`).

    >>> from pellucid.model.build import build
    >>> from pellucid.tokens.train import train_bpe
    >>> config = ModelConfig(vocab_size=258, context_length=8, n_layers=1, n_heads=2, n_kv_heads=1, head_dim=4, d_model=8, d_ff=16)
    >>> trace = record_trace(build(config, seed=1), train_bpe(["a"], 258, specials="none"), [104, 105])
    >>> trace["blocks.0.attention.weights"].shape, trace.header["text"]
    ((2, 2, 2), 'hi')
    """
    check_shown(model.config, EVERY)
    for one in (ids, source) if model.config.encoder is not None else (ids,):
        check_row(model.config, one)
    recording = Recording(model, ids, source=source, all_logits=all_logits)
    row = chips_of(tokenizer, ids)
    masks = not model.config.causal
    told = readable(spell(ids, tokenizer, masks=masks)) if text is None else text
    place = predicted_place(model.config, tokenizer, ids)
    header: TraceHeader = {
        "schema": SCHEMA,
        "model": describe_model(model, about),
        "text": told,
        "tokens": row["chips"],
        "groups": row["groups"],
        "source": _describe_source(tokenizer, source) if source else None,
        "arrays": {name: {"shape": shape, "dtype": "f4"} for name, shape in recording.shapes.items()},
        "next": [] if place is None else likeliest(tokenizer, recording.logits_at(place)),
        "predicts": "next" if model.config.causal else "hidden",
        "predicted": place,
        "logits_from": len(ids) - recording.num_scored,
        "checks": [_decoding_check(tokenizer, ids, told, masks=masks), *recording.checks()],
    }
    return LiveTrace(header=header, arrays=recording, page=page)


def predicted_place(config: ModelConfig, tokenizer: Tokenizer, ids: Sequence[int]) -> int | None:
    """The place whose logits are a prediction: the last one, or the first hidden token; None where there is none."""
    if not config.head.tokens:
        return None
    return len(ids) - 1 if config.causal else next(iter(masked_places(ids, tokenizer)), None)


def _describe_source(tokenizer: Tokenizer, source: Sequence[int]) -> SourceRow:
    row = chips_of(tokenizer, source)
    return {"text": readable(spell(source, tokenizer, masks=True)), "tokens": row["chips"], "groups": row["groups"]}


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
        "axes": axes | describe_axes(config),
    }


class Recording(Mapping[str, np.ndarray]):
    """The arrays of one pass by name: residual stream and logits are kept, a layer's details computed on demand.

    A layer is named by its path: `blocks.3`, or `encoder.blocks.3`.
    """

    def __init__(
        self, model: Decoder, ids: Sequence[int], *, source: Sequence[int] = (), all_logits: bool = False
    ) -> None:
        self.model, self.ids, self.source = model, tuple(map(int, ids)), tuple(map(int, source))
        self.shapes = array_shapes(model.config, len(ids), num_source=len(source), all_logits=all_logits)
        self._stream: dict[str, Tensor] = {}
        self._row_error = 0.0
        self._taps: dict[str, dict[str, Tensor]] = {}  # layers that nobody has asked for yet
        num_details = sum(math.prod(shape) for name, shape in self.shapes.items() if _layer_of(name))
        self._keeps_layers = num_details <= MOST_DETAILS
        self._details: OrderedDict[str, dict[str, np.ndarray]] = OrderedDict()
        self._memory: EncodedSource | None = None
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

    def layer(self, path: str) -> dict[str, np.ndarray]:
        """All details of one layer, by full name; the layers used last are kept."""
        if path not in self._details:
            self._details[path] = self._open_layer(path)
            while len(self._details) > 1 and sum(map(_size, self._details.values())) > MOST_DETAILS:
                self._details.popitem(last=False)
        self._details.move_to_end(path)
        return self._details[path]

    def logits_at(self, place: int) -> np.ndarray:
        """The logits of one position, [V], also where those of the last position alone were kept."""
        first = len(self.ids) - self.num_scored
        if place >= first:
            return self["logits"][place - first]
        with inference():
            last_TD = self._stream_after(self.model.config.n_layers)
            return _numbers(read_stream(self.model, last_TD[place : place + 1])[0])

    @property
    def num_scored(self) -> int:
        """How many positions have logits, the last ones; 0 for a model that scores no tokens."""
        return self.shapes["logits"][0] if "logits" in self.shapes else 0

    @property
    def num_kept(self) -> int:
        """How many numbers the recording holds, without the details of layers."""
        return sum(tensor.numel() for tensor in self._stream.values())

    def forget(self) -> None:
        """Free the details of all layers; they are computed again on demand."""
        self._taps.clear()
        self._details.clear()

    def checks(self) -> list[Check]:
        """Checks of the recording: attention rows sum to 1, and the last residual stream gives the logits, if there are any."""
        epsilon = torch.finfo(self.model.dtype).eps
        rows = check("rows", self._row_error, max(1e-5, epsilon))
        if not self.num_scored:
            return [rows]
        with inference():
            lens_TV = read_stream(self.model, self._stream_after(self.model.config.n_layers)[-1:])
        lens_error = float((lens_TV[-1] - self._stream["logits"][-1]).abs().max())
        largest = max(1.0, float(self._stream["logits"][-1].abs().max()))
        return [rows, check("lens", lens_error, 100 * epsilon * largest)]

    def _record(self) -> None:
        with inference():
            if self.model.encoder is not None:
                self._memory = self.model.encode(self._row(self.source), self._context())
            x_BTD = self.model.hidden(self._row(self.ids), self._context())
            if self.model.pooler is not None:  # it reads the finished stream, and writes nothing into it
                this_pass = self.model.open_pass(self._row(self.ids), self._context())
                self.model.pooler(x_BTD, this_pass.rows, this_pass.tap)
            if self.num_scored:
                rows_TD = x_BTD[0] if self.num_scored == len(self.ids) else x_BTD[0, -1:]
                self._stream["logits"] = read_head(self.model, rows_TD, self._hear_last)

    def _context(self) -> Context:
        return Context(core=ExplicitCore(), tap=self._hear, memory=self._memory)

    def _hear(self, name: str, x: Tensor) -> Tensor:
        """The tap: keep the stream, keep layer details when they are small, and check that attention rows sum to 1."""
        if name.endswith(".weights"):
            self._row_error = max(self._row_error, float((x.float().sum(-1) - 1).abs().max()))
        if _is_of_stream(name):
            self._stream[name] = kept(name, x)[0]
        elif self._keeps_layers:
            self._taps.setdefault(_layer_of(name), {})[name] = x
        return x

    def _hear_last(self, name: str, x_TD: Tensor) -> Tensor:
        self._stream[name] = kept(name, x_TD)
        return x_TD

    def _stream_after(self, num_blocks: int) -> Tensor:
        """The residual stream [T, D] after that many blocks."""
        return self._stream["input" if num_blocks == 0 else f"blocks.{num_blocks - 1}.output"]

    def _open_layer(self, path: str) -> dict[str, np.ndarray]:
        taps: Mapping[str, Tensor] | None = self._taps.pop(path, None)
        if taps is None:
            heard = Taps()
            with inference():
                self._read_again(path, Context(core=ExplicitCore(), tap=heard, memory=self._memory))
            taps = {name: x for name, x in heard.items() if _layer_of(name) == path and not _is_of_stream(name)}
        return {name: _numbers(x[0]) for name, x in taps.items()}

    def _read_again(self, path: str, context: Context) -> None:
        """Compute a layer again, from what entered it; an encoder is read whole."""
        if path.startswith("encoder."):
            self.model.encode(self._row(self.source), dataclasses.replace(context, memory=None))
            return
        layer = int(path.rpartition(".")[2])
        this_pass = self.model.open_pass(self._row(self.ids), context)
        self.model.blocks[layer](self._stream_after(layer)[None], this_pass)

    def _row(self, ids: Sequence[int]) -> Tensor:
        return torch.tensor([ids], device=self.model.device)


def read_head(model: Decoder, x_TD: Tensor, tap: Tap = no_tap) -> Tensor:
    """The logits [T, V] that the model's own head gives for the normed stream."""
    return model.score(x_TD, tap)


def read_stream(model: Decoder, x_TD: Tensor) -> Tensor:
    """The logit lens: the model's own last norm and head applied to the stream of any layer, [T, V]."""
    return read_head(model, model.final_norm(x_TD))


def array_shapes(config: ModelConfig, T: int, *, num_source: int = 0, all_logits: bool = False) -> dict[str, list[int]]:
    """Name -> shape of everything that a recording of T tokens holds, in the order of the computation."""
    num_scored = T if all_logits or T * config.vocab_size <= MOST_LOGITS else 1
    shapes = row_shapes(config, num_tokens=T, num_scored=num_scored, num_source=num_source)
    if config.head.transform is not None:  # what the head reads is kept where it is scored
        shapes["transform"] = (num_scored, config.d_model)
    return {name: list(shape) for name, shape in shapes.items()}


def _layer_of(name: str) -> str:
    """The path of the block that an array belongs to; empty for one of no block.

    >>> _layer_of("encoder.blocks.3.mlp.up"), _layer_of("blocks.0.middle"), _layer_of("final_norm")
    ('encoder.blocks.3', 'blocks.0', '')
    """
    before, blocks, after = name.partition("blocks.")
    return f"{before}{blocks}{after.partition('.')[0]}" if blocks else ""


def _is_of_stream(name: str) -> bool:
    path = _layer_of(name)
    return not path or name.removeprefix(f"{path}.") in OF_STREAM


def _numbers(tensor: Tensor) -> np.ndarray:
    array = tensor.float().cpu().numpy()
    array.setflags(write=False)
    return array


def _size(arrays: Mapping[str, np.ndarray]) -> int:
    return sum(array.size for array in arrays.values())


def check(name: str, value: float, limit: float | None) -> Check:
    """One check: the measured error and the largest allowed one; None allows any."""
    return {"name": name, "value": value, "limit": limit, "ok": limit is None or value <= limit}


def _decoding_check(tokenizer: Tokenizer, ids: Sequence[int], text: str, *, masks: bool) -> Check:
    """Check that the tokens decode to the text: the number of differences, any for a tokenizer that may lose text."""
    data = readable(spell(ids, tokenizer, masks=masks))
    if masks:
        data, text = (without_spaces_at_masks(one, tokenizer) for one in (data, text))
    differing = sum(a != b for a, b in zip(data, text)) + abs(len(data) - len(text))
    return check("decoding", float(differing), 0.0 if tokenizer.exact else None)
