"""Combinations of atoms that refute a box: what they claim holds, they are found where there are some, and the checker follows them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper
from proofs import checked
from scipy.optimize import linprog
from small_networks import onnx_file
from test_search import searching

from graph.evaluate import evaluate
from graph.load import load
from specs.vnnlib import parse
from tests.effort import examples
from verifier import engine, portfolio
from verifier.certificate import Recorder
from verifier.checker import certificate as certificates
from verifier.clip import joint
from verifier.events import Event, Multiplied
from verifier.options import Options

ROUNDS = portfolio.CONSTANTS.joint_rounds
WIDE = 2
numbers = st.one_of(st.integers(-16, 16).map(lambda k: k / 8), st.floats(-3, 3, width=32))


def one(rows: list[list[float]], constants: list[float], rounds: int = ROUNDS, member: list[bool] | None = None) -> tuple[list[float], float]:
    """gamma and value over [-1, 1]^n."""
    wide = torch.ones(1, len(rows[0]))
    mask = torch.tensor([member or [True] * len(rows)])
    gamma, value = joint(-wide, wide, torch.tensor([rows]), torch.tensor([constants]), mask, rounds)
    return gamma[0].tolist(), float(value[0])


@settings(max_examples=examples(300))
@given(st.data())
def test_the_combination_is_nowhere_below_its_value(data: st.DataObject) -> None:
    n, rows = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 4))
    ends = [sorted((data.draw(numbers), data.draw(numbers))) for _ in range(n)]
    lower, upper = (torch.tensor([[e[k] for e in ends]]) for k in (0, 1))
    coefficients = torch.tensor([[[data.draw(numbers) for _ in range(n)] for _ in range(rows)]])
    constant = torch.tensor([[data.draw(numbers) for _ in range(rows)]])
    member = torch.tensor([[data.draw(st.booleans()) for _ in range(rows)]])
    gamma, value = joint(lower, upper, coefficients, constant, member, data.draw(st.integers(0, 12)))
    if not bool(torch.isfinite(value)):  # no member, or rows that are 0 everywhere
        assert not bool(value > 0)
        return
    weights = [Fraction(g) for g in gamma[0].tolist()]
    assert all(g >= 0 for g in weights) and abs(sum(weights) - 1) < Fraction(1, 10**9)
    assert all(g == 0 or m for g, m in zip(weights, member[0].tolist(), strict=True))
    d = [sum(g * Fraction(c) for g, c in zip(weights, column, strict=True)) for column in coefficients[0].T.tolist()]
    least = sum(min(c * Fraction(a), c * Fraction(b)) for c, (a, b) in zip(d, ends, strict=True))
    least += sum(g * Fraction(c) for g, c in zip(weights, constant[0].tolist(), strict=True))
    assert Fraction(float(value)) <= least


def test_rows_that_contradict_each_other() -> None:
    gamma, value = one([[1.0, -1.0], [-1.0, 1.0]], [0.25, 0.25])
    assert gamma == pytest.approx([0.5, 0.5]) and value == pytest.approx(0.25)


def test_it_may_take_three() -> None:
    """x + 1/8, y + 1/8 and 1/8 - x - y: any two of them are at most 0 somewhere."""
    rows, constants = [[1.0, 0.0], [0.0, 1.0], [-1.0, -1.0]], [0.125, 0.125, 0.125]
    assert one(rows, constants)[1] > 0
    for k in range(3):
        assert not one(rows, constants, member=[i != k for i in range(3)])[1] > 0


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("where", ["row", "constant"])
def test_what_is_not_finite_refutes_nothing(bad: float, where: str) -> None:
    rows, constants = [[1.0, -1.0], [-1.0, 1.0]], [0.25, 0.25]
    if where == "row":
        rows[0][0] = bad
    else:
        constants[0] = bad
    assert not one(rows, constants)[1] > 0


def test_most_that_a_linear_program_refutes_is_found() -> None:
    random, found, there = np.random.default_rng(1), 0, 0
    for _ in range(examples(300, 100)):
        rows, constants = random.normal(size=(4, 4)), random.normal(size=4) + 0.8
        wide = [(-1.0, 1.0)] * 4
        if linprog(np.zeros(4), A_ub=rows, b_ub=-constants, bounds=wide).status == 2:
            there += 1
            found += one(rows.tolist(), constants.tolist())[1] > 0
        else:
            assert not one(rows.tolist(), constants.tolist())[1] > 0
    assert there > 10 and found > 0.8 * there, (found, there)


# ---------------------------------------------------------------- in the search


def network_file(seed: int, outputs: int) -> bytes:
    """Two outputs of which one rises where the other falls, and more."""
    random = np.random.default_rng(seed)
    last = random.normal(size=(16, outputs))
    last[:, 1] = 0.3 * last[:, 1] - last[:, 0]
    weights = {"v": random.normal(size=(WIDE, 16)), "a": random.normal(size=16) / 4, "w": last, "b": np.zeros(outputs)}
    nodes = [
        helper.make_node("Gemm", ["x", "v", "a"], ["h"]), helper.make_node("Relu", ["h"], ["r"]), helper.make_node("Gemm", ["r", "w", "b"], ["y"])
    ]
    return onnx_file(nodes, WIDE, outputs, **weights)


def question(seed: int, room: float) -> tuple[bytes, str]:
    """Is some y below a threshold with another one (near the centre), or with two others (in a box beside it)? `room`: how far the thresholds are
    below what points of the boxes reach."""
    model, random, parts = network_file(seed, 3), np.random.default_rng(seed), []
    net = load(model).graph
    for atoms, middle in ((2, 0.0), (3, 2.0)):
        points = middle + random.uniform(-1, 1, size=(40000, WIDE))
        y = np.asarray(evaluate(net, [points.astype(np.float32)])[net.outputs[0]])[:, :atoms]
        least = float(y.max(1).min()) - room
        parts.append(
            " ".join(f"(>= X_{i} {middle - 1}) (<= X_{i} {middle + 1})" for i in range(WIDE))
            + " " + " ".join(f"(<= Y_{k} {least:.6f})" for k in range(atoms))
        )  # fmt: skip
    declared = "".join(f"(declare-const X_{i} Real)" for i in range(WIDE)) + "".join(f"(declare-const Y_{k} Real)" for k in range(3))
    return model, declared + "(assert (or " + " ".join(f"(and {part})" for part in parts) + "))"


class Watch:
    def __init__(self, *observers: Recorder) -> None:
        self.observers, self.weights = observers, list[np.ndarray]()

    def __call__(self, event: Event) -> None:
        for observer in self.observers:
            observer(event)
        self.weights += [event.gamma] if isinstance(event, Multiplied) else []


@contextmanager
def rounds(count: int) -> Iterator[None]:
    """Inputs are halved, and combinations of so many atoms sought."""
    with searching("inputs"), pytest.MonkeyPatch.context() as patch:
        patch.setattr(portfolio, "CONSTANTS", dataclasses.replace(portfolio.CONSTANTS, joint_rounds=count))
        yield


def run(model: bytes, prop: str, watch: Watch) -> tuple[str, int]:
    options = Options("", "", timeout=60.0, nodes=20000, no_attack=True, threads=1, self_check=True)
    found = engine.run(load(model), parse(prop, "p"), options, watch)
    return found.verdict, found.nodes


def test_fewer_boxes_are_needed_and_the_checker_follows(tmp_path: Path) -> None:
    model, prop = question(1, 0.01)
    counts = []
    for most in (0, ROUNDS):
        recorder = Recorder(str(tmp_path))
        watch = Watch(recorder)
        with rounds(most):
            verdict, nodes = run(model, prop, watch)
        assert verdict == "unsat" and bool(watch.weights) == bool(most)
        counts.append(nodes)
        assert checked(tmp_path, recorder, model, prop).startswith("ACCEPTED")
    assert counts[1] < 0.8 * counts[0], counts
    weights = np.concatenate(watch.weights)
    assert (weights >= 0).all() and ((weights > 0).sum(1) >= 2).all()
    written = certificates.read((tmp_path / "proof").read_bytes(), 1 << 20)
    assert 2 * len(weights) <= written.gamma.size <= 3 * len(weights) and written.slope.size == 0  # trees of a case with two atoms, and with three


@pytest.mark.parametrize("seed", range(examples(6, 2)))
def test_what_is_violated_is_never_verified(seed: int) -> None:
    model, prop = question(seed, -0.01)
    watch = Watch()
    with rounds(ROUNDS):
        assert run(model, prop, watch)[0] != "unsat"


