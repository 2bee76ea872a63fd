"""How a tokenizer cuts a text: tokens for each character and word of every script, the words cut worst, the speed.

    texts -> TextSample (bounded, spread evenly) -> Measurement, one for each tokenizer

A token belongs to the script of the first letter that it covers: `" hello"` is LATIN, `"，他"` is HAN. A character that
takes several tokens (a rare Chinese character as three bytes) counts each of them. A word is a run of letters of one
script. Chinese is written without spaces, so its words are not counted; there, single characters take their place.
"""

from __future__ import annotations

import time
from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from statistics import median

from pellucid.errors import TokenizerError
from pellucid.tokens.browse import label_of
from pellucid.tokens.encoding import Encoding
from pellucid.tokens.patterns import segments
from pellucid.tokens.scripts import HAN, NOT_WRITING, NUMBER, is_mark, script_of_character
from pellucid.tokens.tokenizer import Tokenizer
from pellucid.tokens.vocabulary import Kind

SAMPLE_CHARACTERS = 300_000  # about so many are measured; more would change no figure that is shown
BLOCK = 1 << 12  # characters: the unit in which a text is thinned and measured
ROUNDS = 3  # of encoding the sample, for the speed
NUM_WORST = 10
SHORTEST_WORD = 4  # letters: in one of three, three tokens may mean nothing
Span = tuple[int, int]
_Cut = tuple[int, ...]  # the ids of the tokens that one occurrence of a word became


@dataclass(frozen=True, kw_only=True)
class TextSample:
    """The part of a text that is measured."""

    blocks: tuple[str, ...]
    total_characters: int  # of the whole text

    @property
    def num_characters(self) -> int:
        """The characters that are measured."""
        return sum(map(len, self.blocks))

    @cached_property
    def scripts(self) -> tuple[tuple[str, ...], ...]:
        """The script of every character, block by block; a mark has the script of the letter before it."""
        return tuple(tuple(_scripts(block)) for block in self.blocks)

    @cached_property
    def words(self) -> tuple[tuple[Span, ...], ...]:
        """Where the words stand, block by block: runs of letters of one script; in Chinese, every character."""
        return tuple(tuple(_words(scripts)) for scripts in self.scripts)


@dataclass(frozen=True, kw_only=True)
class ScriptMeasure:
    """What one script of a text became."""

    script: str
    num_characters: int
    num_bytes: int
    num_words: int  # runs of letters; 0 for Chinese and for what is no letter
    num_tokens: int

    @property
    def tokens_per_character(self) -> float:
        """Tokens for each character."""
        return self.num_tokens / self.num_characters

    @property
    def tokens_per_word(self) -> float | None:
        """Tokens for each word; None where words are not counted."""
        return self.num_tokens / self.num_words if self.num_words else None

    @property
    def characters_per_token(self) -> float | None:
        """Characters for each token; None where no token begins in this script."""
        return self.num_characters / self.num_tokens if self.num_tokens else None

    @property
    def bytes_per_token(self) -> float | None:
        """UTF-8 bytes for each token; None where no token begins in this script."""
        return self.num_bytes / self.num_tokens if self.num_tokens else None


@dataclass(frozen=True, kw_only=True)
class CutWord:
    """A word, or a Chinese character, and how it is cut."""

    text: str
    script: str
    count: int  # how often it occurs
    num_tokens: float  # on average: the neighbours of a word may change its cuts
    parts: tuple[str, ...]  # the labels of its tokens where it first occurs

    @property
    def tokens_per_character(self) -> float:
        """Tokens for each character."""
        return self.num_tokens / len(self.text)


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """One tokenizer on one sample."""

    kind: Kind
    vocab_size: int
    losses: tuple[str, ...]
    num_characters: int
    num_bytes: int
    num_tokens: int
    num_unknown: int  # tokens that stand for text which was lost
    scripts: tuple[ScriptMeasure, ...]  # the most frequent first
    worst_words: tuple[CutWord, ...]
    worst_han: tuple[CutWord, ...]  # Chinese characters that take several tokens
    megabytes_per_second: float  # of encoding the sample to ids: the median of several rounds

    @property
    def tokens_per_character(self) -> float:
        """Tokens for each character, spaces and signs included."""
        return self.num_tokens / self.num_characters

    @property
    def bytes_per_token(self) -> float | None:
        """UTF-8 bytes for each token; None for a text that became no token."""
        return self.num_bytes / self.num_tokens if self.num_tokens else None


def draw_sample(texts: Iterable[str], total_characters: int, *, limit: int = SAMPLE_CHARACTERS) -> TextSample:
    """A part of some texts of about `limit` characters, in blocks spread evenly from beginning to end.

    `total_characters`: of all the texts. Raises TokenizerError where there is no text.

    >>> sample = draw_sample(["one two three four " * 1_000], 19_000, limit=5_000)
    >>> len(sample.blocks), sample.num_characters < 9_000
    (2, True)
    """
    share = min(1.0, limit / max(total_characters, 1))
    blocks: list[str] = []
    seen = used = 0
    for text in texts:
        for block in _blocks(text):
            if block and used <= seen * share:
                blocks.append(block)
                used += len(block)
            seen += len(block)
    if not blocks:
        raise TokenizerError("there is no text to measure a tokenizer on", hint="give at least one character")
    return TextSample(blocks=tuple(blocks), total_characters=seen)


def _blocks(text: str) -> Iterator[str]:
    """A text in blocks that end where a piece ends; where none ends for long, inside of it."""
    for block in segments(text, BLOCK):
        step = BLOCK if len(block) > 2 * BLOCK else len(block)
        yield from (block[start : start + step] for start in range(0, len(block), step or 1))


def measure(tokenizer: Tokenizer, sample: TextSample) -> Measurement:
    """Measure a tokenizer on a sample.

    >>> from pellucid.tokens.train import train_characters
    >>> measured = measure(train_characters(["hello 中国"]), draw_sample(["hello 中国"], 8))
    >>> [(one.script, one.tokens_per_character, one.tokens_per_word) for one in measured.scripts[:2]]
    [('LATIN', 1.0, 5.0), ('HAN', 1.0, None)]
    """
    tokens: Counter[str] = Counter()
    cuts: defaultdict[tuple[str, str], list[_Cut]] = defaultdict(list)
    num_unknown = 0
    for text, scripts, words in zip(sample.blocks, sample.scripts, sample.words, strict=True):
        encoding = tokenizer.encode(text)
        num_unknown += tokenizer.count_unknown(encoding.ids)
        tokens.update(_script_of_span(scripts, span) for span in encoding.offsets)
        for start, end in words:
            cuts[text[start:end], scripts[start]].append(_cut(encoding, start, end))
    num_bytes = sum(len(block.encode("utf-8")) for block in sample.blocks)
    cut_words = [_cut_word(tokenizer, *key, found) for key, found in cuts.items()]
    return Measurement(
        kind=tokenizer.kind,
        vocab_size=tokenizer.vocab_size,
        losses=tokenizer.losses,
        num_characters=sample.num_characters,
        num_bytes=num_bytes,
        num_tokens=tokens.total(),
        num_unknown=num_unknown,
        scripts=_measures(sample, tokens),
        worst_words=_worst(word for word in cut_words if word.script != HAN and len(word.text) >= SHORTEST_WORD),
        worst_han=_worst(word for word in cut_words if word.script == HAN and word.num_tokens > 1),
        megabytes_per_second=measure_speed(tokenizer, sample.blocks, num_bytes),
    )


def measure_all(tokenizers: Mapping[str, Tokenizer], sample: TextSample) -> dict[str, Measurement]:
    """Measure several tokenizers, name -> tokenizer, on one sample; an error says which of them has it."""
    measured = {}
    for name, tokenizer in tokenizers.items():
        try:
            measured[name] = measure(tokenizer, sample)
        except TokenizerError as error:
            raise TokenizerError(error.what, found=error.found, where=name, hint=error.hint) from error
    return measured


def measure_speed(tokenizer: Tokenizer, texts: Sequence[str], num_bytes: int) -> float:
    """Megabytes of text encoded to ids in a second: the median of several rounds."""
    seconds = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        tokenizer.encode_ids(texts)
        seconds.append(time.perf_counter() - began)
    return num_bytes / 1e6 / median(seconds)


def _scripts(text: str) -> Iterator[str]:
    before = ""
    for character in text:
        script = before if before and is_mark(character) else script_of_character(character)
        before = script
        yield script


def _words(scripts: Sequence[str]) -> Iterator[Span]:
    for script, run in groupby(range(len(scripts)), key=scripts.__getitem__):
        places = list(run)
        if script == HAN:
            yield from ((place, place + 1) for place in places)
        elif script not in NOT_WRITING:
            yield places[0], places[-1] + 1


def _script_of_span(scripts: Sequence[str], span: Span) -> str:
    """The script of the first letter of a span; without letters NUMBER, else that of its first character."""
    start, end = span
    inside = scripts[start : max(end, start + 1)] or scripts[-1:]
    letter = next((script for script in inside if script not in NOT_WRITING), None)
    return letter or (NUMBER if NUMBER in inside else inside[0])


def _cut(encoding: Encoding, start: int, end: int) -> _Cut:
    """The tokens that cover some of `text[start:end]`."""
    first = bisect_right(encoding.offsets, start, key=lambda span: span[1])
    last = bisect_left(encoding.offsets, end, key=lambda span: span[0])
    return encoding.ids[first:last]


def _cut_word(tokenizer: Tokenizer, text: str, script: str, found: Sequence[_Cut]) -> CutWord:
    return CutWord(
        text=text,
        script=script,
        count=len(found),
        num_tokens=sum(map(len, found)) / len(found),
        parts=tuple(label_of(tokenizer, token_id) for token_id in found[0]),
    )


def _worst(words: Iterable[CutWord]) -> tuple[CutWord, ...]:
    """The words with the most tokens for each character, the frequent ones first; what occurs once is left out."""
    known = list(words)
    often = [word for word in known if word.count > 1] or known
    often.sort(key=lambda word: (-word.tokens_per_character, -word.count, word.text))
    return tuple(often[:NUM_WORST])


def _measures(sample: TextSample, tokens: Counter[str]) -> tuple[ScriptMeasure, ...]:
    characters: Counter[str] = Counter()
    sizes: Counter[str] = Counter()
    words: Counter[str] = Counter()
    for text, scripts, spans in zip(sample.blocks, sample.scripts, sample.words, strict=True):
        characters.update(scripts)
        for character, script in zip(text, scripts, strict=True):
            sizes[script] += len(character.encode("utf-8"))
        words.update(scripts[start] for start, _ in spans if scripts[start] != HAN)
    return tuple(
        ScriptMeasure(
            script=script,
            num_characters=count,
            num_bytes=sizes[script],
            num_words=words[script],
            num_tokens=tokens[script],
        )
        for script, count in characters.most_common()
    )
