"""Unigram: every token has a probability, and a piece is cut in the way whose tokens are most probable together.

    pieces -> seeds: frequent substrings -> EM: expected counts, new probabilities -> drop a quarter -> EM -> … -> tokens

Training goes down, not up as BPE does: it starts from far too many substrings and drops, again and again, those that
the text would miss least. A token is whole characters or one byte. The 256 bytes always stay, so every text can be
spelled; they are written in byte characters, as in byte-level BPE. Scores are rounded to multiples of 2^-10: a sum of
a thousand of them is exact in 32 bits too, so that every program finds the same best way.

Differences to SentencePiece: there are four seeds for each token, not a million; substrings are counted as often as their piece occurs, not once for each different piece;
characters are no exception when tokens are dropped, since bytes spell them; and the last tokens to go are those that
the text misses least, too, not those that are rarest.

Source: Kudo 2018, "Subword Regularization", section 3.2; the shrinking by a quarter is SentencePiece's.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any

import numpy as np

from pellucid.errors import TokenizerError
from pellucid.events import NULL, Recorder
from pellucid.tokens import layout as shared
from pellucid.tokens import plain
from pellucid.tokens.byte_characters import BYTE_CHARACTERS, BYTE_TOKENS, NUM_BYTES
from pellucid.tokens.fast import unigram as loops
from pellucid.tokens.models.unigram_lattice import Bools, Reals, UnigramCorpus, UnigramLattice, find_seeds, read_pieces
from pellucid.tokens.progress import pruning
from pellucid.tokens.vocabulary import HINT, Check, ModelTokens, Vocabulary, as_list, check_ids
from pellucid.untrusted import shown

MOST_CHARACTERS = 16  # of a token
ROUNDS = 2  # of EM between two prunings
KEPT = 3, 4  # of the tokens, at each pruning
GRAIN = 1024.0  # scores are multiples of its inverse

FIELDS: dict[str, Check] = {
    "type": lambda value: value == "Unigram",
    "unk_id": lambda value: value is None or type(value) is int,
    "byte_fallback": lambda value: isinstance(value, bool),
    "vocab": lambda value: isinstance(value, list),
}


@dataclass(frozen=True, kw_only=True)
class FittingToken:
    """A token that fits at one place of a piece, `piece[start:end]`, and the logarithm of its probability.

    An unknown character fits too, with the score of a token that is far rarer than all others.
    """

    token: str
    start: int
    end: int
    score: float
    is_known: bool
    in_best: bool = False  # the best way of cutting takes it here
    in_second: bool = False


@dataclass(frozen=True, kw_only=True)
class WayOfCutting:
    """One way of cutting a piece: its tokens, and the sum of their scores."""

    tokens: tuple[str, ...]
    score: float

    @property
    def spans(self) -> tuple[tuple[int, int], ...]:
        """Where each token begins and ends in the piece.

        >>> WayOfCutting(tokens=("un", "do"), score=-7.0).spans
        ((0, 2), (2, 4))
        """
        return tuple(pairwise(accumulate(map(len, self.tokens), initial=0)))


NO_WAY = WayOfCutting(tokens=(), score=0.0)  # where there is no second


@dataclass(frozen=True, kw_only=True)
class UnigramExplanation:
    """Every token that fits in a piece, the best way through them, and the second best where there is one."""

    piece: str
    fitting: tuple[FittingToken, ...]
    best: WayOfCutting
    runner_up: WayOfCutting | None


def read(node: Mapping[str, Any]) -> ModelTokens:
    """The tokens of a file's model with their scores; the place in the list is the id."""
    entries = as_list(node.get("vocab"), "model.vocab")
    for entry in entries:
        if not (isinstance(entry, list) and len(entry) == 2 and isinstance(entry[0], str)):
            raise TokenizerError(
                "an entry of the vocabulary is not a token with its score", found=shown(entry), hint=HINT
            )
        if not isinstance(entry[1], int | float) or isinstance(entry[1], bool) or not math.isfinite(entry[1]):
            raise TokenizerError("a token's score is not a number", found=shown(entry), hint=HINT)
    vocab = {token: token_id for token_id, (token, _) in enumerate(entries)}
    if len(vocab) < len(entries):
        raise TokenizerError("two tokens of the tokenizer are spelled the same way", hint=HINT)
    unknown = node.get("unk_id")
    if unknown is not None and not (type(unknown) is int and 0 <= unknown < len(entries)):
        raise TokenizerError("the tokenizer's unknown token is not among its tokens", found=shown(unknown), hint=HINT)
    name = None if unknown is None else entries[unknown][0]
    scores = {token: float(score) for token, score in entries}
    return ModelTokens(vocab=check_ids(vocab), scores=scores, unknown=name)


def for_engine(node: Mapping[str, Any], vocabulary: Vocabulary, tokens: Mapping[str, int]) -> dict[str, Any]:
    """The model that the engine gets: special tokens and gaps keep their places under names that no text spells.

    Such a name begins with a plain space, which this kind never sees: spaces are ▁, or a byte character. So do the byte
    tokens of byte fallback, which is done afterwards (`sentencepiece_engine.py`).
    """
    bytes_aside = BYTE_TOKENS if node.get("byte_fallback") else ()
    spelled = {token_id: token for token, token_id in tokens.items() if token not in bytes_aside}
    least = min((vocabulary.scores[token] for token in spelled.values()), default=0.0)
    entries: list[list[Any]] = []
    for token_id in range(len(vocabulary.scores)):
        token = spelled.get(token_id)
        aside = token is None or token_id == vocabulary.unknown_id
        entries.append([f" {token_id}", least] if aside else [token, vocabulary.scores[str(token)]])
    return {"type": "Unigram", "unk_id": vocabulary.unknown_id, "vocab": entries, "byte_fallback": False}


def train(
    pieces: Mapping[bytes, int], vocab_size: int, *, longest: int = MOST_CHARACTERS, recorder: Recorder = NULL
) -> list[tuple[bytes, float]]:
    """Learn at most `vocab_size` tokens and their scores from pieces of UTF-8 and how often each occurs.

    The 256 bytes come first, then the others, the most probable first. `longest`: most characters in a token. The
    result depends on the pieces and their counts only, to the bit, not on their order, the machine or its threads.
    Events: `tokens.compiling`, `tokens.compiled`, `tokens.slow_way` where Numba is missing, `tokens.progress`. Raises TokenizerError for a size below 256.

    >>> [token.decode() for token, _ in train({b"low": 5, b"lower": 2, b"newer": 6}, 259)[256:]]
    ['newer', 'low', 'lower']
    """
    if vocab_size < NUM_BYTES:
        raise TokenizerError("a vocabulary needs a token for each of the 256 bytes", found=f"{vocab_size} tokens")
    with loops.telling_of_compilation("unigram", recorder):
        _train(read_pieces({b"to be or not to be": 2}), NUM_BYTES, longest, NULL)
    return _train(read_pieces(pieces), vocab_size, longest, recorder)


def _train(corpus: UnigramCorpus, vocab_size: int, longest: int, recorder: Recorder) -> list[tuple[bytes, float]]:
    recorder.record(pruning(0, _num_rounds(plain.SEEDS_PER_TOKEN * vocab_size, vocab_size)))
    lattice, counts = find_seeds(corpus, longest, plain.SEEDS_PER_TOKEN * vocab_size)
    counts *= np.maximum(lattice.lengths, 1)
    num_done = 0
    while True:
        for _ in range(ROUNDS):
            counts = _expect(corpus, lattice, counts)
            kept = (counts >= plain.LEAST_EXPECTED) | (lattice.lengths == 0) | (len(counts) <= vocab_size)
            lattice, counts = lattice.keep(kept), counts[kept]
        if len(counts) <= vocab_size:
            return _sorted_tokens(corpus, lattice, _estimate(lattice, counts)[0])
        num_done += 1
        recorder.record(pruning(num_done, num_done + _num_rounds(len(counts), vocab_size)))
        most, of = KEPT
        kept = _largest(_weigh(corpus, lattice, counts), max(vocab_size, len(counts) * most // of))
        lattice, counts = lattice.keep(kept), counts[kept]


def layout(tokens: Sequence[tuple[bytes, float]], *, pattern: str, specials: Sequence[str]) -> dict[str, Any]:
    """The `tokenizer.json` of these tokens and scores, as a value: ids in the order of the tokens, specials last.

    `pattern`: the name of the expression that cuts the text into pieces.

    >>> layout([(b" a", -1.5)], pattern="qwen2", specials=["<bos>"])["model"]["vocab"]
    [['Ġa', -1.5]]
    """
    vocab = [["".join(BYTE_CHARACTERS[byte] for byte in token), score] for token, score in tokens]
    return shared.document(
        {"type": "Unigram", "unk_id": None, "vocab": vocab, "byte_fallback": False},
        specials=shared.numbered(specials, len(vocab)),
        pre_tokenizer=shared.byte_level_pieces(pattern),
        decoder=shared.BYTE_LEVEL,
    )


def explain(piece: str, scores: Mapping[str, float]) -> UnigramExplanation:
    """What fits where in a piece, and the two best ways of cutting it; piece and tokens in the spelling of the file.

    >>> explanation = explain("aab", {"a": -1.0, "b": -1.5, "ab": -2.0})
    >>> explanation.best.tokens, explanation.runner_up.tokens
    (('a', 'ab'), ('a', 'a', 'b'))
    """
    unknown = min(scores.values()) - plain.UNKNOWN_PENALTY
    fitting = plain.fitting_tokens(piece, {*scores, *piece})
    ways = [WayOfCutting(tokens=tokens, score=score) for score, tokens in plain.best_ways(piece, scores, 2)]
    best, second = (set(way.spans) for way in (ways[0], ways[1] if len(ways) > 1 else NO_WAY))
    return UnigramExplanation(
        piece=piece,
        fitting=tuple(
            FittingToken(
                token=token,
                start=start,
                end=end,
                score=scores.get(token, unknown),
                is_known=token in scores,
                in_best=(start, end) in best,
                in_second=(start, end) in second,
            )
            for start, end, token in fitting
        ),
        best=ways[0],
        runner_up=ways[1] if len(ways) > 1 else None,
    )


def _estimate(lattice: UnigramLattice, counts: Reals) -> tuple[Reals, Reals]:
    """Scores and probabilities of all tokens; then of the spelled characters, whose bytes are added up."""
    scores, p = np.zeros(len(counts)), np.zeros(len(counts))
    loops.estimate(np.maximum(counts, plain.LEAST_EXPECTED), scores, p)
    byte_scores, byte_p = np.append(scores[:NUM_BYTES], 0.0), np.append(p[:NUM_BYTES], 1.0)  # the last is for no byte
    spelled_scores, spelled_p = np.zeros(len(lattice.spelled)), np.ones(len(lattice.spelled))
    for byte in lattice.spelled.T:  # one after the other: their order decides the last bit
        spelled_scores += byte_scores[byte]
        spelled_p *= byte_p[byte]
    return np.concatenate([scores, spelled_scores]), np.concatenate([p, spelled_p])


def _expect(corpus: UnigramCorpus, lattice: UnigramLattice, counts: Reals) -> Reals:
    _, p = _estimate(lattice, counts)
    expected, likelihoods = np.zeros(len(p)), np.zeros(len(corpus.counts))
    loops.expect(corpus.starts, corpus.counts, *lattice.edges, p, expected, likelihoods)
    return _of_tokens(lattice, expected)


def _weigh(corpus: UnigramCorpus, lattice: UnigramLattice, counts: Reals) -> Reals:
    """How much likelihood the text would lose without each token; the bytes cannot be missed."""
    scores, _ = _estimate(lattice, counts)
    used = np.zeros(len(scores))
    loops.cut(corpus.starts, corpus.counts, *lattice.edges, scores, used)
    losses = np.full(len(counts), np.inf)
    used = _of_tokens(lattice, used)
    loops.weigh(lattice.places, lattice.lengths, *lattice.edges, lattice.spelled, scores, used, losses)
    return losses


def _num_rounds(size: int, wanted: int) -> int:
    """How many rounds `size` tokens need at most to become `wanted`; the last drops none."""
    most, of = KEPT
    rounds = 0
    while size > wanted:
        size, rounds = max(wanted, size * most // of), rounds + 1
    return rounds


def _largest(numbers: Reals, size: int) -> Bools:
    """Of each number, whether it is among the `size` largest; the earlier wins a tie."""
    kept = np.zeros(len(numbers), np.bool_)
    kept[np.argsort(-numbers, kind="stable")[:size]] = True
    return kept


def _of_tokens(lattice: UnigramLattice, counts: Reals) -> Reals:
    """Counts of tokens alone: those of spelled characters go to their bytes."""
    tokens, spelled = counts[: len(lattice.lengths)].copy(), counts[len(lattice.lengths) :]
    for byte in lattice.spelled.T:
        np.add.at(tokens, byte[byte >= 0], spelled[byte >= 0])
    return tokens


def _sorted_tokens(corpus: UnigramCorpus, lattice: UnigramLattice, scores: Reals) -> list[tuple[bytes, float]]:
    rounded = (np.rint(scores * GRAIN) / GRAIN).tolist()
    single = [(bytes([byte]), rounded[byte]) for byte in range(NUM_BYTES)]
    longer = [
        (corpus.text(int(lattice.places[token]), int(lattice.lengths[token])), rounded[token])
        for token in range(NUM_BYTES, len(lattice.lengths))
    ]
    return single + sorted(longer, key=lambda pair: (-pair[1], pair[0]))
