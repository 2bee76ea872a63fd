"""Code shared by the three hosts (server, widget, file): the page's program, one ES module built from web/."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Protocol

from pellucid.errors import CorruptFileError, PellucidError, StoreError
from pellucid.lens.answer import Answer
from pellucid.words.catalogue import say

BUILT = Path(__file__).parent / "built" / "lens.js"
EXPORTS = re.compile(r"export\s*\{([^{}]*)\};?\s*$")


class Answerer(Protocol):
    """The object that answers the page's questions: the lens, or the lobby before a model is chosen."""

    def answer(self, method: str, params: dict[str, Any]) -> Answer: ...


IN_CHINESE = (
    ("what", "what"),
    ("found", "found"),
    ("hint", "try"),
)  # sentences of an error, by their names in the page


def told_of(error: BaseException, question: str) -> dict[str, Any]:
    """The message for the page about a failed question: the four sentences of an error, in both languages, or a program error.

    >>> told_of(ZeroDivisionError("a fault"), "record")["found"]
    'ZeroDivisionError: a fault'
    """
    if isinstance(error, PellucidError):
        told = error.to_dict()
        return {**told, "hint": told["try"], "zh": {name: say("zh", "errors", told[key]) for name, key in IN_CHINESE}}
    return {
        "error": "Fault",
        "what": "the program has a fault here",
        "found": f"{type(error).__name__}: {error}",
        "where": question,
        "hint": "the terminal that runs Pellucid shows where it happened",
    }


def find_program() -> Path:
    """The built page. Raises StoreError when this copy of Pellucid has none, as a fresh clone has not."""
    if not BUILT.is_file():
        raise StoreError(
            "the lens's page is not built",
            where=str(BUILT),
            hint="in a clone: `python hatch_build.py` (needs hatchling and Node 20.19 or newer), or `pip install -e .`",
        )
    return BUILT


def call_exports(module: str, call: str) -> str:
    """The module with its exports replaced by a call of them, because a page in one file cannot import a module.

    >>> call_exports("const a = print;\\nexport { a as mount };", "mount(1);")
    'const a = print;\\n{ const mount = a; mount(1); }\\n'
    """
    found = EXPORTS.search(module)
    if not found:
        raise CorruptFileError(
            "the built page does not end with its exports", hint="build it again: python hatch_build.py"
        )
    pairs = (part.split() for part in found[1].split(",") if part.strip())
    names = {words[-1]: words[0] for words in pairs if words[-1] != "default"}
    constants = " ".join(f"const {public} = {name};" for public, name in names.items() if public != name)
    return f"{module[: found.start()]}{{ {constants} {call} }}\n"
