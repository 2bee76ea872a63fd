"""The picture of `pellucid tokenizer explain`: what each piece of a text was cut into, and how that was found.

The lowest row is what was there from the start. BPE: each merge is a box above the parts that it joins, with its rank.
Unigram: every token that fits, with its score; the best way is blue, the second best dashed. WordPiece, words: the match.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from pellucid.cli.bar_words import drawable
from pellucid.cli.language import words
from pellucid.drawing.boxes import Box, BoxLook, Panel, draw_boxes
from pellucid.tokens.browse import label_of_spelled
from pellucid.tokens.explain import MergesExplanation, Piece, WholeExplanation, read_signs
from pellucid.tokens.labels import label_of_bytes
from pellucid.tokens.models.unigram import UnigramExplanation
from pellucid.tokens.models.word import WordExplanation
from pellucid.tokens.models.wordpiece import WordPieceExplanation
from pellucid.tokens.tokenizer import Tokenizer

PICTURE = "cuts"
TITLE = "How the text became its tokens"
LEGEND = {
    BoxLook.SIGN: "the text",
    BoxLook.STEP: "fits, or was joined on the way",
    BoxLook.RESULT: "a token of the result",
    BoxLook.RIVAL: "of the second best way",
    BoxLook.LOST: "unknown: lost",
}


def draw_cuts(tokenizer: Tokenizer, pieces: Sequence[Piece], out: Path, name: str = PICTURE) -> list[Path]:
    """Draw every piece of a text into the directory `out`, as SVG and PNG."""
    title, *meanings = drawable((TITLE, *LEGEND.values()), [words(text) for text in (TITLE, *LEGEND.values())])
    panels = [
        Panel(title=label_of_bytes(piece.text.encode()), boxes=tuple(boxes(tokenizer, piece))) for piece in pieces
    ]
    legend = dict(zip(LEGEND, meanings, strict=True))
    return draw_boxes(panels, title=title, legend=legend, path_without_suffix=out / name)


def boxes(tokenizer: Tokenizer, piece: Piece) -> Iterator[Box]:
    """The boxes of one piece, by how its tokens were found."""
    match piece.how:
        case MergesExplanation():
            yield from merge_boxes(piece.how)
        case UnigramExplanation():
            yield from lattice_boxes(tokenizer, piece.how)
        case WordPieceExplanation():
            yield from match_boxes(piece.how)
        case WordExplanation():
            known = piece.how.is_known
            text = label_of_bytes(piece.text.encode()) if known else piece.how.token
            yield from whole_boxes(piece, text, BoxLook.RESULT if known else BoxLook.LOST)
        case WholeExplanation():
            yield from whole_boxes(piece, piece.text, BoxLook.RESULT)


def merge_boxes(how: MergesExplanation) -> Iterator[Box]:
    """The smallest parts in the lowest row; each merge above the higher of the two that it joins."""
    row = [
        Box(start=i, end=i + 1, level=0, text=label_of_bytes(part), look=BoxLook.SIGN)
        for i, part in enumerate(how.parts)
    ]
    for merge in how.merges:
        joined = label_of_bytes(merge.left + merge.right)
        for place in merge.places:
            left, right = row[place : place + 2]
            yield from (left, right)
            level = 1 + max(left.level, right.level)
            row[place : place + 2] = [
                Box(start=left.start, end=right.end, level=level, text=joined, note=f"{merge.rank:,}")
            ]
    for box in row:
        yield Box(**{**vars(box), "look": BoxLook.RESULT})


def lattice_boxes(tokenizer: Tokenizer, how: UnigramExplanation) -> Iterator[Box]:
    """Every token that fits, in the lowest level with room for it; the shortest are lowest."""
    levels: list[int] = []  # of each level, the column that it is free from
    for sign in read_signs(tokenizer, how.piece):
        yield Box(start=sign.start, end=sign.end, level=0, text=sign.label, look=BoxLook.SIGN)
    for fitting in sorted(how.fitting, key=lambda one: (one.end - one.start, one.start)):
        level = next((i for i, free in enumerate(levels) if free <= fitting.start), len(levels))
        levels[level : level + 1] = [fitting.end]
        look = BoxLook.RESULT if fitting.in_best else BoxLook.RIVAL if fitting.in_second else BoxLook.STEP
        yield Box(
            start=fitting.start,
            end=fitting.end,
            level=1 + level,
            text=label_of_spelled(tokenizer, fitting.token),
            note=f"{fitting.score:.1f}",
            look=look if fitting.is_known else BoxLook.LOST,
        )


def match_boxes(how: WordPieceExplanation) -> Iterator[Box]:
    """The longest matches one after the other; the rest of a word in which nothing fits is lost, and so the whole word."""
    yield from character_boxes(how.word)
    is_whole = how.reached == len(how.word)
    for match in how.matches:
        look = BoxLook.RESULT if is_whole else BoxLook.STEP
        yield Box(start=match.start, end=match.end, level=1, text=match.token, look=look)
    if not is_whole:
        level = 2 if how.matches else 1
        yield Box(start=0, end=len(how.word), level=level, text=how.tokens[0], look=BoxLook.LOST)


def whole_boxes(piece: Piece, text: str, look: BoxLook) -> Iterator[Box]:
    """A piece that is one token, or an unknown word."""
    yield from character_boxes(piece.text)
    yield Box(start=0, end=len(piece.text), level=1, text=text, look=look)


def character_boxes(characters: str) -> Iterator[Box]:
    """The lowest row, one column for each character."""
    for place, character in enumerate(characters):
        text = label_of_bytes(character.encode())
        yield Box(start=place, end=place + 1, level=0, text=text, look=BoxLook.SIGN)
