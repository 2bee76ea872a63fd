"""`pellucid tokenizer explain`: how a text became its tokens, step by step, for every kind of tokenizer."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click

from pellucid.cli.common import PLACE, Terminal, json_option, print_json, read_standard_input
from pellucid.cli.language import words
from pellucid.cli.screen import quote, say
from pellucid.cli.tables import Side, print_table
from pellucid.cli.tokenizer_explain_picture import PICTURE, draw_cuts
from pellucid.cli.tokenizer_file import open_tokenizer
from pellucid.data.microworld.corpus import documents
from pellucid.events import Event
from pellucid.files import check_directory
from pellucid.tokens.choose import train_every_kind
from pellucid.tokens.explain import MergesExplanation, Piece, WholeExplanation, explain, in_characters
from pellucid.tokens.labels import readable
from pellucid.tokens.models.unigram import UnigramExplanation, WayOfCutting
from pellucid.tokens.models.word import WordExplanation
from pellucid.tokens.models.wordpiece import WordPieceExplanation
from pellucid.tokens.tokenizer import Tokenizer

STANDARD_INPUT = "-"
STORY_SEED, STORY_LEVEL, STORY_BYTES, SMALL_VOCABULARY = (
    1337,
    1,
    300_000,
    2_048,
)  # for the tokenizers that are trained here
out_option = click.option("--out", type=PLACE, help="draw it here, as SVG and PNG")
TOKEN_COLUMNS: dict[str, Side] = {
    "piece": "left", "characters": "left", "id": "right", "token": "left", "bytes": "left",
}  # fmt: skip
MERGE_COLUMNS: dict[str, Side] = {
    "merges of": "left", "rank": "right", "left": "left", "right": "left", "joined": "left",
}  # fmt: skip
MATCH_COLUMNS: dict[str, Side] = {
    "word": "left", "longest token that fits": "left", "longer beginnings that are no token": "right", "left over": "left",
}  # fmt: skip
LATTICE_COLUMNS: dict[str, Side] = {
    "piece": "left", "its characters": "left", "token that fits": "left", "score": "right", "taken": "left",
}  # fmt: skip
WORD_COLUMNS: dict[str, Side] = {"piece": "left", "in the vocabulary": "left"}
BEST, SECOND, BOTH = "best", "second", "best and second"


@click.command(name="explain")
@click.argument("arguments", metavar="[DIR] TEXT", nargs=-1, required=True)
@out_option
@json_option
def explain_text(arguments: tuple[str, ...], out: Path | None, as_json: bool) -> None:
    """Show how TEXT became its tokens.

    The pieces that no token crosses, the ids in each with their bytes, and how they were found: the merges of BPE in
    the order they were applied, the longest matches of WordPiece, the scores and the best way of Unigram. Places are
    counted in characters of the text, those of a Unigram's tokens from the start of their piece.

    Without DIR a small tokenizer of each kind is trained first, on stories of the microworld.
    """
    if out is not None:
        check_directory(out)
    *places, text = arguments
    text = read_standard_input() if text == STANDARD_INPUT else text
    tokenizers = chosen_tokenizers(places, text)
    found = {name: explain(tokenizer, text) for name, tokenizer in tokenizers.items()}
    if out is not None:
        for name, pieces in found.items():
            for file in draw_cuts(tokenizers[name], pieces, out, PICTURE if places else f"{PICTURE}-{name}"):
                say(f"· {file}", err=True)
    if as_json:
        told = {name: [piece_document(tokenizers[name], piece) for piece in pieces] for name, pieces in found.items()}
        print_json(told if not places else next(iter(told.values())))
        return
    for name, pieces in found.items():
        if not places:
            say(words(f"{name}, {tokenizers[name].vocab_size:,} tokens") + "\n")
        print_explanation(tokenizers[name], pieces)


def chosen_tokenizers(places: Sequence[str], text: str) -> dict[str, Tokenizer]:
    """The tokenizer of a place under its name; without a place one of each kind, trained now."""
    if len(places) > 1:
        raise click.UsageError(f"Got unexpected extra argument ({text})")
    if places:
        return {places[0]: open_tokenizer(PLACE.convert(places[0], None, None))}
    if Path(text).is_dir() or Path(text).is_file():
        raise click.UsageError("Missing argument 'TEXT'.")
    message = f"training a tokenizer of each kind on {STORY_BYTES:,} bytes of microworld stories"
    Terminal().record(Event(name="tokens.demonstration", message=message, data={"bytes": STORY_BYTES}))
    stories = list(documents(STORY_SEED, level=STORY_LEVEL, num_bytes=STORY_BYTES))
    return train_every_kind(stories, SMALL_VOCABULARY)


def print_explanation(tokenizer: Tokenizer, pieces: Sequence[Piece]) -> None:
    """The tokens as a table, and below it how they were found."""
    print_table(TOKEN_COLUMNS, [cells for piece in pieces for cells in token_rows(tokenizer, piece)])
    steps = [cells for piece in pieces for cells in how_rows(tokenizer, piece)]
    for kind, columns in (
        (MergesExplanation, MERGE_COLUMNS),
        (WordPieceExplanation, MATCH_COLUMNS),
        (UnigramExplanation, LATTICE_COLUMNS),
        (WordExplanation, WORD_COLUMNS),
    ):
        if steps and any(type(piece.how) is kind for piece in pieces):  # one tokenizer, one kind
            print_table(columns, steps)


def token_rows(tokenizer: Tokenizer, piece: Piece) -> Iterator[tuple[str, ...]]:
    """A piece's tokens as rows under TOKEN_COLUMNS; the piece stands beside its first. An unknown token has no bytes."""
    label = (quote(piece.text), f"{piece.start}-{piece.end}")
    for token in piece.tokens:
        spelled = "" if token.id == tokenizer.vocabulary.unknown_id else token.bytes.hex(" ")
        yield (*label, str(token.id), quote(token.text), spelled)
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
    for one in in_characters(tokenizer, how).fitting:
        taken = BOTH if one.in_best and one.in_second else BEST if one.in_best else SECOND if one.in_second else ""
        text = quote(shown(tokenizer, one.token)) if one.is_known else words("unknown character")
        yield f"{one.start}-{one.end}", text, f"{one.score:.3f}", words(taken) if taken else ""
    for name, way in ((BEST, how.best), (SECOND, how.runner_up)):
        if way is not None:
            cut = " ".join(quote(shown(tokenizer, token)) for token in way.tokens)
            yield "", cut, f"{way.score:.3f}", words(name)


def shown(tokenizer: Tokenizer, token: str) -> str:
    """A token of the file as text for people; a character without a token as it is."""
    token_id = tokenizer.vocabulary.ids.get(token)
    return token if token_id is None else tokenizer.token_text(token_id)


def piece_document(tokenizer: Tokenizer, piece: Piece) -> dict[str, Any]:
    """A piece as JSON; bytes in hexadecimal. `how` is what was done beside merges."""
    merges = [{"rank": m.rank, "left": m.left.hex(" "), "right": m.right.hex(" ")} for m in piece.merges]
    tokens = [{"id": token.id, "bytes": token.bytes.hex(" "), "text": token.text} for token in piece.tokens]
    told = {"text": piece.text, "start": piece.start, "end": piece.end, "merges": merges, "tokens": tokens}
    match piece.how:
        case MergesExplanation():
            return told
        case UnigramExplanation():
            how = {"piece": piece.text, **lattice_document(tokenizer, piece.how)}
        case WordExplanation():
            token = shown(tokenizer, piece.how.token)
            how = {"piece": piece.text, "token": token, "is_known": piece.how.is_known}
        case WordPieceExplanation() | WholeExplanation():
            how = dataclasses.asdict(piece.how)
    return {**told, "how": how}


def lattice_document(tokenizer: Tokenizer, how: UnigramExplanation) -> dict[str, Any]:
    """What fits in a piece, and the ways through it, as JSON, with tokens as text for people."""

    def readable_way(way: WayOfCutting | None) -> dict[str, Any] | None:
        return (
            None if way is None else {"tokens": [shown(tokenizer, token) for token in way.tokens], "score": way.score}
        )

    fitting = [
        {**dataclasses.asdict(one), "token": shown(tokenizer, one.token)}
        for one in in_characters(tokenizer, how).fitting
    ]
    return {"fitting": fitting, "best": readable_way(how.best), "runner_up": readable_way(how.runner_up)}
