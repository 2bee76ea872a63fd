r"""Training a tokenizer of any kind: byte-level BPE, Unigram, WordPiece, words, characters.

BPE training starts from the 256 bytes and again and again joins the pair of neighbours that occurs most often, until
the vocabulary is full. `plain.py` is the same in fifteen lines, `merges.py` does it fast. Two things are decided here. While training, Chinese text is cut more finely than it will be later (`\p{Han}{1,4}`), so
that no token is a whole sentence or a comma with a word stuck to it; the file that is written has only the plain
pattern. And the sample is bounded: a text larger than `sample_bytes` is thinned evenly, so that its last page counts
like its first.

The result depends on the text and the settings only; there is no randomness.

Source: Sennrich et al. 2016, "Neural Machine Translation of Rare Words with Subword Units"; Gage 1994.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypedDict, TypeVar, Unpack

from pellucid.counts import counted
from pellucid.errors import TokenizerError
from pellucid.events import NULL, Event, Recorder
from pellucid.tokens.byte_characters import NUM_BYTES
from pellucid.tokens.layout import PLAIN, Specials, as_text, config_of, special_names, with_beginning
from pellucid.tokens.merge_limits import Limits
from pellucid.tokens.merges import learn_merges
from pellucid.tokens.models import bpe, character, unigram, word, wordpiece
from pellucid.tokens.models.wordpiece_words import count_words
from pellucid.tokens.patterns import DEFAULT_PATTERN, PATTERNS
from pellucid.tokens.pieces import count_pieces, find_merger
from pellucid.tokens.sample import TrainingSample
from pellucid.tokens.settings import MOST_SAMPLE_BYTES, MOST_TOKENS, SAMPLE_BYTES
from pellucid.tokens.tokenizer import Tokenizer
from pellucid.untrusted import parse_object

C = TypeVar("C", str, bytes)
BYTES = "256 bytes"  # what every vocabulary needs that can spell all texts


class TrainingOptions(TypedDict, total=False):
    """What the training of every kind but characters takes beside its own arguments; `Training` has the defaults.

    Events of all of them: `tokens.progress`, `tokens.sampled` when not all of the text was used,
    `tokens.vocabulary_small` when the text cannot fill the vocabulary.
    """

    sample_bytes: int  # most bytes of text to learn from
    total_bytes: (
        int | None
    )  # of all texts, where known: a larger text is thinned evenly; else reading stops at the limit
    specials: Specials
    recorder: Recorder


@dataclass(frozen=True, kw_only=True)
class Training:
    """One training of a tokenizer: what was asked for, and what is left out and said at its end.

    Raises TokenizerError for an impossible size or an unknown pattern.
    """

    vocab_size: int
    pattern: str = DEFAULT_PATTERN
    sample_bytes: int = SAMPLE_BYTES
    total_bytes: int | None = None
    specials: Specials = "standard"
    recorder: Recorder = NULL

    def __post_init__(self) -> None:
        if self.vocab_size > MOST_TOKENS:  # the engine makes room for all of them first, and ends where it cannot
            hint = f"ask for {MOST_TOKENS:,} or fewer"
            raise TokenizerError("no model has so large a vocabulary", found=f"{self.vocab_size:,} tokens", hint=hint)
        if self.pattern not in PATTERNS:
            raise TokenizerError("no such pattern", found=self.pattern, hint="known: " + ", ".join(PATTERNS))
        if not 0 < self.sample_bytes <= MOST_SAMPLE_BYTES:
            what = f"sample_bytes must lie between 1 and {MOST_SAMPLE_BYTES:,}"
            raise TokenizerError(what, found=f"{self.sample_bytes:,}")

    def sample(self, texts: Iterable[str]) -> TrainingSample:
        """The part of the texts to learn from."""
        return TrainingSample(texts, self.sample_bytes, self.total_bytes, recorder=self.recorder)

    def finish(
        self, sample: TrainingSample, layout: Mapping[str, Any], config: str, *, longest: int | None = None
    ) -> Tokenizer:
        """The tokenizer of a layout; what of the text was left out is said, and that the vocabulary is not full.

        `longest`: the most bytes of a token, where a part of the text may have been too long.
        """
        sample.report()
        tokenizer = _made(layout, config)
        if tokenizer.vocab_size < self.vocab_size:
            message = (
                f"vocabulary {self.vocab_size:,} -> {tokenizer.vocab_size:,}: no other part of the text is frequent enough"
                if longest is None
                else f"vocabulary {self.vocab_size:,} -> {tokenizer.vocab_size:,}: no other part of the text of at most"
                f" {counted(longest, 'byte')} is frequent enough"
            )
            data = {"asked": self.vocab_size, "vocab_size": tokenizer.vocab_size, "sample_bytes": sample.used}
            self.recorder.record(Event(name="tokens.vocabulary_small", message=message, data=data))
        return tokenizer


def train_bpe(
    texts: Iterable[str],
    vocab_size: int,
    *,
    pattern: str = DEFAULT_PATTERN,
    max_han: int = 4,
    max_token_bytes: int = 64,
    **options: Unpack[TrainingOptions],
) -> Tokenizer:
    """Learn a byte-level BPE of at most `vocab_size` tokens: the 256 bytes, the merges, the special tokens.

    `max_han`: most Chinese characters in a token, 0 for no limit. `max_token_bytes`: of the longest token. `options`, events: `TrainingOptions`; and those of
    `merges.learn_merges`. Raises TokenizerError for an impossible size, an unknown pattern, no text, or a lone surrogate.

    >>> tokenizer = train_bpe(["low low low"], 260, specials="none")
    >>> [tokenizer.token_text(i) for i in tokenizer.encode("lowest").ids]
    ['low', 'e', 's', 't']
    """
    training = Training(vocab_size=vocab_size, pattern=pattern, **options)
    names, sample = special_names(training.specials), training.sample(texts)
    check_vocab_size("bpe", vocab_size, training.specials)
    limits = Limits(
        num_tokens=vocab_size - len(names), pattern=pattern, max_han=max_han, max_token_bytes=max_token_bytes
    )
    merges = learn_merges(sample, limits, recorder=training.recorder)
    if not sample.used:
        raise _no_text()
    layout = bpe.layout(merges, pattern, names)
    # Only two tokens of which one has more than half of the limit can have been too long together.
    longest_token = max((len(left + right) for left, right in merges), default=1)
    longest = max_token_bytes if 2 * longest_token > max_token_bytes else None
    return training.finish(sample, layout, config_of(training.specials), longest=longest)


def train_characters(
    texts: Iterable[str],
    *,
    vocab_size: int | None = None,
    total_bytes: int | None = None,
    specials: Specials = "standard",
    recorder: Recorder = NULL,
) -> Tokenizer:
    """Give every character of the texts a token, in the order of their code points; others are spelled in bytes.

    `vocab_size` keeps only the most frequent characters, so that bytes, characters and special tokens are that many.
    `total_bytes`: of all texts, where known. Events: `tokens.progress`, `tokens.characters_dropped` when that leaves some out. Raises TokenizerError for no text.

    >>> train_characters(["abba"], specials="none").vocab_size == 256 + 2 + 2
    True
    """
    names = special_names(specials)
    if vocab_size is not None:
        check_vocab_size("char", vocab_size, specials)
    counts: Counter[str] = Counter()
    for block in TrainingSample(texts, None, total_bytes, recorder=recorder):
        counts.update(block)
    if not counts:
        raise _no_text()
    by_frequency = sorted(counts, key=lambda character: (-counts[character], character))
    kept = by_frequency if vocab_size is None else by_frequency[: vocab_size - NUM_BYTES - len(names)]
    if dropped := by_frequency[len(kept) :]:
        share = sum(counts[character] for character in dropped) / counts.total()
        message = f"{counted(len(dropped), 'character')} ({share:.2%} of the text) found no room in the vocabulary, and will be spelled in bytes"
        data = {"dropped": len(dropped), "share": share, "vocab_size": vocab_size}
        recorder.record(Event(name="tokens.characters_dropped", message=message, data=data))
    return _made(character.layout(sorted(kept), names), config_of(specials))


def train_unigram(
    texts: Iterable[str],
    vocab_size: int,
    *,
    pattern: str = DEFAULT_PATTERN,
    max_han: int = 4,
    **options: Unpack[TrainingOptions],
) -> Tokenizer:
    """Learn a Unigram of at most `vocab_size` tokens: the 256 bytes, likely pieces of words, the special tokens.

    The arguments and errors are those of `train_bpe`. Events: `TrainingOptions`, and those of `pieces.count_pieces` and
    `unigram.train`.

    >>> tokenizer = train_unigram(["low lower lowest"] * 9, 262, specials="none")
    >>> tokenizer.exact, tokenizer.decode(tokenizer.encode("lowest 中").ids)
    (True, 'lowest 中')
    """
    training = Training(vocab_size=vocab_size, pattern=pattern, **options)
    names, sample = special_names(training.specials), training.sample(texts)
    check_vocab_size("unigram", vocab_size, training.specials)
    pieces = count_pieces(sample, pattern, max_han=max_han, recorder=training.recorder)
    tokens = unigram.train(_checked(pieces), vocab_size - len(names), recorder=training.recorder)
    layout = unigram.layout(tokens, pattern=pattern, specials=names)
    return training.finish(sample, layout, config_of(training.specials))


def train_words(
    texts: Iterable[str],
    vocab_size: int,
    *,
    pattern: str = DEFAULT_PATTERN,
    **options: Unpack[TrainingOptions],
) -> Tokenizer:
    """Give each of the most frequent words a token, every Chinese character being a word; all others are unknown.

    The arguments and errors are those of `train_bpe`. Events: `TrainingOptions`, and those of `pieces.count_pieces`.

    >>> tokenizer = train_words(["the cat and the dog"], 260, specials="none")
    >>> [tokenizer.token_text(i) for i in tokenizer.encode("the fox").ids]
    ['the', '<unk>']
    """
    training = Training(vocab_size=vocab_size, pattern=pattern, **options)
    names, sample = special_names(training.specials), training.sample(texts)
    check_vocab_size("word", vocab_size, training.specials)
    pieces = count_pieces(sample, pattern, max_han=1, recorder=training.recorder)
    words = word.train(_checked(pieces), vocab_size - 1 - len(names))
    layout = word.layout(words, pattern=pattern, specials=names)
    return training.finish(sample, layout, config_of(training.specials, {"unk": word.UNKNOWN}))


def train_wordpiece(
    texts: Iterable[str], vocab_size: int, *, lowercase: bool = False, **options: Unpack[TrainingOptions]
) -> Tokenizer:
    """Learn a WordPiece of at most `vocab_size` tokens: BERT's special ones, characters and parts of words, the others.

    `lowercase`: capitals become small letters and accents are removed. The other arguments and the errors are those of
    `train_bpe`. Events: `TrainingOptions`, and those of `wordpiece_words.count_words` and `wordpiece.train`.

    >>> tokenizer = train_wordpiece(["low lower lowest"] * 9, 300, specials="none")
    >>> [tokenizer.token_text(i) for i in tokenizer.encode("slow low").ids]
    ['[UNK]', ' low']
    """
    training = Training(vocab_size=vocab_size, **options)
    specials, recorder, sample = training.specials, training.recorder, training.sample(texts)
    more = special_names(specials, without=wordpiece.ROLES)
    check_vocab_size("wordpiece", vocab_size, specials)
    words = count_words(sample, lowercase=lowercase, strip_accents=None, recorder=recorder)
    merge = find_merger(sum(map(len, words)), vocab_size, recorder=recorder)
    tokens = wordpiece.train(_checked(words), vocab_size - len(more), merge=merge, recorder=recorder)
    layout = wordpiece.layout(tokens, lowercase=lowercase, strip_accents=None, specials=more)
    own = parse_object(config_of(specials, wordpiece.ROLES))
    settings = wordpiece.config(lowercase=lowercase, strip_accents=None)
    # Not BERT's class: transformers would put [CLS] and [SEP] around a text, whatever the file says.
    config = {**own, **settings, "tokenizer_class": own["tokenizer_class"]}
    return training.finish(sample, layout, as_text(config))


def _made(layout: Mapping[str, Any], config: str) -> Tokenizer:
    """A tokenizer by its document, which puts <bos> before a text in other programs too."""
    [begin] = PLAIN["bos"]
    return Tokenizer.from_json(as_text(with_beginning(layout, begin)), config)


def _checked(counts: Mapping[C, int]) -> Mapping[C, int]:
    if not counts:
        raise _no_text()
    return counts


def check_vocab_size(kind: str, vocab_size: int, specials: Specials) -> None:
    """Raise TokenizerError for a vocabulary without room for what every tokenizer of a kind has.

    >>> check_vocab_size("word", 3, "none")
    Traceback (most recent call last):
    ...
    pellucid.errors.TokenizerError: a vocabulary needs at least 4 tokens: the unknown word and one other and 2 special tokens
      found: 3
      try:   ask for 4 or more
    """
    if kind == "wordpiece":
        more = special_names(specials, without=wordpiece.ROLES)
        _check_size(vocab_size, more, len(wordpiece.SPECIALS) + 1, "BERT's own five tokens, one character")
    elif kind == "word":
        _check_size(vocab_size, special_names(specials), 2, "the unknown word and one other")
    else:
        _check_size(vocab_size, special_names(specials), NUM_BYTES, BYTES)


def _check_size(vocab_size: int, names: Sequence[str], own: int, needs: str) -> None:
    """Raise TokenizerError for a vocabulary without room for the special tokens and the `own` ones that its kind needs."""
    smallest = own + len(names)
    if vocab_size < smallest:
        least = own + len(PLAIN)
        hint = f"ask for {smallest} or more" + (
            "" if smallest == least else f", or for {least} or more with --specials none"
        )
        what = f"a vocabulary needs at least {smallest} tokens: {needs} and {len(names)} special tokens"
        raise TokenizerError(what, found=str(vocab_size), hint=hint)


def _no_text() -> TokenizerError:
    return TokenizerError("there is no text to train a tokenizer on", hint="give at least one character")
