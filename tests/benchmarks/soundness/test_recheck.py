"""A wrong claim about an instance is found when the suite is built."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import onnx
import pytest

from benchmarks.formula import parse
from benchmarks.soundness import rational
from benchmarks.soundness.elementary import Enclosure
from benchmarks.soundness.families.forms import Question, question
from benchmarks.soundness.instance import Instance, Planted, SuiteError
from benchmarks.soundness.net import Net
from benchmarks.soundness.property import Atom, decimal
from benchmarks.soundness.recheck import margin, recheck, relative

Y = Atom((decimal(-1.0),), decimal(-2.0))  # Y_0 >= 2


def asked(threshold: float) -> Question:
    """2 relu(x_0) + relu(x_1) on [0, 1]^2: at most 3."""
    net = Net(np.random.default_rng(0))
    score = net.node("Gemm", net.node("Relu", "x"), net.constant([[2.0], [1.0]]))
    return question(net, score, (1, 2), threshold, 0, [0.0, 0.0], [1.0, 1.0])


def made(threshold: float, real: str, float32: str, point: list[float] | None = None, proof: str = "theorem", family: str = "test") -> Instance:
    q = asked(threshold)
    planted = None if point is None else q.plant(np.array(point))
    return Instance("test_one", family, q.model, *q.texts, real, float32, proof, "by hand", ("Relu",), {}, planted)


def test_right_claims_pass() -> None:
    recheck(made(2.0, "sat", "sat", [1.0, 1.0], "planted"))
    recheck(made(3.5, "unsat", "unsat"))
    recheck(made(3.5, "unsat", "unsat", proof="enumeration"))


@pytest.mark.parametrize(
    ("instance", "message"),
    [
        (made(2.0, "unsat", "unsat"), "is not unsat"),
        (made(2.0, "unsat", "unknown", proof="enumeration"), "the enumeration says sat|is not unsat"),
        (made(2.0, "sat", "sat", [0.5, 0.5], "planted"), "does not violate"),
        (made(2.0, "sat", "sat", [1.5, 1.0], "planted"), "the exact margin at the planted point is -0.5"),  # outside the box
        (made(3.0, "sat", "sat", [1.0, 1.0], "planted"), "violates by 0 of the numbers compared"),
        (made(2.999, "sat", "sat", [1.0, 1.0], "planted"), "violates by 0.00033 of the numbers compared"),
        (made(2.0, "unsat", "sat", [1.0, 1.0], "theorem"), "over the reals the planted point violates|is not unsat"),
    ],
)  # fmt: skip
def test_a_wrong_claim_is_an_error(instance: Instance, message: str) -> None:
    with pytest.raises(SuiteError, match=message):
        recheck(instance)


@pytest.mark.parametrize("change", [{"real": Fraction(2)}, {"runtime": 2.0}, {"point": np.array([1.0], dtype=np.float32)},
                                    {"point": np.array([1.0, np.nan], dtype=np.float32)}])  # fmt: skip
def test_a_wrong_planted_point_is_an_error(change: dict[str, object]) -> None:
    right = made(2.0, "sat", "sat", [1.0, 1.0], "planted")
    assert right.planted is not None
    with pytest.raises(SuiteError):
        recheck(replace(right, planted=Planted(**{**vars(right.planted), **change})))


def test_files_that_tell_the_truth_are_an_error() -> None:
    model = onnx.ModelProto()
    model.CopyFrom(made(3.5, "unsat", "unsat").model)
    model.graph.doc_string = "An UNSAT instance."
    with pytest.raises(SuiteError, match="'unsat'"):
        recheck(replace(made(3.5, "unsat", "unsat"), model=model))
    with pytest.raises(SuiteError, match="'planted'"):
        recheck(replace(made(3.5, "unsat", "unsat"), property=made(3.5, "unsat", "unsat").property + "; planted\n"))


def test_a_property_of_another_network_is_an_error() -> None:
    other = made(3.5, "unsat", "unsat")
    text = other.property.replace("(declare-const Y_0 Real)", "(declare-const Y_0 Real)\n(declare-const Y_1 Real)")
    with pytest.raises(SuiteError, match="numbers of inputs or outputs"):
        recheck(replace(other, property=text))


def test_margins_agree_with_those_of_the_property() -> None:
    """The text's margin, by the judges' reader, is the property's own."""
    q = asked(2.0)
    point = [Fraction(1, 3), Fraction(2, 7)]
    outputs: list[Enclosure] = rational.enclose(q.model, point)
    instance = made(2.0, "sat", "sat", [1.0, 1.0], "planted")
    formula = parse(instance.property).formula
    assert margin(formula, point, outputs) == rational.margin(q.property, outputs) == (Fraction(2, 3) + Fraction(2, 7) - 2,) * 2
    assert relative(formula, point, outputs) == (Fraction(2, 3) + Fraction(2, 7) - 2) / 2
