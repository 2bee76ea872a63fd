"""Characters or byte pairs? Two models of one shape, the same text, the same number of updates, one fair measure.

python examples/compare_bits_per_byte.py [BOOK.txt UNSEEN.txt]

Loss and perplexity count per token, and a token is not the same thing in both: only bits per byte compare.
"""

import sys
import tempfile
from pathlib import Path

import pellucid
from pellucid.data.microworld.corpus import documents
from pellucid.data.objectives.causal import Causal
from pellucid.data.source import open_source
from pellucid.evaluate.likelihood import measure_text

folder = Path(tempfile.mkdtemp())
book, unseen = map(Path, sys.argv[1:3]) if len(sys.argv) > 2 else (folder / "stories.txt", folder / "unseen.txt")
if len(sys.argv) <= 2:
    book.write_text("\n\n".join(documents(0, level=1, count=300)), encoding="utf-8")
    unseen.write_text("\n\n".join(documents(1, level=1, count=20)), encoding="utf-8")

print(f"{'tokenizer':<10}{'vocabulary':>11}{'tokens':>9}{'nats/token':>12}{'perplexity':>12}{'bits/byte':>11}")
for kind in ("char", "bpe"):
    same = {"steps": 60, "model": {"depth": 2, "context_length": 64}, "batch": {"tokens": 1024}}
    lm = pellucid.train(book, folder / kind, tokenizer={"kind": kind}, **same)
    found = measure_text(lm.model, lm.tokenizer, open_source(unseen).documents(), objective=Causal())
    figures = f"{found.loss:>12.3f}{found.perplexity:>12.2f}{found.bits_per_byte:>11.3f}"
    print(f"{kind:<10}{lm.tokenizer.vocab_size:>11,}{found.num_tokens:>9,}{figures}")
