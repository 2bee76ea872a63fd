"""Roles of tokens: every file that speaks of them is read, contradictions are told, and new tokens keep old ids."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer

from pellucid.errors import CorruptFileError, TokenizerError
from pellucid.events import MemoryRecorder
from pellucid.tokens.formats.gguf import tokenizer_from_values, tokenizer_to_values
from pellucid.tokens.ids_only import IdsOnly
from pellucid.tokens.layout import as_text, config_json, special_names
from pellucid.tokens.models import bpe
from pellucid.tokens.read_roles import describe_ends
from pellucid.tokens.roles import BY_NAME, ENDS, NAMES, NUMBERED, ROLES, Claim, Roles
from pellucid.tokens.tokenizer import Tokenizer
from pellucid.tokens.train import train_bpe, train_characters

QWEN = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|fim_prefix|>", "<|fim_pad|>")
T5 = ("<pad>", "</s>", "<unk>", *(f"<extra_id_{number}>" for number in reversed(range(100))))


def of(directory: Path, names: tuple[str, ...], files: dict[str, Any]) -> Path:
    """A directory with a tokenizer that has these special tokens, and what files say of them."""
    directory.mkdir(exist_ok=True)
    (directory / "tokenizer.json").write_text(as_text(bpe.layout([("h", "e")], "qwen2", names)), encoding="utf-8")
    for name, document in files.items():
        (directory / f"{name}.json").write_text(json.dumps(document), encoding="utf-8")
    return directory


def ids_of(tokenizer: Tokenizer, *names: str) -> tuple[int, ...]:
    return tuple(tokenizer.specials[name] for name in names)


def test_a_tokenizer_that_is_trained_reserves_what_later_stages_need() -> None:
    tokenizer = train_bpe(["the cat sat on the mat"] * 9, 290)
    assert tokenizer.vocab_size == 290 and tuple(tokenizer.specials) == special_names("standard")
    assert [role for role in ROLES if role in tokenizer.roles] == [
        *("bos", "eos", "pad", "cls", "sep", "mask", "turn_start", "turn_end", "spare")
    ]
    assert len(tokenizer.roles["spare"]) == 16
    assert tokenizer.end_ids == {tokenizer.eos_id, tokenizer.roles.first("turn_end")}


def test_the_same_merges_come_first_whatever_is_reserved() -> None:
    texts = ["the cat sat on the mat, and the dog sat on the cat"] * 9
    plain, standard = train_bpe(texts, 270, specials="none"), train_bpe(texts, 292)
    assert plain.vocabulary.merges == standard.vocabulary.merges
    assert plain.config == config_json({"bos": "<bos>", "eos": "<eos>"})


@pytest.mark.parametrize("specials", ["standard", "none"])
def test_transformers_knows_the_roles(tmp_path: Path, specials: Any) -> None:
    tokenizer = train_characters(["ab"], specials=specials)
    tokenizer.save(tmp_path)
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    for role in ("bos", "eos", "pad", "cls", "sep", "mask"):
        assert getattr(theirs, f"{role}_token_id") == tokenizer.roles.first(role)
    if specials == "standard":
        further = list(special_names("standard")[6:])
        assert (theirs.extra_special_tokens, theirs.turn_end_token) == (further, "<|im_end|>")
    theirs.save_pretrained(tmp_path / "again")
    again = Tokenizer.load(tmp_path / "again")
    assert dict(again.roles) == dict(tokenizer.roles) and again.end_ids == tokenizer.end_ids


@pytest.mark.parametrize("said", ["<|endoftext|>", {"content": "<|endoftext|>", "lstrip": False, "special": True}])
@pytest.mark.parametrize("file", ["tokenizer_config", "special_tokens_map"])
def test_a_name_is_a_text_or_an_object(tmp_path: Path, said: Any, file: str) -> None:
    tokenizer = Tokenizer.load(of(tmp_path, QWEN, {"tokenizer_config": {}, file: {"pad_token": said}}))
    assert tokenizer.roles["pad"] == ids_of(tokenizer, "<|endoftext|>")
    assert tokenizer.roles.said_by("pad", tokenizer.roles["pad"][0]) == (f"{file}.json",)
    assert Tokenizer.from_json(tokenizer.json, tokenizer.config).roles["pad"] == tokenizer.roles["pad"]


def test_names_are_found_in_the_groups_of_newer_files(tmp_path: Path) -> None:
    config = {"extra_special_tokens": {"turn_end_token": "<|im_end|>"}, "model_specific_special_tokens": {"x_token": 1}}
    tokenizer = Tokenizer.load(of(tmp_path, QWEN, {"tokenizer_config": config}))
    assert tokenizer.end_ids == {*ids_of(tokenizer, "<|im_end|>")}


def test_qwen_ends_at_all_that_its_files_name_and_begins_with_nothing(tmp_path: Path) -> None:
    recorder = MemoryRecorder()
    files = {
        "tokenizer_config": {"bos_token": None, "eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"},
        "config": {"bos_token_id": 257, "eos_token_id": 259},
        "generation_config": {"bos_token_id": 257, "eos_token_id": [259, 257], "pad_token_id": 257},
    }
    tokenizer = Tokenizer.load(of(tmp_path, QWEN, files), recorder=recorder)
    assert ids_of(tokenizer, "<|endoftext|>", "<|im_end|>") == (257, 259)
    assert (tokenizer.bos_id, tokenizer.eos_id, tokenizer.end_ids) == (None, 259, {257, 259})
    assert tokenizer.roles["bos"] == (257,) and tokenizer.encode_prompt("") == []
    assert tokenizer.roles["fim_prefix"] == ids_of(tokenizer, "<|fim_prefix|>")
    assert recorder.names() == ["tokens.ends"] and recorder.events[0].message == (
        "a text ends at <|im_end|> (tokenizer_config.json, config.json, generation_config.json), "
        "<|endoftext|> (generation_config.json)"
    )
    assert describe_ends(tokenizer.roles, tokenizer.vocabulary) == recorder.events[0].message


def test_sentinels_are_counted_by_their_names_so_their_ids_fall(tmp_path: Path) -> None:
    files = {"config": {"pad_token_id": 257, "decoder_start_token_id": 257, "eos_token_id": 258}}
    tokenizer = Tokenizer.load(of(tmp_path, T5, {"tokenizer_config": {"eos_token": "</s>"}, **files}))
    first, last = ids_of(tokenizer, "<extra_id_0>", "<extra_id_99>")
    assert tokenizer.roles["sentinel"] == tuple(range(first, last - 1, -1)) and first == tokenizer.vocab_size - 1
    assert tokenizer.roles["decoder_start"] == tokenizer.roles["pad"] == ids_of(tokenizer, "<pad>")


@pytest.mark.parametrize("model_type", ["roberta", "xlm-roberta", "camembert"])
def test_where_positions_are_counted_from_is_no_other_padding(tmp_path: Path, model_type: str) -> None:
    recorder = MemoryRecorder()
    config = {"model_type": model_type, "pad_token_id": 1}
    named = of(tmp_path / "named", QWEN, {"tokenizer_config": {"pad_token": "<|endoftext|>"}, "config": config})
    assert Tokenizer.load(named, recorder=recorder).roles["pad"] == (257,)
    assert "tokens.role_contradicted" not in recorder.names()
    assert Tokenizer.load(of(tmp_path / "alone", QWEN, {"config": config})).roles["pad"] == (1,)


def test_files_that_contradict_each_other_are_both_named(tmp_path: Path) -> None:
    recorder = MemoryRecorder()
    files = {
        "tokenizer_config": {"pad_token": "<|endoftext|>", "eos_token": "<|im_end|>"},
        "config": {"pad_token_id": 261, "eos_token_id": 257},
    }
    tokenizer = Tokenizer.load(of(tmp_path, QWEN, files), recorder=recorder)
    assert tokenizer.roles["pad"] == (257,) and tokenizer.end_ids == {257, 259}
    told = [event for event in recorder.events if event.name == "tokens.role_contradicted"]
    assert [event.data["role"] for event in told] == ["eos", "pad"]
    assert [event.message for event in told] == [
        "tokenizer_config.json says eos is 259, config.json says 257: a text ends at each",
        "tokenizer_config.json says pad is 257, config.json says 261: the first is believed",
    ]


def test_a_file_counts_more_than_a_familiar_name(tmp_path: Path) -> None:
    names = ("<pad>", "<eos>", "<|im_end|>")
    tokenizer = Tokenizer.load(of(tmp_path, names, {"tokenizer_config": {}, "config": {"pad_token_id": 258}}))
    assert tokenizer.roles["pad"] == (258,)
    assert tokenizer.roles.said_by("turn_end", tokenizer.roles["turn_end"][0]) == (BY_NAME,)
    assert tokenizer.end_ids == {258}  # <|im_end|> ends a turn by its name only, and no file says that it ends a text


def test_an_id_without_a_token_is_passed_over_and_none_is_no_id(tmp_path: Path) -> None:
    recorder = MemoryRecorder()
    files = {"tokenizer_config": {"eos_token": "<|im_end|>"}, "config": {"pad_token_id": -1, "sep_token_id": 999}}
    tokenizer = Tokenizer.load(of(tmp_path, QWEN, files), recorder=recorder)
    assert "pad" not in tokenizer.roles and "sep" not in tokenizer.roles
    assert [event.data["id"] for event in recorder.events if event.name == "tokens.role_unknown"] == [999]


@pytest.mark.parametrize("found", ["2", True, 1.5, [None], {"a": 1}])
def test_what_is_no_id_is_refused(tmp_path: Path, found: Any) -> None:
    with pytest.raises(CorruptFileError, match="pad_token_id"):
        Tokenizer.load(of(tmp_path, QWEN, {"config": {"pad_token_id": found}}))


def test_roles_go_with_the_tokenizer() -> None:
    claim = Claim(role="eos", ids=(7,), where="config.json")
    for tokenizer in (train_characters(["ab"], specials="none"), IdsOnly.build(300)):
        told = tokenizer.with_roles(tokenizer.roles.told([claim]))
        again = pickle.loads(pickle.dumps(told))
        assert again.roles.claims == told.roles.claims and 7 in again.end_ids
    with pytest.raises(TokenizerError, match="no token has this id"):
        tokenizer.with_roles(Roles((Claim(role="pad", ids=(300,), where="config.json"),)))


def test_every_role_can_be_found_by_some_name() -> None:
    assert {*NAMES, *NUMBERED, "decoder_start"} == {*ROLES} and {*ENDS} <= {*NAMES}


# --- new tokens ---


@given(names=st.lists(st.text("<|>abc中", min_size=3, max_size=9), min_size=1, max_size=20, unique=True))
def test_new_tokens_keep_every_old_id(names: list[str]) -> None:
    for specials in ("standard", "none"):
        old = _old(specials)
        new = old.with_tokens(names)
        spares = old.roles.get("spare", ())
        assert new.vocab_size == old.vocab_size + max(0, len(names) - len(spares))
        kept = {name: i for name, i in old.vocabulary.added.items() if i not in spares}
        assert kept.items() <= new.vocabulary.added.items() and new.vocabulary.ids == old.vocabulary.ids
        assert sorted(ids_of(new, *names)) == [*spares[: len(names)], *range(old.vocab_size, new.vocab_size)]
        for text in ("the cat 中", *names):
            assert new.encode(text) == old.encode(text)
        assert (new.bos_id, new.eos_id, new.end_ids) == (old.bos_id, old.eos_id, old.end_ids)


_OLD: dict[str, Tokenizer] = {}


def _old(specials: Any) -> Tokenizer:
    return _OLD.setdefault(specials, train_bpe(["the cat sat on the mat"] * 9, 285, specials=specials))


def test_a_new_token_may_take_over_a_role(tmp_path: Path) -> None:
    new = _old("standard").with_tokens(["<tool>", "<|done|>"], roles={"<|done|>": "turn_end", "<tool>": "tool_start"})
    assert new.roles["turn_end"] == ids_of(new, "<|done|>") and new.roles["tool_start"] == ids_of(new, "<tool>")
    assert new.end_ids == {new.eos_id, *ids_of(new, "<|done|>")}
    assert new.roles["spare"] == _old("standard").roles["spare"][2:]
    new.save(tmp_path)
    assert dict(Tokenizer.load(tmp_path).roles) == dict(new.roles)
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    assert theirs.turn_end_token == "<|done|>" and len(theirs) == new.vocab_size
    assert {"<tool>", "<|done|>"} <= {*theirs.all_special_tokens}


@pytest.mark.parametrize(
    ("names", "roles", "fault"),
    [
        ([""], {}, "cannot be the name"),
        (["<eos>"], {}, "has this name already"),
        (["the"], {}, "has this name already"),
        (["<a>", "<a>"], {}, "has this name already"),
        (["<a>"], {"<b>": "pad"}, "that is not added"),
        (["<a>"], {"<a>": "king"}, "cannot be given|can be given this role"),
        (["<a>"], {"<a>": "spare"}, "can be given this role"),
        (["   "], {}, "cannot be the name"),
        (["\u3000"], {}, "cannot be the name"),
        (["<\x1b[31m>"], {}, "cannot be the name of a token\n  found: '<.x1b.31m>'"),
        (["<a\nb>"], {}, "cannot be the name"),
        (["<\u202e>"], {}, "cannot be the name"),
        (["<a>", "<b>"], {"<a>": "turn_end", "<b>": "turn_end"}, "to two tokens\n  found: turn_end: '<a>', '<b>'"),
    ],
)
def test_names_and_roles_that_cannot_be_are_refused(names: list[str], roles: dict[str, Any], fault: str) -> None:
    with pytest.raises(TokenizerError, match=fault):
        _old("standard").with_tokens(names, roles=roles)


def test_a_model_without_text_takes_no_tokens() -> None:
    with pytest.raises(TokenizerError, match="no tokenizer"):
        IdsOnly.build(300).with_tokens(["<a>"])


def test_roles_go_into_a_gguf_file_and_back() -> None:
    tokenizer = train_bpe(["the cat sat on the mat"] * 9, 290)
    values = tokenizer_to_values(tokenizer, tokenizer.vocab_size)
    assert values["tokenizer.ggml.padding_token_id"] == tokenizer.roles.first("pad")
    assert values["tokenizer.ggml.seperator_token_id"] == tokenizer.roles.first("sep")
    back = tokenizer_from_values(values)
    assert dict(back.roles) == dict(tokenizer.roles) and back.end_ids == tokenizer.end_ids
    assert back.roles.said_by("mask", back.roles["mask"][0])[0] == "tokenizer.ggml.mask_token_id"


@pytest.mark.parametrize("role", ["unk", "decoder_start", "spare", "king"])
def test_a_role_that_belongs_to_the_model_is_not_given_away(role: Any) -> None:
    """A WordPiece without its own [UNK] would end other programs."""
    tokenizer = train_characters(["ab"])
    with pytest.raises(TokenizerError, match="no token can be given this role"):
        tokenizer.with_tokens(["<x>"], roles={"<x>": role})
