"""The whole transformer in plain formulas: the slow, readable twin of `pellucid.model`.

    PlainTransformer(config, weights).logits([5, 6, 7])        [T, V]; weights by name, as a state dict has them

It reads one text at a time: no batch, no padding, no cache, one head after the other. It follows a `ModelConfig` axis by
axis as the papers have it, uses nothing of `pellucid.model`, and computes in the number format of the weights.

Axes: T positions · S positions looked at · D width · K head width · F feed-forward width · E experts · V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from pellucid.planning.axes import ANY, SIZES, TRAINING, misfits
from pellucid.planning.config import ModelConfig
from pellucid.planning.parts.norm import NormConfig
from pellucid.planning.parts.position import Relative, Rotary

GROUPS = {
    "position": "kind first halves theta window_theta skipped buckets farthest",
    "position.scaling": "kind factor low_frequency high_frequency original_context attention_factor",
    "embedding": "scaled segments norm",
    "attention": "qk_norm qkv_bias output_bias scale softcap",
    "attention.window": "size layers both_sides",
    "feed_forward": "kind bias",
    "feed_forward.experts": "count active width normalised layers balance",
    "norm": "kind eps placement one_plus first",
    "head": "bias scaled softcap",
    "head.transform": "activation bias",
    "encoder": "n_layers",
}
KNOWN = {f"{group}.{name}": ANY for group, names in GROUPS.items() for name in names.split()}
KNOWN |= {**SIZES, **TRAINING, "causal": ANY, "tied_head": ANY}  # an axis that is not here must be neutral


@dataclass(frozen=True)
class PlainTransformer:
    """A model as its formulas read."""

    config: ModelConfig
    weights: Mapping[str, Tensor]
    routed: list[tuple[Tensor, list[int]]] = field(default_factory=list)  # of each token: shares [E], chosen experts

    def __post_init__(self) -> None:
        assert misfits(self.config, KNOWN) == [], "an axis that has no formula here"

    def logits(self, ids: Sequence[int], *, source: Sequence[int] = (), segments: Sequence[int] = ()) -> Tensor:
        """The score of every token at every position, [T, V]. `source`: the text that an encoder beside it reads."""
        config = self.config
        memory_SD = self.encode(source) if config.encoder else None
        x_TD = self.embed(ids, segments)
        for layer in range(config.n_layers):
            x_TD = self.block(x_TD, f"blocks.{layer}", layer, config.causal, memory_SD)
        return self.head(self.norm(x_TD, "final_norm") if config.norm.placement != "after" else x_TD)

    def encode(self, source: Sequence[int]) -> Tensor:
        """What the decoder's cross-attention reads, [S, D] (Vaswani et al. 2017 §3.1)."""
        x_SD = self.embed(source, ())
        for layer in range(self.config.encoder.n_layers):
            x_SD = self.block(x_SD, f"encoder.blocks.{layer}", layer, False, None)
        return self.norm(x_SD, "encoder.final_norm") if self.config.norm.placement != "after" else x_SD

    def embed(self, ids: Sequence[int], segments: Sequence[int]) -> Tensor:
        """What the first block reads: token + position + segment (Devlin et al. 2019 fig. 2)."""
        axes, width, position = self.config.embedding, self.config.d_model, self.config.position
        x_TD = self.weights["embed.weight"][list(ids)] * (math.sqrt(width) if axes.scaled else 1)
        if position.kind == "learned":
            x_TD = x_TD + self.weights["position.weight"][[position.first + t for t in range(len(ids))]]
        if position.kind == "sinusoidal":
            x_TD = x_TD + x_TD.new_tensor([sinusoids(t, width, halves=position.halves) for t in range(len(ids))])
        if axes.segments:
            x_TD = x_TD + self.weights["segment.weight"][list(segments) or [0] * len(ids)]
        return self.norm(x_TD, "embed_norm") if axes.norm else x_TD

    def block(self, x_TD: Tensor, name: str, layer: int, causal: bool, memory_SD: Tensor | None) -> Tensor:
        """Attention to itself, to the memory where there is one, and the feed-forward."""
        path, first = f"{name}.attention", layer == 0 and not self.config.norm.first
        x_TD = self.add(x_TD, path, lambda x_TD: self.self_attention(x_TD, path, layer, causal), normed=not first)
        if memory_SD is not None:
            x_TD = self.add(x_TD, f"{name}.cross", lambda x_TD: self.attention(x_TD, memory_SD, f"{name}.cross"))
        return self.add(x_TD, f"{name}.mlp", lambda x_TD: self.feed_forward(x_TD, f"{name}.mlp", layer))

    def add(self, x_TD: Tensor, name: str, branch: Callable[[Tensor], Tensor], *, normed: bool = True) -> Tensor:
        """The stream with what a branch adds to it, and the norms where the family has them (Xiong et al. 2020 fig. 1)."""
        placement = self.config.norm.placement
        if placement == "after":
            return self.norm(x_TD + branch(x_TD), f"{name}_output_norm")
        added_TD = branch(self.norm(x_TD, f"{name}_norm") if normed else x_TD)
        return x_TD + (self.norm(added_TD, f"{name}_output_norm") if placement == "around" else added_TD)

    def self_attention(self, x_TD: Tensor, name: str, layer: int, causal: bool) -> Tensor:
        """A text looks at itself: 0 is added to the score where position t may look at s, else -∞."""
        length, window, position = len(x_TD), self.config.window_at(layer), self.config.position
        places = [[(t, s) for s in range(length)] for t in range(length)]
        allowed_TS = x_TD.new_tensor(
            [[0.0 if sees(t, s, window, causal) else -math.inf for t, s in row] for row in places]
        )
        if position.kind != "relative":
            return self.attention(x_TD, x_TD, name, self.config.rotation_at(layer), lambda head: allowed_TS)
        # Raffel et al. 2020 §2.1: each head has learned a number for the distance; all blocks of a side share the table.
        table = self.weights[name[: name.index("blocks")] + "relative.weight"]
        buckets_TS = torch.tensor([[bucket(s - t, position, causal=causal) for t, s in row] for row in places])
        return self.attention(x_TD, x_TD, name, None, lambda head: allowed_TS + table[buckets_TS, head])

    def attention(
        self,
        x_TD: Tensor,
        read_SD: Tensor,
        name: str,
        rotary: Rotary | None = None,
        added: Callable[[int], Tensor | float] = lambda head: 0.0,
    ) -> Tensor:
        """Each head mixes the values of what it reads: softmax(q kᵀ · scale + added) v (Vaswani et al. 2017 eq. 1)."""
        config, axes = self.config, self.config.attention
        scale = 1 / math.sqrt(config.head_dim) if axes.scale is None else axes.scale
        shared_by = config.n_heads // config.n_kv_heads  # Ainslie et al. 2023: neighbours share keys and values
        mixed = []
        for head in range(config.n_heads):
            q_TK = self.looking(x_TD, f"{name}.query", head, rotary)
            k_SK = self.looking(read_SD, f"{name}.key", head // shared_by, rotary)
            v_SK = self.one_head(read_SD, f"{name}.value", head // shared_by)
            scores_TS = soft_cap(q_TK @ k_SK.T * scale, axes.softcap) + added(head)
            mixed.append(scores_TS.softmax(-1) @ v_SK)
        return self.linear(torch.cat(mixed, -1), f"{name}.output")

    def looking(self, x_TD: Tensor, name: str, head: int, rotary: Rotary | None) -> Tensor:
        """A query or key head: normed (Henry et al. 2020) and turned to its positions, where the family does so."""
        x_TK = self.one_head(x_TD, name, head)
        if self.config.attention.qk_norm:
            x_TK = self.norm(x_TK, f"{name}_norm", "rms")
        return x_TK if rotary is None else torch.stack([turn(x_K, t, rotary) for t, x_K in enumerate(x_TK)])

    def one_head(self, x_TD: Tensor, name: str, head: int) -> Tensor:
        """The columns of a projection that belong to one head, [T, K]."""
        width = self.config.head_dim
        return self.linear(x_TD, name)[:, head * width : (head + 1) * width]

    def feed_forward(self, x_TD: Tensor, name: str, layer: int) -> Tensor:
        """Two matrices with a nonlinearity between them, or three with a gate (Shazeer 2020), or a mixture of such."""
        axes = self.config.feed_forward
        if self.config.has_experts(layer):
            return torch.stack([self.mixture(x_D, name) for x_D in x_TD])
        up_TF = self.linear(x_TD, f"{name}.up")
        gate_TF = self.linear(x_TD, f"{name}.gate") if axes.gated else None
        return self.linear(gated(up_TF, gate_TF, axes.kind), f"{name}.down")

    def mixture(self, x_D: Tensor, name: str) -> Tensor:
        """What the experts with the largest shares make of one token (Shazeer et al. 2017 eq. 1; Jiang et al. 2024 §2.1)."""
        axes, weights = self.config.feed_forward.experts, self.weights
        share_E = (weights[f"{name}.router.weight"] @ x_D).softmax(-1)
        shares = share_E.tolist()
        chosen = sorted(range(axes.count), key=lambda expert: -shares[expert])[: axes.active]
        self.routed.append((share_E, chosen))
        total = sum(share_E[expert] for expert in chosen) if axes.normalised else 1.0
        made_D = 0.0
        for expert in chosen:
            gate_F = weights[f"{name}.gate"][expert] @ x_D if self.config.feed_forward.gated else None
            hidden_F = gated(weights[f"{name}.up"][expert] @ x_D, gate_F, self.config.feed_forward.kind)
            made_D = made_D + share_E[expert] / total * (weights[f"{name}.down"][expert] @ hidden_F)
        return made_D

    def balance(self) -> Tensor:
        """E Σ f_e P_e over all tokens routed so far (Fedus et al. 2022 eq. 4-6): f counts who was chosen, P is the mean share."""
        count, num_tokens = self.config.feed_forward.experts.count, len(self.routed)
        sent = [sum(expert in chosen for _, chosen in self.routed) / num_tokens for expert in range(count)]
        given = [sum(share_E[expert] for share_E, _ in self.routed) / num_tokens for expert in range(count)]
        return count * sum(f * P for f, P in zip(sent, given, strict=True))

    def head(self, x_TD: Tensor) -> Tensor:
        """The score of every token: a product with its row of a table (Press & Wolf 2017: the embedding's own)."""
        config, axes = self.config, self.config.head
        if axes.transform is not None:
            x_TD = activate(self.linear(x_TD, "transform.dense"), axes.transform.activation)
            x_TD = self.norm(x_TD, "transform.norm")
        if axes.scaled:
            x_TD = x_TD / math.sqrt(config.d_model)
        scores_TV = x_TD @ self.weights["embed.weight" if config.tied_head else "head.weight"].T
        return soft_cap(scores_TV + self.weights["head.bias"] if axes.bias else scores_TV, axes.softcap)

    def linear(self, x: Tensor, name: str) -> Tensor:
        """x Wᵀ, and the bias where the weights have one."""
        y = x @ self.weights[f"{name}.weight"].T
        return y + self.weights[f"{name}.bias"] if f"{name}.bias" in self.weights else y

    def norm(self, x: Tensor, name: str, kind: str = "") -> Tensor:
        """The norm of that name; `kind`: another than the model's."""
        return normed(x, self.weights[f"{name}.weight"], self.weights.get(f"{name}.bias"), self.config.norm, kind)


# The parts, as the papers have them


def surprise(logits_TV: Tensor, ids: Sequence[int]) -> Tensor:
    """-Σ ln P(next token): what a causal model learns to lower, in nats."""
    shares_TV = logits_TV.exp() / logits_TV.exp().sum(-1, keepdim=True)
    return -sum(shares_TV[t, following].log() for t, following in enumerate(ids[1:]))


def normed(x: Tensor, weight: Tensor, bias: Tensor | None, axes: NormConfig, kind: str = "") -> Tensor:
    """Zhang & Sennrich 2019 eq. 4 (rms), Ba et al. 2016 §3 (layer)."""
    kind = kind or axes.kind
    if kind != "rms":
        x = x - x.mean(-1, keepdim=True)
    x = x / (x.square().mean(-1, keepdim=True) + axes.eps).sqrt()
    x = x * (1 + weight if axes.one_plus else weight)
    return x if bias is None else x + bias


def sinusoids(t: int, width: int, *, halves: bool) -> list[float]:
    """Vaswani et al. 2017 §3.5: sin(t / 10000^(2i/D)) and the cosine, in turns or all sines first."""
    angles = [t / 10_000 ** (2 * i / width) for i in range((width + 1) // 2)]
    if halves:
        return [*map(math.sin, angles), *map(math.cos, angles)][:width]
    return [wave(angle) for angle in angles for wave in (math.sin, math.cos)][:width]


def turn(x_K: Tensor, t: int, rotary: Rotary) -> Tensor:
    """Su et al. 2021 §3.2: each pair (i, i + K/2), as a complex number, times e^(i · t · frequency)."""
    half = len(x_K) // 2
    angle = x_K.new_tensor([t * one for one in frequencies(rotary, len(x_K))])
    factor = rotary.scaling.attention_factor if rotary.scaling.kind == "yarn" else 1.0
    pairs = torch.complex(x_K[:half], x_K[half:]) * torch.polar(torch.full_like(angle, factor), angle)
    return torch.cat((pairs.real, pairs.imag))


def frequencies(rotary: Rotary, head_dim: int) -> list[float]:
    """Radians per position of each pair: theta^(-2i/K), slowed down by the family's way of reading longer texts.

    Chen et al. 2023 (linear); Llama Team 2024 (llama3); Peng et al. 2023 §3.2 (yarn).
    """
    scaling, plain = rotary.scaling, [rotary.theta ** (-2 * i / head_dim) for i in range(head_dim // 2)]
    if scaling.kind == "none":
        return plain
    if scaling.kind == "linear":
        return [one / scaling.factor for one in plain]
    low, high, context = scaling.low_frequency, scaling.high_frequency, scaling.original_context
    if scaling.kind == "llama3":  # how far the turns within the context lie between the two bounds
        kept = [(context * one / (2 * math.pi) - low) / (high - low) for one in plain]
    else:  # how far the pair lies between the two that make so many turns, rounded as in YaRN's published code

        def pair_of(turns: float) -> float:  # context · theta^(-2i/K) = 2π · turns, solved for i
            return head_dim * math.log(context / (turns * 2 * math.pi)) / (2 * math.log(rotary.theta))

        first, last = max(math.floor(pair_of(high)), 0), min(math.ceil(pair_of(low)), head_dim - 1)
        kept = [1 - (i - first) / (last - first or 0.001) for i in range(len(plain))]
    kept = [min(max(one, 0.0), 1.0) for one in kept]
    return [(1 - k) * one / scaling.factor + k * one for k, one in zip(kept, plain, strict=True)]


def sees(t: int, s: int, window: int | None, causal: bool) -> bool:
    """Whether position t may look at position s; a window reaches less than its size away (Beltagy et al. 2020)."""
    return (s <= t or not causal) and (window is None or abs(t - s) < window)


def bucket(distance: int, axes: Relative, *, causal: bool) -> int:
    """Raffel et al. 2020 §2.1: near distances have a bucket each, further ones share buckets that widen logarithmically."""
    if causal:
        return _bucket_of(max(-distance, 0), axes.buckets, axes.farthest)
    return _bucket_of(abs(distance), axes.buckets // 2, axes.farthest) + (axes.buckets // 2 if distance > 0 else 0)


def _bucket_of(far: int, buckets: int, farthest: int) -> int:
    near = buckets // 2
    if far < near:
        return far
    # Bucket b begins at near · (farthest / near)^((b - near) / (buckets - near)): compared in whole numbers, nothing is rounded.
    power = buckets - near
    begins = [
        b for b in range(near, buckets) if far**power * near ** (b - near) >= near**power * farthest ** (b - near)
    ]
    return begins[-1]


def gated(up: Tensor, gate: Tensor | None, kind: str) -> Tensor:
    """The inside of a feed-forward: f(up), or f(gate) · up (Shazeer 2020 §2)."""
    return activate(up, kind) if gate is None else activate(gate, kind) * up


def activate(x: Tensor, kind: str) -> Tensor:
    """Hendrycks & Gimpel 2016 §2 (gelu: x Φ(x)) and its tanh approximation; So et al. 2021 (relu²); x · sigmoid(x)."""
    if kind in ("gelu", "geglu"):
        return x * (1 + torch.erf(x / math.sqrt(2))) / 2
    if kind in ("gelu_tanh", "geglu_tanh"):
        return x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))) / 2
    if kind in ("relu", "relu2"):
        return x.clamp(min=0) ** (2 if kind == "relu2" else 1)
    assert kind in ("silu", "swiglu"), kind
    return x / (1 + torch.exp(-x))


def soft_cap(x: Tensor, bound: float | None) -> Tensor:
    """Gemma Team 2024 §2: bound · tanh(x / bound)."""
    return x if bound is None else bound * torch.tanh(x / bound)
