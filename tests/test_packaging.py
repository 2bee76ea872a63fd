"""What people install is what is tested here: the wheel, built and installed into an environment of its own.

The environment borrows the installed dependencies by one path entry (torch alone would be a download of hundreds of
megabytes) but not this project's editable install: a path entry does not run the `.pth` files of that folder.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import venv
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

import pellucid

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "pellucid"
SCRIPTS = "Scripts" if os.name == "nt" else "bin"
SUFFIX = ".exe" if os.name == "nt" else ""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built offline by the build backend."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    [found] = folder.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh environment that holds the wheel, and sees the dependencies that are installed here."""
    environment = tmp_path_factory.mktemp("environment") / "env"
    venv.create(environment, with_pip=False)
    python = environment / SCRIPTS / f"python{SUFFIX}"
    command = [sys.executable, "-m", "pip", "--python", str(python), "--disable-pip-version-check", "install"]
    subprocess.run(
        [*command, "--no-deps", "--no-index", "--quiet", str(wheel)], check=True, capture_output=True, text=True
    )
    [packages] = {path.parent for path in environment.rglob("pellucid") if (path / "__init__.py").is_file()}
    borrowed = [entry for entry in sys.path if Path(entry).name in ("site-packages", "dist-packages")]
    (packages / "borrowed.pth").write_text("\n".join(borrowed), encoding="utf-8")
    return environment


@pytest.fixture
def run_installed(installed: Path, tmp_path: Path):
    """Run a program of the environment in a folder that has nothing to do with the project; its standard output."""

    def call(program: str, *arguments: str) -> str:
        left_out = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")
        variables = {name: value for name, value in os.environ.items() if name not in left_out}
        command = [str(installed / SCRIPTS / f"{program}{SUFFIX}"), *arguments]
        ran = subprocess.run(
            command, cwd=tmp_path, env={**variables, "OMP_NUM_THREADS": "1"}, capture_output=True, encoding="utf-8"
        )
        assert ran.returncode == 0, ran.stderr
        return ran.stdout

    return call


def names_in(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def test_the_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    names = names_in(wheel)
    notes = f"pellucid-{pellucid.__version__}.dist-info/"
    assert all(name.startswith(("pellucid/", notes)) for name in names)
    assert "pellucid/py.typed" in names and f"{notes}licenses/LICENSE" in names
    assert not any("test" in name or name.endswith((".pyc", ".ipynb", ".bin")) for name in names)
    sources = {f"pellucid/{path.relative_to(SOURCE).as_posix()}" for path in SOURCE.rglob("*.py")}
    assert {name for name in names if name.endswith(".py")} == sources


def test_the_wheel_says_what_it_is(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        notes = f"pellucid-{pellucid.__version__}.dist-info/"
        metadata = Parser().parsestr(archive.read(f"{notes}METADATA").decode("utf-8"))
        entry_points = archive.read(f"{notes}entry_points.txt").decode("utf-8")
    assert (metadata["Name"], metadata["Version"]) == ("pellucid", pellucid.__version__)
    assert metadata["Requires-Python"] == ">=3.11" and metadata["License-Expression"] == "MIT"
    assert "pellucid = pellucid.cli.app:main" in entry_points
    required = [line for line in metadata.get_all("Requires-Dist") if "extra ==" not in line]
    names = {line.split(">")[0].split("<")[0].split("=")[0].strip() for line in required}
    assert {"torch", "tokenizers", "safetensors", "numpy", "click"} <= names
    assert not names & {"transformers", "pytest", "pyarrow", "tensorboard"}, "extras must stay extras"


def test_the_installed_module_is_the_wheel_s(installed: Path, run_installed) -> None:
    found = Path(run_installed("python", "-c", "import pellucid; print(pellucid.__file__)").strip())
    assert found.resolve().is_relative_to(installed.resolve())


def test_the_command_works(run_installed) -> None:
    assert pellucid.__version__ in run_installed("pellucid", "--version")
    plan = json.loads(run_installed("pellucid", "plan", "gpt3", "--json"))
    assert plan["parameters"]["total"] == 174_604_259_328


def test_the_module_runs_as_a_program_and_trains(run_installed, tmp_path: Path) -> None:
    text, out = tmp_path / "text.txt", tmp_path / "run"
    text.write_text("the cat sat on the mat. " * 40)
    options = ["--steps", "2", "--threads", "1", "--depth", "1", "--set", "compile=off", "--json"]
    said = run_installed("python", "-m", "pellucid", "train", str(text), "--out", str(out), *options)
    assert json.loads(said)["step"] == 2 and (out / "latest").is_file()
