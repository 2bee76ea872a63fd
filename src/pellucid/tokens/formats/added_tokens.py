"""`added_tokens.json` of older Hugging Face directories: tokens beside those of the vocabulary, each with its id.

    {"<|im_start|>": 151644, "<think>": 151667}

It stands beside a `vocab.json` with its `merges.txt`, a `vocab.txt` or a SentencePiece model. Whether a token is special
stands elsewhere: it is one if `tokenizer_config.json` or `special_tokens_map.json` names it; all others text may spell.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from pellucid.errors import TokenizerError
from pellucid.tokens.document import read_document
from pellucid.tokens.extend import ADDITIONAL
from pellucid.tokens.formats.canonical import TokenizerFiles
from pellucid.tokens.layout import FLAGS, as_text
from pellucid.tokens.read_roles import name_in
from pellucid.tokens.vocabulary import check_id
from pellucid.untrusted import Json, shown

ADDED_FILE = "added_tokens.json"


def with_added_tokens(files: TokenizerFiles, listed: Mapping[str, Json], *said: Mapping[str, Json]) -> TokenizerFiles:
    """A tokenizer with the tokens of an `added_tokens.json`. `said`: the values of the files that name special ones.

    >>> files = TokenizerFiles(json='{"added_tokens": []}', config=None)
    >>> [entry["special"] for entry in read_document(with_added_tokens(files, {"<s>": 7, "<think>": 8},
    ...     {"bos_token": "<s>"}).json)["added_tokens"]]
    [True, False]

    Raises TokenizerError for what is no token with its id.
    """
    document = read_document(files.json)
    entries = {entry["content"]: entry for entry in document["added_tokens"]}
    special = {name for one in said for name in named_tokens(one)}
    for content, token_id in listed.items():
        if not content:
            raise TokenizerError("an added token has no text", found=f"{ADDED_FILE}: {shown(token_id)}")
        entry = {"id": check_id(content, token_id), "content": content, **FLAGS, "special": content in special}
        entries.setdefault(content, entry)
        if entries[content]["id"] != token_id:
            raise TokenizerError(
                "a token of the tokenizer has two ids", found=f"{content!r}: {entries[content]['id']} and {token_id}"
            )
    added = sorted(entries.values(), key=lambda entry: entry["id"])
    return TokenizerFiles(json=as_text({**document, "added_tokens": added}), config=files.config)


def named_tokens(values: Mapping[str, Json]) -> Iterator[str]:
    """The names of special tokens in a config: `bos_token` and the like, and the list of further ones.

    >>> list(named_tokens({"pad_token": "<pad>", "additional_special_tokens": ["<spare_0>"]}))
    ['<pad>', '<spare_0>']
    """
    listed = values.get(ADDITIONAL)
    for value in [
        *(value for key, value in values.items() if key.endswith("_token")),
        *(listed if isinstance(listed, list) else []),
    ]:
        if isinstance(name := name_in(value), str):
            yield name
