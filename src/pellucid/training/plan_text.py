"""The plan of a run as text: a few lines of summary, and a table of every figure with its reason."""

from __future__ import annotations

from collections.abc import Iterator

from pellucid.counts import counted
from pellucid.planning.params import count_parameters
from pellucid.training.plan import RunPlan

SHAPE = ("n_layers", "d_model", "n_heads", "d_ff", "vocab_size", "context_length", "tied_head", "dropout")


def summary(plan: RunPlan) -> Iterator[tuple[str, str]]:
    """(name, what the run will do): a few lines, printed before the first step."""
    config = plan.config
    dropout = f", dropout {config.dropout:g}" if config.dropout else ""
    size, blocks = name_count(count_parameters(config).total), counted(config.n_layers, "block")
    if config.encoder is None:
        yield "model", f"{size} parameters: {blocks} of width {config.d_model}{dropout}"
    else:
        read = counted(config.encoder.n_layers, "block")
        yield "model", f"{size} parameters: {read} that read, {blocks} that write, of width {config.d_model}{dropout}"
    updates, each = counted(plan.steps, "update"), counted(plan.tokens // plan.steps, "token")
    if plan.epochs is None:
        yield "training", f"{updates} of {each}"
    else:
        yield "training", f"{updates} of {each}: {name_times(plan.epochs)}"
    if plan.eval_windows:
        yield (
            "validation",
            f"every {counted(plan.eval_every_steps, 'update')}; the best model of these is the one that is used",
        )
    else:
        yield "validation", "none: no text is held out, so the last model is the one that is used"
    limit = "" if plan.budget_seconds is None else name_time(plan.budget_seconds)
    time = name_time(plan.estimated_seconds)
    yield "time", f"about {time}, shortened to end after {limit} if the clock needs it" if limit else f"about {time}"
    megabytes = f"{plan.memory.total / 1e6:,.0f} MB"
    yield "memory", f"at most {megabytes} for weights, gradients, optimizer and activations, besides the program's own"


def table(plan: RunPlan) -> Iterator[tuple[str, str, str]]:
    """(figure, value, reason) for every derived figure."""
    reasons = {reason.field: reason.why for reason in plan.reasons}
    config, count = plan.config, count_parameters(plan.config).total
    yield "parameters", f"{count:,}", f"{plan.tokens / count:.2g} training tokens for each"
    for name in SHAPE:
        value = getattr(config, name)
        yield (
            name,
            f"{value:,}" if type(value) is int else str(value),
            reasons.get(name, "as asked, or as the model has it"),
        )
    if not config.causal:
        yield "causal", "no", reasons.get("causal", "as asked, or as the model has it")
    if config.encoder is not None:
        yield (
            "encoder blocks",
            str(config.encoder.n_layers),
            reasons.get("encoder", "as asked, or as the model has it"),
        )
    if config.streams is not None:
        yield "streams", "2", reasons.get("streams", "as asked, or as the model has it")
    if config.pooler is not None and config.pooler.pairs:
        yield "pair head", "yes", reasons.get("pooler", "as asked, or as the model has it")
    yield (
        "update",
        f"{counted(plan.rows, 'row')} x {plan.row_length or config.context_length}",
        reasons.get("tokens_per_step", "as asked"),
    )
    yield "steps", f"{plan.steps:,}", reasons.get("steps", "")
    if plan.epochs is not None:
        yield "passes", f"{plan.epochs:.2g}", reasons.get("passes", "")
    yield "micro-batch", counted(plan.micro_rows, "row"), f"{plan.memory.total / 1e6:,.0f} MB at the worst moment"
    windows = (
        f"{counted(plan.eval_windows, 'window')}, {reasons['eval_windows']}"
        if plan.eval_windows
        else "no text is held out"
    )
    yield "evaluation", f"every {counted(plan.eval_every_steps, 'step')}", windows
    yield "compiled", "yes" if plan.compiled else "no", _why_compiled(plan)
    why = reasons.get("estimated_seconds", "at the rate just measured here")
    yield "time", f"about {name_time(plan.estimated_seconds)}", why
    if plan.budget_seconds is not None:
        why = (
            f"what is left of the minutes; the run may be shortened, or lengthened to {plan.most_steps:,} steps at most"
        )
        yield "time limit", name_time(plan.budget_seconds), why


def _why_compiled(plan: RunPlan) -> str:
    return (
        "it saves more time than it takes, if it agrees with the eager step"
        if plan.compiled
        else "it would take longer than it saves"
    )


def name_count(number: int) -> str:
    """A large number, shortened for people.

    >>> name_count(1_721_856), name_count(345), name_count(12_400)
    ('1.7M', '345', '12k')
    """
    for size, word in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.2g}{word}" if number < 100 * size else f"{number / size:.0f}{word}"
    return str(number)


def name_times(times: float) -> str:
    """In words: which part of a text is read, or how often.

    >>> name_times(1.0), name_times(0.137), name_times(4.31)
    ('once through the text', '14 % of the text', '4.3 times through the text')
    """
    if times < 0.95:
        return f"{100 * times:.2g} % of the text"
    if times < 1.05:
        return "once through the text"
    return f"{times:.2g} times through the text" if times < 99 else f"{times:.0f} times through the text"


def name_time(seconds: float) -> str:
    """A duration in units that people use.

    >>> name_time(8.2), name_time(75), name_time(600), name_time(7300)
    ('8 s', '1 min 15 s', '10 min', '2 h 1 min')
    """
    minutes, rest = divmod(round(seconds), 60)
    if minutes >= 60:
        return f"{minutes // 60:,} h {minutes % 60} min"
    if not minutes:
        return f"{rest} s"
    return f"{minutes} min {rest} s" if rest else f"{minutes} min"
