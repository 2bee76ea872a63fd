"""Counting letters: easy when each letter is a token, hard when tokens hide them.

Three models of one shape learn the same questions (`How many r in rotaner? 2`, words made of syllables), and are asked
about words that none has seen. One reads characters, one byte-level BPE, and one the same BPE with the word spelled out
(`r o t a n e r`). The BPE model never sees a letter of a merged token: it has to learn by heart what is inside.

It is not a test of intelligence: it shows what a tokenizer leaves for the model to see.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from pellucid.data.microworld.draws import Draws
from pellucid.data.microworld.score import wilson
from pellucid.engine.generate import complete, encode_prompt
from pellucid.engine.settings import SamplingSettings
from pellucid.events import NULL, Recorder
from pellucid.lessons.apprentice import Course, Trained, small_config, smooth, teach
from pellucid.lessons.page import FINDING, QUESTION, SETUP, Bilingual, Chart, Page, Paragraph, Table
from pellucid.lessons.settings import LessonSettings
from pellucid.model.build import build
from pellucid.model.decoder import Decoder
from pellucid.tokens.tokenizer import Tokenizer
from pellucid.tokens.train import train_bpe, train_characters

CONSONANTS, VOWELS = "lnrst", "aeo"
MOST = 3  # of the letter asked for; every count from 0 to this is as frequent as the others
CONTEXT = 48
BPE_TOKENS = 512


@dataclass(frozen=True, kw_only=True)
class Size:
    """How large the trial is."""

    questions: int
    asked: int  # of which words that training never showed
    d_model: int
    course: Course


FULL = Size(questions=12_000, asked=200, d_model=64, course=Course(steps=300, rows=32))
QUICK = Size(questions=400, asked=12, d_model=32, course=Course(steps=4, rows=4))


@dataclass(frozen=True, kw_only=True)
class Task:
    """One word, one letter, and how often it occurs."""

    word: str
    letter: str
    count: int

    def prompt(self, *, spelled: bool) -> str:
        """The question up to where the answer begins.

        >>> Task(word="rotor", letter="r", count=2).prompt(spelled=True)
        'How many r in r o t o r?'
        """
        return f"How many {self.letter} in {' '.join(self.word) if spelled else self.word}?"


@dataclass(frozen=True, kw_only=True)
class Reader:
    """One way of reading the same questions."""

    name: str
    title: Bilingual
    tokenizer: Tokenizer
    spelled: bool


def trial(settings: LessonSettings, *, recorder: Recorder = NULL) -> Page:
    """Train the three readers and ask each about unseen words."""
    size = QUICK if settings.quick else FULL
    train_tasks = draw_tasks(settings.seed, "train", size.questions)
    known = {task.word for task in train_tasks}
    asked = draw_tasks(settings.seed, "asked", size.asked, skip=known)
    readers = build_readers(train_tasks)
    trained = [_teach(reader, train_tasks, size, settings, recorder) for reader in readers]
    correct = [count_correct(one.model, reader, asked) for one, reader in zip(trained, readers, strict=True)]
    return _page(size, readers, trained, correct, asked)


def draw_tasks(seed: int, part: str, count: int, *, skip: set[str] | frozenset[str] = frozenset()) -> list[Task]:
    """Questions about made-up words, all counts equally frequent; words in `skip` do not occur.

    >>> [task.count for task in draw_tasks(1, "train", 5)]
    [0, 1, 2, 3, 0]
    """
    draws = Draws(f"letters {seed} {part}")
    tasks: list[Task] = []
    while len(tasks) < count:
        word = "".join(draws.one(CONSONANTS) + draws.one(VOWELS) for _ in range(2 + draws.below(3)))
        letter, wanted = draws.one(CONSONANTS + VOWELS), len(tasks) % (MOST + 1)
        if word.count(letter) == wanted and word not in skip:
            tasks.append(Task(word=word, letter=letter, count=wanted))
    return tasks


def build_readers(tasks: Sequence[Task]) -> list[Reader]:
    """Characters, byte-level BPE, and the same BPE with spelled words."""
    plain = [document(task, spelled=False) for task in tasks]
    characters, bpe = train_characters(plain), train_bpe(plain, BPE_TOKENS)
    return [
        Reader(name="characters", title=Bilingual("characters", "字符级"), tokenizer=characters, spelled=False),
        Reader(name="BPE", title=Bilingual("BPE", "BPE"), tokenizer=bpe, spelled=False),
        Reader(name="BPE, spelled", title=Bilingual("BPE, word spelled out", "BPE，单词逐字母拼出"), tokenizer=bpe, spelled=True),
    ]  # fmt: skip


def document(task: Task, *, spelled: bool) -> str:
    """A question with its answer, as training shows it."""
    return f"{task.prompt(spelled=spelled)} {task.count}"


def _teach(reader: Reader, tasks: Sequence[Task], size: Size, settings: LessonSettings, recorder: Recorder) -> Trained:
    config = small_config(reader.tokenizer.vocab_size, context_length=CONTEXT, n_layers=2, d_model=size.d_model)
    model = build(config, seed=settings.seed, device=settings.device)
    texts = (document(task, spelled=reader.spelled) for task in tasks)
    return teach(model, texts, reader.tokenizer, size.course, seed=settings.seed, name=reader.name, recorder=recorder)


def count_correct(model: Decoder, reader: Reader, tasks: Sequence[Task]) -> int:
    """How many of the tasks the model answers exactly, always taking its likeliest token."""
    greedy = SamplingSettings(temperature=0, max_new_tokens=4)
    prompts = [encode_prompt(reader.tokenizer, task.prompt(spelled=reader.spelled)) for task in tasks]
    answers = [complete(model, reader.tokenizer, prompt, greedy).text.strip() for prompt in prompts]
    return sum(answer == str(task.count) for answer, task in zip(answers, tasks, strict=True))


def _page(size: Size, readers: list[Reader], trained: list[Trained], correct: list[int], asked: list[Task]) -> Page:
    control = max(Counter(task.count for task in asked).values())
    tokens = [_tokens_per_word(reader, asked) for reader in readers]
    shares = [hits / len(asked) for hits in correct]
    rows = [
        _row(reader.title, hits, len(asked), length, one.seconds)
        for reader, hits, length, one in zip(readers, correct, tokens, trained, strict=True)
    ]
    rows.append(_row(Bilingual("control: always the same number", "对照：总答同一个数"), control, len(asked), 0.0, 0.0))
    return Page(
        (
            Paragraph(heading=QUESTION, text=_QUESTION),
            Paragraph(heading=SETUP, text=_setup(size, asked)),
            Table(caption=_CAPTION, columns=_COLUMNS, rows=tuple(rows)),
            Chart(
                name="letters",
                title="Learning to count letters",
                x_label="step",
                y_label="nats per token",
                series={reader.name: smooth(one.losses, 10) for reader, one in zip(readers, trained, strict=True)},
            ),
            Paragraph(heading=FINDING, text=_finding(shares, tokens)),
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


def _tokens_per_word(reader: Reader, tasks: Sequence[Task]) -> float:
    """Tokens of the word itself: those of the whole question less those of the question without it."""
    whole = sum(len(reader.tokenizer.encode(task.prompt(spelled=reader.spelled)).ids) for task in tasks)
    frame = sum(len(reader.tokenizer.encode(f"How many {task.letter} in?").ids) for task in tasks)
    return (whole - frame) / len(tasks)


def _setup(size: Size, asked: Sequence[Task]) -> Bilingual:
    example = document(asked[-1], spelled=False)
    steps, rows = size.course.steps, size.course.rows
    return Bilingual(
        f"Three models of one shape (2 blocks, width {size.d_model}) learn {size.questions:,} questions such as "
        f"“{example}” in {steps} updates of {rows} x {CONTEXT} tokens. BPE packs more questions into an update, which "
        "is to its advantage. All counts from 0 to 3 are equally frequent.",
        f"三个同样形状的模型（2 层，宽 {size.d_model}）学习 {size.questions:,} 道题，例如“{example}”，各更新 {steps} 次，"
        f"每次 {rows} × {CONTEXT} 个词元。BPE 每次更新能装下更多题目，这对它有利。答案 0 到 3 出现得一样多。",
    )


def _finding(shares: Sequence[float], tokens: Sequence[float]) -> Bilingual:
    characters, bpe, spelled = (f"{share:.0%}" for share in shares)
    return Bilingual(
        f"Reading characters the model is right in {characters}, reading BPE in {bpe}. A BPE token is one number: "
        f"the {tokens[1]:.1f} tokens of a word say nothing of their letters, and what is inside each must be learned by "
        f"heart from examples. The same BPE with the word spelled out reaches {spelled}: what was missing is sight "
        "of the letters, not skill at counting.",
        f"按字符读，答对 {characters}；按 BPE 读，答对 {bpe}。一个 BPE 词元只是一个编号：一个词的 {tokens[1]:.1f} 个词元"
        f"并不透露其中的字母，每个词元里有什么，只能靠例子死记。同一个 BPE，把单词逐字母拼出来，就答对 {spelled}："
        "缺的是看见字母，不是数数的本事。",
    )
