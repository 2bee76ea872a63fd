"""The torch runner of many texts: one pass steps all of them, whatever their lengths.

    step     one new id of each text:                                        ids [B, 1], each at a place of its own
    piece    neighbouring ids of one prompt:                                 ids [1, P]

torch chooses the order of a sum by the shape of the product: neighbours would change bits by being there. There are two
ways to live with that (`exact`):

    on       every pass has one of two shapes. A step has a row for each slot, whoever is there; a prompt is read in pieces
             of P places that begin at multiples of P, filled up behind its end. A text's own ids are read by steps,
             also when it is read again. So the bits of a row depend on its text alone.
    off      a step has as many rows, and looks at as many places, as are needed; prompts are read as they come

A piece that begins in the middle (a scheduler cuts prompts where it likes) is read from its beginning again: its first
ids give the same keys and values as before. Ids that only fill up are written aside, or to places that are not read yet.

Axes: B rows of a step · P places of a piece · N rows that are wanted · S places of a slot · D width · V vocabulary.
"""

from __future__ import annotations

import copy
import weakref
from collections import abc
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import torch
from torch import Tensor

from pellucid.counts import counted
from pellucid.engine.runners.fixed_pass import FixedPass
from pellucid.engine.runners.runner import ReadPart, Runner
from pellucid.engine.runners.sequence import Sequence
from pellucid.engine.sampling.on_device import DeviceRow, DeviceRows, RowBlock
from pellucid.engine.sampling.rows import AnyRow
from pellucid.engine.slots import Bank, Seats, SlotCache, SlotPool
from pellucid.errors import EngineError, RequestError
from pellucid.events import NULL, Recorder
from pellucid.model.context import Context
from pellucid.model.decoder import Decoder
from pellucid.model.device import inference
from pellucid.model.rows import PlacedRows, Rows
from pellucid.planning.config import ModelConfig

PIECE = 64  # places of a prompt that are read at once in fixed shapes: as many as a scheduler reads beside steps
SPAN = 256  # places that a step looks at are counted in such spans, where its shape follows the load
FILL = 0  # an id that only fills up


@dataclass(eq=False)
class Read:
    """What a pass, or several, read of one text, and the rows of logits that came of it."""

    part: ReadPart
    cache: SlotCache
    end_of_prompt: int  # up to here it is read as a prompt, the rest one id at a time
    found: list[DeviceRow] = field(default_factory=list)  # in order

    @classmethod
    def of(cls, part: ReadPart, cache: SlotCache, *, exact: bool) -> Read:
        """One part; a text that began with nothing is all prompt, since nothing of it was written here."""
        end = cache.length + part.count
        if not exact:
            return cls(part, cache, end if part.count > 1 else cache.length)
        return cls(part, cache, min(end, part.sequence.num_prompt or end))

    def __post_init__(self) -> None:
        self.ids, self.start, self.end = self.part.sequence.ids, self.cache.length, self.cache.length + self.part.count
        self.first_wanted = self.end - self.part.num_rows

    @property
    def slot(self) -> tuple[Bank, int]:
        """Where its keys and values lie."""
        assert self.cache.slot is not None, "reserved before"
        return self.cache.slot


class SlotRunner(Runner):
    """Reads many texts at once with the torch model, their keys and values in slots."""

    pool: SlotPool

    def __init__(
        self,
        model: Decoder,
        *,
        exact: bool,
        num_slots: int,
        memory_bytes: int | None = None,
        origin: Decoder | None = None,
        draws_there: bool | None = None,
        recorder: Recorder = NULL,
    ) -> None:
        """`num_slots` texts are stepped in one pass; `memory_bytes` bounds the memory of keys and values (None: nothing does).

        `origin` is the model whose weights `model` holds in another format (None: it is that model itself). `draws_there`:
        whether tokens are chosen on the device (None: on CUDA, which has the float64 that it takes).

        Without `exact` there are fewer slots where the memory is too small. Raises EngineError where it holds no slot, or,
        with `exact`, fewer: that would change the shape of a step, and with it bits.
        """
        self.model, self.config, self.exact, self.origin = model, model.config, exact, origin or model
        self.draws_there = model.device.type == "cuda" if draws_there is None else draws_there
        self.recorder, self.told = recorder, set[str]()
        self.shelf: list[Bank] = []  # of pools that are gone: with their recorded passes, for pools to come
        self.records = model.device.type == "cuda" and has_fixed_shapes(model.config)
        if self.records:
            model.reserve_positions(self.config.context_length)  # a recording reads the tables where they lie now
        self._take_memory(num_slots, memory_bytes)

    def start(self, ids: abc.Sequence[int], *, max_length: int) -> Sequence:
        return Sequence(list(ids), SlotCache(self.pool, min(max_length, self.config.context_length)))

    def set_aside(self, memory_bytes: int | None) -> SlotRunner:
        twin = copy.copy(self)
        twin._take_memory(self.num_slots, memory_bytes)
        return twin

    def refresh(self) -> None:
        """Take up the weights where they are held in another format; recordings read them where they lie."""
        if self.origin is not self.model:
            with torch.no_grad():
                for own, now in zip(self.model.parameters(), self.origin.parameters(), strict=True):
                    own.copy_(now)

    def read_parts(self, parts: abc.Sequence[ReadPart]) -> np.ndarray:
        rows = self._read(parts)
        return np.asarray(rows) if len(rows) else np.empty((0, self.config.vocab_size), np.float32)

    def read_held(self, parts: abc.Sequence[ReadPart]) -> abc.Sequence[AnyRow]:
        return self._read(parts) if self.draws_there else super().read_held(parts)

    def _read(self, parts: abc.Sequence[ReadPart]) -> DeviceRows:
        """Read these parts; the rows that are wanted, in their order."""
        reads = [Read.of(part, self._cache(part.sequence), exact=self.exact) for part in parts]
        for read in reads:
            self._check_ids(read.ids[read.start : read.end])
            read.cache.reserve(read.end)
        with inference():
            for read in reads:
                (self._read_pieces if self.exact else self._read_whole)(read)
            while waiting := [read for read in reads if read.cache.length < read.end]:
                self._step(waiting)
        return DeviceRows([row for read in reads for row in read.found])

    def _block(self, logits_BV: Tensor) -> RowBlock:
        """Rows of logits in float32, in memory of their own: the next pass writes over its output."""
        return RowBlock(logits_BV.to(torch.float32, copy=True), self.recorder, self.told)

    def _read_pieces(self, read: Read) -> None:
        """Read what is new of a prompt in pieces of one shape, at their fixed places."""
        if read.end_of_prompt <= read.start:
            return
        for start in range(read.start // PIECE * PIECE, read.end_of_prompt, PIECE):
            stop = min(start + PIECE, read.end_of_prompt)
            x_PD = self._piece(read, start, stop)
            first = max(start, read.start, read.first_wanted)
            if first < stop:
                block = self._block(self.model.score(x_PD[None])[0])
                read.found += [DeviceRow(block, row) for row in range(first - start, stop - start)]
            read.cache.hold(stop)

    def _piece(self, read: Read, start: int, stop: int) -> Tensor:
        """The stream behind the last block for the piece of a prompt that begins at `start`, [P, D]."""
        bank, row = read.slot
        ids_1P = torch.tensor([read.ids[start:stop] + [FILL] * (PIECE - stop + start)])
        place_1P = torch.arange(start, start + PIECE).clamp(max=bank.length)[None]
        return self._run(bank, "piece", compute_piece, [ids_1P, place_1P, torch.tensor([[row]])])

    def _read_whole(self, read: Read) -> None:
        """Read what is new of a prompt in one pass, as long as it is."""
        start, stop = read.start, read.end_of_prompt
        if start == stop:
            return
        bank, row = read.slot
        ids_1T = torch.tensor([read.ids[start:stop]], device=self.model.device)
        seats = Seats(bank, torch.tensor([[row]], device=self.model.device), are_first=False)
        x_1TD = self.model.hidden(ids_1T, Context(cache=seats, rows=Rows.of(ids_1T, [start])))
        if num_rows := stop - max(start, read.first_wanted):
            block = self._block(self.model.score(x_1TD[:, -num_rows:])[0])
            read.found += [DeviceRow(block, row) for row in range(num_rows)]
        read.cache.hold(stop)

    def _step(self, reads: abc.Sequence[Read]) -> None:
        """Read one id of each text, in a pass for each bank."""
        for bank in self.pool.banks:
            beside = [read for read in reads if read.slot[0] is bank]
            if beside:
                self._step_in(bank, beside)

    def _step_in(self, bank: Bank, reads: abc.Sequence[Read]) -> None:
        """Read one id of each of these texts, whose slots lie in one bank."""
        num_rows, num_all = self._shape(bank, reads)
        ids_B1 = torch.full((num_rows, 1), FILL)
        place_B1 = torch.full((num_rows, 1), bank.length)  # aside
        for read in reads:
            ids_B1[read.slot[1]], place_B1[read.slot[1]] = read.ids[read.cache.length], read.cache.length
        values = [ids_B1, place_B1, torch.arange(num_rows)[:, None]]
        compute = partial(compute_step, num_all=num_all)
        block = self._block(self._run(bank, f"step of {num_rows}, {num_all} places", compute, values))
        for read in reads:
            if read.cache.length >= read.first_wanted:
                read.found.append(DeviceRow(block, read.slot[1]))
        for read in reads:
            read.cache.hold(read.cache.length + 1)

    def _shape(self, bank: Bank, reads: abc.Sequence[Read]) -> tuple[int, int]:
        """How many rows a step has, and how many places it looks at: all, or what the load asks for."""
        if self.exact:
            return bank.num_slots, bank.length
        num_rows = 1 << max(read.slot[1] for read in reads).bit_length()
        longest = max(read.cache.length for read in reads) + 1
        return min(num_rows, bank.num_slots), min(-(-longest // SPAN) * SPAN, bank.length)

    def _run(self, bank: Bank, shape: str, compute: abc.Callable[..., Tensor], values: abc.Sequence[Tensor]) -> Tensor:
        """Run the pass of that shape over a bank; what comes out is good until the same is run again."""
        if shape not in bank.passes:
            inputs = [value.to(self.model.device) for value in values]
            bank.passes[shape] = FixedPass(partial(compute, self.model, bank), inputs, records=self.records)
        return bank.passes[shape](values)

    def _take_memory(self, num_slots: int, memory_bytes: int | None) -> None:
        """A pool of slots of its own, and the name that tells of it."""
        slot_bytes = Bank.num_bytes(self.config, num_slots=1, dtype=self.model.dtype)
        least = num_slots if self.exact else 1
        if memory_bytes is not None and memory_bytes < least * slot_bytes:
            raise EngineError(
                "the memory set aside for keys and values is too small",
                found=f"{memory_bytes:,} bytes",
                where=f"{counted(least, 'slot')} of {slot_bytes:,} bytes",
                hint="set more aside, or fewer slots: --set slots=…",
            )
        self.num_slots = num_slots if memory_bytes is None else min(num_slots, memory_bytes // slot_bytes)
        budget = None if memory_bytes is None else memory_bytes // (self.num_slots * slot_bytes)
        self.pool = SlotPool(partial(_make_bank, self.model, self.num_slots, self.shelf), budget=budget)
        weakref.finalize(self.pool, self.shelf.extend, self.pool.banks)
        size = "" if self.exact else "up to "
        self.name = f"torch, {str(self.model.dtype).removeprefix('torch.')}, {self.model.device}, steps of {size}{self.num_slots}"

    def _cache(self, sequence: Sequence) -> SlotCache:
        """Its keys and values, if they lie in the slots of this runner."""
        cache = sequence.cache
        if not isinstance(cache, SlotCache) or cache.pool is not self.pool:
            raise RequestError("this text was read by another runner", hint="start a sequence anew, from its ids")
        return cache

    def _check_ids(self, ids: abc.Sequence[int]) -> None:
        """Refuse ids that no embedding has: an accelerator would break off, and the whole process with it."""
        if not 0 <= min(ids) <= max(ids) < self.config.vocab_size:
            raise RequestError(
                "an id that the model does not have",
                found=f"ids from {min(ids)} to {max(ids)}",
                where=f"vocab_size={self.config.vocab_size}",
            )


def compute_piece(model: Decoder, bank: Bank, ids_1P: Tensor, place_1P: Tensor, row_11: Tensor) -> Tensor:
    """The stream behind the last block for a piece of one text, [P, D]."""
    seats = Seats(bank, row_11, are_first=False)
    return model.hidden(ids_1P, Context(cache=seats, rows=PlacedRows.at(place_1P, bank.length)))[0]


def compute_step(
    model: Decoder, bank: Bank, ids_B1: Tensor, place_B1: Tensor, row_B1: Tensor, *, num_all: int
) -> Tensor:
    """The logits after one id of each slot, [B, V]; each looks at the first `num_all` places of its slot."""
    context = Context(cache=Seats(bank, row_B1, are_first=True), rows=PlacedRows.at(place_B1, num_all))
    return model.score(model.hidden(ids_B1, context))[:, 0]


def has_fixed_shapes(config: ModelConfig) -> bool:
    """Whether the shapes of all products follow from that of the ids: experts read as many rows as are sent to them."""
    return config.feed_forward.experts is None


def _make_bank(model: Decoder, num_slots: int, shelf: list[Bank], number: int) -> Bank:
    """A bank that nobody uses any more, else a new one."""
    for place, bank in enumerate(shelf):
        if bank.num_slots == num_slots:
            bank.number = number
            return shelf.pop(place)
    return Bank(model.config, num_slots=num_slots, device=model.device, dtype=model.dtype, number=number)
