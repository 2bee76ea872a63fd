"""Train a small model on your own text, then let it write.

python examples/train_and_generate.py [BOOK.txt] [STEPS]

Without a book it reads stories of the microworld. A few seconds of training give the sound of a text, not its sense.
"""

import sys
import tempfile
from pathlib import Path

import pellucid
from pellucid.data.microworld.corpus import documents

folder = Path(tempfile.mkdtemp())
book = Path(sys.argv[1]) if len(sys.argv) > 1 else folder / "stories.txt"
steps = int(sys.argv[2]) if len(sys.argv) > 2 else 60
if not book.exists():
    book.write_text("\n\n".join(documents(0, level=1, count=300)), encoding="utf-8")

shape = {"depth": 2, "context_length": 64}
lm = pellucid.train(book, folder / "run", steps=steps, model=shape, batch={"tokens": 1024})
print(f"{sum(weight.numel() for weight in lm.model.parameters()):,} parameters, saved in {folder / 'run'}\n")

for temperature in (0.5, 1.0):
    print(f"temperature {temperature}:", end=" ")
    for step in lm.generate("The ", temperature=temperature, max_new_tokens=30, seed=1):
        print(step.text, end="", flush=True)
    print("\n")
