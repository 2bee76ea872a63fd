"""Bad input through the command line: a clear error (what, found, where, what to try), and nothing is lost."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from pellucid.settings import Layer, resolve
from pellucid.tokens.train import train_bpe
from pellucid.training import make_plan
from pellucid.training.measure import Rates
from pellucid.training.recipes import pretrain as recipe
from pellucid.training.settings import TrainSettings

TEXT = "The cat sat on the mat. 小猫坐在垫子上。\n" * 30
SIZES = {"n_layers": 1, "n_heads": 2, "n_kv_heads": 1, "head_dim": 8, "d_model": 16, "d_ff": 24, "context_length": 16}
SMALL = [
    "--steps", "2", "--threads", "1", "--device", "cpu", "--depth", "1", "--vocab-size", "302", "--set", "compile=off",
    "--set", "batch.tokens=64", *(word for name, size in SIZES.items() for word in ("--set", f"model.{name}={size}")),
]  # fmt: skip

Refusal = dict[str, str]


@pytest.fixture(scope="module", autouse=True)
def quick() -> Iterator[None]:
    """No measuring and no drawing: neither is asked about here."""
    rates = Rates(training_flops_per_second=1e10, determinism_cost=0.0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(make_plan, "measure_training", lambda *args, **options: rates)
        patch.setattr(recipe, "draw_loss", lambda run: None)
        yield


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two steps with a checkpoint after each."""
    folder = tmp_path_factory.mktemp("bad-input")
    (folder / "book.txt").write_text(TEXT, encoding="utf-8")
    values = {
        "steps": 2, "threads": 1, "device": "cpu", "compile": "off", "tokenizer": {"vocab_size": 302},
        "model": {"depth": 1, **SIZES}, "batch": {"tokens": 64}, "saving": {"every_steps": 1},
    }  # fmt: skip
    settings = resolve(TrainSettings, Layer("test", values))
    threads = torch.get_num_threads()
    recipe.pretrain(recipe.Pretraining(text=folder / "book.txt", out=folder / "run", resolved=settings))
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(False)
    return folder / "run"


@pytest.fixture
def own_run(trained: Path, tmp_path: Path) -> Path:
    """A copy of the run that a test may damage."""
    return Path(shutil.copytree(trained, tmp_path / "run"))


@pytest.fixture
def refused(run) -> Callable[..., Refusal]:
    """Run a command that must fail, for people and for machines; the four sentences of its error."""

    def call(code: int, *arguments: object) -> Refusal:
        machine, person = run(*arguments, "--json"), run(*arguments)
        assert (machine.code, person.code) == (code, code), person.err
        assert not machine.out and not person.out
        error: Refusal = json.loads(machine.err.splitlines()[-1])
        assert f"error: {error['what']}\n" in person.err
        for label in ("found", "where", "try"):
            assert f"  {label}:".ljust(9) + error[label] in person.err or not error[label]
        assert "Traceback" not in person.err
        return error

    return call


def contents(folder: Path) -> dict[str, str]:
    """Every file of a folder and the hash of what it holds; locks come and go."""
    files = (path for path in folder.rglob("*") if path.is_file() and ".lock" not in path.name)
    hashes = {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
    return {name: value for name, value in hashes.items() if ".holder" not in name}


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


# --- texts that cannot be read: nothing is trained, and what is there stays ---


@pytest.mark.parametrize(
    ("name", "content", "error"),
    [
        ("empty.txt", "", {"what": "the file is empty", "where": "empty.txt"}),
        ("latin.txt", b"caf\xe9 noir", {"what": "not UTF-8", "found": "byte 0xE9 at byte offset 3", "where": "latin.txt"}),
        ("utf16.txt", "text".encode("utf-16-le"), {"what": "not a text file", "try": "--encoding utf-16-le"}),
        ("zero.txt", b"ab\x00cd", {"what": "not a text file", "found": "byte offset 2"}),
        ("rows.jsonl", '{"text": "a"}\n{"text": \n', {"what": "not valid JSON", "where": "rows.jsonl, line 2"}),
        ("rows.jsonl", '{"text": "a"}\n\n[1]\n', {"what": "not a JSON object", "where": "rows.jsonl, line 3"}),
        ("rows.jsonl", '{"body": "a"}\n', {"what": "no field 'text'", "found": "'body'", "where": "rows.jsonl, line 1"}),
        ("rows.jsonl", '{"text": 3}\n', {"what": "is not text", "found": "int", "where": "rows.jsonl, line 1"}),
        ("rows.jsonl", '{"text": "a"}\n{"text": "\\ud83d"}\n', {"what": "not valid Unicode", "where": "line 2"}),
        ("book.pdf", b"%PDF-1.4", {"what": "this kind of file cannot be read", "found": ".pdf"}),
        ("table.parquet", b"PAR1 but no table", {"what": ".parquet file cannot be read", "where": "table.parquet"}),
    ],
)  # fmt: skip
@pytest.mark.parametrize("verb", ["train", "eval"])
def test_a_text_that_cannot_be_read(
    verb: str, name: str, content: str | bytes, error: Refusal, own_run: Path, tmp_path: Path, refused, run
) -> None:
    path, before = write(tmp_path / name, content), contents(own_run)
    arguments = ("train", path, "--out", tmp_path / "new", *SMALL) if verb == "train" else ("eval", own_run, path)
    found = refused(3, *arguments)
    for label, words in error.items():
        assert words in found[label], found
    assert contents(own_run) == before
    if verb == "train":
        assert not list(tmp_path.glob("new/checkpoints/*"))


@pytest.mark.parametrize(
    ("name", "what", "hint"),
    [
        ("bok.txt", "no such file", "did you mean 'book.txt'?"),
        ("folder", "no text in this folder", "give .txt"),
        ("hollow", "no text in this folder", "give .txt"),
    ],
)
def test_a_path_without_text(name: str, what: str, hint: str, tmp_path: Path, refused) -> None:
    write(tmp_path / "book.txt", TEXT)
    (tmp_path / "hollow").mkdir()
    (tmp_path / "folder").mkdir()
    write(tmp_path / "folder" / "photo.png", b"\x89PNG")
    found = refused(3, "train", tmp_path / name, "--out", tmp_path / "run", *SMALL)
    assert what in found["what"] and found["where"].endswith(name) and hint in found["try"]
    assert not (tmp_path / "run").exists()


def test_standard_input_without_text(tmp_path: Path, refused) -> None:
    found = refused(3, "train", "-", "--out", tmp_path / "run", *SMALL)
    assert "standard input is empty" in found["what"] and "cat BOOK.txt" in found["try"]


def test_a_mended_text_trains_with_the_same_command(tmp_path: Path, refused, run) -> None:
    path = write(tmp_path / "rows.jsonl", '{"text": "a"}\n{"text"\n')
    command = ("train", path, "--out", tmp_path / "run", *SMALL)
    assert "line 2" in refused(3, *command)["where"]
    write(path, json.dumps({"text": TEXT}))
    assert run(*command).code == 0
    assert run("generate", tmp_path / "run", "The", "--seed", "1", "--threads", "1").code == 0


def test_broken_bytes_can_be_replaced_and_are_counted(tmp_path: Path, refused, run) -> None:
    path = write(tmp_path / "book.txt", TEXT.encode() + b"caf\xe9 \xff." + TEXT.encode())
    command = ("train", path, "--out", tmp_path / "run", *SMALL)
    assert f"{len(TEXT.encode()) + 3:,}" in refused(3, *command)["found"]
    answer = run("train", path, "--out", tmp_path / "other", *SMALL, "--errors", "replace")
    assert answer.code == 0 and "2 sequences that no UTF-8 has became U+FFFD" in answer.err


# --- a run directory that holds another run ---


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (["--seed", "7"], ["seed: 1337 there, 7 now"]),
        (["--set", "optimizer.muon_rate=0.5"], ["optimizer.muon_rate: 0.02 there, 0.5 now"]),
        (["--steps", "9"], ["steps: 2 there, 9 now"]),
    ],
)
def test_a_directory_that_holds_another_run(
    changes: list[str], words: list[str], own_run: Path, trained: Path, refused
) -> None:
    before = contents(own_run)
    command = ["train", trained.parent / "book.txt", "--out", own_run, *SMALL, "--set", "saving.every_steps=1"]
    found = refused(6, *command, *changes)
    assert all(word in found["found"] for word in words) and found["where"] == str(own_run)
    assert ("--extend" if "--steps" in changes else "another directory") in found["try"]
    assert contents(own_run) == before


def test_a_run_whose_text_was_changed(own_run: Path, tmp_path: Path, refused, run) -> None:
    path = write(tmp_path / "book.txt", TEXT + "Another end.")
    checkpoints = contents(own_run / "checkpoints")
    found = refused(6, "train", path, "--out", own_run, *SMALL, "--set", "saving.every_steps=1")
    assert "not the one this run began with" in found["what"] and "has changed" in found["found"]
    assert contents(own_run / "checkpoints") == checkpoints
    assert run("generate", own_run, "The", "--seed", "1", "--threads", "1").code == 0


def test_a_directory_without_a_model(tmp_path: Path, refused) -> None:
    found = refused(4, "generate", tmp_path, "The")
    assert found["what"] == "no model is here" and found["where"] == str(tmp_path) and "run directory" in found["try"]


# --- files that are damaged, or belong to another model ---


def test_truncated_weights_name_a_checkpoint_that_is_whole(own_run: Path, refused, run) -> None:
    newest, older = (own_run / "checkpoints" / name for name in ("step-000002", "step-000001"))
    weights = newest / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    for command in (["generate", own_run, "The"], ["eval", own_run, own_run.parent / "run" / "run.json"]):
        found = refused(4, *command)
        assert "step-000002" in found["what"] and "model.safetensors is not what was saved" in found["what"]
        assert "SHA-256" in found["found"] and "step-000001 is whole" in found["try"]
    assert run("generate", older, "The", "--seed", "1", "--threads", "1").code == 0
    write(own_run / "latest", "step-000001\n")
    assert run("generate", own_run, "The", "--seed", "1", "--threads", "1").code == 0


def test_truncated_weights_without_hashes(own_run: Path, refused) -> None:
    checkpoint = own_run / "checkpoints" / "step-000002"
    (checkpoint / "pellucid.json").unlink()
    weights = checkpoint / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    found = refused(4, "generate", checkpoint, "The")
    assert "model.safetensors" in found["what"] + found["where"] and found["found"]


def test_a_foreign_tokenizer_beside_hashed_weights(own_run: Path, refused) -> None:
    checkpoint = own_run / "checkpoints" / "step-000002"
    train_bpe([TEXT], 260, specials="none").save(checkpoint)
    found = refused(4, "generate", checkpoint, "The")
    assert "tokenizer.json is not what was saved" in found["what"] or "tokenizer_config.json is not" in found["what"]


def test_a_foreign_tokenizer_with_more_tokens_than_the_model(own_run: Path, refused) -> None:
    checkpoint = own_run / "checkpoints" / "step-000002"
    (checkpoint / "pellucid.json").unlink()
    train_bpe([TEXT], 320).save(checkpoint)
    found = refused(3, "generate", checkpoint, "The")
    assert found["what"] == "the tokenizer does not belong to these weights"
    assert found["found"] == "314 tokens, but 302 embedding rows" and "trained with" in found["try"]


def test_a_tokenizer_that_is_no_tokenizer(own_run: Path, refused) -> None:
    checkpoint = own_run / "checkpoints" / "step-000002"
    (checkpoint / "pellucid.json").unlink()
    write(checkpoint / "tokenizer.json", '{"model": ')
    found = refused(3, "generate", checkpoint, "The")
    assert found["where"].endswith("tokenizer.json")


# --- requests and settings ---


@pytest.mark.parametrize(
    ("flags", "what", "found"),
    [
        (["--temperature", "-1"], "temperature must be", "-1.0"),
        (["--temperature", "nan"], "temperature must be", "nan"),
        (["--temperature", "inf"], "temperature must be", "inf"),
        (["--top-p", "0"], "top_p must lie above 0", "0.0"),
        (["--top-p", "1.5"], "top_p must lie above 0", "1.5"),
        (["--top-p", "nan"], "top_p must lie above 0", "nan"),
        (["--top-k", "0"], "top_k must be 1 or more", "0"),
        (["--max-new-tokens", "0"], "max_new_tokens must be 1 or more", "0"),
        (["--stop", ""], "stop must be", "''"),
    ],
)
def test_sampling_out_of_range(flags: list[str], what: str, found: str, trained: Path, refused) -> None:
    error = refused(5, "generate", trained, "The", *flags)
    assert what in error["what"] and found in error["found"] and error["try"]


def test_a_prompt_longer_than_the_context(trained: Path, refused) -> None:
    error = refused(5, "generate", trained, TEXT, "--threads", "1")
    assert "no room" in error["what"] and error["where"] == "context_length=16" and "15 tokens" in error["try"]
    assert int(error["found"].split()[0].replace(",", "")) > 16


@pytest.mark.parametrize(
    ("flags", "what", "hint"),
    [
        (["--set", "optimizer.muon_rat=1"], "unknown setting optimizer.muon_rat", "did you mean 'muon_rate'?"),
        (["--set", "stps=1"], "unknown setting stps", "did you mean 'steps'?"),
        (["--set", "optimizer.muon_rate=nan"], "optimizer.muon_rate must be at least 0", "0 or more"),
        (["--set", "batch.tokens=many"], "batch.tokens wants a whole number or none", ""),
        (["--set", "steps"], "cannot read the setting 'steps'", "name=value"),
        (["--preset", "gpt4"], "there is no preset 'gpt4'", "did you mean 'gpt3'?"),
        (["--preset", "nosuch"], "there is no preset 'nosuch'", "of the 43 that are known, the nearest are "),
        (["--preset", "gpt2", "--depth", "3"], "give model.preset or model.depth, not both", "model.n_layers"),
    ],
)
def test_a_setting_that_cannot_be(flags: list[str], what: str, hint: str, tmp_path: Path, refused) -> None:
    path, out = write(tmp_path / "book.txt", TEXT), tmp_path / "run"
    settings = ["--steps", "2", "--threads", "1", "--set", "compile=off", *flags]
    error = refused(2, "train", path, "--out", out, *settings)
    assert error["what"] == what and hint in error["try"]
    assert not out.exists(), "it is refused before a tokenizer is trained"


def test_axes_that_do_not_fit_a_preset_are_refused_before_a_tokenizer_is_trained(tmp_path: Path, refused) -> None:
    out = tmp_path / "run"
    error = refused(3, "train", write(tmp_path / "book.txt", TEXT), "--out", out, "--preset", "qwen3-0.6b",
                    "--set", "model.n_kv_heads=3")  # fmt: skip
    assert "n_kv_heads" in error["what"] + error["found"] and not out.exists()


def test_a_recipe_with_an_unknown_setting_is_named(tmp_path: Path, refused) -> None:
    path = write(tmp_path / "book.txt", TEXT)
    toml = write(tmp_path / "mine.toml", "[optimizer]\nmuon_ratte = 0.1\n")
    error = refused(2, "train", path, "--out", tmp_path / "run", "--recipe", toml)
    assert error["where"] == f"recipe {toml}" and error["try"] == "did you mean 'muon_rate'?"


def test_an_unknown_verb_names_the_nearest(refused) -> None:
    assert refused(2, "generat", "runs/book")["try"] == "did you mean 'generate'?"


def test_a_missing_flag_says_which(run) -> None:
    answer = run("train", "book.txt")
    assert answer.code == 2 and "--out" in answer.err
