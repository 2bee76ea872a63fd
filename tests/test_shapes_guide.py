"""The guide to shapes shows what the program draws and reckons: its pictures, its drawing in a terminal, its figures."""

from __future__ import annotations

import re
import runpy
from pathlib import Path
from xml.etree import ElementTree

import pytest
from command import call, undone

from pellucid.drawing.flow_picture import paper_of, place
from pellucid.planning.params import count_parameters
from pellucid.planning.presets import preset
from pellucid.words.wrapping import wrap

GUIDE = Path(__file__).parents[1] / "docs" / "guide"
SCRIPT = runpy.run_path(str(GUIDE / "draw_shapes.py"))
LANGUAGES = ("en", "zh")


def page(language: str) -> str:
    return SCRIPT["PAGES"][language].read_text(encoding="utf-8")


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("name", SCRIPT["MODELS"])
def test_a_picture_says_what_the_program_draws(name: str, language: str) -> None:
    """The words of each line, in their order: what the letters look like depends on the fonts of a computer."""
    picture = ElementTree.parse(SCRIPT["PICTURES"] / f"{name}-{language}.svg")
    said = ["".join(text.itertext()) for text in picture.iter("{http://www.w3.org/2000/svg}text")]
    flow = SCRIPT["told"](name, language)
    assert said == [*place(flow, fold=wrap, paper=paper_of(flow)).words]


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_picture_is_on_the_page_and_no_other(language: str) -> None:
    shown = re.findall(r"\]\(images/shapes/([\w.-]+)\)", page(language))
    assert shown and sorted(shown) == sorted(f"{name}-{language}.svg" for name in SCRIPT["MODELS"])
    assert {f"{name}-{one}.svg" for name in SCRIPT["MODELS"] for one in LANGUAGES} == {
        path.name for path in SCRIPT["PICTURES"].iterdir()
    }


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_drawing_in_a_terminal_is_what_is_printed(language: str, monkeypatch: pytest.MonkeyPatch) -> None:
    [(command, drawn)] = re.findall(r"```\n\$ pellucid (plan [^\n]*--draw[^\n]*)\n(.*?)```", page(language), re.DOTALL)
    monkeypatch.setenv("COLUMNS", "80")
    with undone():
        assert call(*command.split()).out == drawn


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_figures_are_those_of_the_plan(language: str) -> None:
    assert f"\n\n{SCRIPT['figures'](language)}\n\n<!-- end of figures -->" in page(language)
    ratio = count_parameters(preset("mixtral-8x7b")).total / count_parameters(preset("mistral-7b")).total
    assert f"{ratio:.1f}" == "6.4" and "6.4" in page(language)


def test_the_figures_of_gpt2_are_as_published() -> None:
    gpt2 = [*SCRIPT["cells"]("gpt2")]
    # 50,257 + 1,024 rows of 768; 12 blocks of 4 matrices of 768 x 768, and of 2 of 768 x 3,072, with their biases
    assert gpt2[:5] == ["`gpt2`", "124,439,808", "32%", "23%", "46%"]


def test_norms_are_less_than_half_a_percent() -> None:
    """As the page says of what its columns leave out."""
    for name in SCRIPT["MODELS"]:
        config, _ = SCRIPT["shape"](name)
        sizes = SCRIPT["parameter_shapes"](config)
        left = {key: axes for key, axes in sizes.items() if not any(part.search(key) for part in SCRIPT["PARTS"])}
        assert all("norm" in key for key in left), name
        assert sum(SCRIPT["prod"](axes) for axes in left.values()) < 0.005 * count_parameters(config).total, name
        assert all(sum(bool(part.search(key)) for part in SCRIPT["PARTS"]) <= 1 for key in sizes), name
