"""Every torch map equals its numpy map, which tests/graph compares with dense matrices; also with replaced weights."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from bounds import torch_map as tm
from graph.core import Affine
from graph.linear_map import Composition, Conv, Dense, Gather, LinearMap, Reshape, Scale, Sum, Transposed
from graph.load import load
from tests.effort import examples

Array = Any
CPU = torch.device("cpu")
TOLERANCE = {torch.float32: 2e-5, torch.float64: 1e-13}


def dense(rng: Any, outer: int = 1) -> LinearMap:
    return Dense((outer, 5), (outer, 3), rng.normal(size=(3, 5)))


def sparse(rng: Any) -> LinearMap:
    weight = np.where(rng.random((500, 401)) < 0.01, rng.normal(size=(500, 401)), 0.0)
    return Dense((1, 401), (1, 500), weight)


def conv(rng: Any, rank: int = 2, batch: int = 1) -> Conv:
    """Every layout: strides that leave places unread, pads that differ at the two ends and per axis, dilation, groups."""
    groups = int(rng.integers(1, 3))
    kernel, strides, dilations = (tuple(int(v) for v in rng.integers(1, 4, rank)) for _ in range(3))
    begin, end = (tuple(int(v) for v in rng.integers(0, 3, rank)) for _ in range(2))
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    size = tuple(max(r - b - e, 1) + int(rng.integers(0, 4)) for r, b, e in zip(reach, begin, end, strict=True))
    out = tuple((n + b + e - r) // s + 1 for n, b, e, r, s in zip(size, begin, end, reach, strides, strict=True))
    weight = rng.normal(size=(2 * groups, 2, *kernel))
    return Conv((batch, 2 * groups, *size), (batch, 2 * groups, *out), weight, strides, begin, end, dilations, groups)


def patches(rng: Any, rank: int, batch: int = 1) -> Conv:
    """Windows that tile the input."""
    kernel, out = (tuple(int(v) for v in rng.integers(1, 4, rank)) for _ in range(2))
    size = tuple(k * n for k, n in zip(kernel, out, strict=True))
    none = (0,) * rank
    return Conv((batch, 2, *size), (batch, 5, *out), rng.normal(size=(5, 2, *kernel)), kernel, none, none, (1,) * rank, 1)


def transposed(inner: LinearMap) -> LinearMap:
    return Transposed(inner.out_shape, inner.in_shape, inner)


def composition(rng: Any) -> LinearMap:
    parts = (dense(rng), Gather((3,), (6,), np.array([2, -1, 0, 0, 1, 2])), Scale((6,), (6,), rng.normal(size=6)), Sum((2, 3), (2,), (1,)))
    return Composition((1, 5), (2,), parts)


KINDS: dict[str, Callable[[Any], LinearMap]] = {
    "reshape": lambda rng: Reshape((2, 3), (6,)),
    "dense": dense,
    "dense rows": lambda rng: dense(rng, 4),
    "sparse": sparse,
    "conv 1d": lambda rng: conv(rng, 1),
    "conv 2d": conv,
    "conv 2d batch": lambda rng: conv(rng, 2, 3),
    "conv 3d": lambda rng: conv(rng, 3),
    "patches, conv 1d": lambda rng: patches(rng, 1),
    "patches, conv 2d batch": lambda rng: patches(rng, 2, 3),
    "patches, conv 3d": lambda rng: patches(rng, 3),
    "transposed conv": lambda rng: transposed(conv(rng)),
    "transposed dense": lambda rng: transposed(dense(rng, 2)),
    "transposed sparse": lambda rng: transposed(sparse(rng)),
    "transposed gather": lambda rng: transposed(Gather((4,), (6,), np.array([3, -1, 0, 0, 1, 3]))),
    "transposed scale": lambda rng: transposed(Scale((4,), (4,), rng.normal(size=4))),
    "transposed sum": lambda rng: transposed(Sum((2, 3), (3,), (0,))),
    "transposed composition": lambda rng: transposed(composition(rng)),
    "gather with repeats and holes": lambda rng: Gather((2, 3), (7,), rng.integers(-1, 6, 7)),
    "permutation": lambda rng: Gather((6,), (6,), rng.permutation(6)),
    "selection with holes": lambda rng: Gather((6,), (5,), np.array([4, -1, 0, -1, 2])),
    "scale": lambda rng: Scale((2, 3), (2, 3), rng.normal(size=6)),
    "scale by one number": lambda rng: Scale((2, 3), (2, 3), np.array([-2.5])),
    "sum over two axes": lambda rng: Sum((2, 3, 4), (1, 3, 1), (0, 2)),
    "sum without axes kept": lambda rng: Sum((2, 3), (2,), (1,)),
    "composition": composition,
}


def agree(found: torch.Tensor, expected: Array, dtype: torch.dtype) -> None:
    assert found.dtype == dtype and tuple(found.shape) == expected.shape
    assert np.abs(found.detach().numpy() - expected).max(initial=0.0) <= TOLERANCE[dtype] * (1 + np.abs(expected).max(initial=0.0))


def compare(ours: tm.TorchMap, source: LinearMap, rng: Any, dtype: torch.dtype, lead: tuple[int, ...] = (2, 3)) -> None:
    x, d = rng.normal(size=(*lead, source.in_size)), rng.normal(size=(*lead, source.out_size))

    def as_torch(a: Array) -> torch.Tensor:
        return torch.tensor(a, dtype=dtype)

    agree(ours.apply(as_torch(x)), source.apply(x), dtype)
    agree(ours.adjoint(as_torch(d)), source.adjoint(d), dtype)
    agree(ours.abs_apply(as_torch(x)), source.abs_apply(x), dtype)
    agree(ours.abs_adjoint(as_torch(d)), source.absolute().adjoint(d), dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", KINDS)
def test_a_torch_map_equals_its_numpy_map(kind: str, dtype: torch.dtype) -> None:
    for seed in range(12 if "conv" in kind else 3):
        rng = np.random.default_rng(seed)
        source = KINDS[kind](rng)
        for lead in ((2, 3), (4,), ()):
            compare(tm.torch_map(source, tm.Context(dtype, CPU)), source, rng, dtype, lead)


@settings(max_examples=examples(60))
@given(st.integers(0, 10**6), st.integers(1, 3))
def test_any_convolution_and_its_transpose(seed: int, rank: int) -> None:
    rng = np.random.default_rng(seed)
    source = conv(rng, rank, int(rng.integers(1, 3)))
    for m in (source, transposed(source)):
        compare(tm.torch_map(m, tm.Context(torch.float64, CPU)), m, rng, torch.float64, (2,))


@pytest.mark.parametrize("pads", [(0, 0), (1, 0), (0, 1), (1, 1)])
@pytest.mark.parametrize("stride", [2, 3])
def test_means_over_windows_that_overhang(stride: int, pads: tuple[int, int]) -> None:
    """ceil_mode adds a last window that goes beyond the padding; torch's convolution knows none."""
    node = helper.make_node("AveragePool", ["x"], ["y"], kernel_shape=[2], strides=[stride], pads=pads, ceil_mode=1)
    for size in (3, 4, 5, 6):
        ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in (("x", [1, 2, size]), ("y", None))]
        made = helper.make_model(helper.make_graph([node], "g", ends[:1], ends[1:]), opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        (pooled,) = (node for _, node in load(made.SerializeToString()).graph if isinstance(node, Affine))
        rng = np.random.default_rng(size)
        compare(tm.torch_map(pooled.maps[0], tm.Context(torch.float64, CPU)), pooled.maps[0], rng, torch.float64, (2,))


def with_weight(source: LinearMap, old: Array, new: Array) -> LinearMap:
    """The same map with the array `old` replaced by `new`."""
    match source:
        case Dense(weight=weight):
            return Dense(source.in_shape, source.out_shape, new if weight is old else weight)
        case Conv():
            return Conv(source.in_shape, source.out_shape, new, source.strides, source.pads_begin, source.pads_end, source.dilations, source.groups)
        case Scale(factor=factor):
            return Scale(source.in_shape, source.out_shape, new if factor is old else factor)
        case Transposed(inner=inner):
            return transposed(with_weight(inner, old, new))
        case Composition(maps=maps):
            return Composition(source.in_shape, source.out_shape, tuple(with_weight(m, old, new) for m in maps))
        case _:
            return source


def first_weight(source: LinearMap) -> Array:
    match source:
        case Dense(weight=weight) | Conv(weight=weight):
            return weight
        case Scale(factor=factor):
            return factor
        case Transposed(inner=inner):
            return first_weight(inner)
        case Composition(maps=maps):
            return first_weight(maps[0])
        case _:
            raise NotImplementedError(source)


WEIGHTED = [k for k in KINDS if any(word in k for word in ("dense", "sparse", "conv", "scale", "composition"))]


@pytest.mark.parametrize("kind", WEIGHTED)
def test_a_replaced_weight_is_used_everywhere_and_followed_when_it_changes(kind: str) -> None:
    """Apply, adjoint, and |W| both ways, of plain, transposed and nested maps; `-3 W` shows a stale absolute value."""
    rng = np.random.default_rng(8)
    source = KINDS[kind](rng)
    old = first_weight(source)
    given_weight = torch.tensor(-3 * old, requires_grad=True)
    ours = tm.torch_map(source, tm.Context(torch.float64, CPU, {id(old): given_weight}))
    compare(ours, with_weight(source, old, -3 * old), rng, torch.float64)
    with torch.no_grad():
        given_weight.mul_(0.5)
    compare(ours, with_weight(source, old, -1.5 * old), rng, torch.float64)
    ours.apply(torch.ones(source.in_size, dtype=torch.float64)).sum().backward()
    assert given_weight.grad is not None and given_weight.grad.abs().sum() > 0


def test_a_large_map_of_zeros_is_stored_sparse_and_quietly() -> None:
    code = (
        "import numpy as np, torch; from bounds.torch_map import *; from graph.linear_map import Dense; "
        "m = torch_map(Dense((500,), (500,), np.eye(500)), Context(torch.float32, torch.device('cpu'))); print(type(m).__name__)"
    )
    run = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert run.stdout.strip() == "_Sparse" and run.stderr == ""


def test_what_has_no_torch_form_is_an_error() -> None:
    class Unknown(LinearMap):
        pass

    context = tm.Context(torch.float32, CPU)
    with pytest.raises(NotImplementedError, match="Unknown"):
        tm.torch_map(Unknown((1,), (1,)), context)
    four = (1, 1, *(2,) * 4)
    with pytest.raises(NotImplementedError, match="4 spatial axes"):
        tm.torch_map(Conv(four, four, np.ones((1, 1, 1, 1, 1, 1)), *((v,) * 4 for v in (1, 0, 0, 1))), context)
    assert math.prod(four) == 16
