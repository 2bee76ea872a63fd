r"""The words that WordPiece learns from, and how often each occurs: read as a stream, in bounded memory.

    text -> pieces, each counted as it stands -> the different ones through BERT's normaliser and splitter -> words

A piece begins at a white space, an ASCII sign, a comma or full stop of Chinese, or a common Chinese character: there a
word ends whatever stands around, so that each different piece needs to be normalised only once. The bound is that of
`plain.count_bounded`: after each `ROUND_CHARACTERS` the rarest pieces are forgotten until `MOST_PIECES` are left. Rounds
end between two pieces and pieces depend on the text alone, so it makes no difference in what blocks it comes.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

from tokenizers import normalizers, pre_tokenizers

from pellucid.counts import counted
from pellucid.events import NULL, Event, Recorder
from pellucid.tokens import plain
from pellucid.tokens.merge_limits import tell_forgotten

LONGEST = 1_024  # characters of a piece: a longer one is cut; words of more than 100 are never encoded
ROUND_CHARACTERS = 1 << 23
MOST_PIECES = 1 << 20  # different ones that are remembered from one round to the next
_BEGINS = r" \t\r\n!-/:-@\[-`{-~，。\u4e00-\u9fa5"
PIECE = re.compile(rf"[{_BEGINS}][^{_BEGINS}]{{0,{LONGEST - 1}}}|[^{_BEGINS}]{{1,{LONGEST}}}")


def count_words(
    texts: Iterable[str], *, lowercase: bool, strip_accents: bool | None, recorder: Recorder = NULL
) -> Counter[str]:
    """The words that BERT's normaliser makes of texts, and how often each occurs.

    Events: `tokens.words_cut`, `tokens.pieces_forgotten`.

    >>> count_words(["Größe, 人工"], lowercase=True, strip_accents=None)
    Counter({'große': 1, ',': 1, '人': 1, '工': 1})
    """
    counter = _PieceCounter(ROUND_CHARACTERS, MOST_PIECES)
    for text in texts:
        counter.feed(text)
    pieces = counter.finish()
    _tell_cut(pieces, recorder)
    tell_forgotten(counter.num_forgotten, len(pieces), recorder)
    normalizer = normalizers.BertNormalizer(lowercase=lowercase, strip_accents=strip_accents)
    splitter = pre_tokenizers.BertPreTokenizer()
    parts: Counter[str] = Counter()
    for piece, count in pieces.items():
        for part in normalizer.normalize_str(piece).split(" "):
            parts[part] += count
    words: Counter[str] = Counter()
    for part, count in parts.items():
        for word, _ in splitter.pre_tokenize_str(part):
            words[word] += count
    return words


class _PieceCounter:
    """`plain.count_bounded` of single pieces, faster: a block that ends inside of a round is counted at once."""

    def __init__(self, round_characters: int, most: int) -> None:
        self._round, self._most = round_characters, most
        self._counts: Counter[str] = Counter()
        self._left = round_characters
        self.num_forgotten = 0

    def feed(self, text: str) -> None:
        """Count the pieces of a text."""
        if len(text) < self._left:
            self._counts.update(PIECE.findall(text))
            self._left -= len(text)
            return
        for piece in map(re.Match.group, PIECE.finditer(text)):
            self._counts[piece] += 1
            self._left -= len(piece)
            if self._left <= 0:
                self._forget()

    def finish(self) -> Counter[str]:
        """What was counted."""
        self._forget()
        return self._counts

    def _forget(self) -> None:
        self._counts, num = plain.forget_rarest(self._counts, self._most)
        self.num_forgotten += num
        self._left = self._round


def _tell_cut(pieces: Counter[str], recorder: Recorder) -> None:
    if num_cut := sum(count for piece, count in pieces.items() if len(piece) == LONGEST):
        message = f"{counted(num_cut, 'word')} of the text with {LONGEST:,} characters or more were cut"
        data = {"cut": num_cut, "longest": LONGEST}
        recorder.record(Event(name="tokens.words_cut", message=message, data=data))
