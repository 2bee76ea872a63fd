"""Encoders in a GGUF file: BERT's blocks and what stands around a text, RoBERTa's positions, how vectors are pooled."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tokenizers
import torch
from encoders import HEAD, NO_HEAD, bert, save_encoder, say_how, wordpiece
from gguf_files import config_of, rewritten, written

from pellucid.engine.embed import embed_texts, settle_embedding
from pellucid.errors import CorruptFileError, ModelError, SettingsError, TokenizerError, WeightsError
from pellucid.events import MemoryRecorder
from pellucid.planning.config import ModelConfig
from pellucid.planning.parts.pooler import PoolerConfig
from pellucid.planning.parts.position import Learned
from pellucid.store.checkpoint import Checkpoint, load_checkpoint, load_model
from pellucid.store.convert import convert, without_heads
from pellucid.store.gguf import load_gguf
from pellucid.store.gguf_header import read_header
from pellucid.tokens.framing import Frame, frame_of_file, with_frame
from pellucid.tokens.train import train_bpe, train_wordpiece

TOKENIZER = wordpiece()
TEXTS = ["the cat sat", "a dog ran in the box.", "猫坐着。"]


@pytest.fixture(scope="module")
def minilm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory as sentence-transformers' are: vectors, with a layer over the first token's that nobody reads."""
    directory = tmp_path_factory.mktemp("minilm") / "model"
    save_encoder(directory, bert(TOKENIZER, head=NO_HEAD, pooler=PoolerConfig()), TOKENIZER)
    say_how(directory)
    return directory


@pytest.fixture(scope="module")
def file(minilm: Path) -> Path:
    path = minilm.parent / "m.gguf"
    convert(load_checkpoint(minilm), path, to="gguf", number_format="f32")
    return path


def vectors(checkpoint: Checkpoint) -> torch.Tensor:
    model, how = load_model(checkpoint).eval(), settle_embedding(checkpoint, None, None)
    assert checkpoint.tokenizer is not None
    return torch.from_numpy(embed_texts(model, checkpoint.tokenizer, checkpoint, TEXTS, how).vectors)


def test_the_file_gives_the_directorys_vectors(minilm: Path, file: Path) -> None:
    read = load_gguf(file)
    assert read.pooling == "mean" and settle_embedding(read, None, None).said_by == "files"
    assert read.tokenizer is not None and frame_of_file(read.tokenizer) == frame_of_file(TOKENIZER)
    assert frame_of_file(TOKENIZER).around([9]) == [2, 9, 3]
    plain = vectors(load_checkpoint(minilm))
    lengths = vectors(read).norm(dim=-1, keepdim=True)  # such a file does not say that vectors have length 1
    torch.testing.assert_close(vectors(read) / lengths, plain, rtol=0, atol=1e-6)


def test_the_keys_and_tensors_are_llama_cpps(file: Path) -> None:
    header = read_header(file)
    expected = {
        "general.architecture": "bert", "bert.attention.causal": False, "bert.pooling_type": 1, "bert.context_length": 24,
        "bert.attention.layer_norm_epsilon": 1e-12, "tokenizer.ggml.token_type_count": 2, "tokenizer.ggml.model": "bert",
        "tokenizer.ggml.bos_token_id": 2, "tokenizer.ggml.cls_token_id": 2, "tokenizer.ggml.seperator_token_id": 3,
    }  # fmt: skip
    assert {key: header.values[key] for key in expected} == expected
    parts = ("attn_q", "attn_k", "attn_v", "attn_output", "attn_output_norm", "ffn_up", "ffn_down", "layer_output_norm")
    names = {f"blk.{i}.{part}.{kind}" for i in (0, 1) for part in parts for kind in ("weight", "bias")}
    names |= {"token_embd.weight", "position_embd.weight", "token_types.weight"}
    assert header.tensors.keys() == names | {"token_embd_norm.weight", "token_embd_norm.bias"}


def test_the_idle_layer_is_left_out_with_a_word(minilm: Path, tmp_path: Path) -> None:
    recorder = MemoryRecorder()
    convert(load_checkpoint(minilm), tmp_path / "m.gguf", to="gguf", number_format="f16", recorder=recorder)
    assert [event.name for event in recorder.events if event.level == "warning"] == [
        "store.sentence_files_lost",
        "store.gguf_pooler_lost",
    ]


def test_scores_of_tokens_have_no_place_there(tmp_path: Path) -> None:
    save_encoder(tmp_path / "model", bert(TOKENIZER, head=HEAD), TOKENIZER)
    whole, recorder = load_checkpoint(tmp_path / "model"), MemoryRecorder()
    with pytest.raises(ModelError, match="no GGUF architecture computes") as caught:
        convert(whole, tmp_path / "m.gguf", to="gguf", number_format="f32")
    assert caught.value.hint.endswith("or write its vectors alone (--without-heads)")
    convert(without_heads(whole, recorder), tmp_path / "m.gguf", to="gguf", number_format="f32")
    torch.testing.assert_close(vectors(load_gguf(tmp_path / "m.gguf")), vectors(whole), rtol=0, atol=0)
    (event,) = recorder.events
    assert event.data["lost"] == [
        "head.bias",
        *(f"transform.{part}" for part in ("dense.bias", "dense.weight", "norm.bias", "norm.weight")),
    ]


@pytest.mark.parametrize("kind", ["masked", "next_sentence"])
@pytest.mark.parametrize("train", [train_wordpiece, train_bpe])
def test_an_encoder_that_was_trained_here_has_its_own_marks_around_a_text_everywhere(
    tmp_path: Path, train, kind
) -> None:
    tokenizer = train([" ".join(TEXTS) * 20], 300, specials="none")
    around = {"masked": ("<bos>", "<eos>"), "next_sentence": ("[CLS]", "[SEP]")}[kind]
    if around[0] not in tokenizer.specials:
        tokenizer = tokenizer.with_tokens(["[CLS]", "[SEP]"], roles={"[CLS]": "cls", "[SEP]": "sep"})
    save_encoder(tmp_path / "run", bert(tokenizer, head=NO_HEAD), tokenizer, objective={"kind": kind})
    run = load_checkpoint(tmp_path / "run")
    convert(run, tmp_path / "m.gguf", to="gguf", number_format="f32")
    torch.testing.assert_close(vectors(load_gguf(tmp_path / "m.gguf")), vectors(run), rtol=0, atol=0)
    convert(load_gguf(tmp_path / "m.gguf"), tmp_path / "back", to="hf", number_format="f32")
    torch.testing.assert_close(vectors(load_checkpoint(tmp_path / "back")), vectors(run), rtol=0, atol=0)
    for place in ("run", "back"):  # and for whoever else reads the directory
        read = tokenizers.Tokenizer.from_file(str(tmp_path / place / "tokenizer.json")).encode(TEXTS[0]).ids
        assert [read[0], read[-1]] == [tokenizer.specials[name] for name in around]


def test_a_wordpiece_that_learned_without_marks_is_refused(tmp_path: Path) -> None:
    """A BERT from elsewhere that went on learning here: its tokenizer has no <bos> and no <eos> to put around a text."""
    directory = save_encoder(tmp_path / "model", bert(TOKENIZER, head=NO_HEAD), TOKENIZER, objective={"kind": "masked"})
    with pytest.raises(TokenizerError, match="has learned without"):
        convert(load_checkpoint(directory), tmp_path / "m.gguf", to="gguf", number_format="f32")


def test_without_its_head_is_advised_only_where_that_helps(tmp_path: Path) -> None:
    """What fills masks with the embedding's own weights, by blocks that no GGUF encoder has."""
    config = ModelConfig(
        vocab_size=TOKENIZER.vocab_size,
        n_layers=1,
        n_heads=1,
        n_kv_heads=1,
        head_dim=8,
        d_model=8,
        d_ff=8,
        causal=False,
    )
    whole, recorder = load_checkpoint(save_encoder(tmp_path / "model", config, TOKENIZER)), MemoryRecorder()
    with pytest.raises(ModelError) as caught:
        convert(whole, tmp_path / "m.gguf", to="gguf", number_format="f32")
    assert caught.value.hint == "keep it as a directory (--to hf)"
    assert not without_heads(whole, recorder).config.head.tokens
    assert recorder.events[0].message == "left out: the scores of tokens, whose weights are the embedding's"


def test_two_marks_before_a_text_have_no_place_there(tmp_path: Path) -> None:
    two = with_frame(TOKENIZER, Frame((2, 3), (3,)))
    directory = save_encoder(tmp_path / "model", bert(TOKENIZER, head=NO_HEAD), two)
    with pytest.raises(TokenizerError, match="one token before a text and one behind it"):
        convert(load_checkpoint(directory), tmp_path / "m.gguf", to="gguf", number_format="f32")


def test_a_model_that_writes_needs_its_head(tmp_path: Path) -> None:
    config = ModelConfig(
        vocab_size=TOKENIZER.vocab_size, n_layers=1, n_heads=1, n_kv_heads=1, head_dim=8, d_model=8, d_ff=8
    )
    directory = save_encoder(tmp_path / "model", config, TOKENIZER)
    with pytest.raises(SettingsError, match="only an encoder is of use without its heads"):
        without_heads(load_checkpoint(directory))


def test_robertas_positions_begin_at_the_first_row(tmp_path: Path) -> None:
    config = bert(TOKENIZER, head=NO_HEAD).revise(position=Learned(first=2))
    directory = save_encoder(tmp_path / "model", config, TOKENIZER)
    plain = load_checkpoint(directory)
    convert(plain, tmp_path / "m.gguf", to="gguf", number_format="f32")
    read = load_gguf(tmp_path / "m.gguf")
    assert read.config.position == Learned(first=0) and read.config.context_length == config.context_length
    assert torch.equal(read.weights["position.weight"], plain.weights["position.weight"][2:])
    torch.testing.assert_close(vectors(read), vectors(plain), rtol=0, atol=0)


def test_without_a_word_about_pooling_it_is_the_habit_of_encoders(file: Path, tmp_path: Path) -> None:
    for name, changes in {"none": {"bert__pooling_type": 0}, "absent": {"drop": "bert.pooling_type"}}.items():
        read = load_gguf(rewritten(file, tmp_path / f"{name}.gguf", **changes))
        assert read.pooling is None and settle_embedding(read, None, None).said_by == "usual"
    last = load_gguf(rewritten(file, tmp_path / "last.gguf", bert__pooling_type=3))
    assert settle_embedding(last, None, None).pooling == "last"


def test_a_decoder_may_say_how_its_vectors_are_pooled(tmp_path: Path) -> None:
    written(tmp_path / "plain.gguf", config_of("qwen3"))
    read = load_gguf(rewritten(tmp_path / "plain.gguf", tmp_path / "m.gguf", qwen3__pooling_type=3))
    assert settle_embedding(read, None, None).pooling == "last"


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"bert__attention__causal": True}, ModelError, "bert.attention.causal=True"),
        ({"drop": "bert.attention.causal"}, CorruptFileError, "lacks bert.attention.causal"),
        ({"bert__pooling_type": 4}, ModelError, "bert.pooling_type=4"),
        ({"bert__pooling_type": True}, ModelError, "bert.pooling_type=True"),
        ({"drop": "token_embd_norm.bias"}, WeightsError, "missing: token_embd_norm.bias"),
        ({"drop": "position_embd.weight"}, WeightsError, "missing: position_embd.weight"),
        ({"bert__context_length": 23}, WeightsError, "position_embd.weight is (24, 16) instead of (23, 16)"),
    ],
)  # fmt: skip
def test_files_of_other_models_are_refused(
    file: Path, tmp_path: Path, changes: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error) as refused:
        load_gguf(rewritten(file, tmp_path / "changed.gguf", **changes))
    assert message in str(refused.value)


def test_without_segments_nothing_is_added(file: Path, tmp_path: Path) -> None:
    assert load_gguf(rewritten(file, tmp_path / "m.gguf", drop="token_types.weight")).config.embedding.segments == 0
