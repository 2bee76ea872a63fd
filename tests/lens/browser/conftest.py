"""The page in a real browser: Debian's Chromium, driven by Playwright, on `pellucid lens` as a person starts it.

Tests that change the tree of texts have a lens of their own, the same server in a thread of the tests: a program that
loads torch takes two seconds to start.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest
from scrambled import scramble

from pellucid.lens.dispatch import open_lens as open_dispatch
from pellucid.lens.page import program
from pellucid.lens.page.server import Server, build_app, open_door
from pellucid.model.build import build
from pellucid.planning.config import ModelConfig
from pellucid.store.envelope import Envelope, decode
from pellucid.store.run import Run
from pellucid.tokens.train import train_bpe

playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")

BROWSERS = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")  # the first is without windows
TEXT = "你好, the cat </script> 👩\u200d👩\u200d👧 sat"
CONFIG = ModelConfig(
    vocab_size=330, context_length=48, n_layers=3, n_heads=4, n_kv_heads=2, head_dim=8, d_model=32, d_ff=48
)

SETTLE = """async longest => {
  const end = performance.now() + longest;
  const pause = time => new Promise(done => setTimeout(done, time));
  const frame = () => new Promise(done => requestAnimationFrame(() => setTimeout(done)));
  const waiting = part => part.querySelector(".skeleton, [aria-busy=true]");
  do {
    for (const panel of document.querySelectorAll("[data-panel]")) {
      panel.scrollIntoView({ block: "center" });
      for (let frames = 0; frames < 2; frames = waiting(panel) ? 0 : frames + 1) {  // in the first it learns that it is seen
        if (performance.now() > end) throw new Error(`still waiting: ${waiting(panel)?.outerHTML.slice(0, 300)}`);
        await frame();
      }
    }
    await pause(200);  // the longest that a panel waits for the reader to stop typing, and more
  } while (waiting(document));
}"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Lens:
    """A lens that answers."""

    url: str

    def ask(self, method: str, **params: Any) -> Envelope:
        """The same question that the page asks."""
        request = Request(f"{self.url}ask/{method}", json.dumps(params).encode(), {"Content-Type": "application/json"})
        with urlopen(request, timeout=30) as answer:
            return decode(answer.read())


@dataclasses.dataclass(frozen=True, kw_only=True)
class Program(Lens):
    """A running `pellucid lens`."""

    process: subprocess.Popen[str]
    log: Path  # what it says to the terminal beside its address

    def close(self) -> str:
        """Ctrl-C; what it says."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        self.process.wait(timeout=15)
        return self.log.read_text(encoding="utf-8")


@pytest.fixture(scope="session")
def chromium() -> str:
    """The browser's program."""
    found = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip("there is no Chromium here (Debian: apt-get install chromium)")
    if not program.BUILT.is_file():
        pytest.skip("the page is not built (python hatch_build.py)")
    return found


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two checkpoints with random weights, whose texts hold `</script>`."""
    run = Run.create(tmp_path_factory.mktemp("work") / "runs" / "small", {})
    texts = ["the cat sat on the mat. </script></script> " * 30, "小猫坐在花园里，你好。" * 30]
    tokenizer = train_bpe(texts, CONFIG.vocab_size)
    config = dataclasses.replace(CONFIG, vocab_size=tokenizer.vocab_size)
    for step in (10, 20):
        model = build(config, seed=step)
        scramble(model, seed=step, spread=0.2, of_vectors=0.2)
        weights = {name: parameter.detach() for name, parameter in model.named_parameters()}
        run.save(step, config=config, weights=weights, tokenizer=tokenizer, info={})
        run.append_metrics({"kind": "train", "step": step, "loss": 5.0 - step / 10, "tokens": 64})
        run.append_metrics({"kind": "eval", "step": step, "loss": 5.1 - step / 10})
    return run.path


@pytest.fixture(scope="session")
def open_lens(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Program]]:
    """Start `pellucid lens …` in a folder; every one is ended at the end."""
    started: list[Program] = []

    def start(*arguments: str | Path, folder: Path) -> Program:
        command = [
            sys.executable,
            "-m",
            "pellucid",
            "lens",
            *map(str, arguments),
            "--no-browser",
            "--json",
            "--threads",
            "1",
        ]
        log = tmp_path_factory.mktemp("log") / "stderr.txt"  # a pipe that nobody reads would fill and stop it
        # A shell may have started the tests behind it, deaf to Ctrl-C, and what they start would be deaf too.
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            with log.open("wb") as said:
                process = subprocess.Popen(
                    command, cwd=folder, stdout=subprocess.PIPE, stderr=said, encoding="utf-8",
                    env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUTF8": "1"},
                )  # fmt: skip
        finally:
            signal.signal(signal.SIGINT, before)
        text = ""
        while not text.endswith("}\n"):
            line = process.stdout.readline()
            if not line:
                raise AssertionError(log.read_text(encoding="utf-8"))
            text += line
        started.append(Program(process=process, url=json.loads(text)["url"], log=log))
        return started[-1]

    yield start
    for one in started:
        one.close()
        assert one.process.stdout
        one.process.stdout.close()


@contextmanager
def serve_lens(run: Path, text: str | None = None) -> Iterator[Lens]:
    """The server of a lens on a run, in a thread."""
    opened, door = threading.Event(), open_door()
    server = Server(build_app(open_dispatch(run, text=text), door, page=program.BUILT), opened.set)
    server.force_exit = True  # at the end it does not wait for a browser to hang up
    thread = threading.Thread(target=server.run, kwargs={"sockets": [door.socket]}, daemon=True)
    thread.start()
    assert opened.wait(20)
    yield Lens(url=door.url)
    server.should_exit = True
    thread.join(20)
    door.socket.close()


@pytest.fixture(scope="session")
def serving(chromium: str) -> Callable[..., AbstractContextManager[Lens]]:
    """Open a lens of one's own on a run: `with serving(run, "a text") as lens`."""
    return serve_lens


@pytest.fixture
def fresh(run: Path, chromium: str) -> Iterator[Lens]:
    """A lens of its own with a short text, for a test that changes its tree."""
    with serve_lens(run, "the cat") as lens:
        yield lens


@pytest.fixture
def empty(run: Path, chromium: str) -> Iterator[Lens]:
    """A lens of its own that nobody has given a text."""
    with serve_lens(run) as lens:
        yield lens


@pytest.fixture(scope="session")
def lens(run: Path, chromium: str) -> Iterator[Lens]:
    """A lens on the small run with a text already in it."""
    with serve_lens(run, TEXT) as lens:
        yield lens


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Any]:
    """A running browser. Playwright's event loop goes on in this thread meanwhile: other files must not find it there."""
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield browser
        browser.close()


@contextmanager
def watched_page(browser: Any) -> Iterator[Any]:
    """A fresh browser window; a fault in the page's program, or a request to anywhere else, fails the test."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, locale="en-GB", reduced_motion="reduce")
    page = context.new_page()
    page.set_default_timeout(15_000)
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("request", lambda request: faults.append(request.url) if is_elsewhere(request.url) else None)
    page.on(
        "console", lambda message: faults.append(message.text) if "Content Security Policy" in message.text else None
    )
    yield page
    context.close()
    assert not faults


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    """A window for one test."""
    with watched_page(browser) as page:
        yield page


def is_elsewhere(url: str) -> bool:
    return not url.startswith(("http://127.0.0.1:", "data:", "blob:", "file:"))


@pytest.fixture(scope="session")
def settle() -> Callable[[Any], None]:
    """Scroll through the page until every panel has drawn what it asks for."""

    def wait(page: Any) -> None:
        page.locator("[data-panel]").first.wait_for()
        page.evaluate(SETTLE, 40_000)

    return wait


@pytest.fixture(scope="module")
def drawn(lens: Lens, browser: Any, settle: Callable[[Any], None]) -> Iterator[Any]:
    """A window in which every panel is drawn, for the tests of a file that leave it as they found it."""
    with watched_page(browser) as page:
        page.goto(lens.url)
        settle(page)
        yield page


@pytest.fixture(scope="session")
def chips() -> Callable[[Any], list[str]]:
    """The row of tokens, as it is told to a screen reader."""

    def read(page: Any) -> list[str]:
        row = page.locator("section.bar [data-position]")
        row.first.wait_for()
        return row.evaluate_all("all => all.map(chip => chip.getAttribute('aria-label'))")

    return read
