"""Vectors of texts: equal to the plain formula, whatever else is in the batch, and made as the model's files say."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from encoders import NO_HEAD, bert, save_encoder, say_how, trained_here, wordpiece

from pellucid.api import load
from pellucid.engine import text_rows
from pellucid.engine.embed import Embedding, cosines, settle_embedding, vectors_of
from pellucid.errors import ContextError, CorruptFileError, ModelError, PellucidError, RequestError, SettingsError
from pellucid.events import MemoryRecorder
from pellucid.model.build import build
from pellucid.model.context import Context
from pellucid.planning.config import EncoderConfig, ModelConfig
from pellucid.planning.parts.position import Sinusoidal
from pellucid.store.checkpoint import load_checkpoint
from pellucid.store.sentence_files import read_sentence_files
from pellucid.tokens.framing import Frame

TEXTS = ["the cat sat", "a dog ran in the box. the cat", "the", "猫坐着", "the cat sat on the mat"]


@pytest.fixture
def encoder(tmp_path):
    tokenizer = wordpiece()
    return save_encoder(tmp_path / "bert", bert(tokenizer, head=NO_HEAD), tokenizer)


def plain_vector(lm, text: str, pooling: str, *, normalise: bool) -> np.ndarray:
    """The formula, one text at a time, from the model's own vectors."""
    specials, ids = lm.tokenizer.specials, lm.tokenizer.encode(text).ids
    row = torch.tensor([[specials["[CLS]"], *ids, specials["[SEP]"]]])
    x_TD = lm.model.hidden(row, Context())[0]
    vector_D = {"mean": x_TD.sum(0) / len(x_TD), "first": x_TD[0], "last": x_TD[-1]}[pooling]
    return (vector_D / vector_D.square().sum().sqrt() if normalise else vector_D).detach().numpy()


@pytest.mark.parametrize("pooling", ["mean", "first", "last"])
@pytest.mark.parametrize("normalise", [False, True])
def test_vectors_are_those_of_the_formula(encoder, pooling, normalise) -> None:
    lm = load(encoder, device="cpu")
    found = lm.embed(TEXTS, pooling=pooling, normalise=normalise)
    wanted = [plain_vector(lm, text, pooling, normalise=normalise) for text in TEXTS]
    np.testing.assert_allclose(found.vectors, np.stack(wanted), rtol=1e-5, atol=1e-5)
    assert found.vectors.dtype == np.float32 and found.how.said_by == "asked"


def test_batches_change_nothing_and_every_text_keeps_its_place(encoder, monkeypatch) -> None:
    lm = load(encoder, device="cpu")
    how = settle_embedding(lm.checkpoint, None, None)
    frame = lm.checkpoint.frame(lm.tokenizer)
    rows = [frame.around(lm.tokenizer.encode(text).ids) for text in TEXTS * 3]
    alone = text_rows.read_alone(rows, vectors_of(lm.model, how), lm.model.device)
    shapes: list[tuple[int, int]] = []
    lm.model.embed.register_forward_hook(lambda module, given, found: shapes.append(tuple(given[0].shape)))
    for enough, most in ((1, 8192), (10_000, 8192), (10_000, 1)):
        monkeypatch.setattr(text_rows, "ENOUGH", {"cpu": enough})
        monkeypatch.setattr(text_rows, "MOST_TOKENS", most)
        shapes.clear()
        np.testing.assert_allclose(lm.embed(TEXTS * 3).vectors, alone, rtol=1e-5, atol=1e-5)
        padded = sum(height * width for height, width in shapes) > sum(map(len, rows))
        assert padded == (enough > 1 and most > 1) and (len(shapes) == len(rows)) == (most == 1)


@pytest.mark.parametrize("normalise", [True, False])
@pytest.mark.parametrize("pooling", ["mean", "cls", "lasttoken"])
def test_a_converted_model_embeds_as_before(encoder, tmp_path, pooling, normalise) -> None:
    say_how(encoder, pooling={"pooling_mode": pooling}, normalise=normalise, max_seq_length=7)
    prompts = {"prompts": {"query": "a dog "}, "default_prompt_name": "query"}
    (encoder / "config_sentence_transformers.json").write_text(json.dumps(prompts))
    lm = load(encoder, device="cpu")
    lm.save(tmp_path / "again")
    again, texts = load(tmp_path / "again", device="cpu"), [*TEXTS, "the cat sat on the mat and the dog ran in the box"]
    found, wanted = again.embed(texts, cut=True), lm.embed(texts, cut=True)
    np.testing.assert_array_equal(found.vectors, wanted.vectors)
    assert found.how == wanted.how and found.num_cut == wanted.num_cut > 0
    events = MemoryRecorder()
    lm.save(tmp_path / "again.gguf", recorder=events)
    [lost] = [event for event in events.events if event.name == "store.sentence_files_lost"]
    assert lost.data["lost"] == [*(["Normalize"] if normalise else []), "max_seq_length", "prompts"]
    from_file = load(tmp_path / "again.gguf", device="cpu")
    from_file.save(tmp_path / "back")
    np.testing.assert_array_equal(
        load(tmp_path / "back", device="cpu").embed(TEXTS).vectors, from_file.embed(TEXTS).vectors
    )


def test_the_files_beside_a_model_say_how(encoder) -> None:
    lm = load(encoder, device="cpu")
    usual = lm.embed(TEXTS)
    assert (usual.how.pooling, usual.how.normalise, usual.how.said_by) == ("mean", False, "usual")
    say_how(encoder, pooling={"pooling_mode": "cls"}, max_seq_length=7)
    found = lm.embed(TEXTS[:1])
    assert (found.how.pooling, found.how.normalise, found.how.max_tokens, found.how.said_by) == (
        "first",
        True,
        7,
        "files",
    )
    np.testing.assert_allclose(
        found.vectors[0], plain_vector(lm, TEXTS[0], "first", normalise=True), rtol=1e-5, atol=1e-5
    )
    asked = lm.embed(TEXTS[:1], pooling="mean", normalise=False)
    np.testing.assert_allclose(
        asked.vectors[0], plain_vector(lm, TEXTS[0], "mean", normalise=False), rtol=1e-5, atol=1e-5
    )


def test_a_prompt_and_lower_case_are_those_of_the_files(encoder) -> None:
    say_how(encoder, do_lower_case=True)
    told = {"prompts": {"query": "a ", "other": ""}, "default_prompt_name": "query"}
    (encoder / "config_sentence_transformers.json").write_text(json.dumps(told))
    lm = load(encoder, device="cpu")
    found = lm.embed(["CAT"]).vectors[0]
    np.testing.assert_allclose(found, plain_vector(lm, "a cat", "mean", normalise=True), rtol=1e-5, atol=1e-5)


def test_a_text_too_long_is_an_error_or_cut_and_counted(encoder) -> None:
    say_how(encoder, max_seq_length=6)
    lm = load(encoder, device="cpu")
    with pytest.raises(
        ContextError, match=r"longer than the model reads\n  found: \d+ tokens in text 2; 2 such in all"
    ):
        lm.embed(TEXTS)
    found = lm.embed(TEXTS, cut=True)
    assert found.num_cut == 2 and max(found.num_tokens) == 6
    ids = lm.tokenizer.encode(TEXTS[1]).ids[:4]
    assert lm.tokenizer.decode(ids).strip() in TEXTS[1]
    alone = plain_vector(lm, lm.tokenizer.decode(ids).strip(), "mean", normalise=True)
    np.testing.assert_allclose(found.vectors[1], alone, rtol=1e-5, atol=1e-5)


def test_a_decoder_says_how_or_is_asked(tmp_path) -> None:
    tokenizer = wordpiece()
    config = ModelConfig(
        vocab_size=tokenizer.vocab_size,
        context_length=24,
        n_layers=1,
        n_heads=2,
        n_kv_heads=1,
        head_dim=8,
        d_model=16,
        d_ff=24,
    )
    lm = load(save_encoder(tmp_path / "gpt", config, tokenizer), device="cpu")
    with pytest.raises(SettingsError, match=r"a decoder has no usual way(.|\n)*--pooling mean"):
        lm.embed(TEXTS)
    x_TD = lm.model.hidden(torch.tensor([lm.tokenizer.encode_prompt(TEXTS[0])]), Context())[0].detach()
    np.testing.assert_allclose(lm.embed(TEXTS, pooling="last").vectors[0], x_TD[-1], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(lm.embed(TEXTS, pooling="mean").vectors[0], x_TD.mean(0), rtol=1e-5, atol=1e-5)
    both = config.revise(encoder=EncoderConfig(n_layers=1), position=Sinusoidal())
    pair = load(save_encoder(tmp_path / "t5", both, tokenizer), device="cpu")
    with pytest.raises(RequestError, match="this model reads two texts"):
        pair.embed(TEXTS, pooling="mean")


def test_an_encoder_trained_here_reads_a_text_as_it_did_then(tmp_path) -> None:
    """The objective in its notes decides: documents stood between <bos> and <eos>, pairs between [CLS] and [SEP]."""
    tokenizer = trained_here()
    around = {"masked": ("<bos>", "<eos>"), "next_sentence": ("[CLS]", "[SEP]")}
    for kind, names in around.items():
        made = save_encoder(tmp_path / kind, bert(tokenizer), tokenizer, objective={"kind": kind})
        found = load_checkpoint(made).frame(tokenizer)
        assert found == Frame(*((tokenizer.specials[name],) for name in names))


@pytest.mark.parametrize(("texts", "match"), [
    ("one text", "a list of texts is wanted"), ([], "there is no text to read"), ([1], "number 1 of the list is no text"),
])  # fmt: skip
def test_what_is_no_list_of_texts_is_told(encoder, texts, match) -> None:
    with pytest.raises(RequestError, match=match):
        load(encoder, device="cpu").embed(texts)


@pytest.mark.parametrize(("name", "content", "error", "match"), [
    ("modules.json", "{}", CorruptFileError, "does not hold a list of steps"),
    ("modules.json", "[", CorruptFileError, "cannot read modules.json"),
    ("modules.json", "[1]", CorruptFileError, "not a JSON object"),
    ("modules.json", '[{"type": "a.Transformer", "path": ""}]', ModelError, "steps that are not known"),
    ("modules.json", '[{"type":"Transformer"},{"type":"Pooling","path":"../x"}]', ModelError, "no folder beside it"),
    ("1_Pooling/config.json", '{"pooling_mode": ["mean", "cls"]}', ModelError, r"pooling is not known here\n  found: mean, cls"),
    ("1_Pooling/config.json", '{"pooling_mode_max_tokens": true}', ModelError, "found: pooling_mode_max_tokens"),
    ("1_Pooling/config.json", '{"pooling_mode_mean_tokens": 1}', CorruptFileError, "not true or false"),
    ("1_Pooling/config.json", "{}", ModelError, "found: none"),
    ("sentence_bert_config.json", '{"max_seq_length": -3}', CorruptFileError, "max_seq_length cannot be used"),
    ("config_sentence_transformers.json", '{"default_prompt_name": "q"}', CorruptFileError, "lacks q"),
])  # fmt: skip
def test_files_that_ask_for_something_else_are_refused(encoder, name, content, error, match) -> None:
    say_how(encoder)
    (encoder / name).write_text(content)
    with pytest.raises(error, match=match):
        load(encoder, device="cpu").embed(TEXTS)


def test_a_dense_step_would_give_another_vector(encoder) -> None:
    say_how(encoder)
    steps = json.loads((encoder / "modules.json").read_text())
    steps.insert(2, {"type": "sentence_transformers.models.Dense", "path": "2_Dense"})
    (encoder / "modules.json").write_text(json.dumps(steps))
    with pytest.raises(ModelError, match="found: Transformer, Pooling, Dense, Normalize"):
        read_sentence_files(encoder)


def test_a_thousand_damaged_files_give_errors_or_what_they_say(encoder) -> None:
    say_how(encoder, max_seq_length=9)
    files = [encoder / name for name in ("modules.json", "1_Pooling/config.json", "sentence_bert_config.json")]
    whole = {path: path.read_bytes() for path in files}
    generator = np.random.default_rng(4)
    refused = 0
    for number in range(1000):
        path = files[number % 3]
        data = bytearray(whole[path])
        for place in generator.integers(0, len(data), 2):
            data[place] = generator.integers(0, 256)
        path.write_bytes(data[: generator.integers(1, len(data) + 1)] if number % 2 else data)
        try:
            found = read_sentence_files(encoder)
            assert found is not None and found.pooling in ("mean", "first", "last")
        except PellucidError:
            refused += 1
        path.write_bytes(whole[path])
    assert refused > 500


def test_likeness_is_the_cosine_of_the_angle() -> None:
    x_ND = np.array([[3.0, 0.0], [1.0, 1.0], [-2.0, 0.0], [0.0, 0.0]], np.float32)
    np.testing.assert_allclose(cosines(x_ND, np.array([5.0, 0.0], np.float32)), [1, 0.5**0.5, -1, 0], atol=1e-7)


def test_the_mean_never_sees_padding_or_what_stands_there() -> None:
    config = bert(wordpiece(), head=NO_HEAD)
    model = build(config, seed=3).eval()
    how = Embedding(pooling="mean", normalise=False, max_tokens=config.context_length, said_by="asked")
    read = vectors_of(model, how)
    one = read(torch.tensor([[5, 6, 7, 0], [8, 9, 10, 11]]), [3, 4])
    two = read(torch.tensor([[5, 6, 7, 12], [8, 9, 10, 11]]), [3, 4])
    assert torch.equal(one, two)
