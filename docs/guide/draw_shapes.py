"""Draws the models of the guide to shapes, in both languages, and writes their figures into its pages.

    python docs/guide/draw_shapes.py

Pictures and figures come from the presets alone, as `pellucid plan NAME --draw` and `pellucid plan NAME` print them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from math import prod
from pathlib import Path

from pellucid.cli.flow_text import write_flow
from pellucid.drawing.flow import FlowChart, retold
from pellucid.drawing.flow_picture import draw_flow
from pellucid.planning.config import ModelConfig
from pellucid.planning.diagram import draw_diagram
from pellucid.planning.params import parameter_shapes
from pellucid.planning.presets import preset
from pellucid.planning.report import describe_bytes, plan
from pellucid.planning.scaling import from_depth
from pellucid.words.catalogue import Language, say
from pellucid.words.wrapping import wrap

FOLDER = Path(__file__).parent
PAGES: dict[Language, Path] = {"en": FOLDER / "shapes.md", "zh": FOLDER / "shapes.zh-CN.md"}
PICTURES = FOLDER / "images" / "shapes"
FIGURES = re.compile(r"(<!-- figures: .*? -->).*(<!-- end of figures -->)", re.DOTALL)
PRINTED = re.compile(r"(\$ pellucid plan tiny-gpt2 --draw[^\n]*\n).*?(```)", re.DOTALL)
DIAL = "depth-4"  # `pellucid plan --depth 4`
MODELS = (
    DIAL, "gpt2", "llama3-8b", "mistral-7b", "qwen3-0.6b", "smollm3-3b", "gemma2-2b", "gemma3-270m", "mixtral-8x7b",
    "qwen3-30b-a3b", "bert-base", "roberta-base", "modernbert-base", "xlnet-base", "transformer-base", "t5-small",
)  # fmt: skip
PARTS = tuple(
    map(
        re.compile,
        (r"^(embed|position|segment|transform|head|question)\b", r"\.(attention|cross)\.|relative\.", r"\.mlp\."),
    )
)  # of the names of tensors: the two ends, attention, feed-forward; what is left are norms
HEADINGS: dict[Language, tuple[str, ...]] = {
    "en": (
        "model",
        "parameters",
        "embedding, head",
        "attention",
        "feed-forward",
        "FLOPs per token",
        "to use",
        "to train",
    ),
    "zh": ("模型", "参数", "嵌入与输出头", "注意力", "前馈网络", "每词元浮点运算", "使用所需内存", "训练所需内存"),
}


def main() -> None:
    """Draw every picture and renew the figures of both pages."""
    for language, page in PAGES.items():
        for name in MODELS:
            flow = told(name, language)
            draw_flow(flow, fold=wrap, path_without_suffix=PICTURES / f"{name}-{language}")[1].unlink()  # the PNG
        text = page.read_text(encoding="utf-8")
        for pattern, made in ((FIGURES, f"\n\n{figures(language)}\n\n"), (PRINTED, printed(language))):
            text = pattern.sub(lambda found, made=made: found[1] + made + found[2], text)
        page.write_text(text, encoding="utf-8")


def printed(language: Language) -> str:
    """The drawing of the pages that a terminal shows."""
    return "".join(f"{line}\n" for line in write_flow(told("tiny-gpt2", language), 80))


def told(name: str, language: Language) -> FlowChart:
    """The drawing of a model in a language."""
    return retold(draw_diagram(*shape(name)), lambda text: say(language, "screen", text))


def shape(name: str) -> tuple[ModelConfig, str]:
    """A model of the guide, and what its drawing calls it."""
    return (from_depth(4, vocab_size=8192).config, "depth 4") if name == DIAL else (preset(name), name)


def figures(language: Language) -> str:
    """The table of figures: parameters by part, and what they cost."""
    heads = HEADINGS[language]
    rows = [heads, ["---", *["---:"] * (len(heads) - 1)], *(cells(name) for name in MODELS)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def cells(name: str) -> Iterator[str]:
    """A row under HEADINGS."""
    drawn = plan(shape(name)[0], name=name)
    yield f"`{name}`"
    yield f"{drawn.parameters.total:,}"
    sizes = {key: prod(axes) for key, axes in parameter_shapes(drawn.config).items()}
    for part in PARTS:
        yield f"{sum(size for key, size in sizes.items() if part.search(key)) / drawn.parameters.total:.0%}"
    yield f"{drawn.flops.total:,}"
    yield describe_bytes(drawn.inference.total)
    yield describe_bytes(drawn.training.total)


if __name__ == "__main__":
    main()
