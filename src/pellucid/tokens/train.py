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
from typing import Any, TypeVar

from pellucid.counts import counted
from pellucid.errors import TokenizerError
from pellucid.events import NULL, Event, Recorder
from pellucid.tokens.byte_characters import NUM_BYTES
from pellucid.tokens.layout import PLAIN, Specials, as_text, config_of, special_names, with_beginning
from pellucid.tokens.merge_limits import LEAST_COUNT, Limits
from pellucid.tokens.merges import learn_merges
from pellucid.tokens.models import bpe, character, unigram, word, wordpiece
from pellucid.tokens.patterns import DEFAULT_PATTERN, PATTERNS
from pellucid.tokens.pieces import count_pieces, find_merger
from pellucid.tokens.sample import TrainingSample, num_bytes
from pellucid.tokens.settings import MOST_SAMPLE_BYTES, MOST_TOKENS, SAMPLE_BYTES
from pellucid.tokens.tokenizer import Tokenizer
from pellucid.untrusted import parse_object

C = TypeVar("C", str, bytes)
BYTES = "256 bytes"  # what every vocabulary needs that can spell all texts


def train_bpe(
    texts: Iterable[str],
    vocab_size: int,
    *,
    pattern: str = DEFAULT_PATTERN,
    sample_bytes: int = SAMPLE_BYTES,
    total_bytes: int | None = None,
    max_han: int = 4,
    max_token_bytes: int = 64,
    specials: Specials = "standard",
    recorder: Recorder = NULL,
) -> Tokenizer:
    """Learn a byte-level BPE of at most `vocab_size` tokens: the 256 bytes, the merges, the special tokens.

    `total_bytes`: size of all texts, where it is known; with it a text larger than `sample_bytes` is thinned evenly,
    without it training stops at the limit. `max_han`: most Chinese characters in a token, 0 for no limit.
    Events: `tokens.sampled` when not all of the text was used, `tokens.vocabulary_small` when the text cannot fill
    the vocabulary. Raises TokenizerError for an impossible size, an unknown pattern, no text, or a lone surrogate.

    >>> tokenizer = train_bpe(["low low low"], 260, specials="none")
    >>> [tokenizer.token_text(i) for i in tokenizer.encode("lowest").ids]
    ['low', 'e', 's', 't']
    """
    names = special_names(specials)
    _check_request(vocab_size, pattern, sample_bytes)
    _check_size(vocab_size, names, NUM_BYTES, BYTES)
    sample = TrainingSample(texts, sample_bytes, total_bytes)
    limits = Limits(
        num_tokens=vocab_size - len(names), pattern=pattern, max_han=max_han, max_token_bytes=max_token_bytes
    )
    merges = learn_merges(sample, limits, recorder=recorder)
    if not sample.used:
        raise _no_text()
    sample.report(recorder)
    tokenizer = _made(bpe.layout(merges, pattern, names), config_of(specials))
    if tokenizer.vocab_size < vocab_size:
        message = f"vocabulary {vocab_size:,} -> {tokenizer.vocab_size:,}: no other pair occurs {LEAST_COUNT} times"
        data = {"asked": vocab_size, "vocab_size": tokenizer.vocab_size, "sample_bytes": sample.used}
        recorder.record(Event(name="tokens.vocabulary_small", message=message, data=data))
    return tokenizer


def train_characters(
    texts: Iterable[str],
    *,
    vocab_size: int | None = None,
    specials: Specials = "standard",
    recorder: Recorder = NULL,
) -> Tokenizer:
    """Give every character of the texts a token, in the order of their code points; others are spelled in bytes.

    `vocab_size` keeps only the most frequent characters, so that bytes, characters and special tokens are that many.
    Events: `tokens.characters_dropped` when that leaves some out. Raises TokenizerError for no text.

    >>> train_characters(["abba"], specials="none").vocab_size == 256 + 2 + 2
    True
    """
    names = special_names(specials)
    if vocab_size is not None:
        _check_size(vocab_size, names, NUM_BYTES, BYTES)
    counts: Counter[str] = Counter()
    for text in texts:
        num_bytes(text)
        counts.update(text)
    if not counts:
        raise _no_text()
    by_frequency = sorted(counts, key=lambda character: (-counts[character], character))
    kept = by_frequency if vocab_size is None else by_frequency[: vocab_size - NUM_BYTES - len(names)]
    if dropped := by_frequency[len(kept) :]:
        share = sum(counts[character] for character in dropped) / counts.total()
        message = f"{counted(len(dropped), 'rare character')} ({share:.2%} of the text) will be spelled in bytes"
        data = {"dropped": len(dropped), "share": share, "vocab_size": vocab_size}
        recorder.record(Event(name="tokens.characters_dropped", message=message, data=data))
    return _made(character.layout(sorted(kept), names), config_of(specials))


def train_unigram(
    texts: Iterable[str],
    vocab_size: int,
    *,
    pattern: str = DEFAULT_PATTERN,
    sample_bytes: int = SAMPLE_BYTES,
    total_bytes: int | None = None,
    max_han: int = 4,
    specials: Specials = "standard",
    recorder: Recorder = NULL,
) -> Tokenizer:
    """Learn a Unigram of at most `vocab_size` tokens: the 256 bytes, likely pieces of words, the special tokens.

    The arguments, events and errors are those of `train_bpe`.

    >>> tokenizer = train_unigram(["low lower lowest"] * 9, 262, specials="none")
    >>> tokenizer.exact, tokenizer.decode(tokenizer.encode("lowest 中").ids)
    (True, 'lowest 中')
    """
    names = special_names(specials)
    _check_request(vocab_size, pattern, sample_bytes)
    _check_size(vocab_size, names, NUM_BYTES, BYTES)
    sample = TrainingSample(texts, sample_bytes, total_bytes)
    pieces = count_pieces(sample, pattern, max_han=max_han, recorder=recorder)
    tokens = unigram.train(_checked(pieces), vocab_size - len(names), recorder=recorder)
    sample.report(recorder)
    tokenizer = _made(unigram.layout(tokens, pattern=pattern, specials=names), config_of(specials))
    return _filled(tokenizer, vocab_size, recorder)


def train_words(
    texts: Iterable[str],
    vocab_size: int,
    *,
    pattern: str = DEFAULT_PATTERN,
    sample_bytes: int = SAMPLE_BYTES,
    total_bytes: int | None = None,
    specials: Specials = "standard",
    recorder: Recorder = NULL,
) -> Tokenizer:
    """Give each of the most frequent words a token, every Chinese character being a word; all others are unknown.

    The arguments, events and errors are those of `train_bpe`.

    >>> tokenizer = train_words(["the cat and the dog"], 260, specials="none")
    >>> [tokenizer.token_text(i) for i in tokenizer.encode("the fox").ids]
    ['the', '<unk>']
    """
    names = special_names(specials)
    _check_request(vocab_size, pattern, sample_bytes)
    _check_size(vocab_size, names, 2, "the unknown word and one other")
    sample = TrainingSample(texts, sample_bytes, total_bytes)
    pieces = count_pieces(sample, pattern, max_han=1, recorder=recorder)
    words = word.train(_checked(pieces), vocab_size - 1 - len(names))
    sample.report(recorder)
    config = config_of(specials, {"unk": word.UNKNOWN})
    tokenizer = _made(word.layout(words, pattern=pattern, specials=names), config)
    return _filled(tokenizer, vocab_size, recorder)


def train_wordpiece(
    texts: Iterable[str],
    vocab_size: int,
    *,
    lowercase: bool = False,
    sample_bytes: int = SAMPLE_BYTES,
    total_bytes: int | None = None,
    specials: Specials = "standard",
    recorder: Recorder = NULL,
) -> Tokenizer:
    """Learn a WordPiece of at most `vocab_size` tokens: BERT's special ones, characters and parts of words, the others.

    `lowercase`: capitals become small letters and accents are removed. The other arguments, the events and the errors are
    those of `train_bpe`; `tokens.characters_dropped` where characters of the text are unknown.

    >>> tokenizer = train_wordpiece(["low lower lowest"] * 9, 300, specials="none")
    >>> [tokenizer.token_text(i) for i in tokenizer.encode("slow low").ids]
    ['[UNK]', ' low']
    """
    more = special_names(specials, without=wordpiece.ROLES)
    _check_request(vocab_size, DEFAULT_PATTERN, sample_bytes)
    _check_size(vocab_size, more, len(wordpiece.SPECIALS) + 1, "BERT's own five tokens, one character")
    sample = TrainingSample(texts, sample_bytes, total_bytes)
    words = wordpiece.count_words(sample, lowercase=lowercase, strip_accents=None)
    merge = find_merger(sum(map(len, words)), recorder=recorder)
    tokens = wordpiece.train(_checked(words), vocab_size - len(more), merge=merge, recorder=recorder)
    sample.report(recorder)
    layout = wordpiece.layout(tokens, lowercase=lowercase, strip_accents=None, specials=more)
    own = parse_object(config_of(specials, wordpiece.ROLES))
    settings = wordpiece.config(lowercase=lowercase, strip_accents=None)
    # Not BERT's class: transformers would put [CLS] and [SEP] around a text, whatever the file says.
    config = {**own, **settings, "tokenizer_class": own["tokenizer_class"]}
    return _filled(_made(layout, as_text(config)), vocab_size, recorder)


def _made(layout: Mapping[str, Any], config: str) -> Tokenizer:
    """A tokenizer by its document, which puts <bos> before a text in other programs too."""
    [begin] = PLAIN["bos"]
    return Tokenizer.from_json(as_text(with_beginning(layout, begin)), config)


def _checked(counts: Mapping[C, int]) -> Mapping[C, int]:
    if not counts:
        raise _no_text()
    return counts


def _filled(tokenizer: Tokenizer, vocab_size: int, recorder: Recorder) -> Tokenizer:
    """The same tokenizer; say so when the text had less variety than the vocabulary asked for."""
    if tokenizer.vocab_size < vocab_size:
        message = f"vocabulary {vocab_size:,} -> {tokenizer.vocab_size:,}: the text has no more different parts"
        data = {"asked": vocab_size, "vocab_size": tokenizer.vocab_size}
        recorder.record(Event(name="tokens.vocabulary_small", message=message, data=data))
    return tokenizer


def _check_request(vocab_size: int, pattern: str, sample_bytes: int) -> None:
    if vocab_size > MOST_TOKENS:  # the engine makes room for all of them first, and ends the process where it cannot
        hint = f"ask for {MOST_TOKENS:,} or fewer"
        raise TokenizerError("no model has so large a vocabulary", found=f"{vocab_size:,} tokens", hint=hint)
    if pattern not in PATTERNS:
        raise TokenizerError("no such pattern", found=pattern, hint="known: " + ", ".join(PATTERNS))
    if not 0 < sample_bytes <= MOST_SAMPLE_BYTES:
        raise TokenizerError(f"sample_bytes must lie between 1 and {MOST_SAMPLE_BYTES:,}", found=f"{sample_bytes:,}")


def _check_size(vocab_size: int, names: Sequence[str], own: int, needs: str) -> None:
    """Raise TokenizerError for a vocabulary without room for the special tokens and the `own` ones that its kind needs."""
    smallest = own + len(names)
    if vocab_size < smallest:
        hint = f"ask for {smallest} or more" + ("" if len(names) == len(PLAIN) else ", or for specials=none")
        what = f"a vocabulary needs at least {smallest} tokens: {needs} and {len(names)} special tokens"
        raise TokenizerError(what, found=str(vocab_size), hint=hint)


def _no_text() -> TokenizerError:
    return TokenizerError("there is no text to train a tokenizer on", hint="give at least one character")
