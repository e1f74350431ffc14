"""A suite of five instances, made by hand, and verifiers of a few lines that answer it; for the tests of the runner."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper
from typer.testing import CliRunner

from benchmarks.soundness.instance import Entry, Instance, Planted, write
from benchmarks.soundness.property import Atom, Property, decimal, vnnlib1, vnnlib2
from soundproof.cli import app

BIG = 2.0**24


def network(weights: list[list[float]], relu: bool = True) -> onnx.ModelProto:
    """y = relu(W x) with x [1, n], y [1, m]."""
    w = np.array(weights, dtype=np.float32)
    nodes = [helper.make_node("MatMul", ["x", "w"], ["h"]), helper.make_node("Relu" if relu else "Identity", ["h"], ["y"])]
    graph = helper.make_graph(nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, w.shape[1]])],
                              [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, w.shape[0]])],
                              [helper.make_tensor("w", TensorProto.FLOAT, [w.shape[1], w.shape[0]], w.T.ravel())])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


def absorbing() -> onnx.ModelProto:
    """y = (x + 2^24) - 2^24, one operator after the other: 1 over the reals at x = 1, and 0 in float32."""
    nodes = [helper.make_node("Add", ["x", "big"], ["h"]), helper.make_node("Sub", ["h", "big"], ["y"])]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 1]) for name in "xy"]
    graph = helper.make_graph(nodes, "g", values[:1], values[1:], [helper.make_tensor("big", TensorProto.FLOAT, [1, 1], [BIG])])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


def cancelling() -> onnx.ModelProto:
    """y = x0 + x1 + x2 by one ReduceSum: at (2^24, 1, -2^24) it is 1 over the reals, and in float32 0 or 1, as the order may be."""
    nodes = [helper.make_node("Mul", ["x", "ones"], ["h"]), helper.make_node("ReduceSum", ["h", "axes"], ["y"], keepdims=1)]
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, n]) for name, n in (("x", 3), ("y", 1)))
    constants = [helper.make_tensor("ones", TensorProto.FLOAT, [1, 3], [1.0] * 3), helper.make_tensor("axes", TensorProto.INT64, [1], [1])]
    return helper.make_model(helper.make_graph(nodes, "g", [x], [y], constants), opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


def prop(low: list[float], high: list[float], *cases: list[Atom]) -> Property:
    """A property of plain floats."""
    return Property(tuple(map(decimal, low)), tuple(map(decimal, high)), tuple(map(tuple, cases)))


def at_least(value: float, index: int = 0, outputs: int = 1) -> Atom:
    """Y_index >= value."""
    return Atom(tuple(Decimal(-1 if i == index else 0) for i in range(outputs)), Decimal(repr(-value)))


def at_most(value: float, index: int = 0, outputs: int = 1) -> Atom:
    """Y_index <= value."""
    return Atom(tuple(Decimal(1 if i == index else 0) for i in range(outputs)), Decimal(repr(value)))


def instances() -> Iterator[Instance]:
    """sums_sat, sums_unsat: x0 + x1 on [0, 1]^2 reaches 1.5 / 2.5; pairs_sat: a disjunction of two outputs; traps_float32 and traps_real:
    2^24 absorbs 1, which makes one of them sat in float32 only, the other over the reals only."""
    def made(name: str, model: onnx.ModelProto, what: Property, real: str, float32: str, operators: tuple[str, ...],
             point: list[float] | None = None, margins: tuple[Fraction, float] = (Fraction(1, 2), 0.5)) -> Instance:
        sizes = (len(what.lower), len(what.cases[0][0].coefficients))
        planted = None if point is None else Planted(np.array(point, dtype=np.float32), *margins)
        return Instance(name, name.split("_")[0], model, vnnlib1(what), vnnlib2(what, (1, sizes[0]), (1, sizes[1])), real, float32,
                        "theorem" if planted is None else "planted", "made by hand", operators, {}, planted)

    plus, both = network([[1, 1]]), network([[1, 1], [1, -1]])
    yield made("sums_sat", plus, prop([0, 0], [1, 1], [at_least(1.5)]), "sat", "sat", ("MatMul", "Relu"), [1, 1])
    yield made("sums_unsat", plus, prop([0, 0], [1, 1], [at_least(2.5)]), "unsat", "unsat", ("MatMul", "Relu"))
    cases = [at_least(1.5, 0, 2), at_most(0.5, 1, 2)], [at_least(3, 1, 2)]
    yield made("pairs_sat", both, prop([0, 0], [1, 1], *cases), "sat", "sat", ("MatMul", "Relu"), [1, 1])
    yield made("traps_float32", absorbing(), prop([1], [1], [at_most(0.5)]), "unsat", "sat", ("Add", "Sub"), [1], (Fraction(-1, 2), 0.5))
    yield made("traps_real", absorbing(), prop([1], [1], [at_least(0.5)]), "sat", "unsat", ("Add", "Sub"), [1], (Fraction(1, 2), -0.5))


def suite(folder: Path) -> list[Entry]:
    """The five, written."""
    return write(folder, instances(), seed=0)


def shell(folder: Path, name: str, body: str) -> str:
    """A verifier in another language: a shell script; the command that calls it. In the script $1 is the model, $2 the property, $4 the output."""
    script = folder / f"{name}.sh"
    script.write_text("#!/bin/sh\n" + textwrap.dedent(body))
    script.chmod(0o755)
    return f"{script} {{onnx}} {{vnnlib}} {{timeout}} {{out}}"


def command(*arguments: object) -> tuple[int, str, str]:
    """(exit code, stdout, stderr) of `soundproof soundness ...`."""
    result = CliRunner().invoke(app, ["soundness", *map(str, arguments)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr
