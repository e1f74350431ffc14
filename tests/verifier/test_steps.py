"""Sign, a function that jumps: what holds is proven by splits beside the jump, and what is violated exactly at the jump is never called verified."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from fractions import Fraction
from itertools import pairwise, product
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import helper
from small_networks import decimal, model, onnx_file, vnnlib_file

from bounds.linear import NEAR_ZERO, LinearBounds
from bounds.torch_graph import TorchGraph
from graph.functions import build
from graph.load import load
from specs.vnnlib import parse
from verifier import engine
from verifier.branch_neuron import split_point
from verifier.certificate import Recorder
from verifier.checker import certificate as certificates
from verifier.checker import exact, read_model, read_property, tree, walk
from verifier.checker.bounds import Checker
from verifier.checker.refusal import Rejected
from verifier.checker.slack import Slack
from verifier.exact import exact_outputs
from verifier.optimise import initial, storable
from verifier.options import Options

Layer = tuple[np.ndarray, np.ndarray]
quick = settings(max_examples=6, suppress_health_check=[HealthCheck.too_slow])


def network(*layers: Layer) -> bytes:
    """Fully connected layers with Sign between them."""
    nodes, weights, at = [], {}, "x"
    for k, (w, b) in enumerate(layers):
        out = "y" if k == len(layers) - 1 else f"h{k}"
        nodes.append(helper.make_node("Gemm", [at, f"w{k}", f"b{k}"], [out]))
        if out != "y":
            nodes.append(helper.make_node("Sign", [out], [f"s{k}"]))
        weights |= {f"w{k}": w, f"b{k}": b}
        at = f"s{k}"
    return onnx_file(nodes, len(layers[0][0]), len(layers[-1][1]), **weights)


def verified(data: bytes, formula: str, semantics: str, folder: Path, nodes: int = 400) -> bool:
    """Whether the search without an attack says `unsat` and the checker accepts what it wrote; over the reals both arithmetics agree."""
    recorder = Recorder(str(folder))
    outcome = engine.run(load(data), parse(formula, "test"), Options("", "", timeout=30.0, nodes=nodes, no_attack=True, threads=1), recorder)
    if outcome.verdict != "unsat":
        recorder.close()
        return False
    recorder.write(str(folder / "proof"), "1" * 64, "2" * 64, semantics)
    recorder.close()
    read = read_model.read(data)
    cases = read_property.bind(read_property.read(formula.encode()), read)
    found = certificates.read((folder / "proof").read_bytes(), 10**8)
    forest, slack = tree.grow(found, cases, tree.sizes(found, read)), Slack(read) if semantics == "float32" else None
    checks: list[Callable[[], None]] = [lambda: walk.check(Checker(read, slack), cases, found, forest, 64)]
    if semantics == "real":
        checks.append(lambda: exact.check(read, cases, found, forest, slack))
    return all(_accepted(check) for check in checks)


def _accepted(check: Callable[[], None]) -> bool:
    try:
        check()
    except Rejected:
        return False
    return True


def near(y: Fraction, outputs: int = 1) -> str:
    low, high = (decimal(float(y + side * Fraction(1, 8))) for side in (-1, 1))
    return f"(and {' '.join(f'(>= Y_{j} {low}) (<= Y_{j} {high})' for j in range(outputs))})"


# ---------------------------------------------------------------- violated exactly at the jump


@quick
@given(st.integers(0, 10**6), st.sampled_from(["real", "float32"]), st.booleans())
def test_what_happens_only_at_the_jump_is_never_excluded(seed: int, semantics: str, deep: bool) -> None:
    """Some neurons are exactly 0 at a point of the box; the output there, and nothing else, is unsafe."""
    rng = np.random.default_rng(seed)
    point, widths = rng.integers(-4, 5, 2) / 4, [2, 3, 2, 1] if deep else [2, 3, 1]
    layers, at = [], point
    for k, (n, m) in enumerate(pairwise(widths)):
        w = rng.integers(-4, 5, (n, m)) / 4
        b = np.where(rng.random(m) < 0.6, -(at @ w), rng.integers(-4, 5, m) / 4)
        at = at @ w + b
        layers.append((w, b))
        at = at if k == len(widths) - 2 else np.sign(at)
    data = network(*layers)
    truth = exact_outputs(load(data), point)
    assert truth is not None and float(truth[0]) == at[0]
    ends = [(str(x - e), str(x + f)) for x, (e, f) in zip(point, rng.choice([0.0, 0.5, 2.0], (2, 2)), strict=True)]
    with tempfile.TemporaryDirectory() as folder:
        assert not verified(data, vnnlib_file(ends, 1, near(truth[0])), semantics, Path(folder), nodes=24)


@pytest.mark.parametrize("semantics", ["real", "float32"])
@pytest.mark.parametrize("ends", [("0", "1"), ("-1", "0"), ("-1", "1"), ("0", "0")])
def test_the_value_at_an_end_of_the_box_counts(ends: tuple[str, str], semantics: str, tmp_path: Path) -> None:
    data = onnx_file([helper.make_node("Sign", ["x"], ["y"])], 1, 1)
    assert not verified(data, vnnlib_file([ends], 1, near(Fraction(0))), semantics, tmp_path)


def test_float32_may_be_on_the_other_side(tmp_path: Path) -> None:
    """Sign((x + 2^24) - 2^24) of x in [0.3, 0.4] is 1 over the reals, and 0 in float32."""
    names = [("Add", "x", "a", "t"), ("Add", "t", "b", "u"), ("Sign", "u", "", "y")]
    nodes = [helper.make_node(kind, [x for x in (first, second) if x], [out]) for kind, first, second, out in names]
    data = onnx_file(nodes, 1, 1, a=np.array([2.0**24]), b=np.array([-(2.0**24)]))
    formula = vnnlib_file([("0.3", "0.4")], 1, "(<= Y_0 0.5)")
    assert verified(data, formula, "real", tmp_path) and not verified(data, formula, "float32", tmp_path)


def test_a_subnormal_number_may_be_flushed_onto_the_jump(tmp_path: Path) -> None:
    data = onnx_file([helper.make_node("Sign", ["x"], ["y"])], 1, 1)
    formula = vnnlib_file([(decimal(2.0**-130), "1")], 1, "(<= Y_0 0.5)")
    assert verified(data, formula, "real", tmp_path) and not verified(data, formula, "float32", tmp_path)


# ---------------------------------------------------------------- what holds


@pytest.mark.parametrize("semantics", ["real", "float32"])
@pytest.mark.parametrize("seed", range(2))
def test_all_combinations_of_signs_are_decided(seed: int, semantics: str, tmp_path: Path) -> None:
    """Four lines cut a square into cells; a little below the least value of the cells there is nothing."""
    rng = np.random.default_rng(seed)
    w, b, v = rng.normal(size=(2, 4)).astype(np.float32), (rng.normal(size=4) / 2).astype(np.float32), rng.normal(size=(4, 1)).astype(np.float32)
    grid = np.array(list(product(np.linspace(-1, 1, 201), repeat=2)))
    least = float((np.sign(grid @ w.astype(float) + b) @ v.astype(float)).min())
    data, box = network((w, b), (v, np.zeros(1))), [("-1", "1")] * 2
    assert verified(data, vnnlib_file(box, 1, f"(<= Y_0 {least - 0.05:.6f})"), semantics, tmp_path)
    assert not verified(data, vnnlib_file(box, 1, f"(<= Y_0 {least + 0.05:.6f})"), semantics, tmp_path, nodes=20)


def test_contradictory_signs_are_proven_with_multipliers(tmp_path: Path) -> None:
    """x + y > 1/4, x - y > 1/4 and x < 1/8 exclude each other, which no interval and no single neuron says."""
    w, b = np.array([[1.0, 1.0, 1.0], [1.0, -1.0, 0.0]]), np.array([-0.25, -0.25, -0.125])
    data = network((w, b), (np.array([[1.0], [1.0], [-1.0]]), np.zeros(1)))
    assert verified(data, vnnlib_file([("-1", "1")] * 2, 1, "(>= Y_0 2.5)"), "float32", tmp_path)
    assert not verified(data, vnnlib_file([("-1", "1")] * 2, 1, "(>= Y_0 0.5)"), "real", tmp_path, nodes=20)


# ---------------------------------------------------------------- parts of the search


@pytest.mark.parametrize("semantics", ["real", "float32"])
def test_atoms_that_exclude_each_other_at_the_jump(semantics: str, tmp_path: Path) -> None:
    """y = (s, -s) with s = sign(x): wherever s is, also between its values, it is not both below -1/2 and above 1/2; no atom alone shows it."""
    data = network((np.ones((1, 1)), np.zeros(1)), (np.array([[1.0, -1.0]]), np.zeros(2)))
    assert verified(data, vnnlib_file([("-1", "1")], 2, "(and (<= Y_0 -0.5) (<= Y_1 -0.5))"), semantics, tmp_path)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("low", "high", "point"),
    [
        (-1.0, 2.0, -NEAR_ZERO), (-NEAR_ZERO, 2.0, NEAR_ZERO), (-1.0, 0.0, -NEAR_ZERO), (0.0, 1.0, NEAR_ZERO),
        (-NEAR_ZERO, NEAR_ZERO, None), (0.0, 0.0, None), (0.5, 1.0, None), (-1.0, -NEAR_ZERO, None), (0.0, NEAR_ZERO, None),
    ],
)  # fmt: skip
def test_splits_are_beside_the_jump(low: float, high: float, point: float | None, dtype: torch.dtype) -> None:
    found = split_point(build("sign"), torch.tensor([low], dtype=dtype), torch.tensor([high], dtype=dtype)).item()
    assert found == point if point is not None else not low < found < high


def test_slopes_that_are_stored_are_finite() -> None:
    """Chords over a narrow interval are steep: float16 must hold them."""
    net = model([helper.make_node("Sign", ["x"], ["y"])], 3, 3)
    linear = LinearBounds(TorchGraph(net.graph, torch.float32))
    ends = torch.tensor([[-1e-30, -2.0, -NEAR_ZERO]]), torch.tensor([[1.0, 1e-38, NEAR_ZERO]])
    state = linear.propagate(*ends)
    slopes, _ = storable(linear, initial(linear, state, 2, [1]))
    assert all(t is not None and bool(t.isfinite().all()) for t in slopes[1])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("name", "low", "high", "side"), [
    ("floor", 0.25, 1.5, (1.0, -1)), ("ceil", -0.5, 2.75, (1.0, -1)), ("nearest", 0.25, 0.75, (0.5, -1)), ("floor", -0.75, 0.5, (0.0, -1)),
])  # fmt: skip
def test_splits_of_whole_numbers_are_beside_a_jump_too(name: str, low: float, high: float, side: tuple[float, int], dtype: torch.dtype) -> None:
    at, (jump, sign) = torch.tensor([low], dtype=dtype), side
    found = split_point(build(name), at, torch.tensor([high], dtype=dtype)).item()
    beside = sign * NEAR_ZERO if jump == 0 else torch.nextafter(torch.tensor(jump, dtype=dtype), torch.tensor(sign * torch.inf, dtype=dtype)).item()
    assert low < found < high and found == beside
    again = split_point(build(name), torch.tensor([found], dtype=dtype), torch.tensor([high], dtype=dtype)).item()
    assert found < again and again >= jump


@pytest.mark.parametrize("seed", range(2))
def test_a_continuous_function_written_with_jumps_is_decided_by_halving_inputs(seed: int, tmp_path: Path) -> None:
    """Softshrink as torch exports it: splits of its comparisons alone left it open after thousands of sub-problems."""
    rng = np.random.default_rng(seed)
    nodes = [helper.make_node("Gemm", ["x", "w", "b"], ["h"])]
    nodes += [helper.make_node("Less", ["h", "down"], ["below"]), helper.make_node("Greater", ["h", "up"], ["above"])]
    nodes += [helper.make_node("Sub", ["h", "up"], ["p"]), helper.make_node("Sub", ["h", "down"], ["q"])]
    nodes += [helper.make_node("Where", ["below", "q", "zero"], ["s"]), helper.make_node("Where", ["above", "p", "s"], ["t"])]
    nodes += [helper.make_node("Gemm", ["t", "v", "c"], ["y"])]
    w, b, v = rng.normal(size=(2, 5)), 0.3 * rng.normal(size=5), rng.normal(size=(5, 1))
    data = onnx_file(nodes, 2, 1, w=w, b=b, v=v, c=np.zeros(1), up=np.float32(0.5), down=np.float32(-0.5), zero=np.float32(0))
    x = np.stack(np.meshgrid(*[np.linspace(-1, 1, 201)] * 2), -1).reshape(-1, 2)
    h = x @ w + b
    y = (np.sign(h) * np.maximum(np.abs(h) - 0.5, 0)) @ v
    bound = decimal(float(y.max() + 0.15 * (y.max() - y.min())))
    assert verified(data, vnnlib_file([("-1", "1")] * 2, 1, f"(>= Y_0 {bound})"), "real", tmp_path, nodes=3000)


@pytest.mark.parametrize("semantics", ["real", "float32"])
def test_a_row_chosen_by_an_argmax_is_certified(semantics: str, tmp_path: Path) -> None:
    """table[argmax(x W)] over a box in which two of three classes may win: the row of the third is never read; of the others each may be."""
    nodes = [helper.make_node("Gemm", ["x", "w", "b"], ["h"]), helper.make_node("ArgMax", ["h"], ["i"], axis=1, keepdims=0)]
    nodes += [helper.make_node("Gather", ["table", "i"], ["y"], axis=0)]
    table = np.array([[1.0, -2.0], [1.5, 0.5], [9.0, 9.0]])
    data = onnx_file(nodes, 2, 2, w=np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]), b=np.array([0.0, 0.0, -5.0]), table=table)
    box = [("0", "1")] * 2
    assert verified(data, vnnlib_file(box, 2, "(or (and (>= Y_0 1.75)) (and (<= Y_1 -2.25)) (and (>= Y_1 0.75)))"), semantics, tmp_path)
    assert not verified(data, vnnlib_file(box, 2, "(>= Y_0 1.4)"), semantics, tmp_path, nodes=60)
