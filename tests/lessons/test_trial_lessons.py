"""The trials run from end to end at their quick size, and their instruments measure what they say."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest
import torch

from pellucid.data.document import Document
from pellucid.data.objectives.causal import nll
from pellucid.data.writer import write_shards
from pellucid.errors import InputError
from pellucid.events import MemoryRecorder
from pellucid.lessons import letters, positions, residual, sampling
from pellucid.lessons.apprentice import PASSAGE_CHARACTERS, choose_corpus, small_config
from pellucid.lessons.contents import LESSONS, open_lesson
from pellucid.lessons.page import Chart, LessonPage, LessonTable
from pellucid.lessons.settings import LessonSettings
from pellucid.model.build import build
from pellucid.model.context import Context
from pellucid.model.decoder import Decoder
from pellucid.planning.parts.position import Position
from pellucid.tokens.train import train_characters

QUICK = LessonSettings(quick=True, seed=3)
TRIALS = {lesson.name: lesson for lesson in LESSONS if lesson.kind == "trial"}


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def opened() -> dict[str, tuple[LessonPage, MemoryRecorder]]:
    pages = {}
    for name, lesson in TRIALS.items():
        recorder = MemoryRecorder()
        pages[name] = open_lesson(lesson, QUICK, recorder=recorder), recorder
    return pages


@pytest.mark.parametrize("name", TRIALS)
def test_a_trial_gives_a_page_in_both_languages(opened, name):
    page, _ = opened[name]
    english, chinese = (json.dumps(page.to_dict(language), ensure_ascii=False) for language in ("en", "zh"))
    assert not re.search(r"[\u4e00-\u9fff]", english) and re.search(r"[\u4e00-\u9fff]", chinese)
    assert all(len(row) == len(table.columns) for table in page.of(LessonTable) for row in table.rows)
    assert all(len(points) for chart in page.of(Chart) for points in chart.series.values())


@pytest.mark.parametrize("name", TRIALS)
def test_charts_can_be_drawn_anywhere(opened, name):
    assert all(
        chart.to_dict("zh")["title"].isascii() and "".join(chart.series).isascii()
        for chart in opened[name][0].of(Chart)
    )


@pytest.mark.parametrize("name", TRIALS)
def test_progress_is_told_step_by_step(opened, name):
    told = [event.data for event in opened[name][1].events if event.name == "training.progress"]
    models = [event for event in opened[name][1].events if event.name == "lessons.training"]
    assert len(told) == sum(int(event.data["steps"]) for event in models)
    assert told[-1]["step"] == told[-1]["steps"] and told[-1]["eta_seconds"] == 0


def test_equal_seeds_give_equal_pages(opened):
    again = open_lesson(TRIALS["residual"], QUICK)
    assert [chart.series for chart in again.of(Chart)] == [chart.series for chart in opened["residual"][0].of(Chart)]


# -- residual ---------------------------------------------------------------------------------------------------------


def test_the_losing_block_keeps_nothing_of_attention_but_what_the_mlp_makes_of_it():
    """With a feed-forward that gives zero the wrong block is the identity, and the right one is not."""
    config = small_config(20, context_length=8, n_layers=1, d_model=32)
    ids_BT = torch.tensor([[1, 2, 3, 4]])
    right, lost = build(config, seed=1), residual.build_losing(config, seed=1, device="cpu")
    for model in (right, lost):
        model.blocks[0].attention.output.weight.data.copy_(torch.eye(32))
        model.blocks[0].mlp.down.weight.data.zero_()
    embedded_BTD = lost.embed(ids_BT)
    assert torch.equal(lost.hidden(ids_BT, Context()), lost.final_norm(embedded_BTD))
    assert not torch.allclose(right.hidden(ids_BT, Context()), right.final_norm(embedded_BTD), atol=1e-3)


def test_both_models_start_from_equal_weights():
    config = small_config(20, context_length=8, n_layers=2, d_model=32)
    right = dict(build(config, seed=5).named_parameters())
    lost = dict(residual.build_losing(config, seed=5, device="cpu").named_parameters())
    assert right.keys() == lost.keys()
    assert all(torch.equal(right[name], lost[name]) for name in right)


# -- positions --------------------------------------------------------------------------------------------------------


def short_model(position: Position) -> Decoder:
    config = replace(small_config(20, context_length=8, n_layers=1, d_model=32), position=position, init="gpt2")
    return build(config, seed=5).eval()


@pytest.mark.parametrize("name", positions.KINDS)
def test_a_longer_model_reads_the_beginning_as_before(name):
    """And only the learned table cannot read on."""
    model, ids_BT = short_model(positions.KINDS[name]), torch.arange(16)[None] % 20
    longer = positions.lengthened(model, 2)
    assert (longer is None) == (name == "learned")
    if longer is not None:
        torch.testing.assert_close(longer(ids_BT).logits_BTV[:, :8], model(ids_BT[:, :8]).logits_BTV)


def test_stretching_squeezes_places_into_those_that_were_learned():
    """Every second place of the stretched model is a place of the short one."""
    model = short_model(positions.KINDS["learned"])
    (drawn,) = positions.stretched(model, 2).values()
    assert torch.equal(drawn.position.weight[::2], model.position.weight) and len(drawn.position.weight) == 16
    model = short_model(positions.KINDS["rotary"])
    drawn = positions.stretched(model, 2)["stretched"]
    for one in (model, drawn):
        one.reserve_positions(8)
    short_TK, long_TK = model.rotation.cos_TK, drawn.rotation.cos_TK
    torch.testing.assert_close(long_TK[0:8:2], short_TK[:4])
    assert set(positions.stretched(model, 2)) == {"stretched", "YaRN"} and not positions.stretched(model, 1)


def test_the_loss_at_each_place_is_the_mean_over_rows(tmp_path):
    model, tokenizer = short_model(positions.KINDS["rotary"]), train_characters(["abcdefghij"], specials="none")
    model = build(replace(model.config, vocab_size=tokenizer.vocab_size), seed=1)
    shards = write_shards([Document(text="abcdefghij" * 5, origin="")], tokenizer, tmp_path / "tokens")
    ids = tokenizer.encode_prompt("abcdefghij" * 5, whole=True)
    by_place: list[list[float]] = [[] for _ in range(8)]
    for start in range(0, len(ids) - 1, 8):
        row = torch.tensor([ids[start : start + 9]])
        for place, loss in enumerate(nll(model(row[:, :-1]).logits_BTV, row[:, 1:])[0].tolist()):
            by_place[place].append(loss)
    expected = [sum(losses) / len(losses) for losses in by_place]
    assert positions.loss_by_place(model.eval(), shards) == pytest.approx(expected, abs=1e-5)


# -- letters ----------------------------------------------------------------------------------------------------------


def test_tasks_are_true_balanced_and_new():
    train = letters.draw_tasks(1, "train", 400)
    known = {task.word for task in train}
    asked = letters.draw_tasks(1, "asked", 80, skip=known)
    assert all(task.word.count(task.letter) == task.count for task in train + asked)
    assert not known & {task.word for task in asked}
    assert [sum(task.count == count for task in asked) for count in range(4)] == [20] * 4


def test_only_answers_count_and_the_rows_go_round():
    tasks = letters.draw_tasks(1, "train", 10)
    reader = letters.Reader(
        name="characters",
        title=letters.Bilingual("", ""),
        tokenizer=train_characters(letters.document(task, spelled=False) for task in tasks),
        spelled=False,
    )
    rows = letters.AnswerRows.of(reader, tasks)
    batch = rows.rows(8, 4)
    answers = [
        reader.tokenizer.decode(targets[weights > 0].tolist())
        for targets, weights in zip(batch.ids_BS, batch.weights_BS, strict=True)
    ]
    assert answers == [str(tasks[index].count) for index in (8, 9, 0, 1)]
    assert torch.equal(rows.rows(10, 2).ids_BS, rows.rows(0, 2).ids_BS)


# -- sampling ---------------------------------------------------------------------------------------------------------


def test_repetition_and_diversity_on_rows_counted_by_hand():
    loop = sampling.measure_rows([(1, 2, 3, 4) * 3], [0.0])
    assert (loop.distinct_2, loop.repeated_4) == (4 / 11, 5 / 9)
    fresh = sampling.measure_rows([tuple(range(12))], [0.0])
    assert (fresh.distinct_2, fresh.repeated_4) == (1.0, 0.0)


def test_the_surprise_of_the_real_text_is_that_of_its_tokens_after_the_beginning():
    text = "the quick brown fox jumps over the lazy dog"
    tokenizer = train_characters([text])
    model = build(small_config(tokenizer.vocab_size, context_length=96, n_layers=1, d_model=32), seed=1)
    trained = sampling.Trained(model=model, losses=((1, 0.0),), seconds=0.0)
    measured = sampling.measure_real(trained, tokenizer, [text], sampling.QUICK)
    row = torch.tensor([[tokenizer.bos_id, *tokenizer.encode(text).ids]])
    nats_T = nll(model(row[:, :-1]).logits_BTV, row[:, 1:])[0]
    part = nats_T[sampling.PROMPT_TOKENS : sampling.PROMPT_TOKENS + sampling.QUICK.new_tokens]
    assert measured.surprise == pytest.approx(part.mean().item(), rel=1e-5)
    assert measured.length == sampling.QUICK.new_tokens


# -- a person's own text ----------------------------------------------------------------------------------------------


def test_the_end_of_an_own_text_is_held_out(tmp_path):
    path = tmp_path / "book.txt"
    path.write_text("".join(f"第{index}句。" for index in range(5_000)), encoding="utf-8")
    corpus = choose_corpus(LessonSettings(text=path))
    assert all(len(passage) == PASSAGE_CHARACTERS and passage not in corpus.train[0] for passage in corpus.held_out)


def test_a_text_that_is_too_short_is_refused_with_its_size(tmp_path):
    path = tmp_path / "note.txt"
    path.write_text("short", encoding="utf-8")
    with pytest.raises(InputError) as caught:
        choose_corpus(LessonSettings(text=path))
    assert "5 characters" in caught.value.found and "6,000" in caught.value.hint
