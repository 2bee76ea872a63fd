"""The verbs of `pellucid tokenizer` hold one door: where a tokenizer is found, and what is refused before the work."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pellucid.errors import TokenizerError
from pellucid.store.tokenizer_files import save_tokenizer
from pellucid.tokens.tokenizer import Tokenizer
from pellucid.tokens.train import train_bpe, train_characters, train_wordpiece

TEXT = "the cat sat on the mat; the dog sat on the cat. 猫坐在垫子上，狗坐在猫上。\n"
BPE = train_bpe([TEXT * 20], 300)


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_text(TEXT * 20, encoding="utf-8")
    return path


@pytest.mark.parametrize("form", ["tokenizer.json", "tiktoken", "gguf"])
def test_every_verb_finds_a_directory_of_one_file(run, text, tmp_path, form):
    place = tmp_path / "place"
    save_tokenizer(BPE, place, form)
    for arguments in (
        ("encode", place, "the"),
        ("decode", place, "97"),
        ("explain", place, "the"),
        ("show", place, "--count", "1"),
        ("compare", place, "--text", text),
        ("convert", place, "--out", tmp_path / "converted"),
        ("add", place, "<|tool|>", "--out", tmp_path / "more"),
    ):
        code, _, err = run("tokenizer", *arguments)
        assert code == 0, (arguments[0], err)
    for made in ("converted", "more"):
        assert Tokenizer.load(tmp_path / made).encode(TEXT).ids == BPE.encode(TEXT).ids
    assert Tokenizer.load(tmp_path / "more").specials["<|tool|>"] == BPE.roles["spare"][0]


def test_a_place_without_one_says_where_it_looked(run, tmp_path):
    for verb in (("encode",), ("explain",), ("add", "<x>", "--out", tmp_path / "out")):
        code, _, err = run("tokenizer", verb[0], tmp_path, *(verb[1:] or ("x",)))
        assert code == 3 and "looked for: tokenizer.json, tokenizer.model" in err and "one *.gguf" in err
    for name in ("a", "b"):
        save_tokenizer(BPE, tmp_path / name, "gguf")[0].rename(tmp_path / f"{name}.gguf")
    assert "there are several .gguf files" in run("tokenizer", "encode", tmp_path, "x").err


def test_the_destination_is_checked_before_the_work(run, text, tmp_path, monkeypatch):
    monkeypatch.setattr("pellucid.tokens.choose.train_tokenizer", None)  # it is not reached
    (tmp_path / "file").write_text("x")
    save_tokenizer(BPE, tmp_path / "old", "tiktoken")
    for out, why in (
        ("file", "a file lies where a directory is wanted"),
        ("file/inside/it", "a file lies where a directory is wanted"),
        ("old", "a tokenizer is already here"),
    ):
        code, _, err = run("tokenizer", "train", text, "--kind", "wordpiece", "--out", tmp_path / out)
        assert code == 4 and why in err, out
    code, _, err = run("tokenizer", "train", text, "--out", "/proc/nothing/here")
    assert code == 4 and "cannot write here" in err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "old", "text.txt"]


def test_the_text_to_measure_on_is_read_before_the_training(run, text, tmp_path):
    (tmp_path / "broken.txt").write_bytes(b"a\xff\xfe\xfa" * 9)
    for other in ("nope", "broken.txt"):
        code, _, err = run("tokenizer", "train", text, "--out", tmp_path / "t20", "--measure-on", tmp_path / other)
        assert code == 3 and other in err and not (tmp_path / "t20").exists(), other


def test_every_tokenizer_is_opened_before_the_text_is_measured(run, text, tmp_path):
    BPE.save(tmp_path / "bpe")
    code, _, err = run("tokenizer", "compare", tmp_path / "bpe", tmp_path / "nonex", "--text", text)
    assert code == 3 and "no tokenizer is here" in err and "measured on" not in err


def test_the_name_of_a_tokenizer_is_no_word_of_ours(run, text, tmp_path):
    """In Chinese a heading is translated, a directory's name is not, even where it is spelled like a heading."""
    for name in ("word", "characters", "id"):
        BPE.save(tmp_path / name)
    places = [tmp_path / name for name in ("word", "characters", "id")]
    out = run("tokenizer", "compare", *places, "--text", text, "--lang", "zh").out
    [heading, _] = [line.split() for line in out.splitlines() if line.endswith("id")]
    assert heading[-3:] == ["word", "characters", "id"]


def test_a_tokenizer_given_twice_is_refused(run, text, tmp_path):
    BPE.save(tmp_path / "bpe")
    for again in (tmp_path / "bpe", tmp_path / "bpe" / "tokenizer.json", tmp_path / "bpe" / ".." / "bpe"):
        code, _, err = run("tokenizer", "compare", tmp_path / "bpe", again, "--text", text)
        assert code == 3 and "a tokenizer is given twice" in err and f"found: {again}, which is" in err, again


def test_advice_names_only_flags_that_the_verb_has(run, text, tmp_path):
    BPE.save(tmp_path / "bpe")
    code, _, err = run("tokenizer", "add", tmp_path / "bpe", "<t>", "--out", tmp_path / "bpe")
    assert code == 4 and err.endswith("try:   choose another directory\n")
    for verb in (("train", text), ("convert", tmp_path / "bpe")):
        code, _, err = run("tokenizer", *verb, "--out", tmp_path / "bpe")
        assert code == 4 and err.endswith("try:   --force replaces it; or choose another directory\n"), verb


def test_advice_on_a_small_vocabulary_is_true(run, text, tmp_path):
    arguments = ("tokenizer", "train", text, "--out", tmp_path / "out", "--vocab-size")
    err = run(*arguments, 100).err
    assert err.endswith("try:   ask for 280 or more, or for 258 or more with --specials none\n")
    assert run(*arguments, 100, "--specials", "none").err.endswith("try:   ask for 258 or more\n")
    assert run(*arguments, 258, "--specials", "none").code == 0
    assert run(*arguments, 280, "--force").code == 0


@pytest.mark.parametrize(
    ("names", "why", "hint"),
    [
        (("<t>", "--role", "foo=<t>"), "there is no such role\n  found: 'foo'\n", "these roles: bos, eos, pad, "),
        (("<t>", "--role", "eos"), "a role is given as ROLE=TOKEN", "roles: bos, eos, pad, "),
        (("<t>", "--role", "eos=<u>"), "a role is given to a token that is not added", "name that token too"),
        (("<t>", "--role", "eos=<t>", "--role", "eos=<t>"), "a role is given twice\n  found: eos=<t>\n", "once"),
        (
            ("<t>", "<u>", "--role", "eos=<t>", "--role", "eos=<u>"),
            "a role is given to two tokens\n  found: eos: '<t>', '<u>'\n",
            "give each role to one new token",
        ),
        (("\x1b[31mred",), "this cannot be the name of a token\n  found: '\\x1b[31mred'\n", "<|tool|>"),
        (("  ",), "this cannot be the name of a token\n  found: '  '\n", "<|tool|>"),
        (("<t>", "--role", "eos=<t>", "--role", "pad=<t>"), "two roles\n  found: <t>: eos, pad", "one role"),
        (
            ("<tool>", "<tool>"),
            "a new token has this name already: it is given twice\n  found: '<tool>'",
            "give each of them once",
        ),
        (("<eos>",), "a token has this name already", "a name of its own"),
    ],
)
def test_add_says_what_is_wrong_with_a_name_or_role(run, tmp_path, names, why, hint):
    BPE.save(tmp_path / "bpe")
    code, _, err = run("tokenizer", "add", tmp_path / "bpe", *names, "--out", tmp_path / "out")
    assert code == 3 and why in err and hint in err.rpartition("try:")[2], err


def test_one_name_is_no_list_of_names():
    with pytest.raises(TokenizerError, match="the names of new tokens come in a list\n  found: '<tool>'"):
        BPE.with_tokens("<tool>")


def test_a_picture_that_cannot_be_drawn_is_refused_with_advice(run, tmp_path):
    BPE.save(tmp_path / "bpe")
    (tmp_path / "file").write_text("x")
    code, out, err = run("tokenizer", "explain", tmp_path / "bpe", "x" * 99, "--out", tmp_path / "plots")
    assert code == 3 and not out and f"where: {tmp_path / 'plots' / 'cuts'}\n" in err
    assert err.endswith("try:   leave --out out, or give a shorter text: at most 12 rows of at most 40 signs\n")
    for out in ("file", "file/inside"):
        for verb in (("explain", tmp_path / "bpe", "x"), ("compare", tmp_path / "bpe", "--text", tmp_path / "file")):
            code, _, err = run("tokenizer", *verb, "--out", tmp_path / out)
            assert code == 4 and "a file lies where a directory is wanted" in err, (verb, out)


def test_refusals_say_what_to_try(run, tmp_path):
    BPE.save(tmp_path / "bpe")
    (tmp_path / "bad.gguf").write_bytes(b"GGML" * 9)
    for arguments, hint in (
        (("explain", tmp_path / "bpe", "x" * 2_001), "give a shorter text"),
        (("decode", tmp_path / "bpe", "300"), "give an id of this tokenizer"),
        (("show", tmp_path / "bpe", "--search", "#99999"), "give an id of this tokenizer"),
        (("show", tmp_path / "bpe", "--min-length", 5, "--max-length", 3), "give the smaller number to --min-length"),
        (("show", tmp_path / "bpe", "--script", "KLINGON"), "known: HAN, LATIN, NUMBER, SIGN, SPACE"),
        (("encode", tmp_path / "bad.gguf", "x"), "give the path of one; a file of another kind may have its ending"),
    ):
        code, _, err = run("tokenizer", *arguments)
        assert code != 0 and f"try:   {hint}" in err, (arguments[0], err)
    assert "99999; the ids run from 0 to 299" in run("tokenizer", "show", tmp_path / "bpe", "--search", "#99999").err


def test_show_names_a_longest_token_once_and_has_no_bytes_for_lost_text(run, tmp_path):
    train_characters(["猫坐"]).save(tmp_path / "char")
    out = run("tokenizer", "show", tmp_path / "char", "--count", 999).out
    table = out.partition("longest tokens")[2].partition("role")[0]
    assert table.count('"猫"') == 1
    assert out.splitlines()[-1].endswith("tokens that fit")
    assert run("tokenizer", "show", tmp_path / "char", "--count", 2).out.endswith(
        "tokens that fit; --count shows more\n"
    )
    train_wordpiece([TEXT * 20], 120).save(tmp_path / "wordpiece")
    out = run("tokenizer", "show", tmp_path / "wordpiece", "--search", "[UNK]").out
    assert '"[UNK]"' in out and "ef bf bd" not in out


def test_a_byte_of_the_file_is_not_another_in_small_letters(run, tmp_path):
    """In a byte-level file Ġ is a space and ġ the byte 7F."""
    BPE.save(tmp_path / "bpe")
    found = json.loads(run("tokenizer", "show", tmp_path / "bpe", "--search", "Ġ", "--json", "--count", 999).out)
    assert {32, 127} & {token["id"] for token in found["tokens"]} == {32}


def test_a_tokenizer_that_is_not_there_is_named(tmp_path):
    with pytest.raises(TokenizerError) as missing:
        Tokenizer.load(tmp_path / "nope")
    assert str(missing.value) == (
        f"no tokenizer is here\n  found: looked for: {tmp_path / 'nope'}\n  where: {tmp_path / 'nope'}\n"
        "  try:   give the path of a tokenizer.json, or of the directory that holds one"
    )
    with pytest.raises(TokenizerError, match="no tokenizer is here"):
        Tokenizer.load(tmp_path / "x-merges.txt")
    (tmp_path / "x-merges.txt").write_text("#version: 0.2\n")
    with pytest.raises(TokenizerError, match=r"^x-vocab\.json is missing\n") as missing:
        Tokenizer.load(tmp_path / "x-merges.txt")
    assert missing.value.hint == "put x-vocab.json beside x-merges.txt"


@pytest.mark.parametrize(
    ("kind", "setting", "taken"),
    [
        ("char", "pattern=gpt2", "kind, vocab_size, specials"),
        ("char", "sample_bytes=100", "kind, vocab_size, specials"),
        ("wordpiece", "pattern=qwen2", "kind, vocab_size, specials, sample_bytes, lowercase"),
        ("word", "max_han=2", "kind, vocab_size, specials, pattern, sample_bytes"),
        ("unigram", "max_token_bytes=9", "kind, vocab_size, specials, pattern, sample_bytes, max_han"),
        ("auto", "lowercase=true", "kind, vocab_size, specials, pattern, sample_bytes, max_han, max_token_bytes"),
    ],
)
def test_a_setting_that_a_kind_ignores_is_refused(run, text, tmp_path, kind, setting, taken):
    code, _, err = run("tokenizer", "train", text, "--kind", kind, "--set", setting, "--out", tmp_path / "out")
    assert (
        code == 2
        and f"has no setting {setting.partition('=')[0]}" in err
        and err.rstrip().endswith(f"it takes {taken}")
    )


@pytest.mark.parametrize(
    ("kind", "least", "needs"),
    [
        ("bpe", 258, "256 bytes"),
        ("word", 4, "the unknown word and one other"),
        ("wordpiece", 8, "BERT's own five tokens, one character"),
    ],
)
def test_each_kind_has_its_own_smallest_vocabulary(run, tmp_path, kind, least, needs):
    arguments = ("tokenizer", "train", "-", "--kind", kind, "--specials", "none", "--out", tmp_path / "out")
    words = b"a a b b " * 9
    assert run(*arguments, "--vocab-size", least, stdin=words).code == 0
    if least > 4:  # the bound of the setting itself
        code, _, err = run(*arguments, "--force", "--vocab-size", least - 1, stdin=words)
        assert code != 0 and f"a vocabulary needs at least {least} tokens: {needs} and 2 special tokens" in err


def test_show_refuses_what_cannot_be(run, tmp_path):
    BPE.save(tmp_path / "bpe")
    train_characters([TEXT]).save(tmp_path / "char")
    for place, options, why in (
        ("bpe", ("--sort", "-score"), "no token of this vocabulary has a score"),
        ("char", ("--sort", "rank"), "it is sorted by id, length"),
        ("bpe", ("--min-length", "-1"), "--min-length"),
        ("bpe", ("--min-length", "3", "--max-length", "2"), "no token is longer"),
    ):
        code, _, err = run("tokenizer", "show", tmp_path / place, *options)
        assert code != 0 and why in err, options


def test_show_finds_what_stands_in_the_file(run, tmp_path):
    train_wordpiece([TEXT * 20], 120).save(tmp_path / "wordpiece")
    BPE.save(tmp_path / "bpe")
    for place, search, spelled in (
        ("wordpiece", "##A", "##a"),
        ("bpe", "Ġth", "Ġthe"),
        ("wordpiece", "/^##t$/", "##t"),
    ):
        found = json.loads(run("tokenizer", "show", tmp_path / place, "--search", search, "--json").out)["tokens"]
        assert spelled in [token["spelled"] for token in found], search
    out = run("tokenizer", "show", tmp_path / "wordpiece", "--search", "##a").out
    assert "in the file" in out and '"##a"' in out
    assert "in the file" not in run("tokenizer", "show", tmp_path / "bpe", "--search", "th").out


def test_a_negative_number_is_no_id_and_the_range_is_said(run, tmp_path):
    BPE.save(tmp_path / "bpe")
    code, _, err = run("tokenizer", "decode", tmp_path / "bpe", "--", "-1")
    assert code == 3 and "-1; the ids run from 0 to 299" in err


def test_a_choice_that_changes_nothing_is_refused(run, tmp_path):
    BPE.save(tmp_path / "bpe")
    for options in (("--pattern", "gpt2"), ("--lowercase",)):
        code, _, err = run("tokenizer", "convert", tmp_path / "bpe", *options, "--out", tmp_path / "out")
        assert code == 3 and "leave" in err and not (tmp_path / "out").exists()


def test_roles_and_their_sources_are_told_in_chinese(run, tmp_path):
    config = json.dumps({"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<bos>", "eos_token": "<eos>"})
    Tokenizer.from_json(BPE.json, config).save(tmp_path / "bpe")
    out = run("tokenizer", "show", tmp_path / "bpe", "--lang", "zh").out
    assert "bos（文本开头）" in out and "按它的名字" in out and "its name" not in out
