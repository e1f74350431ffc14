"""The examples of ARITHMETIC (a) that break a backward pass: the kernel stays at or below the exact bound, and a copy of it
without error terms does not. Each example aims at one of the places where a backward pass rounds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from random import Random

import numpy as np
import pytest

from tests.checker.random_networks import Array
from tests.checker.twins import as_rows, box_of, float_bound, float_state
from verifier.checker import arithmetic, bounds, functions
from verifier.checker.arithmetic import positive
from verifier.checker.bounds import Checker
from verifier.checker.exact_bounds import ExactBounds
from verifier.checker.maps import Dense, Diagonal, Index, Map
from verifier.checker.network import Affine, Elementwise, Input, Network, Node, Pieces, Product
from verifier.checker.refusal import Rejected

W0 = 2.0**-53 * (1 + 2.0**-20)  # a little more than half a unit in the last place of 1: every 1 + ... + W0 rounds up
UPWARD = np.array([1.0, *[W0] * 4095])  # its sum comes out too large in any order


@dataclass(frozen=True)
class Example:
    """A network whose last node is bounded from below over a box."""

    nodes: tuple[Node, ...]
    lower: Array
    upper: Array

    @property
    def network(self) -> Network:
        return Network(self.nodes, (0,), (len(self.nodes) - 1,), ("X",), ("Y",), {}, ())

    def functional(self) -> dict[int, Array]:
        return {len(self.nodes) - 1: np.ones(self.nodes[-1].size)}

    def kernel(self) -> Fraction:
        """What the kernel says."""
        checker = Checker(self.network, None)
        return float_bound(checker, float_state(checker, self.lower, self.upper), self.functional(), {})

    def exact(self) -> Fraction:
        """The exact bound."""
        twin = ExactBounds(self.network)
        return twin.lower_bound(twin.state(box_of(self.network, self.lower), box_of(self.network, self.upper)), as_rows(self.functional()))


def _input(n: int) -> Input:
    return Input("x", (), (1, n), None, "X")


def _affine(inputs: int | tuple[int, ...], *maps: Map, bias: float | None = None) -> Affine:
    inputs = (inputs,) if isinstance(inputs, int) else inputs
    size = maps[0].out_size
    return Affine("affine", inputs, (1, size), None, maps, None if bias is None else np.full(size, bias))


def _same(n: int = 1) -> Index:
    return Index(np.arange(n), n)


def _point(*x: float) -> tuple[Array, Array]:
    return np.array(x), np.array(x)


def concretisation() -> Example:
    """1: one output row, 4,096 inputs; only the last dot product rounds."""
    return Example((_input(4096), _affine(0, Dense(UPWARD[None]))), *_point(*[1.0] * 4096))


def many_outputs() -> Example:
    """2: the sum of the adjoint runs over the 4,096 outputs of a layer, not over its one input."""
    return Example((_input(1), _affine(0, Dense(UPWARD[:, None]))), *_point(1.0))


def many_consumers() -> Example:
    """3: 1,024 scalings of x, joined by a balanced tree of additions; the coefficient of x is accumulated 1,024 times."""
    nodes: list[Node] = [_input(1), *(_affine(0, Diagonal(np.array([w]))) for w in UPWARD[1023::-1])]
    level = list(range(1, len(nodes)))
    while len(level) > 1:
        pairs = list(zip(level[::2], level[1::2], strict=True))
        level = list(range(len(nodes), len(nodes) + len(pairs)))
        nodes += [_affine(pair, _same(), _same()) for pair in pairs]
    return Example(tuple(nodes), *_point(1.0))


def expand() -> Example:
    """4: re-indexing whose adjoint sums: Expand 1 -> 4,096, then Gemm 4,096 -> 1."""
    return Example((_input(1), _affine(0, Index(np.zeros(4096, dtype=np.int64), 1)), _affine(1, Dense(UPWARD[None]))), *_point(1.0))


def constants() -> Example:
    """5: 1,024 layers h + W0, then + 1: the constant is accumulated over layers where |h| is tiny."""
    nodes: list[Node] = [_input(1)]
    for k in range(1024):
        nodes.append(_affine(k, _same(), bias=W0))
    return Example((*nodes, _affine(1024, _same(), bias=1.0)), *_point(0.0))


def underflow() -> Example:
    """6: eight layers 2^127, seven 2^-149, one 2^-40, bias 2^-80: the coefficient underflows to 0, and with it the value -2^-67."""
    weights = [2.0**127] * 8 + [2.0**-149] * 7 + [2.0**-40]
    layers = [_affine(k, Diagonal(np.array([w])), bias=2.0**-80 if k == 15 else None) for k, w in enumerate(weights)]
    return Example((_input(1), *layers), *_point(-1.0))


def slope_times_coefficient() -> Example:
    """7: fl(D a) > D a, at a function without offset."""
    d, a = _rounds_up()
    function = Pieces((0.0,), (0.0, a), (0.0, 0.0), (0.0,))
    return Example((_input(1), Elementwise("f", (0,), (1, 1), None, function), _affine(1, Diagonal(np.array([d])))), *_point(1.0))


def offset_times_coefficient() -> Example:
    """7: fl(D o) > D o, at a function that is constant where it is looked at."""
    d, a = _rounds_up()
    function = Pieces((-1.0, 1.0), (0.0, 0.0, 0.0), (0.0, a, 0.0), (0.0, 0.0))
    return Example((_input(1), Elementwise("f", (0,), (1, 1), None, function), _affine(1, Diagonal(np.array([d])))), *_point(0.0))


def own_rounding() -> Example:
    """8: large terms that cancel, so that the bound is rounding, and the error term is a sum of 4,096 rounded products itself."""
    r = np.random.default_rng(8)
    w = r.uniform(1, 2, (2048, 2))
    half = np.concatenate([w, -w])
    return Example((_input(2), _affine(0, Dense(half[r.permutation(4096)])), _affine(1, Dense(np.ones((1, 4096))))), *_point(1 / 3, -1 / 7))


def repeated_inputs() -> Example:
    """17: x + W0 x, the same tensor twice; the coefficients are added, not overwritten, and the addition rounds."""
    return Example((_input(1), _affine((0, 0), Diagonal(np.array([1.0])), Diagonal(np.array([W0])))), *_point(1.0))


def absorption() -> Example:
    """19: -2^54 - 1 + 2^54, the 1 is lost."""
    return Example((_input(1), *(_affine(k, _same(), bias=b) for k, b in enumerate((-(2.0**54), -1.0, 2.0**54)))), *_point(0.0))


EXAMPLES: tuple[Callable[[], Example], ...] = (
    concretisation, many_outputs, many_consumers, expand, constants, underflow, slope_times_coefficient, offset_times_coefficient,
    own_rounding, repeated_inputs, absorption,
)  # fmt: skip


def _rounds_up() -> tuple[float, float]:
    """Two doubles whose rounded product is above their product by nearly half a unit."""
    r = Random(7)
    pairs = [(r.uniform(1, 1.25), r.uniform(1, 1.25)) for _ in range(200)]
    return max(pairs, key=lambda pair: Fraction(pair[0] * pair[1]) - Fraction(pair[0]) * Fraction(pair[1]))


@pytest.fixture
def without_error_terms(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel that believes in its floating-point numbers."""
    for module in (arithmetic, bounds, functions):
        for name in ("up", "dn"):
            monkeypatch.setattr(module, name, lambda x: x, raising=False)
    monkeypatch.setattr(arithmetic, "G", lambda m: 0.0)
    monkeypatch.setattr(arithmetic, "T", lambda m, magnitude: np.zeros(magnitude.shape[:-1]))
    monkeypatch.setattr(arithmetic, "FLOOR", 0.0)


@pytest.mark.parametrize("make", EXAMPLES, ids=lambda make: make.__name__)
def test_the_kernel_stays_at_or_below_the_exact_bound(make: Callable[[], Example]) -> None:
    example = make()
    assert example.kernel() <= example.exact()


@pytest.mark.parametrize("make", EXAMPLES, ids=lambda make: make.__name__)
@pytest.mark.usefixtures("without_error_terms")
def test_without_error_terms_it_does_not(make: Callable[[], Example]) -> None:
    example = make()
    assert example.kernel() > example.exact()


def overflow() -> Example:
    """9: no product overflows and the value is negative, but a partial sum 2^1023 + 2^1023 does."""
    layers = [_affine(k, Diagonal(np.full(4, 2.0**127))) for k in range(1, 9)]
    first = _affine(0, Dense(np.array([[128.0], [128.0], [-255.0], [-100.0]])))
    return Example((_input(1), first, *layers), *_point(2.0**-20))


def test_an_overflowing_partial_sum_proves_nothing() -> None:
    example = overflow()
    assert example.exact() == -99 * Fraction(2) ** (1016 - 20)
    try:
        bound = example.kernel()
    except Rejected as refusal:
        assert refusal.rule == "not-finite"
    else:  # this machine's order of summation did not overflow
        assert bound <= example.exact()


def test_infinity_and_nan_are_not_positive() -> None:
    assert positive(np.array([1.0, np.inf, np.nan, -np.inf, 0.0])).tolist() == [True, False, False, False, False]


def test_products_of_a_tensor_with_itself() -> None:
    """17: Mul(x, x) passes on two coefficients to one tensor."""
    example = Example((_input(1), Product("x x", (0, 0), (1, 1), None)), np.array([1.0]), np.array([2.0]))
    assert Fraction(1) - Fraction(1, 10**9) < example.kernel() <= example.exact() == 1
