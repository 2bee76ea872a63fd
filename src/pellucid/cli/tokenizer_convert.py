"""`pellucid tokenizer convert`: a tokenizer from one form into another."""

from __future__ import annotations

from pathlib import Path

import click

from pellucid.cli.common import PLACE, Terminal, json_option, print_json
from pellucid.cli.language import tell
from pellucid.cli.tokenizer_file import check_free, open_tokenizer

FORMS = ("tokenizer.json", "tiktoken", "merges.txt", "vocab.txt", "gguf")  # those of store/tokenizer_files.py


@click.command()
@click.argument("where", metavar="WHERE", type=PLACE)
@click.option("--to", "form", type=click.Choice(FORMS), default=FORMS[0], show_default=True, help="the form to write")
@click.option("--out", type=PLACE, required=True, help="the directory to write into")
@click.option("--pattern", help="where a text is cut, if the file does not say: gpt2, qwen2, llama3, cl100k, o200k, …")
@click.option("--lowercase/--no-lowercase", default=None, help="for a vocab.txt: whether capitals become small letters")
@click.option("--force", is_flag=True, help="replace a tokenizer that is already there")
@json_option
def convert(
    where: Path, form: str, out: Path, pattern: str | None, lowercase: bool | None, force: bool, as_json: bool
) -> None:
    """Write the tokenizer in WHERE in another form.

    WHERE is a tokenizer.json, a .tiktoken file, a SentencePiece .model, a vocab.json beside its merges.txt, a vocab.txt, a
    .gguf file, a directory that holds one of them (the first of these), or a run. What is written is read back, and
    refused if it gives other ids.
    """
    from pellucid.store.tokenizer_files import save_tokenizer

    tokenizer = open_tokenizer(where, pattern=pattern, lowercase=lowercase)
    check_free(out, force=force)
    written = save_tokenizer(tokenizer, out, form, recorder=Terminal())  # type: ignore[arg-type]
    sizes = {"kind": tokenizer.kind, "vocab_size": tokenizer.vocab_size, "sha256": tokenizer.sha256}
    if as_json:
        print_json({"files": [str(path) for path in written], **sizes, "losses": tokenizer.losses})
    else:
        tell(f"{tokenizer.kind}, {tokenizer.vocab_size:,} tokens: {', '.join(map(str, written))}")
        for loss in tokenizer.losses:
            tell(f"not exact: {loss}")
