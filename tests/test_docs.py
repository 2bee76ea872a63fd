"""What the documents say of the code is there: files, names, links; and the tour is a tour.

`docs/decisions` and `docs/log.md` are history: they name what was there on their day, and only their links are followed.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

import pellucid

ROOT = Path(__file__).parents[1]
SRC = Path(pellucid.__file__).parent
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("benchmarks/*.md")])
HISTORY = {page for page in PAGES if page.parent.name == "decisions" or page.name == "log.md"}
SCRIPTS = sorted(
    path for folder in ("examples", "benchmarks", "conformance", "docs/guide") for path in (ROOT / folder).glob("*.py")
)
TOURS = ("tour.md", "tour.zh-CN.md")
STOPS, MOST_LINES = 12, 120
MADE = (".json", ".jsonl", ".toml", ".html", ".md")  # endings of files that are not Python: `pellucid.json`

LINK = re.compile(r"\]\(([^()\s]+)\)")
SOURCE = re.compile(r"\bsrc/pellucid/[\w/.-]*[\w/]", re.ASCII)
DOTTED = re.compile(r"\bpellucid(?:\.[A-Za-z_]\w*)+", re.ASCII)
IMPORTED = re.compile(r"^from (pellucid[\w.]*) import ([\w, ]+)", re.MULTILINE | re.ASCII)
PYTHON_FILE = re.compile(r"`((?:[\w-]+/)*[\w-]+\.py)`", re.ASCII)
ROOMS = "|".join(sorted(path.name for path in SRC.iterdir() if (path / "__init__.py").is_file()))
PATH = re.compile(rf"(?<![\w/.-])(?:{ROOMS})/[\w/]*\w(?!\w|\.py)", re.ASCII)
NAMES = r"(?:`[\w.]+`(?:[,、]\s*)?)+"
PLACE = re.compile(rf"\[`([\w/]+\.py)`\]\(\.\./src/pellucid/([\w/.]+)\)\s*[(（]({NAMES})[)）]", re.ASCII)


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def pages(*, history: bool) -> list[Path]:
    return [page for page in PAGES if history or page not in HISTORY]


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def resolve(dotted: str) -> None:
    """Import the longest part of a dotted name that is a module, and look up the rest in it."""
    names = dotted.split(".")
    found: object = pellucid
    for end in range(1, len(names)):
        module = ".".join(names[: end + 1])
        if isinstance(found, ModuleType) and hasattr(found, "__path__") and importlib.util.find_spec(module):
            found = importlib.import_module(module)
        else:
            assert hasattr(found, names[end]), f"{'.'.join(names[:end])} has no {names[end]}"
            found = getattr(found, names[end])


def slug(title: str) -> str:
    """How a heading is called in a link: small letters, no marks, dashes for blanks."""
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


@pytest.mark.parametrize("page", pages(history=True), ids=name_of)
def test_every_link_leads_somewhere(page: Path) -> None:
    for target in LINK.findall(text_of(page)):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        found = (page.parent / path).resolve() if path else page
        assert found.exists(), f"{name_of(page)} links to {target}"
        if anchor:
            titles = re.findall(r"^#+ (.+)$", text_of(found), re.MULTILINE)
            assert anchor in {slug(title) for title in titles}, f"{name_of(page)} links to {target}"


@pytest.mark.parametrize("page", pages(history=False), ids=name_of)
def test_every_place_in_the_code_is_there(page: Path) -> None:
    text = text_of(page)
    for path in SOURCE.findall(text):
        assert (ROOT / path).exists(), f"{name_of(page)} names {path}"
    for dotted in DOTTED.findall(text):
        if not dotted.endswith(MADE):
            resolve(dotted)
    for module, names in IMPORTED.findall(text):
        for name in names.split(","):
            resolve(f"{module}.{name.strip()}")


@pytest.mark.parametrize("page", pages(history=False), ids=name_of)
def test_every_python_file_that_is_named_is_there(page: Path) -> None:
    """`pack.py`, `training/loop.py`: some file of the package or the repository ends with that path."""
    there = {f"/{name_of(path)}" for path in (*SRC.rglob("*.py"), *SCRIPTS, *(ROOT / "tests").rglob("*.py"))}
    for path in PYTHON_FILE.findall(text_of(page)):
        assert any(name.endswith(f"/{path}") for name in there), f"{name_of(page)} names {path}"


@pytest.mark.parametrize("page", [*ROOT.glob("docs/inside/*.md"), ROOT / "docs/tour.md"], ids=name_of)
def test_every_path_of_a_drawing_is_there(page: Path) -> None:
    """`engine/window`, `planning/parts`: a file without its ending, or a folder."""
    for path in PATH.findall(text_of(page)):
        assert (SRC / path).is_dir() or (SRC / f"{path}.py").is_file(), f"{name_of(page)} names {path}"


@pytest.mark.parametrize("script", SCRIPTS, ids=name_of)
def test_scripts_import_what_is_there(script: Path) -> None:
    """Of the package; benchmarks and conformance run too rarely to find out by themselves."""
    for node in ast.walk(ast.parse(text_of(script))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "pellucid":
            for alias in node.names:
                resolve(f"{node.module}.{alias.name}")


def places(tour: str) -> list[tuple[str, str, tuple[str, ...]]]:
    """The files that a tour links to, each as it is shown, where the link leads, and the names to read in it."""
    found = PLACE.findall(text_of(ROOT / "docs" / tour))
    return [(shown, path, tuple(re.findall(r"`([\w.]+)`", names, re.ASCII))) for shown, path, names in found]


def definitions(path: Path) -> set[str]:
    """What a file defines: functions, classes, their methods and fields, constants."""

    def names(body: list[ast.stmt]) -> set[str]:
        found: set[str] = set()
        for node in body:
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                found.add(node.name)
            if isinstance(node, ast.ClassDef):
                found |= {f"{node.name}.{name}" for name in names(node.body)}
            if isinstance(node, (ast.Assign, ast.AnnAssign)):
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                found |= {target.id for target in targets if isinstance(target, ast.Name)}
        return found

    return names(ast.parse(text_of(path)).body)


@pytest.mark.parametrize("tour", TOURS)
def test_every_function_of_the_tour_is_in_its_file(tour: str) -> None:
    links = text_of(ROOT / "docs" / tour).count("](../src/pellucid/")
    assert len(places(tour)) == links, "a link to the code is written in another way than the test reads"
    for shown, path, names in places(tour):
        assert shown == path, f"{shown} leads to {path}"
        missing = {*names} - definitions(SRC / path)
        assert not missing, f"{path} has no {', '.join(sorted(missing))}"


@pytest.mark.parametrize("tour", TOURS)
def test_the_tour_is_short_and_every_stop_leads_to_a_file(tour: str) -> None:
    text = text_of(ROOT / "docs" / tour)
    assert len(text.splitlines()) <= MOST_LINES
    _, *stops = re.split(r"^## ", text, flags=re.MULTILINE)
    assert [stop.split(".")[0] for stop in stops] == [str(number + 1) for number in range(STOPS)]
    for stop in stops:
        happens, opened, changed = re.split(r"^- ", stop, flags=re.MULTILINE)[1:]
        assert not PLACE.search(happens) and PLACE.search(opened), stop
        assert changed.startswith("**"), stop


@pytest.mark.parametrize("tour", TOURS)
def test_what_a_tour_searches_for_is_found(tour: str) -> None:
    """`grep -rn min_p src/pellucid …`: the word stands in several files there."""
    searches = re.findall(r"`grep -rn\w* (\w+) (\S+)(?: --include=\*\.py)?`", text_of(ROOT / "docs" / tour), re.ASCII)
    assert len(searches) == text_of(ROOT / "docs" / tour).count("`grep ")
    for word, folder in searches:
        assert sum(bool(re.search(rf"\b{word}\b", text_of(path))) for path in (ROOT / folder).rglob("*.py")) > 3, word


def test_the_tours_of_both_languages_lead_to_the_same_places() -> None:
    english, chinese = (places(tour) for tour in TOURS)
    assert english == chinese
