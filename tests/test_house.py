"""The import law: which room may know which. It is data here; `docs/inside/imports.md` draws it."""

from __future__ import annotations

import ast
import importlib
import pkgutil
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import pellucid

SRC = Path(pellucid.__file__).parent
ROOT = Path(__file__).parents[1]

LINES = {  # a room imports only from rooms on lower lines; rooms on one line do not know each other
    "cli": 13,
    "api": 12,
    "language_model": 11,
    "lessons": 10,
    "whole_texts": 10,
    "training": 9,
    "lens": 9,
    "evaluate": 8,
    "data": 7,
    "engine": 7,
    "store": 6,
    "model": 5,
    "tokens": 4,
    "planning": 4,
    "arguments": 3,
    "settings": 3,
    "events": 2,
    "setting_values": 2,
    "trial": 2,
    "stamps": 2,
    "drawing": 2,
    "compiled": 2,
    "files": 1,
    "keyed_random": 1,
    "untrusted": 1,
    "words": 1,
    "processor": 1,
    "errors": 0,
    "counts": 0,
}
FORBIDDEN = {"data": {"model", "planning", "store"}}  # lower lines that a room must not know all the same
FENCES = {  # a third-party name -> the only places in src that may import it
    "safetensors": ("store/",),
    "gguf": ("store/",),
    "numba": ("engine/runners/kernels/", "engine/sampling/fast/", "tokens/fast/", "compiled.py", "processor.py"),
    "pyarrow": ("data/source.py",),
    "tokenizers": ("tokens/",),
    "transformers": (),
    "click": ("cli/",),
    "rich": ("cli/",),
    "llguidance": ("engine/constraints/constrain.py", "engine/constraints/grammar_trial.py"),
    "llvmlite": ("engine/runners/kernels/", "engine/sampling/fast/", "tokens/fast/", "compiled.py", "processor.py"),
    "matplotlib": ("drawing/", "lens/picture.py"),
    "tensorboard": ("training/metrics.py",),
    "starlette": ("lens/page/",),
    "uvicorn": ("lens/page/",),
    "anywidget": ("lens/page/",),
    "umap": ("lens/umap_map.py",),
    "rjieba": ("data/whole_words.py",),
    "huggingface_hub": ("store/hub/server.py",),
    "httpx2": ("store/hub/server.py",),
}
NO_TORCH = (
    "errors",
    "counts",
    "arguments",
    "settings",
    "setting_values",
    "events",
    "trial",
    "stamps",
    "drawing",
    "compiled",
    "files",
    "keyed_random",
    "untrusted",
    "words",
    "processor",
    "tokens",
    "planning",
)
MAY_IMPORT_LATE = (
    "cli/",
    "api.py",
    "language_model.py",
    "whole_texts.py",
    "__init__.py",
    "engine/runners/build.py",
    "engine/sampling/find_loops.py",
    "tokens/merges.py",
    "tokens/pieces.py",
    "tokens/bulk.py",
)  # the first four by design; public names and Numba are bound lazily
LATE_THIRD_PARTY = {
    "anywidget",
    "umap",
    "pyarrow",
    "tensorboard",
    "matplotlib",
    "llguidance",
    "rjieba",
    "huggingface_hub",
}  # optional, or slow to import
VAGUE = ("util", "helper", "misc", "common_")


def modules() -> list[Path]:
    return sorted(SRC.rglob("*.py"))


def room_of(path: Path) -> str:
    return path.relative_to(SRC).parts[0].removesuffix(".py")


def imports(tree: ast.AST) -> list[tuple[str, ast.stmt]]:
    found: list[tuple[str, ast.stmt]] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(alias.name, node) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide which room is meant"
            found.append((node.module or "", node))
    return found


def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(SRC)))
def test_rooms_import_only_downwards(path: Path) -> None:
    room = room_of(path)
    if room in ("__init__", "__main__"):
        return
    assert room in LINES, f"{room} has no place in the import law"
    for name, node in imports(parse(path)):
        if not name.startswith("pellucid."):
            continue
        other = name.split(".")[1]
        where = f"{path.relative_to(SRC)}:{node.lineno} imports {name}"
        assert other == room or LINES[other] < LINES[room], where
        assert other not in FORBIDDEN.get(room, ()), where


def test_the_drawing_of_the_law_is_this_law() -> None:
    """Each line of the drawing: its number, the rooms that stand on it, and what they are for."""
    text = (SRC.parents[1] / "docs" / "inside" / "imports.md").read_text(encoding="utf-8")
    drawn = re.findall(r"^ ?(\d+)  (\w+(?:  \w+)*)   ", text, re.MULTILINE)
    assert {room: int(line) for line, rooms in drawn for room in rooms.split()} == LINES
    assert [int(line) for line, _ in drawn] == sorted({*LINES.values()}, reverse=True), "the highest line stands first"
    assert {*NO_TORCH} == {room for room, line in LINES.items() if line <= 4}, "the text below the drawing says so"
    assert {path.stem for path in SRC.iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file()} >= {*LINES}


def test_no_circle_of_files_anywhere() -> None:
    """All arrows point one way, within a room too, and where a file is imported for its types alone."""
    named = {".".join(("pellucid", *path.relative_to(SRC).with_suffix("").parts)): path for path in modules()}
    arrows: dict[str, set[str]] = {}
    for name, path in named.items():
        found = {other for other, _ in imports(parse(path))}
        for node in ast.walk(parse(path)):
            if isinstance(node, ast.ImportFrom):
                found |= {f"{node.module}.{alias.name}" for alias in node.names}
        arrows[name] = found & named.keys()
    settled: set[str] = set()
    while free := {name for name in arrows.keys() - settled if arrows[name] <= settled}:
        settled |= free
    left = arrows.keys() - settled
    circle = sorted(name for name in left if arrows[name] & left)
    assert not circle, f"these files import each other, or one that does: {circle}"


def test_a_type_name_has_one_meaning() -> None:
    places: dict[str, list[str]] = {}
    for path in modules():
        for node in parse(path).body:
            if isinstance(node, ast.ClassDef):
                places.setdefault(node.name, []).append(path.relative_to(SRC).as_posix())
    assert {name: found for name, found in places.items() if len(found) > 1} == {}


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(SRC)))
def test_third_party_names_stay_behind_their_fences(path: Path) -> None:
    relative = path.relative_to(SRC).as_posix()
    for name, node in imports(parse(path)):
        places = FENCES.get(name.split(".")[0])
        assert places is None or relative.startswith(places or ("nowhere",)), f"{relative}:{node.lineno} imports {name}"
        if room_of(path) in NO_TORCH or path.name == "settings.py":
            assert name.split(".")[0] != "torch", f"{relative} must not import torch"


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(SRC)))
def test_imports_stand_at_the_top(path: Path) -> None:
    relative = path.relative_to(SRC).as_posix()
    if relative.startswith(MAY_IMPORT_LATE):
        return
    tree = parse(path)
    inner = [n for f in ast.walk(tree) if isinstance(f, (ast.FunctionDef, ast.AsyncFunctionDef)) for n in imports(f)]
    for name, node in inner:
        late = name.split(".")[0] in LATE_THIRD_PARTY or name == "torch.utils.tensorboard"
        assert late, f"{relative}:{node.lineno} imports {name} inside a function"


def test_room_inits_are_empty_and_names_are_clear() -> None:
    for path in modules():
        if path.name == "__init__.py" and path.parent != SRC:
            assert not path.read_text(encoding="utf-8").strip(), f"{path} must be empty"
        assert not any(word in path.stem for word in VAGUE), f"{path.name} does not say what it holds"


def test_no_public_name_equals_a_room() -> None:
    rooms = {path.stem for path in SRC.iterdir() if path.is_dir() or path.suffix == ".py"}
    assert not rooms & set(pellucid.__all__)
    for module in pkgutil.walk_packages([str(SRC)], "pellucid."):
        if module.name != "pellucid.__main__":
            importlib.import_module(module.name)
    for name in pellucid.__all__:
        value = getattr(pellucid, name)
        assert isinstance(value, str) or callable(value), f"{name} was rebound by a submodule"


def test_the_home_of_every_public_name_is_checked_strictly() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["mypy"]
    (strict,) = (one["module"] for one in settings["overrides"] if one.get("disallow_any_explicit"))
    homes = {getattr(pellucid, name).__module__ for name in pellucid.__all__ if name != "__version__"}
    assert homes <= set(strict)
    for name in strict:  # one that has moved would be passed over in silence
        path = SRC / Path(*name.removeprefix("pellucid.").removesuffix(".*").split("."))
        assert path.is_dir() or path.with_suffix(".py").is_file(), f"mypy is told of {name}, and there is none"


def loaded_by(code: str) -> set[str]:
    script = f"{code}\nimport sys; print('\\n'.join(sys.modules))"
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(out.stdout.split())


def test_rooms_without_torch_load_none() -> None:
    names = [
        "pellucid." + path.relative_to(SRC).with_suffix("").as_posix().replace("/", ".")
        for path in modules()
        if room_of(path) in NO_TORCH or path.name == "settings.py"
    ]
    loaded = loaded_by("\n".join(f"import {name.removesuffix('.__init__')}" for name in names))
    assert "torch" not in loaded


def test_planning_a_model_loads_no_torch() -> None:
    assert "torch" not in loaded_by("import pellucid; pellucid.plan('gpt3')")


def test_help_of_every_verb_loads_no_torch() -> None:
    from pellucid.cli.app import VERBS

    code = "from pellucid.cli.app import root\n" + "\n".join(
        f"root.main(['{verb}', '--help'], standalone_mode=False)" for verb in VERBS
    )
    loaded = loaded_by(f"import pellucid\n{code}")
    assert "torch" not in loaded and "transformers" not in loaded
