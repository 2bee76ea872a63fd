"""Prompts of unequal lengths in one batch: padded on the left, as transformers wants them, or behind, as is usual here.

Each family at random weights: the logits at every token of a prompt are those of transformers, which pads on the left and
takes an attention mask and positions, to 1e-4. Here the same rows are read with a mask and positions too, and rows padded
behind with lengths alone; both go on from a cache.
"""

from __future__ import annotations

import pytest
import torch
import transformers
from foreign_decoders import FOREIGN
from scrambled import scramble

from pellucid.errors import ContextError, RequestError
from pellucid.model.build import build
from pellucid.model.context import Context
from pellucid.model.decoder import Decoder
from pellucid.model.mask import Causal, Documents
from pellucid.planning.config import ModelConfig
from pellucid.store.checkpoint import load_checkpoint, load_model

LENGTHS = (17, 9)
WIDTH, CONTEXT_LENGTH = 17, 19
TEXTS_BT = torch.randint(0, 37, (2, WIDTH), generator=torch.Generator().manual_seed(7))
PAD = 3  # an id like any other: what stands in padding must not matter
IS_TEXT_BT = (torch.arange(WIDTH) >= WIDTH - torch.tensor(LENGTHS)[:, None]).long()
POSITIONS_BT = (IS_TEXT_BT.cumsum(1) - 1).clamp(min=0)
LEFT_BT = torch.where(IS_TEXT_BT.bool(), TEXTS_BT.gather(1, POSITIONS_BT), PAD)


def assert_close(ours_BTV: torch.Tensor, theirs_BTV: torch.Tensor) -> None:
    """At the tokens of the texts, which end each row of both."""
    for ours_TV, theirs_TV, length in zip(ours_BTV, theirs_BTV, LENGTHS, strict=True):
        torch.testing.assert_close(ours_TV[-length:], theirs_TV[-length:], rtol=1e-4, atol=1e-4)


def read_padded_on_the_left(ours: Decoder, cuts: tuple[int, ...]) -> torch.Tensor:
    """The logits of the rows, read up to each cut in turn through a cache."""
    cache, parts, begin = ours.new_cache(CONTEXT_LENGTH, batch_size=2), [], 0
    for end in cuts:
        mask = Causal() & Documents(numbers_BS=IS_TEXT_BT[:, :end])
        context = Context(cache=cache, mask=mask, positions_BT=POSITIONS_BT[:, begin:end])
        parts.append(ours(LEFT_BT[:, begin:end], context).logits_BTV)
        begin = end
    return torch.cat(parts, 1)


def read_padded_behind(ours: Decoder) -> torch.Tensor:
    """The same texts, begun side by side at unequal lengths and read on token by token; placed as above."""
    cache, found = ours.new_cache(CONTEXT_LENGTH, batch_size=2), torch.zeros(2, WIDTH, 37)
    begins, ends = (0, 0), (12, 4)
    while begins != LENGTHS:
        width = max(end - begin for begin, end in zip(begins, ends, strict=True))
        ids_BT = torch.full((2, width), PAD)
        for row, (begin, end) in enumerate(zip(begins, ends, strict=True)):
            ids_BT[row, : end - begin] = TEXTS_BT[row, begin:end]
        counts = [end - begin for begin, end in zip(begins, ends, strict=True)]
        logits_BTV = ours(ids_BT, Context(cache=cache, lengths=counts)).logits_BTV
        for row, (begin, count, length) in enumerate(zip(begins, counts, LENGTHS, strict=True)):
            at = WIDTH - length + begin
            found[row, at : at + count] = logits_BTV[row, :count]
        begins, ends = ends, tuple(end + 1 for end in ends)
    return found


@pytest.mark.parametrize("name", FOREIGN)
def test_prompts_padded_on_either_side_are_those_of_transformers(name, tmp_path):
    theirs = transformers.AutoModelForCausalLM.from_config(FOREIGN[name]()).eval()
    scramble(theirs)
    theirs.save_pretrained(tmp_path)
    ours = load_model(load_checkpoint(tmp_path)).eval()
    with torch.inference_mode():
        expected_BTV = theirs(LEFT_BT, attention_mask=IS_TEXT_BT, position_ids=POSITIONS_BT).logits
        assert_close(read_padded_on_the_left(ours, (WIDTH,)), expected_BTV)
        assert_close(read_padded_on_the_left(ours, (11, 14, 15, 16, 17)), expected_BTV)
        assert_close(read_padded_behind(ours), expected_BTV)


def test_positions_outside_the_context_are_refused_and_so_are_those_of_other_rows():
    """A position of -1, which a plain count gives to padding, would read the end of a table."""
    ours = build(ModelConfig.from_axes(vocab_size=37, context_length=CONTEXT_LENGTH, position="learned"), seed=1)
    for positions_BT, found in ((IS_TEXT_BT.cumsum(1) - 1, "from -1 to 16"), (POSITIONS_BT + 3, "from 3 to 19")):
        with pytest.raises(ContextError, match=f"outside the model's context\n  found: positions {found}"):
            ours(LEFT_BT, Context(positions_BT=positions_BT))
    with pytest.raises(RequestError, match="each new id has one position"):
        ours(LEFT_BT, Context(positions_BT=POSITIONS_BT[:, 1:]))
