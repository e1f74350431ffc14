"""Floating-point traps: networks on which rounding changes the answer. `real` must not claim what the exact value violates, `float32`
not what some execution in float32 violates; a checker that believes in its floating-point numbers claims all of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.checker.build import Draft, leaf
from verifier.checker import arithmetic, bounds, certificate, functions, read_model, read_property, tree, walk
from verifier.checker.arithmetic import positive
from verifier.checker.bounds import Checker
from verifier.checker.network import Network
from verifier.checker.refusal import Rejected
from verifier.checker.slack import Slack

F = np.float32


@dataclass
class Chain:
    """A model of one operator after the other."""

    inputs: int
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: list[onnx.TensorProto] = field(default_factory=list)
    outputs: int = 0

    def _put(self, kind: str, *constants: object, **attributes: object) -> Chain:
        names = []
        for value in constants:
            names.append(f"c{len(self.constants)}")
            self.constants.append(numpy_helper.from_array(np.array(value, F), names[-1]))
        before = self.nodes[-1].output[0] if self.nodes else "x"
        self.nodes.append(helper.make_node(kind, [before, *names], [f"t{len(self.nodes)}"], **attributes))
        return self

    def gemm(self, weight: list[list[float]], *bias: list[float]) -> Chain:
        self.outputs = len(weight)
        return self._put("Gemm", weight, *bias, transB=1)

    def mul(self, factor: float) -> Chain:
        return self._put("Mul", factor)

    def add(self, term: float) -> Chain:
        return self._put("Add", term)

    def mean(self) -> Chain:
        self.outputs = 1
        return self._put("ReduceMean", axes=[1], keepdims=1)

    def relu(self) -> Chain:
        return self._put("Relu")

    def sign(self) -> Chain:
        return self._put("Sign")

    def network(self) -> Network:
        return read_model.read(self.model())

    def model(self) -> bytes:
        shapes = {"x": [1, self.inputs], self.nodes[-1].output[0]: [1, self.outputs or self.inputs]}
        ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()]
        graph = helper.make_graph(self.nodes, "trap", ends[:1], ends[1:], self.constants)
        return bytes(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString())


@dataclass(frozen=True)
class Trap:
    """The claim is sign (y - threshold) > 0 over the box. `real` is the exact y somewhere in it, `runs` are y of float32 executions."""

    chain: Chain
    lower: list[float]
    upper: list[float]
    sign: int
    threshold: float
    real: Fraction
    runs: tuple[float, ...] = ()

    def violates(self, y: Fraction) -> bool:
        return self.sign * (y - Fraction(self.threshold)) <= 0

    def violated(self, semantics: str) -> bool:
        return self.violates(self.real) if semantics == "real" else any(self.violates(Fraction(float(y))) for y in self.runs)

    def claimed(self, semantics: str) -> bool:
        """Whether the checker's bound over exactly this box is positive."""
        network = self.chain.network()
        checker = Checker(network, Slack(network) if semantics == "float32" else None)
        state = checker.state(1, np.array([self.lower]), np.array([self.upper]), {}, {}, 0)
        zero = np.zeros((1, 1))
        functional = {network.outputs[0]: np.full((1, 1, 1), float(self.sign))}
        return bool(positive(checker.lower_bound(state, functional, zero - self.sign * self.threshold, zero, {})).all())

    def text(self) -> bytes:
        """The property whose only unsafe case is that the claim fails."""
        names = [*(f"X_{i}" for i in range(self.chain.inputs)), "Y_0"]
        ends = [(">=", x) for x in self.lower], [("<=", x) for x in self.upper]
        box = [f"(assert ({relation} X_{i} {Decimal(x)}))" for side in ends for i, (relation, x) in enumerate(side)]
        unsafe = f"(assert ({'<=' if self.sign > 0 else '>='} Y_0 {Decimal(self.threshold)}))"
        return "\n".join([*(f"(declare-const {name} Real)" for name in names), *box, unsafe]).encode()

    def accepted(self, semantics: str) -> bool:
        """Whether a certificate of one leaf is accepted, files read as the checker reads them."""
        model, text = self.chain.model(), self.text()
        draft = Draft(model, text, semantics)
        draft.tree([0], leaf(), program=1)
        network = self.chain.network()
        cases = read_property.bind(read_property.read(text), network)
        found = certificate.read(draft.bytes(), 1 << 20)
        checker = Checker(network, Slack(network) if semantics == "float32" else None)
        try:
            walk.check(checker, cases, found, tree.grow(found, cases, tree.sizes(found, network)), 8)
        except Rejected:
            return False
        return True


def point(chain: Chain, x: list[float], sign: int, threshold: float, real: Fraction, *runs: float) -> Trap:
    return Trap(chain, x, x, sign, threshold, real, runs)


def absorption() -> Trap:
    """2^24 + 1 - 2^24 is 1; in float32, from the left, 0."""
    y = F(F(2**24) + F(1)) - F(2**24)
    return point(Chain(3).gemm([[2.0**24, 1.0, -(2.0**24)]]), [1.0] * 3, 1, 0.5, Fraction(1), y)


def order_detector() -> Trap:
    """relu(1 - sum) is 0 if large terms are added first, and 1 if they are added last: some order violates either claim."""
    chain = Chain(3).gemm([[2.0**24, 1.0, -(2.0**24)]]).gemm([[-1.0]], [1.0]).relu()
    large_first = F(1) - (F(F(2**24) - F(2**24)) + F(1))
    large_last = F(1) - (F(F(2**24) + F(1)) - F(2**24))
    return point(chain, [1.0] * 3, -1, 0.5, Fraction(0), large_first, large_last)


def precision_detector() -> Trap:
    """((1 + 2^-12)^2 - 1 - 2^-11) 2^24 is 1; rounded to float32 after the product, 0; in wider arithmetic 1."""
    e = 2.0**-12
    chain = Chain(1).mul(1 + e).add(-(1 + 2 * e)).mul(2.0**24)
    narrow, wide = (kind((kind(1 + e) * kind(1 + e) - kind(1 + 2 * e)) * kind(2**24)) for kind in (F, np.float64))
    return point(chain, [1 + e], 1, 0.5, Fraction(1), float(narrow), float(wide))


def weights_that_cancel() -> Trap:
    """2^60 + 1 - 2^60: the positive part of the weights and the negative one are summed apart, and the 1 is lost."""
    return point(Chain(3).gemm([[2.0**60, 1.0, -(2.0**60)]]), [1.0] * 3, -1, 0.5, Fraction(1), 0.0, 1.0)


def pooling_that_cancels() -> Trap:
    """The mean of three equal numbers, minus the number: not 0 in float32 where 1 / 3, rounded, is multiplied."""
    third = F(1) / F(3)
    numbers = F(1) + np.arange(1 << 12).astype(F) * F(2.0**-23)
    found = F((F(numbers + numbers) + numbers) * third) - numbers
    k = int(np.flatnonzero(found)[0])
    sign = -1 if found[k] > 0 else 1
    return point(Chain(3).mean().add(-float(numbers[k])), [float(numbers[k])] * 3, sign, float(found[k]) / 2, Fraction(0), float(found[k]))


def edge_bias() -> Trap:
    """A threshold between the exact minimum and what a checker without error terms says (after Jia and Rinard), searched for."""
    for seed in range(200):
        rng = np.random.default_rng(seed)
        first, second = rng.normal(size=(8, 16)).astype(F), np.abs(rng.normal(size=(1, 8))).astype(F)
        bias = [float(F(64.0))] * 8  # every neuron is active: the network is linear on the box
        chain = Chain(16).gemm(first.tolist(), bias).relu()
        rows = [[Fraction(w) for w in row] for row in first.tolist()]
        slopes = [sum(Fraction(v) * row[i] for v, row in zip(second[0].tolist(), rows, strict=True)) for i in range(16)]
        least = sum(map(Fraction, second[0].tolist())) * 64 - sum(map(abs, slopes))
        shift = float(F(-float(least)))  # so that the minimum is nearly 0, where thresholds are dense
        least += Fraction(shift)
        trap = Trap(chain.gemm(second.tolist(), [shift]), [-1.0] * 16, [1.0] * 16, 1, float(np.nextafter(float(least), np.inf)), least)
        if believes(trap):
            return trap
    raise ValueError("no such threshold")


def subnormal_numbers() -> Trap:
    """2^-130 2^120, where 2^-130 may be flushed to 0."""
    return point(Chain(1).mul(2.0**-100).mul(2.0**-30).mul(2.0**120), [1.0], 1, 2.0**-11, Fraction(2) ** -10, 0.0, 2.0**-10)


def step_at_its_jump() -> Trap:
    """The sign of (x + 2^24) - 2^24, of x = 0.4: 1, but in float32 the sum is 2^24."""
    y = np.sign(F(F(0.4) + F(2**24)) - F(2**24))
    return point(Chain(1).add(2.0**24).add(-(2.0**24)).sign(), [float(F(0.4))], 1, 0.5, Fraction(1), y)


def step_in_the_interval() -> Trap:
    """sign(-1 .. 1) is -1, 0 or 1: nothing lies between the last two, but the value at 0 counts."""
    return Trap(Chain(1).sign(), [0.0], [1.0], 1, 0.5, Fraction(0), (0.0, 1.0))


TRAPS: tuple[Callable[[], Trap], ...] = (
    absorption, order_detector, precision_detector, weights_that_cancel, pooling_that_cancels, edge_bias, subnormal_numbers, step_at_its_jump,
    step_in_the_interval,
)  # fmt: skip
ROUNDING = tuple(trap for trap in TRAPS if trap is not step_in_the_interval)


def remove_error_terms(patch: pytest.MonkeyPatch) -> None:
    """A checker without any: nothing else is changed."""
    for module in (arithmetic, bounds, functions):
        for name in ("up", "dn"):
            patch.setattr(module, name, lambda x: x, raising=False)
    patch.setattr(arithmetic, "G", lambda m: 0.0)
    patch.setattr(arithmetic, "T", lambda m, magnitude: np.zeros(magnitude.shape[:-1]))
    patch.setattr(arithmetic, "g", lambda k: 0.0)
    for name in ("FLOOR", "THETA", "MU"):
        patch.setattr(arithmetic, name, 0.0)


def believes(trap: Trap) -> bool:
    """Whether the checker without error terms claims it of the reals."""
    with pytest.MonkeyPatch.context() as patch:
        remove_error_terms(patch)
        return trap.claimed("real")


@pytest.mark.parametrize("semantics", ["real", "float32"])
@pytest.mark.parametrize("make", TRAPS, ids=lambda make: make.__name__)
def test_nothing_is_claimed_that_is_violated(make: Callable[[], Trap], semantics: str) -> None:
    trap = make()
    assert trap.violated("real") or trap.violated("float32")
    if trap.violated(semantics):
        assert not trap.claimed(semantics)
        assert not trap.accepted(semantics)


@pytest.mark.parametrize("make", [absorption, order_detector, precision_detector, pooling_that_cancels, subnormal_numbers, step_at_its_jump])
def test_what_holds_for_the_reals_only_is_claimed_for_the_reals_only(make: Callable[[], Trap]) -> None:
    trap = make()
    assert trap.claimed("real") and not trap.claimed("float32")
    assert trap.accepted("real") and not trap.accepted("float32")


@pytest.mark.parametrize("make", ROUNDING, ids=lambda make: make.__name__)
def test_without_error_terms_it_is_claimed_and_accepted(make: Callable[[], Trap], monkeypatch: pytest.MonkeyPatch) -> None:
    trap = make()
    semantics = [s for s in ("real", "float32") if trap.violated(s)]
    remove_error_terms(monkeypatch)
    assert any(trap.claimed(s) for s in semantics)
    assert any(trap.accepted(s) for s in semantics)


@pytest.mark.parametrize("semantics", ["real", "float32"])
def test_a_threshold_that_is_met_is_not_passed(semantics: str) -> None:
    """y = x on [0, 1], claimed < 1."""
    assert not Trap(Chain(1).gemm([[1.0]]), [0.0], [1.0], -1, 1.0, Fraction(1)).claimed(semantics)


@pytest.mark.parametrize("semantics", ["real", "float32"])
def test_the_box_holds_the_decimal_and_the_float32_next_to_it(semantics: str) -> None:
    """0 <= x <= 0.1, y = x, claimed < 0.100000001: in float32 the end of the box is 0.10000000149."""
    declared = "(declare-const X_0 Real)(declare-const Y_0 Real)(assert (>= X_0 0))(assert (<= X_0 0.1))(assert (>= Y_0 0.100000001))"
    cases = read_property.read(declared.encode())
    assert Fraction(float(cases.upper[0, 0])) >= Fraction(float(F(0.1))) > Fraction(1, 10)
    trap = Trap(Chain(1).gemm([[1.0]]), cases.lower[0].tolist(), cases.upper[0].tolist(), -1, 0.100000001, Fraction(float(F(0.1))))
    assert trap.violated("real") and not trap.claimed(semantics)


def test_overflow_in_some_order() -> None:
    """2^127 + 2^127 - 2^127 is 2^127 over the reals, and infinite in float32."""
    trap = point(Chain(3).gemm([[2.0**127, 2.0**127, -(2.0**127)]]), [1.0] * 3, -1, 2.0**127.5, Fraction(2) ** 127)
    assert trap.claimed("real")
    with pytest.raises(Rejected, match="float32-overflow"):
        trap.claimed("float32")
