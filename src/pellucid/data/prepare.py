"""Prepare a text for training: tokenise it, split it, and write `train/` and `valid/` token shards, once.

    survey -> split -> encode and write -> look for duplicates

The folder's `prepared.json` says which text, tokenizer and settings it was made from, and the hash of each side's
manifest; the manifest has the hashes of all other files. When the same is asked for again, the folder is verified and
used as it is. When anything differs, the difference is reported and a new folder is made beside the old one.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pellucid.counts import counted
from pellucid.data.duplicates import DuplicateReport, find_duplicates
from pellucid.data.encodings import REPLACEMENT
from pellucid.data.open_set import open_as_set
from pellucid.data.settings import BEFORE, DataSettings
from pellucid.data.shards import FORMAT_VERSION, MANIFEST, REBUILD, TokenShards
from pellucid.data.source import Source
from pellucid.data.split import Side, Split, choose_split, divide, mended
from pellucid.data.survey import Survey
from pellucid.data.writer import ShardWriter, encoded_batches, write_shards
from pellucid.errors import CorruptFileError, InputError
from pellucid.events import NULL, Event, Recorder
from pellucid.files import as_bytes, file_sha256, replace_directory, replace_file, to_json
from pellucid.tokens.tokenizer import Tokenizer
from pellucid.untrusted import Table, read_json, shown

PREPARED, PARTS = "prepared.json", "parts"
NOT_IN_TOKENS = ("report_duplicates", "rows")  # settings of the data that change no token on the disk
SIDES: tuple[Side, ...] = ("train", "valid")
SHOWN_TOKENS = 24  # of a passage that occurs on both sides


@dataclass(frozen=True)
class Prepared:
    """Training and validation tokens on disk; `valid` is None when the text is too small to hold a part out."""

    train: TokenShards
    valid: TokenShards | None
    identity: Mapping[str, str]  # what they were made from, as `identify` gives it


def identify(source: Source, tokenizer: Tokenizer, settings: DataSettings) -> dict[str, str]:
    """Everything that prepared tokens depend on, by name: two runs with equal identities see equal data."""
    chosen = {name: value for name, value in asdict(settings).items() if (name, value) not in BEFORE.items()}
    named = {f"data.{name}": str(value) for name, value in chosen.items() if name not in NOT_IN_TOKENS}
    valid = "" if settings.valid_file is None else _open_valid(settings, NULL).fingerprint
    return {
        "format": str(FORMAT_VERSION),
        "text": source.fingerprint,
        "validation text": valid,
        "tokenizer": tokenizer.sha256,
        **named,
    }


def prepare(
    source: Source,
    tokenizer: Tokenizer,
    directory: Path | str,
    settings: DataSettings | None = None,
    *,
    verify: bool = False,
    recorder: Recorder = NULL,
) -> Prepared:
    """Tokenise and split a source into `directory`, or open the shards there when they were made from the same.

    Existing shards are compared with their hashes; a file is read again only where it changed (always, with `verify`).
    Raises what reading the source raises, CorruptFileError for damaged shards, NoSpaceError when the disk is full.
    """
    directory, settings = Path(directory), settings or DataSettings()
    if not (directory / PREPARED).is_file():
        _ = source.survey  # needed below anyway, and a source that was read knows its fingerprint
    identity = identify(source, tokenizer, settings)
    reused = _is_made_from(directory, identity, recorder)
    if reused:
        recorder.record(
            Event(name="data.reused", message=f"the tokens in {directory} are up to date and are used again")
        )
    else:
        with replace_directory(directory) as new:
            _make(source, tokenizer, new.path, settings, recorder)
            new.write_text(PREPARED, to_json({**identity, PARTS: _parts(new.path)}))
    prepared = open_prepared(directory)
    if reused:
        _verify(directory, prepared, tokenizer, verify, recorder)
    _report_sizes(prepared, settings, recorder)
    return prepared


def open_again(
    directory: Path | str,
    tokenizer: Tokenizer,
    settings: DataSettings,
    *,
    verify: bool = False,
    recorder: Recorder = NULL,
) -> Prepared:
    """Open what `prepare` made for another run, compared with its hashes (every file again, with `verify`).

    Raises CorruptFileError for what is missing, damaged, or made with another tokenizer.
    """
    prepared = open_prepared(directory)
    _verify(Path(directory), prepared, tokenizer, verify, recorder)
    _report_sizes(prepared, settings, recorder)
    return prepared


def open_prepared(directory: Path | str) -> Prepared:
    """Open what `prepare` made. Raises CorruptFileError."""
    directory = Path(directory)
    stored = _read_stored(directory)
    if stored is None:
        raise CorruptFileError("there are no prepared tokens here", where=str(directory), hint=REBUILD)
    written = stored.get(PARTS)
    if written is not None and (found := _parts(directory)) != written:
        different = sorted(name for name in {*found, *written} if found.get(name) != written.get(name))
        what = "a part of the prepared tokens is missing, or is not the one that was written"
        raise CorruptFileError(what, found=", ".join(different), where=str(directory), hint=REBUILD)
    valid = directory / "valid"
    return Prepared(
        TokenShards.open(directory / "train"), TokenShards.open(valid) if valid.exists() else None, _identity(stored)
    )


def _verify(directory: Path, prepared: Prepared, tokenizer: Tokenizer, always: bool, recorder: Recorder) -> None:
    """Compare existing shards with the hashes they were written with."""
    for side in (prepared.train, prepared.valid):
        if side is None:
            continue
        side.verify(always=always)
        if side.manifest.vocab_size != tokenizer.vocab_size or side.manifest.tokenizer_sha256 != tokenizer.sha256:
            what = "the prepared tokens were made with another tokenizer"
            raise CorruptFileError(what, where=str(side.directory), hint=REBUILD)
    if (_read_stored(directory) or {}).get(PARTS) is None:
        message = (
            f"the tokens in {directory} were prepared by an earlier version, which did not record whether there was a"
            " validation part; what is there agrees with its own hashes, and is recorded now"
        )
        recorder.record(Event(name="data.no_record", message=message, level="warning"))
        stored = to_json({**prepared.identity, PARTS: _parts(directory)})
        replace_file(directory / PREPARED, as_bytes(stored))


def _parts(directory: Path) -> dict[str, str]:
    """The manifest of each side and its hash."""
    names = [f"{side}/{MANIFEST}" for side in SIDES if (directory / side / MANIFEST).is_file()]
    return {name: file_sha256(directory / name) for name in names}


def _identity(stored: Mapping[str, Any]) -> dict[str, str]:
    return {name: value for name, value in stored.items() if name != PARTS}


def _make(source: Source, tokenizer: Tokenizer, directory: Path, settings: DataSettings, recorder: Recorder) -> None:
    seen = source.survey
    if settings.valid_file is None:
        split = choose_split(seen, settings)
    else:
        split = Split(method="none", reason=f"validation is on {settings.valid_file}")
    num_held_out = _write_sides(source, tokenizer, directory, settings, split, seen, recorder)
    if (other := mended(split, seen, num_held_out, settings)) is not None:
        for side in SIDES:
            shutil.rmtree(directory / side)
        split = other
        _write_sides(source, tokenizer, directory, settings, split, seen, recorder)
    if settings.valid_file is not None:
        _write_valid_file(tokenizer, directory / "valid", settings, recorder)
    if settings.report_duplicates and (directory / "valid").exists():
        train, valid = TokenShards.open(directory / "train"), TokenShards.open(directory / "valid")
        of_pairs = settings.rows == "pairs"
        report = find_duplicates(train, valid, every=2 if of_pairs else 1)
        _report_duplicates(report, valid, tokenizer, recorder, of_pairs=of_pairs)


def _write_sides(
    source: Source,
    tokenizer: Tokenizer,
    directory: Path,
    settings: DataSettings,
    split: Split,
    seen: Survey,
    recorder: Recorder,
) -> int:
    """Write the training and the validation tokens; return how many bytes of text are held out."""
    data = {
        **asdict(split),
        "documents": seen.num_documents,
        "characters": seen.num_characters,
        "bytes": seen.num_bytes,
    }
    recorder.record(Event(name="data.split", message=split.reason, data=data))
    sides: tuple[Side, ...] = ("train",) if split.method == "none" else ("train", "valid")
    with ExitStack() as stack:
        writers = {
            side: stack.enter_context(ShardWriter(directory / side, tokenizer, settings.shard_tokens)) for side in sides
        }
        done = 0
        for batch in encoded_batches(divide(source.documents(), split), tokenizer, recorder=recorder):
            for side, document, ids in batch:
                writers[side].add(document, ids)
                done += len(document.text)
            data = {"characters_done": done, "characters_total": seen.num_characters}
            recorder.record(Event(name="data.progress", message=f"tokens: {done / seen.num_characters:.0%}", data=data))
        for writer in writers.values():
            writer.finish(source.description, source.fingerprint)
    return writers["valid"].num_bytes if "valid" in writers else 0


def _write_valid_file(tokenizer: Tokenizer, directory: Path, settings: DataSettings, recorder: Recorder) -> None:
    source = _open_valid(settings, recorder)
    write_shards(
        source.documents(),
        tokenizer,
        directory,
        source=source.description,
        source_fingerprint=source.fingerprint,
        shard_tokens=settings.shard_tokens,
    )


def _open_valid(settings: DataSettings, recorder: Recorder) -> Source:
    """Open the validation text. It is read more than once, so a pipe raises InputError."""
    path = Path(str(settings.valid_file))
    if str(path) == "-" or (path.exists() and not path.is_file() and not path.is_dir()):
        raise InputError(
            "the validation text must be a file or a folder", found="a pipe", where=str(path), hint="save it first"
        )
    return open_as_set(str(settings.valid_file), settings, recorder=recorder, needs_weights=False)


def _read_stored(directory: Path) -> dict[str, Any] | None:
    """The contents of `prepared.json`; None where there is none."""
    path = directory / PREPARED
    if not path.is_file():
        return None
    try:
        table = Table(read_json(path), str(path), PREPARED)
        parts = Table(table.table(PARTS, {}), str(path), PARTS)
        _ = [table.word(name) for name in table.values if name != PARTS], [parts.word(name) for name in parts.values]
        if unknown := parts.values.keys() - {f"{side}/{MANIFEST}" for side in SIDES}:
            raise parts.wrong(shown(sorted(unknown)[0]), ValueError("no part of prepared tokens has this name"))
        return dict(table.values)
    except CorruptFileError as error:
        what = "the list of what the tokens were made from cannot be read"
        raise CorruptFileError(what, found=f"{error.what}: {error.found}", where=str(path), hint=REBUILD) from error


def _is_made_from(directory: Path, identity: Mapping[str, str], recorder: Recorder) -> bool:
    found = _read_stored(directory)
    if found is None:
        return False
    stored = _identity(found)
    different = [name for name in sorted({*stored, *identity}) if stored.get(name) != identity.get(name)]
    if different:
        message = f"the tokens in {directory} were made from something else ({', '.join(different)}) and are made anew"
        recorder.record(Event(name="data.rebuilt", message=message, data={"different": different}, level="warning"))
    return not different


def _report_sizes(prepared: Prepared, settings: DataSettings, recorder: Recorder) -> None:
    for name, shards in (("train", prepared.train), ("valid", prepared.valid)):
        if shards is not None:
            sizes = {"documents": shards.num_documents, "tokens": shards.num_tokens, "bytes": shards.num_bytes}
            documents, tokens = counted(shards.num_documents, "document"), counted(shards.num_tokens, "token")
            pairs = counted(shards.num_documents // 2, "pair")  # each is two documents, the source and its target
            texts = pairs if settings.rows == "pairs" else documents
            message = f"{name}: {texts}, {tokens}, {counted(shards.num_bytes, 'byte')}"
            recorder.record(Event(name=f"data.{name}", message=message, data=sizes))


def _report_duplicates(
    report: DuplicateReport, valid: TokenShards, tokenizer: Tokenizer, recorder: Recorder, *, of_pairs: bool
) -> None:
    data, share = asdict(report), f"{report.shared:.1%}"
    num_near, passages = f"{report.num_near:,}", counted(report.num_passages, "passage")
    if of_pairs:
        shared = f"{share} of the validation sources, taken in short runs, also occurs in the training text"
        equal = f"{counted(report.num_exact, 'source')} equal to one of training"
    else:
        shared = f"{share} of the validation text, taken in short runs, also occurs in the training text"
        equal = f"{counted(report.num_exact, 'whole text')} equal to one of training"
    if not report.num_exact and not report.num_near:
        recorder.record(Event(name="data.no_duplicates", message=shared, data=data))
        return
    examples = ""
    for match in report.examples:
        end = min(match.valid_start + SHOWN_TOKENS, valid.document(valid.document_at(match.valid_start)).stop)
        words = tokenizer.decode(valid.tokens(match.valid_start, end).tolist()).strip(REPLACEMENT)
        examples += f"\n  {words!r} ({match.valid_origin}: {match.share:.0%} ← {match.train_origin})"
    message = f"{shared}; {equal}, {num_near} of {passages} at least half copied{examples}"
    recorder.record(Event(name="data.duplicates", message=message, data=data, level="warning"))
