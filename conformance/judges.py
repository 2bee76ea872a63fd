"""Other people's tokenizers as judges: `python judges.py QUESTION.json ANSWER.json`, in an environment that has them.

A question is `{"judge": name, "files": {name: path}, "texts": [text, …], …}`, the answer a list of lists of ids. Nothing
of this project is imported here, and none of these libraries runs our own path (transformers' BertTokenizer is its own Python).

    tiktoken         OpenAI's encodings under their own expressions, from files on this disk; or any ranks
    sentencepiece    a `.model`
    bert             the BertTokenizer that transformers wrote in Python (versions before 5)
    llama.cpp        a GGUF file, through xllamacpp
    train            no judge: has sentencepiece make a `.model` out of the texts
    versions         no judge: the texts are names of packages
"""

from __future__ import annotations

import http.client
import json
import os
import re
import sys
import unicodedata
from collections.abc import Callable
from importlib.metadata import version
from urllib.parse import urlsplit

Encode = Callable[[list[str]], list[list[int]]]
BETWEEN, AT_ONCE = -1, 500  # what stands between two strings in a request to llama.cpp, and how many it has
RUNNING: list[object] = []  # llama.cpp's servers: one that is ended soon after its start may wait for itself for ever


def tiktoken_encoding(question: dict) -> Callable[[str], list[int]]:
    """An encoding that OpenAI published, or one from ranks and the file beside them that Pellucid wrote."""
    import tiktoken
    from tiktoken.load import data_gym_to_mergeable_bpe_ranks, load_tiktoken_bpe

    files = question["files"]
    if "published" in question:
        from tiktoken_ext import openai_public

        openai_public.load_tiktoken_bpe = lambda *_, **__: load_tiktoken_bpe(files["ranks"])
        openai_public.data_gym_to_mergeable_bpe_ranks = lambda **_: data_gym_to_mergeable_bpe_ranks(
            vocab_bpe_file=files["merges"], encoder_json_file=files["vocab"]
        )
        encoding = tiktoken.Encoding(**getattr(openai_public, question["published"])())
    else:
        with open(files["sidecar"], encoding="utf-8") as file:
            encoding = tiktoken.Encoding(**json.load(file), mergeable_ranks=load_tiktoken_bpe(files["ranks"]))
    added, form = question.get("added", []), question.get("form")
    if not added and not form:
        return encoding.encode_ordinary
    cut = re.compile("|".join(map(re.escape, sorted(added, key=len, reverse=True))) or "(?!)")

    def encode(text: str) -> list[int]:
        ids, at = [], 0
        for match in [*cut.finditer(text), None]:
            part = text[at : match.start() if match else len(text)]
            ids += encoding.encode_ordinary(unicodedata.normalize(form, part) if form else part)
            if match:
                ids.append(encoding.encode_single_token(match[0]))
                at = match.end()
        return ids

    return encode


def sentencepiece_model(question: dict) -> Callable[[str], list[int]]:
    """A `.model`."""
    import sentencepiece

    return sentencepiece.SentencePieceProcessor(model_file=question["files"]["model"]).encode


def bert(question: dict) -> Callable[[str], list[int]]:
    """A `vocab.txt`."""
    from transformers import BertTokenizer

    tokenizer = BertTokenizer(question["files"]["vocab"], do_lower_case=question["lowercase"])
    assert not tokenizer.is_fast, "this version of transformers has no BertTokenizer of its own"

    def encode(text: str) -> list[int]:  # `tokenize` would look for special tokens in the text first
        return tokenizer.convert_tokens_to_ids(tokenizer._tokenize(text, split_special_tokens=True))

    return encode


def llama_cpp(question: dict) -> Encode:
    """A GGUF file. Many strings make one request: a list is read part by part, and a number in it is handed back."""
    from llama_cpp import start

    server = start(question["files"]["model"], 64)
    connection = http.client.HTTPConnection(urlsplit(server.listening_address).netloc, timeout=300)

    def encode(texts: list[str]) -> list[list[int]]:
        answers: list[list[int]] = []
        for first in range(0, len(texts), AT_ONCE):
            content = [part for text in texts[first : first + AT_ONCE] for part in (text, BETWEEN)]
            body = json.dumps({"content": content, "add_special": False, "parse_special": False})
            connection.request("POST", "/tokenize", body, {"Content-Type": "application/json"})
            answers += parted(json.loads(connection.getresponse().read())["tokens"])
        return answers

    RUNNING.append(server)
    return encode


def parted(ids: list[int]) -> list[list[int]]:
    """The ids of each string out of an answer in which BETWEEN stands behind each."""
    parts: list[list[int]] = [[]]
    for i in ids:
        if i == BETWEEN:
            parts.append([])
        else:
            parts[-1].append(i)
    assert not parts[-1], "the last string has no end"
    return parts[:-1]


def train_sentencepiece(question: dict) -> None:
    """Train a `.model` with sentencepiece itself."""
    import sentencepiece

    with open(question["files"]["model"], "wb") as file:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(question["texts"]),
            model_writer=file,
            minloglevel=2,
            num_threads=1,
            **question["options"],
        )


def each(encode: Callable[[str], list[int]]) -> Encode:
    """The same for many strings, one after the other."""
    return lambda texts: [encode(text) for text in texts]


JUDGES: dict[str, Callable[[dict], Encode]] = {
    "tiktoken": lambda question: each(tiktoken_encoding(question)),
    "sentencepiece": lambda question: each(sentencepiece_model(question)),
    "bert": lambda question: each(bert(question)),
    "llama.cpp": llama_cpp,
}


def answer(question: dict) -> object:
    """What a question asks for."""
    if question["judge"] == "train":
        return train_sentencepiece(question)
    if question["judge"] == "versions":
        return [version(name) for name in question["texts"]]
    return JUDGES[question["judge"]](question)(question["texts"])


if __name__ == "__main__":
    with open(sys.argv[1], encoding="utf-8") as file:
        found = answer(json.load(file))
    with open(sys.argv[2], "w", encoding="utf-8") as file:
        json.dump(found, file)
    os._exit(0)  # with whatever is running
