"""A trial of fixed shapes before they are believed: one text in every slot must give the same bits in each.

The shape of a product fixes the order of its sums; that the order is the same in every row of it is a matter of the
library that computes it. So it is looked at, on this machine, for these weights: rows side by side, and a row alone.
"""

from __future__ import annotations

import numpy as np

from pellucid.engine.runners.slot_runner import PIECE, SlotRunner


def keeps_bits(runner: SlotRunner) -> bool:
    """Whether every slot gives a text the same rows, alone and beside others; all slots are free afterwards."""
    config = runner.config
    ids = [(7 * place + 3) % config.vocab_size for place in range(min(PIECE + 3, config.context_length))]
    sequences = [runner.start(ids[:-1], max_length=len(ids)) for _ in range(runner.num_slots)]
    rows = [runner.read(sequences)]
    for sequence in sequences:
        sequence.extend(ids[-1:])
    rows.append(runner.read(sequences))
    last = sequences[-1]
    last.cache.truncate(len(ids) - 1)
    rows.append(np.stack([rows[1][0], runner.read([last])[0]]))
    for sequence in sequences:
        sequence.cache.release()
    return all(np.array_equal(rows_NV[0], row_V) for rows_NV in rows for row_V in rows_NV)
