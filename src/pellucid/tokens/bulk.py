"""Encoding many texts at once: by the engine, and with compiled loops as soon as there is enough text to be worth it.

The loops (`fast/encode.py`) are for byte-level BPE with a listed pattern, nothing rewritten before and nothing added that
is ordinary text. They are started after some megabytes, so that a prompt or a short text waits for nothing, and they are
believed only after they have given the engine's ids on texts that reach each of their parts: single characters of many
scripts, long runs, and what the tokens of this vocabulary spell. Where one id differs, they are not used, and it is said.
"""

from __future__ import annotations

import importlib.util
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pellucid.events import Event, Recorder
from pellucid.tokens.engine import trial_texts
from pellucid.tokens.sentencepiece_engine import Engine
from pellucid.tokens.vocabulary import Vocabulary

if TYPE_CHECKING:
    from pellucid.tokens.fast.encode import Encoder

# The engine takes a second for some seven megabytes. Starting takes less than that (Numba's import, loading the loops, the
# tables, the comparison), compiling tens of seconds on a busy machine, once.
WORTH_STARTING, WORTH_COMPILING = 1 << 22, 1 << 26  # characters
SCRIPTS = (
    "The quick brown fox didn't jump; they'LL say it's FINE, we'Ve 3.14159 reasons & 1,000,000 doubts.\r\n\r\n\tif (x != y)"
    " { return x->y[0]; }  // TODO\n    def f(self, *args):\n        pass\n\n\n",
    "人工智能是计算机科学的一个分支，它企图了解智能的实质。“你好，世界！”他说：『二〇二六年』……\u3000\u3000全角１２３ＡＢＣ，𠮷野家𠀀",
    "Съешь ещё этих мягких французских булок. Ξεσκεπάζω την ψυχοφθόρα βδελυγμία. დღესაც ყოველთვის. Հայերեն.",
    "日本語の文章です。カタカナも。한국어 문장입니다. हिन्दी में लिखा हुआ। ภาษาไทยไม่มีช่องว่าง עברית וגם العربية ١٢٣ ۴۵۶",
    "e\u0301 é ﬁ ǅ ſ K Å ª º Ⅳ ½ ² \u00a0\u0085\u2028\u2029\u200b\ufeff a\u0300\u0301\u0302 \0\x01\x7f",
    "👩\u200d👩\u200d👧\u200d👦 🏳️\u200d🌈 👍🏽 🇨🇳🇩🇪 \U0010ffff \ue000 'ſ 'S 're'RE'Re ''s '' ' don’t",
)


class BulkEncoder:
    """Gives the ids of many texts, or nothing where the engine should give them."""

    def __init__(self, vocabulary: Vocabulary, engine: Engine) -> None:
        self._vocabulary, self._engine = vocabulary, engine
        self._encoder: Encoder | None = None
        self._seen = 0  # characters so far
        self._settled = vocabulary.kind != "bpe" or vocabulary.pattern is None  # nothing is left to be decided
        self._lock = threading.Lock()

    def encode(self, texts: Sequence[str], *, recorder: Recorder) -> list[NDArray[np.uint32]] | None:
        """The ids of each text, or None. Events: `tokens.compiling`, `tokens.encoding_slowly`."""
        if not self._settled:
            with self._lock:
                self._seen += sum(map(len, texts))
                if not self._settled and self._seen >= WORTH_STARTING:
                    self._start(recorder)
        return None if self._encoder is None else self._encoder.encode(texts)

    def _start(self, recorder: Recorder) -> None:
        """Open the loops where they can run and it is worth it, and compare them with the engine."""
        if importlib.util.find_spec("numba") is None:
            fault = "Numba is not installed"
        else:
            from pellucid.tokens.fast.opening import is_ready, open_encoder  # Numba is optional

            if not is_ready() and self._seen < WORTH_COMPILING:
                return
            encoder = open_encoder(self._vocabulary, recorder=recorder)
            fault = self._find_fault(encoder)
            self._encoder = None if fault else encoder
        self._settled = True
        if fault:
            message = f"Hugging Face's engine encodes the text, which takes longer: {fault}"
            recorder.record(Event(name="tokens.encoding_slowly", message=message, data={"reason": fault}))

    def _find_fault(self, encoder: Encoder) -> str:
        """Where the loops give other ids than the engine; empty when they do not."""
        texts = [*trial_texts(self._vocabulary), *SCRIPTS, *"".join(SCRIPTS)]
        texts = [text for text in texts if not self._unspelled.intersection(text.encode("utf-8"))]
        expected = self._engine.encode_batch_fast(texts, add_special_tokens=False)
        for text, encoding, ids in zip(texts, expected, encoder.encode(texts), strict=True):
            if list(encoding.ids) != ids.tolist():
                return f"the compiled loops give other ids for {text[:20]!r}"
        return ""

    @property
    def _unspelled(self) -> frozenset[int]:
        return frozenset(self._vocabulary.unspelled)
