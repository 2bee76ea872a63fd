"""`pellucid tokenizer explain`: how a text became its tokens, step by step, for every kind of tokenizer."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import click

from pellucid.cli.common import PlacePath, json_option, print_json, read_standard_input
from pellucid.cli.language import words
from pellucid.cli.screen import quote, say
from pellucid.cli.tables import Side, print_table
from pellucid.cli.tokenizer_explain_picture import draw_cuts
from pellucid.cli.tokenizer_file import open_tokenizer, where_argument
from pellucid.tokens.explain import MergesExplanation, Piece, WholeExplanation, explain
from pellucid.tokens.labels import readable
from pellucid.tokens.models.unigram import UnigramExplanation
from pellucid.tokens.models.word import WordExplanation
from pellucid.tokens.models.wordpiece import WordPieceExplanation
from pellucid.tokens.tokenizer import Tokenizer

STANDARD_INPUT = "-"
out_option = click.option("--out", type=PlacePath(file_okay=False, path_type=Path), help="draw it here, as SVG and PNG")
TOKEN_COLUMNS: dict[str, Side] = {
    "piece": "left", "characters": "left", "id": "right", "token": "left", "bytes": "left",
}  # fmt: skip
MERGE_COLUMNS: dict[str, Side] = {
    "merges of": "left", "rank": "right", "left": "left", "right": "left", "joined": "left",
}  # fmt: skip
MATCH_COLUMNS: dict[str, Side] = {
    "word": "left", "longest token that fits": "left", "longer ones tried": "right", "left over": "left",
}  # fmt: skip
LATTICE_COLUMNS: dict[str, Side] = {
    "piece": "left", "place": "left", "token that fits": "left", "score": "right", "taken": "left",
}  # fmt: skip
WORD_COLUMNS: dict[str, Side] = {"piece": "left", "in the vocabulary": "left"}
BEST, SECOND, BOTH = "best", "second", "best and second"


@click.command(name="explain")
@where_argument
@click.argument("text")
@out_option
@json_option
def explain_text(where: Path, text: str, out: Path | None, as_json: bool) -> None:
    """Show how TEXT became its tokens.

    The pieces that no token crosses, the ids in each with their bytes, and how they were found: the merges of BPE in
    the order they were applied, the longest matches of WordPiece, the scores and the best way of Unigram.
    """
    text = read_standard_input() if text == STANDARD_INPUT else text
    tokenizer = open_tokenizer(where)
    pieces = explain(tokenizer, text)
    for file in draw_cuts(tokenizer, pieces, out) if out else ():
        say(f"· {file}", err=True)
    if as_json:
        print_json([piece_document(piece) for piece in pieces])
        return
    print_table(TOKEN_COLUMNS, [cells for piece in pieces for cells in token_rows(piece)])
    steps = [cells for piece in pieces for cells in how_rows(tokenizer, piece)]
    for kind, columns in (
        (MergesExplanation, MERGE_COLUMNS),
        (WordPieceExplanation, MATCH_COLUMNS),
        (UnigramExplanation, LATTICE_COLUMNS),
        (WordExplanation, WORD_COLUMNS),
    ):
        if steps and any(type(piece.how) is kind for piece in pieces):  # one tokenizer, one kind
            print_table(columns, steps)


def token_rows(piece: Piece) -> Iterator[tuple[str, ...]]:
    """A piece's tokens as rows under TOKEN_COLUMNS; the piece stands beside its first."""
    label = (quote(piece.text), f"{piece.start}-{piece.end}")
    for token in piece.tokens:
        yield (*label, str(token.id), quote(token.text), token.bytes.hex(" "))
        label = ("", "")


def how_rows(tokenizer: Tokenizer, piece: Piece) -> Iterator[tuple[str, ...]]:
    """How a piece's tokens were found, as rows under the columns of its kind; the piece stands beside the first."""
    match piece.how:
        case MergesExplanation():
            found = merge_rows(piece.how)
        case WordPieceExplanation():
            found = match_rows(piece.how)
        case UnigramExplanation():
            found = lattice_rows(tokenizer, piece.how)
        case WordExplanation():
            found = iter([(words("yes") if piece.how.is_known else words("no: it is unknown"),)])
        case WholeExplanation():
            found = iter(())  # the first table has all there is to tell
    label = quote(piece.text)
    for cells in found:
        yield (label, *cells)
        label = ""


def merge_rows(how: MergesExplanation) -> Iterator[tuple[str, ...]]:
    """The merges, in the order in which they were applied."""
    for merge in how.merges:
        parts = (merge.left, merge.right, merge.left + merge.right)
        yield (f"{merge.rank:,}", *(quote(readable(part)) for part in parts))


def match_rows(how: WordPieceExplanation) -> Iterator[tuple[str, ...]]:
    """The longest matches from the left; at the end the part of an unknown word in which nothing fits."""
    for match in how.matches:
        yield quote(match.token), str(match.misses), quote(how.word[match.end :])
    if how.is_too_long:
        yield words("none: the word is too long to be tried"), "0", quote(how.word)
    elif how.reached < len(how.word):
        yield words("none: the whole word is unknown"), str(len(how.word) - how.reached), ""


def lattice_rows(tokenizer: Tokenizer, how: UnigramExplanation) -> Iterator[tuple[str, ...]]:
    """Every token that fits, with its score and the ways that take it; then the sums of the two best ways."""
    best, second = (spans(way.tokens) if way else set() for way in (how.best, how.runner_up))
    for one in how.fitting:
        span = (one.start, one.end)
        taken = BOTH if span in best & second else BEST if span in best else SECOND if span in second else ""
        text = quote(shown(tokenizer, one.token)) if one.is_known else words("unknown character")
        yield f"{one.start}-{one.end}", text, f"{one.score:.3f}", words(taken) if taken else ""
    for name, way in ((BEST, how.best), (SECOND, how.runner_up)):
        if way is not None:
            cut = " ".join(quote(shown(tokenizer, token)) for token in way.tokens)
            yield "", cut, f"{way.score:.3f}", words(name)


def spans(tokens: tuple[str, ...]) -> set[tuple[int, int]]:
    """Where the tokens of a way of cutting begin and end.

    >>> sorted(spans(("un", "do")))
    [(0, 2), (2, 4)]
    """
    ends = [0]
    for token in tokens:
        ends.append(ends[-1] + len(token))
    return set(pairwise(ends))


def shown(tokenizer: Tokenizer, token: str) -> str:
    """A token of the file as text for people; a character without a token as it is."""
    token_id = tokenizer.vocabulary.ids.get(token)
    return token if token_id is None else tokenizer.token_text(token_id)


def piece_document(piece: Piece) -> dict[str, Any]:
    """A piece as JSON; bytes in hexadecimal. `how` is what was done beside merges."""
    merges = [{"rank": m.rank, "left": m.left.hex(" "), "right": m.right.hex(" ")} for m in piece.merges]
    tokens = [{"id": token.id, "bytes": token.bytes.hex(" "), "text": token.text} for token in piece.tokens]
    told = {"text": piece.text, "start": piece.start, "end": piece.end, "merges": merges, "tokens": tokens}
    return told if isinstance(piece.how, MergesExplanation) else {**told, "how": dataclasses.asdict(piece.how)}
