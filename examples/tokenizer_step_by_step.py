"""How a text becomes tokens: the pieces it is cut into, and every merge in the order in which it was applied.

python examples/tokenizer_step_by_step.py [TOKENIZER_OR_RUN_DIRECTORY] [TEXT]

Without a directory a small tokenizer is trained on English and Chinese stories.
"""

import sys

from pellucid.data.microworld.corpus import documents
from pellucid.tokens.explain import explain
from pellucid.tokens.tokenizer import Tokenizer
from pellucid.tokens.train import train_bpe

tokenizer = Tokenizer.load(sys.argv[1]) if len(sys.argv) > 1 else train_bpe(documents(0, level=1, count=400), 800)
text = sys.argv[2] if len(sys.argv) > 2 else "The kitchen is empty <eos> 厨房里没有人。"

for piece in explain(tokenizer, text):
    print(repr(piece.text))
    for merge in piece.merges:
        print(f"    merge {merge.rank:>4}: {merge.left!r} + {merge.right!r}")
    print("    tokens:", "  ".join(f"{token.id}={token.text!r}" for token in piece.tokens))

ids = tokenizer.encode(text).ids
print(f"\n{len(text.encode())} bytes, {len(text)} characters, {len(ids)} tokens")
print(f"decoded it is the same text: {tokenizer.decode(ids) == text}")
print(f"text never becomes a control token: {not set(ids) & set(tokenizer.specials.values())}")
