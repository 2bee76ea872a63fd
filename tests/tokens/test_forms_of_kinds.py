"""Which kind is written in which form, what a refusal says, and what other programs put in front of a text."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, get_args

import pytest
from transformers import AutoTokenizer

from pellucid.errors import TokenizerError
from pellucid.events import MemoryRecorder
from pellucid.settings import Layer, resolve
from pellucid.store.tokenizer_files import FORMS, load_tokenizer, save_tokenizer
from pellucid.tokens.choose import train_tokenizer
from pellucid.tokens.describe_split import describe_split
from pellucid.tokens.formats.canonical import WRITTEN
from pellucid.tokens.formats.gguf import tokenizer_from_values, tokenizer_to_values
from pellucid.tokens.roles import Claim, Roles
from pellucid.tokens.settings import TAKES, TokenizerSettings
from pellucid.tokens.tokenizer import Tokenizer
from pellucid.tokens.train import train_bpe, train_wordpiece
from pellucid.tokens.vocabulary import Kind

CORPUS = "The cat sat on 12 mats, didn't it? 小猫坐在垫子上，你好。 low lower lowest\n\n  x " * 9
TEXTS = ("The cat 小猫 lowest!", "", "it's 12\n", "Ünknown 龘 <bos> ##x [SEP]")
KINDS = ("bpe", "char", "wordpiece", "unigram", "word")


def train(kind: str) -> Tokenizer:
    given = {"kind": kind} | ({} if kind == "char" else {"vocab_size": 340})
    return train_tokenizer([CORPUS], len(CORPUS.encode()), resolve(TokenizerSettings, Layer("test", given)).settings)


@pytest.fixture(scope="module", params=KINDS)
def trained(request: pytest.FixtureRequest) -> Tokenizer:
    return train(request.param)


def test_the_tables_know_every_kind() -> None:
    assert {*WRITTEN} == {*TAKES} == {*KINDS} == {*get_args(Kind)} - {"ids"}
    assert {form for forms in WRITTEN.values() for form in forms} == {*FORMS}


@pytest.mark.parametrize("form", FORMS)
def test_a_kind_is_written_as_the_table_says_or_refused_with_what_to_try(
    trained: Tokenizer, tmp_path: Path, form: str
) -> None:
    forms = WRITTEN[trained.kind]
    if form in forms:
        file = save_tokenizer(trained, tmp_path, form)[-1]  # type: ignore[arg-type]
        back = load_tokenizer(file)
        assert all(back.encode(text).ids == trained.encode(text).ids for text in TEXTS)
        assert (dict(back.roles), back.roles.ends) == (dict(trained.roles), trained.roles.ends)
        assert back.encode_prompt("a") == trained.encode_prompt("a") and back.specials == trained.specials
        return
    with pytest.raises(TokenizerError) as caught:
        save_tokenizer(trained, tmp_path, form)  # type: ignore[arg-type]
    assert caught.value.found.partition(",")[0] == trained.kind
    assert caught.value.hint == f"such a tokenizer is written with --to {' or --to '.join(forms)}"
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize(("kind", "form"), [("bpe", "tiktoken"), ("bpe", "merges.txt"), ("wordpiece", "vocab.txt")])
def test_a_form_and_back_keeps_the_roles_for_other_programs(tmp_path: Path, kind: str, form: Any) -> None:
    tokenizer = train(kind)
    save_tokenizer(tokenizer, tmp_path / "form", form)
    save_tokenizer(load_tokenizer(tmp_path / "form"), tmp_path / "back", "tokenizer.json")
    reference = AutoTokenizer.from_pretrained(tmp_path / "back")
    pad = "[PAD]" if kind == "wordpiece" else "<pad>"
    assert (reference.bos_token, reference.eos_token, reference.pad_token) == ("<bos>", "<eos>", pad)
    assert reference("low").input_ids == tokenizer.encode_prompt("low")


@pytest.mark.parametrize("cleanup", [True, False])
def test_a_wordpiece_decodes_in_other_programs_as_before_or_its_loss_is_told(tmp_path: Path, cleanup: bool) -> None:
    tokenizer = train("wordpiece")
    document = json.loads(tokenizer.json)
    assert document["decoder"]["cleanup"] is True
    document["decoder"]["cleanup"] = cleanup
    tokenizer, recorder = Tokenizer.from_json(json.dumps(document), tokenizer.config), MemoryRecorder()
    save_tokenizer(tokenizer, tmp_path / "form", "vocab.txt", recorder=recorder)
    save_tokenizer(load_tokenizer(tmp_path / "form"), tmp_path / "back", "tokenizer.json")
    reference = AutoTokenizer.from_pretrained(tmp_path / "back").backend_tokenizer
    assert reference.decode(tokenizer.encode("the cat, lowest").ids) == "the cat, lowest"
    assert ("tokens.decoder_lost" in recorder.names()) == (not cleanup)


def test_roles_that_a_form_cannot_say_are_told(tmp_path: Path) -> None:
    tokenizer = train("bpe")
    sentinel = Roles((*tokenizer.roles.claims, Claim(role="message_end", ids=(300,), where="config.json")))
    recorder = MemoryRecorder()
    save_tokenizer(tokenizer.with_roles(sentinel), tmp_path, "gguf", recorder=recorder)
    assert ("tokens.roles_lost" in recorder.names()) == (load_tokenizer(tmp_path).roles.get("message_end") != (300,))


@pytest.mark.parametrize("form", ["tiktoken", "merges.txt", "vocab.txt"])
def test_a_bpe_over_characters_is_sent_to_other_forms_than_one_over_bytes(tmp_path: Path, form: Any) -> None:
    document = json.loads(train("char").json)
    document["model"]["merges"] = [["l", "o"]]
    document["model"]["vocab"]["lo"] = len(document["model"]["vocab"])
    shifted = [{**entry, "id": entry["id"] + 1} for entry in document["added_tokens"]]
    over_characters = Tokenizer.from_json(json.dumps({**document, "added_tokens": shifted}))
    with pytest.raises(TokenizerError) as caught:
        save_tokenizer(over_characters, tmp_path, form)
    assert caught.value.found == "bpe, not byte-level"
    assert caught.value.hint == "such a tokenizer is written with --to tokenizer.json or --to gguf"


@pytest.mark.parametrize("lowercase", [True, False])
def test_wordpiece_in_a_gguf_file_keeps_ids_roles_and_beginning(lowercase: bool) -> None:
    recorder = MemoryRecorder()
    ours = train_wordpiece([CORPUS], 300, lowercase=lowercase)
    values = tokenizer_to_values(ours, ours.vocab_size + 3, recorder=recorder)
    back = tokenizer_from_values(values)
    assert values["tokenizer.ggml.tokens"][-1] == f"[PAD{ours.vocab_size + 2}]"
    assert [event.name for event in recorder.events] == ["tokens.gguf_adds_sep"]
    assert (back.specials, back.bos_id, back.eos_id) == (ours.specials, ours.bos_id, ours.eos_id)
    for role in ("unk", "pad", "cls", "sep", "mask"):
        assert back.roles.first(role) == ours.roles.first(role)  # type: ignore[arg-type]
    for text in (*TEXTS, "CAFÉ naïve", "a" * 120):
        assert back.encode(text).ids == ours.encode(text).ids


def test_characters_are_written_as_gguf_and_the_mark_of_a_space_is_told(tmp_path: Path) -> None:
    recorder = MemoryRecorder()
    characters = train("char")
    [file] = save_tokenizer(characters, tmp_path, "gguf", recorder=recorder)
    assert [event.name for event in recorder.events] == ["tokens.gguf_space_mark"]
    assert load_tokenizer(file).encode("▁").ids == characters.encode(" ").ids


def test_transformers_puts_in_front_of_a_text_what_a_prompt_has(trained: Tokenizer, tmp_path: Path) -> None:
    trained.save(tmp_path)
    theirs = AutoTokenizer.from_pretrained(str(tmp_path))
    for text in TEXTS[:3]:
        assert theirs(text)["input_ids"] == trained.encode_prompt(text)
        assert theirs(text)["input_ids"][0] == trained.specials["<bos>"]
    assert theirs("a", "b")["input_ids"] == trained.encode_prompt("a") + list(trained.encode("b").ids)


def test_another_beginning_and_one_from_gguf_are_told_to_transformers_too(tmp_path: Path) -> None:
    ours = train_bpe([CORPUS], 300)
    more = ours.with_tokens(["<start>"], roles={"<start>": "bos"})
    back = tokenizer_from_values(tokenizer_to_values(ours, ours.vocab_size))
    for name, one in (("more", more), ("back", back)):
        one.save(tmp_path / name)
        theirs = AutoTokenizer.from_pretrained(str(tmp_path / name))
        assert theirs("The cat")["input_ids"] == one.encode_prompt("The cat")
    assert more.bos_id == more.specials["<start>"] != ours.bos_id


def test_a_spare_token_of_the_model_itself_is_renamed_everywhere() -> None:
    back = tokenizer_from_values(tokenizer_to_values(train_bpe([CORPUS], 300), 300))
    more = back.with_tokens(["<|tool|>"])
    assert more.specials["<|tool|>"] == back.roles["spare"][0] and more.vocab_size == 300
    assert "<spare_0>" not in json.loads(more.json)["model"]["vocab"]


WORDS = "a word with the space or sign before it, every digit alone, signs in a row together"
SPLITS = {
    "bpe": WORDS,
    "unigram": WORDS,
    "word": f"{WORDS}; every Chinese character alone",
    "wordpiece": "at white space, which is not kept; every sign and every Chinese character alone",
    "char": "every character is a piece",
}


def test_how_a_kind_splits_is_said_in_words(trained: Tokenizer) -> None:
    assert describe_split(trained) == SPLITS[trained.kind]


# --- added_tokens.json ---


@pytest.fixture
def old_directory(tmp_path: Path) -> Path:
    """What transformers wrote before it had a tokenizer.json: special tokens apart from the vocabulary."""
    save_tokenizer(train_bpe([CORPUS], 300, specials="none"), tmp_path, "merges.txt")
    vocab = json.loads((tmp_path / "vocab.json").read_text(encoding="utf-8"))
    config = {"tokenizer_class": "Qwen2Tokenizer", "eos_token": "<|im_end|>", "additional_special_tokens": ["<a>"]}
    (tmp_path / "vocab.json").write_text(json.dumps({t: i for t, i in vocab.items() if i < 298}), encoding="utf-8")
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    (tmp_path / "special_tokens_map.json").write_text(json.dumps({"pad_token": {"content": "<p>"}}))
    added = {"<think>": 301, "<|im_end|>": 298, "<p>": 299, "<a>": 300}
    (tmp_path / "added_tokens.json").write_text(json.dumps(added))
    return tmp_path


def test_added_tokens_have_their_ids_and_the_roles_of_the_usual_files(old_directory: Path) -> None:
    tokenizer = Tokenizer.load(old_directory)
    assert tokenizer.specials == {"<|im_end|>": 298, "<p>": 299, "<a>": 300}
    assert tokenizer.vocabulary.added["<think>"] == 301 and tokenizer.encode("<think>").ids == (301,)
    assert 298 not in tokenizer.encode("<|im_end|>").ids
    assert (tokenizer.eos_id, tokenizer.roles["pad"], tokenizer.vocab_size) == (298, (299,), 302)


@pytest.mark.parametrize(
    ("added", "why"),
    [
        ({"<x>": 299}, "does not follow"),
        ({"<x>": 5}, "same id"),
        ({"Ġ": 298}, "two ids"),
        ({"": 298}, "no text"),
        ({"<x>": "298"}, "whole number"),
    ],
)
def test_added_tokens_that_cannot_be_are_refused(old_directory: Path, added: dict[str, object], why: str) -> None:
    (old_directory / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "Qwen2Tokenizer"}))
    (old_directory / "added_tokens.json").write_text(json.dumps(added))
    with pytest.raises(TokenizerError, match=why):
        Tokenizer.load(old_directory)


def test_added_tokens_stand_beside_a_vocab_txt_too(tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\ncat\n", encoding="utf-8")
    (tmp_path / "added_tokens.json").write_text(json.dumps({"<tool>": 6}))
    tokenizer = Tokenizer.load(tmp_path, lowercase=True)
    assert tokenizer.encode("cat <tool>").ids == (5, 6)
