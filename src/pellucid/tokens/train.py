r"""Training a tokenizer: byte-level byte-pair encoding (BPE), or one token per character.

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
from collections.abc import Iterable, Iterator

from pellucid.counts import counted
from pellucid.errors import TokenizerError
from pellucid.events import NULL, Event, Recorder
from pellucid.tokens.layout import SMALLEST, as_text
from pellucid.tokens.merge_limits import LEAST_COUNT, Limits
from pellucid.tokens.merges import learn_merges
from pellucid.tokens.models import bpe, character
from pellucid.tokens.patterns import DEFAULT_PATTERN, TRAINABLE, segments
from pellucid.tokens.settings import MOST_SAMPLE_BYTES, MOST_TOKENS, SAMPLE_BYTES
from pellucid.tokens.tokenizer import Tokenizer

BLOCK = 1 << 12  # characters: a text is handed over, and thinned, in blocks
NUM_SPECIALS = 2


def train_bpe(
    texts: Iterable[str],
    vocab_size: int,
    *,
    pattern: str = DEFAULT_PATTERN,
    sample_bytes: int = SAMPLE_BYTES,
    total_bytes: int | None = None,
    max_han: int = 4,
    max_token_bytes: int = 64,
    recorder: Recorder = NULL,
) -> Tokenizer:
    """Learn a byte-level BPE of at most `vocab_size` tokens: the 256 bytes, the merges, `<bos>` and `<eos>`.

    `total_bytes`: size of all texts, where it is known; with it a text larger than `sample_bytes` is thinned evenly,
    without it training stops at the limit. `max_han`: most Chinese characters in a token, 0 for no limit.
    Events: `tokens.sampled` when not all of the text was used, `tokens.vocabulary_small` when the text cannot fill
    the vocabulary. Raises TokenizerError for an impossible size, an unknown pattern, no text, or a lone surrogate.

    >>> tokenizer = train_bpe(["low low low"], 260)
    >>> [tokenizer.token_text(i) for i in tokenizer.encode("lowest").ids]
    ['low', 'e', 's', 't']
    """
    _check_request(vocab_size, pattern, sample_bytes)
    sample = _Sample(texts, sample_bytes, total_bytes)
    limits = Limits(
        num_tokens=vocab_size - NUM_SPECIALS, pattern=pattern, max_han=max_han, max_token_bytes=max_token_bytes
    )
    merges = learn_merges(sample, limits, recorder=recorder)
    if not sample.used:
        raise _no_text()
    sample.report(recorder)
    tokenizer = Tokenizer.from_json(as_text(bpe.layout(merges, pattern)))
    if tokenizer.vocab_size < vocab_size:
        message = f"vocabulary {vocab_size:,} -> {tokenizer.vocab_size:,}: no other pair occurs {LEAST_COUNT} times"
        data = {"asked": vocab_size, "vocab_size": tokenizer.vocab_size, "sample_bytes": sample.used}
        recorder.record(Event(name="tokens.vocabulary_small", message=message, data=data))
    return tokenizer


def train_characters(texts: Iterable[str], *, vocab_size: int | None = None, recorder: Recorder = NULL) -> Tokenizer:
    """Give every character of the texts a token, in the order of their code points; others are spelled in bytes.

    `vocab_size` keeps only the most frequent characters, so that bytes, characters and special tokens are that many.
    Events: `tokens.characters_dropped` when that leaves some out. Raises TokenizerError for no text.

    >>> train_characters(["abba"]).vocab_size == 256 + 2 + 2
    True
    """
    if vocab_size is not None and vocab_size < SMALLEST:
        raise _too_small(vocab_size)
    counts: Counter[str] = Counter()
    for text in texts:
        _num_bytes(text)
        counts.update(text)
    if not counts:
        raise _no_text()
    by_frequency = sorted(counts, key=lambda character: (-counts[character], character))
    kept = by_frequency if vocab_size is None else by_frequency[: vocab_size - SMALLEST]
    if dropped := by_frequency[len(kept) :]:
        share = sum(counts[character] for character in dropped) / counts.total()
        message = f"{counted(len(dropped), 'rare character')} ({share:.2%} of the text) will be spelled in bytes"
        data = {"dropped": len(dropped), "share": share, "vocab_size": vocab_size}
        recorder.record(Event(name="tokens.characters_dropped", message=message, data=data))
    return Tokenizer.from_json(as_text(character.layout(sorted(kept))))


class _Sample:
    """The blocks of text that training sees: all of them, or an evenly spaced part of about `limit` bytes."""

    def __init__(self, texts: Iterable[str], limit: int, total: int | None) -> None:
        self._texts, self._limit = texts, limit
        self._share = 1.0 if total is None else min(1.0, limit / max(total, 1))
        self.seen = self.used = 0
        self.whole = True

    def __iter__(self) -> Iterator[str]:
        for text in self._texts:
            for block in segments(text, BLOCK):
                size = _num_bytes(block)
                due = self.used <= self.seen * self._share
                self.seen += size
                if self.used + size > self._limit and self.used:
                    self.whole = False
                    return
                if due:
                    self.used += size
                    yield block
                else:
                    self.whole = False

    def report(self, recorder: Recorder) -> None:
        """Say so when part of the text was left out."""
        if not self.whole:
            message = f"the tokenizer is trained on {self.used:,} bytes of the text (limit {self._limit:,})"
            data = {"used_bytes": self.used, "limit_bytes": self._limit, "share": self._share}
            recorder.record(Event(name="tokens.sampled", message=message, data=data))


def _check_request(vocab_size: int, pattern: str, sample_bytes: int) -> None:
    if vocab_size < SMALLEST:
        raise _too_small(vocab_size)
    if vocab_size > MOST_TOKENS:  # the engine makes room for all of them first, and ends the process where it cannot
        hint = f"ask for {MOST_TOKENS:,} or fewer"
        raise TokenizerError("no model has so large a vocabulary", found=f"{vocab_size:,} tokens", hint=hint)
    if pattern not in TRAINABLE:
        raise TokenizerError("no such pattern", found=pattern, hint="known: " + ", ".join(TRAINABLE))
    if not 0 < sample_bytes <= MOST_SAMPLE_BYTES:
        raise TokenizerError(f"sample_bytes must lie between 1 and {MOST_SAMPLE_BYTES:,}", found=f"{sample_bytes:,}")


def _num_bytes(text: str) -> int:
    try:
        return len(text.encode("utf-8"))
    except UnicodeEncodeError as error:
        found = f"U+{ord(text[error.start]):04X} at character {error.start}"
        raise TokenizerError("a text holds half of a surrogate pair, which is not a character", found=found) from None


def _too_small(vocab_size: int) -> TokenizerError:
    return TokenizerError(
        f"a vocabulary needs at least {SMALLEST} tokens: 256 bytes, <bos> and <eos>",
        found=str(vocab_size),
        hint=f"ask for {SMALLEST} or more",
    )


def _no_text() -> TokenizerError:
    return TokenizerError("there is no text to train a tokenizer on", hint="give at least one character")
