"""`pellucid convert`: files out and in again, what it costs, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from pellucid.api import load
from pellucid.model.build import build
from pellucid.planning.config import ModelConfig
from pellucid.store.checkpoint import load_checkpoint, save_checkpoint
from pellucid.tokens.train import train_bpe

TEXT = "the cat sat on the mat. 猫坐在垫子上。 "


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tokenizer = train_bpe([TEXT * 9], 280, specials="none")
    config = ModelConfig(
        vocab_size=tokenizer.vocab_size, context_length=24, n_layers=1, n_heads=2, n_kv_heads=1, head_dim=8, d_model=32,
        d_ff=64, init="gpt2",
    )  # fmt: skip
    weights = {name: x * 8 if x.dim() > 1 else x for name, x in build(config, seed=0).state_dict().items()}
    path = tmp_path_factory.mktemp("convert") / "model"
    save_checkpoint(path, config=config, weights=weights, tokenizer=tokenizer, info={"step": 7})
    return path


@pytest.fixture
def convert(run, directory):
    def call(*arguments: object):
        return run("convert", directory, *arguments, "--threads", "1", "--device", "cpu")

    return call


def continued(path: Path) -> tuple[int, ...]:
    return tuple(load(path, device="cpu").complete("the cat", temperature=0, max_new_tokens=12).ids)


def test_there_and_back_again_is_the_same_model(convert, run, directory: Path, tmp_path: Path) -> None:
    assert convert(tmp_path / "m.gguf").code == 0
    assert run("convert", tmp_path / "m.gguf", tmp_path / "back", "--threads", "1").code == 0
    before, after = load_checkpoint(directory), load_checkpoint(tmp_path / "back")
    assert all(torch.equal(before.weights[name], after.weights[name]) for name in before.weights)
    assert continued(directory) == continued(tmp_path / "m.gguf") == continued(tmp_path / "back")


def test_what_it_costs_is_measured_before_and_after(convert, run, directory: Path, tmp_path: Path) -> None:
    text = tmp_path / "held_out.txt"
    text.write_text(TEXT * 3, encoding="utf-8")
    told = convert(tmp_path / "m.gguf", "--quantize", "q8_0", "--measure", text, "--json")
    before, after = json.loads(told.out)
    assert after["number_format"] == "q8_0" and after["num_bytes"] == (tmp_path / "m.gguf").stat().st_size
    for row, path in ((before, directory), (after, tmp_path / "m.gguf")):
        measured = json.loads(run("eval", path, text, "--json", "--threads", "1", "--device", "cpu").out)
        assert row["bits_per_byte"] == measured[0]["bits_per_byte"]
    assert 0 < abs(after["bits_per_byte"] - before["bits_per_byte"]) < 0.05
    table = convert(tmp_path / "again.gguf", "--quantize", "q8_0", "--measure", text).out
    assert f"{after['bits_per_byte'] - before['bits_per_byte']:+.5f}" in table


@pytest.mark.parametrize(("number_format", "dtype"), [("bf16", torch.bfloat16), ("f16", torch.float16)])
def test_a_directory_holds_the_format_that_was_asked_for(convert, tmp_path: Path, number_format, dtype) -> None:
    assert convert(tmp_path / "half", "--quantize", number_format).code == 0
    converted = load_checkpoint(tmp_path / "half")
    assert converted.dtype == dtype and converted.info["step"] == 7 and "converted_from" in converted.info


def test_refusals_leave_nothing_behind(convert, directory: Path, tmp_path: Path) -> None:
    (tmp_path / "there.gguf").write_text("mine")
    taken = convert(tmp_path / "there.gguf")
    assert taken.code == 4 and "already" in taken.err and (tmp_path / "there.gguf").read_text() == "mine"
    assert convert(tmp_path / "out", "--to", "hf", "--quantize", "q8_0").code == 2
    assert convert(tmp_path / "out.gguf", "--measure", tmp_path / "absent.txt").code == 3
    assert {path.name for path in tmp_path.iterdir()} == {"there.gguf"}


def test_a_pattern_is_chosen_where_a_file_does_not_say_it(convert, run, directory: Path, tmp_path: Path) -> None:
    file = tmp_path / "m.gguf"
    assert convert(file).code == 0
    file.write_bytes(file.read_bytes().replace(b"qwen2", b"nobod", 1))  # the name of the way in which a text is cut
    text = tmp_path / "text.txt"
    text.write_text(TEXT, encoding="utf-8")
    one = ("--max-new-tokens", "1", "--set", "temperature=0")
    verbs = (("generate", file, "the", *one), ("convert", file, tmp_path / "hf"), ("eval", file, text),
             ("search", file, "the", "--max-new-tokens", "1"), ("trace", file, "the"))  # fmt: skip
    for arguments in verbs:
        refused = run(*arguments, "--threads", "1", "--device", "cpu")
        assert refused.code != 0 and "choose one (--pattern): qwen2" in refused.err, arguments[0]
        told = run(*arguments, "--pattern", "qwen2", "--threads", "1", "--device", "cpu")
        assert told.code == 0, (arguments[0], told.err)
    assert continued(tmp_path / "hf") == continued(directory)
    assert load(file, pattern="qwen2", device="cpu").tokenizer.vocabulary.pattern == "qwen2"
    refused = run("generate", directory, "the", "--pattern", "gpt2", *one)
    assert refused.code != 0 and "only the tokenizer of a GGUF file may leave open" in refused.err
