"""What one token is worth: letters, words and Chinese characters for each token, measured on the reader's own tokenizers.

Tutorials give one number (3 to 4 letters, three quarters of a word, 1 or 1.8 Chinese characters), as if it belonged to
tokens. It belongs to a vocabulary and a text: the lesson measures it for several of both, and shows how well-known
vocabularies cut two words.

It is *not* a ranking: a token that holds more letters makes a text shorter, and the vocabulary larger.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pellucid.events import NULL, Recorder
from pellucid.lessons.apprentice import Corpus, choose_corpus
from pellucid.lessons.known_cuts import KNOWN_CUTS, MAKING_COMMAND, TEXTS
from pellucid.lessons.page import (
    FINDING,
    QUESTION,
    SETUP,
    BarChart,
    Bilingual,
    LessonPage,
    LessonTable,
    Paragraph,
)
from pellucid.lessons.settings import LessonSettings
from pellucid.tokens.choose import train_every_kind
from pellucid.tokens.compare import Measurement, ScriptMeasure, draw_sample, measure_all
from pellucid.tokens.tokenizer import Tokenizer
from pellucid.tokens.train import train_bpe

VOCABULARIES = (512, 2_048, 8_192)
OF_OTHER_KINDS = 2_048
OTHER_KINDS = {"Unigram": "unigram", "WordPiece": "wordpiece", "words": "word"}
IN_CHINESE = {"characters": "字符", "words": "整词"}
NONE = Bilingual("–", "–")
LATIN, HAN = "LATIN", "HAN"


def measurement(
    settings: LessonSettings, *, tokenizers: Mapping[str, Tokenizer], recorder: Recorder = NULL
) -> LessonPage:
    """Measure the tokenizers on held-out text; without any, train one of each kind, and BPE with growing vocabularies."""
    corpus = choose_corpus(settings, recorder=recorder)
    texts = (*corpus.train, *corpus.held_out) if tokenizers else corpus.held_out
    sample = draw_sample(texts, sum(map(len, texts)))
    chosen = tokenizers or train_some(corpus.train)
    measured = measure_all(chosen, sample)
    finding = _finding(measured) if settings.text else _finding(measured) + FEW_WORDS
    return _page(_setup(corpus, trained=not tokenizers), measured, finding)


def train_some(texts: Sequence[str]) -> dict[str, Tokenizer]:
    """A tokenizer of each kind, BPE in three sizes; a text may be too plain to fill the largest.

    >>> made = train_some(["ab " * 9])
    >>> [tokenizer.kind for tokenizer in made.values()]  # the sizes of all three BPE are the same
    ['char', 'bpe', 'unigram', 'wordpiece', 'word']
    """
    every = train_every_kind(texts, OF_OTHER_KINDS)
    sizes = [train_bpe(texts, size, specials="none") for size in VOCABULARIES]
    others = {name: every[kind] for name, kind in OTHER_KINDS.items()}
    return {"characters": every["char"], **{f"BPE {one.vocab_size:,}": one for one in sizes}, **others}


def _page(setup: Bilingual, measured: Mapping[str, Measurement], finding: Bilingual) -> LessonPage:
    return LessonPage(
        (
            Paragraph(
                heading=QUESTION,
                text=Bilingual(
                    "How many letters, words or Chinese characters is one token? Tutorials answer: 3 to 4 letters, three "
                    "quarters of a word, one Chinese character, or 1.8 of them. Which is right?",
                    "一个词元等于几个字母、几个单词、几个汉字？教程的回答是：3 到 4 个字母，四分之三个单词，一个汉字，或者 1.8 个汉字。哪个对？",
                ),
            ),
            Paragraph(heading=SETUP, text=setup),
            _table(measured),
            _chart(measured),
            Paragraph(heading=FINDING, text=finding),
            _known(),
            Paragraph(heading=Bilingual("Where these facts come from", "这些事实从哪里来"), text=_sources()),
        )
    )


CONCLUSION = Bilingual(
    ". So no such number belongs to tokens. It belongs to a vocabulary and a text. A larger vocabulary has longer tokens, and "
    "so has one that was learned from text like this; text unlike it is cut more finely. Each claim was true of somebody's "
    "vocabulary and somebody's text. Measure yours.",
    "。所以没有一个属于“词元”的数，它属于一份词表和一份文本。词表更大，或是从相似的文本学来的，词元就更长；遇到不相似的文本，"
    "就切得更碎。教程里的每个数，在某人的词表和某人的文本上都曾是真的。请量你自己的。",
)
FEW_WORDS = Bilingual(
    " The microworld has some hundred words, so a small vocabulary already holds them whole; a book is another matter: "
    "--text BOOK.txt.",
    "微型世界只有几百个词，小词表就装得下整个的词；一本书就不一样了：--text 书.txt。",
)
COUNTED = Bilingual(
    " The letters of a script are divided by the tokens that begin with one of them, with the space before it or without. A "
    "word is a run of letters; Chinese has no spaces, so there only characters are counted. An unknown token stands for text "
    "that is lost: only words and WordPiece have it, the others fall back to bytes.",
    "用一种文字的字母数，除以其中以它开头的词元数（前面带不带空格都算）。连着的字母算一个单词；中文没有空格，所以只数汉字。"
    "未知词元代表丢失的文本：只有整词和 WordPiece 会有，其余的改用字节拼写。",
)


def _setup(corpus: Corpus, *, trained: bool) -> Bilingual:
    if not trained:
        return Bilingual("Your tokenizers read: ", "你的分词器读的是：") + corpus.name + Bilingual(".", "。") + COUNTED
    return (
        Bilingual(
            "Seven tokenizers learn from the same text: one from characters, three by byte-pair encoding (BPE) with growing "
            "vocabularies, and one each by Unigram, WordPiece and whole words. They read a part of it that they have not seen: ",
            "七个分词器学习同一份文本：一个按字符，三个用字节对编码（BPE），词表一个比一个大，Unigram、WordPiece、整词各一个；"
            "然后读其中没有见过的部分：",
        )
        + corpus.name
        + Bilingual(
            ". To measure your own: --tokenizer DIR (as often as you like), and --text FILE.",
            "。要量你自己的：--tokenizer DIR（可以写多次），和 --text FILE。",
        )
        + COUNTED
    )


def _table(measured: Mapping[str, Measurement]) -> LessonTable:
    claims = (
        Bilingual("tutorials say", "教程说"),
        NONE,
        Bilingual("3–4", "3–4"),
        Bilingual("0.75", "0.75"),
        Bilingual("1, 1.8", "1，1.8"),
        NONE,
    )
    rows = [(_name(name), one.vocab_size, *map(_cell, _worth(one)), one.num_unknown) for name, one in measured.items()]
    return LessonTable(
        caption=Bilingual("What one token is worth", "一个词元值多少"),
        columns=(
            Bilingual("tokenizer", "分词器"),
            Bilingual("vocabulary", "词表"),
            Bilingual("Latin letters", "拉丁字母"),
            Bilingual("words", "单词"),
            Bilingual("Chinese characters", "汉字"),
            Bilingual("unknown tokens", "未知词元"),
        ),
        rows=(*rows, claims),
        digits=2,
    )


def _name(name: str) -> Bilingual:
    return Bilingual(name, IN_CHINESE.get(name, name))


def _cell(value: float | None) -> Bilingual | float:
    return NONE if value is None else value


def _worth(measured: Measurement) -> tuple[float | None, float | None, float | None]:
    """Latin letters, words and Chinese characters for each token; None for what the text does not have."""
    latin, han = _script(measured, LATIN), _script(measured, HAN)
    words = latin.num_words / latin.num_tokens if latin and latin.num_tokens else None
    letters, characters = (one.characters_per_token if one else None for one in (latin, han))
    return letters, words, characters


def _script(measured: Measurement, name: str) -> ScriptMeasure | None:
    return next((one for one in measured.scripts if one.script == name), None)


def _chart(measured: Mapping[str, Measurement]) -> BarChart:
    groups = (
        Bilingual("Latin letters", "拉丁字母"),
        Bilingual("words", "单词"),
        Bilingual("Chinese characters", "汉字"),
    )
    worths = {_name(name): _worth(one) for name, one in measured.items()}
    there = [place for place in range(len(groups)) if any(worth[place] is not None for worth in worths.values())]
    return BarChart(
        name="token-worth",
        title=Bilingual("What one token is worth", "一个词元值多少"),
        x_label=Bilingual("for each token", "每个词元"),
        groups=tuple(groups[place] for place in there),
        series={name: [worth[place] for place in there] for name, worth in worths.items()},
    )


def _finding(measured: Mapping[str, Measurement]) -> Bilingual:
    worths = [_worth(one) for one in measured.values()]
    units = (Bilingual("letters", "个字母"), Bilingual("words", "个单词"), Bilingual("Chinese characters", "个汉字"))
    ranges = []
    for place, unit in enumerate(units):
        if values := [value for worth in worths if (value := worth[place]) is not None]:
            low, high = f"{min(values):.2f}", f"{max(values):.2f}"
            ranges.append(Bilingual(f"{low} to {high} {unit.en}", f"{low} 到 {high} {unit.zh}"))
    found = Bilingual(", ".join(one.en for one in ranges), "、".join(one.zh for one in ranges))
    return Bilingual("Here one token is ", "这里一个词元是 ") + found + CONCLUSION


def _known() -> LessonTable:
    rows: list[tuple[Bilingual | float | int, ...]] = [
        (Bilingual(one.vocabulary, one.vocabulary), one.size, *(_joined(one.cuts[text]) for text in TEXTS))
        for one in KNOWN_CUTS
    ]
    return LessonTable(
        caption=Bilingual("How well-known vocabularies cut two words", "知名词表怎样切两个词"),
        columns=(
            Bilingual("vocabulary", "词表"),
            Bilingual("tokens", "词元数"),
            *(Bilingual(text, text) for text in TEXTS),
        ),
        rows=tuple(rows),
    )


def _joined(parts: Sequence[str]) -> Bilingual:
    cut = " | ".join(parts)
    return Bilingual(cut, cut)


def _sources() -> Bilingual:
    files = "; ".join(f"{one.vocabulary}: {one.source}" for one in KNOWN_CUTS)
    return Bilingual(
        "They were computed from the published files by the libraries that the files were made for, and are checked again by "
        f"{MAKING_COMMAND}. Two hexadecimal digits are a byte that is no character alone, · is a space, ## goes on the token "
        f"before, [UNK] is lost. {files}.",
        f"它们由这些文件所属的程序库从公开的文件算出，并由 {MAKING_COMMAND} 再次核对。两位十六进制数是不成字的一个字节，"
        f"· 是空格，## 接在前一个词元后面，[UNK] 是丢失的。{files}。",
    )
