r"""A safety check for regular expressions from outside: only a plain kind is allowed, which cannot backtrack for ever.

The engine of a `tokenizer.json` (oniguruma) goes back and tries again when a match fails, and an expression like
`((.|.)*)*x` makes it try 2^n ways. What the published tokenizers need is plain: alternatives of characters and classes,
each repeated by itself, a look ahead, an optional group. So only that is allowed: nothing that repeats a group, refers
back, calls itself or nests. How many choices may follow each other is limited too, which leaves a small power of the
text's length; what is slow all the same is found by the trial (`engine.py`).
"""

from __future__ import annotations

from pellucid.errors import TokenizerError

MOST_CHARACTERS = 4_096
MOST_GROUPS = 8  # inside each other
MOST_CHOICES = 8  # one after the other: the exponent of the text's length, at worst
MOST_REPEATS = 256  # in {least,most}
GROUPS = ("(?:", "(?i:", "(?=", "(?!", "(?<=", "(?<!", "(?>", "(")
SIMPLE_ESCAPES = frozenset("nrtfveasSdDwWhHAzZbB")
NAMED_CLASSES = ("p{", "P{")


def check_expression(expression: str) -> None:
    """Raise TokenizerError unless an expression is of the plain kind.

    >>> check_expression(r" ?\\p{L}+|\\s+(?!\\S)")
    >>> check_expression("((a|a)*)*x")
    Traceback (most recent call last):
    ...
    pellucid.errors.TokenizerError: the tokenizer cuts text with an expression that is not of a plain kind
      found: a group is repeated, at character 8
      where: ((a|a)*)*x
      try:   use an expression without repeated groups and references
    """
    if not 0 < len(expression) <= MOST_CHARACTERS:
        raise _refusal(expression, f"it has {len(expression):,} characters")
    reader = _PatternReader(expression)
    reader.alternatives(0)
    if reader.at < len(expression):
        raise reader.refuse("a ) without its (")


class _PatternReader:
    """A place in an expression, moving forward; each method counts the choices in what it has read."""

    def __init__(self, expression: str) -> None:
        self.text, self.at = expression, 0

    def refuse(self, what: str) -> TokenizerError:
        return _refusal(self.text, f"{what}, at character {self.at}")

    def takes(self, word: str) -> bool:
        """Whether this word is next; if so, go past it."""
        found = self.text.startswith(word, self.at)
        self.at += len(word) if found else 0
        return found

    def character(self) -> str:
        if self.at >= len(self.text):
            raise self.refuse("it ends too early")
        self.at += 1
        return self.text[self.at - 1]

    def alternatives(self, depth: int) -> int:
        if depth > MOST_GROUPS:
            raise self.refuse("too many groups inside each other")
        most = self.sequence(depth)
        while self.takes("|"):
            most = max(most, self.sequence(depth))
        return most

    def sequence(self, depth: int) -> int:
        choices = 0
        while self.at < len(self.text) and self.text[self.at] not in "|)":
            choices += self.repeated(depth)
            if choices > MOST_CHOICES:
                raise self.refuse("too many choices one after the other")
        return choices

    def repeated(self, depth: int) -> int:
        is_group = self.text[self.at] == "("
        choices = self.group(depth) if is_group else self.atom()
        least, most = self.quantifier()
        if is_group and most is not None and most > 1 and (least, most) != (1, 1):
            raise self.refuse("a group is repeated")
        if self.at < len(self.text) and self.text[self.at] in "*+?{":
            raise self.refuse("a repetition is repeated")
        return choices + (least != most)

    def group(self, depth: int) -> int:
        opened = next(start for start in GROUPS if self.takes(start))
        if opened == "(" and self.text.startswith("?", self.at):
            raise self.refuse("a kind of group that is not known")
        choices = self.alternatives(depth + 1)
        if not self.takes(")"):
            raise self.refuse("a ( without its )")
        return choices

    def atom(self) -> int:
        character = self.character()
        if character == "[":
            self.characters(1)
        elif character == "\\":
            self.escape()
        elif character in "*+?{":
            raise self.refuse("a repetition of nothing")
        return 0

    def escape(self) -> None:
        if any(self.takes(name) for name in NAMED_CLASSES):
            end = self.text.find("}", self.at)
            if end < 0 or not self.text[self.at : end].lstrip("^").replace("_", "").isalnum():
                raise self.refuse("a class without a name")
            self.at = end + 1
            return
        character = self.character()
        if character in "xu":
            digits = self.text[self.at : self.at + (2 if character == "x" else 4)]
            if not all(digit in "0123456789abcdefABCDEF" for digit in digits) or not digits:
                raise self.refuse("a character code that is not hexadecimal")
            self.at += len(digits)
        elif character.isalnum() and character not in SIMPLE_ESCAPES:
            raise self.refuse("a reference or an escape that is not known")

    def characters(self, depth: int) -> None:
        """The rest of a class in brackets, which may hold others."""
        if depth > MOST_GROUPS:
            raise self.refuse("too many classes inside each other")
        self.takes("^")
        first = True
        while first or not self.takes("]"):
            character = self.character()
            if character == "\\":
                self.escape()
            elif character == "[":
                self.characters(depth + 1)
            first = False

    def quantifier(self) -> tuple[int, int]:
        """(least, most) of the repetition that follows; (1, 1) when there is none."""
        endless = MOST_REPEATS + 1
        if self.takes("{"):
            return self.braces(endless)
        for sign, bounds in (("*", (0, endless)), ("+", (1, endless)), ("?", (0, 1))):
            if self.takes(sign):
                _ = self.takes("?") or self.takes("+")  # as few as possible, or without going back
                return bounds
        return 1, 1

    def braces(self, endless: int) -> tuple[int, int]:
        end = self.text.find("}", self.at)
        least, comma, most = self.text[self.at : max(end, self.at)].partition(",")
        if end < 0 or not (least or "0").isdecimal() or not (most or "0").isdecimal() or not least + most:
            raise self.refuse("a repetition that cannot be read")
        self.at = end + 1
        bounds = int(least or "0"), (int(most) if most else endless) if comma else int(least)
        if not bounds[0] <= bounds[1] or bounds[0] > MOST_REPEATS or (most and bounds[1] > MOST_REPEATS):
            raise self.refuse("too many repetitions")
        self.takes("?")  # as few as possible; a + would repeat the repetition
        return bounds


def _refusal(expression: str, found: str) -> TokenizerError:
    return TokenizerError(
        "the tokenizer cuts text with an expression that is not of a plain kind",
        found=found,
        where=expression[:120],
        hint="use an expression without repeated groups and references",
    )
