"""Print llama.cpp's answers to a file of questions as JSON: `python llama_cpp.py MODEL.gguf QUESTIONS.json`.

This program runs in its own environment, which has `xllamacpp` (compiled llama.cpp) and nothing of this project. A
question is `{"tokenize": text}`, `{"logprobs": ids, "count": n, "led_to": id}` (after the last id, the ids of the n
likeliest tokens with theirs), `{"greedy": ids, "count": n}` or, of an encoder, `{"embed": text}` (a vector of length 1).
Keys and values are stored in float32; one thread computes.
"""

from __future__ import annotations

import json
import os
import sys
import urllib.request
from pathlib import Path

import xllamacpp


def start(model: str, context: int, embedding: bool) -> xllamacpp.Server:
    """Start a server of one model, on this machine only."""
    settings = xllamacpp.CommonParams()
    settings.model.path = model
    settings.n_ctx, settings.n_parallel, settings.n_gpu_layers, settings.warmup = context, 1, 0, False
    settings.cpuparams.n_threads = settings.cpuparams_batch.n_threads = 1
    settings.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    settings.embedding = embedding
    settings.cache_type_k = settings.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
    return xllamacpp.Server(settings)


def ask(server: xllamacpp.Server, path: str, body: dict) -> dict:
    """Ask the server once and return its answer."""
    request = urllib.request.Request(
        server.listening_address + path, json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=300) as answer:
        return json.loads(answer.read())


def answer(server: xllamacpp.Server, question: dict) -> object:
    """Ids, or ids and log-probabilities, or the ids and the gaps between the two best tokens of a greedy continuation."""
    if "tokenize" in question:
        body = {"content": question["tokenize"], "add_special": False, "parse_special": False}
        return ask(server, "/tokenize", body)["tokens"]
    if "embed" in question:
        return ask(server, "/v1/embeddings", {"input": question["embed"]})["data"][0]["embedding"]
    body = {"temperature": 0, "cache_prompt": False, "post_sampling_probs": False, "return_tokens": True}
    if "logprobs" in question:
        # It reports nothing for a token that is not whole text, so it is led to one that is; the report stays the same.
        led = {"logit_bias": [[question["led_to"], 1e6]], "ignore_eos": True}
        asked = {"prompt": question["logprobs"], "n_predict": 1, "n_probs": question["count"], **led}
        rows = ask(server, "/completion", body | asked)["completion_probabilities"][0]["top_logprobs"]
        return {"ids": [row["id"] for row in rows], "logprobs": [row["logprob"] for row in rows]}
    asked = {"prompt": question["greedy"], "n_predict": question["count"], "n_probs": 2}
    told = ask(server, "/completion", body | asked)
    tops = [[top["logprob"] for top in step["top_logprobs"]] for step in told["completion_probabilities"]]
    return {"ids": told["tokens"], "gaps": [top[0] - top[1] for top in tops]}


def main() -> None:
    questions = json.loads(Path(sys.argv[2]).read_text(encoding="utf-8"))
    server = start(sys.argv[1], questions["context"], any("embed" in question for question in questions["ask"]))
    print(json.dumps([answer(server, question) for question in questions["ask"]]), flush=True)
    os._exit(0)  # a server that is ended soon after its start may wait for itself for ever


if __name__ == "__main__":
    main()
