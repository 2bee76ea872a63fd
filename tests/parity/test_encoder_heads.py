"""What stands behind an encoder's blocks: poolers, next-sentence heads and classifiers, as transformers computes them.

Random weights of odd sizes, rows of unequal lengths. Every score, and the gradient of every weight under our names; the
same files read in both directions.
"""

from __future__ import annotations

import json
import re

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from saved import gradients_as_saved
from scrambled import scramble

from pellucid.data.document import Document
from pellucid.data.loader import LoaderWithOthers
from pellucid.data.objectives.next_sentence import NextSentenceObjective
from pellucid.data.objectives.protocol import RowKey
from pellucid.data.objectives.settings import MaskedSettings
from pellucid.data.writer import write_shards
from pellucid.errors import ModelError, WeightsError
from pellucid.evaluate.asked_model import AskedModel
from pellucid.model.build import build
from pellucid.model.context import Context
from pellucid.planning.parts.pooler import PoolerConfig, PoolerLayer
from pellucid.store.checkpoint import load_checkpoint, load_model, save_checkpoint
from pellucid.store.names.family import to_ours
from pellucid.store.names.registry import read_config
from pellucid.tokens.train import train_characters

PAD = 1
SIZES = {"vocab_size": 37, "hidden_size": 24, "intermediate_size": 44, "num_hidden_layers": 2, "num_attention_heads": 3}
NO_IDS = {"bos_token_id": None, "eos_token_id": None, "pad_token_id": PAD}
LABELS = {"id2label": {0: "bad", 1: "so so", 2: "好"}, "label2id": {"bad": 0, "so so": 1, "好": 2}}
BERT = transformers.BertConfig(**SIZES, max_position_embeddings=19, pad_token_id=PAD, **LABELS)
ROBERTA = transformers.RobertaConfig(**SIZES, **NO_IDS, max_position_embeddings=21, **LABELS)
XLM = transformers.XLMRobertaConfig(**SIZES, **NO_IDS, max_position_embeddings=21, **LABELS)
NO_MARKS = {"cls_token_id": None, "sep_token_id": None}
MODERN = transformers.ModernBertConfig(
    **SIZES, **NO_IDS, **NO_MARKS, max_position_embeddings=19, local_attention=6, **LABELS
)
MEAN = transformers.ModernBertConfig(
    **SIZES, **NO_IDS, **NO_MARKS, max_position_embeddings=19, local_attention=4, classifier_pooling="mean",
    classifier_bias=True, classifier_activation="relu", **LABELS,
)  # fmt: skip
MODELS = {  # a model of transformers, and which of its outputs are what of ours
    "bert-alone": (lambda: transformers.BertModel(BERT, add_pooling_layer=False), {"last_hidden_state": "hidden"}),
    "bert-pooler": (lambda: transformers.BertModel(BERT), {"last_hidden_state": "hidden", "pooler_output": "vector_BD"}),
    "bert-both-tasks": (
        lambda: transformers.BertForPreTraining(BERT),
        {"prediction_logits": "tokens", "seq_relationship_logits": "pair_logits_B2"},
    ),
    "bert-next-sentence": (lambda: transformers.BertForNextSentencePrediction(BERT), {"logits": "pair_logits_B2"}),
    "bert-labels": (lambda: transformers.BertForSequenceClassification(BERT), {"logits": "label_logits_BC"}),
    "roberta-pooler": (
        lambda: transformers.RobertaModel(ROBERTA), {"last_hidden_state": "hidden", "pooler_output": "vector_BD"}
    ),
    "roberta-labels": (lambda: transformers.RobertaForSequenceClassification(ROBERTA), {"logits": "label_logits_BC"}),
    "xlm-roberta-pooler": (lambda: transformers.XLMRobertaModel(XLM), {"pooler_output": "vector_BD"}),
    "xlm-roberta-labels": (
        lambda: transformers.XLMRobertaForSequenceClassification(XLM), {"logits": "label_logits_BC"}
    ),
    "modernbert-alone": (lambda: transformers.ModernBertModel(MODERN), {"last_hidden_state": "hidden"}),
    "modernbert-labels": (lambda: transformers.ModernBertForSequenceClassification(MODERN), {"logits": "label_logits_BC"}),
    "modernbert-labels-mean": (
        lambda: transformers.ModernBertForSequenceClassification(MEAN), {"logits": "label_logits_BC"}
    ),
}  # fmt: skip
LENGTHS = (17, 9)
IDS_BT = torch.randint(2, 37, (2, 17), generator=torch.Generator().manual_seed(5))
REAL_BT = torch.arange(17) < torch.tensor(LENGTHS)[:, None]


def foreign(name):
    """A scrambled model of transformers, and which of its outputs are what of ours."""
    make, outputs = MODELS[name]
    theirs = make()
    theirs.set_attn_implementation("eager")
    scramble(theirs)
    return theirs.eval(), outputs


def ask_ours(model, what: str) -> torch.Tensor:
    """One of the outputs of our model; of what is given for each token, those of the real ones."""
    context = Context(lengths=LENGTHS)
    ids_BT = torch.where(REAL_BT, IDS_BT, PAD)
    if what == "hidden":
        return model.hidden(ids_BT, context)[REAL_BT]
    if what == "tokens":
        return model(ids_BT, context).logits_BTV[REAL_BT]
    return getattr(model(ids_BT, context).pooled if model.config.head.tokens else model.pooled(ids_BT, context), what)


def assert_same(ours, theirs, outputs, tolerance: float = 1e-4) -> None:
    """Every output, and every gradient of their weighted sum."""
    found = theirs(torch.where(REAL_BT, IDS_BT, PAD), attention_mask=REAL_BT.long())
    sums = [torch.zeros(()), torch.zeros(())]
    for theirs_says, ours_says in outputs.items():
        mine, other = ask_ours(ours, ours_says), found[theirs_says]
        other = other[REAL_BT] if ours_says in ("hidden", "tokens") else other
        torch.testing.assert_close(mine, other, rtol=tolerance, atol=tolerance)
        weights = torch.randn(mine.shape, generator=torch.Generator().manual_seed(9), dtype=mine.dtype)
        sums = [total + (weights * one).mean() for total, one in zip(sums, (mine, other), strict=True)]
    for total in sums:
        total.backward()
    assert_same_gradients(ours, theirs, tolerance)


def assert_same_gradients(ours, theirs, tolerance: float = 1e-4) -> None:
    """The gradient of every weight, theirs under our names."""
    saved = gradients_as_saved(theirs)
    values = {**json.loads(theirs.config.to_json_string()), "architectures": [type(theirs).__name__]}
    family, config = read_config(values, "memory", tensors=saved.keys())
    assert config == ours.config
    gradients = to_ours(family, config, saved, "memory")
    for name, parameter in ours.named_parameters():
        mine = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        torch.testing.assert_close(
            mine, gradients[name], rtol=tolerance, atol=tolerance, msg=lambda m, n=name: f"{n}: {m}"
        )


@pytest.mark.parametrize("name", MODELS)
def test_their_directory_loads_here_and_computes_the_same(name, tmp_path):
    theirs, outputs = foreign(name)
    theirs.save_pretrained(tmp_path)
    assert_same(load_model(load_checkpoint(tmp_path)), theirs, outputs)


@pytest.mark.parametrize("name", [name for name in MODELS if not name.startswith("modern")])
def test_in_float64_to_nine_places(name, tmp_path):
    theirs, outputs = foreign(name)
    theirs = theirs.double()
    theirs.save_pretrained(tmp_path)
    assert_same(load_model(load_checkpoint(tmp_path)), theirs, outputs, 1e-9)


def test_both_of_berts_losses_on_pairs_of_text_and_their_gradients(tmp_path):
    """The batch is what our objective makes of documents; transformers is told the same places, parts and answers."""
    texts = ["abc. bca. acb.", "cab. aab.", "bb. cc. aa. bc.", "ba. ca."]
    signs = train_characters(texts, specials="standard")
    config = transformers.BertConfig(**{**SIZES, "vocab_size": signs.vocab_size}, max_position_embeddings=19)
    theirs = transformers.BertForPreTraining(config).eval()
    theirs.set_attn_implementation("eager")
    scramble(theirs)
    theirs.save_pretrained(tmp_path / "theirs")
    ours = load_model(load_checkpoint(tmp_path / "theirs"))
    shards = write_shards([Document(text=text, origin=text) for text in texts], signs, tmp_path / "tokens")
    objective = NextSentenceObjective.of(MaskedSettings(kind="next_sentence", share=0.3), signs)
    batch = objective.batch(LoaderWithOthers(shards, 19, seed=1).rows(0, 8), RowKey(seed=2, purpose="objective"))
    assert batch.pairs_B.all() and {*batch.answers_B.tolist()} == {0, 1} and batch.total_weight > 10
    told = theirs(
        batch.ids_BT,
        attention_mask=(torch.arange(batch.ids_BT.size(1)) < batch.lengths_B[:, None]).long(),
        token_type_ids=batch.segments_BT,
        labels=torch.where(batch.weights_BT > 0, batch.targets_BT, -100),
        next_sentence_label=batch.answers_B,
    )
    loss = objective.loss(AskedModel(model=ours), batch)
    torch.testing.assert_close(loss, told.loss, rtol=1e-4, atol=1e-4)
    loss.backward()
    told.loss.backward()
    assert_same_gradients(ours, theirs)


@pytest.mark.parametrize("name", MODELS)
def test_our_directory_loads_there_and_computes_the_same(name, tmp_path):
    theirs, outputs = foreign(name)
    theirs.save_pretrained(tmp_path / "theirs")
    config = load_checkpoint(tmp_path / "theirs").config
    ours = build(config, seed=1)
    scramble(ours, seed=2)
    save_checkpoint(tmp_path / "ours", config=config, weights=ours.state_dict(), tokenizer=None, info={})
    told = json.loads((tmp_path / "ours/config.json").read_text())
    if name != "bert-alone":  # transformers adds a pooler to a BertModel, and has then no weights for it
        assert told["architectures"] == [type(theirs).__name__.replace("XLM", "")]
    there = type(theirs) if "xlm" not in name else getattr(transformers, type(theirs).__name__.replace("XLM", ""))
    more = {"add_pooling_layer": False} if name == "bert-alone" else {}
    again, report = there.from_pretrained(
        tmp_path / "ours", output_loading_info=True, attn_implementation="eager", **more
    )
    assert not any(report.values()), report
    if "labels" in name:
        assert again.config.id2label == LABELS["id2label"]
    assert_same(ours, again.eval(), outputs)
    assert load_checkpoint(tmp_path / "ours").config == config


def test_a_masked_models_file_may_hold_the_other_heads_too(tmp_path):
    """As bert-base-uncased's does: its config.json names the masked model, and norms are called gamma and beta."""
    theirs, outputs = foreign("bert-both-tasks")
    theirs.save_pretrained(tmp_path)
    told = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**told, "architectures": ["BertForMaskedLM"]}))
    tensors = load_file(tmp_path / "model.safetensors")
    renamed = {
        re.sub(r"Norm\.weight$", "Norm.gamma", re.sub(r"Norm\.bias$", "Norm.beta", name)): t
        for name, t in tensors.items()
    }
    assert sum(name.endswith(".gamma") for name in renamed) == 6
    save_file(renamed, tmp_path / "model.safetensors")
    assert_same(load_model(load_checkpoint(tmp_path)), theirs, outputs)


def test_an_old_classifier_of_roberta_holds_a_pooler_that_nothing_reads(tmp_path):
    theirs, outputs = foreign("roberta-labels")
    theirs.save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    more = {"roberta.pooler.dense.weight": torch.ones(24, 24), "roberta.pooler.dense.bias": torch.ones(24)}
    save_file({**tensors, **more}, tmp_path / "model.safetensors")
    assert_same(load_model(load_checkpoint(tmp_path)), theirs, outputs)


def test_labels_are_read_by_their_numbers(tmp_path):
    theirs, _ = foreign("bert-labels")
    theirs.save_pretrained(tmp_path)
    assert load_checkpoint(tmp_path).config.pooler == PoolerConfig(labels=("bad", "so so", "好"))
    told = json.loads((tmp_path / "config.json").read_text())

    def load_with(**changes):
        (tmp_path / "config.json").write_text(json.dumps({**told, **changes}))
        return load_checkpoint(tmp_path).config.pooler.labels

    assert load_with(id2label={"2": "c", "0": "a", "1": "b"}) == ("a", "b", "c")
    assert load_with(id2label=None, num_labels=3) == ("LABEL_0", "LABEL_1", "LABEL_2")
    for wrong in ({"0": "a", "2": "c", "3": "d"}, {"0": "a", "1": 7, "2": "c"}):
        with pytest.raises(ModelError, match="id2label a value that cannot be used"):
            load_with(id2label=wrong)
    with pytest.raises(ModelError, match="labels are different texts"):
        load_with(id2label={"0": "a", "1": "a", "2": "c"})
    with pytest.raises(ModelError, match="problem_type"):
        load_with(problem_type="multi_label_classification")
    with pytest.raises(WeightsError, match=r"classifier.weight is \(3, 24\) instead of \(2, 24\)"):
        load_with(id2label={"0": "a", "1": "b"})


def test_a_class_that_computes_something_else_is_refused(tmp_path):
    transformers.BertForTokenClassification(BERT).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match=r"architectures=\['BertForTokenClassification'\] are not supported"):
        load_checkpoint(tmp_path)


def test_a_head_that_config_json_names_and_the_file_lacks_is_told(tmp_path):
    theirs, _ = foreign("bert-both-tasks")
    theirs.save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    save_file({name: t for name, t in tensors.items() if "seq_rel" not in name}, tmp_path / "model.safetensors")
    with pytest.raises(WeightsError, match=r"missing: cls\.seq_relationship\.weight"):
        load_checkpoint(tmp_path)


@pytest.mark.parametrize("pooler", [
    PoolerConfig(pooling="mean", layer=None, labels=("a", "b")),
    PoolerConfig(layer=PoolerLayer(activation="silu", norm=True), pairs=True),
])  # fmt: skip
def test_what_no_family_has_is_kept_under_our_own_names(pooler, tmp_path):
    theirs, _ = foreign("bert-alone")
    theirs.save_pretrained(tmp_path / "theirs")
    config = load_checkpoint(tmp_path / "theirs").config.revise(pooler=pooler)
    ours = build(config, seed=1).eval()
    scramble(ours)
    save_checkpoint(tmp_path / "ours", config=config, weights=ours.state_dict(), tokenizer=None, info={})
    again = load_checkpoint(tmp_path / "ours")
    assert again.config == config
    assert json.loads((tmp_path / "ours/config.json").read_text())["model_type"] == "pellucid"
    what = "label_logits_BC" if pooler.labels else "pair_logits_B2"
    assert torch.equal(ask_ours(load_model(again).eval(), what), ask_ours(ours, what))
