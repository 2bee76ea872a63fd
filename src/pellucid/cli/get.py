"""`pellucid get`: fetch a model from a server by its name, once, and say where it lies."""

from __future__ import annotations

import click

from pellucid.cli.common import json_option, print_json
from pellucid.cli.screen import say
from pellucid.cli.watch import Watch


@click.command()
@click.argument("name", metavar="hf:OWNER/NAME")
@click.option("--update", is_flag=True, help="ask for the newest commit of the revision, where one is here already")
@json_option
def command(name: str, update: bool, as_json: bool) -> None:
    """Fetch a model by its name, and check what comes: hf:OWNER/NAME from huggingface.co, or from HF_ENDPOINT.

    hf:OWNER/NAME/FILE.gguf is one GGUF file of a repository, hf:OWNER/NAME@REVISION another branch, tag or commit than
    main. Config, tokenizer, safetensors and GGUF are fetched; no pickle and no code. What is here already is checked by
    its hashes, and nobody is asked. After a break or Ctrl-C the same command goes on from there.

    Every verb that opens a model takes such a name, and fetches what is not here: nothing else asks a server. Models lie
    in HF_HOME (by default ~/.cache/huggingface), under assets/pellucid; the directory is printed.
    """
    from pellucid.store.hub.fetch import fetch, find_fetched, remove_damaged
    from pellucid.store.hub.name import parse_name

    asked = parse_name(name)
    with Watch(quiet=as_json) as watch:
        here = None if update else find_fetched(asked)
        if here is None or remove_damaged(here, recorder=watch):
            here = fetch(asked, update=update, recorder=watch)
    if as_json:
        print_json(here.to_dict())
    else:
        say(str(here.path))
