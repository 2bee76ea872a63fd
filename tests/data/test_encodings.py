"""Texts in other encodings than UTF-8: recognised when it is certain, named by a person, or refused."""

from __future__ import annotations

import codecs
import gzip
import io
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pellucid.data.decoding import BLOCK_BYTES, TextDecoder
from pellucid.data.encodings import MARKS, check_encoding, recognise
from pellucid.data.source import open_source
from pellucid.data.translation import CHUNK_BYTES, as_utf8
from pellucid.errors import DecodingError, InputError, SettingsError
from pellucid.events import NULL, MemoryRecorder

NOVEL = "从前有座山，山里有座庙，庙里有个老和尚在给小和尚讲故事。\n他说的是什么呢？\n"
OLD_VERSE = "床前明月光，疑是地上霜。舉頭望明月，低頭思故鄉。春眠不覺曉，處處聞啼鳥。夜來風雨聲，花落知多少。\n"
OTHERS = [  # Article 1 of the Universal Declaration of Human Rights, in encodings that are not Chinese
    (
        "모든 인간은 태어날 때부터 자유로우며 그 존엄과 권리에 있어 동등하다. 나는 오늘 학교에 갔습니다.",
        ["euc_kr", "johab"],
    ),
    ("すべての人間は、生まれながらにして自由であり、かつ、尊厳と権利とについて平等である。", ["shift_jis", "euc_jp"]),
    ("人人生而自由，在尊嚴和權利上一律平等。他們賦有理性和良心，並應以兄弟關係的精神相對待。", ["big5"]),
    ("Все люди рождаются свободными и равными в своем достоинстве и правах.", ["cp1251", "koi8-r", "cp866"]),
    ("Όλοι οι άνθρωποι γεννιούνται ελεύθεροι και ίσοι", ["cp1253"]),
    ("Tous les êtres humains naissent libres et égaux en dignité. L'été, naïveté déjà vue", ["cp1252", "mac_roman"]),
    ("Alle Menschen sind frei und gleich an Würde und Rechten geboren. Größe, Straße", ["cp1252"]),
]
FOREIGN = [(text, encoding) for text, encodings in OTHERS for encoding in encodings]


def write(path: Path, text: str, encoding: str) -> Path:
    data = text.encode(encoding)
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


@pytest.mark.parametrize("encoding", ["gb2312", "gbk", "gb18030"])
@pytest.mark.parametrize("name", ["book.txt", "book.txt.gz", "rows.jsonl", "rows.jsonl.gz", "novel"])
def test_a_chinese_book_is_recognised_and_shown(tmp_path: Path, encoding: str, name: str) -> None:
    written = json.dumps({"text": NOVEL}, ensure_ascii=False) if ".jsonl" in name else NOVEL
    path, recorder = write(tmp_path / name, written, encoding), MemoryRecorder()
    source = open_source(path, recorder=recorder)
    assert [d.text for d in source.documents()] == [d.text for d in source.documents()] == [NOVEL]
    (guess,) = [event for event in recorder.events if event.name == "data.encoding_guess"]
    assert guess.level == "warning" and "GB18030" in guess.message and "从前有座山" in guess.message
    assert "--encoding" in guess.message
    assert [d.text for d in open_source(path, encoding=encoding).documents()] == [NOVEL]


@pytest.mark.parametrize("text", ["你好，世界。", OLD_VERSE, "“" + NOVEL, "chapter 1\n" * 99 + NOVEL, NOVEL + "𠮷"])
def test_short_old_and_mixed_chinese_is_recognised(text: str) -> None:
    assert recognise(text.encode("gb18030"), whole=True).encoding == "gb18030"


@pytest.mark.parametrize(("text", "encoding"), FOREIGN)
def test_nothing_else_is_guessed(text: str, encoding: str) -> None:
    data = text.encode(encoding)
    parts = (data[start : start + size] for size in (4, 8, 20, len(data)) for start in range(0, len(data), 2))
    assert not [part for part in parts if recognise(part, whole=False).how == "guess"]


@given(st.integers(0, 200), st.binary(min_size=1, max_size=2).filter(lambda bad: bad[0] >= 0x80))
def test_damaged_utf8_is_no_other_encoding(at: int, bad: bytes) -> None:
    data = (NOVEL + OLD_VERSE).encode()
    for broken in (data[:at] + data[at + 1 :], data[:at] + bad + data[at:]):
        if any(broken.startswith(mark) for mark in MARKS):
            continue  # a mark is taken at its word
        assert recognise(broken, whole=True).encoding == "utf-8"


def test_the_whole_first_megabyte_is_looked_at(tmp_path: Path) -> None:
    data = (NOVEL * 20_000).encode("gbk")
    assert len(data) > BLOCK_BYTES
    for shift in range(3):  # the megabyte ends inside a character, too
        (tmp_path / "a.txt").write_bytes(b"x" * shift + data)
        assert "".join(d.text for d in open_source(tmp_path / "a.txt").documents()) == "x" * shift + NOVEL * 20_000
    late = data[: BLOCK_BYTES - 6_000] + b"\xff " * 3_000 + data[:BLOCK_BYTES]
    assert recognise(late[:BLOCK_BYTES], whole=False).encoding == "utf-8"
    (tmp_path / "a.txt").write_bytes(late)
    with pytest.raises(DecodingError, match="not UTF-8") as caught:
        list(open_source(tmp_path / "a.txt").documents())
    assert "--encoding gb18030" in caught.value.hint


DAMAGED = NOVEL * 100


@pytest.mark.parametrize("encoding", ["gb18030", "utf-8"])
@pytest.mark.parametrize("told", ["auto", "encoding"])
def test_a_damaged_place_is_no_other_encoding(tmp_path: Path, encoding: str, told: str) -> None:
    """A book with one broken byte is read as what the rest of it is, and refused or mended as was asked."""
    data, told = bytearray(DAMAGED.encode(encoding)), encoding if told == "encoding" else "auto"
    data[len(data) // 2] = 0xFF
    (tmp_path / "a.txt").write_bytes(data)
    with pytest.raises(DecodingError, match=f"not {encoding.upper()}") as caught:
        list(open_source(tmp_path / "a.txt", encoding=told).documents())
    assert "--errors replace" in caught.value.hint and "--encoding" not in caught.value.hint
    recorder = MemoryRecorder()
    read = open_source(tmp_path / "a.txt", encoding=told, errors="replace", recorder=recorder).documents()
    text = "".join(document.text for document in read)
    assert 1 <= text.count("\ufffd") <= 4 and abs(len(text) - len(DAMAGED)) <= 4 and text[:100] == DAMAGED[:100]
    assert "data.bytes_replaced" in recorder.names()


@pytest.mark.parametrize(
    ("encoding", "told"), [("gb18030", "utf-8"), ("big5", "auto"), ("cp1251", "auto"), ("utf-8", "ascii")]
)
def test_a_text_in_another_encoding_is_not_replaced_away(tmp_path: Path, encoding: str, told: str) -> None:
    text = {"big5": "從前有座山，山裡有座廟。", "cp1251": "Жили-были старик со старухой."}.get(encoding, NOVEL)
    (tmp_path / "a.txt").write_bytes((text * 300).encode(encoding))
    with pytest.raises(DecodingError, match="of it would become U\\+FFFD") as caught:
        list(open_source(tmp_path / "a.txt", encoding=told, errors="replace").documents())
    assert "--errors" not in caught.value.hint and f"--encoding {encoding} “{text[:8]}" in caught.value.hint


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32"])
@pytest.mark.parametrize("name", ["book.txt", "rows.jsonl"])
def test_a_mark_names_the_encoding(tmp_path: Path, encoding: str, name: str) -> None:
    written = json.dumps({"text": NOVEL}, ensure_ascii=False) if ".jsonl" in name else NOVEL
    path, recorder = write(tmp_path / name, written, encoding), MemoryRecorder()
    assert [d.text for d in open_source(path, recorder=recorder).documents()] == [NOVEL]
    assert recorder.names() == ["data.encoding_mark"]
    with pytest.raises(DecodingError, match="not UTF-8"):
        list(open_source(path, encoding="utf-8").documents())


@pytest.mark.parametrize("encoding", ["big5", "shift_jis", "euc_kr", "cp1252", "utf-16-le", "koi8-r"])
def test_a_person_may_name_any_encoding(tmp_path: Path, encoding: str) -> None:
    text = {"big5": "從前有座山。", "shift_jis": "吾輩は猫", "euc_kr": "한국어", "koi8-r": "люди"}.get(encoding, "café")
    path = write(tmp_path / "a.txt", text * 40_000, encoding)
    with pytest.raises((DecodingError, InputError)) as caught:
        list(open_source(path).documents())
    assert "--encoding" in caught.value.hint
    assert "".join(d.text for d in open_source(path, encoding=encoding).documents()) == text * 40_000


def test_utf8_read_as_something_else_is_told(tmp_path: Path) -> None:
    recorder = MemoryRecorder()
    list(open_source(write(tmp_path / "a.txt", "café", "utf-8"), encoding="latin-1", recorder=recorder).documents())
    assert recorder.names() == ["data.encoding_told"] and "valid UTF-8" in recorder.events[0].message


@pytest.mark.parametrize("name", ["gbk2", "rot13", "hex", "idna", "unicode_escape", "utf-7", "", "mbcs", "a\0b"])
def test_an_encoding_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(SettingsError, match="no such encoding"):
        check_encoding(name)


@pytest.mark.parametrize("before", [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, 3 * CHUNK_BYTES + 1])
def test_broken_bytes_of_any_encoding_are_found_or_counted(before: int) -> None:
    data = b"a" * before + "你".encode("gbk") + b"\xff\xff" + "好".encode("gbk")
    with pytest.raises(DecodingError, match="not GB18030") as caught:
        as_utf8(io.BytesIO(data), "gb18030", TextDecoder("x", "strict", NULL)).read()
    assert f"byte 0xFF at byte offset {before + 2:,} " in caught.value.found
    decoder = TextDecoder("x", "replace", NULL)
    read = as_utf8(io.BytesIO(data + "\ufffd".encode("gb18030")), "gb18030", decoder).read().decode()
    assert read == "a" * before + "你\ufffd\ufffd好\ufffd" and decoder.num_replaced == 2


def test_utf16_without_a_mark_needs_its_byte_order() -> None:
    data = codecs.encode("你好", "utf-16-le")
    with pytest.raises(DecodingError) as caught:
        as_utf8(io.BytesIO(data), "utf-16", TextDecoder("x", "strict", NULL)).read()
    assert "utf-16-le" in caught.value.hint


def test_a_large_folder_is_not_told_file_by_file(tmp_path: Path) -> None:
    for number in range(12):
        write(tmp_path / f"{number:02}.txt", NOVEL + str(number), "gbk")
    recorder = MemoryRecorder()
    source = open_source(tmp_path, recorder=recorder)
    assert len(list(source.documents())) == len(list(source.documents())) == 12
    assert recorder.names() == ["data.encoding_guess"] * 5 + ["data.encoding_guess_more"]
    assert "7 further files" in recorder.events[-1].message and recorder.events[-1].data["count"] == 7


@pytest.mark.parametrize("order", ["le", "be"])
def test_utf16_without_a_mark_is_told_in_its_byte_order(tmp_path: Path, order: str) -> None:
    (tmp_path / "a.txt").write_bytes((NOVEL + "\nend\n").encode(f"utf-16-{order}"))
    with pytest.raises(InputError) as error:
        list(open_source(tmp_path / "a.txt").documents())
    assert f"utf-16-{order}" in error.value.hint


POEM = "從前有座山，山裡有座廟。\n廟裡有個老和尚給小和尚講故事。\n"


@pytest.mark.parametrize(
    ("text", "encoding"), [(POEM, "big5"), ("昔々ある所に。\nおじいさんがいました。\n", "shift_jis"),
                           ("옛날 옛적에.\n", "euc_kr"), ("Жили-были старик.\n", "cp1251"), ("café noir\n", "cp1252")]
)  # fmt: skip
def test_an_encoding_that_cannot_be_known_is_proposed_with_a_decoded_line(text, encoding, tmp_path: Path) -> None:
    book = tmp_path / "book.txt"
    book.write_bytes(("plain\n" + text * 3).encode(encoding))
    with pytest.raises(DecodingError) as caught:
        list(open_source(book).documents())
    assert f"--encoding {encoding} “{text.splitlines()[0][:24]}" in caught.value.hint
    assert "--errors replace" in caught.value.hint


def test_a_wrong_encoding_that_was_named_is_not_proposed_again(tmp_path: Path) -> None:
    book = tmp_path / "book.txt"
    book.write_bytes((POEM * 3).encode("utf-8"))
    with pytest.raises(DecodingError) as caught:
        list(open_source(book, encoding="big5").documents())
    assert "--encoding utf-8 “從前有座山" in caught.value.hint and "--encoding big5" not in caught.value.hint
