"""The checker's linear maps against dense matrices of exact rationals, and its convolutions against onnx.reference."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from itertools import product
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx.reference import ReferenceEvaluator

from tests.effort import examples
from verifier.checker import maps
from verifier.checker.maps import Convolution, Dense, Diagonal, Index, Map, Sparse, Transposed
from verifier.checker.refusal import Rejected

Array = NDArray[Any]


def gamma(m: int) -> Fraction:
    u = Fraction(1, 2**53)
    return m * u / (1 - m * u)


def numbers(rng: np.random.Generator, *shape: int) -> Array:
    """Doubles of many magnitudes, some of them 0."""
    x = np.ldexp(rng.standard_normal(shape), rng.integers(-20, 20, shape))
    return np.where(rng.random(shape) < 0.2, 0.0, x)


def a_dense(rng: np.random.Generator) -> Map:
    return Dense(numbers(rng, *rng.integers(1, 5, 2)).astype(rng.choice(["f4", "f8"])), outer=int(rng.integers(1, 4)))


def a_sparse(rng: np.random.Generator) -> Map:
    shape = rng.integers(1, 7, 2)
    return Sparse(np.where(rng.random(shape) < rng.random(), numbers(rng, *shape), 0.0).astype(rng.choice(["f4", "f8"])))


def a_diagonal(rng: np.random.Generator) -> Map:
    n = int(rng.integers(1, 7))
    return Diagonal(numbers(rng, n), np.abs(numbers(rng, n)) if rng.random() < 0.5 else None)


def an_index(rng: np.random.Generator) -> Map:
    n, m = (int(k) for k in rng.integers(1, 9, 2))
    if rng.random() < 0.3:
        return Index(rng.permutation(n) if rng.random() < 0.7 else np.arange(n), n)
    return Index(rng.integers(-1, n, m), n)


def convolution_arguments(rng: np.random.Generator) -> dict[str, Any]:
    rank, groups, n = (int(k) for k in rng.integers(1, (4, 4, 3)))
    c_in, c_out = (groups * int(k) for k in rng.integers(1, 3, 2))
    spatial, kernel = rng.integers(1, 5, rank), rng.integers(1, 4, rank)
    strides, dilations = rng.integers(1, 4, rank), rng.integers(1, 3, rank)
    before, after = rng.integers(0, 3, rank), rng.integers(0, 3, rank)
    after = np.maximum(after, dilations * (kernel - 1) + 1 - spatial - before)
    weight = numbers(rng, c_out, c_in // groups, *kernel)
    lists = {"strides": strides.tolist(), "dilations": dilations.tolist(), "pads": [*before.tolist(), *after.tolist()]}
    return {"weight": weight, "in_shape": [n, c_in, *spatial.tolist()], "groups": groups, **lists}


def a_convolution(rng: np.random.Generator) -> Map:
    return Convolution(**convolution_arguments(rng))


MAKERS = [a_dense, a_sparse, a_diagonal, an_index, a_convolution]


def a_transposed(rng: np.random.Generator) -> Map:
    return Transposed(MAKERS[rng.integers(len(MAKERS))](rng))


def matrix(entries: maps.Entries, m: Map) -> list[list[Fraction]]:
    w = [[Fraction(0)] * m.in_size for _ in range(m.out_size)]
    for i, j, value in entries:
        assert w[i][j] == 0
        w[i][j] = Fraction(value)
    return w


def times(w: list[list[Fraction]], x: list[float]) -> list[Fraction]:
    exact = [Fraction(b) for b in x]
    return [sum((a * b for a, b in zip(row, exact, strict=True) if a), Fraction(0)) for row in w]


def absolute(w: list[list[Fraction]]) -> list[list[Fraction]]:
    return [[abs(a) for a in row] for row in w]


def transpose(w: list[list[Fraction]]) -> list[list[Fraction]]:
    return [list(column) for column in zip(*w, strict=True)]


def within(got: Array, w: list[list[Fraction]], x: Array, terms: int, batch: tuple[int, ...]) -> None:
    """Every entry of `got` is a sum of at most `terms` products, rounded: the bound of ARITHMETIC 1, per row of the batch."""
    assert got.dtype == np.float64 and got.shape == (*batch, len(w))
    rows, results = x.reshape(-1, x.shape[-1]).tolist(), got.reshape(-1, len(w)).tolist()
    assert len(rows) == len(results) > 0
    for row, result in zip(rows, results, strict=True):
        sizes = times(absolute(w), [abs(a) for a in row])
        for value, true, size in zip(result, times(w, row), sizes, strict=True):
            assert abs(Fraction(value) - true) <= gamma(terms) * size + terms * Fraction(1, 2**1074)


@pytest.mark.parametrize("make", [*MAKERS, a_transposed])
@settings(max_examples=examples(40))
@given(seed=st.integers(0, 2**32), batch=st.sampled_from([(), (1,), (3,), (2, 2)]), block=st.sampled_from([1, 40, 1 << 19]))
def test_a_map_is_the_matrix_of_its_entries(make: Callable[[np.random.Generator], Map], seed: int, batch: tuple[int, ...], block: int) -> None:
    rng = np.random.default_rng(seed)
    m = make(rng)
    w, x, d = matrix(m.entries(), m), numbers(rng, *batch, m.in_size), numbers(rng, *batch, m.out_size)
    kept = x.copy(), d.copy()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(maps, "BLOCK", block)  # so that small convolutions are cut into blocks too
        within(m.apply(x), w, x, m.products, batch)
        within(m.adjoint(d), transpose(w), d, m.meets, batch)
        within(m.magnitude(np.abs(x)), absolute(w), np.abs(x), m.products, batch)
        within(m.row_sums(), absolute(w), np.ones(m.in_size), m.products, ())
    radius, radii = m.radius(np.abs(x)), list(m.radii())
    assert (radius is None) == (not radii)
    if radius is not None:
        within(radius, matrix(iter(radii), m), np.abs(x), m.products, batch)
    assert (x == kept[0]).all() and (d == kept[1]).all()


@pytest.mark.parametrize("make", [*MAKERS, a_transposed])
@settings(max_examples=examples(60))
@given(seed=st.integers(0, 2**32))
def test_products_meets_and_moves_are_what_the_matrix_says(make: Callable[[np.random.Generator], Map], seed: int) -> None:
    rng = np.random.default_rng(seed)
    m = make(rng)
    w = matrix(m.entries(), m)
    per_row, per_column = ([sum(a != 0 for a in row) for row in rows] for rows in (w, transpose(w)))
    assert m.products >= max(per_row) and m.meets >= max(per_column)
    is_move = max(per_row) <= 1 and max(per_column) <= 1 and all(a in (0, 1) for row in w for a in row)
    assert is_move or not m.moves
    inner = m.of if isinstance(m, Transposed) else m
    if isinstance(inner, Index):
        assert m.moves == is_move
    if m.moves:  # then nothing is rounded: numbers arrive bit by bit
        x, d = rng.standard_normal(m.in_size), rng.standard_normal(m.out_size)
        assert m.apply(x).tolist() == [float(a) for a in times(w, x.tolist())]
        assert m.adjoint(d).tolist() == [float(a) for a in times(transpose(w), d.tolist())]


@settings(max_examples=examples(150))
@given(seed=st.integers(0, 2**32), transposed=st.booleans())
def test_convolutions_are_those_of_onnx(seed: int, transposed: bool) -> None:
    """Small integers, so that float64 is exact and the results are equal."""
    rng = np.random.default_rng(seed)
    arguments = convolution_arguments(rng)
    arguments["weight"] = rng.integers(-9, 9, arguments["weight"].shape).astype(np.float64)
    conv = Convolution(**arguments)
    attributes = {name: arguments[name] for name in ("strides", "dilations", "pads")} | {"group": arguments["groups"]}
    in_shape, out_shape = conv.in_shape, conv.out_shape
    m: Map = conv
    if transposed:  # its output has the shape of the input of the convolution that it transposes
        rest = [
            (n - 1) * s + d * (k - 1) + 1
            for n, s, d, k in zip(out_shape[2:], arguments["strides"], arguments["dilations"], arguments["weight"].shape[2:], strict=True)
        ]
        attributes["output_padding"] = [p - r for p, r in zip(conv.padded, rest, strict=True)]
        in_shape, out_shape, m = out_shape, in_shape, Transposed(conv)
    x = rng.integers(-9, 9, in_shape).astype(np.float64)
    if transposed:  # the reference is wrong about groups: one call per group
        pieces = zip(np.split(x, arguments["groups"], 1), np.split(arguments["weight"], arguments["groups"]), strict=True)
        expected = np.concatenate([run("ConvTranspose", a, w, attributes | {"group": 1}) for a, w in pieces], axis=1)
    else:
        expected = run("Conv", x, arguments["weight"], attributes)
    assert expected.shape == out_shape
    assert (m.apply(x.reshape(-1)).reshape(out_shape) == expected).all()


def run(operator: str, x: Array, weight: Array, attributes: dict[str, Any]) -> Array:
    info = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.DOUBLE, None) for name in "xwy"]
    graph = onnx.helper.make_graph([onnx.helper.make_node(operator, ["x", "w"], ["y"], **attributes)], "g", info[:2], info[2:])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)])
    return np.asarray(ReferenceEvaluator(model).run(None, {"x": x, "w": weight})[0])


def test_a_sum_is_the_transpose_of_an_expansion() -> None:
    expand = Index(np.repeat(np.arange(3), 1000), 3)
    total = Transposed(expand)
    assert (expand.meets, expand.products, expand.moves) == (1000, 1, False)
    assert (total.meets, total.products, total.moves) == (1, 1000, False)
    assert total.apply(np.ones((2, 3000))).tolist() == [[1000.0] * 3] * 2
    assert total.adjoint(np.arange(3.0)).tolist() == np.repeat(np.arange(3.0), 1000).tolist()


def test_re_indexing_passes_no_nan_on_and_shares_memory_only_as_the_identity() -> None:
    x = np.array([np.nan, 1.0, 2.0])
    assert Index(np.array([-1, 2, 1]), 3).apply(x).tolist() == [0.0, 2.0, 1.0]
    assert Index(np.array([2, -1]), 3).adjoint(np.array([1.0, np.nan])).tolist() == [0.0, 0.0, 1.0]
    for source, shared in (([0, 1, 2], True), ([0, 2, 1], False), ([0, 1], False)):
        assert np.shares_memory(Index(np.array(source), 3).apply(x), x) == shared
    everything_zero = Index(np.array([-1, -1]), 3)
    assert everything_zero.moves and everything_zero.adjoint(np.ones(2)).tolist() == [0.0] * 3


def test_weights_are_copied() -> None:
    weight, source = np.ones((2, 2)), np.array([1, 0])
    dense, index = Dense(weight), Index(source, 2)
    weight[:], source[:] = 7.0, 1
    assert dense.apply(np.ones(2)).tolist() == [2.0, 2.0] and index.apply(np.array([1.0, 2.0])).tolist() == [2.0, 1.0]
    with pytest.raises(ValueError, match="read-only"):
        dense.weight[0, 0] = 1.0


def conv(**changes: Any) -> Callable[[], Map]:
    good: dict[str, Any] = {
        "weight": np.ones((2, 1, 2, 2)),
        "in_shape": [1, 2, 3, 3],
        "strides": [1, 1],
        "dilations": [1, 1],
        "pads": [0] * 4,
        "groups": 2,
    }
    Convolution(**good)
    return lambda: Convolution(**(good | changes))


BAD: list[tuple[str, Callable[[], object]]] = [
    ("shape", lambda: Dense(np.ones(3))),
    ("shape", lambda: Dense(np.ones((0, 3)))),
    ("shape", lambda: Dense(np.ones((2, 3)), 0)),
    ("dtype", lambda: Dense(np.ones((2, 3), dtype=np.int64))),
    ("dtype", lambda: Dense(np.ones((2, 3), dtype=np.complex128))),
    ("not-finite", lambda: Dense(np.array([[np.nan]]))),
    ("shape", lambda: Sparse(np.ones(2))),
    ("not-finite", lambda: Sparse(np.array([[np.inf]]))),
    ("not-finite", lambda: Diagonal(np.array([np.inf]))),
    ("not-finite", lambda: Diagonal(np.ones(1), np.array([np.nan]))),
    ("shape", lambda: Diagonal(np.ones(2), np.ones(1))),
    ("shape", lambda: Diagonal(np.ones(1), np.array([-1.0]))),
    ("shape", lambda: Diagonal(np.ones(2), np.array([1.0, -1.0]))),
    ("shape", lambda: Index(np.array([3]), 3)),
    ("shape", lambda: Index(np.array([-2]), 3)),
    ("shape", lambda: Index(np.array([0]), 0)),
    ("shape", lambda: Index(np.array([-1]), 0)),
    ("shape", lambda: Index(np.array([0], dtype=np.int32), 3)),
    ("shape", lambda: Index(np.array([0.0]), 3)),
    ("shape", lambda: Index(np.array([], dtype=np.int64), 3)),
    ("shape", conv(weight=np.ones((2, 1)))),
    ("shape", lambda: Convolution(np.ones((1,) * 6), [1] * 6, [1] * 4, [1] * 4, [0] * 8, 1)),
    ("shape", conv(weight=np.ones((3, 1, 2, 2)))),
    ("not-finite", conv(weight=np.full((2, 1, 2, 2), -np.inf))),
    ("shape", conv(in_shape=[1, 3, 3, 3])),
    ("shape", conv(in_shape=[1, 2, 1, 3])),
    ("shape", conv(in_shape=[1, 2, 3])),
    ("shape", conv(strides=[1, 0])),
    ("shape", conv(strides=[1])),
    ("shape", conv(dilations=[3, 1])),
    ("shape", conv(pads=[0, 0, 0, -1])),
    ("shape", conv(pads=[0, 0])),
    ("shape", conv(groups=1)),
    ("shape", conv(groups=True)),
    ("dtype", lambda: Dense(np.ones((2, 3))).apply(np.ones(3, dtype=np.float32))),
    ("shape", lambda: Dense(np.ones((2, 3))).apply(np.ones(6))),
    ("shape", lambda: Dense(np.ones((2, 3))).adjoint(np.ones((2, 3)))),
    ("shape", lambda: Index(np.array([0]), 3).apply(np.ones(1))),
    ("shape", lambda: Diagonal(np.ones(3)).magnitude(np.array(1.0))),
    ("shape", lambda: Transposed(Dense(np.ones((2, 3)))).apply(np.ones(3))),
]


@pytest.mark.parametrize(("rule", "make"), BAD)
def test_what_does_not_fit_is_refused(rule: str, make: Callable[[], object]) -> None:
    with pytest.raises(Rejected) as refusal:
        make()
    assert refusal.value.rule == rule


def test_a_convolution_adds_every_product_once() -> None:
    """Brute force over places, independently of `entries`, with a different weight at every tap."""
    weight = 2.0 ** np.arange(2 * 3 * 2 * 2).reshape(2, 3, 2, 2)
    m = Convolution(weight, [1, 3, 4, 5], [2, 1], [1, 2], [1, 0, 0, 2], 1)
    x = np.random.default_rng(0).integers(-3, 4, (3, 4, 5)).astype(np.float64)
    expected = np.zeros(m.out_shape[1:])
    for c, i, j, k, a, b in product(*(range(n) for n in (*expected.shape, *weight.shape[1:]))):
        row, column = 2 * i + a - 1, j + 2 * b
        if 0 <= row < 4 and 0 <= column < 5:
            expected[c, i, j] += weight[c, k, a, b] * x[k, row, column]
    assert (m.apply(x.reshape(-1)) == expected.reshape(-1)).all()


def test_entries_of_a_convolution_are_those_that_are_not_0() -> None:
    m = Convolution(np.array([[[1.0, 0.0, -1.0]]]), [1, 1, 3], [1], [1], [1, 1], 1)
    assert list(m.entries()) == [(0, 1, -1.0), (1, 0, 1.0), (1, 2, -1.0), (2, 1, 1.0)]


def test_a_map_of_no_kind_does_nothing() -> None:
    bare = Map((1, 1), 1, 1, np.ones(1))
    for use in (lambda: bare.apply(np.ones(1)), bare.entries):
        with pytest.raises(NotImplementedError):
            use()


def test_sums_are_not_taken_for_longer_than_they_are() -> None:
    """Each count enters error terms: one too many is sound, and loose."""
    conv = Convolution(np.ones((4, 3, 2, 1)), [1, 6, 5, 5], [2, 1], [1, 1], [0] * 4, 2)
    for m, products, meets in (
        (Dense(np.ones((2, 3)), 4), 3, 2),
        (Sparse(np.array([[0.0, 2.0, 1.0], [0.0, 3.0, 0.0], [0.0, 1.0, 0.0]])), 2, 3),
        (Sparse(np.zeros((2, 2))), 1, 1),
        (Diagonal(np.ones(3)), 1, 1),
        (Index(np.array([1, 1, 1, -1, 0]), 2), 1, 3),
        (conv, 6, 4),
        (Transposed(conv), 4, 6),
    ):
        assert (m.products, m.meets) == (products, meets)
