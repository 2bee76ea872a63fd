"""The tokens of the merge loop: two ways to the same sequence of base symbols are one token.

A token is found by the hash of its base symbols, which lie one after the other in `parts`.
"""

from __future__ import annotations

import numpy as np

from pellucid.tokens.fast.compile import loop
from pellucid.tokens.fast.count import mixed
from pellucid.tokens.fast.merge_state import TOKEN_END, TOKENS


@loop
def place_tokens(state):
    """Write all tokens into empty slots."""
    for token in range(state.numbers[TOKENS]):
        start, stop = state.token_starts_V[token], state.token_starts_V[token + 1]
        state.token_slots[find_token(state.token_slots, state.parts, state.token_starts_V, start, stop)] = token + 1


@loop
def find_token(token_slots, parts, token_starts_V, start, stop):
    """The slot of the token that is made of parts[start:stop], or the empty one where it would be written."""
    hashed = np.uint64(0)
    for place in range(start, stop):
        hashed = mixed(hashed ^ np.uint64(parts[place] + 1))
    slot = np.int64(hashed & np.uint64(len(token_slots) - 1))
    while token_slots[slot]:
        first = token_starts_V[token_slots[slot] - 1]
        same = token_starts_V[token_slots[slot]] - first == stop - start
        for place in range(start, stop):
            same = same and parts[first + place - start] == parts[place]
        if same:
            return slot
        slot = (slot + 1) & (len(token_slots) - 1)
    return slot


@loop
def join_tokens(state, left, right):
    """The token of two tokens' base symbols, which may be there already."""
    numbers, parts, starts_V = state.numbers, state.parts, state.token_starts_V
    start = stop = numbers[TOKEN_END]
    for token in (left, right):
        for place in range(starts_V[token], starts_V[token + 1]):
            parts[stop] = parts[place]
            stop += 1
    slot = find_token(state.token_slots, parts, starts_V, start, stop)
    if state.token_slots[slot] == 0:
        state.token_sizes_V[numbers[TOKENS]] = state.token_sizes_V[left] + state.token_sizes_V[right]
        numbers[TOKENS] += 1
        starts_V[numbers[TOKENS]] = numbers[TOKEN_END] = stop
        state.token_slots[slot] = numbers[TOKENS]
    return np.int64(state.token_slots[slot] - 1)
