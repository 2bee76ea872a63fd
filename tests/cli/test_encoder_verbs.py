"""`pellucid fill`, `embed` and `classify`: what they print is what the model says."""

from __future__ import annotations

import json

import numpy as np
import pytest
from encoders import HEAD, NO_HEAD, answering, bert, save_encoder, say_how, wordpiece

from pellucid.api import load
from pellucid.planning.parts.pooler import PoolerConfig
from pellucid.store.checkpoint import save_checkpoint

CPU = ("--device", "cpu", "--threads", "1")


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> dict[str, str]:
    """Encoders on disk: one that fills in known words, one with vectors alone, one with labels."""
    folder, tokenizer = tmp_path_factory.mktemp("encoders"), wordpiece()
    weights = answering(tokenizer, {2: "cat", 5: "the"})
    save_checkpoint(folder / "fills", config=bert(tokenizer), weights=weights, tokenizer=tokenizer, info={})
    save_encoder(folder / "vectors", bert(tokenizer, head=NO_HEAD), tokenizer)
    say_how(folder / "vectors", max_seq_length=9)
    labels = PoolerConfig(labels=("good", "坏"))
    save_encoder(folder / "labels", bert(tokenizer, head=NO_HEAD, pooler=labels), tokenizer)
    save_encoder(folder / "both", bert(tokenizer, head=HEAD, pooler=PoolerConfig(pairs=True)), tokenizer)
    return {name: str(folder / name) for name in ("fills", "vectors", "labels", "both")}


def test_fill_prints_the_text_and_its_candidates(run, models) -> None:
    text = "The [MASK] sat on [MASK] mat."
    told = run("fill", models["fills"], text, "--top", "2", *CPU)
    assert told.code == 0 and told.out.splitlines()[0] == "The cat sat on the mat."
    assert told.out.splitlines()[1].split() == ["mask", "token", "probability"]
    assert [line.split()[0] for line in told.out.splitlines()[2:6]] == ["1", "1", "2", "2"]
    in_turn = run("fill", models["fills"], "-", "--one-by-one", *CPU, stdin=text.encode())
    assert "· filled in this order: mask 2, 1" in in_turn.err
    found = json.loads(run("fill", models["fills"], text, "--json", *CPU).out)
    filled = load(models["fills"], device="cpu").fill(text)
    assert found["text"] == filled.text
    assert [len(blank["candidates"]) for blank in found["blanks"]] == [5, 5]
    assert found["blanks"][0]["candidates"][0] == vars(filled.blanks[0].candidates[0])
    assert "概率" in run("fill", models["fills"], text, "--lang", "zh", *CPU).out
    assert "'" not in told.out and "· in a token, · is a space" in told.err.splitlines()
    assert run("fill", models["fills"], "the ___ sat", "--mask", "___", *CPU).out.splitlines()[0] == "the cat sat"


def test_score_tells_every_token_and_ranks_texts(run, models) -> None:
    lm = load(models["fills"], device="cpu")
    expected = lm.score("the cat sat")
    told = run("score", models["fills"], "the cat sat", *CPU)
    assert told.code == 0 and [line.split()[1] for line in told.out.splitlines()[1:4]] == [
        f"{value:.3f}" for value in expected.logprobs
    ]  # fmt: skip
    assert f"· {expected.total:.3f} nats over 3 tokens" in told.err and "is no likelihood of a text" in told.err
    assert "bits per byte" not in told.err
    several = run("score", models["fills"], "the cat sat", "-", *CPU, stdin=b"a dog\n")
    likeliest = max(("the cat sat", "a dog"), key=lambda text: lm.score(text).total)
    assert f"· the likeliest as a whole: {likeliest!r}" in several.err
    rows = [line.split(maxsplit=3) for line in several.out.splitlines()[1:3]]
    assert [(row[0], row[3]) for row in rows] == [
        (f"{lm.score(text).total:.3f}", text) for text in ("the cat sat", "a dog")
    ]  # fmt: skip
    (found,) = json.loads(run("score", models["fills"], "the cat sat", "--json", *CPU).out)
    assert (found["total"], found["is_likelihood"], found["bits_per_byte"]) == (expected.total, False, None)
    assert [(one["id"], one["logprob"]) for one in found["tokens"]] == [
        *zip(expected.ids, expected.logprobs, strict=True)
    ]
    assert "没有概率" in run("score", models["vectors"], "the cat", "--lang", "zh", *CPU).err


def test_what_cannot_fill_or_write_names_what_can(run, models) -> None:
    for verb, name, words in (
        ("generate", "fills", ("pellucid fill", "pellucid embed")),
        ("generate", "vectors", ("pellucid fill", "pellucid embed")),
        ("fill", "vectors", ("pellucid embed",)),
        ("classify", "fills", ("pellucid classify train",)),
    ):
        refused = run(verb, models[name], "a [MASK]", *CPU)
        assert refused.code == 5 and not refused.out and all(word in refused.err for word in words), refused.err
        assert "torch runs" not in refused.err and "default" not in refused.err, "nothing of how it would write"
    assert "写上一个" in run("fill", models["fills"], "none", "--lang", "zh", *CPU).err


def test_embed_writes_vectors_with_their_texts_and_ranks_them(run, models, tmp_path) -> None:
    lines, out = tmp_path / "lines.txt", tmp_path / "x.npz"
    lines.write_text("the cat sat\n\na dog ran\nthe cat sat on the mat\n")
    told = run("embed", models["vectors"], lines, "--out", out, "--near", "the cat sat", *CPU)
    assert told.code == 0, told.err
    assert "· 3 vectors of 16 numbers, of length 1; pooling: mean (as the model's files say)" in told.err
    assert "no token ends a text" not in told.err and "torch runs" not in told.err
    assert f"· left out of {lines}: 1 blank line" in told.err.splitlines()
    stored = np.load(out)  # it opens without a pickle
    lm = load(models["vectors"], device="cpu")
    texts = ["the cat sat", "a dog ran", "the cat sat on the mat"]
    np.testing.assert_allclose(stored["vectors"], lm.embed(texts).vectors, atol=1e-6)
    assert stored["texts"].tolist() == texts and stored["origins"].tolist() == [f"lines.txt:{n}" for n in (1, 3, 4)]
    assert json.loads(str(stored["how"]))["pooling"] == "mean"
    first = told.out.splitlines()[1].split()
    assert first[0] == "1.0000" and first[1] == "lines.txt:1"
    found = json.loads(run("embed", models["vectors"], lines, "--near", "a dog ran", "--top", "1", "--json", *CPU).out)
    assert [one["text"] for one in found["near"]] == ["a dog ran"] and found["texts"] == 3 and found["out"] is None


def test_embed_takes_rows_and_folders_and_cuts_when_told(run, models, tmp_path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"body": "the cat sat\\non the mat"}\n{"body": "a dog"}\n')
    found = json.loads(run("embed", models["vectors"], rows, "--field", "body", "--near", "a dog", "--json", *CPU).out)
    assert [one["origin"] for one in found["near"]] == ["rows.jsonl:2", "rows.jsonl:1"]
    refused = run("embed", models["vectors"], rows, "--field", "nosuch", "--near", "a", *CPU)
    assert "--field …; --errors replace leaves such rows out" in refused.err
    rows.write_text('{"text": "the cat"}\n{"body": "a dog"}\n')
    left = run("embed", models["vectors"], rows, "--near", "a", "--errors", "replace", "--json", *CPU)
    assert json.loads(left.out)["texts"] == 1 and "1 row without text" in left.err
    long = tmp_path / "long.txt"
    long.write_text("the cat sat on the mat a dog ran in the box\nthe\n")
    refused = run("embed", models["vectors"], long, "--near", "a", *CPU)
    assert refused.code == 5 and "--cut" in refused.err and "sentence_bert_config.json" in refused.err
    cut = run("embed", models["vectors"], long, "--near", "a", "--cut", *CPU)
    assert cut.code == 0 and "! cut after 9 tokens: 1 text" in cut.err


@pytest.mark.parametrize(("options", "words"), [
    ((), "add --out FILE.npz, or --near TEXT"), (("--out", "x.bin"), "--out vectors.npz"),
    (("--near", " "), "no text to rank the others by"),
])  # fmt: skip
def test_embed_must_be_told_what_for(run, models, tmp_path, options, words) -> None:
    (tmp_path / "a.txt").write_text("a\n")
    refused = run("embed", models["vectors"], tmp_path / "a.txt", *options)
    assert refused.code == 2 and words in refused.err


def test_a_file_that_is_not_there_is_named_before_the_model_is_opened(run, models, tmp_path) -> None:
    refused = run("embed", tmp_path / "no-model", tmp_path / "no-file.txt", "--near", "a")
    assert refused.code == 3 and "no-file.txt" in refused.err and "no-model" not in refused.err
    refused = run(
        "classify", "train", tmp_path / "no-model", tmp_path / "no.csv", "--out", tmp_path / "x", "--lang", "zh"
    )
    assert refused.code == 3 and "没有这个文件" in refused.err and "请给一个带标签的文件" in refused.err


def test_classify_is_trained_and_used(run, models, tmp_path) -> None:
    rows = tmp_path / "rows.csv"
    texts = [f"{who} {did}" for who in ("the cat", "a dog") for did in ("sat", "ran", "on", "in", "sat in", "ran on")]
    rows.write_text("text,label\n" + "".join(f"{text},{text.split()[1]}\n" for text in texts))
    head = tmp_path / "head"
    told = run("classify", "train", models["vectors"], rows, "--out", head, "--l2", "0.01", *CPU)
    assert told.code == 0, told.err
    assert [line.rsplit(None, 2)[0] for line in told.out.splitlines()[1:4]] == [
        "held out", "always the most frequent", "learned from"
    ]  # fmt: skip
    assert "· labels: cat 6, dog 6" in told.err and f"classify {head}" in told.err
    used = run("classify", head, "the cat sat", *CPU)
    assert used.code == 0 and used.out.splitlines()[0] == "the cat sat"
    assert used.out == run("classify", "use", head, "the cat sat", *CPU).out
    asked = run("classify", head, "-", "--json", *CPU, stdin=b"the cat sat\n\na dog\n")
    assert "left out of standard input: 1 blank line" in asked.err
    both = json.loads(asked.out)
    assert [one["text"] for one in both] == ["the cat sat", "a dog"]
    assert [one["labels"][0]["name"] for one in both] == ["cat", "dog"]
    report = json.loads(
        run(
            "classify", "train", models["both"], rows, "--out", tmp_path / "own", "--pooling", "own", "--json", *CPU
        ).out
    )
    assert report["num_train"] + report["num_held_out"] == 12
    told = json.loads((tmp_path / "own/config.json").read_text())
    assert told["architectures"] == ["BertForSequenceClassification"] and told["id2label"] == {"0": "cat", "1": "dog"}


def test_a_model_with_labels_from_elsewhere_is_used_as_it_is(run, models) -> None:
    (found,) = json.loads(run("classify", models["labels"], "a cat", "--json", *CPU).out)
    assert {one["name"] for one in found["labels"]} == {"good", "坏"}
