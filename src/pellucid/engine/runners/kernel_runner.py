"""The runner of compiled loops: it reads the model's weights without copying them, and always gives the same bits.

Any rows of any sequences go through one pass (`kernels.forward`), so a prompt read whole, in pieces or beside others,
a guess that is checked, a batch and a single step are the same arithmetic. Compiled code is shared by all runners of a
process; one lock lets one of them launch at a time.

Axes: B sequences · T new positions · M rows to be read · V vocabulary.
"""

from __future__ import annotations

import copy
import time
from collections import abc
from functools import partial

import numpy as np

from pellucid.compiled import VARIABLE
from pellucid.counts import counted
from pellucid.engine.pages import PagedCache, PagePool
from pellucid.engine.runners.kernels import plan as P
from pellucid.engine.runners.kernels.arithmetic import BF16_TILES, READS, find_arithmetics
from pellucid.engine.runners.kernels.attend import PAGE
from pellucid.engine.runners.kernels.compile import CACHE
from pellucid.engine.runners.kernels.emit import GROUP, GROUPS
from pellucid.engine.runners.kernels.experts import PER_LOAD
from pellucid.engine.runners.kernels.forward import find_chunks, forward
from pellucid.engine.runners.kernels.launch import compile_forward, is_compiled, launch, most_threads, tiles_agree
from pellucid.engine.runners.kernels.pack import Packed, pack
from pellucid.engine.runners.kernels.tiles import SIDE
from pellucid.engine.runners.runner import ReadPart, Runner
from pellucid.engine.runners.sequence import Sequence
from pellucid.engine.sampling.rows import AnyRow
from pellucid.errors import RequestError
from pellucid.events import NULL, Event, Recorder
from pellucid.model.decoder import Decoder
from pellucid.planning.config import ModelConfig
from pellucid.processor import find_processor

ROWS = 512  # of a prompt at a time: bounds the working memory
SERIAL_BYTES = 4_000_000  # of weights x rows below which one thread is faster than waking the others
LINE = GROUP * GROUPS  # inputs to which int4 rows are padded
SMALL = 64  # rows of a pass whose working memory is kept


class KernelRunner(Runner):
    """Reads ids with compiled loops, in one of the ways of multiplying that `kernels.arithmetic` names."""

    exact = True
    pool: PagePool

    def __init__(self, packed: Packed, *, num_threads: int, arithmetic: str) -> None:
        self.packed, self.config = packed, packed.config
        self.num_threads = min(num_threads, most_threads())
        weights, embed, position = packed.kinds
        full = packed.weights == "fp32"
        self.arithmetic, self.x_type = arithmetic, READS[arithmetic]
        self.cache_type = np.float32 if full else np.uint16
        self.kinds = weights, self.x_type(0), embed, position, self.cache_type(0)
        self.row_lengths = row_lengths(self.config)
        self.page_shape = (self.config.n_layers, self.config.n_kv_heads, 2, PAGE * int(packed.plan[P.K_PADDED]))
        self.pool = self._new_pool(None)
        self.buffers: dict[int, dict[int, np.ndarray]] = {}
        threads = counted(self.num_threads, "thread")
        self.name = f"kernels, {packed.weights} weights, {arithmetic} products, {threads}"

    def start(self, ids: abc.Sequence[int], *, max_length: int) -> Sequence:
        room = min(max_length, self.config.context_length)  # the tables of positions end there
        return Sequence(list(ids), PagedCache(self.pool, room, self.packed))

    def read_parts(self, parts: abc.Sequence[ReadPart]) -> np.ndarray:
        if any(part.count != 1 or part.num_rows != 1 for part in parts):
            return self._read(parts)
        sequences = [part.sequence for part in parts]
        ids = np.array([sequence.ids[sequence.cache.length] for sequence in sequences], np.int64)
        positions = np.array([sequence.cache.length for sequence in sequences], np.int64)
        return self._pass(sequences, ids, positions, np.arange(len(ids)), np.arange(len(ids)))

    def read_held(self, parts: abc.Sequence[ReadPart]) -> abc.Sequence[AnyRow]:
        return self.read_parts(parts)  # type: ignore[return-value]  # they lie where NumPy reads them

    def set_aside(self, memory_bytes: int | None) -> KernelRunner:
        twin = copy.copy(self)
        twin.pool, twin.buffers = self._new_pool(memory_bytes), {}
        return twin

    def refresh(self) -> None:
        """Take up the model's weights as they are now; a sequence that was read with others cannot be read on."""
        self.packed = pack(self.packed.model, self.packed.weights)
        self.pool = PagePool(
            self.pool.make_memory, size=PAGE, budget=self.pool.budget
        )  # what it kept was read by the old ones

    def _new_pool(self, memory_bytes: int | None) -> PagePool:
        make_page = partial(np.zeros, self.page_shape, self.cache_type)
        page_bytes = int(np.prod(self.page_shape)) * np.dtype(self.cache_type).itemsize
        return PagePool(make_page, size=PAGE, budget=None if memory_bytes is None else memory_bytes // page_bytes)

    def _read(self, parts: abc.Sequence[ReadPart]) -> np.ndarray:
        """Read parts, sequence by sequence, `ROWS` ids at a time; the logits of the rows that are wanted."""
        starts = [part.sequence.cache.length for part in parts]
        ends = [start + part.count for start, part in zip(starts, parts, strict=True)]
        spans = list(zip(starts, ends, strict=True))
        assert all(part.count for part in parts), "a part without ids has no place in a pass"
        sequences = [part.sequence for part in parts]
        ids_M = np.array(
            [i for sequence, (start, end) in zip(sequences, spans, strict=True) for i in sequence.ids[start:end]],
            np.int64,
        )
        positions_M = np.concatenate([np.arange(start, end, dtype=np.int64) for start, end in spans])
        slots_M = np.repeat(np.arange(len(parts)), [part.count for part in parts])
        wanted_M = np.concatenate([np.arange(part.count) >= part.count - part.num_rows for part in parts])
        found = []
        for start in range(0, len(ids_M), ROWS):
            piece = slice(start, start + ROWS)
            slots = slots_M[piece]
            first, last = int(slots[0]), int(slots[-1])  # only whoever has a row in this piece takes part in it
            found.append(
                self._pass(
                    sequences[first : last + 1],
                    ids_M[piece],
                    positions_M[piece],
                    slots - first,
                    np.flatnonzero(wanted_M[piece]),
                )
            )
        return np.concatenate(found)

    def _pass(
        self,
        sequences: abc.Sequence[Sequence],
        ids: np.ndarray,
        positions: np.ndarray,
        slots: np.ndarray,
        wanted: np.ndarray,
    ) -> np.ndarray:
        """Read rows of several sequences; the logits after the wanted ones."""
        if not 0 <= ids.min() <= ids.max() < self.config.vocab_size:  # a loop would read whatever lies there
            raise RequestError(
                "an id that the model does not have",
                found=f"ids from {ids.min()} to {ids.max()}",
                where=f"vocab_size={self.config.vocab_size}",
            )
        caches = [self._cache(sequence) for sequence in sequences]
        lengths = dict(zip(slots.tolist(), (positions + 1).tolist(), strict=True))  # the last row of each counts
        for slot, length in lengths.items():
            caches[slot].reserve(length)
        if (longest := max(lengths.values())) > self.packed.positions.num_held:
            self.packed.positions.reserve(longest, self.packed.plan)
        pages = page_table(caches)
        chunks = find_chunks(slots, together=self.config.n_heads == self.config.n_kv_heads)
        logits = np.empty((len(wanted), self.config.vocab_size), np.float32)
        rows = {P.IDS: ids, P.POSITIONS: positions, P.SLOTS: slots, P.PAGES: pages, P.CHUNKS: chunks, P.WANTED: wanted}
        parts = len(ids) * self.config.n_heads * pages.shape[1] if pages.shape[1] > 1 and len(chunks) < 8 else 0
        padded = int(self.packed.plan[P.K_PADDED])
        rest = {
            P.LOGITS: logits,
            P.STATES: np.empty(2 * parts, np.float32),
            P.MIXES: np.empty(parts * padded, np.float32),
        }
        plan = self.packed.plan.copy()
        plan[P.NUM_ROWS : P.NUM_CHUNKS + 1] = len(ids), len(wanted), pages.shape[1], len(chunks)
        for column, array in {**rows, **rest, **self._buffers(len(ids))}.items():
            plan[column] = array.ctypes.data
        plan[P.ROW_LENGTHS] = self.row_lengths
        work = self.packed.num_step_bytes * len(ids)
        with launch(self.num_threads):
            forward(plan, *self.kinds, self.num_threads == 1 or work < SERIAL_BYTES)
        for slot, length in lengths.items():
            caches[slot].length = length
        return logits

    def _cache(self, sequence: Sequence) -> PagedCache:
        """Its keys and values, if this runner read them, and with these weights."""
        cache = sequence.cache
        if not isinstance(cache, PagedCache) or cache.origin is not self.packed:
            raise RequestError(
                "this text was read by another runner, or with weights that have changed since",
                hint="start a sequence anew, from its ids",
            )
        return cache

    def _buffers(self, rows: int) -> dict[int, np.ndarray]:
        """Working memory for a pass of so many rows or a few more; that of small passes is kept, of large ones the last."""
        rows = 1 << (rows - 1).bit_length()
        if rows not in self.buffers:
            y_row, a_row, h_row, made_row = self.row_lengths
            plan = self.packed.plan
            choices, num_experts = rows * int(plan[P.ACTIVE]), int(plan[P.EXPERTS])
            made = {
                P.X: np.zeros(rows * plan[P.D_PADDED], np.float32),
                P.Y: np.zeros(rows * y_row, np.float32),
                P.Q: np.zeros(rows * plan[P.H] * plan[P.K_PADDED], np.float32),
                P.A: np.zeros(rows * a_row, self.x_type),
                P.HIDDEN: np.zeros(max(rows, choices) * h_row, self.x_type),
                P.ROUTES: np.zeros(rows * num_experts, np.float32),
                P.CHOSEN: np.zeros(choices, np.int64),
                P.SHARES: np.zeros(choices, np.float32),
                P.SEATS: np.zeros(choices, np.int64),
                P.LOADS: np.zeros(1 + num_experts * (PER_LOAD + 1), np.int64),
                P.SENT: np.zeros(choices * a_row, self.x_type),
                P.MADE: np.zeros(choices * made_row, np.float32),
                P.LAID: self._room_for_tiles(max(rows, choices), max(a_row, h_row)),
            }
            kept = {size: buffers for size, buffers in self.buffers.items() if size <= SMALL}
            self.buffers = {**kept, rows: made}
        return self.buffers[rows]

    def _room_for_tiles(self, rows: int, row: int) -> np.ndarray:
        """Room for what a product reads, laid out as tiles of 16 rows."""
        return np.zeros(-(-rows // SIDE) * SIDE * row if self.arithmetic == BF16_TILES else 0, self.x_type)


def row_lengths(config: ModelConfig) -> tuple[int, int, int, int]:
    """Numbers to a row of the outputs, of what products read, inside the feed-forward, and of what an expert makes.

    What products read is followed by zeros to whole lines of int4 weights, whose padding is 0 too.
    """
    dense = config.d_ff if any(not config.has_experts(layer) for layer in range(config.n_layers)) else 0
    expert = config.feed_forward.experts.width if config.feed_forward.experts is not None else 0
    read, inside = max(config.d_model, config.d_attention), max(dense, expert)
    return (
        max(config.d_attention + 2 * config.d_kv, 2 * dense, 2 * -(-config.d_model // 16) * 16),
        -(-read // LINE) * LINE,
        -(-inside // LINE) * LINE,
        max(2 * expert, config.d_model),
    )


def page_table(caches: abc.Sequence[PagedCache]) -> np.ndarray:
    """The address of each page of each sequence, [B, most pages]."""
    table = np.zeros((len(caches), max(len(cache.pages) for cache in caches)), np.int64)
    for slot, cache in enumerate(caches):
        table[slot, : len(cache.pages)] = [page.memory.ctypes.data for page in cache.pages]
    return table


def _about_to_compile(weights: str) -> Event:
    data = {"directory": str(CACHE.directory or "")}
    if CACHE.directory is not None:
        message = (
            f"compiling the loops for {weights} weights, once on this machine: about a minute, longer on a busy one"
        )
        return Event(name="engine.compiling", message=message, data=data)
    fault = (
        f"compiling the loops for {weights} weights, again at every call: the code cannot be kept ({CACHE.fault});"
        f" name a folder that can be written in the variable {VARIABLE}"
    )
    return Event(name="engine.compiling", message=fault, data={**data, "fault": CACHE.fault}, level="warning")


def _refused(refusal: str) -> Event:
    message = f"tile instructions are not used: the system does not permit them ({refusal})"
    return Event(name="engine.tiles_refused", message=message, data={"refusal": refusal})


def build_kernel_runner(model: Decoder, weights: str, *, num_threads: int, recorder: Recorder = NULL) -> KernelRunner:
    """Lay out the weights and have the loops compiled for them; what is not on disk yet takes some seconds, once.

    Before tiles are used they are compared with their slow twin on this machine.
    """
    packed, processor = pack(model, weights), find_processor()
    if processor.refusal and weights != "fp32":
        recorder.record(_refused(processor.refusal))
    for arithmetic in find_arithmetics(weights, processor):
        runner = KernelRunner(packed, num_threads=num_threads, arithmetic=arithmetic)
        compile_loops(runner, recorder)
        if arithmetic != BF16_TILES or tiles_agree(runner.kinds):
            break
        message = "tile instructions are not used: on this processor they add in another order than the written one"
        recorder.record(Event(name="engine.tiles_differ", message=message, level="warning"))
    return runner


def compile_loops(runner: KernelRunner, recorder: Recorder) -> None:
    """Have the loops compiled for a runner, and say so where it takes time."""
    if is_compiled(runner.kinds):
        compile_forward(runner.kinds)
        return
    recorder.record(_about_to_compile(runner.packed.weights))
    started = time.perf_counter()
    compile_forward(runner.kinds)
    seconds = time.perf_counter() - started
    recorder.record(
        Event(name="engine.compiled", message=f"compiled in {seconds:.0f} s", data={"seconds": round(seconds, 2)})
    )
