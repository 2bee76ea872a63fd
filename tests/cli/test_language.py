"""The command line in English and in Chinese: who decides, and that nothing else changes."""

from __future__ import annotations

import io
import json
import os
import pty
import re
import subprocess
import sys

import pytest
from rich.cells import cell_len

from pellucid.cli.app import VERBS
from pellucid.cli.language import find_asked

HAN = re.compile(r"[\u4e00-\u9fff]")
CHINESE = {"LC_ALL": "zh_CN.UTF-8"}


@pytest.mark.parametrize("verb", ["", *VERBS, "tokenizer train", "tokenizer encode", "tokenizer decode"])
def test_the_help_of_every_verb_speaks_both_languages(run, verb) -> None:
    english = run(*verb.split(), "--help").out
    for arguments in (("--lang", "zh", *verb.split(), "--help"), (*verb.split(), "--help", "--lang=zh")):
        told = run(*arguments).out
        assert HAN.search(told) and told.startswith("用法：pellucid") and "\n选项：\n" in told
        assert max(map(cell_len, told.splitlines())) <= 80
    assert "Usage: pellucid" in english and "Options:" in english
    assert not HAN.search(english.replace("(中文)", ""))
    assert run(*verb.split(), "--help").out == english  # the language of one call does not stay for the next


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("train", "x.txt"), "缺少选项 '--out'。"),
        (("train",), "缺少"),
        (("plan", "gpt3", "--rows", "many"), "'--rows' 的值无效：'many' 不是整数。"),
        (("plan", "gpt3", "--optimizer", "sgd"), "'sgd' 不是下列之一："),
        (("plan", "gpt3", "--quikly"), "没有 '--quikly' 这个选项。"),
        (("plan", "gpt3", "more"), "多出了参数（more）"),
        (("generate", "x", "-n", "0"), "0 不在范围 1<=x<=256 内。"),
        (("generate", "x", "--grammar", "no-such-file"), "文件 'no-such-file' 不存在。"),
        (("tokenizer", "trian"), "没有 'trian' 这个命令。您是不是想写 'train'？"),
    ],
)
def test_a_mistyped_command_is_explained_in_chinese(run, arguments, told) -> None:
    code, out, err = run("--lang", "zh", *arguments)
    assert (code, out) == (2, "") and told in err
    assert err.startswith("用法：pellucid") and "查看说明。" in err and "\n错误：" in err
    assert not re.search(r"\b(Error|Usage|Try|Missing|Invalid|No such)\b", err)


def test_a_flag_used_wrongly_too(run) -> None:
    assert run("--lang", "zh", "plan", "--depth").err == "错误：选项 '--depth' 需要一个值。\n"
    assert run("--lang", "zh", "plan", "gpt3", "--json=1").err == "错误：选项 '--json' 不带值。\n"


def test_an_error_of_ours_has_its_four_sentences_in_chinese(run, tmp_path) -> None:
    (tmp_path / "empty.txt").touch()
    code, _, err = run("--lang", "zh", "train", tmp_path / "empty.txt", "--out", tmp_path / "run")
    assert code == 3
    what, where, hint = err.splitlines()[-3:]
    assert (what, where) == ("错误：文件是空的", f"  位置：{tmp_path / 'empty.txt'}") and hint.startswith("  建议：")
    document = json.loads(run("--lang", "zh", "plan", "gtp3", "--json").err)
    assert document["what"] == "没有名为 'gtp3' 的预设" and document["error"] == "SettingsError"
    assert json.loads(run("plan", "gtp3", "--json").err)["what"] == "there is no preset 'gtp3'"


@pytest.mark.parametrize(
    ("flag", "ours"),
    [
        ("--max-tokens", "--max-new-tokens"),
        ("--repeat-penalty", "--set repetition_penalty=…"),
        ("--n-predict", "--max-new-tokens"),
    ],
)
def test_a_flag_of_another_program_names_ours(run, flag: str, ours: str) -> None:
    code, _, err = run("generate", "x", flag, "5")
    assert code == 2 and f"there is no flag {flag}" in err and ours in err


@pytest.mark.parametrize("verb", ["eval", "plan", "convert", "bench", "doctor", "lens", "trace", "search"])
def test_a_verb_that_draws_nothing_has_no_seed(run, verb: str) -> None:
    assert "--seed" not in run(verb, "--help").out
    code, _, err = run(verb, "x", "y", "--seed", "1")
    assert code == 2 and "there is no flag --seed" in err and "nothing is drawn at random here" in err


@pytest.mark.parametrize("flag", ["--exact", "--no-exact"])
def test_a_flag_that_was_removed_says_why(run, flag: str) -> None:
    code, _, err = run("generate", "x", flag)
    assert code == 2 and f"there is no flag {flag} any more" in err
    assert "it changed nothing" in err and "--kernels on: the compiled loops" in err


@pytest.mark.parametrize("flag", ["--repetition-penalty", "--repetition-penaltie"])
def test_a_flag_that_is_a_setting_names_its_set(run, flag) -> None:
    code, _, err = run("generate", "x", flag, "1.1")
    assert code == 2 and f"there is no flag {flag}" in err and "--set repetition_penalty=…" in err
    assert "没有" in run("generate", "x", flag, "1.1", "--lang", "zh").err


@pytest.mark.parametrize(
    ("verb", "flag", "setting"),
    [
        (("train", "x", "--out", "y"), "--muon-rate", "optimizer.muon_rate"),
        (("search", "x"), "--stop-ids", "stop_ids"),
        (("plan", "gpt2"), "--n-layers", "n_layers"),
        (("bench", "x"), "--kernels", "kernels"),
        (("tokenizer", "train", "x", "--out", "y"), "--max-han", "max_han"),
    ],
)
def test_so_do_those_of_other_verbs(run, verb, flag, setting) -> None:
    assert f"--set {setting}=…" in run(*verb, flag, "1").err


def test_a_flag_like_another_flag_is_left_to_that(run) -> None:
    assert "--temperature" in run("generate", "x", "--temperatur", "1").err


def test_the_locale_counts_in_a_terminal_alone(run, monkeypatch) -> None:
    for name, value in CHINESE.items():
        monkeypatch.setenv(name, value)
    assert run("plan", "gpt2").out.startswith("parameters")
    assert "error: there is no preset" in run("plan", "gtp3").err
    monkeypatch.setattr("sys.stdout", Listener())
    assert run("--lang", "en", "plan", "gtp3").err.startswith("error:")


class Listener(io.StringIO):
    """A terminal, as far as isatty goes."""

    def isatty(self) -> bool:
        return True


def test_a_terminal_with_a_chinese_locale_is_spoken_to_in_chinese() -> None:
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "pellucid", "plan", "gtp3"]
    environment = {**os.environ, **CHINESE}
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=theirs, env=environment, text=True, check=False)
    os.close(theirs)
    told = os.read(ours, 10_000).decode("utf-8")
    assert done.returncode == 2 and told.startswith("错误：没有名为 'gtp3' 的预设")


def test_a_table_in_chinese_keeps_its_columns(run) -> None:
    lines = run("plan", "gpt2", "--lang", "zh").out.splitlines()
    start = next(place for place, line in enumerate(lines) if line.startswith("参数 ") and "公式" in line)
    columns = {cell_len(line.partition("= ")[0]) for line in lines[start + 1 : start + 8]}
    assert len(columns) == 1 and cell_len(lines[start].partition("公式")[0]) in columns


def test_the_language_is_found_wherever_it_stands() -> None:
    assert find_asked(["--lang", "zh", "plan", "--lang=en"]) == "en"
    assert find_asked(["plan", "--", "--lang", "zh"]) is None
    assert find_asked(["plan", "--lang", "fr"]) is None and find_asked(["plan", "--lang"]) is None


@pytest.mark.parametrize("arguments", [[], ["--lang"], ["--lang", "zh"]])
def test_without_a_verb_there_is_help_or_a_word_and_no_traceback(arguments: list[str]) -> None:
    done = subprocess.run([sys.executable, "-m", "pellucid", *arguments], capture_output=True, text=True, timeout=60)
    assert "Traceback" not in done.stderr and done.stdout + done.stderr
    assert arguments or "quickstart" in done.stdout
