"""The plan of a pass: one row of int64 that says where everything lies, and the names of its columns.

A kernel takes the plan and reads from it what it needs, so a new column changes no signature. Where a column holds an
address, fp32 numbers lie there, or whole numbers, or what the name of a format says.

The stages of a pass stand here too, in the order in which it goes through them.

Axes: M rows · D width · H query heads · G key/value heads · K head width · F feed-forward width · V vocabulary ·
E experts · A experts that a row is sent to.
"""

from __future__ import annotations

(
    # The axes, and the choices that are made by number.
    D, D_PADDED, H, G, K, K_PADDED, F, V, LAYERS, GATED, ACTIVATION, LAYER_NORM, BIASED_NORM, AROUND, QK_NORM,
    EXPERTS, ACTIVE, EXPERT_WIDTH, NORMALISED,
    # What does not change. TURNS: where each block's cos and sin lie, 0 in a block that does not rotate.
    EMBED, POSITION, MATRICES, NORMS, NORM_BIASES, HEAD_NORMS, TURNS, WINDOWS, CONSTANTS,
    # What is to be read.
    NUM_ROWS, NUM_WANTED, NUM_PAGES, NUM_CHUNKS, IDS, POSITIONS, SLOTS, PAGES, CHUNKS, WANTED,
    # The working memory: the stream, what products give, queries, what products read, inside the feed-forward; each
    # page's part of attention; the result. Of experts: all shares, those of the choice, seats (`experts` says what
    # these are), what is sent there and what is made of it. Where products go through tiles: what the next one reads.
    X, Y, Q, A, HIDDEN, STATES, MIXES, LOGITS, ROUTES, SHARES, CHOSEN, SEATS, LOADS, SENT, MADE, LAID,
    # Numbers from one row to the next, in Y, in A and SENT, in HIDDEN, in MADE.
    Y_ROW, A_ROW, H_ROW, MADE_ROW,
    NUM_PLANNED,
) = range(59)  # fmt: skip
AXES, ROW_LENGTHS = slice(D, EMBED), slice(Y_ROW, NUM_PLANNED)

# A layer's matrices in the table. A block with experts has their matrices stacked in GATE, UP and DOWN, and a ROUTER.
QUERY, KEY, VALUE, OUTPUT, GATE, UP, DOWN, ROUTER, PER_LAYER = range(9)
EPS, SCALE, EMBED_SCALE, SCORE_CAP, LOGIT_CAP = range(5)  # the constants; a cap of 0 is none
# A block's norms; those behind a branch are there where norms stand around it.
BEFORE_ATTENTION, BEHIND_ATTENTION, BEFORE_MLP, BEHIND_MLP, NORMS_PER_LAYER = range(5)

(
    READ, ATTENTION_NORM, PROJECT, PLACE, ATTEND, ATTEND_APART, JOIN, GATHER, ADD_ATTENTION, MLP_NORM, ROUTE, CHOOSE, SEAT,
    SEND, WIDEN, NARROW, MIX, ADD_MLP, LAST_NORM, SCORE,
) = range(20)  # fmt: skip
OF_EXPERTS = ROUTE, CHOOSE, SEAT, SEND, MIX  # absent from a block that has none
PRODUCTS = PROJECT, GATHER, ROUTE, WIDEN, NARROW, SCORE
LAY = SCORE + 1  # LAY + s: what product s reads is laid out as tiles
