"""What stands around a text is decided once: the lens shows the ids that `fill` runs, mask for mask."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from encoders import wordpiece
from lens_families import FAMILIES, models_of
from scrambled import scrambled
from tokenizer_documents import unigram

from pellucid.api import LanguageModel
from pellucid.lens.answer import At
from pellucid.lens.dispatch import Dispatch
from pellucid.tokens.tokenizer import Tokenizer
from pellucid.tokens.train import train_bpe

MASK = "[MASK]"
TEXTS = (
    "[MASK] cat sat",  # at the start
    "the [MASK] sat on  [MASK]  mat",  # in the middle, with spaces beside it
    "the [MASK][MASK] sat",
    "the cat sat on [MASK]",  # at the end
    "the cat sat",
    "[MASK]猫坐着。",
    "猫 [MASK] 坐[MASK]着",
    "猫坐着 [MASK]",
)


def bpe(post_processor: Callable[[Mapping[str, int]], Mapping[str, Any]], renamed: Mapping[str, str]) -> Tokenizer:
    """A BPE as files from elsewhere are: with a processor, and a mask that takes the space on its left."""
    spelled = train_bpe(["the cat sat on the mat. " * 20, "猫坐着。" * 20], 330).json
    for ours, theirs in renamed.items():
        spelled = spelled.replace(json.dumps(ours), json.dumps(theirs))
    document = json.loads(spelled)
    for entry in document["added_tokens"]:
        entry["lstrip"] = entry["content"] in (MASK, "<mask>")
    document["post_processor"] = post_processor({entry["content"]: entry["id"] for entry in document["added_tokens"]})
    return Tokenizer.from_json(json.dumps(document))


def roberta() -> Tokenizer:
    return bpe(
        lambda ids: {
            "type": "RobertaProcessing", "cls": ["<s>", ids["<s>"]], "sep": ["</s>", ids["</s>"]],
            "trim_offsets": True, "add_prefix_space": False,
        },
        {"<bos>": "<s>", "<eos>": "</s>"},
    )  # fmt: skip


def modernbert() -> Tokenizer:
    names = ("[CLS]", "[SEP]")
    return bpe(
        lambda ids: {
            "type": "TemplateProcessing", "pair": [],
            "single": [{"SpecialToken": {"id": "[CLS]"}}, {"Sequence": {"id": "A"}}, {"SpecialToken": {"id": "[SEP]"}}],
            "special_tokens": {name: {"id": name, "ids": [ids[name]], "tokens": [name]} for name in names},
        },
        {"<bos>": "[CLS]", "<eos>": "[SEP]", "<mask>": MASK},
    )  # fmt: skip


def t5() -> Tokenizer:
    document = unigram()
    vocab = document["model"]["vocab"]
    sentinels = [f"<extra_id_{number}>" for number in range(4)]
    for name in sentinels:
        document["added_tokens"].append({**document["added_tokens"][0], "id": len(vocab), "content": name})
        vocab.append([name, 0.0])
    return Tokenizer.from_json(json.dumps(document))


TOKENIZERS = {"bert": wordpiece, "roberta": roberta, "modernbert": modernbert, "t5": t5}


@pytest.fixture(scope="module", params=TOKENIZERS)
def opened(request) -> tuple[LanguageModel, Dispatch]:
    """One model, for the engine and under the lens; its checkpoint says nothing of how it was trained."""
    tokenizer = TOKENIZERS[request.param]()
    model = scrambled(FAMILIES[request.param].revise(vocab_size=tokenizer.vocab_size))
    models = models_of(model, tokenizer, info={})
    first = models.first
    lm = LanguageModel(model=model, tokenizer=tokenizer, checkpoint=first.checkpoint, runner=first.runner)
    return lm, Dispatch(models)


def run_by_fill(lm: LanguageModel, text: str, monkeypatch: pytest.MonkeyPatch) -> tuple[int, ...]:
    """The row that `fill` gives the model, or its encoder."""
    seen: list[tuple[int, ...]] = []
    name = "hidden" if lm.config.encoder is None else "encode"
    read = getattr(type(lm.model), name)

    def watched(model: Any, ids_BT: Any, *rest: Any, **more: Any) -> Any:
        seen.append(tuple(ids_BT[0].tolist()))
        return read(model, ids_BT, *rest, **more)

    monkeypatch.setattr(type(lm.model), name, watched)
    lm.fill(text)
    return seen[0]


@pytest.mark.parametrize("text", [text for text in TEXTS if MASK in text])
def test_the_lens_shows_the_ids_that_fill_runs(opened, text, monkeypatch) -> None:
    lm, lens = opened
    wanted = run_by_fill(lm, text, monkeypatch)
    node = lens.branches.plant(text)
    assert (lens.source(node.id) or lens.ids(node.id)) == wanted
    hidden = {lm.tokenizer.roles.first("mask"), *lm.tokenizer.roles.get("sentinel", ())}
    assert sum(token_id in hidden for token_id in wanted) == text.count(MASK)
    header = lens.trace(At(node=node.id)).header
    assert all(check["ok"] for check in header["checks"])


@pytest.mark.parametrize("text", TEXTS)
def test_each_token_is_cut_out_of_the_text_as_it_is_read(opened, text) -> None:
    """What replays a token cuts the same piece into the same ids."""
    lm, lens = opened
    cut = lens.reads.read(text)
    for place, token_id in enumerate(cut.ids):
        found = cut.piece_at(place)
        if found is not None:
            assert lm.tokenizer.encode(found[0]).ids[found[1]] == token_id
    cut_out = [place for place in range(len(cut.ids)) if cut.piece_at(place) is not None]
    assert len(cut_out) == len(cut.ids) - len(cut.frame) - text.count(MASK)


def test_ids_are_those_of_the_files() -> None:
    """Names of the tokens around a text and at its mask, and the space that the mask takes."""
    wanted = {
        "bert": ["[CLS]", " the", "[MASK]", " the", "[SEP]"],
        "roberta": ["<s>", "the", "<mask>", " the", "</s>"],
        "modernbert": ["[CLS]", "the", "[MASK]", " the", "[SEP]"],
        "t5": [" the", "<extra_id_0>", " the", "</s>", "<pad>"],
    }
    for name, names in wanted.items():
        tokenizer = TOKENIZERS[name]()
        lens = Dispatch(
            models_of(scrambled(FAMILIES[name].revise(vocab_size=tokenizer.vocab_size)), tokenizer, info={})
        )
        assert [tokenizer.token_text(token_id) for token_id in lens.reads.give("the [MASK] the")] == names
