"""The learning-rate schedule: linear warmup, constant, linear cooldown (warmup-stable-decay).

    share(s) = min(1, (s+1) / warmup)                                while warming up, then 1, then
             = final + (1 - final) · (steps - s) / cooldown          over the last `cooldown` steps

Source: Hägele et al. 2024 (a level rate with a linear cooldown is as good as a cosine, and its length can be chosen late).
"""

from __future__ import annotations

from pellucid.training.settings import ScheduleSettings


def rate_share(step: int, steps: int, settings: ScheduleSettings) -> float:
    """The share of the full learning rate at `step` (counted from 0) of a run of `steps`.

    >>> shape = ScheduleSettings(warmup_share=0.1, cooldown_share=0.5, final_share=0.0)
    >>> [round(rate_share(s, 10, shape), 2) for s in (0, 4, 5, 6, 9)]
    [1.0, 1.0, 1.0, 0.8, 0.2]
    """
    warmup = max(1, round(settings.warmup_share * steps))
    rising = min(1.0, (step + 1) / warmup)
    cooldown = settings.cooldown_share * steps
    left = steps - step
    if left >= cooldown:
        return rising
    return min(rising, settings.final_share + (1 - settings.final_share) * left / cooldown)
