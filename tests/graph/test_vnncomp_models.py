"""Every distinct model of the 17 VNN-COMP categories loads, keeps its shape and agrees with onnxruntime."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from graph.core import Affine, Elementwise, Input
from graph.linear_map import Composition, Conv, Dense
from graph.load import load
from graph.selfcheck import compare
from tests.effort import thorough

pytestmark = pytest.mark.vnncomp


def models(folder: Path, category: str) -> list[Path]:
    return sorted((folder / category / "onnx").rglob("*.onnx.gz"))


def categories(folder: Path) -> Iterator[str]:
    return (path.name for path in sorted(folder.iterdir()) if (path / "onnx").is_dir())


def unpacked(path: Path) -> int:
    """What a gzip file says of its size at its end."""
    with path.open("rb") as file:
        file.seek(-4, os.SEEK_END)
        return int.from_bytes(file.read(), "little")


@pytest.mark.parametrize(("large", "least"), [(False, 70), pytest.param(True, 5, marks=pytest.mark.slow)])
def test_all_models_load_and_agree_with_onnxruntime(vnncomp_dir: Path, large: bool, least: int) -> None:
    """Every fourth of a category, unless thorough. The large ones are those of tllverifybench: zeros, which pack well."""
    rng = np.random.default_rng(0)
    count = 0
    for category in categories(vnncomp_dir):
        paths = models(vnncomp_dir, category)
        small = [p for p in paths if p.stat().st_size < 2**20] or paths[:1]
        for path in [p for p in small if (unpacked(p) >= 2**25) is large][:: 1 if thorough() else 4]:
            loaded = load(path)
            points = [[rng.uniform(0, 1, info.shape) for info in loaded.inputs] for _ in range(1)]
            found = compare(loaded, points)
            assert found.compared > 0 and found.largest_operator_fraction <= 1, path
            assert len(loaded.graph.nodes) <= 100, path
            count += 1
    assert count >= (least if thorough() else least // 4)
    assert len(list(categories(vnncomp_dir))) == 17


def test_large_sparse_weights_load_quickly(vnncomp_dir: Path) -> None:
    path = max(models(vnncomp_dir, "tllverifybench"), key=lambda p: p.stat().st_size)
    start = time.process_time()
    loaded = load(path)
    assert time.process_time() - start < 5
    maps = [m for n in loaded.graph.nodes if isinstance(n, Affine) for m in n.maps]
    parts = [part for m in maps for part in (m.maps if isinstance(m, Composition) else (m,))]
    large = [part.weight for part in parts if isinstance(part, Dense) and part.weight.size > 10**6]
    assert large and all(w.dtype == np.float32 for w in large)
    compare(loaded, [[np.zeros(info.shape) for info in loaded.inputs]])


def test_acasxu_is_six_layers(vnncomp_dir: Path) -> None:
    graph = load(models(vnncomp_dir, "acasxu")[0]).graph
    assert [type(n) for n in graph.nodes] == [Input, *[Affine, Elementwise] * 6, Affine]
    assert all(isinstance(n.maps[0], Dense) and len(n.maps) == 1 for n in graph.nodes if isinstance(n, Affine))


def test_convolutional_networks_have_plain_convolutions(vnncomp_dir: Path) -> None:
    graph = load(models(vnncomp_dir, "oval21")[0]).graph
    assert [type(n.maps[0]) for n in graph.nodes if isinstance(n, Affine)] == [Conv, Conv, Dense, Dense]
    assert all(n.bias is not None for n in graph.nodes if isinstance(n, Affine))
