"""Atoms that only compare outputs of a softmax are about its arguments: the same cases, and only such atoms."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from bounds.interval import propagate
from graph.load import load
from specs.vnnlib import parse
from verifier.checker import orders, read_model, read_property
from verifier.checker.bounds import Checker
from verifier.checker.lowering.evaluate import evaluate
from verifier.checker.network import Constant, Network, Product
from verifier.orders import by_arguments
from verifier.problem import compile_problem

Array = Any


def model(axis: int, shape: tuple[int, ...] = (1, 6), log: bool = False, twice: bool = False) -> bytes:
    rng = np.random.default_rng(3)
    weights = [numpy_helper.from_array(a, name) for a, name in ((rng.normal(size=(3, 6)).astype(np.float32), "w"), (np.array(shape), "s"))]
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h"]), helper.make_node("Reshape", ["h", "s"], ["z"]),
        helper.make_node("LogSoftmax" if log else "Softmax", ["z"], ["p"], axis=axis),
        helper.make_node("Mul", ["p", "p"], ["y"]) if twice else helper.make_node("Identity", ["p"], ["y"]),
    ]
    ends = [helper.make_tensor_value_info("x", 1, [1, 3])], [helper.make_tensor_value_info("y", 1, list(shape))]
    graph = helper.make_graph(nodes, "g", *ends, weights)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    made.ir_version = 8
    return bytes(onnx.ModelProto.SerializeToString(made))


def text(*atoms: str, outputs: int = 6) -> bytes:
    lines = [f"(declare-const X_{i} Real)(assert (>= X_{i} -1))(assert (<= X_{i} 1))" for i in range(3)]
    return "\n".join([*lines, *(f"(declare-const Y_{i} Real)" for i in range(outputs)), *(f"(assert {a})" for a in atoms)]).encode()


def read(data: bytes, prop: bytes) -> tuple[Network, read_property.Cases]:
    network = read_model.read(data)
    return network, read_property.bind(read_property.read(prop), network)


def violated(network: Network, cases: read_property.Cases, x: Array) -> list[bool]:
    values = evaluate(network, [x.reshape(-1)])
    outputs = np.concatenate([values[i].reshape(-1) for i in network.outputs])
    flat = [*outputs.tolist(), *x.reshape(-1).tolist()]
    sides = [sum(float(c) * flat[p] for p, c in functional) for functional in cases.rows]
    return [
        all(sides[cases.row[a]] <= cases.threshold[a] for a in range(cases.atom_start[k], cases.atom_start[k + 1])) for k in range(len(cases))
    ]


@pytest.mark.parametrize(("axis", "shape"), [(1, (1, 6)), (-1, (1, 2, 3)), (1, (1, 2, 3)), (2, (1, 3, 2))])
def test_the_cases_are_the_same(axis: int, shape: tuple[int, ...]) -> None:
    rows = np.moveaxis(np.arange(6).reshape(shape), axis, -1).reshape(-1, shape[axis])
    pairs = [(int(j), int(k)) for row in rows for j in row for k in row if j != k]
    prop = text("(or " + " ".join(f"(and (>= Y_{j} Y_{k}))" for j, k in pairs) + ")")
    network, cases = read(model(axis, shape), prop)
    other = orders.by_arguments(network, cases)
    assert other is not network and other.outputs != network.outputs
    assert not any(isinstance(node, Product) for node in other.nodes) and len(other.softmaxes) == len(network.softmaxes)
    for x in np.random.default_rng(0).uniform(-1, 1, (20, 1, 3)):
        assert violated(network, cases, x) == violated(other, cases, x)
    problem = compile_problem(load(model(axis, shape)).graph, parse(prop.decode()))
    assert by_arguments(problem).graph is not problem.graph


@pytest.mark.parametrize(
    ("prop", "axis", "shape", "kind"),
    [
        (text("(>= Y_0 0.5)"), 1, (1, 6), {}),  # a threshold
        (text("(>= Y_0 Y_1)", "(<= Y_2 0.25)"), 1, (1, 6), {}),  # one of several
        (text("(>= Y_0 (+ Y_1 0.1))"), 1, (1, 6), {}),
        (text("(>= (* 2 Y_0) Y_1)"), 1, (1, 6), {}),
        (text("(>= (+ Y_0 Y_1) Y_2)"), 1, (1, 6), {}),
        (text("(>= Y_0 X_0)"), 1, (1, 6), {}),
        (text("(>= Y_0 Y_3)"), 2, (1, 2, 3), {}),  # of different rows
        (text("(>= Y_0 Y_1)"), 1, (1, 6), {"log": True}),  # right, and no Softmax
        (text("(>= Y_0 Y_1)"), 1, (1, 6), {"twice": True}),
    ],
)  # fmt: skip
def test_other_atoms_leave_the_network_as_it_is(prop: bytes, axis: int, shape: tuple[int, ...], kind: dict[str, bool]) -> None:
    network, cases = read(model(axis, shape, **kind), prop)
    assert orders.by_arguments(network, cases) is network
    problem = compile_problem(load(model(axis, shape, **kind)).graph, parse(prop.decode()))
    assert by_arguments(problem) is problem


def test_what_nobody_reads_any_more_is_a_constant_without_a_site() -> None:
    network, cases = read(model(1), text("(>= Y_0 Y_1)"))
    other = orders.by_arguments(network, cases)
    assert not other.sites and network.sites
    assert all(isinstance(other.nodes[i], Constant) for i in network.sites.values())


def test_a_factor_of_any_sign_is_an_order() -> None:
    network, cases = read(model(1), text("(<= (* -3 Y_0) (* -3 Y_1))"))
    assert orders.by_arguments(network, cases) is not network
    assert {abs(c) for functional in cases.rows for _, c in functional} == {Fraction(3)}


@pytest.mark.parametrize("shape", [(1, 6), (1, 3, 2), (1, 2, 3)])
def test_few_rows_are_between_0_and_1_by_their_bounds(shape: tuple[int, ...]) -> None:
    """A product does not know that; without it `Y_0 >= 1.5` was open over a wide box."""
    network = read_model.read(model(-1, shape))
    found = Checker(network, None).state(1, -4 * np.ones((1, 3)), 4 * np.ones((1, 3)), {}, {}, 0)
    (o,) = network.outputs
    assert (found.lower[o] >= -1e-12).all() and (found.upper[o] <= 1 + 1e-12).all()
    graph = load(model(-1, shape)).graph
    low, high = propagate(graph, -4 * np.ones((1, 3)), 4 * np.ones((1, 3)))[graph.outputs[0]]
    assert (low >= -1e-12).all() and (high <= 1 + 1e-12).all()
