"""BERT's `vocab.txt`: one WordPiece token on each line, whose number is its id.

The file says nothing of how a text is prepared. Whether capitals become small letters stands in `tokenizer_config.json`
(`do_lower_case`), or is chosen by hand; there is no default, because both are in use and the wrong one makes every word
with a capital unknown.

Source: Devlin et al. 2019, "BERT"; the format is that of https://github.com/google-research/bert.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from pellucid.errors import TokenizerError
from pellucid.tokens import layout
from pellucid.tokens.document import read_document
from pellucid.tokens.formats.added_tokens import named_tokens
from pellucid.tokens.formats.canonical import TokenizerFiles, canonical, forms_instead, kind_in_words, with_config
from pellucid.tokens.vocabulary import Vocabulary, check_id
from pellucid.untrusted import Json, parse_json, shown

UNKNOWN, PREFIX = "[UNK]", "##"
ROLES = {"unk_token": UNKNOWN, "pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]", "mask_token": "[MASK]"}
UNDER_ITS_NAME = "read it under its own name: tokenizer.json, or vocab.json with its merges.txt beside it"
MOST_CHARACTERS = 100  # of a word; a longer one is unknown as a whole


def read_vocab_txt(text: str, config: Mapping[str, Json], *, lowercase: bool | None = None) -> TokenizerFiles:
    """A tokenizer from a `vocab.txt` and the values of the `tokenizer_config.json` beside it (empty: there is none).

    `lowercase`: chosen by hand; it goes before the config. Raises TokenizerError when neither says it, and for a list of
    tokens without the unknown one.

    >>> read_vocab_txt("[UNK]\\nthe\\ncat\\n##s", {}, lowercase=True).json.count("[UNK]")
    3
    """
    if is_json(text):
        raise TokenizerError("the file is JSON, and a vocab.txt is a list of tokens, one a line", hint=UNDER_ITS_NAME)
    lowercase = _flag(config, "do_lower_case") if lowercase is None else lowercase
    if lowercase is None:
        raise TokenizerError(
            "the file does not say whether capitals become small letters",
            hint="`pellucid tokenizer convert` takes --lowercase or --no-lowercase; or put a tokenizer_config.json with do_lower_case beside it",
        )
    vocab = {token.rstrip("\r"): i for i, token in enumerate(text.removesuffix("\n").split("\n"))}
    if len(vocab) < text.removesuffix("\n").count("\n") + 1 or "" in vocab:
        raise TokenizerError("a token of the file is given twice, or a line is empty")
    for token in vocab:
        check_id(token, 0)
    names = {role: _name(config, role, usual) for role, usual in ROLES.items()}
    if (unknown := names["unk_token"]) not in vocab:
        raise TokenizerError("the tokenizer's unknown token is not among its tokens", found=shown(unknown))
    document = wordpiece_document(
        vocab,
        {vocab[token] for token in (*names.values(), *named_tokens(config)) if token in vocab},
        unknown=unknown,
        lowercase=lowercase,
        strip_accents=_flag(config, "strip_accents"),
        splits_chinese=_flag(config, "tokenize_chinese_chars") is not False,
    )
    return with_config(canonical(document, bos=None, eos=None), config)


def wordpiece_document(
    vocab: Mapping[str, int],
    specials: Collection[int],
    *,
    unknown: str,
    lowercase: bool,
    strip_accents: bool | None,
    splits_chinese: bool = True,
) -> dict[str, Any]:
    """The `tokenizer.json` of BERT's tokenizer; accents are stripped with the capitals where `strip_accents` is None.

    The decoder takes the spaces before punctuation marks away, as in all files of `BertTokenizerFast`.
    """
    return layout.document(
        {"type": "WordPiece", "unk_token": unknown, "continuing_subword_prefix": PREFIX,
         "max_input_chars_per_word": MOST_CHARACTERS, "vocab": dict(vocab)},
        specials={token: i for token, i in vocab.items() if i in specials},
        normalizer={"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": splits_chinese,
                    "strip_accents": strip_accents, "lowercase": lowercase},
        pre_tokenizer={"type": "BertPreTokenizer"},
        decoder={"type": "WordPiece", "prefix": PREFIX, "cleanup": True},
    )  # fmt: skip


def write_vocab_txt(vocabulary: Vocabulary, json_text: str) -> tuple[dict[str, bytes], dict[str, Json]]:
    """The `vocab.txt` of a WordPiece tokenizer, and what its config has to say beside it.

    Raises TokenizerError for another kind, and for ids with gaps.
    """
    tokens = {i: token for token, i in {**vocabulary.ids, **vocabulary.added}.items()}
    normalizer = read_document(json_text).get("normalizer") or {}
    if normalizer.get("type") != "BertNormalizer":
        raise TokenizerError(
            "only BERT's WordPiece is a vocab.txt",
            found=kind_in_words(vocabulary), hint=forms_instead(vocabulary, "vocab.txt"),
        )  # fmt: skip
    if gaps := sorted({*range(len(tokens))} - tokens.keys()):
        raise TokenizerError(
            "a vocab.txt numbers its lines, and an id of this tokenizer has no token",
            found=f"{gaps[0]}", hint=forms_instead(vocabulary, "vocab.txt"),
        )  # fmt: skip
    text = "".join(f"{tokens[i]}\n" for i in range(len(tokens)))
    said = {
        "tokenizer_class": "BertTokenizer",
        "do_lower_case": normalizer["lowercase"],
        "strip_accents": normalizer["strip_accents"],
        "tokenize_chinese_chars": normalizer["handle_chinese_chars"],
    }
    return {"vocab.txt": text.encode("utf-8")}, said


def is_json(text: str) -> bool:
    """Whether a text is a JSON object or list, and not lines of which the first begins like one.

    >>> is_json('{"a": 1}'), is_json("[UNK]\\n{")
    (True, False)
    """
    try:
        return text.lstrip().startswith(("{", "[")) and isinstance(parse_json(text), dict | list)
    except ValueError:
        return False


def _flag(config: Mapping[str, Json], name: str) -> bool | None:
    value = config.get(name)
    if value is not None and not isinstance(value, bool):
        raise TokenizerError(f"the config's {name} is neither true nor false", found=shown(value))
    return value


def _name(config: Mapping[str, Json], role: str, usual: str) -> str:
    value: Any = config.get(role, usual)
    name = value.get("content") if isinstance(value, dict) else value
    return name if isinstance(name, str) else usual
