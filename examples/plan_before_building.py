"""What models would cost, without building any: parameters, arithmetic, memory, and where the parameters are.

python examples/plan_before_building.py [PRESET …]
"""

import sys

import pellucid

# Memory is that of training on 8 rows of 256 tokens at once.
names = sys.argv[1:] or ["tiny", "gpt2", "qwen3-0.6b", "llama3-8b", "gpt3"]
print(f"{'model':<14}{'parameters':>18}{'GFLOPs/token':>14}{'training, GB':>14}{'KV cache, KB/token':>20}")
for name in names:
    plan = pellucid.plan(name, rows=8, context_length=256)
    gflops, gigabytes = plan.flops.training / 1e9, plan.training.total / 1e9
    cache = plan.kv_cache_per_token.value / 1e3
    print(f"{name:<14}{plan.parameters.total:>18,}{gflops:>14,.2f}{gigabytes:>14,.1f}{cache:>20,.1f}")

print(f"\nwhere the parameters of {names[-1]} are:")
for term in plan.parameters.terms:
    print(f"  {term.name:<20}{term.value:>18,}  {term.formula}")
