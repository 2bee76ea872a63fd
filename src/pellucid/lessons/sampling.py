"""The effect of temperature, top-k and top-p on generated text, measured.

A small model is trained, then continues the beginnings of texts it never saw, once per setting. For each set of
continuations:

    distinct-2          different pairs of neighbouring tokens / all pairs           (diversity)
    repeated 4-grams    4-grams that stood in the same continuation before / all     (repetition)
    surprise            mean of -ln p under the model itself, before any stage, in nats

The real continuations of the same beginnings are measured too. A good setting comes near them; it does not maximise
any of these measures. The figures hold for this model and this text only.

Source: Li et al. 2016 (distinct-n), Holtzman et al. 2020 §4 (repetition, and likelihood that is too high).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pellucid.counts import counted
from pellucid.engine.generate import complete
from pellucid.engine.request import Request
from pellucid.engine.runners.torch_runner import TorchRunner
from pellucid.engine.sampling.settings import SamplingSettings
from pellucid.errors import InputError
from pellucid.evaluate.likelihood import token_logprobs
from pellucid.events import NULL, Event, Recorder
from pellucid.lessons.apprentice import Corpus, Course, Trained, choose_corpus, rows_of, small_config, teach
from pellucid.lessons.page import FINDING, QUESTION, SETUP, Bilingual, Chart, LessonPage, LessonTable, Paragraph
from pellucid.lessons.settings import LessonSettings
from pellucid.model.build import build
from pellucid.tokens.tokenizer import Tokenizer
from pellucid.tokens.train import train_bpe

CONTEXT = 96
PROMPT_TOKENS = 16


@dataclass(frozen=True, kw_only=True)
class SamplingSize:
    """How large the trial is."""

    vocab_size: int
    n_layers: int
    d_model: int
    course: Course
    continuations: int  # per setting
    new_tokens: int  # at most, per continuation


FULL = SamplingSize(
    vocab_size=1024, n_layers=3, d_model=96, course=Course(steps=200, rows=16), continuations=24, new_tokens=48
)
QUICK = SamplingSize(
    vocab_size=300, n_layers=1, d_model=32, course=Course(steps=3, rows=2), continuations=2, new_tokens=12
)

TEMPERATURES = (0.0, 0.5, 1.0, 1.5)
TOP_KS = (5, 50)
TOP_PS = (0.5, 0.9)


@dataclass(frozen=True, kw_only=True)
class SampledTexts:
    """The measures of one set of continuations."""

    distinct_2: float
    repeated_4: float
    surprise: float  # nats per token
    length: float  # tokens, mean

    def distance(self, real: SampledTexts) -> float:
        """The distance to the real continuations: differences of the shares, and the relative one of surprise."""
        shares = abs(self.distinct_2 - real.distinct_2) + abs(self.repeated_4 - real.repeated_4)
        return shares + abs(self.surprise - real.surprise) / max(real.surprise, 1e-9)


def trial(settings: LessonSettings, *, recorder: Recorder = NULL) -> LessonPage:
    """Train a model, then continue the same beginnings under each setting."""
    size = QUICK if settings.quick else FULL
    corpus = choose_corpus(settings, recorder=recorder)
    tokenizer = train_bpe(corpus.train, size.vocab_size, specials="none", recorder=recorder)
    config = small_config(tokenizer.vocab_size, context_length=CONTEXT, n_layers=size.n_layers, d_model=size.d_model)
    model = build(config, seed=settings.seed, device=settings.device)
    with rows_of(corpus.train, tokenizer, context_length=CONTEXT, seed=settings.seed) as rows:
        trained = teach(model, rows, size.course, seed=settings.seed, name="sampling", recorder=recorder)
    beginnings = choose_beginnings(corpus, tokenizer, size)
    real = measure_real(trained, tokenizer, beginnings, size)
    found: dict[str, SampledTexts] = {}
    for name, knobs in list_settings().items():
        found[name] = measure_setting(trained, tokenizer, beginnings, size, settings.seed, knobs)
        message = f"{name}: {counted(size.continuations, 'continuation')}"
        recorder.record(Event(name="lessons.sampled", message=message, data={"setting": name}))
    return _page(corpus, trained, size, real, found)


def list_settings() -> dict[str, dict[str, float]]:
    """The name and the sampling settings of each trial; one is the model's own distribution.

    >>> list(list_settings())[:3]
    ['temperature 0', 'temperature 0.5', 'temperature 1']
    """
    heat = {f"temperature {value:g}": {"temperature": value} for value in TEMPERATURES}
    return heat | {f"top-k {k}": {"top_k": k} for k in TOP_KS} | {f"top-p {p:g}": {"top_p": p} for p in TOP_PS}


def choose_beginnings(corpus: Corpus, tokenizer: Tokenizer, size: SamplingSize) -> list[str]:
    """Held-out texts long enough to be cut into a beginning and a real continuation.

    Raises InputError when the text has none.
    """
    long = [text for text in corpus.held_out if len(tokenizer.encode(text).ids) >= 2 * PROMPT_TOKENS]
    if not long:
        raise InputError(
            "no held-out passage is long enough to continue",
            found=counted(len(corpus.held_out), "passage"),
            hint=f"each must have {2 * PROMPT_TOKENS} tokens or more: give a longer text",
        )
    return long[: size.continuations]


def measure_real(trained: Trained, tokenizer: Tokenizer, beginnings: Sequence[str], size: SamplingSize) -> SampledTexts:
    """Measure the real continuations."""
    rows, surprises = [], []
    for text in beginnings:
        stop = PROMPT_TOKENS + size.new_tokens
        ids = tokenizer.encode(text).ids[PROMPT_TOKENS:stop]
        # The first token scored is the first of the text, because the row begins with <bos>.
        scored = token_logprobs(trained.model, tokenizer, text)[PROMPT_TOKENS:stop]
        rows.append(ids)
        surprises += [-token.logprob for token in scored]
    return measure_rows(rows, surprises)


def measure_setting(
    trained: Trained,
    tokenizer: Tokenizer,
    beginnings: Sequence[str],
    size: SamplingSize,
    seed: int,
    knobs: dict[str, float],
) -> SampledTexts:
    """Measure one setting: continue each beginning once."""
    rows, surprises = [], []
    for index, text in enumerate(beginnings):
        sampling = SamplingSettings(**knobs, seed=seed + index, max_new_tokens=size.new_tokens)  # type: ignore[arg-type]
        prompt = tokenizer.encode_prompt(text)[: PROMPT_TOKENS + 1]  # <bos> and the beginning
        completion = complete(TorchRunner(trained.model), tokenizer, Request(prompt_ids=prompt, sampling=sampling))
        rows.append(tuple(i for i in completion.ids if i != tokenizer.eos_id))
        surprises += [-logprob for logprob in completion.logprobs]
    return measure_rows(rows, surprises)


def measure_rows(rows: Sequence[Sequence[int]], surprises: Sequence[float]) -> SampledTexts:
    """Diversity over all rows together, repetition within each.

    >>> measure_rows([(1, 2, 1, 2, 1, 2), (1, 2)], [0.5, 1.5])
    SampledTexts(distinct_2=0.3333333333333333, repeated_4=0.3333333333333333, surprise=1.0, length=4.0)
    """
    pairs = [pair for row in rows for pair in ngrams(row, 2)]
    fours = [ngrams(row, 4) for row in rows]
    num_fours = sum(map(len, fours))
    return SampledTexts(
        distinct_2=len(set(pairs)) / max(1, len(pairs)),
        repeated_4=sum(len(row) - len(set(row)) for row in fours) / max(1, num_fours),
        surprise=sum(surprises) / max(1, len(surprises)),
        length=sum(map(len, rows)) / len(rows),
    )


def ngrams(row: Sequence[int], n: int) -> list[tuple[int, ...]]:
    """All n-grams of a row.

    >>> ngrams((1, 2, 3), 2)
    [(1, 2), (2, 3)]
    """
    return list(zip(*(row[start:] for start in range(n)), strict=False))


def _page(
    corpus: Corpus, trained: Trained, size: SamplingSize, real: SampledTexts, found: dict[str, SampledTexts]
) -> LessonPage:
    rows = [_row(Bilingual("the real continuations", "真实的后文"), real)]
    rows += [_row(Bilingual(name, _in_chinese(name)), measured) for name, measured in found.items()]
    return LessonPage(
        (
            Paragraph(heading=QUESTION, text=_QUESTION),
            Paragraph(heading=SETUP, text=_setup(corpus, trained, size)),
            LessonTable(caption=_CAPTION, columns=_COLUMNS, rows=tuple(rows)),
            _chart("repetition", "repeated 4-grams", "repeated_4", real, found),
            _chart("diversity", "distinct-2", "distinct_2", real, found),
            Paragraph(heading=FINDING, text=_finding(real, found)),
        )
    )


_QUESTION = Bilingual(
    "Which setting writes most like the text itself: not the likeliest words, not the wildest, but as varied as people?",
    "哪种设置写出来最像原文：既不是一味取最可能的词，也不是最天马行空，而是像真人的文字那样多样？",
)
_CAPTION = Bilingual("Continuations of unseen texts", "对未见过的文本的续写")
_COLUMNS = (
    Bilingual("setting", "设置"), Bilingual("distinct-2", "不同二元组"), Bilingual("repeated 4-grams", "重复四元组"),
    Bilingual("surprise (nats)", "意外度（纳特）"), Bilingual("tokens", "词元数"),
)  # fmt: skip


def _row(name: Bilingual, measured: SampledTexts) -> tuple:
    return (name, measured.distinct_2, measured.repeated_4, measured.surprise, measured.length)


def _in_chinese(name: str) -> str:
    return name.replace("temperature", "温度")


def _setup(corpus: Corpus, trained: Trained, size: SamplingSize) -> Bilingual:
    parameters = sum(parameter.numel() for parameter in trained.model.parameters())
    loss = trained.losses[-1][1]
    return Bilingual(
        f"A model of {parameters:,} parameters learned from {corpus.name.en} for {size.course.steps} updates "
        f"({trained.seconds:.0f} s, last loss {loss:.2f}). It continues up to {size.continuations} unseen beginnings of "
        f"{PROMPT_TOKENS} tokens by at most {size.new_tokens}, once per setting.",
        f"一个 {parameters:,} 参数的模型读{corpus.name.zh}，更新 {size.course.steps} 次（{trained.seconds:.0f} 秒，"
        f"最后损失 {loss:.2f}）。它续写至多 {size.continuations} 个未见过的开头（各 {PROMPT_TOKENS} 个词元），"
        f"每种设置续写一次，最多 {size.new_tokens} 个词元。",
    )


def _chart(name: str, label: str, measure: str, real: SampledTexts, found: dict[str, SampledTexts]) -> Chart:
    """Chart each family of settings as a curve from greedy to the model's own distribution; the real text is a dot."""
    greedy, plain = found["temperature 0"], found["temperature 1"]
    families = {
        "temperature": [found[f"temperature {value:g}"] for value in TEMPERATURES],
        "top-k": [greedy, *(found[f"top-k {k}"] for k in TOP_KS), plain],
        "top-p": [greedy, *(found[f"top-p {p:g}"] for p in TOP_PS), plain],
        "real text": [real],
    }
    series = {
        family: [(point.surprise, getattr(point, measure)) for point in points] for family, points in families.items()
    }
    title = f"Sampling: {label} against surprise (curves begin at greedy)"
    return Chart(
        name=f"sampling-{name}", title=title, x_label="surprise (nats per token)", y_label=label, series=series
    )


def _finding(real: SampledTexts, found: dict[str, SampledTexts]) -> Bilingual:
    greedy, hottest = found["temperature 0"], found[f"temperature {TEMPERATURES[-1]:g}"]
    nearest = min(found, key=lambda name: found[name].distance(real))
    return Bilingual(
        f"Always taking the likeliest token repeats {greedy.repeated_4:.0%} of its 4-grams; the real text repeats "
        f"{real.repeated_4:.0%}. Its surprise is {greedy.surprise:.2f} nats where the real text has {real.surprise:.2f}: "
        f"real text is not the likeliest text. At temperature {TEMPERATURES[-1]:g} the surprise is {hottest.surprise:.2f}. "
        f"Nearest to the real text in the three measures together: {nearest}; with so few continuations its neighbours "
        "may be as near.",
        f"每次都取最可能的词元，四元组有 {greedy.repeated_4:.0%} 是重复的；真实文本重复 {real.repeated_4:.0%}。"
        f"它的意外度是 {greedy.surprise:.2f} 纳特，真实文本是 {real.surprise:.2f}：真实的文字并不是最可能的文字。"
        f"温度 {TEMPERATURES[-1]:g} 时意外度为 {hottest.surprise:.2f}。三项合起来最接近真实文本的设置：{_in_chinese(nearest)}；"
        "续写不多，相邻的设置可能一样接近。",
    )
