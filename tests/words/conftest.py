"""Reads the sentences out of the code: the templates of all that may be said, with a gap for each value.

A sentence is followed through names, conditions, sums, and calls of functions of ours, also into the arguments that a
module's own functions are called with. What cannot be followed is a gap.
"""

from __future__ import annotations

import ast
import inspect
import itertools
import re
from collections.abc import Callable, Iterable, Iterator
from functools import cache, cached_property
from pathlib import Path

import click
import pytest

import pellucid
from pellucid import errors
from pellucid.cli.app import VERBS, root
from pellucid.cli.help import paragraphs_of, split_extra

SRC = Path(pellucid.__file__).parent
MOST_FORMS = 64  # of one expression: more are not told apart
NOT_WORDS = re.compile(r"\{[^{}]*\}|`[^`]*`|--[\w-]+|'[^']*'|\"[^\"]*\"|[\w.\[\]]*[=_/.][\w.\[\]]*|<\w+>")


class Module:
    """One file of the package: its functions, its constants, and who calls what."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.tree = ast.parse(path.read_text(encoding="utf-8"))
        self.nodes = list(ast.walk(self.tree))
        self.parents = {child: node for node in self.nodes for child in ast.iter_child_nodes(node)}
        self.calls = [node for node in self.nodes if isinstance(node, ast.Call)]
        self.bindings: dict[ast.AST, list[ast.AST]] = {}

    def binding_nodes(self, inside: ast.AST) -> list[ast.AST]:
        """The assignments and loops in a function or in the module: they are looked through for every name."""
        if inside not in self.bindings:
            kinds = ast.Assign | ast.AnnAssign | ast.AugAssign | ast.For | ast.comprehension
            self.bindings[inside] = [node for node in ast.walk(inside) if isinstance(node, kinds)]
        return self.bindings[inside]

    @cached_property
    def calls_by_name(self) -> dict[str, list[ast.Call]]:
        """The calls of each function or method, whatever it is called on."""
        found: dict[str, list[ast.Call]] = {}
        for call in self.calls:
            called = call.func.id if isinstance(call.func, ast.Name) else getattr(call.func, "attr", "")
            found.setdefault(called, []).append(call)
        return found

    @cached_property
    def functions(self) -> dict[str, ast.FunctionDef]:
        return {node.name: node for node in self.nodes if isinstance(node, ast.FunctionDef)}

    @cached_property
    def constants(self) -> dict[str, ast.expr]:
        """What the module's own names are set to at its top."""
        simple = (node for node in self.tree.body if isinstance(node, ast.Assign))
        return {target.id: node.value for node in simple for target in node.targets if isinstance(target, ast.Name)}

    @cached_property
    def imported(self) -> dict[str, tuple[str, str]]:
        """name -> (file, name there) of what comes from the package."""
        found = {}
        for node in ast.walk(self.tree):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("pellucid."):
                file = str(node.module).removeprefix("pellucid.").replace(".", "/") + ".py"
                found |= {alias.asname or alias.name: (file, alias.name) for alias in node.names}
        return found

    def function_around(self, node: ast.AST) -> ast.FunctionDef | None:
        while node in self.parents:
            node = self.parents[node]
            if isinstance(node, ast.FunctionDef):
                return node
        return None

    def assigned(self, name: str, around: ast.AST | None) -> list[ast.expr]:
        """What a name is set to in a function, or in the module."""
        inside = around or self.tree
        found = []
        for node in self.binding_nodes(inside):
            targets = (
                node.targets
                if isinstance(node, ast.Assign)
                else [node.target]
                if isinstance(node, ast.AnnAssign)
                else []
            )
            for target in targets:
                if isinstance(target, ast.Name) and target.id == name and node.value is not None:
                    if around is not None or node in self.tree.body:
                        found.append(node.value)
                elif (
                    isinstance(target, ast.Tuple) and isinstance(node, ast.Assign) and isinstance(node.value, ast.Tuple)
                ):
                    pairs = zip(target.elts, node.value.elts, strict=False)
                    found += [value for one, value in pairs if isinstance(one, ast.Name) and one.id == name]
            if isinstance(node, ast.For | ast.comprehension):
                found += list(_looped(node, name, self))
        return found


def _looped(loop: ast.For | ast.comprehension, name: str, home: Module) -> Iterator[ast.expr]:
    """What a name is set to by a loop over a tuple that is written out, there or as a constant of the module."""
    written = home.constants.get(loop.iter.id) if isinstance(loop.iter, ast.Name) else loop.iter
    rows = written.elts if isinstance(written, ast.Tuple | ast.List) else []
    if isinstance(loop.target, ast.Name) and loop.target.id == name:
        yield from rows
    elif isinstance(loop.target, ast.Tuple):
        places = [place for place, one in enumerate(loop.target.elts) if isinstance(one, ast.Name) and one.id == name]
        for row in rows:
            if isinstance(row, ast.Tuple):
                yield from (row.elts[place] for place in places)


@cache
def module(relative: str) -> Module:
    return Module(SRC / relative)


def modules() -> Iterator[Module]:
    for path in sorted(SRC.rglob("*.py")):
        yield module(path.relative_to(SRC).as_posix())


phrases: set[str] = set()  # what stands in gaps of the sentences that were read since it was emptied


def forms(expression: ast.expr | None, home: Module, depth: int = 0) -> list[str] | None:
    """The templates that an expression may have as its value; None when it says nothing that can be read."""
    if expression is None or depth > 14:
        return None
    match expression:
        case ast.Constant(value=str(text)):
            return [text.replace("{", "{{").replace("}", "}}")]
        case ast.JoinedStr(values=values):
            return _joined(values, home, depth)
        case ast.IfExp(body=body, orelse=orelse):
            return _union((body, orelse), home, depth)
        case ast.BoolOp(values=values):
            return _union(values, home, depth)
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            sides = [forms(side, home, depth + 1) or [_gap(side)] for side in (left, right)]
            return [a + b for a, b in itertools.product(*sides)][:MOST_FORMS]
        case ast.NamedExpr(value=value):
            return forms(value, home, depth + 1)
        case ast.Subscript(value=ast.Dict(values=values)):
            return _union(values, home, depth)
        case ast.Name(id=name):
            return _named(expression, name, home, depth)
        case ast.Call(func=ast.Name(id="counted"), args=[number, thing]):
            return [f"{_gap(number)} {one}(s)" for one in forms(thing, home, depth + 1) or []]
        case ast.Call(func=ast.Name(id=name)) if name in home.functions or name in home.imported:
            return _returned(name, home, depth)
        case ast.Call(func=ast.Attribute(value=ast.Name(id="self"), attr=name)) if name in home.functions:
            return _returned(name, home, depth)
        case ast.Attribute(value=ast.Name(id="self"), attr=name) if name in home.functions:
            return _returned(name, home, depth)
        case ast.Attribute(attr=name) if depth < 2:
            return _given(name, home, depth + 6)
    return None


def _union(expressions: Iterable[ast.expr], home: Module, depth: int) -> list[str] | None:
    found = [forms(one, home, depth + 1) for one in expressions]
    return None if all(one is None for one in found) else [text for one in found if one for text in one]


def _joined(values: list[ast.expr], home: Module, depth: int) -> list[str]:
    pieces: list[list[str]] = []
    for value in values:
        if isinstance(value, ast.FormattedValue):
            inner = value.value
            spelled = _spelled(inner, home, depth)
            if spelled is None and not isinstance(inner, ast.Attribute):
                phrases.update(filter(_is_phrase, forms(inner, home, depth + 1) or []))
            pieces.append(spelled or [_gap(inner)])
        else:
            pieces.append(forms(value, home, depth + 1) or [""])
    return ["".join(parts) for parts in itertools.product(*pieces)][:MOST_FORMS]


def _spelled(inner: ast.expr, home: Module, depth: int) -> list[str] | None:
    """What a gap that is part of the sentence itself may hold: a number of things, or the end of a word."""
    if isinstance(inner, ast.IfExp):
        found = forms(inner, home, depth + 1)
        return found if found and _is_ending(found) else None
    if isinstance(inner, ast.Name) and (around := home.function_around(inner)) is not None:
        values = home.assigned(inner.id, around)
        inner = values[0] if len(values) == 1 else inner
    is_counted = isinstance(inner, ast.Call) and getattr(inner.func, "id", "") == "counted"
    return forms(inner, home, depth + 1) if is_counted else None


def _is_phrase(text: str) -> bool:
    """Whether what stands in a gap is more than a name: then it is told in the reader's language too."""
    return has_words(text) and " " in text.strip()


def _is_ending(spelled: list[str]) -> bool:
    """Whether a gap is only the end of a word, as in `thread{'s' if n > 1 else ''}`: both forms are spelled out."""
    return all("{" not in text for text in spelled)


def _named(expression: ast.expr, name: str, home: Module, depth: int) -> list[str] | None:
    around = home.function_around(expression)
    parameters = [] if around is None else [a.arg for a in (*around.args.args, *around.args.kwonlyargs)]
    if around is not None and name in parameters:
        found = [forms(value, home, depth + 1) for value in _arguments(home, around, name)]
        texts = [text for one in found if one for text in one]
        return texts or None
    values = home.assigned(name, around) if around is not None else []
    values = values or home.assigned(name, None)
    if not values and name in home.imported:
        file, there = home.imported[name]
        if (SRC / file).is_file():
            other = module(file)
            return _union(other.assigned(there, None), other, depth) if other.assigned(there, None) else None
    found = _union(values, home, depth) if values else None
    for node in home.binding_nodes(around) if found and around is not None else ():
        if isinstance(node, ast.AugAssign) and isinstance(node.target, ast.Name) and node.target.id == name:
            found = [*found, *(text + more for text in found for more in forms(node.value, home, depth + 1) or [])]
    return found


def _given(name: str, home: Module, depth: int) -> list[str] | None:
    """What the classes of a room are made with under the name of a field."""
    given = made_with(home.path.relative_to(SRC).parts[0]).get(name, [])
    texts = [text for value, other in given for text in forms(value, other, depth) or []]
    return texts or None


@cache
def made_with(room: str) -> dict[str, list[tuple[ast.expr, Module]]]:
    """Field -> what the classes of a room are made with under that name."""
    found: dict[str, list[tuple[ast.expr, Module]]] = {}
    for home in modules():
        if home.path.relative_to(SRC).parts[0] == room:
            for call in home.calls:
                if isinstance(call.func, ast.Name) and call.func.id[0].isupper():
                    for keyword in call.keywords:
                        found.setdefault(keyword.arg or "", []).append((keyword.value, home))
    return found


def _arguments(home: Module, function: ast.FunctionDef, name: str) -> Iterator[ast.expr]:
    """What a module's own calls of a function give for a parameter."""
    positions = [a.arg for a in function.args.args if a.arg not in ("self", "cls")]
    for call in home.calls_by_name.get(function.name, ()):
        yield from (keyword.value for keyword in call.keywords if keyword.arg == name)
        if name in positions and positions.index(name) < len(call.args):
            yield call.args[positions.index(name)]


def _returned(name: str, home: Module, depth: int) -> list[str] | None:
    if name not in home.functions:
        file, there = home.imported[name]
        if not (SRC / file).is_file() or there not in module(file).functions:
            return None
        home, name = module(file), there
    returned = [node.value for node in ast.walk(home.functions[name]) if isinstance(node, ast.Return) and node.value]
    return _union(returned, home, depth) if returned else None


def number_gaps(template: str) -> str:
    """The template with each gap under a name of its own: a name that comes again gets a number.

    >>> number_gaps("{n} of {n}")
    '{n} of {n2}'
    """
    seen: dict[str, int] = {}

    def name(found: re.Match[str]) -> str:
        if found[0] in ("{{", "}}"):
            return found[0]
        seen[found[1]] = seen.get(found[1], 0) + 1
        return "{" + found[1] + (str(seen[found[1]]) if seen[found[1]] > 1 else "") + "}"

    return re.sub(r"\{\{|\}\}|\{(\w+)\}", name, template)


def _gap(expression: ast.expr) -> str:
    names = re.findall(r"[a-z_][a-z_0-9]*", ast.unparse(expression).lower()) or ["value"]
    skipped = {"len", "str", "repr", "self", "found", "join", "map", "sorted", "list", "name", "path"}
    return "{" + next((name for name in reversed(names) if name not in skipped), names[-1]) + "}"


def event_sentences() -> dict[str, set[str]]:
    """The sentences of every event that is recorded anywhere, by the event's name."""
    found: dict[str, set[str]] = {}
    for home in modules():
        for call in home.calls:
            if isinstance(call.func, ast.Name) and call.func.id == "Event":
                given = {keyword.arg: keyword.value for keyword in call.keywords}
                names = names_of(given["name"], home)
                assert names, f"the event's name cannot be read: {home.path.name}:{call.lineno}"
                for name in names:
                    phrases.clear()
                    told = [*(forms(given["message"], home) or []), *phrases]
                    found.setdefault(name, set()).update(map(number_gaps, told))
    return {name: told for name, told in found.items() if not name.endswith(".progress")}


def names_of(expression: ast.expr, home: Module) -> list[str]:
    """The names of an event, with what a loop puts into them."""
    if isinstance(expression, ast.JoinedStr):
        pieces = [
            forms(one.value if isinstance(one, ast.FormattedValue) else one, home) or [] for one in expression.values
        ]
        return ["".join(parts) for parts in itertools.product(*pieces)]
    return forms(expression, home) or []


def error_sentences() -> set[str]:
    """All that an error of ours may say: what happened, what was found, where, what to try."""
    kinds = {name for name in vars(errors) if name.endswith("Error")}
    found: set[str] = set()
    phrases.clear()
    for home in modules():
        for call in home.calls:
            raised = call.func.id if isinstance(call.func, ast.Name) else getattr(call.func, "attr", "")
            if raised == "advised" and call.args:  # it gives the hint of errors that have none
                found.update(map(number_gaps, forms(call.args[0], home) or []))
            if raised not in kinds:
                continue
            told = [*call.args[:1], *(keyword.value for keyword in call.keywords if keyword.arg == "hint")]
            found |= {number_gaps(text) for part in told for text in forms(part, home) or [] if has_words(text)}
            values = [keyword.value for keyword in call.keywords if keyword.arg in ("found", "where")]
            known = [part for part in values if not isinstance(part, ast.Attribute)]  # a field may hold any value
            found |= {number_gaps(text) for part in known for text in forms(part, home) or [] if _is_phrase(text)}
    return found | set(map(number_gaps, phrases))


SPEAKERS = {"words": 0, "tell": 0, "waiting": 0, "watch_items": 2}  # what prints a sentence, and which argument that is


TABLES = {  # functions that yield rows of our words
    "cli/doctor.py": ("machine_rows", "measured_rows"),
    "cli/plan.py": ("summarise",),
    "training/plan_text.py": ("summary", "table"),
}


def screen_sentences() -> set[str]:
    """What the verbs print themselves: sentences, headings of tables, names of progress bars, reasons of a plan."""
    found: set[str] = set()
    phrases.clear()
    for home in modules():
        counter = home.path.relative_to(SRC).parts[0] == "cli"
        for call in home.calls:
            name = call.func.id if isinstance(call.func, ast.Name) else ""
            if counter and name in SPEAKERS and _is_spoken(call, SPEAKERS[name]):
                found.update(forms(call.args[SPEAKERS[name]], home) or [])
            elif name in ("Reason", "Use", "Problem"):
                for keyword in call.keywords:
                    if keyword.arg in ("why", "what", "hint", "name"):
                        found.update(forms(keyword.value, home) or [])
            elif counter and name == "print_table" and call.args:
                found.update(headings(call.args[0], home))
        for node in ast.walk(home.tree):
            if isinstance(node, ast.Dict):
                keys = {key.value: value for key, value in zip(node.keys, node.values) if isinstance(key, ast.Constant)}
                if {"label", "done", "total"} <= set(keys):
                    found.update(forms(keys["label"], home) or [])
    for file, functions in TABLES.items():
        for name in functions:
            for node in ast.walk(module(file).functions[name]):
                if isinstance(node, ast.Yield) and isinstance(node.value, ast.Tuple):
                    found.update(text for item in node.value.elts for text in forms(item, module(file)) or [])
    return {number_gaps(text) for text in found | phrases if has_words(text)}


def _is_spoken(call: ast.Call, place: int) -> bool:
    """Whether a call of a speaker has a sentence of the screen: not a field of some object, not another section."""
    sectioned = any(keyword.arg == "section" for keyword in call.keywords)
    return len(call.args) > place and not sectioned and not isinstance(call.args[place], ast.Attribute)


def headings(columns: ast.expr, home: Module) -> Iterator[str]:
    """The headings of a table, where they stand as a dictionary."""
    if isinstance(columns, ast.Name):
        around = home.function_around(columns)
        values = (around and home.assigned(columns.id, around)) or home.assigned(columns.id, None)
        for value in values:
            yield from headings(value, home)
    elif isinstance(columns, ast.BinOp):
        yield from (*headings(columns.left, home), *headings(columns.right, home))
    elif isinstance(columns, ast.IfExp):
        yield from (*headings(columns.body, home), *headings(columns.orelse, home))
    elif isinstance(columns, ast.Dict):
        for key, value in zip(columns.keys, columns.values):
            if key is None and isinstance(value, ast.Call):  # **dict.fromkeys(names, side)
                names = value.args[0]
                values = home.assigned(names.id, home.function_around(names)) if isinstance(names, ast.Name) else []
                tuples = [one for one in values if isinstance(one, ast.Tuple)]
                yield from (text for one in tuples for item in one.elts for text in forms(item, home) or [])
            elif key is not None:
                yield from forms(key, home) or []


def help_sentences() -> set[str]:
    """All help: of the program, its verbs, their options, and what click adds to them."""
    found = {"Usage:", "Options", "Verbs", "Commands", "[OPTIONS]", *VERBS.values()}
    for command, context in commands(root, click.Context(root, info_name="pellucid")):
        found.update(paragraphs_of(inspect.cleandoc(command.help or "")))
        for parameter in command.get_params(context):
            record = parameter.get_help_record(context)
            if record is not None:
                told, extra = split_extra(record[1])
                found.update((told, *(one for one in extra if not re.search(r"[<>]=", one))))
        if isinstance(command, click.Group) and command is not root:
            found.update(below.get_short_help_str(45) for below in command.commands.values())
    return {text for text in found if has_words(text) and not text.startswith("default: ")}


def commands(command: click.Command, context: click.Context) -> Iterator[tuple[click.Command, click.Context]]:
    """A command and all below it."""
    yield command, context
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            assert below is not None
            yield from commands(below, click.Context(below, parent=context, info_name=name))


def has_words(template: str) -> bool:
    """Whether a template says anything beside names, numbers, flags and paths."""
    return re.search(r"[A-Za-z]{3,}", NOT_WORDS.sub(" ", template)) is not None


@pytest.fixture(scope="session")
def events() -> dict[str, set[str]]:
    return event_sentences()


@pytest.fixture(scope="session")
def sentences() -> dict[str, set[str]]:
    """What the code may say, by the section of the catalogue."""
    return {"errors": error_sentences(), "screen": screen_sentences(), "help": help_sentences()}


@pytest.fixture
def read(tmp_path: Path) -> Callable[[str], list[str] | None]:
    """What the reader makes of the first argument of the first call of `tell` in a piece of code."""

    def read_code(code: str) -> list[str] | None:
        path = tmp_path / "code.py"
        path.write_text(code, encoding="utf-8")
        home = Module(path)
        call = next(call for call in home.calls if isinstance(call.func, ast.Name) and call.func.id == "tell")
        return forms(call.args[0], home)

    return read_code
