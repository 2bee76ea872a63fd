"""What form an answer must take: a regular expression, a JSON Schema, a list of choices or a grammar. No torch.

These are the texts as a person wrote them. `constrain` compiles them and finds out whether they can be met.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pellucid.errors import SamplingError
from pellucid.settings import Named, setting

Kind = Literal["regex", "json_schema", "choices", "grammar"]
KINDS: tuple[Kind, ...] = ("regex", "json_schema", "choices", "grammar")


@dataclass(frozen=True, kw_only=True)
class ConstraintSettings(Named):
    """The form of an answer, in one of four languages; without any the answer is free.

    >>> ConstraintSettings(choices=("yes", "no")).kind
    'choices'
    >>> ConstraintSettings(regex="[0-9]+", grammar='start: "a"')
    Traceback (most recent call last):
    ...
    pellucid.errors.SamplingError: an answer can have one constraint
      found: regex and grammar
      try:   a grammar can hold regular expressions and, after %json, schemas
    """

    regex: str | None = setting(None, "the answer as a whole matches this regular expression")
    json_schema: str | None = setting(None, "the answer is JSON that this JSON Schema (its text) accepts")
    choices: tuple[str, ...] = setting((), "the answer is one of these texts")
    grammar: str | None = setting(None, "the answer follows this grammar, in Lark syntax")
    compile_seconds: float = setting(10.0, "give up compiling after this many seconds", low=0.1)

    def __post_init__(self) -> None:
        given = self._given()
        if len(given) > 1:
            raise SamplingError(
                "an answer can have one constraint",
                found=" and ".join(given),
                hint="a grammar can hold regular expressions and, after %json, schemas",
            )
        if isinstance(self.choices, str) or "" in self.choices:
            raise SamplingError(
                "choices must be texts, none of them empty", found=repr(self.choices), hint='for example ("yes", "no")'
            )

    @property
    def kind(self) -> Kind | None:
        """Which of the four is given; None when the answer is free."""
        return next(iter(self._given()), None)

    def _given(self) -> list[Kind]:
        return [kind for kind in KINDS if getattr(self, kind) not in (None, ())]
