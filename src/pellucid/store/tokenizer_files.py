"""A tokenizer in any form, read and written: the forms of `tokens/formats`, and the vocabulary inside a GGUF file.

What is written is read back and compared before anybody relies on it.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args

from pellucid.errors import TokenizerError
from pellucid.events import NULL, Event, Recorder
from pellucid.files import explained, replace_file
from pellucid.store.gguf_header import Header, read_header
from pellucid.store.gguf_write import serialize_gguf
from pellucid.tokens.document import read_document
from pellucid.tokens.formats.canonical import forms_instead, kind_in_words
from pellucid.tokens.formats.find import GGUF, find_tokenizer, is_gguf
from pellucid.tokens.formats.gguf import tokenizer_from_values, tokenizer_to_values
from pellucid.tokens.formats.merges import write_merges
from pellucid.tokens.formats.tiktoken import SUFFIX, write_tiktoken
from pellucid.tokens.formats.vocab_txt import write_vocab_txt
from pellucid.tokens.layout import CONFIG_FILE
from pellucid.tokens.tokenizer import Tokenizer
from pellucid.tokens.vocabulary import METASPACE
from pellucid.untrusted import parse_object, shown

Form = Literal["tokenizer.json", "tiktoken", "merges.txt", "vocab.txt", "gguf"]
FORMS: tuple[Form, ...] = get_args(Form)
NAME = "tokenizer"  # of the files whose name does not say what they are
FILE = {  # the file that is read back
    "tokenizer.json": "tokenizer.json", "tiktoken": f"{NAME}{SUFFIX}", "merges.txt": "vocab.json", "vocab.txt": "vocab.txt",
    "gguf": f"{NAME}{GGUF}",
}  # fmt: skip
PROBES = (
    "", " ", "Hello, world!", "  it's 12345\n\n\tand 'LL\r\n", "你好，世界。人工智能 ㄅ 𠮷", "naïve café ½ ①", "😀👩‍👩‍👧🇨🇳",
    "def f(x):\n    return x**2  # x", "<s><eos><|endoftext|>[UNK]<0x41>▁", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "привет ١٢٣ 日本語 한국어",
)  # fmt: skip


def load_tokenizer(
    path: Path, *, pattern: str | None = None, lowercase: bool | None = None, recorder: Recorder = NULL
) -> Tokenizer:
    """The tokenizer of a file or of a directory that holds one, in any form; what a form leaves open may be chosen by hand.

    Raises what `Tokenizer.load` raises, and StoreError (and its kinds) for a damaged GGUF file.
    """
    file = find_tokenizer(path) or path
    if not is_gguf(file):
        return Tokenizer.load(path, pattern=pattern, lowercase=lowercase, recorder=recorder)
    return read_gguf_tokenizer(read_header(file), pattern=pattern)


def read_gguf_tokenizer(header: Header, *, pattern: str | None = None) -> Tokenizer:
    """The tokenizer that the header of a GGUF file describes. Raises TokenizerError with the place of the file."""
    try:
        return tokenizer_from_values(header.values, pattern=pattern)
    except TokenizerError as error:
        raise TokenizerError(error.what, found=error.found, where=str(header.path), hint=error.hint) from error


def save_tokenizer(tokenizer: Tokenizer, directory: Path, form: Form, *, recorder: Recorder = NULL) -> list[Path]:
    """Write a tokenizer's files in a form, and read them back.

    Raises TokenizerError for a tokenizer that other programs would run differently from that form. The last of the paths
    is the file that readers look for; it is written last. Nothing is written before it has been read back elsewhere.
    Events: those of the forms, `tokens.roles_lost`, and `tokens.decoder_lost`.
    """
    files = _files(tokenizer, form, recorder)
    last = FILE[form]
    names = [*(name for name in files if name != last), last]
    with tempfile.TemporaryDirectory() as trial:
        for name in names:
            (Path(trial) / name).write_bytes(files[name])
        _check_back(tokenizer, Path(trial) / last, form, recorder)
    with explained(directory, 0):
        directory.mkdir(parents=True, exist_ok=True)
    for name in names:
        replace_file(directory / name, files[name])
    return [directory / name for name in names]


def _files(tokenizer: Tokenizer, form: Form, recorder: Recorder) -> dict[str, bytes]:
    if form == "gguf":
        return {FILE[form]: _vocabulary_file(tokenizer, recorder)}
    files = {name: text.encode("utf-8") for name, text in tokenizer.files().items()}
    if form == "tokenizer.json":
        return files
    if form == "tiktoken":
        ranks = write_tiktoken(tokenizer.json, tokenizer.vocabulary, name=NAME, recorder=recorder)
        return ranks | {CONFIG_FILE: files[CONFIG_FILE]}  # the roles of its tokens
    write = write_merges if form == "merges.txt" else write_vocab_txt
    written, said = write(tokenizer.vocabulary, tokenizer.json)
    config = {
        key: value
        for key, value in {**parse_object(tokenizer.config), **said}.items()
        if key not in said or value is not None
    }
    return written | {CONFIG_FILE: (json.dumps(config, ensure_ascii=False, indent=2) + "\n").encode("utf-8")}


def _vocabulary_file(tokenizer: Tokenizer, recorder: Recorder) -> bytes:
    """A GGUF file without tensors, as llama.cpp's own tests of vocabularies have them."""
    values: Mapping[str, Any] = {
        "general.architecture": "llama",
        "general.name": NAME,
        **tokenizer_to_values(tokenizer, tokenizer.vocab_size, recorder=recorder),
    }
    return b"".join(bytes(chunk) for chunk in serialize_gguf(values, {})[1])


def _check_back(tokenizer: Tokenizer, file: Path, form: Form, recorder: Recorder) -> None:
    """Raise TokenizerError when the file gives other ids.

    Events: `tokens.roles_lost` for roles that it cannot say, `tokens.decoder_lost` for spaces that it cannot say.
    """
    back = load_tokenizer(file)
    if tokenizer.kind == "wordpiece" and _cleans_up(back) != _cleans_up(tokenizer):
        _tell_lost_spaces(recorder)
    if lost := [role for role, ids in tokenizer.roles.items() if back.roles.get(role) != ids]:
        message = f"this form does not say which tokens have these roles: {', '.join(lost)}"
        recorder.record(Event(name="tokens.roles_lost", message=message, data={"roles": lost}, level="warning"))
    for text in PROBES:
        if tokenizer.kind == "char" and METASPACE in text and file.name.endswith(GGUF):
            continue  # the form cannot tell it from a space, and has said so
        if back.encode(text).ids != tokenizer.encode(text).ids:
            raise TokenizerError(
                "the file that was written gives other ids", found=f"{kind_in_words(tokenizer.vocabulary)}: {shown(text)}",
                where=file.name, hint=forms_instead(tokenizer.vocabulary, form),
            )  # fmt: skip


def _tell_lost_spaces(recorder: Recorder) -> None:
    message = "this form does not say that spaces before punctuation marks stay: other programs take them away"
    recorder.record(Event(name="tokens.decoder_lost", message=message, data={}, level="warning"))


def _cleans_up(tokenizer: Tokenizer) -> bool:
    """Whether the decoder of a WordPiece takes the spaces before punctuation marks away."""
    return bool((read_document(tokenizer.json).get("decoder") or {}).get("cleanup"))
