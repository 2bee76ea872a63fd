"""The tokenizer: text to ids and back, one immutable object around one `tokenizer.json`.

The file decides, and Hugging Face `tokenizers` runs it, so every program that reads the format gives the same ids.
Three promises are added. Text never becomes a control token: what spells `<eos>` is encoded as the characters it is
made of. Decoding works on bytes, so it is exact: `decode(encode(text).ids) == text` for every text that UTF-8 can hold
(a file with a normaliser of its own, like Qwen's, first rewrites the text). And no call changes the object, so threads
may share it. Tokens that a file adds without calling them special (Qwen's `<think>`) are ordinary text by that file's
own word, and are matched in text.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from pathlib import Path
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from pellucid.errors import TokenizerError
from pellucid.events import NULL, Recorder
from pellucid.tokens import extend
from pellucid.tokens.bulk import BulkEncoder
from pellucid.tokens.byte_characters import NUM_BYTES
from pellucid.tokens.characters import CharacterTable
from pellucid.tokens.document import read_document, read_vocabulary
from pellucid.tokens.encoding import Encoding, Span, find_byte_offsets
from pellucid.tokens.engine import check_failure, contained, start_engine
from pellucid.tokens.formats.find import Chosen, describe_search, find_tokenizer, read_beside, read_tokenizer
from pellucid.tokens.labels import readable
from pellucid.tokens.layout import CONFIG_FILE, MAP_FILE, TOKENIZER_FILE, config_json
from pellucid.tokens.patterns import segments
from pellucid.tokens.read_roles import guess_roles, parse_config, read_config, read_names, settle_roles
from pellucid.tokens.roles import BY_NAME, GUESSED, MODEL_FILES, NUMBERED, ROLES, Role, Roles
from pellucid.tokens.sentencepiece_engine import Encoded, Engine
from pellucid.tokens.utf8 import StreamDecoder, text_bytes
from pellucid.tokens.vocabulary import Kind, Vocabulary
from pellucid.untrusted import read_object, shown

SEGMENT = 1 << 14  # characters that one thread encodes at a time
CANNOT_ENCODE = "this tokenizer has no token for something in the text"
GROUP = 1 << 20  # characters in flight at once: the engine holds about 30 bytes for each byte of text


@dataclass(frozen=True, eq=False, repr=False)
class Tokenizer:
    """Text to ids and back; made by `from_json`, `load`, `train_bpe` or `train_characters`.

    >>> from pellucid.tokens.train import train_characters
    >>> tokenizer = train_characters(["hello"])
    >>> tokenizer.decode(tokenizer.encode("hell 中").ids)
    'hell 中'
    """

    json: str
    config: str
    vocabulary: Vocabulary
    roles: Roles  # which ids begin a text, end it, fill a batch …, and which file says so
    _engine: Engine
    has_text = True  # not a field: `IdsOnly` stands for the tokenizer of a model that has none

    @classmethod
    def from_json(cls, text: str, config: str | None = None) -> Tokenizer:
        """A tokenizer from the text of a `tokenizer.json` and, where there is one, of its `tokenizer_config.json`.

        Raises TokenizerError for a file that is broken, of a kind that is not known, a BPE that cannot spell every byte,
        or one with parts not known to be good for the engine.
        """
        document = read_document(text)
        vocabulary = read_vocabulary(document)
        engine = start_engine(document, vocabulary)
        if config is None:
            roles = Roles(tuple(guess_roles(vocabulary, Roles(), ROLES)))
            names = {token_id: name for name, token_id in vocabulary.specials.items()}
            config = config_json({role: next((names[i] for i in roles.get(role, ())), None) for role in GUESSED})
        else:
            roles = Roles(tuple(read_names(read_config(config, vocabulary), vocabulary, CONFIG_FILE)))
            roles = roles.told(guess_roles(vocabulary, roles, [role for role in ROLES if role not in GUESSED]))
        return cls(text, config, vocabulary, roles, engine)

    @classmethod
    def load(
        cls,
        path: Path | str,
        *,
        pattern: str | None = None,
        lowercase: bool | None = None,
        recorder: Recorder = NULL,
    ) -> Tokenizer:
        """A tokenizer from a `tokenizer.json`, from another form (`formats/find.py` lists them), or from a directory.

        `pattern`, `lowercase`: what the other forms may leave open, chosen by hand. The files beside it say which tokens
        have which roles; `read_roles` has the events. Raises TokenizerError for a file that is no tokenizer, or leaves
        open what nobody chose, CorruptFileError for a model's config beside it that cannot be read.
        """
        if not isinstance(path, (str, os.PathLike)):
            hint = "give the path of a tokenizer.json, or of the directory that holds one"
            raise TokenizerError("the tokenizer cannot be read", found=shown(path), hint=hint)
        file = find_tokenizer(Path(path)) or (Path(path) / TOKENIZER_FILE if Path(path).is_dir() else Path(path))
        if not file.exists():
            hint = "give the path of a tokenizer.json, or of the directory that holds one"
            raise TokenizerError("no tokenizer is here", found=describe_search(Path(path)), where=str(path), hint=hint)
        try:
            files = read_tokenizer(file, Chosen(pattern=pattern, lowercase=lowercase))
            tokenizer = cls.from_json(files.json, files.config)
            _, named = read_beside(file, MAP_FILE)
            more = read_names(named, tokenizer.vocabulary, MAP_FILE)
        except FileNotFoundError as error:
            name = Path(error.filename).name
            hint = f"put {name} beside {file.name}"
            raise TokenizerError(f"{name} is missing", where=str(file), hint=hint) from error
        except (OSError, ValueError) as error:
            raise TokenizerError("the tokenizer cannot be read", found=shown(error), where=str(file)) from error
        except TokenizerError as error:
            if error.where:  # a file beside this one
                raise
            raise TokenizerError(error.what, found=error.found, where=str(file), hint=error.hint) from error
        roles, models = tokenizer.roles.told(more), [file.parent / name for name in MODEL_FILES]
        if any(path.is_file() for path in models):
            documents = {str(path): read_object(path) for path in models if path.is_file()}
            roles = settle_roles(roles, tokenizer.vocabulary, documents, recorder)
        return tokenizer.with_roles(roles)

    def with_roles(self, roles: Roles) -> Tokenizer:
        """The same tokenizer with these roles; what its config did not say is written into it.

        Raises TokenizerError for an id outside the vocabulary.
        """
        for token_id in (token_id for claim in roles.claims for token_id in claim.ids):
            self.token_bytes(token_id)
        tokenizer = dataclasses.replace(self, roles=roles)
        told = tokenizer._told()
        config = parse_config(self.config) if told else {}
        told = {key: name for key, name in told.items() if config.get(key) is None}
        if told:  # so that the files alone make the same tokenizer
            text = json.dumps({**config, **told}, ensure_ascii=False, indent=2) + "\n"
            tokenizer = dataclasses.replace(tokenizer, config=text)
        return tokenizer

    def with_tokens(self, names: Sequence[str], *, roles: Mapping[str, Role] = MappingProxyType({})) -> Tokenizer:
        """A tokenizer with more special tokens, and with every old id as it was.

        Each name takes a spare id, or the next after the last. `roles`: name -> the role that it takes over. A model
        needs a row for each: `pellucid.store.grow` adds them.

        >>> from pellucid.tokens.train import train_characters
        >>> old = train_characters(["ab"], specials="none")
        >>> new = old.with_tokens(["<|im_end|>"], roles={"<|im_end|>": "turn_end"})
        >>> new.specials["<|im_end|>"] == old.vocab_size, new.roles["turn_end"] == (old.vocab_size,)
        (True, True)

        Raises TokenizerError for a name that cannot be one, or that a token has, and for what is no role.
        """
        if not self.has_text:
            self._check_text("")
        if unknown := [name for name in roles if name not in names]:
            hint = "name that token too, or leave its role out"
            raise TokenizerError("a role is given to a token that is not added", found=shown(unknown[0]), hint=hint)
        own = {*self.vocabulary.ids.values()}
        spares = [token_id for token_id in self.roles.get("spare", ()) if token_id not in own]
        begin = next((name for name, role in roles.items() if role == "bos"), None)
        text = extend.with_tokens(self.json, self.vocabulary, names, spares, begin=begin)
        specials = read_vocabulary(read_document(text)).specials
        given = {name: roles.get(name) for name in names}
        config = extend.with_names(
            parse_config(self.config), self.vocabulary, given, {name: specials[name] for name in names}
        )
        kept = [c for c in self.roles.claims if c.where not in (BY_NAME, CONFIG_FILE) and c.role not in given.values()]
        tokenizer = Tokenizer.from_json(text, config)
        return tokenizer.with_roles(tokenizer.roles.told(kept))

    def _told(self) -> dict[str, str]:
        """What a config has to say of the roles that files gave, `eos_token` and the like."""
        ids: dict[Role, int | None] = {"bos": self.bos_id, "eos": self.eos_id}
        for claim in self.roles.claims:
            if claim.role not in (*NUMBERED, *GUESSED, "decoder_start") and claim.where != BY_NAME:
                ids.setdefault(claim.role, claim.ids[0])
        names = {token_id: name for name, token_id in self.vocabulary.added.items()}
        return {f"{role}_token": names[token_id] for role, token_id in ids.items() if token_id in names}

    @property
    def bos_id(self) -> int | None:
        """The id that begins a document, where the tokenizer has one."""
        return self.roles.begin

    @cached_property
    def eos_id(self) -> int | None:
        """The id that ends a document: the first special one of those that end a text."""
        return next((token_id for token_id in self.roles.ends if token_id in self._names), None)

    @cached_property
    def end_ids(self) -> frozenset[int]:
        """The ids at which a model's text ends: <eos>, ends of turns, and others that the model's files name."""
        return frozenset(self.roles.ends)

    def files(self) -> dict[str, str]:
        """File name -> content: all that another program needs to load this tokenizer."""
        return {TOKENIZER_FILE: self.json, CONFIG_FILE: self.config}

    def save(self, directory: Path | str) -> None:
        """Write `files()` into a directory, which is made if need be."""
        directory = Path(directory)
        directory.mkdir(parents=True, exist_ok=True)
        for name, content in self.files().items():
            (directory / name).write_bytes(content.encode("utf-8"))  # bytes: no platform changes the line ends

    def encode_prompt(self, text: str, *, whole: bool = False) -> list[int]:
        """The ids that a model reads before it writes: <bos> (where the tokenizer has one), then the text.

        `whole`: nothing is to be added to the text, as an encoder reads it, so that <eos> ends it (where there is one).
        """
        start = [] if self.bos_id is None else [self.bos_id]
        end = [self.eos_id] if whole and self.eos_id is not None else []
        return [*start, *self._run(text).ids, *end]

    def encode(self, text: str) -> Encoding:
        """The ids of a text with the characters and bytes each covers; no special token is added or recognised.

        Raises TokenizerError for a lone surrogate, which no UTF-8 can hold, and for a byte that no token spells.
        """
        encoded = self._run(text)
        ids, offsets = tuple(encoded.ids), tuple(encoded.offsets)
        return Encoding(ids, offsets, self._byte_offsets(text, ids, offsets))

    def encode_pieces(self, text: str) -> list[Encoding]:
        """The same ids as `encode`, one Encoding per piece that the pattern cuts (per character without a pattern)."""
        encoded = self._run(text)
        byte_offsets = self._byte_offsets(text, encoded.ids, encoded.offsets)
        rows = zip(encoded.ids, encoded.offsets, byte_offsets, encoded.word_ids, strict=True)
        by_piece = groupby(rows, key=lambda row: row[1] if self.kind == "char" else row[3])
        pieces = (list(zip(*piece, strict=True)) for _, piece in by_piece)
        return [Encoding(ids, offsets, byte_offsets) for ids, offsets, byte_offsets, _ in pieces]

    def normalize(self, text: str) -> str:
        """The text as the file's normaliser leaves it, before it is cut; the same text where there is no normaliser."""
        self._check_text(text)
        with contained(CANNOT_ENCODE):
            return self._engine.normalizer.normalize_str(text) if self._engine.normalizer else text

    def encode_ids(self, texts: Sequence[str], *, recorder: Recorder = NULL) -> list[NDArray[np.uint32]]:
        """The ids of many texts, uint32, without offsets: the fast path, equal to `encode` id for id.

        Events: those of `BulkEncoder.encode`.
        """
        for text in texts:
            self._check_text(text)
        if self._characters is not None:
            return [self._characters.encode(text) for text in texts]
        if (bulk := self._bulk.encode(texts, recorder=recorder)) is not None:
            return bulk
        rows: list[list[NDArray[np.uint32]]] = [[] for _ in texts]
        for group in _groups(self._parts(texts)):
            with contained(CANNOT_ENCODE):
                encoded = self._engine.encode_batch_fast([part for _, part in group], add_special_tokens=False)
            for (row, _), encoding in zip(group, encoded, strict=True):
                rows[row].append(np.array(encoding.ids, dtype=np.uint32))
        return [np.concatenate(row) for row in rows]

    def decode(self, ids: Iterable[int], *, show_special: bool = False) -> str:
        """The text of some ids; bytes that are not UTF-8 become U+FFFD, special tokens nothing (or their names)."""
        return self._joined(ids, self._names if show_special else {}).decode("utf-8", errors="replace")

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """The exact bytes of some ids; special tokens give nothing."""
        return self._joined(ids, {})

    def token_bytes(self, token_id: int) -> bytes:
        """The bytes of one token, b"" for a special one. Raises TokenizerError for an id outside the vocabulary."""
        if not 0 <= token_id < self.vocab_size:
            found = f"{int(token_id)}; the ids run from 0 to {self.vocab_size - 1}"
            raise TokenizerError("no token has this id", found=found, hint="give an id of this tokenizer")
        return self.vocabulary.token_bytes[token_id]

    def token_text(self, token_id: int) -> str:
        """One token for people: its text, the name of a special one, `<0xE4>` for each byte of a partial character."""
        if token_id == self.vocabulary.unknown_id:
            return str(self.vocabulary.unknown)
        return readable(self.token_bytes(token_id)) or self._names.get(token_id, "")

    def stream(self) -> StreamDecoder:
        """A decoder that takes ids one by one and never shows half a character."""
        return StreamDecoder(self, drop_first_space=self.vocabulary.drops_first_space)

    @property
    def kind(self) -> Kind:
        """ "word", "char", "bpe", "wordpiece", "unigram", or "ids" for a model that came without a tokenizer."""
        return self.vocabulary.kind

    @property
    def vocab_size(self) -> int:
        """Rows that an embedding needs: the highest id plus one."""
        return len(self.vocabulary.token_bytes)

    @property
    def specials(self) -> Mapping[str, int]:
        """Name -> id of the tokens that text never becomes."""
        return self.vocabulary.specials

    @cached_property
    def sha256(self) -> str:
        """The hash of `tokenizer.json`: two tokenizers with the same one give the same ids."""
        return hashlib.sha256(self.json.encode("utf-8")).hexdigest()

    @cached_property
    def _characters(self) -> CharacterTable | None:
        return CharacterTable(self.vocabulary.ids) if self.kind == "char" else None

    @cached_property
    def _bulk(self) -> BulkEncoder:
        return BulkEncoder(self.vocabulary, self._engine)

    @cached_property
    def _names(self) -> dict[int, str]:
        return {token_id: name for name, token_id in self.specials.items()}

    @property
    def exact(self) -> bool:
        """Whether `decode(encode(text).ids) == text` for every text; `losses` says why not."""
        return not self.vocabulary.losses

    @property
    def losses(self) -> tuple[str, ...]:
        """What a text may lose when it is encoded, in words."""
        return self.vocabulary.losses

    def count_unknown(self, ids: Iterable[int]) -> int:
        """How many of some ids are the unknown token: text that was lost."""
        return 0 if self.vocabulary.unknown_id is None else sum(i == self.vocabulary.unknown_id for i in ids)

    def _check_text(self, text: str) -> None:
        """Raise TokenizerError for what is no text, and for a text of which something would vanish."""
        if not isinstance(text, str):
            found = f"{shown(text)} ({type(text).__name__})"
            raise TokenizerError("only text can be encoded", found=found, hint="for ids use decode")
        data = text_bytes(text)
        if self._spelled is not None and (lost := data.translate(None, self._spelled)):
            raise TokenizerError(
                "this tokenizer has no token for a byte of the text",
                found=f"byte 0x{lost[0]:02X}, at byte {data.index(lost[0])}",
                hint="remove such characters (control characters, mostly) from the text",
            )

    @cached_property
    def _spelled(self) -> bytes | None:
        """The bytes that tokens spell, where some are missing."""
        missing = self.vocabulary.unspelled
        return bytes(byte for byte in range(NUM_BYTES) if byte not in missing) if missing else None

    def _run(self, text: str) -> Encoded:
        """The engine's own result."""
        self._check_text(text)
        try:
            return self._engine.encode(text, add_special_tokens=False)
        except BaseException as error:
            check_failure(error, CANNOT_ENCODE)
            raise

    def _byte_offsets(self, text: str, ids: Sequence[int], offsets: Sequence[Span]) -> tuple[Span, ...]:
        spelled = [self.vocabulary.token_bytes[token_id] for token_id in ids]
        if spelled and self.vocabulary.drops_first_space:  # the space that was put in front is no part of the text
            spelled[0] = spelled[0].removeprefix(b" ")
        return find_byte_offsets(text, offsets, spelled)

    def _parts(self, texts: Sequence[str]) -> Iterator[tuple[int, str]]:
        for row, text in enumerate(texts):
            for part in segments(text, SEGMENT) if self.vocabulary.pattern else (text,):
                yield row, part

    def _joined(self, ids: Iterable[int], names: Mapping[int, str]) -> bytes:
        try:
            data = b"".join(self.token_bytes(i) or names.get(int(i), "").encode("utf-8") for i in ids)
        except TypeError:
            found = f"{shown(ids)} ({type(ids).__name__})"
            raise TokenizerError("only a list of ids can be decoded", found=found, hint="for text use encode") from None
        return data.removeprefix(b" ") if self.vocabulary.drops_first_space else data

    def __repr__(self) -> str:
        return f"Tokenizer(kind={self.kind!r}, vocab_size={self.vocab_size}, sha256={self.sha256[:12]!r})"

    def __reduce__(
        self,
    ) -> tuple[object, ...]:  # a pickled engine would forget that text must not become control tokens
        return _restore, (self.json, self.config, self.roles)


def _restore(text: str, config: str, roles: Roles) -> Tokenizer:
    return dataclasses.replace(Tokenizer.from_json(text, config), roles=roles)


def _groups(parts: Iterable[tuple[int, str]]) -> Iterator[list[tuple[int, str]]]:
    group: list[tuple[int, str]] = []
    waiting = 0
    for row, part in parts:
        group.append((row, part))
        waiting += len(part)
        if waiting >= GROUP:
            yield group
            group, waiting = [], 0
    if group:
        yield group
