"""The reader of sentences sees them however the code builds them: what it missed, the catalogue's test would miss."""

from __future__ import annotations

import pytest


@pytest.mark.parametrize(
    ("code", "sentences"),
    [
        ('tell("plain")', ["plain"]),
        ('tell(f"{count:,} tokens of {{text}}")', ["{count} tokens of {{text}}"]),
        ('tell("one" if many else f"{n} more")', ["one", "{n} more"]),
        ("tell(f\"{n} thread{'s' if n > 1 else ''}\")", ["{n} threads", "{n} thread"]),
        ("tell(f\"{counted(n, 'step')} of {total}\")", ["{n} step(s) of {total}"]),
        ('def f():\n    steps = counted(n, "step")\n    tell(f"after {steps}")', ["after {n} step(s)"]),
        ('tell("a" + f" and {b}")', ["a and {b}"]),
        ('WORDS = "above"\ntell(WORDS)', ["above"]),
        ('def f():\n    what = "inside"\n    tell(what)', ["inside"]),
        ('def f():\n    what = "first"\n    what += f", then {n}"\n    tell(what)', ["first", "first, then {n}"]),
        ('def f(what):\n    tell(what)\n\nf("as an argument")\nf(what="by name")', ["as an argument", "by name"]),
        ('def f():\n    return "from below"\n\ntell(f())', ["from below"]),
        ('def f():\n    for name, what in (("a", "looped"), ("b", "twice")):\n        tell(what)', ["looped", "twice"]),
        ('tell({1: "of a", 2: "table"}[n])', ["of a", "table"]),
        ("tell(len(what))", None),
    ],
)
def test_a_sentence_is_read_out_of_the_code(read, code, sentences) -> None:
    found = read(code)
    assert found == sentences or sorted(found) == sorted(sentences)
