"""Tokenization and counting letters: easy when each letter is a token, hard when a token holds several letters.

Three models of one shape learn the same questions (`rotaner: r=2`, words made of syllables). Then they are asked about
words that none has seen. One reads characters, one byte-level BPE, and one the same BPE with the word spelled out
(`r o t a n e r: r=2`). The BPE model never sees the letters of a merged token: it has to memorise them.

Only the answers count in the loss: the words themselves are random, and nothing about them could be learned.

It is *not* a test of intelligence: it shows how much of the text a tokenizer lets the model see.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pellucid.data.batch import TokenRows
from pellucid.data.microworld.score import wilson
from pellucid.engine.generate import complete
from pellucid.engine.request import Request
from pellucid.engine.runners.torch_runner import TorchRunner
from pellucid.engine.sampling.settings import SamplingSettings
from pellucid.events import NULL, Recorder
from pellucid.keyed_random import Draws
from pellucid.lessons.apprentice import Course, Trained, small_config, smooth, teach
from pellucid.lessons.page import FINDING, QUESTION, SETUP, Bilingual, Chart, LessonPage, LessonTable, Paragraph
from pellucid.lessons.settings import LessonSettings
from pellucid.model.build import build
from pellucid.model.decoder import Decoder
from pellucid.tokens.tokenizer import Tokenizer
from pellucid.tokens.train import train_bpe, train_characters

CONSONANTS, VOWELS = "bdlmnrst", "aeiou"
MOST = 3  # of the letter asked for; every count from 0 to this is as frequent as the others
CONTEXT = 32
BPE_TOKENS = 512


@dataclass(frozen=True, kw_only=True)
class LettersSize:
    """How large the trial is."""

    questions: int
    asked: int  # of the questions, those about words that are not in the training text
    d_model: int
    course: Course


FULL = LettersSize(questions=12_000, asked=200, d_model=64, course=Course(steps=500, rows=48))
QUICK = LettersSize(questions=400, asked=12, d_model=32, course=Course(steps=4, rows=4))


@dataclass(frozen=True, kw_only=True)
class LettersTask:
    """One word, one letter, and how often it occurs."""

    word: str
    letter: str
    count: int

    def prompt(self, *, spelled: bool) -> str:
        """The question, without the answer.

        >>> LettersTask(word="rotor", letter="r", count=2).prompt(spelled=True)
        'r o t o r: r='
        """
        return f"{' '.join(self.word) if spelled else self.word}: {self.letter}="


@dataclass(frozen=True, kw_only=True)
class Reader:
    """One of the three models: a tokenizer, and whether words are spelled out."""

    name: str
    title: Bilingual
    tokenizer: Tokenizer
    spelled: bool


def trial(settings: LessonSettings, *, recorder: Recorder = NULL) -> LessonPage:
    """Train the three models and ask each about unseen words."""
    size = QUICK if settings.quick else FULL
    train_tasks = draw_tasks(settings.seed, "train", size.questions)
    known = {task.word for task in train_tasks}
    asked = draw_tasks(settings.seed, "asked", size.asked, skip=known)
    readers = build_readers(train_tasks)
    trained = [_teach(reader, train_tasks, size, settings, recorder) for reader in readers]
    correct = [count_correct(one.model, reader, asked) for one, reader in zip(trained, readers, strict=True)]
    return _page(size, readers, trained, correct, asked)


def draw_tasks(seed: int, part: str, count: int, *, skip: set[str] | frozenset[str] = frozenset()) -> list[LettersTask]:
    """Questions about made-up words, all counts equally frequent; words in `skip` do not occur.

    >>> [task.count for task in draw_tasks(1, "train", 5)]
    [0, 1, 2, 3, 0]
    """
    draws = Draws(f"letters {seed} {part}")
    tasks: list[LettersTask] = []
    while len(tasks) < count:
        word = "".join(draws.one(CONSONANTS) + draws.one(VOWELS) for _ in range(2 + draws.below(3)))
        letter, wanted = draws.one(CONSONANTS + VOWELS), len(tasks) % (MOST + 1)
        if word.count(letter) == wanted and word not in skip:
            tasks.append(LettersTask(word=word, letter=letter, count=wanted))
    return tasks


def build_readers(tasks: Sequence[LettersTask]) -> list[Reader]:
    """The three readers: characters, byte-level BPE, and the same BPE with spelled words."""
    plain = [document(task, spelled=False) for task in tasks]
    characters, bpe = train_characters(plain, specials="none"), train_bpe(plain, BPE_TOKENS, specials="none")
    return [
        Reader(name="characters", title=Bilingual("characters", "字符级"), tokenizer=characters, spelled=False),
        Reader(name="BPE", title=Bilingual("BPE", "BPE"), tokenizer=bpe, spelled=False),
        Reader(name="BPE, spelled", title=Bilingual("BPE, word spelled out", "BPE，单词逐字母拼出"), tokenizer=bpe, spelled=True),
    ]  # fmt: skip


def document(task: LettersTask, *, spelled: bool) -> str:
    """A question with its answer, as in the training text."""
    return f"{task.prompt(spelled=spelled)}{task.count}"


@dataclass(frozen=True)
class AnswerRows:
    """Training rows of one question each, where only the answer counts; every row comes once per epoch."""

    ids_NT: Tensor
    counts_NT: Tensor  # 1 where a token is part of an answer
    lengths_N: Tensor

    @classmethod
    def of(cls, reader: Reader, tasks: Sequence[LettersTask]) -> AnswerRows:
        """Encode questions and answers, all padded to the longest."""
        prompts = [reader.tokenizer.encode_prompt(task.prompt(spelled=reader.spelled)) for task in tasks]
        answers = [list(reader.tokenizer.encode(str(task.count)).ids) for task in tasks]
        ids_NT = torch.zeros(len(tasks), max(map(len, prompts)) + max(map(len, answers)), dtype=torch.int64)
        counts_NT = torch.zeros(ids_NT.shape)
        lengths_N = torch.zeros(len(tasks), dtype=torch.int64)
        for row, (prompt, answer) in enumerate(zip(prompts, answers, strict=True)):
            stop = len(prompt) + len(answer)
            ids_NT[row, :stop] = torch.tensor(prompt + answer)
            counts_NT[row, len(prompt) : stop] = 1
            lengths_N[row] = stop
        return cls(ids_NT, counts_NT, lengths_N)

    def rows(self, start: int, count: int) -> TokenRows:
        """The rows [start, start + count) of the run."""
        index_B = torch.arange(start, start + count)
        row_B = index_B % len(self.ids_NT)
        return TokenRows(
            ids_BS=self.ids_NT[row_B],
            weights_BS=self.counts_NT[row_B],
            lengths_B=self.lengths_N[row_B],
            first_token_B=row_B * self.ids_NT.size(1),
            index_B=index_B,
        )


def _teach(
    reader: Reader, tasks: Sequence[LettersTask], size: LettersSize, settings: LessonSettings, recorder: Recorder
) -> Trained:
    rows = AnswerRows.of(reader, tasks)
    config = small_config(reader.tokenizer.vocab_size, context_length=CONTEXT, n_layers=2, d_model=size.d_model)
    model = build(config, seed=settings.seed, device=settings.device)
    return teach(model, rows, size.course, seed=settings.seed, name=reader.name, recorder=recorder)


def count_correct(model: Decoder, reader: Reader, tasks: Sequence[LettersTask]) -> int:
    """How many of the tasks the model answers exactly with greedy decoding."""
    greedy = SamplingSettings(temperature=0, max_new_tokens=1)
    prompts = [reader.tokenizer.encode_prompt(task.prompt(spelled=reader.spelled)) for task in tasks]
    answers = [
        complete(TorchRunner(model), reader.tokenizer, Request(prompt_ids=prompt, sampling=greedy)).text
        for prompt in prompts
    ]
    return sum(answer == str(task.count) for answer, task in zip(answers, tasks, strict=True))


def _page(
    size: LettersSize, readers: list[Reader], trained: list[Trained], correct: list[int], asked: list[LettersTask]
) -> LessonPage:
    control = max(Counter(task.count for task in asked).values())
    tokens = [_tokens_per_word(reader, asked) for reader in readers]
    rows = [
        _row(reader.title, hits, len(asked), length, one.seconds)
        for reader, hits, length, one in zip(readers, correct, tokens, trained, strict=True)
    ]
    rows.append(_row(Bilingual("control: always the same number", "对照：总答同一个数"), control, len(asked), 0.0, 0.0))
    return LessonPage(
        (
            Paragraph(heading=QUESTION, text=_QUESTION),
            Paragraph(heading=SETUP, text=_setup(size, asked)),
            LessonTable(caption=_CAPTION, columns=_COLUMNS, rows=tuple(rows)),
            Chart(
                name="letters",
                title="Learning to count letters",
                x_label="step",
                y_label="nats per answer token",
                series={reader.name: smooth(one.losses, 10) for reader, one in zip(readers, trained, strict=True)},
            ),
            Paragraph(heading=FINDING, text=_finding(correct, len(asked), tokens)),
        )
    )


_QUESTION = Bilingual(
    "Why do large models miscount the letters of a word that they use every day?",
    "为什么大模型会数错一个它天天在用的单词里的字母？",
)
_CAPTION = Bilingual("Words that training never showed", "训练中从未出现的单词")
_COLUMNS = (
    Bilingual("reads", "读法"), Bilingual("asked", "题数"), Bilingual("correct", "答对"), Bilingual("share", "比例"),
    Bilingual("95 % from", "95 % 下限"), Bilingual("to", "上限"), Bilingual("tokens per word", "每词词元数"),
    Bilingual("trained (s)", "训练（秒）"),
)  # fmt: skip


def _row(title: Bilingual, hits: int, count: int, tokens: float, seconds: float) -> tuple:
    low, high = wilson(hits, count)
    return (title, count, hits, hits / count, low, high, tokens, seconds)


def _tokens_per_word(reader: Reader, tasks: Sequence[LettersTask]) -> float:
    """The mean number of tokens in a word: tokens of the question minus tokens of the question without the word."""
    whole = sum(len(reader.tokenizer.encode(task.prompt(spelled=reader.spelled)).ids) for task in tasks)
    frame = sum(len(reader.tokenizer.encode(f": {task.letter}=").ids) for task in tasks)
    return (whole - frame) / len(tasks)


def _setup(size: LettersSize, asked: Sequence[LettersTask]) -> Bilingual:
    example = document(asked[-1], spelled=False)
    steps, rows = size.course.steps, size.course.rows
    return Bilingual(
        f"Three models of one shape (2 blocks, width {size.d_model}) learn from the same {size.questions:,} questions, "
        f"such as “{example}”, in {steps} updates of {rows} questions. All counts from 0 to {MOST} are equally frequent.",
        f"三个同样形状的模型（2 层，宽 {size.d_model}）学习同样的 {size.questions:,} 道题，例如“{example}”，"
        f"各更新 {steps} 次，每次 {rows} 题。答案 0 到 {MOST} 出现得一样多。",
    )


def _finding(hits: Sequence[int], count: int, tokens: Sequence[float]) -> Bilingual:
    characters, bpe, spelled = (f"{hit / count:.1%}" for hit in hits)  # 199 of 200 is not 100 %
    measured = Bilingual(
        f"Reading characters the model is right in {characters}, reading BPE in {bpe}, reading the same BPE with the "
        f"word spelled out in {spelled}. ",
        f"按字符读，答对 {characters}；按 BPE 读，答对 {bpe}；同一个 BPE，把单词逐字母拼出来，答对 {spelled}。",
    )
    (_, _), (_, bpe_high), (spelled_low, _) = (wilson(hit, count) for hit in hits)
    if bpe_high >= spelled_low:
        return measured + Bilingual(
            "The intervals of the last two overlap: this run is too short to tell them apart.",
            "后两者的区间重叠：这次训练太短，还分不出高下。",
        )
    return measured + Bilingual(
        f"A BPE token is one number: the {tokens[1]:.1f} tokens of a word say nothing of their letters, and what is "
        "inside each must be learned by heart from examples. What was missing is sight of the letters, not skill at "
        "counting.",
        f"一个 BPE 词元只是一个编号：一个词的 {tokens[1]:.1f} 个词元并不透露其中的字母，每个词元里有什么，只能靠例子死记。"
        "缺的是看见字母，不是数数的本事。",
    )
