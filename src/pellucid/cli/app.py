"""The command `pellucid`: one file per verb (subcommand), loaded only when the verb is used.

Each verb's file defines `command`. The help for all verbs loads none of these files: the table below holds their
one-line help. Errors become messages here: a `PellucidError` prints its four sentences and exits with the code in the
table.
"""

from __future__ import annotations

import contextlib
import errno
import importlib
import sys
from typing import Any

import click
from click.exceptions import NoArgsIsHelpError

import pellucid
from pellucid import errors
from pellucid.cli.common import as_json as to_json
from pellucid.cli.help import PageContext, explain_option, show_usage_error, speak
from pellucid.cli.language import ask, asked_language, find_asked, lang_option, tell, words
from pellucid.cli.screen import abandon, find_broken_stream, open_streams, say

VERBS = {
    "quickstart": "Learn a small world from nothing in minutes, then talk about it.",
    "train": "Train a model on your own text.",
    "generate": "Continue a prompt, streaming; --explain shows how each token came about.",
    "search": "The likeliest continuations of a prompt: beam search.",
    "fill": "Fill the masked words of a text, with the candidates for each.",
    "embed": "One vector for each text, and the texts that are nearest to one.",
    "classify": "The labels of a text; train a classifier on labelled rows.",
    "score": "How likely a model finds a text, token by token, or which of several it finds likelier.",
    "trace": "Every number between a text and its next token, in files or on a page.",
    "eval": "Loss, perplexity and bits per byte of a text under a model.",
    "plan": "What a model would cost: parameters, FLOPs, memory, time.",
    "tokenizer": "Train, use and explain tokenizers.",
    "lens": "Look inside: a page with every number between a text and its next token.",
    "learn": "Lessons: the textbook's arithmetic, and experiments on models trained here.",
    "microworld": "Write stories of a small world, or tasks about them, to train on.",
    "bench": "How fast a model reads and writes here, beside the machine's own limits.",
    "get": "Fetch a model by its name from huggingface.co, once; afterwards it opens without a network.",
    "convert": "A model into a GGUF file or a Hugging Face directory, and what that costs.",
    "doctor": "What this machine offers, what will be used, and why.",
}

EXIT_CODES = {  # the nearest class in an error's ancestry decides
    errors.SettingsError: 2,
    errors.InputError: 3,
    errors.TokenizerError: 3,
    errors.ModelError: 3,
    errors.StoreError: 4,
    errors.RequestError: 5,
    errors.TrainingError: 6,
    errors.MissingExtraError: 7,
    errors.EngineError: 7,
    errors.PellucidError: 1,
}

OUTPUT_FAULTS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF, errno.EPIPE, errno.EINVAL}


class ReaderLeft(Exception):
    """Nobody reads the output any more; its cause is the error of the system."""


class Verbs(click.Group):
    """A group that imports a verb's file only when that verb runs."""

    context_class = PageContext

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in VERBS:
            return None
        command = importlib.import_module(f"pellucid.cli.{name}").command
        return command if command.context_class is PageContext else speak(command)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Verbs"):
            formatter.write_dl(list(VERBS.items()))

    def invoke(self, ctx: click.Context) -> Any:
        """Run a verb; click would end the program itself, with another code, where the reader of a pipe has left."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError as error:
            raise ReaderLeft from error

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in VERBS:
            raise errors.SettingsError(f"unknown verb {args[0]!r}", hint=_nearest_verb(args[0]))
        return super().resolve_command(ctx, args)


@click.group(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(pellucid.__version__, prog_name="pellucid")
@lang_option
def root() -> None:
    """Pellucid: the language model you can see through.

    Start with `pellucid quickstart`, or train on your own text: `pellucid train BOOK.txt --out runs/book`.
    """


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit."""
    arguments = sys.argv[1:] if arguments is None else arguments
    open_streams()
    ask(find_asked(arguments))
    try:
        code = run(arguments)
        sys.stdout.flush()  # now, and not after the last chance to say that the disk is full
    except OSError as error:
        code = lose_output(error, as_json="--json" in arguments)
    sys.exit(code)


def run(arguments: list[str]) -> int:
    """Run the command line; return the exit code."""
    try:
        code = root.main(arguments, prog_name="pellucid", standalone_mode=False)
        return code if isinstance(code, int) else 0
    except ReaderLeft as left:
        assert left.__cause__ is not None
        raise left.__cause__ from None
    except errors.PellucidError as error:
        return report(error, as_json="--json" in arguments)
    except NoArgsIsHelpError as error:  # nothing was asked: what can be
        click.echo(error.ctx.get_help())
        return error.exit_code
    except click.NoSuchOption as error:
        return report_option(error, as_json="--json" in arguments)
    except click.UsageError as error:
        show_usage_error(error)
        return error.exit_code
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        click.echo(err=True)
        tell("stopped.", err=True)
        return 130


def lose_output(error: OSError, *, as_json: bool) -> int:
    """Report that the output cannot be written, if a stream is left for that; any other `error` is raised again."""
    if error.filename is not None or error.errno not in OUTPUT_FAULTS:
        raise error
    stream = find_broken_stream() or sys.stdout  # an unbuffered stream no longer holds what it could not write
    abandon(stream)
    if isinstance(error, BrokenPipeError):  # the reader of a pipe (head, less) has left
        code = 141
    else:
        name = "standard output" if stream is sys.stdout else "standard error"
        hint = "free some disk space, or send it elsewhere"
        fault = errors.NoSpaceError("the output cannot be written", found=str(error.strerror), where=name, hint=hint)
        code = EXIT_CODES[errors.StoreError]
        with contextlib.suppress(OSError):
            report(fault, as_json=as_json)
    if (other := find_broken_stream()) is not None:
        abandon(other)
    return code


def report(error: errors.PellucidError, *, as_json: bool) -> int:
    """Print an error for people or as JSON; return the exit code."""
    if as_json:
        told = error if asked_language() is None else translate(error)
        say(to_json(told.to_dict()), err=True)
    else:
        say(describe(error), err=True)
    return next(EXIT_CODES[cls] for cls in type(error).__mro__ if cls in EXIT_CODES)


def report_option(error: click.NoSuchOption, *, as_json: bool) -> int:
    """Print which flag or setting an unknown flag may have meant; return the exit code."""
    explained = explain_option(error)
    if isinstance(explained, errors.PellucidError):
        return report(explained, as_json=as_json)
    show_usage_error(explained)
    return explained.exit_code


def translate(error: errors.PellucidError) -> errors.PellucidError:
    """The error with its four sentences in the language of standard error."""
    what, found, where, hint = (
        words(part, err=True, section="errors") for part in (error.what, error.found, error.where, error.hint)
    )
    return type(error)(what, found=found, where=where, hint=hint)


def describe(error: errors.PellucidError) -> str:
    """The text of an error for people.

    >>> print(describe(errors.InputError("the file is empty", where="book.txt")))
    error: the file is empty
      where: book.txt
    """
    told = translate(error)
    rows = [("error: ", told.what), ("  found: ", told.found), ("  where: ", told.where), ("  try:   ", told.hint)]
    return "\n".join(words(label, err=True, section="errors") + text for label, text in rows if text)


def _nearest_verb(name: str) -> str:
    from pellucid.setting_values import nearest

    return nearest(name, list(VERBS))
