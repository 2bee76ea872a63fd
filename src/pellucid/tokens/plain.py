"""How text is cut into tokens, in the shortest form: what the fast engines compute, written to be read.

    byte-pair encoding (BPE)   training joins the most frequent pair of neighbours, again and again; encoding joins the
                               pair that was learned first, until no known pair is left
    WordPiece                  trained like BPE; encoding takes the longest token that fits, from the left
    Unigram                    every token has a probability; encoding finds the most probable way of cutting, training
                               drops the tokens that the text misses least
    word                       the most frequent words are tokens, all others are unknown

They are here as the explanation and as the oracle of the tests, not for use on a book: some take quadratic time.

Source: Sennrich et al. 2016, "Neural Machine Translation of Rare Words with Subword Units", algorithm 1 (BPE); Schuster
and Nakajima 2012, "Japanese and Korean Voice Search", and Wu et al. 2016, "Google's Neural Machine Translation System"
(WordPiece); Kudo 2018, "Subword Regularization", section 3.2 (Unigram).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from itertools import groupby, pairwise
from typing import TypeVar

from pellucid.tokens.byte_characters import BYTE_CHARACTERS

Symbol = TypeVar("Symbol", str, bytes, tuple[str, ...])
Spelling = TypeVar("Spelling", str, bytes)

CONTINUES = "##"  # before a WordPiece token that does not begin a word
UNKNOWN_WORD = "[UNK]"
MOST_WORD_CHARACTERS = 100  # WordPiece takes a longer word for unknown
UNKNOWN_PENALTY = 10.0  # Unigram: how much less than the rarest token an unknown character scores
SEEDS_PER_TOKEN = 4  # Unigram: substrings to begin with; with more of them, tokens fit other texts less well
LEAST_EXPECTED = 0.5  # Unigram: a token that is expected less often is dropped; a byte counts as much


# Counting


def count_bounded(blocks: Iterable[Sequence[Spelling]], round_size: int, most: int) -> tuple[Counter[Spelling], int]:
    """How often each piece occurs, in bounded memory, and how many occurrences were forgotten for that.

    `blocks`: the pieces of the text in order, some at a time. A round ends with the block that makes it `round_size` long;
    then, and at the end, the rarest pieces are forgotten until at most `most` are left.

    >>> count_bounded([["to", " be"], [" be"], [" not"], [" be"]], 8, 2)
    (Counter({' be': 3}), 2)
    """
    counts: Counter[Spelling] = Counter()
    size = num_forgotten = 0
    for block in blocks:
        counts.update(block)
        size += sum(map(len, block))
        if size >= round_size:
            counts, num = forget_rarest(counts, most)
            size, num_forgotten = 0, num_forgotten + num
    counts, num = forget_rarest(counts, most)
    return counts, num_forgotten + num


def forget_rarest(counts: Counter[Spelling], most: int) -> tuple[Counter[Spelling], int]:
    """Without the rarest pieces, so that at most `most` are left, and how many occurrences were forgotten.

    Pieces that occur equally often stay or go together: which came first makes no difference.

    >>> forget_rarest(Counter({"a": 5, "b": 2, "c": 1, "d": 1}), 3)
    (Counter({'a': 5, 'b': 2}), 2)
    """
    if len(counts) <= most:
        return counts, 0
    least = sorted(counts.values(), reverse=True)[most]  # all up to this count go
    kept = Counter({piece: count for piece, count in counts.items() if count > least})
    return kept, counts.total() - kept.total()


# Byte-pair encoding


def train(
    pieces: Mapping[bytes, int], num_merges: int, least_count: int = 2, longest: int | None = None
) -> list[tuple[bytes, bytes]]:
    """Learn merges from pieces and how often each occurs; the earlier symbols win a tie. `longest`: most bytes of a token.

    >>> train({b"low": 5, b"lower": 2, b"newer": 6}, 3)
    [(b'e', b'r'), (b'w', b'er'), (b'l', b'o')]
    """
    words = [([bytes([byte]) for byte in piece], count) for piece, count in pieces.items()]
    age = {bytes([byte]): ord(character) for byte, character in enumerate(BYTE_CHARACTERS)}
    return list(learn_merges(words, age, num_merges, least_count, longest))


def learn_merges(
    words: Iterable[tuple[list[Symbol], int]],
    age: Mapping[Symbol, int],
    num_merges: int,
    least_count: int,
    longest: int | None = None,
) -> Iterator[tuple[Symbol, Symbol]]:
    """Join the most frequent pair everywhere, and again; `age` orders the symbols at the start, `longest` bounds their sum."""
    words, age, newest = list(words), dict(age), max(age.values(), default=0)
    for number in range(1, num_merges + 1):
        counts: Counter[tuple[Symbol, Symbol]] = Counter()
        for symbols, count in words:
            for pair in pairwise(symbols):
                if longest is None or len(pair[0]) + len(pair[1]) <= longest:
                    counts[pair] += count
        best = min(counts, key=lambda pair: (-counts[pair], age[pair[0]], age[pair[1]]), default=None)
        if best is None or counts[best] < least_count:
            return
        yield best
        age[best[0] + best[1]] = newest + number
        words = [(join(symbols, best), count) for symbols, count in words]


def join(symbols: Sequence[Symbol], pair: tuple[Symbol, Symbol]) -> list[Symbol]:
    """Replace every occurrence of a pair by its sum, from the left.

    >>> join(list("aaab"), ("a", "a"))
    ['aa', 'a', 'b']
    """
    joined: list[Symbol] = []
    place = 0
    while place < len(symbols):
        width = 2 if tuple(symbols[place : place + 2]) == pair else 1
        joined.append(symbols[place] + symbols[place + 1] if width == 2 else symbols[place])
        place += width
    return joined


def encode(symbols: Sequence[Symbol], ranks: Mapping[tuple[Symbol, Symbol], int]) -> list[Symbol]:
    """The symbols of one piece after every merge that applies, lowest rank first.

    >>> encode(list("newer"), {("e", "r"): 0, ("w", "er"): 1})
    ['n', 'e', 'wer']
    """
    stages = [list(symbols)]
    stages.extend(after for _, after in steps(symbols, ranks))
    return stages[-1]


def steps(
    symbols: Sequence[Symbol], ranks: Mapping[tuple[Symbol, Symbol], int]
) -> Iterator[tuple[tuple[Symbol, Symbol], list[Symbol]]]:
    """Each merge as it is applied, with the symbols after it."""
    while known := [pair for pair in pairwise(symbols) if pair in ranks]:
        best = min(known, key=ranks.__getitem__)
        symbols = join(symbols, best)
        yield best, list(symbols)


# WordPiece


def train_wordpiece(words: Mapping[str, int], num_merges: int, least_count: int = 2) -> list[str]:
    """Learn tokens from words and how often each occurs: every character, then every merge, `##` inside of a word.

    This is BPE over characters, as Hugging Face trains it. The original WordPiece joins the pair that makes the text
    most likely: the one with the highest count(ab) / (count(a) × count(b)), not the highest count(ab).

    >>> train_wordpiece({"low": 5, "lower": 2, "newer": 6}, 3)
    ['e', 'l', 'n', 'o', 'r', 'w', '##e', '##o', '##r', '##w', '##er', '##wer', 'lo']
    """
    inner = {symbol for word in words for symbol in symbols_of(word)[1:]}
    alphabet: list[tuple[str, ...]] = [(symbol,) for symbol in (*sorted({*"".join(words)}), *sorted(inner))]
    cut: list[tuple[list[tuple[str, ...]], int]] = [
        ([(symbol,) for symbol in symbols_of(word)], n) for word, n in words.items()
    ]
    merges = list(learn_merges(cut, {symbol: place for place, symbol in enumerate(alphabet)}, num_merges, least_count))
    return list(dict.fromkeys(map(spell_wordpiece, [*alphabet, *(left + right for left, right in merges)])))


def symbols_of(word: str) -> list[str]:
    """The characters of a word as WordPiece tokens.

    >>> symbols_of("low")
    ['l', '##o', '##w']
    """
    return [*word[:1], *(CONTINUES + character for character in word[1:])]


def spell_wordpiece(symbols: Sequence[str]) -> str:
    """The token that neighbouring tokens of a word make together.

    >>> spell_wordpiece(["##l", "##ow"])
    '##low'
    """
    return "".join([*symbols[:1], *(symbol.removeprefix(CONTINUES) for symbol in symbols[1:])])


def encode_wordpiece(word: str, tokens: Container[str]) -> list[str]:
    """The tokens of one word; a word that cannot be finished is unknown as a whole.

    >>> encode_wordpiece("lowest", {"low", "lo", "##est", "##e", "##s"})
    ['low', '##est']
    >>> encode_wordpiece("lowly", {"low", "##l"})
    ['[UNK]']
    """
    matches = [token for token, _ in match_wordpiece(word, tokens)]
    return matches if spell_wordpiece(matches) == word else [UNKNOWN_WORD]


def match_wordpiece(word: str, tokens: Container[str]) -> Iterator[tuple[str, int]]:
    """Each longest match from the left, and how many longer ones were tried in vain; ends where nothing fits.

    >>> list(match_wordpiece("lowest", {"low", "lo", "##est", "##e", "##s"}))
    [('low', 3), ('##est', 0)]
    """
    start = 0
    while start < len(word) <= MOST_WORD_CHARACTERS:
        prefix = CONTINUES if start else ""
        tries = ((end, prefix + word[start:end]) for end in range(len(word), start, -1))
        end, token = next(((end, token) for end, token in tries if token in tokens), (start, ""))
        if end == start:
            return
        yield token, len(word) - end
        start = end


# Unigram


def encode_unigram(piece: str, scores: Mapping[str, float], unknown: str, byte_tokens: Sequence[str] = ()) -> list[str]:
    """The tokens of one piece: the best way of cutting it; neighbouring unknown characters are one unknown token.

    With `byte_tokens`, the 256 tokens of a byte fallback, unknown characters are spelled by their bytes instead.

    >>> encode_unigram("abé", {"a": -1.0, "b": -1.5, "ab": -2.0, "<unk>": 0.0}, "<unk>")
    ['ab', '<unk>']
    """
    [(_, best)] = best_ways(piece, scores)
    tokens: list[str] = []
    for is_known, run in groupby(best, key=scores.__contains__):
        if is_known:
            tokens += run
        else:
            data = "".join(run).encode() if byte_tokens else b""
            tokens += [byte_tokens[byte] for byte in data] or [unknown]
    return tokens


def best_ways(
    piece: Spelling, scores: Mapping[Spelling, float], number: int = 1
) -> list[tuple[float, tuple[Spelling, ...]]]:
    """The best ways of cutting a piece, the best first, each with the sum of its scores (Viterbi).

    Where two are equal, the one whose last token is longer comes first. An unknown character is an edge of its own.

    >>> best_ways("aab", {"a": -1.0, "b": -1.5, "ab": -2.0, "aa": -2.5}, 2)
    [(-3.0, ('a', 'ab')), (-3.5, ('a', 'a', 'b'))]
    """
    unknown = min(scores.values()) - UNKNOWN_PENALTY
    ways: list[list[tuple[float, tuple[int, ...]]]] = [[(0.0, (0,))]]  # to each place: score, where it was cut
    for end in range(1, len(piece) + 1):
        starts = [start for start in range(end) if piece[start:end] in scores or start == end - 1]
        steps = [(start, scores.get(piece[start:end], unknown)) for start in starts]
        found = [(way[0] + score, way[1] + (end,)) for start, score in steps for way in ways[start]]
        ways.append(sorted(found, key=lambda way: -way[0])[:number])
    return [(score, tuple(piece[start:end] for start, end in pairwise(places))) for score, places in ways[-1]]


def train_unigram(pieces: Mapping[bytes, int], vocab_size: int, longest: int = 16) -> dict[bytes, float]:
    """Learn at most `vocab_size` tokens, the 256 bytes among them, and the score of each: the logarithm of its probability.

    From far too many substrings a quarter is dropped at a time, those that the text misses least. What the text hardly
    uses goes too, as long as there are more than asked for.

    >>> list(train_unigram({b"low": 5, b"lower": 2, b"newer": 6}, 259))[256:]
    [b'newer', b'low', b'lower']
    """
    seeds = unigram_seeds(pieces, longest, SEEDS_PER_TOKEN * vocab_size)
    counts = {token: count * max(1, len(token.decode(errors="ignore"))) for token, count in seeds}
    scores = unigram_scores(counts)
    while True:
        for _ in range(2):
            expected = expected_counts(pieces, scores)
            full = len(scores) <= vocab_size
            kept = [t for t in scores if full or len(t) == 1 or expected[t] >= LEAST_EXPECTED]
            scores = unigram_scores({token: expected[token] for token in kept})
        if len(scores) <= vocab_size:
            return scores
        losses = unigram_losses(pieces, scores)
        best = sorted(scores, key=lambda token: -losses.get(token, math.inf))[: max(vocab_size, len(scores) * 3 // 4)]
        scores = unigram_scores({token: expected[token] for token in scores if token in set(best)})


def unigram_seeds(pieces: Mapping[bytes, int], longest: int, most: int) -> list[tuple[bytes, int]]:
    """The bytes, every character, and the best substrings that occur twice and not always before the same character.

    The best are those that cover most of the text: occurrences × characters.

    >>> unigram_seeds({b"abab": 1}, 16, 9)[256:]
    [(b'ab', 2)]
    """
    counts: Counter[str] = Counter()
    for piece, count in pieces.items():
        text = piece.decode()
        for start in range(len(text)):
            for end in range(start + 1, min(start + longest, len(text)) + 1):
                counts[text[start:end]] += count
    continued = {text[:-1] for text in counts if counts[text] == counts[text[:-1]]}
    longer = [text for text in counts if len(text) > 1 and counts[text] >= 2 and text not in continued]
    longer.sort(key=lambda text: (-counts[text] * len(text), len(text), text))
    wide = sorted(text for text in counts if len(text) == 1 and not text.isascii())
    single = [(bytes([byte]), counts[chr(byte)] if byte < 128 else 0) for byte in range(256)]
    return single + [(text.encode(), counts[text]) for text in wide + longer[:most]]


def unigram_scores(counts: Mapping[bytes, float]) -> dict[bytes, float]:
    """The logarithms of the probabilities that go with expected counts (the M step).

    ψ, the derivative of log Γ, stands for the logarithm: it takes about a half from every count, so that rare tokens
    become rarer. A byte counts half an occurrence at least.
    """
    counts = {token: max(count, LEAST_EXPECTED) for token, count in counts.items()}
    whole = digamma(sum(counts.values()))
    return {token: digamma(count) - whole for token, count in counts.items()}


def digamma(x: float) -> float:
    """The derivative of log Γ(x): ψ(x) = ψ(x + 1) - 1 / x, and from 7 on the first terms of a series."""
    if x < 7:
        return digamma(x + 1) - 1 / x
    s = (x - 0.5) ** -2
    return math.log(x - 0.5) + s / 24 - 7 * s**2 / 960 + 31 * s**3 / 8064 - 127 * s**4 / 30720


def expected_counts(pieces: Mapping[bytes, int], scores: Mapping[bytes, float]) -> dict[bytes, float]:
    """How often each token is used, over all ways of cutting every piece, each weighted by its probability (the E step).

    `before[n]` is the probability of all ways to the place n, `after[n]` that of all ways from there on.

    >>> round(expected_counts({b"ab": 3}, {b"a": math.log(0.5), b"b": math.log(0.5), b"ab": math.log(0.5)})[b"ab"], 9)
    2.0
    """
    expected = dict.fromkeys(scores, 0.0)
    for piece, count in pieces.items():
        edges = [(start, end, math.exp(scores[token])) for start, end, token in fitting_tokens(piece, scores)]
        before, after = [1.0] + [0.0] * len(piece), [0.0] * len(piece) + [1.0]
        for start, end, p in edges:
            before[end] += before[start] * p
        for start, end, p in reversed(edges):
            after[start] += p * after[end]
        for start, end, p in edges:
            expected[piece[start:end]] += count * before[start] * p * after[end] / before[-1]
    return expected


def fitting_tokens(piece: Spelling, tokens: Container[Spelling]) -> list[tuple[int, int, Spelling]]:
    """Every token that fits somewhere in a piece (start, end, token): the edges of the lattice.

    >>> fitting_tokens("aab", {"a", "ab"})
    [(0, 1, 'a'), (1, 2, 'a'), (1, 3, 'ab')]
    """
    ends = range(1, len(piece) + 1)
    spans = ((start, end, piece[start:end]) for start in range(len(piece)) for end in ends if start < end)
    return [span for span in spans if span[2] in tokens]


def unigram_losses(pieces: Mapping[bytes, int], scores: Mapping[bytes, float]) -> dict[bytes, float]:
    """How much likelihood the text loses without each token, when the best way of cutting the token stands in its stead.

    A token that the best ways of cutting never use loses nothing; less than nothing if it is not even its own best way.
    """
    used: Counter[bytes] = Counter()
    for piece, count in pieces.items():
        for token in best_ways(piece, scores)[0][1]:
            used[token] += count
    losses: dict[bytes, float] = {}
    for token in (token for token in scores if len(token) > 1):
        others = {other: score for other, score in scores.items() if other in token and other != token}
        score, parts = best_ways(token, others)[0]
        if used[token]:
            total = used.total() + used[token] * (len(parts) - 1)
            without = sum(math.log((used[part] + used[token]) / total) for part in parts)
            losses[token] = used[token] * (math.log(used[token] / used.total()) - without)
        else:
            losses[token] = 0.0 if scores[token] >= score else -1.0
    return losses


# Word


def most_frequent(pieces: Mapping[bytes, int], number: int) -> list[bytes]:
    """The pieces that occur most often, in that order; the earlier bytes win a tie.

    >>> most_frequent({b"the": 9, b"of": 5, b"cat": 5}, 2)
    [b'the', b'cat']
    """
    return sorted(pieces, key=lambda piece: (-pieces[piece], piece))[:number]
