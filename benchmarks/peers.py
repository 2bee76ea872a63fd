"""The other engines, each behind one small protocol; runs in an environment of its own (`--peers-python`).

    python peers.py llama.cpp FILE.gguf --context N --threads N
    python peers.py transformers DIR --type fp32|bf16 --threads N
    python peers.py ctranslate2 DIR --type float32|int8|bfloat16 --threads N
    python peers.py sentence-transformers-encoder DIR --type fp32|bf16 --threads N
    python peers.py ctranslate2-encoder DIR --type fp32|bf16 --threads N
    python peers.py gguf DIR FILE.gguf --type F32|BF16|Q8_0|Q4_0        (writes a file and ends)
    python peers.py ct2 DIR OUT                                         (writes a directory and ends)

An engine loads its model, prints one line of JSON, and then answers each line of JSON that it reads:

    {"task": "prefill", "ids": […]}                   -> {"rate": prompt tokens per second}
    {"task": "decode", "ids": […], "num_tokens": n}   -> {"rate": new tokens per second after the first, greedy}
    {"task": "greedy", "ids": […], "num_tokens": n}   -> {"ids": the likeliest tokens, to see that the weights are the same}
    {"task": "serve", "prompts": [[…]], "num_tokens": n, "arrivals": […]}
        -> {"rate": new tokens per second of all, "first": seconds to each first token, "gaps": seconds between tokens}
    {"task": "encode", "texts": […]}                  -> {"rate": texts per second, "vectors": those of the first texts}
    {"task": "memory"}                                -> {"bytes": peak resident memory}

Nothing of this project is imported, so it need not be installed there. The `gguf` library writes GGUF files from a
Hugging Face directory of a Llama, every matrix in one type. The tokens are invented, because prompts are ids here.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

Answer = dict[str, Any]
SHOWN = 16  # vectors that an encoder shows

NAMES = {  # Hugging Face -> GGUF
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "model.layers.": "blk.",
}


class LlamaCpp:
    """llama.cpp through xllamacpp, timed by its own clock."""

    def __init__(self, model: str, given: argparse.Namespace) -> None:
        import xllamacpp

        parameters = xllamacpp.CommonParams()
        parameters.model.path = model
        parameters.n_ctx = given.context * given.parallel
        parameters.n_parallel = given.parallel
        parameters.fit_params = False
        parameters.n_gpu_layers = 0
        for cpu in (parameters.cpuparams, parameters.cpuparams_batch):
            cpu.n_threads = given.threads
        self.server = xllamacpp.Server(parameters)

    def prefill(self, ids: list[int]) -> Answer:
        return {"rate": self._complete(ids, 1, cache_prompt=False)["timings"]["prompt_per_second"]}

    def decode(self, ids: list[int], num_tokens: int) -> Answer:
        return {"rate": self._complete(ids, num_tokens + 1)["timings"]["predicted_per_second"]}

    def greedy(self, ids: list[int], num_tokens: int) -> Answer:
        told = self._complete(ids, num_tokens, n_probs=1)["choices"][0]["logprobs"]["content"]
        return {"ids": [token["id"] for token in told]}

    def serve(self, prompts: list[list[int]], num_tokens: int, arrivals: list[float] | None = None) -> Answer:
        """Its own batching: a thread for each request, which sends it when its time has come."""
        times: list[list[float]] = [[] for _ in prompts]
        began = time.perf_counter()

        def ask(number: int) -> None:
            time.sleep(max(0.0, (arrivals[number] if arrivals else 0.0) - (time.perf_counter() - began)))

            def note(_piece: Any) -> bool:
                times[number].append(time.perf_counter() - began)
                return False

            self.server.handle_completions(
                self._asked(prompts[number], num_tokens, stream=True, cache_prompt=True), note
            )

        threads = [threading.Thread(target=ask, args=(number,)) for number in range(len(prompts))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return waits([found[:num_tokens] for found in times], num_tokens, arrivals)

    def _asked(self, ids: list[int], num_tokens: int, **more: Any) -> Answer:
        return {
            "prompt": ids,
            "n_predict": num_tokens,
            "ignore_eos": True,
            "cache_prompt": True,
            "samplers": ["top_k"],
            "top_k": 1,
            "seed": 0,
            **more,
        }

    def _complete(self, ids: list[int], num_tokens: int, **more: Any) -> Answer:
        answer = self.server.handle_completions(self._asked(ids, num_tokens, **more))
        answer = json.loads(answer) if isinstance(answer, (str, bytes)) else answer
        if "timings" not in answer or answer["timings"]["predicted_n"] != num_tokens:
            raise SystemExit(f"llama.cpp did not do what was asked: {str(answer)[:400]}")
        return answer


class Transformers:
    """transformers' `generate` with its own cache, eager, greedy."""

    def __init__(self, model: str, given: argparse.Namespace) -> None:
        import torch
        import transformers

        torch.set_num_threads(given.threads)
        dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[given.type]
        self.torch, self.times = torch, []
        self.model = transformers.AutoModelForCausalLM.from_pretrained(model, dtype=dtype).eval()
        for name in ("eos_token_id", "pad_token_id", "bos_token_id"):
            setattr(self.model.generation_config, name, None)

    def prefill(self, ids: list[int]) -> Answer:
        with self.torch.inference_mode():
            begin = time.perf_counter()
            self.model(input_ids=self.torch.tensor([ids]), use_cache=True, logits_to_keep=1)
            return {"rate": len(ids) / (time.perf_counter() - begin)}

    def decode(self, ids: list[int], num_tokens: int) -> Answer:
        self.times = []
        self.greedy(ids, num_tokens + 1)
        return {"rate": rate_of(self.times, num_tokens)}

    def greedy(self, ids: list[int], num_tokens: int) -> Answer:
        ids_BT = self.torch.tensor([ids])
        found_BT = self.model.generate(
            ids_BT,
            attention_mask=self.torch.ones_like(ids_BT),
            max_new_tokens=num_tokens,
            do_sample=False,
            logits_processor=[self._clock],
        )
        return {"ids": found_BT[0, len(ids) :].tolist()}

    def serve(self, prompts: list[list[int]], num_tokens: int, arrivals: list[float] | None = None) -> Answer:
        """One static batch of prompts of equal length: all begin and end together."""
        assert arrivals is None, "generate has no queue"
        self.times = []
        ids_BT = self.torch.tensor(prompts)
        began = time.perf_counter()
        self.model.generate(
            ids_BT,
            attention_mask=self.torch.ones_like(ids_BT),
            max_new_tokens=num_tokens,
            do_sample=False,
            logits_processor=[self._clock],
        )
        times = [moment - began for moment in self.times]
        return waits([times] * len(prompts), num_tokens, None)

    def _clock(self, _ids: Any, scores: Any) -> Any:
        self.times.append(time.perf_counter())
        return scores


class CTranslate2:
    """CTranslate2's generator on a converted directory, greedy."""

    def __init__(self, model: str, given: argparse.Namespace) -> None:
        import ctranslate2

        self.engine = ctranslate2.Generator(
            model, device="cpu", compute_type=given.type, inter_threads=1, intra_threads=given.threads
        )
        self.tokens = json.loads((Path(model) / "vocabulary.json").read_text(encoding="utf-8"))

    def prefill(self, ids: list[int]) -> Answer:
        begin = time.perf_counter()
        self._generate(ids, 1)
        return {"rate": len(ids) / (time.perf_counter() - begin)}

    def decode(self, ids: list[int], num_tokens: int) -> Answer:
        return {"rate": rate_of(self._generate(ids, num_tokens + 1)[0], num_tokens)}

    def greedy(self, ids: list[int], num_tokens: int) -> Answer:
        return {"ids": self._generate(ids, num_tokens)[1]}

    def serve(self, prompts: list[list[int]], num_tokens: int, arrivals: list[float] | None = None) -> Answer:
        """One static batch; it tells no times of single tokens."""
        assert arrivals is None, "generate_batch has no queue"
        began = time.perf_counter()
        self.engine.generate_batch(
            [[self.tokens[token_id] for token_id in ids] for ids in prompts],
            max_length=num_tokens,
            min_length=num_tokens,
            sampling_topk=1,
            include_prompt_in_result=False,
            max_batch_size=len(prompts),
        )
        return {"rate": len(prompts) * num_tokens / (time.perf_counter() - began)}

    def _generate(self, ids: list[int], num_tokens: int) -> tuple[list[float], list[int]]:
        """The time at which each token came, and the tokens."""
        times: list[float] = []
        (found,) = self.engine.generate_batch(
            [[self.tokens[token_id] for token_id in ids]],
            max_length=num_tokens,
            min_length=num_tokens,
            sampling_topk=1,
            include_prompt_in_result=False,
            callback=lambda _step: times.append(time.perf_counter()) or False,
        )
        return times, found.sequences_ids[0]


class SentenceTransformers:
    """A sentence encoder through sentence-transformers, which sorts by length itself."""

    def __init__(self, model: str, given: argparse.Namespace) -> None:
        import torch
        from sentence_transformers import SentenceTransformer

        torch.set_num_threads(given.threads)
        dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[given.type]
        self.model = SentenceTransformer(model, device="cpu", model_kwargs={"dtype": dtype})

    def encode(self, texts: list[str]) -> Answer:
        started = time.perf_counter()
        vectors = self.model.encode(texts, batch_size=64, show_progress_bar=False, normalize_embeddings=True)
        return {"rate": len(texts) / (time.perf_counter() - started), "vectors": vectors[:SHOWN].tolist()}


class CTranslate2Encoder:
    """The same encoder through CTranslate2; the mean of its vectors and their length are computed here."""

    def __init__(self, model: str, given: argparse.Namespace) -> None:
        import tempfile

        import ctranslate2
        import tokenizers

        target = tempfile.mkdtemp()
        write_ct2(Path(model), Path(target))
        kind = {"fp32": "float32", "bf16": "bfloat16"}[given.type]
        self.encoder = ctranslate2.Encoder(target, compute_type=kind, intra_threads=given.threads, inter_threads=1)
        self.tokenizer = tokenizers.Tokenizer.from_file(str(Path(model) / "tokenizer.json"))
        self.tokenizer.no_padding()

    def encode(self, texts: list[str]) -> Answer:
        import numpy as np

        started = time.perf_counter()
        rows = [one.ids for one in self.tokenizer.encode_batch(texts)]
        order = sorted(range(len(rows)), key=lambda number: -len(rows[number]))
        vectors = [np.zeros(0)] * len(rows)
        for at in range(0, len(rows), 64):
            batch = order[at : at + 64]
            hidden = np.array(self.encoder.forward_batch([rows[number] for number in batch]).last_hidden_state)
            for place, number in enumerate(batch):
                mean = hidden[place, : len(rows[number])].astype(np.float32).mean(0)
                vectors[number] = mean / np.linalg.norm(mean)
        return {"rate": len(texts) / (time.perf_counter() - started), "vectors": np.stack(vectors)[:SHOWN].tolist()}


ENGINES: dict[str, Callable[[str, argparse.Namespace], Any]] = {
    "llama.cpp": LlamaCpp,
    "transformers": Transformers,
    "ctranslate2": CTranslate2,
    "sentence-transformers-encoder": SentenceTransformers,
    "ctranslate2-encoder": CTranslate2Encoder,
}


def rate_of(times: list[float], num_tokens: int) -> float:
    """Tokens per second between the first and the last of `num_tokens + 1` moments."""
    if len(times) != num_tokens + 1:
        raise SystemExit(f"{len(times)} tokens came instead of {num_tokens + 1}")
    return num_tokens / (times[-1] - times[0])


def waits(times: list[list[float]], num_tokens: int, arrivals: list[float] | None) -> Answer:
    """What requests waited for, from the moments at which their tokens came."""
    if any(len(found) != num_tokens for found in times):
        raise SystemExit(f"{[len(found) for found in times]} tokens came instead of {num_tokens} each")
    born = arrivals or [0.0] * len(times)
    seconds = max(found[-1] for found in times) - born[0]
    return {
        "rate": len(times) * num_tokens / seconds,
        "first": [found[0] - arrival for found, arrival in zip(times, born, strict=True)],
        "gaps": [after - before for found in times for before, after in itertools.pairwise(found)],
    }


def serve(engine: Any, answers: Any) -> None:
    """Answer one request per line until the input ends."""
    print(json.dumps({"ready": True}), file=answers, flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        task = request.pop("task")
        answer = {"bytes": peak_memory_bytes()} if task == "memory" else getattr(engine, task)(**request)
        print(json.dumps(answer), file=answers, flush=True)


def peak_memory_bytes() -> int:
    """Peak resident memory of this process, as Linux reports it."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))


def write_gguf(source: Path, target: Path, kind: str) -> None:
    """Write a Llama's Hugging Face directory as one GGUF file, its matrices in one type, its vectors in F32."""
    import gguf

    config = json.loads((source / "config.json").read_text(encoding="utf-8"))
    writer = gguf.GGUFWriter(target, "llama")
    quantization = gguf.GGMLQuantizationType[kind]
    write_shape(writer, config)
    write_vocabulary(writer, config["vocab_size"], gguf.TokenType)
    for name, array in tensors_of(source, config):
        matrix = array.ndim == 2
        packed = gguf.quants.quantize(array, quantization) if matrix else array
        writer.add_tensor(name, packed, raw_dtype=quantization if matrix else gguf.GGMLQuantizationType.F32)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def write_shape(writer: Any, config: dict[str, Any]) -> None:
    """Write the shape of the network."""
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_rope_dimension_count(config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"])
    writer.add_rope_freq_base(config.get("rope_theta") or config["rope_parameters"]["rope_theta"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_vocab_size(config["vocab_size"])


def write_vocabulary(writer: Any, vocab_size: int, kinds: Any) -> None:
    """Write a vocabulary that loads: three special tokens, the bytes, and invented words."""
    bytes_ = [f"<0x{byte:02X}>" for byte in range(256)]
    tokens = ["<unk>", "<s>", "</s>", *bytes_]
    types = [kinds.UNKNOWN, kinds.CONTROL, kinds.CONTROL, *[kinds.BYTE] * len(bytes_)]
    more = vocab_size - len(tokens)
    writer.add_tokenizer_model("llama")
    writer.add_token_list(tokens + [f"\u2581w{number}" for number in range(more)])
    writer.add_token_scores([0.0] * vocab_size)
    writer.add_token_types(types + [kinds.NORMAL] * more)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_add_bos_token(False)


def tensors_of(source: Path, config: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """(name in GGUF, float32 array) of every weight; the rows of queries and keys in llama.cpp's order of pairs."""
    from safetensors.torch import load_file

    heads = {"attn_q": config["num_attention_heads"], "attn_k": config["num_key_value_heads"]}
    for name, tensor in load_file(source / "model.safetensors").items():
        array = tensor.float().numpy()
        for theirs, new in NAMES.items():
            name = name.replace(theirs, new)
        part = name.split(".")[-2]
        if part in heads:
            halves = array.reshape(heads[part], 2, -1, array.shape[-1])
            array = halves.swapaxes(1, 2).reshape(array.shape)
        yield name, array.copy()


def write_ct2(source: Path, target: Path) -> None:
    """Write a directory that CTranslate2 reads, in float32; it converts to other types when it loads."""
    import ctranslate2

    ctranslate2.converters.TransformersConverter(str(source)).convert(str(target), force=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("what", choices=(*ENGINES, "gguf", "ct2"))
    parser.add_argument("model")
    parser.add_argument("target", nargs="?", type=Path)
    parser.add_argument("--type", default="fp32")
    parser.add_argument("--context", type=int, default=2048, help="of llama.cpp, of each of its parallel requests")
    parser.add_argument("--parallel", type=int, default=1, help="requests at once, of llama.cpp")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    given = parser.parse_args()
    if given.what == "gguf":
        return write_gguf(Path(given.model), given.target, given.type)
    if given.what == "ct2":
        return write_ct2(Path(given.model), given.target)
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # engines that print must not print into the answers
    serve(ENGINES[given.what](given.model, given), answers)


if __name__ == "__main__":
    main()
