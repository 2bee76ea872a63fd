"""Small encoders with a tokenizer, as directories: with random weights, or with weights that give one known answer."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from scrambled import scramble

from pellucid.model.build import build
from pellucid.planning.config import ModelConfig
from pellucid.planning.parts.attention import AttentionConfig
from pellucid.planning.parts.embedding import EmbeddingConfig, HeadConfig, HeadTransform
from pellucid.planning.parts.feed_forward import FeedForwardConfig
from pellucid.planning.parts.norm import NormConfig
from pellucid.planning.parts.pooler import PoolerConfig
from pellucid.planning.parts.position import Learned
from pellucid.store.checkpoint import save_checkpoint
from pellucid.tokens.tokenizer import Tokenizer
from pellucid.tokens.train import train_wordpiece

TEXT = "the cat sat on the mat. a dog ran in the box. 猫坐着。 "
HEAD = HeadConfig(bias=True, transform=HeadTransform())
NO_HEAD = HeadConfig(tokens=False)
MEAN = {"pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True, "pooling_mode_max_tokens": False}


def wordpiece() -> Tokenizer:
    """A tokenizer as BERT's files are: no <bos> and no <eos>, and [CLS] and [SEP] around every text."""
    document = json.loads(trained_here().json)
    document["added_tokens"] = [entry for entry in document["added_tokens"] if entry["content"].startswith("[")]
    cls, sep = ({"SpecialToken": {"id": name, "type_id": 0}} for name in ("[CLS]", "[SEP]"))
    document["post_processor"] = {
        "type": "TemplateProcessing",
        "single": [cls, {"Sequence": {"id": "A", "type_id": 0}}, sep],
        "pair": [cls, {"Sequence": {"id": "A", "type_id": 0}}, sep, {"Sequence": {"id": "B", "type_id": 1}}, sep],
        "special_tokens": {
            name: {"id": name, "ids": [i], "tokens": [name]} for name, i in (("[CLS]", 2), ("[SEP]", 3))
        },
    }
    roles = {f"{role}_token": f"[{role.upper()}]" for role in ("pad", "unk", "cls", "sep", "mask")}
    return Tokenizer.from_json(json.dumps(document), json.dumps(roles))


def trained_here() -> Tokenizer:
    """A tokenizer of the same words with <bos> and <eos>."""
    return train_wordpiece([TEXT * 20], 120, specials="none")


def bert(tokenizer: Tokenizer, *, head: HeadConfig = HEAD, pooler: PoolerConfig | None = None) -> ModelConfig:
    """A small BERT."""
    return ModelConfig(
        vocab_size=tokenizer.vocab_size, context_length=24, n_layers=2, n_heads=2, n_kv_heads=2, head_dim=8, d_model=16,
        d_ff=24, causal=False, position=Learned(), embedding=EmbeddingConfig(segments=2, norm=True),
        attention=AttentionConfig(qk_norm=False, qkv_bias=True, output_bias=True),
        feed_forward=FeedForwardConfig(kind="gelu", bias=True), norm=NormConfig(kind="layer", eps=1e-12, placement="after"),
        head=head, pooler=pooler,
    )  # fmt: skip


def save_encoder(
    directory: Path, config: ModelConfig, tokenizer: Tokenizer | None, *, spread: float = 0.3, **info: object
) -> Path:
    """A model of this shape with random weights, on disk."""
    model = build(config, seed=0)
    scramble(model, spread=spread)
    weights = dict(model.named_parameters())
    save_checkpoint(directory, config=config, weights=weights, tokenizer=tokenizer, info=info)  # type: ignore[arg-type]
    return directory


def say_how(directory: Path, *, pooling: object = None, normalise: bool = True, **reading: object) -> None:
    """Put the files of sentence-transformers beside a model."""
    kinds = ["Transformer", "Pooling", *(["Normalize"] if normalise else [])]
    steps = [
        {"idx": n, "name": str(n), "path": f"{n}_{kind}" if n else "", "type": f"sentence_transformers.models.{kind}"}
        for n, kind in enumerate(kinds)
    ]
    (directory / "modules.json").write_text(json.dumps(steps))
    (directory / "1_Pooling").mkdir(exist_ok=True)
    (directory / "1_Pooling/config.json").write_text(json.dumps(MEAN if pooling is None else pooling))
    (directory / "sentence_bert_config.json").write_text(json.dumps(reading))


def answering(tokenizer: Tokenizer, answers: dict[int, str]) -> dict[str, torch.Tensor]:
    """Weights of `bert` with which place `t` of a row is filled by the word `answers[t]`, whatever the row says.

    Blocks add nothing, and each of those places has a vector of its own, which the head turns into the word's score.
    """
    model = build(bert(tokenizer), seed=0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(
                torch.zeros_like(parameter) if not name.endswith("norm.weight") else torch.ones_like(parameter)
            )
        for number, (place, word) in enumerate(answers.items()):
            model.position.weight[place, number] = 1.0
            model.embed.weight[tokenizer.encode(word).ids[0], number] = 1.0 + place
        model.transform.dense.weight.copy_(torch.eye(16))
    return {name: parameter.detach() for name, parameter in model.named_parameters()}
