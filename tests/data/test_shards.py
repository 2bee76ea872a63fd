from __future__ import annotations

import errno
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pellucid.data import writer as writer_module
from pellucid.data.document import Document
from pellucid.data.shards import MANIFEST, TokenShards
from pellucid.data.writer import ShardWriter, write_shards
from pellucid.errors import CorruptFileError, NoSpaceError
from pellucid.events import Recorder

TEXTS = st.lists(st.text("abc 你\n", max_size=12), min_size=1, max_size=6)


@given(TEXTS, st.integers(1, 9))
@settings(max_examples=40, deadline=None)
def test_the_stream_is_every_text_between_its_marks(
    make_shards, tokenizer, texts: list[str], shard_tokens: int
) -> None:
    shards = make_shards(texts, shard_tokens=shard_tokens)
    stream = [i for text in texts for i in (tokenizer.bos_id, *tokenizer.encode(text).ids, tokenizer.eos_id)]
    owner = [index for index, text in enumerate(texts) for _ in range(len(tokenizer.encode(text).ids) + 2)]
    assert shards.tokens(0, len(stream)).tolist() == stream
    assert (shards.num_tokens, shards.num_documents) == (len(stream), len(texts))
    assert shards.num_bytes == sum(len(text.encode()) for text in texts)
    assert [shards.document_at(position) for position in range(len(stream))] == owner
    assert [shards.document(index).origin for index in range(len(texts))] == [f"text {i}" for i in range(len(texts))]
    assert [shards.document(index).num_bytes for index in range(len(texts))] == [len(t.encode()) for t in texts]
    shards.verify()
    for start in range(len(stream)):
        for stop in range(start, len(stream) + 2, 3):
            assert shards.tokens(start, stop).tolist() == stream[start:stop]


@given(st.integers(1, 9), st.integers(1, 6), st.integers(0, 5))
@settings(max_examples=30, deadline=None)
def test_chunks_cover_the_stream_with_their_overlap(make_shards, shard_tokens: int, size: int, overlap: int) -> None:
    shards = make_shards(["hello world", "abc"], shard_tokens=shard_tokens)
    stream, met = shards.tokens(0, 100).tolist(), 0
    for position, ids in shards.chunks(size, overlap):
        assert position == max(0, met - overlap)
        assert ids.tolist() == stream[position : position + len(ids)]
        met = position + len(ids)
    assert met == len(stream)


def test_take_gathers_across_files(make_shards) -> None:
    positions = np.array([[0, 12], [5, 4]])
    for shard_tokens in (3, 100):
        shards = make_shards(["hello world"], shard_tokens=shard_tokens)
        assert np.array_equal(shards.take(positions), shards.tokens(0, 13)[positions])
        for outside in (-1, 13):
            with pytest.raises(IndexError):
                shards.take(np.array([0, outside]))


def test_parts_become_one_document(tokenizer, tmp_path: Path) -> None:
    parts = [
        Document(text="one ", origin="a", part=0, last=False),
        Document(text="two", origin="a", part=1),
        Document(text="x", origin="b"),
    ]
    whole = [Document(text="one two", origin="a"), Document(text="x", origin="b")]
    first, second = (write_shards(d, tokenizer, tmp_path / n) for d, n in ((parts, "1"), (whole, "2")))
    assert first.manifest.tokens == second.manifest.tokens
    assert first.manifest.documents == second.manifest.documents  # the hash of the text does not see the parts either


def test_positions_outside_are_errors(make_shards) -> None:
    shards = make_shards(["abc"])
    for position in (-1, 5):
        with pytest.raises(IndexError):
            shards.document_at(position)
    with pytest.raises(IndexError):
        shards.document(1)


def fake_tokenizer(vocab_size: int, bos_id: int | None, eos_id: int | None) -> SimpleNamespace:
    def encode_ids(texts: list[str], *, recorder: Recorder) -> list[np.ndarray]:
        return [np.array([ord(character) for character in text], np.uint32) for text in texts]

    return SimpleNamespace(vocab_size=vocab_size, bos_id=bos_id, eos_id=eos_id, sha256="", encode_ids=encode_ids)


@pytest.mark.parametrize(
    ("bos", "eos", "stream", "unpredicted"),
    [
        (1, 2, [1, 97, 2, 1, 98, 2], 1),
        (2, 2, [2, 97, 2, 98], None),  # as GPT-2: one mark between texts, and worth predicting
        (None, 2, [97, 2, 98, 2], None),
        (None, None, [97, 98], None),
    ],
)
def test_marks_of_other_tokenizers(tmp_path: Path, bos: int, eos: int, stream: list[int], unpredicted: int) -> None:
    documents = [Document(text="a", origin=""), Document(text="b", origin="")]
    shards = write_shards(documents, fake_tokenizer(300, bos, eos), tmp_path / "data")  # type: ignore[arg-type]
    assert shards.tokens(0, 10).tolist() == stream
    assert shards.manifest.unpredicted_id == unpredicted


def test_large_vocabularies_take_four_bytes(tmp_path: Path) -> None:
    for vocab_size, dtype in ((1 << 16, "<u2"), ((1 << 16) + 1, "<u4")):
        tokenizer = fake_tokenizer(vocab_size, 0, 1)
        shards = write_shards([Document(text="a\uffff", origin="")], tokenizer, tmp_path / dtype[1:])  # type: ignore[arg-type]
        assert shards.manifest.dtype == dtype
        assert shards.tokens(0, 4).tolist() == [0, 97, 65535, 1]


@pytest.mark.parametrize("name", ["tokens-00000.bin", "documents.bin", "origins.jsonl", MANIFEST])
def test_a_truncated_or_missing_file_is_an_error_on_opening(make_shards, name: str) -> None:
    shards = make_shards(["hello world"])
    path = shards.directory / name
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(CorruptFileError) as caught:
        TokenShards.open(shards.directory)
    assert caught.value.where == str(path)
    path.unlink()
    with pytest.raises(CorruptFileError):
        TokenShards.open(shards.directory)


def test_a_changed_byte_is_found_by_verify(make_shards) -> None:
    shards = make_shards(["hello world"])
    path = shards.directory / "tokens-00000.bin"
    data = bytearray(path.read_bytes())
    data[4] ^= 1
    path.write_bytes(data)
    with pytest.raises(CorruptFileError, match="not the ones that were written"):
        TokenShards.open(shards.directory).verify()


def test_another_version_is_refused(make_shards) -> None:
    path = make_shards(["hello"]).directory / MANIFEST
    path.write_text(json.dumps(json.loads(path.read_text()) | {"version": 999}))
    with pytest.raises(CorruptFileError, match="another version"):
        TokenShards.open(path.parent)


def test_a_full_disk_leaves_what_was_there(make_shards, monkeypatch: pytest.MonkeyPatch) -> None:
    before = make_shards(["hello world"])

    def no_room(file: object, data: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(writer_module._HashedFile, "write", no_room)
    with pytest.raises(NoSpaceError, match="no room"):
        make_shards(["another text"], before.directory)
    TokenShards.open(before.directory).verify()
    assert [path.name for path in before.directory.parent.iterdir()] == ["data"]


def test_a_killed_run_leaves_nothing_that_opens(make_shards, tokenizer, tmp_path: Path) -> None:
    partial = tmp_path / ".tmp-data-1"
    with ShardWriter(partial, tokenizer) as unfinished:
        unfinished.add(Document(text="abc", origin=""), np.array([1, 2, 3]))
    with pytest.raises(CorruptFileError, match="no prepared tokens"):
        TokenShards.open(partial)
    shards = make_shards(["hello"], tmp_path / "data")
    assert shards.num_documents == 1 and not partial.exists()
