"""A file of prompts: every line is answered as it would be alone, and a broken file of answers goes on where it was."""

from __future__ import annotations

import json

import pytest

from pellucid.engine.constraints.settings import ConstraintSettings
from pellucid.engine.generate import complete
from pellucid.engine.prompt_file import answer_file, read_prompt_lines
from pellucid.engine.request import Request
from pellucid.engine.runners.build import build_runner
from pellucid.engine.sampling.settings import SamplingSettings
from pellucid.engine.sampling.stage import FunctionStage
from pellucid.engine.settings import SchedulerSettings
from pellucid.errors import ContextError, InputError, RecordError, SettingsError, StoreError
from pellucid.settings import Layer, resolve

FEW = SchedulerSettings(max_running=3)


@pytest.fixture(scope="module")
def runner(merged_tokenizer, tiny_model):
    return build_runner(tiny_model(merged_tokenizer.vocab_size))


def request_of(line) -> Request:
    settings = resolve(SamplingSettings, Layer("test", {"max_new_tokens": 6}), Layer("prompts", line.knobs)).settings
    return Request(prompt_ids=line.prompt, sampling=settings)


def write(path, *rows) -> list:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return read_prompt_lines(path)


def answers(path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_answers_are_those_of_each_prompt_alone_in_their_order(runner, merged_tokenizer, tmp_path):
    rows = [{"prompt": [1 + n % 9] * (1 + n % 5), "seed": n, "max_new_tokens": 1 + 5 * n % 12} for n in range(11)]
    lines, out = write(tmp_path / "prompts.jsonl", *rows), tmp_path / "answers.jsonl"
    done = answer_file(runner, merged_tokenizer, lines, out, request_of=request_of, model_sha256="a", settings=FEW)
    assert (done.num_prompts, done.num_there, done.num_failed) == (11, 0, 0)
    for number, (row, line, found) in enumerate(zip(rows, lines, answers(out), strict=True)):
        expected = complete(runner, merged_tokenizer, request_of(line))
        assert (found["number"], found["prompt"]) == (number, row["prompt"])
        assert [(text["text"], text["ids"], text["seed"]) for text in found["texts"]] == [
            (expected.text, list(expected.ids), number)
        ]


@pytest.mark.parametrize("cut", [0, 1, 150, 700, -1])
def test_a_file_that_was_cut_short_goes_on_to_the_same_bytes(runner, merged_tokenizer, tmp_path, cut):
    lines = write(tmp_path / "prompts.jsonl", *({"prompt": [n + 1], "seed": n} for n in range(7)))
    whole, broken = tmp_path / "whole.jsonl", tmp_path / "broken.jsonl"
    answer_file(runner, merged_tokenizer, lines, whole, request_of=request_of, model_sha256="a", settings=FEW)
    broken.write_bytes(whole.read_bytes()[:cut])
    done = answer_file(runner, merged_tokenizer, lines, broken, request_of=request_of, model_sha256="a", settings=FEW)
    assert broken.read_bytes() == whole.read_bytes()
    assert done.num_there == whole.read_bytes()[:cut].count(b"\n")
    again = answer_file(runner, merged_tokenizer, lines, broken, request_of=request_of, model_sha256="a")
    assert again.num_there == 7 and broken.read_bytes() == whole.read_bytes()


def test_answers_of_other_prompts_models_and_settings_are_never_added_to(runner, merged_tokenizer, tmp_path):
    lines, out = write(tmp_path / "prompts.jsonl", {"prompt": [1], "seed": 1}), tmp_path / "answers.jsonl"
    answer_file(runner, merged_tokenizer, lines, out, request_of=request_of, model_sha256="a")
    before = out.read_bytes()
    others = [
        (write(tmp_path / "one.jsonl", {"prompt": [2], "seed": 1}), "a"),
        (write(tmp_path / "two.jsonl", {"prompt": [1], "seed": 2}), "a"),
        (lines, "b"),
    ]
    for other, model in others:
        with pytest.raises(StoreError, match="answers to other prompts"):
            answer_file(runner, merged_tokenizer, other, out, request_of=request_of, model_sha256=model)
    out.write_text("a text\n", encoding="utf-8")
    with pytest.raises(StoreError, match="answers to other prompts"):
        answer_file(runner, merged_tokenizer, lines, out, request_of=request_of, model_sha256="a")
    out.write_bytes(before + before)
    with pytest.raises(StoreError, match="answers to other prompts"):
        answer_file(runner, merged_tokenizer, lines, out, request_of=request_of, model_sha256="a")


def test_what_fails_on_its_way_is_the_answer_of_that_prompt_alone(runner, merged_tokenizer, tmp_path):
    everything = list(range(runner.config.vocab_size))
    rows = [{"prompt": [1], "seed": 1}, {"prompt": [1], "seed": 1, "ban": everything}, {"prompt": [2], "seed": 1}]
    lines, out = write(tmp_path / "prompts.jsonl", *rows), tmp_path / "answers.jsonl"
    done = answer_file(runner, merged_tokenizer, lines, out, request_of=request_of, model_sha256="a")
    assert done.num_failed == 1
    first, failed, last = answers(out)
    assert "texts" in first and "texts" in last
    assert failed["error"].startswith("no token is left to choose from")


def test_a_seed_that_was_not_given_is_told_with_the_answer(runner, merged_tokenizer, tmp_path):
    lines, out = write(tmp_path / "prompts.jsonl", {"prompt": [1]}, {"prompt": [1]}), tmp_path / "answers.jsonl"
    answer_file(runner, merged_tokenizer, lines, out, request_of=request_of, model_sha256="a")
    for line, found in zip(lines, answers(out), strict=True):
        (text,) = found["texts"]
        asked = request_of(line)
        seeded = resolve(SamplingSettings, Layer("test", {"max_new_tokens": 6, "seed": text["seed"]})).settings
        assert (
            list(complete(runner, merged_tokenizer, Request(prompt_ids=asked.prompt_ids, sampling=seeded)).ids)
            == text["ids"]
        )


@pytest.mark.parametrize(
    ("line", "kind", "message"),
    [
        ("{", RecordError, "no JSON object"),
        ("[1]", RecordError, "no JSON object"),
        ('{"text": "a"}', RecordError, "has no prompt"),
        ('{"prompt": 3}', RecordError, "has no prompt"),
        ('{"prompt": [1, true]}', RecordError, "has no prompt"),
        ('{"prompt": [1, 2.5]}', RecordError, "has no prompt"),
        ('{"prompt": [1], "max_new_tokenz": 3}', SettingsError, "unknown setting"),
        (
            '{"prompt": [1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1]}',
            ContextError,
            "no room",
        ),
    ],
)
def test_a_line_that_cannot_be_is_named_before_anything_is_answered(
    runner, merged_tokenizer, tmp_path, line, kind, message
):
    path, out = tmp_path / "prompts.jsonl", tmp_path / "answers.jsonl"
    path.write_text('{"prompt": [1]}\n\n' + line + "\n", encoding="utf-8")
    with pytest.raises(kind, match=message) as refused:
        lines = read_prompt_lines(path)
        answer_file(runner, merged_tokenizer, lines, out, request_of=request_of, model_sha256="a")
    assert "line 3" in refused.value.where
    assert not out.exists()


def test_a_file_without_prompts_is_refused(tmp_path):
    path = tmp_path / "prompts.jsonl"
    path.write_text("\n", encoding="utf-8")
    with pytest.raises(InputError, match="there are no prompts"):
        read_prompt_lines(path)
    with pytest.raises(InputError, match="cannot be read"):
        read_prompt_lines(tmp_path / "missing.jsonl")


def test_a_place_that_cannot_be_written_is_told_before_the_work(runner, merged_tokenizer, tmp_path):
    lines = write(tmp_path / "prompts.jsonl", {"prompt": [1]})
    stage = FunctionStage("never", lambda logits_V, history: pytest.fail("it began to answer"))

    def watched(line):
        return Request(prompt_ids=line.prompt, stages=[stage])

    with pytest.raises(StoreError, match="cannot write"):
        answer_file(runner, merged_tokenizer, lines, tmp_path / "no" / "a.jsonl", request_of=watched, model_sha256="a")


def test_a_form_holds_for_every_line(runner, merged_tokenizer, tmp_path):
    lines, out = write(tmp_path / "prompts.jsonl", {"prompt": [1], "seed": 1}), tmp_path / "answers.jsonl"

    def with_form(line):
        return Request(
            prompt_ids=line.prompt, constraint=ConstraintSettings(regex="[a-z]{2}"), sampling=SamplingSettings(seed=2)
        )

    answer_file(runner, merged_tokenizer, lines, out, request_of=with_form, model_sha256="a")
    assert answers(out)[0]["texts"][0]["text"].isalpha()
