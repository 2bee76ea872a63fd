"""The reader's text under the reader's model, for the lessons: logits, losses, embeddings.

Logits come from the engine's runner: they are those that the page's panels show and that a step draws from. Activations
(attention weights, queries) come from the lens's recording of the text.

Axes: T positions · D width · V vocabulary.
"""

from __future__ import annotations

from collections import abc
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from pellucid.counts import counted
from pellucid.engine.runners.sequence import Sequence
from pellucid.engine.sampling.distribution import log_probabilities, probabilities
from pellucid.errors import RequestError
from pellucid.lens.lessons.task import Figure, text
from pellucid.lens.state import LensState
from pellucid.tokens.browse import label_of

if TYPE_CHECKING:
    from pellucid.lens.answer import At
    from pellucid.lens.trace import Trace
    from pellucid.model.decoder import Decoder
    from pellucid.planning.config import ModelConfig

LEAST_TOKENS = 4  # of text: a lesson has to point at something
SHOWN_CHARACTERS = 60  # of a longer text, its end is quoted
ROOM = 32  # tokens that may be tried behind the text


class LessonText:
    """Some ids, and the model's results for them."""

    def __init__(self, lens: LensState, at: At) -> None:
        """Raises RequestError for a text too short to ask about."""
        self.lens, self.at = lens, at
        self.ids, self.tokenizer = tuple(lens.ids(at.node)), lens.tokenizer
        self._known: dict[tuple[int, ...], np.ndarray] = {}
        if len(self.text_positions) < LEAST_TOKENS:
            raise RequestError(
                "this lesson needs a longer text",
                found=f"{counted(len(self.text_positions), 'token')} of text",
                hint=f"type a sentence of at least {LEAST_TOKENS} tokens",
            )

    @cached_property
    def model(self) -> Decoder:
        """The model of the selected checkpoint."""
        return self.lens.model(self.at.checkpoint)

    @property
    def config(self) -> ModelConfig:
        """The model's shape."""
        return self.model.config

    @property
    def trace(self) -> Trace:
        """The recording of the text."""
        return self.lens.trace(self.at)

    @cached_property
    def text_positions(self) -> tuple[int, ...]:
        """The positions with text, without control tokens."""
        specials = set(self.tokenizer.specials.values())
        return tuple(t for t, token_id in enumerate(self.ids) if token_id not in specials)

    @cached_property
    def logits_TV(self) -> np.ndarray:
        """The logits after every position, float32; this costs as much again as reading the text."""
        return self._runner.score(self._start())

    @cached_property
    def last_V(self) -> np.ndarray:
        """The logits of the next token, in float64."""
        return self._read[1].astype(np.float64)

    @cached_property
    def chances_V(self) -> np.ndarray:
        """The probabilities of the next token: softmax of `last_V`."""
        return probabilities(self.last_V)

    @cached_property
    def losses_T(self) -> np.ndarray:
        """-ln p of each true next token, in nats; one fewer than there are tokens."""
        rows = enumerate(self.ids[1:])
        return np.array([-log_probabilities(self.logits_TV[t].astype(np.float64))[after] for t, after in rows])

    @cached_property
    def embed_VD(self) -> np.ndarray:
        """The table of embeddings, float32."""
        return self.model.embed.weight.detach().float().cpu().numpy()

    def after(self, ids: abc.Sequence[int]) -> np.ndarray:
        """The probability of every token after some ids, float64 [V]; a beginning shared with the text is reused."""
        if tuple(ids) not in self._known:
            self._known[tuple(ids)] = self._read_after(ids)
        return self._known[tuple(ids)]

    def _read_after(self, ids: abc.Sequence[int]) -> np.ndarray:
        pairs = enumerate(zip(self.ids, ids, strict=False))
        shared = next((t for t, (mine, other) in pairs if mine != other), min(len(self.ids), len(ids)))
        shared = min(shared, len(ids) - 1) if self.config.causal else 0  # bidirectional: nothing can be reused
        branch = self._read[0].fork()
        branch.truncate(shared)
        branch.extend(ids[len(branch.ids) :])
        return probabilities(self._runner.read([branch])[0].astype(np.float64))

    def token(self, token_id: int) -> Figure:
        """One token as a figure of a sentence."""
        known = token_id < self.tokenizer.vocab_size  # an embedding may have rows that no token uses
        return text(label_of(self.tokenizer, token_id) if known else f"[{token_id}]")

    def quote(self, ids: abc.Sequence[int]) -> str:
        """Some ids as text; only the end of a long text."""
        whole = self.tokenizer.decode_bytes(ids).decode("utf-8", errors="ignore")  # half a character says nothing
        return whole if len(whole) <= SHOWN_CHARACTERS else "…" + whole[-SHOWN_CHARACTERS:]

    def typed(self, ids: abc.Sequence[int]) -> str | None:
        """The text that encodes to exactly these ids after a <bos>; None when no text does."""
        whole = self.tokenizer.decode(ids)
        start = [] if self.tokenizer.bos_id is None else [self.tokenizer.bos_id]
        return whole if self.tokenizer.encode_prompt(whole) == [*start, *ids] else None

    @property
    def _runner(self):
        return self.lens.models.open(self.at.checkpoint).runner

    @cached_property
    def _read(self) -> tuple[Sequence, np.ndarray]:
        """Read the text once: the sequence, from which others are forked, and the logits after it [V]."""
        sequence = self._start()
        return sequence, self._runner.read([sequence])[0]

    def _start(self) -> Sequence:
        return self._runner.start(self.ids, max_length=min(len(self.ids) + ROOM, self.config.context_length))
