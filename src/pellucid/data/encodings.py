"""Detect the character encoding of a text.

Text is read as UTF-8. It is read as another encoding in two cases. First, a byte-order mark or the person names it.
Second, its first megabyte is not UTF-8 and is almost certainly GB18030 (which contains GBK and GB2312): nearly all of
it decodes, and the decoded Chinese has many more common characters than chance would give. Korean, Japanese, Big5 and
Western texts often decode as GB18030 too, but to rare characters. No other encoding is ever guessed.
"""

from __future__ import annotations

import codecs
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from pellucid.errors import SettingsError

AUTO, UTF8, GUESSED = "auto", "utf-8", "gb18030"
REPLACEMENT = "\ufffd"
CANDIDATES = (UTF8, GUESSED, "big5", "shift_jis", "euc_kr", "cp1252", "cp1251")
DAMAGE = 1000  # a text is still in an encoding when it has at most one damaged place in so many characters
SHOWN, SHOWN_BYTES = 24, 400  # characters of a line that are shown, bytes of it that are decoded for them
# The UTF-32 marks come first: the little-endian one begins with the UTF-16 one.
MARKS = {
    b"\xff\xfe\x00\x00": "utf-32",
    b"\x00\x00\xfe\xff": "utf-32",
    b"\xff\xfe": "utf-16",
    b"\xfe\xff": "utf-16",
}
# Not for text in files: they encode names and escapes, or depend on the machine.
_NOT_FOR_FILES = {"idna", "punycode", "raw-unicode-escape", "unicode-escape", "undefined", "utf-7", "mbcs", "oem"}

# The commonest characters of modern Chinese, of both scripts, and some of older prose and verse. They make up 60 % of
# Journey to the West and 37 % of the Tang poems; of other languages' texts, read as GB18030, at most 15 %.
COMMON = frozenset(
    "的一是不了在人有我他这个们中来上大为和国地到以说时要就出会可也你对生能而子那得于着下自之年过发后作里用道行所然家种事成方多经么去"
    "法学如都同现当没动面起看定天分还进好小部其些主样理心她本前开但因只从想实日军者意无力它与长把机十民第公此已工使情明性知全三又关"
    "点正业外将两高间由问很最重并物手应战向头文体政美相见被利什二等产或新己制身果加西斯月话合回特代内信表化老给世位次度门任常先海通"
    "教儿原东声提立及比员解水名真论处走义各入几口认条平系气题活尔更别打女变四神总何电数安少报才结反受目太量再感建务做接必场件计管期"
    "市直德资命山金指克许统区保至队形社便空决治展马科司五基眼书非则听白却界达光放强即像难且权思王象完设式色路记南品住告类求据程北边"
    "死张该交规万取拉格望觉术领共确传师观清今切院让识候带导争运曰汝吾乃吃谁云风花春雪"
    "這個們來為國說時會對學過發後裡種經麼還開關點實無與長機動進樣當從現兩問應戰體產將間業萬話給門東聲員論處義幾條氣題爾變總電數報結"
    "場計資許統區隊決馬書則聽卻達難權設記類據邊張該規覺術領確傳師觀讓識帶導爭運頭見誰雲風"
)
BY_CHANCE, FEWEST = 0.12, 4  # the share of them that chance gives, at most; the fewest characters that say anything


@dataclass(frozen=True, kw_only=True)
class Recognised:
    """The encoding of a text, how it is known, and, for a guess, a decoded line."""

    encoding: str
    how: Literal["told", "mark", "utf-8", "guess"]
    line: str = ""


def check_encoding(name: str) -> str:
    """The Python name of a known encoding, or "auto".

    >>> check_encoding("GBK"), check_encoding("UTF8")
    ('gbk', 'utf-8')

    Raises SettingsError for an unknown name.
    """
    if name == AUTO:
        return AUTO
    try:
        info = codecs.lookup(name)
    except (LookupError, ValueError):  # ValueError: a zero byte in the name
        info = None
    known = info is not None and info._is_text_encoding and info.incrementaldecoder is not None
    if info is None or not known or info.name.replace("_", "-") in _NOT_FOR_FILES:
        raise SettingsError(
            "there is no such encoding",
            found=repr(name)[:80],
            hint="for example gb18030, big5, shift_jis, euc_kr, cp1252",
        )
    return UTF8 if info.name == "utf-8-sig" else info.name


def recognise(head: bytes, *, whole: bool, told: str = AUTO) -> Recognised:
    """The encoding of a text that begins with `head` (`whole`: `head` is all of it).

    >>> recognise("从前有座山，山里有座庙。".encode("gbk"), whole=True)
    Recognised(encoding='gb18030', how='guess', line='从前有座山，山里有座庙。')
    >>> recognise("café noir".encode("cp1252"), whole=True).how
    'utf-8'
    """
    if told != AUTO:
        return Recognised(encoding=told, how="told")
    for mark, encoding in MARKS.items():
        if head.startswith(mark):
            return Recognised(encoding=encoding, how="mark")
    if decode(head, UTF8, whole=whole) is None and not is_but_damaged(head, UTF8):
        text, _ = replaced(head, GUESSED)  # half a last character is an error that names its place
        if is_but_damaged(head, GUESSED) and is_chinese(text):
            return Recognised(encoding=GUESSED, how="guess", line=_sample(text))
    return Recognised(encoding=UTF8, how="utf-8")


def is_chinese(text: str) -> bool:
    """Whether a decoded text must be Chinese: its common characters exceed chance by three standard deviations."""
    foreign = [c for c in text if ord(c) > 0x7F]
    han = [c for c in foreign if "\u3400" <= c <= "\u9fff"]
    num_common = sum(c in COMMON for c in han)
    chance = len(han) * BY_CHANCE
    return (
        len(han) >= max(FEWEST, 0.6 * len(foreign))
        and num_common > chance + 3 * math.sqrt(chance * (1 - BY_CHANCE))
        and num_common > 0.2 * len(han)
        and sum("\u3040" <= c <= "\u30ff" for c in foreign) <= 0.02 * len(foreign)  # kana: Japanese
    )


def decode(data: bytes, encoding: str, *, whole: bool) -> str | None:
    """Decode bytes, which may end inside a character unless they are the `whole`; None if they do not decode."""
    try:
        return codecs.getincrementaldecoder(encoding)("strict").decode(data, final=whole)
    except UnicodeDecodeError:
        return None


def replaced(data: bytes, encoding: str) -> tuple[str, int]:
    """Decode bytes, which may end inside a character, with U+FFFD for wrong bytes; (text, number of U+FFFD).

    >>> replaced(b"caf\\xe9 noir", "utf-8")
    ('caf\ufffd noir', 1)
    """
    make = codecs.getincrementaldecoder(encoding)
    text, kept = make("replace").decode(data), make("ignore").decode(data)
    return text, text.count(REPLACEMENT) - kept.count(REPLACEMENT)


def is_but_damaged(data: bytes, encoding: str) -> bool:
    """Whether bytes are in an encoding, apart from at most one damaged place in a thousand characters."""
    text, count = replaced(data, encoding)
    return count <= max(1, len(text) // DAMAGE)


def advise(data: bytes, at: int, *, tried: str = UTF8, replacing: bool = False) -> str:
    """Advice for bytes that are not in the encoding `tried` from byte `at` on: the line in each other encoding.

    `replacing` says that --errors replace was given already.

    >>> print(advise("café noir".encode("cp1252"), 3))
    name the encoding whose line reads well: --encoding cp1252 “café noir”, --encoding cp1251 “cafй noir”; or --errors replace puts U+FFFD there
    """
    if _is_large_and_damaged(data, tried):
        return "the rest of it reads well: mend that place, or --errors replace puts U+FFFD there and counts"
    told = [f"--encoding {name} “{line}”" for name, line in _lines_of_others(data, at, tried)]
    names = ", ".join(name for name in (GUESSED, "big5", "shift_jis", "cp1252") if name != tried)
    candidates = ", ".join(told)
    if replacing:
        return (
            f"name the encoding whose line reads well: {candidates}"
            if told
            else f"name the encoding: --encoding {names}, …"
        )
    if not told:
        return f"name the encoding: --encoding {names}, …; or --errors replace puts U+FFFD there"
    return f"name the encoding whose line reads well: {candidates}; or --errors replace puts U+FFFD there"


def _lines_of_others(data: bytes, at: int, tried: str) -> Iterator[tuple[str, str]]:
    """Each other encoding that the bytes may be in, with the line of byte `at` decoded in it."""
    start, end = data.rfind(b"\n", 0, at) + 1, data.find(b"\n", at)
    line = data[start : end if end >= 0 else len(data)][:SHOWN_BYTES]
    for name in CANDIDATES:
        text, _ = replaced(line, name)
        if (
            name != tried
            and text.strip()
            and (decode(data, name, whole=False) is not None or _is_large_and_damaged(data, name))
        ):
            yield name, "".join(sign for sign in text.strip() if sign.isprintable())[:SHOWN]


def _is_large_and_damaged(data: bytes, encoding: str) -> bool:
    """As `is_but_damaged`, and the data is long enough for the share to mean something."""
    return len(data) >= 2 * DAMAGE and is_but_damaged(data, encoding)


def _sample(text: str) -> str:
    lines = (line.strip() for line in text.splitlines())
    return next(line for line in lines if any(c in COMMON for c in line))[:40]
