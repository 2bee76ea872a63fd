"""What is asked of a model: a prompt, how it is to be continued, and what is wanted beside the text.

It holds what is known when a request comes in; a `Generation` holds what happens to it later. A script, the command
line and a server all make this one type.
"""

from __future__ import annotations

from collections import abc
from dataclasses import dataclass

from pellucid.engine.constraints.settings import ConstraintSettings
from pellucid.engine.runners.runner import Runner
from pellucid.engine.sampling.settings import SamplingSettings
from pellucid.engine.sampling.stage import Stage
from pellucid.engine.settings import SpeculationSettings

PLAIN = SamplingSettings()


@dataclass(frozen=True, kw_only=True)
class Request:
    """One prompt and how to continue it. Only the prompt must be given: the rest leaves the model as it is.

    >>> Request(prompt_ids=(1, 2)).sampling == SamplingSettings()
    True
    """

    prompt_ids: abc.Sequence[int]  # what the model reads first; beside an encoder, what its decoder begins with
    source_ids: abc.Sequence[int] | None = None  # what the encoder reads, where the model has one
    sampling: SamplingSettings = PLAIN
    constraint: ConstraintSettings | None = None  # the form of the answer; None: any
    stages: abc.Sequence[Stage] = ()  # a caller's own, which act before those of the settings and of the constraint
    num_choices: int = 1  # texts from one seed
    speculation: SpeculationSettings | None = None  # guess ahead: the same text, sooner
    draft: Runner | None = None  # the smaller model that guesses; None: the text so far does
    explain: bool = False  # each step carries the account of its choice
