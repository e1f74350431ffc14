"""VNN-LIB 2.0: the judges' reader and the engine's have to say the same of every text and execution; witnesses in the assignment's text."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks import formula, replay
from benchmarks.formula import FormulaError
from benchmarks.replay import WitnessError
from specs import vnnlib
from specs.evaluate import violated_case
from tests.effort import examples
from tests.specs import queries
from tests.specs.queries import INPUTS, OUTPUTS, SHAPES
from tests.specs.test_vnnlib2 import ATOMS, BAD, DECLARATIONS, HEAD


def same(text: str, point: dict[str, Fraction]) -> None:
    prop, violation = vnnlib.parse(text), formula.parse(text)
    values = {tensor: queries.flat(tensor, {**INPUTS, **OUTPUTS}, point) for tensor in SHAPES}
    x, y = (np.array([float(point[name]) for name in names]) for names in (INPUTS, OUTPUTS))
    for exact in (False, True):
        assert (violated_case(prop, values, values, exact_box=exact) is not None) == violation.holds(x, y, exact_box=exact)


@settings(max_examples=examples(100))
@given(st.lists(queries.formulas, min_size=1, max_size=3), st.lists(queries.points, min_size=1, max_size=4), queries.gaps)
def test_random_formulas(asserted: list[object], points: list[dict[str, Fraction]], gap: str) -> None:
    for point in points:
        same(queries.asserted(asserted, 2, gap), point)


@pytest.mark.parametrize("name", [name for name in ATOMS if "operator that touches" not in name])  # which the judges refuse
def test_productions(name: str) -> None:
    text = f"{HEAD}(assert {ATOMS[name][0]})"
    prop, violation, rng = vnnlib.parse(text), formula.parse(text), np.random.default_rng(1)
    answers = set()
    for _ in range(40):
        x, y = rng.integers(-4, 5, 2) / 4, rng.integers(-8, 9, 2) / 2
        unsafe = violated_case(prop, {"X": x}, {"Y": y}) is not None
        answers.add(unsafe)
        assert unsafe == violation.holds(x, y)
    assert answers == {False, True}


@pytest.mark.parametrize("name", DECLARATIONS)
def test_declarations(name: str) -> None:
    text = f"(vnnlib-version <2.0>){DECLARATIONS[name]}(assert (and (<= Y[0] 1.0) (<= X 1.0) (>= X -1.0)))"
    prop, violation = vnnlib.parse(text), formula.parse(text)
    assert [(t.name, t.shape, t.letter) for t in violation.tensors] == [
        *((v.name, v.shape, "X") for v in prop.inputs), *((v.name, v.shape, "Y") for v in prop.outputs),
    ]  # fmt: skip


EVALUATED = [text for text, (_, message) in BAD.items() if "lower" in message or "large" in message]  # an evaluation needs no box


@pytest.mark.parametrize("text", [text for text in BAD if text not in EVALUATED], ids=lambda text: text.removeprefix(HEAD)[-50:] or "nothing")
def test_what_the_engine_refuses_is_refused(text: str) -> None:
    with pytest.raises(FormulaError):
        formula.parse(text)


def test_comments_in_front_of_a_text_do_not_take_long() -> None:
    text = ";; - ;;\n" * 2_000 + " " * 2_000 + "(declare-const X_0 Real)(assert (<= X_0 1.0))"
    assert formula.parse(text).tensors == () and formula.parse(text.split("(")[0] + queries.asserted([("<=", ["S", "0"])], 2)).inputs == 5


GOOD = ["sat", "A float32 [2,2]", "0.1", "-0.5", "1e-1", "2", "S float32 []", "0.25", "P float32 [2]", "1", "2", "Q float32 [1,1]", "3"]


def test_an_assignment_is_read() -> None:
    violation = formula.parse(queries.asserted([("<=", ["P[0]", "0"])], 2))
    x = replay.read_assignment("\n".join(GOOD) + "\n", violation)
    assert x.dtype == np.float32 and x.tolist() == np.array([0.1, -0.5, 0.1, 2, 0.25], np.float32).tolist()


@pytest.mark.parametrize(
    ("line", "text", "message"),
    [
        (0, "unsat", "does not say sat"), (1, "B float32 [2,2]", "no line `A"), (1, "A float32 [4]", "no line `A"), (2, "", "neither a number"),
        (2, "nan", "neither a number"), (3, "1e39", "does not fit float32"), (6, "0.5", "no line `S"), (12, "", "not all of the 1 values of Q"),
        (12, "3\n4", "goes on after"),
    ],
)  # fmt: skip
def test_a_bad_assignment_is_no_witness(line: int, text: str, message: str) -> None:
    violation = formula.parse(queries.asserted([("<=", ["P[0]", "0"])], 2))
    with pytest.raises(WitnessError, match=message):
        replay.read_assignment("\n".join([*GOOD[:line], text, *GOOD[line + 1 :]]), violation)
