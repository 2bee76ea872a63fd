"""The panel "Why": explain one prediction by ablation and activation patching (`interventions`) and by `attribution`.

Every question takes `at` (which text, under which checkpoint), `predict_after` (the token whose next token is
predicted, by default the last; of a model that sees both sides the hidden token that is predicted, by default the first) and
a target: `id` (by default the likeliest token) and, for "why A and not B",
`against`. Answers give probabilities, and effects in nats: +0.69 doubles a token's odds against all others.

Axes: T positions · V vocabulary · L layers · H query heads.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, TypeVar, get_args

import numpy as np
import torch
from torch import Tensor

from pellucid.errors import RequestError
from pellucid.lens.answer import Answer, At
from pellucid.lens.attribution import Baseline, Shares, contributions, gradient_x_input, integrated_gradients
from pellucid.lens.given import masked_places
from pellucid.lens.interventions import (
    NOTE,
    How,
    SweepKind,
    Target,
    ablate,
    ablate_heads,
    occlude,
    patch,
    predict,
    row,
    sweep,
)
from pellucid.lens.reader import SourceReader
from pellucid.lens.shows import SCORED
from pellucid.lens.sites import Kind, find_site
from pellucid.lens.state import LensState
from pellucid.lens.token_display import chips_of
from pellucid.model.decoder import Decoder

Choice = TypeVar("Choice", bound=str)

REMOVABLE: tuple[Kind, ...] = ("head", "neuron", "attention", "mlp")
NUM_LIKELIEST = 8  # candidates that an answer names, to choose A and B from


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """The subject of a question: a model, the ids it has read, and its prediction of the next one."""

    reader: SourceReader
    ids: tuple[int, ...]
    target: Target
    logits_V: Tensor

    @property
    def model(self) -> Decoder:
        return self.reader.model

    def describe(self, lens: LensState) -> dict[str, Any]:
        """The target in words and numbers, and the sentence that accompanies every answer."""
        value = self.target.read(self.logits_V[None]).item()
        named = [
            None if one is None else _token(lens, one, self.logits_V) for one in (self.target.id, self.target.against)
        ]
        return {
            "target": named[0],
            "against": named[1],
            "value": value,
            "predict_after": len(self.ids) - 1 if self.reader.place is None else self.reader.place,
            "likeliest": [
                _token(lens, one, self.logits_V)
                for one in self.logits_V.topk(min(NUM_LIKELIEST, len(self.logits_V))).indices.tolist()
            ],
            "note": NOTE,
        }


def _ask(lens: LensState, at: At, predict_after: int | None, token: int | None, against: int | None) -> Prediction:
    ids, place = tuple(lens.ids(at.node)), lens.predicted_place(at.node, predict_after)
    ids = ids[: place + 1] if lens.config.causal else ids  # a causal model saw no more than these
    reader = lens.reader(at, None if lens.config.causal else place)
    logits_V = predict(reader, row(reader, ids))[0]
    target = Target(id=int(logits_V.argmax()) if token is None else token, against=against)
    return Prediction(reader=reader, ids=ids, target=target, logits_V=logits_V)


def _token(lens: LensState, token: int, logits_V: Tensor) -> dict[str, Any]:
    return {"id": token, "label": lens.label(token), "p": logits_V.double().softmax(-1)[token].item()}


def _compared(lens: LensState, asked: Prediction, after_V: Tensor, count: int, **others: Tensor) -> dict[str, Any]:
    """Probabilities before and after: the likeliest tokens of both and the targets in `rows`, all others as one sum."""
    chances = {
        name: x_V.double().softmax(-1)
        for name, x_V in (("before", asked.logits_V), ("after", after_V), *others.items())
    }
    tops = {name: p_V.topk(min(count, len(p_V))).indices.tolist() for name, p_V in chances.items()}
    wanted = {token: None for top in tops.values() for token in top[: max(1, count // 2)]}
    wanted |= {token: None for token in [*tops["before"], asked.target.id, asked.target.against] if token is not None}
    ids = sorted(wanted, key=lambda token: -chances["before"][token].item())
    after = asked.target.read(after_V[None]).item() - asked.target.read(asked.logits_V[None]).item()
    return {
        **asked.describe(lens),
        "effect": after,
        "rows": [_row(lens, token, chances) for token in ids],
        "others": {"count": len(after_V) - len(ids)}
        | {name: 1 - p_V[ids].sum().item() for name, p_V in chances.items()},
        "divergence_bits": _divergence(asked.logits_V, after_V),
        **{
            name: [_token(lens, token, x_V) for token in tops[name]]
            for name, x_V in (("before", asked.logits_V), ("after", after_V))
        },
    }


def _row(lens: LensState, token: int, chances: dict[str, Tensor]) -> dict[str, Any]:
    told = {name: p_V[token].item() for name, p_V in chances.items()}
    return {"id": token, "label": lens.label(token), **told, "delta": told["after"] - told["before"]}


def _divergence(before_V: Tensor, after_V: Tensor) -> float:
    """How much the whole prediction changed: KL(before || after) in bits."""
    before_V, after_V = before_V.double().log_softmax(-1), after_V.double().log_softmax(-1)
    return float((before_V.exp() * (before_V - after_V)).nan_to_num(0.0).sum() / np.log(2))


def question_of(
    lens: LensState, *, at: At, predict_after: int | None = None, id: int | None = None, against: int | None = None
) -> Answer:
    """The prediction that all other questions of the panel are about."""
    return Answer(_ask(lens, at, predict_after, id, against).describe(lens))


def ablate_of(
    lens: LensState, *, at: At, layer: int, kind: str, index: int | None = None, how: str = "zero", count: int = 10,
    predict_after: int | None = None, id: int | None = None, against: int | None = None,
) -> Answer:  # fmt: skip
    """Ablation: the prediction without a head, a neuron, a layer's attention or its feed-forward."""
    removed, way = _choose("kind", kind, REMOVABLE), _choose("how", how, get_args(How))
    asked = _ask(lens, at, predict_after, id, against)
    after_V = ablate(asked.reader, asked.ids, find_site(asked.model, removed, layer, index), way)
    part = {"kind": kind, "layer": layer, "index": index, "how": how}
    return Answer({"part": part, **_compared(lens, asked, after_V, count)})


def heads_of(
    lens: LensState, *, at: At, predict_after: int | None = None, id: int | None = None, against: int | None = None
) -> Answer:
    """Head ablation: the effect on the target of setting each head to zero, one at a time: effects [L, H]."""
    asked = _ask(lens, at, predict_after, id, against)
    effects_LH = ablate_heads(asked.reader, asked.ids, asked.target)
    return Answer(asked.describe(lens), {"effects": _numbers(effects_LH)})


def occlude_of(
    lens: LensState, *, at: At, replacement: int | None = None, predict_after: int | None = None, id: int | None = None,
    against: int | None = None,
) -> Answer:  # fmt: skip
    """Occlusion: the effect on the target of removing each token, one at a time."""
    asked = _ask(lens, at, predict_after, id, against)
    scores_T = occlude(asked.reader, asked.ids, asked.target, replacement)
    told = None if replacement is None else {"id": replacement, "label": lens.label(replacement)}
    return Answer({**asked.describe(lens), "replacement": told, "scores": scores_T.tolist()})


def gradient_of(
    lens: LensState, *, at: At, method: str = "gradient_x_input", baseline: str = "mean", steps: int = 64,
    predict_after: int | None = None, id: int | None = None, against: int | None = None,
) -> Answer:  # fmt: skip
    """Gradient attribution of the target to the tokens: gradient x input, or integrated gradients from a baseline."""
    _choose("method", method, ("gradient_x_input", "integrated"))
    start = _choose("baseline", baseline, get_args(Baseline))
    asked = _ask(lens, at, predict_after, id, against)
    if method == "integrated":
        shares = integrated_gradients(
            asked.model, asked.ids, asked.target, baseline=start, steps=steps, reads=asked.reader
        )
    else:
        shares = gradient_x_input(asked.model, asked.ids, asked.target, reads=asked.reader)
    return Answer({**asked.describe(lens), "method": method, **_shares(shares)})


def _shares(shares: Shares) -> dict[str, Any]:
    total = shares.scores_T.sum().item()
    return {"scores": shares.scores_T.tolist(), "total": total, "difference": shares.difference, "gap": shares.gap}


def contrast_of(
    lens: LensState, *, at: At, predict_after: int | None = None, id: int | None = None, against: int | None = None
) -> Answer:
    """Direct logit attribution: what each sub-layer adds for A (and against B); the sum is the logit or the lead."""
    asked = _ask(lens, at, predict_after, id, against)
    shared = contributions(asked.model, asked.ids, asked.target, reads=asked.reader)
    parts = [{"name": name, "value": value} for name, value in shared.parts.items()]
    sums = {"parts": parts, "total": shared.total, "gap": shared.gap}
    return Answer({**asked.describe(lens), **sums}, {"heads": _numbers(shared.heads_LH)})


def patch_of(
    lens: LensState, *, at: At, text: str, layer: int, site: str, index: int | None = None, source_position: int | None = None,
    position: int | None = None, count: int = 10, predict_after: int | None = None, id: int | None = None,
    against: int | None = None,
) -> Answer:  # fmt: skip
    """Activation patching: the prediction with one activation taken from a second text.

    `position` (by default the last) receives the activation of the second text at `source_position` (by default its
    last).
    """
    asked = _ask(lens, at, predict_after, id, against)
    source_ids, second = _second(lens, text, asked)
    to = len(asked.ids) - 1 if position is None else position
    taken = len(source_ids) - 1 if source_position is None else source_position
    patched_at = find_site(asked.model, _choose("site", site, get_args(Kind)), layer, index)
    patched = patch(asked.reader, asked.ids, source_ids, patched_at, [(to, taken)], second=second)
    where = {"site": site, "layer": layer, "index": index, "position": to, "source_position": taken}
    compared = _compared(lens, asked, patched.after, count, source=patched.source)
    return Answer({**where, **compared, "source_tokens": chips_of(lens.tokenizer, source_ids)})


def sweep_of(
    lens: LensState, *, at: At, text: str, site: str = "residual", predict_after: int | None = None, id: int | None = None,
    against: int | None = None,
) -> Answer:  # fmt: skip
    """Activation patching from a second text, for each layer and position in turn: effects [rows, T].

    Positions are matched from the end. By default A is the token that the text predicts, and B the one that the second
    text predicts.
    """
    swept = _choose("site", site, get_args(SweepKind))
    asked = _ask(lens, at, predict_after, id, against)
    source_ids, second = _second(lens, text, asked)
    source_V = predict(second, row(second, source_ids))[0]
    rival = int(source_V.argmax())
    if id is None and against is None and rival != asked.target.id:
        asked = replace(asked, target=Target(id=asked.target.id, against=rival))
    effects = sweep(asked.reader, asked.ids, source_ids, asked.target, swept, second=second)
    names = [
        f"blocks.{layer}.{'output' if site == 'residual' else site}" for layer in range(asked.model.config.n_layers)
    ]
    goal = asked.target.read(source_V[None]).item() - asked.target.read(asked.logits_V[None]).item()
    value = {
        **asked.describe(lens),
        "rows": ["input", *names] if site == "residual" else names,
        "source_tokens": chips_of(lens.tokenizer, source_ids),
        "source_top": _token(lens, rival, source_V),
        "goal": goal,  # the effect of replacing the whole text by the second one
    }
    return Answer(value, {"effects": _numbers(effects)})


def _second(lens: LensState, text: str, asked: Prediction) -> tuple[tuple[int, ...], SourceReader]:
    """The ids of a second text, and the model as it is asked about them.

    Beside an encoder the second text is another source, and what the decoder reads stays the same.
    """
    if not text:
        raise RequestError("the second text is empty", hint="type a text to take an activation from")
    ids = lens.reads.give(text)
    if lens.config.encoder is not None:
        return asked.ids, replace(asked.reader, source=ids[:-1])
    hidden = masked_places(ids, lens.tokenizer)
    if lens.config.causal:
        return ids, asked.reader
    if not hidden:
        raise RequestError("no token is hidden in the second text", hint="hide the same token as in the first")
    return ids, replace(asked.reader, place=hidden[0])


def _numbers(x: Tensor) -> np.ndarray:
    return x.to(torch.float32).cpu().numpy()


def _choose(name: str, found: str, options: tuple[Choice, ...]) -> Choice:
    """The option that was asked for."""
    for option in options:
        if option == found:
            return option
    raise RequestError(f"{name} is none of those known here", found=repr(found), hint=f"give {', '.join(options)}")


METHODS = {
    "why": question_of,
    "why.ablate": ablate_of,
    "why.heads": heads_of,
    "why.occlude": occlude_of,
    "why.gradient": gradient_of,
    "why.contrast": contrast_of,
    "why.patch": patch_of,
    "why.sweep": sweep_of,
}
SHOWS = dict.fromkeys(METHODS, SCORED)
