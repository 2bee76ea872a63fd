"""UMAP, a map that keeps neighbours together; it runs in its own process, because it blocks Python for a minute.

    python -m pellucid.lens.umap_map ROWS.npy DIMS PLACES.npy

From a large vocabulary UMAP places only `LANDMARKS` rows, evenly spaced. Every other row is placed at the mean of its
five nearest landmarks (by cosine). It is seeded and uses one thread: the same rows give the same map. It is *not* a
picture of distances: only neighbourhoods mean something.

Axes: V rows · M landmarks · R reduced width · C dimensions of the map.
Source: McInnes et al. 2018 (UMAP).
"""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
import tempfile
import weakref
from pathlib import Path

import numpy as np

from pellucid.errors import EngineError, MissingExtraError, RequestError, install

LANDMARKS = 4000
FEWEST = 40  # rows; below, there are no neighbourhoods to keep
NUM_NEAREST = 5
ROWS_AT_ONCE = 2048


class UmapJob:
    """A running UMAP process. Raises MissingExtraError without the package, RequestError for too few rows."""

    def __init__(self, rows_VR: np.ndarray, dims: int) -> None:
        if importlib.util.find_spec("umap") is None:
            raise MissingExtraError(
                "this map needs the package umap-learn",
                hint=f"{install('umap-learn')}, or choose the principal components",
            )
        if len(rows_VR) < FEWEST:
            raise RequestError("a map by neighbours needs more tokens", found=f"{len(rows_VR)}", hint="choose pca")
        folder = Path(tempfile.mkdtemp(prefix="pellucid-"))
        source, self.target, self.said = folder / "rows.npy", folder / "places.npy", folder / "said.txt"
        np.save(source, rows_VR)
        command = [sys.executable, "-m", "pellucid.lens.umap_map", str(source), str(dims), str(self.target)]
        with self.said.open("wb") as said:
            self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=said)
        weakref.finalize(self, _end, self.process, folder)  # also when the lens is closed before it is done

    @property
    def done(self) -> bool:
        return self.process.poll() is not None

    def wait(self) -> np.ndarray:
        """Wait for the coordinates [V, C]. Raises EngineError when the process failed."""
        if self.process.wait():
            said = self.said.read_text(encoding="utf-8", errors="replace").strip()
            raise EngineError("the map could not be made", found=said.rpartition("\n")[2], hint="choose pca")
        return np.load(self.target)


def _end(process: subprocess.Popen, folder: Path) -> None:
    process.kill()
    process.wait()
    shutil.rmtree(folder, ignore_errors=True)


def lay_out(rows_VR: np.ndarray, dims: int) -> np.ndarray:
    """Compute the coordinates of all rows, [V, C] float32."""
    from umap import UMAP

    unit_VR = rows_VR / np.maximum(np.linalg.norm(rows_VR, axis=1, keepdims=True), 1e-12)
    count = min(LANDMARKS, len(unit_VR))
    landmarks_M = np.linspace(0, len(unit_VR) - 1, count).astype(int)
    umap = UMAP(n_components=dims, n_neighbors=15, min_dist=0.1, metric="cosine", random_state=0, n_jobs=1)
    laid_MC = umap.fit_transform(unit_VR[landmarks_M])
    places_VC = np.concatenate(
        [
            average_nearest(unit_VR[start : start + ROWS_AT_ONCE], unit_VR[landmarks_M], laid_MC)
            for start in range(0, len(unit_VR), ROWS_AT_ONCE)
        ]
    )
    places_VC[landmarks_M] = laid_MC
    return places_VC.astype(np.float32)


def average_nearest(unit_NR: np.ndarray, unit_MR: np.ndarray, laid_MC: np.ndarray) -> np.ndarray:
    """Place rows at the mean coordinates of their nearest landmarks, [N, C].

    >>> average_nearest(np.eye(2), np.repeat(np.eye(2), 5, axis=0), np.repeat([[0.0], [8.0]], 5, axis=0)).tolist()
    [[0.0], [8.0]]
    """
    nearest_NK = np.argpartition(-(unit_NR @ unit_MR.T), NUM_NEAREST - 1, axis=1)[:, :NUM_NEAREST]
    return laid_MC[nearest_NK].mean(axis=1)


if __name__ == "__main__":
    np.save(sys.argv[3], lay_out(np.load(sys.argv[1]), int(sys.argv[2])))
