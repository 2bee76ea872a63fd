"""The page's sampler (TypeScript, run by Node) against the engine's: the same chances over 50,000 tokens.

Skipped only where there is no Node, or where the page's packages (`npm ci` in web/) are not installed.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from pellucid.engine.account import account_stage
from pellucid.engine.sampling.distribution import Distribution, draw, probabilities, weigh
from pellucid.engine.sampling.sampler import Sampler, pass_through
from pellucid.engine.sampling.settings import SamplingSettings
from pellucid.engine.sampling.stage import History

WEB = Path(__file__).parents[2] / "web"
V = 50_000
TEMPERATURES = (0.05, 0.2, 0.7, 1.0, 1.3, 3.0, 10.0)
CHAINS = [
    *({"temperature": t} for t in TEMPERATURES),
    *({"temperature": t, "top_k": 50} for t in TEMPERATURES),
    *({"temperature": t, "top_p": 0.9} for t in TEMPERATURES),
    *({"temperature": t, "top_p": 0.999, "order": ["top_p", "temperature"]} for t in TEMPERATURES),
    *({"temperature": t, "min_p": 0.02} for t in TEMPERATURES),
    *({"temperature": t, "min_p": 0.02, "order": ["min_p", "temperature"]} for t in TEMPERATURES),
    *({"temperature": t, "typical_p": 0.8} for t in TEMPERATURES),
    {"temperature": 0},
    {"temperature": 0.8, "top_k": 40, "top_p": 0.95, "min_p": 0.05},
    {"temperature": 2.5, "top_k": 1000, "top_p": 0.7, "order": ["top_p", "top_k", "temperature"]},
    {"temperature": 2.5, "typical_p": 0.5, "top_k": 30, "order": ["typical", "temperature", "top_k"]},
    {"epsilon_cutoff": 3e-4},
    {"eta_cutoff": 3e-4, "temperature": 1.5},
    {"top_n_sigma": 2.0, "temperature": 1.5},
]
ROWS = {
    "peaked": (np.random.default_rng(0).standard_normal(V) * 3.0, V),
    "flat": (np.random.default_rng(1).standard_normal(V) * 0.3, V),
    "steep": (-2.5 * np.log(np.random.default_rng(2).permutation(V) + 1.0), V),
    "rounded, with ties": (np.round(np.random.default_rng(3).standard_normal(V) * 4, 1), V),
    "padded": (np.random.default_rng(4).standard_normal(V) * 3.0, V - 257),
}


@pytest.fixture(scope="module")
def node() -> str:
    found = shutil.which("node")
    if found is None:
        pytest.skip("Node is not installed: the page's own code cannot be run")
    if not (WEB / "node_modules" / "typescript").is_dir():
        pytest.skip("the page's packages are not installed: run `npm ci` in web/")
    return found


@pytest.mark.parametrize("name", ROWS)
def test_the_page_finds_the_engines_chances(name: str, node: str, tmp_path: Path) -> None:
    logits, known = ROWS[name]
    logits_V = logits.astype(np.float32)
    (tmp_path / "row").write_bytes(logits_V.tobytes())
    us = np.random.default_rng(5).random(20).tolist()
    request = {
        "row": str(tmp_path / "row"),
        "out": str(tmp_path / "chances"),
        "known": known,
        "chains": [{"sampling": sampling, "u": us} for sampling in CHAINS],
    }
    command = [node, str(WEB / "test" / "sampler_cli.mjs")]
    done = subprocess.run(command, input=json.dumps(request), capture_output=True, text=True, check=True, cwd=WEB)
    answers = json.loads(done.stdout)
    chances_CV = np.fromfile(tmp_path / "chances").reshape(len(CHAINS), V)
    for sampling, answer, p_V in zip(CHAINS, answers, chances_CV, strict=True):
        check_chain(logits_V, known, sampling, answer, p_V, us)


def check_chain(logits_V, known, sampling, answer, p_V, us) -> None:
    fields = {**sampling, **({"order": tuple(sampling["order"])} if "order" in sampling else {})}
    sampler = Sampler(SamplingSettings(**fields, seed=1), num_logits=V, num_known=known)
    rows = pass_through(logits_V, sampler.stages, History((), 0))
    np.testing.assert_allclose(p_V, probabilities(rows[-1]), rtol=0, atol=1e-6, err_msg=str(sampling))
    told = [Distribution(row) for row in rows]
    accounts = [account_stage("", before, after, 1) for before, after in zip(told[:1] + told, told, strict=False)]
    assert [stage["kept"] for stage in answer["stages"]] == [account.num_kept for account in accounts], sampling
    np.testing.assert_allclose([s["mass"] for s in answer["stages"]], [a.mass_kept for a in accounts], atol=1e-6)
    entropies = [account.entropy_bits for account in accounts]
    np.testing.assert_allclose([s["entropy"] for s in answer["stages"]], entropies, atol=2e-5)
    weights_V = weigh(rows[-1])
    assert answer["drawn"] == [draw(weights_V, u) for u in us], sampling
