"""How one token came about: the likeliest candidates, what each stage of the sampler left of them, and the draw.

python examples/explain_a_step.py [RUN] [PROMPT]

Without a run a tiny model is trained first, in a few seconds.
"""

import sys
import tempfile
from pathlib import Path

import pellucid
from pellucid.data.microworld.corpus import documents

if len(sys.argv) > 1:
    lm = pellucid.load(sys.argv[1])
else:
    folder = Path(tempfile.mkdtemp())
    (folder / "stories.txt").write_text("\n\n".join(documents(0, level=1, count=200)), encoding="utf-8")
    lm = pellucid.train(folder / "stories.txt", folder / "run", steps=40, model={"depth": 1, "context_length": 32})
prompt = sys.argv[2] if len(sys.argv) > 2 else "The"

knobs = {"temperature": 0.7, "top_k": 20, "top_p": 0.9, "seed": 1}
account = next(lm.generate(prompt, explain=True, **knobs)).account

print("what passes through the model:")
for name, shape in account.shapes:
    print(f"    {name:<36}{' x '.join(map(str, shape))}")
print("\nwhat the stages of the sampler leave:")
for stage in account.stages:
    openness = f"as open as {2**stage.entropy_bits:.1f} equal choices"
    print(f"    {stage.name:<18}{stage.num_kept:>6} tokens, {stage.mass_kept:6.1%} of the probability; {openness}")
print("\ncandidate        " + "".join(f"{stage.name:>18}" for stage in account.stages))
for candidate in account.candidates:
    print(f"{candidate.text!r:<17}" + "".join(f"{share:>18.4f}" for share in candidate.probabilities))
start, end = account.segment
print(f"\nthe draw {account.u:.4f} falls into [{start:.4f}, {end:.4f}): {account.text!r}")
