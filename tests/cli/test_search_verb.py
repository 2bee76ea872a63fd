"""`pellucid search`: what it prints is what the search finds, and what it cannot do it says."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner, Result

from pellucid.api import load
from pellucid.cli.app import root
from pellucid.errors import SamplingError, SettingsError
from pellucid.model.build import build
from pellucid.planning.config import ModelConfig
from pellucid.store.checkpoint import save_checkpoint
from pellucid.tokens.train import train_bpe


@pytest.fixture(scope="module")
def directory(tmp_path_factory) -> str:
    tokenizer = train_bpe(["the cat sat. 猫坐着。 " * 9], 280)
    config = ModelConfig(
        vocab_size=tokenizer.vocab_size, context_length=24, n_layers=1, n_heads=2, n_kv_heads=1, head_dim=8,
        d_model=16, d_ff=24, init="gpt2",
    )  # fmt: skip
    weights = dict(build(config, seed=0).named_parameters())
    path = tmp_path_factory.mktemp("search") / "model"
    save_checkpoint(path, config=config, weights=weights, tokenizer=tokenizer, info={})
    return str(path)


def run(*arguments: str, text: str | None = None) -> Result:
    found = CliRunner().invoke(root, [*arguments, "--threads", "1", "--device", "cpu"], input=text)
    if found.exception and not isinstance(found.exception, SystemExit):
        raise found.exception
    return found


def test_the_texts_of_the_search_best_first(directory):
    asked = ["--num-beams", "3", "--num-best", "2", "--max-new-tokens", "5"]
    printed = run("search", directory, "the", *asked)
    expected = load(directory, device="cpu").search("the", num_beams=3, num_best=2, max_new_tokens=5)
    assert printed.stdout == "".join(f"{one.completion.text}\n" for one in expected)
    assert [line.split(",")[0] for line in printed.stderr.splitlines() if "score" in line] == [
        f"· score {one.score:.4f}" for one in expected
    ]
    found = json.loads(run("search", directory, "-", *asked, "--json", text="the").stdout)
    assert [one["completion"]["ids"] for one in found] == [list(one.completion.ids) for one in expected]
    assert found[0]["score"] >= found[1]["score"]


def test_a_single_greedy_beam_is_greedy_text(directory):
    lm = load(directory, device="cpu")
    [one] = lm.search("the", num_beams=1, max_new_tokens=6, early_stopping="always")
    assert one.completion.ids == lm.complete("the", temperature=0, max_new_tokens=6).ids


def test_choice_0_is_the_text_alone(directory):
    lm = load(directory, device="cpu")
    first, second = lm.choices("the", num_choices=2, seed=3, max_new_tokens=6)
    assert first == lm.complete("the", seed=3, max_new_tokens=6) and first.ids != second.ids


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        (["--num-beams", "0"], SettingsError, "num_beams"),
        (["--num-best", "9"], SamplingError, "num_best"),
        (["--seed", "1"], SettingsError, "draws nothing"),
        (["--set", "temperature=1"], SettingsError, "temperature"),
        (["--length-penalty", "nan"], SamplingError, "length_penalty"),
    ],
)
def test_what_cannot_be_is_refused(directory, options, error, words):
    with pytest.raises(error, match=words):
        run("search", directory, "the", *options)
