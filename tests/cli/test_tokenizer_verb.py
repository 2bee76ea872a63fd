from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from pellucid.model.build import build
from pellucid.planning.presets import preset
from pellucid.store.checkpoint import load_checkpoint, save_checkpoint
from pellucid.store.run import Run
from pellucid.tokens.tokenizer import Tokenizer
from pellucid.tokens.train import train_bpe

TEXT = "the cat sat on the mat; the dog sat on the cat. 猫坐在垫子上，狗坐在猫上。\n"
ODD = "héllo  你好 👩‍👩‍👧 \t<eos>\r\n"


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    train_bpe([TEXT * 20], 300).save(tmp_path / "tok")
    return tmp_path / "tok"


def test_train_writes_what_the_package_loads(run, tmp_path):
    (tmp_path / "text.txt").write_text(TEXT * 20, encoding="utf-8")
    out = tmp_path / "new" / "tok"
    trained = json.loads(
        run("tokenizer", "train", tmp_path / "text.txt", "--out", out, "--vocab-size", 290, "--json").out
    )
    tokenizer = Tokenizer.load(out)
    assert (trained["sha256"], trained["vocab_size"]) == (tokenizer.sha256, 290)
    assert tokenizer.sha256 == train_bpe([TEXT * 20], 290).sha256
    assert sorted(path.name for path in out.iterdir()) == ["tokenizer.json", "tokenizer_config.json"]


def test_train_takes_kinds_settings_and_standard_input(run, tmp_path):
    code, out, _ = run("tokenizer", "train", "-", "--out", tmp_path / "c", "--kind", "char", stdin=TEXT.encode())
    assert code == 0 and Tokenizer.load(tmp_path / "c").kind == "char" and str(tmp_path / "c") in out
    code, _, err = run("tokenizer", "train", "-", "--out", tmp_path / "d", "--set", "patern=gpt2", stdin=b"x")
    assert code == 2 and "pattern" in err


def test_train_replaces_a_tokenizer_only_by_force(run, directory, tmp_path):
    before = (directory / "tokenizer.json").read_bytes()
    arguments = ("tokenizer", "train", "-", "--out", directory, "--kind", "char")
    code, _, err = run(*arguments, stdin=b"other text")
    assert code == 4 and "--force" in err and (directory / "tokenizer.json").read_bytes() == before
    assert run(*arguments, "--force", stdin=b"other text").code == 0
    assert Tokenizer.load(directory).kind == "char"
    (directory / "config.json").write_text("{}")
    assert run(*arguments, "--force", stdin=b"other text").code == 4


def test_bad_text_is_an_error_of_input(run, tmp_path):
    assert run("tokenizer", "train", tmp_path / "none.txt", "--out", tmp_path / "tok").code == 3
    (tmp_path / "broken.txt").write_bytes(b"ab\xff")
    assert run("tokenizer", "train", tmp_path / "broken.txt", "--out", tmp_path / "tok").code == 3
    assert not (tmp_path / "tok").exists()
    arguments = ("tokenizer", "train", tmp_path / "broken.txt", "--out", tmp_path / "tok", "--errors", "replace")
    assert run(*arguments).code == 0


@pytest.mark.parametrize("text", [ODD, "", "\n", "plain"])
def test_encode_piped_into_decode_gives_the_text_back(run, directory, text):
    ids = run("tokenizer", "encode", directory, stdin=text.encode()).out
    assert tuple(map(int, ids.split())) == Tokenizer.load(directory).encode(text).ids
    assert run("tokenizer", "decode", directory, stdin=ids.encode()).out == text
    assert run("tokenizer", "decode", directory, "-", stdin=ids.encode()).out == text


def test_encode_and_decode_take_arguments_and_speak_json(run, directory):
    tokenizer = Tokenizer.load(directory)
    encoded = json.loads(run("tokenizer", "encode", directory, ODD, "--json").out)
    assert encoded["ids"] == list(tokenizer.encode(ODD).ids)
    assert encoded["tokens"] == [tokenizer.token_text(token_id) for token_id in encoded["ids"]]
    parts = [ODD.encode()[start:end] for start, end in encoded["byte_offsets"]]
    assert b"".join(parts) == ODD.encode() and len(encoded["offsets"]) == len(parts)
    decoded = json.loads(run("tokenizer", "decode", directory, *encoded["ids"], "--json").out)
    assert decoded["text"] == ODD and bytes.fromhex(decoded["bytes"]).decode() == ODD
    remark = run("tokenizer", "encode", directory, ODD).err
    assert f"{len(encoded['ids'])} tokens for {len(ODD)} characters, {len(ODD.encode())} bytes" in remark


def test_special_tokens_are_shown_only_when_asked(run, directory):
    tokenizer = Tokenizer.load(directory)
    ids = (tokenizer.bos_id, *tokenizer.encode("cat").ids, tokenizer.eos_id)
    assert run("tokenizer", "decode", directory, *ids).out == "cat"
    assert run("tokenizer", "decode", directory, *ids, "--show-special").out == "<bos>cat<eos>"


@pytest.mark.parametrize("ids", [("300",), ("x",), ("1.5",), ("٣",)])
def test_what_is_no_id_is_an_error(run, directory, ids):
    code, out, err = run("tokenizer", "decode", directory, *ids)
    assert (code, out) == (3, "") and err.startswith("error: ")


def test_text_that_is_not_utf8_is_an_error_with_its_offset(run, directory):
    code, _, err = run("tokenizer", "encode", directory, stdin=b"abc\xe4")
    assert code == 3 and "0xE4 at offset 3" in err


def test_explain_shows_pieces_merges_and_bytes(run, directory):
    pieces = json.loads(run("tokenizer", "explain", directory, "the 猫!", "--json").out)
    assert "".join(piece["text"] for piece in pieces) == "the 猫!"
    assert (
        bytes.fromhex("".join(t["bytes"] for p in pieces for t in p["tokens"]).replace(" ", "")).decode() == "the 猫!"
    )
    out = run("tokenizer", "explain", directory, "the 猫!").out
    first = pieces[0]["merges"][0]
    assert f'"the"         {first["rank"]}' in out and "e7 8c ab" in out
    assert '"<0xE7><0x8C>"' in out or '"<0xE7>"' in out
    assert run("tokenizer", "explain", directory, "x" * 2001).code == 3


def test_a_run_lends_its_tokenizer(run, directory, tmp_path):
    config = preset("micro")
    tokenizer = train_bpe([TEXT], 258, specials="none")
    experiment = Run.create(tmp_path / "run", {"recipe": "test"})
    code, _, err = run("tokenizer", "encode", experiment.path, "cat")
    assert code == 4 and "has not saved a checkpoint" in err
    experiment.save(1, config=config, weights=build(config, seed=0).state_dict(), tokenizer=tokenizer, info={})
    assert run("tokenizer", "encode", experiment.path, "cat").out.split() == ["99", "97", "116"]
    Tokenizer.load(directory).save(experiment.path)
    assert run("tokenizer", "encode", experiment.path, "cat").out.split() == list(
        map(str, Tokenizer.load(directory).encode("cat").ids)
    )


def test_a_place_without_a_tokenizer_is_an_error(run, tmp_path):
    for where in (tmp_path, tmp_path / "none"):
        code, _, err = run("tokenizer", "encode", where, "hi")
        assert code == 3 and "no tokenizer is here" in err


def test_convert_writes_forms_that_every_verb_reads(run, directory, tmp_path):
    ids = run("tokenizer", "encode", directory, ODD).out
    for form, name in (
        ("tiktoken", "."),
        ("gguf", "tokenizer.gguf"),
        ("tokenizer.json", "."),
        ("merges.txt", "vocab.json"),
    ):
        code, out, _ = run("tokenizer", "convert", directory, "--to", form, "--out", tmp_path / form)
        assert code == 0 and str(tmp_path / form) in out
        assert run("tokenizer", "convert", tmp_path / form / name, "--out", tmp_path / f"{form} back").code == 0
        assert run("tokenizer", "encode", tmp_path / f"{form} back", ODD).out == ids
    (tmp_path / "merges.txt" / "tokenizer_config.json").unlink()  # which names the pattern
    code, _, err = run("tokenizer", "convert", tmp_path / "merges.txt", "--out", tmp_path / "none")
    assert code != 0 and "--pattern" in err and not (tmp_path / "none").exists()
    files = json.loads(run("tokenizer", "convert", directory, "--out", tmp_path / "j", "--json").out)["files"]
    assert [Path(file).name for file in files] == ["tokenizer_config.json", "tokenizer.json"]


def test_add_gives_a_tokenizer_new_tokens_and_show_names_their_roles(run, tmp_path):
    train_bpe([TEXT * 20], 300).save(tmp_path / "tok")
    arguments = ("tokenizer", "add", tmp_path / "tok", "<tool>", "<|done|>", "--role", "turn_end=<|done|>")
    added = json.loads(run(*arguments, "--out", tmp_path / "more", "--json").out)
    tokenizer = Tokenizer.load(tmp_path / "more")
    assert added["ids"] == {name: tokenizer.specials[name] for name in ("<tool>", "<|done|>")}
    assert added["vocab_size"] == 300  # two of the spare ids
    shown = run("tokenizer", "show", tmp_path / "more").out
    assert "a text ends at <eos> (tokenizer_config.json), <|done|> (tokenizer_config.json)" in shown
    roles = json.loads(run("tokenizer", "show", tmp_path / "more", "--role", "turn_end", "--json").out)
    assert roles["roles"]["ids"]["turn_end"] == [added["ids"]["<|done|>"]]
    assert [row["id"] for row in roles["tokens"]] == [added["ids"]["<|done|>"]]
    assert run(*arguments, "--out", tmp_path / "tok").code == 4  # nothing is replaced
    refused = run("tokenizer", "add", tmp_path / "tok", "<a>", "--role", "king=<a>", "--out", tmp_path / "x")
    assert refused.code != 0 and "ROLE=TOKEN" in refused.err


def test_add_gives_a_model_rows_for_new_tokens(run, directory, tmp_path):
    """The fixture's tokenizer alone is no model; one with weights beside it grows."""
    config = dataclasses.replace(preset("micro"), vocab_size=300)
    weights = dict(build(config, seed=0).named_parameters())
    save_checkpoint(tmp_path / "m", config=config, weights=weights, tokenizer=Tokenizer.load(directory), info={})
    done = run("tokenizer", "add", tmp_path / "m", "<tool>", "--out", tmp_path / "grown")
    assert done.code == 0 and "1 new token (284)" in done.err and "284  <tool>" in done.out
    assert "starts as the mean of the 284 rows in use; the model keeps its shape" in done.err
    grown = load_checkpoint(tmp_path / "grown")
    assert grown.config.vocab_size == 300 and grown.tokenizer.specials["<tool>"] == 284
