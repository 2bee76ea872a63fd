"""What looking costs: a recording beside a plain pass, the page in a real browser, probes beside training.

    python benchmarks/lens.py [--only recording,prompt,page,slider,step,probes] [--rounds 5] [--threads 2]

| part | promise |
| --- | --- |
| recording | attention, stream and feed-forward of 256 tokens recorded in under twice a plain pass, at 10M and 134M |
| prompt | a text of 1,024 tokens is open, with one layer's attention, in under 2 seconds, at 10M and 134M |
| page | the page can be used within 1 second of its address being entered (10M) |
| slider | from a slider's movement to new columns: under 16 ms with 50,000 tokens |
| step | a generated token on the page at 134M: under 0.3 seconds beyond the model's own time for the token |
| probes | probes while training: under 2 % of the run |

Weights are random, because speed does not depend on them. The page runs in Debian's Chromium through Playwright. Where
one of the two is missing, the parts that need them are skipped and reported.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch

import pellucid
from contest import Floor, invented_tokenizer, llama
from pellucid.engine.bench import random_ids
from pellucid.events import MemoryRecorder
from pellucid.lens.dispatch import Dispatch, open_lens
from pellucid.lens.record import Recording
from pellucid.model.build import build
from pellucid.model.decoder import Decoder
from pellucid.model.device import inference
from pellucid.store.checkpoint import save_checkpoint
from pellucid.store.directory import is_checkpoint

SHAPES = {
    "10m": llama(6, 6, 384, 1024, vocab_size=1024),
    "134m": llama(12, 12, 768, 2048, vocab_size=32_000),
    "50k": llama(2, 2, 64, 176, vocab_size=50_000),
}
LETTERS = "the quick brown fox jumps over the lazy dog and runs home again "
BROWSER = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)
MOVES = 40  # of the slider
STORY = "A cat sat by the door and looked at the rain. 一只猫坐在门口，看着雨。\n"


def model_of(shape: str, files: Path) -> Path:
    """A checkpoint of this shape with random weights, written if missing."""
    config, directory = SHAPES[shape], files / f"lens-{shape}"
    if not is_checkpoint(directory):
        weights = {name: weight.detach() for name, weight in build(config, seed=0).named_parameters()}
        tokenizer = invented_tokenizer(config.vocab_size)
        save_checkpoint(directory, config=config, weights=weights, tokenizer=tokenizer, info={})
    return directory


def median_seconds(run: Callable[[], object], rounds: int) -> float:
    """The median of several times; the first, which allocates memory, is not counted."""
    times = []
    for _ in range(rounds + 1):
        begin = time.perf_counter()
        run()
        times.append(time.perf_counter() - begin)
    return statistics.median(times[1:])


def recording(files: Path, rounds: int) -> Iterator[Floor]:
    """Time a plain pass over 256 tokens and a recording of it, in turn."""
    for shape in ("10m", "134m"):
        model, ids = build(SHAPES[shape], seed=0).eval(), random_ids(SHAPES[shape], 256)
        ratios = []
        for _ in range(rounds):
            alone = median_seconds(partial(plain_pass, model, ids), 2)
            ratios.append(median_seconds(partial(Recording, model, ids), 2) / alone)
        what = f"recording / plain pass, {shape}, 256 tokens"
        yield Floor(what=what, measured=statistics.median(ratios), floor=2, at_most=True)


def plain_pass(model: Decoder, ids: list[int]) -> None:
    """A forward pass with logits at every position, and nothing else."""
    with inference():
        model(torch.tensor(ids)[None])


def prompt(files: Path, rounds: int) -> Iterator[Floor]:
    """Time from a text of 1,024 tokens to its header and one layer's attention, as the page asks for them.

    A plain pass over the same text is reported too: at 134M in float32 it alone may take the two seconds.
    """
    for shape in ("10m", "134m"):
        dispatch = open_lens(model_of(shape, files))
        text = text_of(dispatch, 1023)
        plain = median_seconds(partial(plain_pass, dispatch.model(None), dispatch.tokenizer.encode(text).ids), 1)
        begin = time.perf_counter()
        dispatch.answer("prompt", {"text": text})
        dispatch.answer("record", {"at": {}})
        dispatch.answer("attention", {"at": {"precision": "byte"}, "layer": 0})
        seconds = time.perf_counter() - begin
        what = f"a text of 1,024 tokens opened with one layer, {shape} (a plain pass: {plain:.2f}), seconds"
        yield Floor(what=what, measured=seconds, floor=2, at_most=True)


def text_of(dispatch: Dispatch, num_tokens: int) -> str:
    """A text of so many tokens."""
    text = LETTERS * num_tokens
    while (count := len(dispatch.tokenizer.encode(text).ids)) > num_tokens:
        text = text[: max(1, len(text) * num_tokens // count)]
        if count - num_tokens < 8:
            text = text[:-1]
    return text


@contextmanager
def opened(model: Path, text: str, threads: int) -> Iterator[tuple[Any, str]]:
    """(a browser, the address of the lens on a model)."""
    from playwright.sync_api import sync_playwright

    command = [sys.executable, "-m", "pellucid", "lens", str(model), "--prompt", text, "--no-browser", "--json"]
    environment = {**os.environ, "PYTHONUTF8": "1"}
    with (
        subprocess.Popen(
            [*command, "--threads", str(threads)],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=environment,
        ) as server,
        sync_playwright() as driver,
    ):
        try:
            assert server.stdout is not None
            told = ""
            while not told.endswith("}\n"):
                line = server.stdout.readline()
                if not line:
                    raise SystemExit(f"the lens ended with exit code {server.wait()}: {' '.join(command)}")
                told += line
            browser = driver.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
            yield browser, json.loads(told)["url"]
            browser.close()
        finally:
            server.terminate()


def page(files: Path, rounds: int, threads: int) -> Iterator[Floor]:
    """Time from entering the address until tokens can be selected and the button can be pressed."""
    ready = "() => document.querySelectorAll('[role=option]').length > 1 && !document.querySelector('button.primary').disabled"
    seconds = []
    with opened(model_of("10m", files), "the quick brown fox jumps over", threads) as (browser, url):
        for _ in range(rounds + 1):
            tab = browser.new_page(viewport={"width": 1280, "height": 900})
            tab.goto(url, wait_until="commit")
            tab.wait_for_function(ready, polling=5)
            seconds.append(tab.evaluate("performance.now()") / 1000)
            tab.close()
    measured = statistics.median(seconds[1:])
    yield Floor(what="address entered to page usable at 10M, seconds", measured=measured, floor=1, at_most=True)


MOVE = """async (moves) => {
  const slider = document.querySelector('#knob-temperature');
  const panel = slider.closest('[data-panel]');
  const times = [];
  for (let move = 0; move < moves; move++) {
    slider.value = String(0.3 + (move % 10) / 25);
    const begin = performance.now();
    slider.dispatchEvent(new Event('input', { bubbles: true }));
    await Promise.resolve(); await Promise.resolve();
    panel.getBoundingClientRect();
    times.push(performance.now() - begin);
    await new Promise((later) => requestAnimationFrame(() => setTimeout(later)));
  }
  return times.sort((a, b) => a - b);
}"""
SEEN = "() => document.querySelector('[data-panel=chances] table')?.innerText"


def slider(files: Path, rounds: int, threads: int) -> Iterator[Floor]:
    """Time from the slider's event to the new layout of the columns; the browser's painting is not counted."""
    with opened(model_of("50k", files), "the quick brown fox", threads) as (browser, url):
        tab = browser.new_page(viewport={"width": 1280, "height": 900})
        tab.goto(url)
        tab.locator("[data-panel=chances]").scroll_into_view_if_needed()
        tab.wait_for_selector("#knob-temperature")
        before = tab.evaluate(SEEN)
        times = tab.evaluate(MOVE, MOVES)
        if tab.evaluate(SEEN) == before:
            raise SystemExit("the slider moved and nothing was drawn anew")
    what = "slider to columns, 50,000 tokens, milliseconds"
    yield Floor(what=f"{what} (median)", measured=statistics.median(times), floor=16, at_most=True)
    yield Floor(what=f"{what} (slowest but one)", measured=times[-2], floor=16, at_most=True)


def step(files: Path, rounds: int, threads: int) -> Iterator[Floor]:
    """Time from the button to the new token on the page, minus the engine's time for one token."""
    model = model_of("134m", files)
    with opened(model, "the quick brown fox jumps over the lazy dog", threads) as (browser, url):
        tab = browser.new_page(viewport={"width": 1280, "height": 900})
        tab.goto(url)
        tab.wait_for_selector("[role=option]")
        tab.wait_for_timeout(4000)  # the panels in sight ask their questions first
        seconds = []
        for _ in range(rounds + 1):
            shown = tab.evaluate("document.querySelectorAll('.bar [role=option]').length")
            grown = f"() => document.querySelectorAll('.bar [role=option]').length > {shown}"
            begin = tab.evaluate("(document.querySelector('.bar button.primary').click(), performance.now())")
            tab.wait_for_function(grown, polling=5)
            seconds.append((tab.evaluate("performance.now()") - begin) / 1000)
            tab.wait_for_timeout(2000)
    own = engine_seconds(model)
    what = f"a step at 134M beyond the model's own {own:.3f} s, seconds"
    yield Floor(what=what, measured=statistics.median(seconds[1:]) - own, floor=0.3, at_most=True)


def engine_seconds(model: Path) -> float:
    """The engine's time for one token, without any page."""
    steps, times, last = pellucid.load(model, device="cpu").generate("the quick brown fox", max_new_tokens=16), [], 0.0
    for _ in steps:
        now = time.perf_counter()
        times.append(now - last)
        last = now
    return statistics.median(times[1:])


def probes(files: Path, rounds: int) -> Iterator[Floor]:
    """Time a short run with two probe texts, with default settings."""
    with tempfile.TemporaryDirectory() as name:
        book, recorder = Path(name) / "book.txt", MemoryRecorder()
        book.write_text(STORY * 3000, encoding="utf-8")
        texts = ("A cat sat by the door and looked", "一只猫坐在门口")
        pellucid.train(
            book, Path(name) / "run", recorder=recorder, steps=300, device="cpu", compile="off",
            model={"depth": 3, "context_length": 128}, tokenizer={"vocab_size": 512}, batch={"tokens": 2048},
            probe={"texts": texts},
        )  # fmt: skip
    [told] = [event.data for event in recorder.events if event.name == "training.probed"]
    what = f"probes of two texts, {len(told['kept'])} kept, {len(told['skipped'])} passed over: share of the time"
    yield Floor(what=what, measured=told["share"], floor=0.02, at_most=True)


def missing(part: str) -> str | None:
    """Why a part cannot be measured here."""
    if part not in ("page", "slider", "step"):
        return None
    if BROWSER is None:
        return "no Chromium (Debian: apt-get install chromium)"
    try:
        import playwright.sync_api  # noqa: F401
    except ImportError:
        return "Playwright is not installed (pip install playwright)"
    return None


def main() -> None:
    parts: dict[str, Callable[[], Iterator[Floor]]] = {
        "recording": lambda: recording(given.files, given.rounds),
        "prompt": lambda: prompt(given.files, given.rounds),
        "page": lambda: page(given.files, given.rounds, given.threads),
        "slider": lambda: slider(given.files, given.rounds, given.threads),
        "step": lambda: step(given.files, given.rounds, given.threads),
        "probes": lambda: probes(given.files, given.rounds),
    }
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", default=",".join(parts), help="parts, with commas between them")
    parser.add_argument("--files", type=Path, default=Path(tempfile.gettempdir()) / "pellucid-benchmarks")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    given = parser.parse_args()
    given.files.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(given.threads)
    report: dict[str, Any] = {"version": pellucid.__version__, "threads": given.threads, "rounds": given.rounds}
    floors: list[Floor] = []
    for part in given.only.split(","):
        reason = missing(part)
        if reason is not None:
            report[f"{part}, not measured"] = reason
            continue
        for floor in parts[part]():
            floors.append(floor)
            sign = "✓" if floor.met else "✗"
            print(f"{sign} {floor.what}: {floor.measured:.3f} (at most {floor.floor})", file=sys.stderr, flush=True)
    print(json.dumps(report | {"floors": [floor.to_dict() for floor in floors]}, indent=2, ensure_ascii=False))


if __name__ == "__main__":
    main()
