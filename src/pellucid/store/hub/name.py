"""The name of a model that lies on a server.

    hf:OWNER/NAME                the model of a repository: config.json, safetensors, tokenizer
    hf:OWNER/NAME/FILE.gguf      one GGUF file of it
    hf:OWNER/NAME@REVISION       a branch, a tag or a commit; without it: main

Only a name that begins with `hf:` is ever looked for on a server. A folder of that name is meant by `./hf:…`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from pellucid.errors import SettingsError
from pellucid.tokens.formats.find import GGUF
from pellucid.untrusted import shown

PREFIX = "hf:"
MAIN = "main"
FORMS = "hf:OWNER/NAME, hf:OWNER/NAME/FILE.gguf or hf:OWNER/NAME@REVISION"
WORD = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,94}[A-Za-z0-9_])?")
FOLDER = re.compile(r"[A-Za-z0-9_(\[][\w .,+=()\[\]~@&-]{0,100}", re.ASCII)  # a name on every system, and below `home`
REVISION = re.compile(r"[A-Za-z0-9_][\w.+-]*(?:/[\w.+-]+)*")
NEVER = re.compile(r"\.\.|--|\.git$")  # in the name of no repository; a folder here is called OWNER--NAME
COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class HubName:
    """A model on a server. `file` is one GGUF file of the repository; empty: the repository's model."""

    repository: str
    file: str
    revision: str

    def __str__(self) -> str:
        """As a person writes it."""
        file = f"/{self.file}" if self.file else ""
        return f"{PREFIX}{self.repository}{file}{'' if self.revision == MAIN else f'@{self.revision}'}"


def is_hub_name(path: Path | str) -> bool:
    """Whether a name on a server is meant, and not a path.

    >>> is_hub_name("hf:OWNER/NAME"), is_hub_name(Path("hf:OWNER/NAME")), is_hub_name("./hf:OWNER/NAME")
    (True, True, False)
    """
    return str(path).startswith(PREFIX)


def parse_name(path: Path | str) -> HubName:
    """The parts of a name.

    >>> parse_name("hf:HuggingFaceTB/SmolLM2-135M@v1")
    HubName(repository='HuggingFaceTB/SmolLM2-135M', file='', revision='v1')
    >>> print(parse_name("hf:a/b/q8/b.gguf@main"))
    hf:a/b/q8/b.gguf

    Raises SettingsError for what is no such name.
    """
    text = path.as_posix() if isinstance(path, Path) else path
    asked, at, revision = text.removeprefix(PREFIX).partition("@")
    revision = revision if at else MAIN
    owner, _, rest = asked.partition("/")
    name, _, file = rest.partition("/")
    if not text.startswith(PREFIX):
        hint = _as_name(text) or FORMS
        raise SettingsError("the name of a model on a server begins with hf:", found=shown(text), hint=hint)
    if not rest and _is_word(owner):
        raise SettingsError("the name lacks the owner of the repository", found=shown(text), hint=FORMS)
    is_whole = _is_word(owner) and _is_word(name) and not rest.endswith("/")
    if not is_whole or not REVISION.fullmatch(revision) or ".." in revision:
        raise SettingsError("this is not the name of a model on a server", found=shown(text), hint=FORMS)
    if file and not is_single(file):
        raise SettingsError("only a .gguf file of a repository can be asked for alone", found=shown(text), hint=FORMS)
    return HubName(f"{owner}/{name}", file, revision)


def _as_name(text: str) -> str | None:
    """The name of a repository that is written in another way: without its prefix, or as the address of its page.

    >>> _as_name("HF:a/b"), _as_name("https://huggingface.co/a/b/tree/main"), _as_name("a/b"), _as_name("a")
    ('hf:a/b', 'hf:a/b', 'hf:a/b', None)
    """
    bare = re.sub(r"^(?:https?://)?(?:www\.)?(?:huggingface\.co|hf\.co)/|^hf:", "", text, flags=re.IGNORECASE)
    words = bare.rstrip("/").split("/")
    whole = len(words) == 2 or (bare != text and words[2:3] in (["tree"], ["blob"], ["resolve"]))
    return f"{PREFIX}{words[0]}/{words[1]}" if whole and all(map(_is_word, words[:2])) else None


def is_single(file: str) -> bool:
    """Whether a path in a repository is that of a GGUF file which can lie in a folder here.

    >>> is_single("q8/b.gguf"), is_single("b.bin"), is_single("../b.gguf"), is_single("/b.gguf")
    (True, False, False, False)
    """
    return PurePosixPath(file).suffix == GGUF and all(map(FOLDER.fullmatch, file.split("/")))


def _is_word(text: str) -> bool:
    return WORD.fullmatch(text) is not None and NEVER.search(text) is None
