"""Whatever stands in a file of a model or a run, opening it gives a model or one clear error, in bounded memory."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pellucid.engine.sampling.generation_config import from_generation_config
from pellucid.errors import CorruptFileError, PellucidError
from pellucid.events import NULL
from pellucid.model.build import build
from pellucid.planning.config import ModelConfig
from pellucid.planning.params import parameter_shapes
from pellucid.settings import Layer, load_toml, resolve
from pellucid.store.checkpoint import load_model, save_checkpoint
from pellucid.store.gguf import load_gguf, save_gguf
from pellucid.store.gguf_header import StoredTensor, read_header
from pellucid.store.gguf_write import TensorToWrite, serialize_gguf
from pellucid.store.names.gguf import architecture_for
from pellucid.store.names.registry import family_for
from pellucid.store.open import open_checkpoint
from pellucid.store.quantize import BY_NAME
from pellucid.store.run import Run
from pellucid.tokens.train import train_characters
from pellucid.training.settings import TrainSettings
from pellucid.untrusted import read_object

SIZES = {
    "vocab_size": 262,
    "context_length": 16,
    "n_layers": 1,
    "n_heads": 2,
    "n_kv_heads": 1,
    "head_dim": 8,
    "d_model": 16,
    "d_ff": 24,
}
LLAMA3 = {"rope_scaling": "llama3", "rope_factor": 8.0, "rope_original_context": 64}
YARN = {"rope_scaling": "yarn", "rope_factor": 4.0, "rope_high_frequency": 32.0}
GPT2 = {"position": "learned", "norm": "layer", "feed_forward": "gelu_tanh", "qkv_bias": True, "output_bias": True, "mlp_bias": True,
        "n_kv_heads": 2, "qk_norm": False}  # fmt: skip
FAMILIES: dict[str, dict[str, Any]] = {
    "qwen3": {"sliding_window": 5}, "llama": {"qk_norm": False, **LLAMA3}, "qwen2": {"qk_norm": False, "qkv_bias": True, **YARN},
    "gpt2": GPT2, "pellucid": {"position": "none"},
}  # fmt: skip
TOKENIZER = train_characters(["abcd"], specials="none")
HUGE = 10**400
JUNK = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 3), st.integers(-(2**80), 2**80), st.floats(), st.text(max_size=3),
    st.sampled_from([HUGE, -HUGE, 2**28, 2**22, 1e308, 5e-324, [], {}, [[]], [None], {"": {}}, ["x"] * 3, "\ud800", "../x", "a\0b",
                     "x" * 3_000, {"factor": 0}, {"type": "yarn", "factor": HUGE}]),
)  # fmt: skip


def save_model(directory: Path, family: str) -> Path:
    config = ModelConfig.from_axes(**{**SIZES, **FAMILIES[family]})
    assert family_for(config, NULL).model_type == family
    weights = dict(build(config, seed=1).state_dict())
    save_checkpoint(directory, config=config, weights=weights, tokenizer=TOKENIZER, info={"step": 3, "lineage": []})
    return directory


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    place = tmp_path_factory.mktemp("models")
    return {family: save_model(place / family, family) for family in FAMILIES}


def open_model(directory: Path) -> None:
    checkpoint = open_checkpoint(directory)
    model = load_model(checkpoint)
    with torch.no_grad():
        assert model(torch.tensor([[1, 2]])).logits_BTV.shape == (1, 2, checkpoint.config.vocab_size)
    from_generation_config(checkpoint.generation)


def mutate(document: Any, data: st.DataObject) -> None:
    """Give one value somewhere in a document another one, or add a key."""
    node = document
    while True:
        keys = list(node) if isinstance(node, dict) else list(range(len(node)))
        key = data.draw(st.sampled_from(keys))
        if isinstance(node[key], (dict, list)) and node[key] and data.draw(st.booleans()):
            node = node[key]
            continue
        node[key] = data.draw(JUNK)
        return


def survives(path: Path, content: bytes, use: Callable[[], object]) -> None:
    """With other contents in a file, using it succeeds or ends in an error of ours; the file is put back."""
    original = path.read_bytes()
    path.write_bytes(content)
    try:
        use()
    except PellucidError as error:
        assert error.what and len(str(error)) < 3_000
        str(error).encode("utf-8", "surrogatepass")
    finally:
        path.write_bytes(original)


def dumped(document: Any) -> bytes:
    return json.dumps(document).encode()


SETTINGS = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
FILES = ("config.json", "pellucid.json", "generation_config.json", "tokenizer_config.json")


@SETTINGS
@given(data=st.data())
@pytest.mark.parametrize("name", FILES)
def test_no_mutated_file_of_a_model_escapes_as_another_error(models, name: str, data: st.DataObject) -> None:
    directory = models[data.draw(st.sampled_from(sorted(models)))]
    notes = directory / "pellucid.json"
    document = json.loads((directory / name).read_bytes())
    mutate(document, data)
    original = notes.read_bytes()
    if name != notes.name:
        notes.unlink()  # as another program's directory, for which no hash vouches
    try:
        survives(directory / name, dumped(document), lambda: open_model(directory))
    finally:
        notes.write_bytes(original)


@SETTINGS
@given(data=st.data())
@pytest.mark.parametrize("name", [*FILES, "model.safetensors"])
def test_no_damaged_file_of_a_model_escapes_as_another_error(models, name: str, data: st.DataObject) -> None:
    directory = models["llama"]
    content = bytearray((directory / name).read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, min(len(content) - 1, 2_000)))
        content[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    notes = directory / "pellucid.json"
    original = notes.read_bytes()
    if name != notes.name:
        notes.unlink()
    try:
        survives(directory / name, bytes(content), lambda: open_model(directory))
    finally:
        notes.write_bytes(original)


NUMBERS = ["1" + "0" * 400, "-1" + "0" * 400, "Infinity", "-Infinity", "NaN", "1e400", "true", '"8"', "[]", "{}", "-1", str(2**63),
           "[" * 5_000]  # fmt: skip
KEYS = (
    "max_position_embeddings",
    "num_hidden_layers",
    "rms_norm_eps",
    "rope_theta",
    "head_dim",
    "vocab_size",
    "num_key_value_heads",
)


@pytest.mark.parametrize("written", NUMBERS, ids=lambda text: text[:12])
@pytest.mark.parametrize("key", KEYS)
def test_a_number_that_cannot_be_is_refused_before_anything_is_made_of_it(models, key: str, written: str) -> None:
    directory = models["llama"]
    text = (directory / "config.json").read_text()
    value = json.dumps(json.loads(text)[key])
    changed = text.replace(f'"{key}": {value}', f'"{key}": {written}')
    assert changed != text
    survives(directory / "config.json", changed.encode(), lambda: refused(lambda: open_foreign(directory)))


@pytest.mark.parametrize("changes", [{"rope_theta": 3.5}, {"rope_scaling": {"rope_type": "linear", "factor": 2.0}}])
def test_two_places_that_disagree_are_refused(models, changes: dict[str, Any]) -> None:
    directory = models["llama"]
    document = json.loads((directory / "config.json").read_bytes()) | changes
    survives(directory / "config.json", dumped(document), lambda: refused(lambda: open_foreign(directory)))


def open_foreign(directory: Path) -> None:
    original = (directory / "pellucid.json").read_bytes()
    (directory / "pellucid.json").unlink()
    try:
        open_model(directory)
    finally:
        (directory / "pellucid.json").write_bytes(original)


def refused(use: Callable[[], object]) -> None:
    try:
        use()
    except PellucidError:
        return
    raise AssertionError("it was taken")


@pytest.mark.parametrize("values", [{"rope_type": "yarn", "factor": 0}, {"rope_type": "yarn", "factor": -2}, {"rope_type": []},
                                    {"rope_type": "llama3", "factor": 1e308, "low_freq_factor": 1, "high_freq_factor": 4,
                                     "original_max_position_embeddings": 1e300}, "yarn", [1]])  # fmt: skip
def test_a_stretching_that_cannot_be_is_refused(models, values: object) -> None:
    directory = models["llama"]
    document = json.loads((directory / "config.json").read_bytes()) | {
        "rope_scaling": values,
        "rope_parameters": values,
    }
    survives(directory / "config.json", dumped(document), lambda: refused(lambda: open_foreign(directory)))


def test_a_key_that_is_given_twice_is_refused(models) -> None:
    directory = models["llama"]
    text = (directory / "config.json").read_text()
    twice = text.replace('"vocab_size"', '"hidden_size": 16, "vocab_size"')
    with pytest.raises(CorruptFileError) as error:
        (directory / "copy.json").write_text(twice)
        read_object(directory / "copy.json")
    assert "hidden_size" in error.value.found


# Runs


@pytest.fixture
def run(tmp_path: Path) -> Run:
    run = Run.create(
        tmp_path / "run", {"recipe": "pretrain", "settings": {"seed": 1}, "plan": {"steps": 3}, "data": {}}
    )
    config = ModelConfig.from_axes(**SIZES)
    weights = dict(build(config, seed=1).state_dict())
    for step in (1, 2):
        run.save(step, config=config, weights=weights, tokenizer=None, info={})
        run.append_metrics({"kind": "train", "step": step, "loss": 1.0 / step})
        run.append_metrics({"kind": "eval", "step": step, "loss": 1.0 / step})
    return run


def use_run(path: Path) -> None:
    run = Run.open(path)
    run.latest(), run.best(), run.read_metrics(), run.checkpoints()
    run.truncate_metrics(after_step=2)


@SETTINGS
@given(data=st.data())
def test_no_mutated_file_of_a_run_escapes_as_another_error(run: Run, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(["run.json", "metrics.jsonl", "latest"]))
    path = run.path / name
    if name == "run.json":
        document = json.loads(path.read_bytes())
        mutate(document, data)
        content = dumped(document)
    elif name == "latest":
        content = data.draw(
            st.binary(max_size=20) | st.sampled_from([b"x" * 5_000, b"step-" + b"9" * 500, b"../..", b"\xff", b"\0"])
        )
    else:
        rows = [json.loads(line) for line in path.read_bytes().splitlines()]
        mutate(rows, data)
        content = b"".join(dumped(row) + b"\n" for row in rows)
    survives(path, content, lambda: use_run(run.path))


@pytest.mark.parametrize("line", [b"[]", b"3", b"null", b'{"step": 1}', b'{"kind": "eval", "step": 1e400}', b'{"kind": 3, "step": 1}',
                                  b'{"kind": "eval", "step": 1, "loss": "low"}', b'{"kind": "eval", "step": -1}', b"[" * 9_000,
                                  *(b'{"kind": "eval", "step": 1, "exam_en": %s}' % share for share in (b'"all"', b"1.5", b"-1", b"true", b"[]"))])  # fmt: skip
def test_a_line_of_another_kind_is_an_error_with_its_number(run: Run, line: bytes) -> None:
    path = run.path / "metrics.jsonl"
    path.write_bytes(path.read_bytes() + line + b"\n")
    with pytest.raises(CorruptFileError) as error:
        run.best()
    assert error.value.where.endswith(":5")


# Recipes


@SETTINGS
@given(data=st.data())
def test_no_recipe_escapes_as_another_error(tmp_path: Path, data: st.DataObject) -> None:
    keys = (
        "steps",
        "seed",
        "minutes",
        "model.n_layers",
        "optimizer.muon_rate",
        "probe.texts",
        "data.valid_file",
        "compile",
        "model",
    )
    words = ["1" + "0" * 400, "9" * 5_000, "inf", "nan", "-inf", "true", '""', "[1, [2]]", "{a = 1}", "1979-05-27", "[" * 3_000, "1e400",
             '"\\u0000"', "-1"]  # fmt: skip
    (tmp_path / "r.toml").write_text(f"{data.draw(st.sampled_from(keys))} = {data.draw(st.sampled_from(words))}\n")
    try:
        resolve(TrainSettings, load_toml(tmp_path / "r.toml"), Layer("command line", {}))
    except PellucidError as error:
        assert error.what and len(str(error)) < 3_000


@pytest.mark.parametrize("key", ["minutes", "epochs", "optimizer.muon_rate", "optimizer.weight_decay"])
@pytest.mark.parametrize("value", ["inf", "nan", "1e400", "1" + "0" * 400])
def test_a_setting_is_finite(tmp_path: Path, key: str, value: str) -> None:
    (tmp_path / "r.toml").write_text(f"{key} = {value}\n")
    with pytest.raises(PellucidError):
        resolve(TrainSettings, load_toml(tmp_path / "r.toml"))


def test_a_recipe_that_is_no_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(PellucidError, match="recipe"):
        load_toml(tmp_path)


# GGUF


def rewrite(
    header_of: Path, tensors: dict[str, StoredTensor], path: Path, order: list[int], codes: dict[str, int]
) -> Path:
    """A copy of a file whose tensors lie in another order than they are named, or are called by other formats."""
    data = header_of.read_bytes()
    start = min(tensor.offset for tensor in tensors.values())
    names = list(tensors)
    changed = bytearray(data)
    for name, other in zip(names, (names[i] for i in order), strict=True):
        at = changed.index(name.encode()) + len(name.encode()) + 4 + 8 * len(tensors[name].shape)
        code = codes.get(name, tensors[name].form.code)
        changed[at : at + 4] = code.to_bytes(4, "little")
        changed[at + 4 : at + 12] = (tensors[other].offset - start).to_bytes(8, "little")
    path.write_bytes(changed)
    return path


@pytest.fixture(scope="module")
def gguf_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = ModelConfig.from_axes(**{**SIZES, "qk_norm": False, "n_kv_heads": 2})
    path = tmp_path_factory.mktemp("gguf") / "model.gguf"
    weights = dict(build(config, seed=1).state_dict())
    save_gguf(path, config=config, weights=weights, tokenizer=TOKENIZER, number_format="f16", name="m")
    return path


def test_exchanged_offsets_are_refused(gguf_file: Path, tmp_path: Path) -> None:
    """Query and key have the same shape: exchanged, the file would be another model."""
    tensors = read_header(gguf_file).tensors
    order = list(range(len(tensors)))
    same = [(i, j) for i, one in enumerate(tensors.values()) for j, other in enumerate(tensors.values())
            if i < j and (one.shape, one.form) == (other.shape, other.form)]  # fmt: skip
    assert len(same) > 4
    load_gguf(rewrite(gguf_file, dict(tensors), tmp_path / "same.gguf", order, {}))
    for i, j in same:
        swapped = order.copy()
        swapped[i], swapped[j] = j, i
        with pytest.raises(CorruptFileError, match="where the one before it ends"):
            load_gguf(rewrite(gguf_file, dict(tensors), tmp_path / "swapped.gguf", swapped, {}))


def test_a_changed_number_format_is_refused(gguf_file: Path, tmp_path: Path) -> None:
    tensors = read_header(gguf_file).tensors
    order = list(range(len(tensors)))
    for name, tensor in tensors.items():
        for form in BY_NAME.values():
            if form != tensor.form:
                with pytest.raises(PellucidError):
                    load_gguf(rewrite(gguf_file, dict(tensors), tmp_path / "x.gguf", order, {name: form.code}))


def hostile_tokens(path: Path, long: str) -> Path:
    """A `llama` file with one token that is longer than any."""
    config = ModelConfig.from_axes(**{**SIZES, "qk_norm": False})
    tokens = [*TOKENIZER.vocabulary.ids, "<bos>", "<eos>"]
    tokens[-4] = long
    kinds = np.array([6] * 256 + [1] * (len(tokens) - 258) + [3, 3], np.int32)
    values = {
        "general.architecture": "llama", "llama.context_length": 16, "llama.embedding_length": 16, "llama.block_count": 1,
        "llama.feed_forward_length": 24, "llama.attention.head_count": 2, "llama.attention.head_count_kv": 1,
        "llama.attention.layer_norm_rms_epsilon": 1e-6, "tokenizer.ggml.model": "llama", "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": kinds, "tokenizer.ggml.scores": np.zeros(len(tokens), np.float32),
    }  # fmt: skip
    shapes = parameter_shapes(config)
    tensors = {
        entry.name: TensorToWrite(
            shape=shapes[entry.holds[0]],
            form=BY_NAME["F32"],
            pack=partial(torch.zeros, 4 * math.prod(shapes[entry.holds[0]]), dtype=torch.uint8),
        )
        for entry in architecture_for(config).layout(config)
    }
    _, chunks = serialize_gguf(values, tensors)
    path.write_bytes(b"".join(bytes(chunk) for chunk in chunks))
    return path


MEASURED = """
import resource, sys
from pathlib import Path
from pellucid.trial import limit_memory
import torch
from pellucid.errors import PellucidError
from pellucid.store.checkpoint import load_model
from pellucid.store.open import open_checkpoint
def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
limit_memory(12 << 30)
load_model(open_checkpoint(sys.argv[1]))
before = peak()
for path in sys.argv[2:]:
    try:
        model = load_model(open_checkpoint(path))
        model(torch.tensor([[1, 2, 3]]))
        print("opened", (peak() - before) // 1024)
    except PellucidError as error:
        print("refused", (peak() - before) // 1024)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no limits of memory there")
def test_memory_does_not_follow_what_a_file_claims(models, tmp_path: Path) -> None:
    paths = []
    for positions in (1 << 20, 1 << 22, 1 << 24, 1 << 28):
        directory = save_model(tmp_path / str(positions), "llama")
        document = json.loads((directory / "config.json").read_bytes()) | {"max_position_embeddings": positions}
        (directory / "config.json").write_bytes(dumped(document))
        (directory / "pellucid.json").unlink()
        paths.append(directory)
    paths.append(hostile_tokens(tmp_path / "long.gguf", "a" * 120_000))
    paths.append(hostile_tokens(tmp_path / "long_enough.gguf", "ab" * 500))
    command = [sys.executable, "-c", MEASURED, str(models["llama"]), *map(str, paths)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    answers = [line.split() for line in done.stdout.splitlines()]
    assert [word for word, _ in answers] == ["opened", "opened", "opened", "refused", "refused", "opened"]
    assert all(int(megabytes) < 100 for _, megabytes in answers), done.stdout
