"""Which earlier tokens does each token look at? The attention weights of one head, as a picture made of text.

python examples/look_at_attention.py [RUN] [TEXT]

Without a run an untrained model is shown: where it looks means nothing yet. Train one and compare.
"""

import dataclasses
import sys

import torch

import pellucid
from pellucid.model.build import build
from pellucid.model.recording import record
from pellucid.planning.presets import preset
from pellucid.tokens.train import train_bpe

text = sys.argv[2] if len(sys.argv) > 2 else "The cat sat. 猫坐着。"
if len(sys.argv) > 1:
    lm = pellucid.load(sys.argv[1])
    model, tokenizer = lm.model, lm.tokenizer
else:
    tokenizer = train_bpe([text] * 9, 300)
    model = build(dataclasses.replace(preset("micro"), vocab_size=tokenizer.vocab_size), seed=0)

ids = tokenizer.encode_prompt(text)[: model.config.context_length]
with torch.no_grad():
    taps = record(model, torch.tensor([ids]))

weights_HTS = taps["blocks.0.attention.weights"][0].float()  # H heads, T tokens looking, S tokens looked at
print(f"block 0, head 0 of {len(weights_HTS)}: each row sums to {weights_HTS[0, -1].sum():.3f}; darker is more\n")
for place, row_S in enumerate(weights_HTS[0]):
    shades = "".join(" ░▒▓█"[min(4, int(weight * 5))] for weight in row_S.tolist()[: place + 1])
    strongest = int(row_S.argmax())
    names = [tokenizer.token_text(ids[at]) for at in (place, strongest)]
    print(f"{names[0]!r:>10} |{shades:<{len(ids)}}| most at {names[1]!r} ({row_S[strongest]:.2f})")
