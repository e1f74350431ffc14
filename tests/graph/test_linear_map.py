"""Every linear map against its own dense matrix: apply, adjoint, absolute, rows, fan-in, fan-out."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graph import linear_map
from graph.errors import MalformedGraph
from graph.linear_map import Composition, Conv, Dense, Gather, LinearMap, Reshape, Scale, Sum, Transposed, compose
from graph.map_algebra import chain, cost
from tests.effort import examples

RNG = np.random.default_rng(7)


def normal(*shape: int) -> Any:
    return RNG.normal(size=shape)


def conv(groups: int = 1, stride: int = 1, pad: int = 0, dilation: int = 1, rank: int = 2, batch: int = 1) -> Conv:
    size, kernel = 6, 2
    out = (size + 2 * pad - (kernel - 1) * dilation - 1) // stride + 1
    weight = normal(2 * groups, 3, *(kernel,) * rank)
    per_axis = lambda v: (v,) * rank  # noqa: E731
    return Conv(
        (batch, 3 * groups, *per_axis(size)),
        (batch, 2 * groups, *per_axis(out)),
        weight,
        per_axis(stride),
        per_axis(pad),
        per_axis(pad),
        per_axis(dilation),
        groups,
    )


MAPS: dict[str, LinearMap] = {
    "reshape": Reshape((2, 3), (6,)),
    "dense": Dense((1, 4), (1, 3), normal(3, 4)),
    "dense rows": Dense((2, 5, 4), (2, 5, 3), normal(3, 4)),
    "conv": conv(),
    "conv stride pad": conv(stride=2, pad=1),
    "conv dilation groups batch": conv(groups=2, dilation=2, batch=2),
    "conv 1d": conv(rank=1, pad=1),
    "conv 3d": conv(rank=3, stride=3),
    "transposed conv": Transposed((1, 2, 3, 3), (1, 3, 6, 6), conv(stride=2)),
    "gather": Gather((2, 3), (5,), np.array([5, -1, 0, 0, 3])),
    "permutation": Gather((4,), (4,), np.array([2, 0, 3, 1])),
    "scale": Scale((2, 3), (2, 3), normal(6)),
    "scale by one number": Scale((2, 3), (2, 3), np.array([-2.5])),
    "sum": Sum((2, 3, 4), (2, 1, 4), (1,)),
    "sum all": Sum((2, 3), (), (0, 1)),
    "sum of a number": Sum((), (), ()),
    "composition": Composition((1, 4), (6,), (Dense((1, 4), (1, 3), normal(3, 4)), Gather((3,), (6,), np.array([0, 1, 2, 2, -1, 0])))),
}


def matrix(m: LinearMap) -> Any:
    return m.apply(np.eye(m.in_size)).T


@pytest.mark.parametrize("m", MAPS.values(), ids=MAPS)
def test_adjoint_is_the_transpose(m: LinearMap) -> None:
    np.testing.assert_allclose(m.adjoint(np.eye(m.out_size)), matrix(m), atol=1e-12)


@pytest.mark.parametrize("m", MAPS.values(), ids=MAPS)
def test_leading_axes_are_batch_axes(m: LinearMap) -> None:
    x, d = normal(2, 3, m.in_size), normal(2, 3, m.out_size)
    np.testing.assert_allclose(m.apply(x)[1, 2], m.apply(x[1, 2]), atol=1e-12)
    np.testing.assert_allclose(m.adjoint(d)[1, 2], m.adjoint(d[1, 2]), atol=1e-12)
    assert m.apply(x).shape == (2, 3, m.out_size) and m.adjoint(d).shape == (2, 3, m.in_size)


@pytest.mark.parametrize("name", [name for name in MAPS if "conv" in name])
@pytest.mark.parametrize("tile", [1, 100])
def test_convolutions_by_tiles(name: str, tile: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some images at a time, or some of the first axis of one: the same products in another order."""
    m, x = MAPS[name], normal(5, MAPS[name].in_size)
    whole = m.apply(x)
    monkeypatch.setattr(linear_map, "TILE", tile)
    assert np.abs(m.apply(x) - whole).max() < 1e-12
    assert m.apply(x.astype(np.float32)).dtype == np.float64 and m.apply(x[:0]).shape == (0, m.out_size)


@pytest.mark.parametrize("m", MAPS.values(), ids=MAPS)
def test_absolute(m: LinearMap) -> None:
    ours, exact = matrix(m.absolute()), np.abs(matrix(m))
    assert (ours >= exact - 1e-12).all()
    if not isinstance(m, Composition):
        np.testing.assert_allclose(ours, exact, atol=1e-12)
    x = np.abs(normal(2, m.in_size))
    np.testing.assert_allclose(m.abs_apply(x), m.absolute().apply(x), atol=1e-12)


@pytest.mark.parametrize("m", MAPS.values(), ids=MAPS)
def test_rows(m: LinearMap) -> None:
    wanted = [m.out_size - 1, 0, m.out_size // 2]
    np.testing.assert_allclose(m.rows(wanted), matrix(m)[wanted], atol=1e-12)


@pytest.mark.parametrize("m", MAPS.values(), ids=MAPS)
def test_fans_bound_the_products_that_meet(m: LinearMap) -> None:
    used = matrix(m) != 0
    assert used.sum(axis=1).max() <= m.fan_in() and used.sum(axis=0).max() <= m.fan_out()


@pytest.mark.parametrize("m", MAPS.values(), ids=MAPS)
def test_exact_maps_round_nothing(m: LinearMap) -> None:
    x, d = normal(50, m.in_size) * 1e8, normal(50, m.out_size) * 1e8
    if m.is_exact:
        assert np.isin(np.abs(m.apply(x)), np.append(np.abs(x), 0)).all() and np.isin(np.abs(m.adjoint(d)), np.append(np.abs(d), 0)).all()
    assert m.is_exact == (((matrix(m) != 0).sum(axis=0) <= 1).all() and np.isin(matrix(m), (-1, 0, 1)).all() and m.fan_in() == 1)


@given(st.data())
@settings(max_examples=examples(60))
def test_chains_reduce_without_changing_the_matrix(data: st.DataObject) -> None:
    """Random chains: the reduced map has the same matrix, costs no more, and `compose` agrees too."""
    shape, maps = (1, 2, 3, 3), []
    for _ in range(data.draw(st.integers(1, 5))):
        size = math.prod(shape)
        kind = data.draw(st.sampled_from(["dense", "scale", "channel scale", "permute", "select", "conv", "transposed", "reshape"]))
        seed = data.draw(st.integers(0, 10**6))
        rng = np.random.default_rng(seed)
        if kind == "dense":
            out = int(rng.integers(1, 20))
            maps.append(Dense(shape, (1, out), rng.normal(size=(out, size)).astype(np.float32)))
        elif kind == "scale":
            maps.append(Scale(shape, shape, rng.normal(size=1 if seed % 2 else size)))
        elif kind == "permute":
            maps.append(Gather(shape, shape, rng.permutation(size)))
        elif kind == "select":
            maps.append(Gather(shape, (size - size // 2,), rng.integers(-1, size, size - size // 2)))
        elif len(shape) == 4 and kind != "reshape":
            if kind == "channel scale":
                maps.append(Scale(shape, shape, np.repeat(rng.normal(size=shape[1]), shape[2] * shape[3])))
            else:
                inner = Conv(shape, shape, rng.normal(size=(shape[1], shape[1], 3, 3)), (1, 1), (1, 1), (1, 1), (1, 1))
                maps.append(inner if kind == "conv" else Transposed(shape, shape, inner))
        else:
            maps.append(Reshape(shape, shape))
        shape = maps[-1].out_shape
    exact = np.eye(maps[0].in_size)
    for m in maps:
        exact = matrix(m) @ exact
    reduced = chain(maps)
    np.testing.assert_allclose(matrix(reduced), exact, rtol=1e-9, atol=1e-9 * max(1.0, np.abs(exact).max()))
    assert cost(reduced) <= sum(cost(m) for m in maps)
    composed = maps[0]
    for m in maps[1:]:
        composed = compose(composed, m)
    np.testing.assert_allclose(matrix(composed), exact, rtol=1e-9, atol=1e-9 * max(1.0, np.abs(exact).max()))


def test_maps_that_do_not_fit_are_refused() -> None:
    for make in (
        lambda: Reshape((2, 3), (5,)),
        lambda: Dense((1, 4), (1, 3), normal(3, 5)),
        lambda: Gather((3,), (2,), np.array([0, 3])),
        lambda: Gather((3,), (2,), np.array([0, -2])),
        lambda: Scale((3,), (3,), normal(2)),
        lambda: Composition((3,), (3,), (Reshape((3,), (3,)), Reshape((2,), (2,)))),
    ):
        with pytest.raises(MalformedGraph):
            make()
