"""A pass of one shape, which is run again and again: on CUDA it is recorded once, then played back as a whole.

A step of a small model is some hundred short programs for the accelerator. Started one by one they take longer to start
than to run; a recording (a CUDA graph) starts them all at once. It reads and writes fixed memory: so inputs are copied
to where it reads, and what it put out is written over by the next time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

NUM_WARM_UPS = 2  # libraries choose their programs, and take working memory, when they are first called


class FixedPass:
    """A function of tensors that always have these shapes.

    >>> double = FixedPass(lambda x: x * 2, [torch.zeros(2)], records=False)
    >>> double([torch.tensor([1.0, 3.0])]).tolist()
    [2.0, 6.0]
    """

    def __init__(self, compute: Callable[..., Tensor], inputs: Sequence[Tensor], *, records: bool) -> None:
        """`inputs` are of the shapes, formats and device of all inputs to come, and may be run with as they are.

        `records`: whether to record what is computed, which must then wait for nothing and be of one shape throughout.
        """
        self.compute, self.inputs, self.records = compute, list(inputs), records
        self.recording: torch.cuda.CUDAGraph | None = None
        self.output: Tensor | None = None

    def __call__(self, values: Sequence[Tensor]) -> Tensor:
        """What is computed of these values; good until the next call."""
        for place, value in zip(self.inputs, values, strict=True):
            place.copy_(value)
        if not self.records:
            return self.compute(*self.inputs)
        if self.recording is None:
            self._record()
        assert self.recording is not None and self.output is not None
        self.recording.replay()
        return self.output

    def _record(self) -> None:
        """Run it until all is in place, aside from the stream in use, then record it."""
        device = self.inputs[0].device
        with torch.cuda.device(device):
            aside = torch.cuda.Stream()
            aside.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(aside):
                for _ in range(NUM_WARM_UPS):
                    self.compute(*self.inputs)
            torch.cuda.current_stream().wait_stream(aside)
            recording = torch.cuda.CUDAGraph()
            with torch.cuda.graph(recording, capture_error_mode="thread_local"):
                self.output = self.compute(*self.inputs)
            self.recording = recording
