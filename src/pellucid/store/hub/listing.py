"""What a server says of one commit of a repository, and which of its files a model is.

Only what is read here is fetched, by name: config, tokenizer, safetensors or GGUF. No pickle, which can run any program
when it is opened, and no code. What the server says is not trusted: a size and a hash belong to every file, and what
comes is held against both.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from pellucid.errors import FetchError, WeightsError
from pellucid.store.directory import CONFIG, GENERATION, INFO, SHARDS, TRAINING_STATE, TRAINING_TENSORS, WEIGHTS
from pellucid.store.hub.name import COMMIT, HubName, is_single
from pellucid.store.sentence_files import FILES as SENTENCE_FILES
from pellucid.tokens.formats.added_tokens import ADDED_FILE
from pellucid.tokens.formats.find import GGUF, NAMED
from pellucid.tokens.formats.merges import NAMES as PAIRS
from pellucid.tokens.layout import CONFIG_FILE, MAP_FILE
from pellucid.untrusted import MOST_BYTES, MOST_WHOLE, Table, parse_object, shown

ENDINGS = (".json", ".txt", ".model")  # of a tokenizer's files
TOKENIZER_FILES = tuple(
    name
    for name in (*NAMED, CONFIG_FILE, MAP_FILE, ADDED_FILE, *(second for _, second in PAIRS))
    if name.endswith(ENDINGS)
)
BESIDE = (
    GENERATION,
    INFO,
    TRAINING_STATE,
    TRAINING_TENSORS,
    *TOKENIZER_FILES,
    *SENTENCE_FILES,
)  # what a model may have beside its weights
SHARD = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,200}\.safetensors")
PART = re.compile(r"-\d{5}-of-\d{5}\.gguf$")
PICKLE_ENDINGS = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, kw_only=True)
class RemoteFile:
    """A file as the server describes it: `sha256` of a large one, `git_sha1` (git's hash of a blob) of any other.

    What the server does not say is -1 or empty.
    """

    name: str
    num_bytes: int
    sha256: str
    git_sha1: str


@dataclass(frozen=True, kw_only=True)
class Listing:
    """The files of one commit."""

    commit: str
    files: Mapping[str, RemoteFile]
    page: str

    def check(self, names: list[str]) -> list[RemoteFile]:
        """These files. Raises FetchError for one without a hash, or of a size that no file of its kind has."""
        files = [self.files[name] for name in names]
        for file in files:
            if file.num_bytes < 0 or not (file.sha256 or file.git_sha1):
                raise FetchError(
                    "the server gives no size or no hash, so that nothing would show a wrong file", found=file.name, where=self.page,
                    hint="ask another server: HF_ENDPOINT names it",
                )  # fmt: skip
            if file.num_bytes > MOST_BYTES and not file.name.endswith((GGUF, ".safetensors")):
                found = f"{file.name} has {file.num_bytes:,} bytes"
                raise FetchError(
                    "a file beside the weights is larger than any that is read", found=found, where=self.page
                )
        return files


def read_listing(text: bytes, page: str) -> Listing:
    """What a server says of a commit. Raises CorruptFileError for what is no such list."""
    try:
        values = parse_object(text)
    except ValueError as error:
        raise FetchError("the server's list of files cannot be read", found=shown(error), where=page) from None
    told = Table(values, page, "the server's list of files")
    commit = told.word("sha")
    if not COMMIT.fullmatch(commit):
        raise told.wrong("sha", ValueError(f"{shown(commit)} is not a commit"))
    files = [_read_file(Table(item, page, "the server's list of files")) for item in told.items("siblings")]
    return Listing(commit=commit, files={file.name: file for file in files}, page=page)


def _read_file(item: Table) -> RemoteFile:
    large = Table(item.table("lfs", {}), item.where, "the server's list of files")
    sha256, git_sha1 = large.word("sha256", ""), item.word("blobId", "")
    return RemoteFile(
        name=item.word("rfilename"),
        num_bytes=large.whole("size", item.whole("size", -1), high=MOST_WHOLE),
        sha256=sha256 if SHA256.fullmatch(sha256) else "",
        git_sha1=git_sha1 if not large.values and COMMIT.fullmatch(git_sha1) else "",
    )


def choose_file(listing: Listing, name: HubName) -> str:
    """The GGUF file that is meant; empty where the model of the repository is, as safetensors.

    Raises FetchError where there is none, or one of several, WeightsError for a repository of pickles.
    """
    if name.file:
        _check_gguf(listing, name.file)
        return name.file
    if CONFIG in listing.files and (WEIGHTS in listing.files or SHARDS in listing.files):
        return ""
    found = sorted(filter(is_single, listing.files))
    if len(found) == 1:
        _check_gguf(listing, found[0])
        return found[0]
    if found:
        hint = f"name one of them, for example {HubName(name.repository, found[0], name.revision)}"
        raise FetchError("this repository holds several GGUF files", found=_some(found), where=listing.page, hint=hint)
    pickles = sorted(file for file in listing.files if file.endswith(PICKLE_ENDINGS))
    if pickles:
        raise WeightsError(
            "the weights are stored as a Python pickle, which is not fetched: opening one can run any program",
            found=_some(pickles), where=listing.page,
            hint="look for the same model as safetensors or GGUF, or save it again on a machine where you trust it: "
            f"AutoModelForCausalLM.from_pretrained('{name.repository}').save_pretrained(NEW_DIR)",
        )  # fmt: skip
    raise FetchError(
        "this repository holds no model that is read here", found=_some(sorted(listing.files)) or "no files",
        where=listing.page, hint="a model is config.json with model.safetensors, or a .gguf file",
    )  # fmt: skip


def _check_gguf(listing: Listing, file: str) -> None:
    if file not in listing.files:
        found = _some(sorted(filter(is_single, listing.files))) or "no GGUF file"
        raise FetchError("the repository has no such file", found=found, where=listing.page)
    if PART.search(file):
        hint = "name a file that is whole, or fetch the parts and join them with llama.cpp's `llama-gguf-split --merge`"
        raise FetchError(
            "this is one part of a GGUF file, and parts are not read", found=file, where=listing.page, hint=hint
        )


def choose_parts(listing: Listing, read_index: Callable[[RemoteFile], bytes]) -> list[RemoteFile]:
    """The files of a model in safetensors: config, what lies beside it, weights. The largest come last.

    `read_index` gives the contents of a file; it is asked where the weights are in several. Raises FetchError for an
    index that names what is not there.
    """
    weights = [WEIGHTS]
    if WEIGHTS not in listing.files:
        [index] = listing.check([SHARDS])
        weights = [SHARDS, *_shards(read_index(index), listing)]
    beside = [CONFIG, *(name for name in BESIDE if name in listing.files)]
    return listing.check([*beside, *weights])


def _shards(index: bytes, listing: Listing) -> list[str]:
    try:
        values = Table(parse_object(index), listing.page, SHARDS).table("weight_map")
    except ValueError as error:
        raise FetchError("the index of the weights cannot be read", found=shown(error), where=listing.page) from None
    names = sorted({str(name) for name in values.values()})
    if not names or any(not SHARD.fullmatch(name) or name not in listing.files for name in names):
        found = _some([name for name in names if name not in listing.files]) or "no files"
        raise FetchError("the index names weights that the repository does not have", found=found, where=listing.page)
    return names


def _some(names: list[str]) -> str:
    return ", ".join(names[:6]) + (" …" if len(names) > 6 else "")
