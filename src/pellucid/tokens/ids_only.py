"""The tokenizer of a model that came without one: it knows how many ids there are, and no text.

Such a model takes and gives ids. Where text would have to become ids, or ids text, this raises one clear error; a
token that is shown to people is its number. It is *not* a way to guess a tokenizer.
"""

from __future__ import annotations

from collections.abc import Iterable

import tokenizers

from pellucid.errors import TokenizerError
from pellucid.tokens.roles import Roles
from pellucid.tokens.tokenizer import Tokenizer
from pellucid.tokens.vocabulary import Vocabulary


class IdsOnly(Tokenizer):
    """A tokenizer without text, for ids from 0 to `vocab_size` - 1; made by `build`.

    >>> IdsOnly.build(300).token_text(12)
    '#12'
    >>> IdsOnly.build(300).encode_prompt("hello")
    Traceback (most recent call last):
    ...
    pellucid.errors.TokenizerError: this model has no tokenizer: it takes and gives ids, no text
      try:   put its tokenizer.json beside its weights, or give ids, and stop_ids instead of stop
    """

    has_text = False

    @classmethod
    def build(cls, vocab_size: int) -> IdsOnly:
        """For a model of that many ids."""
        vocabulary = Vocabulary(
            kind="ids", token_bytes=(b"",) * vocab_size, added={}, specials={}, ids={}, merges=(), pattern=None,
            drops_first_space=False, ignores_merges=False, unspelled=b"",
        )  # fmt: skip
        return cls("", "", vocabulary, Roles(), tokenizers.Tokenizer(tokenizers.models.BPE()))

    def files(self) -> dict[str, str]:
        """No file: another program would take one for a tokenizer."""
        return {}

    def token_text(self, token_id: int) -> str:
        """Its number, for people."""
        self.token_bytes(token_id)
        return f"#{token_id}"

    def _check_text(self, text: str) -> None:
        """Raise TokenizerError, for any text."""
        raise TokenizerError(
            "this model has no tokenizer: it takes and gives ids, no text",
            hint="put its tokenizer.json beside its weights, or give ids, and stop_ids instead of stop",
        )

    def decode(self, ids: Iterable[int], *, show_special: bool = False) -> str:
        """Raise TokenizerError: nobody knows the text. The bytes of ids, and of one, are empty."""
        self._check_text("")
        return ""

    def __repr__(self) -> str:
        return f"IdsOnly(vocab_size={self.vocab_size})"

    def __reduce__(self) -> tuple:
        return _restore, (self.vocab_size, self.roles)


def _restore(vocab_size: int, roles: Roles) -> Tokenizer:
    return IdsOnly.build(vocab_size).with_roles(roles)
