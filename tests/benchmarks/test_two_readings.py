"""specs/ and the judges read VNN-LIB with separate code: on every text and execution they have to say the same."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks import formula
from benchmarks.confront import choose_target
from benchmarks.formula import Atom, Formula
from benchmarks.instances import read_instances
from specs import vnnlib
from specs.canonical import Property, Rationals
from specs.evaluate import violated_case
from specs.rounding import nearest_float32
from tests.effort import examples

VALUES = [-1.0, -0.5, float(np.float32(-0.1)), 0.0, float(np.float32(0.1)), float(np.nextafter(np.float32(0.1), np.float32(1))), 0.5, 1.0]
LITERALS = ["-1", "-0.5", "-0.1", "0", "0.1", "1e-1", "0.5", "1.0"]


def _same(prop: Property, violation: formula.Violation, x: np.ndarray, y: np.ndarray) -> bool:
    """Both readings' answer, which has to be one."""
    answers = set()
    for exact in (False, True):
        ours = violated_case(prop, {"X": x}, {"Y": y}, exact_box=exact) is not None
        assert ours == violation.holds(x, y, exact_box=exact), (exact, x, y)
        answers.add(ours)
    return True in answers


def _joined(head: str, parts: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.lists(parts, min_size=1, max_size=3).map(lambda some: f"({head} {' '.join(some)})")


operand = st.sampled_from(["X_0", "X_1", "Y_0", "Y_1", *LITERALS])
atom = st.builds("({} {} {})".format, st.sampled_from(["<=", ">=", "<", ">"]), st.sampled_from(["X_0", "X_1", "Y_0", "Y_1"]), operand)
tree = st.recursive(atom, lambda inner: _joined("and", inner) | _joined("or", inner), max_leaves=8)


@settings(max_examples=examples(300))
@given(st.lists(tree, min_size=1, max_size=3), st.lists(st.sampled_from(VALUES), min_size=4, max_size=4))
def test_random_formulas(asserts: list[str], point: list[float]) -> None:
    names = ("X_0", "X_1", "Y_0", "Y_1")
    box = "".join(f"(assert (<= X_{i} 0.5))(assert (>= X_{i} -0.5))" for i in range(2))
    text = "".join(f"(declare-const {v} Real)" for v in names) + box + "".join(f"(assert {a})" for a in asserts)
    values = np.array(point)
    _same(vnnlib.parse(text), formula.parse(text), values[:2], values[2:])


def _atoms(node: Formula) -> Iterator[Atom]:
    if isinstance(node, Atom):
        yield node
    else:
        for part in node.parts:
            yield from _atoms(part)


def _outputs(rest: Formula, outputs: int, rng: np.random.Generator) -> np.ndarray:
    """Outputs on, just above and just below the thresholds of one box's atoms, so that both answers occur and ties are met."""
    y = rng.normal(size=outputs) * rng.choice([0.0, 1.0])
    bounds = [(a.terms[0][1], float(a.limit())) for a in _atoms(rest) if len(a.terms) == 1 and a.terms[0][0] == "Y"]
    for index, limit in bounds:
        y[index] = rng.choice([limit, np.nextafter(limit, -np.inf), np.nextafter(limit, np.inf), limit - 1, limit + 1])
    return y


@pytest.mark.vnncomp
def test_real_properties(vnncomp_dir: Path) -> None:
    files: dict[str, Path] = {}  # the smallest property of each category
    for instance in read_instances(vnncomp_dir):
        path = instance.files()[1]
        files[instance.category] = min(files.get(instance.category, path), path, key=lambda p: p.stat().st_size)
    rng, unsafe, safe = np.random.default_rng(7), 0, 0
    assert len(files) == 17
    for path in files.values():
        prop, violation = vnnlib.read(path), formula.read(path)
        assert (prop.inputs[0].size, prop.outputs[0].size) == (violation.inputs, violation.outputs)
        for _ in range(8):
            target = choose_target(violation, rng)
            if target is None:
                continue
            share = rng.choice([0.0, 0.5, 1.0], size=violation.inputs)
            x = np.clip(target.lower + share * (target.upper - target.lower), target.lower, target.upper).astype(np.float32)
            if rng.uniform() < 0.2:  # just outside the box rounded to float32
                k = rng.integers(x.size)
                x[k] = np.nextafter(target.upper[k], np.float32(np.inf))
            answer = _same(prop, violation, x.astype(np.float64), _outputs(target.rest, violation.outputs, rng))
            unsafe, safe = unsafe + answer, safe + (not answer)
    assert min(unsafe, safe) > 15


def test_rounding_agrees() -> None:
    rng = np.random.default_rng(3)
    middles = [(Fraction(float(v)) + Fraction(float(np.nextafter(v, np.float32(np.inf))))) / 2 for v in rng.normal(size=50).astype(np.float32)]
    values = [m + nudge for m in middles for nudge in (0, Fraction(1, 2**70), -Fraction(1, 2**70))]
    assert list(nearest_float32(Rationals.of(values))) == [formula.nearest_float32(v) for v in values]
