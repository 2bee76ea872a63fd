"""What sentence-transformers writes beside a model's weights: how its token vectors become one vector for a text.

    modules.json                        the steps: the model, pooling, and mostly a vector of length 1
    1_Pooling/config.json               which pooling: the mean of all tokens, the first token's, or the last one's
    sentence_bert_config.json           how many tokens are read at most, and whether text is put in lower case first
    config_sentence_transformers.json   a text that is put before every other, where the model wants one

A step that is not known here would give another vector, so it is an error. Only JSON is read. What is written holds what
was understood, in words that all these versions read.

Source: the files of sentence-transformers 2.0 to 6.2.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pellucid.errors import CorruptFileError, ModelError
from pellucid.files import to_json
from pellucid.planning.parts.pooler import Pooling
from pellucid.planning.parts.position import MOST_POSITIONS
from pellucid.untrusted import Json, Table, kind_of, read_json, read_object, shown

MODULES, POOLING = "modules.json", "1_Pooling/config.json"
READING, PROMPTS = "sentence_bert_config.json", "config_sentence_transformers.json"
LIBRARY = "sentence_transformers"
FILES = (MODULES, POOLING, READING, PROMPTS)
NAMES: Mapping[str, Pooling] = {"mean": "mean", "cls": "first", "lasttoken": "last"}
OLDER = {"pooling_mode_mean_tokens": "mean", "pooling_mode_cls_token": "cls", "pooling_mode_lasttoken": "lasttoken"}
OLDER_FLAG = re.compile(r"pooling_mode_\w+")
FOLDER = re.compile(r"[A-Za-z0-9_]{1,60}")


@dataclass(frozen=True, kw_only=True)
class SentenceFiles:
    """How a text becomes one vector, as the files say."""

    pooling: Pooling
    normalise: bool
    max_tokens: int | None  # of a text with the tokens around it; None: as many as the model has positions
    lowercase: bool
    prompt: str  # put before every text

    def files(self, width: int) -> dict[str, str]:
        """The files that say it, by name, beside a model whose vectors are so wide.

        >>> plain = SentenceFiles(pooling="mean", normalise=False, max_tokens=None, lowercase=False, prompt="")
        >>> sorted(plain.files(8))
        ['1_Pooling/config.json', 'modules.json', 'sentence_bert_config.json']
        """
        kinds = ["Transformer", "Pooling", *(["Normalize"] if self.normalise else [])]
        folders = [f"{place}_{kind}" if place else "" for place, kind in enumerate(kinds)]
        steps: Json = [
            {"idx": place, "name": str(place), "path": folder, "type": f"{LIBRARY}.models.{kind}"}
            for place, (folder, kind) in enumerate(zip(folders, kinds, strict=True))
        ]
        pooling = {flag: NAMES[asked] == self.pooling for flag, asked in OLDER.items()}
        files: dict[str, Json] = {
            MODULES: steps,
            POOLING: {"word_embedding_dimension": width, **pooling},
            READING: {"do_lower_case": self.lowercase}
            | ({} if self.max_tokens is None else {"max_seq_length": self.max_tokens}),
        }
        if self.prompt:
            files[PROMPTS] = {"prompts": {"default": self.prompt}, "default_prompt_name": "default"}
        return {name: to_json(told) + "\n" for name, told in files.items()}


def read_sentence_files(directory: Path) -> SentenceFiles | None:
    """What the files beside a model say; None where there is no modules.json.

    Raises ModelError for a step or a pooling that is not known here, CorruptFileError for files that cannot be read.
    """
    if not (directory / MODULES).is_file():
        return None
    where = str(directory / MODULES)
    listed = read_json(directory / MODULES)
    if not isinstance(listed, list):
        raise CorruptFileError("modules.json does not hold a list of steps", found=kind_of(listed), where=where)
    steps = [_step(Table(item, where, MODULES)) for item in listed]
    kinds = [kind for kind, _ in steps]
    if kinds not in (["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"]):
        raise ModelError(
            "the vector of a text is made by steps that are not known here",
            found=", ".join(kinds)[:200] or "none",
            where=where,
            hint="known: Transformer, Pooling, and Normalize behind them",
        )
    folder = steps[1][1]
    if not FOLDER.fullmatch(folder):
        raise ModelError("modules.json names a place that is no folder beside it", found=shown(folder), where=where)
    reading, prompts = _table(directory / READING), _table(directory / PROMPTS)
    named = prompts.word("default_prompt_name", "")
    told = Table(prompts.table("prompts", {}), prompts.where, PROMPTS)
    return SentenceFiles(
        pooling=_pooling(_table(directory / folder / "config.json")),
        normalise=len(kinds) == 3,
        max_tokens=reading.whole("max_seq_length", None, low=1, high=MOST_POSITIONS),
        lowercase=reading.flag("do_lower_case", False),
        prompt=told.word(named) if named else "",
    )


def _step(item: Table) -> tuple[str, str]:
    """The kind of a step and its folder."""
    return item.word("type").rpartition(".")[2], item.word("path", "")


def _pooling(told: Table) -> Pooling:
    """The one pooling that a config asks for."""
    older = [key for key in told.values if OLDER_FLAG.fullmatch(key) and told.flag(key, False)]
    newer = told.values.get("pooling_mode")
    asked = [OLDER.get(key, key) for key in older] if newer is None else newer if isinstance(newer, list) else [newer]
    known = [NAMES[name] for name in asked if isinstance(name, str) and name in NAMES]
    if len(asked) != 1 or len(known) != 1:
        raise ModelError(
            "this pooling is not known here",
            found=", ".join(map(str, asked))[:200] or "none",
            where=told.where,
            hint="known: the mean of all tokens, the first one's (cls), the last one's (lasttoken)",
        )
    return known[0]


def _table(path: Path) -> Table:
    """The object in a file, empty where there is none."""
    return Table(read_object(path) if path.is_file() else {}, str(path), path.name)
