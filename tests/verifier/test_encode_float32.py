"""`--engine smt-float32`: the program is what onnxruntime runs, bit for bit; its terms and intervals are it; atoms are exact; answers are true."""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
import z3
from hypothesis import example, given
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import helper
from small_networks import onnx_file, relu_net, text

from benchmarks.exact.exhaustive import Batches, all_points, count, ends, exhaust
from benchmarks.exact.float32 import Drawn, decimal, draw, pose, property_text
from graph.errors import UnsupportedOperator
from graph.float32_program import Operation, Program, read_program
from graph.load import Model, load
from graph.selfcheck import execute, session
from specs.canonical import Atom, atom_holds
from specs.vnnlib import parse
from verifier import engine
from verifier.certificate import Recorder
from verifier.check import checker_command
from verifier.encode_float32 import LARGEST, Undecidable, _atom, between, decide, enclose, nearest, solve_smt_float32
from verifier.options import Options
from verifier.problem import compile_problem
from verifier.solver import Answer, Question, ask

Array = NDArray[Any]
slow = pytest.mark.slow
singles = st.floats(width=32, allow_nan=False, allow_infinity=False)


def computed(program: Program, x: Array) -> list[float]:
    """The outputs of the program at a point."""
    values = enclose(program, between(x, x))
    assert all(v.lower == v.upper for v in values)
    return [float(values[i].lower) for i in program.outputs]


def run(content: bytes, points: Array) -> list[list[list[float]]]:
    """The outputs of onnxruntime at every point, with and without its graph optimisations."""
    model = load(content)
    return [[[float(v) for y in execute(running, model, [x]) for v in y.ravel()] for x in points]
            for running in (session(model), session(model, optimised=False))]  # fmt: skip


def product(kind: str, w: Array, b: Array) -> bytes:
    """x w, or x w + b, as this operator."""
    k, m = w.shape
    forms = {
        "Gemm": ([helper.make_node("Gemm", ["x", "w", "b"], ["y"])], {"w": w, "b": b}),
        "transB": ([helper.make_node("Gemm", ["x", "w", "b"], ["y"], transB=1)], {"w": w.T.copy(), "b": b}),
        "no bias": ([helper.make_node("Gemm", ["x", "w"], ["y"])], {"w": w}),
        "MatMul": ([helper.make_node("MatMul", ["x", "w"], ["y"])], {"w": w}),
        "MatMul, Add": ([helper.make_node("MatMul", ["x", "w"], ["h"]), helper.make_node("Add", ["h", "b"], ["y"])], {"w": w, "b": b}),
        "Gemm, Relu": ([helper.make_node("Gemm", ["x", "w", "b"], ["h"]), helper.make_node("Relu", ["h"], ["y"])], {"w": w, "b": b}),
    }
    nodes, weights = forms[kind]
    return onnx_file(nodes, k, m, **weights)


@pytest.mark.parametrize("kind", ["Gemm", "transB", "no bias", "MatMul", "MatMul, Add", "Gemm, Relu"])
def test_sums_are_made_in_the_order_of_onnxruntime(kind: str) -> None:
    """Where this fails, onnxruntime on this machine has another order (no FMA?): the docstring of graph/float32_program.py is wrong there."""
    r = np.random.default_rng(1)
    for k, m in ((1, 1), (2, 1), (3, 2), (5, 4), (9, 17), (32, 3)):
        content = product(kind, r.normal(size=(k, m)).astype(np.float32), r.normal(size=m).astype(np.float32))
        points = r.normal(size=(4, k)).astype(np.float32)
        program = read_program(content)
        for theirs in run(content, points):
            assert theirs == [computed(program, x) for x in points], (kind, k, m)


def test_another_order_would_be_seen() -> None:
    """The comparison above tells fused sums from unfused ones, and the bias first from the bias last."""
    r = np.random.default_rng(1)
    w, b, points = r.normal(size=(5, 4)).astype(np.float32), r.normal(size=4).astype(np.float32), r.normal(size=(4, 5)).astype(np.float32)
    program = read_program(product("Gemm", w, b))
    apart: list[Operation] = []
    places = list(range(5))
    for operation in program.operations:
        at = tuple(places[i] for i in operation.operands)
        if operation.kind == "fma":
            apart.append(Operation("mul", at[:2]))
            at = (5 + len(apart) - 1, at[2])
        apart.append(Operation("add" if operation.kind == "fma" else operation.kind, at, operation.value))
        places.append(5 + len(apart) - 1)
    unfused = Program(5, tuple(apart), tuple(places[i] for i in program.outputs))
    assert [computed(unfused, x) for x in points] != [computed(program, x) for x in points]
    first = read_program(product("no bias", np.vstack([b, w]), b))
    assert [computed(first, np.concatenate([np.ones(1, np.float32), x])) for x in points] != [computed(program, x) for x in points]


@pytest.mark.parametrize("index", range(40))
def test_drawn_programs_are_what_onnxruntime_runs(index: int) -> None:
    """The program at points, and its terms over the box with the point put in, are onnxruntime's numbers."""
    drawn, program, points = drawn_with_points(index, 6)
    inputs = between(drawn.lower, drawn.upper)
    outputs = [enclose(program, inputs)[i] for i in program.outputs]
    for theirs in run(drawn.content, points):
        for x, y in zip(points, theirs, strict=True):
            assert computed(program, x) == y
            fixed = [(a.term, b.term) for a, b in zip(inputs, between(x, x), strict=True)]
            for number, value in zip(outputs, y, strict=True):
                assert number.lower <= value <= number.upper
                assert is_true(z3.fpEQ(z3.substitute(number.term, *fixed), z3.FPVal(value, z3.Float32())))


def drawn_with_points(index: int, points: int) -> tuple[Drawn, Program, Array]:
    """A network, and points of its box with both ends among them."""
    drawn = draw(Random(1000 + index))
    x = np.random.default_rng(index).uniform(drawn.lower, drawn.upper, (points, len(drawn.lower))).astype(np.float32)
    x[:2] = drawn.lower, drawn.upper
    return drawn, read_program(drawn.content), np.clip(x, drawn.lower, drawn.upper)


def is_true(claim: z3.BoolRef) -> bool:
    return bool(z3.is_true(z3.simplify(claim)))


@given(singles, singles, singles)
@example(2.0**-149, 0.5, 2.0**-149)  # the product of a power of 2 is not exact
@example(2.0**64, 2.0**64, -(2.0**127))
def test_ends_are_rounded_as_z3_rounds(a: float, b: float, c: float) -> None:
    """Each operation at a point: our rationals against z3's floating point, subnormal results and overflow included."""
    terms = [z3.FPVal(v, z3.Float32()) for v in (a, b, c)]
    known = {"add": z3.fpAdd(z3.RNE(), *terms[:2]), "mul": z3.fpMul(z3.RNE(), *terms[:2]), "fma": z3.fpFMA(z3.RNE(), *terms)}
    for kind, term in known.items():
        operands = (0, 1, 2) if kind == "fma" else (0, 1)
        try:
            (found,) = computed(Program(3, (Operation(kind, operands),), (3,)), np.asarray([a, b, c], np.float32))
        except Undecidable:
            assert is_true(z3.fpGEQ(z3.fpAbs(term), z3.FPVal(float(LARGEST), z3.Float32())))
        else:
            assert is_true(z3.fpEQ(term, z3.FPVal(found, z3.Float32())))


def test_rounding_at_the_edge_of_float32() -> None:
    assert nearest(LARGEST) == LARGEST and nearest(LARGEST - 2**102) == LARGEST
    with pytest.raises(Undecidable, match="overflow"):
        nearest(LARGEST + 1)
    assert nearest(Fraction(1, 2**150)) == 0 and nearest(Fraction(3, 2**151)) == Fraction(1, 2**149)


UNITS = st.sampled_from([Fraction(1), Fraction(-1)])


@given(st.lists(singles, min_size=1, max_size=3), st.data())
def test_atoms_are_compared_exactly(values: list[float], data: st.DataObject) -> None:
    """An atom with coefficients of one size, near its threshold, against rational arithmetic."""
    signs = data.draw(st.lists(UNITS, min_size=len(values), max_size=len(values)))
    scale = data.draw(st.sampled_from([Fraction(1), Fraction(1, 3), Fraction(7)]))
    exact = [Fraction(v) for v in values]
    near = sum((s * v for s, v in zip(signs, exact, strict=True)), Fraction(0))
    least, less = Fraction(1, 2**149), Fraction(1, 3**200)
    off = data.draw(st.sampled_from([Fraction(0), least, -least, less, -less, near / 10**7]))
    atom = Atom(tuple(("Y", i, s * scale) for i, s in enumerate(signs)), (near + off) * scale, data.draw(st.booleans()))
    spread = between([-1e38] * len(values), [1e38] * len(values))
    fixed = [(a.term, z3.FPVal(v, z3.Float32())) for a, v in zip(spread, values, strict=True)]
    if all(abs(v) <= 1e38 for v in values):
        assert is_true(z3.substitute(_atom(atom, {"Y": spread}), *fixed)) == atom_holds(atom, {"Y": exact})
    assert is_true(_atom(atom, {"Y": between(values, values)})) == atom_holds(atom, {"Y": exact})


def answer(content: bytes, prop_text: str, seconds: float = 60.0) -> Answer:
    """What z3 says about the only case."""
    prop = parse(prop_text, "test")
    case = next(iter(prop.cases))
    return decide(read_program(content), *ends(case, prop), case, prop, seconds)


@pytest.mark.parametrize("index", [0, 1, 4, 15, 17, 24, 31, 39])
def test_answers_are_those_of_all_points(index: int) -> None:
    """Questions whose threshold is the largest float32 value of the box, or one step above it."""
    posed = pose(index)
    found, truth = answer(posed.drawn.content, posed.text), exhaust(load(posed.drawn.content), parse(posed.text, "test"))
    assert found.verdict == truth.verdict


def test_rounding_alone_makes_the_answer() -> None:
    """(x + 1) - 1 reaches 2^-23 near 2^-24, which no real number of the box does; it never reaches 2^-22."""
    nodes = [helper.make_node("Add", ["x", "c"], ["h"]), helper.make_node("Sub", ["h", "c"], ["y"])]
    content = onnx_file(nodes, 1, 1, c=np.ones(1))
    box = [(decimal(Fraction(1, 2**24) - Fraction(1, 2**34)), decimal(Fraction(1, 2**24) + Fraction(1, 2**40)))]
    unsafe, safe = (text(box, 1, f"(>= Y_0 {decimal(Fraction(1, 2**k))})") for k in (23, 22))
    problem = compile_problem(load(content).graph, unsafe)
    found = ask(solve_smt_float32, Question(problem, 0, {}, {}, read_program(content)), 60)
    assert found.verdict == "sat" and found.point is not None
    assert computed(read_program(content), found.point) == [2.0**-23]
    assert exhaust(load(content), unsafe).verdict == "sat"
    case = next(iter(safe.cases))
    assert decide(read_program(content), *ends(case, safe), case, safe, 60).verdict == exhaust(load(content), safe).verdict == "unsat"


def solved(content: bytes, boxes: Sequence[tuple[str, str]], unsafe: str, n_out: int = 1) -> Answer:
    prop = text(list(boxes), n_out, unsafe)
    return solve_smt_float32(Question(compile_problem(load(content).graph, prop), 0, {}, {}, read_program(content)), 30)


def test_what_is_not_encoded_is_unknown_with_a_sentence() -> None:
    two = product("no bias", np.asarray([[1, 2]], np.float32), np.zeros(2, np.float32))
    assert "coefficients" in solved(two, [("0", "1")], "(>= (+ Y_0 (* 3.0 Y_1)) 1.0)", 2).reason
    large = product("no bias", np.asarray([[3e38]], np.float32), np.zeros(1, np.float32))
    assert (found := solved(large, [("0", "2")], "(>= Y_0 1.0)")).verdict == "unknown" and "overflow" in found.reason
    prop = text([("0", "1")], 2, "(>= Y_0 1.0)")
    assert solve_smt_float32(Question(compile_problem(load(two).graph, prop), 0, {}, {}), 1).verdict == "unknown"
    r = np.random.default_rng(0)
    big = relu_net(r.normal(size=(20, 20)), r.normal(size=20), r.normal(size=(20, 1)), np.zeros(1)).onnx_bytes
    assert "operations" in solved(big, [("0", "1")] * 20, "(>= Y_0 100.0)").reason


@pytest.mark.parametrize(("seconds", "memory", "reason"), [(1.0, None, "time"), (30.0, 3e7, "memory")])
def test_limits_end_without_a_verdict(seconds: float, memory: float | None, reason: str) -> None:
    """A question that takes z3 a quarter of a minute."""
    posed = pose(13)
    problem = compile_problem(load(posed.drawn.content).graph, parse(posed.text, "test"))
    found = ask(solve_smt_float32, Question(problem, 0, {}, {}, read_program(posed.drawn.content)), seconds, memory)
    assert (found.verdict, found.reason) == ("unknown", reason)


@pytest.mark.parametrize(
    ("node", "weights"),
    [
        (helper.make_node("Sigmoid", ["x"], ["y"]), {}),
        (helper.make_node("Gemm", ["x", "w"], ["y"], alpha=0.5), {"w": np.eye(2)}),
        (helper.make_node("Gemm", ["x", "w"], ["y"], transA=1), {"w": np.ones((1, 2))}),
        (helper.make_node("MatMul", ["x", "x"], ["y"]), {}),
        (helper.make_node("Gemm", ["x", "w"], ["y"]), {"w": np.ones((40, 1))}),
    ],
)
def test_operators_of_unknown_order_are_refused(node: Any, weights: dict[str, Array]) -> None:
    with pytest.raises(UnsupportedOperator, match=r"known|measured"):
        read_program(onnx_file([node], len(weights.get("w", "ab")), 2, **weights))


def test_operators_that_move_elements_move_them() -> None:
    nodes = [
        helper.make_node("Constant", [], ["shape"], value_ints=[1, 2, 3]), helper.make_node("Reshape", ["x", "shape"], ["r"]),
        helper.make_node("Transpose", ["r"], ["t"], perm=[0, 2, 1]), helper.make_node("Flatten", ["t"], ["f"]),
        helper.make_node("Concat", ["f", "c"], ["g"], axis=1), helper.make_node("Max", ["g", "f0", "f0"], ["y"]),
    ]  # fmt: skip
    content = onnx_file(nodes, 6, 7, c=np.full((1, 1), 0.5), f0=np.asarray([-0.25]))
    points = np.random.default_rng(0).normal(size=(5, 6)).astype(np.float32)
    for theirs in run(content, points):
        assert theirs == [computed(read_program(content), x) for x in points]


def test_a_factor_that_onnxruntime_moves_is_refused() -> None:
    """x c W is computed as (x W) c by default, as (x c) W without optimisations."""
    nodes = [helper.make_node("Mul", ["x", "c"], ["h"]), helper.make_node("MatMul", ["h", "w"], ["y"])]
    r = np.random.default_rng(0)
    content, points = onnx_file(nodes, 3, 2, c=np.asarray(1.2345), w=r.normal(size=(3, 2))), r.normal(size=(20, 3)).astype(np.float32)
    moved, plain = run(content, points)
    assert moved != plain
    with pytest.raises(UnsupportedOperator, match="factor"):
        read_program(content)


def test_a_matrix_that_the_file_computes_is_multiplied_as_by_default() -> None:
    nodes = [helper.make_node("Transpose", ["w"], ["v"], perm=[1, 0]), helper.make_node("MatMul", ["x", "v"], ["y"])]
    r = np.random.default_rng(0)
    content, points = onnx_file(nodes, 3, 4, w=r.normal(size=(4, 3))), r.normal(size=(20, 3)).astype(np.float32)
    assert run(content, points)[0] == [computed(read_program(content), x) for x in points]


@slow
def test_no_float32_certificate_where_an_execution_violates(tmp_path: Path) -> None:
    """Thresholds at the largest float32 value, which the network over the reals does not reach: a proof of `real` that holds, and does not
    hold in float32. The checker must refuse it there."""
    lines: list[str] = []
    for index in range(300):
        drawn = draw(Random(5000 + index))
        if drawn.outputs > 1 or count(drawn.lower, drawn.upper) > 1 << 17:
            continue
        model = load(drawn.content)
        batches = Batches(model)
        top = max(Fraction(float(batches.run(x).max())) for x in all_points(drawn.lower, drawn.upper))
        lines += certificates(tmp_path, index, model, property_text(drawn, f"(>= Y_0 {decimal(top)})"))
    (tmp_path / "list").write_text("".join(f"{line}\n" for line in lines))
    command = [*checker_command(), "--batch", str(tmp_path / "list")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    words = [line.split(" ", 1)[0] for line in done.stdout.splitlines()]
    assert len(words) == len(lines) > 20, done.stderr
    real, single = words[::2], words[1::2]
    assert real.count("ACCEPTED") > 10
    assert "ACCEPTED" not in single


def certificates(folder: Path, index: int, model: Model, written: str) -> list[str]:
    """If the engine proves the property over the reals: the proof, once for `real` and once, the same, for `float32`; else nothing."""
    prop = parse(written, "test")
    recorder = Recorder(str(folder))
    outcome = engine.run(model, prop, Options("", "", timeout=20.0, nodes=200, no_attack=True, threads=1), recorder)
    if outcome.verdict != "unsat":
        recorder.close()
        return []
    files = [folder / f"{index}.{kind}" for kind in ("onnx", "vnnlib", "real", "float32")]
    files[0].write_bytes(model.onnx_bytes)
    files[1].write_text(written, encoding="utf-8")
    hashes = [hashlib.sha256(file.read_bytes()).hexdigest() for file in files[:2]]
    for file, semantics in zip(files[2:], ("real", "float32"), strict=True):
        recorder.write(str(file), hashes[0], hashes[1], semantics)
    recorder.close()
    return ["\t".join(map(str, (*files[:2], file))) for file in files[2:]]
