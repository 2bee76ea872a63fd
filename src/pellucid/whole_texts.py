"""What a model does with texts that it reads whole, from both sides: fill their masks, make vectors of them, label them.

These are methods of `LanguageModel`, in a file of their own.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Never, get_args

from pellucid.arguments import WHOLE_TEXTS, check_kind, check_one_of, check_path
from pellucid.errors import RequestError
from pellucid.events import NULL, Recorder
from pellucid.planning.parts.pooler import Pooling
from pellucid.setting_values import check_keywords
from pellucid.tokens.tokenizer import Tokenizer
from pellucid.untrusted import shown

if TYPE_CHECKING:  # torch is loaded by the methods that need it: planning a model must not wait for it
    from pellucid.engine.classify import Label
    from pellucid.engine.embed import Embeddings
    from pellucid.engine.fill import Filled
    from pellucid.engine.runners.runner import Runner
    from pellucid.engine.text_rows import Watch
    from pellucid.model.decoder import Decoder
    from pellucid.store.checkpoint import Checkpoint
    from pellucid.training.label_head import LabelReport, LabelSettings


class WholeTexts:
    """The part of `LanguageModel` that reads texts whole."""

    model: Decoder
    tokenizer: Tokenizer
    checkpoint: Checkpoint
    runner: Runner

    def fill(
        self,
        text: str,
        *,
        top: int | None = None,
        one_by_one: bool = False,
        mask: str | None = None,
        **unknown: Never,
    ) -> Filled:
        """Fill the masks of a text from what stands on both sides: `lm.fill("The [MASK] is in the box.").text`.

        Each blank has its `top` candidates (None: 5). Several masks are filled together, or `one_by_one`, the surest first.
        `mask` is how they are written (None: [MASK], <mask>, or the tokenizer's own name for it). An encoder beside a
        decoder (T5) writes one filling for each, of any length.

        Raises RequestError for a model that cannot fill or a text without a mask, TokenizerError without a mask token.
        """
        from pellucid.engine.fill import TOP, fill
        from pellucid.engine.infill import infill

        check_keywords(unknown, ("top", "one_by_one", "mask"), WHOLE_TEXTS)
        check_kind(text, str, 'give a text: lm.fill("The [MASK] is in the box.")')
        check_kind(top, int, "how many candidates each mask has: top=5", optional=True)
        check_kind(one_by_one, bool, "one_by_one=True, or leave it out")
        check_kind(mask, str, 'how masks are written in the text: mask="___"', optional=True)
        if self.model.config.encoder is not None:
            if top is not None or one_by_one:
                found = "one_by_one" if top is None else f"top={top}"
                raise RequestError(
                    "a decoder writes one filling for each mask, in their order",
                    found=found,
                    hint="leave out --top and --one-by-one (top and one_by_one in Python)",
                )
            return infill(self.runner, self.tokenizer, text, mask=mask)
        frame = self.checkpoint.frame(self.tokenizer)
        return fill(
            self.model, self.tokenizer, frame, text, top=TOP if top is None else top, one_by_one=one_by_one, mask=mask
        )

    def embed(
        self,
        texts: Sequence[str],
        *,
        pooling: Pooling | None = None,
        normalise: bool | None = None,
        cut: bool = False,
        watch: Watch | None = None,
        **unknown: Never,
    ) -> Embeddings:
        """One vector for each text, float32 [N, D] in `vectors`; texts of like meaning lie close together.

        How token vectors become one (`pooling`: mean, first, last; `normalise`: to length 1) is as the model's files say.
        A text that is too long is an error, unless it may be `cut`.

        Raises SettingsError for a pooling that is none, or where nobody says how a decoder's vectors are pooled;
        ContextError for a text too long.
        """
        from pellucid.engine.embed import embed_texts, settle_embedding
        from pellucid.engine.text_rows import unwatched

        check_keywords(unknown, ("pooling", "normalise", "cut", "watch"), WHOLE_TEXTS)
        check_one_of(pooling, "pooling", get_args(Pooling))
        check_kind(normalise, bool, "normalise=True, normalise=False, or leave it out", optional=True)
        check_kind(cut, bool, "cut=True, or leave it out")
        given = _texts(texts)
        how = settle_embedding(self.checkpoint, pooling, normalise)
        return embed_texts(self.model, self.tokenizer, self.checkpoint, given, how, cut=cut, watch=watch or unwatched)

    def classify(self, texts: Sequence[str], *, cut: bool = False, **unknown: Never) -> list[tuple[Label, ...]]:
        """The labels of each text, the likeliest first, with their probabilities: `lm.classify(["so good"])[0][0].name`.

        Raises RequestError for a model without labels, ContextError for a text that is too long and may not be `cut`.
        """
        from pellucid.engine.classify import classify_texts

        check_keywords(unknown, ("cut",), WHOLE_TEXTS)
        check_kind(cut, bool, "cut=True, or leave it out")
        return classify_texts(self.model, self.tokenizer, self.checkpoint, _texts(texts), cut=cut)

    def train_labels(
        self,
        rows: Path | str | Sequence[tuple[str, str]],
        out: Path | str,
        *,
        settings: LabelSettings | None = None,
        watch: Watch | None = None,
        recorder: Recorder = NULL,
        **unknown: Never,
    ) -> LabelReport:
        """Fit a classifier on this model, which stays as it is, and save both in `out`; `pellucid.load(out)` reads it.

        `rows` are pairs of a text and its label, or a .jsonl, .csv or .tsv file with `text` and `label`. The report says
        how many rows held out got their label. Raises InputError for rows that cannot be learned from.
        """
        from pellucid.data.labelled import labelled_pairs, read_labelled
        from pellucid.engine.text_rows import unwatched
        from pellucid.training.label_head import LabelSettings, train_labels

        check_keywords(unknown, ("rows", "out", "settings", "watch", "recorder"), WHOLE_TEXTS)
        check_path(out, "out")
        how = LabelSettings() if settings is None else settings
        check_kind(how, LabelSettings, "settings=pellucid.LabelSettings(l2=…)")
        given = read_labelled(Path(rows)) if isinstance(rows, (str, Path)) else labelled_pairs(rows)
        return train_labels(
            self.model, self.tokenizer, self.checkpoint, given, Path(out), how,
            watch=watch or unwatched, recorder=recorder,
        )  # fmt: skip


def _texts(texts: Iterable[str]) -> list[str]:
    """Texts in a list; a single one is no list of letters."""
    if isinstance(texts, str) or not isinstance(texts, Iterable):
        found = f"{shown(texts)} ({type(texts).__name__})"
        raise RequestError("a list of texts is wanted here", found=found, hint='give texts in a list: ["a cat sleeps"]')
    given = list(texts)
    for number, text in enumerate(given, start=1):
        check_kind(text, str, f"number {number} of the list is no text: leave it out, or write it as one")
        if not text.strip():
            raise RequestError(
                "a text is blank", found=f"text {number}: {text!r}", hint="leave it out: there is nothing to read"
            )
    return given
