"""Every way in which a model's files name the tokens that end a text, and that generation stops there."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest

from pellucid.api import load
from pellucid.errors import CorruptFileError
from pellucid.events import MemoryRecorder
from pellucid.model.build import build
from pellucid.planning.config import ModelConfig
from pellucid.store.checkpoint import load_checkpoint, save_checkpoint
from pellucid.store.convert import convert
from pellucid.store.open import open_checkpoint
from pellucid.tokens.layout import config_json
from pellucid.tokens.tokenizer import Tokenizer
from pellucid.tokens.train import train_bpe

TEXTS = ["the cat sat. 猫坐着。 " * 9]
SPECIAL = ("<|endoftext|>", "<|im_end|>", "<|pad|>")
PLAIN = "A"  # an ordinary token


def tokenizer_with(*, eos: str | None) -> Tokenizer:
    """A tokenizer with three special tokens, of which its own config names one as the end of text, or none."""
    document = json.loads(train_bpe(TEXTS, 280, specials="none").json)
    flags = {key: value for key, value in document["added_tokens"][0].items() if key not in ("id", "content")}
    first = len(document["model"]["vocab"])
    document["added_tokens"] = [{"id": first + n, "content": name, **flags} for n, name in enumerate(SPECIAL)]
    return Tokenizer.from_json(json.dumps(document), config_json({"bos": None, "eos": eos}))


def make(path: Path, *, eos: str | None = None, **named: Any) -> Path:
    """A model's directory; `named` are the ids in config.json and generation_config.json (None: nothing is said)."""
    tokenizer = tokenizer_with(eos=eos)
    config = ModelConfig(
        vocab_size=tokenizer.vocab_size, context_length=32, n_layers=1, n_heads=2, n_kv_heads=1, head_dim=8,
        d_model=16, d_ff=24, init="gpt2",
    )  # fmt: skip
    weights = dict(build(config, seed=0).named_parameters())
    save_checkpoint(path, config=config, weights=weights, tokenizer=tokenizer, info={})
    (path / "pellucid.json").unlink()  # as another program leaves it
    for name in ("config", "generation_config"):
        document = json.loads((path / f"{name}.json").read_text(encoding="utf-8"))
        document.pop("eos_token_id", None)
        document |= {"eos_token_id": named[name]} if name in named else {}
        (path / f"{name}.json").write_text(json.dumps(document), encoding="utf-8")
    return path


IDS = tokenizer_with(eos=None).specials
END, TURN, PAD = (IDS[name] for name in SPECIAL)
LETTER = tokenizer_with(eos=None).encode(PLAIN).ids[0]


def finish(directory: Path, token_id: int) -> tuple[str, str, int]:
    """What comes of a text whose every next token would be this one."""
    lm = load(directory, device="cpu")
    done = lm.complete("the", temperature=0, logit_bias=(f"{token_id}:1000",))
    return done.finish_reason, done.text, len(done.ids)


@pytest.mark.parametrize(
    ("named", "ends"),
    [
        ({"config": END}, {END}),
        ({"config": [END, TURN]}, {END, TURN}),
        ({"generation_config": TURN}, {TURN}),
        ({"generation_config": [TURN, END]}, {TURN, END}),
        ({"config": END, "generation_config": [TURN]}, {END, TURN}),
        ({"eos": "<|endoftext|>", "generation_config": [TURN, END]}, {END, TURN}),
        ({"config": [END, LETTER]}, {END, LETTER}),
        ({"config": LETTER}, {LETTER}),
    ],
)
def test_generation_stops_at_every_end_that_is_named_anywhere(
    tmp_path: Path, named: dict[str, Any], ends: set[int]
) -> None:
    directory = make(tmp_path / "model", **named)
    assert load_checkpoint(directory).tokenizer.end_ids == ends
    for token_id in ends:
        assert finish(directory, token_id) == ("eos", "", 1)
    assert finish(directory, PAD)[0] == "context"


def test_where_nothing_names_an_end_a_common_one_is_taken_and_said(tmp_path: Path) -> None:
    directory, recorder = make(tmp_path / "model"), MemoryRecorder()
    tokenizer = load_checkpoint(directory, recorder=recorder).tokenizer
    assert tokenizer.eos_id == END and recorder.names() == ["tokens.end_guessed"]
    assert "<|endoftext|>" in recorder.events[0].message
    assert finish(directory, END) == ("eos", "", 1)


def test_a_model_without_any_end_says_so(tmp_path: Path) -> None:
    directory, recorder = make(tmp_path / "model"), MemoryRecorder()
    path = directory / "tokenizer.json"
    path.write_text(path.read_text(encoding="utf-8").replace("<|endoftext|>", "<|other|>"), encoding="utf-8")
    assert load_checkpoint(directory, recorder=recorder).tokenizer.end_ids == frozenset()
    assert recorder.names() == ["tokens.no_end"]


@pytest.mark.parametrize("found", ["2", True, 1.5, [END, "x"], {"a": 1}, [[1]], [None]])
@pytest.mark.parametrize("name", ["config", "generation_config"])
def test_an_end_that_is_no_id_is_refused(tmp_path: Path, name: str, found: Any) -> None:
    with pytest.raises(CorruptFileError, match="eos_token_id") as caught:
        load_checkpoint(make(tmp_path / "model", **{name: found}))
    assert caught.value.where.endswith(f"{name}.json")


@pytest.mark.parametrize("found", [-1, 1 << 62, 999, [END, 999]])
def test_an_end_that_no_token_has_is_passed_over_and_said(tmp_path: Path, found: Any) -> None:
    recorder = MemoryRecorder()
    tokenizer = load_checkpoint(make(tmp_path / "model", config=found), recorder=recorder).tokenizer
    assert tokenizer.end_ids == {END} and "tokens.role_unknown" in recorder.names()


def test_ends_go_with_the_model(tmp_path: Path) -> None:
    """Into a process, into another directory, and into a GGUF file and back."""
    parent = load_checkpoint(make(tmp_path / "model", generation_config=[TURN, LETTER, END]))
    tokenizer = parent.tokenizer
    assert (tokenizer.eos_id, tokenizer.end_ids) == (TURN, {TURN, LETTER, END})
    again = pickle.loads(pickle.dumps(tokenizer))
    assert (again.eos_id, again.end_ids) == (TURN, {TURN, LETTER, END})
    assert Tokenizer.from_json(tokenizer.json, tokenizer.config).eos_id == TURN
    copy = tmp_path / "copy"
    save_checkpoint(copy, config=parent.config, weights=parent.weights, tokenizer=tokenizer, info={})
    for name in ("config.json", "generation_config.json"):
        assert json.loads((copy / name).read_text(encoding="utf-8"))["eos_token_id"] == [TURN, LETTER, END]
    assert load_checkpoint(copy).tokenizer.end_ids == {TURN, LETTER, END}
    parent = load_checkpoint(make(tmp_path / "other", generation_config=[TURN, END]))
    convert(parent, tmp_path / "model.gguf", to="gguf", number_format="f32", recorder=MemoryRecorder())
    assert open_checkpoint(tmp_path / "model.gguf").tokenizer.end_ids == {TURN, END}


def test_one_end_is_written_as_one_number(tmp_path: Path) -> None:
    parent = load_checkpoint(make(tmp_path / "model", config=[TURN]))
    save_checkpoint(
        tmp_path / "copy", config=parent.config, weights=parent.weights, tokenizer=parent.tokenizer, info={}
    )
    assert json.loads((tmp_path / "copy" / "config.json").read_text(encoding="utf-8"))["eos_token_id"] == TURN
