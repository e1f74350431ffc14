"""Random small checker networks over every node type, boxes, functionals and multipliers: for Hypothesis, or from a seed.

Everything is drawn from a `random.Random`. `networks()` and friends hand over one that Hypothesis controls (it shrinks);
a loop over seeds is faster where a thousand examples are wanted.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from random import Random

import hypothesis.strategies as st
import numpy as np
from numpy.typing import NDArray

from verifier.checker.lowering import builder as lowering
from verifier.checker.maps import Convolution, Dense, Diagonal, Index, Map, Transposed
from verifier.checker.network import (
    Affine,
    Constant,
    Elementwise,
    Function,
    Input,
    MatMul,
    Network,
    Node,
    Pieces,
    Product,
    Smooth,
)

Array = NDArray[np.float64]
NON_LINEAR = Elementwise | Product | MatMul

RELU = Pieces((0.0,), (0.0, 1.0), (0.0, 0.0), (0.0,))
PIECES = (
    RELU,
    Pieces((0.0,), (0.125, 1.0), (0.0, 0.0), (0.0,)),  # LeakyReLU
    Pieces((0.0,), (-1.0, 1.0), (0.0, 0.0), (0.0,)),  # Abs
    Pieces((-1.0, 1.0), (0.0, 1.0, 0.0), (-1.0, 0.0, 1.0), (-1.0, 1.0)),  # Clip
    Pieces((-2.5, 2.5), (0.0, 0.2, 0.0), (0.0, 0.5, 1.0), (0.0, 1.0)),  # HardSigmoid, whose double slope 0.2 leaves tiny jumps
    Pieces((0.0,), (0.0, 0.0), (-1.0, 1.0), (0.0,)),  # Sign
    Pieces((0.5,), (0.0, 0.0), (0.0, 1.0), (1.0,)),  # x >= 1/2
    Pieces(step="floor"),
    Pieces(step="ceil"),
    Pieces(step="round"),
)
SMOOTH = (*map(Smooth, ("sigmoid", "tanh", "erf", "sin", "cos", "softplus", "exp")), Smooth("pow", 2.0), Smooth("pow", 3.0))
POSITIVE_DOMAIN = (Smooth("reciprocal"), Smooth("sqrt"), Smooth("log"), Smooth("pow", 0.5), Smooth("pow", -1.5))


@dataclass
class Builder:
    """Nodes as they are added; `r` decides everything. `wild`: weights from 2^-60 to 2^40 and no smooth functions, which would refuse."""

    r: Random
    wild: bool = False
    largest: int = 4  # elements of a node
    nodes: list[Node] = field(default_factory=list)

    def add(self, node: Node) -> int:
        self.nodes.append(node)
        return len(self.nodes) - 1

    def any_node(self) -> int:
        """An earlier node; late ones more often, so that networks get deep."""
        n = len(self.nodes)
        return self.r.randrange(n) if self.r.random() < 0.4 else self.r.randrange(n // 2, n)

    def number(self) -> float:
        """Mostly of order one, often a short binary fraction, sometimes 0."""
        kind = self.r.randrange(8)
        if self.wild and kind < 4:
            return self.r.uniform(-1, 1) * 2.0 ** self.r.randint(-60, 40)
        if kind < 3:
            return self.r.randint(-8, 8) / 8
        return self.r.uniform(-1.0, 1.0) if kind < 7 else self.r.choice((1 / 3, -0.1, 2.0**-30, 1 + 2.0**-40))

    def numbers(self, *shape: int) -> Array:
        return np.array([self.number() for _ in range(int(np.prod(shape)))]).reshape(shape)

    def size(self, i: int) -> int:
        return self.nodes[i].size

    def affine(self, inputs: tuple[int, ...], maps: tuple[Map, ...], shape: tuple[int, ...] | None = None) -> int:
        size = maps[0].out_size
        bias = self.numbers(size) if self.r.random() < 0.5 else None
        radius = np.abs(self.numbers(size)) * 2.0**-50 if bias is not None and self.r.random() < 0.2 else None
        return self.add(Affine("affine", inputs, shape or (1, size), None, maps, bias, radius))

    # ------------------------------------------------------------ linear maps from one node

    def dense(self, n: int, out: int) -> Map:
        return Dense(self.numbers(out, n) / max(n, 2))

    def index(self, n: int, out: int) -> Map:
        return Index(np.array([self.r.randrange(-1, n) for _ in range(out)], dtype=np.int64), n)

    def map_to(self, n: int, out: int) -> Map:
        """Any map from n to `out` numbers."""
        kind = self.r.randrange(5)
        if n == out and kind == 0:
            return Index(np.arange(n), n)
        if n == out and kind == 1:
            error = np.abs(self.numbers(n)) * 2.0**-51 if self.r.random() < 0.5 else None
            return Diagonal(self.numbers(n), error)
        if kind == 2:
            return self.index(n, out)
        if kind == 3:
            return Transposed(self.dense(out, n) if self.r.random() < 0.5 else self.index(out, n))
        return self.dense(n, out)

    def convolution(self, i: int) -> int:
        n = self.size(i)
        groups = self.r.choice([g for g in (1, 2) if n % g == 0])
        channels = self.r.choice([c for c in (1, 2) if n % c == 0 and c % groups == 0] or [groups])
        length, kernel = n // channels, self.r.randint(1, min(2, n // channels))
        weight = self.numbers(groups * self.r.randint(1, 2), channels // groups, kernel) / 2
        pads = (self.r.randint(0, 1), self.r.randint(0, 1))
        linear = Convolution(weight, (1, channels, length), (self.r.randint(1, 2),), (1,), pads, groups)
        return self.affine((i,), (linear,))

    # ------------------------------------------------------------ one more node

    def linear(self) -> int:
        i = self.any_node()
        return self.affine((i,), (self.map_to(self.size(i), self.r.randint(1, self.largest)),))

    def residual(self) -> int:
        """Several consumers, repeated inputs: Add(x, x), x + W x, a sum of several nodes."""
        inputs = tuple(self.any_node() for _ in range(self.r.randint(2, 3)))
        inputs = (inputs[0],) * len(inputs) if self.r.random() < 0.3 else inputs
        out = self.size(inputs[0])
        return self.affine(inputs, tuple(self.map_to(self.size(i), out) for i in inputs))

    def elementwise(self, function: Function, i: int | None = None) -> int:
        i = self.any_node() if i is None else i
        return self.add(Elementwise("elementwise", (i,), self.nodes[i].shape, None, function))

    def positive_domain(self) -> int:
        """A function that wants positive arguments, of 1 + x^2 or of 1/4 + exp(tanh x)."""
        i = self.elementwise(Smooth("pow", 2.0)) if self.r.random() < 0.5 else self.elementwise(Smooth("exp"), self.elementwise(Smooth("tanh")))
        n = self.size(i)
        shifted = self.add(Affine("shift", (i,), (1, n), None, (Index(np.arange(n), n),), np.full(n, self.r.choice((0.25, 1.0))), None))
        return self.elementwise(self.r.choice(POSITIVE_DOMAIN), shifted)

    def partner(self, i: int) -> int:
        """A node of the size of node i: itself, another, a constant or a map of another."""
        n, same = self.size(i), [j for j in range(len(self.nodes)) if self.size(j) == self.size(i)]
        kind = self.r.randrange(3)
        if kind == 0:
            return self.r.choice(same)
        if kind == 1:
            return self.add(Constant("constant", (), (1, n), None, self.numbers(n), np.abs(self.numbers(n)) * self.r.choice((0.0, 2.0**-52))))
        j = self.any_node()
        return self.affine((j,), (self.map_to(self.size(j), n),))

    def product(self) -> int:
        i = self.any_node()
        pair = (i, self.partner(i))
        return self.add(Product("product", pair if self.r.random() < 0.5 else pair[::-1], self.nodes[i].shape, None))

    def matmul(self) -> int:
        n, k, m = (self.r.randint(1, 2) for _ in range(3))
        outer = (1, self.r.randint(1, 2)) if self.r.random() < 0.3 else (1,)
        repeats = int(np.prod(outer))
        i, j = self.any_node(), self.any_node()
        x = self.affine((i,), (self.map_to(self.size(i), repeats * n * k),), (*outer, n, k))
        y = self.affine((j,), (self.map_to(self.size(j), repeats * k * m),), (*outer, k, m))
        return self.add(MatMul("matmul", (x, y), (*outer, n, m), None))

    def maximum(self) -> int:
        i, out, width = self.any_node(), self.r.randint(1, 3), self.r.randint(1, 3)
        n = self.size(i)
        windows = np.array([[self.r.randrange(n), *(self.r.randrange(-1, n) for _ in range(width - 1))] for _ in range(out)], dtype=np.int64)
        builder = lowering.Builder(self.nodes, place="maximum")
        return builder.maximum(lowering.Tensor(i, self.nodes[i].shape), windows, (1, out)).node

    def step(self) -> None:
        """Add something."""
        kind = self.r.randrange(16)
        if kind < 3:
            self.linear()
        elif kind < 5:
            self.residual()
        elif kind < 6:
            self.convolution(self.any_node())
        elif kind < 8:
            self.elementwise(RELU)
        elif kind < 10:
            self.elementwise(self.r.choice(PIECES))
        elif kind < 12 and not self.wild:
            self.elementwise(self.r.choice(SMOOTH))
        elif kind < 13 and not self.wild:
            self.positive_domain()
        elif kind < 14:
            self.product()
        elif kind < 15:
            self.matmul()
        else:
            self.maximum()


def random_network(r: Random, most: int = 8, wild: bool = False) -> Network:
    """A network of one or two inputs, up to `most` drawn steps, and one output that mixes several nodes."""
    build = Builder(r, wild)
    inputs = tuple(build.add(Input("input", (), (1, r.randint(1, 3)), None, f"X{i}")) for i in range(r.randint(1, 2)))
    for _ in range(r.randint(1, most)):
        build.step()
    sources = tuple(dict.fromkeys((len(build.nodes) - 1, *(build.any_node() for _ in range(r.randint(0, 2))))))
    output = build.affine(sources, tuple(build.dense(build.size(i), 2) for i in sources))
    sites = {(f"t{i}", 0): i for i, node in enumerate(build.nodes) if isinstance(node, NON_LINEAR)}
    names = tuple(f"X{i}" for i in range(len(inputs)))
    return Network(tuple(build.nodes), inputs, (output,), names, ("Y",), sites, ())


def random_box(r: Random, network: Network) -> tuple[Array, Array]:
    """lower, upper [n_in] over all inputs: ordinary boxes, narrow ones, some coordinates without width."""
    n = sum(network.nodes[i].size for i in network.inputs)
    centre = np.array([r.uniform(-1, 1) for _ in range(n)])
    width = np.array([r.choice((0.0, 2.0**-20, 0.25, 1.0)) * r.random() for _ in range(n)])
    return centre - width, centre + width


def random_functional(r: Random, network: Network) -> dict[int, Array]:
    """Coefficients [size] of one or two nodes, outputs more often."""
    nodes = [network.outputs[0]] if r.random() < 0.5 else [r.randrange(len(network.nodes)) for _ in range(r.randint(1, 2))]
    return {i: np.array([r.choice((0.0, 1.0, -1.0, r.uniform(-2, 2))) for _ in range(network.nodes[i].size)]) for i in nodes}


def random_slopes(r: Random, network: Network) -> dict[int, tuple[Array, Array]]:
    """Node -> (lower, upper) slopes [size] of some Elementwise nodes: sensible, wild, float16."""
    found = {}
    for i, node in enumerate(network.nodes):
        if isinstance(node, Elementwise) and r.random() < 0.5:
            pair = (np.array([_slope(r) for _ in range(node.size)]) for _ in range(2))
            found[i] = tuple(pair)
    return found  # type: ignore[return-value]


def flat_slopes(slopes: dict[int, tuple[Array, Array]]) -> dict[tuple[int, int], dict[int, Fraction]]:
    """Slopes as the exact twin takes them."""
    return {(k, side): dict(enumerate(map(Fraction, row.reshape(-1).tolist()))) for k, pair in slopes.items() for side, row in enumerate(pair)}


def _slope(r: Random) -> float:
    kind = r.randrange(6)
    if kind == 0:
        return r.choice((0.0, 1.0))
    return float(np.float16(r.random())) if kind < 4 else r.uniform(-1, 2)


def random_point(r: Random, lower: Array, upper: Array) -> Array:
    """A point of the box, corners more often."""
    return np.array([r.choice((low, high, low + (high - low) * r.random())) for low, high in zip(lower.tolist(), upper.tolist(), strict=True)])


# ---------------------------------------------------------------- for Hypothesis


@st.composite
def networks(draw: st.DrawFn, most: int = 6) -> Network:
    """Any small network."""
    return random_network(draw(st.randoms(use_true_random=False)), most)


@st.composite
def bounding_problems(draw: st.DrawFn, most: int = 6) -> tuple[Network, Array, Array, dict[int, Array], dict[int, tuple[Array, Array]]]:
    """(network, lower, upper, functional, slopes)."""
    r = draw(st.randoms(use_true_random=False))
    network = random_network(r, most)
    return (network, *random_box(r, network), random_functional(r, network), random_slopes(r, network))
