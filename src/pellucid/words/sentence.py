"""A sentence with gaps (placeholders), as in the catalogues: `the file is empty`, `{n} tokens for {text}`.

The English sentence is the key, and its gaps are the fields. The code produces the filled English sentence. This file
matches it by the text between the gaps and puts the contents of the gaps into the Chinese sentence. A gap written
`{gap:say}` in Chinese holds a sentence of ours, which is translated too. `{n} token(s)` matches both 1 token and 2
tokens (`pellucid.counts`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from string import Formatter

SAY, ENDING = "say", "(s)"


@dataclass(frozen=True)
class Sentence:
    """A sentence whose gaps have names; braces that belong to the text are doubled, as in an f-string.

    >>> Sentence("{n} tokens for {text}").fields("12 tokens for a cat")
    {'n': '12', 'text': 'a cat'}
    >>> Sentence("{n} token(s)").fields("1 token"), Sentence("{n} token(s)").fields("2 tokens")
    ({'n': '1'}, {'n': '2'})
    """

    template: str

    @cached_property
    def parts(self) -> tuple[tuple[str, str | None, str], ...]:
        """(text before a gap, the gap's name, what follows its colon), the last with no gap when the text goes on."""
        return tuple((text, name, spec or "") for text, name, spec, _ in Formatter().parse(self.template))

    @property
    def gaps(self) -> tuple[str, ...]:
        """The names of its gaps, in their order."""
        return tuple(name for _, name, _ in self.parts if name is not None)

    @property
    def weight(self) -> int:
        """The number of characters outside gaps; of two sentences that match, the one with more is the better match."""
        return sum(len(text) for text, _, _ in self.parts)

    @property
    def skeleton(self) -> str:
        """The sentence with nameless gaps: equal for two spellings of the same sentence.

        >>> Sentence("{n} tokens").skeleton == Sentence("{count} tokens").skeleton
        True
        """
        return "".join(_doubled(text) + ("" if name is None else "{}") for text, name, _ in self.parts)

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        seen: set[str] = set()
        pattern = ""
        for text, name, _ in self.parts:
            pattern += re.escape(text).replace(re.escape(ENDING), r"(?:s|\(s\))?")
            if name is not None:
                pattern += f"(?P={name})" if name in seen else f"(?P<{name}>.*?)"
                seen.add(name)
        return re.compile(pattern, re.DOTALL)

    def fields(self, said: str) -> dict[str, str] | None:
        """The contents of the gaps of a filled sentence; None when it does not match."""
        start, end = self.parts[0][0], self.parts[-1]
        if not said.startswith(start) or (end[1] is None and not said.endswith(end[0].rpartition(ENDING)[2])):
            return None
        found = self._pattern.fullmatch(said)
        return None if found is None else found.groupdict()

    @property
    def said(self) -> tuple[str, ...]:
        """The gaps whose contents are translated too."""
        return tuple(name for _, name, spec in self.parts if name is not None and spec == SAY)

    def fill(self, fields: Mapping[str, str]) -> str:
        """The sentence with its gaps filled.

        >>> Sentence("{n} tokens for {text:say}").fill({"n": "3", "text": "a cat"})
        '3 tokens for a cat'
        """
        return "".join(text + ("" if name is None else fields[name]) for text, name, _ in self.parts)


def _doubled(text: str) -> str:
    return text.replace("{", "{{").replace("}", "}}")
