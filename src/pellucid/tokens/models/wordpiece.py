"""WordPiece: words are cut from the left, each time by the longest token that fits, as BERT does.

    text -> normaliser: spaces around 汉, lower case, no accents -> words and punctuation marks -> longest match first

A token that goes on inside of a word is written with `##`. A word that cannot be finished with the tokens there are
becomes [UNK] as a whole, so decoding does not give every text back. Training is BPE over characters, as Hugging Face
does it; but there the order of its hash tables decides between equals, and here code points do.

Source: Wu et al. 2016, "Google's Neural Machine Translation System", section 4.1; Devlin et al. 2019, "BERT".
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pellucid.counts import counted
from pellucid.errors import TokenizerError
from pellucid.events import NULL, Event, Recorder
from pellucid.tokens import layout as shared
from pellucid.tokens import plain
from pellucid.tokens.progress import merging
from pellucid.tokens.roles import Role
from pellucid.tokens.symbol_words import LearnMerges, SymbolWords
from pellucid.tokens.vocabulary import HINT, UNREACHED, Check, ModelTokens, Vocabulary, as_object, check_ids
from pellucid.untrusted import shown

PAD, CLS, SEP, MASK = "[PAD]", "[CLS]", "[SEP]", "[MASK]"
ROLES: Mapping[Role, str] = {"pad": PAD, "unk": plain.UNKNOWN_WORD, "cls": CLS, "sep": SEP, "mask": MASK}
SPECIALS = tuple(ROLES.values())  # they have the first ids, as in BERT's files
MOST_CHARACTERS = 10_000  # of a word that a file may ask to cut: matching takes their square
LEAST_COUNT = 2  # of a pair, and of a character
FIELDS: dict[str, Check] = {
    "type": lambda value: value == "WordPiece",
    "unk_token": lambda value: isinstance(value, str),
    "continuing_subword_prefix": lambda value: isinstance(value, str) and 0 < len(value) <= 8,
    "max_input_chars_per_word": lambda value: type(value) is int and 0 < value <= MOST_CHARACTERS,
    "vocab": lambda value: isinstance(value, dict),
}


@dataclass(frozen=True, kw_only=True)
class LongestMatch:
    """The longest token that fits at a place of a word, `word[start:end]`; `misses` longer ones were tried before."""

    token: str
    start: int
    end: int
    misses: int


@dataclass(frozen=True, kw_only=True)
class WordPieceExplanation:
    """The matches in a word from the left, and the tokens it became: [UNK] where the matches do not reach its end."""

    word: str
    matches: tuple[LongestMatch, ...]
    tokens: tuple[str, ...]
    is_too_long: bool  # more than 100 characters: nothing was tried

    @property
    def reached(self) -> int:
        """The place in the word that the matches reach: its end, or where nothing fits."""
        return self.matches[-1].end if self.matches else 0

    def tried(self, match: LongestMatch | None) -> tuple[str, ...]:
        """What was tried in vain before a match, the longest first; None: all that was tried where nothing fits."""
        start, end = (self.reached, self.reached) if match is None else (match.start, match.end)
        prefix = plain.CONTINUES if start else ""
        ends = range(len(self.word), end, -1) if not self.is_too_long else ()
        return tuple(prefix + self.word[start:longer] for longer in ends)


def read(node: Mapping[str, Any]) -> ModelTokens:
    """The tokens of a file's model."""
    vocab = check_ids(as_object(node.get("vocab"), "model.vocab"))
    unknown = node.get("unk_token", "[UNK]")
    if not isinstance(unknown, str) or unknown not in vocab:
        raise TokenizerError("the tokenizer's unknown token is not among its tokens", found=shown(unknown), hint=HINT)
    return ModelTokens(vocab=vocab, unknown=unknown)


def for_engine(node: Mapping[str, Any], vocabulary: Vocabulary, tokens: Mapping[str, int]) -> dict[str, Any]:
    """The model that the engine gets: `tokens` holds no special one, and the unknown one has a name no text spells."""
    assert vocabulary.unknown_id is not None
    kept = {token: token_id for token, token_id in tokens.items() if token_id != vocabulary.unknown_id}
    return {
        "type": "WordPiece",
        "unk_token": UNREACHED,
        "continuing_subword_prefix": node.get("continuing_subword_prefix", "##"),
        "max_input_chars_per_word": node.get("max_input_chars_per_word", 100),
        "vocab": {**kept, UNREACHED: vocabulary.unknown_id},
    }


def train(
    words: Mapping[str, int], vocab_size: int, *, merge: LearnMerges | None = None, recorder: Recorder = NULL
) -> list[str]:
    """Learn at most `vocab_size` tokens, BERT's five special ones first, from words and how often each occurs.

    Every character that occurs twice comes before any merge, the most frequent ones where not all fit: a word with a
    character that is missing is unknown, without a merge it is only longer. Room that is left at the end goes to the
    other characters. Words of more than 100 characters, which are never encoded, are left out. `merge`: what learns
    the merges, the readable algorithm where it is None.
    Events: `tokens.words_left_out`, `tokens.characters_dropped`. Raises TokenizerError where every word is too long, and
    where not one character fits.

    >>> train({"low": 5, "lower": 2, "newer": 6}, 21)[-3:]
    ['ne', 'newer', 'low']
    """
    words = _short(words, recorder)
    symbols = _symbols_by_frequency(words)
    alphabet = _fitting(symbols, vocab_size - len(SPECIALS), LEAST_COUNT)
    number = {symbol: place for place, symbol in enumerate(alphabet)}
    numbered = [([number.get(symbol, -1) for symbol in plain.symbols_of(word)], words[word]) for word in words]
    kept = [(word, count) for word, count in numbered if min(word) >= 0]
    learn, most_new = merge or merge_plainly, vocab_size - len(SPECIALS) - len(alphabet)
    symbol_words = SymbolWords.of(kept, len(alphabet))
    pairs = learn(symbol_words, most_new=most_new, least_count=LEAST_COUNT) if kept else ()
    spelled = [*alphabet]
    for left, right in pairs:
        spelled.append(plain.spell_wordpiece([spelled[left], spelled[right]]))
    tokens = dict.fromkeys(spelled)
    learned = [*SPECIALS, *tokens][:vocab_size]
    others = {character: count for character, count in symbols.items() if character not in tokens}
    learned += _fitting(others, vocab_size - len(learned), 1)
    _report_dropped(symbols, learned, recorder)
    return learned


def merge_plainly(
    words: SymbolWords, *, most_new: int, least_count: int, recorder: Recorder = NULL
) -> list[tuple[int, int]]:
    """The merge loop in its readable form, quadratic in time: it is a `symbol_words.LearnMerges`.

    >>> merge_plainly(SymbolWords.of([([0, 1, 0, 1], 1)], 2), most_new=9, least_count=2)
    [(0, 1)]
    """
    spelled: list[tuple[list[tuple[str, ...]], int]] = [
        ([(str(symbol),) for symbol in word], count) for word, count in words
    ]
    age: dict[tuple[str, ...], int] = {(str(symbol),): symbol for symbol in range(words.num_symbols)}
    merges = []
    recorder.record(merging(0, most_new))
    for left, right in plain.learn_merges(spelled, age, most_new, least_count):
        age[left + right] = len(age)
        merges.append((age[left], age[right]))
        recorder.record(merging(len(merges), most_new))
    return merges


def layout(
    tokens: Sequence[str], *, lowercase: bool, strip_accents: bool | None, specials: Sequence[str] = ()
) -> dict[str, Any]:
    """The `tokenizer.json` of these tokens as a value, as BERT's is laid out; their places are the ids.

    `strip_accents`: None strips them where letters become lower case. `specials`: more special tokens, behind the others.

    >>> layout([*SPECIALS, "a"], lowercase=True, strip_accents=None)["model"]["vocab"]["a"]
    5
    """
    ids = {token: place for place, token in enumerate(tokens)}
    normalizer = {
        "type": "BertNormalizer",
        "clean_text": True,
        "handle_chinese_chars": True,
        "strip_accents": strip_accents,
        "lowercase": lowercase,
    }
    model = {
        "type": "WordPiece",
        "unk_token": plain.UNKNOWN_WORD,
        "continuing_subword_prefix": plain.CONTINUES,
        "max_input_chars_per_word": plain.MOST_WORD_CHARACTERS,
        "vocab": ids,
    }
    return shared.document(
        model,
        specials={**{name: ids[name] for name in SPECIALS}, **shared.numbered(specials, len(ids))},
        normalizer=normalizer,
        pre_tokenizer={"type": "BertPreTokenizer"},
        post_processor=_template(ids),
        decoder={"type": "WordPiece", "prefix": plain.CONTINUES, "cleanup": True},
    )


def config(*, lowercase: bool, strip_accents: bool | None) -> dict[str, Any]:
    """The `tokenizer_config.json` that goes with it; transformers takes the normaliser's settings from here.

    >>> config(lowercase=True, strip_accents=None)["do_lower_case"]
    True
    """
    return {
        "tokenizer_class": "BertTokenizer",
        "do_lower_case": lowercase,
        "strip_accents": strip_accents,
        "tokenize_chinese_chars": True,
        **{f"{role}_token": name for role, name in ROLES.items()},
    }


def explain(word: str, tokens: Mapping[str, int]) -> WordPieceExplanation:
    """Each match in a word, as the normaliser left it; `tokens`: token -> id.

    >>> [(match.token, match.misses) for match in explain("lowest", {"low": 0, "##est": 1, "##e": 2}).matches]
    [('low', 3), ('##est', 0)]
    """
    matches, start = [], 0
    for token, misses in plain.match_wordpiece(word, tokens):
        end = len(word) - misses
        matches.append(LongestMatch(token=token, start=start, end=end, misses=misses))
        start = end
    return WordPieceExplanation(
        word=word,
        matches=tuple(matches),
        tokens=tuple(plain.encode_wordpiece(word, tokens)),
        is_too_long=len(word) > plain.MOST_WORD_CHARACTERS,
    )


def _short(words: Mapping[str, int], recorder: Recorder) -> dict[str, int]:
    """The words that will be encoded, in order; the longer ones, which become unknown as a whole, are told."""
    short = {word: words[word] for word in sorted(words) if 0 < len(word) <= plain.MOST_WORD_CHARACTERS}
    num_long = sum(count for word, count in words.items() if len(word) > plain.MOST_WORD_CHARACTERS)
    if num_long and not short:
        raise TokenizerError(
            f"WordPiece learns nothing from words of more than {plain.MOST_WORD_CHARACTERS} characters, and the text has no others",
            found=counted(num_long, "word"), hint="bpe, unigram and char need no spaces: take one of these kinds",
        )  # fmt: skip
    if num_long:
        message = f"{counted(num_long, 'word')} of more than {plain.MOST_WORD_CHARACTERS} characters will be unknown"
        recorder.record(Event(name="tokens.words_left_out", message=message, data={"words": num_long}))
    return short


def _symbols_by_frequency(words: Mapping[str, int]) -> dict[str, tuple[int, list[str]]]:
    """Each character, the most frequent first: how often it occurs, and its symbols, with `##` if it stands inside."""
    counts: Counter[str] = Counter()
    for word, count in words.items():
        for character in word:
            counts[character] += count
    inner = {character for word in words for character in word[1:]}
    ordered = sorted(counts, key=lambda character: (-counts[character], character))
    return {c: (counts[c], [c, plain.CONTINUES + c] if c in inner else [c]) for c in ordered}


def _fitting(characters: Mapping[str, tuple[int, list[str]]], room: int, least_count: int) -> list[str]:
    """The symbols of the first characters, as many as there is room for: those that begin words, then those inside."""
    fitting: list[str] = []
    for count, symbols in characters.values():
        if len(fitting) + len(symbols) > room or count < least_count:
            break
        fitting += symbols
    return sorted(fitting, key=lambda symbol: (len(symbol), symbol))


def _report_dropped(
    characters: Mapping[str, tuple[int, list[str]]], learned: Iterable[str], recorder: Recorder
) -> None:
    dropped = characters.keys() - set(learned)
    if len(dropped) == len(characters):
        what = f"a vocabulary needs its {len(SPECIALS)} special tokens and one character"
        raise TokenizerError(what, found=counted(len(characters), "character"))
    if dropped:
        share = sum(characters[one][0] for one in dropped) / sum(count for count, _ in characters.values())
        message = f"{counted(len(dropped), 'character')} ({share:.2%} of the text) found no room in the vocabulary, and will be unknown"
        data = {"dropped": len(dropped), "share": share}
        recorder.record(Event(name="tokens.characters_dropped", message=message, data=data))


def _template(ids: Mapping[str, int]) -> dict[str, Any]:
    """Where special tokens stand: [CLS] A [SEP], or [CLS] A [SEP] B [SEP]."""

    def special(name: str, part: int) -> dict[str, Any]:
        return {"SpecialToken": {"id": name, "type_id": part}}

    def text(name: str, part: int) -> dict[str, Any]:
        return {"Sequence": {"id": name, "type_id": part}}

    single = [special(CLS, 0), text("A", 0), special(SEP, 0)]
    return {
        "type": "TemplateProcessing",
        "single": single,
        "pair": [*single, text("B", 1), special(SEP, 1)],
        "special_tokens": {name: {"id": name, "ids": [ids[name]], "tokens": [name]} for name in (CLS, SEP)},
    }
