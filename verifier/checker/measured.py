"""The table of measured activations: for a kernel and a range of x, |computed f(x) - f(x)| <= rho |f(x)| + tau (`make bench-kernels`)."""

from __future__ import annotations

import importlib.metadata
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from verifier.checker.arithmetic import Array
from verifier.checker.refusal import Rejected

FILE = Path(__file__).parent / "tables" / "onnxruntime.json"
LEVELS = (("avx512f", "avx512"), ("avx2", "avx2"), ("avx", "avx"), ("sse2", "sse"))  # flag of /proc/cpuinfo -> how kernels are chosen


@dataclass(frozen=True)
class Table:
    """`kernels`: name -> rows (lowest x, highest x, rho, tau), the next row beginning where one ends. `assumed`: measured elsewhere."""

    key: str
    assumed: bool
    kernels: Mapping[str, Array]

    @classmethod
    def fitting(cls) -> Table:
        """What was measured for the runtime and processor found here; else the nearest version, assumed."""
        version, level = runtime(), processor()
        entries = json.loads(FILE.read_text(encoding="utf-8"))["tables"]
        best = sorted(entries, key=lambda e: (e["processor"] != level, e["onnxruntime"] != version, -_order(e["onnxruntime"])))[0]
        kernels = {name: np.array(found["rows"], dtype=np.float64) for name, found in best["kernels"].items()}
        return cls(f"onnxruntime {best['onnxruntime']}, {best['processor']}", (best["onnxruntime"], best["processor"]) != (version, level), kernels)

    def loss(self, name: str, lower: Array, upper: Array, size: Array, place: str) -> Array:
        """The largest rho H + tau of the ranges that [lower, upper] meets, H = `size`."""
        rows = self._rows(name, float(lower.min()), float(upper.max()), place)
        losses = [np.where((lower <= high) & (upper >= low), rho * size + tau, 0.0) for low, high, rho, tau in rows.tolist()]
        return np.asarray(np.max(losses, axis=0))

    def worst(self, name: str, lower: float, upper: float, place: str) -> tuple[float, float]:
        """The largest rho and the largest tau between two arguments."""
        rho, tau = self._rows(name, lower, upper, place)[:, 2:].max(0).tolist()
        return rho, tau

    def _rows(self, name: str, lower: float, upper: float, place: str) -> Array:
        rows = self.kernels.get(name)
        if rows is None or not (rows[0, 0] <= lower <= upper <= rows[-1, 1]):
            raise Rejected("float32-not-measured", f"{place}: {name} on [{lower!r}, {upper!r}]")
        return rows[(rows[:, 1] >= lower) & (rows[:, 0] <= upper)]


def runtime() -> str:
    """The installed version of onnxruntime."""
    try:
        return importlib.metadata.version("onnxruntime")
    except importlib.metadata.PackageNotFoundError:
        return "none"


def processor() -> str:
    """The level of instructions of this processor."""
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").split()
    except OSError:
        return "unknown"
    return next((level for flag, level in LEVELS if flag in flags), "other")


def _order(version: str) -> int:
    """A number that grows with versions like 1.31.1."""
    total = 0
    for part in [*version.split("."), "0", "0"][:3]:
        total = total * 10_000 + (int(part) if part.isdigit() else 0)
    return total
