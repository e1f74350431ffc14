"""Networks on which rounding changes the answer, and float32 executions of them, step by step in numpy.

A gadget is a network with a box, a point of it, and what its output is there in executions that float32 allows (DESIGN 7: each operator in
float32, sums in any order, gradual or flushed underflow). What it is over the reals is not said here: it is worked out from the file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.soundness.instance import Array
from benchmarks.soundness.net import Net

F = np.float32
Numbers = Sequence[float] | Array
TINY = F(2.0**-126)  # the least normal number


@dataclass(frozen=True, eq=False)
class Gadget:
    """`output` [1, 1] of `net` over the box; `runs`: the output at `point` in constructed executions; `why` goes on after "in float32".
    `least`: at the point the output is least over the box, and executions above it are no traps."""

    name: str
    net: Net
    output: str
    shape: tuple[int, ...]
    lower: Numbers
    upper: Numbers
    point: Numbers
    runs: tuple[float, ...]
    why: str
    least: bool = False


def left_to_right(terms: Sequence[float] | Array) -> float:
    """The sum, each partial sum rounded."""
    total = F(terms[0])
    for term in terms[1:]:
        total = F(total + F(term))
    return float(total)


def orders(terms: Sequence[float] | Array) -> tuple[float, ...]:
    """The sum in a few orders: as written, backwards, what is positive first, by size either way."""
    terms = np.asarray(terms, dtype=F)
    by_size = np.argsort(abs(terms), kind="stable")
    sequences = (terms, terms[::-1], np.concatenate([terms[terms > 0], terms[terms <= 0]]), terms[by_size], terms[by_size[::-1]])
    return tuple(dict.fromkeys(left_to_right(s) for s in sequences))


def flushed(value: np.floating) -> np.floating:
    """Subnormal numbers become 0."""
    return F(0) if abs(value) < TINY else F(value)


def absorption(seed: int) -> Iterator[Gadget]:
    """w a + b - w a: b over the reals, whatever b is; 0 where b is added to w a first (Zombori et al. 2021)."""
    for k in (24, 30, 54, 62, 100):
        net = Net(np.random.default_rng([seed, k]))
        weights = _shuffled(net, k)
        out = net.node("Gemm", "x", net.constant(weights.reshape(3, 1)))
        lower = np.where(weights == 1, 0.75, 1.0)
        yield Gadget(f"absorbed_{k}", net, out, (1, 3), lower, [1, 1, 1], [1, 1, 1], orders(weights), f"1 is lost beside 2^{k}")


def _shuffled(net: Net, k: int) -> Array:
    """2^k, 1 and -2^k in some order."""
    return net.rng.permutation([2.0**k, 1.0, -(2.0**k)])


def spread(seed: int) -> Iterator[Gadget]:
    """The large weight is spread over layers, with hinges between, so that no weight looks large."""
    for depth, k in ((2, 14), (3, 9), (4, 15)):
        net = Net(np.random.default_rng([seed, depth]))
        value = net.node("Relu", net.node("Gemm", "x", net.constant([[2.0**k, 0, 2.0**k], [0, 1, 0]])))
        for _ in range(depth - 1):
            value = net.node("Relu", net.node("Gemm", value, net.constant(np.diag([2.0**k, 1, 2.0**k]))))
        out = net.node("Gemm", value, net.constant([[1.0], [1.0], [-1.0]]))
        large = 2.0 ** (k * depth)
        yield Gadget(f"spread_{depth}", net, out, (1, 2), [1, 0.75], [1, 1], [1, 1], orders([large, 1.0, -large]), "1 is lost beside a product")


def order(seed: int) -> Iterator[Gadget]:
    """relu(1 - sum) tells the order in which the sum was made (Szasz et al. 2025)."""
    for k in (24, 40, 60):
        net = Net(np.random.default_rng([seed, k]))
        weights = _shuffled(net, k)
        out = net.node("Gemm", "x", net.constant(weights.reshape(3, 1)))
        out = net.node("Relu", net.node("Gemm", out, net.constant([[-1.0]]), net.constant([1.0])))
        runs = tuple(float(max(F(0), F(1) - F(s))) for s in orders(weights))
        yield Gadget(f"order_{k}", net, out, (1, 3), [1, 1, 1], [1, 1, 1], [1, 1, 1], runs, "the order of a sum decides")


def association(seed: int) -> Iterator[Gadget]:
    """|((a + c) + b) - ((a + b) + c)|, every sum an operator of its own: 0 over the reals."""
    for k in (24, 30, 60):
        net = Net(np.random.default_rng(seed))
        a, b, c = net.nodes_of("Split", ["x"], 3, axis=1)
        first = net.node("Add", net.node("Add", a, c), b)
        out = net.node("Abs", net.node("Sub", first, net.node("Add", net.node("Add", a, b), c)))
        x = [2.0**k, 1.0, -(2.0**k)]
        run = abs(left_to_right([x[0], x[2], x[1]]) - left_to_right(x))
        yield Gadget(f"association_{k}", net, out, (1, 3), x, x, x, (run,), "sums are not associative")


def precision(seed: int) -> Iterator[Gadget]:
    """((1 + e) x - (1 + 2 e)) / e^2 at x = 1 + e tells float32 from what is wider."""
    for k in (12, 13, 15):
        e = 2.0**-k
        net = Net(np.random.default_rng(seed))
        shifted = net.node("Sub", net.node("Mul", "x", net.constant(1 + e)), net.constant(1 + 2 * e))
        out = net.node("Mul", shifted, net.constant(e**-2))
        run = F(F(F(1 + e) * F(1 + e)) - F(1 + 2 * e)) * F(e**-2)
        yield Gadget(f"precision_{k}", net, out, (1, 1), [1 + e], [1 + e], [1 + e], (float(run),), "the last digits of a square are lost")


def cancellation(seed: int) -> Iterator[Gadget]:
    """Weights of both signs that nearly cancel: the positive and the negative part are both large."""
    for n in (8, 16, 32, 48):
        rng = np.random.default_rng([seed, n])
        net = Net(rng)
        half = (rng.integers(2**23, 2**24, n) * 2.0 ** rng.integers(0, 12, n)).astype(F)
        weights = np.concatenate([half, [0.25], -half])[rng.permutation(2 * n + 1)]
        out = net.node("Gemm", "x", net.constant(weights.reshape(-1, 1)))
        ones = np.ones(2 * n + 1)
        yield Gadget(f"cancelled_{n}", net, out, (1, 2 * n + 1), ones, ones, ones, orders(weights), "large weights do not cancel")


def pooling(seed: int) -> Iterator[Gadget]:
    """The mean of 2^k, b, -2^k."""
    for kind, k in (("AveragePool", 24), ("GlobalAveragePool", 30), ("ReduceMean", 26), ("ReduceSum", 60)):
        net = Net(np.random.default_rng(seed))
        if kind == "AveragePool":
            out = net.row(net.node(kind, "x", kernel_shape=[1, 3]))
        elif kind == "GlobalAveragePool":
            out = net.row(net.node(kind, "x"))
        else:
            out = net.row(net.sum_over("x", [3]) if kind == "ReduceSum" else net.node(kind, "x", axes=[3], keepdims=0))
        x = [2.0**k, 1.0, -(2.0**k)]
        runs = tuple(float(F(s) if kind == "ReduceSum" else F(F(s) / F(3))) for s in orders(x))
        yield Gadget(f"{kind.lower()}_{k}", net, out, (1, 1, 1, 3), [x[0], 0.75, x[2]], x, x, runs, "a mean loses its small term")


def fused(seed: int) -> Iterator[Gadget]:
    """(a b - fl(a b)) 2^26: 0 where the product is rounded, not 0 where it is not (FMA, or over the reals)."""
    for number in (1, 2, 3):
        rng = np.random.default_rng([seed, number])
        net = Net(rng)
        a, b = (F(1 + rng.integers(1, 2**23) * 2.0**-23) for _ in range(2))
        rounded = F(a * b)
        out = net.node("Gemm", net.node("Gemm", "x", net.constant([[a], [-1.0]])), net.constant([[2.0**26]]))
        point = [float(b), float(rounded)]
        exact = float(a) * float(b) - float(rounded)  # 48 digits: exact in float64, and short enough for float32
        yield Gadget(f"fused_{number}", net, out, (1, 2), point, point, point, (0.0, float(F(exact)) * 2.0**26), "a product is rounded, or fused")


def edge(seed: int) -> Iterator[Gadget]:
    """Always active neurons: affine on the box, and the least value is rounded down (after Jia and Rinard 2021)."""
    for n in (4, 8, 12, 16):
        gadgets = (_edge(n, np.random.default_rng([seed, n, attempt])) for attempt in range(1000))
        yield next(g for g in gadgets if g is not None)


def _edge(n: int, rng: np.random.Generator) -> Gadget | None:
    """None where no order of the sums is below the exact value."""
    first, second = rng.normal(size=(n, 6)).astype(F), abs(rng.normal(size=(6, 1))).astype(F)
    shift = float(F(-4.0 * n * second.sum()))
    corner = np.where((first.astype(float) @ second.astype(float)).reshape(-1) > 0, -1.0, 1.0)
    hidden = [left_to_right([*(corner * first[:, j]), 4.0 * n]) for j in range(6)]
    runs = orders([*(float(F(h) * w) for h, w in zip(hidden, second.reshape(-1), strict=True)), shift])
    exact = float((corner @ first.astype(float) + 4.0 * n) @ second.astype(float).reshape(-1)) + shift  # to choose by, not to claim
    if min(runs) > exact - 1e-7:
        return None
    net = Net(rng)
    value = net.node("Relu", net.node("Gemm", "x", net.constant(first), net.constant(np.full(6, 4.0 * n))))
    out = net.node("Gemm", value, net.constant(second), net.constant([shift]))
    below = (min(runs),)
    return Gadget(f"edge_{n}", net, out, (1, n), -np.ones(n), np.ones(n), corner, below, "the least value over the box is rounded down", True)


def subnormal(seed: int) -> Iterator[Gadget]:
    """x 2^-k 2^k through numbers that may be flushed to 0."""
    for number, (down, again, up) in enumerate(((-100, -30, 120), (-64, -70, 100), (-126, -10, 126)), 1):
        net = Net(np.random.default_rng(seed))
        out = net.node("Mul", "x", net.constant(2.0**down))
        out = net.node("Relu", net.node("Mul", out, net.constant(2.0**again)))
        out = net.node("Mul", net.node("Mul", out, net.constant(2.0**up)), net.constant(2.0 ** (126 - up)))
        kept = F(2.0 ** (down + again)) * F(2.0**up) * F(2.0 ** (126 - up))
        gone = flushed(F(2.0 ** (down + again))) * F(2.0**up)
        yield Gadget(f"subnormal_{number}", net, out, (1, 1), [1], [1], [1], (float(kept), float(gone)), "subnormal numbers are flushed to 0")


def jump(seed: int) -> Iterator[Gadget]:
    """Sign((x + 2^k) - 2^k) for x > 0."""
    for k in (24, 26, 40):
        net = Net(np.random.default_rng(seed))
        out = net.node("Sub", net.node("Add", "x", net.constant(2.0**k)), net.constant(2.0**k))
        run = np.sign(F(F(0.375) + F(2.0**k)) - F(2.0**k))
        why = "what a step reads is rounded to its jump"
        yield Gadget(f"jump_{k}", net, net.node("Sign", out), (1, 1), [0.25], [0.375], [0.375], (float(run),), why)


def carried(seed: int) -> Iterator[Gadget]:
    """A skip connection with large values: (x + relu(y)) - x."""
    for k in (25, 30, 50):
        net = Net(np.random.default_rng(seed))
        x, y = net.nodes_of("Split", ["x"], 2, axis=1)
        out = net.node("Sub", net.node("Add", x, net.node("Relu", y)), x)
        run = F(F(F(2.0**k) + F(1)) - F(2.0**k))
        large = 2.0**k
        yield Gadget(f"carried_{k}", net, out, (1, 2), [large, 0.75], [large, 1], [large, 1], (float(run),), "a skip connection swallows its block")


def normalised(seed: int) -> Iterator[Gadget]:
    """BatchNormalization of numbers near a large mean; the root of variance + epsilon is 3."""
    for k in (20, 22):
        net = Net(np.random.default_rng(seed))
        ones, zeros, means = (net.constant(np.full(1, v)) for v in (1.0, 0.0, 2.0**k))
        out = net.node("BatchNormalization", "x", ones, zeros, means, net.constant([9 - 2.0**-10]), epsilon=2.0**-10)
        x = [2.0**k + 1]
        yield Gadget(f"normalised_{k}", net, out, (1, 1), x, x, x, (), "the mean is multiplied before it is subtracted")


def variance(seed: int) -> Iterator[Gadget]:
    """mean(x^2) - mean(x)^2 is never negative, but for rounding."""
    for number in range(1, 5):
        x = _negative_variance(np.random.default_rng([seed, number]))
        net = Net(np.random.default_rng(seed))
        squares = net.node("ReduceMean", net.node("Mul", "x", "x"), axes=[1], keepdims=1)
        mean = net.node("ReduceMean", "x", axes=[1], keepdims=1)
        out = net.node("Sub", squares, net.node("Mul", mean, mean))
        yield Gadget(f"variance_{number}", net, out, (1, len(x)), x, x, x, (_variance(x),), "a variance is below 0")


def _negative_variance(rng: np.random.Generator) -> Array:
    for _ in range(10_000):
        x = (1000 + rng.integers(0, 64, 6) / 64).astype(F)
        if _variance(x) < 0:
            return x
    raise ArithmeticError("no variance was rounded below 0")


def _variance(x: Array) -> float:
    """In float32, from the left."""
    n = F(len(x))
    mean = F(F(left_to_right(x)) / n)
    return float(F(F(left_to_right([F(v) * F(v) for v in x])) / n) - F(mean * mean))


GADGETS: tuple[Callable[[int], Iterator[Gadget]], ...] = (
    absorption, spread, order, association, precision, cancellation, pooling, fused, edge, subnormal, jump, carried, normalised, variance,
)  # fmt: skip
