"""The text panel for every kind of tokenizer: the steps that `tokens.explain` tells, as a person reads them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from scrambled import scrambled
from tokenizer_documents import load, unigram, wordpiece, words

from pellucid.planning.config import ModelConfig
from pellucid.store.run import Run
from pellucid.tokens.explain import explain
from pellucid.tokens.tokenizer import Tokenizer
from pellucid.tokens.train import train_characters

CONFIG = ModelConfig(
    vocab_size=9, context_length=48, n_layers=1, n_heads=2, n_kv_heads=1, head_dim=4, d_model=8, d_ff=12
)


@pytest.fixture
def panel_on(tmp_path: Path, serving, page) -> Callable:
    """Open the page on a text under a tokenizer, and select a token of the row: the text panel."""
    opened = []

    def open_panel(tokenizer: Tokenizer, text: str, token: int, language: str = "en"):
        run = Run.create(tmp_path / "runs" / str(len(opened)), {})
        model = scrambled(CONFIG.revise(vocab_size=tokenizer.vocab_size))
        weights = {name: parameter.detach() for name, parameter in model.named_parameters()}
        run.save(1, config=model.config, weights=weights, tokenizer=tokenizer, info={})
        opened.append(serving(run.path, text))
        page.goto(f"{opened[-1].__enter__().url}#language={language}&token={token}")
        panel = page.locator("[data-panel=text]")
        panel.scroll_into_view_if_needed()
        panel.locator("article").last.wait_for()
        return panel

    yield open_panel
    for one in opened:
        one.__exit__(None, None, None)


def test_wordpiece_shows_each_longest_match_and_what_was_tried(panel_on) -> None:
    panel = panel_on(load(wordpiece()), "Unhappiness unhappy", 2)
    matches = panel.locator("ol li", has_text="longest that fits")
    assert matches.locator("b").all_inner_texts() == ["un", "##happi", "##ness"]
    assert matches.nth(1).locator(".longer").all_inner_texts() == ["##happiness", "##happines", "##happine", "##happin"]
    assert "9 longer ones were tried first" in matches.nth(0).inner_text() and "1 more" in matches.nth(0).inner_text()
    panel.locator(".figure button", has_text="[UNK]").click()
    panel.get_by_text("Nothing fits here, so the whole word becomes [UNK].").wait_for()
    assert panel.locator(".whole").inner_text() == "unhappy"
    assert "the tokens put together are not the text" in panel.locator(".summary").inner_text()


def test_unigram_shows_the_lattice_the_best_way_and_the_second(panel_on, page) -> None:
    tokenizer, text = load(unigram()), "the 中"
    panel = panel_on(tokenizer, text, 0)
    how = explain(tokenizer, text)[0].how
    boxes = panel.locator(".box")
    assert boxes.count() == len(how.fitting) == 5
    shown = boxes.evaluate_all("all => all.map(box => box.innerText.split(/\\s+/).join(' ') + ' ' + box.classList[1])")
    assert {text.replace("−", "-") for text in shown} == {
        "· -2.00 second", "·the -1.00 best", "t -4.00 second", "h -4.00 second", "e -4.00 second",
    }  # fmt: skip
    ways = [way.locator("span").all_inner_texts() for way in panel.locator("dl .way").all()]
    assert ways == [["·the"], ["·", "t", "h", "e"]]
    assert panel.locator("dl .sum").all_inner_texts() == ["−1.000", "−14.00"]
    page.set_viewport_size({"width": 360, "height": 740})
    assert page.evaluate("document.documentElement.scrollWidth") == 360


@pytest.mark.parametrize(
    ("tokenizer", "text", "token", "language", "said"),
    [
        (lambda: load(words()), "the dog", 2, "en", "This piece is not in the vocabulary. It becomes <unk>"),
        (lambda: load(words()), "the dog", 1, "zh", "这个片段是词表里的一个词"),
        (lambda: train_characters(["the"]), "te中", 1, "en", "each is a token of its own"),
        (lambda: train_characters(["the"]), "te中", 3, "zh", "这个字符不在词表里，由它各个字节的词元代替"),
    ],
)
def test_words_and_characters_say_what_became_of_them(panel_on, tokenizer, text, token, language, said) -> None:
    panel_on(tokenizer(), text, token, language).get_by_text(said).wait_for()


def test_a_token_of_the_vocabulary_is_told_by_itself(panel_on) -> None:
    panel = panel_on(load(unigram()), "the", 0)
    panel.locator("summary", has_text="The whole vocabulary").click()
    panel.get_by_role("option").filter(has_text="中").click()
    panel.get_by_role("heading", name="The ways to cut it").wait_for()
    assert panel.get_by_role("heading", name="How its piece was cut").count() == 0
    panel.get_by_text("There is no other way to cut it.").wait_for()
